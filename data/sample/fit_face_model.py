"""Fit the statistical face model behind the embedded sample.

The model is what lets the notebook run where no pictures can be had: it draws faces of
people who do not exist. It is fitted to the training pictures alone and holds

- the mean face and the first principal components of the pixels ("eigenfaces");
- for each age knot, gender and ethnicity, the mean of the component scores;
- the covariance of what those means leave unexplained, as a Cholesky factor;
- how often each age, and each gender and ethnicity within an age band, occurs;
- a test of whether a picture is an aligned face at all, a logistic regression on the
  component scores and the reconstruction error, with its scores on validation pictures.

Every mean is fitted to at least 30 people, and the script stops if the weight of one
person in any mean exceeds `LARGEST_WEIGHT`.

Run it from the repository's root, with the assignment's folder in `data/`:

    python data/sample/fit_face_model.py

Sources:
    M. Turk, A. Pentland: Eigenfaces for Recognition. J. Cogn. Neurosci. 3(1), 1991.
    T. Cootes, G. Edwards, C. Taylor: Active Appearance Models. IEEE TPAMI 23(6), 2001.
"""

import argparse
import pathlib
import sys

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.linear_model import LogisticRegression

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))
from facekit import dataset  # noqa: E402
from facekit.labels import DATA, ETHNICITIES, GENDERS, SIZE  # noqa: E402
from inference.framing import alignment_inputs, standardise  # noqa: E402

COMPONENTS = 150
AGE_KNOTS = np.array([1, 5, 12, 20, 30, 40, 50, 60, 70, 80, 95])
BAND_STARTS = np.array([1, 4, 12, 20, 30, 40, 50, 60, 70])
OLDEST = 95  # the last knot: who is older counts as this old
SMOOTH_FROM = 86  # from here on ages are spread evenly: single years hold few people
CELLS = len(GENDERS), len(ETHNICITIES)
FEWEST = 30  # people that a mean is fitted to, at least
LARGEST_WEIGHT = 0.05  # of one person in any mean; 1 would be that person's own face
RIDGE_MAIN, RIDGE_CELL = 0.1, 50.0  # chosen on validation pictures
QUANTILES = np.array([0.001, 0.01, 0.05, 0.5, 0.95, 0.99, 0.999])


