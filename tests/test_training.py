"""Training: once, resumable, on every layout of data, logged for TensorBoard."""

import datetime
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from notebook_cells import NOTEBOOK
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CURVES = {
    f"{prefix}{name}"
    for prefix in ("", "val_")
    for name in ("loss", "age_loss", "gender_loss", "ethnicity_loss", "age_mae")
    + ("gender_accuracy", "ethnicity_accuracy", "age_distribution_loss")
}


@pytest.fixture
def own_context(make_context, tmp_path):
    return make_context(tmp_path)


@pytest.fixture
def no_training(notebook, monkeypatch):
    """Let a training fail the test."""

    def train(*arguments):
        raise AssertionError("trained, although it should be loaded")

    monkeypatch.setattr(notebook, "train", train)


class Trains(Exception):  # noqa: N818
    """Raised in place of a training."""


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def read_events(folder):
    """Read the scalars, lists of values by tag, and the other tags."""
    events = EventAccumulator(str(folder)).Reload()
    tags = events.Tags()
    scalars = {
        tag: [
            float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)
        ]
        for tag in tags["tensors"]
        if tag.startswith("epoch_")
    }
    return scalars, tags


def expected_curves(run):
    """Give the scalars that a run should have, by TensorBoard's folder."""
    curves = {"train": {}, "validation": {}}
    for name, values in run["history"]["epochs"].items():
        part = "validation" if name.startswith("val_") else "train"
        if name != "seconds":
            curves[part][f"epoch_{name.removeprefix('val_')}"] = values
    return curves


class TestLayouts:
    def test_each_is_found_loaded_trained_and_evaluated(
        self, notebook, layout, tiny, tmp_path
    ):
        kind, data_dir = layout
        _, folder, _ = notebook.provide_data("auto", data_dir, 300)
        table, _, _ = notebook.load_folder(folder)
        parts = {split: table[table["split"] == split] for split in notebook.SPLITS}
        context = {
            "tables": {"train": parts["train"], "select": parts["val"]},
            "folder": folder / "images",
            "data_name": notebook.name_data(kind, table, pd.Series(dtype=str)),
            "model_dir": tmp_path / "model",
            "log_dir": tmp_path / "logs",
            "shipped": True,
            "commit": "unknown",
        }
        run = notebook.fit_or_load("mtl", tiny | {"epochs": 1}, context)
        predictions = notebook.predict_or_load(run, parts["test"], context)
        assert len(predictions) == 60
        figures = notebook.evaluate(predictions)
        assert figures["n"] == 60
        assert all(np.isfinite(figures[metric]) for metric in notebook.METRIC_NAMES)


