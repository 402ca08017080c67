"""Predict the labels age, gender and ethnicity of the faces in pictures.

    python predict.py holiday.jpg --draw drawn/
    python predict.py holiday/ labels.csv --output csv > predictions.csv

A PATH is a picture, a folder (searched with its subfolders) or a CSV file: with a
column `pixels` (grey levels of square pictures, as in Kaggle's age_gender.csv) or with
a column `img_name`, `file` or `path` (relative to the CSV file). Faces are found in any
photograph, a row for each with its place (`left`, `top`, `side`, in pixels) and framed
as the training pictures are. A picture that one face fills is taken as it is. Large
photographs are searched at 1,280 pixels: faces smaller than a 64th of them are missed.
"""

import argparse
import contextlib
import csv
import itertools
import json
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator

from inference.drawing import draw_answers
from inference.inputs import find_pictures, open_picture
from inference.predictor import PLACE, Predictor, find_model

ETHICS = (
    "Gender and ethnicity are labels that annotators gave to pictures, not facts "
    "about people: do not decide anything about a person by them."
)
MOST = 4096  # pictures in memory at once
SHORT = 5  # seconds of work that need no word of progress


def predict(
    predictor: Predictor,
    sources: Iterable,
    batch: int,
    crop: bool = False,
    draw: pathlib.Path | None = None,
) -> Iterator[dict]:
    """Predict pictures, as ``find_pictures`` yields them, in order.

    ``batch`` pictures are in memory at once. Yields a row per face: its ``file`` and
    place, then an answer, or a ``note`` that begins with "error: ". Into the folder
    ``draw`` goes every photograph in which faces were found, with the answers.
    """
    sources = enumerate(sources, start=1)
    while True:
        rows, found, drawn, started = [], [], [], time.monotonic()
        for number, (name, source) in itertools.islice(sources, batch):
            try:
                if isinstance(source, Exception):
                    raise source
                faces = predictor.find_faces(open_picture(source), crop)
            except Exception as error:  # whatever a broken file brings about
                rows.append({"file": name, "note": f"error: {describe(error)}"})
                continue
            first = len(rows)
            for face in faces:
                place = dict(zip(PLACE, face.place, strict=bool(face.place)))
                rows.append({"file": name, **place})
                if refused := predictor.refusal(face):
                    rows[-1]["note"] = f"error: {refused}"
                else:
                    found.append((len(rows) - 1, face.image))
            drawn.append((number, name, source, slice(first, len(rows))))
            if time.monotonic() - started > SHORT:  # nobody waits for a whole batch
                break
        if not rows:
            return
        for start in range(0, len(found), batch):
            places, images = zip(*found[start : start + batch], strict=True)
            try:
                answers = predictor.answer(list(images))
            except Exception as error:  # such as too little memory
                answers = [{"note": f"error: {describe(error)}"}] * len(images)
            for place, answer in zip(places, answers, strict=True):
                rows[place] |= answer
        yield from rows
        for number, name, source, own in drawn if draw else []:
            stem = source.stem if isinstance(source, pathlib.Path) else "pixels"
            try:
                picture = draw_answers(open_picture(source), rows[own])
                picture.save(draw / f"{number:04d}_{stem[:40]}.jpg")
            except Exception as error:
                print(
                    f"{printable(name)} not drawn: {describe(error)}", file=sys.stderr
                )


def describe(error: Exception) -> str:
    """Say in one line what is wrong with a picture."""
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    if isinstance(error, MemoryError):
        return "too large for this machine's memory"
    text = str(error).split("\n")[0] or type(error).__name__
    return "not a picture" if text.startswith("cannot identify image") else text


def printable(text: str) -> str:
    """Write line ends and other control characters as their codes."""
    return "".join(x if x.isprintable() else ascii(x)[1:-1] for x in text)


