"""Try one change of the main network at a time, judged by the selection half alone.

An experiment is the settings of `assignment_2.ipynb` with a few of them changed, and
with those of `OPTIONS`, which proved of no use and stand here alone:

    python benchmarks/lab.py muon '{"optimizer": "Muon", "epochs": 12}'

It starts from `BASE`, where `benchmarks/experiments.md` begins. Lines of it that can no
longer be repeated, since what they changed is gone: averaged weights of section 1,
Adam's part of `m_lr4wd`, `s_cubic_median`, `s_cubic_deep`, `s_born`, `f_block15`, and
section 6 (more views). Section 7 is soft sharing: the settings of
`notebooks/does_sharing_help.ipynb`.

Only training images and the selection half of validation are used; the assignment's
data are expected in `data/`. Figures are appended to `model/runs/lab/results.jsonl`.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import time
import zlib

import numpy as np
import pandas as pd

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from facekit import batches, dataset, labels, machine, measure, predictions  # noqa: E402

# isort: split
import keras  # noqa: E402  facekit comes first: it silences TensorFlow's notes
from notebook_cells import load_definitions  # noqa: E402

FOLDER = labels.MODELS / "runs" / "lab"
FOLDS = 5
BASE = {
    "optimizer": "Adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "rotation": 6,
    "shift": 4,
    "zoom": 0.1,
    "contrast": 0.2,
    "spline_order": 1,
    "soft_labels": None,
    "gender_weight": 1.0,
    "ethnicity_weight": 1.0,
    "epochs": 40,
}
OPTIONS = {
    "images": None,  # this many of the training images, chosen by a fixed seed
    "mixup": 0.0,  # alpha of the Beta distribution (Zhang et al. 2018)
    "erasing": 0.0,  # share of pictures with a grey rectangle (Zhong et al. 2020)
    "fold": None,  # this fifth of the training images is left out, and answered
    "soft": 0.0,  # share of the five networks' answers in the labels
    "start": None,  # weights to go on from, below the repository's root
    "stop": None,  # epochs that are run, of the schedule's
    "average": None,  # weights are averaged from this epoch on (Izmailov et al. 2018)
}


def load_notebook():
    """The main notebook's definitions; its losses take labels that are mixed."""
    notebook = load_definitions("assignment_2.ipynb")
    notebook.METRICS = {"age": "mae", "ethnicity": "accuracy"}
    notebook.METRICS["gender"] = notebook.accuracy
    notebook.LOSSES = {"age": "mae", "gender": "binary_crossentropy"}
    notebook.LOSSES["ethnicity"] = "categorical_crossentropy"
    return notebook


def find_folds(images):
    """The fifth, 0 to 4, of each picture; identical pictures share theirs."""
    return np.array([zlib.crc32(image.tobytes()) % FOLDS for image in images])


def predict_both(model, images):
    """Answers to pictures as they are, and to their mirror images."""
    x = images[..., None].astype("float32") / 255
    return [model.predict(part, 256, verbose=0) for part in (x, x[:, :, ::-1])]


def keep_answers(model, images, names, path):
    """Keep a network's answers to pictures that it has not seen, flip averaged."""
    views = predict_both(model, images)
    mean = {key: (views[0][key] + views[1][key]) / 2 for key in views[0]}
    hashes = [labels.hash_name(name) for name in names]
    np.savez(path, names=hashes, **mean)


def load_answers(names):
    """Answers of the five networks, in the order of the pictures' names."""
    parts = [np.load(FOLDER / f"fold{fold}.npz") for fold in range(FOLDS)]
    told = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    place = {name: number for number, name in enumerate(told.pop("names"))}
    order = [place[labels.hash_name(name)] for name in names]
    return {key: value[order].astype("float32") for key, value in told.items()}


class Batches(keras.utils.PyDataset):
    """Pictures from memory, with labels that can be mixed."""

    def __init__(self, notebook, images, table, settings, options, training):
        super().__init__()
        self.options = options if training else OPTIONS
        self.random = np.random.default_rng(settings.seed)
        generator = notebook.ImageDataGenerator(rescale=1 / 255)
        if training:
            generator = notebook.make_train_generator(settings)
        self.flow = generator.flow(
            images[..., None].astype("float32"),
            np.arange(len(images)),
            batch_size=settings.batch_size if training else 256,
            shuffle=training,
            seed=settings.seed,
        )
        self.labels = {
            "age": table["age"].to_numpy("float32"),
            "gender": table["gender"].to_numpy("float32"),
            "ethnicity": np.eye(5, dtype="float32")[table["ethnicity"]],
        }
        if settings.age_distribution:
            spread = batches.age_distribution(table["age"], settings.age_sigma)
            self.labels["age_distribution"] = spread
        if share := self.options["soft"]:
            told = load_answers(table["img_name"])
            for key, value in self.labels.items():
                soft = told[key].reshape(value.shape)
                self.labels[key] = (1 - share) * value + share * soft

    def __len__(self):
        return len(self.flow)

    def __getitem__(self, index):
        pictures, rows = self.flow[index]
        answers = {key: value[rows] for key, value in self.labels.items()}
        erased = self.random.random(len(pictures)) < self.options["erasing"]
        for place in np.flatnonzero(erased):
            height, width = self.random.integers(8, 21, 2)
            top, left = (self.random.integers(0, 49 - side) for side in (height, width))
            part = np.s_[place, top : top + height, left : left + width]
            pictures[part] = pictures[place].mean()
        if alpha := self.options["mixup"]:
            share = self.random.beta(alpha, alpha)
            share = max(share, 1 - share)
            pictures = share * pictures + (1 - share) * pictures[::-1]
            answers = {k: share * v + (1 - share) * v[::-1] for k, v in answers.items()}
        return pictures, answers

    def on_epoch_end(self):
        """Shuffle anew."""
        self.flow.on_epoch_end()


