"""A training is done once, goes on where it was cut off, is kept and found again."""

import dataclasses
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tiny
from tensorboard.backend.event_processing import event_accumulator

from facekit import boards, labels, machine, places, runs

# Who interrupts a training leaves its log open.
UNCLOSED = "ignore::pytest.PytestUnraisableExceptionWarning"
pytestmark = pytest.mark.filterwarnings(UNCLOSED)
FALLING = [5.0, 4.0, 3.0, 2.0, 1.0]
FIVE = tiny.Settings(epochs=5)


def refuse(*arguments):
    raise AssertionError("trained, although it should be loaded")


def train(store, losses, settings, cut_off=None, **options):
    """Train under a script; returns the run (None if cut off), and the script."""
    fit, script = tiny.fit_scripted(losses, cut_off, **options)
    try:
        run = store.fit_or_load("sum", settings, tiny.build_sum, fit)
    except KeyboardInterrupt:
        run = None
    return run, script


def assert_same(arrays, others):
    for mine, other in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(mine, other)


class TestFitOrLoad:
    def test_the_history_says_what_was_trained(self, trained, data):
        history = trained.history
        assert trained.trained_here and trained.own
        assert history["settings"] == dataclasses.asdict(tiny.FACES)
        assert history["data"] == "sample" and history["images"] == 192
        assert history["parameters"] == tiny.build(tiny.FACES).count_params()
        epochs = history["epochs"]
        assert {len(values) for values in epochs.values()} == {2}
        assert {"loss", "val_age_mae", "val_gender_accuracy", "seconds"} <= set(epochs)
        assert history["best_epoch"] == 1 + int(np.argmin(epochs["val_loss"]))
        assert history["seconds"] == pytest.approx(sum(epochs["seconds"]), abs=0.06)
        assert {"hardware", "precision", "versions", "commit"} <= set(history)
        assert not history["diverged"]
        date = datetime.datetime.strptime(history["date"], "%Y-%m-%d %H:%M UTC")
        age = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - date
        assert datetime.timedelta(0) <= age < datetime.timedelta(hours=1)
        folder = trained.stem.parent
        assert folder.parts[-3:] == ("runs", f"sample-{data.digest}", "faces")
        assert not list(folder.glob("*.partial"))

    def test_a_setting_of_a_curves_name_is_kept_too(self, tmp_path):
        history = {"settings": {"loss": None}, "epochs": {"loss": [1.0, 2.0]}}
        runs.write_history(tmp_path / "some.json", history)
        assert json.loads((tmp_path / "some.json").read_text()) == history

    def test_the_second_call_loads(self, trained, face_store):
        again = face_store.fit_or_load("mtl", tiny.FACES, refuse, refuse)
        assert not again.trained_here and again.own
        assert (again.stem, again.history) == (trained.stem, trained.history)
        model = again.load()
        assert list(model.output) == list(labels.LABELS) and not model.compiled
        assert {weight.dtype for weight in model.weights} == {"float32"}

    def test_only_the_same_name_settings_and_data_are_the_same(
        self, trained, face_store
    ):
        other_data = dataclasses.replace(face_store.data, digest="ffffff")
        others = dataclasses.replace(face_store, data=other_data)
        longer = dataclasses.replace(tiny.FACES, epochs=3)
        assert face_store.find("mtl", tiny.FACES).stem == trained.stem
        assert face_store.find("mtl2", tiny.FACES) is None
        assert face_store.find("mtl", longer) is None
        assert others.find("mtl", tiny.FACES) is None
        assert tiny.missing(face_store, {"mtl": tiny.FACES, "longer": longer}) == [
            "longer"
        ]

    @pytest.mark.parametrize(
        ("change", "same"),
        [
            ({"learning_rate": 1}, True),  # 1.0
            ({"note": None}, True),
            ({"note": "x"}, False),
            ({"epochs": (1.0, 2)}, False),
            ({"learning_rate": 0.5}, False),
        ],
    )
    def test_a_field_without_value_and_a_whole_float_change_no_digest(
        self, store, change, same
    ):
        settings = tiny.Settings(learning_rate=1.0, epochs=1)
        run, _ = train(store, FALLING, settings)
        changed = dataclasses.asdict(dataclasses.replace(settings, **change))
        later = dataclasses.make_dataclass("S", [*changed, ("added", object, None)])
        found = store.find("sum", later(**changed))
        assert (found is not None) == same

    def test_predictions_of_former_weights_are_not_kept(self, store):
        run, _ = train(store, FALLING, FIVE)
        others = run.path("0_val.npz")  # of another digest
        for path in (run.path("_test.npz"), others):
            path.write_bytes(b"predictions")
        run.path(".json").unlink()
        train(store, FALLING, FIVE)
        assert list(run.stem.parent.glob("*.npz")) == [others]

    def test_what_is_saved_is_what_export_gives(self, store):
        fit, _ = tiny.fit_scripted(FALLING)

        def first_layer(model):
            return keras.Model(model.input, model.layers[1].output)

        build = tiny.build_sum
        run = store.fit_or_load("sum", FIVE, build, fit, export=first_layer)
        assert run.load().output_shape == (None, 4)
        assert run.history["parameters"] == build(FIVE).count_params()

    @pytest.mark.parametrize("fails", [False, True])
    def test_the_precision_of_training_stays_in_the_training(
        self, store, monkeypatch, fails
    ):
        policies, original = [], tiny.build_sum
        here = machine.describe() | {"precision": "mixed_bfloat16"}

        def build(settings):
            policies.append(keras.config.dtype_policy().name)
            if fails:
                raise KeyboardInterrupt
            return original(settings)

        monkeypatch.setattr(machine, "describe", lambda: here)
        monkeypatch.setattr(tiny, "build_sum", build)
        run, _ = train(store, FALLING, tiny.Settings(epochs=1))
        assert keras.config.dtype_policy().name == "float32"
        assert policies == ["mixed_bfloat16", "float32"][: 1 + (not fails)]
        if not fails:
            assert run.history["precision"] == "mixed_bfloat16"
            assert run.load().layers[1].compute_dtype == "float32"

    @pytest.mark.parametrize("damage", ["missing", "cut off"])
    def test_weights_that_cannot_be_read_say_what_to_do(self, copy_run, damage):
        path = copy_run.path(".keras")
        content = path.read_bytes()
        path.unlink()
        if damage == "cut off":
            path.write_bytes(content[:1000])
        message = f"{path.name} is missing, damaged.*Keras 3.*or delete it and mtl-"
        with pytest.raises(ValueError, match=message):
            copy_run.load()

    def test_half_a_history_is_none(self, trained, tmp_path, face_store, capsys):
        store = dataclasses.replace(face_store, models=tmp_path / "model")
        shutil.copytree(trained.stem.parent, store.folder)
        assert store.find("mtl", tiny.FACES) and store.latest("mtl")
        path = store.folder / trained.path(".json").name
        for content in (path.read_bytes()[:300], b"", b"\xff\xfe", b"3"):
            path.write_bytes(content)
            assert store.find("mtl", tiny.FACES) is None
            told = f"{path.name} is damaged: set aside as {path.name}.unreadable"
            assert told in capsys.readouterr().out
            assert path.with_name(f"{path.name}.unreadable").read_bytes() == content
            with pytest.raises(FileNotFoundError, match="mtl is not there: run faces"):
                store.latest("mtl")