class Writer:
    """Write rows as they come, as ``"table"``, ``"csv"`` or ``"json"``."""

    def __init__(self, kind: str, columns: list[str], file):
        self.kind, self.columns, self.file = kind, columns, file
        self.csv = csv.DictWriter(file, columns, lineterminator="\n")
        self.rows = 0

    def write(self, row: dict) -> None:
        """Write one row, before the first one what comes ahead of it."""
        if self.kind == "csv" and row["file"][:1] in ("=", "+", "-", "@"):
            row = row | {"file": f"./{row['file']}"}  # no formula for a spreadsheet
        if self.kind == "json":
            self.file.write(",\n " if self.rows else "[\n ")
            self.file.write(json.dumps(row, ensure_ascii=False))
        else:
            write = self.csv.writerow if self.kind == "csv" else self.write_line
            if not self.rows:
                write({name: name for name in self.columns})
            write(row)
        self.rows += 1

    def write_line(self, row: dict) -> None:
        """Write one line of a table."""
        inner = [str(row.get(name, "")).rjust(8) for name in self.columns[1:-1]]
        name, note = map(printable, (row["file"], row.get("note", "")))
        name = name if len(name) <= 32 else f"…{name[-31:]}"
        line = " ".join([f"{name:<32}", *inner, note])
        self.file.write(f"{line.rstrip()}\n")

    def close(self) -> None:
        """Write what comes after the last row."""
        if self.kind == "json":
            self.file.write("\n]\n" if self.rows else "[]\n")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"{ETHICS} Exit status: 0, or 1 where a picture could not be read, 2 "
        "where nothing could be done.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="picture, folder, CSV")
    parser.add_argument(
        "--model", default="mtl", metavar="NAME", help="shipped model or a .keras file"
    )
    parser.add_argument(
        "--output",
        choices=("table", "csv", "json"),
        default="table",
        help="how to print (default: table)",
    )
    parser.add_argument(
        "--crop",
        action="store_true",
        help="look for no faces: one face fills each picture, upright",
    )
    parser.add_argument(
        "--draw",
        type=pathlib.Path,
        metavar="FOLDER",
        help="write photographs there, with the faces' squares and answers",
    )
    parser.add_argument(
        "--batch", type=int, default=64, metavar="N", help="pictures at once (64)"
    )
    chosen = parser.parse_args(arguments)
    if not 1 <= chosen.batch <= MOST:
        parser.error(f"--batch must be from 1 to {MOST:,}")
    return chosen


def main(arguments: list[str] | None = None) -> int:
    """Predict what the command line names, print it, and give the exit status."""
    chosen = parse_arguments(arguments)
    csv.field_size_limit(10**8)  # pixels of large pictures stand in one field
    if hasattr(sys.stdout, "reconfigure"):  # names that a terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if chosen.draw:
            draw = chosen.draw.resolve()
            for path in map(pathlib.Path, chosen.paths):
                if path.is_dir() and path.resolve() in (draw, *draw.parents):
                    raise ValueError(f"--draw: choose a folder that is not in {path}.")
            chosen.draw.mkdir(parents=True, exist_ok=True)
        predictor = Predictor(find_model(chosen.model))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    writer = Writer(chosen.output, predictor.columns, sys.stdout)
    errors, started = 0, time.monotonic()
    told = started
    how = chosen.batch, chosen.crop, chosen.draw
    try:
        for row in predict(predictor, find_pictures(chosen.paths), *how):
            writer.write(row)
            errors += row["note"].startswith("error: ")
            if time.monotonic() - told > SHORT:
                told = time.monotonic()
                done = f"{writer.rows:,} rows, {told - started:.0f} s"
                print(done, file=sys.stderr)
        writer.close()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"Stopped after {writer.rows:,} rows.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"The answers cannot be written: {error.strerror}.", file=sys.stderr)
        return 2
    seconds = time.monotonic() - started
    print(
        f"{writer.rows:,} rows in {seconds:.1f} s, {errors:,} of them not answered. "
        f"{ETHICS}",
        file=sys.stderr,
    )
    return 1 if errors else 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
