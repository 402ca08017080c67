"""Labels and pictures in the assignment's layout, read and checked: one ``Dataset``."""

import dataclasses
import hashlib
import os
import pathlib
import unicodedata

import numpy as np
import pandas as pd
import PIL.Image

from facekit import labels, pictures
from facekit.tables import read_labels

# What UTKFace is told by besides its names: for training, validation and test the mean
# age (years), the share of the label female, the mean grey level and its spread.
UTKFACE = {
    "train": (33.2, 0.477, 125.0, 59.3),
    "val": (33.3, 0.477, 125.1, 59.3),
    "test": (33.2, 0.477, 125.7, 59.7),
}
CLOSE = (0.2, 0.005, 3.0, 3.0)  # how far data that are UTKFace may lie from that


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Pictures with labels.

    ``table``: a row per usable picture: ``img_name``, the labels, ``split``;
    ``folder``: where they lie, in ``<split>/`` or as ``img_name`` says;
    ``faults``: what was wrong, a row each; ``name``: ``"utkface"``, ``"sample"`` or
    ``"own"``; ``digest``: of names, labels and pixels; ``images``: grey levels, uint8
    ``(rows, side, side)``, 48 wide or, of colour pictures, 25; or None.
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


def find_faults(given: pd.DataFrame, files: pd.Series) -> list[tuple]:
    """What is wrong with rows and names of files, as ``make_faults`` takes it.

    Raises ValueError where more than a twentieth of a label's column (and more than
    ten rows) are out of range: then the codes are others, also in the other rows.
    """
    name = given["img_name"].fillna("")
    ranges = {"age": labels.AGES, "gender": (0, 1), "ethnicity": range(5)}
    words = {"age": f"a whole number from 0 to {labels.AGES[-1]}"}
    words |= {"gender": "0 or 1", "ethnicity": "0 to 4"}
    numbers = given[list(ranges)].apply(pd.to_numeric, errors="coerce")
    outside = {f"{k} not {words[k]}": ~numbers[k].isin(v) for k, v in ranges.items()}
    for why, rows in outside.items():
        if rows.sum() > max(10, len(given) / 20):
            label = why.partition(" ")[0]
            raise ValueError(
                f"In {rows.sum():,} of {len(given):,} rows {why}, such as "
                f"{given[label][rows].iloc[0]!r}: code the column {label} anew "
                "(gender: 0 male, 1 female; ethnicity: 0 White to 4 Other)."
            )
    reasons = given.get("left_out", pd.Series("", given.index)).fillna("")
    kinds = name.map(pictures.name_fault)
    checks = {  # the first that fits a row is told
        "no image name": name.str.strip() == "",
        "image name that is a path": name != name.map(os.path.basename),
        **{why: reasons == why for why in reasons.unique() if why},
        **outside,
        "image name used by an earlier row": name.duplicated(),
        "row whose image is missing": ~name.isin(files),
        **{why: kinds == why for why in kinds.unique() if why},
    }
    fault = np.select([*checks.values()], [*checks], default="")
    rows = np.flatnonzero(fault != "")
    found = [(name[row], str(fault[row]), int(row) + 1, False) for row in rows]
    twice, unknown = files[files.duplicated()], files[~files.isin(name)]
    found += [(name, "image also in an earlier set", 0, False) for name in twice]
    whys = unknown.map(lambda name: pictures.name_fault(name) or "image without a row")
    return found + [(*pair, 0, False) for pair in zip(unknown, whys, strict=True)]


def match_names(names: pd.Series, files: pd.Series) -> pd.Series:
    """Names of rows as the files have them, where only one file can be meant.

    Composed or decomposed letters (macOS) are the same; an extension may be missing.
    """

    def compose(name):
        return unicodedata.normalize("NFC", name)

    for key in (compose, lambda name: compose(os.path.splitext(name)[0])):
        known = pd.Series(files.to_numpy(), files.map(key).to_numpy())
        known = known[~known.index.duplicated(keep=False)]
        other = names.fillna("").map(compose).map(known)
        names = names.where(names.isin(files) | other.isna(), other)
    return names


def make_faults(rows: list[tuple]) -> pd.DataFrame:
    """Table of faults: ``img_name``, ``fault``, ``row`` of the CSV (or 0), ``used``."""
    rows = [(str(n).encode("utf-8", "replace").decode(), *rest) for n, *rest in rows]
    return pd.DataFrame(rows, columns=["img_name", "fault", "row", "used"])


