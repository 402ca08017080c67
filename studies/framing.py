"""Faces framed anew, as another camera would have, and pictures made worse."""

import io

import keras
import numpy as np
import pandas as pd
import PIL.Image
from scipy.optimize import minimize
from tensorflow.keras.preprocessing.image import apply_affine_transform

from facekit import batches, duplicates, plots, report
from facekit.labels import LABELS
from facekit.measure import HEADLINE
from facekit.predictions import make_table

UNCHANGED = (1, 1, 0)  # the framing that a picture has
CHANGES = {  # of a picture of 48×48 pixels, as ``change`` takes them
    "0.8 times as large": {"zoom": 0.8},
    "1.25 times as large": {"zoom": 1.25},
    "6 pixels lower": {"down": 6},
    "turned by 15 degrees": {"turn": 15},
    "blurred to half the detail": {"detail": 0.5},
    "JPEG of quality 30": {"quality": 30},
}


class Reframed(keras.utils.PyDataset):
    """An unshuffled flow of pictures in another frame, cut from the originals.

    ``framing``: zoom in height, zoom in width (1.1: larger faces), and a shift down in
    shares of the height. Beyond a picture its edge is repeated, or a fourth entry says
    what is there, as ``numpy.pad`` takes it.
    """

    def __init__(self, rows, folder, shape, framing, batch_size=256):
        super().__init__()
        self.rows, self.folder, self.shape = rows, folder, shape
        self.framing, self.batch_size = framing, batch_size
        self.filenames = list(rows["img_name"])

    def __len__(self):
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, index):
        rows = self.rows[index * self.batch_size : (index + 1) * self.batch_size]
        pictures = []
        for name in rows["img_name"]:
            with PIL.Image.open(self.folder / name) as picture:
                levels = picture.convert("L" if self.shape[2] == 1 else "RGB")
            pictures.append(self.cut(np.asarray(levels), self.framing, self.shape[:2]))
        images = np.array(pictures, "float32").reshape(-1, *self.shape) / 255
        return images, rows[list(LABELS)].to_numpy("float32").T

    @staticmethod
    def cut(pixels: np.ndarray, framing, size: tuple[int, int]) -> np.ndarray:
        """One picture ``(height, width[, 3])``, framed anew, at most half beyond it."""
        (height, width), (high, wide, shift, *fill) = pixels.shape[:2], framing
        top, left = 0.5 - (0.5 + shift) / high, 0.5 - 0.5 / wide
        box = [left, top, 1 - left, top + 1 / high]
        margins = [(height // 2,) * 2, (width // 2,) * 2, (0, 0)][: pixels.ndim]
        larger = PIL.Image.fromarray(np.pad(pixels, margins, (*fill, "edge")[0]))
        start, side = np.tile([width // 2, height // 2], 2), np.tile([width, height], 2)
        box = tuple(start + side * box)
        return np.asarray(larger.resize(size[::-1], PIL.Image.Resampling.LANCZOS, box))


def mean_face(rows: pd.DataFrame, folder) -> np.ndarray:
    """Mean grey levels of pictures at ``(100, 100)``."""
    flow = batches.flow(rows, folder, (100, 100, 1), batch_size=len(rows))
    return 255 * flow[0][0].mean(axis=(0, 3))


def find_framing(home: np.ndarray, away: np.ndarray) -> tuple[list, list]:
    """The framing that makes the face ``away`` most like ``home``, and its inverse.

    As ``Reframed`` takes it. Both are shown, as they are and in the other's frame.
    """

    def likeness(framing):
        there = Reframed.cut(away, framing, home.shape)
        return np.corrcoef(there.flat, home.flat)[0, 1]

    found = minimize(lambda x: -likeness(x), (1, 1, -0.05), method="Nelder-Mead")
    high, wide, down = back = found.x.round(2).tolist()
    forth = np.round([1 / high, 1 / wide, -down / high], 2).tolist()
    ways = {
        "UTKFace": (home, UNCHANGED),
        "framed as foreign": (home, forth),
        "foreign": (away, UNCHANGED),
        "framed as UTKFace": (away, back),
    }
    faces = [Reframed.cut(face, way, home.shape) for face, way in ways.values()]
    faces = [127 + 50 * (face - face.mean()) / face.std() for face in faces]
    title = "Mean faces of the two sets, of equal contrast"
    figure = plots.faces(faces, [*ways], title, columns=4)
    figure.set_size_inches(5.6, 2)
    report.show_figure(figure, "Mean faces of both sets, each in both frames")
    report.say(
        f"Foreign faces are {forth[0]:.2f} times as high and {forth[1]:.2f} times as "
        f"wide, and lie {100 * forth[2]:.0f} % of the height lower. The mean faces "
        f"correlate by {likeness(UNCHANGED):.2f}, in UTKFace's frame by "
        f"{likeness(back):.2f}."
    )
    return back, forth


def count_overlap(home: np.ndarray, away: np.ndarray, back, forth) -> str:
    """How many pictures ``away`` show nearly what one at ``home`` shows, in words.

    Grey levels ``(n, 25, 25)``; ``back`` and ``forth`` as ``find_framing`` gives them.
    Pictures of home, framed there and back, tell how like copies are.
    """
    known, middle = duplicates.standardise(home[:, 5:20, 5:20]), slice(5, 20)

    def likeness(images, *framings):
        for way in framings:
            images = np.array([Reframed.cut(x, way, x.shape) for x in images])
        there = duplicates.standardise(images[:, middle, middle])
        return (there @ known.T).max(axis=1)

    found, copies = likeness(away, back), likeness(home[::20], forth, back)
    bar = np.quantile(copies, 0.05)
    return (
        f"{(found >= bar).sum():,} of {len(away):,} foreign pictures look like a copy "
        f"of one of UTKFace's: the most similar pair correlates by {found.max():.3f} "
        f"(middle of the face). Of UTKFace's own pictures, framed as foreign and back, "
        f"95 % correlate by {bar:.3f} or more. "
        "A copy framed quite differently would escape."
    )


def change(images, turn=0, zoom=1, down=0, detail=1, quality=None) -> np.ndarray:
    """Grey pictures ``(n, 48, 48)`` turned (degrees), zoomed (1.1: larger faces), moved
    (pixels), blurred to a share of their detail, and saved as JPEG of that quality.

    Splines of order 3; what comes into sight repeats the edge.
    """
    motion = {"theta": turn, "ty": -down, "zx": 1 / zoom, "zy": 1 / zoom, "order": 3}
    axes = {"row_axis": 0, "col_axis": 1, "channel_axis": 2}
    changed, lanczos = [], PIL.Image.Resampling.LANCZOS
    for pixels in images:
        moved = apply_affine_transform(pixels[..., None] * 1.0, **motion, **axes)
        moved = moved[..., 0].round().clip(0, 255).astype("uint8")
        picture = PIL.Image.fromarray(moved)
        if detail < 1:
            small = picture.resize([round(x * detail) for x in picture.size], lanczos)
            picture = small.resize(picture.size, lanczos)
        if quality:
            picture.save(file := io.BytesIO(), "JPEG", quality=quality)
            picture = PIL.Image.open(file)
        changed.append(np.asarray(picture))
    return np.array(changed)


def predict_changed(model: keras.Model, rows: pd.DataFrame, images, how: dict):
    """Predictions of ``images``, those of ``rows``, changed, with flip averaging."""
    seen = change(images, **how)[..., None].astype("float32") / 255
    views = [model.predict(x, 64, verbose=0) for x in (seen, seen[:, :, ::-1])]
    return make_table(rows, views)


def tell_worst(steps: dict[str, dict[str, tuple]]) -> str:
    """The two changes that cost most in each task, of ``measure.compare`` of each."""
    told = []
    for metric in HEADLINE:
        sign = 1 if report.METRICS[metric].lower_is_better else -1
        cost = {name: sign * step[metric][0] for name, step in steps.items()}
        second, first = sorted(cost, key=cost.get)[-2:]
        told.append(f"{report.METRICS[metric].task.lower()}: {first}, then {second}")
    return "; ".join(told)
