"""Metrics against scikit-learn, bootstrap intervals, comparisons, words."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

# The metrics are computed in float32.
CLOSE = {"rel": 1e-5, "abs": 1e-6}


def make_predictions(notebook, count, seed, skill=1.0, error=8.0):
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
    return table.assign(**dict(zip(notebook.PREDICTED, values, strict=True)))


def by_scikit_learn(notebook, predictions):
    """Compute what `measure` should."""
    error = predictions["age_predicted"] - predictions["age"]
    guess = predictions[list(notebook.ETHNICITIES)].to_numpy().argmax(axis=1)
    score = predictions["gender_probability"]
    ages = predictions["age"], predictions["age_predicted"]
    return {
        "age_mae": sklearn.metrics.mean_absolute_error(*ages),
        "age_rmse": sklearn.metrics.root_mean_squared_error(*ages),
        "age_within_5": (error.abs() <= 5).mean(),
        "age_within_10": (error.abs() <= 10).mean(),
        "gender_accuracy": sklearn.metrics.accuracy_score(
            predictions["gender"], score >= 0.5
        ),
        "gender_auc": sklearn.metrics.roc_auc_score(predictions["gender"], score),
        "ethnicity_accuracy": sklearn.metrics.accuracy_score(
            predictions["ethnicity"], guess
        ),
        "ethnicity_macro_f1": sklearn.metrics.f1_score(
            predictions["ethnicity"], guess, average="macro"
        ),
    }


def repeat(predictions, weights):
    """Repeat each row as often as it counts."""
    return predictions.loc[predictions.index.repeat(weights.astype(int))]


class TestMeasure:
    @pytest.mark.parametrize("skill", [0.0, 1.0, 5.0])
    def test_it_agrees_with_scikit_learn(self, notebook, skill):
        predictions = make_predictions(notebook, 500, seed=1, skill=skill)
        found = notebook.measure(predictions, np.ones((1, 500), "float32"))
        assert set(found) == set(notebook.METRIC_NAMES)
        for metric, value in by_scikit_learn(notebook, predictions).items():
            assert found[metric].shape == (1,)
            assert found[metric][0] == pytest.approx(value, **CLOSE), metric

    def test_a_weight_repeats_a_row(self, notebook):
        predictions = make_predictions(notebook, 200, seed=2)
        weights = np.random.default_rng(3).integers(0, 4, (5, 200)).astype("float32")
        found = notebook.measure(predictions, weights)
        for number, weighting in enumerate(weights):
            rows = repeat(predictions, weighting)
            for metric, value in by_scikit_learn(notebook, rows).items():
                assert found[metric][number] == pytest.approx(value, **CLOSE), metric

    def test_ties_count_half(self, notebook):
        true = np.array([0, 1, 1, 0, 1, 0])
        score = np.array([0.5, 0.5, 0.9, 0.1, 0.5, 0.9])
        weights = np.array([[1, 1, 1, 1, 1, 1], [3, 1, 0, 2, 2, 1]], "float32")
        found = notebook.area_under_curve(true, score, weights)
        for value, weighting in zip(found, weights, strict=True):
            rows = np.arange(6).repeat(weighting.astype(int))
            expected = sklearn.metrics.roc_auc_score(true[rows], score[rows])
            assert value == pytest.approx(expected)

    @pytest.mark.parametrize("gender", [0, 1])
    def test_one_class_alone_has_no_area(self, notebook, gender):
        predictions = make_predictions(notebook, 20, seed=1).assign(gender=gender)
        found = notebook.measure(predictions, np.ones((2, 20), "float32"))
        assert np.isnan(found["gender_auc"]).all()
        assert np.isfinite(found["gender_accuracy"]).all()

    def test_a_class_that_nobody_has_is_left_out_of_macro_f1(self, notebook):
        true, guess = np.array([0, 0, 1, 1, 3]), np.array([0, 1, 1, 1, 4])
        counts = notebook.confusion_counts(true, guess, 5, np.ones((1, 5), "float32"))
        expected = sklearn.metrics.f1_score(
            true, guess, average="macro", zero_division=0
        )
        assert notebook.macro_f1(counts)[0] == pytest.approx(expected, **CLOSE)

    def test_confusion_counts(self, notebook):
        generator = np.random.default_rng(0)
        true, guess = generator.integers(0, 5, (2, 100))
        counts = notebook.confusion_counts(true, guess, 5, np.ones((1, 100), "float32"))
        expected = sklearn.metrics.confusion_matrix(true, guess, labels=range(5))
        np.testing.assert_array_equal(counts[0], expected)


class TestIntervals:
    @pytest.fixture(scope="class")
    def figures(self, notebook):
        return notebook.evaluate(make_predictions(notebook, 400, seed=4))

    def test_every_metric_lies_in_its_interval(self, notebook, figures):
        assert figures["n"] == 400
        for metric in notebook.METRIC_NAMES:
            low, high = figures[f"{metric}_ci95"]
            assert low < figures[metric] < high

    def test_they_are_the_same_every_time(self, notebook, figures):
        again = notebook.evaluate(make_predictions(notebook, 400, seed=4))
        assert again == figures

    def test_more_pictures_narrow_them(self, notebook, figures):
        more = notebook.evaluate(make_predictions(notebook, 6400, seed=5))
        for metric in notebook.HEADLINE:
            widths = [np.ptp(row[f"{metric}_ci95"]) for row in (figures, more)]
            assert 3 < widths[0] / widths[1] < 5.5  # a root of 16

    def test_they_cover_the_truth_nineteen_times_in_twenty(self, notebook):
        simulations, count = 200, 150
        everybody = make_predictions(notebook, 200_000, seed=0, error=10)
        truth = notebook.measure(everybody, np.ones((1, 200_000), "float32"))
        covered = dict.fromkeys(notebook.HEADLINE, 0)
        for seed in range(1, simulations + 1):
            figures = notebook.evaluate(
                make_predictions(notebook, count, seed, error=10)
            )
            for metric in covered:
                low, high = figures[f"{metric}_ci95"]
                covered[metric] += low <= truth[metric][0] <= high
        for metric, times in covered.items():
            assert 0.90 <= times / simulations <= 0.99, metric

    def test_resamples_are_as_large_as_the_sample(self, notebook):
        weights = notebook.draw_resamples(50, resamples=300)
        assert weights.shape == (300, 50) and weights.dtype == np.float32
        assert (weights.sum(axis=1) == 50).all()
        assert weights.mean() == 1
        assert weights.var() == pytest.approx(1 - 1 / 50, rel=0.05)
        np.testing.assert_array_equal(weights, notebook.draw_resamples(50, 300))
        assert (weights != notebook.draw_resamples(50, 300, seed=2)).any()

    def test_one_class_alone_gives_a_result_without_an_area(self, notebook):
        predictions = make_predictions(notebook, 50, seed=1).assign(gender=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning would stand in the notebook
            figures = notebook.evaluate(predictions)
        assert np.isnan(figures["gender_auc"])
        assert np.isfinite(figures["gender_accuracy"])


class TestCompare:
    def test_the_same_predictions_differ_by_nothing(self, notebook):
        predictions = make_predictions(notebook, 300, seed=1)
        changes = notebook.compare(predictions, predictions)
        assert changes == dict.fromkeys(notebook.HEADLINE, (0.0, 0.0, 0.0))

    def test_the_sign_is_that_of_the_second_minus_the_first(self, notebook):
        worse = make_predictions(notebook, 2000, seed=1, skill=0.5, error=12)
        better = worse.assign(
            age_predicted=(worse["age_predicted"] + worse["age"]) / 2,
            gender_probability=(worse["gender_probability"] + worse["gender"]) / 2,
        )
        change = notebook.compare(worse, better)
        for metric, sign in (("age_mae", -1), ("gender_accuracy", 1)):
            value, low, high = change[metric]
            assert low < value < high
            assert sign * low > 0 and sign * high > 0
        back = notebook.compare(better, worse)
        for metric, (value, low, high) in change.items():
            assert back[metric] == pytest.approx((-value, -high, -low))

    def test_it_is_paired(self, notebook):
        """A small gain on every picture shows, although the intervals overlap."""
        first = make_predictions(notebook, 300, seed=1)
        error = first["age_predicted"] - first["age"]
        second = first.assign(age_predicted=first["age"] + 0.97 * error)
        (value, low, high) = notebook.compare(first, second)["age_mae"]
        assert low < value < high < 0
        apart = [notebook.evaluate(rows)["age_mae_ci95"] for rows in (first, second)]
        assert apart[0][0] < apart[1][1]

    def test_only_common_pictures_count(self, notebook):
        first = make_predictions(notebook, 300, seed=1)
        second = first.sample(frac=1, random_state=0)[:200]
        assert notebook.compare(first, second)["age_mae"] == (0.0, 0.0, 0.0)

    def test_other_metrics_can_be_asked_for(self, notebook):
        first = make_predictions(notebook, 100, seed=1)
        assert list(notebook.compare(first, first, ["gender_auc"])) == ["gender_auc"]


class TestWords:
    @pytest.mark.parametrize(
        ("metric", "value", "interval", "text"),
        [
            ("age_mae", 5.374, [5.2249, 5.5151], "5.37 (5.22–5.52)"),
            ("age_rmse", 7.0, None, "7.00"),
            ("gender_accuracy", 0.9074, [0.8996, 0.915], "90.7 (90.0–91.5)"),
            ("ethnicity_macro_f1", 0.7, None, "70.0"),
            ("gender_auc", 0.96661, [0.9612, 0.97], "0.967 (0.961–0.970)"),
        ],
    )
    def test_a_metric(self, notebook, metric, value, interval, text):
        assert notebook.format_metric(metric, value, interval) == text

    @pytest.mark.parametrize(
        ("metric", "change", "text"),
        [
            ("age_mae", (-0.5, -0.7, -0.3), "better, -0.50 years (-0.70 to -0.30)"),
            ("age_mae", (0.5, 0.3, 0.7), "worse, +0.50 years (+0.30 to +0.70)"),
            (
                "gender_accuracy",
                (0.012, 0.002, 0.022),
                "better, +1.20 points (+0.20 to +2.20)",
            ),
            (
                "ethnicity_accuracy",
                (-0.012, -0.022, -0.002),
                "worse, -1.20 points (-2.20 to -0.20)",
            ),
            (
                "age_mae",
                (-0.1, -0.3, 0.1),
                "no difference shown, -0.10 years (-0.30 to +0.10)",
            ),
            (
                "age_mae",
                (0.0, 0.0, 0.0),
                "no difference shown, +0.00 years (+0.00 to +0.00)",
            ),
        ],
    )
    def test_a_change(self, notebook, metric, change, text):
        assert notebook.describe_change(metric, change) == text

    def test_a_change_of_an_area_is_not_in_years(self, notebook):
        text = notebook.describe_change("gender_auc", (0.01, 0.005, 0.015))
        assert text.startswith("better") and "years" not in text

    def test_changes_of_all_tasks(self, notebook):
        changes = dict.fromkeys(notebook.HEADLINE, (0.0, -0.1, 0.1))
        text = notebook.describe_changes(changes)
        tasks = [part.split()[0] for part in text.split("; ")]
        assert tasks == ["age", "gender", "ethnicity"]

    def test_a_metric_in_a_sentence(self, notebook):
        figures = {
            "age_mae": 5.374,
            "age_mae_ci95": [5.22, 5.52],
            "gender_auc": 0.967,
            "gender_auc_ci95": [0.961, 0.97],
        }
        assert notebook.say(figures, "age_mae") == "5.37 years (5.22–5.52)"
        assert notebook.say(figures, "gender_auc") == "0.967 (0.961–0.970)"

    def test_the_table_of_metrics(self, notebook):
        figures = notebook.evaluate(make_predictions(notebook, 1200, seed=4))
        table = notebook.metrics_table({"All": figures, "Some": figures})
        assert list(table) == ["Metric", "All", "Some"]
        assert table["All"][0] == "1,200"
        assert table["Metric"].tolist() == ["Images", *notebook.METRIC_NAMES.values()]
        assert set(notebook.headline(figures)) < set(table["Metric"])


class TestErrorByAge:
    def test_bands_hold_their_lower_edge_and_everybody(self, notebook):
        predictions = make_predictions(notebook, 500, seed=1)
        bands = notebook.error_by_age(predictions)
        assert bands["n"].sum() == 500
        infants = predictions[predictions["age"] < 5]
        error = infants["age_predicted"] - infants["age"]
        first = bands.iloc[0]
        assert first["band"] == "0–4" and first["n"] == len(infants)
        assert first["mae"] == pytest.approx(error.abs().mean())
        assert first["bias"] == pytest.approx(error.mean())
        assert (bands["low"] <= bands["mae"]).all()
        assert (bands["mae"] <= bands["high"]).all()

    def test_bands_without_people_are_left_out(self, notebook):
        predictions = make_predictions(notebook, 50, seed=1).assign(age=30)
        assert notebook.error_by_age(predictions)["band"].tolist() == ["25–34"]
