"""What an answer depends on in the picture: Grad-CAM, and covering as its check."""

import keras
import numpy as np
import tensorflow as tf

from facekit.labels import ETHNICITIES

LAYER = "shared_conv4_2"  # the main network's last convolution: 6×6 places
CELLS = 6  # of a map, both ways


def grad_cam(network: keras.Model, task: str, pictures: np.ndarray, true) -> np.ndarray:
    """Size of Grad-CAM's map (Selvaraju et al. 2017): ``(n, 6, 6)``, each of sum one.

    ``pictures`` ``(n, 48, 48, 1)`` in [0, 1], ``true`` their labels of the task. Gender
    and ethnicity: what speaks for the true label. Age: what moves the age.
    """
    outputs = [network.get_layer(layer).output for layer in (LAYER, task)]
    model, maps = keras.Model(network.input, outputs), []
    for part in np.array_split(np.arange(len(pictures)), -(-len(pictures) // 128)):
        with tf.GradientTape() as tape:
            features, answer = model(pictures[part])
            score = _score(task, answer, np.asarray(true)[part])
        weights = tf.reduce_mean(tape.gradient(score, features), (1, 2), keepdims=True)
        maps.append(np.abs(tf.reduce_sum(weights * features, axis=-1)))
    found = np.concatenate(maps)
    return found / np.maximum(found.sum(axis=(1, 2), keepdims=True), 1e-12)


def cover(pictures: np.ndarray, cells) -> np.ndarray:
    """Pictures in which some of the 6×6 cells are covered with their mean grey."""
    covered, side = pictures.copy(), pictures.shape[1] // CELLS
    for row, column in (divmod(cell, CELLS) for cell in cells):
        rows = slice(side * row, side * (row + 1))
        covered[:, rows, side * column : side * (column + 1)] = pictures.mean()
    return covered


def _score(task, answer, true):
    """What a map explains: years, or the logarithm of the odds of the true label."""
    if task == "age":
        return answer[:, 0]
    if task == "ethnicity":
        hot = tf.one_hot(true.astype(int), len(ETHNICITIES))
        share = tf.reduce_sum(answer * hot, axis=1)
    else:
        share = tf.where(true == 1, answer[:, 0], 1 - answer[:, 0])
    share = tf.clip_by_value(share, 1e-6, 1 - 1e-6)
    return tf.math.log(share) - tf.math.log1p(-share)
