"""A table of predictions in, metrics with intervals out; two in, a difference out."""

import functools

import numpy as np
import pandas as pd
import scipy.stats

from facekit.labels import AGES, ETHNICITIES, LABELS

PREDICTED_BY = {
    "age": ["age_predicted"],
    "gender": ["gender_probability"],
    "ethnicity": list(ETHNICITIES),
}
PREDICTED = [column for columns in PREDICTED_BY.values() for column in columns]
HEADLINE = ("age_mae", "gender_accuracy", "ethnicity_accuracy")
BANDS = (0, 5, 15, 25, 35, 45, 55, 65, 75, 117)  # of true age, for the error by age
RESAMPLES = 1000
SEED = 1  # of the resamples: the same for all, so that differences are paired


def evaluate(predictions: pd.DataFrame) -> dict:
    """Every metric of the tasks at hand, with its 95 % interval in ``<metric>_ci95``.

    A row per image: true ``age`` (years), ``gender``, ``ethnicity``, and the columns
    ``PREDICTED``, those of absent tasks empty. Percentile bootstrap over images (Efron
    & Tibshirani 1993). ValueError if some rows of a task lack a label or a prediction.
    """
    exact = average([predictions])
    return {key: np.round(values, 5).tolist() for key, values in exact.items()}


def point_values(predictions: pd.DataFrame) -> dict[str, float]:
    """Every metric without an interval."""
    ones = np.ones((1, len(predictions)), "float32")
    return {key: float(value) for key, (value,) in _measure(predictions, ones).items()}


def compare(first, second) -> dict[str, tuple]:
    """Paired difference, second minus first, with its 95 % interval, by task's metric.

    Each side is one table, or a list of tables (seeds) whose metrics are averaged; only
    the images of all tables count. Metrics of absent tasks are left out.
    """
    first, second = ([x] if isinstance(x, pd.DataFrame) else x for x in (first, second))
    indices = [table.index for table in first + second]
    common = functools.reduce(pd.Index.intersection, indices)
    pair = [[table.loc[common] for table in part] for part in (first, second)]
    return _subtract(*pair, SEED)


def compare_apart(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, tuple]:
    """As ``compare``, for two sets of images that share none."""
    return _subtract([first], [second], SEED + 1)


def average(tables: list[pd.DataFrame]) -> dict:
    """As ``evaluate``, for the mean over tables of the same images (seeds)."""
    measured = [_with_resamples(table) for table in tables]
    result = {"n": len(tables[0])}
    for metric in measured[0]:
        drawn = np.mean([part[metric] for part in measured], axis=0)
        result[metric] = float(drawn[0])
        result[f"{metric}_ci95"] = ends(drawn)
    return result


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of ``(n,)`` numbers and the ends of its 95 % bootstrap interval."""
    return float(np.mean(values)), *ends(draw_means(values))


def draw_means(values: np.ndarray, seed: int = SEED) -> np.ndarray:
    """Mean of ``(n,)`` numbers (first) and of each of their resamples, ``(1001,)``."""
    values = np.asarray(values, "float32")
    drawn = draw_resamples(len(values), seed) @ values / len(values)
    return np.insert(drawn, 0, np.mean(values))


def ends(drawn: np.ndarray) -> list[float]:
    """Ends of the 95 % interval of what was measured on all (first) and on resamples,
    those left out that do not have it.
    """
    there = drawn[1:][np.isfinite(drawn[1:])]
    return np.percentile(there, [2.5, 97.5]).tolist() if len(there) else [np.nan] * 2


def by_group(values: pd.Series, groups) -> pd.DataFrame:
    """Per group: ``n``, and ``mean``, ``low``, ``high`` of ``values`` (95 % interval).

    ``groups`` is what ``Series.groupby`` takes; groups without a value are left out.
    Where all values are 0 or 100 the interval is Wilson's (1927), else bootstrap.
    """
    share, found = values.isin((0, 100)).all(), {}
    for name, part in values.groupby(groups, observed=True):
        if share:
            test = scipy.stats.binomtest(int((part == 100).sum()), len(part))
            wilson = test.proportion_ci(method="wilson")
            numbers = float(part.mean()), 100 * wilson.low, 100 * wilson.high
        else:
            numbers = mean_interval(part.to_numpy("float32"))
        found[name] = len(part), *numbers
    columns = ["n", "mean", "low", "high"]
    return pd.DataFrame([*found.values()], pd.Index([*found]), columns)


def constant_guess(predictions: pd.DataFrame, train: pd.DataFrame) -> pd.DataFrame:
    """The training set's median age and most frequent labels for every image."""
    frequent = train["ethnicity"].mode()[0]
    guess = {name: float(code == frequent) for code, name in enumerate(ETHNICITIES)}
    return predictions.assign(
        age_predicted=train["age"].median(),
        gender_probability=float(train["gender"].mean() >= 0.5),
        **guess,
    )


def error_by_age(predictions: pd.DataFrame) -> pd.DataFrame:
    """Per band of true age: ``n``, ``mae``, ``low``, ``high``, ``bias`` (years)."""
    error = predictions["age_predicted"] - predictions["age"]
    bands = pd.cut(predictions["age"], BANDS, right=False)
    rows = [
        (f"{band.left}–{band.right - 1}", len(e), *mean_interval(e.abs()), e.mean())
        for band, e in error.groupby(bands, observed=True)
    ]
    return pd.DataFrame(rows, columns=["band", "n", "mae", "low", "high", "bias"])


