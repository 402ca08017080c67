"""What sets, labels and pictures are called, and which set a picture belongs to."""

import hashlib
import json
import pathlib

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

ROOT = pathlib.Path(__file__).resolve().parents[1]
DATA, MODELS, LOGS = ROOT / "data", ROOT / "model", ROOT / "logs"
SPLITS = ("train", "val", "test")
SET_NAMES = {"train": "training", "val": "validation", "test": "test"}
LABELS = ("age", "gender", "ethnicity")
COLUMNS = ("age", "gender", "ethnicity", "img_name")
GENDERS = ("male", "female")
ETHNICITIES = ("White", "Black", "Asian", "Indian", "Other")
AGES = np.arange(117)  # years that a label may have
SIZE = 48  # pixels, both sides of the main assignment's pictures
FEWEST = 25  # pictures that can be split into three sets


def hash_name(name: str) -> str:
    """First 16 hexadecimal digits of a name's SHA-256, so that tables hold no names."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def digest(value) -> str:
    """Six hexadecimal digits of what JSON can hold, the same on every machine."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:6]


def digest_pictures(images: np.ndarray) -> np.ndarray:
    """One string per picture of ``(n, height, width)``, equal for equal pixels."""
    return np.array([hashlib.sha1(image.tobytes()).hexdigest() for image in images])


def read_split_table(path: pathlib.Path = DATA / "split.csv.gz") -> pd.Series:
    """The assignment's set (``train``, ``val``, ``test``) by hash of the name."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: it comes with the repository. Fetch it again."
        )
    return pd.read_csv(path, index_col="name_hash")["split"]


def assign_splits(
    table: pd.DataFrame, digests: np.ndarray, known: pd.Series, seed: int
) -> np.ndarray:
    """Put every row into a set: as the assignment did, other names by chance.

    ``table`` has ``img_name`` and ``gender``; pictures with equal ``digests`` stay
    together; ``known`` is as ``read_split_table`` gives it. Unknown names are split
    64/16/20, stratified by gender; fewer than 25 of them all go to training.
    """
    split = table["img_name"].map(hash_name).map(known).to_numpy(object)
    place = pd.Series(split, index=digests).dropna()
    place = place[~place.index.duplicated()]
    new = pd.isna(split)
    split[new] = pd.Series(digests[new]).map(place)
    rest = np.flatnonzero(pd.isna(split))
    split[rest] = "train"
    if len(np.unique(digests[rest])) < FEWEST:
        return split
    gender = pd.to_numeric(table["gender"], "coerce").eq(1).to_numpy()
    fifths = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for name in ("test", "val"):  # a fifth, then a fifth of what is left
        _, part = next(fifths.split(rest, gender[rest], digests[rest]))
        split[rest[part]] = name
        rest = np.delete(rest, part)
    return split


def validation_half(names: pd.Series) -> pd.Series:
    """``"select"`` or ``"held out"`` for each name, by its hash, once and for ever."""
    texts = "validation part of " + names
    first = texts.map(lambda text: hashlib.sha256(text.encode()).digest()[0])
    return (first % 2).map({0: "held out", 1: "select"})
