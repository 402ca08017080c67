"""Groups of gender, ethnicity and age; their errors; gaps that are more than chance."""

import numpy as np
import pandas as pd
import pytest

from facekit import labels
from facekit.labels import ETHNICITIES
from studies import groups


def people(count, **columns):
    """Rows of labels, each a label for all or one for each."""
    given = {"age": 25, "gender": 0, "ethnicity": 0} | columns
    return pd.DataFrame(given, index=range(100, 100 + count))


def answered(rows, age, female, ethnicity):
    """Predictions for rows: ages, probabilities of female, codes of the ethnicity."""
    shares = np.eye(5)[np.broadcast_to(ethnicity, len(rows))]
    view = rows.assign(age_predicted=age, gender_probability=female)
    return view.assign(**dict(zip(ETHNICITIES, shares.T, strict=True)))


def test_all_groups_have_a_number_and_the_numbers_name_them():
    rows = pd.DataFrame(
        [(a, g, e) for g in (0, 1) for e in range(5) for a in (9, 10, 49, 116)],
        columns=["age", "gender", "ethnicity"],
    )
    assert groups.number(rows).tolist() == list(range(40))
    arrays = {key: rows[key].to_numpy("float32") for key in labels.LABELS}
    assert groups.number(arrays).tolist() == list(range(40))
    named = groups.name(rows)
    assert named.iloc[0].tolist() == ["male", "White", "0–9"]
    assert named.iloc[25].tolist() == ["female", "Black", "10–29"]
    assert len(groups.BANDS) == len(groups.STARTS)
    assert groups.phrase(tuple(named.iloc[39])) == "Other, female, 50 and over"


def test_errors_are_years_and_missed_labels():
    rows = people(4, gender=[0, 0, 1, 1], ethnicity=[0, 1, 2, 3])
    view = answered(rows, [25, 20, 31, 25], [0.4, 0.5, 0.5, 0.4], [0, 1, 2, 0])
    errors = groups.errors_of(view)
    assert list(errors) == list(groups.ERRORS) and (errors.index == rows.index).all()
    assert errors["age"].tolist() == [0, 5, 6, 0]
    assert errors["gender"].tolist() == [0, 100, 0, 100]
    assert errors["ethnicity"].tolist() == [0, 0, 0, 100]


@pytest.fixture
def small_children():
    """200 pictures; of the 40 of small children many gender labels are missed."""
    rows = people(200, age=[5] * 40 + [30] * 160, gender=[0, 1] * 100)
    wrong = np.arange(200) % 40 == 0
    wrong[:40] = np.arange(40) % 3 == 0
    female = np.where(wrong, 1 - rows["gender"], rows["gender"])
    return groups.name(rows), groups.errors_of(answered(rows, rows["age"], female, 0))


def test_errors_by_each_label_alone(small_children):
    named, errors = small_children
    table = groups.by_label({"Gender errors": errors["gender"]}, named)
    table = table.set_index("Labelled")
    assert table.loc["age: 0–9", "Images"] == "40"
    assert table.loc["age: 0–9", "Gender errors"].startswith("35.0 (")
    assert "age: 10–29" not in table.index  # of whom there are none
    assert "ethnicity: White" in table.index and "gender: male" in table.index


def test_groups_too_small_are_counted_and_not_evaluated(small_children):
    named, errors = small_children
    means = groups.means(errors, named)
    assert means["gender"]["n"].sum() == 200
    table = groups.all_groups(means, named).set_index("Group")
    assert len(table) == 40
    few, many = "White, male, 0–9", "White, male, 30–49"
    assert table.loc[[few, many], "Test images"].tolist() == ["20", "80"]
    assert table.loc[few, "Gender errors (%)"] == ""
    assert table.loc[many, "Gender errors (%)"] == "5.0 (2.0–12.2)"  # Wilson's
    values, texts = groups.unfold(means["gender"])
    assert values.shape == texts.shape == (10, 4)
    assert np.isnan(values.loc["White, male", "0–9"])
    assert texts.loc["White, male", "0–9"] == "n = 20"
    assert texts.loc["Asian, female", "0–9"] == "n = 0"
    assert texts.loc["White, male", "30–49"] == "5.0"
    found = groups.averages(errors, named)
    assert found["Gender errors (%): mean of all images"] == "9.0"
    assert found["Gender errors (%): mean of the groups"] == "2.5"
    worst = found["Gender errors (%): worst group"]
    assert worst == "5.0 (2.0–12.2): White, male, 30–49"


