"""Predict the labels age, gender and ethnicity of the faces in pictures.

    python predict.py face.jpg
    python predict.py holiday/ labels.csv --output csv > predictions.csv

A PATH is a picture, a folder (searched with its subfolders) or a CSV file: with a
column `pixels` (grey levels of square pictures, as in Kaggle's age_gender.csv) or with
a column `img_name`, `file` or `path` (relative to the CSV file). A picture shows one
face that fills it, upright; what does not look like that gets a warning in its row.
"""

import argparse
import contextlib
import csv
import itertools
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from facekit.labels import DATA, ETHNICITIES, LABELS, MODELS, SIZE
from facekit.measure import age_intervals
from facekit.pictures import ENDINGS, OTHERS, read
from facekit.tables import csv_options, parse_pixels

ETHICS = (
    "Gender and ethnicity are labels that annotators gave to pictures, not facts "
    "about people: do not decide anything about a person by them."
)
FILE_COLUMNS = ("img_name", "file", "path")
MOST = 4096  # pictures in memory at once
SHORT = 5  # seconds of work that need no word of progress


def find_model(name: str, folder: pathlib.Path = MODELS / "utkface") -> pathlib.Path:
    """Find a Keras file, or the weights of that name that the repository ships.

    Raises FileNotFoundError, with the known names, if there is neither.
    """
    if pathlib.Path(name).is_file():
        return pathlib.Path(name)
    shipped = {path.stem: path for path in sorted(folder.glob("*/*.keras"))}
    if name not in shipped:
        known = ", ".join(shipped) or f"none in {folder}"
        raise FileNotFoundError(
            f"--model {name}: no such file or model; known: {known}"
        )
    return shipped[name]


def find_pictures(paths: Iterable[str]) -> Iterator[tuple]:
    """List the pictures of files, folders and CSV files, never all at once.

    Yields a name, and the picture's path, its grey levels (from a CSV file), or the
    exception that says what is wrong with it.
    """
    for text in paths:
        path = pathlib.Path(text)
        if not text.strip():
            found = iter([(text, ValueError("an empty argument"))])
        elif path.is_dir():
            found = list_folder(path)
        elif path.suffix.lower() == ".csv" and path.is_file():
            found = list_csv(path)
        elif path.is_file():
            found = iter([(text, path)])
        else:
            found = iter([(text, FileNotFoundError("no such file or folder"))])
        first = next(found, (text, ValueError("holds no pictures")))
        yield from itertools.chain([first], found)


