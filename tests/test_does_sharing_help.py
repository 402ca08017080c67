"""``does_sharing_help.ipynb``: its networks, its clock, the runs shipped with it."""

import dataclasses
import json
import types

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tiny
from notebook_cells import load_definitions

from facekit import labels, measure, predictions, tables

SHIPPED = labels.MODELS / "utkface/does_sharing_help"
PARAMETERS = {"age": 634_186, "gender": 619_105, "ethnicity": 619_621}
SMALL = {"age": 268_698, "gender": 253_617, "ethnicity": 254_133}
SEEDS = (1, 2, 3)
CURVE = {"eighth": 8, "quarter": 4, "half": 2}


@pytest.fixture(scope="module")
def notebook():
    return load_definitions("notebooks/does_sharing_help.ipynb")


@pytest.fixture(scope="module")
def soft(notebook):
    return notebook.Settings(soft_penalty=0.5, filters=(2, 2, 2, 2))


def wanted(notebook):
    """Settings of all runs, by name, as the notebook's text describes them."""
    found = {}
    for seed in SEEDS:
        hard = notebook.Settings(seed=seed)
        found[f"hard_{seed}"] = hard
        found[f"soft_{seed}"] = dataclasses.replace(hard, soft_penalty=0.001)
        for task in labels.LABELS:
            alone = dataclasses.replace(hard, tasks=(task,))
            found[f"{task}_{seed}"] = alone
            small = dataclasses.replace(alone, filters=(8, 16, 32, 64))
            found[f"{task}_small_{seed}"] = small
    for name, part in CURVE.items():
        found[name] = notebook.Settings(
            share=1 / part, epochs=12 * part, warmup_epochs=2 * part
        )
    return found


def batch(tasks):
    """Two pictures and what their labels are."""
    answers = {
        "age": np.array([[30.0], [40.0]], "float32"),
        "age_distribution": np.eye(117, dtype="float32")[[30, 40]],
        "gender": np.array([[0.0], [1.0]], "float32"),
        "ethnicity": np.array([[0.0], [4.0]], "float32"),
    }
    pictures = np.random.default_rng(1).random((2, 48, 48, 1), "float32")
    return pictures, {task: answers[task] for task in tasks}


class TestNetworks:
    def test_parameters_are_those_of_the_shipped_runs(self, notebook):
        counted = {
            name: notebook.build(settings).count_params()
            for name, settings in wanted(notebook).items()
            if name.endswith("_1")
        }
        expected = {f"{task}_1": count for task, count in PARAMETERS.items()}
        expected |= {f"{task}_small_1": count for task, count in SMALL.items()}
        expected |= {"hard_1": 700_752, "soft_1": sum(PARAMETERS.values())}
        assert counted == expected
        for name, count in counted.items():
            history = json.loads((SHIPPED / f"{name}.json").read_text())
            assert history["parameters"] == count

    @pytest.mark.parametrize("tasks", [labels.LABELS, ("age",), ("gender",)])
    def test_metrics_are_logged_by_the_same_names_in_all_networks(
        self, notebook, tasks
    ):
        settings = notebook.Settings(tasks=tasks, filters=(2, 2, 2, 2))
        model = notebook.build(settings)
        notebook.compile_model(model, settings)
        pictures, answers = batch(model.output_names)
        logged = model.train_on_batch(pictures, answers, return_dict=True)
        told = {key for key in logged if not key.endswith("loss")}
        assert told == {
            metric for metric in measure.HEADLINE if metric.split("_")[0] in tasks
        }

    def test_the_age_is_the_mean_of_its_distribution(self, notebook):
        model = notebook.build(notebook.Settings(tasks=("age",), filters=(2, 2, 2, 2)))
        answer = model.predict(batch(["age"])[0], verbose=0)
        mean = answer["age_distribution"] @ labels.AGES[:, None]
        np.testing.assert_allclose(answer["age"], mean, rtol=1e-5)


