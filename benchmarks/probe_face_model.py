"""Is the embedded sample a real task? A linear probe's answer.

The probe is trained twice, on synthetic faces and on the real training pictures, and
both are scored on the same real pictures. It takes the first 150 principal components
of whatever it is trained on, standardises them, and fits one logistic regression for
gender and one for ethnicity (C = 0.01), and a ridge regression for age.

Run it from the repository's root, with the assignment's folder in `data/`. The test
pictures are the default; anything that is being tuned belongs on `--split val`:

    python benchmarks/probe_face_model.py
    python benchmarks/probe_face_model.py --split val
"""

import argparse
import pathlib
import sys

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "data" / "sample")]
import make_sample  # noqa: E402

from facekit import dataset  # noqa: E402
from facekit.labels import DATA  # noqa: E402


def probe(
    train: tuple[np.ndarray, pd.DataFrame], test: tuple[np.ndarray, pd.DataFrame]
) -> dict[str, float]:
    """Train the linear probe on pictures with labels, and score it on others.

    Pictures are uint8 ``(people, 48, 48)``. Gives the shares of right answers
    (``gender``, ``ethnicity``, ``both``) and the mean error of ``age`` in years.
    """
    flat = [
        faces.reshape(len(faces), -1).astype(np.float32) / 255
        for faces in (train[0], test[0])
    ]
    features = make_pipeline(PCA(150, svd_solver="covariance_eigh"), StandardScaler())
    inputs, unseen = features.fit_transform(flat[0]), features.transform(flat[1])
    right = {}
    for task in ("gender", "ethnicity"):
        model = LogisticRegression(C=0.01, max_iter=300).fit(inputs, train[1][task])
        right[task] = model.predict(unseen) == test[1][task].to_numpy()
    ages = Ridge(1.0).fit(inputs, train[1]["age"]).predict(unseen)
    return {
        "gender": right["gender"].mean(),
        "ethnicity": right["ethnicity"].mean(),
        "both": (right["gender"] & right["ethnicity"]).mean(),
        "age": np.abs(ages - test[1]["age"].to_numpy()).mean(),
    }


def result_rows(
    synthetic: dict[str, float], real: dict[str, float], people: int
) -> list[str]:
    """Write the results of ``probe`` as rows of a markdown table."""
    rows = [
        f"| scored on {people:,} real faces | trained on synthetic faces "
        "| trained on real faces | synthetic / real |",
        "|---|---|---|---|",
    ]
    for task in ("gender", "ethnicity", "both"):
        cells = [
            f"{share:.1%} ± {np.sqrt(share * (1 - share) / people):.1%}"
            for share in (synthetic[task], real[task])
        ]
        name = "both right" if task == "both" else f"{task} accuracy"
        rows.append(
            f"| {name} | {cells[0]} | {cells[1]} | {synthetic[task] / real[task]:.3f} |"
        )
    rows.append(
        f"| age, mean absolute error | {synthetic['age']:.1f} years "
        f"| {real['age']:.1f} years | {synthetic['age'] / real['age']:.3f} |"
    )
    return rows


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=pathlib.Path,
        default=DATA,
        help="folder with age_gender.csv and images/ (default: data)",
    )
    parser.add_argument(
        "--split",
        choices=("val", "test"),
        default="test",
        help="real pictures that both probes are scored on (default: test)",
    )
    parser.add_argument(
        "--count", type=int, default=20_000, help="synthetic faces (default: 20000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the synthetic faces")
    return parser.parse_args()


def main() -> None:
    """Train both probes and print the table."""
    arguments = parse_arguments()
    try:
        data = dataset.load(arguments.data)
        model = make_sample.load_face_model(make_sample.HERE / "face_model.npz")
    except (OSError, ValueError) as error:
        sys.exit(f"probe_face_model: {error}")
    rows = {split: data.rows(split) for split in ("train", arguments.split)}
    train, test = ((data.images[part.index], part) for part in rows.values())
    faces = make_sample.sample_faces(model, arguments.count, arguments.seed)
    print(*result_rows(probe(faces, test), probe(train, test), len(test[1])), sep="\n")
    print("\n± one standard error from the number of people scored")


if __name__ == "__main__":
    main()
