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
import os
import pathlib
import sys
import time
import warnings

import numpy as np
from PIL import Image, ImageOps

ROOT = pathlib.Path(__file__).resolve().parent
ETHICS = (
    "Gender and ethnicity are labels that annotators gave to pictures, not facts "
    "about people: do not decide anything about a person by them."
)
ETHNICITIES = ("White", "Black", "Asian", "Indian", "Other")
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
FILE_COLUMNS = ("img_name", "file", "path")
OLDEST = 116  # years, of the training labels
FACE = 48  # pixels, side of the pictures that the face model knows
SHORT = 5  # seconds of work that need no word of progress


def find_model(name, folder=ROOT / "model" / "utkface"):
    """Find the weights of a model.

    Parameters
    ----------
    name : str
        Path of a Keras file, or the name of a model that the repository ships.
    folder : pathlib.Path
        Holds the shipped ``<name>.keras``.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    FileNotFoundError
        If there is neither; the message lists the names.
    """
    if pathlib.Path(name).is_file():
        return pathlib.Path(name)
    shipped = {path.stem: path for path in sorted(folder.glob("*.keras"))}
    if name not in shipped:
        known = ", ".join(shipped) or f"none in {folder}"
        raise FileNotFoundError(
            f"--model {name}: no such file or model; known: {known}"
        )
    return shipped[name]


def find_pictures(paths):
    """List pictures one by one, never all at once.

    Parameters
    ----------
    paths : iterable of str
        Pictures, folders, CSV files.

    Yields
    ------
    tuple of (str, pathlib.Path or numpy.ndarray or Exception)
        A name, and the picture's path, its grey levels (from a CSV file), or what is
        wrong with it.
    """
    for text in paths:
        path = pathlib.Path(text)
        if path.is_dir():
            found = list_folder(path)
        elif path.suffix.lower() == ".csv" and path.is_file():
            found = list_csv(path)
        elif path.is_file():
            found = iter([(text, path)])
        else:
            found = iter([(text, FileNotFoundError("no such file or folder"))])
        first = next(found, (text, ValueError("holds no pictures")))
        yield from itertools.chain([first], found)


def list_folder(folder):
    """Yield the pictures of a folder and its subfolders, as ``find_pictures`` does."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(PICTURES):
                path = pathlib.Path(place, name)
                yield str(path), path


def list_csv(path):
    """Yield the pictures that a CSV file holds or names, as ``find_pictures`` does."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or []
            named = next((name for name in FILE_COLUMNS if name in columns), None)
            if "pixels" not in columns and named is None:
                wanted = ", ".join(("pixels", *FILE_COLUMNS))
                raise ValueError(f"has no column of the names {wanted}")
            below = {}
            for number, row in enumerate(rows, start=1):
                name = f"{path}:{number}"
                if named and row[named]:
                    name += f" {row[named]}"
                if "pixels" in columns:
                    yield name, parse_pixels(row["pixels"])
                else:
                    yield name, locate(path.parent, row[named] or "", below)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        yield str(path), error


def locate(folder, name, below):
    """Find a picture that a CSV file names.

    Parameters
    ----------
    folder : pathlib.Path
        Where the CSV file lies.
    name : str
        Relative to it, or that of a file somewhere below it.
    below : dict[str, pathlib.Path]
        Pictures below the folder by name; filled when it is first needed.

    Returns
    -------
    pathlib.Path
        Where the picture lies, or should.
    """
    if not (folder / name).is_file() and not below:
        below.update((path.name, path) for _, path in list_folder(folder))
    return below.get(name, folder / name)


def parse_pixels(text):
    """Turn a row's pixels into a square picture.

    Parameters
    ----------
    text : str or None
        Grey levels from 0 to 255, separated by spaces.

    Returns
    -------
    numpy.ndarray or ValueError
        Grey levels, uint8, shape ``(side, side)``; or what is wrong with them.
    """
    try:
        values = np.array((text or "").split(), float)
    except ValueError:
        return ValueError("pixels are not numbers")
    side = int(np.sqrt(len(values)))
    if side < 2 or side**2 != len(values):
        return ValueError(f"{len(values)} pixels make no square picture")
    if not (values >= 0).all() or not (values <= 255).all():
        return ValueError("pixels beyond 0 to 255")
    return values.round().astype("uint8").reshape(side, side)


