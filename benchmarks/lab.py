"""Try one change of the main network at a time, judged by the selection half alone.

Each experiment is the main network's dictionary of hyperparameters with a few of them
changed. Besides those that the notebook knows, the lab knows the ones in ``EXTRA``:
what proved itself moved into the notebook, what did not is kept here, so that every
line of `benchmarks/experiments.md` can be repeated:

    python benchmarks/lab.py muon '{"optimizer": "muon", "epochs": 12}'

Nothing but the training images and the selection half of validation is read. The
figures are appended to `model/runs/lab/results.jsonl`, the predictions and the weights
lie beside it. The notebook's data folder is expected in `data/`.
"""

import argparse
import json
import os
import pathlib
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from notebook_cells import load_functions  # noqa: E402

FOLDER = ROOT / "model" / "runs" / "lab"
BASE = {  # where the log begins, besides what the main network still has
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "epochs": 40,
    "images": None,  # this many of the training images, chosen by a fixed seed
}
EXTRA = {
    "ema": 0.0,  # momentum of the moving average of weights, per step
    "block_dropout": 0.0,  # after each pooling layer
    "activation": "relu",
    "mixup": 0.0,  # alpha of the Beta distribution
    "erasing": 0.0,  # share of pictures with a grey rectangle
    "smoothing": 0.0,  # of the labels gender and ethnicity
    "interpolation": 1,  # order of the splines of augmentation
    "affine": None,  # augmentation's ranges, in place of a key of AUGMENTATIONS
    "teacher": None,  # an .npz of soft labels, mixed half and half with the labels
    "age_answer": "mean",  # or "median" of the distribution, also in the loss
}


def erase(pictures, share, generator):
    """Cover a rectangle of some pictures with their mean grey (Zhong et al. 2020)."""
    for place in np.flatnonzero(generator.random(len(pictures)) < share):
        height, width = generator.integers(8, 21, 2)
        top, left = (generator.integers(0, 48 - side + 1) for side in (height, width))
        part = np.s_[place, top : top + height, left : left + width]
        pictures[part] = pictures[place].mean()
    return pictures


class Batches(keras.utils.PyDataset):
    """Augmented pictures from memory with soft labels for every head."""

    def __init__(self, notebook, images, table, hp, training, teacher=None):
        super().__init__()
        self.hp, self.training, self.teacher = hp, training, teacher
        self.generator = np.random.default_rng(hp["seed"])
        self.notebook = notebook
        changes = hp["affine"] if hp["affine"] else hp["augmentation"]
        if isinstance(changes, dict):
            notebook.AUGMENTATIONS["lab"] = changes
            changes = "lab"
        datagen = notebook.make_datagen(changes if training else "none")
        datagen.interpolation_order = hp["interpolation"]
        self.flow = datagen.flow(
            images[..., None].astype("float32"),
            np.arange(len(images)),
            batch_size=hp["batch_size"] if training else 256,
            shuffle=training,
            seed=hp["seed"],
        )
        age = table["age"].to_numpy("float32")
        keep = 1 - hp["smoothing"] * training
        gender = 0.5 + keep * (table["gender"].to_numpy("float32") - 0.5)
        five = np.eye(5, dtype="float32")[table["ethnicity"]]
        self.labels = {
            "age": age,
            "gender": gender,
            "ethnicity": 0.2 + keep * (five - 0.2),
            "age_distribution": notebook.age_distribution(age, hp["sigma"]),
        }
        if teacher is not None and training:
            for key, value in self.labels.items():
                self.labels[key] = 0.5 * value + 0.5 * teacher[key]

    def __len__(self):
        return len(self.flow)

    def __getitem__(self, index):
        pictures, rows = self.flow[index]
        labels = {key: value[rows] for key, value in self.labels.items()}
        if self.training and self.hp["erasing"]:
            pictures = erase(pictures, self.hp["erasing"], self.generator)
        if self.training and self.hp["mixup"]:
            share = self.generator.beta(self.hp["mixup"], self.hp["mixup"])
            share = max(share, 1 - share)
            pictures = share * pictures + (1 - share) * pictures[::-1]
            labels = {k: share * v + (1 - share) * v[::-1] for k, v in labels.items()}
        return pictures, labels

    def on_epoch_end(self):
        """Shuffle anew."""
        self.flow.on_epoch_end()


def answer_by_median(model, sharpness=20.0):
    """Answer with the age whose expected absolute error is smallest, by two layers.

    The first fixed layer gives each age its expected absolute error, times minus
    ``sharpness`` (per year), and a softmax; the second averages the ages by it.
    """
    distribution = model.get_layer("age_distribution").output
    ages = np.arange(distribution.shape[-1], dtype="float32")
    fixed = {"use_bias": False, "trainable": False, "dtype": "float32"}
    nearest = keras.layers.Dense(len(ages), "softmax", name="age_nearest", **fixed)
    median = keras.layers.Dense(1, name="age_median", **fixed)
    outputs = dict(model.output) | {"age": median(nearest(distribution))}
    nearest.set_weights([-sharpness * np.abs(ages[:, None] - ages)])
    median.set_weights([ages[:, None]])
    return keras.Model(model.input, outputs)


