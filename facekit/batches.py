"""From a table of pictures to what Keras 3 fits on."""

import contextlib
import io
import pathlib

import keras
import numpy as np
import pandas as pd
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from facekit.labels import AGES, LABELS


class RandomContrast:
    """A preprocessing function: scale a picture's contrast by 1 ± ``amount``."""

    def __init__(self, amount: float):
        self.amount = amount

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Change one picture of grey levels from 0 to 255."""
        mean = picture.mean()
        factor = np.random.uniform(1 - self.amount, 1 + self.amount)  # seeded by flow
        return np.clip(mean + factor * (picture - mean), 0, 255)


class LabelledBatches(keras.utils.PyDataset):
    """Name the labels of a ``multi_output`` iterator, so that Keras 3 can fit on it.

    ``flow`` yields ``images, [age, gender, ethnicity]``; this yields ``images,
    {task: labels}``, shape ``(batch,)`` each. With ``sigma`` (years) the labels hold
    ``age_distribution`` too, ``(batch, 117)``: a Gaussian around the age (label
    distribution learning, Gao et al. 2017). ``mirrored`` turns pictures left to right.
    """

    def __init__(self, flow, sigma=None, tasks=LABELS, mirrored=False):
        super().__init__()
        self.flow, self.sigma, self.tasks, self.mirrored = flow, sigma, tasks, mirrored

    def __len__(self):
        return len(self.flow)

    def __getitem__(self, index):
        images, labels = self.flow[index]
        pairs = zip(LABELS, labels, strict=True)
        named = {task: values for task, values in pairs if task in self.tasks}
        if self.sigma and "age" in named:
            named["age_distribution"] = age_distribution(named["age"], self.sigma)
        return images[:, :, ::-1] if self.mirrored else images, named

    def on_epoch_end(self):
        """Shuffle anew for the next epoch, if the iterator shuffles."""
        self.flow.on_epoch_end()


def age_distribution(ages: np.ndarray, sigma: float) -> np.ndarray:
    """Spread ages ``(n,)`` as Gaussians over the ages 0 to 116: ``(n, 117)``."""
    weights = np.exp(-0.5 * ((AGES - np.asarray(ages)[:, None]) / sigma) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32")


def flow(
    rows: pd.DataFrame,
    folder: pathlib.Path,
    shape: tuple[int, int, int],
    generator: ImageDataGenerator | None = None,
    batch_size: int = 64,
    shuffle: bool = False,
    seed: int = 1,
    crop: bool = False,
):
    """``flow_from_dataframe`` over pictures of ``shape`` with all three labels.

    Without a ``generator`` pictures are rescaled to [0, 1] and nothing else. ``crop``
    cuts the middle square out of oblong pictures instead of squeezing them.
    """
    generator = generator or ImageDataGenerator(rescale=1 / 255)
    with contextlib.redirect_stdout(io.StringIO()):
        made = generator.flow_from_dataframe(
            rows.astype({label: "float32" for label in LABELS}),
            directory=str(folder),
            x_col="img_name",
            y_col=list(LABELS),
            class_mode="multi_output",
            color_mode="grayscale" if shape[2] == 1 else "rgb",
            target_size=shape[:2],
            interpolation="lanczos",
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
        )
    made.keep_aspect_ratio = crop  # an argument of that name would be passed over
    return made


def subset(rows: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """Draw a share of the rows, or give them as they are if it is all of them."""
    count = round(share * len(rows))
    return rows if count == len(rows) else rows.sample(count, random_state=seed)