def principal_components(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the mean and the directions in which the pictures vary most.

    Parameters
    ----------
    pixels : np.ndarray
        Grey levels, shape (pictures, 2304).

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        The mean, shape (2304,), and the components, orthonormal rows of shape (150,
        2304), strongest first, both rounded to the float16 that is stored. The largest
        entry of each component is positive, which fixes its sign.
    """
    mean = pixels.mean(axis=0, dtype=np.float64)
    centred = pixels - mean.astype(np.float32)
    covariance = (centred.T @ centred).astype(np.float64) / (len(pixels) - 1)
    _, vectors = np.linalg.eigh(covariance)
    components = vectors[:, ::-1][:, :COMPONENTS].T
    largest = np.abs(components).argmax(axis=1)
    components *= np.sign(components[np.arange(COMPONENTS), largest])[:, None]
    return mean.astype(np.float16), components.astype(np.float16)


def age_basis(ages: np.ndarray) -> np.ndarray:
    """Spread ages over the knots, linearly between the two nearest.

    Parameters
    ----------
    ages : np.ndarray
        Years, shape (people,); outside the knots the nearest one counts.

    Returns
    -------
    np.ndarray
        Weights that sum to 1, float64, shape (people, 11).
    """
    identity = np.eye(len(AGE_KNOTS))
    return np.stack([np.interp(ages, AGE_KNOTS, row) for row in identity], axis=1)


def merge_cells(weights: np.ndarray) -> np.ndarray:
    """Join knots with their neighbours until each group has enough people.

    The smallest group is joined to the smaller of its neighbours, again and again.

    Parameters
    ----------
    weights : np.ndarray
        People at each age knot, shape (11,): the sums of their weights.

    Returns
    -------
    np.ndarray
        The group of each knot, numbered upwards from 0, shape (11,).

    Raises
    ------
    ValueError
        All knots together have fewer than `FEWEST` people.
    """
    if weights.sum() < FEWEST:
        raise ValueError(f"a gender and ethnicity has fewer than {FEWEST} people")
    groups = [[knot] for knot in range(len(weights))]
    while True:
        sizes = [weights[group].sum() for group in groups]
        smallest = int(np.argmin(sizes))
        if sizes[smallest] >= FEWEST:
            break
        beside = [i for i in (smallest - 1, smallest + 1) if 0 <= i < len(groups)]
        other = min(beside, key=lambda i: sizes[i])
        first = min(smallest, other)
        groups[first : first + 2] = [groups[first] + groups[first + 1]]
    return np.repeat(np.arange(len(groups)), [len(group) for group in groups])


def cell_groups(labels: pd.DataFrame) -> np.ndarray:
    """Assign a number to each merged cell of gender, ethnicity and age knot.

    Parameters
    ----------
    labels : pd.DataFrame
        `age`, `gender` and `ethnicity` of the training people.

    Returns
    -------
    np.ndarray
        The number of the cell's group, shape (2, 5, 11).
    """
    groups = np.empty((*CELLS, len(AGE_KNOTS)), int)
    basis, first = age_basis(labels["age"].to_numpy()), 0
    for gender in range(CELLS[0]):
        for ethnicity in range(CELLS[1]):
            chosen = labels["gender"].eq(gender) & labels["ethnicity"].eq(ethnicity)
            merged = merge_cells(basis[chosen.to_numpy()].sum(axis=0))
            groups[gender, ethnicity] = first + merged
            first += merged.max() + 1
    return groups


def design_matrix(labels: pd.DataFrame, groups: np.ndarray) -> np.ndarray:
    """Turn labels into the regression's inputs.

    Three blocks: age knot within gender, ethnicity within gender, and merged cells. The
    last is held back by the ridge, so that where people are few the cell leans on what
    is known of that age and of that ethnicity.

    Parameters
    ----------
    labels : pd.DataFrame
        `age` (years), `gender` and `ethnicity`, one row per person.
    groups : np.ndarray
        The number of each cell's group, shape (2, 5, 11).

    Returns
    -------
    np.ndarray
        Float64, shape (people, 22 + 10 + groups).
    """
    basis = age_basis(labels["age"].to_numpy())
    gender, ethnicity = labels["gender"].to_numpy(), labels["ethnicity"].to_numpy()
    people, knots = basis.shape
    row = np.arange(people)
    main_age = np.zeros((people, CELLS[0], knots))
    main_age[row, gender] = basis
    main_ethnicity = np.zeros((people, *CELLS))
    main_ethnicity[row, gender, ethnicity] = 1.0
    cells = np.zeros((people, groups.max() + 1))
    np.add.at(cells, (row[:, None], groups[gender, ethnicity]), basis)
    blocks = (main_age, main_ethnicity, cells)
    return np.concatenate([block.reshape(people, -1) for block in blocks], axis=1)


def every_cell() -> pd.DataFrame:
    """List the labels at the knots: gender slowest, then ethnicity, then age."""
    cells = pd.MultiIndex.from_product(
        [range(CELLS[0]), range(CELLS[1]), AGE_KNOTS],
        names=["gender", "ethnicity", "age"],
    )
    return cells.to_frame(index=False)


def fit_means(labels: pd.DataFrame, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Regress the component scores on age, gender and ethnicity (ridge).

    Parameters
    ----------
    labels : pd.DataFrame
        `age`, `gender` and `ethnicity` of the training people.
    scores : np.ndarray
        Their component scores in grey levels, shape (people, 150).

    Returns
    -------
    dict[str, np.ndarray]
        `cell_scores`, mean scores at the knots, shape (2, 5, 11, 150); `cell_groups`,
        shape (2, 5, 11); `residual_factor`, the lower Cholesky factor of the residual
        covariance, shape (150, 150); `largest_weight`, of one person in any mean.

    Raises
    ------
    ValueError
        One person's weight in a mean exceeds `LARGEST_WEIGHT`.
    """
    groups = cell_groups(labels)
    design = design_matrix(labels, groups)
    penalty = np.full(design.shape[1], RIDGE_CELL)
    penalty[: CELLS[0] * (len(AGE_KNOTS) + CELLS[1])] = RIDGE_MAIN
    smoother = np.linalg.solve(design.T @ design + np.diag(penalty), design.T)
    at_knots = design_matrix(every_cell(), groups)
    largest = np.abs(at_knots @ smoother).max()
    if largest > LARGEST_WEIGHT:
        raise ValueError(f"one person has a weight of {largest:.3f} in a mean face")
    coefficients = smoother @ scores
    residual = scores - design @ coefficients
    factor = np.linalg.cholesky(np.cov(residual, rowvar=False))
    means = (at_knots @ coefficients).reshape(*groups.shape, COMPONENTS)
    return {
        "cell_scores": means.astype(np.float16),
        "cell_groups": groups.astype(np.int16),
        "residual_factor": factor.astype(np.float16),
        "largest_weight": np.float32(largest),
    }


def label_frequencies(labels: pd.DataFrame) -> dict[str, np.ndarray]:
    """Measure how often labels occur, too coarsely to point at a person.

    Ages are smoothed with the weights 1/4, 1/2, 1/4 and spread evenly from 86 on.
    Genders and ethnicities are counted in wide age bands and mixed with 30 imaginary
    people who are spread as in the whole training set.

    Parameters
    ----------
    labels : pd.DataFrame
        `age`, `gender` and `ethnicity` of the training people.

    Returns
    -------
    dict[str, np.ndarray]
        `age_probability` of the ages 1 to 95, shape (95,); `band_starts`, the youngest
        age of each band, shape (9,); `group_probability` of gender and ethnicity within
        each band, shape (9, 2, 5).
    """
    ages = labels["age"].clip(upper=OLDEST).to_numpy()
    counts = np.bincount(ages, minlength=OLDEST + 1)[1:].astype(float)
    counts[SMOOTH_FROM - 1 :] = counts[SMOOTH_FROM - 1 :].mean()
    padded = np.pad(counts, 1, mode="edge")
    counts = padded[:-2] / 4 + padded[1:-1] / 2 + padded[2:] / 4
    bands = np.searchsorted(BAND_STARTS, ages, side="right") - 1
    people = np.zeros((len(BAND_STARTS), *CELLS))
    np.add.at(people, (bands, labels["gender"], labels["ethnicity"]), 1)
    people += FEWEST * people.sum(axis=0) / people.sum()
    shares = people / people.sum(axis=(1, 2), keepdims=True)
    return {
        "age_probability": (counts / counts.sum()).astype(np.float32),
        "band_starts": BAND_STARTS.astype(np.int16),
        "group_probability": shares.astype(np.float32),
    }


def misplace(face: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Turn, shift or resize a picture so far that it is no longer an aligned face.

    Parameters
    ----------
    face : np.ndarray
        Grey levels, shape (2304,).
    generator : np.random.Generator
        Where the random numbers come from.

    Returns
    -------
    np.ndarray
        Grey levels, uint8, shape (2304,); beyond its edges the picture is mirrored.
    """
    kind = generator.integers(5)
    angle, distance, zoom = generator.uniform((-5, 0, -0.05), (5, 1, 0.05))
    if kind == 0:
        angle = generator.uniform(20, 340)
    elif kind == 1:
        zoom = generator.choice((-1, 1)) * generator.uniform(0.3, 0.7)
    elif kind == 2:
        distance = generator.uniform(6, 16)
    elif kind == 3:
        angle += generator.choice((90, 180, 270))
    else:
        angle, distance, zoom = generator.uniform((-180, 3, -0.5), (180, 14, 0.5))
    direction = generator.uniform(0, 2 * np.pi)
    shift = (distance * np.cos(direction), distance * np.sin(direction))
    square = np.pad(face.astype(np.uint8).reshape(SIZE, SIZE), 40, mode="reflect")
    image = Image.fromarray(square).rotate(
        angle, Image.Resampling.BICUBIC, translate=shift
    )
    middle, half = square.shape[0] / 2, SIZE / 2 / np.exp(zoom)
    box = (middle - half, middle - half, middle + half, middle + half)
    image = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image).ravel()


def no_faces(pixels: np.ndarray) -> np.ndarray:
    """Make pictures that are not aligned faces: misplaced ones, textures, negatives.

    Parameters
    ----------
    pixels : np.ndarray
        Real aligned faces in grey levels, shape (pictures, 2304).

    Returns
    -------
    np.ndarray
        Uint8, shape (1.4 x pictures, 2304) or so.
    """
    generator = np.random.default_rng(0)
    made = [misplace(face, generator) for face in pixels]
    for _ in range(len(pixels) // 5):
        size = generator.choice((3, 4, 6, 8, 12, 24, 48))
        spots = generator.integers(0, 256, (size, size), dtype=np.uint8)
        texture = Image.fromarray(spots).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        made.append(np.asarray(texture).ravel())
    return np.concatenate([np.stack(made), 255 - pixels[::5].astype(np.uint8)])


def fit_alignment(
    components: np.ndarray, train: np.ndarray, validation: np.ndarray
) -> dict[str, np.ndarray]:
    """Learn to tell aligned faces from anything else (logistic regression).

    The reconstruction error alone does not: it grows with a picture's contrast more
    than with its content.

    Parameters
    ----------
    components : np.ndarray
        Shape (150, 2304).
    train : np.ndarray
        Pictures that the model was fitted to, shape (pictures, 2304).
    validation : np.ndarray
        Pictures that it was not fitted to.

    Returns
    -------
    dict[str, np.ndarray]
        `alignment_mean` (2304,) and `alignment_spread` (150,) for `alignment_inputs`;
        `alignment_weights` (301,) and `alignment_bias` of the regression, a score above
        0 meaning a face; `quantiles`, the levels, and `alignment_quantiles`, the scores
        that so large a share of real validation faces falls short of.
    """
    components = components.astype(np.float32)
    standard = standardise(train)
    mean = standard.mean(axis=0).astype(np.float16)
    spread = ((standard - mean) @ components.T).std(axis=0).astype(np.float32)
    told = {
        "components": components,
        "alignment_mean": mean,
        "alignment_spread": spread,
    }
    inputs = [alignment_inputs(told, pixels) for pixels in (train, no_faces(train))]
    truth = np.repeat([1, 0], [len(part) for part in inputs])
    fitted = LogisticRegression(C=0.01, max_iter=300).fit(np.concatenate(inputs), truth)
    weights = fitted.coef_[0].astype(np.float32)
    bias = fitted.intercept_[0].astype(np.float32)
    unseen = alignment_inputs(told, validation)
    quantiles = np.quantile(unseen @ weights + bias, QUANTILES)
    return {
        "alignment_mean": mean,
        "alignment_spread": spread,
        "alignment_weights": weights,
        "alignment_bias": bias,
        "quantiles": QUANTILES.astype(np.float32),
        "alignment_quantiles": quantiles.astype(np.float32),
    }


def reconstruction_error(
    mean: np.ndarray, components: np.ndarray, pixels: np.ndarray
) -> dict[str, np.ndarray]:
    """Measure what the components cannot show of pictures they were not fitted to.

    Parameters
    ----------
    mean : np.ndarray
        The mean face, shape (2304,).
    components : np.ndarray
        Shape (150, 2304).
    pixels : np.ndarray
        Pictures that the model was not fitted to, shape (pictures, 2304).

    Returns
    -------
    dict[str, np.ndarray]
        `error_mean` and `error_quantiles` (at `quantiles`) of the root mean square
        error of the reconstruction, in grey levels.
    """
    components = components.astype(np.float32)
    centred = pixels - mean.astype(np.float32)
    rest = centred - (centred @ components.T) @ components
    error = np.sqrt(np.mean(rest**2, axis=1))
    return {
        "error_mean": error.mean().astype(np.float32),
        "error_quantiles": np.quantile(error, QUANTILES).astype(np.float32),
    }


def fit_face_model(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Fit the whole model.

    Parameters
    ----------
    folder : pathlib.Path
        The folder with `age_gender.csv` and `images/{train,val,test}`; the test
        pictures are not used.

    Returns
    -------
    dict[str, np.ndarray]
        The arrays of the model by name, as they are stored.
    """
    data = dataset.load(folder)
    pixels = {
        split: data.images[data.rows(split).index].reshape(-1, SIZE * SIZE)
        for split in ("train", "val")
    }
    train = pixels["train"].astype(np.float32)
    validation = pixels["val"].astype(np.float32)
    people = data.rows("train")
    mean, components = principal_components(train)
    scores = (train - mean.astype(np.float32)) @ components.astype(np.float32).T
    scores = scores.astype(np.float64)
    explained = scores.var(axis=0).sum() / train.var(axis=0).sum()
    return {
        "mean": mean,
        "components": components,
        "explained": np.float32(explained),
        "age_knots": AGE_KNOTS.astype(np.int16),
        **fit_means(people, scores),
        **label_frequencies(people),
        **reconstruction_error(mean, components, validation),
        **fit_alignment(components, train, validation),
    }


def main() -> None:
    """Read the arguments, fit, save and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=pathlib.Path,
        default=DATA,
        help="folder with age_gender.csv and images/ (default: data)",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=HERE / "face_model.npz",
        help="file to write (default: beside this script)",
    )
    arguments = parser.parse_args()
    try:
        model = fit_face_model(arguments.data)
    except (OSError, ValueError) as error:
        sys.exit(f"fit_face_model: {error}")
    np.savez_compressed(arguments.out, **model)
    print(
        f"{arguments.out.name}: {arguments.out.stat().st_size:,} bytes; "
        f"{model['cell_groups'].max() + 1} merged cells of "
        f"{model['cell_groups'].size}; {model['explained']:.1%} of the variance; "
        f"largest weight of one person in a mean {model['largest_weight']:.3f}; "
        f"reconstruction error {model['error_mean']:.1f} grey levels"
    )


if __name__ == "__main__":
    main()
