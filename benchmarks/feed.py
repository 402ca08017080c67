"""What does feeding pictures cost beside training on them?

    python benchmarks/feed.py

Ways of feeding take turns in one process: pictures are read alone, and augmented, by
linear and by cubic splines; then the network takes a step on each batch from memory. It
has the main network's size. Data are those in `data`, else the sample.
"""

import dataclasses
import pathlib
import sys
import time

import numpy as np
import pandas as pd

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from facekit import dataset, labels, machine, report, sources  # noqa: E402

# isort: split
from notebook_cells import load_definitions  # noqa: E402  facekit comes first

STEPS, TURNS = 8, 5
STEP = "A step from memory"


def main() -> None:
    """Print what each way takes of a training with cubic splines."""
    notebook = load_definitions("notebooks/does_sharing_help.ipynb")
    source = sources.find_source("auto", labels.DATA)
    notebook.data = dataset.load(source.folder, source.synthetic)
    cubic = notebook.Settings(filters=(32, 64, 128, 256))
    linear = dataclasses.replace(cubic, spline_order=1)
    rows = notebook.data.rows("train").head(STEPS * cubic.batch_size)
    model = notebook.build(cubic)
    notebook.compile_model(model, cubic)
    ways = {
        "Read": (cubic, False),
        "Read and augmented, linear splines": (linear, True),
        "Read and augmented, cubic splines": (cubic, True),
    }
    seconds = {way: [] for way in [*ways, STEP]}
    for _ in range(TURNS + 1):
        for way, (settings, augment) in ways.items():
            flow = notebook.link(rows, "train", settings, augment)
            started = time.perf_counter()
            fed = [flow[step] for step in range(len(flow))]
            seconds[way].append(time.perf_counter() - started)
        started = time.perf_counter()
        for images, answers in fed:
            model.train_on_batch(images, answers)
        seconds[STEP].append(time.perf_counter() - started)
    taken = {way: np.median(turns[1:]) for way, turns in seconds.items()}
    whole = taken[STEP] + taken["Read and augmented, cubic splines"]
    table = pd.DataFrame({"": [*taken]})
    table["Share of training (%)"] = [f"{100 * x / whole:.1f}" for x in taken.values()]
    print(f"{machine.describe()['hardware']}, {source.sentence}")
    print(report.as_markdown(table))


if __name__ == "__main__":
    main()
