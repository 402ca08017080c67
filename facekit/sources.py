"""Folder, CSV, Kaggle or sample: whatever is there becomes the assignment's layout."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import shutil
import socket
import tempfile

import numpy as np
import pandas as pd
import PIL.Image

from facekit import labels, pictures
from facekit.tables import csv_options, parse_pixels, read_labels

KAGGLE = "nipunarora8/age-gender-and-ethnicity-face-data-csv"
ATTACHED = pathlib.Path("/kaggle/input")  # data sets of a notebook on Kaggle, read-only
SAMPLE = labels.DATA / "sample" / "faces.zip"
SAMPLE_SHA256 = "f51dfcf99007caa9f67dc26b04595d5fd943bc87fa5c46a621528542d924ce64"


@dataclasses.dataclass(frozen=True)
class Source:
    """A folder in the assignment's layout, and what it is in words."""

    folder: pathlib.Path
    sentence: str
    synthetic: bool = False

    @property
    def csv(self) -> pathlib.Path:
        """Its table of labels."""
        return self.folder / "age_gender.csv"


def find_source(choice: str, data_dir: pathlib.Path, seed: int = 1) -> Source:
    """Find the data that the user has.

    ``choice`` is ``"auto"``, ``"folder"``, ``"csv"``, ``"kaggle"`` or ``"sample"``.
    Raises ValueError or FileNotFoundError with what to do where nothing fits.
    """
    ways = {"folder": _folder, "csv": _csv, "kaggle": _kaggle, "sample": _sample}
    if choice != "auto" and choice not in ways:
        raise ValueError(f"DATA is {choice!r}; use 'auto' or one of {list(ways)}.")
    places = [data_dir, *_places_below(data_dir), *_places_below(ATTACHED)]
    for way in ways if choice == "auto" else [choice]:
        for place in places if way in ("folder", "csv") else [data_dir]:
            into = place if place.is_relative_to(data_dir) else data_dir
            if source := ways[way](place, into, seed):
                if choice == "auto" and source.synthetic:
                    _tell_of_unused(data_dir)
                return source
    raise FileNotFoundError(
        f"DATA is {choice!r}, but {data_dir.name}/ holds no such data: data/README.md "
        "names the layouts; 'auto' takes what is there."
    )


def write_layout(
    images: np.ndarray, table: pd.DataFrame, folder: pathlib.Path, source: dict
) -> None:
    """Write pictures ``(n, 48, 48)`` and labels as the assignment lays them out.

    A row of ``table`` whose ``split`` is missing gets no picture; a column ``left_out``
    says why. ``source.json``, written last, says what the folder was made from.
    """
    for split in labels.SPLITS:
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
    for grey, name, part in zip(images, table["img_name"], table["split"], strict=True):
        if isinstance(part, str):
            PIL.Image.fromarray(grey).save(folder / "images" / part / name, quality=95)
    columns = [*labels.COLUMNS, *table.columns.intersection(["left_out"])]
    table[columns].to_csv(folder / "age_gender.csv", index=False)
    (folder / "source.json").write_text(json.dumps(source), encoding="utf-8")


def _places_below(data_dir):
    """Folders below ``data``, at most three deep, that hold an ``age_gender.csv``."""
    patterns = [f"{'[!.]*/' * depth}age_gender.csv" for depth in (1, 2, 3)]
    found = [path.parent for part in patterns for path in sorted(data_dir.glob(part))]
    return [place for place in found if not _made_from(place)]


def _tell_of_unused(data_dir):
    """Say what lies in ``data`` although the sample is taken."""
    known = {"README.md", SAMPLE.parent.name, "split.csv.gz", "synthetic", "imported"}
    found = sorted(path.name for path in data_dir.glob("[!.]*"))
    if unused := [name for name in found if name not in known]:
        told = ", ".join(unused[:5]) + ", …" * (len(unused) > 5)
        packed = any(name.endswith((".zip", ".rar", ".7z", ".gz")) for name in unused)
        print(
            f"Warning: the synthetic sample is used, although {data_dir.name}/ holds "
            f"{told}: {'unpack it there; ' * packed}data/README.md names the layouts."
        )


def _made_from(folder):
    """What a folder was made from; None where it was not made here."""
    with contextlib.suppress(OSError, ValueError):
        made = json.loads((folder / "source.json").read_text(encoding="utf-8"))
        if isinstance(made, dict) and made.keys() & {"file", "synthetic faces"}:
            return made
    return None


