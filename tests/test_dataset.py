"""What is read, what is found wrong, and whose data they are."""

import csv
import pathlib
import tempfile

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

from facekit import dataset, labels, tables

AGE = f"age not a whole number from 0 to {labels.AGES[-1]}"
ROW_FAULTS = {  # what a row says, and what it is called
    "age 117": ("age", 117, AGE),
    "age -1": ("age", -1, AGE),
    "age abc": ("age", "abc", AGE),
    "age 12.5": ("age", 12.5, AGE),
    "age missing": ("age", None, AGE),
    "age infinite": ("age", "inf", AGE),
    "gender 2": ("gender", 2, "gender not 0 or 1"),
    "gender 0.5": ("gender", 0.5, "gender not 0 or 1"),
    "gender f": ("gender", "f", "gender not 0 or 1"),
    "ethnicity 7": ("ethnicity", 7, "ethnicity not 0 to 4"),
    "ethnicity missing": ("ethnicity", None, "ethnicity not 0 to 4"),
    "no name": ("img_name", None, "no image name"),
    "blank name": ("img_name", "  ", "no image name"),
    "another row's": ("img_name", "face_000.jpg", "image name used by an earlier row"),
    "without image": ("img_name", "gone.jpg", "row whose image is missing"),
    "another folder": ("img_name", "../val/face_030.jpg", "image name that is a path"),
}


def change_row(folder, row, column, value):
    """Change one value of `age_gender.csv`; rows count from 1."""
    path = folder / "age_gender.csv"
    table = pd.read_csv(path, dtype=object)
    table.loc[row - 1, column] = value
    table.to_csv(path, index=False)


def left_out(faults):
    """Give the faults that left a row out."""
    return faults[~faults["used"].astype(bool) & (faults["row"] > 0)]


class TestLoad:
    def test_it_is_what_was_written(self, data, data_folder):
        assert data.folder == data_folder / "images" and data.name == "sample"
        assert set(data.table) == {*labels.COLUMNS, "split"}
        assert data.table["img_name"].is_monotonic_increasing
        assert data.images.shape == (300, 48, 48) and data.images.dtype == np.uint8
        sizes = [len(data.rows(split)) for split in labels.SPLITS]
        assert sizes == [192, 48, 60]
        for split in labels.SPLITS:
            for name in data.rows(split)["img_name"]:
                assert (data.folder / split / name).is_file()

    def test_the_digest_is_that_of_names_labels_and_pixels(
        self, small_folder, save_picture
    ):
        digests = [dataset.load(small_folder).digest for _ in range(2)]
        change_row(small_folder, 4, "age", 77)
        digests.append(dataset.load(small_folder).digest)
        path = small_folder / "images/train/face_004.jpg"
        save_picture(path, np.full((48, 48), 90, "uint8"))
        digests.append(dataset.load(small_folder).digest)
        path.rename(path.with_name("other.jpg"))
        change_row(small_folder, 5, "img_name", "other.jpg")
        digests.append(dataset.load(small_folder).digest)
        assert digests[0] == digests[1] and len(set(digests)) == 4
        assert all(len(digest) == 6 for digest in digests)


