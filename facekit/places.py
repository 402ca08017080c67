"""Where a training in progress keeps its files, whole whenever it is cut off."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import sys
import time

import h5py
import keras
import pandas as pd

from facekit.machine import duration

DRIVE = pathlib.Path("/content/drive/MyDrive")  # once it is mounted, on Colab


@contextlib.contextmanager
def whole(path: pathlib.Path):
    """Write a file under another name, and rename it once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def use_drive(*folders: pathlib.Path) -> None:
    """On Colab, let ``runs`` of these folders lie in Google Drive, or offer it."""
    own = [folder / "runs" for folder in folders if not (folder / "runs").exists()]
    if "google.colab" not in sys.modules or not own:
        return
    if not DRIVE.is_dir():
        print(
            "What is trained here is lost with this machine. To keep it in your Drive: "
            'from google.colab import drive; drive.mount("/content/drive"), then again.'
        )
        return
    for runs in own:
        kept = DRIVE / "faces" / runs.parent.name
        for place in (kept, runs.parent):
            place.mkdir(parents=True, exist_ok=True)
        runs.symlink_to(kept)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a training in progress keeps its files.

    ``logs`` is for TensorBoard, ``weights`` for ModelCheckpoint: a file for each epoch
    that was best when it ended.
    """

    folder: pathlib.Path
    logs: pathlib.Path
    started: float

    @property
    def weights(self) -> str:
        """Path of the weights, with the epoch in it."""
        return str(self.folder / "{epoch:03d}.weights.h5")

    def resume(self) -> list[keras.callbacks.Callback]:
        """Callbacks that let a training go on where it was cut off: the last ones.

        The first epoch's ``seconds`` count from ``started`` on, so that what a training
        prepares belongs to its time.
        """
        _mend(self.folder)
        ends = [self.started]

        def log_seconds(epoch, logs):
            ends.append(time.perf_counter())
            logs["seconds"] = ends[-1] - ends[-2]
            left = (clock.params or {"epochs": 0})["epochs"] - epoch - 1
            if left * logs["seconds"] > 10:
                print(f"{duration(left * logs['seconds'])} left, if all epochs are run")

        clock = keras.callbacks.LambdaCallback(on_epoch_end=log_seconds)
        keep = {"double_checkpoint": True, "delete_checkpoint": False}
        return [
            clock,
            keras.callbacks.CSVLogger(str(self.folder / "log.csv"), append=True),
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.BackupAndRestore(str(self.folder / "backup"), **keep),
        ]

    def epochs(self) -> tuple[pd.DataFrame, int]:
        """The log, a row per epoch, and the number (from 1) of the best epoch."""
        log = pd.read_csv(self.folder / "log.csv").drop_duplicates("epoch", keep="last")
        if log["val_loss"].isna().all():
            raise ValueError(
                f"{self.folder.stem} diverged in its first epoch: lower the learning "
                "rate, and delete its .partial folder."
            )
        best = 1 + int(log.set_index("epoch")["val_loss"].idxmin())
        return log.drop(columns="epoch"), best


def _mend(folder):
    """Undo what a sudden end left half-written: in the log, in the newest backup."""
    log, backup = folder / "log.csv", folder / "backup"
    files = [backup / "latest.weights.h5", backup / "training_metadata.json"]
    for ending in ("", ".bkp"):  # Keras' names of the newest backup and the one before
        weights, state = (path.with_name(path.name + ending) for path in files)
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            h5py.File(weights).close()
            done = json.loads(state.read_text(encoding="utf-8"))["epoch"]
            rows = log.read_bytes()
            rows = rows[: rows.rfind(b"\n") + 1]
            logged = {row.partition(b",")[0] for row in rows.splitlines()[1:]}
            if not logged >= {b"%d" % epoch for epoch in range(done)}:
                continue  # the history would have holes
            if ending:
                shutil.copyfile(weights, files[0])
                shutil.copyfile(state, files[1])
            log.write_bytes(rows)
            return
    if log.exists() or backup.exists():
        print(f"{folder.stem}: no whole epoch was kept, the training begins anew")
    shutil.rmtree(backup, ignore_errors=True)
    log.unlink(missing_ok=True)
