"""Draw synthetic faces from the statistical face model, in any number.

    python data/sample/make_sample.py                       renews data/sample/faces.zip
    python data/sample/make_sample.py --faces 250000 --folder data/synthetic_250000

The faces lie in the assignment's layout: age_gender.csv and images/{train,val,test}.
"""

import argparse
import hashlib
import pathlib
import sys
import tempfile
import zipfile

import numpy as np
import pandas as pd

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))
from facekit import labels, sources  # noqa: E402


def load_face_model(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Load the statistical face model that the embedded sample is drawn from.

    The model is a set of "eigenfaces" (Turk and Pentland 1991) whose scores depend on
    age, gender and ethnicity by regression, as in an active appearance model (Cootes,
    Edwards and Taylor 2001). `data/sample/fit_face_model.py` fits it.

    Parameters
    ----------
    path : str | pathlib.Path
        The file `face_model.npz`.

    Returns
    -------
    dict[str, np.ndarray]
        The model's arrays by name, floats as float32. Pictures are in grey levels from
        0 to 255: `mean` (2304,), `components` (150, 2304), `cell_scores` (2, 5, 11,
        150) for gender, ethnicity and age knot, `residual_factor` (150, 150), and the
        frequencies of labels that `sample_labels` uses.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is not a face model.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no face model at {path}: it comes with the repository as "
            "data/sample/face_model.npz, and data/sample/fit_face_model.py fits it"
        )
    needed = set("mean components cell_scores residual_factor age_knots".split())
    needed |= {"age_probability", "band_starts", "group_probability"}
    try:
        with np.load(path, allow_pickle=False) as archive:
            model = {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged archive fails in many ways
        raise ValueError(f"{path} cannot be read as a face model: {error}") from error
    if not needed <= model.keys():
        raise ValueError(
            f"{path} is no face model: it lacks {sorted(needed - model.keys())}"
        )
    return {
        name: array.astype(np.float32) if array.dtype.kind == "f" else array
        for name, array in model.items()
    }


def mean_scores(
    face_model: dict[str, np.ndarray],
    age: np.ndarray,
    gender: np.ndarray,
    ethnicity: np.ndarray,
) -> np.ndarray:
    """Give the mean component scores of people with these labels.

    Between the model's age knots the scores change linearly; outside them (before 1 and
    after 95 years) they stay as they are at the nearest knot.

    Parameters
    ----------
    face_model : dict[str, np.ndarray]
        What `load_face_model` returns.
    age : np.ndarray
        Years, shape (people,).
    gender : np.ndarray
        0 male, 1 female, integers of shape (people,).
    ethnicity : np.ndarray
        0 White, 1 Black, 2 Asian, 3 Indian, 4 Other, shape (people,).

    Returns
    -------
    np.ndarray
        Scores in grey levels, float32, shape (people, 150).

    Raises
    ------
    ValueError
        A gender, an ethnicity or an age is out of range.
    """
    cells, knots = face_model["cell_scores"], face_model["age_knots"]
    gender, ethnicity = np.asarray(gender, int), np.asarray(ethnicity, int)
    age = np.asarray(age, np.float64)
    for name, codes, size in (
        ("gender", gender, cells.shape[0]),
        ("ethnicity", ethnicity, cells.shape[1]),
    ):
        if codes.size and (codes.min() < 0 or codes.max() >= size):
            raise ValueError(f"{name} must be a code from 0 to {size - 1}")
    if not (np.isfinite(age) & (age >= 0)).all():
        raise ValueError("ages must be numbers of years, 0 or more")
    position = np.interp(age, knots, np.arange(len(knots)))
    lower = np.minimum(position.astype(int), len(knots) - 2)
    part = (position - lower)[:, None].astype(np.float32)
    below, above = (cells[gender, ethnicity, knot] for knot in (lower, lower + 1))
    return (1 - part) * below + part * above


def draw_faces(
    face_model: dict[str, np.ndarray], labels: pd.DataFrame, noise: np.ndarray
) -> np.ndarray:
    """Draw faces: the mean face of their labels plus a deviation from it.

    Parameters
    ----------
    face_model : dict[str, np.ndarray]
        What `load_face_model` returns.
    labels : pd.DataFrame
        `age` (years), `gender` (0, 1) and `ethnicity` (0 to 4), one row per face.
    noise : np.ndarray
        The deviations in standard deviations, independent, shape (faces, 150).

    Returns
    -------
    np.ndarray
        Grey levels from 0 to 255, uint8, shape (faces, 48, 48).

    Raises
    ------
    ValueError
        A label is out of range.
    """
    means = mean_scores(
        face_model, labels["age"], labels["gender"], labels["ethnicity"]
    )
    scores = means + noise.astype(np.float32) @ face_model["residual_factor"].T
    pixels = face_model["mean"] + scores @ face_model["components"]
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8).reshape(-1, 48, 48)