class TestSoftSharing:
    def penalty(self, notebook, model, settings):
        """What training adds to the losses of the outputs."""
        notebook.compile_model(model, settings)
        pictures, answers = batch(model.output_names)
        outputs = {key: tf.stop_gradient(y) for key, y in model(pictures).items()}
        with_penalty, without = (
            model.compute_loss(pictures, answers, outputs, training=training)
            for training in (True, False)
        )
        return with_penalty - without

    def test_all_trunks_start_alike(self, notebook, soft):
        model = notebook.build(soft)
        tied = model.tied_weights()
        assert len(tied) == 16  # kernels and biases of seven convolutions and a Dense
        for weights in tied:
            first, *others = (np.asarray(weight) for weight in weights)
            assert len(others) == 2
            assert all((first == other).all() for other in others)
        heads = {weight.path for weight in model.trainable_variables}
        heads -= {weight.path for weights in tied for weight in weights}
        assert len(heads) == 12

    def test_equal_trunks_cost_nothing(self, notebook, soft):
        model = notebook.build(soft)
        assert float(self.penalty(notebook, model, soft)) == pytest.approx(0, abs=1e-6)
        assert notebook.trunk_distance(model) == 0

    def test_the_penalty_is_the_squared_distance_from_the_mean(self, notebook, soft):
        model = notebook.build(soft)
        first = model.tied_weights()[1][0]  # biases
        first.assign(first + 3.0)
        moved = first.shape[0] * (2**2 + 1 + 1)  # from a mean that moved by one
        found = float(self.penalty(notebook, model, soft))
        assert found == pytest.approx(0.5 * moved, rel=1e-4)
        assert notebook.trunk_distance(model) > 0

    def test_its_gradients_pull_the_trunks_together(self, notebook, soft):
        model = notebook.build(soft)
        weights = model.tied_weights()[1]
        weights[0].assign(weights[0] + 3.0)
        with tf.GradientTape() as tape:
            penalty = self.penalty(notebook, model, soft)
        gradients = tape.gradient(penalty, [weight.value for weight in weights])
        np.testing.assert_allclose(gradients[0], 2.0)  # 2 · 0.5 · 2: down
        np.testing.assert_allclose(gradients[1], -1.0)  # up
        np.testing.assert_allclose(gradients[2], -1.0)

    def test_what_is_saved_needs_no_code_of_ours(self, notebook, soft, tmp_path):
        model = notebook.build(soft)
        plain = keras.Model(model.inputs, model.output)  # as the notebook exports it
        plain.save(tmp_path / "soft.keras")
        loaded = keras.saving.load_model(tmp_path / "soft.keras", compile=False)
        pictures, _ = batch(["age"])
        for task, values in loaded.predict(pictures, verbose=0).items():
            again = model.predict(pictures, verbose=0)[task]
            np.testing.assert_allclose(values, again, rtol=1e-5, atol=1e-6)


class TestPredictionSeconds:
    @pytest.fixture
    def clock(self, notebook, monkeypatch):
        """A clock that only networks move, and which notes who did."""
        clock = types.SimpleNamespace(now=0.0, turns=[])
        fake = types.SimpleNamespace(perf_counter=lambda: clock.now)
        monkeypatch.setattr(notebook, "time", fake)

        def network(name, *seconds):
            seconds = list(seconds)

            def predict(pictures):
                assert pictures.shape[1:] == (48, 48, 1)
                assert pictures.min() >= 0 and pictures.max() <= 1
                clock.turns.append((name, len(pictures)))
                clock.now += seconds.pop(0) if len(seconds) > 1 else seconds[0]

            return types.SimpleNamespace(predict_on_batch=predict)

        clock.network = network
        return clock

    def test_kinds_take_turns_and_their_networks_add_up(self, notebook, clock):
        models = {
            "one": [clock.network("a", 2)],
            "three": [clock.network(name, 2) for name in "bcd"],
        }
        found = notebook.prediction_seconds(models, pictures=5, repeats=3)
        assert found == {"one": 2.0, "three": 6.0}
        assert clock.turns == [(name, 5) for name in "abcd"] * 4

    def test_the_first_turn_and_an_outlier_do_not_count(self, notebook, clock):
        models = {"one": [clock.network("a", 50, 2, 90, 3, 2, 2)]}
        found = notebook.prediction_seconds(models, pictures=1, repeats=5)
        assert found == {"one": 2.0}


