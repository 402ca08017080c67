"""Grad-CAM finds what an answer depends on; covering covers just that."""

import keras
import numpy as np
import pytest

from facekit import attention


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
    maps = attention.grad_cam(corner_network, task, pictures, np.arange(130) % 2)
    assert maps.shape == (130, 6, 6)
    assert maps.sum(axis=(1, 2)) == pytest.approx(np.ones(130), abs=1e-5)
    assert (maps.reshape(130, -1).argmax(axis=1) == 1).all()


def test_certain_answers_still_have_a_map(corner_network):
    pictures = np.full((3, 48, 48, 1), 1e3, "float32")
    maps = attention.grad_cam(corner_network, "gender", pictures, np.array([1, 0, 1]))
    assert np.isfinite(maps).all()


def test_covering_changes_those_cells_alone():
    pictures = np.random.default_rng(0).random((4, 48, 48, 1)).astype("float32")
    before = pictures.copy()
    covered = attention.cover(pictures, [0, 35])
    assert (pictures == before).all()
    changed = (covered != before).any(axis=(0, 3))
    assert changed[:8, :8].all() and changed[40:, 40:].all()
    assert changed.sum() == 2 * 64
    assert covered[:, :8, :8] == pytest.approx(before.mean(), abs=1e-6)
