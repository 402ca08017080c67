"""``age_subclassed.ipynb``: its class, its training loop, the runs shipped with it."""

import dataclasses
import json

import keras
import nbformat
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tiny
from notebook_cells import ROOT, load_definitions

from facekit import batches, colour, labels, measure, predictions, runs

PATH = "notebooks/age_subclassed.ipynb"
SHIPPED = labels.MODELS / "utkface/age_subclassed"
PARAMETERS = {"age_subclassed": 1_473_681, "age_linear": 1_473_681}
PARAMETERS |= {"age_classes": 1_503_493, "age_informed": 1_473_937}
STARTS = ("start_mean", "start_zero", "start_linear", "start_softplus")
PARAMETERS |= dict.fromkeys(STARTS, 588_945)
SIZES = {"val": 3_805, "test": 4_732}
TINY = {"size": 32, "filters": (2, 2), "units": 4, "dropout": 0.0, "batch_size": 16}
TINY |= {"share": 1 / 6, "epochs": 2, "warmup_epochs": 1}
# Who interrupts a training leaves its log open.
UNCLOSED = "ignore::pytest.PytestUnraisableExceptionWarning"


@pytest.fixture
def notebook(data_folder):
    """The notebook's definitions, on 300 synthetic faces."""
    module = load_definitions(PATH)
    module.data, _ = colour.find_pictures("folder", data_folder)
    module.train = module.data.rows("train")
    module.selection = module.data.rows("val").head(16)
    return module


@pytest.fixture
def store(notebook, tmp_path):
    """A store for trainings on those faces."""
    place = {"models": tmp_path / "model", "logs": tmp_path / "logs"}
    return runs.Store("age_subclassed", notebook.data, **place)


@pytest.fixture
def asked_for(notebook, monkeypatch):
    """Settings of all runs, by name, as the notebook's own cell makes them."""
    asked = {}

    def note(store, name, settings, build, fit, export=None):
        asked[name] = settings
        return runs.Run(name, SHIPPED / name, {})

    monkeypatch.setattr(runs.Store, "fit_or_load", note)
    notebook.RELU = notebook.Settings(seed=notebook.SEED)
    history = json.loads((SHIPPED / "start_mean.json").read_text())
    mean = history["settings"]["start_age"]
    notebook.sets = {"training": pd.DataFrame({"age": [mean]})}
    for cell in nbformat.read(ROOT / PATH, as_version=4).cells:
        if cell.source.startswith(("NETWORKS =", "mean =")):
            exec(cell.source, vars(notebook))
    return asked


@pytest.fixture(scope="module")
def shipped_store(make_shipped_store):
    return make_shipped_store("age_subclassed")


def pictures(size, count=3):
    return np.random.default_rng(1).random((count, size, size, 3), "float32")


def train(notebook, store, name="age_subclassed", **changed):
    settings = notebook.Settings(**(TINY | changed))
    how = notebook.build, notebook.fit, notebook.as_functional
    return store.fit_or_load(name, settings, *how)