@pytest.fixture(scope="module")
def store(make_shipped_store):
    return make_shipped_store("does_sharing_help")


class TestShipped:
    def test_every_run_is_found_by_the_notebooks_settings(self, notebook, store):
        expected = wanted(notebook)
        assert tiny.missing(store, expected) == []
        names = {path.stem for path in SHIPPED.glob("*.json")} - {"results"}
        assert names == set(expected)

    def test_histories_are_whole(self, notebook, store):
        for name, settings in wanted(notebook).items():
            history = store.find(name, settings).history
            assert history["name"] == name
            assert history["images"] == round(15_025 * settings.share)
            lengths = {len(values) for values in history["epochs"].values()}
            assert lengths == {settings.epochs}
            losses = history["epochs"]["val_loss"]
            assert history["best_epoch"] == 1 + int(np.argmin(losses))
            assert history["seconds"] == round(sum(history["epochs"]["seconds"]), 1)
            for metric in measure.HEADLINE:
                own = metric.split("_")[0] in settings.tasks
                assert (f"val_{metric}" in history["epochs"]) == own
            assert (history.get("trunk_distance", 0) > 0) == name.startswith("soft")

    def test_predictions_hold_the_tasks_of_their_network_alone(self, notebook):
        for name, settings in wanted(notebook).items():
            with np.load(SHIPPED / f"{name}_val.npz", allow_pickle=False) as file:
                values = pd.DataFrame(file["values"], columns=measure.PREDICTED)
            assert len(values) == 3_757
            for task, columns in measure.PREDICTED_BY.items():
                filled = values[columns].notna()
                assert filled.all(axis=None) == (task in settings.tasks)
                assert filled.any(axis=None) == (task in settings.tasks)

    def test_results_are_those_of_all_runs(self, notebook):
        results = json.loads((SHIPPED / "results.json").read_text())
        assert set(results["runs"]) == set(wanted(notebook))
        kinds = "hard sharing", "single-task", "soft sharing", "small single-task"
        names = {f"{kind}, seed {seed}" for kind in kinds for seed in SEEDS}
        rows = {row["model"]: row for row in results["results"]}
        assert set(rows) == names | set(CURVE)
        for row in rows.values():
            assert (row["split"], row["n"]) == ("val", 3_757)
        for seed in SEEDS:
            for kind, counts in (("", PARAMETERS), ("_small", SMALL)):
                parts = [
                    json.loads((SHIPPED / f"{task}{kind}_{seed}.json").read_text())
                    for task in labels.LABELS
                ]
                title = f"{kind[1:]} single-task, seed {seed}".strip()
                assert rows[title]["parameters"] == sum(counts.values())
                seconds = sum(history["seconds"] for history in parts)
                assert rows[title]["train_seconds"] == pytest.approx(seconds)


def test_rows_are_those_of_the_shipped_predictions():
    """Labels are not shipped: this needs the assignment's table."""
    path = labels.DATA / "age_gender.csv"
    if not path.exists():
        return
    known = labels.read_split_table()
    table = tables.read_labels(path).dropna().astype(dict.fromkeys(labels.LABELS, int))
    rows = table[table["img_name"].map(labels.hash_name).map(known) == "val"]
    if len(rows) != 3_757:
        return  # other data
    kept = {}
    for name in SHIPPED.glob("*_val.npz"):
        kept[name.name.removesuffix("_val.npz")] = predictions._load(name, rows)
    results = json.loads((SHIPPED / "results.json").read_text())["results"]
    for row in results:
        kind, _, seed = row["model"].partition(", seed ")
        if kind.endswith("single-task"):
            size = "_small" * kind.startswith("small")
            parts = {task: kept[f"{task}{size}_{seed}"] for task in labels.LABELS}
            found = measure.evaluate(predictions.join_tasks(parts))
        else:
            name = f"{kind.split()[0]}_{seed}" if seed else kind
            found = measure.evaluate(kept[name])
        for metric, value in found.items():
            assert row[metric] == pytest.approx(value, abs=1e-4), (row["model"], metric)
