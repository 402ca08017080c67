"""Colour pictures and class folders as ``Dataset``: names, labels, sets, faults."""

import dataclasses
import pathlib
import re

import numpy as np
import pandas as pd

from facekit import dataset, labels, pictures, sources
from facekit.dataset import Dataset, make_faults

UTKFACE_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_(\d{17})")
CLASS_FOLDERS = {  # how data sets call the folders of the two labels
    "male": ("male", "males", "man", "men", "m"),
    "female": ("female", "females", "woman", "women", "f", "w"),
}


def find_pictures(choice: str, data_dir: pathlib.Path) -> tuple[Dataset, str]:
    """Pictures with age, gender and ethnicity in the main assignment's sets, and what
    they are in words: UTKFace in colour, else the main assignment's pictures.

    ``img_name`` is relative to ``folder``; ``main_name`` is the main assignment's.
    """
    places = [data_dir / "UTKFace", *sources.ATTACHED.glob("*/UTKFace")]
    folder = next(filter(pathlib.Path.is_dir, places), None)
    if choice != "sample" and folder:
        told = f"UTKFace's colour pictures in {folder.parent.name}/UTKFace"
        return read_utkface(folder), told
    source = sources.find_source(choice, data_dir)
    grey = dataset.load(source.folder, source.synthetic)
    table = grey.table.assign(main_name=grey.table["img_name"])
    table["img_name"] = table["split"] + "/" + table["main_name"]
    name = f"{grey.name}-enlarged"
    return dataclasses.replace(grey, table=table, name=name, images=None), (
        f"{source.sentence}, enlarged from 48×48 grey levels: UTKFace's own pictures "
        f"would go into {data_dir.name}/UTKFace"
    )


def find_gender(choice: str, data_dir: pathlib.Path) -> tuple[Dataset, str]:
    """What assignment B learns from: the user's class folders ``gender/train`` and
    ``gender/test`` (validation), else what ``find_pictures`` finds.
    """
    folder = data_dir / "gender"
    own = {"train": folder / "train", "val": folder / "test"}
    if choice != "sample" and all(map(has_class_folders, own.values())):
        parts = [read_class_folders(path, name) for name, path in own.items()]
        for part in parts:
            part.table["main_name"] = part.table["img_name"]
            part.table["img_name"] = f"{part.folder.name}/" + part.table["img_name"]
        table = pd.concat([part.table for part in parts], ignore_index=True)
        faults = pd.concat([part.faults for part in parts], ignore_index=True)
        exact = labels.digest([part.digest for part in parts])
        found = Dataset(table, folder, faults, "own", exact)
        return found, f"the class folders in {data_dir.name}/gender"
    return find_pictures(choice, data_dir)


def find_foreign(data_dir: pathlib.Path) -> Dataset | None:
    """The first folder of ``data_dir`` that holds class folders: another data set."""
    folder = next(filter(has_class_folders, sorted(data_dir.glob("*"))), None)
    return read_class_folders(folder, "foreign test") if folder else None


def has_class_folders(folder: pathlib.Path) -> bool:
    """Whether a folder holds one folder for each gender label."""
    if not folder.is_dir():
        return False
    below = {path.name.lower() for path in folder.iterdir() if path.is_dir()}
    return all(below & set(names) for names in CLASS_FOLDERS.values())


def read_utkface(folder: pathlib.Path) -> Dataset:
    """Read UTKFace's labels off file names, sets off time stamps (subfolders or not).

    Raises ValueError if a set is left without a usable picture.
    """
    known, rows, faults = labels.read_split_table(), [], []
    for path in sorted(path for path in folder.rglob("[!.]*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        parts = UTKFACE_NAME.match(path.name)
        main_name = f"{parts[4]}.jpg.chip.jpg" if parts else ""
        if why := pictures.name_fault(name):
            faults.append((name, why, 0, False))
        elif parts is None or int(parts[1]) > labels.AGES[-1]:
            faults.append((name, "name is not age_gender_ethnicity_stamp", 0, False))
        elif (hashed := labels.hash_name(main_name)) not in known:
            why = "time stamp that is not in the main assignment"
            faults.append((name, why, 0, False))
        else:
            rows.append((name, *map(int, parts.groups()[:3]), known[hashed], main_name))
    columns = ["img_name", *labels.LABELS, "split", "main_name"]
    found = _read(pd.DataFrame(rows, columns=columns), faults, folder)
    for split in labels.SPLITS:
        if found.rows(split).empty:
            raise ValueError(
                f"{folder.name} has no usable picture of the {split} set, named as "
                "UTKFace names them: <age>_<gender>_<ethnicity>_<17 digits>.jpg. "
                "Unpack the whole archive there."
            )
    named = found.table.assign(img_name=found.table["main_name"])
    name = "utkface" if dataset.is_utkface(named, found.images) else "own"
    return dataclasses.replace(found, name=name)


def read_class_folders(folder: pathlib.Path, split: str) -> Dataset:
    """Read pictures that lie in one folder for each gender label, all as one set.

    Raises ValueError if a label has no usable picture.
    """
    rows, faults = [], []
    for code, names in enumerate(CLASS_FOLDERS.values()):
        below = [path for path in folder.iterdir() if path.name.lower() in names]
        for path in (path for part in below for path in part.rglob("[!.]*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and (why := pictures.name_fault(name)):
                faults.append((name, why, 0, False))
            elif path.is_file():
                rows.append((name, code, split))
    table = pd.DataFrame(rows, columns=["img_name", "gender", "split"])
    found = _read(table.assign(age=np.nan, ethnicity=np.nan), faults, folder)
    for code, names in enumerate(CLASS_FOLDERS.values()):
        if not (found.table["gender"] == code).any():
            raise ValueError(
                f"{folder.name} has no usable picture in a folder named "
                f"{' or '.join(names)}."
            )
    return found


def count_genders(sets: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Count the gender labels of each set of rows."""
    table = []
    for name, rows in sets.items():
        row = {"Set": name.capitalize(), "Images": f"{len(rows):,}"}
        for code, gender in enumerate(labels.GENDERS):
            count = (rows["gender"] == code).sum()
            row[gender] = f"{count:,} ({100 * count / len(rows):.1f} %)"
        table.append(row)
    return pd.DataFrame(table)


def _read(rows, faults, folder):
    """Pictures that decode, by name, as ``Dataset``; its images are 25×25 pixels.

    The digest is that of their names and sizes in bytes.
    """
    lost, small = {}, []
    rows = rows.sort_values("img_name")
    for row, name in rows["img_name"].items():
        try:  # a JPEG is read whole, at an eighth
            grey = pictures.read(folder / name, plain=True, draft=(25, 25))
            small.append(np.asarray(grey.convert("L").resize((25, 25))))
        except pictures.UNREADABLE as why:
            lost[row] = pictures.fault(why)
    faults += [(rows["img_name"][row], why, 0, False) for row, why in lost.items()]
    table = rows.drop(index=[*lost]).reset_index(drop=True)
    names = table["img_name"].to_list()
    digest = labels.digest([names, [(folder / name).stat().st_size for name in names]])
    return Dataset(table, folder, make_faults(faults), "own", digest, np.array(small))
