"""Faces in a photograph: found, and framed as the training pictures are."""

import importlib.resources

import numpy as np
from PIL import Image

POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
LONGEST = 1280  # pixels of a photograph's longer side while faces are searched
FINEST = 256  # pixels of a framed face's side: above it the photograph is shrunk
CLOSE = {"size": 0.1, "place": 0.06, "turn": 8}  # shares of the side; degrees


class Finder:
    """Three networks in a cascade that find faces (MTCNN, Zhang et al. 2016).

    Their weights come with the package `mtcnn`; `benchmarks/finders.py` says why it.
    """

    def __init__(self):
        try:  # takes a second: only where photographs are looked at
            from mtcnn import MTCNN, stages

            own = importlib.resources.files("mtcnn.assets.weights")  # no others
            kinds = {"pnet": stages.StagePNet, "rnet": stages.StageRNet}
            kinds["onet"] = stages.StageONet
            parts = [kind(weights=str(own / f"{k}.lz4")) for k, kind in kinds.items()]
            self.cascade = MTCNN(parts)
        except (ImportError, OSError) as why:
            raise ValueError("pip install mtcnn finds faces; or say --crop") from why

    def find(self, image: Image.Image) -> list[np.ndarray]:
        """``POINTS`` of each face, ``(5, 2)`` in pixels, the largest first."""
        shrink = max(1, max(image.size) / LONGEST)
        size = [max(1, round(length / shrink)) for length in image.size]
        small = image.resize(size, Image.Resampling.LANCZOS) if shrink > 1 else image
        try:
            found = self.cascade.detect_faces(np.asarray(small))
        except ValueError as why:
            if "empty output" in str(why):  # so it says that there is none
                return []
            raise
        faces = [[face["keypoints"][name] for name in POINTS] for face in found]
        faces = [np.array(points, float) * shrink for points in faces]
        return sorted(faces, key=lambda points: -np.ptp(points[:, 1]))


def similarity(points: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The turn, scale and shift that bring ``(n, 2)`` points closest to others.

    A matrix ``(2, 3)``, by least squares.
    """
    z, w = points @ [1, 1j], wanted @ [1, 1j]
    centred = z - z.mean()
    a = np.vdot(centred, w - w.mean()) / np.vdot(centred, centred)
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def locate(points: np.ndarray, frame: np.ndarray) -> tuple[float, float, float, float]:
    """Where a face's frame lies: left and top of an upright square about the same
    centre, its side (pixels) and the turn (degrees, clockwise).

    ``frame`` holds where ``POINTS`` lie in a training picture, in shares of its side.
    """
    place = similarity(frame, points)
    side = float(np.hypot(*place[:, 0]))
    left, top = place @ [0.5, 0.5, 1] - side / 2
    turn = np.degrees(np.arctan2(place[1, 0], place[0, 0]))
    return float(left), float(top), side, float(turn)


def fills(points: np.ndarray, frame: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether a picture of that size is already framed about this face."""
    left, top, side, turn = locate(points, frame)
    whole = min(size)
    off = (left + side / 2 - size[0] / 2, top + side / 2 - size[1] / 2)
    alike = abs(side / whole - 1) <= CLOSE["size"] and abs(turn) <= CLOSE["turn"]
    return alike and max(map(abs, off)) <= CLOSE["place"] * whole


def cut_out(image: Image.Image, points: np.ndarray, frame: np.ndarray) -> Image.Image:
    """A face as a square, upright RGB picture, framed as the training pictures are.

    What lies beyond the picture's edge repeats the edge.
    """
    left, top, side, _ = locate(points, frame)
    box = []  # twice the face, as far as the photograph goes
    for start, most in zip((left, top), image.size, strict=True):
        first = int(np.clip(start - side / 2, 0, most - 1))
        box.append((first, int(np.clip(start + 1.5 * side, first + 1, most))))
    image = image.crop([box[0][0], box[1][0], box[0][1], box[1][1]])
    points = points - [box[0][0], box[1][0]]
    shrink = max(1, int(side / FINEST))
    image, points = image.reduce(shrink), points / shrink
    side = max(1, round(locate(points, frame)[2]))
    place = similarity(frame * side, points)
    corners = place @ [[0, side, 0, side], [0, 0, side, side], [1, 1, 1, 1]]
    beyond = max(0, *-corners.min(1), *(corners.max(1) - image.size))
    margin = int(np.ceil(beyond)) + 1
    edged = np.pad(np.asarray(image), [(margin, margin)] * 2 + [(0, 0)], "edge")
    place[:, 2] += margin
    how = Image.Transform.AFFINE, place.ravel(), Image.Resampling.BICUBIC
    return Image.fromarray(edged).transform((side, side), *how)
