"""``who_is_it_wrong_about.ipynb``: the reweighted network, what is shipped of it."""

import dataclasses
import json

import keras
import numpy as np
import pandas as pd
import pytest
from notebook_cells import load_definitions

from facekit import batches, labels, runs
from studies import groups

FOLDER = labels.MODELS / "utkface"


@pytest.fixture(scope="module")
def notebook():
    return load_definitions("notebooks/who_is_it_wrong_about.ipynb")


def test_the_network_is_run_4s(notebook):
    built = notebook.build(notebook.Settings())
    assert set(built.output) == {*labels.LABELS, "age_distribution"}
    path = FOLDER / "assignment_2/run4.keras"
    shipped = keras.saving.load_model(path, compile=False)
    for layer in shipped.layers:
        same = built.get_layer(layer.name)
        assert type(same) is type(layer)
        shapes = [[w.shape for w in part.weights] for part in (same, layer)]
        assert shapes[0] == shapes[1], layer.name
    assert built.count_params() == shipped.count_params()
    picture = np.random.default_rng(0).random((2, 48, 48, 1), "float32")
    answers = built(picture)
    mean = np.asarray(answers["age_distribution"]) @ labels.AGES
    assert np.asarray(answers["age"])[:, 0] == pytest.approx(mean, rel=1e-4)


def test_its_settings_are_run_4s_but_for_the_weights(notebook):
    told = json.loads((FOLDER / "assignment_2/run4.json").read_text())["settings"]
    own = dataclasses.asdict(notebook.Settings())
    weights = own.pop("loss_weights")
    names = "age_weight distribution_weight gender_weight ethnicity_weight".split()
    assert list(weights) == [told[name] for name in names]
    assert own.pop("heaviest") == 5 and own.pop("starts") == groups.STARTS
    assert {key: told[key] for key in own} == {**own, "filters": [*own["filters"]]}


def test_each_picture_has_the_weight_of_its_group(notebook, data):
    rows = data.rows("train")
    notebook.weights = np.arange(40.0)
    folder = data.folder / "train"
    how = {"batch_size": 16, "shuffle": True, "seed": 3}
    flow = batches.flow(rows, folder, (48, 48, 1), **how)
    training = notebook.Reweighted(flow, 2.5)
    seen = []
    for number in range(len(training)):
        pictures, answers, each = training[number]
        assert set(each) == {*labels.LABELS, "age_distribution"} == set(answers)
        for found in each.values():
            assert (found == groups.number(answers)).all()
            assert len(found) == len(pictures)
        seen += each["age"].tolist()
    assert sorted(seen) == sorted(groups.number(rows))


def test_a_network_can_be_fitted_on_them(notebook, data):
    rows = data.rows("train").head(32)
    notebook.weights = np.zeros(40)
    flow = batches.flow(rows, data.folder / "train", (48, 48, 1), batch_size=16)
    settings = notebook.Settings(filters=(2, 2, 2, 2))
    model = notebook.build(settings)
    losses = {"age": "mae", "age_distribution": "categorical_crossentropy"}
    losses |= {"gender": "binary_crossentropy"}
    losses |= {"ethnicity": "sparse_categorical_crossentropy"}
    model.compile("sgd", losses)
    fitted = model.fit(notebook.Reweighted(flow, 2.5), verbose=0)
    assert fitted.history["loss"] == [0]  # a weight of nothing counts nothing


def test_what_is_shipped_fits_the_settings_and_the_table():
    folder = FOLDER / "who_is_it_wrong_about"
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    history = json.loads((folder / "groups_alike.json").read_text(encoding="utf-8"))
    notebook = load_definitions("notebooks/who_is_it_wrong_about.ipynb")
    assert runs._digest(notebook.Settings()) == history["digest"]
    assert results["runs"] == {"groups_alike": history["digest"]}
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert len(results["card"]) == 3
    for heading, table in results["card"].items():
        assert f"### {heading}\n\n{table}" in card
    looks = pd.read_csv(folder / "test_looks.csv")
    (row,) = (row for row in results["results"] if row["split"] == "test")
    (seen,) = looks[looks["set"] == "test"].to_dict("records")
    assert seen["age_mae"] == pytest.approx(row["age_mae"], abs=1e-5)
