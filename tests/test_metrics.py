"""Metrics against scikit-learn, bootstrap intervals, comparisons, words."""

import re
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


def guess_again(notebook, labels, seed, skill=1.0, error=8.0):
    """Make up other predictions for the same labels, as another seed would."""
    generator = np.random.default_rng([seed, 1])
    hits = generator.random((2, len(labels))) < 0.5 + 0.3 * skill
    chances = np.where(hits[1], labels["ethnicity"], (labels["ethnicity"] + 1) % 5)
    return labels.assign(
        age_predicted=labels["age"] + generator.normal(0, error, len(labels)),
        gender_probability=np.where(hits[0], labels["gender"], 1 - labels["gender"]),
        **dict(zip(notebook.ETHNICITIES, np.eye(5)[chances].T, strict=True)),
    )


def by_scikit_learn(notebook, predictions):
    """Compute what `measure` should."""
    error = predictions["age_predicted"] - predictions["age"]
    guess = predictions[list(notebook.ETHNICITIES)].to_numpy().argmax(axis=1)
    score = predictions["gender_probability"]
    ages = predictions["age"], predictions["age_predicted"]
    genders = predictions["gender"], score >= 0.5
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
        expected = by_scikit_learn(notebook, predictions)
        assert set(found) == set(expected) == set(notebook.METRIC_NAMES)
        points = notebook.point_values(predictions)
        assert points == {metric: value for metric, (value,) in found.items()}
        for metric, value in expected.items():
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
        (found,) = notebook.class_f1(counts)
        assert np.isnan(found).tolist() == [False, False, True, False, False]
        assert np.nanmean(found) == pytest.approx(expected, **CLOSE)

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


class TestCompareSeeds:
    """Several trainings of one network, compared by their means."""

    @pytest.fixture
    def first(self, notebook):
        labels = make_predictions(notebook, 300, seed=1)[list(notebook.LABELS)]
        return [guess_again(notebook, labels, seed, error=6) for seed in (1, 2, 3)]

    @pytest.fixture
    def second(self, notebook, first):
        labels = first[0][list(notebook.LABELS)]
        return [
            guess_again(notebook, labels, seed, skill=0.5, error=9) for seed in (4, 5)
        ]

    def test_means_over_the_seeds_are_compared(self, notebook, first, second):
        changes = notebook.compare(first, second)
        assert list(changes) == list(notebook.HEADLINE)
        for metric, (value, low, high) in changes.items():
            before, after = (
                np.mean([by_scikit_learn(notebook, table)[metric] for table in seeds])
                for seeds in (first, second)
            )
            assert value == pytest.approx(after - before, **CLOSE)
            assert low < value < high

    def test_a_list_of_one_is_that_one(self, notebook, first, second):
        expected = notebook.compare(first[0], second[0])
        assert notebook.compare(first[:1], second[:1]) == expected
        assert notebook.compare(first[:1], second[0]) == expected

    def test_neither_order_nor_repetition_matters(self, notebook, first, second):
        expected = notebook.compare(first, second)
        changed = notebook.compare(first[::-1] * 2, second * 2)
        for metric, change in expected.items():
            assert changed[metric] == pytest.approx(change, abs=1e-5)

    def test_turning_it_round_turns_the_sign(self, notebook, first, second):
        back = notebook.compare(second, first)
        for metric, (value, low, high) in notebook.compare(first, second).items():
            assert back[metric] == pytest.approx((-value, -high, -low), abs=1e-6)

    def test_it_is_paired(self, notebook, first):
        """A small gain of every seed shows, although the intervals overlap."""
        better = [
            table.assign(
                age_predicted=table["age"]
                + 0.97 * (table["age_predicted"] - table["age"])
            )
            for table in first
        ]
        value, low, high = notebook.compare(first, better)["age_mae"]
        assert low < value < high < 0
        apart = [notebook.evaluate(t[0])["age_mae_ci95"] for t in (first, better)]
        assert apart[0][0] < apart[1][1]

    def test_only_pictures_that_all_have_count(self, notebook, first, second):
        some = [first[0][20:], first[1].sample(frac=1, random_state=0), first[2][:200]]
        expected = notebook.compare([table[20:200] for table in first], second)
        for metric, change in notebook.compare(some, second).items():
            assert change == pytest.approx(expected[metric], abs=1e-6)

    def test_other_metrics_can_be_asked_for(self, notebook, first, second):
        changes = notebook.compare(first, second, ["gender_auc"])
        assert list(changes) == ["gender_auc"]
        assert changes["gender_auc"][2] < 0