def sample_labels(
    face_model: dict[str, np.ndarray], uniform: np.ndarray
) -> pd.DataFrame:
    """Draw labels that are spread as in the training set.

    The age is drawn first (smoothed frequencies of the ages 1 to 95), then gender and
    ethnicity together from their frequencies in that age's band.

    Parameters
    ----------
    face_model : dict[str, np.ndarray]
        What `load_face_model` returns.
    uniform : np.ndarray
        Random numbers from 0 to 1, shape (people, 2).

    Returns
    -------
    pd.DataFrame
        One row per person: `age` (years), `ethnicity` (0 to 4), `gender` (0 or 1).
    """
    ages = np.cumsum(face_model["age_probability"], dtype=np.float64)
    age = 1 + np.searchsorted(ages / ages[-1], uniform[:, 0], side="right")
    table = face_model["group_probability"]
    band = np.searchsorted(face_model["band_starts"], age, side="right") - 1
    groups = np.cumsum(table.reshape(len(table), -1), axis=1, dtype=np.float64)
    groups /= groups[:, -1:]
    group = (uniform[:, 1:] >= groups[band]).sum(axis=1)
    gender, ethnicity = np.divmod(group, table.shape[2])
    return pd.DataFrame({"age": age, "ethnicity": ethnicity, "gender": gender})


def sample_faces(
    face_model: dict[str, np.ndarray],
    count: int,
    seed: int,
    labels: pd.DataFrame | None = None,
    first: int = 0,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Draw faces of people who do not exist.

    Face `i` depends on the seed, on `i` and on its labels, never on `count`: faces are
    drawn in blocks of 1,000, each with a random generator of its own. For more faces
    than fit into memory, ask for them a few thousand at a time through `first`.
    What the labels leave unexplained is drawn from a normal distribution and scaled
    by 0.8, which keeps rare, distorted faces out.

    Parameters
    ----------
    face_model : dict[str, np.ndarray]
        What `load_face_model` returns.
    count : int
        How many faces.
    seed : int
        0 or more; the same seed gives the same faces.
    labels : pd.DataFrame | None, optional
        `age` (years), `gender` (0, 1) and `ethnicity` (0 to 4) of the faces, `count`
        rows; without it they are drawn as in the training set.
    first : int, optional
        The number of the first face, from 0.

    Returns
    -------
    tuple[np.ndarray, pd.DataFrame]
        Grey levels, uint8, shape (count, 48, 48), and a table with a row per face:
        `age`, `ethnicity`, `gender` and `img_name` (unique within a seed).

    Raises
    ------
    ValueError
        A number is negative, or the labels do not fit.
    """
    if min(count, seed, first) < 0:
        raise ValueError("count, seed and first must be 0 or more")
    if labels is not None and len(labels) != count:
        raise ValueError(f"{count} faces need as many labels, not {len(labels)}")
    images = np.empty((count, 48, 48), np.uint8)
    names = [f"synthetic_{number:06d}.jpg" for number in range(first, first + count)]
    table = pd.DataFrame({"age": 0, "ethnicity": 0, "gender": 0, "img_name": names})
    table["img_name"] = table["img_name"].astype(object)
    codes = ["age", "ethnicity", "gender"]
    block, last = 1000, first + count
    for start in range(first - first % block, last, block):
        generator = np.random.default_rng([seed, start // block])
        drawn = sample_labels(face_model, generator.random((block, 2)))
        noise = generator.standard_normal((block, len(face_model["components"])))
        here = slice(max(first, start) - first, min(last, start + block) - first)
        there = slice(max(first, start) - start, min(last, start + block) - start)
        if labels is not None:
            drawn.loc[drawn.index[there], codes] = labels[codes].to_numpy(int)[here]
        images[here] = draw_faces(face_model, drawn, 0.8 * noise)[there]
        table.loc[table.index[here], codes] = drawn[codes].to_numpy()[there]
    return images, table


def write_faces(face_model: dict, count: int, folder: pathlib.Path, seed: int) -> None:
    """Write faces in the assignment's layout, 5,000 in memory at a time."""
    tables, known = [], pd.Series(dtype=str)
    for first in range(0, count, 5000):
        size = min(5000, count - first)
        images, table = sample_faces(face_model, size, seed, first=first)
        digests = labels.digest_pictures(images)
        table["split"] = labels.assign_splits(table, digests, known, seed)
        tables.append(table)
        whole = pd.concat(tables) if first + size == count else table
        source = {"synthetic faces": count, "seed": seed}
        sources.write_layout(images, table, folder, source)
        if first + size == count:
            whole[list(labels.COLUMNS)].to_csv(folder / "age_gender.csv", index=False)
        print(f"{first + size:,} of {count:,} faces")


def main(arguments: list[str] | None = None) -> None:
    """Write a folder, or the zip file that comes with the repository."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--faces", type=int, default=2000)
    parser.add_argument("--folder", type=pathlib.Path, help="default: faces.zip")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    face_model = load_face_model(HERE / "face_model.npz")
    if options.folder:
        write_faces(face_model, options.faces, options.folder, options.seed)
        return
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_faces(face_model, options.faces, folder, options.seed)
        with zipfile.ZipFile(HERE / "faces.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*.*")):
                if path.name != "source.json":
                    name = zipfile.ZipInfo(path.relative_to(folder).as_posix())
                    archive.writestr(name, path.read_bytes(), zipfile.ZIP_DEFLATED)
    digest = hashlib.sha256((HERE / "faces.zip").read_bytes()).hexdigest()
    print(f"Write into facekit/sources.py: SAMPLE_SHA256 = {digest!r}")


if __name__ == "__main__":
    main()
