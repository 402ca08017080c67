"""Labels and pictures in the assignment's layout, read and checked: one ``Dataset``."""

import dataclasses
import hashlib
import pathlib
import re

import numpy as np
import pandas as pd
import PIL.Image

from facekit import labels
from facekit.sources import read_labels

# What UTKFace is told by besides its names: for training, validation and test the mean
# age (years), the share of the label female, the mean grey level and its spread.
UTKFACE = {
    "train": (33.2, 0.477, 125.0, 59.3),
    "val": (33.3, 0.477, 125.1, 59.3),
    "test": (33.2, 0.477, 125.7, 59.7),
}
CLOSE = (0.2, 0.005, 3.0, 3.0)  # how far data that are UTKFace may lie from that
FAULTS = ["img_name", "fault", "row", "used"]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Pictures with labels.

    ``table``: a row per usable picture: ``img_name``, the labels, ``split``;
    ``folder``: where they lie, in ``<split>/`` or as ``img_name`` says;
    ``faults``: what was wrong, a row each; ``name``: ``"utkface"``, ``"sample"`` or
    ``"own"``; ``digest``: of names, labels and pixels; ``images``: grey levels, uint8
    ``(rows, 48, 48)``, or None where pictures are read as they are needed.
    """

    table: pd.DataFrame
    folder: pathlib.Path
    faults: pd.DataFrame
    name: str
    digest: str
    images: np.ndarray | None = None

    def rows(self, split: str) -> pd.DataFrame:
        """The pictures of one set."""
        return self.table[self.table["split"] == split]


def list_pictures(folder: pathlib.Path) -> pd.DataFrame:
    """``img_name`` and ``split`` of all files in ``folder/train``, ``val``, ``test``.

    Raises FileNotFoundError if a set's folder is missing or empty.
    """
    rows = []
    for split in labels.SPLITS:
        paths = (folder / split).glob("[!.]*")  # systems leave hidden files
        names = sorted(path.name for path in paths if path.is_file())
        if not names:
            raise FileNotFoundError(
                f"{folder.name}/{split} is missing or empty. Put the pictures of the "
                f"{split} set there, or set DATA to another source."
            )
        rows += [(name, split) for name in names]
    return pd.DataFrame(rows, columns=["img_name", "split"])


def find_row_faults(given: pd.DataFrame, names: pd.Series) -> pd.Series:
    """The first fault of each row, in words; missing where there is none.

    ``names`` are those of the pictures that are there.
    """
    number = {label: pd.to_numeric(given[label], "coerce") for label in labels.LABELS}
    name = given["img_name"].fillna("")
    checks = {
        "no image name": name.str.strip() == "",
        "image name that is a path": ~name.map(lambda text: pathlib.Path(text).name).eq(
            name
        ),
        f"age not a whole number from 0 to {labels.AGES[-1]}": ~number["age"].isin(
            labels.AGES
        ),
        "gender not 0 or 1": ~number["gender"].isin(range(len(labels.GENDERS))),
        "ethnicity not 0 to 4": ~number["ethnicity"].isin(
            range(len(labels.ETHNICITIES))
        ),
        "image name used by an earlier row": name.duplicated(),
        "row whose image is missing": ~name.isin(names),
        "file that is not an image": ~name.str.lower().str.endswith(labels.PICTURES),
    }
    fault = pd.Series(pd.NA, index=given.index, dtype="string")
    for text, wrong in reversed(checks.items()):
        fault[wrong] = text
    return fault


def make_faults(rows: list[tuple]) -> pd.DataFrame:
    """Table of faults: ``img_name``, ``fault``, ``row`` of the CSV (or 0), ``used``."""
    return pd.DataFrame(rows, columns=FAULTS)


def find_faults(given: pd.DataFrame, files: pd.DataFrame) -> pd.DataFrame:
    """List what is wrong with rows and files, by names and labels alone."""
    fault = find_row_faults(given, files["img_name"]).dropna()
    names = given["img_name"].fillna("")
    found = [(names[row], text, row + 1, False) for row, text in fault.items()]
    files = files["img_name"]
    for text, wrong in (
        ("image also in an earlier set", files.duplicated()),
        ("image without a row", ~files.isin(names)),
    ):
        found += [(name, text, 0, False) for name in files[wrong]]
    return make_faults(found)


def load(folder: pathlib.Path, synthetic: bool = False) -> Dataset:
    """Load the assignment's layout: labels, sets, pictures, and what is wrong.

    Raises ValueError or FileNotFoundError, with what to do, where nothing is left.
    """
    given = read_labels(folder / "age_gender.csv")
    files = list_pictures(folder / "images")
    faults = find_faults(given, files)
    good = given.drop(index=faults["row"][faults["row"] > 0] - 1)
    good = good.assign(
        **{label: pd.to_numeric(good[label]).astype(int) for label in labels.LABELS}
    )
    table = good.merge(files.drop_duplicates("img_name"), on="img_name")
    table = table.sort_values("img_name", ignore_index=True)
    images, seen = _read_images(table, folder / "images")
    keep = ~table["img_name"].isin(seen.loc[~seen["used"].astype(bool), "img_name"])
    table, images = table[keep].reset_index(drop=True), images[keep.to_numpy()]
    for split in labels.SPLITS:
        if not (table["split"] == split).any():
            raise ValueError(
                f"No usable image is left in the {split} set: compare the names in "
                "age_gender.csv with the files in images."
            )
    found = [part for part in (faults, seen) if len(part)]
    faults = pd.concat(found, ignore_index=True) if found else faults
    name = "sample" if synthetic else "own"
    if is_utkface(table, images):
        name = "utkface"
    exact = hashlib.sha256(table.to_csv(index=False).encode())
    exact.update("".join(labels.digest_pictures(images)).encode())
    digest = exact.hexdigest()[:6]
    return Dataset(table, folder / "images", faults, name, digest, images)


def is_utkface(table: pd.DataFrame, images: np.ndarray) -> bool:
    """Whether these are the assignment's data: names, sets, labels and grey levels.

    Single pictures may be missing or compressed anew; no set may be another.
    """
    known = labels.read_split_table()
    if not covers(table["img_name"], table["split"], known):
        return False
    for split, expected in UTKFACE.items():
        rows = (table["split"] == split).to_numpy()
        found = table.loc[rows, ["age", "gender"]].mean().to_list()
        found += [images[rows].mean(), images[rows].std()]
        if (np.abs(np.subtract(found, expected)) > CLOSE).any():
            return False
    return True


def covers(names: pd.Series, splits: pd.Series, known: pd.Series) -> bool:
    """Whether names are the known ones, in the known sets, to 99 % both ways."""
    same = (names.map(labels.hash_name).map(known) == splits).sum()
    return bool(same >= 0.99 * max(len(names), len(known)))


def summarise_faults(faults: pd.DataFrame) -> pd.DataFrame:
    """Count each kind of fault, with its first example and what was done."""
    if faults.empty:
        return pd.DataFrame({"What is wrong": ["nothing"], "How many": [0]})
    rows = []
    for (fault, used), found in faults.groupby(["fault", "used"]):
        first = found.iloc[0]
        name = "`" + re.sub(r"(\d{8})\d{6,}", r"\1…", str(first["img_name"])) + "`"
        rows.append(
            {
                "What is wrong": fault,
                "How many": len(found),
                "First": f"row {first['row']:,}" if first["row"] else name,
                "What was done": "used" if used else "left out",
            }
        )
    return pd.DataFrame(rows)


def _read_images(table, folder):
    """Read all pictures as 48×48 grey levels; list those that are broken or resized."""
    images, seen = np.zeros((len(table), labels.SIZE, labels.SIZE), "uint8"), []
    rows = zip(table["split"], table["img_name"], strict=True)
    for position, (split, name) in enumerate(rows):
        try:
            with PIL.Image.open(folder / split / name) as picture:
                grey = picture.convert("L")
        except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError):
            seen.append((name, "broken picture", 0, False))
            continue
        if grey.size != (labels.SIZE, labels.SIZE):
            seen.append((name, f"resized to {labels.SIZE}×{labels.SIZE}", 0, True))
            grey = grey.resize((labels.SIZE, labels.SIZE), PIL.Image.Resampling.LANCZOS)
        images[position] = np.asarray(grey)
    return images, make_faults(seen)
