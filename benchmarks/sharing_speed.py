"""What does sharing a trunk save? Prediction and training times, side by side.

Untrained networks of the main network's size take turns in one process, so that the
ratios mean something whatever else the machine does; seconds do not, and are not
printed. The networks are those of `notebooks/does_sharing_help.ipynb`.

    python benchmarks/sharing_speed.py
    python benchmarks/sharing_speed.py --pictures 256 --repeats 5
"""

import argparse
import dataclasses
import pathlib
import sys
import time

import numpy as np
import pandas as pd

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from facekit import batches, labels, machine, report  # noqa: E402

# isort: split
import keras  # noqa: E402  facekit comes first: it silences TensorFlow's notes
from notebook_cells import load_definitions  # noqa: E402


def build_kinds(notebook) -> dict[str, list[tuple]]:
    """Networks and their settings, by kind, in the main network's size."""
    hard = notebook.Settings(filters=(32, 64, 128, 256))
    kinds = {
        "hard sharing": [hard],
        "single-task": [
            dataclasses.replace(hard, tasks=(task,)) for task in labels.LABELS
        ],
        "soft sharing": [dataclasses.replace(hard, soft_penalty=1e-3)],
    }
    return {
        kind: [(notebook.build(settings), settings) for settings in of_kind]
        for kind, of_kind in kinds.items()
    }


def training_seconds(notebook, kinds, pictures, repeats) -> dict[str, float]:
    """Median seconds of one training step of all networks of a kind, in turns.

    The networks are compiled here; a batch has ``pictures`` random pictures.
    """
    generator = np.random.default_rng(1)
    batch = generator.random((pictures, 48, 48, 1), "float32")
    age = generator.integers(1, 90, pictures).astype("float32")
    answers = {
        "age": age,
        "gender": generator.integers(0, 2, pictures).astype("float32"),
        "ethnicity": generator.integers(0, 5, pictures).astype("float32"),
        "age_distribution": batches.age_distribution(age, 2.5),
    }
    for networks in kinds.values():
        for network, settings in networks:
            notebook.compile_model(network, settings)
    seconds = {kind: [] for kind in kinds}
    for _ in range(repeats + 1):
        for kind, networks in kinds.items():
            started = time.perf_counter()
            for network, _ in networks:
                heads = network.output_names
                network.train_on_batch(batch, {head: answers[head] for head in heads})
            seconds[kind].append(time.perf_counter() - started)
    return {kind: float(np.median(taken[1:])) for kind, taken in seconds.items()}


def main(pictures: int, repeats: int) -> None:
    """Print the table of ratios."""
    notebook = load_definitions("notebooks/does_sharing_help.ipynb")
    here = machine.describe()
    kinds = build_kinds(notebook)
    networks = {kind: [network for network, _ in kinds[kind]] for kind in kinds}
    predicting = notebook.prediction_seconds(networks, pictures, repeats)
    keras.config.set_dtype_policy(here["precision"])
    training = training_seconds(notebook, build_kinds(notebook), pictures, repeats)
    rows = [
        {
            "Kind": kind,
            "Parameters": f"{sum(net.count_params() for net in networks[kind]):,}",
            "Prediction": f"{predicting[kind] / predicting['hard sharing']:.2f} ×",
            "Training step": f"{training[kind] / training['hard sharing']:.2f} ×",
        }
        for kind in kinds
    ]
    print(f"{here['hardware']}, training in {here['precision']}")
    print(report.as_markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    main(arguments.pictures, arguments.repeats)
