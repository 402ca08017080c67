"""Networks that train in no time, as a notebook has them: settings, build and fit."""

import dataclasses

import keras
import numpy as np

from facekit import batches, boards, predictions


@dataclasses.dataclass(frozen=True)
class Settings:
    """Exactly what build and fit read."""

    units: int = 4
    learning_rate: float = 0.01
    epochs: int = 3
    patience: int = 30
    note: str | None = None  # changes the digest alone
    seed: int = 1


FACES = Settings(units=8, epochs=2)


def build(settings):
    """Build a network with an output for each task, for 48×48 faces."""
    keras.utils.set_random_seed(settings.seed)
    image = keras.Input((48, 48, 1), name="image")
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(6)(image))
    x = keras.layers.Dense(settings.units, "relu", name="shared_dense")(x)
    outputs = {
        "age": keras.layers.Dense(1, name="age")(x),
        "gender": keras.layers.Dense(1, "sigmoid", name="gender")(x),
        "ethnicity": keras.layers.Dense(5, "softmax", name="ethnicity")(x),
    }
    return keras.Model(image, outputs, name="tiny")


def callbacks(place, settings):
    """Give the callbacks of the main notebook, in its order."""
    return [
        keras.callbacks.TensorBoard(place.logs, write_graph=False),
        keras.callbacks.ModelCheckpoint(
            place.weights,
            monitor="val_loss",
            save_best_only=True,
            save_weights_only=True,
        ),
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=settings.patience),
        *place.resume(),
    ]


def flow_of(data, split, **options):
    """Give the flow over one set of a main assignment's data."""
    return batches.flow(data.rows(split), data.folder / split, (48, 48, 1), **options)


def fit_on(data):
    """Give a fit on the pictures of a data set, as the main notebook has it."""

    def fit(model, settings, place):
        flow = flow_of(data, "train", batch_size=64, shuffle=True, seed=settings.seed)
        model.compile(
            keras.optimizers.Adam(settings.learning_rate),
            {
                "age": "mae",
                "gender": "binary_crossentropy",
                "ethnicity": "sparse_categorical_crossentropy",
            },
            metrics={"age": "mae", "gender": "accuracy", "ethnicity": "accuracy"},
        )
        boards.write_graph(model, place.logs)
        model.fit(
            batches.LabelledBatches(flow),
            validation_data=batches.LabelledBatches(flow_of(data, "val")),
            epochs=settings.epochs,
            callbacks=callbacks(place, settings),
            verbose=0,
        )
        return {"images": flow.samples}

    return fit


def missing(store, settings):
    """Name the trainings that are still to be done, of settings by name."""
    return [name for name, one in settings.items() if store.find(name, one) is None]


def predict(model, rows, data):
    """Predict test pictures of a data set."""
    return predictions.predict(model, rows, flow_of(data, "test"))


def build_sum(settings):
    """Build a network of two layers over three numbers."""
    keras.utils.set_random_seed(settings.seed)
    numbers = keras.Input((3,), name="numbers")
    x = keras.layers.Dense(settings.units, "relu")(numbers)
    return keras.Model(numbers, keras.layers.Dense(1, name="age")(x), name="sum")


class Scripted(keras.callbacks.Callback):
    """Replace validation's loss by a script; note what each epoch starts and ends with.

    Parameters
    ----------
    losses : list of float
        One per epoch.
    """

    def __init__(self, losses):
        super().__init__()
        self.losses = losses
        self.begun, self.begins_with, self.ends_with = [], {}, {}

    def on_epoch_begin(self, epoch, logs=None):
        """Note weights and the optimizer's memory."""
        self.begun.append(epoch)
        memory = self.model.optimizer.variables
        self.begins_with[epoch] = [*self.model.get_weights(), *map(np.array, memory)]

    def on_epoch_end(self, epoch, logs=None):
        """Replace the loss, note weights."""
        logs["val_loss"] = self.losses[epoch]
        self.ends_with[epoch] = self.model.get_weights()


class CutOff(keras.callbacks.Callback):
    """Interrupt the training when an epoch ends, or in its middle."""

    def __init__(self, epoch, in_the_middle=False):
        super().__init__()
        self.epoch, self.in_the_middle = epoch, in_the_middle
        self.now = None

    def on_epoch_begin(self, epoch, logs=None):
        """Note the epoch."""
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Interrupt before the last batch."""
        if self.in_the_middle and self.now == self.epoch:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        """Interrupt between other callbacks."""
        if epoch == self.epoch:
            raise KeyboardInterrupt


# Where a training may be cut off: after how many of its callbacks, the scripted aside.
MOMENTS = {
    "before the checkpoint": 1,
    "between checkpoint and log": 3,
    "between log and backup": 6,
    "after the backup": 7,
}


def fit_scripted(losses, cut_off=None, moment="before the checkpoint"):
    """Give a fit on eight rows under a script, and the script.

    Parameters
    ----------
    losses : list of float
        Validation's, one per epoch.
    cut_off : int or None
        The epoch, from 0, in which the training is cut off.
    moment : str
        One of ``MOMENTS``, or "the middle of the epoch".
    """
    script = Scripted(losses)

    def fit(model, settings, place):
        generator = np.random.default_rng(0)
        numbers = generator.normal(size=(8, 3)).astype("float32")
        model.compile(keras.optimizers.Adam(0.01), "mae", run_eagerly=True)
        chain = callbacks(place, settings)
        if cut_off is not None:
            cut = CutOff(cut_off, in_the_middle=moment not in MOMENTS)
            chain.insert(MOMENTS.get(moment, 0), cut)
        model.fit(
            numbers,
            numbers.sum(axis=1),
            batch_size=4,
            validation_data=(numbers, numbers.sum(axis=1)),
            epochs=settings.epochs,
            callbacks=[script, *chain],
            verbose=0,
        )
        return {"images": 8}

    return fit, script


def sharpness(pictures: np.ndarray) -> float:
    """Mean absolute Laplacian of ``(n, height, width, 1)``: how neighbours differ."""
    down, across = (np.diff(pictures, 2, axis) for axis in (1, 2))
    return float(np.abs(down[:, :, 1:-1] + across[:, 1:-1]).mean())
