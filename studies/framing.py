"""Faces framed anew: pictures cut from the originals as another camera would have."""

import keras
import numpy as np
import PIL.Image

from facekit.labels import LABELS


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
        lanczos = PIL.Image.Resampling.LANCZOS
        return np.asarray(larger.resize(size[::-1], lanczos, box=box))