class TestCompareApart:
    def test_values_are_those_of_both_sets(self, notebook):
        first = make_predictions(notebook, 400, seed=1, error=6)
        second = make_predictions(notebook, 900, seed=2, error=12, skill=0.5)
        figures = [notebook.evaluate(rows) for rows in (first, second)]
        changes = notebook.compare_apart(first, second)
        assert list(changes) == list(notebook.HEADLINE)
        for metric, (value, low, high) in changes.items():
            expected = figures[1][metric] - figures[0][metric]
            assert value == pytest.approx(expected, abs=1e-4)
            assert low < value < high
            # Variances of independent sets add up.
            widths = [np.ptp(row[f"{metric}_ci95"]) for row in figures]
            assert high - low == pytest.approx(np.hypot(*widths), rel=0.15)

    def test_turning_it_round_turns_the_sign(self, notebook):
        first = make_predictions(notebook, 500, seed=1, error=6)
        second = make_predictions(notebook, 500, seed=2, error=12)
        there, back = (
            notebook.compare_apart(*sets)["age_mae"]
            for sets in ((first, second), (second, first))
        )
        assert there[1] > 0 > back[2]
        assert there == pytest.approx((-back[0], -back[2], -back[1]), abs=0.2)

    def test_it_is_not_paired(self, notebook):
        rows = make_predictions(notebook, 300, seed=1)
        for value, low, high in notebook.compare_apart(rows, rows).values():
            assert value == 0 and low < 0 < high

    def test_other_metrics_can_be_asked_for(self, notebook):
        rows = make_predictions(notebook, 50, seed=1)
        changes = notebook.compare_apart(rows, rows[:40], ["age_rmse"])
        assert list(changes) == ["age_rmse"]

    def test_sets_of_one_population_seldom_differ(self, notebook):
        differs = 0
        for seed in range(100):
            halves = (
                make_predictions(notebook, 150, seed=2 * seed + number)
                for number in range(2)
            )
            ((_, low, high),) = notebook.compare_apart(*halves, ["age_mae"]).values()
            differs += not low <= 0 <= high
        assert differs <= 12  # five are expected


class TestConstantGuess:
    def test_everybody_gets_the_training_sets_median_and_modes(self, notebook):
        predictions = make_predictions(notebook, 200, seed=1)
        train = pd.DataFrame(
            {
                "age": [1, 20, 30, 31, 90],
                "gender": [1, 1, 1, 0, 0],
                "ethnicity": [3, 3, 2, 0, 1],
            }
        )
        guess = notebook.constant_guess(predictions, train)
        labels = list(notebook.LABELS)
        pd.testing.assert_frame_equal(guess[labels], predictions[labels])
        expected = [30, 1, 0, 0, 0, 1, 0]
        assert (guess[notebook.PREDICTED] == expected).to_numpy().all()
        figures = notebook.evaluate(guess)
        error = (predictions["age"] - 30).abs().mean()
        assert figures["age_mae"] == pytest.approx(error, abs=1e-4)
        shares = {
            "gender_accuracy": predictions["gender"] == 1,
            "ethnicity_accuracy": predictions["ethnicity"] == 3,
        }
        for metric, right in shares.items():
            assert figures[metric] == pytest.approx(right.mean(), abs=1e-4)
        assert figures["gender_auc"] == 0.5

    @pytest.mark.parametrize(("female", "guess"), [(0.4, 0), (0.6, 1)])
    def test_the_more_frequent_gender_is_guessed(self, notebook, female, guess):
        train = make_predictions(notebook, 100, seed=1)
        train = train.assign(gender=(np.arange(100) < 100 * female).astype(int))
        found = notebook.constant_guess(train, train)
        assert set(found["gender_probability"]) == {guess}


