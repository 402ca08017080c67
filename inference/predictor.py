"""A shipped network, or the user's, with what its answers need."""

import dataclasses
import functools
import json
import pathlib
import sys

import numpy as np
from PIL import Image

from facekit.labels import DATA, ETHNICITIES, LABELS, MODELS, SIZE
from facekit.measure import age_intervals
from inference import faces, trust
from inference.framing import face_scores, middle, prepare

TINY = 64  # pixels across: up to here a picture is taken as one face
PLACE = ("left", "top", "side")  # columns: a face's square in its photograph, pixels


def find_model(name: str, folder: pathlib.Path = MODELS / "utkface") -> pathlib.Path:
    """Find a Keras file, or the weights of that name that the repository ships.

    Raises FileNotFoundError, with the known names, if there is neither.
    """
    if pathlib.Path(name).is_file():
        return pathlib.Path(name)
    shipped = {path.stem: path for path in sorted(folder.glob("*/*.keras"))}
    if name not in shipped:
        told = ", ".join(shipped) or f"none in {folder}"
        raise FileNotFoundError(f"--model {name}: no such file or model; known: {told}")
    return shipped[name]


def load_model(path: pathlib.Path):
    """Load a Keras file that holds no code; ValueError says why it cannot be used."""
    import keras  # takes seconds: after the arguments were checked

    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged archive fails in many ways
        unsafe = "Lambda" in str(error) or "safe_mode" in str(error)
        why = "it is damaged, of a newer Keras, or has layers that are not Keras' own"
        why = "it holds code (a Lambda layer), which is not run" if unsafe else why
        raise ValueError(f"--model {path.name} cannot be used: {why}.") from error
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs)
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    if len(shapes) != 1:
        raise ValueError(f"{path.name} wants more than a picture: use another model")
    square = len(shapes[0]) == 3 and shapes[0][0] == shapes[0][1]
    if not square or not shapes[0][0] or shapes[0][2] not in (1, 3):
        told = "×".join(map(str, shapes[0]))
        raise ValueError(f"{path.name} takes {told}, not square grey or RGB pictures.")
    outputs = model.output
    if not isinstance(outputs, dict):  # one, or a list: by name from here on
        outputs = dict(zip(model.output_names, model.outputs, strict=True))
        model = keras.Model(model.input, outputs)
    sizes = {"age": 1, "gender": 1, "ethnicity": len(ETHNICITIES)}
    known = {t: n for t, n in sizes.items() if t in outputs}
    if not known or any(outputs[t].shape[1:] != (n,) for t, n in known.items()):
        told = ", ".join(f"{t} {tuple(x.shape[1:])}" for t, x in outputs.items())
        raise ValueError(
            f"{path.name} has the outputs {told}; wanted are age (1), gender (1) or "
            "ethnicity (5) by these names."
        )
    return model


def read_beside(path: pathlib.Path, read, otherwise: str):
    """Read a file that may be missing; where it is damaged, say what is lacking."""
    try:
        return read(path) if path.exists() else None
    except Exception:  # a damaged file fails in many ways
        print(f"{path.name} is damaged: {otherwise}", file=sys.stderr)
        return None


@dataclasses.dataclass(frozen=True)
class Found:
    """A face as a square, upright picture; ``side`` is its height in the photograph, in
    pixels. ``place`` is ``PLACE``, or nothing where the whole picture is one face.
    """

    image: Image.Image
    side: float
    place: tuple[int, int, int] | tuple = ()