class TestTheClass:
    def test_parameters_are_those_of_the_shipped_runs(self, notebook, asked_for):
        for name, settings in asked_for.items():
            history = json.loads((SHIPPED / f"{name}.json").read_text())
            count = notebook.build(settings).count_params()
            assert count == history["parameters"] == PARAMETERS[name]

    def test_it_takes_the_shipped_weights(self, notebook):
        model = notebook.build(notebook.Settings())
        notebook.as_functional(model).load_weights(SHIPPED / "age_subclassed.keras")
        path = SHIPPED / "age_subclassed.keras"
        shipped = keras.saving.load_model(path, compile=False, safe_mode=True)
        answers = shipped.predict(pictures(100), verbose=0)["age"]
        np.testing.assert_allclose(model(pictures(100))["age"], answers, rtol=1e-4)

    def test_sizes_of_all_feature_maps(self, notebook):
        functional = notebook.as_functional(notebook.build(notebook.Settings()))
        sizes = {layer.name: layer.output.shape[1:] for layer in functional.layers}
        side = 100
        for block, filters in enumerate((16, 32, 64, 128), start=1):
            for name in (f"conv{block}a", f"conv{block}b"):
                assert sizes[name] == (side, side, filters)
            side //= 2
            assert sizes[f"pool{block}"] == (side, side, filters)
        assert sizes["flatten"] == (6 * 6 * 128,)
        assert (sizes["dense"], sizes["answer"]) == ((256,), (1,))

    def test_relu_is_never_below_zero_and_linear_may_be(self, notebook):
        for answer, lowest in (("relu", 0), ("linear", -100)):
            model = notebook.build(notebook.Settings(**TINY, answer=answer))
            assert (
                np.abs(model(pictures(32))["age"] - 30) < 25
            ).all()  # years, untrained
            kernel, bias = model.answer.weights
            kernel.assign(0 * kernel)
            bias.assign([-1.0])
            assert (model(pictures(32))["age"].numpy() == lowest).all()

    def test_an_answer_by_classes_is_the_expected_age(self, notebook):
        answers = notebook.build(notebook.Settings(**TINY, answer="classes"))(
            pictures(32)
        )
        shares = answers["age_classes"].numpy()
        assert shares.shape == (3, 117)
        expected = shares @ labels.AGES[:, None]
        np.testing.assert_allclose(answers["age"], expected, rtol=1e-5)

    def test_every_output_starts_at_the_age_that_is_asked_for(self, notebook):
        for answer in ("relu", "linear", "softplus"):
            for age in (10.0, 33.0):
                chosen = notebook.Settings(**TINY, answer=answer, start_age=age)
                model = notebook.build(chosen)
                kernel, _ = model.answer.weights
                kernel.assign(0 * kernel)
                found = model(pictures(32))["age"].numpy()
                np.testing.assert_allclose(found, age, rtol=1e-5)

    def test_softplus_is_never_zero_and_has_a_gradient_everywhere(self, notebook):
        model = notebook.build(notebook.Settings(**TINY, answer="softplus"))
        kernel, bias = model.answer.weights
        kernel.assign(0 * kernel)
        bias.assign([-3.0])
        with tf.GradientTape() as tape:
            age = model(pictures(32))["age"]
        assert (age.numpy() > 0).all()
        assert float(tape.gradient(age, bias)[0]) > 0

    def test_a_told_gender_changes_the_answer(self, notebook):
        model = notebook.build(notebook.Settings(**TINY, informed=True))
        told = (np.full((3, 1), label, "float32") for label in (0, 1))
        first, second = (model([pictures(32), gender])["age"] for gender in told)
        assert not np.allclose(first, second)

    def test_batches_with_the_gender(self, notebook):
        rows = notebook.train.head(5)
        plain, informed = (
            notebook.link(rows, notebook.Settings(**TINY, informed=told))[0]
            for told in (False, True)
        )
        (images, gender), named = informed
        np.testing.assert_array_equal(images, plain[0])
        np.testing.assert_array_equal(gender[:, 0], rows["gender"])
        assert set(named) == set(labels.LABELS)