def list_folder(folder: pathlib.Path) -> Iterator[tuple]:
    """Yield the pictures of a folder and its subfolders, as ``find_pictures`` does."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(ENDINGS + OTHERS):
                path = pathlib.Path(place, name)
                yield str(path), path


def list_csv(path: pathlib.Path) -> Iterator[tuple]:
    """Yield the pictures that a CSV file holds or names, as ``find_pictures`` does."""
    try:
        form = csv_options(path)
        columns = form["names"]
        named = next((name for name in FILE_COLUMNS if name in columns), None)
        if "pixels" not in columns and named is None:
            wanted = ", ".join(("pixels", *FILE_COLUMNS))
            raise ValueError(f"has no column of the names {wanted}")
        with open(path, newline="", encoding=form["encoding"]) as file:
            rows, below = csv.DictReader(file, columns, delimiter=form["sep"]), {}
            next(rows, None)  # the heading
            for number, row in enumerate(rows, start=1):
                name = f"{path}:{number}"
                if named and row[named]:
                    name += f" {row[named]}"
                if "pixels" in columns:
                    yield name, read_pixels(row["pixels"] or "")
                else:
                    yield name, locate(path.parent, row[named] or "", below)
    except (OSError, UnicodeError, csv.Error, ValueError) as error:
        yield str(path), error


def locate(folder: pathlib.Path, name: str, below: dict) -> pathlib.Path | OSError:
    """Find a picture that a CSV file names: beside it, else below it.

    ``below`` holds the pictures below ``folder`` by name, filled when first needed.
    """
    try:
        beside = bool(name) and (folder / name).is_file()
    except OSError as error:  # such as a name that is too long
        return error
    if not beside and not below:
        below.update((path.name, path) for _, path in list_folder(folder))
    return folder / name if beside else below.get(name, folder / name)


def read_pixels(text: str) -> np.ndarray | ValueError:
    """Turn pixels of a row into a square picture of grey levels, or say the fault."""
    count = len(text.split())
    side = math.isqrt(count)
    if side < 2 or side**2 != count:
        return ValueError(f"{count} pixels make no square picture")
    picture = parse_pixels(text, side)
    if picture is None:
        return ValueError("pixels are not whole numbers from 0 to 255")
    return picture


def open_picture(source: pathlib.Path | np.ndarray) -> Image.Image:
    """Read a picture, a file or grey levels, as RGB: upright, its middle square.

    Raises one of ``pictures.UNREADABLE`` if it cannot be read.
    """
    if isinstance(source, np.ndarray):
        image = Image.fromarray(source).convert("RGB")
    else:
        image = read(source).convert("RGB")
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    return image.crop((left, top, left + side, top + side))


def prepare(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """Resize a square picture as the training pictures were: uint8 ``(size, size,
    channels)``, grey if ``channels`` is 1.
    """
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(size, size, channels)


def standardise(pixels: np.ndarray) -> np.ndarray:
    """Give each picture (a row of grey levels) the mean 0 and the deviation 1."""
    centred = pixels.astype("float32")
    centred = centred - centred.mean(axis=1, keepdims=True)
    return centred / np.maximum(centred.std(axis=1, keepdims=True), 1)


def alignment_inputs(face_model: dict, pixels: np.ndarray) -> np.ndarray:
    """Describe how pictures ``(n, 2304)`` differ from a typical aligned face.

    The scores of the components in standard deviations, cut off at 6, their squares,
    and 5 times the root mean square error of the reconstruction: ``(n, 301)``.
    """
    components = face_model["components"]
    centred = standardise(pixels) - face_model["alignment_mean"]
    scores = centred @ components.T
    error = np.sqrt(((centred - scores @ components) ** 2).mean(axis=1))
    scores = (scores / face_model["alignment_spread"]).clip(-6, 6)
    return np.concatenate([scores, scores**2, 5 * error[:, None]], axis=1)


def face_scores(face_model: dict, faces: np.ndarray) -> np.ndarray:
    """Score how much pictures ``(n, 48, 48, 1)`` look like the networks' aligned faces.

    Log odds of a logistic regression that `data/sample/fit_face_model.py` fits; minus
    infinity for a picture of one grey level.
    """
    pixels = faces.reshape(len(faces), -1).astype("float32")
    inputs = alignment_inputs(face_model, pixels)
    odds = inputs @ face_model["alignment_weights"] + face_model["alignment_bias"]
    return np.where(pixels.std(axis=1) < 2, -np.inf, odds)


def load_model(path: pathlib.Path):
    """Load a Keras file that holds no code; ValueError says why it cannot be used."""
    import keras  # takes seconds: after the arguments were checked

    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged archive fails in many ways
        unsafe = "Lambda" in str(error) or "safe_mode" in str(error)
        why = "it is damaged, of a newer Keras, or has layers that are not Keras' own"
        why = "it holds code (a Lambda layer), which is not run" if unsafe else why
        raise ValueError(f"--model {path.name} cannot be used: {why}.") from error
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs)
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    if len(shapes) != 1:
        raise ValueError(f"{path.name} wants more than a picture: use another model")
    square = len(shapes[0]) == 3 and shapes[0][0] == shapes[0][1]
    if not square or not shapes[0][0] or shapes[0][2] not in (1, 3):
        told = "×".join(map(str, shapes[0]))
        raise ValueError(f"{path.name} takes {told}, not square grey or RGB pictures.")
    outputs = dict(zip(model.output_names, model.outputs, strict=True))
    sizes = {"age": 1, "gender": 1, "ethnicity": len(ETHNICITIES)}
    known = {t: n for t, n in sizes.items() if t in outputs}
    if not known or any(outputs[t].shape[1:] != (n,) for t, n in known.items()):
        told = ", ".join(f"{t} {tuple(x.shape[1:])}" for t, x in outputs.items())
        raise ValueError(
            f"{path.name} has the outputs {told}; wanted are age (1), gender (1) or "
            "ethnicity (5) by these names."
        )
    return model


def read_beside(path: pathlib.Path, read, otherwise: str):
    """Read a file that may be missing; where it is damaged, say what is lacking."""
    try:
        return read(path) if path.exists() else None
    except Exception:  # a damaged file fails in many ways
        print(f"{path.name} is damaged: {otherwise}", file=sys.stderr)
        return None


class Predictor:
    """A network with what its answers need.

    Beside its Keras file may lie the notebook's ``results.json``, whose entry
    ``age_intervals`` holds, by network, what ``measure.age_intervals`` takes.
    """

    def __init__(self, path: pathlib.Path):
        self.model = load_model(path)
        _, self.size, _, self.channels = self.model.inputs[0].shape
        blank = np.zeros((1, self.size, self.size, self.channels))
        self.tasks = [task for task in self.outputs(blank) if task in LABELS]

        def read_intervals(beside):
            results = json.loads(beside.read_text(encoding="utf-8"))
            found = results["age_intervals"].get(path.stem)
            return found and {key: found[key] for key in ("from", "low", "high")}

        def read_faces(beside):
            with np.load(beside, allow_pickle=False) as file:
                return {key: file[key].astype("float32") for key in file}

        beside = path.with_name("results.json")
        self.intervals = read_beside(beside, read_intervals, "ages have no interval")
        beside = DATA / "sample" / "face_model.npz"
        self.face_model = read_beside(beside, read_faces, "nothing is warned of")

    @property
    def columns(self) -> list[str]:
        """Names of the columns of an answer, in order."""
        names = ["file"]
        if "age" in self.tasks:
            names += ["age"] + ["age_low", "age_high"] * bool(self.intervals)
        names += ["female"] * ("gender" in self.tasks)
        names += [*ETHNICITIES] * ("ethnicity" in self.tasks)
        return [*names, "note"]

    def outputs(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network on a batch of levels from 0 to 1: outputs by task."""
        outputs = self.model.predict_on_batch(batch.astype("float32"))
        if isinstance(outputs, dict):
            return outputs
        return {self.model.output_names[0]: outputs}

    def answer(self, pictures: list[Image.Image]) -> list[dict]:
        """Predict a few square pictures, each averaged with its mirror image.

        One answer per picture: what ``columns`` names, without ``file``.
        """
        shape = self.size, self.channels
        batch = np.stack([prepare(picture, *shape) for picture in pictures])
        batch = batch.astype("float32") / 255
        views = [self.outputs(x) for x in (batch, batch[:, :, ::-1])]
        outputs = {task: (views[0][task] + views[1][task]) / 2 for task in self.tasks}
        columns = {}
        if "age" in outputs:
            columns["age"] = outputs["age"][:, 0]
            if self.intervals:
                ends = age_intervals(columns["age"], self.intervals)
                columns["age_low"], columns["age_high"] = ends
        if "gender" in outputs:
            columns["female"] = outputs["gender"][:, 0]
        if "ethnicity" in outputs:
            columns |= dict(zip(ETHNICITIES, outputs["ethnicity"].T, strict=True))
        digits = {name: 1 if name.startswith("age") else 3 for name in columns}
        rows = []
        for values, note in zip(
            zip(*columns.values(), strict=True), self.notes(pictures), strict=True
        ):
            if not np.isfinite(values).all():
                rows.append({"note": "error: the network's answer is not a number"})
                continue
            named = zip(columns, values, strict=True)
            row = {name: round(float(x), digits[name]) for name, x in named}
            rows.append(row | {"note": note})
        return rows

    def notes(self, pictures: list[Image.Image]) -> list[str]:
        """Warn of the pictures that do not look like an upright face filling them."""
        if self.face_model is None:
            return [""] * len(pictures)
        faces = np.stack([prepare(picture, SIZE, 1) for picture in pictures])
        scores = face_scores(self.face_model, faces)
        least = self.face_model["alignment_quantiles"][1]  # 1 % of faces fall below it
        warning = "warning: not like an aligned face"
        return [warning if score < least else "" for score in scores]


