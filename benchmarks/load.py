"""How time and memory grow with the number of pictures: check, one epoch, predict.py.

    python benchmarks/load.py 10000 250000

Synthetic faces are written into a temporary folder in the assignment's layout, as many
as each number says. Every step runs in a process of its own, whose peak memory is read.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pandas as pd

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from facekit import dataset, labels, report, sources  # noqa: E402

STEPS = ("nothing", "check", "epoch", "predict")


def write_faces(count: int, folder: pathlib.Path) -> None:
    """Write that many synthetic faces, each as often as it takes, with labels."""
    source = sources.find_source("sample", folder.parent / "sample")
    sample = dataset.load(source.folder, source.synthetic)
    contents = [
        (sample.folder / row.split / row.img_name).read_bytes()
        for row in sample.table.head(500).itertuples()
    ]
    places = np.random.default_rng(1).choice(labels.SPLITS, count, p=(0.64, 0.16, 0.2))
    for split in labels.SPLITS:
        (folder / "images" / split).mkdir(parents=True)
    for number, split in enumerate(places):
        path = folder / "images" / split / f"{number:06d}.jpg"
        path.write_bytes(contents[number % len(contents)])
    rows = sample.table.iloc[np.arange(count) % len(contents)].reset_index(drop=True)
    rows["img_name"] = [f"{number:06d}.jpg" for number in range(count)]
    rows[list(labels.COLUMNS)].to_csv(folder / "age_gender.csv", index=False)


def run_step(step: str, folder: pathlib.Path) -> None:
    """Do one step on the pictures of a folder; print its seconds and peak memory."""
    import contextlib
    import os
    import re
    import time

    import tiny

    import predict
    from facekit import batches

    model = tiny.build(tiny.FACES)
    started = time.perf_counter()
    if step in ("check", "epoch"):
        data = dataset.load(folder)
    if step == "epoch":
        losses = {"age": "mae", "gender": "binary_crossentropy"}
        model.compile("adam", losses | {"ethnicity": "sparse_categorical_crossentropy"})
        flow = tiny.flow_of(data, "train", shuffle=True)
        model.fit(batches.LabelledBatches(flow), verbose=0)
    if step == "predict":
        path = folder.parent / "tiny.keras"
        model.save(path)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            predict.main([str(folder / "images"), "--model", str(path)])
    status = pathlib.Path("/proc/self/status").read_text()  # Linux; this process's own
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
    print(json.dumps({"seconds": time.perf_counter() - started, "peak": peak}))


def measure(count: int) -> dict[str, dict[str, float]]:
    """Seconds and peak memory (MB) of every step on that many pictures."""
    found = {}
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place, "data")
        write_faces(count, folder)
        for step in STEPS:
            command = [sys.executable, __file__, "--step", step, str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[step] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(counts: list[int]) -> None:
    """Print a table: a row per step and number of pictures."""
    rows = []
    for count in counts:
        for step, told in measure(count).items():
            row = {"Pictures": f"{count:,}", "Step": step}
            row["Peak memory (MB)"] = f"{told['peak']:,.0f}"
            each = 1e3 * told["seconds"] / count
            rows.append(row | {"Time per picture (ms)": f"{each:.2f}"})
    print(report.as_markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        run_step(sys.argv[2], pathlib.Path(sys.argv[3]))
    else:
        main([int(text) for text in sys.argv[1:]] or [10_000])