def build(notebook, hp):
    """Build the notebook's network with the lab's activation and block dropout."""
    model = notebook.build_model(hp)
    if hp["age_answer"] == "median":
        model = answer_by_median(model)
    if hp["activation"] == "relu" and not hp["block_dropout"]:
        return model

    def clone(layer):
        config = layer.get_config()
        if config.get("activation") == "relu":
            config["activation"] = hp["activation"]
        return type(layer).from_config(config)

    def call(layer, *args, **kwargs):
        out = layer(*args, **kwargs)
        if isinstance(layer, keras.layers.MaxPooling2D):
            rate = hp["block_dropout"]
            return keras.layers.Dropout(rate, name=f"{layer.name}_dropout")(out)
        return out

    keras.utils.set_random_seed(hp["seed"])
    copy = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        if layer.weights and not layer.trainable:  # fixed, not drawn by chance
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def optimizer_of(notebook, hp, steps):
    """Make the notebook's optimizer with its schedule, and a moving average."""
    warmup = hp["warmup_epochs"] * steps
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        hp["epochs"] * steps - warmup,
        warmup_target=hp["learning_rate"],
        warmup_steps=warmup,
    )
    made = notebook.make_optimizer(hp, schedule)
    made.use_ema, made.ema_momentum = bool(hp["ema"]), hp["ema"] or 0.99
    return made


def predict(notebook, model, images, table):
    """Predict as it is and averaged with the mirrored picture."""
    x = images[..., None].astype("float32") / 255
    result = {}
    plain, mirrored = (
        model.predict(part, batch_size=256, verbose=0) for part in (x, x[:, :, ::-1])
    )
    for name, outputs in (
        ("plain", plain),
        ("flip", {key: (plain[key] + mirrored[key]) / 2 for key in plain}),
    ):
        columns = [outputs["age"], outputs["gender"], outputs["ethnicity"]]
        values = np.column_stack(columns).astype("float32")
        result[name] = table.assign(
            **dict(zip(notebook.PREDICTED, values.T, strict=True))
        )
        ages = outputs["age_distribution"].astype("float64")
        result[name].attrs["age_distribution"] = ages
    return result


def score(notebook, predictions):
    """Give the headline metrics, and losses that tell more than accuracies do."""
    points = notebook.measure(predictions, np.ones((1, len(predictions)), "float32"))
    p = predictions["gender_probability"].clip(1e-6, 1 - 1e-6)
    five = predictions[list(notebook.ETHNICITIES)].to_numpy()
    own = five[np.arange(len(five)), predictions["ethnicity"]].clip(1e-6)
    y = predictions["gender"]
    median = (predictions.attrs["age_distribution"].cumsum(axis=1) < 0.5).sum(axis=1)
    return {
        "mae": round(float(points["age_mae"][0]), 3),
        "mae_median": round(float((median - predictions["age"]).abs().mean()), 3),
        "gender": round(100 * float(points["gender_accuracy"][0]), 2),
        "ethnicity": round(100 * float(points["ethnicity_accuracy"][0]), 2),
        "gender_loss": round(float(-np.log(np.where(y, p, 1 - p)).mean()), 4),
        "ethnicity_loss": round(float(-np.log(own).mean()), 4),
    }


def main(name, changes, threads):
    """Train one variant and append its figures to the log."""
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    notebook = load_functions()
    hp = notebook.MAIN_RUN | BASE | EXTRA | changes
    table, images, _ = notebook.load_folder(ROOT / "data")
    half = notebook.validation_part(table["img_name"])
    sets = {
        "train": (table["split"] == "train").to_numpy(),
        "select": ((table["split"] == "val") & (half == "select")).to_numpy(),
    }
    sets = {key: (images[rows], table[rows]) for key, rows in sets.items()}
    if hp["images"]:
        rows = np.random.default_rng(1).permutation(len(sets["train"][0]))
        rows = np.sort(rows[: hp["images"]])
        sets["train"] = sets["train"][0][rows], sets["train"][1].iloc[rows]
    teacher = np.load(hp["teacher"]) if hp["teacher"] else None
    machine = notebook.describe_machine()
    keras.mixed_precision.set_dtype_policy(machine["precision"])
    batches = Batches(notebook, *sets["train"], hp, True, teacher)
    select = Batches(notebook, *sets["select"], hp, False)
    model = build(notebook, hp)
    optimizer = optimizer_of(notebook, hp, len(batches))
    model.compile(
        optimizer,
        loss=notebook.LOSSES | {"ethnicity": "categorical_crossentropy"},
        loss_weights=hp["loss_weights"],
        metrics=notebook.METRICS,
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    started = time.time()
    raw = {}  # fit itself ends by putting the moving average into the model

    def report(epoch, logs):
        shown = {k: round(v, 3) for k, v in logs.items() if k.endswith(SHOWN)}
        print(name, epoch + 1, f"{time.time() - started:.0f} s", shown, flush=True)
        raw["weights"] = model.get_weights()

    callbacks = [
        keras.callbacks.LambdaCallback(on_epoch_end=report),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.CSVLogger(str(FOLDER / f"{name}.csv")),
        keras.callbacks.BackupAndRestore(str(FOLDER / f"{name}.backup")),
    ]
    model.fit(
        batches,
        validation_data=select,
        epochs=hp["epochs"],
        verbose=0,
        callbacks=callbacks,
    )
    seconds = time.time() - started
    kinds = {"ema": model.get_weights()} if hp["ema"] else {}
    kinds["raw"] = raw["weights"]
    line = {"name": name, "changes": changes, "parameters": model.count_params()}
    line |= {"epochs": hp["epochs"], "seconds": round(seconds)}
    for kind, weights in kinds.items():
        model.set_weights(weights)
        for way, predictions in predict(notebook, model, *sets["select"]).items():
            line[f"{kind}_{way}"] = score(notebook, predictions)
            notebook.save_predictions(FOLDER / f"{name}_{kind}_{way}.npz", predictions)
        model.save_weights(FOLDER / f"{name}_{kind}.weights.h5")
    line |= machine
    with open(FOLDER / "results.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line, indent=1))


SHOWN = ("age_mae", "gender_accuracy", "ethnicity_accuracy", "loss")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name")
    parser.add_argument("changes", type=json.loads, help="hyperparameters, as JSON")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    main(arguments.name, arguments.changes, arguments.threads)
