"""The lab on a GPU (`benchmarks/breadth.py`) trains as the notebook does in Keras."""

import dataclasses
import importlib.util
import json
import sys

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tiny
from notebook_cells import load_definitions

from facekit import batches, labels, predictions

SCRIPT = labels.ROOT / "benchmarks" / "breadth.py"
SHAPE = {"filters": (4, 4, 8, 8), "convolutions": (1, 1, 1, 1), "batch_size": 8}


@pytest.fixture(scope="module")
def breadth():
    spec = importlib.util.spec_from_file_location("breadth", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def notebook():
    module = load_definitions("assignment_2.ipynb")
    module.METRICS = {"age": "mae", "gender": module.accuracy, "ethnicity": "accuracy"}
    module.LOSSES = {"age": "mae", "gender": "binary_crossentropy"}
    module.LOSSES["ethnicity"] = "categorical_crossentropy"
    return module


def parameters(model):
    """The weights of a Keras network as the script keeps them."""
    layers = [x for x in model.layers if x.weights and x.name != "age"]
    pairs = {
        x.name: zip(("kernel", "bias"), x.get_weights(), strict=True) for x in layers
    }
    return {name: {k: jnp.asarray(v) for k, v in two} for name, two in pairs.items()}


def test_a_picture_is_changed_as_keras_changes_it(breadth, sample):
    generator = keras.src.legacy.preprocessing.image.ImageDataGenerator(
        fill_mode="nearest", interpolation_order=3
    )
    random = np.random.default_rng(1)
    for image, found in zip(
        sample.images[:8], breadth.spline_coefficients(sample.images[:8]), strict=True
    ):
        theta, ty, tx = random.uniform([-20, -5, -5], [20, 5, 5])
        (zy, zx), flip = random.uniform(0.8, 1.2, 2), random.random() < 0.5
        how = {"theta": theta, "tx": tx, "ty": ty, "zx": zx, "zy": zy}
        how["flip_horizontal"] = flip
        wanted = generator.apply_transform(image[..., None].astype("float32"), how)
        made = breadth.transform(
            jnp.asarray(found), np.radians(theta), ty, tx, zy, zx, flip
        )
        np.testing.assert_allclose(made, wanted[..., 0], atol=0.02)


def test_augmented_pictures_keep_to_their_ranges(breadth, sample):
    h = {key: jnp.float32(value) for key, value in breadth.NUMBERS.items()}
    found = jnp.asarray(breadth.spline_coefficients(sample.images[:64]))
    images = np.asarray(breadth.augment(found, jax.random.key(1), h))
    assert images.min() >= 0 and images.max() <= 1 and images.std() > 0.1
    assert tiny.sharpness(images[..., None]) == pytest.approx(
        tiny.sharpness(sample.images[:64, ..., None] / 255.0), rel=0.2
    )
    erased = np.asarray(breadth.augment(found, jax.random.key(1), h | {"erasing": 1.0}))
    share = (erased != images).mean()
    assert 0.02 < share < 20 * 20 / 48**2


def test_labels_are_softened_as_in_the_notebook(breadth, sample):
    rows = sample.rows("train").head(5)
    told = {"age": [30.0] * 5, "gender": [0.9] * 5, "ethnicity": [[0.2] * 5] * 5}
    told = {key: jnp.asarray(value) for key, value in told.items()}
    given = {key: jnp.asarray(rows[key].to_numpy()) for key in labels.LABELS}
    h = {key: jnp.float32(value) for key, value in breadth.NUMBERS.items()}
    soft = breadth.soften(given, told, h | {"soft_labels": jnp.float32(0.3)})
    np.testing.assert_allclose(soft["age"], 0.7 * rows["age"] + 9, rtol=1e-5)
    np.testing.assert_allclose(soft["gender"], 0.7 * rows["gender"] + 0.27, rtol=1e-5)
    five = np.stack(predictions.soften(rows, share=0)["ethnicity"])
    np.testing.assert_allclose(soft["ethnicity"], 0.7 * five + 0.06, rtol=1e-5)
    spread = batches.age_distribution(soft["age"], 2.5)
    np.testing.assert_allclose(soft["age_distribution"], spread, atol=1e-5)


def test_answers_become_soft_labels(sample, tmp_path, monkeypatch):
    sys.path.insert(0, str(SCRIPT.parent))
    import breadth_data

    rows, random = sample.rows("train").head(30), np.random.default_rng(1)
    told = {"age": random.uniform(1, 90, 30), "gender": random.random(30)}
    told["ethnicity"] = random.dirichlet(np.ones(5), 30)
    np.savez(tmp_path / "answers.npz", **told)
    (tmp_path / "utkface").mkdir()
    kept = tmp_path / "utkface" / "soft_labels.npz"
    breadth_data.soften(tmp_path / "answers.npz", rows.head(30), kept)
    monkeypatch.setattr(predictions, "MODELS", tmp_path)
    found = predictions.soften(sample.rows("train").head(40), share=1)
    for key, values in told.items():
        made = np.stack(found[key])
        np.testing.assert_allclose(made[:30], values, rtol=2e-3, atol=1e-3)
    own = predictions.soften(sample.rows("train").iloc[30:40], share=0)
    assert found["age"].tolist()[30:] == own["age"].tolist()


def test_the_shipped_network_answers_as_it_was_trained(breadth, sample):
    path = labels.MODELS / "utkface/assignment_2/mtl.keras"
    model = keras.saving.load_model(path, compile=False)
    images = sample.images[:32]
    wanted = model.predict(images[..., None] / 255.0, verbose=0)
    shape = tuple((key, breadth.SHAPE[key]) for key in breadth.SHAPE)
    shape += (("block_dropout", False),)
    found = breadth.answer(
        breadth.see(parameters(model), jnp.asarray(images, jnp.float32), shape)
    )
    for task in labels.LABELS:
        made = np.asarray(found[task]).reshape(wanted[task].shape)
        np.testing.assert_allclose(made, wanted[task], rtol=1e-3, atol=1e-4)


def test_five_steps_move_the_weights_as_in_keras(breadth, notebook, sample):
    settings = dataclasses.replace(
        notebook.Settings(),
        filters=(8, 8, 32, 32),
        dropout=0,
        epochs=2,
        warmup_epochs=1,
    )
    model = notebook.build(settings)
    notebook.compile_model(model, settings, 3)
    rows = predictions.soften(sample.rows("train").head(32), share=0)
    images = sample.images[rows.index] / 255.0
    wanted = {key: np.stack(rows[key]) for key in labels.LABELS}
    wanted["age_distribution"] = batches.age_distribution(rows["age"], 2.5)
    names = ("rotation", "shift", "zoom", "contrast", "dropout", "learning_rate")
    names += ("weight_decay", "age_sigma", "age_weight", "distribution_weight")
    names += ("gender_weight", "ethnicity_weight")
    h = breadth.NUMBERS | {key: getattr(settings, key) for key in names}
    h = {key: jnp.float32(value) for key, value in h.items()}
    h |= {"warmup_steps": jnp.float32(3), "steps": jnp.float32(6)}
    shape = breadth.SHAPE | {"filters": settings.filters, "block_dropout": False}
    before = parameters(model)
    state = breadth.start(jax.random.key(1), shape)
    assert jax.tree.map(jnp.shape, state["params"]) == jax.tree.map(jnp.shape, before)
    state["params"] = before
    images, told = jnp.asarray(images, jnp.float32), jax.tree.map(jnp.asarray, wanted)

    def loss(params):
        logits = breadth.forward(params, images, shape, dtype=jnp.float32)
        return breadth.log_of(logits, told, h)

    @jax.jit
    def step(state, rate):
        gradients, made = jax.grad(loss, has_aux=True)(state["params"])
        decay = h["weight_decay"]
        return breadth.update(state, gradients, rate, decay, jnp.float32), made

    totals = dict.fromkeys(("age_mae", "gender_accuracy", "ethnicity_accuracy"), 0)
    for number in range(5):
        logged = model.train_on_batch(images[..., None], wanted, return_dict=True)
        state, made = step(state, breadth.rate_at(jnp.float32(number), h))
        for key in totals:  # Keras gives the mean of all steps
            totals[key] += float(made[key])
            assert totals[key] / (number + 1) == pytest.approx(logged[key], rel=0.02)
        if number == 0:
            for key in ("loss", "age_loss", "gender_loss", "ethnicity_loss"):
                assert float(made[key]) == pytest.approx(logged[key], rel=1e-3)
    after = parameters(model)
    for name, layer in after.items():
        for kind, wanted in layer.items():
            moved = np.abs(wanted - before[name][kind]).mean()
            apart = np.abs(wanted - state["params"][name][kind]).mean()
            assert apart < 0.05 * moved, (name, kind)


def test_the_lists_of_trials_are_well_formed(breadth):
    lists = json.loads(SCRIPT.with_suffix(".json").read_text())
    log = (labels.ROOT / "benchmarks/experiments.md").read_text(encoding="utf-8")
    for trials in lists:
        names = [trial["name"] for trial in trials]
        assert len(set(names)) == len(names)
        for place, trial in enumerate(trials):
            assert set(trial) <= {*breadth.BASE, "name", "merge"}
            if "answers" in trial:
                assert trial["answers"] in names[:place]
            for prefix in trial.get("merge", []):
                assert any(name.startswith(prefix) for name in names[:place])
    settings = json.loads(
        (labels.MODELS / "utkface/assignment_2/mtl.json").read_text(encoding="utf-8")
    )["settings"]
    (main,) = (trial for trial in lists[2] if trial["name"] == "c3_s1")
    for key, value in (breadth.BASE | main).items():
        if key in settings:
            assert settings[key] == (list(value) if key == "filters" else value), key
    assert "`c3`" in log


@pytest.mark.stress
def test_a_list_of_trials_from_data_to_results(breadth, sample, tmp_path, monkeypatch):
    rows = sample.table.head(60)
    packed = {f"{part}_images": sample.images[:60] for part in ("train", "val")}
    for part in ("train", "val"):
        packed |= {f"{part}_{key}": rows[key].to_numpy() for key in labels.LABELS}
    packed |= {"train_fold": np.arange(60) % 5, "val_select": np.arange(60) < 30}
    np.savez(tmp_path / "data.npz", **packed)
    small = SHAPE | {"epochs": 1, "warmup_epochs": 0}
    trials = [{"name": f"fold{number}", "fold": number, **small} for number in range(5)]
    trials += [{"name": "answers", "merge": ["fold"]}]
    own = {"soft_labels": 0.3, "answers": "answers", "watch": True}
    trials += [{"name": "student_s1", **small, **own, "epochs": 2}]
    (tmp_path / "breadth.json").write_text(json.dumps([trials]))
    monkeypatch.setattr(breadth, "__file__", str(tmp_path / "breadth.py"))
    breadth.main(tmp_path / "data.npz", 1, tmp_path / "out")
    lines = (tmp_path / "out/results.jsonl").read_text().splitlines()
    (*_, student) = map(json.loads, lines)
    assert len(lines) == 6 and student["best_epoch"] in (1, 2)
    assert 0 <= student["selection"]["ethnicity_accuracy"] <= 1
    with np.load(tmp_path / "out/answers_answers.npz") as file:
        np.testing.assert_allclose(file["ethnicity"].sum(1), 1, rtol=1e-4)
        np.testing.assert_allclose(file["age_distribution"].sum(1), 1, rtol=1e-4)
    with np.load(tmp_path / "out/student_s1.npz") as file:
        assert file["shared_conv1_1/kernel"].shape == (3, 3, 1, 4)
    histories = json.loads((tmp_path / "out/histories.json").read_text())
    assert len(histories["student_s1"]) == 2
    assert {"loss", "val_loss", "val_age_mae"} <= set(histories["student_s1"][0])
    with pytest.raises(ValueError, match=r"x: no settings \['epoch'\]"):
        breadth.Lab(tmp_path / "data.npz", tmp_path).run("x", {"epoch": 1})