def load(folder: pathlib.Path, synthetic: bool = False) -> Dataset:
    """Load the assignment's layout: labels, sets, pictures, and what is wrong.

    Raises ValueError or FileNotFoundError, with what to do, where nothing is left.
    """
    made = (folder / "source.json").exists()  # from a CSV that had rows to leave out
    given = read_labels(folder / "age_gender.csv", extra=("left_out",) if made else ())
    files = list_pictures(folder / "images")
    given["img_name"] = match_names(given["img_name"], files["img_name"])
    faults = find_faults(given, files["img_name"])
    good = given.drop(index=[row - 1 for _, _, row, _ in faults if row])
    for label in labels.LABELS:
        good[label] = pd.to_numeric(good[label]).astype(int)
    table = good.merge(files.drop_duplicates("img_name"), on="img_name")
    table = table.sort_values("img_name", ignore_index=True)
    images, seen = _read_images(table, folder / "images")
    keep = ~table["img_name"].isin([name for name, *_, used in seen if not used])
    table, images = table[keep].reset_index(drop=True), images[keep.to_numpy()]
    for split in labels.SPLITS:
        if not (table["split"] == split).any():
            raise ValueError(
                f"No usable image is left in the {split} set: compare the names in "
                "age_gender.csv with the files in images."
            )
    if labels.validation_half(table["img_name"][table["split"] == "val"]).nunique() < 2:
        raise ValueError(
            "The val set has too few usable pictures to be split into halves: put more "
            f"into images/val ({labels.FEWEST} or more)."
        )
    faults = make_faults(faults + seen)
    name = "utkface" if is_utkface(table, images) else "sample" if synthetic else "own"
    exact = table.to_csv(index=False) + "".join(labels.digest_pictures(images))
    digest = hashlib.sha256(exact.encode()).hexdigest()[:6]
    return Dataset(table, folder / "images", faults, name, digest, images)


def is_utkface(table: pd.DataFrame, images: np.ndarray) -> bool:
    """Whether these are the assignment's data: names, sets, labels and grey levels.

    Single pictures may be missing or compressed anew; no set may be another.
    """
    known = labels.read_split_table()
    same = table["img_name"].map(labels.hash_name).map(known) == table["split"]
    if same.sum() < 0.99 * max(len(table), len(known)):
        return False
    for split, expected in UTKFACE.items():
        rows = (table["split"] == split).to_numpy()
        found = table.loc[rows, ["age", "gender"]].mean().to_list()
        found += [images[rows].mean(), images[rows].std()]
        if (np.abs(np.subtract(found, expected)) > CLOSE).any():
            return False
    return True


def summarise_faults(faults: pd.DataFrame) -> pd.DataFrame:
    """Count each kind of fault, with its first example and what was done."""
    if faults.empty:
        return pd.DataFrame({"What is wrong": ["nothing"], "How many": [0]})
    name = faults["img_name"].str.replace(r"(\d{8})\d{6,}", r"\1…", regex=True)
    row = "row " + faults["row"].map("{:,}".format)
    told = {
        "What is wrong": faults["fault"],
        "First": row.where(faults["row"] > 0, "`" + name + "`"),
        "What was done": faults["used"].map({True: "used", False: "left out"}),
    }
    groups = pd.DataFrame(told).groupby(["What is wrong", "What was done"])["First"]
    table = groups.agg(**{"How many": "size", "First": "first"}).reset_index()
    return table[["What is wrong", "How many", "First", "What was done"]]


def _read_images(table, folder):
    """Read all pictures as 48×48 grey levels; list those that are broken or resized."""
    images, seen = np.zeros((len(table), labels.SIZE, labels.SIZE), "uint8"), []
    for position, (split, name) in enumerate(table[["split", "img_name"]].to_numpy()):
        try:
            grey = pictures.read(folder / split / name, plain=True).convert("L")
        except pictures.UNREADABLE as why:
            seen.append((name, pictures.fault(why), 0, False))
            continue
        if grey.size != (labels.SIZE, labels.SIZE):
            seen.append((name, f"resized to {labels.SIZE}×{labels.SIZE}", 0, True))
            grey = grey.resize((labels.SIZE, labels.SIZE), PIL.Image.Resampling.LANCZOS)
        images[position] = np.asarray(grey)
    return images, seen
