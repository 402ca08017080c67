"""A training has a name, settings and a place. It is done once, then loaded."""

import dataclasses
import datetime
import json
import os
import pathlib
import shutil
import time

import filelock
import keras
import tensorflow as tf

from facekit import machine
from facekit.dataset import Dataset
from facekit.labels import LOGS, MODELS, digest
from facekit.places import Place, use_drive, whole


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished training: its ``history``, and files named ``stem`` plus an ending."""

    name: str
    stem: pathlib.Path
    history: dict
    trained_here: bool = False

    @property
    def own(self) -> bool:
        """Whether the user trained it; else it came with the repository."""
        return self.stem.parents[2].name == "runs"

    def path(self, ending: str) -> pathlib.Path:
        """One of its files, such as ``".keras"``."""
        return self.stem.with_name(self.stem.name + ending)

    def load(self) -> keras.Model:
        """Read its best weights back. ValueError names an unreadable file."""
        try:
            return keras.saving.load_model(self.path(".keras"), compile=False)
        except Exception as why:  # a damaged archive fails in many ways
            raise ValueError(
                f"{self.path('.keras').name} is missing, damaged or of a newer Keras "
                f"than {keras.__version__} (it was saved under "
                f"{self.history['versions']}). Fetch it again, or delete it and "
                f"{self.path('.json').name} to train anew."
            ) from why


@dataclasses.dataclass(frozen=True)
class Store:
    """Finds and keeps the trainings of one notebook on one data set.

    ``retrain`` leaves aside what the repository ships; ``deterministic`` asks for the
    same weights again on a GPU too, and is not undone within a process.
    """

    notebook: str
    data: Dataset
    retrain: bool = False
    deterministic: bool = False
    models: pathlib.Path = MODELS
    logs: pathlib.Path = LOGS

    def __post_init__(self):
        use_drive(self.models, self.logs)

    @property
    def folder(self) -> pathlib.Path:
        """Where the user's own trainings on these data lie."""
        data = f"{self.data.name}-{self.data.digest}"
        return self.models / "runs" / data / self.notebook

    @property
    def shipped(self) -> pathlib.Path:
        """Where the repository's trainings lie."""
        return self.models / "utkface" / self.notebook

    def find(self, name: str, settings) -> Run | None:
        """A finished training with these settings: the user's own, else a shipped."""
        wanted = _digest(settings)
        stems = [self.folder / f"{name}-{wanted}"]
        if self.data.name == "utkface" and not self.retrain:
            stems.append(self.shipped / name)
        found = _read_runs(name, stems)
        return next((run for run in found if run.history.get("digest") == wanted), None)

    def latest(self, name: str) -> Run:
        """The newest own training of that name, whatever its settings, else the shipped
        one. FileNotFoundError says which notebook makes it.
        """
        pattern = f"runs/{self.data.name.removesuffix('-enlarged')}-*/{self.notebook}"
        own = self.models.glob(f"{pattern}/{name}-??????.json")
        newest = sorted(own, key=os.path.getmtime, reverse=True)
        stems = [*(path.with_suffix("") for path in newest), self.shipped / name]
        if run := next(_read_runs(name, stems), None):
            return run
        raise FileNotFoundError(
            f"The network {name} is not there: run {self.notebook}.ipynb first."
        )

    def fit_or_load(self, name: str, settings, build, fit, export=None) -> Run:
        """Load a training, or do it, or go on where it was cut off.

        ``build(settings)`` makes the model; ``fit(model, settings, place)`` compiles
        and fits it and may return a dict for the history; ``export(model)`` gives what
        is saved (default: the model). ``settings`` is a dataclass that is hashed and
        kept, never read. Another process that trains the same is waited for.
        """
        own = self.folder / f"{name}-{_digest(settings)}"
        if run := self.find(name, settings):
            if run.own:  # killed before it cleaned up
                shutil.rmtree(own.with_name(f"{own.name}.partial"), ignore_errors=True)
            return run
        try:
            own.parent.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(own.with_name(f".{own.name}.lock")).acquire()
        except OSError as why:
            raise ValueError(
                f"{self.models.name}/ cannot be written ({why.strerror}), and {name} "
                "has to be trained: let it be written, or copy the project elsewhere."
            ) from why
        with lock:
            if run := self.find(name, settings):
                return run
            return self._fit(name, own, settings, build, fit, export or (lambda m: m))

    def _fit(self, name, own, settings, build, fit, export):
        """Train, and keep history and weights; the history is written last."""
        now = datetime.datetime.now(datetime.UTC)
        logs = self.logs / "runs" / self.folder.parent.name / self.notebook
        logs /= f"{name}_{now:%Y-%m-%d_%H%M%S}"
        try:
            logs.mkdir(parents=True)
        except OSError as why:
            logs = own.with_name(f"{own.name}.logs")
            print(f"TensorBoard's files go into {logs.name} ({why.strerror}: logs)")
        for draft in own.parent.glob(f".*-{own.name}*"):  # of a process that was killed
            draft.unlink(missing_ok=True)
        place = Place(own.with_name(f"{own.name}.partial"), logs, time.perf_counter())
        place.folder.mkdir(parents=True, exist_ok=True)
        here, commit = machine.describe(), machine.commit()
        if self.deterministic:
            tf.config.experimental.enable_op_determinism()
        machines = machine.remember(place.folder / "machines.txt", here["hardware"])
        keras.config.set_dtype_policy(here["precision"])
        try:
            extra = fit(build(settings), settings, place) or {}
        finally:
            keras.config.set_dtype_policy("float32")
        log, best = place.epochs()
        model = build(settings)
        try:
            model.load_weights(place.weights.format(epoch=best))
        except (OSError, ValueError) as why:
            raise ValueError(
                f"The weights of the best epoch of {name} cannot be read: delete "
                f"{place.folder.name} in {self.folder.parent.name} and train again."
            ) from why
        for former in own.parent.glob(f"{own.name}_*.npz"):  # of other weights
            former.unlink()
        history = {
            "name": name,
            "data": self.data.name,
            "digest": _digest(settings),
            "settings": dataclasses.asdict(settings),
            "date": f"{now:%Y-%m-%d %H:%M} UTC",
            "commit": commit,
            "best_epoch": best,
            "diverged": bool(log["loss"].isna().any()),
            "seconds": round(float(log["seconds"].sum()), 1),
            "parameters": int(model.count_params()),
            "epochs": log.round(5).to_dict("list"),
            **here,
            "hardware": ", then ".join(machines),
            **extra,
        }
        run = Run(name, own, history, trained_here=True)
        with whole(run.path(".keras")) as path:
            export(model).save(path)
        with whole(run.path(".json")) as path:
            write_history(path, run.history)
        shutil.rmtree(place.folder, ignore_errors=True)
        return run