class TestTheLoop:
    def test_losses_by_hand(self, notebook):
        ages = tf.constant([30.0, 50.0])
        answers = {"age": tf.constant([[33.0], [45.0]])}
        loss, error = notebook.age_loss(answers, ages)
        assert (float(loss), float(error)) == (pytest.approx(0.04), 4)
        shares = np.full((2, 117), 0.1 / 116, "float32")
        shares[[0, 1], [30, 50]] = 0.9
        loss, _ = notebook.age_loss(answers | {"age_classes": shares}, ages)
        assert float(loss) == pytest.approx(-np.log(0.9), abs=1e-4)

    def test_an_epoch_counts_every_picture_alike(self, notebook):
        flow = notebook.link(notebook.train.head(20), notebook.Settings(**TINY))
        assert [len(flow[number][0]) for number in range(len(flow))] == [16, 4]
        mean = notebook.run_epoch(lambda _, ages: [tf.reduce_mean(ages)] * 2, flow)
        assert mean["age_mae"] == pytest.approx(notebook.train["age"].head(20).mean())

    def test_two_epochs_on_synthetic_faces(self, notebook, store, tmp_path):
        run = train(notebook, store)
        epochs = run.history["epochs"]
        assert set(epochs) == {"loss", "age_mae", "val_loss", "val_age_mae", "seconds"}
        assert {len(values) for values in epochs.values()} == {2}
        for part in ("", "val_"):
            errors = np.array(epochs[f"{part}age_mae"])
            np.testing.assert_allclose(epochs[f"{part}loss"], errors / 100, atol=1e-5)
        assert run.history["images"] == 32
        logs = tmp_path.glob("logs/runs/*/age_subclassed/*/train/events*")
        assert len(list(logs)) == 1
        model = keras.saving.load_model(run.path(".keras"), safe_mode=True)
        assert type(model).__name__ == "Functional"  # no code of ours is needed
        found = notebook.predict_set(run, notebook.data.rows("test"), "test")
        assert found["age_predicted"].notna().all()
        best = run.history["best_epoch"] - 1
        flow = notebook.link(notebook.selection, notebook.Settings(**TINY))
        error = notebook.run_epoch(
            lambda given, ages: notebook.age_loss(model(given), ages), flow
        )
        assert error["age_mae"] == pytest.approx(epochs["val_age_mae"][best], abs=0.3)

    @pytest.mark.filterwarnings(UNCLOSED)
    def test_it_goes_on_where_it_was_cut_off(self, notebook, store, monkeypatch):
        whole, begun, weights = notebook.run_epoch, [], []
        settings = notebook.Settings(**TINY, answer="linear")

        def until_the_second(step, delivered):
            if len(begun) == 2:  # training and validation of the first epoch
                raise KeyboardInterrupt
            begun.append(step)
            return whole(step, delivered)

        def note(model, *arguments):
            weights.append(model)
            return keep(model, *arguments)

        keep = notebook.train_by_hand
        monkeypatch.setattr(notebook, "train_by_hand", note)
        monkeypatch.setattr(notebook, "run_epoch", until_the_second)
        with pytest.raises(KeyboardInterrupt):
            train(notebook, store, "age_linear", answer="linear")
        (log,) = store.folder.glob("age_linear-*.partial/log.csv")
        first = pd.read_csv(log)
        assert first["epoch"].tolist() == [0]
        steps = weights[0].optimizer.iterations.numpy()

        monkeypatch.setattr(notebook, "run_epoch", whole)
        run = train(notebook, store, "age_linear", answer="linear")
        epochs = run.history["epochs"]
        assert len(epochs["loss"]) == settings.epochs
        assert epochs["loss"][0] == pytest.approx(first["loss"][0], abs=1e-5)
        assert weights[1].optimizer.iterations.numpy() == 2 * steps
        assert not list(store.folder.glob("*.partial"))

    def test_a_training_that_diverges_ends(self, notebook, store, monkeypatch):
        asked = []

        def nothing(step, delivered):
            asked.append(step)
            return {"loss": np.nan, "age_mae": np.nan}

        monkeypatch.setattr(notebook, "run_epoch", nothing)
        with pytest.raises(ValueError, match="diverged in its first epoch"):
            train(notebook, store, epochs=5)
        assert len(asked) == 2

    def test_the_informed_network_takes_labels_and_guesses(self, notebook, store):
        run = train(notebook, store, "age_informed", informed=True, epochs=1)
        rows = notebook.data.rows("test")
        labelled = notebook.predict_set(run, rows, "test")
        genders = 1.0 * rows["gender"], 1.0 - rows["gender"]
        told = [rows.assign(gender=part) for part in genders]
        same = notebook.predict_set(run, told[0], "a")
        other = notebook.predict_set(run, told[1], "b")
        key = "age_predicted"
        np.testing.assert_array_equal(labelled[key], same[key])
        assert not np.array_equal(labelled[key], other[key])
        assert run.path("_b.npz").exists()
        flow = batches.flow(rows.head(4), notebook.data.folder, (32, 32, 3))
        given, _ = notebook.WithGender(flow, mirrored=True)[0]
        np.testing.assert_array_equal(given[0], flow[0][0][:, :, ::-1])