class TestShipped:
    @pytest.fixture
    def shipped(self, trained, face_store, tmp_path):
        """Ship the trained run; returns a store whose user trained nothing yet."""
        store = dataclasses.replace(
            face_store,
            data=dataclasses.replace(face_store.data, name="utkface"),
            models=tmp_path / "model",
            logs=tmp_path / "logs",
        )
        store.shipped.mkdir(parents=True)
        for ending in (".json", ".keras"):
            shutil.copyfile(trained.path(ending), store.shipped / f"mtl{ending}")
        return store

    def test_it_is_loaded_on_the_known_data_alone(self, shipped):
        run = shipped.fit_or_load("mtl", tiny.FACES, refuse, refuse)
        assert run.stem == shipped.shipped / "mtl" and not run.own
        assert shipped.find("mtl", dataclasses.replace(tiny.FACES, seed=2)) is None
        for name in ("own", "sample", "utkface-enlarged"):
            data = dataclasses.replace(shipped.data, name=name)
            others = dataclasses.replace(shipped, data=data)
            assert others.find("mtl", tiny.FACES) is None

    def test_the_users_own_comes_first(self, shipped, trained, face_store):
        again = dataclasses.replace(shipped, retrain=True)
        assert again.find("mtl", tiny.FACES) is None
        before = {path: path.read_bytes() for path in shipped.shipped.iterdir()}
        fit, _ = tiny.fit_scripted(FALLING)
        own = again.fit_or_load("mtl", tiny.FACES, tiny.build_sum, fit)
        assert own.trained_here and own.own
        for store in (again, shipped):
            assert store.find("mtl", tiny.FACES).stem == own.stem
        assert {path: path.read_bytes() for path in shipped.shipped.iterdir()} == before

    def test_the_latest_is_the_newest_own_whatever_its_settings(self, shipped):
        assert not shipped.latest("mtl").own
        stems = []
        for seed in (1, 2):
            settings = tiny.Settings(epochs=1, seed=seed)
            fit, _ = tiny.fit_scripted(FALLING)
            run = shipped.fit_or_load("mtl", settings, tiny.build_sum, fit)
            os.utime(run.path(".json"), (seed, seed))
            stems.append(run.stem)
        assert shipped.latest("mtl").stem == stems[1]
        colour = dataclasses.replace(shipped.data, name="utkface-enlarged", digest="0")
        other = dataclasses.replace(shipped, data=colour)
        assert other.latest("mtl").stem == stems[1]
        with pytest.raises(FileNotFoundError, match="run faces.ipynb first"):
            shipped.latest("mtl_seed2")