class Predictor:
    """A network with what its answers need.

    Beside its Keras file may lie the notebook's ``results.json``, whose entry
    ``age_intervals`` holds, by network, what ``measure.age_intervals`` takes. Of the
    shipped networks `trust.json` knows what blur and few pixels do to their answers.
    """

    def __init__(self, path: pathlib.Path):
        self.model = load_model(path)
        _, self.size, _, self.channels = self.model.inputs[0].shape
        self.tasks = [task for task in LABELS if task in self.model.output]

        def read_intervals(beside):
            results = json.loads(beside.read_text(encoding="utf-8"))
            found = results["age_intervals"].get(path.stem)
            return found and {key: found[key] for key in ("from", "low", "high")}

        def read_face(beside):
            with np.load(beside, allow_pickle=False) as file:
                return {key: file[key].astype("float32") for key in file}

        def read_trust(beside):
            told = json.loads(beside.read_text(encoding="utf-8"))
            return np.array(told["frame"]), told["networks"]

        beside = path.with_name("results.json")
        self.intervals = read_beside(beside, read_intervals, "ages have no interval")
        beside = DATA / "sample" / "face_model.npz"
        self.face_model = read_beside(beside, read_face, "odd framing is not warned of")
        beside = MODELS / "utkface" / "trust.json"
        told = read_beside(beside, read_trust, "no faces are found, blur is not told")
        self.frame, networks = told or (None, {})
        shipped = path.resolve().parent.parent == beside.parent.resolve()
        self.trust = networks.get(path.stem) if shipped else None
        if self.trust and "age" in self.tasks:
            self.intervals = self.trust["age_intervals"]

    @functools.cached_property
    def finder(self) -> faces.Finder:
        """What finds faces; its networks are read where a photograph needs them."""
        return faces.Finder()

    @property
    def columns(self) -> list[str]:
        """Names of the columns of an answer, in order."""
        names = ["file", *PLACE]
        if "age" in self.tasks:
            names += ["age"] + ["age_low", "age_high"] * bool(self.intervals)
        names += ["female"] * ("gender" in self.tasks)
        names += [*ETHNICITIES] * ("ethnicity" in self.tasks)
        return [*names, "note"]

    def find_faces(self, image: Image.Image, crop: bool = False) -> list[Found]:
        """The faces of an upright RGB picture, the largest first.

        Its middle square where one face fills it, where ``crop`` says so, and where it
        has at most ``TINY`` pixels across. ValueError where no face is found.
        """
        square = middle(image)
        square = square.reduce(max(1, square.width // faces.FINEST))
        whole = Found(square, min(image.size))
        if crop or self.frame is None or max(image.size) <= TINY:
            return [whole]
        seen = self.finder.find(image)
        if not seen:
            if self.typical is None or self.odd([whole.image], self.typical)[0]:
                raise ValueError("no face was found: crop to one, and say --crop")
            return [whole]
        if len(seen) == 1 and faces.fills(seen[0], self.frame, image.size):
            return [whole]
        found = []
        for points in seen:
            left, top, side, _ = faces.locate(points, self.frame)
            framed = faces.cut_out(image, points, self.frame)
            found.append(Found(framed, side, (round(left), round(top), round(side))))
        return found

    def refusal(self, face: Found) -> str:
        """Why a face is not answered: it has too few pixels; else nothing."""
        least = self.trust["least_pixels"] if self.trust else 2
        if round(face.side) >= least:
            return ""
        return (
            f"{face.side:.0f} pixels across, at least {least} are needed: use a larger "
            "picture of this face"
        )

    def answer(self, pictures: list[Image.Image]) -> list[dict]:
        """Predict a few square pictures, each averaged with its mirror image.

        One answer per picture: what ``columns`` names, without ``file`` and place.
        """
        shape = self.size, self.channels
        batch = np.stack([prepare(picture, *shape) for picture in pictures])
        batch = batch.astype("float32") / 255
        views = [self.model.predict_on_batch(x) for x in (batch, batch[:, :, ::-1])]
        outputs = {task: (views[0][task] + views[1][task]) / 2 for task in self.tasks}
        details = self.details(pictures)
        columns = {}
        if "age" in outputs:
            columns["age"] = ages = outputs["age"][:, 0]
            if self.trust:
                ends = trust.intervals(ages, details, self.trust)
            elif self.intervals:
                ends = age_intervals(ages, self.intervals)
            if self.intervals:
                columns |= dict(zip(("age_low", "age_high"), ends, strict=True))
        if "gender" in outputs:
            columns["female"] = outputs["gender"][:, 0]
        if "ethnicity" in outputs:
            columns |= dict(zip(ETHNICITIES, outputs["ethnicity"].T, strict=True))
        digits = {name: 1 if name.startswith("age") else 3 for name in columns}
        rows, notes = [], self.notes(pictures, details)
        for *values, note in zip(*columns.values(), notes, strict=True):
            if not np.isfinite(values).all():
                rows.append({"note": "error: the network's answer is not a number"})
                continue
            named = zip(columns, values, strict=True)
            row = {name: round(float(x), digits[name]) for name, x in named}
            rows.append(row | {"note": note})
        return rows

    def details(self, pictures: list[Image.Image]) -> np.ndarray:
        """Detail of each picture, as ``trust.detail`` gives it; nan where not known."""
        if not self.trust:
            return np.full(len(pictures), np.nan)
        grey = np.stack([prepare(picture, self.size, 1) for picture in pictures])
        return trust.detail(grey[..., 0], self.trust["detail"])

    def notes(self, pictures: list[Image.Image], details: np.ndarray) -> list[str]:
        """Warn of the pictures in which the network errs more than in others."""
        known = self.trust or {"least_detail": None, "least_score": self.typical}
        odd, told = self.odd(pictures, known["least_score"]), []
        least = known["least_detail"]
        for value, strange in zip(details, odd, strict=True):
            notes = []
            if strange:
                notes.append("unlike one upright face: frame it, or leave out --crop")
            if least is not None and value < least:
                notes.append("blurred or small: use a sharper or larger picture")
            told.append("warning: " * bool(notes) + "; ".join(notes))
        return told

    @property
    def typical(self) -> float | None:
        """How much 99 % of well framed faces look like one, at least."""
        return self.face_model and float(self.face_model["alignment_quantiles"][1])

    def odd(self, pictures: list[Image.Image], least: float | None) -> list[bool]:
        """Which pictures look less than that like an upright face that fills them."""
        if self.face_model is None or least is None:
            return [False] * len(pictures)
        small = np.stack([prepare(picture, SIZE, 1) for picture in pictures])
        return [bool(score < least) for score in face_scores(self.face_model, small)]