def load_upright(path):
    """Load a picture file of any colour mode, turned as its camera says.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    PIL.Image.Image
        Mode RGB; transparent parts lie on mid-grey.
    """
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):  # 16 or 32 bits per pixel
            levels = np.asarray(image, "float64")
            top = 65535 if levels.max() > 255 else 255
            image = Image.fromarray((levels / top * 255).clip(0, 255).astype("uint8"))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            ground = Image.new("RGBA", image.size, (128, 128, 128, 255))
            image = Image.alpha_composite(ground, image)
        return image.convert("RGB")


def open_picture(source):
    """Read a picture of any size and colour mode, upright.

    Parameters
    ----------
    source : pathlib.Path or numpy.ndarray
        A file, or grey levels.

    Returns
    -------
    PIL.Image.Image
        Mode RGB; the middle square of a picture that is not square.

    Raises
    ------
    OSError, ValueError, Image.DecompressionBombError
        If it cannot be read.
    """
    if isinstance(source, np.ndarray):
        image = Image.fromarray(source).convert("RGB")
    else:
        image = load_upright(source)
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    return image.crop((left, top, left + side, top + side))


def prepare(image, size, channels):
    """Resize a picture as the training pictures were.

    Parameters
    ----------
    image : PIL.Image.Image
        Square, mode RGB.
    size : int
        Side in pixels.
    channels : int
        1 for grey, 3 for colour.

    Returns
    -------
    numpy.ndarray
        Levels from 0 to 255, uint8, shape ``(size, size, channels)``.
    """
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(size, size, channels)


def face_scores(face_model, faces):
    """Score how much pictures look like the aligned faces that the networks know.

    A logistic regression on the scores of 150 principal components, their squares and
    the reconstruction error, fitted by `data/sample/fit_face_model.py`.

    Parameters
    ----------
    face_model : dict[str, numpy.ndarray]
        What `data/sample/face_model.npz` holds.
    faces : numpy.ndarray
        Grey levels from 0 to 255, shape ``(pictures, 48, 48, 1)``.

    Returns
    -------
    numpy.ndarray
        Log odds, shape ``(pictures,)``; minus infinity for one grey level.
    """
    pixels = faces.reshape(len(faces), -1).astype("float32")
    centred = pixels - pixels.mean(axis=1, keepdims=True)
    contrast = centred.std(axis=1, keepdims=True)
    centred = centred / np.maximum(contrast, 1) - face_model["alignment_mean"]
    scores = centred @ face_model["components"].T
    error = np.sqrt(((centred - scores @ face_model["components"]) ** 2).mean(axis=1))
    scores = (scores / face_model["alignment_spread"]).clip(-6, 6)
    inputs = np.concatenate([scores, scores**2, 5 * error[:, None]], axis=1)
    odds = inputs @ face_model["alignment_weights"] + face_model["alignment_bias"]
    return np.where(contrast[:, 0] < 2, -np.inf, odds)


def age_intervals(ages, table):
    """Look up the interval around predicted ages.

    Parameters
    ----------
    ages : numpy.ndarray
        Predicted, in years.
    table : dict[str, list of float]
        ``from``: where the bands of predicted ages begin; ``low`` and ``high``: what to
        add to a predicted age of the band (years), from validation.

    Returns
    -------
    tuple of numpy.ndarray
        Lower and upper ends, in years.
    """
    band = np.searchsorted(table["from"], ages, side="right") - 1
    band = band.clip(0, len(table["from"]) - 1)
    low, high = (ages + np.array(table[end])[band] for end in ("low", "high"))
    return low.clip(0, OLDEST), high.clip(0, OLDEST)


