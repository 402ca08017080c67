# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Age, gender and ethnicity from one face
#
# **Multi-task learning with hard parameter sharing.** One convolutional network looks at a
# 48×48 grayscale face and answers three questions at once: how old (regression), which
# gender label (one sigmoid unit), which ethnicity label (a softmax over five).
#
# [Section 1](#setup) says what this run will do: on which data, with which weights, and how
# long it takes. *The labels are what annotators gave to pictures, not facts about people: see
# [section 13](#ethics).*

# %% [markdown]
# | | |
# |---|---|
# | **Student's name** | *write your name here* |
# | **Student number** | *write your number here* |

# %% [markdown]
# **Map for grading**, under the assignment's five headings
#
# | Heading | Points | What was done | Section |
# |---|---|---|---|
# | Loading the relevant datasets | 15 | shapes, columns, proportions of gender and ethnicity in all three sets, the ages plotted; faults, twins and near-twins counted | [2](#loading) |
# | Create the ImageDataGenerators | 22 | rescaling for all, augmentation for training alone, `flow_from_dataframe` with three labels, test not shuffled | [3](#generators) |
# | Create the model | 44 | functional API, shared trunk, three heads, a loss for each, metrics, `fit` with the callbacks TensorBoard (into `logs`), ModelCheckpoint (into `model`) and EarlyStopping; overfitting shown, and what Dropout changed | [4](#model), [5](#training) |
# | Making predictions on test data | 14 | the best weights, reloaded, evaluated by the test generator; every metric with its interval | [6](#predictions) |
# | Present prediction results on test data | 5 | five runs and the main network, seven hyperparameters, one markdown table | [7](#runs), [14](#results) |

# %% [markdown]
# **Three more assignments** on the same subject are chapters of their own; `CHAPTERS` leaves them out.
#
# | Assignment | What was done | Section |
# |---|---|---|
# | B, gender recognition | the baseline of 544,593 parameters, seven experiments, an improved network, transfer from VGG16 and from the main network; a foreign test set, the literature, ethics; `make handin` builds the zip file | [9](#gender), [13](#ethics) |
# | C, two branches | an own network and ResNet50, both saved as `.h5`; trials, three seeds, curves | [10](#branches) |
# | D, age | a subclassed model with an own loop, all sizes, ReLU against linear, regression against classes, gender as help | [11](#subclassed) |

# %% [markdown]
# **Assumptions**
#
# | Assumption | Why |
# |---|---|
# | A row belongs to the set in whose folder its image lies | the assignment gives no other split |
# | A row whose image is missing or whose label is out of range is left out and counted | it cannot be learned from, and must not vanish silently |
# | One half of validation, the selection half, chooses epochs, hyperparameters and models; the held-out half and the test set choose nothing | a set that chooses flatters what it chose |
# | Gender 0 is male, 1 is female; ethnicity 0 to 4 is White, Black, Asian, Indian, Other | the codes of UTKFace, where the pictures come from |
# | Age is a regression although, in the main network, its head passes through a distribution over the ages 0 to 116 | its output is one number of years, trained by its absolute error besides a cross-entropy on that distribution (run 1 has a plain scalar head) |

# %% [markdown]
# <a id="setup"></a>
# ## 1 Setup
#
# *What does this run on, and what will it do?* All imports come first, then the only settings.

# %% tags=["imports"]
import concurrent.futures
import contextlib
import datetime
import hashlib
import json
import logging
import os
import pathlib
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

import IPython.display
import keras
import matplotlib.patches
import matplotlib.pyplot as plt
import matplotlib.ticker
import numpy as np
import pandas as pd
import PIL.Image
import sklearn.metrics
import sklearn.model_selection

try:
    import tensorflow as tf
    from tensorflow.keras.preprocessing.image import ImageDataGenerator
except ImportError:  # Keras on another backend: everything but the generators works
    tf = ImageDataGenerator = None

# %% [markdown]
# `DATA = "auto"` takes the assignment's folder if it is there, else a CSV with pixels, else
# Kaggle's, else synthetic faces. Nothing else needs a decision.

# %% tags=["parameters"]
DATA = "auto"  # "auto", "folder", "csv", "kaggle" or "sample"
DATA_DIR = "data"  # where your data are, and where downloads go
MODEL_DIR = "model"  # weights: shipped in model/utkface, yours in model/runs
LOG_DIR = "logs"  # TensorBoard
PROFILE = "full"  # "full", or "quick": every cell, few images and steps
CHAPTERS = "BCD"  # assignments besides the main one: sections 9 (B), 10 (C), 11 (D)
IMAGENET = ""  # a folder with ImageNet weights, where they cannot be downloaded
SAMPLE_FACES = 2000  # synthetic faces, where there are no other data
RETRAIN = False  # True: train here instead of loading what is shipped
PUBLISH = False  # True: overwrite what the repository ships (maintainers)
SHOW_TENSORBOARD = "auto"  # "auto", True or False
REPOSITORY = ""  # on Colab: https address to clone for weights and sample
BOOTSTRAP = 1000  # resamples behind every 95 % interval
SEED = 1

# %% [markdown]
# Colab opens this notebook alone: with `REPOSITORY` set, weights and sample come from there.
# The machine decides the precision of training, `mixed_bfloat16` where its processor computes
# in it, else `float32`; what is saved is always `float32`.

# %% tags=["functions"]
def fetch_repository(address):
    """Fetch the shipped ``data`` and ``model`` folders, where they are not there yet.

    Parameters
    ----------
    address : str
        Of a git repository; nothing happens where it is empty.

    Returns
    -------
    bool
        Whether anything was fetched.
    """
    if not address or pathlib.Path("model").exists():
        return False
    with tempfile.TemporaryDirectory() as folder:
        command = ["git", "clone", "--quiet", "--depth", "1", address, folder]
        subprocess.run(command, check=True)
        for name in ("data", "model"):
            shutil.copytree(pathlib.Path(folder) / name, name, dirs_exist_ok=True)
    return True