@contextlib.contextmanager
def _made_anew(folder):
    """Make a folder beside its place and move it there, whole; never delete others'."""
    if folder.exists() and not _made_from(folder):
        raise ValueError(
            f"{folder.name}/ is in the way and was not made here: rename or move it."
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as draft:
            made = pathlib.Path(draft) / folder.name
            yield made
            source = _made_from(made)
            if _made_from(folder) != source:
                with contextlib.suppress(FileNotFoundError):
                    folder.rename(made.with_name("former"))
            try:
                made.rename(folder)
            except OSError:  # unless another process made the same meanwhile
                if _made_from(folder) != source:
                    raise
    except OSError as why:
        raise ValueError(
            f"{folder.parent.name}/{folder.name} cannot be written ({why.strerror}): "
            "make room, or set DATA_DIR to a folder where you may write."
        ) from why


def _has_pixels(path):
    """Tell whether a CSV has a column ``pixels``."""
    return path.is_file() and "pixels" in csv_options(path)["names"]


def _import_pixels(path, data_dir, seed):
    """Write a CSV with pixels out into a folder, once for each file and seed."""
    folder, stat = data_dir / "imported", path.stat()
    source = {"file": path.name, "bytes": stat.st_size, "changed": stat.st_mtime_ns}
    source |= {"seed": seed, "version": 2}
    if _made_from(folder) == source:
        return folder
    given = read_labels(path, extra=("pixels",))
    print(f"Writing the pictures of {len(given):,} rows of {path.name}, once")
    pixels, names = given.pop("pixels").map(parse_pixels), given["img_name"].fillna("")
    checks = {
        f"pixels not {labels.SIZE**2:,} numbers from 0 to 255": pixels.isna(),
        "image name that no file can have": ~names.map(_fits_a_file),
    }
    given["left_out"] = np.select([*checks.values()], [*checks], default="")
    good = (given["left_out"] == "") & (names != "") & ~names.duplicated()
    good &= names.str.lower().str.endswith(pictures.ENDINGS)
    images = np.zeros((len(given), labels.SIZE, labels.SIZE), "uint8")
    if good.any():
        images[good] = np.stack(pixels[good])
    digests, known = labels.digest_pictures(images[good]), labels.read_split_table()
    table = given.assign(split=None)
    table.loc[good, "split"] = labels.assign_splits(given[good], digests, known, seed)
    if set(table.loc[good, "split"]) < set(labels.SPLITS):
        raise ValueError(
            f"{path.name} has {good.sum():,} rows with a name and {labels.SIZE**2} "
            f"pixels; {labels.FEWEST} different ones are needed to split them into "
            "three sets: data/README.md says what its columns hold."
        )
    with _made_anew(folder) as draft:
        write_layout(images, table, draft, source)
    return folder


def _fits_a_file(name):
    """Tell whether every file system takes a name, and whether it is no path."""
    odd = any(letter in '<>:"/\\|?*' or not letter.isprintable() for letter in name)
    return not odd and len(name.encode("utf-8", "replace")) <= 200


def _folder(data_dir, into, seed):
    """The assignment's folder, if it is there."""
    csv, pictures = data_dir / "age_gender.csv", data_dir / "images"
    if not pictures.is_dir() or not csv.exists():
        plain = csv.exists() and "pixels" not in csv_options(csv)["names"]
        if plain or pictures.is_dir() and not _places_below(data_dir):
            raise FileNotFoundError(
                f"{(csv if pictures.is_dir() else pictures).name} is not there: the "
                f"assignment's table belongs into {data_dir.name}/age_gender.csv, its "
                f"pictures into {data_dir.name}/images/train, val and test."
            )
        return None
    made = _made_from(data_dir) or {}
    return Source(data_dir, f"the folder {data_dir.name}/", "synthetic faces" in made)


def _csv(data_dir, into, seed):
    """A CSV with pixels, if one is there."""
    for path in filter(_has_pixels, sorted(data_dir.glob("*.csv"))):
        sentence = f"the pixels in {data_dir.name}/{path.name}"
        return Source(_import_pixels(path, into, seed), sentence)
    return None


def _kaggle(data_dir, into, seed):
    """The public CSV with pixels, if Kaggle answers."""
    try:
        socket.create_connection(("www.kaggle.com", 443), timeout=3).close()
        import kagglehub  # slow to import and seldom needed

        paths = sorted(pathlib.Path(kagglehub.dataset_download(KAGGLE)).rglob("*.csv"))
    except Exception:  # whatever a network can do
        print(f"Kaggle's data set {KAGGLE} is out of reach")
        return None
    for path in filter(_has_pixels, paths):
        return Source(_import_pixels(path, into, seed), f"Kaggle's data set {KAGGLE}")
    return None


def _sample(data_dir, into, seed):
    """The embedded synthetic faces, unpacked once."""
    if not SAMPLE.exists():
        raise FileNotFoundError(
            f"{SAMPLE.name} is not there: it comes with the repository in data/sample."
        )
    if hashlib.sha256(SAMPLE.read_bytes()).hexdigest() != SAMPLE_SHA256:
        raise ValueError(
            f"{SAMPLE.name} is damaged or altered: fetch it from the repository again."
        )
    folder = data_dir / "synthetic"
    source = {"synthetic faces": SAMPLE.name, "bytes": SAMPLE.stat().st_size}
    if _made_from(folder) != source:
        with _made_anew(folder) as draft:
            shutil.unpack_archive(SAMPLE, draft)
            (draft / "source.json").write_text(json.dumps(source), encoding="utf-8")
    sentence = "the embedded sample: synthetic faces of people who do not exist"
    return Source(folder, sentence, synthetic=True)