class TestFitOrLoad:
    def test_the_history_says_what_was_trained(
        self, notebook, trained, tiny, context, parts
    ):
        history = trained["history"]
        assert trained["trained_here"]
        assert history["hyperparameters"] == tiny
        assert history["digest"] == notebook.digest_of(tiny)
        assert history["data"] == context["data_name"]
        assert history["images"] == len(parts["train"])
        assert history["parameters"] == notebook.build_model(tiny).count_params()
        assert CURVES <= set(history["epochs"])
        assert {len(values) for values in history["epochs"].values()} == {2}
        losses = history["epochs"]["val_loss"]
        assert history["best_epoch"] == 1 + losses.index(min(losses))
        assert history["seconds"] > 0
        assert {"hardware", "precision", "versions"} <= set(history)
        assert history["commit"] == context["commit"]
        date = datetime.datetime.strptime(history["date"], "%Y-%m-%d %H:%M UTC")
        age = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - date
        assert datetime.timedelta(0) <= age < datetime.timedelta(hours=1)

    def test_what_an_unfinished_training_needs_is_gone(self, trained):
        assert not list(trained["stem"].parent.glob("*.partial"))

    def test_the_second_call_loads(self, notebook, trained, tiny, context, no_training):
        again = notebook.fit_or_load("mtl", tiny, context)
        assert not again["trained_here"]
        assert again["stem"] == trained["stem"]
        assert again["history"] == trained["history"]

    @pytest.mark.parametrize(
        "change",
        [
            {"name": "other"},
            {"data_name": "other-faces"},
            {"seed": 2},
            {"sigma": 3.0},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_anything_else_trains_anew(
        self, notebook, trained, tiny, context, monkeypatch, change
    ):
        def train(name, *arguments):
            raise Trains(name)

        monkeypatch.setattr(notebook, "train", train)
        name = change.get("name", "mtl")
        run = tiny | {key: change[key] for key in change if key in tiny}
        other = context | {key: change[key] for key in change if key in context}
        with pytest.raises(Trains, match=name):
            notebook.fit_or_load(name, run, other)

    def test_predictions_of_an_earlier_training_are_not_kept(
        self, notebook, tiny, parts, own_context
    ):
        run = notebook.fit_or_load("mtl", tiny, own_context)
        old = notebook.predict_or_load(run, parts["test"], own_context)
        notebook.predict_or_load(run, parts["val"], own_context)
        others = notebook.of_run(run["stem"], "0_val.npz")  # of another digest
        others.write_bytes(b"of another run")
        notebook.of_run(run["stem"], ".json").unlink()
        fewer = own_context["tables"] | {"train": parts["train"][:64]}
        notebook.fit_or_load("mtl", tiny, own_context | {"tables": fewer})
        assert list(run["stem"].parent.glob("*.npz")) == [others]
        # The notebook is closed before it predicts, and opened again.
        again = notebook.fit_or_load("mtl", tiny, own_context)
        found = notebook.predict_or_load(again, parts["test"], own_context)
        model = keras.saving.load_model(notebook.of_run(again["stem"], ".keras"))
        new = notebook.predict_table(model, parts["test"], own_context["folder"])
        probabilities = list(notebook.ETHNICITIES)
        assert not np.allclose(old[probabilities], new[probabilities], atol=1e-3)
        np.testing.assert_allclose(found[probabilities], new[probabilities], atol=1e-3)

    def test_a_users_own_run_is_loaded_even_if_nothing_shipped_may_be(
        self, notebook, trained, tiny, context, no_training
    ):
        again = notebook.fit_or_load("mtl", tiny, context | {"shipped": False})
        assert not again["trained_here"] and again["stem"] == trained["stem"]

    @pytest.mark.parametrize("fails", [False, True])
    def test_the_precision_of_training_stays_in_the_training(
        self, notebook, tiny, own_context, monkeypatch, fails
    ):
        policies = []
        build = notebook.make_network

        def note(*arguments):
            policies.append(keras.mixed_precision.dtype_policy().name)
            if fails:
                raise Trains
            return build(*arguments)

        machine = notebook.describe_machine() | {"precision": "mixed_bfloat16"}
        monkeypatch.setattr(notebook, "describe_machine", lambda: machine)
        monkeypatch.setattr(notebook, "make_network", note)
        try:
            run = notebook.fit_or_load("mtl", tiny | {"epochs": 1}, own_context)
            assert run["history"]["precision"] == "mixed_bfloat16"
            assert policies == ["mixed_bfloat16", "float32"]  # trained, exported
        except Trains:
            assert fails and policies == ["mixed_bfloat16"]
        assert keras.mixed_precision.dtype_policy().name == "float32"


class TestTrainingRows:
    @pytest.mark.parametrize("count", [None, 192, 193, 10_000])
    def test_all_of_them(self, notebook, tiny, parts, count):
        rows = notebook.training_rows(parts["train"], tiny | {"images": count})
        pd.testing.assert_frame_equal(rows, parts["train"])

    def test_some_of_them_by_the_seed(self, notebook, tiny, parts):
        chosen = [
            notebook.training_rows(parts["train"], tiny | {"images": 50, "seed": seed})
            for seed in (1, 1, 2)
        ]
        for rows in chosen:
            assert len(rows) == 50 and rows.index.is_unique
            pd.testing.assert_frame_equal(parts["train"].loc[rows.index], rows)
        assert list(chosen[0].index) == list(chosen[1].index)
        assert set(chosen[0].index) != set(chosen[2].index)

    def test_a_run_is_trained_on_them(self, notebook, tiny, parts, own_context):
        few = tiny | {"images": 64, "epochs": 1}
        run = notebook.fit_or_load("few", few, own_context)
        assert run["history"]["images"] == 64


class TestSharing:
    """One task alone, and trunks of their own: trained like any other network."""

    @pytest.mark.parametrize(
        "change",
        [{"tasks": [task]} for task in ("age", "gender", "ethnicity")]
        + [{"soft_penalty": 0.01}],
        ids=["age", "gender", "ethnicity", "soft sharing"],
    )
    def test_it_is_trained_and_predicts_what_it_can(
        self, notebook, tiny, parts, own_context, change
    ):
        small = {"filters": [2], "convolutions": [1], "images": 64, "epochs": 1}
        run = notebook.fit_or_load("some", tiny | small | change, own_context)
        tasks = run["history"]["hyperparameters"]["tasks"]
        assert list(notebook.load_network(run).output) == tasks
        predictions = notebook.predict_or_load(run, parts["test"], own_context)
        for task, columns in notebook.PREDICTED_BY.items():
            assert (predictions[columns].notna() == (task in tasks)).all(axis=None)


class TestReloading:
    @pytest.fixture
    def copy(self, notebook, trained, tmp_path):
        """Copy the trained weights; returns the run and its file."""
        path = tmp_path / "mtl.keras"
        shutil.copyfile(notebook.of_run(trained["stem"], ".keras"), path)
        return trained | {"stem": tmp_path / "mtl"}, path

    def test_the_network_comes_back(self, notebook, copy):
        model = notebook.load_network(copy[0])
        assert list(model.output) == list(notebook.LABELS) and not model.compiled

    @pytest.mark.parametrize("newer", ["argument", "layer"])
    def test_weights_of_a_newer_keras_are_refused_by_name(
        self, notebook, copy, tmp_path, newer
    ):
        run, path = copy
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        config = json.loads(members["config.json"])
        layer = config["config"]["layers"][1]
        if newer == "argument":
            layer["config"]["argument_of_a_newer_keras"] = 1
        else:
            layer["class_name"] = "LayerOfANewerKeras"
        members["config.json"] = json.dumps(config)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        history = run["history"] | {"versions": "Python 3.13, Keras 9.9.9"}
        with pytest.raises(RuntimeError) as caught:
            notebook.load_network(run | {"history": history})
        text = str(caught.value)
        assert str(path) in text and "Keras 9.9.9" in text
        assert keras.__version__ in text and "RETRAIN = True" in text


class TestShippedRuns:
    @pytest.fixture
    def shipped(self, notebook, trained, context, tmp_path):
        """Ship the trained run; returns a context whose user trained nothing yet."""
        folder = tmp_path / "model" / context["data_name"]
        folder.mkdir(parents=True)
        for ending in (".json", ".keras"):
            shutil.copyfile(
                notebook.of_run(trained["stem"], ending), folder / f"mtl{ending}"
            )
        return context | {"model_dir": tmp_path / "model", "log_dir": tmp_path / "logs"}

    def test_it_is_loaded(self, notebook, tiny, shipped, no_training):
        run = notebook.fit_or_load("mtl", tiny, shipped)
        assert not run["trained_here"]
        assert run["stem"] == shipped["model_dir"] / shipped["data_name"] / "mtl"

    def test_it_is_not_loaded_for_other_hyperparameters(self, notebook, tiny, shipped):
        other = tiny | {"dropout": 0.1}
        own, found = notebook.find_run(
            "mtl", other, shipped["data_name"], shipped["model_dir"]
        )
        assert found is None and own.name == f"mtl-{notebook.digest_of(other)}"

    def test_the_users_own_comes_first(self, notebook, tiny, shipped, context, trained):
        own = trained["stem"].relative_to(context["model_dir"])
        target = shipped["model_dir"] / own
        shutil.copytree(trained["stem"].parent, target.parent)
        found = notebook.find_run(
            "mtl", tiny, shipped["data_name"], shipped["model_dir"]
        )
        assert found == (target, target)

    def test_it_is_not_found_if_nothing_shipped_may_be(self, notebook, tiny, shipped):
        where = shipped["data_name"], shipped["model_dir"]
        folder = shipped["model_dir"] / shipped["data_name"]
        assert notebook.find_run("mtl", tiny, *where)[1] == folder / "mtl"
        assert notebook.find_run("mtl", tiny, *where, True)[1] == folder / "mtl"
        assert notebook.find_run("mtl", tiny, *where, False)[1] is None

    def test_what_was_trained_in_its_place_is_loaded(
        self, notebook, tiny, shipped, monkeypatch
    ):
        again = shipped | {"shipped": False}
        first = notebook.fit_or_load("mtl", tiny, again)
        with monkeypatch.context() as patch:
            patch.setattr(notebook, "train", None)
            for context in (again, shipped):
                second = notebook.fit_or_load("mtl", tiny, context)
                assert second["stem"] == first["stem"] and not second["trained_here"]

    def test_training_again_leaves_it_alone(self, notebook, tiny, shipped):
        folder = shipped["model_dir"] / shipped["data_name"]
        before = files_of(folder)
        run = notebook.fit_or_load("mtl", tiny, shipped | {"shipped": False})
        assert run["trained_here"] and "runs" in run["stem"].parts
        assert files_of(folder) == before

    def test_the_plan_says_what_is_loaded(self, notebook, tiny, shipped, trained):
        runs = {"mtl": tiny, "other": tiny | {"epochs": 5, "images": 100}}
        plan = notebook.plan_runs(
            runs, 192, shipped["data_name"], shipped["model_dir"], True
        )
        assert plan["Training"].tolist() == ["mtl", "other"]
        assert plan["This run"].tolist() == ["loads it", "trains it"]
        assert plan["Images"].tolist() == ["192", "100"]
        assert plan["seconds"].tolist() == [trained["history"]["seconds"], 500 / 700]
        retrained = notebook.plan_runs(
            runs, 192, shipped["data_name"], shipped["model_dir"], False
        )
        assert set(retrained["This run"]) == {"trains it"}


class TestDigest:
    def test_it_is_the_same_on_every_machine(self, notebook):
        run = {"filters": [4, 8], "dropout": 0.25, "images": None, "name": "é"}
        assert notebook.digest_of(run) == "4fff5f"

    def test_order_and_tuples_do_not_matter(self, notebook):
        first = {"a": 1, "b": (1, 2)}
        assert notebook.digest_of(first) == notebook.digest_of({"b": [1, 2], "a": 1})

    @pytest.mark.parametrize("other", [{"a": 2}, {"a": 1.5}, {"a": "1"}, {"b": 1}, {}])
    def test_other_values_have_other_digests(self, notebook, other):
        assert notebook.digest_of({"a": 1}) != notebook.digest_of(other)


class Scripted(keras.callbacks.Callback):
    """Replace the loss of validation by a script, note epochs, and may interrupt.

    Parameters
    ----------
    losses : list of float
        One per epoch.
    interrupt : tuple of (str, int) or None
        Where to stop: the name of a callback's method and the epoch, from 0.
    """

    def __init__(self, losses, interrupt=None):
        super().__init__()
        self.losses = losses
        self.interrupt = interrupt or ("never", -1)
        self.begun = []
        self.weights = {}
        self.steps = []

    def stop_at(self, moment):
        if self.interrupt == (moment, self.begun[-1]):
            raise KeyboardInterrupt

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(epoch)
        self.steps.append(int(self.model.optimizer.iterations))

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            self.stop_at("middle of the epoch")

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = self.losses[epoch]
        self.weights[epoch] = self.model.get_weights()


class StopLast(keras.callbacks.Callback):
    """Interrupt after the epoch was logged, before it was backed up."""

    def __init__(self, scripted):
        super().__init__()
        self.scripted = scripted

    def on_epoch_end(self, epoch, logs=None):
        self.scripted.stop_at("between log and backup")


class TestInterruption:
    @pytest.fixture
    def run(self, notebook, own_context, tiny, monkeypatch):
        """Train under a script; returns the finished run, or None if interrupted."""
        make_callbacks = notebook.make_callbacks

        def train(scripted, **changes):
            def callbacks(*arguments):
                *first, backup = make_callbacks(*arguments)
                return [scripted, *first, StopLast(scripted), backup]

            monkeypatch.setattr(notebook, "make_callbacks", callbacks)
            try:
                return notebook.fit_or_load("mtl", tiny | changes, own_context)
            except KeyboardInterrupt:
                return None

        return train

    @pytest.mark.parametrize(
        ("moment", "begun_again"),
        [("middle of the epoch", [2, 3, 4]), ("between log and backup", [2, 3, 4])],
    )
    def test_a_resumed_training_goes_on_where_it_was(
        self, notebook, run, own_context, moment, begun_again
    ):
        losses = [5.0, 4.0, 3.0, 2.0, 1.0]
        first = Scripted(losses, (moment, 2))
        assert run(first, epochs=5) is None
        partial = next(own_context["model_dir"].rglob("*.partial"))
        log = notebook.read_log(partial / "log.csv")
        second = Scripted(losses)
        history = run(second, epochs=5)["history"]
        assert first.begun == [0, 1, 2] and second.begun == begun_again
        assert history["epochs"]["val_loss"] == losses
        before = log["age_mae"][:2].round(5).tolist()
        assert history["epochs"]["age_mae"][:2] == before
        steps = first.steps[1]
        assert second.steps == [epoch * steps for epoch in begun_again]
        assert not partial.exists()
        rates = [
            read_events(folder / "train")[0]["epoch_learning_rate"]
            for folder in sorted(own_context["log_dir"].iterdir())
        ]
        assert len(rates[-1]) == 3 and rates[-1] == sorted(rates[-1], reverse=True)

    def test_weights_go_on_from_the_last_whole_epoch(self, run, monkeypatch):
        losses = [5.0, 4.0, 3.0]
        first = Scripted(losses, ("middle of the epoch", 2))
        run(first, epochs=3)

        class Noted(Scripted):
            def on_epoch_begin(self, epoch, logs=None):
                super().on_epoch_begin(epoch)
                self.started_from = self.model.get_weights()

        second = Noted(losses)
        run(second, epochs=3)
        for mine, theirs in zip(second.started_from, first.weights[1], strict=True):
            np.testing.assert_array_equal(mine, theirs)

    def test_trunks_and_the_optimizers_memory_go_on(self, run):
        class Noted(Scripted):
            def on_epoch_begin(self, epoch, logs=None):
                super().on_epoch_begin(epoch)
                state = [*self.model.weights, *self.model.optimizer.variables]
                self.state = [value.numpy() for value in state]

        settings = {
            "tasks": ["gender", "ethnicity"],
            "soft_penalty": 0.01,
            "optimizer": "muon",
            "filters": [4],
            "convolutions": [1],
            "shared_units": 32,
            "images": 64,
        }
        first = Noted([5.0, 4.0], ("between log and backup", 1))
        second = Noted([5.0, 4.0])
        assert run(first, **settings) is None
        run(second, **settings)
        assert first.begun == [0, 1] and second.begun == [1]
        for mine, theirs in zip(second.state, first.state, strict=True):
            np.testing.assert_array_equal(mine, theirs)

    @pytest.mark.parametrize(
        "moment", [None, "middle of the epoch", "between log and backup"]
    )
    def test_the_best_weights_and_the_patience_survive(self, notebook, run, moment):
        losses = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
        settings = {"epochs": 7, "patience": 3}
        first = Scripted(losses, moment and (moment, 2))
        finished = run(first, **settings)
        if moment:
            assert finished is None
            finished = run(Scripted(losses), **settings)
        assert finished["history"]["epochs"]["val_loss"] == losses[:4]
        assert finished["history"]["best_epoch"] == 1
        model = keras.saving.load_model(notebook.of_run(finished["stem"], ".keras"))
        np.testing.assert_array_equal(
            model.get_layer("shared_conv1_1").get_weights()[0], first.weights[0][0]
        )

    def test_cut_off_in_its_first_epoch_it_begins_again(self, run):
        losses = [2.0, 1.0]
        settings = {"epochs": 2, "patience": 2}
        assert run(Scripted(losses, ("middle of the epoch", 0)), **settings) is None
        finished = run(Scripted(losses), **settings)
        assert finished["history"]["epochs"]["val_loss"] == losses

    def test_a_training_that_is_unfinished_is_not_taken_for_finished(
        self, notebook, run, tiny, own_context
    ):
        run(Scripted([1.0, 2.0], ("middle of the epoch", 1)))
        where = own_context["data_name"], own_context["model_dir"]
        assert notebook.find_run("mtl", tiny, *where)[1] is None
        plan = notebook.plan_runs({"mtl": tiny}, 192, *where, True)
        assert plan["This run"].tolist() == ["goes on with it"]
        plan = notebook.plan_runs({"mtl": tiny}, 192, *where, False)
        assert plan["This run"].tolist() == ["goes on with it"]

    def test_it_is_finished_if_it_was_cut_off_while_saved(
        self, notebook, run, monkeypatch
    ):
        def cut_off(*arguments):
            raise KeyboardInterrupt

        losses = [1.0, 2.0, 3.0, 4.0, 5.0]
        settings = {"epochs": 5, "patience": 2}
        first, again = Scripted(losses), Scripted(losses)
        with monkeypatch.context() as patch:
            patch.setattr(notebook, "export_model", cut_off)
            assert run(first, **settings) is None
        finished = run(again, **settings)
        assert finished["history"]["best_epoch"] == 1
        assert finished["history"]["epochs"]["val_loss"][:3] == losses[:3]
        assert len(again.begun) <= 1
        model = keras.saving.load_model(notebook.of_run(finished["stem"], ".keras"))
        np.testing.assert_array_equal(model.get_weights()[0], first.weights[0][0])

    def test_a_loss_that_is_not_a_number_ends_the_training(self, notebook, run):
        class Broken(Scripted):
            def on_train_batch_end(self, batch, logs=None):
                logs["loss"] = np.nan if self.begun[-1] == 1 else logs["loss"]

        broken = Broken([2.0, 1.0, 0.5, 0.4])
        run(broken, epochs=4)
        assert broken.begun == [0, 1]


class TestEarlyStopping:
    """What is known of the epochs before an interruption."""

    @pytest.fixture
    def take_up(self, notebook):
        def begin(past, epoch):
            stop = notebook.ResumableEarlyStopping(
                past, monitor="val_loss", patience=3, mode="min"
            )
            stop.set_model(keras.Sequential())
            stop.on_train_begin()
            stop.on_epoch_begin(epoch)
            return stop

        return begin

    @pytest.mark.parametrize(
        ("past", "epoch", "best", "wait"),
        [
            ([3.0, 1.0, 2.0], 3, 1.0, 1),
            ([3.0, 2.0, 1.0], 3, 1.0, 0),
            ([1.0, 2.0, 3.0], 3, 1.0, 2),
            ([3.0, 2.0, 1.0], 2, 2.0, 0),  # the last one is begun again
            ([1.0, 2.0, 3.0], 2, 1.0, 1),
        ],
    )
    def test_it_is_taken_up_once(self, take_up, past, epoch, best, wait):
        stop = take_up(past, epoch)
        assert (stop.best, stop.wait) == (best, wait)
        assert stop.best_epoch == past.index(best)
        stop.on_epoch_end(epoch, {"val_loss": 0.5})
        stop.on_epoch_begin(epoch + 1)
        assert (stop.best, stop.wait, stop.best_epoch) == (0.5, 0, epoch)

    @pytest.mark.parametrize(("past", "epoch"), [([], 0), ([1.0, 2.0], 0)])
    def test_a_training_from_the_start_has_no_past(self, take_up, past, epoch):
        stop = take_up(past, epoch)
        stop.on_epoch_end(0, {"val_loss": 5.0})
        assert (stop.best, stop.wait) == (5.0, 0)

    def test_patience_counts_the_epochs_before(self, take_up):
        stop = take_up([1.0, 2.0, 3.0], 3)
        stop.on_epoch_end(3, {"val_loss": 4.0})
        assert stop.model.stop_training


class TestTensorBoard:
    def test_a_trainings_folder_names_data_run_digest_and_time(
        self, trained, context, tiny, notebook
    ):
        (folder,) = context["log_dir"].iterdir()
        name = f"test-faces_mtl-{notebook.digest_of(tiny)}"
        assert re.fullmatch(rf"{name}_\d{{4}}-\d\d-\d\d_\d{{6}}", folder.name)

    def test_a_loaded_runs_folder_says_so(self, notebook, trained, tmp_path):
        folder = notebook.write_tensorboard(trained["history"], tmp_path)
        history = trained["history"]
        name = f"test-faces_mtl-{history['digest']}_{history['date'][:10]}_loaded"
        assert folder == tmp_path / name and folder.is_dir()

    @pytest.mark.parametrize(
        "change", [{"data": "other"}, {"name": "mtl2"}, {"digest": "0a0a0a"}], ids=str
    )
    def test_other_runs_folders_are_not_its_own(
        self, notebook, trained, tmp_path, change
    ):
        history = trained["history"]
        first = notebook.write_tensorboard(history, tmp_path)
        second = notebook.write_tensorboard(history | change, tmp_path)
        assert first != second and second.is_dir()

    def test_it_is_opened_by_the_programme_beside_python(
        self, notebook, tmp_path, monkeypatch
    ):
        lines = []
        shell = type(
            "Shell", (), {"run_line_magic": lambda _, *line: lines.append(line)}
        )
        monkeypatch.setattr(notebook.IPython, "get_ipython", shell)
        monkeypatch.setattr(notebook.sys, "executable", str(tmp_path / "python"))
        monkeypatch.setenv("TENSORBOARD_BINARY", "")
        monkeypatch.delenv("TENSORBOARD_BINARY")
        notebook.open_tensorboard("some logs")
        assert "TENSORBOARD_BINARY" not in os.environ
        (tmp_path / "tensorboard").touch()
        notebook.open_tensorboard("some logs")
        assert os.environ["TENSORBOARD_BINARY"] == str(tmp_path / "tensorboard")
        opened = [("load_ext", "tensorboard"), ("tensorboard", "--logdir some logs")]
        assert lines == 2 * opened

    def test_a_training_logs_every_head_and_the_graph(self, trained, context):
        (folder,) = context["log_dir"].glob("test-faces_mtl-*")
        for part, expected in expected_curves(trained).items():
            scalars, _ = read_events(folder / part)
            for tag, values in expected.items():
                assert scalars[tag] == pytest.approx(values, abs=1e-4)
        assert read_events(folder / "graph")[1]["graph"]

    def test_a_loaded_run_logs_the_same_once(self, notebook, trained, tmp_path):
        folder = notebook.write_tensorboard(trained["history"], tmp_path)
        for part, expected in expected_curves(trained).items():
            scalars, _ = read_events(folder / part)
            assert scalars.keys() == expected.keys()
            for tag, values in expected.items():
                assert scalars[tag] == pytest.approx(values)
        before = files_of(tmp_path)
        assert notebook.write_tensorboard(trained["history"], tmp_path) == folder
        assert files_of(tmp_path) == before

    def test_a_run_that_was_trained_here_is_not_logged_again(
        self, notebook, trained, context
    ):
        before = files_of(context["log_dir"])
        (folder,) = context["log_dir"].glob("test-faces_mtl-*")
        found = notebook.write_tensorboard(trained["history"], context["log_dir"])
        assert found == folder
        assert files_of(context["log_dir"]) == before

    def test_loading_a_run_logs_it(self, notebook, trained, tiny, context, tmp_path):
        notebook.fit_or_load("mtl", tiny, context | {"log_dir": tmp_path})
        (folder,) = tmp_path.iterdir()
        assert read_events(folder / "train")[0]["epoch_loss"]

    def test_the_graph_is_logged_once(self, notebook, tiny, tmp_path):
        for _ in range(2):
            notebook.write_graph(notebook.build_model(tiny), tmp_path)
            assert read_events(tmp_path / "graph")[1]["graph"]
        assert len(list(tmp_path.glob("graph/*"))) == 1


class TestScaleDown:
    def test_a_full_run_on_real_data_is_left_alone(self, notebook):
        for kind in ("folder", "csv", "kaggle"):
            run = notebook.scale_down(notebook.MAIN_RUN, "full", kind)
            assert run == notebook.MAIN_RUN

    @pytest.mark.parametrize(
        ("profile", "kind"),
        [("quick", "folder"), ("quick", "sample"), ("full", "sample")],
    )
    def test_other_runs_are_shorter_and_else_the_same(self, notebook, profile, kind):
        for run in (notebook.MAIN_RUN, *notebook.FIVE_RUNS.values()):
            short = notebook.scale_down(run, profile, kind)
            assert short["epochs"] < run["epochs"]
            same = ("filters", "dropout", "augmentation", "age_head", "learning_rate")
            assert all(short[key] == run[key] for key in same)

    @pytest.mark.parametrize(
        ("profile", "kind"), [("quick", "folder"), ("full", "sample")]
    )
    def test_short_points_of_the_learning_curve_see_as_many_images(
        self, notebook, profile, kind
    ):
        runs = [*notebook.CURVE_RUNS.values(), notebook.FIVE_RUNS["run4"]]
        short = [notebook.scale_down(run, profile, kind) for run in runs]
        used = [notebook.count_images(1280, run) for run in short]
        seen = [run["epochs"] * n for run, n in zip(short, used, strict=True)]
        assert len(set(used)) == len(used) and len(set(seen)) == 1
        assert all(run["patience"] >= run["epochs"] for run in short)

    def test_a_short_run_trains_one_seed_of_everything(self, notebook):
        assert notebook.choose_runs("full", "folder") == notebook.ALL_RUNS
        for choice in (("quick", "folder"), ("full", "sample")):
            runs = notebook.choose_runs(*choice)
            assert {run["seed"] for run in runs.values()} == {notebook.SEED}
            assert {"mtl", *notebook.FIVE_RUNS, *notebook.CURVE_RUNS} <= runs.keys()

    @pytest.mark.parametrize(
        ("available", "images", "share", "used"),
        [(1000, None, 1.0, 1000), (1000, None, 0.25, 250), (1000, 256, 0.5, 128)]
        + [(100, 256, 0.5, 50)],
    )
    def test_images_are_capped_before_the_share_is_taken(
        self, notebook, available, images, share, used
    ):
        run = {"images": images, "share": share}
        assert notebook.count_images(available, run) == used


CHILD = """
import json, pathlib, sys
from notebook_cells import load_functions

notebook = load_functions()
run = json.loads(sys.argv[1])
data, folder = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
table, _, _ = notebook.load_folder(data)
context = {
    "tables": {
        "train": table[table["split"] == "train"],
        "select": table[table["split"] == "val"],
    },
    "folder": data / "images",
    "data_name": "test-faces",
    "model_dir": folder / "model",
    "log_dir": folder / "logs",
    "shipped": True,
    "commit": "unknown",
}
notebook.fit_or_load("mtl", run, context)
"""


@pytest.mark.stress
@pytest.mark.parametrize("killed_after", [[3], [2, 5, 8]], ids=["once", "three times"])
def test_a_killed_training_goes_on(
    notebook, tiny, data_folder, own_context, tmp_path, killed_after
):
    run = tiny | {"epochs": 10, "patience": 10}
    arguments = [json.dumps(run), str(data_folder), str(tmp_path)]
    command = [sys.executable, "-c", CHILD, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(NOTEBOOK.parent / "tests")}
    digest = notebook.digest_of(run)
    log = tmp_path / f"model/runs/test-faces/mtl-{digest}.partial/log.csv"
    seen = pd.DataFrame()
    for epochs in killed_after:
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while child.poll() is None:
            if log.exists() and log.read_text().count("\n") > epochs:
                child.send_signal(signal.SIGKILL)
            time.sleep(0.01)
        assert child.wait() == -signal.SIGKILL
        before, seen = seen, notebook.read_log(log)
        whole = len(before) - 1  # the last epoch may be begun again
        if whole > 0:
            pd.testing.assert_frame_equal(seen[:whole], before[:whole])
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    history = notebook.fit_or_load("mtl", run, own_context)["history"]
    assert len(history["epochs"]["loss"]) == 10
    known = seen["val_loss"][: len(seen) - 1].round(5).tolist()
    assert history["epochs"]["val_loss"][: len(known)] == known