def duration(seconds):
    """Write a duration for people.

    Parameters
    ----------
    seconds : float

    Returns
    -------
    str
        Such as ``"40 s"``, ``"4.1 min"`` or ``"2.3 h"``.
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def has_bfloat16():
    """Tell whether this machine computes in bfloat16 at full speed.

    Returns
    -------
    bool
        True with AVX512_BF16 or AMX (processor), or a GPU of compute capability 8.
    """
    if tf is None:
        return False
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return details.get("compute_capability", (0, 0)) >= (8, 0)
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    return "avx512_bf16" in flags or "amx_bf16" in flags


def training_time(history):
    """Write how long a training took, and on how many cores.

    Parameters
    ----------
    history : dict
        ``seconds`` or ``train_seconds``, and ``hardware``, which begins with the cores.

    Returns
    -------
    str
        Such as ``"18.0 min on 2 cores"``.
    """
    seconds = history.get("seconds", history.get("train_seconds"))
    return f"{duration(seconds)} on {history['hardware'].split(',')[0]}"


def describe_machine():
    """Say what computes here: for the histories, so that times can be compared.

    Returns
    -------
    dict[str, str]
        Keys ``hardware``, ``precision`` (Keras' policy for training) and ``versions``.
    """
    gpus = tf.config.list_physical_devices("GPU") if tf else []
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    processor = names[0] if names else platform.processor() or platform.machine()
    usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count()))(0)
    cores = f"{len(usable)} core{'s' * (len(usable) > 1)}"
    return {
        "hardware": f"{len(gpus)} GPU" if gpus else f"{cores}, {processor}",
        "precision": "mixed_bfloat16" if has_bfloat16() else "float32",
        "versions": f"Python {platform.python_version()}, Keras {keras.__version__}"
        + (f", TensorFlow {tf.__version__}" if tf else f", {keras.backend.backend()}"),
    }

# %% [markdown]
# Tables are shown as markdown, sentences with computed figures as answers.

# %% tags=["functions"]
TASK_COLOURS = {
    "shared": "#7f7f7f",
    "age": "#0072b2",
    "gender": "#d55e00",
    "ethnicity": "#009e73",
}  # Okabe & Ito: told apart by colour-blind readers
ETHNICITY_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
SPLIT_COLOURS = {"train": "#56b4e9", "val": "#e69f00", "test": "#cc79a7"}


def as_markdown(frame):
    """Write a table as markdown, the same under every version of tabulate.

    Parameters
    ----------
    frame : pandas.DataFrame
        Cells are written as they are: format numbers before.

    Returns
    -------
    str
    """
    aligned = ["right" if kind.kind in "iuf" else "left" for kind in frame.dtypes]
    return frame.to_markdown(index=False, colalign=aligned, disable_numparse=True)


def show_table(frame):
    """Show a table as markdown, which renders wherever the notebook does.

    Parameters
    ----------
    frame : pandas.DataFrame
        As for ``as_markdown``.
    """
    IPython.display.display(IPython.display.Markdown(as_markdown(frame)))


def answer(text):
    """Show the sentence that closes a section.

    Parameters
    ----------
    text : str
        Markdown, its figures computed.
    """
    IPython.display.display(IPython.display.Markdown(f"**Answer.** {text}"))


def show_figure(figure):
    """Show a figure once, and free its memory.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    """
    IPython.display.display(figure)
    plt.close(figure)


class NotDoneError(Exception):
    """Raised at the start of work that is left out."""


SKIPPABLE = contextlib.suppress(NotDoneError)
NOT_DONE = {}  # why, by what failed


@contextlib.contextmanager
def chapter(name):
    """Do a cell's work as part of a chapter that may fail while the rest goes on.

    Write ``with SKIPPABLE, chapter("B"):``. The body is skipped where ``CHAPTERS`` does
    not name the chapter, or where it or the part failed before. An error in the body
    ends the chapter or the part: a table says why.

    Parameters
    ----------
    name : str
        ``"B"``, or a part of it such as ``"B: VGG16"``, which fails alone.

    Raises
    ------
    NotDoneError
        If the body is to be skipped.
    """
    if name[0] not in CHAPTERS or {name, name[0]} & set(NOT_DONE):
        raise NotDoneError(name)
    try:
        yield
    except Exception as why:  # whatever it is, the other chapters go on
        NOT_DONE[name] = f"{type(why).__name__}: {why}".replace("\n", " ")
        show_table(pd.DataFrame({"Not done": [name], "Why": [NOT_DONE[name]]}))
    finally:
        keras.utils.clear_session()  # frees the memory of the cell's networks

# %%
if tf is not None:  # it warns of every further model: this notebook loads a dozen
    tf.get_logger().setLevel("ERROR")
plt.rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
plt.ioff()  # figures are shown by show_figure, once
chapter_results = []  # of sections 9 to 11, for section 14: runs, predictions by set
fetch_repository(REPOSITORY)
machine = describe_machine()
show_table(pd.DataFrame({"This machine": machine.keys(), "": machine.values()}))

# %% [markdown]
# ### Which data?
#
# Four layouts are understood. Each ends in the assignment's, `age_gender.csv` and
# `images/{train,val,test}`: names that the assignment knows go to the set it gave them, other
# pictures are split 64/16/20, stratified by gender, identical pictures together.

# %% tags=["functions"]
SPLITS = ("train", "val", "test")
LABELS = ("age", "gender", "ethnicity")
GENDERS = ("male", "female")
ETHNICITIES = ("White", "Black", "Asian", "Indian", "Other")
AGES = np.arange(117)  # years that a label may have
SIZE = 48  # pixels, both sides
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".tif", ".tiff")
COLUMNS = ("age", "gender", "ethnicity", "img_name")


def read_labels(path):
    """Read a table of labels and check that it is one.

    Parameters
    ----------
    path : pathlib.Path
        CSV with the columns ``age``, ``gender``, ``ethnicity`` and ``img_name``.

    Returns
    -------
    pandas.DataFrame
        Those columns, one row per line of the file.

    Raises
    ------
    ValueError
        If it is no CSV, is empty or lacks a column; the message says what to do.
    """
    try:
        table = pd.read_csv(path, dtype={"img_name": str}, skipinitialspace=True)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as why:
        raise ValueError(
            f"{path} is not a CSV file ({why}). Save the table as CSV with the "
            f"columns {', '.join(COLUMNS)}."
        ) from why
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}; its columns are "
            f"{', '.join(map(str, table.columns))}. Rename or add them."
        )
    if table.empty:
        raise ValueError(f"{path} has no rows. Put the assignment's table there.")
    return table[list(COLUMNS)]


def list_pictures(folder):
    """List the files of the three sets.

    Parameters
    ----------
    folder : pathlib.Path
        Holds ``train``, ``val`` and ``test``.

    Returns
    -------
    pandas.DataFrame
        Columns ``img_name`` and ``split``.

    Raises
    ------
    FileNotFoundError
        If a set's folder is missing or empty.
    """
    rows = []
    for split in SPLITS:
        paths = (folder / split).glob("[!.]*")  # systems leave hidden files
        names = sorted(path.name for path in paths if path.is_file())
        if not names:
            raise FileNotFoundError(
                f"{folder / split} is missing or empty. Put the pictures of the "
                f"{split} set there, or set DATA to another source."
            )
        rows += [(name, split) for name in names]
    return pd.DataFrame(rows, columns=["img_name", "split"])


def find_row_faults(labels, names):
    """Find what is wrong with each row, by its name and labels alone.

    Parameters
    ----------
    labels : pandas.DataFrame
        As ``read_labels`` returns it.
    names : pandas.Series
        Names of the images that are there.

    Returns
    -------
    pandas.Series
        The first fault of each row, in words; missing where there is none.
    """
    number = {label: pd.to_numeric(labels[label], "coerce") for label in LABELS}
    name = labels["img_name"].fillna("")
    checks = {
        "no image name": name.str.strip() == "",
        "image name that is a path": ~name.map(lambda text: pathlib.Path(text).name).eq(
            name
        ),
        f"age not a whole number from 0 to {AGES[-1]}": ~number["age"].isin(AGES),
        "gender not 0 or 1": ~number["gender"].isin(range(len(GENDERS))),
        "ethnicity not 0 to 4": ~number["ethnicity"].isin(range(len(ETHNICITIES))),
        "image name used by an earlier row": name.duplicated(),
        "row whose image is missing": ~name.isin(names),
        "file that is not an image": ~name.str.lower().str.endswith(PICTURES),
    }
    fault = pd.Series(pd.NA, index=labels.index, dtype="string")
    for text, wrong in reversed(checks.items()):
        fault[wrong] = text
    return fault


def find_faults(labels, files):
    """List what is wrong with rows and files, by name and label alone.

    Parameters
    ----------
    labels : pandas.DataFrame
        As ``read_labels`` returns it.
    files : pandas.DataFrame
        As ``list_pictures`` returns it.

    Returns
    -------
    pandas.DataFrame
        Columns ``img_name``, ``fault``, ``row`` (of the CSV, 1 for the first after the
        heading; 0 for a fault of a file). The first fault of a row counts.
    """
    fault = find_row_faults(labels, files["img_name"]).dropna()
    names = labels["img_name"].fillna("")
    found = list(zip(names[fault.index], fault, fault.index + 1, strict=True))
    files = files["img_name"]
    for text, wrong in (
        ("image also in an earlier set", files.duplicated()),
        ("image without a row", ~files.isin(names)),
    ):
        found += [(name, text, 0) for name in files[wrong]]
    return pd.DataFrame(found, columns=["img_name", "fault", "row"])

# %% tags=["functions"]
KAGGLE = "nipunarora8/age-gender-and-ethnicity-face-data-csv"
SHIPPED_DATA = pathlib.Path("data")  # what comes with the repository
SHARES = {"train": 0.64, "val": 0.16, "test": 0.20}  # the assignment's own


def hash_name(name):
    """Hash an image name, so that tables need not hold it.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
        The first 16 hexadecimal digits of its SHA-256.
    """
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def digest_of(value):
    """Name a value, such as a dictionary of hyperparameters, by six hex digits.

    Parameters
    ----------
    value : object
        Anything that JSON can hold; tuples count as lists.

    Returns
    -------
    str
        Equal for equal values, on every machine and under every version.
    """
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def read_split_table():
    """Read which set the assignment put each image into.

    Returns
    -------
    pandas.Series
        ``"train"``, ``"val"`` or ``"test"`` by hash of the name; empty where
        ``data/split.csv.gz`` is not there.
    """
    path = SHIPPED_DATA / "split.csv.gz"
    if not path.exists():
        print(f"{path} is not there: images are split anew, not as the assignment did")
        return pd.Series(dtype=str)
    return pd.read_csv(path, index_col="name_hash")["split"]


def digest_pictures(images):
    """Name each picture by its pixels.

    Parameters
    ----------
    images : numpy.ndarray
        Grey levels, uint8, shape ``(n, 48, 48)``.

    Returns
    -------
    numpy.ndarray
        One string per picture, equal for equal pixels alone.
    """
    return np.array([hashlib.sha1(image.tobytes()).hexdigest() for image in images])


def split_rows(rows, share, seed):
    """Split rows in two, stratified by gender (with five people of each or more).

    Parameters
    ----------
    rows : pandas.DataFrame
        Column ``gender``.
    share : float
        Of the second part.
    seed : int

    Returns
    -------
    list of pandas.DataFrame
    """
    enough = rows["gender"].value_counts().min() >= 5
    return sklearn.model_selection.train_test_split(
        rows,
        test_size=share,
        stratify=rows["gender"] if enough else None,
        random_state=seed,
    )


def assign_splits(table, digests, known, seed=SEED):
    """Put every row into a set: as the assignment did, others by chance.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``img_name`` and ``gender``.
    digests : numpy.ndarray
        As ``digest_pictures`` returns them; identical pictures stay together.
    known : pandas.Series
        As ``read_split_table`` returns it.
    seed : int

    Returns
    -------
    numpy.ndarray
        ``"train"``, ``"val"`` or ``"test"`` per row: names that are known as they
        were, the rest 64/16/20, stratified by gender (to training if under 25).
    """
    split = table["img_name"].map(hash_name).map(known).to_numpy(object)
    place = pd.Series(split, index=digests).dropna()
    place = place[~place.index.duplicated()]
    new = pd.isna(split)
    split[new] = pd.Series(digests[new]).map(place)
    rest = pd.DataFrame({"gender": table["gender"].to_numpy()}, index=digests)
    rest = rest[pd.isna(split)]
    groups = rest[~rest.index.duplicated()]
    if 0 < len(groups) < 25:
        print(f"{len(groups)} pictures are too few to split: they go to training")
        split[pd.isna(split)] = "train"
    elif len(groups):
        later, test = split_rows(groups, SHARES["test"], seed)
        train, val = split_rows(later, SHARES["val"] / (1 - SHARES["test"]), seed)
        chosen = pd.concat(
            pd.Series(name, index=part.index)
            for name, part in zip(SPLITS, (train, val, test), strict=True)
        )
        split[pd.isna(split)] = chosen[rest.index]
    return split


def write_layout(images, table, folder, source):
    """Write pictures and labels as the assignment lays them out.

    Parameters
    ----------
    images : numpy.ndarray
        uint8, shape ``(n, 48, 48)``.
    table : pandas.DataFrame
        Columns ``img_name``, ``age``, ``gender``, ``ethnicity``, ``split``; a row
        whose ``split`` is missing gets no picture.
    folder : pathlib.Path
        Gets ``age_gender.csv`` and ``images/{train,val,test}``.
    source : dict
        What it was made from; written last, so that a cut-off writing is begun anew.
    """
    for split in SPLITS:
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
    rows = zip(images, table["img_name"], table["split"], strict=True)
    for number, (image, name, split) in enumerate(rows, start=1):
        if isinstance(split, str):
            path = folder / "images" / split / name
            PIL.Image.fromarray(image).save(path, quality=95)
        if number % 5000 == 0 or number == len(table):
            print(
                f"{folder}: {number:,} of {len(table):,} pictures written", flush=True
            )
    table[list(COLUMNS)].to_csv(folder / "age_gender.csv", index=False)
    (folder / "source.json").write_text(json.dumps(source))

# %% [markdown]
# A CSV with a column `pixels` is written out once. Where there is nothing at all, a statistical
# face model draws faces of people who do not exist (`data/README.md` says how it was fitted).

# %% tags=["functions"]
def parse_pixels(text):
    """Turn one cell of a pixel CSV into a picture.

    Parameters
    ----------
    text : str
        2,304 whole numbers from 0 to 255, separated by blanks.

    Returns
    -------
    numpy.ndarray or None
        uint8, shape ``(48, 48)``; None where the text is something else.
    """
    try:
        values = np.array(str(text).split(), dtype=int)
    except (ValueError, OverflowError):
        return None
    if values.size != SIZE * SIZE or values.min() < 0 or values.max() > 255:
        return None
    return values.astype("uint8").reshape(SIZE, SIZE)


def has_pixels(path):
    """Tell whether a CSV has a column ``pixels``.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    bool
    """
    with open(path, encoding="utf-8", errors="replace") as file:
        return "pixels" in [name.strip(' "\r\n') for name in file.readline().split(",")]


def import_pixel_csv(path, folder):
    """Write a pixel CSV out into the assignment's layout, once.

    Parameters
    ----------
    path : pathlib.Path
        CSV with the columns ``age``, ``gender``, ``ethnicity``, ``img_name`` and
        ``pixels``.
    folder : pathlib.Path
        Where the layout goes; kept if it was made from this very file.

    Returns
    -------
    pathlib.Path
        ``folder``.
    """
    stat = path.stat()
    source = {"file": path.name, "bytes": stat.st_size, "changed": stat.st_mtime_ns}
    made = folder / "source.json"
    if made.exists() and json.loads(made.read_text()) == source:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    labels = read_labels(path)
    print(f"Reading the pixels of {len(labels):,} rows of {path.name}", flush=True)
    pixels = pd.read_csv(path, usecols=["pixels"], skipinitialspace=True)["pixels"]
    pixels = pixels.map(parse_pixels)
    faults = find_faults(
        labels, labels.assign(split="train").drop_duplicates("img_name")
    )
    good = pixels.notna() & ~(labels.index + 1).isin(faults["row"])
    for row in labels.index[pixels.isna()][:5] + 1:
        print(f"Row {row} has no {SIZE * SIZE} pixels from 0 to 255: left out")
    if not good.any():
        raise ValueError(
            f"{path} has no row with usable labels and {SIZE * SIZE} pixels: see "
            "data/README.md for what its columns hold."
        )
    images = np.zeros((len(labels), SIZE, SIZE), "uint8")
    images[good] = np.stack(pixels[good])
    table = labels.assign(split=None)
    table.loc[good, "split"] = assign_splits(
        labels[good], digest_pictures(images[good]), read_split_table()
    )
    write_layout(images, table, folder, source)
    return folder

# %% tags=["functions"]
def load_face_model(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Load the statistical face model that the embedded sample is drawn from.

    The model is a set of "eigenfaces" (Turk and Pentland 1991) whose scores depend on
    age, gender and ethnicity by regression, as in an active appearance model (Cootes,
    Edwards and Taylor 2001). `data/sample/fit_face_model.py` fits it.

    Parameters
    ----------
    path : str | pathlib.Path
        The file `face_model.npz`.

    Returns
    -------
    dict[str, np.ndarray]
        The model's arrays by name, floats as float32. Pictures are in grey levels from
        0 to 255: `mean` (2304,), `components` (150, 2304), `cell_scores` (2, 5, 11,
        150) for gender, ethnicity and age knot, `residual_factor` (150, 150), and the
        frequencies of labels that `sample_labels` uses.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is not a face model.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no face model at {path}: it comes with the repository as "
            "data/sample/face_model.npz, and data/sample/fit_face_model.py fits it"
        )
    needed = set("mean components cell_scores residual_factor age_knots".split())
    needed |= {"age_probability", "band_starts", "group_probability"}
    try:
        with np.load(path, allow_pickle=False) as archive:
            model = {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged archive fails in many ways
        raise ValueError(f"{path} cannot be read as a face model: {error}") from error
    if not needed <= model.keys():
        raise ValueError(
            f"{path} is no face model: it lacks {sorted(needed - model.keys())}"
        )
    return {
        name: array.astype(np.float32) if array.dtype.kind == "f" else array
        for name, array in model.items()
    }


def mean_scores(
    face_model: dict[str, np.ndarray],
    age: np.ndarray,
    gender: np.ndarray,
    ethnicity: np.ndarray,
) -> np.ndarray:
    """Give the mean component scores of people with these labels.

    Between the model's age knots the scores change linearly; outside them (before 1 and
    after 95 years) they stay as they are at the nearest knot.

    Parameters
    ----------
    face_model : dict[str, np.ndarray]
        What `load_face_model` returns.
    age : np.ndarray
        Years, shape (people,).
    gender : np.ndarray
        0 male, 1 female, integers of shape (people,).
    ethnicity : np.ndarray
        0 White, 1 Black, 2 Asian, 3 Indian, 4 Other, shape (people,).

    Returns
    -------
    np.ndarray
        Scores in grey levels, float32, shape (people, 150).

    Raises
    ------
    ValueError
        A gender, an ethnicity or an age is out of range.
    """
    cells, knots = face_model["cell_scores"], face_model["age_knots"]
    gender, ethnicity = np.asarray(gender, int), np.asarray(ethnicity, int)
    age = np.asarray(age, np.float64)
    for name, codes, size in (
        ("gender", gender, cells.shape[0]),
        ("ethnicity", ethnicity, cells.shape[1]),
    ):
        if codes.size and (codes.min() < 0 or codes.max() >= size):
            raise ValueError(f"{name} must be a code from 0 to {size - 1}")
    if not (np.isfinite(age) & (age >= 0)).all():
        raise ValueError("ages must be numbers of years, 0 or more")
    position = np.interp(age, knots, np.arange(len(knots)))
    lower = np.minimum(position.astype(int), len(knots) - 2)
    part = (position - lower)[:, None].astype(np.float32)
    below, above = (cells[gender, ethnicity, knot] for knot in (lower, lower + 1))
    return (1 - part) * below + part * above


def draw_faces(
    face_model: dict[str, np.ndarray], labels: pd.DataFrame, noise: np.ndarray
) -> np.ndarray:
    """Draw faces: the mean face of their labels plus a deviation from it.

    Parameters
    ----------
    face_model : dict[str, np.ndarray]
        What `load_face_model` returns.
    labels : pd.DataFrame
        `age` (years), `gender` (0, 1) and `ethnicity` (0 to 4), one row per face.
    noise : np.ndarray
        The deviations in standard deviations, independent, shape (faces, 150).

    Returns
    -------
    np.ndarray
        Grey levels from 0 to 255, uint8, shape (faces, 48, 48).

    Raises
    ------
    ValueError
        A label is out of range.
    """
    means = mean_scores(
        face_model, labels["age"], labels["gender"], labels["ethnicity"]
    )
    scores = means + noise.astype(np.float32) @ face_model["residual_factor"].T
    pixels = face_model["mean"] + scores @ face_model["components"]
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8).reshape(-1, 48, 48)


def sample_labels(
    face_model: dict[str, np.ndarray], uniform: np.ndarray
) -> pd.DataFrame:
    """Draw labels that are spread as in the training set.

    The age is drawn first (smoothed frequencies of the ages 1 to 95), then gender and
    ethnicity together from their frequencies in that age's band.

    Parameters
    ----------
    face_model : dict[str, np.ndarray]
        What `load_face_model` returns.
    uniform : np.ndarray
        Random numbers from 0 to 1, shape (people, 2).

    Returns
    -------
    pd.DataFrame
        One row per person: `age` (years), `ethnicity` (0 to 4), `gender` (0 or 1).
    """
    ages = np.cumsum(face_model["age_probability"], dtype=np.float64)
    age = 1 + np.searchsorted(ages / ages[-1], uniform[:, 0], side="right")
    table = face_model["group_probability"]
    band = np.searchsorted(face_model["band_starts"], age, side="right") - 1
    groups = np.cumsum(table.reshape(len(table), -1), axis=1, dtype=np.float64)
    groups /= groups[:, -1:]
    group = (uniform[:, 1:] >= groups[band]).sum(axis=1)
    gender, ethnicity = np.divmod(group, table.shape[2])
    return pd.DataFrame({"age": age, "ethnicity": ethnicity, "gender": gender})


def sample_faces(
    face_model: dict[str, np.ndarray],
    count: int,
    seed: int,
    labels: pd.DataFrame | None = None,
    first: int = 0,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Draw faces of people who do not exist.

    Face `i` depends on the seed, on `i` and on its labels, never on `count`: faces are
    drawn in blocks of 1,000, each with a random generator of its own. For more faces
    than fit into memory, ask for them a few thousand at a time through `first`.
    What the labels leave unexplained is drawn from a normal distribution and scaled
    by 0.8, which keeps rare, distorted faces out.

    Parameters
    ----------
    face_model : dict[str, np.ndarray]
        What `load_face_model` returns.
    count : int
        How many faces.
    seed : int
        0 or more; the same seed gives the same faces.
    labels : pd.DataFrame | None, optional
        `age` (years), `gender` (0, 1) and `ethnicity` (0 to 4) of the faces, `count`
        rows; without it they are drawn as in the training set.
    first : int, optional
        The number of the first face, from 0.

    Returns
    -------
    tuple[np.ndarray, pd.DataFrame]
        Grey levels, uint8, shape (count, 48, 48), and a table with a row per face:
        `age`, `ethnicity`, `gender` and `img_name` (unique within a seed).

    Raises
    ------
    ValueError
        A number is negative, or the labels do not fit.
    """
    if min(count, seed, first) < 0:
        raise ValueError("count, seed and first must be 0 or more")
    if labels is not None and len(labels) != count:
        raise ValueError(f"{count} faces need as many labels, not {len(labels)}")
    images = np.empty((count, 48, 48), np.uint8)
    names = [f"synthetic_{number:06d}.png" for number in range(first, first + count)]
    table = pd.DataFrame({"age": 0, "ethnicity": 0, "gender": 0, "img_name": names})
    table["img_name"] = table["img_name"].astype(object)
    codes = ["age", "ethnicity", "gender"]
    block, last = 1000, first + count
    for start in range(first - first % block, last, block):
        generator = np.random.default_rng([seed, start // block])
        drawn = sample_labels(face_model, generator.random((block, 2)))
        noise = generator.standard_normal((block, len(face_model["components"])))
        here = slice(max(first, start) - first, min(last, start + block) - first)
        there = slice(max(first, start) - start, min(last, start + block) - start)
        if labels is not None:
            drawn.loc[drawn.index[there], codes] = labels[codes].to_numpy(int)[here]
        images[here] = draw_faces(face_model, drawn, 0.8 * noise)[there]
        table.loc[table.index[here], codes] = drawn[codes].to_numpy()[there]
    return images, table

# %% [markdown]
# The data at hand are found, and named: a training is loaded only for the data it belongs to.

# %% tags=["functions"]
def use_folder(data_dir, faces):
    """Use the assignment's folder, if it is there (see ``provide_data``)."""
    path, pictures = data_dir / "age_gender.csv", data_dir / "images"
    if (
        not path.exists()
        and not pictures.is_dir()
        or path.exists()
        and has_pixels(path)
    ):
        return None
    for needed, other in ((path, pictures), (pictures, path)):
        if not needed.exists():
            raise FileNotFoundError(
                f"{other} is there, but {needed} is not: put the assignment's table "
                f"into {path}, its pictures into {pictures}/train, val and test."
            )
    return data_dir, f"the assignment's folder {data_dir}"


def use_csv(data_dir, faces):
    """Use a CSV with pixels, if one is there (see ``provide_data``)."""
    for path in sorted(data_dir.glob("*.csv")):
        if has_pixels(path):
            folder = import_pixel_csv(path, data_dir / "imported")
            return folder, f"the pixels in {path}, written out into {folder}"
        print(f"{path} is not used: it has no column pixels")
    return None


def use_kaggle(data_dir, faces):
    """Download the public pixel CSV, if Kaggle answers (see ``provide_data``)."""
    try:
        socket.create_connection(("www.kaggle.com", 443), timeout=3).close()
        import kagglehub  # here, since it is slow to import and seldom needed

        paths = sorted(pathlib.Path(kagglehub.dataset_download(KAGGLE)).rglob("*.csv"))
    except Exception as why:  # whatever a network can do
        print(f"Kaggle's data set {KAGGLE} is out of reach ({type(why).__name__})")
        return None
    for path in filter(has_pixels, paths):
        folder = import_pixel_csv(path, data_dir / "imported")
        return folder, f"Kaggle's data set {KAGGLE}, written out into {folder}"
    return None


def use_sample(data_dir, faces):
    """Use faces drawn from the embedded face model (see ``provide_data``)."""
    folder = data_dir / f"synthetic_{faces}"
    source = {"synthetic faces": faces, "seed": SEED}
    made = folder / "source.json"
    if not made.exists() or json.loads(made.read_text()) != source:
        shutil.rmtree(folder, ignore_errors=True)
        model = load_face_model(SHIPPED_DATA / "sample" / "face_model.npz")
        images, table = sample_faces(model, faces, SEED)
        digests = digest_pictures(images)
        known = pd.Series(dtype=str)
        table["split"] = assign_splits(table, digests, known)
        write_layout(images, table, folder, source)
    return folder, f"{faces:,} synthetic faces of people who do not exist, in {folder}"


SOURCES = {
    "folder": use_folder,
    "csv": use_csv,
    "kaggle": use_kaggle,
    "sample": use_sample,
}


def provide_data(choice, data_dir, faces):
    """Find the data that the user has, in the assignment's layout at last.

    Parameters
    ----------
    choice : str
        ``"auto"`` takes the first of ``SOURCES`` that is there, or one of its keys.
    data_dir : pathlib.Path
        Where data lie, and where they are written out.
    faces : int
        How many synthetic faces, where it comes to those.

    Returns
    -------
    kind : str
        A key of ``SOURCES``.
    folder : pathlib.Path
        Holds ``age_gender.csv`` and ``images``.
    sentence : str
        What is used, for people.

    Raises
    ------
    ValueError
        If there is no such choice.
    FileNotFoundError
        If the chosen data are not there.
    """
    if choice != "auto" and choice not in SOURCES:
        raise ValueError(f"DATA is {choice!r}; use 'auto' or one of {list(SOURCES)}.")
    for kind in SOURCES if choice == "auto" else [choice]:
        found = SOURCES[kind](data_dir, faces)
        if found:
            return kind, *found
    raise FileNotFoundError(
        f"DATA is {choice!r}, but {data_dir} holds no such data: see data/README.md "
        "for the layouts, or set DATA to 'auto'."
    )


def name_data(kind, table, known):
    """Name the data, so that a training is loaded only where it belongs.

    Parameters
    ----------
    kind : str
        As ``provide_data`` returns it.
    table : pandas.DataFrame
        Columns ``img_name`` and ``split``.
    known : pandas.Series
        As ``read_split_table`` returns it.

    Returns
    -------
    str
        ``"sample-<faces>"``; ``"utkface"`` where 99 % of the names are the known ones
        in the known sets; else ``"own-"`` and six digits of a hash of the names.
    """
    if kind == "sample":
        return f"sample-{len(table)}"
    table = table[table["img_name"].str.lower().str.endswith(PICTURES)]
    same = table["img_name"].map(hash_name).map(known) == table["split"]
    if same.mean() >= 0.99:
        return "utkface"
    return "own-" + digest_of(sorted(table["split"] + "/" + table["img_name"]))

# %%
data_kind, data_folder, data_sentence = provide_data(
    DATA, pathlib.Path(DATA_DIR), SAMPLE_FACES
)
image_folder = data_folder / "images"
files = list_pictures(image_folder)
data_name = name_data(data_kind, files, read_split_table())
if PUBLISH and (PROFILE, data_name) != ("full", "utkface"):
    raise ValueError("PUBLISH needs the assignment's data and PROFILE 'full'.")
answer(f"This run uses {data_sentence}: {len(files):,} images, known as `{data_name}`.")

# %% [markdown]
# ### What will this run do?
#
# Every training of the notebook has a name and a dictionary of hyperparameters. One that is
# finished is loaded: first what was trained here, then what the repository ships.

# %% tags=["functions"]
MAIN_RUN = {
    "filters": [32, 64, 128, 256],  # of the trunk's four blocks
    "convolutions": [1, 2, 2, 2],  # per block
    "shared_units": 256,
    "head_units": 128,
    "dropout": 0.25,
    "age_head": "distribution",
    "sigma": 2.5,  # years, width of the Gaussian around the age label
    "augmentation": "mild",
    "batch_size": 128,
    "optimizer": "muon",
    "learning_rate": 2e-3,
    "weight_decay": 0.1,
    "warmup_epochs": 2,
    "epochs": 30,
    "patience": 30,  # epochs: the schedule is not cut short
    "loss_weights": {
        "age": 0.1,  # per year
        "gender": 2.0,
        "ethnicity": 1.5,
        "age_distribution": 0.5,
    },
    "share": 1.0,  # of the training images
    "images": None,  # at most, before the share is taken; None: all
    "tasks": list(LABELS),
    "soft_penalty": None,  # a number: soft sharing, see SoftSharing
    "seed": SEED,
}
MAIN_SEEDS = {"mtl": MAIN_RUN} | {
    f"mtl_seed{seed}": MAIN_RUN | {"seed": seed} for seed in (SEED + 1, SEED + 2)
}
SMALL = MAIN_RUN | {"filters": [16, 32, 64, 128], "epochs": 12}
RUN_1 = SMALL | {
    "age_head": "scalar",
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "augmentation": "mild, linear",
}
RUN_2 = RUN_1 | {"age_head": "distribution"}
RUN_3 = RUN_2 | {"optimizer": "muon", "learning_rate": 2e-3, "weight_decay": 0.1}
RUN_4 = RUN_3 | {"augmentation": "mild"}
RUN_5 = RUN_4 | {"filters": MAIN_RUN["filters"]}
FIVE_RUNS = dict(run1=RUN_1, run2=RUN_2, run3=RUN_3, run4=RUN_4, run5=RUN_5)
STUDY = SMALL | {"share": 1 / 2, "epochs": 30, "patience": 5}
STUDY_RUNS = {
    "plain": STUDY | {"dropout": 0.0, "augmentation": "none"},
    "dropout": STUDY | {"augmentation": "none"},
    "augmentation": STUDY | {"dropout": 0.0},
    "both": STUDY,
}
SHARING_SEEDS = (SEED, SEED + 1, SEED + 2)
SHARING_RUNS = {
    name: SMALL | change | {"seed": seed}
    for seed in SHARING_SEEDS
    for name, change in {
        f"hard_{seed}": {},
        f"age_{seed}": {"tasks": ["age"]},
        f"gender_{seed}": {"tasks": ["gender"]},
        f"ethnicity_{seed}": {"tasks": ["ethnicity"]},
        f"soft_{seed}": {"soft_penalty": 0.01},
    }.items()
    if name != f"hard_{SEED}"  # that is run 4
}
CURVE_RUNS = {  # each sees as many images as 12 epochs of all have
    name: SMALL
    | {"share": 1 / part, "epochs": 12 * part, "patience": 12 * part}
    | {"warmup_epochs": 2 * part}
    for name, part in {"eighth": 8, "quarter": 4, "half": 2}.items()
}


GENDER_BASELINE = MAIN_RUN | {  # of assignment B
    "network": "gender baseline",
    "shape": [100, 100, 3],
    "tasks": ["gender"],
    "augmentation": "none",
    "batch_size": 64,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "epochs": 15,
    "patience": 15,
}
GENDER_TRIAL = GENDER_BASELINE | {"share": 1 / 3, "epochs": 12, "patience": 12}
GENDER_DEEP = GENDER_TRIAL | {
    "network": "shared trunk",
    "filters": [16, 32, 64, 128, 128],
    "convolutions": [1, 1, 1, 1, 1],
    "shared_units": 128,
    "head_units": 64,
    "dropout": 0.0,
}
GENDER_DROPOUT = GENDER_DEEP | {"dropout": 0.25}
GENDER_AUGMENTED = GENDER_DROPOUT | {"augmentation": "mild, linear"}
GENDER_MUON = GENDER_AUGMENTED | {
    "optimizer": "muon",
    "learning_rate": 2e-3,
    "weight_decay": 0.1,
}
GENDER_WIDE = GENDER_MUON | {"filters": [32, 64, 128, 256, 256]}
GENDER_HEAD = GENDER_BASELINE | {
    "network": "feature head",
    "batch_size": 128,
    "weight_decay": 0.01,
}
GENDER_RUNS = {
    "gender_baseline": GENDER_BASELINE,
    "gender_trial1": GENDER_TRIAL,
    "gender_trial2": GENDER_DEEP,
    "gender_trial3": GENDER_DROPOUT,
    "gender_trial4": GENDER_AUGMENTED,
    "gender_trial5": GENDER_MUON,
    "gender_trial6": GENDER_MUON | {"activation": "elu"},
    "gender_trial7": GENDER_WIDE,
    "gender_improved": GENDER_MUON
    | {"activation": "elu", "share": 1.0, "epochs": 16, "patience": 16}
    | {"filters": [16, 32, 64, 128, 256], "convolutions": [1, 1, 2, 2, 2]},
    "gender_vgg16": GENDER_HEAD | {"pretrained": "VGG16", "feature_count": 512},
    "gender_mtl_transfer": GENDER_HEAD | {"features": "mtl", "feature_count": 256},
}
GENDER_TRIALS = {  # what each changes one thing of
    "gender_trial1": None,
    "gender_trial2": "gender_trial1",
    "gender_trial3": "gender_trial2",
    "gender_trial4": "gender_trial3",
    "gender_trial5": "gender_trial4",
    "gender_trial6": "gender_trial5",
    "gender_trial7": "gender_trial5",
}
TWO_BRANCHES = MAIN_RUN | {  # of assignment C
    "network": "two branches",
    "shape": [128, 128, 3],
    "tasks": ["age", "gender"],
    "filters": [16, 16, 32, 64, 64, 128],
    "head_units": [128, 64],
    "dropout": 0.3,
    "age_head": "scalar",
    "losses": {"age": "mse"},
    "loss_weights": {"age": 0.1, "gender": 1.0},
    "augmentation": "mild, linear",
    "batch_size": 64,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "epochs": 30,
    "patience": 30,
}
BRANCH_TRIAL = TWO_BRANCHES | {"epochs": 10, "patience": 10}
BRANCH_SEEDS = {
    "age_gender_A" + (f"_seed{seed}" if seed > SEED else ""): TWO_BRANCHES
    | {"seed": seed}
    for seed in SHARING_SEEDS
}
BRANCH_TRIALS = {
    "branches_trial1": BRANCH_TRIAL,
    "branches_trial2": BRANCH_TRIAL | {"loss_weights": {"age": 0.01, "gender": 1.0}},
    "branches_trial3": BRANCH_TRIAL | {"optimizer": "rmsprop"},
    "branches_trial4": BRANCH_TRIAL | {"learning_rate": 4e-3},
}
BRANCH_RUNS = BRANCH_SEEDS | BRANCH_TRIALS | {
    "age_gender_B": TWO_BRANCHES
    | {"network": "resnet50", "pretrained": "ResNet50"}
    | {"learning_rate": 1e-4, "epochs": 10, "patience": 10},
}
AGE_SUBCLASSED = MAIN_RUN | {  # of assignment D
    "network": "age estimator",
    "shape": [100, 100, 3],
    "tasks": ["age"],
    "filters": [16, 32, 64, 128],
    "age_head": "scalar",
    "answer": "relu",
    "informed": False,
    "augmentation": "mild, linear",
    "batch_size": 64,
    "share": 1 / 3,
    "epochs": 12,
    "patience": 12,
}
AGE_RUNS = {
    "age_subclassed": AGE_SUBCLASSED,
    "age_linear": AGE_SUBCLASSED | {"answer": "linear"},
    "age_classes": AGE_SUBCLASSED | {"answer": "classes"},
    "age_informed": AGE_SUBCLASSED | {"informed": True},
}
RUN_GROUPS = {  # by the section that shows them
    "5 Training": MAIN_SEEDS | STUDY_RUNS,
    "7 Five runs": FIVE_RUNS,
    "8 Does sharing help?": SHARING_RUNS,
    "9 Gender recognition (B)": GENDER_RUNS,
    "10 Two branches (C)": BRANCH_RUNS,
    "11 Age, subclassed (D)": AGE_RUNS,
    "12 What limits it?": CURVE_RUNS,
}
CHAPTER_RUNS = {"B": GENDER_RUNS, "C": BRANCH_RUNS, "D": AGE_RUNS}
ALL_RUNS = {name: run for runs in RUN_GROUPS.values() for name, run in runs.items()}


def chapter_of(name):
    """Say to which chapter a run belongs.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
        ``"A"``, ``"B"``, ``"C"`` or ``"D"``.
    """
    return next((key for key, runs in CHAPTER_RUNS.items() if name in runs), "A")


def scale_down(hyperparameters, profile, kind):
    """Shorten a run for a quick look, or for the few synthetic faces.

    Parameters
    ----------
    hyperparameters : dict
    profile : str
        ``"full"`` or ``"quick"``.
    kind : str
        Kind of the data, as ``provide_data`` returns it.

    Returns
    -------
    dict
        The same hyperparameters for a full run on real data.

    Raises
    ------
    ValueError
        If there is no such profile.
    """
    if profile not in ("full", "quick"):
        raise ValueError(f"PROFILE is {profile!r}; use 'full' or 'quick'.")
    longer = round(1 / hyperparameters["share"])  # fewer images are seen more often
    short = {"warmup_epochs": longer, "patience": 10 * longer, "batch_size": 64}
    if profile == "quick":
        return hyperparameters | short | {"epochs": 2 * longer, "images": 256}
    if kind != "sample":
        return hyperparameters
    epochs = 10 if hyperparameters["epochs"] == MAIN_RUN["epochs"] else 3 * longer
    images = 512 if "shape" in hyperparameters else None
    return hyperparameters | short | {"epochs": epochs, "images": images}


def choose_runs(profile, kind):
    """Choose the trainings of this run: all, or one seed of each where it is short.

    Parameters
    ----------
    profile, kind : str
        As for ``scale_down``.

    Returns
    -------
    dict[str, dict]
        Hyperparameters by name.
    """
    short = profile == "quick" or kind == "sample"
    return {
        name: scale_down(hyperparameters, profile, kind)
        for name, hyperparameters in ALL_RUNS.items()
        if (not short or hyperparameters["seed"] == SEED)
        and chapter_of(name) in "A" + CHAPTERS
    }


def count_images(available, hyperparameters):
    """Say how many images a run is trained on.

    Parameters
    ----------
    available : int
        Size of the training set.
    hyperparameters : dict
        ``images`` (at most so many; None for all) and ``share`` of them.

    Returns
    -------
    int
    """
    most = min(available, hyperparameters["images"] or available)
    return round(hyperparameters["share"] * most)


PRETRAINED_FILES = {  # of ImageNet, by network of keras.applications
    "VGG16": "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "ResNet50": "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
}


def waits_for_imagenet(hyperparameters):
    """Tell whether a run starts from weights of ImageNet that are not here yet.

    Parameters
    ----------
    hyperparameters : dict

    Returns
    -------
    bool
    """
    network = hyperparameters.get("pretrained")
    if network is None:
        return False
    home = os.environ.get("KERAS_HOME", pathlib.Path.home() / ".keras")
    folder = pathlib.Path(IMAGENET) if IMAGENET else pathlib.Path(home) / "models"
    return not (folder / PRETRAINED_FILES[network]).exists()


WAITS = "waits for ImageNet's weights"
DOES_HERE = ("trains it", "goes on with it")


def plan_runs(runs, images, *where):
    """Say which runs are loaded, which are trained, and how long that takes.

    Parameters
    ----------
    runs : dict[str, dict]
        Hyperparameters by name.
    images : int
        Size of the training set.
    *where
        ``data_name``, ``model_dir`` and ``shipped``, as for ``find_run``.

    Returns
    -------
    pandas.DataFrame
        One row per run: whether it is loaded or trained, and the ``seconds`` that its
        training took or will take, roughly on two cores.
    """
    rows = []
    for name, hyperparameters in runs.items():
        own, stem = find_run(name, hyperparameters, *where)
        used = count_images(images, hyperparameters)
        speed = 400 if hyperparameters["filters"] == MAIN_RUN["filters"] else 700
        speed = {"feature head": 5_000, "resnet50": 20}.get(
            hyperparameters.get("network"), 150 if "shape" in hyperparameters else speed
        )
        if hyperparameters["soft_penalty"] is not None:
            speed /= len(hyperparameters["tasks"])  # as many trunks
        if stem is None:
            goes_on = of_run(own, ".partial").exists()
            does = "goes on with it" if goes_on else "trains it"
            if waits_for_imagenet(hyperparameters):
                does = WAITS
            seconds = hyperparameters["epochs"] * used / speed
        else:
            does = "loads it"
            seconds = json.loads(of_run(stem, ".json").read_text())["seconds"]
        rows.append(
            {
                "Training": name,
                "Images": f"{used:,}",
                "Epochs at most": hyperparameters["epochs"],
                "This run": does,
                "seconds": seconds,
            }
        )
    return pd.DataFrame(rows)

# %% [markdown]
# A run is the one that was asked for if its name, its hyperparameters and its data agree.

# %% tags=["functions"]
def find_run(name, hyperparameters, data_name, model_dir, shipped=True):
    """Find a finished training: what the user trained first, then what is shipped.

    Parameters
    ----------
    name : str
        Name of the run, such as ``"mtl"``.
    hyperparameters : dict
    data_name : str
        As ``name_data`` returns it.
    model_dir : pathlib.Path
    shipped : bool
        Whether to look among what is shipped at all.

    Returns
    -------
    own : pathlib.Path
        Where the run lies or will lie, without a suffix: ``<own>.json`` is its
        history, ``<own>.keras`` its weights, ``<own>_val.npz`` its predictions.
    finished : pathlib.Path or None
        The same for the finished run that was found.
    """
    digest = digest_of(hyperparameters)
    own = model_dir / "runs" / data_name / f"{name}-{digest}"
    for stem in [own] + [model_dir / data_name / name] * shipped:
        history = stem.with_name(stem.name + ".json")
        if history.exists() and json.loads(history.read_text())["digest"] == digest:
            return own, stem
    return own, None


def of_run(stem, ending):
    """Name a file of a run: its stem plus an ending such as ``".json"``.

    Parameters
    ----------
    stem : pathlib.Path
    ending : str

    Returns
    -------
    pathlib.Path
    """
    return stem.with_name(stem.name + ending)


def current_commit():
    """Name the commit of the notebook, for the histories.

    Returns
    -------
    str
        Abbreviated hash, ``-dirty`` where files differ from it; ``"unknown"`` outside
        a git repository.
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        return result.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"

# %% [markdown]
# The main network is `mtl`, trained with two more seeds besides; `plain`, `dropout`,
# `augmentation` and `both` show in section 5 what regularization does; `run1` to `run5` are the
# five runs of section 7; the rest is for sections 8 to 12. On the synthetic faces all are
# shortened and have one seed: they show that the notebook works, not how good it can be.

# %%
runs_to_do = choose_runs(PROFILE, data_kind)
places = data_name, pathlib.Path(MODEL_DIR), not RETRAIN
plan = plan_runs(runs_to_do, (files["split"] == "train").sum(), *places)
sections = {name: section for section, runs in RUN_GROUPS.items() for name in runs}
rows = [
    {
        "Section": section,
        "Trainings": len(part),
        "Loaded": (part["This run"] == "loads it").sum(),
        "Done here": ", ".join(part["Training"][part["This run"].isin(DOES_HERE)]),
        "They take, or took": duration(part["seconds"][part["This run"] != WAITS].sum()),
    }
    for section, part in plan.groupby(plan["Training"].map(sections), sort=False)
]
show_table(pd.DataFrame(rows))

# %%
to_train = plan[plan["This run"].isin(DOES_HERE)]
wait = f", in about {duration(to_train['seconds'].sum())} on two cores"
waiting = plan[plan["This run"] == WAITS]
fetched = (
    f" {', '.join(waiting['Training'])} would take about "
    f"{duration(waiting['seconds'].sum())}, if ImageNet's weights can be fetched."
)
answer(
    f"{(plan['This run'] == 'loads it').sum()} of {len(plan)} trainings are loaded, "
    f"{len(to_train)} are done here{wait if len(to_train) else ''}; all else takes "
    f"a few minutes.{fetched if len(waiting) else ''}"
)

# %% [markdown]
# <a id="loading"></a>
# ## 2 Loading the relevant datasets (15 points)
#
# *What is in the data, and what is wrong with them?* Labels and pictures are read and checked:
# each fault is counted, and its first example named.

# %% tags=["functions"]
def read_images(table, folder):
    """Read all pictures as 48×48 grayscale.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``img_name`` and ``split``.
    folder : pathlib.Path
        Holds the folders of the sets.

    Returns
    -------
    images : numpy.ndarray
        Grey levels 0 to 255, uint8, shape ``(n, 48, 48)``; zeros where broken.
    faults : pandas.Series
        Missing where the picture is good as it is; ``"broken picture"``, or
        ``"resized to 48×48"`` for one of another size.
    """
    images = np.zeros((len(table), SIZE, SIZE), "uint8")
    faults = pd.Series(pd.NA, index=table.index, dtype="string")
    rows = zip(table.index, table["split"], table["img_name"], strict=True)
    for position, (index, split, name) in enumerate(rows):
        try:
            with PIL.Image.open(folder / split / name) as picture:
                grey = picture.convert("L")
        except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError):
            faults[index] = "broken picture"
            continue
        if grey.size != (SIZE, SIZE):
            faults[index] = f"resized to {SIZE}×{SIZE}"
            grey = grey.resize((SIZE, SIZE), PIL.Image.Resampling.LANCZOS)
        images[position] = np.asarray(grey)
    return images, faults


def load_folder(folder):
    """Load the assignment's folder: labels, sets, pictures, and what is wrong.

    Parameters
    ----------
    folder : pathlib.Path
        Holds ``age_gender.csv`` and ``images/{train,val,test}``.

    Returns
    -------
    table : pandas.DataFrame
        One row per usable image, sorted by name: ``img_name``, ``age``, ``gender``,
        ``ethnicity`` (whole numbers), ``split``.
    images : numpy.ndarray
        Their pictures, uint8, shape ``(n, 48, 48)``.
    faults : pandas.DataFrame
        As ``find_faults`` returns them, pictures' faults included.
    """
    labels = read_labels(folder / "age_gender.csv")
    files = list_pictures(folder / "images")
    faults = find_faults(labels, files)
    good = labels.drop(index=faults["row"][faults["row"] > 0] - 1)
    good = good.assign(
        **{label: pd.to_numeric(good[label]).astype(int) for label in LABELS}
    )
    table = good.merge(files.drop_duplicates("img_name"), on="img_name")
    table = table.sort_values("img_name", ignore_index=True)
    images, broken = read_images(table, folder / "images")
    seen = table.assign(fault=broken, row=0).dropna(subset="fault")
    keep = (broken != "broken picture").fillna(True).to_numpy(bool)
    for split in SPLITS:
        if not (table["split"][keep] == split).any():
            raise ValueError(
                f"No usable image is left in the {split} set of {folder}: compare the "
                "names in age_gender.csv with the files in images."
            )
    found = [part for part in (faults, seen[list(faults)]) if len(part)]
    faults = pd.concat(found, ignore_index=True) if found else faults
    return table[keep].reset_index(drop=True), images[keep], faults


def validation_part(names):
    """Split validation in two by a hash of the name, once and for ever.

    Parameters
    ----------
    names : pandas.Series
        Image names.

    Returns
    -------
    pandas.Series
        ``"select"`` (chooses epochs, hyperparameters, models) or ``"calibrate"``
        (for intervals and corrections; chooses nothing), about half each.
    """

    def part(name):
        digest = hashlib.sha256(f"validation part of {name}".encode()).digest()
        return "select" if digest[0] % 2 else "calibrate"

    return names.map(part)

# %% tags=["functions"]
def proportions(table, label, names):
    """Count each value of a label in the three sets.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``split`` and ``label``.
    label : str
        ``"gender"`` or ``"ethnicity"``.
    names : sequence of str
        Name of each code, in order.

    Returns
    -------
    pandas.DataFrame
        One row per value; per set its number and its share in percent.
    """
    counts = table.groupby("split")[label].value_counts().unstack(0, fill_value=0)
    counts = counts.reindex(index=range(len(names)), columns=SPLITS, fill_value=0)
    shares = 100 * counts / counts.sum()
    frame = pd.DataFrame(
        {label.capitalize(): [f"{n} ({i})" for i, n in enumerate(names)]}
    )
    for split in SPLITS:
        pairs = zip(counts[split], shares[split], strict=True)
        frame[split] = [f"{count:,} ({share:.1f} %)" for count, share in pairs]
    return frame


def plot_ages(table):
    """Plot how many training images there are of each age.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``age`` and ``split``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ages = table.loc[table["split"] == "train", "age"]
    figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
    axes.bar(
        AGES,
        ages.value_counts().reindex(AGES, fill_value=0),
        0.9,
        color=SPLIT_COLOURS["train"],
    )
    axes.axvline(
        ages.median(),
        color="black",
        linestyle=":",
        label=f"median {ages.median():.0f} years",
    )
    axes.set(
        title="Ages in the training set",
        xlabel="age (years)",
        ylabel="number of people",
    )
    axes.legend(frameon=False)
    return figure


def summarise_faults(faults):
    """Count what is wrong in the data, and say what was done about it.

    Parameters
    ----------
    faults : pandas.DataFrame
        As ``load_folder`` returns them.

    Returns
    -------
    pandas.DataFrame
        One row per kind of fault, with the first example.
    """
    if faults.empty:
        return pd.DataFrame({"What is wrong": ["nothing"], "How many": [0]})
    rows = []
    for fault, found in faults.groupby("fault"):
        first = found.iloc[0]
        name = f"`{first['img_name']}`"
        used = fault.startswith("resized")
        rows.append(
            {
                "What is wrong": fault,
                "How many": len(found),
                "First": f"row {first['row']:,}" if first["row"] else name,
                "What was done": "used" if used else "left out",
            }
        )
    return pd.DataFrame(rows)


def plot_near_twins(table, audit):
    """Plot how alike each test picture's most similar training picture is.

    Parameters
    ----------
    table, audit : pandas.DataFrame
        As for ``mark_twins``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    test = audit[(table["split"] == "test").to_numpy()]
    alike = test[["near_train", "near_val"]].max(axis=1).clip(upper=1)
    figure, axes = plt.subplots(figsize=(9, 3), layout="constrained")
    axes.hist(alike, np.arange(0.5, 1.0025, 0.0025), color=SPLIT_COLOURS["test"])
    axes.axvline(NEAR, color="black", linestyle=":", label=f"threshold {NEAR}")
    axes.set(
        title="Each test image and the most similar one of training or validation",
        xlabel="correlation at 24×24 pixels",
        ylabel="test images (log scale)",
        yscale="log",
        xlim=(0.6, 1.005),
    )
    axes.legend(frameon=False, loc="upper left")
    return figure


def show_faces(axes, images, titles):
    """Draw pictures in a row, each under its title.

    Parameters
    ----------
    axes : sequence of matplotlib.axes.Axes
    images : sequence of numpy.ndarray
        Shape ``(48, 48)``, grey levels 0 to 255.
    titles : sequence of str
    """
    for axis, image, title in zip(axes, images, titles, strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, fontsize=8)
        axis.axis("off")


def average_faces(table, images, count=20, people=30):
    """Average training pictures of people with the same labels and similar ages.

    Parameters
    ----------
    table : pandas.DataFrame
        As ``load_folder`` returns it.
    images : numpy.ndarray
        Likewise.
    count : int
        How many averages.
    people : int
        Pictures in each: few enough to look like a face, enough to be nobody's.

    Returns
    -------
    faces : numpy.ndarray
        uint8, shape ``(count, 48, 48)``; fewer where the data are few.
    labels : pandas.DataFrame
        ``age`` (median), ``gender``, ``ethnicity``.
    """
    train = table[table["split"] == "train"].sort_values(["gender", "ethnicity", "age"])
    place = train.groupby(["gender", "ethnicity"]).cumcount() // people
    groups = list(train.groupby(["gender", "ethnicity", place]))
    whole = [(key, part) for key, part in groups if len(part) == people]
    chosen = whole[:: max(1, len(whole) // count)][:count]
    faces = [images[part.index].mean(axis=0).astype("uint8") for _, part in chosen]
    labels = pd.DataFrame(
        [(int(part["age"].median()), *key[:2]) for key, part in chosen],
        columns=LABELS,
    )
    return np.array(faces), labels


def faces_to_show(table, images, count=20):
    """Give faces of nobody: from the face model, or averages where it is missing.

    Parameters
    ----------
    table, images
        As for ``average_faces``.
    count : int

    Returns
    -------
    faces : numpy.ndarray
        uint8, shape ``(count, 48, 48)``.
    labels : pandas.DataFrame
        ``age``, ``gender``, ``ethnicity``.
    """
    path = SHIPPED_DATA / "sample" / "face_model.npz"
    if path.exists():
        return sample_faces(load_face_model(path), count, seed=SEED)
    return average_faces(table, images, count)


def plot_sample(faces, labels, columns=10):
    """Show synthetic faces with the labels they were drawn for.

    Parameters
    ----------
    faces : numpy.ndarray
        uint8, shape ``(n, 48, 48)``.
    labels : pandas.DataFrame
        ``age``, ``gender``, ``ethnicity``.
    columns : int

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = max(1, min(columns, len(faces)))
    rows = max(1, len(faces) // columns)
    faces, labels = faces[: rows * columns], labels[: rows * columns]
    shape = {"figsize": (columns, 1.35 * rows), "squeeze": False}
    figure, axes = plt.subplots(rows, columns, layout="constrained", **shape)
    titles = [
        f"{row.age}, {GENDERS[row.gender]},\n{ETHNICITIES[row.ethnicity]}"
        for row in labels.itertuples()
    ]
    show_faces(axes.ravel()[: len(faces)], faces, titles)
    figure.suptitle("Faces of nobody", fontsize=10)
    return figure

# %%
table, images, faults = load_folder(data_folder)
parts = {split: table[table["split"] == split] for split in SPLITS}
half = validation_part(parts["val"]["img_name"])
context = {
    "tables": {"train": parts["train"], "select": parts["val"][half == "select"]},
    "folder": image_folder,
    "data_name": data_name,
    "model_dir": pathlib.Path(MODEL_DIR),
    "log_dir": pathlib.Path(LOG_DIR),
    "shipped": not RETRAIN,
    "commit": current_commit(),
}

# %% [markdown]
# From here on there is one table, `table`, a row for each usable picture, and one array,
# `images`, in the same order. Half of validation is set aside by a hash of the name.
#
# ### Shapes and columns

# %%
shapes = {
    "Set": SPLITS,
    "Table (rows, columns)": [str(parts[split].shape) for split in SPLITS],
    "Pixels (images, height, width)": [
        str(images[table["split"] == split].shape) for split in SPLITS
    ],
}
show_table(pd.DataFrame(shapes))

# %%
answer(
    f"The columns are {', '.join(f'`{name}`' for name in table)}; `split` is the "
    f"folder. Of validation, {(half == 'select').sum():,} images are the selection "
    f"half, {(half == 'calibrate').sum():,} the held-out half."
)

# %% [markdown]
# ### Proportions of gender and ethnicity
#
# Are the three sets alike?

# %%
show_table(proportions(table, "gender", GENDERS))

# %%
show_table(proportions(table, "ethnicity", ETHNICITIES))

# %%
female = table.groupby("split")["gender"].mean()
white = (table["ethnicity"] == 0).groupby(table["split"]).mean()
answer(
    f"Between the sets, the share of the label female differs by at most "
    f"{100 * (female.max() - female.min()):.2f} percentage points, that of White by "
    f"{100 * (white.max() - white.min()):.2f}; White makes up "
    f"{100 * white['train']:.0f} % of training."
)

# %% [markdown]
# ### Ages
#
# Which ages will the network see often, and which hardly ever?

# %%
show_figure(plot_ages(table))

# %%
ages = parts["train"]["age"]
answer(
    f"Ages reach from {ages.min()} to {ages.max()} years, the middle half from "
    f"{ages.quantile(0.25):.0f} to {ages.quantile(0.75):.0f}. The most frequent age is "
    f"{ages.mode()[0]} ({(ages == ages.mode()[0]).sum():,} people), and "
    f"{100 * (ages % 5 == 0).mean():.0f} % of the ages end in 0 or 5; without "
    "rounding, about 20 % would."
)

# %% [markdown]
# ### What is wrong in the data?

# %%
show_table(summarise_faults(faults))

# %%
left_out = (~faults["fault"].str.startswith("resized")).sum()
what = "row or file is" if left_out == 1 else "rows or files are"
answer(
    f"{len(table):,} images with their labels are used; {left_out:,} {what} left out, "
    "each counted above."
)

# %% [markdown]
# ### Duplicates: does the test set repeat the training set?
#
# **Twins** are images with the same pixels; **near-twins** correlate at 24×24 pixels by `NEAR` or
# more: the same photograph, cropped or compressed again. Both are searched within and across the
# sets. A test image whose twin was trained on flatters the model, unless the two have different
# labels.

# %% tags=["functions"]
NEAR = 0.99  # correlation at 24×24 pixels from which on pictures count as near-twins


def standardise(images):
    """Halve pictures to 24×24 and bring them to mean zero and length one.

    Parameters
    ----------
    images : numpy.ndarray
        uint8, shape ``(n, 48, 48)``.

    Returns
    -------
    numpy.ndarray
        float32, shape ``(n, 576)``; products of rows are correlations. A picture of
        one grey level becomes zeros: it correlates with nothing.
    """
    half = SIZE // 2
    small = images.reshape(-1, half, 2, half, 2).mean(axis=(2, 4), dtype="float32")
    small = small.reshape(len(images), -1)
    small -= small.mean(axis=1, keepdims=True)
    length = np.linalg.norm(small, axis=1, keepdims=True)
    return small / np.where(length > 0, length, 1)


def nearest_by_split(images, splits, block=2000):
    """Find how alike the most similar other picture of each set is.

    Parameters
    ----------
    images : numpy.ndarray
        uint8, shape ``(n, 48, 48)``.
    splits : numpy.ndarray
        Set of each picture.
    block : int
        Pictures compared at once: keeps the memory constant.

    Returns
    -------
    pandas.DataFrame
        One row per picture, one column per set: the highest correlation with any other
        picture of that set.
    """
    vectors = standardise(images)
    result = np.empty((len(images), len(SPLITS)), "float32")
    for start in range(0, len(images), block):
        stop = min(start + block, len(images))
        alike = vectors[start:stop] @ vectors.T
        alike[np.arange(stop - start), np.arange(start, stop)] = -1  # itself
        for column, split in enumerate(SPLITS):
            result[start:stop, column] = alike[:, splits == split].max(axis=1)
    return pd.DataFrame(result, columns=list(SPLITS))


def audit_twins(table, images):
    """Mark the pictures that have a twin or a near-twin, and where.

    Parameters
    ----------
    table : pandas.DataFrame
        As ``load_folder`` returns it.
    images : numpy.ndarray
        Likewise.

    Returns
    -------
    pandas.DataFrame
        Per picture: ``digest`` (of its pixels), ``in_train``, ``in_val``, ``in_test``
        (another picture there has the same pixels) and ``near_train``, ``near_val``,
        ``near_test`` (highest correlation there).
    """
    digest = digest_pictures(images)
    audit = nearest_by_split(images, table["split"].to_numpy()).add_prefix("near_")
    audit.insert(0, "digest", digest)
    for split in SPLITS:
        inside = (table["split"] == split).to_numpy()
        others = pd.Series(digest).map(pd.Series(digest[inside]).value_counts())
        audit[f"in_{split}"] = others.fillna(0).to_numpy() - inside > 0
    return audit


def mark_twins(table, audit):
    """Say for each picture whether another *set* holds its twin or near-twin.

    Parameters
    ----------
    table : pandas.DataFrame
        Column ``split``.
    audit : pandas.DataFrame
        As ``audit_twins`` returns it.

    Returns
    -------
    pandas.DataFrame
        Columns ``twin`` and ``near_twin`` (identical ones included), bool.
    """
    marks = pd.DataFrame(False, index=table.index, columns=["twin", "near_twin"])
    for split in SPLITS:
        elsewhere = table["split"] != split
        marks["twin"] |= elsewhere & audit[f"in_{split}"]
        marks["near_twin"] |= elsewhere & (audit[f"near_{split}"] >= NEAR)
    marks["near_twin"] |= marks["twin"]
    return marks


def describe_twins(table, audit):
    """Count twins and near-twins within and across the sets.

    Parameters
    ----------
    table, audit : pandas.DataFrame
        As for ``mark_twins``.

    Returns
    -------
    pandas.DataFrame
        One row per set; columns: identical and nearly identical in each set.
    """
    rows = []
    for split in SPLITS:
        here = audit[table["split"] == split]
        row = {"Images of the set": split, "Images": f"{len(here):,}"}
        for other in SPLITS:
            near = here[f"in_{other}"] | (here[f"near_{other}"] >= NEAR)
            row[f"identical in {other}"] = int(here[f"in_{other}"].sum())
            row[f"identical or near in {other}"] = int(near.sum())
        rows.append(row)
    return pd.DataFrame(rows)


def describe_conflicts(table, audit):
    """Count groups of identical pictures and those whose labels disagree.

    Parameters
    ----------
    table, audit : pandas.DataFrame
        As for ``mark_twins``.

    Returns
    -------
    dict[str, int]
        ``groups``, ``pictures``, ``conflicting`` (any label), and one per label.
    """
    groups = table.groupby(audit["digest"].to_numpy())
    size = groups.size()
    several = groups[list(LABELS)].nunique()[size > 1] > 1
    return {
        "groups": len(several),
        "pictures": int(size[size > 1].sum()),
        "conflicting": int(several.any(axis=1).sum()),
    } | {label: int(several[label].sum()) for label in LABELS}

# %%
audit = audit_twins(table, images)
twins = mark_twins(table, audit)
show_table(describe_twins(table, audit))

# %%
show_figure(plot_near_twins(table, audit))

# %%
conflicts = describe_conflicts(table, audit)
in_test = table["split"] == "test"
alike = audit.loc[in_test, ["near_train", "near_val"]].max(axis=1)
test_twins = twins[in_test].sum()
answer(
    f"{conflicts['groups']} groups of images have the same pixels "
    f"({conflicts['pictures']} images); in {conflicts['conflicting']} of them the "
    f"labels disagree (age {conflicts['age']}, gender {conflicts['gender']}, ethnicity "
    f"{conflicts['ethnicity']}). {test_twins['twin']} test images have a twin in "
    f"training or validation, {test_twins['near_twin']} a twin or near-twin (at a "
    f"threshold of 0.98 it would be {(alike >= 0.98).sum()}, at 0.995 "
    f"{(alike >= 0.995).sum()}): section 6 reports results with and without them."
)

# %% [markdown]
# ### Faces that may be shown
#
# No figure of this notebook shows a real person's picture. Where a face is needed, it is drawn
# from the embedded face model; where that is missing, it is the average of 30 people.

# %%
faces, face_labels = faces_to_show(table, images)
show_figure(plot_sample(faces, face_labels))

# %% [markdown]
# <a id="generators"></a>
# ## 3 Create the ImageDataGenerators (22 points)
#
# *How do pictures reach the network?* An `ImageDataGenerator` rescales grey levels to [0, 1],
# for training it also augments; `flow_from_dataframe` links each `img_name` to its three labels.
# Keras 3 takes labels as a dict, the iterator yields a list: a thin adapter names them.

# %% tags=["functions"]
MILD = {"rotation": 6, "shift": 4, "zoom": 0.10, "contrast": 0.2, "flip": True}
AUGMENTATIONS = {
    "none": {},
    "mild": MILD | {"spline": 3},
    "mild, linear": MILD | {"spline": 1},
}


def random_contrast(amount):
    """Make a function that scales the contrast of one picture by chance.

    Parameters
    ----------
    amount : float
        Largest relative change; 0.2 draws factors from 0.8 to 1.2.

    Returns
    -------
    callable
        Takes and returns a float picture of shape ``(48, 48, 1)``, grey levels 0 to
        255; its attribute ``amount`` holds the range, so that tables can read it.
    """

    def change_contrast(picture):
        mean = picture.mean()
        factor = np.random.uniform(1 - amount, 1 + amount)  # seeded by the iterator
        return np.clip(mean + factor * (picture - mean), 0, 255)

    change_contrast.amount = amount
    return change_contrast


def make_datagen(augmentation="none"):
    """Make an ``ImageDataGenerator`` that rescales to [0, 1] and may augment.

    Parameters
    ----------
    augmentation : str
        A key of ``AUGMENTATIONS``; only training uses another than ``"none"``.

    Returns
    -------
    ImageDataGenerator
    """
    change = AUGMENTATIONS[augmentation]
    contrast = change.get("contrast", 0)
    return ImageDataGenerator(
        rescale=1 / 255,
        rotation_range=change.get("rotation", 0),  # degrees
        width_shift_range=change.get("shift", 0) / SIZE,  # share of the width
        height_shift_range=change.get("shift", 0) / SIZE,
        zoom_range=change.get("zoom", 0),
        horizontal_flip=change.get("flip", False),
        fill_mode="nearest",
        interpolation_order=change.get("spline", 1),  # of the spline between pixels
        preprocessing_function=random_contrast(contrast) if contrast else None,
    )


def make_flow(
    datagen, table, folder, batch_size=128, shuffle=False, seed=SEED, shape=(SIZE, SIZE, 1)
):
    """Link the pictures of one set to their three labels.

    Parameters
    ----------
    datagen : ImageDataGenerator
    table : pandas.DataFrame
        Columns ``img_name``, ``age``, ``gender``, ``ethnicity``, ``split``; one split.
    folder : pathlib.Path
        Holds ``train``, ``val`` and ``test``, or the pictures of all sets.
    batch_size : int
    shuffle : bool
        True for training alone.
    seed : int
    shape : tuple of int
        Height, width and channels (1 for grey, 3 for colour) to load pictures in.

    Returns
    -------
    DataFrameIterator
        Its batches are ``(images, [age, gender, ethnicity])``, images float32 of
        shape ``(batch, *shape)`` in [0, 1], labels float32 of shape ``(batch,)``.
    """
    (split,) = table["split"].unique()
    own = folder / split
    with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
        return datagen.flow_from_dataframe(
            table.astype({label: "float32" for label in LABELS}),
            directory=str(own if own.is_dir() else folder),
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


def age_distribution(ages, sigma):
    """Spread each age over its neighbours as a Gaussian (label distribution).

    Parameters
    ----------
    ages : numpy.ndarray
        Years, shape ``(n,)``.
    sigma : float
        Standard deviation of the Gaussian in years.

    Returns
    -------
    numpy.ndarray
        Shape ``(n, 117)``, float32; each row sums to one.

    Notes
    -----
    Gao et al., Deep Label Distribution Learning with Label Ambiguity, IEEE TIP 2017.
    """
    weights = np.exp(-0.5 * ((AGES - np.asarray(ages)[:, None]) / sigma) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32")


class LabelledBatches(keras.utils.PyDataset):
    """Name the labels of a ``multi_output`` iterator, so that Keras 3 can fit on it.

    Keras 3 takes labels as a tuple or a dict, the iterator yields a list.

    Parameters
    ----------
    flow : DataFrameIterator
        As ``make_flow`` makes it.
    sigma : float or None
        Where given, a further label ``age_distribution`` of that width (years).
    tasks : sequence of str
        Which labels the network answers to.
    informed : bool
        Whether the network is told the gender label besides the picture.
    mirrored : bool
        Whether every picture is mirrored, left to right.
    """

    def __init__(self, flow, sigma=None, tasks=LABELS, informed=False, mirrored=False):
        super().__init__()
        self.flow = flow
        self.sigma = sigma
        self.tasks = tasks
        self.informed = informed
        self.mirrored = mirrored

    def __len__(self):
        return len(self.flow)

    def __getitem__(self, index):
        images, labels = self.flow[index]
        known = dict(zip(LABELS, labels, strict=True))
        named = {task: known[task] for task in self.tasks}
        if self.sigma and "age" in named:
            named["age_distribution"] = age_distribution(named["age"], self.sigma)
        if self.mirrored:
            images = images[:, :, ::-1]
        if self.informed:
            images = (images, known["gender"][:, None])
        return images, named

    def on_epoch_end(self):
        """Shuffle anew for the next epoch, if the iterator shuffles."""
        self.flow.on_epoch_end()

# %% [markdown]
# ### Three generators
#
# One for each set. Validation and test are rescaled and nothing else, in the table's order.
# Training, below, makes its generators in the same way, with the settings of each run.

# %%
train_datagen = make_datagen("mild")
test_datagen = make_datagen()

# %%
train_flow = make_flow(train_datagen, parts["train"], image_folder, shuffle=True)
val_flow = make_flow(test_datagen, parts["val"], image_folder)
test_flow = make_flow(test_datagen, parts["test"], image_folder)

# %% [markdown]
# ### One batch of each set
#
# What the network gets: pictures in [0, 1], and three labels by name.

# %%
flows = dict(zip(SPLITS, (train_flow, val_flow, test_flow), strict=True))
batches = {split: LabelledBatches(flow)[0] for split, flow in flows.items()}
batch_rows = [
    {
        "Set": split,
        "Images": f"{flows[split].samples:,}",
        "Shuffled": "yes" if flows[split].shuffle else "no",
        "Batch": " × ".join(map(str, pictures.shape)),
        "Grey levels": f"{pictures.min():.2f} to {pictures.max():.2f}",
        "Labels": ", ".join(labels),
    }
    for split, (pictures, labels) in batches.items()
]
show_table(pd.DataFrame(batch_rows))

# %% [markdown]
# ### What augmentation does
#
# The ranges are read off the generator, the picture is one of the faces above.

# %% tags=["functions"]
def sharpness(pictures):
    """Measure how much pixels differ from their neighbours.

    Parameters
    ----------
    pictures : numpy.ndarray
        Shape ``(n, height, width, 1)``.

    Returns
    -------
    float
        Mean absolute Laplacian, in the pictures' unit.
    """
    inner = pictures[:, 1:-1, 1:-1]
    around = pictures[:, :-2, 1:-1] + pictures[:, 2:, 1:-1]
    around = around + pictures[:, 1:-1, :-2] + pictures[:, 1:-1, 2:]
    return float(np.abs(around - 4 * inner).mean())


def augmentation_ranges(datagen):
    """Read the augmentation of a generator off the generator itself.

    Parameters
    ----------
    datagen : ImageDataGenerator

    Returns
    -------
    pandas.DataFrame
        One row per change and its range.
    """
    contrast = getattr(datagen.preprocessing_function, "amount", 0)
    low, high = datagen.zoom_range
    ranges = {
        "rescaling": f"× 1/{1 / datagen.rescale:.0f}",
        "rotation": f"±{datagen.rotation_range}°",
        "shift across": f"±{SIZE * datagen.width_shift_range:.0f} pixels",
        "shift up and down": f"±{SIZE * datagen.height_shift_range:.0f} pixels",
        "zoom": f"{low:.2f} to {high:.2f}",
        "contrast": f"{1 - contrast:.2f} to {1 + contrast:.2f}",
        "horizontal flip": "half of the images" if datagen.horizontal_flip else "never",
        "interpolation": f"splines of order {datagen.interpolation_order}",
    }
    return pd.DataFrame({"Change": ranges.keys(), "Range": ranges.values()})


def plot_augmentation(datagen, face, count=9, seed=SEED):
    """Show what augmentation makes of one synthetic face.

    Parameters
    ----------
    datagen : ImageDataGenerator
    face : numpy.ndarray
        uint8, shape ``(48, 48)``.
    count : int
    seed : int

    Returns
    -------
    matplotlib.figure.Figure
    """
    batch = np.repeat(face[None, :, :, None].astype("float32"), count, axis=0)
    changed = next(datagen.flow(batch, batch_size=count, shuffle=False, seed=seed))
    figure, axes = plt.subplots(
        1, count + 1, figsize=(count + 1, 1.5), layout="constrained"
    )
    images = [face, *(255 * changed[..., 0])]
    show_faces(
        axes, images, ["as it is"] + [f"augmented {i + 1}" for i in range(count)]
    )
    figure.suptitle(
        "What augmentation does to a (synthetic) training picture", fontsize=10
    )
    return figure

# %%
show_table(augmentation_ranges(train_datagen))

# %%
if len(faces):
    show_figure(plot_augmentation(train_datagen, faces[0]))

# %%
in_order = list(test_flow.filenames) == list(parts["test"]["img_name"])
delivered = sum(flow.samples for flow in flows.values())
answer(
    f"The generators deliver {delivered:,} of {len(table):,} images; training alone "
    f"is augmented and shuffled, and the test generator "
    f"{'keeps' if in_order else 'DOES NOT KEEP'} the order of the table."
)

# %% [markdown]
# ### Does augmentation blur?
#
# What is turned, shifted or zoomed lies between the pixels and is interpolated: linearly, or by
# cubic splines. A network that learns from blurred pictures meets sharp ones in the test.
# **Sharpness** is how much pixels differ from their neighbours (mean absolute Laplacian), here of
# one batch of training pictures as a share of what it is without augmentation.

# %%
sharp = {}
for name in AUGMENTATIONS:
    flow = make_flow(make_datagen(name), parts["train"], image_folder)
    sharp[name] = sharpness(LabelledBatches(flow)[0][0])
relative = {name: value / sharp["none"] for name, value in sharp.items()}
shares = [f"{value:.2f}" for value in relative.values()]
show_table(pd.DataFrame({"Augmentation": relative.keys(), "Sharpness": shares}))

# %%
answer(
    f"Augmentation with linear interpolation leaves "
    f"{100 * relative['mild, linear']:.0f} % of the sharpness, with cubic splines "
    f"{100 * relative['mild']:.0f} %: the main network learns from the latter."
)

# %% [markdown]
# <a id="model"></a>
# ## 4 Create the model (44 points)
#
# *Which layers do the tasks share?* In **hard parameter sharing** all tasks use the same hidden
# layers, and only the last layers are their own: the trunk must find features that serve all
# three, which is said to lower the risk of overfitting to one. In **soft sharing** every task has a network of
# its own, and a penalty keeps their weights close (Ruder 2017). Hard sharing computes the trunk
# once for three answers; soft sharing lets tasks differ where they must, at three times the size.

# %% tags=["functions"]
def draw_box(axes, x, y, width, height, text, colour):
    """Draw one layer as a box with its name in it.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    x, y : float
        Lower left corner.
    width, height : float
    text : str
    colour : str
    """
    box = matplotlib.patches.FancyBboxPatch(
        (x, y),
        width,
        height,
        "round,pad=0,rounding_size=0.06",
        facecolor=colour,
        alpha=0.9,
    )
    axes.add_patch(box)
    axes.text(
        x + width / 2,
        y + height / 2,
        text,
        ha="center",
        va="center",
        fontsize=8,
        color="white",
    )


def draw_arrow(axes, start, end, **style):
    """Draw an arrow between two points.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    start, end : tuple of float
    **style
        As for ``FancyArrowPatch``.
    """
    style = {"arrowstyle": "-|>", "color": "#444444"} | style
    axes.annotate("", end, start, arrowprops=style | {"shrinkA": 0, "shrinkB": 0})


def draw_hard_sharing(axes):
    """Draw hard sharing: one trunk, three heads.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    """
    for row in range(3):
        draw_box(
            axes, 1, 0.7 + 0.7 * row, 4.4, 0.5, "shared layer", TASK_COLOURS["shared"]
        )
        draw_arrow(axes, (3.2, 0.5 + 0.7 * row), (3.2, 0.7 + 0.7 * row))
    for column, task in enumerate(LABELS):
        x = 0.6 + 1.9 * column
        draw_box(axes, x, 2.8, 1.5, 0.5, f"{task}'s layer", TASK_COLOURS[task])
        draw_arrow(axes, (3.2, 2.6), (x + 0.75, 2.8))
        draw_arrow(axes, (x + 0.75, 3.3), (x + 0.75, 3.7))
    axes.set_title("Hard sharing: the same weights", fontsize=10)


def draw_soft_sharing(axes):
    """Draw soft sharing: three trunks whose weights are pulled together.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    """
    for column, task in enumerate(LABELS):
        x = 0.3 + 2.1 * column
        for row in range(4):
            text = f"{task}'s layer"
            draw_box(axes, x, 0.7 + 0.7 * row, 1.5, 0.5, text, TASK_COLOURS[task])
            draw_arrow(axes, (x + 0.75, 0.5 + 0.7 * row), (x + 0.75, 0.7 + 0.7 * row))
            if row < 3 and column < 2:
                ends = (x + 1.5, 0.95 + 0.7 * row), (x + 2.1, 0.95 + 0.7 * row)
                draw_arrow(axes, *ends, arrowstyle="<->", linestyle=":")
        draw_arrow(axes, (x + 0.75, 3.3), (x + 0.75, 3.7))
    axes.set_title("Soft sharing: own weights, their distance penalised", fontsize=10)


def plot_sharing():
    """Set hard against soft parameter sharing.

    Returns
    -------
    matplotlib.figure.Figure

    Notes
    -----
    After Ruder, An Overview of Multi-Task Learning in Deep Neural Networks, 2017.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    draw_hard_sharing(axes[0])
    draw_soft_sharing(axes[1])
    for axis in axes:
        axis.text(3.2, 0.25, "the same picture", ha="center", fontsize=9)
        axis.set(xlim=(0, 6.4), ylim=(0, 4.1))
        axis.axis("off")
    return figure


def task_of(layer):
    """Say whose layer it is, by its name.

    Parameters
    ----------
    layer : keras.Layer

    Returns
    -------
    str
        ``"shared"`` or a task.
    """
    task = layer.name.split("_")[0]
    return task if task in LABELS else "shared"


def layer_table(model):
    """List the layers of a network.

    Parameters
    ----------
    model : keras.Model

    Returns
    -------
    pandas.DataFrame
        Layer, kind, whose it is, output shape, parameters.
    """
    rows = [
        {
            "Layer": f"`{layer.name}`",
            "Kind": type(layer).__name__,
            "Part": task_of(layer),
            "Output shape": " × ".join(map(str, layer.output.shape[1:])),
            "Parameters": f"{layer.count_params():,}",
        }
        for layer in model.layers
    ]
    return pd.DataFrame(rows)


def layer_text(layer):
    """Write what a box of the architecture says.

    Parameters
    ----------
    layer : keras.Layer

    Returns
    -------
    str
        Kind and output shape.
    """
    shape = "×".join(map(str, layer.output.shape[1:]))
    return f"{type(layer).__name__}  {shape}"


def plot_architecture(model):
    """Draw a hard-sharing network: the trunk to the left, the heads to the right.

    Parameters
    ----------
    model : keras.Model

    Returns
    -------
    matplotlib.figure.Figure
    """
    parts = {part: [] for part in TASK_COLOURS}
    for layer in model.layers:
        parts[task_of(layer)].append(layer)
    trunk = parts.pop("shared")
    half = (len(trunk) + 1) // 2
    figure, axes = plt.subplots(figsize=(10, 0.42 * half + 0.6), layout="constrained")
    for number, layer in enumerate(trunk):
        column, row = divmod(number, half)
        draw_box(
            axes, 3 * column, -row, 2.6, 0.75, layer_text(layer), TASK_COLOURS["shared"]
        )
    draw_arrow(axes, (2.6, 0.4 - half + 1), (3, 0.4))
    top = 0
    for task, layers in parts.items():
        draw_arrow(axes, (5.6, 0.4 - (len(trunk) - half - 1)), (6.4, top + 0.4))
        for row, layer in enumerate(layers):
            text = f"{layer.name}: {layer_text(layer)}"
            draw_box(axes, 6.4, top - row, 3.6, 0.75, text, TASK_COLOURS[task])
        top -= len(layers) + 0.5
    axes.set(xlim=(-0.1, 10.1), ylim=(0.8 - half, 1))
    axes.set_title("Grey: shared by all tasks. Coloured: one task's own.", fontsize=10)
    axes.axis("off")
    return figure

# %%
show_figure(plot_sharing())

# %% [markdown]
# Here the tasks have the same input and may need much the same features (the shape of a face, its
# skin, its hair): hard sharing is tried first, and section 8 tests it against the others.

# %% [markdown]
# ### The network
#
# The trunk is a small VGG: four blocks of 3×3 convolutions and pooling, and one dense layer.
# Each head has a dense layer of its own (`build_model` also makes the single-task and soft-sharing
# networks of section 8). Only `Conv2D`, `MaxPooling2D`, `Flatten`, `Dense` and
# `Dropout` are used.

# %% tags=["functions"]
def picture_shape(hyperparameters):
    """Give the height, width and channels of the pictures that a network takes.

    Parameters
    ----------
    hyperparameters : dict
        ``shape``, where it is not the main assignment's.

    Returns
    -------
    tuple of int
    """
    return tuple(hyperparameters.get("shape", (SIZE, SIZE, 1)))


def build_trunk(inputs, hyperparameters, owner="shared"):
    """Stack the layers that all tasks share, or those of one task's own trunk.

    Parameters
    ----------
    inputs : keras.KerasTensor
        Pictures, shape ``(batch, 48, 48, 1)``, values in [0, 1].
    hyperparameters : dict
        ``filters`` and ``convolutions`` (one entry per block), ``shared_units``,
        ``dropout`` (share of units dropped); ``activation`` of the convolutions, where
        it is not ReLU.
    owner : str
        Begins the layers' names: ``"shared"`` or such as ``"age_trunk"``.

    Returns
    -------
    keras.KerasTensor
        Shared features, shape ``(batch, shared_units)``.
    """
    x = inputs
    blocks = zip(
        hyperparameters["filters"], hyperparameters["convolutions"], strict=True
    )
    for block, (filters, count) in enumerate(blocks, start=1):
        for number in range(1, count + 1):
            x = keras.layers.Conv2D(
                filters,
                3,
                padding="same",
                activation=hyperparameters.get("activation", "relu"),
                kernel_initializer="he_normal",  # He et al., ICCV 2015
                name=f"{owner}_conv{block}_{number}",
            )(x)
        x = keras.layers.MaxPooling2D(2, name=f"{owner}_pool{block}")(x)
    x = keras.layers.Flatten(name=f"{owner}_flatten")(x)
    x = keras.layers.Dropout(hyperparameters["dropout"], name=f"{owner}_dropout1")(x)
    x = keras.layers.Dense(
        hyperparameters["shared_units"],
        activation="relu",
        kernel_initializer="he_normal",
        name=f"{owner}_dense",
    )(x)
    return keras.layers.Dropout(hyperparameters["dropout"], name=f"{owner}_dropout2")(x)


def build_head(features, task, hyperparameters):
    """Stack the layers of one task on the shared features.

    Age is a regression in years. Its last layer is a ``Dense`` whose kernel is fixed:
    on the softmax over the ages 0 to 116 it returns the expected age (Rothe et al.,
    DEX, IJCV 2018), on a scalar it turns hundreds of years into years.

    Parameters
    ----------
    features : keras.KerasTensor
        Shape ``(batch, units)``.
    task : str
        ``"age"``, ``"gender"`` or ``"ethnicity"``.
    hyperparameters : dict
        ``head_units`` and ``age_head`` (``"distribution"`` or ``"scalar"``).

    Returns
    -------
    dict[str, keras.KerasTensor]
        Output by name; the distributional age head has two.
    """

    def dense(units, activation, name, **options):
        # outputs stay in float32 under mixed precision: bfloat16 has three digits
        options.setdefault("dtype", "float32")
        return keras.layers.Dense(units, activation=activation, name=name, **options)

    units = hyperparameters["head_units"]
    x = dense(
        units, "relu", f"{task}_dense", dtype=None, kernel_initializer="he_normal"
    )(features)
    if task == "gender":
        return {task: dense(1, "sigmoid", task)(x)}
    if task == "ethnicity":
        return {task: dense(len(ETHNICITIES), "softmax", task)(x)}
    to_years = {"use_bias": False, "trainable": False}
    if hyperparameters["age_head"] == "scalar":
        hundreds = dense(1, "linear", "age_hundreds")(x)
        return {task: dense(1, "linear", task, **to_years)(hundreds)}
    distribution = dense(len(AGES), "softmax", "age_distribution")(x)
    return {
        task: dense(1, "linear", task, **to_years)(distribution),
        "age_distribution": distribution,
    }


class SoftSharing(keras.Model):
    """A network with a trunk for each task, and a penalty on their distance.

    The loss in training gains ``penalty`` times the squared distance between each
    trunk's weights and their mean over the trunks.

    Notes
    -----
    After Duong et al., Low Resource Dependency Parsing, ACL 2015, as told by Ruder
    (2017).
    """

    def tie_trunks(self, tasks, penalty):
        """Start all trunks from the same weights, and penalise their distance.

        Parameters
        ----------
        tasks : sequence of str
            Owners of the trunks.
        penalty : float
        """
        self.tasks = tuple(tasks)
        self.penalty = penalty
        for first, *others in self.tied_weights():
            for other in others:
                other.assign(first)

    def tied_weights(self):
        """List each weight of a trunk with its counterparts in the other trunks."""
        trunks = [
            [
                weight
                for layer in self.layers
                if layer.name.startswith(f"{task}_trunk_")
                for weight in layer.trainable_variables
            ]
            for task in self.tasks
        ]
        return list(zip(*trunks, strict=True))

    def compute_loss(self, *args, training=True, **options):
        """Add the penalty to the losses of the heads, in training alone."""
        loss = super().compute_loss(*args, training=training, **options)
        if not training or not self.penalty:
            return loss
        for weights in self.tied_weights():
            stack = keras.ops.stack([weight.value for weight in weights])
            distance = stack - keras.ops.mean(stack, axis=0)
            loss += self.penalty * keras.ops.sum(distance**2)
        return loss


def trunk_distance(model):
    """Measure how far apart the trunks of soft sharing are.

    Parameters
    ----------
    model : keras.Model

    Returns
    -------
    float or None
        Root mean square distance of the trunks' weights from their mean, as a share of
        the weights' own root mean square: 0 is hard sharing. None without such trunks.
    """
    if not isinstance(model, SoftSharing):
        return None
    stacks = [np.stack([np.asarray(w) for w in tied]) for tied in model.tied_weights()]
    apart = sum(((stack - stack.mean(axis=0)) ** 2).sum() for stack in stacks)
    return round(float(np.sqrt(apart / sum((stack**2).sum() for stack in stacks))), 4)


def build_model(hyperparameters):
    """Build the network: one trunk for all tasks, one head for each.

    Parameters
    ----------
    hyperparameters : dict
        As ``build_trunk`` and ``build_head`` need them; ``tasks`` (which heads it
        gets), ``soft_penalty`` (None for one trunk; a number for soft sharing, see
        ``SoftSharing``), ``seed``, and ``shape`` (of a picture, where it is not
        48×48×1).

    Returns
    -------
    keras.Model
        Input ``(batch, *shape)`` in [0, 1]; outputs by name, see ``build_head``.
    """
    keras.utils.set_random_seed(hyperparameters["seed"])
    inputs = keras.Input(picture_shape(hyperparameters), name="image")
    tasks, penalty = hyperparameters["tasks"], hyperparameters["soft_penalty"]
    outputs = {}
    if penalty is None:
        features = build_trunk(inputs, hyperparameters)
    for task in tasks:
        if penalty is not None:
            features = build_trunk(inputs, hyperparameters, f"{task}_trunk")
        outputs |= build_head(features, task, hyperparameters)
    if penalty is None:
        model = keras.Model(inputs, outputs, name="hard_sharing")
    else:
        model = SoftSharing(inputs, outputs, name="soft_sharing")
        model.tie_trunks(tasks, penalty)
    if "age" in tasks:
        fixed = model.get_layer("age")
        bins = fixed.kernel.shape[0]
        fixed.set_weights([np.reshape(AGES if bins > 1 else 100.0, (bins, 1))])
    return model


NETWORKS = {"shared trunk": build_model}  # the chapters add theirs


def make_network(hyperparameters):
    """Build the network that hyperparameters ask for.

    Parameters
    ----------
    hyperparameters : dict
        ``network``: a key of ``NETWORKS``, where it is not the first one.

    Returns
    -------
    keras.Model
    """
    return NETWORKS[hyperparameters.get("network", "shared trunk")](hyperparameters)

# %%
network = build_model(MAIN_RUN)
show_figure(plot_architecture(network))

# %%
show_table(layer_table(network))

# %%
sizes = pd.Series({layer.name: layer.count_params() for layer in network.layers})
owners = pd.Series({layer.name: task_of(layer) for layer in network.layers})
shared = sizes[owners == "shared"].sum()
single = 3 * shared + sizes.sum() - shared
answer(
    f"The network has {sizes.sum():,} parameters, {100 * shared / sizes.sum():.0f} % "
    f"of them shared; three separate networks of this trunk would have {single:,}, "
    f"{single / sizes.sum():.1f} times as many."
)

# %% [markdown]
# ### A loss for each head
#
# Training minimises the weighted sum (the weights stand in the table below). They bring the
# untrained losses to one order of magnitude, so that every task is heard from the start; gender's
# and ethnicity's were then raised; on the selection half that showed no harm, and no certain gain.
#
# | Head | Output | Loss | Why |
# |---|---|---|---|
# | age | years, a fixed `Dense` on the distribution below: the expected age | mean absolute error | what is reported |
# | age distribution | softmax over the ages 0 to 116 | cross-entropy with a Gaussian around the label | a picture says "about 30", not "30": neighbours share the credit (DLDL, Gao et al. 2017; DEX, Rothe et al. 2018) |
# | gender | one sigmoid unit, the probability of the label female | binary cross-entropy | two labels |
# | ethnicity | softmax over five | cross-entropy | one label of five |

# %% tags=["functions"]
LOSSES = {
    "age": "mae",
    "gender": "binary_crossentropy",
    "ethnicity": "sparse_categorical_crossentropy",
    "age_distribution": "categorical_crossentropy",
}
METRICS = {"age": "mae", "gender": "accuracy", "ethnicity": "accuracy"}

# %% [markdown]
# **The optimizer.** Hidden kernels learn by Muon (Jordan et al. 2024), which makes each update
# nearly orthogonal, so that no few directions dominate it; biases, small kernels and output layers
# learn by Adam. All kernels have decoupled weight decay (Loshchilov & Hutter 2019). The learning
# rate rises over two epochs and falls along a cosine to zero. Section 7 sets this recipe against
# Adam's.

# %% tags=["functions"]
class Muon(keras.optimizers.Muon):
    """Keras' Muon, for the kernels of convolutions too.

    Muon replaces the update of a weight matrix by a nearly orthogonal one: all its
    singular values are about one. A kernel of shape ``(height, width, in, out)`` counts
    as a matrix of ``height·width·in`` rows. Matrices with a side under 32, biases and
    output layers learn by Adam.

    Notes
    -----
    Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024; the
    size of the step as in Liu et al., Muon is Scalable for LLM Training, 2025.
    """

    def _should_use_adamw(self, variable):
        if len(variable.shape) < 2 or "age_distribution" in variable.path:
            return True
        return min(np.prod(variable.shape[:-1]), variable.shape[-1]) < 32

    def _muon_update_step(self, gradient, variable, lr, m):
        shape = gradient.shape
        self.assign(m, self.momentum * m + gradient)
        step = keras.ops.reshape(gradient + self.momentum * m, (-1, shape[-1]))
        step = keras.ops.cast(step, keras.config.dtype_policy().compute_dtype)
        step = self.zeropower_via_newtonschulz5(step, self.ns_steps)
        step = self.lr_adjust(keras.ops.cast(step, variable.dtype))
        self.assign_sub(variable, lr * keras.ops.reshape(step, shape))


def make_optimizer(hyperparameters, schedule):
    """Make the optimizer of a run.

    Parameters
    ----------
    hyperparameters : dict
        ``optimizer`` (``"muon"``, ``"rmsprop"``, or ``"adam"``, which is AdamW) and
        ``weight_decay`` (decoupled: each step shrinks kernels by it times the
        learning rate).
    schedule : keras.optimizers.schedules.LearningRateSchedule

    Returns
    -------
    keras.optimizers.Optimizer

    Raises
    ------
    ValueError
        If there is no such optimizer.
    """
    decay = hyperparameters["weight_decay"]
    if hyperparameters["optimizer"] == "muon":
        made = Muon(schedule, weight_decay=decay, adam_weight_decay=decay)
    elif hyperparameters["optimizer"] == "adam":
        made = keras.optimizers.AdamW(schedule, weight_decay=decay)
    elif hyperparameters["optimizer"] == "rmsprop":
        made = keras.optimizers.RMSprop(schedule, weight_decay=decay)
    else:
        raise ValueError(
            f"There is no optimizer {hyperparameters['optimizer']!r}: use adam, muon "
            "or rmsprop."
        )
    made.exclude_from_weight_decay(var_names=["bias"])
    return made


def make_schedule(hyperparameters, steps_per_epoch):
    """Make the learning rate's course: a linear rise, then a cosine down to zero.

    Parameters
    ----------
    hyperparameters : dict
        ``learning_rate``, ``warmup_epochs``, ``epochs``.
    steps_per_epoch : int
        Batches per epoch: the schedule counts steps.

    Returns
    -------
    keras.optimizers.schedules.LearningRateSchedule
    """
    warmup = hyperparameters["warmup_epochs"] * steps_per_epoch
    total = hyperparameters["epochs"] * steps_per_epoch
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=hyperparameters["learning_rate"],
        warmup_steps=warmup,
        decay_steps=max(1, total - warmup),
    )


def compile_model(model, hyperparameters, steps_per_epoch=1):
    """Give a model its losses, their weights, its metrics and its optimizer.

    Parameters
    ----------
    model : keras.Model
        With outputs named as in ``LOSSES``; losses of absent ones are left out. One
        that is a class of its own, with its own loop, gets the optimizer alone.
    hyperparameters : dict
        ``loss_weights``, and as for ``make_schedule`` and ``make_optimizer``;
        ``losses``, where they are not those of ``LOSSES``.
    steps_per_epoch : int
        As for ``make_schedule``.
    """
    schedule = make_schedule(hyperparameters, steps_per_epoch)
    optimizer = make_optimizer(hyperparameters, schedule)
    heads = getattr(model, "output_names", None)
    if heads is None:
        model.compile(optimizer=optimizer)
        return
    losses = LOSSES | hyperparameters.get("losses", {})
    model.compile(
        optimizer=optimizer,
        loss={head: losses[head] for head in heads},
        loss_weights={head: hyperparameters["loss_weights"][head] for head in heads},
        metrics={head: METRICS[head] for head in heads if head in METRICS},
    )


def make_batches(table, folder, hyperparameters, training):
    """Make the batches that ``fit`` and ``evaluate`` take.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of one set.
    folder : pathlib.Path
        Holds the folders ``train``, ``val``, ``test``.
    hyperparameters : dict
        ``augmentation``, ``batch_size``, ``seed``, ``age_head``, ``sigma``, ``tasks``;
        ``shape``, where it is not 48×48×1, and ``informed`` (see ``LabelledBatches``),
        where it is not False.
    training : bool
        Whether to augment and shuffle.

    Returns
    -------
    LabelledBatches
    """
    if "feature_count" in hyperparameters:
        return read_feature_batches(table, folder, hyperparameters, training)
    datagen = make_datagen(hyperparameters["augmentation"] if training else "none")
    flow = make_flow(
        datagen,
        table,
        folder,
        batch_size=hyperparameters["batch_size"],
        shuffle=training,
        seed=hyperparameters["seed"],
        shape=picture_shape(hyperparameters),
    )
    distribution = hyperparameters["age_head"] == "distribution"
    sigma = hyperparameters["sigma"] if distribution else None
    informed = hyperparameters.get("informed", False)
    return LabelledBatches(flow, sigma, hyperparameters["tasks"], informed)


def export_model(weights, hyperparameters, path):
    """Save trained weights as a float32 model with one output per task.

    Parameters
    ----------
    weights : pathlib.Path
        ``.weights.h5`` of a model that ``make_network`` made, in any precision.
    hyperparameters : dict
    path : pathlib.Path
        Ends in ``.keras``; ``keras.saving.load_model`` reads it without own code.
    """
    keras.mixed_precision.set_dtype_policy("float32")
    model = make_network(hyperparameters)
    model.load_weights(weights)
    if hasattr(model, "as_functional"):
        model.as_functional().save(path)
        return
    outputs = {task: model.get_layer(task).output for task in hyperparameters["tasks"]}
    keras.Model(model.input, outputs, name=model.name).save(path)

# %% [markdown]
# How large are the losses before any training?

# %%
compile_model(network, MAIN_RUN)
untrained = network.evaluate(
    make_batches(context["tables"]["select"], image_folder, MAIN_RUN, training=False),
    return_dict=True,
    verbose=0,
)
weights = MAIN_RUN["loss_weights"]
losses = pd.Series({head: untrained[f"{head}_loss"] for head in LOSSES})
weighted = losses * pd.Series(weights)
loss_columns = {
    "Head": losses.index,
    "Loss": LOSSES.values(),
    "Weight": [weights[head] for head in LOSSES],
    "Untrained": losses.round(2),
    "Untrained, weighted": weighted.round(2),
}
show_table(pd.DataFrame(loss_columns))

# %%
answer(
    f"Untrained, the network guesses: gender {losses['gender']:.2f} (a coin: "
    f"{np.log(2):.2f}), ethnicity {losses['ethnicity']:.2f} (five equal chances: "
    f"{np.log(5):.2f}), age distribution {losses['age_distribution']:.2f} (117 equal "
    f"chances: {np.log(117):.2f}). Weighted, the largest is "
    f"{weighted.max() / weighted.min():.1f} times the smallest."
)

# %% [markdown]
# <a id="training"></a>
# ## 5 Training
#
# *Does the network learn, and does it overfit?* The epoch with the smallest loss on the selection
# half of validation is kept in `model`; a run whose `patience` is smaller than its epochs stops
# early. A training that is cut off goes on where it was; one that is finished is loaded.
# TensorBoard's files go into `logs`.

# %% tags=["functions"]
class Progress(keras.callbacks.Callback):
    """Print one short line for each epoch, and log how many seconds it took.

    Parameters
    ----------
    name : str
        Name of the run.
    epochs : int
    """

    def __init__(self, name, epochs):
        super().__init__()
        self.name = name
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Log the seconds and print the figures of validation."""
        logs["seconds"] = time.perf_counter() - self.started
        figures = ", ".join(
            f"{key.removeprefix('val_')} {value:.3f}"
            for key, value in logs.items()
            if key == "val_loss" or key.endswith(("mae", "accuracy")) and "val_" in key
        )
        print(
            f"{self.name}: epoch {epoch + 1} of at most {self.epochs}, "
            f"{logs['seconds']:.0f} s; validation: {figures}",
            flush=True,
        )


class ResumableEarlyStopping(keras.callbacks.EarlyStopping):
    """Early stopping that remembers the epochs before an interruption.

    Parameters
    ----------
    past : list of float
        The monitored value of each epoch so far, smaller is better; may be empty.
    **options
        As for ``keras.callbacks.EarlyStopping``.
    """

    def __init__(self, past, **options):
        super().__init__(**options)
        self.past = past

    def on_epoch_begin(self, epoch, logs=None):
        """Take up, before the first epoch, the best value and the epochs since."""
        past, self.past = self.past[:epoch], []
        if past:
            self.best = min(past)
            self.best_epoch = past.index(self.best)
            self.wait = len(past) - 1 - self.best_epoch


def make_callbacks(name, hyperparameters, partial, log_dir):
    """Make the callbacks of a training that can be cut off and goes on.

    Parameters
    ----------
    name : str
    hyperparameters : dict
        ``epochs`` and ``patience``.
    partial : pathlib.Path
        Folder of what an unfinished training needs to go on.
    log_dir : pathlib.Path
        TensorBoard's folder for this run.

    Returns
    -------
    list of keras.callbacks.Callback
    """
    log = partial / "log.csv"
    begun = log.exists() and log.stat().st_size > 0  # empty: cut in the first epoch
    past = read_log(log)["val_loss"].tolist() if begun else []
    return [
        Progress(name, hyperparameters["epochs"]),
        keras.callbacks.TensorBoard(str(log_dir), write_graph=False),
        keras.callbacks.CSVLogger(str(log), append=True),
        keras.callbacks.ModelCheckpoint(
            str(partial / "best.weights.h5"),
            monitor="val_loss",
            save_best_only=True,
            save_weights_only=True,
            initial_value_threshold=min(past, default=None),
        ),
        ResumableEarlyStopping(
            past, monitor="val_loss", patience=hyperparameters["patience"]
        ),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.BackupAndRestore(
            str(partial / "backup"), double_checkpoint=True, delete_checkpoint=False
        ),
    ]


def name_metrics(log, tasks):
    """Name the metrics of a network with one output as those of many are named.

    Parameters
    ----------
    log : pandas.DataFrame
        As ``read_log`` returns it; Keras leaves the name of a single output out.
    tasks : sequence of str

    Returns
    -------
    pandas.DataFrame
    """
    (task, *others) = tasks
    plain = METRICS[task]
    if others:
        return log
    names = {f"{part}{plain}": f"{part}{task}_{plain}" for part in ("", "val_")}
    return log.rename(columns=names)


def read_log(path):
    """Read the table of epochs that ``CSVLogger`` writes.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    pandas.DataFrame
        One row per epoch; an epoch that was begun again counts once.
    """
    return pd.read_csv(path).drop_duplicates("epoch", keep="last")

# %% [markdown]
# Of a run that is loaded, the curves are written for TensorBoard too, so that it shows all runs.

# %% tags=["functions"]
def write_tensorboard(history, log_dir):
    """Give TensorBoard the history of a run that was loaded, if it has none yet.

    Parameters
    ----------
    history : dict
        As ``fit_or_load`` keeps it.
    log_dir : pathlib.Path

    Returns
    -------
    pathlib.Path
        The run's folder; scalars are named as Keras' callback names them.
    """
    name = f"{history['data']}_{history['name']}-{history['digest']}"
    logged = sorted(log_dir.glob(f"{name}_*"))
    folder = logged[-1] if logged else log_dir / f"{name}_{history['date'][:10]}_loaded"
    if tf is None or logged:
        return folder
    for part, prefix in (("train", ""), ("validation", "val_")):
        with tf.summary.create_file_writer(str(folder / part)).as_default():
            for key, values in history["epochs"].items():
                if key == "seconds" or key.startswith("val_") != bool(prefix):
                    continue
                for epoch, value in enumerate(values):
                    tf.summary.scalar(f"epoch_{key.removeprefix('val_')}", value, epoch)
    return folder


def write_graph(model, folder):
    """Give TensorBoard the graph of a functional model.

    What Keras 3's own callback writes as a graph, TensorBoard cannot draw.

    Parameters
    ----------
    model : keras.Model
    folder : pathlib.Path
        TensorBoard's folder for the run.
    """
    if tf is None or (folder / "graph").exists() or not hasattr(model, "inputs"):
        return
    shape = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    graph = tf.function(model).get_concrete_function(shape).graph
    with tf.summary.create_file_writer(str(folder / "graph")).as_default():
        tf.summary.graph(graph)


def is_interactive():
    """Tell whether somebody looks at this notebook while it runs.

    Returns
    -------
    bool
        True in Jupyter, VS Code and Colab; False under papermill, nbconvert and tests.
    """
    hosts = ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG")
    return any(host in os.environ for host in hosts)


def open_tensorboard(log_dir):
    """Open TensorBoard below the cell, in Jupyter and Colab.

    Parameters
    ----------
    log_dir : str
    """
    beside_python = pathlib.Path(sys.executable).with_name("tensorboard")
    if beside_python.exists():  # a kernel's PATH need not hold its environment
        os.environ.setdefault("TENSORBOARD_BINARY", str(beside_python))
    shell = IPython.get_ipython()
    shell.run_line_magic("load_ext", "tensorboard")
    shell.run_line_magic("tensorboard", f"--logdir {log_dir}")

# %% [markdown]
# `fit_or_load` is the one place where anything is trained. What it keeps of a run: its history
# with machine, versions and commit, its weights, its predictions.

# %% tags=["functions"]
def training_rows(table, hyperparameters):
    """Choose the images that a run is trained on.

    Parameters
    ----------
    table : pandas.DataFrame
        The training set.
    hyperparameters : dict
        ``images``, ``share`` (see ``count_images``) and ``seed``.

    Returns
    -------
    pandas.DataFrame
    """
    count = count_images(len(table), hyperparameters)
    if count == len(table):
        return table
    return table.sample(count, random_state=hyperparameters["seed"])


def train(name, hyperparameters, tables, folder, partial, log_dir):
    """Train one network, or go on where a training was cut off.

    Parameters
    ----------
    name : str
    hyperparameters : dict
    tables : dict[str, pandas.DataFrame]
        ``train`` and ``select`` (the part of validation that chooses the epoch).
    folder : pathlib.Path
        Pictures.
    partial : pathlib.Path
        Keeps what is needed to go on; holds ``best.weights.h5`` and ``log.csv`` after.
    log_dir : pathlib.Path
        TensorBoard.

    Returns
    -------
    dict
        The history: figures per epoch, best epoch (from 1), parameters, and seconds:
        the median epoch's times their number, as if the machine had never paused.
    """
    partial.mkdir(parents=True, exist_ok=True)
    machine = describe_machine()
    keras.mixed_precision.set_dtype_policy(machine["precision"])
    model = make_network(hyperparameters)
    rows = training_rows(tables["train"], hyperparameters)
    training = make_batches(rows, folder, hyperparameters, training=True)
    compile_model(model, hyperparameters, len(training))
    write_graph(model, log_dir)
    fit = getattr(model, "train_by_tape", model.fit)  # section 11 has a loop of its own
    fit(
        training,
        validation_data=make_batches(tables["select"], folder, hyperparameters, False),
        epochs=hyperparameters["epochs"],
        callbacks=make_callbacks(name, hyperparameters, partial, log_dir),
        verbose=0,
    )
    log = name_metrics(read_log(partial / "log.csv"), hyperparameters["tasks"])
    return {
        "epochs": log.drop(columns="epoch").round(5).to_dict("list"),
        "best_epoch": int(np.argmin(log["val_loss"])) + 1,
        "seconds": round(float(log["seconds"].median() * len(log)), 1),
        "parameters": int(model.count_params()),
        "images": len(rows),
        "trunk_distance": trunk_distance(model),  # after the last epoch
        **machine,
    }


def train_and_keep(name, hyperparameters, own, context):
    """Train a network and keep its history and its weights.

    Parameters
    ----------
    name : str
    hyperparameters : dict
    own : pathlib.Path
        Where the run lies, without a suffix (see ``find_run``).
    context : dict
        As for ``fit_or_load``.
    """
    partial = of_run(own, ".partial")
    now = datetime.datetime.now(datetime.UTC)
    log_dir = context["log_dir"] / f"{own.parent.name}_{own.name}_{now:%Y-%m-%d_%H%M%S}"
    history = {
        "name": name,
        "data": context["data_name"],
        "digest": digest_of(hyperparameters),
        "hyperparameters": hyperparameters,
        "date": f"{now:%Y-%m-%d %H:%M} UTC",
        "commit": context["commit"],
    }
    try:
        history |= train(
            name,
            hyperparameters,
            context["tables"],
            context["folder"],
            partial,
            log_dir,
        )
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    for old in own.parent.glob(f"{own.name}_*.npz"):  # predictions of former weights
        old.unlink()
    export_model(partial / "best.weights.h5", hyperparameters, of_run(own, ".keras"))
    of_run(own, ".json").write_text(json.dumps(history, indent=1) + "\n")
    shutil.rmtree(partial)


def fit_or_load(name, hyperparameters, context):
    """Load a finished training, or train (or go on) and keep it.

    Parameters
    ----------
    name : str
    hyperparameters : dict
    context : dict
        ``tables`` (see ``train``), ``folder`` of the images, ``data_name``,
        ``model_dir``, ``log_dir``, ``commit``, and ``shipped``: whether what is shipped
        may be loaded.

    Returns
    -------
    dict
        ``name``, ``stem`` (see ``find_run``), ``history``, ``trained_here``.
    """
    where = context["data_name"], context["model_dir"], context["shipped"]
    own, finished = find_run(name, hyperparameters, *where)
    trained_here = finished is None
    if trained_here:
        finished = own
        train_and_keep(name, hyperparameters, own, context)
    history = json.loads(of_run(finished, ".json").read_text())
    if not trained_here:
        write_tensorboard(history, context["log_dir"])
    return {
        "name": name,
        "stem": finished,
        "history": history,
        "trained_here": trained_here,
    }

# %% [markdown]
# ### The main network
#
# If it has to be trained, the plan in section 1 says how long this cell takes.

# %%
main = fit_or_load("mtl", runs_to_do["mtl"], context)
history = main["history"]
answer(
    f"The training {'was done now' if main['trained_here'] else 'is loaded'}: "
    f"{len(history['epochs']['loss'])} epochs of {history['images']:,} images (the set "
    f"at hand has {len(parts['train']):,}) in {duration(history['seconds'])} on "
    f"{history['date']} ({history['hardware']}, {history['precision']}, "
    f"{history['versions']}, commit {history['commit']})."
)

# %% [markdown]
# ### Learning curves
#
# Dashed: training batches, augmented and with Dropout, which makes them harder than they are.
# Solid: the selection half of validation.

# %% tags=["functions"]
CURVES = {
    "age_mae": ("Age", "MAE (years)", "age"),
    "gender_accuracy": ("Gender", "accuracy (%)", "gender"),
    "ethnicity_accuracy": ("Ethnicity", "accuracy (%)", "ethnicity"),
}


def plot_curves(history):
    """Plot the learning curves of a run: its loss, and the metric of each task.

    Parameters
    ----------
    history : dict
        As ``fit_or_load`` keeps it. The sum of several tasks' losses is left out: it
        says less than the tasks' metrics.

    Returns
    -------
    matplotlib.figure.Figure
    """
    epochs = history["epochs"]
    curves = {key: curve for key, curve in CURVES.items() if key in epochs}
    if len(curves) == 1:
        (task,) = (curve[2] for curve in curves.values())
        curves = {"loss": ("Loss", "loss", task)} | curves
    shape = {"figsize": (3.4 * len(curves), 3), "layout": "constrained"}
    figure, axes = plt.subplots(1, len(curves), **shape)
    for axis, (key, (title, unit, task)) in zip(axes, curves.items(), strict=True):
        factor = 100 if "%" in unit else 1
        numbers = np.arange(1, len(epochs[key]) + 1)
        for prefix, style, label in (
            ("", "--", "training"),
            ("val_", "-", "validation"),
        ):
            values = factor * np.array(epochs[prefix + key])
            axis.plot(numbers, values, style, color=TASK_COLOURS[task], label=label)
        axis.axvline(
            history["best_epoch"], color="grey", linestyle=":", label="best epoch"
        )
        axis.set(title=title, xlabel="epoch", ylabel=unit)
    axes[0].legend(frameon=False)
    return figure


def plot_overfitting(runs):
    """Plot the losses of runs side by side: training dashed, validation solid.

    Parameters
    ----------
    runs : dict[str, dict]
        As ``fit_or_load`` returns them, by title.

    Returns
    -------
    matplotlib.figure.Figure
    """
    shape = {"figsize": (10, 2.9), "sharey": True, "layout": "constrained"}
    figure, axes = plt.subplots(1, len(runs), **shape)
    for axis, (title, run) in zip(axes, runs.items(), strict=True):
        epochs = run["history"]["epochs"]
        numbers = np.arange(1, len(epochs["loss"]) + 1)
        axis.plot(
            numbers,
            epochs["loss"],
            "--",
            color=SPLIT_COLOURS["train"],
            label="training",
        )
        axis.plot(
            numbers, epochs["val_loss"], color=SPLIT_COLOURS["val"], label="validation"
        )
        axis.axvline(run["history"]["best_epoch"], color="grey", linestyle=":")
        axis.set(title=title, xlabel="epoch")
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=True))
    axes[0].set_ylabel("weighted sum of the losses")
    axes[0].legend(frameon=False)
    return figure

# %%
show_figure(plot_curves(history))

# %%
epochs, best = history["epochs"], history["best_epoch"] - 1
terms = {head: weights[head] * epochs[f"val_{head}_loss"][best] for head in LOSSES}
shares = ", ".join(
    f"{head.replace('_', ' ')} {100 * term / sum(terms.values()):.0f} %"
    for head, term in terms.items()
)
answer(
    f"The loss on the selection half is smallest in epoch {best + 1} of "
    f"{len(epochs['loss'])}. What is left of it there: {shares}."
)

# %% [markdown]
# ### TensorBoard
#
# The same curves, per head, and the graph are in TensorBoard. Here it opens inline in Jupyter
# and Colab; `make tensorboard` opens it in a browser.

# %%
if not main["trained_here"]:
    write_graph(network, write_tensorboard(history, context["log_dir"]))
if SHOW_TENSORBOARD is True or SHOW_TENSORBOARD == "auto" and is_interactive():
    open_tensorboard(LOG_DIR)
else:
    print(f"To see the runs in a browser: tensorboard --logdir {LOG_DIR}")

# %% [markdown]
# ### How is anything measured?
#
# Every metric below is computed from a table of predictions, one row per image.
#
# | Metric | Meaning |
# |---|---|
# | MAE, RMSE (years) | mean absolute error of age; root of the mean squared error, which weighs large errors more |
# | within 5, 10 years (%) | share of images whose age error is at most that |
# | accuracy (%) | share of images whose most probable label is the true one |
# | AUC | chance that an image labelled female gets a higher score than one labelled male |
# | macro F1 (%) | F1 of each ethnicity, averaged: small groups count as much as large ones |
#
# In brackets stands the 95 % interval of `BOOTSTRAP` resamples of the images (Efron & Tibshirani
# 1993). Two networks are compared on the same resamples; where the interval of their difference
# holds zero, no difference was shown; its sign is then the second's minus the first's, so that a minus
# is better for age and worse for the other two. Each interval stands alone: of twenty comparisons without
# any difference, about one looks like one. Where a network was trained with one seed, "better" means
# these weights, not always this setting; where means over seeds are compared, the interval says what
# other images would change, not what other seeds would.
#
# Every prediction is the average of two, for the picture and for its mirror image (**flip
# averaging**, a form of test-time augmentation): a face and its mirror image have the same labels, their errors differ. Section 6
# shows what that changes.

# %% tags=["functions"]
PREDICTED_BY = {
    "age": ["age_predicted"],
    "gender": ["gender_probability"],
    "ethnicity": list(ETHNICITIES),
}
PREDICTED = sum(PREDICTED_BY.values(), [])


def load_network(run):
    """Read the best weights of a run back.

    Parameters
    ----------
    run : dict
        As ``fit_or_load`` returns it.

    Returns
    -------
    keras.Model
        Outputs ``age``, ``gender`` and ``ethnicity``; not compiled.

    Raises
    ------
    RuntimeError
        If this Keras cannot read what another one saved.
    """
    path = of_run(run["stem"], ".keras")
    try:
        return keras.saving.load_model(path, compile=False)
    except (TypeError, ValueError) as why:
        raise RuntimeError(
            f"{path} was saved under {run['history']['versions']}, which Keras "
            f"{keras.__version__} cannot read: install that one or a newer one, or set "
            "RETRAIN = True."
        ) from why


def predict_table(model, table, folder, flip_averaging=True, batch_size=256):
    """Predict the pictures of one set, one row per picture.

    Parameters
    ----------
    model : keras.Model
        Outputs ``age``, ``gender`` and ``ethnicity``, or some of them. A network with a
        second input is told what the column ``gender`` holds.
    table : pandas.DataFrame
        Rows of one set.
    folder : pathlib.Path
        Holds the folders of the sets.
    flip_averaging : bool
        Whether to average the outputs for a picture and its mirror image.
    batch_size : int

    Returns
    -------
    pandas.DataFrame
        The table, and the columns ``age_predicted`` (years), ``gender_probability``
        (of the label female) and one probability per ethnicity; missing values where
        the model has no such output.
    """
    shape = model.inputs[0].shape[1:]
    flow = make_flow(make_datagen(), table, folder, batch_size, shape=shape)
    views = [
        LabelledBatches(flow, informed=len(model.inputs) > 1, mirrored=mirrored)
        for mirrored in (False, True)[: 1 + flip_averaging]
    ]
    outputs = [model.predict(view, verbose=0) for view in views]
    values = np.full((len(table), len(PREDICTED)), np.nan, "float32")
    for task, columns in PREDICTED_BY.items():
        if task in outputs[0]:
            place = [PREDICTED.index(column) for column in columns]
            values[:, place] = np.mean([output[task] for output in outputs], axis=0)
    order = {name: row for row, name in enumerate(flow.filenames)}
    values = values[[order[name] for name in table["img_name"]]]
    return table.assign(**dict(zip(PREDICTED, values.T, strict=True)))


def join_tasks(predictions):
    """Join the predictions of single-task networks to one table.

    Parameters
    ----------
    predictions : dict[str, pandas.DataFrame]
        By task, as ``predict_table`` returns them, all of the same pictures.

    Returns
    -------
    pandas.DataFrame
        Likewise, each task's columns from its own network.
    """
    joined = next(iter(predictions.values())).copy()
    for task, table in predictions.items():
        joined[PREDICTED_BY[task]] = table.loc[joined.index, PREDICTED_BY[task]]
    return joined


def save_predictions(path, predictions):
    """Keep predictions as float16, with hashes in place of names.

    Parameters
    ----------
    path : pathlib.Path
        Ends in ``.npz``.
    predictions : pandas.DataFrame
        As ``predict_table`` returns it.
    """
    hashes = predictions["img_name"].map(hash_name)
    order = np.argsort(hashes.to_numpy())
    np.savez_compressed(
        path,
        name_hash=hashes.map(lambda text: int(text, 16)).to_numpy("uint64")[order],
        values=predictions[PREDICTED].to_numpy("float16")[order],
    )


def load_predictions(path, table):
    """Read saved predictions and join them to the labels of the data at hand.

    Parameters
    ----------
    path : pathlib.Path
    table : pandas.DataFrame
        Rows of one set.

    Returns
    -------
    pandas.DataFrame
        As ``predict_table`` returns it; rows without a saved prediction are missing.
    """
    with np.load(path, allow_pickle=False) as file:
        index = pd.Index(file["name_hash"])
        values = pd.DataFrame(file["values"].astype("float32"), index, PREDICTED)
    hashes = table["img_name"].map(lambda name: int(hash_name(name), 16))
    found = table[hashes.isin(index).to_numpy()]
    rows = values.loc[hashes[found.index]]
    return found.assign(**{column: rows[column].to_numpy() for column in PREDICTED})


def predict_or_load(run, table, context, variant=""):
    """Give a run's predictions on one set: the saved ones, or new ones.

    Parameters
    ----------
    run : dict
        As ``fit_or_load`` returns it.
    table : pandas.DataFrame
        Rows of one set.
    context : dict
        As for ``fit_or_load``.
    variant : str
        Names a second way to predict the set, such as ``"_guessed"``.

    Returns
    -------
    pandas.DataFrame
        As ``predict_table`` returns it.
    """
    (split,) = table["split"].unique()
    path = of_run(run["stem"], f"_{split}{variant}.npz")
    if not path.exists() or run["trained_here"]:
        model = load_network(run)
        save_predictions(path, predict_table(model, table, context["folder"]))
    predictions = load_predictions(path, table)
    lost = len(table) - len(predictions)
    if not lost:
        return predictions
    if of_run(run["stem"], ".keras").exists():  # other pictures than the saved ones
        return predict_table(load_network(run), table, context["folder"])
    print(f"{run['name']}: {lost} pictures of {split} have no saved prediction")
    return predictions

# %% tags=["functions"]
def confusion_counts(true, predicted, classes, weights):
    """Count pairs of true and predicted class under many weightings at once.

    Parameters
    ----------
    true, predicted : numpy.ndarray
        Classes from 0, shape ``(n,)``.
    classes : int
    weights : numpy.ndarray
        How often each row counts, shape ``(resamples, n)``.

    Returns
    -------
    numpy.ndarray
        Shape ``(resamples, classes, classes)``, true class first.
    """
    pairs = np.eye(classes**2, dtype="float32")[true * classes + predicted]
    return (weights @ pairs).reshape(-1, classes, classes)


def class_f1(counts):
    """Compute the F1 of each class.

    Parameters
    ----------
    counts : numpy.ndarray
        As ``confusion_counts`` returns them.

    Returns
    -------
    numpy.ndarray
        Shape ``(resamples, classes)``; missing for a class that is neither there nor
        predicted. Its mean is scikit-learn's macro average.
    """
    hits = np.einsum("rcc->rc", counts)
    total = counts.sum(axis=1) + counts.sum(axis=2)
    return np.divide(2 * hits, total, out=np.full_like(hits, np.nan), where=total > 0)


def area_under_curve(true, score, weights):
    """Compute the area under the ROC curve under many weightings at once.

    Parameters
    ----------
    true : numpy.ndarray
        0 or 1, shape ``(n,)``.
    score : numpy.ndarray
        Higher for 1, shape ``(n,)``; ties count half.
    weights : numpy.ndarray
        Shape ``(resamples, n)``.

    Returns
    -------
    numpy.ndarray
        Shape ``(resamples,)``; missing where only one class is there.
    """
    levels, level = np.unique(score, return_inverse=True)
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(len(levels)))
    ordered = weights[:, order].astype("float64")
    ones = np.add.reduceat(ordered * true[order], starts, axis=1)
    zeros = np.add.reduceat(ordered * (1 - true[order]), starts, axis=1)
    below = np.cumsum(zeros, axis=1) - zeros / 2
    product = ones.sum(axis=1) * zeros.sum(axis=1)
    area = (ones * below).sum(axis=1)
    return np.divide(area, product, out=np.full_like(area, np.nan), where=product > 0)


def measure_age(predictions, weights):
    """Compute the metrics of age; arguments and result as for ``measure``."""
    error = (predictions["age_predicted"] - predictions["age"]).abs()
    error = error.to_numpy("float32")
    per_row = {
        "age_mae": error,
        "age_rmse": error**2,
        "age_within_5": error <= 5,
        "age_within_10": error <= 10,
    }
    means = weights @ np.column_stack(list(per_row.values())).astype("float32")
    means /= weights.sum(axis=1, keepdims=True)
    result = dict(zip(per_row, means.T, strict=True))
    return result | {"age_rmse": np.sqrt(result["age_rmse"])}


def measure_gender(predictions, weights):
    """Compute the metrics of gender; arguments and result as for ``measure``.

    The label female is the positive one: sensitivity is the share of it that was
    recognised, specificity that of the label male.
    """
    true = predictions["gender"].to_numpy()
    score = predictions["gender_probability"].to_numpy()
    counts = confusion_counts(true, (score >= 0.5).astype(int), 2, weights)
    with np.errstate(invalid="ignore"):  # a resample without one of the labels
        shares = counts.diagonal(axis1=1, axis2=2) / counts.sum(axis=2)
    right = counts.trace(axis1=1, axis2=2)
    return {
        "gender_accuracy": right / weights.sum(axis=1),
        "gender_sensitivity": shares[:, 1],
        "gender_specificity": shares[:, 0],
        "gender_f1": class_f1(counts)[:, 1],
        "gender_auc": area_under_curve(true, score, weights),
    }


def measure_ethnicity(predictions, weights):
    """Compute the metrics of ethnicity; arguments and result as for ``measure``."""
    true = predictions["ethnicity"].to_numpy()
    guess = predictions[list(ETHNICITIES)].to_numpy().argmax(axis=1)
    counts = confusion_counts(true, guess, len(ETHNICITIES), weights)
    right = counts.trace(axis1=1, axis2=2)
    return {
        "ethnicity_accuracy": right / weights.sum(axis=1),
        "ethnicity_macro_f1": np.nanmean(class_f1(counts), axis=1),
    }


MEASURES = {
    "age": measure_age,
    "gender": measure_gender,
    "ethnicity": measure_ethnicity,
}


def measure(predictions, weights):
    """Compute every metric of the tasks at hand under many weightings at once.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As ``predict_table`` returns it, n rows. A task without labels or without
        predictions has no metric.
    weights : numpy.ndarray
        How often each row counts, float32, shape ``(resamples, n)``.

    Returns
    -------
    dict[str, numpy.ndarray]
        Metric by name, shape ``(resamples,)``; ages in years, the rest from 0 to 1.

    Raises
    ------
    ValueError
        If some rows lack what others have.
    """
    result = {}
    for task, columns in PREDICTED_BY.items():
        missing = predictions[[task, *columns]].isna()
        if missing.all().any():
            continue
        if missing.any(axis=None):
            raise ValueError(f"Some rows have no label or no prediction of {task}.")
        result |= MEASURES[task](predictions, weights)
    return result


def draw_resamples(count, resamples=BOOTSTRAP, seed=SEED):
    """Draw bootstrap samples as counts (Efron & Tibshirani 1993).

    Parameters
    ----------
    count : int
        Number of rows.
    resamples : int
    seed : int

    Returns
    -------
    numpy.ndarray
        How often each row was drawn, float32, shape ``(resamples, count)``.
    """
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, count, (resamples, count))
    return np.stack([np.bincount(draw, minlength=count) for draw in draws]).astype(
        "float32"
    )


def evaluate(predictions):
    """Compute every metric with its 95 % bootstrap interval.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As ``predict_table`` returns it.

    Returns
    -------
    dict
        ``n``, and per metric its value and ``<metric>_ci95``: ``[low, high]``.
    """
    point = measure(predictions, np.ones((1, len(predictions)), "float32"))
    spread = measure(predictions, draw_resamples(len(predictions)))
    result = {"n": len(predictions)}
    for metric in point:
        drawn = spread[metric][np.isfinite(spread[metric])]
        ends = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else [np.nan] * 2
        result[metric] = round(float(point[metric][0]), 5)
        result[f"{metric}_ci95"] = [round(float(end), 5) for end in ends]
    return result


def bootstrap(tables, resamples, metrics):
    """Compute metrics on the whole sample and on resamples, averaged over seeds.

    Parameters
    ----------
    tables : pandas.DataFrame or list of pandas.DataFrame
        As ``predict_table`` returns them; several are one network trained with
        several seeds, predicting the same pictures.
    resamples : numpy.ndarray
        As ``draw_resamples`` returns it.
    metrics : sequence of str

    Returns
    -------
    dict[str, numpy.ndarray]
        Per metric, the whole sample's value first.
    """
    tables = tables if isinstance(tables, list) else [tables]
    ones = np.ones((1, resamples.shape[1]), "float32")
    weights = np.vstack([ones, resamples])
    measured = [measure(table, weights) for table in tables]
    return {name: np.mean([part[name] for part in measured], axis=0) for name in metrics}


def differences(before, after):
    """Subtract what ``bootstrap`` returns for two networks or two sets.

    Parameters
    ----------
    before, after : dict[str, numpy.ndarray]

    Returns
    -------
    dict[str, tuple of float]
        Per metric: after minus before, and the low and high end of its 95 % interval.
    """
    result = {}
    for metric in before:
        change = after[metric] - before[metric]
        low, high = np.nanpercentile(change[1:], [2.5, 97.5])
        result[metric] = (float(change[0]), float(low), float(high))
    return result


def compare_apart(first, second, metrics=None):
    """Compare metrics on two sets that share no image.

    Parameters
    ----------
    first, second : pandas.DataFrame
        As ``predict_table`` returns them.
    metrics : sequence of str or None
        By default the one of each task in ``HEADLINE``.

    Returns
    -------
    dict[str, tuple of float]
        Per metric: second minus first, and the low and high end of its 95 % interval.
    """
    before, after = (
        bootstrap(part, draw_resamples(len(part), seed=seed), metrics or HEADLINE)
        for seed, part in enumerate((first, second), start=SEED)
    )
    return differences(before, after)


def constant_guess(predictions, train):
    """Guess the same for every image: what a model has to beat.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As ``predict_table`` returns it.
    train : pandas.DataFrame
        The training set.

    Returns
    -------
    pandas.DataFrame
        The same table with the training set's median age and most frequent labels.
    """
    frequent = train["ethnicity"].mode()[0]
    guess = {name: float(code == frequent) for code, name in enumerate(ETHNICITIES)}
    return predictions.assign(
        age_predicted=train["age"].median(),
        gender_probability=float(train["gender"].mean() >= 0.5),
        **guess,
    )


def compare(first, second, metrics=None):
    """Compare two models on the same pictures: paired bootstrap of the difference.

    Parameters
    ----------
    first, second : pandas.DataFrame or list of pandas.DataFrame
        As ``predict_table`` returns them, of the same set; a list holds one for each
        seed, and means over the seeds are compared.
    metrics : sequence of str or None
        By default the one of each task in ``HEADLINE``.

    Returns
    -------
    dict[str, tuple of float]
        Per metric: second minus first, and the low and high end of its 95 % interval.
    """
    pair = [part if isinstance(part, list) else [part] for part in (first, second)]
    common = pair[0][0].index
    for table in sum(pair, []):
        common = common.intersection(table.index)
    resamples = draw_resamples(len(common))
    before, after = (
        bootstrap([table.loc[common] for table in part], resamples, metrics or HEADLINE)
        for part in pair
    )
    return differences(before, after)

# %% tags=["functions"]
METRIC_NAMES = {
    "age_mae": "Age: MAE (years)",
    "age_rmse": "Age: RMSE (years)",
    "age_within_5": "Age: within 5 years (%)",
    "age_within_10": "Age: within 10 years (%)",
    "gender_accuracy": "Gender: accuracy (%)",
    "gender_sensitivity": "Gender: sensitivity (%)",
    "gender_specificity": "Gender: specificity (%)",
    "gender_f1": "Gender: F1 (%)",
    "gender_auc": "Gender: AUC",
    "ethnicity_accuracy": "Ethnicity: accuracy (%)",
    "ethnicity_macro_f1": "Ethnicity: macro F1 (%)",
}
HEADLINE = ("age_mae", "gender_accuracy", "ethnicity_accuracy")


def format_metric(metric, figures, unit=False):
    """Write a metric and its interval for people.

    Parameters
    ----------
    metric : str
        A key of ``METRIC_NAMES``: years and AUC stay, shares become percent.
    figures : dict
        As ``evaluate`` returns it.
    unit : bool
        Whether to name the unit.

    Returns
    -------
    str
        Such as ``"5.37 (5.22–5.52)"`` or ``"5.37 years (5.22–5.52)"``; a dash where
        there is no such task.
    """
    if metric not in figures:
        return "–"
    name = METRIC_NAMES[metric].partition(" (")[2].strip(")")
    factor = 100 if name == "%" else 1
    digits = {"%": 1, "years": 2}.get(name, 3)
    ends = (figures[metric], *figures[f"{metric}_ci95"])
    value, low, high = (f"{factor * end:.{digits}f}" for end in ends)
    return f"{value}{f' {name}' if unit and name else ''} ({low}–{high})"


def metrics_table(results):
    """Set the metrics of several evaluations side by side.

    Parameters
    ----------
    results : dict[str, dict]
        As ``evaluate`` returns them, by heading of the column.

    Returns
    -------
    pandas.DataFrame
        One row per metric, the number of images first.
    """
    rows = results.values()
    metrics = [key for key in METRIC_NAMES if any(key in row for row in rows)]
    columns = {
        heading: [f"{row['n']:,}"] + [format_metric(key, row) for key in metrics]
        for heading, row in results.items()
    }
    names = ["Images", *(METRIC_NAMES[key] for key in metrics)]
    return pd.DataFrame({"Metric": names} | columns)


def describe_change(metric, change):
    """Say in a few words what a difference shows.

    Parameters
    ----------
    metric : str
    change : tuple of float
        As ``compare`` gives it: second minus first, low and high end.

    Returns
    -------
    str
        ``"better by …"`` or ``"worse by …"`` with the interval, or, where the interval
        holds zero, ``"no difference shown: …"`` with its sign.
    """
    kind = METRIC_NAMES[metric].split()[-1]
    unit = {"(%)": " percentage points", "(years)": " years"}.get(kind, "")
    value, low, high = (100 * end if kind == "(%)" else end for end in change)
    if low <= 0 <= high:
        found = f"no difference shown: {value:+.2f} ({low:+.2f} to {high:+.2f}{unit})"
        return found.replace("-", "−")
    improves = (value < 0) == (metric in ("age_mae", "age_rmse"))
    small, large = sorted((abs(low), abs(high)))
    word = "better" if improves else "worse"
    return f"{word} by {abs(value):.2f}{unit} ({small:.2f} to {large:.2f})"


def steps_table(steps):
    """Set what each step from one network to the next shows side by side.

    Parameters
    ----------
    steps : dict[tuple of str, dict]
        As ``compare`` returns it, by the names of both.

    Returns
    -------
    pandas.DataFrame
        One row per step, one column per task.
    """
    rows = [
        {"Step": " → ".join(pair)}
        | {
            metric.split("_")[0].capitalize(): describe_change(metric, change)
            for metric, change in changes.items()
        }
        for pair, changes in steps.items()
    ]
    return pd.DataFrame(rows)


def seen_and_unseen(seen, unseen, gaps):
    """Set the metrics on training images beside those on images never seen.

    Parameters
    ----------
    seen, unseen : pandas.DataFrame
        As ``predict_table`` returns them: both predicted without Dropout and without
        augmentation, so that they can be compared.
    gaps : dict[str, tuple of float]
        As ``compare_apart`` returns it for them.

    Returns
    -------
    dict[str, str]
        Per metric in ``HEADLINE`` two cells: on training and on unseen images; and
        unseen minus training with its 95 % interval.
    """
    cells = {}
    points = [
        measure(part, np.ones((1, len(part)), "float32")) for part in (seen, unseen)
    ]
    for metric in HEADLINE:
        name = METRIC_NAMES[metric]
        factor = 100 if "(%)" in name else 1
        before, after = (factor * point[metric][0] for point in points)
        cells[f"{name}, training / unseen"] = f"{before:.2f} / {after:.2f}"
        change = (factor * end for end in gaps[metric])
        text = "{:+.2f} ({:+.2f} to {:+.2f})".format(*change)
        cells[f"{metric.split('_')[0].capitalize()}: difference"] = text.replace(
            "-", "−"
        )
    return cells


def restrict(tables, rows):
    """Keep some rows of several tables, as far as they have them.

    Parameters
    ----------
    tables : dict[str, pandas.DataFrame]
    rows : pandas.Index

    Returns
    -------
    dict[str, pandas.DataFrame]
    """
    return {
        name: table.loc[table.index.intersection(rows)]
        for name, table in tables.items()
    }


def describe_changes(changes):
    """Say for all three tasks what a comparison shows.

    Parameters
    ----------
    changes : dict[str, tuple of float]
        As ``compare`` returns it.

    Returns
    -------
    str
    """
    return "; ".join(
        f"{metric.split('_')[0]}: {describe_change(metric, change)}"
        for metric, change in changes.items()
    )


def headline(figures):
    """Write the metric of each task into the cells of a table.

    Parameters
    ----------
    figures : dict
        As ``evaluate`` returns it.

    Returns
    -------
    dict[str, str]
        Formatted metric by heading.
    """
    return {METRIC_NAMES[key]: format_metric(key, figures) for key in HEADLINE}


def describe_step(before, after):
    """Say which hyperparameters differ between two runs.

    Parameters
    ----------
    before, after : dict
        Hyperparameters.

    Returns
    -------
    str
        Such as ``"dropout 0.5 → 0.25; augmentation none → mild"``.
    """
    steps = []
    for name in after:
        old, new = (describe_hyperparameters(run, [name]) for run in (before, after))
        if old != new:
            value = new.removeprefix(name.replace("_", " ") + " ")
            steps.append(f"{old} → {value}")
    return "; ".join(steps)


def describe_hyperparameters(hyperparameters, names):
    """Write hyperparameters as one short text.

    Parameters
    ----------
    hyperparameters : dict
    names : sequence of str
        Which of them, in this order.

    Returns
    -------
    str
    """
    texts = []
    for name in names:
        value = hyperparameters[name]
        value = "–".join(map(str, value)) if isinstance(value, list) else value
        texts.append(f"{name.replace('_', ' ')} {value}")
    return "; ".join(texts)

# %% [markdown]
# ### The main network on validation
#
# Was the selection half flattered by choosing epochs and hyperparameters on it?

# %%
main_val = predict_or_load(main, parts["val"], context)
selection, held_out = (main_val[half == part] for part in ("select", "calibrate"))
views = {"All": main_val, "Selection half": selection, "Held-out half": held_out}
show_table(metrics_table({name: evaluate(view) for name, view in views.items()}))

# %%
flattery = compare_apart(selection, held_out)
answer(f"The held-out half against the selection half: {describe_changes(flattery)}.")

# %% [markdown]
# ### How much depends on the seed?
#
# The seed decides the untrained weights, the order of the images and their augmentation. The same
# network with other seeds, on all of validation. The main network is the first seed, whatever the
# others reach.

# %%
seeds = {"mtl": main} | {
    name: fit_or_load(name, runs_to_do[name], context)
    for name in MAIN_SEEDS
    if name in runs_to_do and name != "mtl"
}
seeds_val = {
    name: predict_or_load(run, parts["val"], context) for name, run in seeds.items()
}
seed_figures = {name: evaluate(val) for name, val in seeds_val.items()}
seed_rows = [
    {"Network": name, "Seed": run["history"]["hyperparameters"]["seed"]}
    | headline(seed_figures[name])
    for name, run in seeds.items()
]
show_table(pd.DataFrame(seed_rows))

# %%
points = pd.DataFrame(seed_figures).T[list(HEADLINE)].astype(float)
spread = points.max() - points.min()
found = (
    f"Over {len(points)} seeds the mean is {points['age_mae'].mean():.2f} years, "
    f"{100 * points['gender_accuracy'].mean():.1f} % and "
    f"{100 * points['ethnicity_accuracy'].mean():.1f} %; the seeds differ by up to "
    f"{spread['age_mae']:.2f} years, {100 * spread['gender_accuracy']:.1f} and "
    f"{100 * spread['ethnicity_accuracy']:.1f} percentage points."
)
answer(found if len(points) > 1 else "A short run like this one trains one seed.")

# %% [markdown]
# ### Does it overfit, and what do Dropout and augmentation change?
#
# Half the filters and, so that four trainings fit into half an hour, half the training images:
# trained without either, with each, and with both, until the loss on the selection half has not
# fallen for `patience` epochs. Where the solid line rises while the dashed one falls, the network
# learns its training images by heart: the table says by how much, from the best epoch to the last.

# %%
study = {name: fit_or_load(name, runs_to_do[name], context) for name in STUDY_RUNS}
show_figure(plot_overfitting(study))

# %% tags=["functions"]
def describe_overfitting(history):
    """Follow the losses of a run from its best epoch to its last.

    Parameters
    ----------
    history : dict
        As ``fit_or_load`` keeps it.

    Returns
    -------
    dict[str, float]
        The best epoch and the last one (from 1), and by how much the losses on
        validation and on training batches changed between them.
    """
    epochs, best = history["epochs"], history["best_epoch"]
    found = {"Best epoch": best, "Last epoch": len(epochs["loss"])}
    for key, name in (("val_loss", "Validation loss"), ("loss", "Training loss")):
        found[f"{name}, change"] = round(epochs[key][-1] - epochs[key][best - 1], 2)
    return found

# %%
rises = {name: describe_overfitting(run["history"]) for name, run in study.items()}
rise_table = pd.DataFrame(rises).T.reset_index(names="Network")
epoch_columns = {"Best epoch": int, "Last epoch": int}
show_table(rise_table.astype(epoch_columns))

# %% [markdown]
# The dashed lines cannot be compared with each other: Dropout and augmentation make training
# batches harder. So all networks, with the weights of their best epoch, predict their own training
# images again, without augmentation and Dropout, and the held-out half, which they have never seen.
# Early stopping has cut off by then what the table above shows: the gaps that are left are much alike.

# %%
study_val = {
    name: predict_or_load(run, parts["val"], context) for name, run in study.items()
}
seen = {
    name: predict_or_load(
        run, training_rows(parts["train"], run["history"]["hyperparameters"]), context
    )
    for name, run in (study | {"mtl": main}).items()
}
unseen = {
    name: val[half == "calibrate"]
    for name, val in (study_val | {"mtl": main_val}).items()
}
gaps = {name: compare_apart(seen[name], unseen[name]) for name in seen}
overfitting = {
    name: seen_and_unseen(seen[name], unseen[name], gaps[name]) for name in seen
}
show_table(pd.DataFrame(overfitting).T.reset_index(names="Network"))

# %% [markdown]
# And what did each of them change on the held-out half? A change here is that of Dropout or
# augmentation together with the longer training that it allows.

# %%
study_steps = {
    (before, after): compare(unseen[before], unseen[after])
    for before, after in (
        ("plain", "dropout"),
        ("plain", "augmentation"),
        ("augmentation", "both"),
    )
}
show_table(steps_table(study_steps))

# %%
risen = {name: found["Validation loss, change"] for name, found in rises.items()}
fallen = rises["plain"]["Training loss, change"]
verdict = "it overfits" if risen["plain"] > 0 > fallen else "it did not overfit"
found = (
    f"Without Dropout and augmentation {verdict}: from the best epoch to the last the "
    f"loss on validation changes by {risen['plain']:+.2f}, on training batches by "
    f"{fallen:+.2f}. With Dropout the former is {risen['dropout']:+.2f}, with "
    f"augmentation {risen['augmentation']:+.2f}, with both {risen['both']:+.2f}. "
    f"Dropout alone: {describe_changes(study_steps['plain', 'dropout'])}."
)
answer(found.replace("-", "−"))

# %% [markdown]
# <a id="predictions"></a>
# ## 6 Making predictions on test data (14 points)
#
# *How good is it on images it has never seen?* The best weights are read back from `model` and
# evaluated by the test generator of section 3; the table of predictions is made from the same images
# in the same order. The test set is used for inference alone: nothing is chosen by it, and the first
# look with each training is logged in `test_looks.csv`. Earlier networks were tested before this one
# was designed, so their figures were known; no setting was chosen by them.
#
# ### The best weights, reloaded

# %%
model = load_network(main)
model.compile(loss={task: LOSSES[task] for task in LABELS}, metrics={**METRICS})
evaluation = model.evaluate(LabelledBatches(test_flow), return_dict=True, verbose=0)
keras_names = {metric: evaluation[metric] for metric in HEADLINE}
show_table(
    pd.DataFrame({"Metric": keras_names.keys(), "Test": keras_names.values()}).round(4)
)

# %% [markdown]
# ### The predictions table
#
# One row per test image: its labels, the predicted age, the probability of the label female, and
# five probabilities. All test figures are computed from it.

# %% tags=["functions"]
def result_row(run, split, predictions):
    """Make one row of ``results.json``.

    Parameters
    ----------
    run : dict
        As ``fit_or_load`` returns it.
    split : str
        Such as ``"test"`` or ``"test_without_twins"``.
    predictions : pandas.DataFrame
        As ``predict_table`` returns it.

    Returns
    -------
    dict
    """
    history = run["history"]
    return {
        "chapter": chapter_of(run["name"]),
        "model": run["name"],
        "data": history["data"],
        "split": split,
        "parameters": history["parameters"],
        "epochs": len(history["epochs"]["loss"]),
        "train_seconds": history["seconds"],
        "hardware": f"{history['hardware']}, {history['precision']}",
        "seed": history["hyperparameters"]["seed"],
    } | evaluate(predictions)


def results_table(results):
    """Set all results side by side.

    Parameters
    ----------
    results : list of dict
        As ``result_row`` returns them.

    Returns
    -------
    pandas.DataFrame
    """
    rows = [
        {
            "Assignment": row["chapter"],
            "Model": row["model"],
            "Data": row["data"],
            "Set": row["split"].replace("_", " ").replace("val", "validation"),
            "Images": f"{row['n']:,}",
        }
        | headline(row)
        | {
            "Parameters": f"{row['parameters'] / 1e6:.2f} M",
            "Training": f"{row['epochs']} epochs, {training_time(row)}",
            "Hardware": row["hardware"],
        }
        for row in results
    ]
    return pd.DataFrame(rows)


def log_look(run, predictions, folder, why, split="test"):
    """Append a look at a test set to ``test_looks.csv``, once for each training.

    Parameters
    ----------
    run : dict
        As ``fit_or_load`` returns it.
    predictions : pandas.DataFrame
        On the test set.
    folder : pathlib.Path
    why : str
    split : str
        Such as ``"foreign_test"``.
    """
    path = folder / "test_looks.csv"
    history = run["history"]
    training = f"{history['name']}-{history['digest']} of {history['date']}"
    training += f", {split}" * (split != "test")
    if path.exists() and training in set(pd.read_csv(path)["training"]):
        return
    figures = evaluate(predictions)
    row = {
        "date": datetime.date.today().isoformat(),
        "commit": history["commit"],
        "training": training,
        "n": figures["n"],
        **{metric: figures.get(metric) for metric in HEADLINE},
        "why": why,
    }
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row]).to_csv(path, mode="a", index=False, header=not path.exists())

