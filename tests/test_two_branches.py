"""``two_branches.ipynb``: its two models, its subset, the runs shipped with it."""

import dataclasses
import json

import keras
import nbformat
import numpy as np
import pandas as pd
import pytest
import tiny
from notebook_cells import ROOT, load_definitions
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from facekit import colour, labels, measure, predictions, runs

PATH = "notebooks/two_branches.ipynb"
SHIPPED = labels.MODELS / "utkface/two_branches"
SIZES = {"val": 1_000, "test": 4_732, "val_unseen": 2_805}
SEEDS = ("age_gender_A", "age_gender_A_seed2", "age_gender_A_seed3")
TINY = {"size": 32, "filters": (2, 2, 2, 2, 2, 2), "units": (4, 4), "batch_size": 16}
TINY |= {"train_images": 32, "val_images": 16, "epochs": 2, "warmup_epochs": 1}


@pytest.fixture
def notebook(data_folder):
    """The notebook's definitions, on 300 synthetic faces."""
    module = load_definitions(PATH)
    module.data, _ = colour.find_pictures("folder", data_folder)
    module.test_generator = ImageDataGenerator(rescale=1 / 255)
    return module


@pytest.fixture
def asked_for(notebook, monkeypatch):
    """Settings of all runs, by name, as the notebook's own cells make them."""
    asked = {}

    def note(store, name, settings, build, fit, export=None):
        asked[name] = settings
        return runs.Run(name, SHIPPED / name, {})

    monkeypatch.setattr(runs.Store, "fit_or_load", note)
    settings = notebook.Settings(seed=notebook.SEED, subset_seed=notebook.SEED)
    vars(notebook).update(short=False, TRY={}, MODEL_A=settings)
    notebook.store = runs.Store("two_branches", notebook.data)
    for cell in nbformat.read(ROOT / PATH, as_version=4).cells:
        if cell.source.startswith(
            ("TRIAL_1 =", "models = {}", "def build_shared_trunk")
        ):
            exec(cell.source, vars(notebook))
    return asked


@pytest.fixture(scope="module")
def shipped_store(make_shipped_store):
    return make_shipped_store("two_branches")


def pictures(size, count=3):
    return np.random.default_rng(1).random((count, size, size, 3), "float32")


def assert_same_answers(first, second, size):
    one, two = (model.predict(pictures(size), verbose=0) for model in (first, second))
    assert set(one) == set(two) == {"age", "gender"}
    for task in one:
        np.testing.assert_allclose(one[task], two[task], rtol=1e-5, atol=1e-6)


