"""Metrics against scikit-learn, bootstrap intervals, comparisons."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from facekit import labels, measure, report

CLOSE = {"rel": 1e-5, "abs": 1e-6}  # the metrics are computed in float32


def make_predictions(count, seed, skill=1.0, error=8.0):
    """Make up predictions: the higher the skill, the better the classes."""
    generator = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": generator.integers(0, 100, count),
            "gender": generator.integers(0, 2, count),
            "ethnicity": generator.choice(5, count, p=[0.4, 0.2, 0.2, 0.15, 0.05]),
        }
    )
    age = table["age"] + generator.normal(0, error, count)
    odds = skill * (2 * table["gender"] - 1) + generator.normal(0, 1, count)
    logits = generator.normal(0, 1, (count, 5))
    logits[np.arange(count), table["ethnicity"]] += skill
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    values = np.column_stack([age, 1 / (1 + np.exp(-odds)), chances])
    values = values.astype("float32").T
    return table.assign(**dict(zip(measure.PREDICTED, values, strict=True)))


def guess_again(given, seed, error):
    """Make up other predictions for the same labels, as another seed would."""
    other = make_predictions(len(given), seed)
    shifts = other["age_predicted"] - other["age"]
    return other.assign(**given, age_predicted=given["age"] + error / 8 * shifts)


def by_scikit_learn(predictions):
    """Compute what `evaluate` should."""
    error = predictions["age_predicted"] - predictions["age"]
    guess = predictions[list(labels.ETHNICITIES)].to_numpy().argmax(axis=1)
    score = predictions["gender_probability"]
    ages = predictions["age"], predictions["age_predicted"]
    genders = predictions["gender"], score >= 0.5
    both = predictions["ethnicity"], guess
    return {
        "age_mae": sklearn.metrics.mean_absolute_error(*ages),
        "age_rmse": sklearn.metrics.root_mean_squared_error(*ages),
        "age_within_5": (error.abs() <= 5).mean(),
        "age_within_10": (error.abs() <= 10).mean(),
        "gender_accuracy": sklearn.metrics.accuracy_score(*genders),
        "gender_sensitivity": sklearn.metrics.recall_score(*genders),
        "gender_specificity": sklearn.metrics.recall_score(*genders, pos_label=0),
        "gender_f1": sklearn.metrics.f1_score(*genders),
        "gender_auc": sklearn.metrics.roc_auc_score(predictions["gender"], score),
        "ethnicity_accuracy": sklearn.metrics.accuracy_score(*both),
        "ethnicity_macro_f1": sklearn.metrics.f1_score(*both, average="macro"),
    }


class TestMetrics:
    @pytest.mark.parametrize("skill", [0.0, 1.0, 5.0])
    def test_they_agree_with_scikit_learn(self, skill):
        predictions = make_predictions(500, seed=1, skill=skill)
        expected = by_scikit_learn(predictions)
        points, figures = (
            measure.point_values(predictions),
            measure.evaluate(predictions),
        )
        assert set(points) == set(expected) == set(report.METRICS)
        assert figures["n"] == 500
        for metric, value in expected.items():
            assert points[metric] == pytest.approx(value, **CLOSE), metric
            assert figures[metric] == pytest.approx(value, abs=1.1e-5), metric

    def test_intervals_are_percentiles_over_repeated_rows(self):
        predictions = make_predictions(80, seed=2)
        rows = [
            predictions.loc[predictions.index.repeat(counts.astype(int))]
            for counts in measure.draw_resamples(80)
        ]
        drawn = pd.DataFrame([by_scikit_learn(some) for some in rows[:200]])
        with pytest.MonkeyPatch.context() as patch:
            kept = measure.draw_resamples(80)[:200]
            patch.setattr(measure, "draw_resamples", lambda *_: kept)
            figures = measure.evaluate(predictions)
        for metric, values in drawn.items():
            ends = np.percentile(values, [2.5, 97.5])
            assert figures[f"{metric}_ci95"] == pytest.approx(ends, abs=2e-5), metric

    @pytest.mark.parametrize("gender", [0, 1])
    def test_one_class_alone_has_no_area_and_warns_of_nothing(self, gender):
        predictions = make_predictions(20, seed=1).assign(gender=gender)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning would stand in the notebook
            figures = measure.evaluate(predictions)
        assert np.isnan(figures["gender_auc"])
        assert np.isfinite(figures["gender_accuracy"])

    def test_a_class_that_nobody_has_is_left_out_of_macro_f1(self):
        table = make_predictions(5, seed=1).assign(ethnicity=[0, 0, 1, 1, 3])
        guess = np.array([0, 1, 1, 1, 4])
        table[list(labels.ETHNICITIES)] = np.eye(5)[guess]
        expected = sklearn.metrics.f1_score(
            table["ethnicity"], guess, average="macro", zero_division=0
        )
        found = measure.point_values(table)["ethnicity_macro_f1"]
        assert found == pytest.approx(expected, **CLOSE)

    @pytest.mark.parametrize("task", labels.LABELS)
    def test_a_task_without_predictions_or_labels_has_no_metric(self, task):
        table = make_predictions(50, seed=1)
        for columns in (measure.PREDICTED_BY[task], [task]):
            found = measure.evaluate(table.assign(**dict.fromkeys(columns, np.nan)))
            assert not [metric for metric in found if metric.startswith(task)]
            assert len(found) > 8

    def test_predictions_for_some_rows_alone_are_refused(self):
        table = make_predictions(50, seed=1)
        table.loc[7, "gender_probability"] = np.nan
        with pytest.raises(ValueError, match="Some rows have no label.* of gender"):
            measure.evaluate(table)

    def test_an_empty_set_stays_an_empty_set(self):
        nothing = make_predictions(5, seed=1)[:0]
        assert measure.evaluate(nothing) == {"n": 0}
        assert measure.compare(nothing, nothing) == {}
        assert measure.compare_apart(nothing, make_predictions(5, seed=1)) == {}
        assert measure.error_by_age(nothing).empty


class TestIntervals:
    @pytest.fixture
    def figures(self):
        return measure.evaluate(make_predictions(400, seed=4))

    def test_every_metric_lies_in_its_interval_every_time(self, figures):
        for metric in report.METRICS:
            low, high = figures[f"{metric}_ci95"]
            assert low < figures[metric] < high
        assert measure.evaluate(make_predictions(400, seed=4)) == figures

    def test_they_cover_the_truth_nineteen_times_in_twenty(self):
        truth = measure.point_values(make_predictions(200_000, seed=0, error=10))
        covered = dict.fromkeys(measure.HEADLINE, 0)
        for seed in range(1, 201):
            figures = measure.evaluate(make_predictions(150, seed, error=10))
            for metric in covered:
                low, high = figures[f"{metric}_ci95"]
                covered[metric] += low <= truth[metric] <= high
        for metric, times in covered.items():
            assert 0.90 <= times / 200 <= 0.99, metric

    def test_resamples_are_as_large_as_the_sample(self):
        weights = measure.draw_resamples(50)
        assert weights.shape == (measure.RESAMPLES, 50)
        assert (weights.sum(axis=1) == 50).all() and weights.mean() == 1
        assert weights.var() == pytest.approx(1 - 1 / 50, rel=0.05)
        assert (weights != measure.draw_resamples(50, seed=2)).any()
        with pytest.raises(ValueError, match="read-only"):
            weights[0, 0] = 9

    def test_a_mean_and_its_interval(self):
        values = np.random.default_rng(0).normal(3, 2, 400)
        mean, low, high = measure.mean_interval(values)
        assert mean == pytest.approx(values.mean()) and low < mean < high
        assert high - low == pytest.approx(2 * 1.96 * 2 / 20, rel=0.2)


class TestCompare:
    def test_the_same_predictions_differ_by_nothing(self):
        rows = make_predictions(300, seed=1)
        changes = measure.compare(rows, rows.sample(frac=1, random_state=0)[:200])
        assert changes == dict.fromkeys(measure.HEADLINE, (0.0, 0.0, 0.0))

    def test_the_sign_is_that_of_the_second_minus_the_first(self):
        worse = make_predictions(2000, seed=1, skill=0.5, error=12)
        better = worse.assign(
            age_predicted=(worse["age_predicted"] + worse["age"]) / 2,
            gender_probability=(worse["gender_probability"] + worse["gender"]) / 2,
        )
        change, back = measure.compare(worse, better), measure.compare(better, worse)
        for metric, sign in (("age_mae", -1), ("gender_accuracy", 1)):
            value, low, high = change[metric]
            assert low < value < high and sign * low > 0 and sign * high > 0
            points = [measure.point_values(rows)[metric] for rows in (worse, better)]
            assert value == pytest.approx(points[1] - points[0], abs=1e-5)
        for metric, (value, low, high) in change.items():
            assert back[metric] == pytest.approx((-value, -high, -low))

    def test_it_is_paired(self):
        """A small gain on every picture shows, although the intervals overlap."""
        first = make_predictions(300, seed=1)
        error = first["age_predicted"] - first["age"]
        second = first.assign(age_predicted=first["age"] + 0.97 * error)
        value, low, high = measure.compare(first, second)["age_mae"]
        assert low < value < high < 0
        apart = [measure.evaluate(rows)["age_mae_ci95"] for rows in (first, second)]
        assert apart[0][0] < apart[1][1]
        for value, low, high in measure.compare_apart(first, first).values():
            assert value == 0 and low < 0 < high

    def test_means_over_seeds_are_compared(self):
        given = make_predictions(300, seed=1)[list(labels.LABELS)]
        first = [guess_again(given, seed, error=6) for seed in (1, 2, 3)]
        second = [guess_again(given, seed, error=9) for seed in (4, 5)]
        changes = measure.compare(first, second)
        assert list(changes) == list(measure.HEADLINE)
        for metric, (value, low, high) in changes.items():
            before, after = (
                np.mean([by_scikit_learn(table)[metric] for table in seeds])
                for seeds in (first, second)
            )
            assert value == pytest.approx(after - before, **CLOSE)
            assert low < value < high
        assert measure.compare(first[:1], second[0]) == measure.compare(
            first[0], second[:1]
        )
        some = [first[0][20:], first[1].sample(frac=1, random_state=0), first[2][:200]]
        common = measure.compare([table[20:200] for table in first], second)
        for metric, change in measure.compare(some, second).items():
            assert change == pytest.approx(common[metric], abs=1e-6)
        averaged = measure.average(first)
        assert averaged["n"] == 300
        for metric in measure.HEADLINE:
            points = [by_scikit_learn(table)[metric] for table in first]
            assert averaged[metric] == pytest.approx(np.mean(points), **CLOSE)
            low, high = averaged[f"{metric}_ci95"]
            assert low < averaged[metric] < high

    def test_two_sets_that_share_no_image(self):
        first = make_predictions(400, seed=1, error=6)
        second = make_predictions(900, seed=2, error=12, skill=0.5)
        figures = [measure.evaluate(rows) for rows in (first, second)]
        for metric, (value, low, high) in measure.compare_apart(first, second).items():
            expected = figures[1][metric] - figures[0][metric]
            assert value == pytest.approx(expected, abs=1e-4) and low < value < high
            # Variances of independent sets add up.
            widths = [np.ptp(row[f"{metric}_ci95"]) for row in figures]
            assert high - low == pytest.approx(np.hypot(*widths), rel=0.15)

    def test_sets_of_one_population_seldom_differ(self):
        differs = 0
        for seed in range(100):
            halves = (make_predictions(150, seed=2 * seed + side) for side in range(2))
            _, low, high = measure.compare_apart(*halves)["age_mae"]
            differs += not low <= 0 <= high
        assert differs <= 12  # five are expected


class TestGuessesAndAges:
    @pytest.mark.parametrize(("female", "guess"), [(0.4, 0), (0.6, 1)])
    def test_everybody_gets_the_training_sets_median_and_modes(self, female, guess):
        predictions = make_predictions(200, seed=1)
        gender = (np.arange(5) < 5 * female).astype(int)
        train = pd.DataFrame({"age": [1, 20, 30, 31, 90], "gender": gender})
        train["ethnicity"] = [3, 3, 2, 0, 1]
        found = measure.constant_guess(predictions, train)
        assert (found[measure.PREDICTED] == [30, guess, 0, 0, 0, 1, 0]).all(axis=None)
        assert found[list(labels.LABELS)].equals(predictions[list(labels.LABELS)])
        assert measure.point_values(found)["gender_auc"] == 0.5

    def test_bands_hold_their_lower_edge_and_everybody(self):
        predictions = make_predictions(500, seed=1)
        bands = measure.error_by_age(predictions)
        infants = predictions[predictions["age"] < 5]
        error = infants["age_predicted"] - infants["age"]
        first = bands.iloc[0]
        assert bands["n"].sum() == 500
        assert first["band"] == "0–4" and first["n"] == len(infants)
        assert first["mae"] == pytest.approx(error.abs().mean())
        assert first["bias"] == pytest.approx(error.mean())
        assert (bands["low"] <= bands["mae"]).all() and (
            bands["mae"] <= bands["high"]
        ).all()

    def test_nine_of_ten_labels_lie_in_their_interval(self):
        fitted, others = (make_predictions(8000, seed) for seed in (1, 2))
        table = measure.fit_age_intervals(fitted)
        assert len(table["from"]) == len(table["low"]) == len(table["high"]) == 8
        for rows in (fitted, others):
            low, high = measure.age_intervals(rows["age_predicted"].to_numpy(), table)
            assert rows["age"].between(low, high).mean() == pytest.approx(0.9, abs=0.02)
            assert low.min() >= 0 and high.max() <= labels.AGES[-1]
        (low,), (high,) = measure.age_intervals(np.array([-50.0]), table)
        assert 0 == low <= high