class AverageWeights(keras.callbacks.Callback):
    """At the end the model has the mean of its weights, taken every tenth step.

    Steps before a training was cut off are not in it.
    """

    def __init__(self, first):
        super().__init__()
        self.first, self.count, self.mean = first, 0, None

    def on_train_batch_end(self, batch, logs=None):
        """Add the weights to their running mean."""
        if self.epoch + 1 >= self.first and batch % 10 == 0:
            self.count += 1
            now = self.model.get_weights()
            last = self.mean or now
            self.mean = [
                m + (w - m) / self.count for m, w in zip(last, now, strict=True)
            ]

    def on_epoch_begin(self, epoch, logs=None):
        """Note the epoch."""
        self.epoch = epoch

    def on_train_end(self, logs=None):
        """Take the mean."""
        self.model.set_weights(self.mean)


def score(model, images, table):
    """Metrics and cross-entropies, of the picture alone and with flip averaging."""
    views = predict_both(model, images)
    told = {}
    for name, seen in {"plain": views[:1], "flip": views}.items():
        found = predictions.make_table(table, seen)
        point = measure.point_values(found)
        female, five = found["gender_probability"], found[list(labels.ETHNICITIES)]
        own = {
            "gender_loss": female.where(found["gender"] == 1, 1 - female),
            "ethnicity_loss": five.to_numpy()[range(len(five)), found["ethnicity"]],
        }
        losses = {key: -np.log(np.clip(p, 1e-6, 1)).mean() for key, p in own.items()}
        told[name] = {key: point[key] for key in measure.HEADLINE} | losses
        told[name] = {key: round(float(value), 4) for key, value in told[name].items()}
    return told


def main(name, changes, data_dir):
    """Train one variant and append its figures to the log."""
    notebook = load_notebook()
    options = OPTIONS | {key: changes[key] for key in changes if key in OPTIONS}
    own = {key: value for key, value in changes.items() if key not in OPTIONS}
    settings = dataclasses.replace(notebook.Settings(), **BASE | own)
    data = dataset.load(data_dir)
    half = labels.validation_half(data.table["img_name"])
    select = (data.table["split"] == "val") & (half == "select")
    rows = np.flatnonzero(data.table["split"] == "train")
    chosen = np.random.default_rng(1).permutation(len(rows))[: options["images"]]
    rows = rows[np.sort(chosen)]
    here = machine.describe()
    keras.config.set_dtype_policy(here["precision"])
    left_out = rows[:0]
    if options["fold"] is not None:
        inside = find_folds(data.images[rows]) == options["fold"]
        rows, left_out = rows[~inside], rows[inside]
    training = data.images[rows], data.table.iloc[rows]
    validation = data.images[select], data.table[select]
    delivered = Batches(notebook, *training, settings, options, training=True)
    model = notebook.build(settings)
    notebook.compile_model(model, settings, len(delivered))
    if options["start"]:
        model.load_weights(ROOT / options["start"])
    epochs = options["stop"] or settings.epochs
    own_mean = [AverageWeights(options["average"])] if options["average"] else []
    if (options["average"] or 0) > epochs:
        raise ValueError("average: no epoch is left of which weights could be averaged")
    FOLDER.mkdir(parents=True, exist_ok=True)
    started = time.time()
    model.fit(
        delivered,
        validation_data=Batches(notebook, *validation, settings, options, False),
        epochs=epochs,
        verbose=2,
        callbacks=[
            *own_mean,
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.CSVLogger(str(FOLDER / f"{name}.csv")),
            keras.callbacks.BackupAndRestore(str(FOLDER / f"{name}.backup")),
        ],
    )
    seconds = round(time.time() - started)
    model.save_weights(FOLDER / f"{name}.weights.h5")
    if len(left_out):
        names = data.table["img_name"].iloc[left_out]
        path = FOLDER / f"fold{options['fold']}.npz"
        keep_answers(model, data.images[left_out], names, path)
    line = {"name": name, "changes": changes, "parameters": model.count_params()}
    line |= {"epochs": epochs, "seconds": seconds, **here}
    figures = score(model, *validation)
    with open(FOLDER / "results.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line | figures) + "\n")
    print(pd.DataFrame(figures).T.to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name")
    parser.add_argument("changes", type=json.loads, help="settings, as JSON")
    parser.add_argument("--data", type=pathlib.Path, default=labels.DATA)
    arguments = parser.parse_args()
    main(arguments.name, arguments.changes, arguments.data)