class TestModels:
    def test_model_a_has_the_shipped_weights(self, notebook):
        model = notebook.build_model_a(notebook.Settings())
        history = json.loads((SHIPPED / "age_gender_A.json").read_text())
        assert model.count_params() == history["parameters"] == 2_381_106
        model.load_weights(SHIPPED / "age_gender_A.keras")
        for ending in (".keras", ".h5"):
            path = SHIPPED / f"age_gender_A{ending}"
            shipped = keras.saving.load_model(path, compile=False)
            assert_same_answers(model, shipped, 128)

    def test_model_a_is_what_the_assignment_describes(self, notebook):
        model = notebook.build_model_a(notebook.Settings())
        shared = "Conv2D Conv2D MaxPooling2D BatchNormalization Conv2D MaxPooling2D"
        half = "Conv2D MaxPooling2D BatchNormalization"
        branch = f"{half} {half} Conv2D Flatten Dense Dropout Dense Dropout Dense"
        for part, kinds in {"shared": shared, "age": branch, "gender": branch}.items():
            found = [type(x).__name__ for x in model.layers if x.name.startswith(part)]
            assert " ".join(found) == kinds
        assert model.input_shape == (None, 128, 128, 3)

    def test_the_shared_trunk_parts_after_a_dense_layer(self, notebook, asked_for):
        settings = asked_for["shared_trunk"]
        model = notebook.build_shared_trunk(settings)
        names = [layer.name for layer in model.layers if layer.count_params()]
        shared = [name for name in names if name.startswith("shared")]
        assert names[: len(shared)] == shared and shared[-1] == "shared_dense"
        assert {name.partition("_")[0] for name in names[len(shared) :]} == {
            "age",
            "gender",
        }
        assert not any("conv" in name for name in names[len(shared) :])
        assert model.input_shape == (None, 128, 128, 3)
        first = notebook.build_model_a(notebook.Settings())
        assert model.count_params() == pytest.approx(first.count_params(), rel=0.1)

    def test_the_shared_trunk_trains_as_model_a_did(self, asked_for):
        early, late = (
            dataclasses.asdict(asked_for[name])
            for name in ("branches_trial5", "shared_trunk")
        )
        apart = {key for key in early if early[key] != late[key]}
        assert apart == {"filters", "convolutions", "shared_units", "units"}

    def test_model_b_waits_for_imagenets_weights(self, notebook, offline, tmp_path):
        vars(notebook).update(IMAGENET=str(tmp_path), WEIGHTS="not_there.h5")
        assert notebook.load_resnet50(notebook.Settings(size=32)) is None

    def test_model_b_trains_all_of_resnet50(self, notebook, tmp_path):
        untrained = keras.applications.ResNet50(include_top=False, weights=None)
        untrained.save(tmp_path / "resnet50.h5")
        vars(notebook).update(IMAGENET=str(tmp_path), WEIGHTS="resnet50.h5")
        model = notebook.build_model_b(notebook.Settings(filters=None, size=32))
        assert set(model.output_names) == {"age", "gender"}
        trained = sum(np.prod(w.shape) for w in model.trainable_weights)
        assert trained > sum(np.prod(w.shape) for w in untrained.trainable_weights)
        assert model.predict(pictures(32), verbose=0)["gender"].shape == (3, 1)


class TestTraining:
    def test_two_epochs_on_synthetic_faces(self, notebook, tmp_path, capsys):
        settings = notebook.Settings(**TINY)
        place = {"models": tmp_path / "model", "logs": tmp_path / "logs"}
        store = runs.Store("two_branches", notebook.data, **place)
        build, fit = notebook.build_model_a, notebook.fit
        run = store.fit_or_load("age_gender_A", settings, build, fit)
        epochs = run.history["epochs"]
        assert run.history["images"] == 32
        assert {len(values) for values in epochs.values()} == {2}
        for key in ("loss", "age_loss", "age_mae", "gender_loss", "gender_accuracy"):
            assert np.isfinite(epochs[key] + epochs[f"val_{key}"]).all()
        sums = 0.1 * np.array(epochs["age_loss"]) + epochs["gender_loss"]
        np.testing.assert_allclose(epochs["loss"], sums, rtol=1e-3)
        assert store.fit_or_load("age_gender_A", settings, None, None).history
        logs = tmp_path.glob("logs/runs/*/two_branches/*/train/events*")
        assert len(list(logs)) == 1
        capsys.readouterr()
        notebook.save_h5(run)  # as the assignment asks
        again = keras.saving.load_model(run.path(".h5"), compile=False)
        assert_same_answers(again, run.load(), 32)
        rows = notebook.data.rows("test")
        found = notebook.predict_set(run, rows, "test", look="a test")
        assert found[["age_predicted", "gender_probability"]].notna().all(axis=None)
        assert run.stem.with_name("test_looks.csv").exists()
        assert "Error" not in capsys.readouterr().err

    def test_the_subset_is_the_same_for_every_seed(self, notebook):
        for split, count in (("train", 32), ("val", 16)):
            drawn = [
                notebook.draw(notebook.Settings(**TINY, seed=seed), split)
                for seed in (1, 2)
            ]
            pd.testing.assert_frame_equal(*drawn)
            assert len(drawn[0]) == count and set(drawn[0]["split"]) == {split}
            assert drawn[0].index.is_monotonic_increasing
            other = notebook.draw(notebook.Settings(**TINY, subset_seed=2), split)
            assert set(other.index) != set(drawn[0].index)

    def test_a_small_set_is_taken_whole(self, notebook):
        rows = notebook.draw(notebook.Settings(), "val")
        assert len(rows) == len(notebook.data.rows("val"))