class Predictor:
    """A network with what its answers need.

    Parameters
    ----------
    path : pathlib.Path
        Keras file. Beside it may lie ``<name>_intervals.json``.
    """

    def __init__(self, path):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import keras  # takes seconds: after the arguments were checked

        self.model = keras.models.load_model(path, compile=False, safe_mode=True)
        if len(self.model.inputs) != 1:
            raise ValueError(f"{path} wants more than a picture: use another model")
        _, self.size, _, self.channels = self.model.input_shape
        self.tasks = list(
            self.outputs(np.zeros((1, self.size, self.size, self.channels)))
        )
        beside = path.with_name(f"{path.stem}_intervals.json")
        self.intervals = json.loads(beside.read_text()) if beside.exists() else None
        faces = ROOT / "data" / "sample" / "face_model.npz"
        self.face_model = None
        if faces.exists():
            with np.load(faces, allow_pickle=False) as file:
                self.face_model = {key: file[key].astype("float32") for key in file}

    @property
    def columns(self):
        """Names of the columns of an answer, in order."""
        names = ["file"]
        if "age" in self.tasks:
            names += ["age"] + ["age_low", "age_high"] * bool(self.intervals)
        names += ["female"] * ("gender" in self.tasks)
        names += [*ETHNICITIES] * ("ethnicity" in self.tasks)
        return [*names, "note"]

    def outputs(self, batch):
        """Run the network on a batch of levels from 0 to 1: outputs by task."""
        outputs = self.model.predict_on_batch(batch.astype("float32"))
        if isinstance(outputs, dict):
            return outputs
        return {self.model.output_names[0]: outputs}

    def answer(self, pictures):
        """Predict a few pictures, each averaged with its mirror image.

        Parameters
        ----------
        pictures : list of PIL.Image.Image
            Square.

        Returns
        -------
        list of dict
            One per picture: what ``columns`` names, without ``file``.
        """
        shape = self.size, self.channels
        batch = np.stack([prepare(picture, *shape) for picture in pictures])
        batch = batch.astype("float32") / 255
        views = [self.outputs(x) for x in (batch, batch[:, :, ::-1])]
        outputs = {task: (views[0][task] + views[1][task]) / 2 for task in views[0]}
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
        rows = zip(*columns.values(), strict=True)
        return [
            {k: round(float(v), digits[k]) for k, v in zip(columns, row, strict=True)}
            | {"note": note}
            for row, note in zip(rows, self.notes(pictures), strict=True)
        ]

    def notes(self, pictures):
        """Warn of the pictures that do not look like an upright face filling them."""
        if self.face_model is None:
            return [""] * len(pictures)
        faces = np.stack([prepare(picture, FACE, 1) for picture in pictures])
        scores = face_scores(self.face_model, faces)
        least = self.face_model["alignment_quantiles"][1]  # 1 % of faces fall below it
        warning = "warning: not like an aligned face"
        return [warning if score < least else "" for score in scores]


def predict(predictor, sources, batch):
    """Predict pictures one batch after the other, in order.

    Parameters
    ----------
    predictor : Predictor
    sources : iterable
        As ``find_pictures`` yields them.
    batch : int
        Pictures that are in memory at once.

    Yields
    ------
    dict
        One row per picture: its ``file``, then as ``Predictor.answer`` returns it; or a
        ``note`` that begins with "error: ".
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


def describe(error):
    """Say in one line what is wrong with a picture."""
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    text = str(error).split("\n")[0] or type(error).__name__
    return "not a picture" if text.startswith("cannot identify image") else text


class Writer:
    """Write rows as they come.

    Parameters
    ----------
    kind : str
        ``"table"``, ``"csv"`` or ``"json"``.
    columns : list of str
    file : file-like
    """

    def __init__(self, kind, columns, file):
        self.kind, self.columns, self.file = kind, columns, file
        self.rows = 0

    def write(self, row):
        """Write one row, before the first one what comes ahead of it."""
        if self.kind == "json":
            self.file.write(",\n " if self.rows else "[\n ")
            self.file.write(json.dumps(row, ensure_ascii=False))
        elif self.kind == "csv":
            writer = csv.DictWriter(self.file, self.columns, lineterminator="\n")
            if not self.rows:
                writer.writeheader()
            writer.writerow(row)
        else:
            if not self.rows:
                self.file.write(self.line({name: name for name in self.columns}))
            self.file.write(self.line(row))
        self.rows += 1

    def line(self, row):
        """Lay out one line of a table."""
        inner = [str(row.get(name, "")).rjust(8) for name in self.columns[1:-1]]
        return (
            " ".join([f"{row['file']:<32}", *inner, row.get("note", "")]).rstrip()
            + "\n"
        )

    def close(self):
        """Write what comes after the last row."""
        if self.kind == "json":
            self.file.write("\n]\n" if self.rows else "[]\n")


def parse_arguments(arguments):
    """Read the command line.

    Parameters
    ----------
    arguments : list of str or None

    Returns
    -------
    argparse.Namespace
    """
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
    if chosen.batch < 1:
        parser.error("--batch must be at least 1")
    return chosen


def main(arguments=None):
    """Predict what the command line names, and print it.

    Returns
    -------
    int
        Exit status.
    """
    chosen = parse_arguments(arguments)
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        predictor = Predictor(find_model(chosen.model))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    writer = Writer(chosen.output, predictor.columns, sys.stdout)
    errors, started = 0, time.monotonic()
    told = started
    for row in predict(predictor, find_pictures(chosen.paths), chosen.batch):
        writer.write(row)
        errors += row["note"].startswith("error: ")
        if time.monotonic() - told > SHORT:
            told = time.monotonic()
            print(f"{writer.rows:,} pictures, {told - started:.0f} s", file=sys.stderr)
    writer.close()
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
