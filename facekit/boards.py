"""TensorBoard's files: the graph, finding them, reading them, opening them."""

import math
import os
import pathlib
import sys

import keras
import tensorboard.notebook
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from facekit.labels import LOGS
from facekit.runs import Run

SHIPPED = {  # folders of `logs/utkface`, by run
    "mtl": "main_network",
    "run1": "run_1_plain_start",
    "run2": "run_2_age_distribution",
    "run3": "run_3_muon",
    "run4": "run_4_cubic_splines",
    "run5": "run_5_twice_the_filters",
}


def write_graph(model: keras.Model, folder: pathlib.Path) -> None:
    """Give TensorBoard the graph of a functional model with one input.

    Keras 3's callback writes none that TensorBoard can draw.
    """
    shape = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    graph = tf.function(model).get_concrete_function(shape).graph
    with tf.summary.create_file_writer(str(folder / "graph")).as_default():
        tf.summary.graph(graph)


def find_logs(run: Run, shipped: pathlib.Path) -> pathlib.Path:
    """Where TensorBoard's files of a run lie: those written here, else the shipped."""
    if not run.own:
        return shipped
    logs = LOGS / "runs" / run.stem.parents[1].name / run.stem.parent.name
    ended = logs.glob(f"{run.name}_????-??-??_??????/validation")  # after an epoch
    return max((folder.parent for folder in ended), default=shipped)


def read_curves(folder: pathlib.Path) -> dict[str, list[float]]:
    """What TensorBoard's files of a run hold, a value per epoch, by the log's keys.

    Such as ``loss`` (training) and ``val_loss``: what ``plots.curves`` draws. Epochs
    before a training went on where it was cut off are nan: they have a folder apart.
    """
    curves = {}
    for prefix, side in (("", "train"), ("val_", "validation")):
        accumulator = event_accumulator.EventAccumulator(
            str(folder / side), size_guidance={"tensors": 0}
        )
        accumulator.Reload()
        for tag in accumulator.Tags()["tensors"]:
            if tag.startswith("epoch_"):
                events = accumulator.Tensors(tag)
                values = [float(tf.make_ndarray(e.tensor_proto)) for e in events]
                key = prefix + tag.removeprefix("epoch_")
                curves[key] = [math.nan] * events[0].step + values
    return curves


def open_tensorboard(folder: pathlib.Path) -> None:
    """Open TensorBoard below the cell, in Jupyter and Colab."""
    beside_python = pathlib.Path(sys.executable).with_name("tensorboard")
    if beside_python.exists():  # a kernel's PATH need not hold its environment
        os.environ.setdefault("TENSORBOARD_BINARY", str(beside_python))
    tensorboard.notebook.start(f"--logdir {folder}")