def predict(predictor: Predictor, sources: Iterable, batch: int) -> Iterator[dict]:
    """Predict pictures, as ``find_pictures`` yields them, in order.

    ``batch`` pictures are in memory at once. Yields a row per picture: its ``file``,
    then an answer, or a ``note`` that begins with "error: ".
    """
    sources = iter(sources)
    while chunk := list(itertools.islice(sources, batch)):
        rows, pictures, places = [], [], []
        for name, source in chunk:
            rows.append({"file": name})
            try:
                if isinstance(source, Exception):
                    raise source
                pictures.append(open_picture(source))
                places.append(len(rows) - 1)
            except Exception as error:  # whatever a broken file brings about
                rows[-1]["note"] = f"error: {describe(error)}"
        if pictures:
            answers = predictor.answer(pictures)
            for place, answer in zip(places, answers, strict=True):
                rows[place] |= answer
        yield from rows


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
        predictor = Predictor(find_model(chosen.model))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    writer = Writer(chosen.output, predictor.columns, sys.stdout)
    errors, started = 0, time.monotonic()
    told = started
    try:
        for row in predict(predictor, find_pictures(chosen.paths), chosen.batch):
            writer.write(row)
            errors += row["note"].startswith("error: ")
            if time.monotonic() - told > SHORT:
                told = time.monotonic()
                done = f"{writer.rows:,} pictures, {told - started:.0f} s"
                print(done, file=sys.stderr)
        writer.close()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"Stopped after {writer.rows:,} pictures.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"The answers cannot be written: {error.strerror}.", file=sys.stderr)
        return 2
    seconds = time.monotonic() - started
    print(
        f"{writer.rows:,} pictures in {seconds:.1f} s, {errors:,} of them not read. "
        f"{ETHICS}",
        file=sys.stderr,
    )
    return 1 if errors else 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