class TestShipped:
    def test_every_run_is_found_by_the_notebooks_settings(
        self, asked_for, shipped_store
    ):
        assert tiny.missing(shipped_store, asked_for) == []
        names = {path.stem for path in SHIPPED.glob("*.json")} - {"results"}
        assert names - {"age_gender_B"} == set(asked_for)

    def test_trials_change_one_thing(self, asked_for):
        first = dataclasses.asdict(asked_for.pop("branches_trial1"))
        for name, settings in asked_for.items():
            if "trial" in name:
                now = dataclasses.asdict(settings)
                assert sum(now[key] != first[key] for key in first) == 1

    def test_histories_are_whole(self, asked_for):
        for name, settings in asked_for.items():
            history = json.loads((SHIPPED / f"{name}.json").read_text())
            assert (history["name"], history["images"]) == (name, 4_000)
            epochs = history["epochs"]
            assert {len(values) for values in epochs.values()} == {settings.epochs}
            assert history["best_epoch"] == 1 + int(np.argmin(epochs["val_loss"]))
            assert history["seconds"] == round(sum(epochs["seconds"]), 1)

    def test_predictions_cover_their_sets(self):
        for path in SHIPPED.glob("*.npz"):
            key = "val_unseen" if "unseen" in path.stem else path.stem.split("_")[-1]
            with np.load(path, allow_pickle=False) as file:
                values = pd.DataFrame(file["values"], columns=measure.PREDICTED)
            assert len(values) == SIZES[key]
            filled = values.notna().all()
            assert filled[filled].index.tolist() == [
                "age_predicted",
                "gender_probability",
            ]

    def test_every_look_at_the_test_set_is_logged(self):
        looks = pd.read_csv(SHIPPED / "test_looks.csv")
        results = json.loads((SHIPPED / "results.json").read_text())["results"]
        for row in (row for row in results if row["split"] == "test"):
            own = looks[looks["training"] == row["model"]]
            assert row["age_mae"] == pytest.approx(own["age_mae"].iloc[-1], abs=1e-4)


@pytest.fixture(scope="module")
def utkface_rows():
    """Rows of UTKFace's colour pictures by set, read off their names; or nothing."""
    known, rows = labels.read_split_table(), []
    for path in sorted((labels.DATA / "UTKFace").rglob("[!.]*.jpg*")):
        if parts := colour.UTKFACE_NAME.match(path.name):
            hashed = labels.hash_name(f"{parts[4]}.jpg.chip.jpg")
            name = path.relative_to(labels.DATA / "UTKFace").as_posix()
            rows.append((name, int(parts[1]), int(parts[2]), known.get(hashed)))
    columns = ["img_name", "age", "gender", "split"]
    table = pd.DataFrame(rows, columns=columns).dropna()
    return table.sort_values("img_name", ignore_index=True)


def test_rows_are_those_of_the_shipped_predictions(notebook, utkface_rows):
    """Pictures are not shipped: this needs UTKFace in ``data``."""
    if len(utkface_rows) != 23_703:
        return
    results = json.loads((SHIPPED / "results.json").read_text())["results"]
    rows_of = dict(tuple(utkface_rows.assign(ethnicity=np.nan).groupby("split")))
    rows_of["val"] = rows_of["val"].sample(1_000, random_state=1).sort_index()
    assert {row["model"] for row in results} >= set(SEEDS)
    for row in results:
        path = SHIPPED / f"{row['model']}_{row['split']}.npz"
        found = predictions._load(path, rows_of[row["split"]])
        for metric, value in measure.evaluate(found).items():
            assert row[metric] == pytest.approx(value, abs=1e-4), (path.name, metric)
