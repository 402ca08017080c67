"""Take data to `breadth.py`, and what it trained back to Keras.

    python benchmarks/breadth_data.py pack data.npz
    python benchmarks/breadth_data.py soften out/answers_D.npz
    python benchmarks/breadth_data.py ship out c3_s1 mtl

`pack` writes training and validation images, which must not leave your hands. `soften`
makes `model/utkface/soft_labels.npz` of merged answers. `ship` makes a run of the main
notebook (`model/utkface/assignment_2`) of a trial's weights, history and answers; its
settings are those of run 6 with the trial's changes.
"""

import dataclasses
import datetime
import json
import pathlib
import shutil
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from facekit import boards, dataset, labels, machine, predictions, runs  # noqa: E402

# isort: split
import tensorflow as tf  # noqa: E402  facekit comes first: it silences its notes
from lab import find_folds  # noqa: E402
from notebook_cells import load_definitions  # noqa: E402

TRAINED = {  # what the history says of where it was trained
    "hardware": "1 GPU, NVIDIA H100",
    "precision": "mixed_bfloat16",
    "versions": "Python 3.12.3, JAX 0.11.2 (benchmarks/breadth.py)",
}


def pack(path):
    """Training and validation images with their labels, fifths and halves."""
    data, packed = dataset.load(labels.DATA), {}
    for split in ("train", "val"):
        rows = data.rows(split)
        packed[f"{split}_images"] = images = data.images[rows.index]
        packed |= {f"{split}_{key}": rows[key].to_numpy() for key in labels.LABELS}
    packed["train_fold"] = find_folds(data.images[data.rows("train").index])
    half = labels.validation_half(rows["img_name"])
    packed["val_select"] = np.asarray(half == "select")
    np.savez_compressed(path, **packed)
    print(f"{len(images):,} validation images and {len(packed['train_fold']):,} others")


def soften(path, rows, kept=labels.MODELS / "utkface" / "soft_labels.npz"):
    """Keep answers to training pictures under hashes of their names."""
    with np.load(path) as told:
        values = [told["age"], told["gender"], *told["ethnicity"].T]
    answers = rows.assign(**dict(zip(predictions.PREDICTED, values, strict=True)))
    predictions._save(kept, answers)
    with np.load(kept) as file:
        small = {"name_hash": file["name_hash"], "values": np.float16(file["values"])}
    np.savez_compressed(kept, **small)


def rebuild(build, settings, weights, export):
    """The notebook's network with a trial's weights, as it is saved."""
    model = build(settings)
    for name, values in weights.items():
        layer, kind = name.split("/")
        getattr(model.get_layer(layer), kind).assign(values)
    return export(model)


def write_curves(history, folder):
    """TensorBoard's scalars of a training, under the names of Keras' callback."""
    for side, prefix in (("train", ""), ("validation", "val_")):
        shutil.rmtree(folder / side, ignore_errors=True)
        writer = tf.summary.create_file_writer(str(folder / side))
        with writer.as_default():
            for key, values in history["epochs"].items():
                if key.startswith("val_") != bool(prefix) or key == "seconds":
                    continue
                for number, value in enumerate(values):
                    tag = f"epoch_{key.removeprefix('val_')}"
                    tf.summary.scalar(tag, value, step=number)


def ship(out, trial, name):
    """Write history, weights, answers on validation and curves of a run."""
    notebook = load_definitions("assignment_2.ipynb")
    results = [json.loads(x) for x in (out / "results.jsonl").read_text().splitlines()]
    found = [line for line in results if line["name"] == trial][-1]
    fields = {field.name for field in dataclasses.fields(notebook.Settings)}
    changes = {k: v for k, v in found["changes"].items() if k in fields}
    settings = dataclasses.replace(notebook.Settings(), **changes)
    settings = dataclasses.replace(settings, patience=settings.epochs)
    data = dataset.load(labels.DATA)
    epochs = json.loads((out / "histories.json").read_text())[trial]
    columns = {key: [row[key] for row in epochs] for key in sorted(epochs[0])}
    columns["seconds"] = [round(found["seconds"] / len(epochs), 3)] * len(epochs)
    with np.load(out / f"{trial}.npz") as weights:
        model = rebuild(notebook.build, settings, weights, notebook.one_output_per_task)
    folder = labels.MODELS / "utkface" / "assignment_2"
    history = {
        "name": name,
        "data": "utkface",
        "digest": runs._digest(settings),
        "settings": dataclasses.asdict(settings),
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "commit": machine.commit(),
        "best_epoch": found["best_epoch"],
        "diverged": False,
        "seconds": found["seconds"],
        "parameters": model.count_params(),
        "epochs": columns,
        **TRAINED,
        "images": len(data.rows("train")),
    }
    runs.write_history(folder / f"{name}.json", history)
    model.save(folder / f"{name}.keras")
    rows = data.rows("val")
    told = np.load(out / "val.npz")[trial].T
    answers = rows.assign(**dict(zip(predictions.PREDICTED, told, strict=True)))
    predictions._save(folder / f"{name}_val.npz", answers)
    if name in boards.SHIPPED:
        write_curves(history, labels.LOGS / "utkface" / boards.SHIPPED[name])


if __name__ == "__main__":
    task, path, *more = sys.argv[1:]
    if task == "pack":
        pack(path)
    elif task == "soften":
        soften(path, dataset.load(labels.DATA).rows("train"))
    else:
        ship(pathlib.Path(path), *more)
