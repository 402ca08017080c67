"""Errors by group: what pictures were labelled as, how well each group is served."""

import itertools

import numpy as np
import pandas as pd
import scipy.stats

from facekit.labels import ETHNICITIES, GENDERS
from facekit.measure import by_group
from facekit.report import with_interval

ERRORS = {  # headings of the errors of a picture, by task
    "age": "Age error (years)",
    "gender": "Gender errors (%)",
    "ethnicity": "Ethnicity errors (%)",
}
STARTS = (0, 10, 30, 50)  # years at which age bands begin
BANDS = ("0–9", "10–29", "30–49", "50 and over")
NAMES = {"Gender": GENDERS, "Ethnicity": ETHNICITIES, "Age": BANDS}
FEWEST = 30  # pictures of a group that is evaluated


def number(labels: dict | pd.DataFrame) -> np.ndarray:
    """Number from 0 to 39 of the group that each picture's three labels make."""
    band = np.digitize(labels["age"], STARTS) - 1
    codes = [np.asarray(labels[key], int) for key in ("gender", "ethnicity")]
    return np.ravel_multi_index((*codes, band), [len(part) for part in NAMES.values()])


def name(rows: pd.DataFrame) -> pd.DataFrame:
    """``Gender``, ``Ethnicity`` and ``Age`` (band) of each row, in words, ordered."""
    codes = np.unravel_index(number(rows), [len(part) for part in NAMES.values()])
    kinds = zip(codes, NAMES.items(), strict=True)
    named = {key: pd.Categorical.from_codes(code, [*v]) for code, (key, v) in kinds}
    return pd.DataFrame(named, index=rows.index)


def phrase(group: tuple[str, str, str]) -> str:
    """A group in words, such as ``"Asian, female, 0–9"``."""
    return "{1}, {0}, {2}".format(*group)


def errors_of(view: pd.DataFrame) -> pd.DataFrame:
    """Each picture's errors: years; 100 where a label was missed (means are in %)."""
    named = view[list(ETHNICITIES)].to_numpy().argmax(axis=1)
    female = view["gender_probability"] >= 0.5
    missed = {"gender": female != (view["gender"] == 1)}
    missed["ethnicity"] = named != view["ethnicity"]
    years = (view["age_predicted"] - view["age"]).abs()
    return pd.DataFrame({"age": years} | {key: 100.0 * x for key, x in missed.items()})


