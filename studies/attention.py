"""What an answer depends on in the picture: Grad-CAM, and covering as its check."""

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from facekit.measure import mean_interval
from facekit.report import with_interval

LAYER = "shared_conv4_2"  # the main network's last convolution: 6×6 places
CELLS = 6  # of a map, both ways


def grad_cam(network: keras.Model, task: str, pictures: np.ndarray, true) -> np.ndarray:
    """Maps by Grad-CAM (Selvaraju et al. 2017): ``(n, 6, 6)``, each of sum one,
    or zero where nothing speaks for the label.

    ``pictures`` ``(n, 48, 48, 1)`` in [0, 1], ``true`` their labels of the task. Gender
    and ethnicity: what speaks for the true label. Age: what moves it, up or down.
    """
    outputs = [network.get_layer(layer).output for layer in (LAYER, task)]
    model, maps = keras.Model(network.input, outputs), []
    for part in np.array_split(np.arange(len(pictures)), -(-len(pictures) // 128)):
        with tf.GradientTape() as tape:
            features, answer = model(pictures[part])
            score = _score(task, answer, np.asarray(true)[part])
        weights = tf.reduce_mean(tape.gradient(score, features), (1, 2), keepdims=True)
        found = tf.reduce_sum(weights * features, axis=-1).numpy()
        maps.append(np.abs(found) if task == "age" else found.clip(0))
    found = np.concatenate(maps)
    return found / np.maximum(found.sum(axis=(1, 2), keepdims=True), 1e-12)


def cover(pictures: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Pictures of which each has some of its 6×6 cells covered with mean grey.

    ``cells``: numbers from 0 to 35, ``(n, k)``.
    """
    hidden = np.zeros((len(pictures), CELLS**2), bool)
    np.put_along_axis(hidden, cells, True, axis=1)
    side = pictures.shape[1] // CELLS
    hidden = hidden.reshape(-1, CELLS, CELLS, 1).repeat(side, 1).repeat(side, 2)
    return np.where(hidden, pictures.mean(dtype="float32"), pictures)


def choose(maps: np.ndarray, groups, count: int, random: np.random.Generator) -> tuple:
    """Cells ``(n, count)``: those that a picture's map marks most, others, by chance,
    and those that the map of another picture of its group ``(n,)`` marks, if any.
    """
    order = maps.reshape(len(maps), -1).argsort(axis=1)[:, ::-1]
    marked, rest = order[:, :count], order[:, count:]
    another, codes = np.arange(len(maps)), np.unique(groups, return_inverse=True)[1]
    for code in range(codes.max() + 1):
        another[codes == code] = np.roll(np.flatnonzero(codes == code), 1)
    return marked, random.permuted(rest, axis=1)[:, :count], marked[another]


def tell(untouched: pd.Series, hurt: list[pd.Series]) -> tuple[list[str], bool]:
    """Mean errors with nothing and with each choice of cells covered, by how much the
    first hurts more than the others, and whether it surely does than the last.
    """
    row = [f"{errors.mean():.1f}" for errors in (untouched, *hurt)]
    for control in hurt[1:]:
        ends = mean_interval((hurt[0] - control).to_numpy())
        row.append(with_interval(ends, signs=True))
    return row, ends[1] > 0


def _score(task, answer, true):
    """What a map explains: years, or the logarithm of the odds of the true label."""
    if task == "age":
        return answer[:, 0]
    if task == "ethnicity":
        share = tf.gather(answer, true.astype(int), axis=1, batch_dims=1)
    else:
        share = tf.where(true == 1, answer[:, 0], 1 - answer[:, 0])
    share = tf.clip_by_value(share, 1e-6, 1 - 1e-6)
    return tf.math.log(share) - tf.math.log1p(-share)
