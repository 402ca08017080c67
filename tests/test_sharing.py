"""Sections 8 and 9: what sharing brings and costs, what more images bring."""

import types

import numpy as np
import pandas as pd
import pytest

TASKS = ("age", "gender", "ethnicity")
KINDS = ("hard sharing", "single-task", "soft sharing")


def differing(first, second):
    """Name the hyperparameters that differ."""
    assert first.keys() == second.keys()
    return {name for name in first if first[name] != second[name]}


class TestRuns:
    def test_main_networks_differ_by_their_seed_alone(self, notebook):
        first, *others = notebook.MAIN_SEEDS.values()
        assert first == notebook.MAIN_RUN
        assert [differing(first, other) for other in others] == [{"seed"}] * 2
        assert len({run["seed"] for run in notebook.MAIN_SEEDS.values()}) == 3

    def test_sharing_runs_differ_by_what_is_shared_and_the_seed_alone(self, notebook):
        runs = notebook.SHARING_RUNS
        base = notebook.FIVE_RUNS["run4"]  # the first of hard sharing
        assert base["tasks"] == list(TASKS) and base["soft_penalty"] is None
        penalty = runs["soft_1"]["soft_penalty"]
        assert penalty > 0
        expected = {}
        for seed in notebook.SHARING_SEEDS:
            of_seed = {"seed": seed} if seed != base["seed"] else {}
            if of_seed:
                expected[f"hard_{seed}"] = of_seed
            expected[f"soft_{seed}"] = of_seed | {"soft_penalty": penalty}
            for task in TASKS:
                expected[f"{task}_{seed}"] = of_seed | {"tasks": [task]}
        changes = {
            name: {key: run[key] for key in differing(base, run)}
            for name, run in runs.items()
        }
        assert changes == expected

    def test_points_of_the_learning_curve_differ_by_their_images_alone(self, notebook):
        whole = notebook.FIVE_RUNS["run4"]
        for run in notebook.CURVE_RUNS.values():
            assert differing(whole, run) <= {"share", "epochs", "patience"} | {
                "warmup_epochs"
            }

    def test_points_of_the_learning_curve_see_as_many_images(self, notebook):
        sets = pd.read_csv(notebook.SHIPPED_DATA / "split.csv.gz")["split"]
        count = (sets == "train").sum()
        runs = [*notebook.CURVE_RUNS.values(), notebook.FIVE_RUNS["run4"]]
        used = [notebook.count_images(count, run) for run in runs]
        shares = [images / count for images in used]
        assert shares == pytest.approx([1 / 8, 1 / 4, 1 / 2, 1], rel=1e-3)
        seen = [run["epochs"] * share for run, share in zip(runs, shares, strict=True)]
        assert seen == pytest.approx([seen[-1]] * 4, rel=1e-3)
        steps = [
            run["epochs"] * -(-images // run["batch_size"])
            for run, images in zip(runs, used, strict=True)
        ]
        assert max(steps) < 1.02 * min(steps)  # the last batch may be small
        for run in runs:  # none is cut off
            assert run["patience"] >= run["epochs"]

    def test_every_run_has_a_name_of_its_own(self, notebook):
        names = [name for group in notebook.RUN_GROUPS.values() for name in group]
        assert len(names) == len(set(names)) == len(notebook.ALL_RUNS)

    def test_every_kind_of_sharing_has_a_colour(self, notebook):
        assert tuple(notebook.SHARING_KINDS) == KINDS
        assert len(set(notebook.SHARING_KINDS.values())) == 3


class FakeClock:
    """A clock that only networks move, and which notes who did."""

    def __init__(self):
        self.now = 0.0
        self.turns = []

    def network(self, name, *seconds):
        """Make a network that takes these seconds, one call after the other."""
        seconds = list(seconds)

        def predict(batch):
            assert batch.shape[1:] == (48, 48, 1)
            assert batch.min() >= 0 and batch.max() <= 1
            self.turns.append((name, len(batch)))
            self.now += seconds.pop(0) if len(seconds) > 1 else seconds[0]

        return types.SimpleNamespace(predict_on_batch=predict)


class TestPredictionSeconds:
    @pytest.fixture
    def clock(self, notebook, monkeypatch):
        clock = FakeClock()
        fake = types.SimpleNamespace(perf_counter=lambda: clock.now)
        monkeypatch.setattr(notebook, "time", fake)
        return clock

    def test_kinds_take_turns(self, notebook, clock):
        models = {
            "one": [clock.network("a", 1)],
            "two": [clock.network("b", 1), clock.network("c", 1)],
        }
        notebook.prediction_seconds(models, pictures=5, repeats=3)
        assert clock.turns == [("a", 5), ("b", 5), ("c", 5)] * 4

    def test_times_of_the_networks_of_a_kind_add_up(self, notebook, clock):
        models = {
            "one": [clock.network("a", 2)],
            "three": [clock.network(name, 2) for name in "bcd"],
        }
        found = notebook.prediction_seconds(models, pictures=1, repeats=2)
        assert found == {"one": 2.0, "three": 6.0}

    def test_the_first_turn_and_an_outlier_do_not_count(self, notebook, clock):
        models = {"one": [clock.network("a", 50, 2, 90, 3, 2, 2)]}
        found = notebook.prediction_seconds(models, pictures=1, repeats=5)
        assert found == {"one": 2.0}

    def test_networks_can_be_timed(self, notebook, tiny):
        models = {"hard sharing": [notebook.build_model(tiny)]}
        found = notebook.prediction_seconds(models, pictures=2, repeats=1)
        assert found["hard sharing"] > 0


def finished(seconds, parameters, hardware="2 cores, CPU"):
    history = {"seconds": seconds, "parameters": parameters, "hardware": hardware}
    return {"history": history}


class TestSharingCosts:
    @pytest.fixture
    def costs(self, notebook):
        runs = {
            "hard sharing": [[finished(100, 1000)], [finished(200, 1000)]],
            "single-task": [
                [finished(60, 600), finished(50, 500), finished(40, 400)],
                [finished(30, 600), finished(20, 500), finished(10, 400)],
            ],
        }
        seconds = {"single-task": 0.6, "hard sharing": 0.25}
        return notebook.sharing_costs(runs, seconds)

    def test_networks_and_parameters_add_up(self, costs):
        assert costs["Kind"].tolist() == ["hard sharing", "single-task"]
        assert costs["Networks"].tolist() == [1, 3]
        assert costs["Parameters"].tolist() == ["1,000", "1,500"]

    def test_training_is_the_mean_of_the_seeds_sums(self, costs):
        assert costs["Training, mean of 2"].tolist() == ["2.5 min", "1.8 min"]

    def test_times_of_unlike_machines_are_left_out(self, notebook):
        runs = {
            "hard sharing": [[finished(300, 9, "1 core, CPU")], [finished(100, 9)]],
            "soft sharing": [[finished(500, 9)], [finished(200, 9)]],
        }
        seconds = dict.fromkeys(runs, 1.0)
        costs = notebook.sharing_costs(runs, seconds)
        assert costs["Training, mean of 1"].tolist() == ["1.7 min", "3.3 min"]
        first = {kind: seeds[:1] for kind, seeds in runs.items()}
        costs = notebook.sharing_costs(first, seconds)
        assert set(costs["Training, mean of 0"]) == {"on unlike machines"}

    def test_prediction_is_a_multiple_of_the_first_kinds(self, costs):
        assert costs["Prediction time"].tolist() == ["1.00 ×", "2.40 ×"]


@pytest.fixture
def close(notebook):
    """Close the figures that a test made."""
    yield
    notebook.plt.close("all")


def answered(notebook, hits, count=20):
    """Make a table where the first `hits` pictures are answered rightly.

    The others are ten years, one gender and one ethnicity off.
    """
    labels = pd.DataFrame({"age": [30] * count, "gender": 1, "ethnicity": 2})
    right = np.arange(count) < hits
    ethnicity = np.eye(5)[np.where(right, 2, 3)].T
    return labels.assign(
        age_predicted=np.where(right, 30.0, 40.0),
        gender_probability=np.where(right, 0.9, 0.1),
        **dict(zip(notebook.ETHNICITIES, ethnicity, strict=True)),
    )


@pytest.mark.usefixtures("close")
class TestFigures:
    def test_every_seed_is_a_dot_and_their_mean_a_bar(self, notebook):
        hits = {"hard sharing": [16, 18], "single-task": [12], "soft sharing": [20, 4]}
        figure = notebook.plot_seeds(
            {kind: [answered(notebook, n) for n in of] for kind, of in hits.items()}
        )
        for axis, metric in zip(figure.axes, notebook.HEADLINE, strict=True):
            shares = [
                [5.0 * n for n in of] for of in hits.values()
            ]  # of 20, in percent
            if metric == "age_mae":
                shares = [[10 - share / 10 for share in of] for of in shares]
            dots, bars = axis.lines[::2], axis.lines[1::2]
            for row, (dot, bar, values) in enumerate(
                zip(dots, bars, shares, strict=True)
            ):
                assert dot.get_xdata() == pytest.approx(values, rel=1e-5)
                assert bar.get_xdata() == pytest.approx([np.mean(values)], rel=1e-5)
                assert set(dot.get_ydata()) == set(bar.get_ydata()) == {row}
            assert axis.get_xlabel() == notebook.METRIC_NAMES[metric]
            low, high = sorted(axis.get_ylim())
            assert low < 0 and high > 2
        labels = figure.axes[0].get_yticklabels()  # the other panels share them
        assert [label.get_text() for label in labels] == list(KINDS)

    def test_the_learning_curve_has_a_point_and_an_interval_per_size(self, notebook):
        sizes = {1878: 8, 3757: 12, 15026: 16}
        curve = {
            size: notebook.evaluate(answered(notebook, n)) for size, n in sizes.items()
        }
        figure = notebook.plot_learning_curve(curve)
        assert len(figure.axes) == 3
        for axis, metric in zip(figure.axes, notebook.HEADLINE, strict=True):
            factor = 1 if metric == "age_mae" else 100
            (container,) = axis.containers
            points, _, (bars,) = container
            assert points.get_xdata().tolist() == list(sizes)
            values = [factor * figures[metric] for figures in curve.values()]
            assert points.get_ydata() == pytest.approx(values)
            for segment, figures in zip(
                bars.get_segments(), curve.values(), strict=True
            ):
                ends = [factor * end for end in figures[f"{metric}_ci95"]]
                assert segment[:, 1] == pytest.approx(ends)
            ticks = [label.get_text() for label in axis.get_xticklabels()]
            assert ticks == ["1,878", "3,757", "15,026"]
            assert axis.get_xscale() == "log"
            assert axis.get_ylabel() == notebook.METRIC_NAMES[metric]