def write_history(path: pathlib.Path, history: dict) -> None:
    """Write a history as JSON, lists of numbers on one line each."""
    rows = [f'  "{key}": {json.dumps(row)}' for key, row in history["epochs"].items()]
    text = json.dumps(history | {"epochs": "…"}, indent=1, ensure_ascii=False)
    text = text.replace('"epochs": "…"', '"epochs": {\n' + ",\n".join(rows) + "\n }")
    path.write_text(text + "\n", encoding="utf-8")


def _digest(settings):
    """Six digits of a settings dataclass: None counts as not there, 1.0 as 1."""
    told = {key: _plain(value) for key, value in dataclasses.asdict(settings).items()}
    return digest({key: value for key, value in told.items() if value is not None})


def _plain(value):
    """A whole number as an integer, also within tuples."""
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read_runs(name, stems):
    """Those runs whose history is there; one that cannot be read is named."""
    for stem in stems:
        run = Run(name, stem, {})
        path = run.path(".json")
        if not path.exists():
            continue
        try:
            run.history.update(json.loads(path.read_text(encoding="utf-8")))
            yield run
        except (OSError, ValueError, TypeError):
            if not run.own:
                print(f"{path.name} is damaged: fetch it from the repository again")
                continue
            aside = path.with_name(f"{path.name}.unreadable")
            path.replace(aside)
            print(f"{path.name} is damaged: set aside as {aside.name}, made again")
