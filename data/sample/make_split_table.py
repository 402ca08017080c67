"""Write `data/split.csv.gz`: which set each picture of the assignment belongs to.

The table holds a hash of each file name, not the name. The set is the folder that the
picture lies in; the one picture whose file is missing belongs to `train`.

Run it from the repository's root, with the assignment's folder in `data/`:

    python data/sample/make_split_table.py
"""

import argparse
import gzip
import hashlib
import pathlib
import sys

import pandas as pd

MISSING_PICTURES = {"72e8e5d2ed6f1401": "train"}  # by hash of the name


def name_hash(name: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of a file name (UTF-8)."""
    return hashlib.sha256(name.encode("utf-8")).hexdigest()[:16]


def split_of_names(folder: pathlib.Path) -> pd.Series:
    """Find the set of each picture in the table.

    Parameters
    ----------
    folder : pathlib.Path
        The folder with `age_gender.csv` and `images/{train,val,test}`.

    Returns
    -------
    pd.Series
        `train`, `val` or `test`, indexed by `img_name`.

    Raises
    ------
    FileNotFoundError
        The table or a folder is missing, or a picture is in none.
    ValueError
        A picture is in more than one folder.
    """
    path = folder / "age_gender.csv"
    if not path.is_file():
        raise FileNotFoundError(f"there is no table {path}: see data/README.md")
    names = pd.read_csv(path, usecols=["img_name"])["img_name"].drop_duplicates()
    split_of = {}
    for split in ("train", "val", "test"):
        images = folder / "images" / split
        if not images.is_dir():
            raise FileNotFoundError(f"there is no folder {images}: see data/README.md")
        for image in images.iterdir():
            if image.name in split_of:
                raise ValueError(
                    f"{image.name} is in {split_of[image.name]} and in {split}"
                )
            split_of[image.name] = split
    for name in names[names.map(name_hash).isin(MISSING_PICTURES)]:
        split_of.setdefault(name, MISSING_PICTURES[name_hash(name)])
    lost = names[~names.isin(split_of)]
    if len(lost):
        raise FileNotFoundError(
            f"{len(lost)} pictures are in no folder of "
            f"{folder / 'images'}; the first is {lost.iloc[0]}"
        )
    return names.map(split_of).set_axis(names)


def write_table(split_of: pd.Series, path: pathlib.Path) -> pd.DataFrame:
    """Write the hashes and sets, sorted by hash; the same bytes every time.

    Parameters
    ----------
    split_of : pd.Series
        The set of each picture, indexed by `img_name`.
    path : pathlib.Path
        The file to write, gzip-compressed CSV.

    Returns
    -------
    pd.DataFrame
        The table written: `name_hash` and `split`.

    Raises
    ------
    ValueError
        Two names share a hash.
    """
    hashes = split_of.index.map(name_hash)
    table = pd.DataFrame({"name_hash": hashes, "split": split_of.to_numpy()})
    if table["name_hash"].duplicated().any():
        raise ValueError("two names share a hash: store more of its digits")
    table = table.sort_values("name_hash", ignore_index=True)
    text = table.to_csv(index=False, lineterminator="\n").encode("ascii")
    path.write_bytes(gzip.compress(text, compresslevel=9, mtime=0))
    return table


def main() -> None:
    """Read the arguments, write the table and say what it holds."""
    data = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=pathlib.Path,
        default=data,
        help="folder with age_gender.csv and images/ (default: data)",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=data / "split.csv.gz",
        help="file to write (default: data/split.csv.gz)",
    )
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
