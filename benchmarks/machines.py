"""How far the same training differs between machines, and between seeds.

    python benchmarks/machines.py
    python benchmarks/machines.py --python another/bin/python

The small network of the main notebook learns from a quarter of the pictures, in
a process of its own for each row: with one core, with the instructions of an older
processor, with oneDNN's operations (TensorFlow's choice on newer processors), in
bfloat16, with deterministic operations, under another interpreter with its own
libraries, from other seeds. Its answers on the
selection half are compared with the first row's.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pandas as pd

ROOT = pathlib.Path(__file__).resolve().parents[1]
WAYS = {
    "The first": {},
    "The same again": {},
    "Deterministic operations": {"deterministic": True},
    "One core": {"cores": 1},
    "SSE4.1 in place of AVX2": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "oneDNN's operations": {"TF_ENABLE_ONEDNN_OPTS": "1"},
    "bfloat16": {"precision": "mixed_bfloat16"},
    "Another seed": {"seed": 2},
    "A third seed": {"seed": 3},
}


def train(way: dict, path: pathlib.Path) -> None:
    """Train one row's network; write its answers and its weights."""
    if "cores" in way:
        os.sched_setaffinity(0, range(way["cores"]))
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]
    from facekit import dataset, labels, predictions

    # isort: split
    import keras
    import lab
    import tensorflow as tf

    if way.get("deterministic"):
        tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(way.get("precision", "float32"))
    notebook = lab.load_notebook()
    settings = dataclasses.replace(
        notebook.Settings(),
        filters=(16, 32, 64, 128),
        epochs=8,
        warmup_epochs=1,
        seed=way.get("seed", 1),
    )
    data = dataset.load(labels.DATA)
    selects = labels.validation_half(data.table["img_name"]) == "select"
    table = {"train": data.table[data.table["split"] == "train"].iloc[::4]}
    table["val"] = data.table[selects & (data.table["split"] == "val")]
    images = {key: data.images[part.index] for key, part in table.items()}
    parts = images["train"], table["train"], settings, lab.OPTIONS, True
    fed = lab.Batches(notebook, *parts)
    model = notebook.build(settings)
    notebook.compile_model(model, settings, len(fed))
    model.fit(fed, epochs=settings.epochs, verbose=0)
    keras.config.set_dtype_policy("float32")
    plain = notebook.build(settings)  # the same weights, computing in float32
    plain.set_weights(model.get_weights())
    seen = plain.predict(images["val"][..., None] / np.float32(255), 256, verbose=0)
    predictions.make_table(table["val"], [seen]).to_csv(path)
    np.savez(path.with_suffix(".npz"), *model.get_weights())


def measure_all(ways, interpreters: list[str], folder: pathlib.Path) -> pd.DataFrame:
    """A row for each way: how far weights and answers lie from the first row's."""
    sys.path.insert(0, str(ROOT))
    from facekit import labels, measure

    jobs = [(name, way, sys.executable) for name, way in WAYS.items() if name in ways]
    jobs += [(told(python), {}, python) for python in interpreters]
    rows = []
    for name, way, python in jobs:
        path = folder / f"{len(rows)}.csv"
        command = [python, __file__, "--train", json.dumps(way), str(path)]
        switches = {key: value for key, value in way.items() if key.isupper()}
        subprocess.run(command, check=True, env=os.environ | switches)
        answers = pd.read_csv(path, index_col=0)
        weights = list(np.load(path.with_suffix(".npz")).values())
        if not rows:
            first, first_weights = answers, weights
        point = measure.point_values(answers)
        five = [part[list(labels.ETHNICITIES)].to_numpy() for part in (answers, first)]
        other = np.not_equal(*(part.argmax(axis=1) for part in five))
        pairs = zip(weights, first_weights, strict=True)
        ages = (answers["age_predicted"] - first["age_predicted"]).abs()
        women = [part["gender_probability"] >= 0.5 for part in (answers, first)]
        row = {
            "Training": name,
            "Largest change of a weight": max(np.abs(a - b).max() for a, b in pairs),
            "Ages differ by (years, mean)": ages.mean(),
            "Other gender (%)": 100 * np.not_equal(*women).mean(),
            "Other ethnicity (%)": 100 * other.mean(),
            "Age: MAE": point["age_mae"],
            "Gender (%)": 100 * point["gender_accuracy"],
            "Ethnicity (%)": 100 * point["ethnicity_accuracy"],
        }
        print({key: str(value) for key, value in row.items()}, file=sys.stderr)
        rows.append(row)
    return pd.DataFrame(rows)


def told(python: str) -> str:
    """Versions under another interpreter."""
    code = "import platform, tensorflow as tf, keras; print('Python', "
    code += "platform.python_version(), 'TensorFlow', tf.__version__, "
    code += "'Keras', keras.__version__)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ways", nargs="*", default=[*WAYS], help="the first among them")
    parser.add_argument("--python", action="append", default=[])
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(json.loads(arguments.train[0]), pathlib.Path(arguments.train[1]))
    else:
        with tempfile.TemporaryDirectory() as place:
            table = measure_all(arguments.ways, arguments.python, pathlib.Path(place))
        print(table.round(3).to_markdown(index=False))
