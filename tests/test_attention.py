"""Grad-CAM finds what an answer depends on; covering covers just that."""

import keras
import numpy as np
import pandas as pd
import pytest

from studies import attention


@pytest.fixture(scope="module")
def corner_network():
    """A network whose answers depend on the upper left cell of a picture alone."""
    image = keras.Input((48, 48, 1), name="image")
    pool = keras.layers.AveragePooling2D(8, name="pool")(image)
    maps = keras.layers.Conv2D(1, 1, use_bias=False, name=attention.LAYER)(pool)
    flat = keras.layers.Flatten(name="flatten")(maps)
    outputs = {}
    for task, units, kind in (
        ("age", 1, None),
        ("gender", 1, "sigmoid"),
        ("ethnicity", 5, "softmax"),
    ):
        layer = keras.layers.Dense(units, kind, name=task)
        outputs[task] = layer(flat)
        kernel = np.zeros((36, units), "float32")
        kernel[0] = np.arange(1, units + 1)
        layer.set_weights([kernel, np.zeros(units, "float32")])
    model = keras.Model(image, outputs)
    model.get_layer(attention.LAYER).set_weights([np.ones((1, 1, 1, 1), "float32")])
    return model


@pytest.mark.parametrize("task", ["age", "gender", "ethnicity"])
def test_maps_follow_the_features_and_sum_to_one(corner_network, task):
    pictures = np.full((130, 48, 48, 1), 0.1, "float32")
    pictures[:, :8, 8:16] = 1  # one bright cell
    speaks_for = {"age": 30, "gender": 1, "ethnicity": 4}[task]
    true = np.where(np.arange(130) % 2, speaks_for, 0)
    maps = attention.grad_cam(corner_network, task, pictures, true)
    assert maps.shape == (130, 6, 6)
    for_it = maps[1::2]
    assert for_it.sum(axis=(1, 2)) == pytest.approx(np.ones(65), abs=1e-5)
    assert (for_it.reshape(65, -1).argmax(axis=1) == 1).all()
    against = maps[::2].sum(axis=(1, 2))  # of labels that nothing speaks for
    assert against == pytest.approx(np.ones(65) * (task == "age"), abs=1e-5)


def test_certain_answers_still_have_a_map(corner_network):
    pictures = np.full((3, 48, 48, 1), 1e3, "float32")
    maps = attention.grad_cam(corner_network, "gender", pictures, np.array([1, 0, 1]))
    assert np.isfinite(maps).all()


def test_covering_changes_those_cells_alone():
    pictures = np.random.default_rng(0).random((4, 48, 48, 1)).astype("float32")
    before = pictures.copy()
    cells = np.array([[0, 35], [0, 35], [7, 6], [1, 2]])
    covered = attention.cover(pictures, cells)
    assert (pictures == before).all() and covered.dtype == "float32"
    changed = (covered != before)[..., 0]
    assert changed[0, :8, :8].all() and changed[1, 40:, 40:].all()
    assert changed[2, 8:16, :16].all() and changed[3, :8, 8:24].all()
    assert (changed.sum(axis=(1, 2)) == 2 * 64).all()
    assert covered[0, :8, :8] == pytest.approx(before.mean(), abs=1e-6)


def test_cells_are_chosen_of_three_kinds():
    maps = np.random.default_rng(0).random((50, 6, 6))
    kinds, random = np.tile(["a", "b"], 25), np.random.default_rng(1)
    marked, others, another = attention.choose(maps, kinds, 7, random)
    for cells in (marked, others, another):
        assert cells.shape == (50, 7)
        assert all(len(set(row)) == 7 for row in cells)
    flat = maps.reshape(50, 36)
    for row, own, rest in zip(flat, marked, others, strict=True):
        assert set(own) == set(np.argsort(row)[-7:]) and not set(own) & set(rest)
    assert (another[2:] == marked[:-2]).all() and (another[:2] == marked[-2:]).all()


def test_what_hurts_more_is_told():
    untouched, most = pd.Series(np.zeros(200)), pd.Series(np.full(200, 30.0))
    less = pd.Series(np.tile([10.0, 20.0], 100))
    row, surely = attention.tell(untouched, [most, untouched, less])
    assert row[:4] == ["0.0", "30.0", "0.0", "15.0"] and surely
    assert row[4] == "+30.0 (+30.0 to +30.0)" and row[5].startswith("+15.0 (+14.")
    assert not attention.tell(untouched, [less, most, less])[1]