class TestWhoseDataTheyAre:
    @pytest.fixture
    def assignment(self, know):
        """Make data that are told like the assignment's: 300 rows, 100 by set."""
        splits = np.repeat(labels.SPLITS, 100)
        table = pd.DataFrame({"img_name": map("{}.jpg".format, range(300))})
        table = table.assign(split=splits, gender=0, age=0.0)
        images = np.empty((300, 48, 48))
        for split, (age, female, mean, spread) in dataset.UTKFACE.items():
            rows = table.index[splits == split]
            table.loc[rows[: round(100 * female)], "gender"] = 1
            table.loc[rows, "age"] = np.resize([age - 5, age + 5], 100)
            pattern = np.resize([mean - spread, mean + spread], (48, 49))
            images[rows] = pattern[:, 1:]
        know(dict(zip(table["img_name"], splits, strict=True)))
        return table, images

    def test_names_sets_labels_and_grey_levels_make_utkface(self, assignment):
        table, images = assignment
        assert dataset.is_utkface(table, images)
        fewer = table.drop(index=[7, 140])  # single pictures may be missing
        assert dataset.is_utkface(fewer, images[fewer.index])
        again = (images + np.random.default_rng(0).normal(0, 5, images.shape)).clip(0)
        assert dataset.is_utkface(table, again)  # compressed anew

    @pytest.mark.parametrize(
        "change",
        {
            "black pictures": lambda table, images: (table, np.zeros_like(images)),
            "one set negative": lambda table, images: (
                table,
                np.where(np.arange(300)[:, None, None] < 100, 200 - images, images),
            ),
            "other ages": lambda table, images: (table.assign(age=40), images),
            "genders turned": lambda table, images: (
                table.assign(gender=1 - table["gender"]),
                images,
            ),
            "other sets": lambda table, images: (
                table.assign(split=np.roll(table["split"], 9)),
                images,
            ),
            "other names": lambda table, images: (
                table.assign(img_name=table["img_name"] + "g"),
                images,
            ),
            "a half": lambda table, images: (
                table[table.index // 2 % 2 == 0],
                images[table.index // 2 % 2 == 0],
            ),
            "much more": lambda table, images: (
                pd.concat([table, table.assign(img_name="more" + table["img_name"])]),
                np.concatenate([images, images]),
            ),
        }.items(),
        ids=lambda item: item[0],
    )
    def test_anything_else_does_not(self, assignment, change):
        assert not dataset.is_utkface(*change[1](*assignment))

    def test_the_synthetic_faces_are_neither(self, data_folder, data):
        assert dataset.load(data_folder).name == "own"
        assert data.name == "sample"


class TestFaults:
    @pytest.mark.parametrize(
        ("column", "value", "fault"), ROW_FAULTS.values(), ids=ROW_FAULTS.keys()
    )
    def test_a_bad_row_is_named_and_left_out(self, small_folder, column, value, fault):
        change_row(small_folder, 4, column, value)
        found = dataset.load(small_folder)
        out = left_out(found.faults)
        assert out["row"].tolist() == [4] and out["fault"].tolist() == [fault]
        assert "face_003.jpg" not in set(found.table["img_name"])
        assert len(found.table) == len(found.images) == 59
        told = dataset.summarise_faults(out).iloc[0].to_dict()
        assert told == {
            "What is wrong": fault,
            "How many": 1,
            "First": "row 4",
            "What was done": "left out",
        }

    def test_faults_add_up(self, small_folder):
        for number, fault in enumerate(ROW_FAULTS.values()):
            change_row(small_folder, 3 * number + 2, *fault[:2])
        images = small_folder / "images"
        (images / "val/face_036.jpg").write_bytes(b"")
        (images / "test/notes.txt").write_text("no picture")
        found = dataset.load(small_folder)
        assert len(found.table) == 60 - len(ROW_FAULTS) - 1
        assert len(left_out(found.faults)) == len(ROW_FAULTS)
        summary = dataset.summarise_faults(found.faults)
        assert summary["How many"].sum() == len(found.faults)
        assert set(summary["What was done"]) == {"left out"}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is empty. Put the assignment's"),
            ("age,gender,ethnicity,img_name\n1,0,0,\xff.jpg\n", "is not a CSV file"),
            ("age,gender,ethnicity,img_name\n", "has no rows. Put the assignment's"),
            ("age,gender,img_name\n1,0,a.jpg\n", "has no column ethnicity;.*Rename"),
            ("age gender ethnicity img_name\n1 0 0 a.jpg\n", "has no column age,"),
        ],
        ids=["empty", "not UTF-8", "no rows", "no column", "blanks"],
    )
    def test_a_bad_table_is_refused(self, small_folder, text, message):
        (small_folder / "age_gender.csv").write_text(text, "latin-1")
        with pytest.raises(ValueError, match=f"age_gender.csv {message}"):
            dataset.load(small_folder)

    @pytest.mark.parametrize("split", labels.SPLITS)
    def test_an_empty_or_missing_set(self, small_folder, split):
        folder = small_folder / "images" / split
        for path in folder.iterdir():
            path.unlink()
        (folder / ".DS_Store").write_text("of a system")
        message = f"images/{split} is missing or empty. Put the pictures"
        with pytest.raises(FileNotFoundError, match=message):
            dataset.load(small_folder)
        (folder / ".DS_Store").unlink()
        folder.rmdir()
        with pytest.raises(FileNotFoundError, match=message):
            dataset.load(small_folder)

    def test_a_set_without_a_usable_picture(self, small_folder):
        for path in (small_folder / "images/val").iterdir():
            path.write_bytes(b"")
        with pytest.raises(ValueError, match="No usable image.* val set: compare"):
            dataset.load(small_folder)

    @pytest.mark.parametrize(
        "damage",
        [lambda content: content[: len(content) // 2], lambda _: b"", lambda _: b"a,b"],
        ids=["truncated", "zero bytes", "a text"],
    )
    def test_a_broken_picture_is_named_and_left_out(self, small_folder, damage):
        path = small_folder / "images/train/face_003.jpg"
        path.write_bytes(damage(path.read_bytes()))
        found = dataset.load(small_folder)
        assert found.faults["fault"].tolist() == ["broken picture"]
        told = dataset.summarise_faults(found.faults)
        assert told["First"].tolist() == ["`face_003.jpg`"]
        assert len(found.table) == len(found.images) == 59
        assert found.images.max(axis=(1, 2)).min() > 0

    @pytest.mark.parametrize(
        ("name", "fault"),
        [
            ("face_003.webp", "GIF or WebP: save it as PNG or JPEG"),
            ("face_003.gif", "GIF or WebP: save it as PNG or JPEG"),
            ("face_003.txt", "file that is not an image"),
        ],
    )
    def test_a_file_that_generators_do_not_read(self, small_folder, name, fault):
        change_row(small_folder, 4, "img_name", name)
        path = small_folder / "images/train/face_003.jpg"
        path.rename(path.with_name(name))
        faults = dataset.load(small_folder).faults
        assert faults["fault"].tolist() == [fault]
        assert faults["row"].tolist() == [4]

    def test_files_without_a_row_and_hidden_ones(self, small_folder):
        images = small_folder / "images"
        for split in labels.SPLITS:
            (images / split / "._face_000.jpg").write_text("of a system")
            (images / split / ".ipynb_checkpoints").mkdir()
            (images / split / "folder.jpg").mkdir()
        (images / "test/more.jpg").write_text("no picture")
        found = dataset.load(small_folder)
        assert found.faults["fault"].tolist() == ["image without a row"]
        assert found.faults["img_name"].tolist() == ["more.jpg"]
        assert len(found.table) == 60

    def test_an_image_in_two_sets_stays_in_the_first(self, small_folder):
        images = small_folder / "images"
        content = (images / "train/face_003.jpg").read_bytes()
        (images / "test/face_003.jpg").write_bytes(content)
        found = dataset.load(small_folder)
        assert found.faults["fault"].tolist() == ["image also in an earlier set"]
        table = found.table.set_index("img_name")
        assert table.loc["face_003.jpg", "split"] == "train" and len(table) == 60

    @pytest.mark.parametrize(
        ("shape", "faults"),
        [
            ((48, 48, 3), []),
            ((48, 48, 4), ["picture: transparent parts"]),
            ((200, 200, 3), ["resized to 48×48"]),
            ((20, 30), ["resized to 48×48"]),
        ],
        ids=["RGB", "RGBA", "large RGB", "small"],
    )
    def test_other_kinds_of_pictures_are_used(
        self, small_folder, save_picture, shape, faults
    ):
        change_row(small_folder, 4, "img_name", "face_003.png")
        path = small_folder / "images/train/face_003.jpg"
        path.unlink()
        save_picture(path.with_suffix(".png"), np.full(shape, 90, "uint8"))
        found = dataset.load(small_folder)
        used = 60 - (shape == (48, 48, 4))
        assert found.faults["fault"].tolist() == faults and len(found.table) == used
        rows = found.table["img_name"] == "face_003.png"
        assert (found.images[rows] == 90).all()
        if faults:
            told = dataset.summarise_faults(found.faults)
            assert told["What was done"][0] == ("used" if used == 60 else "left out")

    def test_no_table_of_faults_names_a_real_picture(self):
        name = "20990101000000123.jpg.chip.jpg"
        faults = dataset.make_faults([(name, "broken picture", 0, False)])
        assert dataset.summarise_faults(faults)["First"].tolist() == [
            "`20990101….jpg.chip.jpg`"
        ]


NAMES = pd.Series([f"face_{number}.jpg" for number in range(6)])
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
NUMBERS = st.integers(-2, 120) | st.sampled_from([0.5, "1.0", " 1", "1e0", "nan", ""])
ROWS = st.tuples(
    NUMBERS | TEXT,
    st.integers(0, 2) | NUMBERS | TEXT,
    st.integers(0, 5) | NUMBERS | TEXT,
    st.sampled_from([*NAMES]) | TEXT,
)


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(st.lists(ROWS, min_size=1, max_size=10))
def test_every_row_is_kept_with_its_labels_or_counted_with_a_reason(rows):
    written = pd.DataFrame(rows, columns=labels.COLUMNS).astype(str)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "age_gender.csv")
        written.to_csv(path, index=False, quoting=csv.QUOTE_ALL)
        given = tables.read_labels(path)
    assert len(given) == len(rows)
    faults = dataset.make_faults(dataset.find_faults(given, NAMES))
    assert faults["fault"].str.len().min() > 0 if len(faults) else True
    counted = faults["row"][faults["row"] > 0].to_list()
    assert len(counted) == len(set(counted))
    kept = written.drop(index=[row - 1 for row in counted])
    assert kept["img_name"].is_unique and set(kept["img_name"]) <= set(NAMES)
    assert set(faults["img_name"][faults["row"] == 0]) == set(NAMES) - set(
        given["img_name"]
    )
    ranges = {"age": labels.AGES, "gender": (0, 1), "ethnicity": range(5)}
    for label, possible in ranges.items():  # the file's labels, and possible ones
        assert set(kept[label].astype(float)) <= set(possible)
