"""TensorBoard's files: graph, results and views, finding, reading, opening them."""

import io
import math
import os
import pathlib
import sys

import keras
import matplotlib.pyplot as plt
import pandas as pd
import tensorboard.notebook
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.custom_scalar import layout_pb2, summary
from tensorboard.plugins.hparams import api

from facekit.labels import LOGS
from facekit.measure import HEADLINE
from facekit.runs import Run

NAMES = "plain_start age_distribution muon cubic_splines twice_the_filters"
NAMES = f"{NAMES} 30_epochs stronger_augmentation".split()
SHIPPED = {f"run{n}": f"run_{n}_{name}" for n, name in enumerate(NAMES, 1)}
SHIPPED = {"mtl": "main_network"} | SHIPPED  # folders of `logs/utkface`, by run
VIEWS = {  # of the page Custom Scalars: the curves of each head
    "Age": ("age_mae", "age_loss", "age_distribution_loss"),
    "Gender": ("gender_accuracy", "gender_loss"),
    "Ethnicity": ("ethnicity_accuracy", "ethnicity_loss"),
    "All heads": ("loss", *HEADLINE),
}
RESULTS = {f"{part}_{key}": (part, key) for part in ("val", "test") for key in HEADLINE}


def write_graph(model: keras.Model, folder: pathlib.Path) -> None:
    """Give TensorBoard the graph of a functional model with one input.

    Its ends have the outputs' names. Keras 3's callback writes none that TensorBoard
    can draw.
    """

    @tf.function
    def outputs(image):
        answers = tf.nest.flatten(model(image))
        for name, answer in zip(model.output_names, answers, strict=True):
            tf.identity(answer, name)

    shape = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, "image")
    graph = outputs.get_concrete_function(shape).graph
    writer = tf.summary.create_file_writer(str(folder), filename_suffix=".graph")
    with writer.as_default():
        tf.summary.graph(graph)


def write_summaries(runs: dict[str, Run], rows: list[dict], figures: dict) -> None:
    """Give TensorBoard the settings, results and figures of runs, and a view per head.

    ``rows``: those of ``results.json``; ``figures``: by run, then by title. What an
    earlier call wrote is replaced.
    """
    settings = [run.history["settings"] for run in runs.values()]
    settings = pd.DataFrame(settings, runs).fillna(0)  # an older run may lack one
    settings["filters"] = ["–".join(map(str, part)) for part in settings["filters"]]
    # HParams shows five at first, by name: under Keras' name this is one of them.
    settings = settings.rename(columns={"spline_order": "interpolation_order"})
    hparams = [api.HParam(key, _Values(sorted(set(settings[key])))) for key in settings]
    metrics = [api.Metric(f"results/{key}", display_name=key) for key in RESULTS]
    for name, run in runs.items():
        folder, best = find_logs(run), run.history["best_epoch"]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for former in folder.glob("events.out.tfevents.*.v2"):
                former.unlink()
        except OSError as why:
            return print(f"TensorBoard gets no results ({why.strerror}: logs)")
        found = {row["split"]: row for row in rows if row["model"] == name}
        with tf.summary.create_file_writer(str(folder)).as_default(best):
            api.hparams_config(hparams, metrics)
            api.hparams(settings.loc[name].to_dict(), SHIPPED[name])
            for key, (split, metric) in RESULTS.items():
                tf.summary.scalar(f"results/{key}", found[split][metric])
            tf.summary.experimental.write_raw_pb(_views().SerializeToString())
            for title, figure in figures[name].items():
                figure.savefig(file := io.BytesIO(), dpi=150)
                plt.close(figure)
                picture = tf.io.decode_png(file.getvalue(), 3)
                tf.summary.image(f"figures/{title}", picture[None])


class _Values(api.Discrete):
    """What a setting is in the runs. HParams shows first those that differ."""

    def update_hparam_info(self, hparam_info):
        """Say whether they differ, too."""
        super().update_hparam_info(hparam_info)
        hparam_info.differs = len(self.values) > 1


def _views():
    """The page Custom Scalars: training and validation in one chart."""
    layout = layout_pb2.Layout()
    for view, keys in VIEWS.items():
        category = layout.category.add(title=view)
        for key in keys:
            category.chart.add(title=key).multiline.tag.append(f"^epoch_{key}$")
    return summary.pb(layout)


def find_logs(run: Run, shipped: pathlib.Path | None = None) -> pathlib.Path:
    """Where TensorBoard's files of a run lie: those written here, else ``shipped``.

    Without ``shipped``: the folder in ``logs/runs`` for what is added to a shipped run.
    """
    logs = LOGS / "runs" / run.stem.parents[1].name / run.stem.parent.name
    ended = logs.glob(f"{run.name}_????-??-??_??????/validation")  # after an epoch
    return max((x.parent for x in ended), default=shipped or logs / SHIPPED[run.name])


def read_curves(folder: pathlib.Path) -> dict[str, list[float]]:
    """What TensorBoard's files of a run hold, a value per epoch, by the log's keys.

    Such as ``loss`` (training) and ``val_loss``: what ``plots.curves`` draws. Epochs
    before a training went on where it was cut off are nan: they have a folder apart.
    """
    curves = {}
    for prefix, side in (("", "train"), ("val_", "validation")):
        files, every = str(folder / side), {"tensors": 0}
        accumulator = event_accumulator.EventAccumulator(files, every).Reload()
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