class TestSeenAndUnseen:
    def test_cells_hold_both_figures_and_their_difference(self, notebook):
        seen = make_predictions(notebook, 600, seed=1, skill=3, error=2)
        unseen = make_predictions(notebook, 400, seed=2, skill=0.5, error=12)
        gaps = notebook.compare_apart(seen, unseen)
        cells = notebook.seen_and_unseen(seen, unseen, gaps)
        assert list(cells) == [
            "Age: MAE (years), training / unseen",
            "Age: difference",
            "Gender: accuracy (%), training / unseen",
            "Gender: difference",
            "Ethnicity: accuracy (%), training / unseen",
            "Ethnicity: difference",
        ]
        figures = [notebook.evaluate(part) for part in (seen, unseen)]
        for metric in notebook.HEADLINE:
            name = notebook.METRIC_NAMES[metric]
            factor = 100 if "%" in name else 1
            both = [factor * row[metric] for row in figures]
            shown = cells[f"{name}, training / unseen"]
            assert shown == "{:.2f} / {:.2f}".format(*both)
            change = cells[f"{name.split(':')[0]}: difference"]
            assert "-" not in change  # a minus sign is none
            value, low, high = re.fullmatch(
                r"([+−][\d.]+) \(([+−][\d.]+) to ([+−][\d.]+)\)", change
            ).groups()
            numbers = [float(text.replace("−", "-")) for text in (value, low, high)]
            assert numbers[1] < numbers[0] < numbers[2]
            assert numbers[0] == pytest.approx(both[1] - both[0], abs=0.02)
            expected = [factor * end for end in gaps[metric]]
            assert numbers == pytest.approx(expected, abs=0.0051)
        assert cells["Age: difference"].startswith("+")
        assert cells["Gender: difference"].startswith("−")


RUN = {
    "filters": [16, 32],
    "dropout": 0.5,
    "augmentation": "none",
    "learning_rate": 3e-4,
    "age_head": "scalar",
}