# %%
single_view = predict_table(model, parts["test"], image_folder, flip_averaging=False)
predictions = predict_table(model, parts["test"], image_folder)
results_folder = context["model_dir"] / (data_name if PUBLISH else f"runs/{data_name}")
log_look(main, predictions, results_folder, "the main network, chosen on validation")
summary = predictions[["age", *PREDICTED]].describe().drop("count").round(2)
show_table(summary.T.reset_index(names="Column"))

# %% [markdown]
# ### The result
#
# On all test images, on those without a twin in training or validation, on those without a
# near-twin as well; and what the same guess for everybody would reach: the training set's median
# age and its most frequent labels. One column does without flip averaging.

# %%
test_marks = twins.loc[predictions.index]
test_views = {
    "test": predictions,
    "test_without_twins": predictions[~test_marks["twin"]],
    "test_without_near_twins": predictions[~test_marks["near_twin"]],
    "test_without_flip_averaging": single_view,
}
main_rows = [result_row(main, split, view) for split, view in test_views.items()]
guess = evaluate(constant_guess(predictions, parts["train"]))
columns = (
    "All test images",
    "Without twins",
    "Without near-twins",
    "Without flip averaging",
    "Same guess for all",
)
show_table(metrics_table(dict(zip(columns, [*main_rows, guess], strict=True))))