class TestShipped:
    def test_every_run_is_found_by_the_notebooks_settings(
        self, asked_for, shipped_store
    ):
        assert tiny.missing(shipped_store, asked_for) == []
        names = {path.stem for path in SHIPPED.glob("*.json")} - {"results"}
        assert names == set(asked_for) == set(PARAMETERS)

    def test_networks_differ_from_the_first_in_one_thing(self, asked_for):
        told = {name: dataclasses.asdict(one) for name, one in asked_for.items()}
        for base in ("age_subclassed", "start_mean"):
            first = told[base]
            for name, other in told.items():
                if name != base and name.startswith("age") == base.startswith("age"):
                    assert sum(other[key] != first[key] for key in first) == 1
        changed = {"size", "start_age"}
        first, study = told["age_subclassed"], told["start_mean"]
        assert {key for key in first if first[key] != study[key]} == changed

    def test_histories_are_whole(self, asked_for):
        for name, settings in asked_for.items():
            history = json.loads((SHIPPED / f"{name}.json").read_text())
            assert (history["name"], history["images"]) == (name, 5_055)
            epochs = history["epochs"]
            assert {len(values) for values in epochs.values()} == {settings.epochs}
            assert history["best_epoch"] == 1 + int(np.argmin(epochs["val_loss"]))
            assert history["seconds"] == round(sum(epochs["seconds"]), 1)

    def test_predictions_cover_their_sets(self):
        paths = list(SHIPPED.glob("*.npz"))
        assert len(paths) == 11 + len(STARTS)  # softplus was tested too
        for path in paths:
            with np.load(path, allow_pickle=False) as file:
                values = pd.DataFrame(file["values"], columns=measure.PREDICTED)
            (key,) = (key for key in SIZES if f"_{key}" in path.stem)
            assert len(values) == SIZES[key]
            filled = values.notna().all()
            assert filled[filled].index.tolist() == ["age_predicted"]

    def test_guesses_are_those_of_the_shipped_network(self):
        shipped = labels.MODELS / "utkface/gender_recognition/gender_improved.json"
        who = labels.digest(json.loads(shipped.read_text())["date"])
        for key in SIZES:
            assert (SHIPPED / f"age_informed_{key}_guessed-{who}.npz").exists()

    def test_relu_answers_zero_and_linear_below_zero(self):
        """What the notebook counts on UTKFace's validation pictures."""
        found = {}
        for name in ("age_subclassed", "age_linear", "age_classes"):
            with np.load(SHIPPED / f"{name}_val.npz", allow_pickle=False) as file:
                column = measure.PREDICTED.index("age_predicted")
                ages = file["values"][:, column]
            found[name] = int((ages == 0).sum()), int((ages < 0).sum())
        expected = {"age_subclassed": (347, 0), "age_linear": (0, 64)}
        assert found == expected | {"age_classes": (0, 0)}


def test_rows_are_those_of_the_shipped_predictions():
    """Pictures are not shipped: this needs UTKFace in ``data``."""
    known, rows = labels.read_split_table(), []
    for path in sorted((labels.DATA / "UTKFace").rglob("[!.]*.jpg*")):
        if parts := colour.UTKFACE_NAME.match(path.name):
            hashed = labels.hash_name(f"{parts[4]}.jpg.chip.jpg")
            name = path.relative_to(labels.DATA / "UTKFace").as_posix()
            rows.append((name, int(parts[1]), int(parts[2]), known.get(hashed)))
    table = pd.DataFrame(rows, columns=["img_name", "age", "gender", "split"]).dropna()
    if len(table) != 23_703:
        return
    table = table.sort_values("img_name", ignore_index=True).assign(ethnicity=np.nan)
    results = json.loads((SHIPPED / "results.json").read_text())["results"]
    assert len(results) == 12
    for row in results:
        ending = "*" * ("guessed" in row["split"])
        (path,) = SHIPPED.glob(f"{row['model']}_{row['split']}{ending}.npz")
        part = table[table["split"] == row["split"].partition("_")[0]]
        found = predictions._load(path, part)
        for metric, value in measure.evaluate(found).items():
            assert row[metric] == pytest.approx(value, abs=1e-4), (path.name, metric)
