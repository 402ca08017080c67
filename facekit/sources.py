"""Folder, CSV, Kaggle or sample: whatever is there becomes the assignment's layout."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import socket
import tempfile

import numpy as np
import pandas as pd
import PIL.Image

from facekit import labels

KAGGLE = "nipunarora8/age-gender-and-ethnicity-face-data-csv"
SAMPLE = labels.DATA / "sample" / "faces.zip"


@dataclasses.dataclass(frozen=True)
class Source:
    """A folder in the assignment's layout, and what it is in words."""

    folder: pathlib.Path
    sentence: str
    synthetic: bool = False


def find_source(choice: str, data_dir: pathlib.Path, seed: int = 1) -> Source:
    """Find the data that the user has.

    ``choice`` is ``"auto"``, ``"folder"``, ``"csv"``, ``"kaggle"`` or ``"sample"``.
    Raises ValueError or FileNotFoundError with what to do where nothing fits.
    """
    ways = {"folder": _folder, "csv": _csv, "kaggle": _kaggle, "sample": _sample}
    if choice != "auto" and choice not in ways:
        raise ValueError(f"DATA is {choice!r}; use 'auto' or one of {list(ways)}.")
    for way in ways if choice == "auto" else [choice]:
        if source := ways[way](data_dir, seed):
            return source
    raise FileNotFoundError(
        f"DATA is {choice!r}, but {data_dir.name}/ holds no such data: data/README.md "
        "names the layouts; 'auto' takes what is there."
    )


def read_labels(path: pathlib.Path) -> pd.DataFrame:
    """Read the columns age, gender, ethnicity and img_name of a CSV, as they stand.

    Raises ValueError, with what to do, if it is no CSV, is empty or lacks a column.
    """
    try:
        table = pd.read_csv(path, dtype={"img_name": str}, skipinitialspace=True)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as why:
        raise ValueError(
            f"{path.name} is not a CSV file. Save the table as CSV (UTF-8, commas) "
            f"with the columns {', '.join(labels.COLUMNS)}."
        ) from why
    missing = [column for column in labels.COLUMNS if column not in table]
    if missing:
        raise ValueError(
            f"{path.name} has no column {', '.join(missing)}; its columns are "
            f"{', '.join(map(str, table.columns))}. Rename or add them."
        )
    if table.empty:
        raise ValueError(f"{path.name} has no rows. Put the assignment's table there.")
    return table[list(labels.COLUMNS)]


def parse_pixels(text: str, side: int = labels.SIZE) -> np.ndarray | None:
    """One cell of a pixel CSV as uint8 ``(side, side)``; None if it is no picture."""
    try:
        values = np.array(str(text).split(), dtype=int)
    except (ValueError, OverflowError):
        return None
    if values.size != side * side or values.min() < 0 or values.max() > 255:
        return None
    return values.astype("uint8").reshape(side, side)


def write_layout(
    images: np.ndarray, table: pd.DataFrame, folder: pathlib.Path, source: dict
) -> None:
    """Write pictures ``(n, 48, 48)`` and labels as the assignment lays them out.

    A row of ``table`` whose ``split`` is missing gets no picture. ``source.json``,
    written last, says what the folder was made from, and that it is whole.
    """
    for split in labels.SPLITS:
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
    rows = zip(images, table["img_name"], table["split"], strict=True)
    for image, name, split in rows:
        if isinstance(split, str):
            path = folder / "images" / split / name
            PIL.Image.fromarray(image).save(path, quality=95)
    table[list(labels.COLUMNS)].to_csv(folder / "age_gender.csv", index=False)
    (folder / "source.json").write_text(json.dumps(source), encoding="utf-8")


def _made_from(folder):
    """What a folder was made from; None where it was not made here."""
    with contextlib.suppress(OSError, ValueError):
        made = json.loads((folder / "source.json").read_text(encoding="utf-8"))
        if isinstance(made, dict) and made.keys() & {"file", "synthetic faces"}:
            return made
    return None