# %%
whole, strict, plain = main_rows[0], *main_rows[2:]
agrees = all(np.isclose(evaluation[key], plain[key], rtol=1e-3) for key in HEADLINE)
mirrored = describe_changes(compare(single_view, predictions))
answer(
    f"On {whole['n']:,} test images the mean absolute age error is "
    f"{format_metric('age_mae', whole, unit=True)}; gender accuracy is "
    f"{format_metric('gender_accuracy', whole, unit=True)}, ethnicity accuracy "
    f"{format_metric('ethnicity_accuracy', whole, unit=True)}. Without twins and "
    f"near-twins: {format_metric('age_mae', strict, unit=True)}, "
    f"{format_metric('gender_accuracy', strict, unit=True)}, "
    f"{format_metric('ethnicity_accuracy', strict, unit=True)}."
)

# %%
answer(
    "From all of validation to the test images, the main network is: "
    f"{describe_changes(compare_apart(main_val, predictions))}."
)

# %%
answer(
    f"What flip averaging changes: {mirrored}. Keras' own evaluation, without it, "
    f"{'agrees' if agrees else 'DISAGREES'} with the table."
)

# %% [markdown]
# ### Which labels are mistaken for which?

# %% tags=["functions"]
def draw_confusion(axis, true, guess, names):
    """Draw a confusion matrix: counts, and shares of the true label.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    true, guess : numpy.ndarray
        Codes, shape ``(n,)``.
    names : sequence of str
        Of the labels, in the order of their codes.
    """
    codes = range(len(names))
    counts = sklearn.metrics.confusion_matrix(true, guess, labels=codes)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if share[row, column] > 0.5 else "black"
        text = f"{count}\n{100 * share[row, column]:.0f} %"
        axis.text(
            column, row, text, ha="center", va="center", color=colour, fontsize=9
        )
    axis.set_xticks(codes, names)
    axis.set_yticks(codes, names)
    axis.set(xlabel="predicted label", ylabel="true label")


