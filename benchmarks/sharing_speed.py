"""What does sharing a trunk save? Prediction and training times, side by side.

Untrained networks of the main recipe take turns in one process, so that the ratios mean
something whatever else the machine does; seconds do not, and are not printed.

    python benchmarks/sharing_speed.py
    python benchmarks/sharing_speed.py --pictures 256 --repeats 5
"""

import argparse
import os
import pathlib
import sys
import time

import numpy as np
import pandas as pd

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras  # noqa: E402
from notebook_cells import load_functions  # noqa: E402


def build_kinds(notebook):
    """Build the three kinds of sharing with the main network's hyperparameters.

    Parameters
    ----------
    notebook : types.ModuleType
        As ``load_functions`` returns it.

    Returns
    -------
    dict[str, list]
        By kind, pairs of a network and its hyperparameters.
    """
    changes = {
        "hard sharing": [{}],
        "single-task": [{"tasks": [task]} for task in notebook.LABELS],
        "soft sharing": [{"soft_penalty": 0.001}],
    }
    return {
        kind: [
            (
                notebook.build_model(notebook.MAIN_RUN | change),
                notebook.MAIN_RUN | change,
            )
            for change in networks
        ]
        for kind, networks in changes.items()
    }


def training_seconds(notebook, kinds, pictures, repeats):
    """Measure one training step of each kind, the kinds taking turns.

    Parameters
    ----------
    notebook : types.ModuleType
    kinds : dict[str, list]
        As ``build_kinds`` returns it; its networks are compiled here.
    pictures : int
        In one batch of random grey levels.
    repeats : int

    Returns
    -------
    dict[str, float]
        Median seconds per step of all networks of a kind.
    """
    generator = np.random.default_rng(1)
    batch = generator.random((pictures, 48, 48, 1), "float32")
    age = generator.integers(1, 90, pictures).astype("float32")
    labels = {
        "age": age,
        "gender": generator.integers(0, 2, pictures).astype("float32"),
        "ethnicity": generator.integers(0, 5, pictures).astype("float32"),
        "age_distribution": notebook.age_distribution(age, 2.5),
    }
    for networks in kinds.values():
        for network, hyperparameters in networks:
            notebook.compile_model(network, hyperparameters)
    seconds = {kind: [] for kind in kinds}
    for _ in range(repeats + 1):
        for kind, networks in kinds.items():
            started = time.perf_counter()
            for network, _ in networks:
                heads = network.output_names
                network.train_on_batch(batch, {head: labels[head] for head in heads})
            seconds[kind].append(time.perf_counter() - started)
    return {kind: float(np.median(taken[1:])) for kind, taken in seconds.items()}


def main(pictures, repeats):
    """Print the table of ratios."""
    notebook = load_functions()
    notebook.tf.get_logger().setLevel("ERROR")  # it warns of every further model
    machine = notebook.describe_machine()
    kinds = build_kinds(notebook)
    networks = {kind: [network for network, _ in kinds[kind]] for kind in kinds}
    predicting = notebook.prediction_seconds(networks, pictures, repeats)
    keras.mixed_precision.set_dtype_policy(machine["precision"])
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
    print(f"{machine['hardware']}, training in {machine['precision']}")
    print(notebook.as_markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    main(arguments.pictures, arguments.repeats)