class TestInterruption:
    @pytest.mark.parametrize("moment", ["the middle of the epoch", *tiny.MOMENTS])
    def test_it_goes_on_where_it_was(self, store, moment):
        cut, first = train(store, FALLING, FIVE, cut_off=2, moment=moment)
        assert cut is None and store.find("sum", FIVE) is None
        run, second = train(store, FALLING, FIVE)
        begun = 3 if moment == "after the backup" else 2
        assert second.begun == list(range(begun, 5))
        assert_same(second.begins_with[begun][:4], first.ends_with[begun - 1])
        if begun == 2:  # the optimizer's memory goes on too
            assert_same(second.begins_with[2], first.begins_with[2])
        assert run.history["epochs"]["val_loss"] == FALLING
        assert run.history["best_epoch"] == 5
        assert_same(run.load().get_weights(), second.ends_with[4])
        assert not list(run.stem.parent.glob("*.partial"))

    def test_cut_off_in_its_first_epoch_it_begins_again(self, store):
        for moment in ("the middle of the epoch", "between log and backup"):
            assert train(store, FALLING, FIVE, cut_off=0, moment=moment)[0] is None
        run, script = train(store, FALLING, FIVE)
        assert script.begun == [0, 1, 2, 3, 4]
        assert run.history["epochs"]["val_loss"] == FALLING

    @pytest.mark.parametrize("stopped_at", [1, 3])
    @pytest.mark.parametrize("damage", ["latest.weights.h5", "training_metadata.json"])
    def test_half_a_backup_is_passed_over(self, store, stopped_at, damage):
        _, first = train(
            store, FALLING, FIVE, cut_off=stopped_at, moment="before the checkpoint"
        )
        (backup,) = store.folder.glob("*.partial/backup")
        content = (backup / damage).read_bytes()
        (backup / damage).write_bytes(content[: len(content) // 2])
        run, second = train(store, FALLING, FIVE)
        begun = max(0, stopped_at - 1)  # from the backup before it, or anew
        assert second.begun == list(range(begun, 5))
        assert_same(second.begins_with[begun], first.begins_with[begun])
        assert run.history["epochs"]["val_loss"] == FALLING

    def test_half_a_line_of_the_log_is_passed_over(self, store):
        train(store, FALLING, FIVE, cut_off=2, moment="before the checkpoint")
        (log,) = store.folder.glob("*.partial/log.csv")
        with open(log, "a") as file:
            file.write("2,0.12")
        run, _ = train(store, FALLING, FIVE)
        assert run.history["epochs"]["val_loss"] == FALLING
        assert np.isfinite(pd.DataFrame(run.history["epochs"])).all(axis=None)

    def test_early_stopping_keeps_the_best_before_a_cut(self, store):
        rising = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
        settings = tiny.Settings(epochs=7, patience=2)
        run, script = train(store, rising, settings)
        assert script.begun == [0, 1, 2]  # it stops
        run.path(".json").unlink()
        _, first = train(store, rising, settings, cut_off=1)
        run, second = train(store, rising, settings)
        assert run.history["best_epoch"] == 1
        assert run.history["epochs"]["val_loss"] == rising[: 1 + second.begun[-1]]
        assert_same(run.load().get_weights(), first.ends_with[0])


class TestPlaces:
    def test_tensorboards_folder_names_data_notebook_run_and_time(
        self, trained, face_store, data, monkeypatch
    ):
        (folder,) = (face_store.logs / f"runs/sample-{data.digest}/faces").iterdir()
        assert folder.name.startswith("mtl_20") and len(folder.name) == 21
        monkeypatch.setattr(boards, "LOGS", face_store.logs)
        shipped = labels.LOGS / "utkface"
        assert boards.find_logs(trained, shipped) == folder
        newer = folder.with_name("mtl_2999-01-01_000000")
        newer.mkdir()
        (folder.parent / "mtl_seed2_2999-01-01_000001/validation").mkdir(parents=True)
        assert boards.find_logs(trained, shipped) == folder  # no epoch has ended
        (newer / "validation").mkdir()
        assert boards.find_logs(trained, shipped) == newer
        (newer / "validation").rmdir()
        newer.rmdir()
        others = runs.Run("mtl", labels.MODELS / "utkface/faces/mtl", {})
        assert boards.find_logs(others, shipped) == shipped

    def test_curves_and_graph_are_in_tensorboards_files(self, trained, face_store):
        (folder,) = face_store.logs.glob("runs/*/faces/mtl_20*")
        found, epochs = boards.read_curves(folder), trained.history["epochs"]
        for key in ("loss", "age_mae", "gender_accuracy", "ethnicity_accuracy"):
            for side in (key, f"val_{key}"):
                assert found[side] == pytest.approx(epochs[side], abs=1e-4)
        accumulator = event_accumulator.EventAccumulator(str(folder))
        nodes = {node.name for node in accumulator.Reload().Graph().node}
        assert {"image", *labels.LABELS} <= nodes

    def test_curves_of_a_training_that_went_on_begin_where_it_did(self, tmp_path):
        for side in ("train", "validation"):
            with tf.summary.create_file_writer(str(tmp_path / side)).as_default():
                tf.summary.scalar("epoch_loss", 2.5, step=2)
        found = boards.read_curves(tmp_path)
        for key in ("loss", "val_loss"):
            assert found[key] == pytest.approx([np.nan, np.nan, 2.5], nan_ok=True)


class TestColab:
    """Where Colab runs a notebook, ``google.colab`` is loaded before it."""

    @pytest.fixture
    def drive(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "google.colab", object())
        monkeypatch.setattr(places, "DRIVE", tmp_path / "MyDrive")
        return tmp_path / "MyDrive"

    def test_a_mounted_drive_keeps_what_is_trained(self, drive, store, tmp_path):
        drive.mkdir()
        again = dataclasses.replace(store)
        run, _ = train(again, FALLING, FIVE)
        kept = drive / "faces/model" / run.stem.relative_to(tmp_path / "model/runs")
        assert kept.with_suffix(".keras").is_file() and list(drive.glob("faces/logs/*"))
        shutil.rmtree(tmp_path / "model")  # the machine is gone, the Drive is there
        shutil.rmtree(tmp_path / "logs")
        assert not train(dataclasses.replace(store), FALLING, FIVE)[1].begun

    def test_without_one_it_is_offered(self, drive, store, capsys):
        dataclasses.replace(store)
        assert "from google.colab import drive" in capsys.readouterr().out

    def test_elsewhere_nothing_is_said(self, store, capsys):
        dataclasses.replace(store)
        assert not capsys.readouterr().out and not store.models.exists()


def test_the_time_left_is_told_where_it_is_long(store, monkeypatch, capsys):
    ticks = iter(range(0, 10_000, 20))  # seconds: an epoch takes some of them
    monkeypatch.setattr(places.time, "perf_counter", lambda: next(ticks))
    run, _ = train(store, FALLING, FIVE)
    told = [line for line in capsys.readouterr().out.splitlines() if " left" in line]
    seconds = run.history["epochs"]["seconds"]
    assert len(told) == 4 and min(seconds) >= 20
    assert told[-1].startswith(machine.duration(seconds[-2]))


CHILD = """
import pathlib, sys
import keras, pandas as pd
import tiny
from facekit import dataset, runs

folder = pathlib.Path(sys.argv[1])
nothing = pd.DataFrame({"img_name": [], "split": []})
data = dataset.Dataset(nothing, folder, nothing, "own", "0a1b2c")
store = runs.Store("study", data, models=folder / "model", logs=folder / "logs")
losses = [float(100 - epoch) for epoch in range(60)]
fit, script = tiny.fit_scripted(losses)
begin = script.on_epoch_begin

def note(epoch, logs=None):
    begin(epoch, logs)
    print(epoch, flush=True)

script.on_epoch_begin = note
store.fit_or_load("sum", tiny.Settings(epochs=60), tiny.build_sum, fit)
"""


@pytest.mark.parametrize(
    "kills", [3, pytest.param(50, marks=pytest.mark.stress)], ids=["3", "50"]
)
def test_killed_at_random_moments_no_finished_epoch_is_lost(store, tmp_path, kills):
    paths = os.pathsep.join([str(labels.ROOT), str(labels.ROOT / "tests")])
    options = {"env": {**os.environ, "PYTHONPATH": paths}, "text": True}
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    random, settings = np.random.default_rng(kills), tiny.Settings(epochs=60)
    seen = 0  # epochs of which the log had a row when the last process was killed
    for _ in range(kills):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, **options)
        lines = (line for line in child.stdout if line.strip().isdigit())
        first = int(next(lines, 60))  # it begins this epoch
        assert first >= seen - 1
        time.sleep(random.uniform(0, 0.3))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        for log in store.folder.glob("sum-*.partial/log.csv"):
            whole = log.read_bytes().split(b"\n")[1:-1]
            seen = len({row.partition(b",")[0] for row in whole})
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)
    history = store.find("sum", settings).history
    expected = [float(100 - epoch) for epoch in range(60)]
    assert history["epochs"]["val_loss"] == expected
    assert history["best_epoch"] == 60
    names = {path.name for path in store.folder.iterdir()}
    assert not [name for name in names if "partial" in name or name.startswith(".1")]