def plot_confusion(predictions):
    """Plot the confusion matrices of gender and ethnicity.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As ``predict_table`` returns it.

    Returns
    -------
    matplotlib.figure.Figure
    """
    gender = (predictions["gender_probability"] >= 0.5).astype(int)
    ethnicity = predictions[list(ETHNICITIES)].to_numpy().argmax(axis=1)
    panels = (("gender", gender, GENDERS), ("ethnicity", ethnicity, ETHNICITIES))
    shape = {"figsize": (9.5, 4.2), "width_ratios": (1, 1.7), "layout": "constrained"}
    figure, axes = plt.subplots(1, 2, **shape)
    for axis, (label, guess, names) in zip(axes, panels, strict=True):
        draw_confusion(axis, predictions[label], guess, names)
        axis.set_title(label.capitalize())
    return figure


def draw_roc(axis, curves):
    """Draw ROC curves with their areas.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    curves : dict[str, tuple]
        By name: true labels (0 or 1) and scores, shape ``(n,)``. A curve of one label
        alone is left out.
    """
    for name, (true, score) in curves.items():
        if len(np.unique(true)) < 2:
            continue
        area = sklearn.metrics.roc_auc_score(true, score)
        rates = sklearn.metrics.roc_curve(true, score)[:2]
        axis.plot(*rates, label=f"{name}: AUC {area:.3f}")
    axis.plot([0, 1], [0, 1], ":", color="grey")
    axis.set(xlabel="false positive rate", ylabel="true positive rate")
    axis.legend(frameon=False, loc="lower right")