@contextlib.contextmanager
def _made_anew(folder):
    """Make a folder beside its place and move it there, whole; never delete others'."""
    if folder.exists() and not _made_from(folder):
        raise ValueError(
            f"{folder.name}/ is in the way and was not made here: rename or move it."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as draft:
        yield pathlib.Path(draft) / folder.name
        if folder.exists():
            shutil.rmtree(folder)
        (pathlib.Path(draft) / folder.name).rename(folder)


def _has_pixels(path):
    """Tell whether a CSV has a column ``pixels``."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return "pixels" in [name.strip(' "\r\n') for name in file.readline().split(",")]


def _import_pixels(path, data_dir, seed):
    """Write a CSV with pixels out into a folder, once for each file and seed."""
    folder, stat = data_dir / "imported", path.stat()
    source = {"file": path.name, "bytes": stat.st_size, "changed": stat.st_mtime_ns}
    source |= {"seed": seed}
    if _made_from(folder) == source:
        return folder
    given = read_labels(path)
    print(f"Writing the pictures of {len(given):,} rows of {path.name}, once")
    pixels = pd.read_csv(path, usecols=["pixels"], skipinitialspace=True)["pixels"]
    pixels = pixels.map(parse_pixels)
    names = given["img_name"].fillna("")
    good = pixels.notna() & ~names.duplicated() & (names == names.map(os.path.basename))
    good &= names.str.lower().str.endswith(labels.PICTURES)
    for row in given.index[pixels.isna()][:5] + 1:
        print(f"Row {row} has no {labels.SIZE**2} pixels from 0 to 255: left out")
    if not good.any():
        raise ValueError(
            f"{path.name} has no row with a name and {labels.SIZE**2} pixels: "
            "data/README.md says what its columns hold."
        )
    images = np.zeros((len(given), labels.SIZE, labels.SIZE), "uint8")
    images[good] = np.stack(pixels[good])
    digests = labels.digest_pictures(images[good])
    table = given.assign(split=None)
    known = labels.read_split_table()
    table.loc[good, "split"] = labels.assign_splits(given[good], digests, known, seed)
    with _made_anew(folder) as draft:
        write_layout(images, table, draft, source)
    return folder


def _folder(data_dir, seed):
    """The assignment's folder, if it is there."""
    csv, pictures = data_dir / "age_gender.csv", data_dir / "images"
    if not pictures.is_dir() or not csv.exists():
        if pictures.is_dir() or csv.exists() and not _has_pixels(csv):
            raise FileNotFoundError(
                f"{(csv if pictures.is_dir() else pictures).name} is not there: the "
                f"assignment's table belongs into {data_dir.name}/age_gender.csv, its "
                f"pictures into {data_dir.name}/images/train, val and test."
            )
        return None
    made = _made_from(data_dir) or {}
    return Source(data_dir, f"the folder {data_dir.name}/", "synthetic faces" in made)


def _csv(data_dir, seed):
    """A CSV with pixels, if one is there."""
    for path in filter(_has_pixels, sorted(data_dir.glob("*.csv"))):
        sentence = f"the pixels in {data_dir.name}/{path.name}"
        return Source(_import_pixels(path, data_dir, seed), sentence)
    return None


def _kaggle(data_dir, seed):
    """The public CSV with pixels, if Kaggle answers."""
    try:
        socket.create_connection(("www.kaggle.com", 443), timeout=3).close()
        import kagglehub  # slow to import and seldom needed

        paths = sorted(pathlib.Path(kagglehub.dataset_download(KAGGLE)).rglob("*.csv"))
    except Exception:  # whatever a network can do
        print(f"Kaggle's data set {KAGGLE} is out of reach")
        return None
    for path in filter(_has_pixels, paths):
        sentence = f"Kaggle's data set {KAGGLE}"
        return Source(_import_pixels(path, data_dir, seed), sentence)
    return None


def _sample(data_dir, seed):
    """The embedded synthetic faces, unpacked once."""
    if not SAMPLE.exists():
        raise FileNotFoundError(
            f"{SAMPLE.name} is not there: it comes with the repository in data/sample."
        )
    folder = data_dir / "synthetic"
    source = {"synthetic faces": SAMPLE.name, "bytes": SAMPLE.stat().st_size}
    if _made_from(folder) != source:
        with _made_anew(folder) as draft:
            shutil.unpack_archive(SAMPLE, draft)
            (draft / "source.json").write_text(json.dumps(source), encoding="utf-8")
    sentence = "the embedded sample: synthetic faces of people who do not exist"
    return Source(folder, sentence, synthetic=True)
