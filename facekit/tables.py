"""CSV files as people and programs write them: labels, and pixels in a cell."""

import codecs
import pathlib
import warnings

import numpy as np
import pandas as pd

from facekit import labels


def csv_options(path: pathlib.Path) -> dict:
    """What ``pandas.read_csv`` needs to read a CSV file as Excel and others write it.

    Separator (comma, semicolon, tab), encoding (UTF-8 or 16), headings: stripped, in
    lower case. ValueError if it is a folder or names a column of ours twice.
    """
    if path.is_dir():
        raise ValueError(f"{path.name} is a folder: a CSV file belongs there.")
    with open(path, "rb") as file:
        start = file.read(1 << 16)
    marks = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
    encoding = "utf-16" if start.startswith(marks) else "utf-8-sig"
    heading = next(iter(start.decode(encoding, "replace").splitlines()), "")
    separator = max(",;\t", key=heading.count)
    names = [name.strip(' "').lower() for name in heading.split(separator)]
    for name in (*labels.COLUMNS, "pixels"):
        if names.count(name) > 1:
            raise ValueError(f"{path.name} has two columns {name}: remove one.")
    names = [n if names.count(n) == 1 else f"{n} {i}" for i, n in enumerate(names)]
    form = {"sep": separator, "encoding": encoding, "names": names, "header": 0}
    return form | {"index_col": False, "skipinitialspace": True}


def read_labels(path: pathlib.Path, extra: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read the columns age, gender, ethnicity and img_name of a CSV, as they stand.

    Those of ``extra`` are read where they are there. Raises ValueError, with what to
    do, if it is no CSV, is empty or lacks a column.
    """
    wanted, options = ", ".join(labels.COLUMNS), csv_options(path)
    if not any(options["names"]):
        raise ValueError(f"{path.name} is empty. Put the assignment's table there.")
    missing = [column for column in labels.COLUMNS if column not in options["names"]]
    if missing:
        raise ValueError(
            f"{path.name} has no column {', '.join(missing)}; its columns are "
            f"{', '.join(options['names'])}. Rename or add them."
        )
    use = [*labels.COLUMNS, *(name for name in extra if name in options["names"])]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a comma at the end of each row
            table = pd.read_csv(path, usecols=use, dtype=str, **options)
    except (UnicodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as why:
        raise ValueError(
            f"{path.name} is not a CSV file. Save the table as CSV (UTF-8, commas) "
            f"with the columns {wanted}."
        ) from why
    if table.empty:
        raise ValueError(f"{path.name} has no rows. Put the assignment's table there.")
    return table[use]


def parse_pixels(text: str, side: int = labels.SIZE) -> np.ndarray | None:
    """One cell of a pixel CSV as uint8 ``(side, side)``; None if it is no picture.

    Whole numbers up to 255, however written, or shares from 0 to 1.
    """
    try:
        values = np.array(str(text).split(), dtype=float)
    except ValueError:
        return None
    if values.size != side * side or not 0 <= values.min() <= values.max() <= 255:
        return None
    if (values != np.floor(values)).any():
        if values.max() > 1:
            return None
        values = np.round(255 * values)
    return values.astype("uint8").reshape(side, side)
