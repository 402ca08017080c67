"""Whether a picture looks like one upright face that fills it."""

import numpy as np
from PIL import Image


def middle(image: Image.Image) -> Image.Image:
    """The middle square of a picture."""
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    return image.crop((left, top, left + side, top + side))


def prepare(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """Resize a square picture as the training pictures were: uint8 ``(size, size,
    channels)``, grey if ``channels`` is 1.
    """
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(size, size, channels)


def standardise(pixels: np.ndarray) -> np.ndarray:
    """Give each picture (a row of grey levels) the mean 0 and the deviation 1."""
    centred = pixels.astype("float32")
    centred = centred - centred.mean(axis=1, keepdims=True)
    return centred / np.maximum(centred.std(axis=1, keepdims=True), 1)


def alignment_inputs(face_model: dict, pixels: np.ndarray) -> np.ndarray:
    """Describe how pictures ``(n, 2304)`` differ from a typical aligned face.

    The scores of the components in standard deviations, cut off at 6, their squares,
    and 5 times the root mean square error of the reconstruction: ``(n, 301)``.
    """
    components = face_model["components"]
    centred = standardise(pixels) - face_model["alignment_mean"]
    scores = centred @ components.T
    error = np.sqrt(((centred - scores @ components) ** 2).mean(axis=1))
    scores = (scores / face_model["alignment_spread"]).clip(-6, 6)
    return np.concatenate([scores, scores**2, 5 * error[:, None]], axis=1)


def face_scores(face_model: dict, faces: np.ndarray) -> np.ndarray:
    """Score how much pictures ``(n, 48, 48, 1)`` look like the networks' aligned faces.

    Log odds of a logistic regression that `data/sample/fit_face_model.py` fits; minus
    infinity for a picture of one grey level.
    """
    pixels = faces.reshape(len(faces), -1).astype("float32")
    inputs = alignment_inputs(face_model, pixels)
    odds = inputs @ face_model["alignment_weights"] + face_model["alignment_bias"]
    return np.where(pixels.std(axis=1) < 2, -np.inf, odds)
