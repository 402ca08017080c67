"""The pictures that files, folders and CSV files name, one after the other."""

import csv
import itertools
import math
import os
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from facekit.pictures import ENDINGS, OTHERS, read
from facekit.tables import csv_options, parse_pixels

FILE_COLUMNS = ("img_name", "file", "path")


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
            path = pathlib.Path(place, name)
            if name.lower().endswith((".heic", ".heif")):
                yield str(path), ValueError("HEIC: save it as JPEG")
            if name.lower().endswith(ENDINGS + OTHERS):
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
        found = (path for _, path in list_folder(folder))
        below.update((x.name, x) for x in found if isinstance(x, pathlib.Path))
        below[""] = folder  # searched, whatever was found
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
    """Read a picture, a file or grey levels, as RGB, upright.

    Raises one of ``pictures.UNREADABLE`` if it cannot be read.
    """
    grey = isinstance(source, np.ndarray)
    return (Image.fromarray(source) if grey else read(source)).convert("RGB")