def plot_roc(predictions):
    """Plot the ROC curve of gender, and of each ethnicity against the rest.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As ``predict_table`` returns it.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    axes[0].set_prop_cycle(color=[TASK_COLOURS["gender"]])
    axes[1].set_prop_cycle(color=ETHNICITY_COLOURS)
    gender = predictions["gender"], predictions["gender_probability"]
    draw_roc(axes[0], {"female": gender})
    codes = enumerate(ETHNICITIES)
    ethnicity = predictions["ethnicity"]
    draw_roc(axes[1], {name: (ethnicity == c, predictions[name]) for c, name in codes})
    axes[0].set_title("Gender: label female against male")
    axes[1].set_title("Ethnicity: each against the rest")
    return figure


def error_by_age(predictions, edges=(0, 5, 15, 25, 35, 45, 55, 65, 75, 117)):
    """Sum up the age error in bands of true age.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As ``predict_table`` returns it.
    edges : sequence of int
        Years; a band holds its lower edge.

    Returns
    -------
    pandas.DataFrame
        Per band: ``band``, ``n``, ``mae``, ``low``, ``high`` (95 % interval), ``bias``
        (predicted minus true), all in years.
    """
    error = predictions["age_predicted"] - predictions["age"]
    bands = pd.cut(predictions["age"], edges, right=False)
    rows = []
    for band, part in error.groupby(bands, observed=True):
        means = draw_resamples(len(part)) @ part.abs().to_numpy("float32") / len(part)
        low, high = np.percentile(means, [2.5, 97.5])
        rows.append(
            {
                "band": f"{band.left}–{band.right - 1}",
                "n": len(part),
                "mae": part.abs().mean(),
                "low": low,
                "high": high,
                "bias": part.mean(),
            }
        )
    return pd.DataFrame(rows)


def plot_ages_predicted(axes, predictions):
    """Plot predicted against true age as a heat map.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    predictions : pandas.DataFrame
        As ``predict_table`` returns it.
    """
    edges = np.arange(0, 119, 2)
    ages = predictions["age"], predictions["age_predicted"]
    *_, image = axes.hist2d(*ages, edges, cmap="Blues", norm="symlog", vmin=0)
    axes.figure.colorbar(image, ax=axes, label="people per 2 × 2 years")
    axes.plot([0, 117], [0, 117], ":", color="black")
    axes.set(
        title="Predicted against true age",
        xlabel="true age (years)",
        ylabel="predicted age (years)",
    )


def plot_age_errors(predictions, bands):
    """Plot predicted against true age, and the error by age.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As ``predict_table`` returns it.
    bands : pandas.DataFrame
        As ``error_by_age`` returns it.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    plot_ages_predicted(left, predictions)
    ends = np.array([bands["mae"] - bands["low"], bands["high"] - bands["mae"]])
    right.bar(
        bands["band"],
        bands["mae"],
        yerr=ends,
        color=TASK_COLOURS["age"],
        capsize=3,
        label="MAE, 95 % interval",
    )
    label = "bias (predicted − true)"
    right.plot(bands["band"], bands["bias"], "o", color="black", label=label)
    right.axhline(0, color="grey", linewidth=0.8)
    right.set(title="Age error by age", xlabel="true age (years)", ylabel="years")
    right.tick_params(axis="x", rotation=45)
    right.legend(frameon=False)
    return figure

# %%
show_figure(plot_confusion(predictions))

# %% [markdown]
# How well do the probabilities rank, at any threshold?

# %%
show_figure(plot_roc(predictions))

# %%
named = predictions[list(ETHNICITIES)].to_numpy().argmax(axis=1)
true = predictions["ethnicity"]
recall = (named == true).groupby(true).mean()
hardest = recall.idxmin()
mistaken = pd.Series(named[(true == hardest) & (named != true)]).value_counts()
mostly = (
    f", most often taken for {ETHNICITIES[mistaken.idxmax()]}" if len(mistaken) else ""
)
answer(
    f"{ETHNICITIES[recall.idxmax()]} has the highest recall "
    f"({100 * recall.max():.0f} %), {ETHNICITIES[hardest]} the lowest "
    f"({100 * recall.min():.0f} % of {(true == hardest).sum():,} images{mostly})."
)

# %% [markdown]
# ### At which age is it wrong?
#
# Bars: mean absolute error in each band of ages, with its interval. Dots: whether the network
# errs towards older (above zero) or younger.

# %%
bands = error_by_age(predictions)
show_figure(plot_age_errors(predictions, bands))

# %%
worst, easiest = bands.loc[bands["mae"].idxmax()], bands.loc[bands["mae"].idxmin()]
answer(
    f"The error is smallest at {easiest['band']} years ({easiest['mae']:.1f} years), "
    f"largest at {worst['band']} ({worst['mae']:.1f} years, {worst['n']} images), "
    f"where the prediction lies {abs(worst['bias']):.1f} years too "
    f"{'low' if worst['bias'] < 0 else 'high'} on average."
)

# %% [markdown]
# ### How far off may one prediction be?
#
# The held-out half of validation says how far labels lie from predictions, in bands of predicted age:
# nine of ten lie within the interval. `predict.py` gives it with every age.

# %% tags=["functions"]
def fit_age_intervals(predictions, bands=8, share=0.9):
    """Learn how far the label may lie from a predicted age.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As ``predict_table`` returns it, of pictures that chose nothing.
    bands : int
        Of predicted age, with about as many pictures each.
    share : float
        How many labels the interval holds, in each band.

    Returns
    -------
    dict[str, list of float]
        ``from``: where the bands begin (years); ``low`` and ``high``: what to add to a
        predicted age of the band.

    Notes
    -----
    Split conformal prediction within bands: Lei et al., JASA 2018.
    """
    predicted = predictions["age_predicted"].to_numpy()
    error = predictions["age"].to_numpy() - predicted
    starts = np.unique(np.quantile(predicted, np.arange(bands) / bands).round(1))
    band = np.searchsorted(starts, predicted, side="right").clip(1)
    tails = (1 - share) / 2, (1 + share) / 2
    ends = [np.quantile(error[band == n + 1], tails) for n in range(len(starts))]
    low, high = np.round(ends, 2).T.tolist()
    return {"from": starts.tolist(), "low": low, "high": high}


def age_intervals(ages, table):
    """Look up the intervals around predicted ages.

    Parameters
    ----------
    ages : numpy.ndarray
        Predicted, in years.
    table : dict[str, list of float]
        As ``fit_age_intervals`` returns it.

    Returns
    -------
    tuple of numpy.ndarray
        Lower and upper ends, in years from 0 to 116.
    """
    band = np.searchsorted(table["from"], ages, side="right").clip(1) - 1
    low, high = (np.asarray(ages) + np.array(table[end])[band] for end in ("low", "high"))
    return low.clip(AGES[0], AGES[-1]), high.clip(AGES[0], AGES[-1])

# %%
intervals = {"mtl": fit_age_intervals(held_out)}
starts, low, high = (intervals["mtl"][key] for key in ("from", "low", "high"))
ends = [f"{below:+.0f} to {above:+.0f}" for below, above in zip(low, high, strict=True)]
interval_columns = {
    "Predicted age from": [f"{start:.0f} years" for start in starts],
    "Nine of ten labels lie at": [f"{text} years".replace("-", "−") for text in ends],
}
show_table(pd.DataFrame(interval_columns))

# %%
low, high = age_intervals(predictions["age_predicted"].to_numpy(), intervals["mtl"])
inside = predictions["age"].between(low, high)
answer(
    f"On the test images {100 * inside.mean():.1f} % of the labels lie in their "
    f"interval, which is {np.median(high - low):.0f} years wide in the middle."
)

# %% [markdown]
# <a id="runs"></a>
# ## 7 Five runs: which hyperparameters matter?
#
# Each run keeps what came before and changes one thing (run 2 → 3 three that were chosen
# together); the main network is the last run, trained longer. The selection half of validation,
# which chose all this, is shown first; what each step changed is measured on the held-out half, for
# these weights: every run has one seed, and section 8 says how far apart seeds lie.
#
# | Step | Why |
# |---|---|
# | run 1 | a plain start: half the main network's filters, one unit for age, Adam, linear interpolation |
# | run 1 → 2 | a distribution over ages, with a loss of its own: neighbouring ages share the credit of an image |
# | run 2 → 3 | Muon with its learning rate and weight decay: updates without dominant directions. No fair race: Muon's settings were chosen among several, Adam's are the usual ones |
# | run 3 → 4 | cubic splines in augmentation: training pictures nearly as sharp as those to predict (section 3) |
# | run 4 → 5 | twice the filters: capacity |
# | run 5 → mtl | 30 epochs in place of 12: more passes, each with other augmentation |
#
# If the runs have to be trained, the plan in section 1 says how long the next cell takes.

# %%
five = {name: fit_or_load(name, runs_to_do[name], context) for name in FIVE_RUNS}
candidates = five | {"mtl": main}
candidate_val = {
    name: predict_or_load(run, parts["val"], context)
    for name, run in candidates.items()
}

# %%
tuned = (
    "age_head",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "augmentation",
    "filters",
    "epochs",
)
settings = {
    name: describe_hyperparameters(run["history"]["hyperparameters"], tuned)
    for name, run in candidates.items()
}
selecting = {
    name: evaluate(val[half == "select"]) for name, val in candidate_val.items()
}
run_rows = [
    {"Run": name, "Hyperparameters": settings[name]}
    | headline(selecting[name])
    | {"Training": training_time(run["history"])}
    for name, run in candidates.items()
]
show_table(pd.DataFrame(run_rows))

# %% [markdown]
# ### What did each step change?
#
# On the held-out half of validation, which chose none of these settings:

# %%
held_val = restrict(candidate_val, held_out.index)
names = list(candidates)
steps = {
    (before, after): compare(held_val[before], held_val[after])
    for before, after in zip(names[:-1], names[1:], strict=True)
}
changes = [
    describe_step(*(candidates[name]["history"]["hyperparameters"] for name in pair))
    for pair in steps
]
show_table(steps_table(steps).assign(Changes=changes))

# %%
mattered = {
    metric: [
        f"{' → '.join(pair)} ({describe_change(metric, change[metric]).split()[0]})"
        for pair, change in steps.items()
        if not change[metric][1] <= 0 <= change[metric][2]
    ]
    for metric in HEADLINE
}
told = "; ".join(
    f"{metric.split('_')[0]}: {', '.join(shown) or 'none'}"
    for metric, shown in mattered.items()
)
total = describe_changes(compare(held_val["run1"], held_val["mtl"]))
answer(f"Steps with a difference shown: {told}. From run 1 to the main network: {total}.")

# %% [markdown]
# <a id="sharing"></a>
# ## 8 Does sharing help?
#
# *Would three networks do better than one?* Three designs, with trunks of the same layers (half
# the main network's filters), the same images, epochs and hyperparameters:
#
# - **hard sharing**: one trunk for all tasks;
# - **single-task**: three networks, each with one head and a trunk of its own, each at the epoch
#   that is best for its task;
# - **soft sharing**: three trunks that start from the same weights, and a penalty on the squared
#   distance of each from their mean.
#
# Each is trained with three seeds (run 4 of section 7 is the first of hard sharing). The
# hyperparameters were chosen for hard sharing, which favours it; of soft sharing the penalty was
# chosen too (`benchmarks/experiments.md`). The other two have about three times the weights; all
# have 12 epochs, and longer training might change the order.

# %% tags=["functions"]
SHARING_KINDS = {
    "hard sharing": TASK_COLOURS["shared"],
    "single-task": "#000000",
    "soft sharing": "#56b4e9",
}


def prediction_seconds(models, pictures=512, repeats=7):
    """Measure side by side how long models take to predict.

    Parameters
    ----------
    models : dict[str, list of keras.Model]
        Networks that are run one after the other, by name.
    pictures : int
        In one batch, of random grey levels.
    repeats : int
        The names take turns this many times, after one turn that does not count.

    Returns
    -------
    dict[str, float]
        Median seconds by name.
    """
    batch = np.random.default_rng(SEED).random((pictures, SIZE, SIZE, 1), "float32")
    seconds = {name: [] for name in models}
    for _ in range(repeats + 1):
        for name, networks in models.items():
            started = time.perf_counter()
            for network in networks:
                network.predict_on_batch(batch)
            seconds[name].append(time.perf_counter() - started)
    return {name: float(np.median(taken[1:])) for name, taken in seconds.items()}


def plot_seeds(predictions):
    """Plot the metric of each task for every kind of network and every seed.

    Parameters
    ----------
    predictions : dict[str, list of pandas.DataFrame]
        By kind, one table for each seed, as ``predict_table`` returns them.

    Returns
    -------
    matplotlib.figure.Figure
    """
    shape = {"figsize": (10, 2.6), "sharey": True, "layout": "constrained"}
    figure, axes = plt.subplots(1, 3, **shape)
    for axis, metric in zip(axes, HEADLINE, strict=True):
        name = METRIC_NAMES[metric]
        factor = 100 if "(%)" in name else 1
        for row, (kind, tables) in enumerate(predictions.items()):
            ones = np.ones((1, len(tables[0])), "float32")
            values = [factor * measure(table, ones)[metric][0] for table in tables]
            colour = SHARING_KINDS[kind]
            axis.plot(values, [row] * len(values), "o", color=colour, alpha=0.6)
            axis.plot(np.mean(values), row, "|", color=colour, markersize=22)
        axis.set_yticks(range(len(predictions)), predictions)
        axis.set(title=name.partition(" (")[0], xlabel=name, ylim=(2.5, -0.5))
        axis.yaxis.set_tick_params(length=0)
    figure.suptitle("Dots: seeds. Bars: their mean. Held-out half.", fontsize=9)
    return figure


def merge_runs(kind, runs):
    """Sum up the runs that make one answer to all tasks, as if they were one run.

    Parameters
    ----------
    kind : str
        Name of the whole, such as ``"single-task"``.
    runs : list of dict
        As ``fit_or_load`` returns them.

    Returns
    -------
    dict
        A run as ``result_row`` takes it: parameters and seconds summed.
    """
    histories = [run["history"] for run in runs]
    summed = {
        key: round(sum(history[key] for history in histories), 1)
        for key in ("parameters", "seconds")
    }
    return {"name": kind, "history": histories[0] | summed}


def sharing_costs(runs, seconds):
    """Sum up what each kind of sharing costs.

    Training times count for the seeds whose networks, of every kind, were all trained
    on the same hardware.

    Parameters
    ----------
    runs : dict[str, list of list of dict]
        By kind and seed the runs (as ``fit_or_load`` returns them) that make one
        answer to all tasks.
    seconds : dict[str, float]
        As ``prediction_seconds`` returns it.

    Returns
    -------
    pandas.DataFrame
        One row per kind: parameters, mean training time, and the prediction time as a
        multiple of the first row's.
    """
    first = seconds[next(iter(runs))]
    machines = [
        {run["history"]["hardware"] for parts in of_seed for run in parts}
        for of_seed in zip(*runs.values(), strict=True)
    ]
    rows = []
    for kind, seeds in runs.items():
        wholes = [merge_runs(kind, parts)["history"] for parts in seeds]
        times = [
            whole["seconds"]
            for whole, used in zip(wholes, machines, strict=True)
            if len(used) == 1
        ]
        rows.append(
            {
                "Kind": kind,
                "Networks": len(seeds[0]),
                "Parameters": f"{wholes[0]['parameters']:,}",
                f"Training, mean of {len(times)}": duration(np.mean(times))
                if times
                else "on unlike machines",
                "Prediction time": f"{seconds[kind] / first:.2f} ×",
            }
        )
    return pd.DataFrame(rows)

# %%
sharing = {"run4": five["run4"]} | {
    name: fit_or_load(name, runs_to_do[name], context)
    for name in SHARING_RUNS
    if name in runs_to_do
}
sharing_val = {
    name: predict_or_load(run, parts["val"], context) for name, run in sharing.items()
}

# %%
kinds = {kind: [] for kind in SHARING_KINDS}
trained_seeds = {run["history"]["hyperparameters"]["seed"] for run in sharing.values()}
for seed in sorted(trained_seeds):
    kinds["hard sharing"].append(["run4" if seed == SEED else f"hard_{seed}"])
    kinds["single-task"].append([f"{task}_{seed}" for task in LABELS])
    kinds["soft sharing"].append([f"soft_{seed}"])
answers_of = {
    kind: [
        sharing_val[names[0]]
        if len(names) == 1
        else join_tasks({t: sharing_val[n] for t, n in zip(LABELS, names, strict=True)})
        for names in seeds
    ]
    for kind, seeds in kinds.items()
}
held_answers = {
    kind: list(restrict(dict(enumerate(tables)), held_out.index).values())
    for kind, tables in answers_of.items()
}
show_figure(plot_seeds(held_answers))

# %% [markdown]
# What is the difference, on average over the seeds and on the same images of the held-out half?
# The intervals say what other images would change, not what other seeds would: those are above.

# %%
sharing_steps = {
    (kind, "hard sharing"): compare(held_answers[kind], held_answers["hard sharing"])
    for kind in ("single-task", "soft sharing")
}
show_table(steps_table(sharing_steps))

# %% [markdown]
# And what does each cost? Training times are those of the seeds whose networks were all trained on
# the same cores; prediction times are measured here, side by side.

# %%
runs_of = {
    kind: [[sharing[name] for name in names] for names in seeds]
    for kind, seeds in kinds.items()
}
built = {
    kind: [build_model(run["history"]["hyperparameters"]) for run in seeds[0]]
    for kind, seeds in runs_of.items()
}
seconds = prediction_seconds(built)
show_table(sharing_costs(runs_of, seconds))

# %%
single, hard = (
    merge_runs(kind, runs_of[kind][0])["history"]
    for kind in ("single-task", "hard sharing")
)
seed_values = {
    metric: [measure(val, np.ones((1, len(val)), "float32"))[metric][0] for val in vals]
    for metric in HEADLINE
    for vals in [held_answers["hard sharing"]]
}
seed_spread = {metric: np.ptp(values) for metric, values in seed_values.items()}
all_changes = [change for step in sharing_steps.values() for change in step.values()]
shown = any(not low <= 0 <= high for _, low, high in all_changes)
verdict = (
    "Sharing makes a difference to the errors, see the table"
    if shown
    else "That sharing changes the errors, for better or worse, is not shown"
)
apart = [run["history"].get("trunk_distance") for run in sharing.values()]
apart = np.mean([distance for distance in apart if distance is not None])
answer(
    f"{verdict}. What it saves is certain: the single-task networks have "
    f"{single['parameters'] / hard['parameters']:.1f} times its parameters and take "
    f"{seconds['single-task'] / seconds['hard sharing']:.1f} times as long to predict. "
    f"In soft sharing the trunks end {100 * apart:.0f} % of the size of their weights "
    "apart (0 % is hard sharing)."
)

# %%
answer(
    "With hard sharing alone, seeds differ by up to "
    f"{seed_spread['age_mae']:.2f} years, "
    f"{100 * seed_spread['gender_accuracy']:.1f} and "
    f"{100 * seed_spread['ethnicity_accuracy']:.1f} percentage points: a smaller step "
    "between single runs, here or in section 7, may be chance."
)

# %% [markdown]
# <a id="gender"></a>
# ## 9 Gender recognition (assignment B)
#
# *What improves a small network, and does it know faces from elsewhere?* One task, colour pictures
# of 100×100 pixels. The networks learn from UTKFace's pictures, each in the set that the main
# assignment gave it, and are tested twice: on UTKFace's test pictures, and on a **foreign** set,
# class folders that other people collected. Who has class folders for training as well puts them
# into `data/gender/train` and `data/gender/test`.

# %% tags=["functions"]
UTKFACE_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_(\d{17})")
CLASS_FOLDERS = {  # how data sets call the folders of the two labels
    "male": ("male", "males", "man", "men", "m"),
    "female": ("female", "females", "woman", "women", "f", "w"),
}


def find_broken(folder, names):
    """Find the pictures that cannot be decoded.

    Parameters
    ----------
    folder : pathlib.Path
    names : sequence of str
        Paths of the pictures, relative to the folder.

    Returns
    -------
    set of str
    """

    def decodes(name):
        try:
            with PIL.Image.open(folder / name) as picture:
                picture.draft("L", (25, 25))  # a JPEG is read whole, at an eighth
                picture.load()
            return True
        except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError):
            return False

    with concurrent.futures.ThreadPoolExecutor() as pool:
        good = list(pool.map(decodes, names))
    return {name for name, fine in zip(names, good, strict=True) if not fine}


def drop_broken(rows, faults, folder):
    """Make the tables of pictures and of faults, with broken pictures among the faults.

    Parameters
    ----------
    rows : pandas.DataFrame
        ``img_name`` relative to the folder.
    faults : list of tuple
        ``img_name`` and ``fault`` of what was left out already.
    folder : pathlib.Path

    Returns
    -------
    table, faults : pandas.DataFrame
        The rows that can be used; columns ``img_name``, ``fault``, ``row`` (0), as
        ``find_faults`` returns them.
    """
    broken = find_broken(folder, rows["img_name"])
    faults = faults + [(name, "broken picture") for name in sorted(broken)]
    faults = pd.DataFrame(faults, columns=["img_name", "fault"]).assign(row=0)
    good = rows[~rows["img_name"].isin(broken)]
    return good.sort_values("img_name", ignore_index=True), faults


