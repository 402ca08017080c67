"""``gender_recognition.ipynb``: its networks, and what is shipped of it."""

import dataclasses
import json

import numpy as np
import pytest
from notebook_cells import ROOT, load_definitions

from facekit import colour, measure, predictions, runs
from facekit.labels import DATA

SHIPPED = ROOT / "model" / "utkface" / "gender_recognition"
TRIALS = ("TRIAL", "DEEPER", "DROPOUT", "MILD", "MUON", "ELU", "WIDER")
NETWORKS = ("gender_baseline", "gender_improved", "gender_mtl_transfer")


@pytest.fixture(scope="module")
def notebook():
    """What the notebook defines."""
    return load_definitions("notebooks/gender_recognition.ipynb")


@pytest.fixture(scope="module")
def settings(notebook):
    """The settings of all runs, by the names of their files."""
    named = {"gender_baseline": notebook.BASELINE, "gender_improved": notebook.IMPROVED}
    for number, name in enumerate(TRIALS, start=1):
        named[f"gender_trial{number}"] = getattr(notebook, name)
    base = json.loads((ROOT / "model/utkface/assignment_2/mtl.json").read_text())
    named["gender_mtl_transfer"] = dataclasses.replace(
        notebook.HEAD,
        base="main network",
        base_digest=base["digest"],
        base_date=base["date"],
    )
    return named


def history(name):
    return json.loads((SHIPPED / f"{name}.json").read_text(encoding="utf-8"))


def test_the_baseline_is_the_figures(notebook):
    layers = notebook.build_baseline(notebook.BASELINE).layers[1:]
    assert [
        (type(layer).__name__, layer.output.shape[1:], layer.count_params())
        for layer in layers
    ] == [
        ("Conv2D", (98, 98, 16), 448),
        ("MaxPooling2D", (49, 49, 16), 0),
        ("Conv2D", (47, 47, 16), 2_320),
        ("MaxPooling2D", (23, 23, 16), 0),
        ("Flatten", (8_464,), 0),
        ("Dense", (64,), 541_760),
        ("Dense", (1,), 65),
    ]
    assert sum(layer.count_params() for layer in layers) == 544_593
    kernels = [layer for layer in layers if hasattr(layer, "activation")]
    assert [layer.activation.__name__ for layer in kernels] == ["relu"] * 3 + [
        "sigmoid"
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_shipped_weights_fit_the_notebooks_builders(name, notebook, settings):
    run = runs.Run(name, SHIPPED / name, history(name))
    shipped, one = run.load(), settings[name]
    if name == "gender_mtl_transfer":
        head = shipped.get_layer("gender_head")
        main = runs.Run("mtl", SHIPPED.parent / "assignment_2" / "mtl", {}).load()
        trunk = [layer for layer in main.layers if layer.name.startswith("shared")]
        for layer in trunk[:-1]:  # the last one is Dropout behind the features
            pairs = zip(
                layer.get_weights(),
                shipped.get_layer(layer.name).get_weights(),
                strict=True,
            )
            assert all((ours == theirs).all() for ours, theirs in pairs)
        built = notebook.build_head(one, shipped.get_layer("shared_dense"))
        assert head.count_params() == built.count_params()
        built.set_weights(head.get_weights())
    else:
        build = notebook.build_deeper if one.filters else notebook.build_baseline
        built = build(one)
        built.set_weights(shipped.get_weights())
        assert [layer.name for layer in built.layers] == [
            layer.name for layer in shipped.layers
        ]
    assert run.history["parameters"] == shipped.count_params()


def test_every_shipped_history_is_that_of_the_notebooks_settings(settings):
    found = {path.stem for path in SHIPPED.glob("gender_*.json")}
    assert found <= set(settings)
    for name in sorted(found):
        told = history(name)
        assert told["digest"] == runs._digest(settings[name]), name
        assert told["data"] == "utkface" and not told["diverged"]
        again = json.loads(json.dumps(dataclasses.asdict(settings[name])))
        assert told["settings"] == again


def test_the_records_hold_no_hyperparameter_that_a_network_lacks(settings):
    told = history("gender_baseline")["settings"]
    for field in ("filters", "convolutions", "dropout", "activation", "base"):
        assert told[field] is None
    assert settings["gender_improved"].base is None
    assert settings["gender_mtl_transfer"].filters is None


@pytest.fixture(scope="module")
def rows():
    """Rows of the shipped results."""
    return json.loads((SHIPPED / "results.json").read_text("utf-8"))["results"]


def test_results_name_what_is_shipped(rows, settings):
    assert {row["model"] for row in rows} == set(settings)
    for row in rows:
        told = history(row["model"])
        assert row["train_seconds"] == told["seconds"]
        assert row["parameters"] == told["parameters"]
        assert row["epochs"] == len(told["epochs"]["loss"])
        ending = "-??????" * row["split"].startswith("foreign")
        (path,) = SHIPPED.glob(f"{row['model']}_{row['split']}{ending}.npz")
        with np.load(path) as file:
            assert len(file["values"]) == row["n"]


def test_results_are_those_of_the_shipped_predictions(rows):
    """Labels are not shipped: this needs the pictures in ``data``."""
    if not (DATA / "UTKFace").is_dir():
        return
    data, _ = colour.find_gender("auto", DATA)
    foreign = colour.find_foreign(DATA)
    for row in rows:
        away = row["split"].startswith("foreign")
        if data.name != "utkface" or away and foreign is None:
            continue
        table = foreign.table if away else data.rows(row["split"].split("_")[0])
        ending = row["split"] + f"-{foreign.digest}" * away
        path = SHIPPED / f"{row['model']}_{ending}.npz"
        if path.exists():  # else it is another foreign set
            kept = predictions._load(path, table)
            for metric, value in measure.evaluate(kept).items():
                assert row[metric] == pytest.approx(value, abs=1e-4), path.name