def means(errors: pd.DataFrame, groups: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """For each task what ``measure.by_group`` gives for the groups of all labels."""
    keys = [groups[label] for label in groups]
    return {task: by_group(errors[task], keys) for task in errors}


def tell(row) -> str:
    """A row of ``by_group`` in words, such as ``"5.0 (4.9–5.2)"``."""
    return with_interval([row[key] for key in ("mean", "low", "high")])


def by_label(columns: dict[str, pd.Series], groups: pd.DataFrame) -> pd.DataFrame:
    """Means of ``columns`` (heading: a value per picture) by each label alone."""
    rows = []
    for label in groups:
        found = {key: by_group(x, groups[label]) for key, x in columns.items()}
        counts = next(iter(found.values()))["n"]
        for group in counts.index[counts >= FEWEST]:
            row = {"Labelled": f"{label.lower()}: {group}"}
            row["Images"] = f"{counts[group]:,}"
            rows.append(row | {key: tell(t.loc[group]) for key, t in found.items()})
    return pd.DataFrame(rows, columns=["Labelled", "Images", *columns])


def all_groups(means: dict[str, pd.DataFrame], train: pd.DataFrame) -> pd.DataFrame:
    """All 40 groups: test and training images, and errors where there are enough."""
    rows, learned = [], train.value_counts()
    for group in itertools.product(*NAMES.values()):
        count = means["age"]["n"].get(group, 0)
        row = {"Group": phrase(group), "Test images": f"{count:,}"}
        row["Training images"] = f"{learned.get(group, 0):,}"
        enough = count >= FEWEST
        told = {t: tell(x.loc[group]) if enough else "" for t, x in means.items()}
        rows.append(row | {ERRORS[task]: text for task, text in told.items()})
    return pd.DataFrame(rows)


def averages(errors: pd.DataFrame, groups: pd.DataFrame) -> pd.Series:
    """Mean error of all images, mean of the groups, and the worst group, by task."""
    found = {}
    for task, table in means(errors, groups).items():
        table = table[table["n"] >= FEWEST]
        worst = table["mean"].idxmax()
        found[f"{ERRORS[task]}: mean of all images"] = f"{errors[task].mean():.1f}"
        found[f"{ERRORS[task]}: mean of the groups"] = f"{table['mean'].mean():.1f}"
        told = f"{tell(table.loc[worst])}: {phrase(worst)}"
        found[f"{ERRORS[task]}: worst group"] = told
    return pd.Series(found)


def unfold(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means of groups, and their texts: a row for gender and ethnicity, a column for an
    age band. Groups of fewer than 30 have no mean, and their count as text.
    """
    people = pd.MultiIndex.from_product([GENDERS, ETHNICITIES])
    counts = table["n"].unstack().reindex(people, columns=BANDS)
    wide = table["mean"].unstack().reindex(people, columns=BANDS)
    wide = wide.where(counts >= FEWEST).astype(float)
    texts = wide.map("{:.1f}".format)
    texts = texts.where(wide.notna(), counts.fillna(0).map("n = {:.0f}".format))
    wide.index = texts.index = [f"{name}, {gender}" for gender, name in people]
    return wide, texts


def gaps(errors: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """Each group of at least 30 against the rest of its age band, in each task.

    ``gap`` of the mean errors with its 95 % interval ``low``, ``high``, and ``p``: by
    Welch's test for years; for labels by Newcombe (1998, method 10) and Fisher's exact
    test. ``p`` is corrected for the number of comparisons (false discovery rate,
    Benjamini & Yekutieli 2001).
    """
    rows = []
    for group, here in groups.groupby([*groups], observed=True).groups.items():
        rest = groups.index[groups["Age"] == group[2]].difference(here)
        if min(len(here), len(rest)) < FEWEST:
            continue
        for task in errors:
            pair = [errors.loc[part, task] for part in (here, rest)]
            welch = scipy.stats.ttest_ind(*pair, equal_var=False)
            ends, p = welch.confidence_interval(), welch.pvalue
            gap = pair[0].mean() - pair[1].mean(), *ends
            if task != "age":
                missed = [[(x > 0).sum(), (x == 0).sum()] for x in pair]
                p = scipy.stats.fisher_exact(missed).pvalue
                gap = difference(*(by_group(x, 0 * x).iloc[0] for x in pair))
            rows.append((group, task, len(here), pair[0].mean(), *gap, p))
    columns = ["group", "task", "n", "error", "gap", "low", "high", "p"]
    table = pd.DataFrame(rows, columns=columns)
    if len(table):
        table["p"] = scipy.stats.false_discovery_control(table["p"], method="by")
    return table


def against_labels(best, rows, met, named) -> tuple[pd.DataFrame, list[str]]:
    """What one answer for identical pictures meets at best (``duplicates.at_best``)
    beside what is met of test pictures: tables of 100 or 0, a column for each task.

    ``rows`` and ``named`` are the groups of both, as by ``name``. Also the groups of 60
    and 30 pictures or more in which clearly fewer are met: intervals do not touch, the
    first widened by the root of 2, since two pictures of one set are not independent.
    """
    rows, named = rows.assign(Images="all"), named.assign(Images="all")
    tables, clear = [], []
    for way, x, of in (("at best", best, rows), ("met", met, named)):
        tables.append(by_label({f"{t.title()} {way} (%)": x[t] for t in best}, of))
    for task, label in itertools.product(best, named):
        one, two = by_group(best[task], rows[label]), by_group(met[task], named[label])
        least = one["mean"] - 2**0.5 * (one["mean"] - one["low"])
        most = two["high"].where(two["n"] >= FEWEST).reindex(one.index)
        apart = one.index[(one["n"] >= 2 * FEWEST) & (least > most)]
        clear += [f"{task} ({group})" for group in apart]
    return tables[0].merge(tables[1].drop(columns="Images"), on="Labelled"), clear


def difference(first, second) -> tuple[float, float, float]:
    """Of two shares, rows of ``by_group``, and its interval (Newcombe 1998)."""
    (_, p, low, high), (_, q, least, most) = first, second
    below, above = np.hypot(p - low, most - q), np.hypot(high - p, q - least)
    return p - q, p - q - below, p - q + above


def largest(gaps: pd.DataFrame) -> pd.DataFrame:
    """The three largest gaps of each task, of either sign, of what ``gaps`` gives."""
    rows = []
    for task, error in ERRORS.items():
        own = gaps[gaps["task"] == task].sort_values("gap", key=abs, ascending=False)
        for _, gap in own.head(3).iterrows():
            row = {"Error": error, "Group": phrase(gap["group"])}
            row |= {"Images": f"{gap['n']:,}", "Mean error": f"{gap['error']:.1f}"}
            ends = with_interval(gap[["gap", "low", "high"]], signs=True)
            row["Against the rest of its age"] = ends
            rows.append(row | {"Corrected p": f"{gap['p']:.2g}"})
    return pd.DataFrame(rows or [{"Error": "no certain gap"}])