def test_a_real_gap_is_certain_and_chance_is_not():
    rng, count = np.random.default_rng(1), 4000
    rows = people(
        count, age=rng.integers(0, 80, count), gender=rng.integers(0, 2, count)
    )
    rows["ethnicity"] = rng.integers(0, 5, count)
    named = groups.name(rows)
    even = pd.DataFrame(
        {task: 100.0 * (rng.random(count) < 0.1) for task in ("gender", "ethnicity")},
        rows.index,
    ).assign(age=rng.exponential(5, count))
    assert (groups.gaps(even, named)["p"] < 0.05).sum() == 0
    children = (named["Age"] == "0–9") & (named["Ethnicity"] == "Asian")
    even.loc[children, "gender"] = 100.0 * (rng.random(children.sum()) < 0.5)
    found = groups.gaps(even, named)
    certain = found[found["p"] < 0.05]
    assert set(certain["task"]) == {"gender"}
    assert {group[1:] for group in certain["group"]} == {("Asian", "0–9")}
    assert (certain["low"] > 0).all() and (certain["gap"] > certain["low"]).all()
    assert (certain["high"] < 100).all()
    plain = groups.gaps(even, named.assign(Gender="male"))  # any labels will do
    assert len(plain) < len(found)


def test_groups_whose_errors_are_more_than_contradicting_labels():
    rows = people(80, ethnicity=[0] * 40 + [4] * 40)
    named = groups.name(rows)
    met = 100 - groups.errors_of(answered(rows, 25, 0.0, 0))  # none of Other
    best = pd.DataFrame({"gender": 100.0, "ethnicity": 100.0}, index=range(120))
    best.loc[::4, "ethnicity"] = 0.0
    twins = people(120, ethnicity=[0] * 60 + [4] * 60).set_index(best.index)
    twins = groups.name(twins)
    table, clear = groups.against_labels(best, twins, met, named)
    assert clear == [f"ethnicity ({x})" for x in ("male", "Other", "10–29", "all")]
    row = table.set_index("Labelled").loc["ethnicity: Other"]
    assert row["Images"] == "60" and row["Ethnicity met (%)"] == "0.0 (0.0–8.8)"
    assert row["Ethnicity at best (%)"] == "75.0 (62.8–84.2)"  # Wilson's
    assert list(table["Labelled"])[-1] == "images: all"
    never = best.assign(ethnicity=0.0)
    assert groups.against_labels(never, twins, met, named)[1] == []
    few = best.tail(59), twins.tail(59)  # 29 pairs
    assert groups.against_labels(*few, met, named)[1] == []
    there = met.tail(29), named.tail(29)
    assert groups.against_labels(best, twins, *there)[1] == []
    none = best.tail(0), twins.tail(0)
    assert groups.against_labels(*none, met, named)[0].empty


def test_without_groups_that_are_large_enough_there_is_no_gap():
    rows = people(20)
    errors = groups.errors_of(answered(rows, 25, 0.0, 0))
    assert groups.gaps(errors, groups.name(rows)).empty


def test_a_mean_is_told_with_its_interval():
    assert groups.tell({"mean": 5.04, "low": 4.9, "high": 5.16}) == "5.0 (4.9–5.2)"
    row = {"mean": -0.04, "low": -1.26, "high": 1.1}
    assert groups.tell(row) == "0.0 (−1.3 to 1.1)"


def test_shares_differ_within_newcombes_interval():
    """56 of 70 against 48 of 80, Newcombe (1998), table II: 0.0524 to 0.3339."""
    shares = [
        groups.by_group(pd.Series([100.0] * k + [0.0] * (n - k)), [0] * n).iloc[0]
        for k, n in ((56, 70), (48, 80))
    ]
    found = groups.difference(*shares)
    assert found == pytest.approx((20.0, 5.24, 33.39), abs=0.01)


def test_the_largest_gaps_are_told_by_task():
    columns = ["group", "task", "n", "error", "gap", "low", "high", "p"]
    group = "male", "Asian", "0–9"
    rows = [
        (group, "age", 40, 9.0, gap, gap - 1, gap + 1, 0.01) for gap in (0, 1, -2, 3, 4)
    ]
    table = groups.largest(pd.DataFrame(rows, columns=columns))
    assert table["Against the rest of its age"].tolist() == [
        "+4.0 (+3.0 to +5.0)",
        "+3.0 (+2.0 to +4.0)",
        "−2.0 (−3.0 to −1.0)",
    ]
    assert set(table["Group"]) == {"Asian, male, 0–9"}
    none = groups.largest(pd.DataFrame([], columns=columns))
    assert none["Error"].tolist() == ["no certain gap"]
