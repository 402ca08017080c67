"""Whether stated probabilities are right: reliability, its error, a temperature."""

import numpy as np
import pandas as pd
import scipy.optimize

from facekit.labels import ETHNICITIES
from facekit.measure import SEED, mean_interval
from facekit.report import with_interval


def shares_of(view: pd.DataFrame, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of all labels of a task, ``(n, labels)``, and the true codes."""
    if task == "ethnicity":
        return view[list(ETHNICITIES)].to_numpy(), view[task].to_numpy(int)
    female = view["gender_probability"].to_numpy()
    return np.stack([1 - female, female], axis=1), view[task].to_numpy(int)


def reliability(stated: np.ndarray, right: np.ndarray, bins: int = 15) -> pd.DataFrame:
    """Mean ``stated`` probability and share ``right`` in bins of equally many answers.

    Both are ``(n,)``: the probability of the answer given, and whether it was right.
    """
    parts = np.array_split(np.argsort(stated, kind="stable"), bins)
    rows = [(stated[part].mean(), right[part].mean(), len(part)) for part in parts]
    return pd.DataFrame(rows, columns=["stated", "right", "n"])


def expected_error(stated: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error (Naeini et al. 2015), 15 bins of equally many."""
    table = reliability(stated, np.asarray(right, float))
    gaps = (table["stated"] - table["right"]).abs()
    return float(np.average(gaps, weights=table["n"]))


def chance_error(stated: np.ndarray, draws: int = 500) -> float:
    """Calibration error below which 95 % of perfectly calibrated networks stay.

    Answers are drawn right with their stated probability (Bröcker & Smith 2007).
    """
    right = np.random.default_rng(SEED).random((draws, len(stated))) < stated
    return float(np.percentile([expected_error(stated, r) for r in right], 95))


def with_temperature(shares: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities ``(n, classes)``, softened by a temperature above 1."""
    powers = np.clip(shares.astype("float64"), 1e-12, 1) ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(shares: np.ndarray, classes: np.ndarray) -> float:
    """The temperature with the smallest cross-entropy (Guo et al. 2017)."""
    rows = np.arange(len(classes))

    def loss(temperature):
        return -np.log(with_temperature(shares, temperature)[rows, classes]).mean()

    return float(scipy.optimize.minimize_scalar(loss, bounds=(0.3, 5.0)).x)


def judge(stated: np.ndarray, right: np.ndarray) -> dict[str, str]:
    """By how much what is stated is above what is right, and the calibration error."""
    over = mean_interval(100 * (stated - right))
    return {
        "Stated − right (points)": with_interval(over, signs=True),
        "Calibration error (%)": f"{100 * expected_error(stated, right):.1f}",
        "By chance up to (%)": f"{100 * chance_error(stated):.1f}",
    }