def list_utkface(folder, known):
    """Read the labels of UTKFace off its file names, and the sets off its time stamps.

    Parameters
    ----------
    folder : pathlib.Path
        Holds ``<age>_<gender>_<ethnicity>_<time stamp>.jpg…``, in subfolders or not.
    known : pandas.Series
        As ``read_split_table`` returns it: a picture's set by the hash of its name in
        the main assignment, which is the time stamp.

    Returns
    -------
    table : pandas.DataFrame
        Columns ``img_name`` (relative to the folder), the labels, ``split`` and
        ``main_name``, the picture's name in the main assignment; sorted.
    faults : pandas.DataFrame
        As ``find_faults`` returns them.

    Raises
    ------
    ValueError
        If no picture can be used.
    """
    rows, faults = [], []
    for path in sorted(path for path in folder.rglob("[!.]*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        parts = UTKFACE_NAME.match(path.name)
        main_name = f"{parts[4]}.jpg.chip.jpg" if parts else ""
        if not name.lower().endswith(PICTURES):
            faults.append((name, "file that is not an image"))
        elif parts is None or int(parts[1]) > AGES[-1]:
            faults.append((name, "name that holds no labels"))
        elif (digest := hash_name(main_name)) not in known:
            faults.append((name, "time stamp that is not in the main assignment"))
        else:
            rows.append((name, *map(int, parts.groups()[:3]), known[digest], main_name))
    columns = ["img_name", *LABELS, "split", "main_name"]
    table, faults = drop_broken(pd.DataFrame(rows, columns=columns), faults, folder)
    if table.empty:
        raise ValueError(
            f"{folder} holds no usable picture named as UTKFace names them, such as "
            "25_0_2_20170116174525125.jpg.chip.jpg."
        )
    return table, faults


def list_class_folders(folder, split):
    """List pictures that lie in one folder for each gender label.

    Parameters
    ----------
    folder : pathlib.Path
        Holds two folders whose names ``CLASS_FOLDERS`` knows; others are left alone.
    split : str
        Name of the set that the pictures make.

    Returns
    -------
    table : pandas.DataFrame
        Columns ``img_name`` (relative to the folder), ``gender``, ``split``, and
        missing values for the other labels; sorted.
    faults : pandas.DataFrame
        As ``find_faults`` returns them.

    Raises
    ------
    ValueError
        If a label has no usable picture.
    """
    rows, faults = [], []
    for code, names in enumerate(CLASS_FOLDERS.values()):
        below = [path for path in folder.iterdir() if path.name.lower() in names]
        for path in (path for part in below for path in part.rglob("[!.]*")):
            name = path.relative_to(folder).as_posix()
            if name.lower().endswith(PICTURES):
                rows.append((name, code, split))
            elif path.is_file():
                faults.append((name, "file that is not an image"))
    table = pd.DataFrame(rows, columns=["img_name", "gender", "split"])
    table, faults = drop_broken(table, faults, folder)
    for code, names in enumerate(CLASS_FOLDERS.values()):
        if not (table["gender"] == code).any():
            known = " or ".join(names)
            raise ValueError(f"{folder} has no usable picture in a folder named {known}.")
    return table.assign(age=np.nan, ethnicity=np.nan), faults


def has_class_folders(folder):
    """Tell whether a folder holds one folder for each gender label.

    Parameters
    ----------
    folder : pathlib.Path

    Returns
    -------
    bool
    """
    if not folder.is_dir():
        return False
    below = {path.name.lower() for path in folder.iterdir() if path.is_dir()}
    return all(below & set(names) for names in CLASS_FOLDERS.values())

# %% tags=["functions"]
def colour_pictures(data_dir, data, kind):
    """Choose the pictures that sections 9 to 11 learn from.

    Parameters
    ----------
    data_dir : pathlib.Path
        May hold ``UTKFace`` with the colour pictures.
    data : dict
        The main assignment's: ``table``, ``folder``, ``data_name``.
    kind : str
        As ``provide_data`` returns it; synthetic faces are used throughout.

    Returns
    -------
    dict
        ``table`` (``img_name``, labels, ``split``), ``folder``, ``data_name``,
        ``faults`` (as ``find_faults`` returns them) and ``sentence``.
    """
    folder = data_dir / "UTKFace"
    if folder.is_dir() and kind != "sample":
        table, faults = list_utkface(folder, read_split_table())
        sentence = f"UTKFace's {len(table):,} colour pictures in `{folder.as_posix()}`"
        found = {"table": table, "faults": faults, "folder": folder}
        return data | found | {"sentence": sentence}
    sentence = (
        f"the main assignment's {len(data['table']):,} grey pictures, enlarged: "
        "without colour, and without the detail that the larger size could show "
        f"(UTKFace's own pictures would go into `{folder.as_posix()}`)"
    )
    faults = pd.DataFrame(columns=["img_name", "fault", "row"])
    name = f"{data['data_name']}-enlarged"
    return data | {"faults": faults, "sentence": sentence, "data_name": name}


def load_gender_data(data_dir, colour):
    """Find the sets of assignment B.

    Parameters
    ----------
    data_dir : pathlib.Path
        ``gender/train`` and ``gender/test`` may hold class folders to learn from, any
        other of its folders those of the foreign set.
    colour : dict
        As ``colour_pictures`` returns it: what is learned from otherwise.

    Returns
    -------
    dict
        ``sets``: table and folder by set (``train``, ``val``, perhaps ``test`` and
        ``foreign_test``); ``data_name``, ``faults``, ``sentence``.
    """
    sets, faults = {}, [colour["faults"]]
    own = {"train": data_dir / "gender" / "train", "val": data_dir / "gender" / "test"}
    if all(map(has_class_folders, own.values())):
        faults = []
        for name, folder in own.items():
            table, odd = list_class_folders(folder, name)
            sets[name] = table, folder
            faults.append(odd)
        data_name = "own-" + digest_of(sorted(sets["train"][0]["img_name"]))
        sentence = "the class folders in `gender`"
    else:
        for name in SPLITS:
            rows = colour["table"]["split"] == name
            sets[name] = colour["table"][rows], colour["folder"]
        data_name, sentence = colour["data_name"], colour["sentence"]
    foreign = [path for path in sorted(data_dir.glob("*")) if has_class_folders(path)]
    for folder in foreign[:1]:
        table, odd = list_class_folders(folder, "foreign_test")
        sets["foreign_test"] = table, folder
        faults.append(odd)
        sentence += f"; the foreign set is `{folder.name}`"
    return {
        "sets": sets,
        "data_name": data_name,
        "faults": pd.concat(faults, ignore_index=True),
        "sentence": sentence if foreign else f"{sentence}; no foreign set was found",
    }


def chapter_context(context, data, sets):
    """Make what ``fit_or_load`` and ``predict_or_load`` need in a chapter.

    Parameters
    ----------
    context : dict
        Of the main assignment.
    data : dict
        ``data_name``, and the ``faults`` and ``sentence`` that are left out here.
    sets : dict[str, tuple]
        Table and folder by set, ``train`` and ``val`` among them.

    Returns
    -------
    contexts : dict[str, dict]
        By set.
    half : pandas.Series
        Of the rows of ``val``, as ``validation_part`` returns it.
    """
    (train, folder), (val, _) = sets["train"], sets["val"]
    half = validation_part(val["main_name" if "main_name" in val else "img_name"])
    tables = {"train": train, "select": val[half == "select"]}
    own = context | {"tables": tables, "data_name": data["data_name"], "folder": folder}
    return {name: own | {"folder": place} for name, (_, place) in sets.items()}, half


def predict_sets(run, sets, contexts, names=("val", "test", "foreign_test")):
    """Predict several sets by one run.

    Parameters
    ----------
    run : dict
        As ``fit_or_load`` returns it.
    sets : dict[str, tuple]
        Table and folder by set.
    contexts : dict[str, dict]
        As ``chapter_context`` returns them.
    names : sequence of str
        Those that are not there are left out.

    Returns
    -------
    dict[str, pandas.DataFrame]
        As ``predict_table`` returns them, by set.
    """
    return {
        name: predict_or_load(run, sets[name][0], contexts[name])
        for name in names
        if name in sets
    }


def gender_counts(sets):
    """Count the gender labels of each set.

    Parameters
    ----------
    sets : dict[str, tuple]
        Table and folder by set.

    Returns
    -------
    pandas.DataFrame
        One row per set.
    """
    rows = []
    for name, (table, _) in sets.items():
        counts = [int((table["gender"] == code).sum()) for code in range(len(GENDERS))]
        shares = [f"{n:,} ({100 * n / len(table):.1f} %)" for n in counts]
        row = {"Set": name.replace("_", " "), "Images": f"{len(table):,}"}
        rows.append(row | dict(zip(GENDERS, shares, strict=True)))
    return pd.DataFrame(rows)

# %%
with SKIPPABLE, chapter("B"):
    main_data = {"table": table, "folder": image_folder, "data_name": data_name}
    colour = colour_pictures(pathlib.Path(DATA_DIR), main_data, data_kind)
    gender = load_gender_data(pathlib.Path(DATA_DIR), colour)
    gender_contexts, gender_half = chapter_context(context, gender, gender["sets"])
    show_table(gender_counts(gender["sets"]))
    show_table(summarise_faults(gender["faults"]))
    answer(f"This chapter uses {gender['sentence']}.")

# %% [markdown]
# ### The baseline
#
# Exactly the figure of the assignment, row by row. (Its text gives the pools a stride of 1; only
# the figure's stride of 2 gives the figure's sizes.)

# %% tags=["functions"]
def build_baseline(hyperparameters):
    """Build assignment B's baseline, exactly as its figure gives it.

    Parameters
    ----------
    hyperparameters : dict
        ``seed``.

    Returns
    -------
    keras.Model
        Input ``(batch, 100, 100, 3)`` in [0, 1], output ``gender``; 544,593 parameters.
    """
    keras.utils.set_random_seed(hyperparameters["seed"])
    x = inputs = keras.Input((100, 100, 3), name="image")
    for number in (1, 2):
        x = keras.layers.Conv2D(16, 3, activation="relu", name=f"conv{number}")(x)
        x = keras.layers.MaxPooling2D(2, name=f"pool{number}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(64, activation="relu", name="dense")(x)
    x = keras.layers.Dense(1, activation="sigmoid", name="gender", dtype="float32")(x)
    return keras.Model(inputs, {"gender": x}, name="gender_baseline")


NETWORKS["gender baseline"] = build_baseline
BASELINE_FIGURE = (  # of the assignment: kind, output shape, parameters
    ("Conv2D", (98, 98, 16), 448),
    ("MaxPooling2D", (49, 49, 16), 0),
    ("Conv2D", (47, 47, 16), 2_320),
    ("MaxPooling2D", (23, 23, 16), 0),
    ("Flatten", (8_464,), 0),
    ("Dense", (64,), 541_760),
    ("Dense", (1,), 65),
)


def check_baseline(model):
    """Compare a model with the figure of assignment B, row by row.

    Parameters
    ----------
    model : keras.Model

    Returns
    -------
    pandas.DataFrame
        One row per layer of the figure: what it asks for, and whether the model has it.
    """
    rows = []
    layers = model.layers[1:]
    for number, (kind, shape, count) in enumerate(BASELINE_FIGURE):
        own = layers[number] if number < len(layers) else None
        found = own and (type(own).__name__, own.output.shape[1:], own.count_params())
        rows.append(
            {
                "Layer": kind,
                "Output shape": " × ".join(map(str, shape)),
                "Parameters": f"{count:,}",
                "Built so": "yes" if found == (kind, shape, count) else f"NO: {found}",
            }
        )
    asked = sum(count for *_, count in BASELINE_FIGURE)
    whole = model.count_params() == asked and len(layers) == len(BASELINE_FIGURE)
    rows.append(
        {
            "Layer": "Total",
            "Output shape": "",
            "Parameters": f"{asked:,}",
            "Built so": "yes" if whole else f"NO: {model.count_params():,}",
        }
    )
    return pd.DataFrame(rows)


def plot_gender(views):
    """Plot the ROC curves of several sets, and the confusion matrix of each.

    Parameters
    ----------
    views : dict[str, pandas.DataFrame]
        As ``predict_table`` returns them, by set.

    Returns
    -------
    matplotlib.figure.Figure
    """
    shape = {"figsize": (3.2 * (1 + len(views)), 3.1), "layout": "constrained"}
    figure, axes = plt.subplots(1, 1 + len(views), **shape)
    axes[0].set_prop_cycle(color=[SET_COLOURS[name] for name in views])
    curves = {
        name.replace("_", " "): (view["gender"], view["gender_probability"])
        for name, view in views.items()
    }
    draw_roc(axes[0], curves)
    axes[0].set_title("ROC of the label female")
    for axis, (name, view) in zip(axes[1:], views.items(), strict=True):
        guess = (view["gender_probability"] >= 0.5).astype(int)
        draw_confusion(axis, view["gender"], guess, GENDERS)
        axis.set_title(name.replace("_", " ").capitalize())
    return figure


SET_COLOURS = SPLIT_COLOURS | {"foreign_test": "black"}

# %%
with SKIPPABLE, chapter("B"):
    show_table(check_baseline(make_network(GENDER_BASELINE)))

# %%
with SKIPPABLE, chapter("B"):
    gender_runs = {
        "gender_baseline": fit_or_load(
            "gender_baseline", runs_to_do["gender_baseline"], gender_contexts["train"]
        )
    }
    show_figure(plot_curves(gender_runs["gender_baseline"]["history"]))

# %% [markdown]
# Validation is shown whole here and below; half of it chose the epoch.

# %%
with SKIPPABLE, chapter("B"):
    gender_views = {
        "gender_baseline": predict_sets(
            gender_runs["gender_baseline"], gender["sets"], gender_contexts
        )
    }
    show_figure(plot_gender(gender_views["gender_baseline"]))

# %%
with SKIPPABLE, chapter("B"):
    baseline_figures = {
        name.replace("_", " "): evaluate(view)
        for name, view in gender_views["gender_baseline"].items()
    }
    show_table(metrics_table(baseline_figures))

# %% [markdown]
# ### Seven experiments
#
# On a third of the training pictures, to be quick. Each changes one thing in the one named before;
# the selection half of validation says what is kept, the held-out half how sure that is.

# %%
with SKIPPABLE, chapter("B"):
    trials = {
        name: fit_or_load(name, runs_to_do[name], gender_contexts["train"])
        for name in GENDER_TRIALS
    }
    trial_val = {
        name: predict_sets(run, gender["sets"], gender_contexts, ["val"])["val"]
        for name, run in trials.items()
    }
    held_trials = {
        name: val[gender_half == "calibrate"] for name, val in trial_val.items()
    }
    trial_rows = []
    for name, former in GENDER_TRIALS.items():
        own = trials[name]["history"]
        change, shown = "the baseline", ""
        if former:
            settings_before = trials[former]["history"]["hyperparameters"]
            change = describe_step(settings_before, own["hyperparameters"])
            step = compare(held_trials[former], held_trials[name], ["gender_accuracy"])
            shown = describe_change("gender_accuracy", step["gender_accuracy"])
        figures = evaluate(trial_val[name][gender_half == "select"])
        trial_rows.append(
            {
                "Run": name.removeprefix("gender_"),
                "Changes": f"{former or ''}: {change}".removeprefix("gender_"),
                "Selection half: accuracy (%)": format_metric("gender_accuracy", figures),
                "Held-out half": shown,
                "Parameters": f"{own['parameters']:,}",
                "Training": duration(own["seconds"]),
            }
        )
    show_table(pd.DataFrame(trial_rows))

# %% [markdown]
# ### The improved model
#
# What the experiments kept, with two convolutions in the third and fourth block, on all training
# pictures.

# %%
with SKIPPABLE, chapter("B"):
    gender_runs["gender_improved"] = fit_or_load(
        "gender_improved", runs_to_do["gender_improved"], gender_contexts["train"]
    )
    show_table(layer_table(make_network(runs_to_do["gender_improved"])))
    show_figure(plot_curves(gender_runs["gender_improved"]["history"]))

# %%
with SKIPPABLE, chapter("B"):
    gender_views["gender_improved"] = predict_sets(
        gender_runs["gender_improved"], gender["sets"], gender_contexts
    )
    show_figure(plot_gender(gender_views["gender_improved"]))

# %% [markdown]
# ### Transfer: features of networks that learned something else
#
# A frozen network turns each picture and its mirror image into features, once; they are kept, and a
# new head with one hidden layer learns from them. `VGG16` learned ImageNet's thousand classes
# (Simonyan & Zisserman 2015). The trunk of the main network learned age, gender and ethnicity from
# 48×48 grey levels of the same training people: it transfers to no new task, but to other pictures.

# %% tags=["functions"]
def load_pretrained(name, size):
    """Load a network of ``keras.applications`` without its classifier.

    Parameters
    ----------
    name : str
        A key of ``PRETRAINED_FILES``.
    size : int
        Side of the pictures in pixels.

    Returns
    -------
    keras.Model
        From pictures in [0, 1] to feature maps. The weights come from the folder
        ``IMAGENET``; where it is not set, they are downloaded once into
        ``~/.keras/models``.

    Raises
    ------
    RuntimeError
        If the weights cannot be had; the message says what to do.
    """
    file = PRETRAINED_FILES[name]
    local = pathlib.Path(IMAGENET) / file
    weights = str(local) if IMAGENET else "imagenet"
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # seconds: no endless wait where nothing answers
    try:
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
            network = getattr(keras.applications, name)(
                include_top=False, weights=weights, input_shape=(size, size, 3)
            )
    except Exception as why:  # get_file raises a plain Exception
        raise RuntimeError(
            f"the ImageNet weights of {name} cannot be had here; where there is a "
            f"network they are fetched once; else set IMAGENET to a folder with {file}"
        ) from why
    finally:
        socket.setdefaulttimeout(before)
    inputs = keras.Input((size, size, 3), name="image")
    levels = keras.layers.Conv2D(3, 1, trainable=False, name="imagenet_levels")
    x = levels(inputs)  # to blue, green, red from 0 to 255, less ImageNet's means
    turned = 255 * np.eye(3)[::-1].reshape(1, 1, 3, 3)
    levels.set_weights([turned, -np.array([103.939, 116.779, 123.68])])
    return keras.Model(inputs, network(x, training=False), name=name.lower())


def build_frozen(hyperparameters, runs):
    """Build the frozen network whose features a run learns from.

    Parameters
    ----------
    hyperparameters : dict
        ``pretrained``, a network of ``keras.applications``, or ``features``, the name
        of a run whose trunk is taken.
    runs : dict[str, dict]
        As ``fit_or_load`` returns them, by name.

    Returns
    -------
    keras.Model
        From pictures in [0, 1] to features ``(batch, n)``: VGG16's last feature maps
        averaged over the places, or the trunk's ``Dense`` layer.
    """
    if "pretrained" in hyperparameters:
        name = hyperparameters["pretrained"]
        network = load_pretrained(name, hyperparameters["shape"][0])
        x = keras.layers.GlobalAveragePooling2D(name="features")(network.output)
    else:
        name = hyperparameters["features"]
        network = load_network(runs[name])
        x = network.get_layer("shared_dense").output
    frozen = keras.Model(network.input, x, name=f"{name.lower()}_features")
    frozen.trainable = False
    return frozen


def read_features(frozen, table, folder, path):
    """Compute the features of pictures and of their mirror images, and keep them.

    Parameters
    ----------
    frozen : keras.Model
        As ``build_frozen`` returns it.
    table : pandas.DataFrame
        Rows of one set.
    folder : pathlib.Path
        Pictures.
    path : pathlib.Path
        Keeps the features as float16, ``.npz``; where it has those of the table's
        pictures already, nothing is done.
    """
    names = table["img_name"].map(hash_name).tolist()
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            if file["names"].tolist() == names:
                return
    flow = make_flow(make_datagen(), table, folder, shape=frozen.input_shape[1:])
    order = {name: row for row, name in enumerate(flow.filenames)}
    rows = [order[name] for name in table["img_name"]]
    views = (LabelledBatches(flow), LabelledBatches(flow, mirrored=True))
    values = np.stack([frozen.predict(view, verbose=0)[rows] for view in views])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, names=names, values=values.astype("float16"))


class FeatureBatches(keras.utils.PyDataset):
    """Batches of features with their labels, in place of pictures.

    Parameters
    ----------
    features : numpy.ndarray
        Shape ``(2, n, count)``: of the pictures, and of their mirror images.
    table : pandas.DataFrame
        The same pictures, with labels.
    hyperparameters : dict
        ``tasks``, ``batch_size``, ``seed``.
    training : bool
        Whether to shuffle, and to take either view of a picture by chance.
    """

    def __init__(self, features, table, hyperparameters, training):
        super().__init__()
        self.features, self.training = features, training
        self.batch_size = hyperparameters["batch_size"]
        tasks = hyperparameters["tasks"]
        self.labels = {task: table[task].to_numpy("float32") for task in tasks}
        self.generator = np.random.default_rng(hyperparameters["seed"])
        self.on_epoch_end()

    def __len__(self):
        return -(-self.features.shape[1] // self.batch_size)

    def __getitem__(self, index):
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        rows, views = self.rows[part], self.views[part]
        labels = {task: values[rows] for task, values in self.labels.items()}
        return self.features[views, rows], labels

    def on_epoch_end(self):
        """Shuffle anew and choose the views of the next epoch, if training."""
        count = self.features.shape[1]
        self.rows, self.views = np.arange(count), np.zeros(count, int)
        if self.training:
            self.generator.shuffle(self.rows)
            self.views = self.generator.integers(0, 2, count)


def read_feature_batches(table, folder, hyperparameters, training):
    """Make batches of features that ``read_features`` has kept.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of one set.
    folder : pathlib.Path
        Holds ``<set>.npz``.
    hyperparameters : dict
        As for ``FeatureBatches``.
    training : bool

    Returns
    -------
    FeatureBatches
    """
    (split,) = table["split"].unique()
    with np.load(folder / f"{split}.npz", allow_pickle=False) as file:
        place = pd.Series(range(len(file["names"])), index=file["names"])
        values = file["values"][:, place[table["img_name"].map(hash_name)]]
    return FeatureBatches(values.astype("float32"), table, hyperparameters, training)


def build_feature_head(hyperparameters):
    """Build the new head of a frozen network.

    Parameters
    ----------
    hyperparameters : dict
        ``feature_count``, ``dropout``, ``tasks``, ``seed``, and as for ``build_head``.

    Returns
    -------
    keras.Model
        Input: features ``(batch, feature_count)``; outputs as ``build_head`` has them.
    """
    keras.utils.set_random_seed(hyperparameters["seed"])
    inputs = keras.Input((hyperparameters["feature_count"],), name="features")
    x = keras.layers.Dropout(hyperparameters["dropout"], name="features_dropout")(inputs)
    outputs = {}
    for task in hyperparameters["tasks"]:
        outputs |= build_head(x, task, hyperparameters)
    return keras.Model(inputs, outputs, name="feature_head")


NETWORKS["feature head"] = build_feature_head


def learn_from_features(name, hyperparameters, sets, contexts, runs):
    """Train a new head on the features of a frozen network, or load it.

    Parameters
    ----------
    name : str
    hyperparameters : dict
        As for ``build_feature_head``, and see ``build_frozen``.
    sets : dict[str, tuple]
        Table and folder by set.
    contexts : dict[str, dict]
        As ``chapter_context`` returns them.
    runs : dict[str, dict]
        As for ``build_frozen``.

    Returns
    -------
    dict
        As ``fit_or_load`` returns it; its weights are those of both, from pictures on.
    """
    context = contexts["train"]
    where = context["data_name"], context["model_dir"], context["shipped"]
    own, finished = find_run(name, hyperparameters, *where)
    if finished is None:
        frozen = build_frozen(hyperparameters, runs)
        kept = of_run(own, ".features")
        for part in ("train", "val"):
            read_features(frozen, *sets[part], kept / f"{part}.npz")
        context = context | {"folder": kept}
    run = fit_or_load(name, hyperparameters, context)
    weights = of_run(run["stem"], ".keras")
    if run["trained_here"]:
        head = load_network(run)
        whole = keras.Model(frozen.input, head(frozen.output), name=frozen.name)
        whole.save(weights)
        counts = {"parameters": whole.count_params(), "trained": head.count_params()}
        run["history"] |= counts
        text = json.dumps(run["history"], indent=1) + "\n"
        of_run(run["stem"], ".json").write_text(text)
        shutil.rmtree(kept)
    return run

# %%
with SKIPPABLE, chapter("B: gender_mtl_transfer"):
    gender_runs["gender_mtl_transfer"] = learn_from_features(
        "gender_mtl_transfer",
        runs_to_do["gender_mtl_transfer"],
        gender["sets"],
        gender_contexts,
        {"mtl": main},
    )

# %%
with SKIPPABLE, chapter("B: gender_vgg16"):
    gender_runs["gender_vgg16"] = learn_from_features(
        "gender_vgg16",
        runs_to_do["gender_vgg16"],
        gender["sets"],
        gender_contexts,
        {},
    )

# %%
with SKIPPABLE, chapter("B"):
    for name in [name for name in gender_runs if name not in gender_views]:
        gender_views[name] = predict_sets(
            gender_runs[name], gender["sets"], gender_contexts
        )
        show_figure(plot_curves(gender_runs[name]["history"]))
        show_figure(plot_gender(gender_views[name]))
    chapter_results += [
        (gender_runs, gender_views),
        (trials, {name: {"val": val} for name, val in trial_val.items()}),
    ]

# %% [markdown]
# ### Which one is best, and does it hold elsewhere?
#
# Accuracy on the held-out half of validation, on UTKFace's test pictures and on the foreign set. The
# drop to the last is what a data set's own test pictures do not tell.

# %% tags=["functions"]
def plot_drop(figures, metric):
    """Plot a metric of several models on several sets, with its intervals.

    Parameters
    ----------
    figures : dict[str, dict[str, dict]]
        As ``evaluate`` returns them, by model and set.
    metric : str
        A share.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    sets = list(next(iter(figures.values())))
    for number, name in enumerate(sets):
        values = np.array([100 * views[name][metric] for views in figures.values()])
        ends = np.array([views[name][f"{metric}_ci95"] for views in figures.values()])
        places = np.arange(len(figures)) + 0.2 * (number - (len(sets) - 1) / 2)
        style = {"fmt": "o", "capsize": 3, "color": SET_COLOURS[name]}
        label = name.replace("_", " ")
        axes.errorbar(places, values, np.abs(100 * ends.T - values), label=label, **style)
    axes.set_xticks(range(len(figures)), figures)
    axes.set_ylabel(METRIC_NAMES[metric])
    axes.legend(frameon=False)
    return figure

# %%
with SKIPPABLE, chapter("B"):
    held_views = {
        model: views | {"val": views["val"][gender_half == "calibrate"]}
        for model, views in gender_views.items()
    }
    gender_figures = {
        model: {name: evaluate(view) for name, view in views.items()}
        for model, views in held_views.items()
    }
    show_figure(plot_drop(gender_figures, "gender_accuracy"))

# %%
with SKIPPABLE, chapter("B"):
    furthest = list(held_views["gender_improved"])[-1]
    against = {
        (name, "gender_improved"): compare(
            held_views[name][furthest],
            held_views["gender_improved"][furthest],
            ["gender_accuracy", "gender_auc"],
        )
        for name in held_views
        if name != "gender_improved"
    }
    show_table(
        metrics_table({name: views[furthest] for name, views in gender_figures.items()})
    )

# %%
with SKIPPABLE, chapter("B"):
    metric = "gender_accuracy"
    told = "; ".join(
        f"against {pair[0]} {describe_change(metric, step[metric])}"
        for pair, step in against.items()
    )
    drops = "; ".join(
        f"{name} {describe_change('gender_accuracy', drop['gender_accuracy'])}"
        for name, views in held_views.items()
        for drop in [compare_apart(views["val"], views[furthest], ["gender_accuracy"])]
    )
    answer(
        f"On the {furthest.replace('_', ' ')} pictures the improved model is: {told}. "
        f"From validation to them: {drops}."
    )

# %% [markdown]
# ### Against the literature
#
# | Paper | Pictures | Method | Gender accuracy there |
# |---|---|---|---|
# | Levi & Hassner, CVPRW 2015 | Adience: web photos as they come, aligned, 227×227 colour crops | convolutional network of three convolutions and two hidden layers, from scratch, with Dropout | 86.8 % ± 1.4, five-fold |
# | Yaman et al., CVPRW 2019 | profile faces and ears | VGG-16 and ResNet-50 fine-tuned, fused | other pictures: not comparable |
# | Yang et al., ICPR 2006 | aligned grey faces | normalised textures; SVM, LDA and boosting compared | |
# | Xu et al., ICPR 2008 | frontal faces | shape and appearance features together, SVM | |
#
# Figures of other data sets compare with ours only roughly: other pictures, other people, other
# labels, and mostly a test within the same data set, which the drop above shows to flatter.

# %% [markdown]
# <a id="branches"></a>
# ## 10 Age and gender in two branches (assignment C)
#
# *Does a pretrained network beat an own one?* 4,000 of UTKFace's training pictures and 1,000 of its
# validation pictures, 128×128 in colour; the same 5,000 for every run, drawn by `SEED`. Model A is the
# assignment's small network, model B a `ResNet50` with ImageNet's weights, fine-tuned. The
# assignment's 1,000 pictures for validation choose the epoch and compare the trials, so what they say
# is flattered; UTKFace's test pictures, none of them in the subset, say how good it is.

# %% tags=["functions"]
def draw_subset(table, sizes, seed=SEED):
    """Draw a subset of pictures of each set.

    Parameters
    ----------
    table : pandas.DataFrame
        Column ``split``.
    sizes : dict[str, int]
        Pictures by set; a set that has fewer is taken whole.
    seed : int

    Returns
    -------
    dict[str, pandas.DataFrame]
        By set, in the table's order.
    """
    drawn = {}
    for name, size in sizes.items():
        rows = table[table["split"] == name]
        size = min(size, len(rows))
        drawn[name] = rows.sample(size, random_state=seed).sort_index()
    return drawn


def dense_branch(features, task, hyperparameters):
    """Stack the dense layers of one branch of assignment C.

    Parameters
    ----------
    features : keras.KerasTensor
        Shape ``(batch, n)``.
    task : str
        ``"age"`` or ``"gender"``.
    hyperparameters : dict
        ``head_units`` (one entry per layer) and ``dropout`` after each layer.

    Returns
    -------
    keras.KerasTensor
        Shape ``(batch, 1)``: years, or the probability of the label female.
    """
    for number, units in enumerate(hyperparameters["head_units"], start=1):
        name = f"{task}_dense{number}"
        features = keras.layers.Dense(units, "relu", name=name)(features)
        rate = hyperparameters["dropout"]
        features = keras.layers.Dropout(rate, name=f"{name}_dropout")(features)
    options = {"name": task, "dtype": "float32"}
    if task == "gender":
        return keras.layers.Dense(1, "sigmoid", **options)(features)
    start = keras.initializers.Constant(30)  # years, about the mean: no long way there
    return keras.layers.Dense(1, bias_initializer=start, **options)(features)


def build_two_branches(hyperparameters):
    """Build model A of assignment C: a short trunk, one branch for each task.

    Parameters
    ----------
    hyperparameters : dict
        ``filters``: of the trunk's three convolutions and of a branch's three;
        ``shape``, ``tasks``, ``seed``, and as for ``dense_branch``.

    Returns
    -------
    keras.Model
        Input ``(batch, *shape)`` in [0, 1], outputs ``age`` (years) and ``gender``.
    """
    keras.utils.set_random_seed(hyperparameters["seed"])
    layers, filters = keras.layers, hyperparameters["filters"]

    def convolution(x, place, name):
        options = {"padding": "same", "activation": "relu", "name": name}
        return layers.Conv2D(filters[place], 3, **options)(x)

    def normalisation(x, name):  # 63 steps per epoch: averages over 10 steps, not 100
        return layers.BatchNormalization(momentum=0.9, name=name)(x)

    inputs = keras.Input(picture_shape(hyperparameters), name="image")
    x = convolution(inputs, 0, "shared_conv1")
    x = layers.MaxPooling2D(2, name="shared_pool1")(convolution(x, 1, "shared_conv2"))
    x = normalisation(x, "shared_norm")
    x = layers.MaxPooling2D(2, name="shared_pool2")(convolution(x, 2, "shared_conv3"))
    outputs = {}
    for task in hyperparameters["tasks"]:
        y = x
        for number in (1, 2):
            y = convolution(y, 2 + number, f"{task}_conv{number}")
            y = layers.MaxPooling2D(2, name=f"{task}_pool{number}")(y)
            y = normalisation(y, f"{task}_norm{number}")
        y = layers.Flatten(name=f"{task}_flatten")(convolution(y, 5, f"{task}_conv3"))
        outputs[task] = dense_branch(y, task, hyperparameters)
    return keras.Model(inputs, outputs, name="two_branches")


def build_fine_tuned(hyperparameters):
    """Build model B of assignment C: ``ResNet50``, trained on, with two new branches.

    Parameters
    ----------
    hyperparameters : dict
        ``pretrained`` (see ``load_pretrained``), ``shape``, ``tasks``, ``seed``, and as
        for ``dense_branch``.

    Returns
    -------
    keras.Model
        As ``build_two_branches`` returns it. Batch normalisation keeps ImageNet's
        statistics.

    Raises
    ------
    RuntimeError
        If the weights cannot be had, see ``load_pretrained``.
    """
    keras.utils.set_random_seed(hyperparameters["seed"])
    size = picture_shape(hyperparameters)[0]
    network = load_pretrained(hyperparameters["pretrained"], size)
    outputs = {}
    for task in hyperparameters["tasks"]:
        x = keras.layers.Flatten(name=f"{task}_flatten")(network.output)
        outputs[task] = dense_branch(x, task, hyperparameters)
    return keras.Model(network.input, outputs, name="resnet50_two_branches")


NETWORKS |= {"two branches": build_two_branches, "resnet50": build_fine_tuned}


def save_h5(model, path):
    """Save a model as ``.h5``, as the assignment asks.

    Parameters
    ----------
    model : keras.Model
    path : pathlib.Path
    """
    level = logging.getLogger("absl").level
    logging.getLogger("absl").setLevel(logging.ERROR)  # it calls the format old
    try:
        model.save(path)
    finally:
        logging.getLogger("absl").setLevel(level)


def plot_models(histories):
    """Plot the curves of several runs over one another, one panel for each task.

    Parameters
    ----------
    histories : dict[str, dict]
        As ``fit_or_load`` keeps them, by name.

    Returns
    -------
    matplotlib.figure.Figure
    """
    first = next(iter(histories.values()))["epochs"]
    curves = {key: curve for key, curve in CURVES.items() if key in first}
    shape = {"figsize": (4.5 * len(curves), 3), "layout": "constrained"}
    figure, (axes,) = plt.subplots(1, len(curves), squeeze=False, **shape)
    for axis, (key, (title, unit, _)) in zip(axes, curves.items(), strict=True):
        factor = 100 if "%" in unit else 1
        for number, (name, history) in enumerate(histories.items()):
            numbers = np.arange(1, len(history["epochs"][key]) + 1)
            for prefix, style in (("", "--"), ("val_", "-")):
                values = factor * np.array(history["epochs"][prefix + key])
                label = name if prefix else None
                axis.plot(numbers, values, style, color=f"C{number}", label=label)
        axis.set(title=title, xlabel="epoch", ylabel=unit)
    axes[0].legend(frameon=False, title="dashed: training")
    return figure

# %%
with SKIPPABLE, chapter("C"):
    subset = draw_subset(colour["table"], {"train": 4_000, "val": 1_000})
    branch_sets = {name: (rows, colour["folder"]) for name, rows in subset.items()}
    test_rows = colour["table"][colour["table"]["split"] == "test"]
    branch_sets["test"] = test_rows, colour["folder"]
    branch_contexts, _ = chapter_context(context, colour, branch_sets)
    branch_contexts["train"]["tables"] = subset | {"select": subset["val"]}
    show_table(layer_table(make_network(TWO_BRANCHES)))

# %% [markdown]
# ### Trials
#
# Ten epochs each; every trial changes one thing in the first.

# %%
with SKIPPABLE, chapter("C"):
    branch_trials = {
        name: fit_or_load(name, runs_to_do[name], branch_contexts["train"])
        for name in BRANCH_TRIALS
    }
    first_trial = branch_trials["branches_trial1"]["history"]["hyperparameters"]
    trial_tables = {
        name: predict_or_load(run, subset["val"], branch_contexts["val"])
        for name, run in branch_trials.items()
    }
    trial_figures = {name: evaluate(val) for name, val in trial_tables.items()}
    show_table(
        pd.DataFrame(
            {
                "Run": name.removeprefix("branches_"),
                "Changes": describe_step(
                    first_trial, run["history"]["hyperparameters"]
                )
                or describe_hyperparameters(
                    first_trial, ["loss_weights", "optimizer", "learning_rate"]
                ),
            }
            | headline(trial_figures[name])
            | {"Training": duration(run["history"]["seconds"])}
            for name, run in branch_trials.items()
        )
    )

# %% [markdown]
# ### Model A, with three seeds

# %%
with SKIPPABLE, chapter("C"):
    branch_runs = {
        name: fit_or_load(name, runs_to_do[name], branch_contexts["train"])
        for name in BRANCH_SEEDS
        if name in runs_to_do
    }
    branch_views = {
        name: predict_sets(run, branch_sets, branch_contexts)
        for name, run in branch_runs.items()
    }
    save_h5(
        load_network(branch_runs["age_gender_A"]), results_folder / "age_gender_A.h5"
    )

# %% [markdown]
# ### Model B

# %%
with SKIPPABLE, chapter("C: age_gender_B"):
    branch_runs["age_gender_B"] = fit_or_load(
        "age_gender_B", runs_to_do["age_gender_B"], branch_contexts["train"]
    )
    branch_views["age_gender_B"] = predict_sets(
        branch_runs["age_gender_B"], branch_sets, branch_contexts
    )
    save_h5(
        load_network(branch_runs["age_gender_B"]), results_folder / "age_gender_B.h5"
    )

# %% [markdown]
# ### Which one is better?

# %%
with SKIPPABLE, chapter("C"):
    compared = {
        name: run["history"]
        for name, run in branch_runs.items()
        if "_seed" not in name
    }
    show_figure(plot_models(compared))

# %%
with SKIPPABLE, chapter("C"):
    chapter_results += [
        (branch_runs, branch_views),
        (branch_trials, {name: {"val": val} for name, val in trial_tables.items()}),
    ]
    branch_rows = [
        result_row(run, name, view)
        for model, run in branch_runs.items()
        for name, view in branch_views[model].items()
    ]
    show_table(results_table(branch_rows))

# %%
with SKIPPABLE, chapter("C"):
    of_a = [row for row in branch_rows if row["model"].startswith("age_gender_A")]
    means = {
        name: [
            np.mean([row[metric] for row in of_a if row["split"] == name])
            for metric in ("age_mae", "gender_accuracy")
        ]
        for name in ("val", "test")
    }
    told = (
        f"Model A reaches on validation {means['val'][0]:.2f} years and "
        f"{100 * means['val'][1]:.1f} %, on the test pictures "
        f"{means['test'][0]:.2f} years and {100 * means['test'][1]:.1f} % (means over "
        f"{len(branch_runs) - ('age_gender_B' in branch_runs)} seeds; the assignment's "
        "report says 6.93 years and 86 % on validation)."
    )
    if "age_gender_B" in branch_views:
        step = compare(
            branch_views["age_gender_A"]["test"],
            branch_views["age_gender_B"]["test"],
            ["age_mae", "gender_accuracy"],
        )
        told += f" Model B against model A on the test pictures: {describe_changes(step)}."
    answer(told)

# %% [markdown]
# <a id="subclassed"></a>
# ## 11 Age by a subclassed model and an own loop (assignment D)
#
# *Regression or classification, ReLU or linear, and does it help to know the gender?* A class derived
# from `keras.Model`, trained by its own loop of `GradientTape`, on a third of the training pictures
# at 100×100.

# %% tags=["functions"]
class AgeEstimator(keras.Model):
    """A network that reads the age, as a class of its own with a loop of its own.

    Parameters
    ----------
    hyperparameters : dict
        ``filters`` (one entry per block of two convolutions and a pooling),
        ``shared_units``, ``dropout``, ``shape``; ``answer``: ``"relu"`` or
        ``"linear"`` (hundreds of years), or ``"classes"`` (a class for each age, the
        expected age is the answer); ``informed``: whether the label of the gender
        joins the features.
    """

    def __init__(self, hyperparameters, **options):
        super().__init__(name="age_estimator", **options)
        self.settings = dict(hyperparameters)
        layers = keras.layers
        self.blocks = []
        for number, filters in enumerate(hyperparameters["filters"], start=1):
            for part in "ab":
                convolution = {"padding": "same", "name": f"conv{number}{part}"}
                convolution |= {"kernel_initializer": "he_normal"}
                self.blocks.append(layers.Conv2D(filters, 3, 1, activation="relu", **convolution))
            self.blocks.append(layers.MaxPooling2D(2, name=f"pool{number}"))
        self.flatten = layers.Flatten(name="flatten")
        self.dropout = layers.Dropout(hyperparameters["dropout"], name="dropout")
        self.dense = layers.Dense(hyperparameters["shared_units"], "relu", name="dense")
        classes = hyperparameters["answer"] == "classes"
        start = keras.initializers.Constant(0 if classes else 0.3)  # 30 years: alive
        self.answer = layers.Dense(
            len(AGES) if classes else 1,
            "softmax" if classes else hyperparameters["answer"],
            bias_initializer=start,
            name="age_classes" if classes else "age_hundreds",
            dtype="float32",
        )

    def call(self, inputs, training=False):
        """Compute the answer.

        Parameters
        ----------
        inputs : tensor or sequence of tensor
            Pictures ``(batch, height, width, channels)`` in [0, 1]; an informed network
            takes the gender label besides, ``(batch, 1)``, 0 to 1.
        training : bool
            Whether Dropout drops.

        Returns
        -------
        dict[str, tensor]
            ``age``, shape ``(batch, 1)``, years; with classes also ``age_classes``,
            shape ``(batch, 117)``.
        """
        x, *gender = inputs if self.settings["informed"] else [inputs]
        for layer in self.blocks:
            x = layer(x)
        x = self.dropout(self.flatten(x), training=training)
        for label in gender:
            x = keras.ops.concatenate([x, keras.ops.cast(label, x.dtype)], axis=-1)
        answer = self.answer(self.dropout(self.dense(x), training=training))
        if self.settings["answer"] != "classes":
            return {"age": 100 * answer}
        ages = keras.ops.reshape(keras.ops.cast(AGES, "float32"), (-1, 1))
        return {"age": keras.ops.matmul(answer, ages), "age_classes": answer}

    def inputs_of(self):
        """Make symbolic inputs, for building and exporting."""
        pictures = keras.Input(picture_shape(self.settings), name="image")
        if not self.settings["informed"]:
            return pictures
        return [pictures, keras.Input((1,), name="gender_label")]

    def as_functional(self):
        """Give the same network as a functional model, which needs no own code to load.

        Returns
        -------
        keras.Model
            Output ``age``.
        """
        inputs = self.inputs_of()
        return keras.Model(inputs, {"age": self.call(inputs)["age"]}, name=self.name)

    def train_by_tape(self, training, validation_data, epochs, callbacks, verbose=0):
        """Train by an own loop instead of ``fit``, with the same callbacks.

        Parameters
        ----------
        training, validation_data : keras.utils.PyDataset
            Batches of pictures and labels.
        epochs : int
        callbacks : list of keras.callbacks.Callback
        verbose : int
            Not used; a callback shows the progress.
        """

        @tf.function(reduce_retracing=True)
        def train_step(inputs, ages):
            with tf.GradientTape() as tape:
                loss, error = age_loss(self(inputs, training=True), ages)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return loss, error

        @tf.function(reduce_retracing=True)
        def test_step(inputs, ages):
            return age_loss(self(inputs, training=False), ages)

        callbacks = keras.callbacks.CallbackList(callbacks, model=self)
        self.stop_training, self._initial_epoch = False, 0
        callbacks.on_train_begin()  # BackupAndRestore may set the first epoch
        for epoch in range(self._initial_epoch, epochs):
            callbacks.on_epoch_begin(epoch)
            logs = run_epoch(train_step, training)
            found = run_epoch(test_step, validation_data)
            training.on_epoch_end()
            logs |= {f"val_{key}": value for key, value in found.items()}
            callbacks.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        callbacks.on_train_end()


def age_loss(outputs, ages):
    """Compute the loss of a batch: absolute error, or cross-entropy with classes.

    Parameters
    ----------
    outputs : dict[str, tensor]
        As ``AgeEstimator.call`` returns them.
    ages : tensor
        Years, shape ``(batch,)``.

    Returns
    -------
    tuple of tensor
        Mean loss (hundreds of years, or nats) and mean absolute error (years).
    """
    error = tf.reduce_mean(tf.abs(outputs["age"][:, 0] - ages))
    if "age_classes" not in outputs:
        return error / 100, error
    shares = outputs["age_classes"]
    own = tf.gather(shares, tf.cast(ages, tf.int32), axis=1, batch_dims=1)
    return -tf.reduce_mean(tf.math.log(own + 1e-7)), error


def run_epoch(step, batches):
    """Run one pass over the data and average what the steps return.

    Parameters
    ----------
    step : callable
        Takes the inputs and the ages of a batch, returns its loss and absolute error.
    batches : keras.utils.PyDataset

    Returns
    -------
    dict[str, float]
        ``loss`` and ``age_mae``, means over the pictures.
    """
    sums, count = np.zeros(2), 0
    for number in range(len(batches)):
        inputs, labels = batches[number]
        ages = tf.convert_to_tensor(labels["age"], tf.float32)
        found = step(tf.nest.map_structure(tf.convert_to_tensor, inputs), ages)
        sums += len(labels["age"]) * np.array([float(value) for value in found])
        count += len(labels["age"])
    return dict(zip(("loss", "age_mae"), sums / count, strict=True))


def build_age_estimator(hyperparameters):
    """Build an ``AgeEstimator`` with its weights.

    Parameters
    ----------
    hyperparameters : dict
        ``seed``, and as the class takes them.

    Returns
    -------
    AgeEstimator
    """
    keras.utils.set_random_seed(hyperparameters["seed"])
    model = AgeEstimator(hyperparameters)
    model(model.inputs_of())
    return model


NETWORKS["age estimator"] = build_age_estimator


def size_table(model):
    """List the sizes of the input, all feature maps and the output.

    Parameters
    ----------
    model : AgeEstimator

    Returns
    -------
    pandas.DataFrame
        One row per layer in the order of the call.
    """
    size = (1, *picture_shape(model.settings))
    rows = [("input", "", size[1:], 0)]
    for layer in [*model.blocks, model.flatten, model.dense, model.answer]:
        size = layer.compute_output_shape(size)
        rows.append((layer.name, type(layer).__name__, size[1:], layer.count_params()))
    table = pd.DataFrame(rows, columns=["Layer", "Kind", "Size", "Parameters"])
    sizes = table["Size"].map(lambda size: " × ".join(map(str, size)))
    return table.assign(Size=sizes, Parameters=table["Parameters"].map("{:,}".format))

# %%
with SKIPPABLE, chapter("D"):
    show_table(size_table(make_network(AGE_SUBCLASSED)))

# %% [markdown]
# ### The loop at work

# %%
with SKIPPABLE, chapter("D"):
    age_sets = {
        name: (colour["table"][colour["table"]["split"] == name], colour["folder"])
        for name in SPLITS
    }
    age_contexts, age_half = chapter_context(context, colour, age_sets)
    age_runs = {
        name: fit_or_load(name, runs_to_do[name], age_contexts["train"])
        for name in AGE_RUNS
    }
    show_figure(
        plot_models({name: run["history"] for name, run in age_runs.items()})
    )

# %% [markdown]
# ### ReLU or linear, a number or classes?
#
# **ReLU.** No age is negative, so an output that cannot be negative loses nothing; a linear one
# can answer with ages below zero, which are errors of a kind that the other never makes. Its price:
# where its input is negative it has no gradient, so a unit that starts out at zero for all pictures
# never learns. Both start from 30 years here.
#
# **Classes.** One class for each age turns the regression into a classification: for it, that a
# distribution can say "20 or 40" and is learned easily; against it, that its loss does not know that
# 30 is nearer to 31 than to 60, that rare ages have few pictures each, and that it needs a rule to
# come back to one number (here: the expected age).
#
# Validation; the differences are on its held-out half.

# %%
with SKIPPABLE, chapter("D"):
    age_views = {
        name: predict_sets(run, age_sets, age_contexts, ["val", "test"])
        for name, run in age_runs.items()
    }
    held_ages = {
        name: views["val"][age_half == "calibrate"] for name, views in age_views.items()
    }
    intervals["age_subclassed"] = fit_age_intervals(held_ages["age_subclassed"])
    age_steps = {
        ("age_subclassed", name): compare(
            held_ages["age_subclassed"], held_ages[name], ["age_mae", "age_rmse"]
        )
        for name in ("age_linear", "age_classes")
    }
    rows = []
    for name in ("age_subclassed", "age_linear", "age_classes"):
        view, figures = age_views[name]["val"], evaluate(age_views[name]["val"])
        errors = (view["age_predicted"] - view["age"]).abs()
        rows.append(
            {
                "Network": name,
                "Output": age_runs[name]["history"]["hyperparameters"]["answer"],
                METRIC_NAMES["age_mae"]: format_metric("age_mae", figures),
                METRIC_NAMES["age_rmse"]: format_metric("age_rmse", figures),
                "Answers below 0": int((view["age_predicted"] < 0).sum()),
                "MAE up to 5 years": f"{errors[view['age'] <= 5].mean():.2f}",
            }
        )
    show_table(pd.DataFrame(rows))

# %%
with SKIPPABLE, chapter("D"):
    told = "; ".join(
        f"{pair[1]} {describe_change('age_mae', step['age_mae'])}"
        for pair, step in age_steps.items()
    )
    answer(f"Against the ReLU output: {told}.")

# %% [markdown]
# ### Does it help to know the gender?
#
# One more network is told the gender label besides the picture. It learns with the true label; then
# it predicts twice: with the true label, and with the probability that the improved network of
# section 9 gives, which is all that anybody has for a new picture.

# %% tags=["functions"]
def predict_informed(run, table, guessed, context):
    """Predict ages with a network that is told a guessed gender.

    Parameters
    ----------
    run : dict
        As ``fit_or_load`` returns it, of an informed network.
    table : pandas.DataFrame
        Rows of one set.
    guessed : pandas.DataFrame
        As ``predict_table`` returns it, of the same pictures: ``gender_probability``.
    context : dict
        As for ``fit_or_load``.

    Returns
    -------
    pandas.DataFrame
        As ``predict_table`` returns it, with the true labels.
    """
    rows = table.loc[table.index.intersection(guessed.index)]
    told = rows.assign(gender=guessed.loc[rows.index, "gender_probability"])
    found = predict_or_load(run, told, context, "_guessed")
    return found.assign(gender=rows["gender"])

# %%
with SKIPPABLE, chapter("D"):
    guesser = gender_runs["gender_improved"]
    informed = {"told the true label": age_views["age_informed"]}
    informed["told a guess"] = {
        name: predict_informed(
            age_runs["age_informed"],
            age_sets[name][0],
            predict_or_load(guesser, age_sets[name][0], gender_contexts[name]),
            age_contexts[name],
        )
        for name in ("val", "test")
    }
    views = {"told nothing": age_views["age_subclassed"]} | informed
    guessed = {f"{name}_guessed": view for name, view in informed["told a guess"].items()}
    all_views = age_views | {"age_informed": age_views["age_informed"] | guessed}
    chapter_results.append((age_runs, all_views))
    show_table(
        metrics_table(
            {name: evaluate(view["val"][age_half == "calibrate"]) for name, view in views.items()}
        )
    )

# %%
with SKIPPABLE, chapter("D"):
    told = "; ".join(
        f"{name}: "
        + describe_change(
            "age_mae",
            compare(
                held_ages["age_subclassed"],
                view["val"][age_half == "calibrate"],
                ["age_mae"],
            )["age_mae"],
        )
        for name, view in informed.items()
    )
    answer(f"Against the network that is told nothing, {told}.")

# %% [markdown]
# <a id="labels"></a>
# ## 12 How good are the labels, and would more images help?
#
# *How good are the labels themselves?* Identical pictures were sometimes labelled twice (section 2,
# in all three sets). One answer cannot match two labels: on such pictures the mean error of any
# network is at least half of what the labels differ by. The network's own is that on validation
# images with a twin, some of which lie in training. Most pictures have one label, and duplicates
# need not be typical of them.

# %% tags=["functions"]
def twin_disagreement(table, digest):
    """Measure how much the labels of identical pictures disagree.

    Parameters
    ----------
    table : pandas.DataFrame
        ``age``, ``gender`` and ``ethnicity`` of each picture.
    digest : pandas.Series
        Equal for identical pictures, in the same order.

    Returns
    -------
    pandas.DataFrame
        One row per group of identical pictures: the mean absolute difference of age
        (years) over its pairs, and the shares of pairs whose gender or ethnicity
        differ (0 to 1).
    """
    rows = []
    for _, group in table.groupby(digest.to_numpy()):
        if len(group) > 1:
            one, other = np.triu_indices(len(group), 1)
            labels = group[list(LABELS)].to_numpy()
            apart = np.abs(labels[one] - labels[other])
            rows.append([apart[:, 0].mean(), *(apart[:, 1:] > 0).mean(axis=0)])
    return pd.DataFrame(rows, columns=LABELS)


def disagreement_table(groups, figures):
    """Set the disagreement between labels beside the errors of a network.

    Parameters
    ----------
    groups : pandas.DataFrame
        As ``twin_disagreement`` returns it.
    figures : dict
        As ``evaluate`` returns it, of the network, on such pictures.

    Returns
    -------
    pandas.DataFrame
        One row per task; means over the groups with 95 % bootstrap intervals.
    """
    rows = []
    resamples = draw_resamples(len(groups))
    for task, metric in zip(LABELS, HEADLINE, strict=True):
        factor, unit = (1, "years") if task == "age" else (100, "%")
        means = resamples @ groups[task].to_numpy("float32") / len(groups)
        ends = groups[task].mean(), *np.percentile(means, [2.5, 97.5])
        apart = factor * np.array(ends)
        text = f"{{:.1f}} {unit} ({{:.1f}}–{{:.1f}})"
        error = figures[metric] if task == "age" else 1 - figures[metric]
        own = f"The network's, on {figures['n']} of them"
        rows.append(
            {
                "Task": task.capitalize(),
                "Two labels differ by": text.format(*apart),
                "So the error there is at least": text.format(*apart / 2),
                own: f"{factor * error:.1f} {unit}",
            }
        )
    return pd.DataFrame(rows)


def plot_learning_curve(curve):
    """Plot the metric of each task against the number of training images.

    Parameters
    ----------
    curve : dict[int, dict]
        As ``evaluate`` returns it, by number of images.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.9), layout="constrained")
    counts = list(curve)
    for axis, (metric, task) in zip(axes, zip(HEADLINE, LABELS, strict=True), strict=True):
        name = METRIC_NAMES[metric]
        factor = 100 if "(%)" in name else 1
        values = factor * np.array([curve[count][metric] for count in counts])
        ends = factor * np.array([curve[count][f"{metric}_ci95"] for count in counts]).T
        errors = np.abs(ends - values)
        axis.errorbar(
            counts, values, errors, color=TASK_COLOURS[task], marker="o", capsize=3
        )
        axis.set_xscale("log", base=2)
        axis.set_xticks(counts, [f"{count:,}" for count in counts])
        axis.minorticks_off()
        axis.set(title=task.capitalize(), xlabel="training images", ylabel=name)
    note = "Held-out half of validation without near-twins; bars: 95 % intervals"
    figure.suptitle(note, fontsize=9)
    return figure

# %%
disagreement = twin_disagreement(table, audit["digest"])
doubled = audit["digest"].duplicated(keep=False)
doubled_val = main_val[doubled.loc[main_val.index].to_numpy()]
if len(disagreement) and len(doubled_val):
    show_table(disagreement_table(disagreement, evaluate(doubled_val)))

# %%
found = (
    f"The labels of identical pictures differ by {disagreement['age'].mean():.1f} "
    f"years; {100 * disagreement['gender'].mean():.0f} % of the pairs differ in "
    f"gender, {100 * disagreement['ethnicity'].mean():.0f} % in ethnicity (means over "
    f"{len(disagreement)} groups, {100 * doubled.mean():.1f} % of the images): on them "
    "no network can have a smaller error than half of that. How far this holds for "
    "pictures with one label is not known."
)
answer(found if len(disagreement) else "No two pictures are identical here.")

# %% [markdown]
# ### Would more images help?
#
# The network of section 8 learns from an eighth, a quarter, half and all of the training images,
# for as many steps each; one seed, all other settings as they were chosen for all images, and the
# weights of the best epoch as everywhere. More training images also hold more near-twins of
# validation images: these are left out.

# %%
curve_runs = {
    name: fit_or_load(name, runs_to_do[name], context) for name in CURVE_RUNS
} | {"all": five["run4"]}
strangers = held_out.index[~twins.loc[held_out.index, "near_twin"].to_numpy()]
curve_val = {
    run["history"]["images"]: predict_or_load(run, parts["val"], context)
    for run in curve_runs.values()
}
curve = restrict(curve_val, strangers)
show_figure(plot_learning_curve({n: evaluate(val) for n, val in curve.items()}))

# %%
kept = ", ".join(
    f"{run['history']['images']:,} images in epoch {run['history']['best_epoch']} of "
    f"{len(run['history']['epochs']['loss'])}"
    for run in sorted(curve_runs.values(), key=lambda run: run["history"]["images"])
)
sizes = sorted(curve)
doublings = {
    f"from {fewer:,} to {more:,}": describe_changes(compare(curve[fewer], curve[more]))
    for fewer, more in zip(sizes[:-1], sizes[1:], strict=True)
}
doublings = "; ".join(f"{step}, {change}" for step, change in doublings.items())
answer(f"Doubling the images: {doublings}. The best weights are those of {kept}.")

# %% [markdown]
# <a id="ethics"></a>
# ## 13 Ethics and limits
#
# *What must nobody conclude from these figures?*
#
# - **Labels, not facts.** Gender and ethnicity are what an algorithm proposed and one annotator
#   confirmed for an image. Gender is binary in the labels and is not in people; five ethnicities
#   with an "Other" describe nobody. The network repeats these labels, errors included.
# - **Not for decisions about people.** Errors differ between ages and labels (section 6), and the
#   images were collected from the web without asking the people in them.
# - **Two genders are a limit of the labels.** A classifier of two labels has no answer for whoever is
#   neither, and calls people by what their face looked like to an annotator. Its errors fall on those
#   who look unlike the training pictures; wherever somebody is addressed, admitted or counted by it, a
#   wrong answer hurts and cannot be objected to. Ask people instead of guessing.
# - **Terms.** UTKFace may be used for non-commercial research only; so may what is trained on it.
# - **Limits.** Aligned 48×48 grayscale crops alone; few old people; one data set, so the test set
#   shares the habits of the training set, down to near-twins (section 2).

# %%
groups = parts["train"].groupby(["ethnicity", "gender"]).size()
smallest = groups.idxmin()
answer(
    f"The smallest group in training, {GENDERS[smallest[1]]} and "
    f"{ETHNICITIES[smallest[0]]}, has {groups.min():,} images, the largest "
    f"{groups.max():,}: overall figures mostly describe the large groups."
)

# %% [markdown]
# <a id="results"></a>
# ## 14 Present prediction results on test data (5 points)
#
# *What came out?* The test set is looked at for the five runs now, after all choices were made.
# Every hyperparameter in which the runs differ stands in each row; the brackets are 95 % intervals.

# %%
five_test = {
    name: predict_or_load(run, parts["test"], context) for name, run in five.items()
}
for name, test in five_test.items():
    log_look(
        five[name], test, results_folder, "one of the five runs, after all choices"
    )
five_rows = {
    name: result_row(five[name], "test", test) for name, test in five_test.items()
}

# %%
assignment_rows = [
    {
        "Hyperparameters": f"**{name}**: {settings[name]}",
        "Age (MAE)": format_metric("age_mae", row, unit=True),
        "Ethnicity (Accuracy)": format_metric("ethnicity_accuracy", row, unit=True),
        "Gender (Accuracy)": format_metric("gender_accuracy", row, unit=True),
    }
    for name, row in (five_rows | {"mtl": main_rows[0]}).items()
]
show_table(pd.DataFrame(assignment_rows))

# %%
gain = describe_changes(compare(five_test["run1"], predictions))
answer(f"On the test set, the main network against run 1: {gain}.")

# %% [markdown]
# ### All results
#
# Every row is one network on one set, with the cost of its training; those on validation are in
# `results.json`.

# %%
val_rows = [
    result_row(run, "val", (candidate_val | seeds_val | study_val)[name])
    for name, run in (candidates | seeds | study).items()
]
for kind, tables in answers_of.items():
    for parts_of, val in zip(runs_of[kind], tables, strict=True):
        seed = parts_of[0]["history"]["hyperparameters"]["seed"]
        whole_run = merge_runs(f"{kind}, seed {seed}", parts_of)
        val_rows.append(result_row(whole_run, "val", val))
chapter_rows = [
    result_row(run, split, view)
    for runs, views in chapter_results
    for name, run in runs.items()
    for split, view in views[name].items()
]
for runs, views in chapter_results:
    for name, run in runs.items():
        for split in [split for split in views[name] if "test" in split]:
            why = "a model of sections 9 to 11, after all choices"
            log_look(run, views[name][split], results_folder, why, split)
val_rows += [
    result_row(run, "val", curve_val[run["history"]["images"]])
    for name, run in curve_runs.items()
    if name in CURVE_RUNS
]
results = [*main_rows, *five_rows.values(), *val_rows, *chapter_rows]
show_table(results_table([row for row in results if "test" in row["split"]]))

# %% [markdown]
# ### What is kept
#
# Results go into `results.json`: into `model/runs` for what is trained here, into what the
# repository ships with `PUBLISH = True`, which also renews weights, model card and README.

# %% tags=["functions"]
MODEL_CARD = """# Model card: `mtl.keras`

Written by the notebook.

{facts}

{results}

Each prediction is the mean of two, for the picture and for its mirror image, unless
said. Intervals: 95 %, bootstrap over images. The test set chose nothing; the first look
at it with each training is in `test_looks.csv`.

**Use.** Teaching and research on multi-task learning. Not for decisions about people,
not for identifying anyone, not for commerce: UTKFace may be used for non-commercial
research only.

**Limits.** The labels are the output of an algorithm checked by one annotator: gender
and ethnicity are labels given to images, not facts about people.
Images that are not aligned crops give meaningless answers.
"""


def write_model_card(history, rows):
    """Write the model card of the main network.

    Parameters
    ----------
    history : dict
        As ``fit_or_load`` keeps it.
    rows : pandas.DataFrame
        As ``results_table`` returns them, of the main network.

    Returns
    -------
    str
        Markdown.
    """
    facts = {
        "Answers": "age in years; probability of the label female; probabilities of "
        "five ethnicity labels",
        "Input": "`image`: one 48×48 grayscale face, (batch, 48, 48, 1) in [0, 1]",
        "Outputs": "`age`, `gender`, `ethnicity`",
        "Network": f"hard parameter sharing, {history['parameters']:,} parameters",
        "Trained on": f"{history['images']:,} aligned faces of UTKFace",
        "Training": f"{len(history['epochs']['loss'])} epochs, best "
        f"{history['best_epoch']}, {duration(history['seconds'])} on "
        f"{history['hardware']}, {history['precision']}",
        "Made": f"{history['date']}, commit {history['commit']}, {history['versions']}",
        "Load it": '`keras.saving.load_model("mtl.keras")`, no code of ours',
    }
    table = pd.DataFrame({"What": facts.keys(), "": facts.values()})
    return MODEL_CARD.format(facts=as_markdown(table), results=as_markdown(rows))


def replace_between(path, text, mark="results"):
    """Put a text between ``<!-- results:begin -->`` and ``:end`` in a file.

    Parameters
    ----------
    path : pathlib.Path
    text : str
    mark : str

    Raises
    ------
    ValueError
        If the marks are not there.
    """
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    old = path.read_text(encoding="utf-8")
    if begin not in old or end not in old:
        raise ValueError(f"{path} lacks the lines {begin} and {end}: put them back.")
    head, tail = old.split(begin)[0], old.split(end)[1]
    path.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")


SHIPPED_MODELS = (
    "mtl",
    "gender_baseline",
    "gender_improved",
    "gender_vgg16",
    "gender_mtl_transfer",
    "age_gender_A",
    "age_gender_B",
    "age_subclassed",
)


def publish_all(runs, results, intervals, folder):
    """Write what the repository ships: runs, model card, and the README's table.

    Parameters
    ----------
    runs : dict[str, dict]
        As ``fit_or_load`` returns them; those in ``SHIPPED_MODELS`` with weights.
    results : list of dict
        As ``result_row`` returns them.
    intervals : dict[str, dict]
        As ``fit_age_intervals`` returns them, by model.
    folder : pathlib.Path
        Such as ``model/utkface``.
    """
    for name, run in runs.items():
        whole = name in SHIPPED_MODELS
        for source in run["stem"].parent.glob(f"{run['stem'].name}[._]*"):
            ending = source.name.removeprefix(run["stem"].name)
            fits = ending in (".json", ".keras") or ending.endswith(".npz")
            if fits and (whole or ending != ".keras") and run["stem"].parent != folder:
                shutil.copyfile(source, folder / f"{name}{ending}")
    for name, table in intervals.items():
        text = json.dumps(table) + "\n"
        (folder / f"{name}_intervals.json").write_text(text, encoding="utf-8")
    main_rows = results_table([row for row in results if row["model"] == "mtl"])
    card = write_model_card(runs["mtl"]["history"], main_rows)
    (folder / "README.md").write_text(card, encoding="utf-8")
    table = results_table([row for row in results if "test" in row["split"]])
    replace_between(pathlib.Path("README.md"), as_markdown(table))

# %%
(results_folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
if PUBLISH:
    published = candidates | seeds | study | sharing | curve_runs
    for runs, _ in chapter_results:
        published |= runs
    published.pop("all")  # another name for run 4
    publish_all(published, results, intervals, results_folder)
answer(
    f"{len(results)} rows of results are in `{results_folder.as_posix()}/results.json`."
)
