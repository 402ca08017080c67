"""The same picture twice: identical pixels, near-duplicates, and what labels say."""

import numpy as np
import pandas as pd
import sklearn.preprocessing

from facekit import labels

NEAR = 0.99  # correlation at 24×24 pixels from which on pictures are near-duplicates


def audit(table: pd.DataFrame, images: np.ndarray) -> pd.DataFrame:
    """Per picture: ``digest`` of its pixels and, for each set, ``in_<set>`` (an
    identical other picture lies there) and ``near_<set>`` (highest correlation).

    ``images`` are grey levels ``(rows, 48, 48)`` in the order of ``table``.
    """
    digest = labels.digest_pictures(images)
    half = images.shape[1] // 2
    small = images.reshape(-1, half, 2, half, 2).mean(axis=(2, 4), dtype="float32")
    vectors, found = standardise(small), {"digest": digest}
    for split in labels.SPLITS:
        inside = np.flatnonzero(table["split"] == split)
        found[f"near_{split}"] = _highest_correlation(vectors, inside)
        others = pd.Series(digest).map(pd.Series(digest[inside]).value_counts())
        own = (table["split"] == split).to_numpy()
        found[f"in_{split}"] = others.fillna(0).to_numpy() - own > 0
    return pd.DataFrame(found, index=table.index)


def mark(table: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Whether another *set* holds a picture's ``identical`` or ``near`` duplicate."""
    marks = pd.DataFrame(False, index=table.index, columns=["identical", "near"])
    for split in labels.SPLITS:
        elsewhere = table["split"] != split
        marks["identical"] |= elsewhere & found[f"in_{split}"]
        marks["near"] |= elsewhere & (found[f"near_{split}"] >= NEAR)
    marks["near"] |= marks["identical"]
    return marks


def count(table: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Count pictures with a duplicate, within and across the sets."""
    rows = []
    for split in labels.SPLITS:
        here = found[table["split"] == split]
        row = {"Images of": labels.SET_NAMES[split], "Images": f"{len(here):,}"}
        for other in labels.SPLITS:
            near = here[f"in_{other}"] | (here[f"near_{other}"] >= NEAR)
            pair = f"{here[f'in_{other}'].sum():,} / {near.sum():,}"
            row[f"in {labels.SET_NAMES[other]}"] = pair
        rows.append(row)
    return pd.DataFrame(rows)


def conflicts(table: pd.DataFrame, found: pd.DataFrame) -> dict[str, int]:
    """Groups of identical pictures, and in how many of them labels disagree."""
    groups = _identical(table, found)
    several = groups[list(labels.LABELS)].nunique() > 1
    return {
        "groups": len(several),
        "pictures": int(groups.size().sum()),
        "conflicting": int(several.any(axis=1).sum()),
    } | {label: int(several[label].sum()) for label in labels.LABELS}


def at_best(table: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Per picture with identical others, for ``gender`` and ``ethnicity``: 100 if more
    than half of the set have its label, so that one answer for all meets it, else 0.
    """
    by, given = found["digest"].to_numpy(), table[["gender", "ethnicity"]]
    size = given.groupby(by)["gender"].transform("size")
    alike = {x: given.groupby([by, x])[x].transform("size") for x in given}
    return 100.0 * pd.DataFrame(alike).mul(2).gt(size, axis=0)[size > 1]


def disagreement(table: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Per group of identical pictures: mean difference in ``age`` (years) and share of
    pairs that differ in ``gender`` and in ``ethnicity``.
    """
    rows = []
    for _, group in _identical(table, found):
        one, other = np.triu_indices(len(group), 1)
        given = group[list(labels.LABELS)].to_numpy()
        apart = np.abs(given[one] - given[other])
        rows.append([apart[:, 0].mean(), *(apart[:, 1:] > 0).mean(axis=0)])
    return pd.DataFrame(rows, columns=labels.LABELS)


def standardise(images: np.ndarray) -> np.ndarray:
    """Grey levels as rows of mean zero and length one: products are correlations."""
    small = images.reshape(len(images), -1).astype("float32")
    return sklearn.preprocessing.normalize(small - small.mean(axis=1, keepdims=True))


def _identical(table, found):
    """Groups of two or more pictures with equal pixels."""
    several = found["digest"].duplicated(keep=False).to_numpy()
    return table[several].groupby(found["digest"][several].to_numpy())


def _highest_correlation(vectors, inside):
    """Correlation of each vector with the nearest other one of those ``inside``."""
    known, highest = vectors[inside].T, []
    for rows in np.array_split(np.arange(len(vectors)), 1 + len(vectors) // 1000):
        found = vectors[rows] @ known
        found[inside == rows[:, None]] = 0  # itself
        highest.append(found.max(axis=1, initial=0))  # 0: alone, or one grey level
    return np.concatenate(highest)