class TestWords:
    @pytest.mark.parametrize(
        ("metric", "value", "interval", "text", "with_unit"),
        [
            (
                "age_mae",
                5.374,
                [5.2249, 5.5151],
                "5.37 (5.22–5.52)",
                "5.37 years (5.22–5.52)",
            ),
            ("age_rmse", 7.0, [6.5, 7.5], "7.00 (6.50–7.50)", "7.00 years (6.50–7.50)"),
            (
                "gender_accuracy",
                0.9074,
                [0.8996, 0.915],
                "90.7 (90.0–91.5)",
                "90.7 % (90.0–91.5)",
            ),
            (
                "ethnicity_macro_f1",
                0.7,
                [0.6, 0.8],
                "70.0 (60.0–80.0)",
                "70.0 % (60.0–80.0)",
            ),
            (
                "gender_auc",
                0.96661,
                [0.9612, 0.97],
                "0.967 (0.961–0.970)",
                "0.967 (0.961–0.970)",
            ),
        ],
    )
    def test_a_metric(self, notebook, metric, value, interval, text, with_unit):
        figures = {metric: value, f"{metric}_ci95": interval}
        assert notebook.format_metric(metric, figures) == text
        assert notebook.format_metric(metric, figures, unit=True) == with_unit

    @pytest.mark.parametrize(
        ("metric", "change", "text"),
        [
            ("age_mae", (-0.5, -0.6, -0.4), "better by 0.50 years (0.40 to 0.60)"),
            ("age_rmse", (0.5, 0.3, 0.7), "worse by 0.50 years (0.30 to 0.70)"),
            (
                "gender_accuracy",
                (0.012, 0.002, 0.022),
                "better by 1.20 percentage points (0.20 to 2.20)",
            ),
            (
                "age_within_5",
                (0.012, 0.002, 0.022),
                "better by 1.20 percentage points (0.20 to 2.20)",
            ),
            (
                "ethnicity_accuracy",
                (-0.012, -0.022, -0.002),
                "worse by 1.20 percentage points (0.20 to 2.20)",
            ),
            (
                "age_mae",
                (0.2, -0.31, 0.62),
                "no difference shown: +0.20 (−0.31 to +0.62 years)",
            ),
            (
                "gender_accuracy",
                (-0.001, -0.003, 0.001),
                "no difference shown: −0.10 (−0.30 to +0.10 percentage points)",
            ),
            (
                "age_mae",
                (0.0, 0.0, 0.0),
                "no difference shown: +0.00 (+0.00 to +0.00 years)",
            ),
            (
                "gender_auc",
                (0.01, -0.01, 0.03),
                "no difference shown: +0.01 (−0.01 to +0.03)",
            ),
            ("gender_auc", (-0.03, -0.04, -0.02), "worse by 0.03 (0.02 to 0.04)"),
        ],
    )
    def test_a_change(self, notebook, metric, change, text):
        assert notebook.describe_change(metric, change) == text

    def test_every_metric_knows_which_way_is_better(self, notebook):
        smaller = {
            metric
            for metric in notebook.METRIC_NAMES
            if notebook.describe_change(metric, (-2.0, -3.0, -1.0)).startswith("better")
        }
        assert smaller == {"age_mae", "age_rmse"}

    def test_changes_of_all_tasks(self, notebook):
        changes = {
            "age_mae": (-0.5, -0.6, -0.4),
            "gender_accuracy": (-0.012, -0.022, -0.002),
            "ethnicity_accuracy": (0.0, -0.001, 0.002),
        }
        assert notebook.describe_changes(changes) == (
            "age: better by 0.50 years (0.40 to 0.60); "
            "gender: worse by 1.20 percentage points (0.20 to 2.20); "
            "ethnicity: no difference shown: +0.00 (−0.10 to +0.20 percentage points)"
        )

    def test_the_table_of_steps(self, notebook):
        changes = dict.fromkeys(notebook.HEADLINE, (0.0, -0.1, 0.1))
        better = changes | {"age_mae": (-0.5, -0.6, -0.4)}
        table = notebook.steps_table({("a", "b"): changes, ("b", "c"): better})
        assert list(table) == ["Step", "Age", "Gender", "Ethnicity"]
        assert table["Step"].tolist() == ["a → b", "b → c"]
        assert table["Age"][1] == "better by 0.50 years (0.40 to 0.60)"
        assert table["Age"][0].startswith("no difference shown")

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({}, ""),
            ({"dropout": 0.25}, "dropout 0.5 → 0.25"),
            ({"learning_rate": 1e-3}, "learning rate 0.0003 → 0.001"),
            ({"filters": [32, 64]}, "filters 16–32 → 32–64"),
            (
                {"augmentation": "mild", "dropout": 0.25},
                "dropout 0.5 → 0.25; augmentation none → mild",
            ),
            ({"age_head": "distribution"}, "age head scalar → distribution"),
        ],
        ids=str,
    )
    def test_a_step(self, notebook, change, text):
        assert notebook.describe_step(RUN, RUN | change) == text

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0.2, "0 s"),
            (40, "40 s"),
            (89, "89 s"),
            (90, "1.5 min"),
            (246, "4.1 min"),
            (5399, "90.0 min"),
            (5400, "1.5 h"),
            (8280, "2.3 h"),
        ],
    )
    def test_a_duration(self, notebook, seconds, text):
        assert notebook.duration(seconds) == text

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


class TestDescribeOverfitting:
    def test_losses_are_followed_from_the_best_epoch_to_the_last(self, notebook):
        epochs = {"val_loss": [5.0, 4.0, 4.5, 5.5], "loss": [6.0, 4.5, 3.0, 2.0]}
        found = notebook.describe_overfitting({"epochs": epochs, "best_epoch": 2})
        assert found == {
            "Best epoch": 2,
            "Last epoch": 4,
            "Validation loss, change": 1.5,
            "Training loss, change": -2.5,
        }

    def test_nothing_changes_where_the_last_epoch_is_the_best(self, notebook):
        epochs = {"val_loss": [5.0, 4.0], "loss": [6.0, 4.5]}
        found = notebook.describe_overfitting({"epochs": epochs, "best_epoch": 2})
        assert found["Validation loss, change"] == found["Training loss, change"] == 0