def fit_age_intervals(
    predictions: pd.DataFrame, spare: bool = False
) -> dict[str, list[float]]:
    """How far labels lie from predicted ages (years), in bands of predicted age.

    ``from``: where the eight bands begin; ``low``, ``high``: what to add so that 90 %
    of the labels lie between. With ``spare``, of new ones too where a band has few (the
    ranks of split conformal prediction, Vovk et al. 2005).
    """
    predicted = predictions["age_predicted"].to_numpy()
    error = predictions["age"].to_numpy() - predicted
    starts = np.unique(np.quantile(predicted, np.arange(8) / 8).round(1))
    band = np.searchsorted(starts, predicted, side="right").clip(1)
    tails = np.array([(1 - 0.9) / 2, (1 + 0.9) / 2])  # as shipped, to the last digit
    ends = []
    for number in range(len(starts)):
        own = error[band == number + 1]
        ranks = (tails * (len(own) + 1) - 1) / max(1, len(own) - 1)
        ends.append(np.quantile(own, ranks.clip(0, 1) if spare else tails))
    low, high = np.round(ends, 2).T.tolist()
    return {"from": starts.tolist(), "low": low, "high": high}


def age_intervals(ages: np.ndarray, table: dict) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the intervals around predicted ages ``(n,)``, from what was fitted."""
    band = np.searchsorted(table["from"], ages, side="right").clip(1) - 1
    ends = [ages + np.array(table[end])[band] for end in ("low", "high")]
    return tuple(np.clip(ends, AGES[0], AGES[-1]))


@functools.lru_cache(maxsize=4)
def draw_resamples(count: int, seed: int = SEED) -> np.ndarray:
    """Bootstrap samples as counts, ``(1000, count)``; shared, so not to be changed."""
    draws = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    drawn = np.array([np.bincount(draw, minlength=count) for draw in draws], "float32")
    drawn.flags.writeable = False
    return drawn


def _with_resamples(predictions, seed=SEED, area=True):
    """Every metric on the whole table (first) and on each resample."""
    weights = np.insert(draw_resamples(len(predictions), seed), 0, 1, axis=0)
    return _measure(predictions, weights, area)


def _subtract(first, second, second_seed):
    """Difference of two lists of tables, averaged within each list."""
    before = [_with_resamples(table, area=False) for table in first]
    after = [_with_resamples(table, second_seed, area=False) for table in second]
    result = {}
    for metric in HEADLINE:
        if all(metric in part for part in before + after):
            means = [np.mean([p[metric] for p in side], 0) for side in (before, after)]
            change = means[1] - means[0]
            result[metric] = float(change[0]), *ends(change)
    return result


def _measure(predictions, weights, area=True):
    """Every metric of the tasks at hand under many weightings ``(m, rows)`` at once.

    The area under the ROC curve, which takes longest, may be left out.
    """
    result = {}
    for task, columns in PREDICTED_BY.items():
        missing = predictions[[task, *columns]].isna()
        if missing.all().any():  # of no rows, all are
            continue
        if missing.any(axis=None):
            raise ValueError(f"Some rows have no label or no prediction of {task}.")
        for metric, parts in _parts(task, predictions).items():
            pairs = np.array(parts, "float32")
            with np.errstate(invalid="ignore"):  # a resample without one of the labels
                ratios = [(weights @ top) / (weights @ base) for top, base in pairs]
                seen = np.isfinite(ratios)
                total = np.where(seen, ratios, 0).sum(axis=0)
                result[metric] = total / seen.sum(axis=0)
    if "age_rmse" in result:
        result["age_rmse"] = np.sqrt(result["age_rmse"])
    if area and "gender_accuracy" in result:
        true = predictions["gender"].to_numpy()
        score = predictions["gender_probability"].to_numpy()
        result["gender_auc"] = _area_under_curve(true, score, weights)
    return result


def _parts(task, predictions):
    """Each metric as ratios of two weighted sums, whose mean it is."""
    one = np.ones(len(predictions))
    true = predictions[task].to_numpy()
    if task == LABELS[0]:
        error = np.abs(predictions["age_predicted"].to_numpy("float32") - true)
        return {
            "age_mae": [(error, one)],
            "age_rmse": [(error**2, one)],
            "age_within_5": [(error <= 5, one)],
            "age_within_10": [(error <= 10, one)],
        }
    if task == LABELS[1]:
        true, guess = true == 1, predictions["gender_probability"].to_numpy() >= 0.5
        return {
            "gender_accuracy": [(true == guess, one)],
            "gender_sensitivity": [(true & guess, true)],
            "gender_specificity": [(~true & ~guess, ~true)],
            "gender_f1": [_f1_parts(true, guess)],
        }
    guess = predictions[list(ETHNICITIES)].to_numpy().argmax(axis=1)
    classes = range(len(ETHNICITIES))
    return {
        "ethnicity_accuracy": [(true == guess, one)],
        "ethnicity_macro_f1": [_f1_parts(true == c, guess == c) for c in classes],
    }


def _f1_parts(true, guess):
    """F1 of one class as two sums."""
    return 2.0 * (true & guess), true.astype(float) + guess


def _area_under_curve(true, score, weights):
    """Area under the ROC curve under many weightings at once."""
    levels, level = np.unique(score, return_inverse=True)
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(len(levels)))
    ordered = weights[:, order].astype("float64")
    ones = np.add.reduceat(ordered * true[order], starts, axis=1)
    zeros = np.add.reduceat(ordered * (1 - true[order]), starts, axis=1)
    below = np.cumsum(zeros, axis=1) - zeros / 2
    product = ones.sum(axis=1) * zeros.sum(axis=1)
    area = (ones * below).sum(axis=1)
    return np.divide(area, product, out=np.full_like(area, np.nan), where=product > 0)
