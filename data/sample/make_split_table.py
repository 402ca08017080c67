"""Write `data/split.csv.gz`: which set each picture of the assignment belongs to.

The table holds a hash of each file name, not the name. The set is the folder that the
picture lies in; the one picture whose file is missing belongs to `train`.

Run it from the repository's root, with the assignment's folder in `data/`:

    python data/sample/make_split_table.py
"""

import argparse
import gzip
import pathlib
import sys

import pandas as pd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from facekit import dataset, sources  # noqa: E402
from facekit.labels import DATA, hash_name  # noqa: E402

MISSING_PICTURES = {"72e8e5d2ed6f1401": "train"}  # by hash of the name


def split_of_names(folder: pathlib.Path) -> pd.Series:
    """Find the set of each picture in the table, by ``img_name``.

    ``folder`` holds ``age_gender.csv`` and ``images/{train,val,test}``. Raises
    FileNotFoundError if the table or a folder is missing or a picture is in none,
    ValueError if one is in two folders.
    """
    names = sources.read_labels(folder / "age_gender.csv")["img_name"].drop_duplicates()
    files = dataset.list_pictures(folder / "images")
    twice = files["img_name"][files["img_name"].duplicated()]
    if len(twice):
        raise ValueError(f"{twice.iloc[0]} is in more than one folder")
    split_of = files.set_index("img_name")["split"].to_dict()
    for name in names[names.map(hash_name).isin(MISSING_PICTURES)]:
        split_of.setdefault(name, MISSING_PICTURES[hash_name(name)])
    lost = names[~names.isin(split_of)]
    if len(lost):
        raise FileNotFoundError(
            f"{len(lost)} pictures are in no folder of "
            f"{folder / 'images'}; the first is {lost.iloc[0]}"
        )
    return names.map(split_of).set_axis(names)


def write_table(split_of: pd.Series, path: pathlib.Path) -> pd.DataFrame:
    """Write the hashes and sets, sorted by hash; the same bytes every time.

    Raises ValueError if two names share a hash.
    """
    hashes = split_of.index.map(hash_name)
    table = pd.DataFrame({"name_hash": hashes, "split": split_of.to_numpy()})
    if table["name_hash"].duplicated().any():
        raise ValueError("two names share a hash: store more of its digits")
    table = table.sort_values("name_hash", ignore_index=True)
    text = table.to_csv(index=False, lineterminator="\n").encode("ascii")
    path.write_bytes(gzip.compress(text, compresslevel=9, mtime=0))
    return table


def main() -> None:
    """Read the arguments, write the table and say what it holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, default=DATA)
    parser.add_argument("--out", type=pathlib.Path, default=DATA / "split.csv.gz")
    arguments = parser.parse_args()
    try:
        table = write_table(split_of_names(arguments.data), arguments.out)
    except (OSError, ValueError) as error:
        sys.exit(f"make_split_table: {error}")
    print(
        f"{arguments.out.name}: {arguments.out.stat().st_size:,} bytes, "
        f"{len(table):,} rows: {table['split'].value_counts().to_dict()}"
    )


if __name__ == "__main__":
    main()
