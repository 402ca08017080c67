"""Predictions are made once and kept; looks at test sets are logged at once."""

import contextlib
import datetime

import filelock
import keras
import numpy as np
import pandas as pd

from facekit.batches import LabelledBatches
from facekit.labels import MODELS, hash_name
from facekit.measure import HEADLINE, PREDICTED, PREDICTED_BY, point_values
from facekit.places import whole
from facekit.runs import Run


def make_table(rows: pd.DataFrame, views: list[dict]) -> pd.DataFrame:
    """Join outputs to the labels: a row per image, the mean over views of it.

    Each view maps a task to outputs ``(rows, 1)``, or ``(rows, 5)`` for ethnicity, in
    the order of ``rows``.
    """
    table = rows.assign(**dict.fromkeys(PREDICTED, np.float32(np.nan)))
    for task, columns in PREDICTED_BY.items():
        if task in views[0]:
            table[columns] = np.mean([view[task] for view in views], axis=0)
    return table


def predict(model: keras.Model, rows: pd.DataFrame, flow, flip=True) -> pd.DataFrame:
    """Predict the pictures of an unshuffled ``flow``, in the order of ``rows``.

    With ``flip`` each prediction is the mean of two: of the picture and of its mirror
    image (flip averaging, a form of test-time augmentation).
    """
    places = pd.Series(range(len(flow.filenames)), flow.filenames)[rows["img_name"]]
    views = []
    for mirrored in (False, True)[: 1 + flip]:
        outputs = model.predict(LabelledBatches(flow, mirrored=mirrored), verbose=0)
        if not isinstance(outputs, dict):
            outputs = {model.output_names[0]: outputs}
        views.append({task: values[places] for task, values in outputs.items()})
    return make_table(rows, views)


def make_or_load(run: Run, key: str, rows: pd.DataFrame, make, look: str = ""):
    """Kept predictions of a run on ``rows``, or ``make(model, rows)``, then kept.

    ``key`` names the set in the file's name. ``look`` says why a test set is looked at,
    and enters it into ``test_looks.csv`` beside the run. ValueError if neither
    predictions nor weights are there.
    """
    path = run.path(f"_{key}.npz")
    if (found := _load(path, rows)) is None:
        if not run.path(".keras").exists():
            raise ValueError(
                f"{run.name} has neither weights nor predictions for all {len(rows):,} "
                f"pictures ({key}): set RETRAIN = True to train it here."
            )
        found = make(run.load(), rows)
        if run.own:
            _save(path, found)
    if look:
        log_look(run, key, found, look)
    return found


def join_tasks(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Join predictions of single-task networks, by task, to one table."""
    joined = next(iter(tables.values())).copy()
    for task, table in tables.items():
        joined[PREDICTED_BY[task]] = table.loc[joined.index, PREDICTED_BY[task]]
    return joined


def soften(rows: pd.DataFrame, share: float) -> pd.DataFrame:
    """Labels to learn from, mixed with soft labels; ethnicity as five shares.

    ``share`` (0 to 1) is that of what networks answered which had not learned from the
    picture. A picture for which ``soft_labels.npz`` has no answer keeps its labels.
    """
    five = np.eye(5)[rows["ethnicity"].astype(int)]
    given = np.column_stack([rows[["age", "gender"]], five])
    with np.load(MODELS / "utkface" / "soft_labels.npz") as file:
        told = pd.DataFrame(file["values"], file["name_hash"])
    told = told.reindex(_hash(rows)).to_numpy()
    mixed = np.float32(given + share * np.nan_to_num(told - given))
    return rows.assign(age=mixed[:, 0], gender=mixed[:, 1], ethnicity=[*mixed[:, 2:]])


def log_look(run: Run, key: str, predictions: pd.DataFrame, why: str) -> None:
    """Append a look at a test set to ``test_looks.csv``, once for each training."""
    log = run.stem.with_name("test_looks.csv")
    look = {"training": run.name, "trained": run.history["date"], "set": key}
    with contextlib.suppress(FileNotFoundError, pd.errors.EmptyDataError):
        same = pd.read_csv(log)[[*look]] == [*look.values()]
        if same.all(axis=1).any():
            return
    figures = point_values(predictions)
    row = {
        "date": datetime.date.today().isoformat(),
        "commit": run.history["commit"],
        **look,
        "n": len(predictions),
        **{metric: round(figures.get(metric, np.nan), 5) for metric in HEADLINE},
        "why": why,
    }
    how = {"mode": "a", "index": False}
    try:
        with filelock.FileLock(log.with_name(f".{log.name}.lock")):
            pd.DataFrame([row]).to_csv(log, header=not log.exists(), **how)
    except OSError as why:
        raise ValueError(
            f"The look at the {key} set cannot be logged in {log.name} beside "
            f"{run.name} ({why.strerror}): let that folder be written."
        ) from why


def _hash(rows):
    """The hash of each picture's name, as a number."""
    return rows["img_name"].map(lambda name: int(hash_name(name), 16)).astype("uint64")


def _save(path, predictions):
    """Keep predictions, with hashes in place of names."""
    values = predictions.set_index(_hash(predictions))[PREDICTED].sort_index()
    kept = {"name_hash": values.index, "values": values.to_numpy("float32")}
    with whole(path) as draft, open(draft, "wb") as file:
        np.savez_compressed(file, **kept)


def _load(path, rows):
    """Kept predictions joined to labels; None where any is missing or unreadable."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            index = pd.Index(file["name_hash"])
            values = pd.DataFrame(file["values"].astype("float32"), index, PREDICTED)
    except Exception:  # a damaged archive fails in many ways
        print(f"{path.name} is damaged: predicted again")
        return None
    hashes = _hash(rows)
    if not hashes.isin(index).all():
        return None
    found = values.loc[hashes]
    return rows.assign(**{column: found[column].to_numpy() for column in PREDICTED})
