"""Every layout a user has, everything that may be wrong in it, and the sample."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from notebook_cells import NOTEBOOK

ROW_FAULTS = {  # what a row says, and what it is called
    "age 117": ("age", 117, "age not a whole number from 0 to 116"),
    "age -1": ("age", -1, "age not a whole number from 0 to 116"),
    "age abc": ("age", "abc", "age not a whole number from 0 to 116"),
    "age 12.5": ("age", 12.5, "age not a whole number from 0 to 116"),
    "age missing": ("age", None, "age not a whole number from 0 to 116"),
    "age infinite": ("age", "inf", "age not a whole number from 0 to 116"),
    "gender 2": ("gender", 2, "gender not 0 or 1"),
    "gender 0.5": ("gender", 0.5, "gender not 0 or 1"),
    "gender f": ("gender", "f", "gender not 0 or 1"),
    "ethnicity 7": ("ethnicity", 7, "ethnicity not 0 to 4"),
    "ethnicity missing": ("ethnicity", None, "ethnicity not 0 to 4"),
    "no name": ("img_name", None, "no image name"),
    "blank name": ("img_name", "  ", "no image name"),
    "another row's name": ("img_name", "face_00.jpg", "image name used by an earlier"),
    "a name without image": ("img_name", "gone.jpg", "row whose image is missing"),
    "another folder": ("img_name", "../val/face_30.jpg", "image name that is a path"),
}
FILE_FAULTS = ("image without a row", "image also in an earlier set")


def change_row(folder, row, column, value):
    """Change one value of `age_gender.csv`; rows count from 1."""
    path = folder / "age_gender.csv"
    labels = pd.read_csv(path, dtype=object)
    labels.loc[row - 1, column] = value
    labels.to_csv(path, index=False)


def left_out(faults):
    """Give the faults that left a row out."""
    used = faults["fault"].str.startswith("resized")
    return faults[~used & ~faults["fault"].isin(FILE_FAULTS)]


def split_of(folder):
    """Say in which set's folder each picture lies."""
    paths = sorted(folder.glob("images/*/*"))
    assert len({path.name for path in paths}) == len(paths)
    return pd.Series({path.name: path.parent.name for path in paths})


class TestLayouts:
    def test_auto_finds_it_and_it_loads(self, notebook, layout):
        kind, data_dir = layout
        found, folder, sentence = notebook.provide_data("auto", data_dir, 300)
        assert found == kind
        assert str(folder) in sentence
        table, images, faults = notebook.load_folder(folder)
        assert faults.empty
        assert len(table) == len(images) == 300
        assert set(table) == {*notebook.COLUMNS, "split"}
        assert images.dtype == np.uint8 and images.std() > 20
        assert table["img_name"].is_monotonic_increasing
        assert table["split"].value_counts().tolist() == pytest.approx(
            [192, 60, 48], abs=1
        )

    def test_its_own_choice_finds_it_too(self, notebook, layout):
        kind, data_dir = layout
        assert notebook.provide_data(kind, data_dir, 300)[0] == kind

    def test_nothing_is_written_twice(self, notebook, layout):
        _, data_dir = layout
        _, folder, _ = notebook.provide_data("auto", data_dir, 300)
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        assert notebook.provide_data("auto", data_dir, 300)[1] == folder
        assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    def test_an_unknown_choice_is_refused(self, notebook, tmp_path):
        with pytest.raises(ValueError, match="DATA is 'mine'; use 'auto' or one of"):
            notebook.provide_data("mine", tmp_path, 300)

    @pytest.mark.parametrize("choice", ["folder", "csv", "kaggle"])
    def test_chosen_data_that_are_not_there(self, notebook, tmp_path, offline, choice):
        with pytest.raises(FileNotFoundError, match="README.md.* set DATA to 'auto'"):
            notebook.provide_data(choice, tmp_path, 300)

    def test_an_unknown_profile_is_refused(self, notebook):
        with pytest.raises(ValueError, match="PROFILE is 'fast'; use 'full' or"):
            notebook.scale_down(notebook.MAIN_RUN, "fast", "sample")


class TestNames:
    def known(self, notebook, table):
        hashes = table["img_name"].map(notebook.hash_name)
        return pd.Series(table["split"].to_numpy(), index=hashes)

    def test_the_sample_is_named_by_its_size(self, notebook, loaded):
        name = notebook.name_data("sample", loaded[0], pd.Series(dtype=str))
        assert name == "sample-300"

    def test_known_names_in_the_known_sets_are_utkface(self, notebook, loaded):
        table = loaded[0]
        known = self.known(notebook, table)
        assert notebook.name_data("folder", table, known) == "utkface"
        missing_one = table.drop(index=5)
        assert notebook.name_data("csv", missing_one, known) == "utkface"

    def test_other_sets_or_names_are_the_users_own(self, notebook, loaded):
        table = loaded[0]
        other_sets = table.assign(split=np.roll(table["split"], 1))
        named = [
            notebook.name_data("folder", table, pd.Series(dtype=str)),
            notebook.name_data("folder", other_sets, self.known(notebook, table)),
            notebook.name_data("folder", table[:-1], pd.Series(dtype=str)),
        ]
        assert all(name.startswith("own-") and len(name) == 10 for name in named)
        assert len(set(named)) == 3
        shuffled = table.sample(frac=1, random_state=0)
        again = notebook.name_data("folder", shuffled, pd.Series(dtype=str))
        assert again == named[0]

    def test_other_files_beside_the_pictures_change_no_name(self, notebook, loaded):
        table, nothing = loaded[0], pd.Series(dtype=str)
        others = ["notes.txt", "Thumbs.db", "desktop.ini", "a.csv", "b", "c.md"]
        beside = pd.DataFrame({"img_name": others, "split": "train"})
        more = pd.concat([table, beside], ignore_index=True)
        for known, name in ((self.known(notebook, table), "utkface"), (nothing, None)):
            expected = name or notebook.name_data("folder", table, nothing)
            assert notebook.name_data("folder", more, known) == expected

    def test_a_missing_split_table_is_told(
        self, notebook, tmp_path, monkeypatch, capsys
    ):
        assert len(notebook.read_split_table()) == 23_479
        assert not capsys.readouterr().out
        monkeypatch.setattr(notebook, "SHIPPED_DATA", tmp_path)
        assert notebook.read_split_table().empty
        (line,) = capsys.readouterr().out.splitlines()
        assert "split.csv.gz is not there: images are split anew" in line


class TestPixelCsv:
    @pytest.fixture
    def imported(self, notebook, tmp_path):
        """Write rows as a CSV and import it; returns the folder."""

        def run(rows, **options):
            path = tmp_path / "pixels.csv"
            rows.to_csv(path, index=False, **options)
            return notebook.import_pixel_csv(path, tmp_path / "imported")

        return run

    @pytest.fixture
    def know(self, notebook, monkeypatch):
        """Let the split table know names and their sets."""

        def table(sets):
            hashes = [notebook.hash_name(name) for name in sets]
            series = pd.Series(list(sets.values()), index=hashes, dtype=object)
            monkeypatch.setattr(notebook, "read_split_table", lambda: series)

        return table

    def test_pictures_and_labels_are_those_of_the_rows(
        self, notebook, imported, pixel_rows, loaded
    ):
        table, images, faults = notebook.load_folder(imported(pixel_rows))
        assert faults.empty
        columns = ["img_name", *notebook.LABELS]
        pd.testing.assert_frame_equal(table[columns], pixel_rows[columns])
        difference = images.astype(int) - loaded[1]  # JPEG loses a little
        assert np.abs(difference).mean() < 2

    def test_unknown_names_are_split_64_16_20_stratified(self, imported, pixel_rows):
        split = split_of(imported(pixel_rows))
        assert split.value_counts().to_dict() == {"train": 192, "test": 60, "val": 48}
        gender = pixel_rows.set_index("img_name")["gender"]
        female = gender.groupby(split).mean()
        np.testing.assert_allclose(female, gender.mean(), atol=0.02)

    def test_the_split_is_the_same_every_time(
        self, notebook, imported, pixel_rows, tmp_path
    ):
        first = split_of(imported(pixel_rows))
        again = notebook.import_pixel_csv(tmp_path / "pixels.csv", tmp_path / "again")
        pd.testing.assert_series_equal(first, split_of(again))

    def test_known_names_keep_their_sets(self, imported, pixel_rows, know):
        names = pixel_rows["img_name"]
        sets = dict(
            zip(names[:150], np.resize(["test", "val", "train"], 150), strict=True)
        )
        know(sets)
        split = split_of(imported(pixel_rows))
        assert split[list(sets)].to_dict() == sets
        rest = split.drop(list(sets)).value_counts()
        assert rest.to_dict() == {"train": 96, "test": 30, "val": 24}

    def test_identical_pictures_stay_in_one_set(self, imported, pixel_rows, know):
        rows = pixel_rows.copy()
        rows.loc[100:199, "pixels"] = rows["pixels"].to_numpy()[:100]
        rows.loc[200:249, "pixels"] = rows["pixels"].to_numpy()[:50]
        know({"face_000.jpg": "val"})
        split = split_of(imported(rows))
        assert split.groupby(rows.set_index("img_name")["pixels"]).nunique().max() == 1
        assert set(split[["face_000.jpg", "face_100.jpg", "face_200.jpg"]]) == {"val"}

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_a_few_unknown_names_among_known_ones(
        self, notebook, imported, pixel_rows, know, count
    ):
        names = pixel_rows["img_name"][count:]
        know(dict(zip(names, np.resize(notebook.SPLITS, len(names)), strict=True)))
        assert len(notebook.load_folder(imported(pixel_rows))[0]) == 300

    def test_a_changed_csv_is_imported_again(self, notebook, imported, pixel_rows):
        imported(pixel_rows)
        fewer = notebook.load_folder(imported(pixel_rows[:200]))[0]
        assert len(fewer) == 200

    def test_an_import_that_was_cut_off_is_begun_anew(
        self, notebook, tmp_path, pixel_rows, monkeypatch
    ):
        path, folder = tmp_path / "pixels.csv", tmp_path / "imported"
        pixel_rows.to_csv(path, index=False)
        save = notebook.PIL.Image.Image.save

        def save_until_cut_off(picture, target, **options):
            if target.name == "face_100.jpg":
                raise KeyboardInterrupt
            save(picture, target, **options)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(notebook.PIL.Image.Image, "save", save_until_cut_off)
            notebook.import_pixel_csv(path, folder)
        (folder / "images/train/left_behind.jpg").touch()
        table, _, faults = notebook.load_folder(notebook.import_pixel_csv(path, folder))
        assert len(table) == 300 and faults.empty

    @pytest.mark.parametrize(
        "pixels",
        {
            "too few": " ".join(["9"] * 2303),
            "too many": " ".join(["9"] * 2305),
            "none": "",
            "256": " ".join(["9"] * 2303 + ["256"]),
            "-1": " ".join(["-1"] + ["9"] * 2303),
            "huge": " ".join(["9" * 30] + ["9"] * 2303),
            "a word": " ".join(["nine"] + ["9"] * 2303),
            "a fraction": " ".join(["9.5"] + ["9"] * 2303),
            "nan": " ".join(["nan"] + ["9"] * 2303),
        }.items(),
        ids=lambda item: item[0],
    )
    def test_bad_pixels_are_named_and_left_out(
        self, notebook, imported, pixel_rows, capsys, pixels
    ):
        rows = pixel_rows.copy()
        rows.loc[6, "pixels"] = pixels[1]
        table, _, faults = notebook.load_folder(imported(rows))
        assert "Row 7 has no 2304 pixels from 0 to 255" in capsys.readouterr().out
        assert faults["row"].tolist() == [7]
        assert len(table) + len(left_out(faults)) == 300

    @pytest.mark.parametrize(
        "name", ["../escape.jpg", "a/b.jpg", "/escape.jpg", "..", "", None]
    )
    def test_a_name_that_is_a_path_writes_no_file(
        self, notebook, imported, pixel_rows, tmp_path, name
    ):
        rows = pixel_rows.copy()
        rows.loc[6, "img_name"] = name
        folder = imported(rows)
        table, _, faults = notebook.load_folder(folder)
        assert faults["row"].tolist() == [7]
        assert len(table) == len(list(folder.glob("images/*/*"))) == 299
        assert not list(tmp_path.rglob("escape.jpg"))

    @pytest.mark.parametrize("name", ["face", "face.txt", "face.webp", "face.gif"])
    def test_a_name_that_is_no_pictures_is_left_out(
        self, notebook, imported, pixel_rows, name
    ):
        rows = pixel_rows.copy()
        rows.loc[6, "img_name"] = name
        table, _, faults = notebook.load_folder(imported(rows))
        assert faults["row"].tolist() == [7]
        assert len(table) == 299

    def test_a_blank_after_a_name_does_no_harm(self, notebook, imported, pixel_rows):
        rows = pixel_rows.copy()
        rows.loc[6, "img_name"] += " "
        table, _, faults = notebook.load_folder(imported(rows))
        assert len(table) + len(left_out(faults)) == 300

    def test_a_name_used_twice_keeps_its_first_picture(
        self, notebook, imported, pixel_rows
    ):
        rows = pixel_rows.copy()
        rows.loc[6, "img_name"] = "face_002.jpg"
        table, images, faults = notebook.load_folder(imported(rows))
        assert faults["fault"].tolist() == ["image name used by an earlier row"]
        assert len(table) == 299
        first = notebook.parse_pixels(rows["pixels"][2]).astype(int)
        kept = images[table["img_name"] == "face_002.jpg"][0]
        assert np.abs(first - kept).mean() < 3

    @pytest.mark.parametrize(
        ("column", "value"), [("gender", 2), ("gender", None), ("gender", "f")]
    )
    def test_bad_labels_are_left_out_whatever_the_split_needs(
        self, notebook, imported, pixel_rows, column, value
    ):
        rows = pixel_rows.astype({column: object})
        rows.loc[6, column] = value
        table, _, faults = notebook.load_folder(imported(rows))
        assert faults["row"].tolist() == [7]
        assert len(table) == 299

    def test_blanks_after_the_commas_of_the_heading(
        self, notebook, tmp_path, pixel_rows
    ):
        path = tmp_path / "pixels.csv"
        text = pixel_rows.to_csv(index=False)
        heading, rows = text.split("\n", 1)
        path.write_text(f"{heading.replace(',', ', ')}\n{rows}")
        folder = notebook.import_pixel_csv(path, tmp_path / "imported")
        assert len(notebook.load_folder(folder)[0]) == 300

    @pytest.mark.parametrize(
        "change", [{"pixels": "1 2 3"}, {"age": -1}, {"img_name": "face"}], ids=str
    )
    def test_no_row_is_usable(self, imported, pixel_rows, tmp_path, change):
        with pytest.raises(ValueError, match="pixels.csv has no row with usable.*see"):
            imported(pixel_rows.assign(**change))
        assert not (tmp_path / "imported").exists()

    def test_a_missing_column_is_named(self, imported, pixel_rows):
        with pytest.raises(ValueError, match="no column ethnicity.*Rename or add"):
            imported(pixel_rows.drop(columns="ethnicity"))


class TestFaults:
    @pytest.mark.parametrize(
        ("column", "value", "fault"), ROW_FAULTS.values(), ids=ROW_FAULTS.keys()
    )
    def test_a_bad_row_is_named_and_left_out(
        self, notebook, small_folder, column, value, fault
    ):
        change_row(small_folder, 4, column, value)
        table, images, faults = notebook.load_folder(small_folder)
        out = left_out(faults)
        assert out["row"].tolist() == [4]
        assert out["fault"].iloc[0].startswith(fault)
        assert "face_03.jpg" not in set(table["img_name"])
        assert len(table) == len(images) == 59
        told = notebook.summarise_faults(out).iloc[0]
        assert told["How many"] == 1
        assert told["First"] == "row 4"
        assert told["What was done"] == "left out"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is not a CSV file.*Save the table as CSV"),
            ("age,gender,ethnicity,img_name\n", "has no rows. Put the assignment's"),
            ("age,gender,img_name\n1,0,a.jpg\n", "has no column ethnicity;.*Rename"),
            ("age;gender;ethnicity;img_name\n1;0;0;a.jpg\n", "has no column age,"),
        ],
        ids=["empty", "no rows", "no column", "semicolons"],
    )
    def test_a_bad_table_is_refused(self, notebook, small_folder, text, message):
        (small_folder / "age_gender.csv").write_text(text)
        with pytest.raises(ValueError, match=f"age_gender.csv {message}"):
            notebook.load_folder(small_folder)

    def test_a_picture_in_place_of_the_table(self, notebook, small_folder):
        picture = small_folder / "images/train/face_00.jpg"
        picture.replace(small_folder / "age_gender.csv")
        with pytest.raises(ValueError, match="age_gender.csv is not a CSV.*Save the"):
            notebook.load_folder(small_folder)

    def test_an_archive_in_place_of_the_table(self, notebook, small_folder):
        with zipfile.ZipFile(small_folder / "age_gender.csv", "w") as archive:
            archive.writestr("table", bytes(range(256)))
        with pytest.raises(ValueError, match="age_gender.csv is not a CSV.*Save the"):
            notebook.load_folder(small_folder)

    def test_no_folder_of_images(self, notebook, small_folder):
        (small_folder / "images").rename(small_folder / "pictures")
        with pytest.raises(FileNotFoundError, match="age_gender.csv.*images.*put the"):
            notebook.provide_data("auto", small_folder, 300)

    @pytest.mark.parametrize("split", ["train", "val", "test"])
    def test_an_empty_or_missing_set(self, notebook, small_folder, split):
        folder = small_folder / "images" / split
        for path in folder.iterdir():
            path.unlink()
        for _ in range(2):
            with pytest.raises(
                FileNotFoundError, match=f"{split} is.*Put the pictures"
            ):
                notebook.load_folder(small_folder)
            if folder.exists():
                folder.rmdir()

    def test_a_set_without_a_usable_picture(self, notebook, small_folder):
        for path in (small_folder / "images/val").iterdir():
            path.write_bytes(b"")
        with pytest.raises(ValueError, match="No usable image.* val set.*compare"):
            notebook.load_folder(small_folder)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: content[: len(content) // 2],
            lambda content: b"",
            lambda content: b"age,gender\n",
        ],
        ids=["truncated", "zero bytes", "a text"],
    )
    def test_a_broken_picture_is_named_and_left_out(
        self, notebook, small_folder, damage
    ):
        path = small_folder / "images/train/face_03.jpg"
        path.write_bytes(damage(path.read_bytes()))
        table, images, faults = notebook.load_folder(small_folder)
        assert faults["fault"].tolist() == ["broken picture"]
        assert notebook.summarise_faults(faults)["First"].tolist() == ["`face_03.jpg`"]
        assert len(table) == len(images) == 59
        assert images.max(axis=(1, 2)).min() > 0

    @pytest.mark.parametrize("name", ["face_03.webp", "face_03.txt", "face_03.gif"])
    def test_a_file_that_generators_do_not_read(self, notebook, small_folder, name):
        change_row(small_folder, 4, "img_name", name)
        path = small_folder / "images/train/face_03.jpg"
        path.rename(path.with_name(name))
        _, _, faults = notebook.load_folder(small_folder)
        assert faults["fault"].tolist() == ["file that is not an image"]
        assert faults["row"].tolist() == [4]

    @pytest.mark.parametrize("name", ["notes.txt", "more.jpg", "Thumbs.db"])
    def test_a_file_without_a_row(self, notebook, small_folder, name):
        (small_folder / "images/test" / name).write_text("no picture")
        table, _, faults = notebook.load_folder(small_folder)
        assert faults["fault"].tolist() == ["image without a row"]
        assert faults["img_name"].tolist() == [name]
        assert len(table) == 60

    def test_hidden_files_and_folders_are_not_seen(self, notebook, small_folder):
        images = small_folder / "images"
        before = notebook.list_pictures(images)
        for split in notebook.SPLITS:
            (images / split / ".DS_Store").write_text("of a system")
            (images / split / "._face_00.jpg").write_text("of a system")
            (images / split / ".ipynb_checkpoints").mkdir()
            (images / split / "folder.jpg").mkdir()
        pd.testing.assert_frame_equal(notebook.list_pictures(images), before)
        table, _, faults = notebook.load_folder(small_folder)
        assert len(table) == 60 and faults.empty

    def test_hidden_files_alone_are_an_empty_set(self, notebook, small_folder):
        folder = small_folder / "images/val"
        for path in folder.iterdir():
            path.unlink()
        (folder / ".DS_Store").write_text("of a system")
        with pytest.raises(FileNotFoundError, match="val is missing or empty"):
            notebook.load_folder(small_folder)

    def test_a_rows_first_fault_is_its_fault(self, notebook, small_folder):
        labels = notebook.read_labels(small_folder / "age_gender.csv").astype(object)
        names = labels["img_name"][:50].copy()
        assert notebook.find_row_faults(labels, names)[:50].isna().all()
        labels.loc[3, ["age", "gender"]] = [-1, 7]
        labels.loc[4, ["img_name", "gender"]] = ["face_03.jpg", 7]
        labels.loc[5, "img_name"] = "face_03.jpg"
        found = notebook.find_row_faults(labels, names)
        assert found.index.equals(labels.index)
        assert found.dropna()[:3].to_dict() == {
            3: "age not a whole number from 0 to 116",
            4: "gender not 0 or 1",
            5: "image name used by an earlier row",
        }
        assert set(found[50:]) == {"row whose image is missing"}

    def test_where_a_kind_of_fault_comes_first(self, notebook, small_folder):
        for row in (7, 4):
            change_row(small_folder, row, "age", 200)
        (small_folder / "images/test/more.jpg").write_text("no picture")
        faults = notebook.load_folder(small_folder)[2]
        summary = notebook.summarise_faults(faults).set_index("What is wrong")
        assert summary["First"].to_dict() == {
            "age not a whole number from 0 to 116": "row 4",
            "image without a row": "`more.jpg`",
        }
        assert summary["How many"].tolist() == [2, 1]

    def test_a_row_without_its_image(self, notebook, small_folder):
        (small_folder / "images/val/face_34.jpg").unlink()
        _, _, faults = notebook.load_folder(small_folder)
        assert faults["fault"].tolist() == ["row whose image is missing"]
        assert faults["row"].tolist() == [35]

    def test_an_image_in_two_sets_stays_in_the_first(self, notebook, small_folder):
        images = small_folder / "images"
        content = (images / "train/face_03.jpg").read_bytes()
        (images / "test/face_03.jpg").write_bytes(content)
        table, _, faults = notebook.load_folder(small_folder)
        assert faults["fault"].tolist() == ["image also in an earlier set"]
        assert table.set_index("img_name").loc["face_03.jpg", "split"] == "train"

    @pytest.mark.parametrize(
        ("shape", "faults"),
        [
            ((48, 48, 3), []),
            ((48, 48, 4), []),
            ((200, 200, 3), ["resized to 48×48"]),
            ((20, 30), ["resized to 48×48"]),
        ],
        ids=["RGB", "RGBA", "large RGB", "small"],
    )
    def test_other_kinds_of_pictures_are_used(
        self, notebook, small_folder, save_picture, shape, faults
    ):
        change_row(small_folder, 4, "img_name", "face_03.png")
        path = small_folder / "images/train/face_03.jpg"
        path.unlink()
        save_picture(path.with_suffix(".png"), np.full(shape, 90, "uint8"))
        table, images, found = notebook.load_folder(small_folder)
        assert found["fault"].tolist() == faults
        assert (images[table["img_name"] == "face_03.png"] == 90).all()
        assert len(table) == 60
        if faults:
            told = notebook.summarise_faults(found)
            assert told["What was done"].tolist() == ["used"]

    def test_faults_add_up(self, notebook, small_folder):
        for number, fault in enumerate(ROW_FAULTS.values()):
            change_row(small_folder, 3 * number + 2, *fault[:2])
        images = small_folder / "images"
        (images / "val/face_35.jpg").write_bytes(b"")
        (images / "test/notes.txt").write_text("no picture")
        table, _, faults = notebook.load_folder(small_folder)
        assert len(left_out(faults)) == len(ROW_FAULTS) + 1
        assert len(table) + len(left_out(faults)) == 60
        summary = notebook.summarise_faults(faults)
        assert summary["How many"].sum() == len(faults)
        assert set(summary["What was done"]) == {"left out"}

    def test_nothing_wrong(self, notebook, small_folder):
        faults = notebook.load_folder(small_folder)[2]
        assert notebook.summarise_faults(faults)["How many"].tolist() == [0]

    def test_generators_deliver_every_row_of_the_table(self, notebook, small_folder):
        for number, fault in enumerate(ROW_FAULTS.values()):
            change_row(small_folder, 3 * number + 2, *fault[:2])
        table, _, _ = notebook.load_folder(small_folder)
        for split in notebook.SPLITS:
            rows = table[table["split"] == split]
            flow = notebook.make_flow(
                notebook.make_datagen(), rows, small_folder / "images"
            )
            assert flow.samples == len(rows)


class TestValidationParts:
    def test_about_half_each_once_and_for_ever(self, notebook):
        names = pd.Series([f"{number}.jpg" for number in range(2000)])
        part = notebook.validation_part(names)
        assert 0.45 < (part == "select").mean() < 0.55
        assert set(part) == {"select", "calibrate"}
        shuffled = names.sample(frac=1, random_state=0)
        again = notebook.validation_part(shuffled)[names.index]
        pd.testing.assert_series_equal(again, part)
        assert part[4:6].tolist() == ["select", "calibrate"]


class TestFacesToShow:
    @pytest.fixture
    def no_face_model(self, notebook, tmp_path, monkeypatch):
        monkeypatch.setattr(notebook, "SHIPPED_DATA", tmp_path)

    def test_they_come_from_the_face_model(self, notebook, loaded, face_model):
        faces, labels = notebook.faces_to_show(*loaded[:2], count=20)
        expected, _ = notebook.sample_faces(face_model, 20, seed=notebook.SEED)
        np.testing.assert_array_equal(faces, expected)
        assert len(labels) == 20

    def test_without_it_each_is_an_average_of_thirty_people(
        self, notebook, face_model, no_face_model
    ):
        images, table = notebook.sample_faces(face_model, 2000, seed=1)
        table["split"] = np.where(np.arange(2000) < 1900, "train", "test")
        faces, labels = notebook.faces_to_show(table, images, count=20)
        assert faces.shape == (20, 48, 48) and faces.dtype == np.uint8
        assert labels.drop_duplicates().shape[0] > 10
        for face, person in zip(faces, labels.itertuples(), strict=True):
            alike = (table["gender"] == person.gender) & (table["split"] == "train")
            alike &= table["ethnicity"] == person.ethnicity
            distance = np.abs(images[alike].astype(int) - face).mean(axis=(1, 2))
            assert distance.min() > 3  # nobody's own picture

    def test_averages_are_those_of_thirty_with_the_same_labels(self, notebook):
        count = 120
        table = pd.DataFrame(
            {
                "split": np.where(np.arange(count) < 100, "train", "test"),
                "age": np.arange(count) % 50,
                "gender": 1,
                "ethnicity": 2,
            }
        )
        images = np.repeat(np.arange(count, dtype="uint8"), 48 * 48)
        images = images.reshape(count, 48, 48)
        faces, labels = notebook.average_faces(table, images, count=20)
        order = table[:100].sort_values("age", kind="stable")
        assert len(faces) == len(labels) == 3  # the last ten are too few
        assert set(labels["gender"]) == {1} and set(labels["ethnicity"]) == {2}
        for start, face, age in zip((0, 30, 60), faces, labels["age"], strict=True):
            people = order[start : start + 30]
            assert age == int(people["age"].median())
            assert face[0, 0] == int(people.index.to_series().mean())

    def test_few_pictures_give_few_faces_and_a_figure(
        self, notebook, loaded, no_face_model
    ):
        faces, labels = notebook.faces_to_show(*loaded[:2], count=20)
        assert len(faces) == len(labels) < 20
        notebook.plt.close(notebook.plot_sample(faces, labels))


class TestSample:
    def test_the_same_faces_every_time(self, notebook, face_model):
        images, table = notebook.sample_faces(face_model, 50, seed=3)
        again, same_table = notebook.sample_faces(face_model, 50, seed=3)
        np.testing.assert_array_equal(images, again)
        pd.testing.assert_frame_equal(table, same_table)
        others, _ = notebook.sample_faces(face_model, 50, seed=4)
        assert (images != others).mean() > 0.5

    @pytest.mark.parametrize(("first", "count"), [(0, 10), (40, 10), (980, 40)])
    def test_a_face_does_not_depend_on_how_many_there_are(
        self, notebook, face_model, first, count
    ):
        images, table = notebook.sample_faces(face_model, 1100, seed=3)
        some, their = notebook.sample_faces(face_model, count, seed=3, first=first)
        here = slice(first, first + count)
        # Products of matrices of other shapes may round otherwise.
        assert np.abs(some.astype(int) - images[here]).max() <= 1
        assert their["img_name"].tolist() == table["img_name"][here].tolist()
        assert their["age"].tolist() == table["age"][here].tolist()

    def test_labels_are_drawn_as_in_the_training_set(self, notebook, face_model):
        labels = notebook.sample_labels(
            face_model, np.random.default_rng(0).random((20000, 2))
        )
        assert labels["age"].between(1, 95).all()
        assert set(labels["gender"]) == {0, 1}
        assert set(labels["ethnicity"]) == set(range(5))
        expected = face_model["group_probability"].sum()
        assert expected > 0
        ages = labels["age"].value_counts(normalize=True).reindex(range(1, 96))
        probability = face_model["age_probability"]
        np.testing.assert_allclose(
            ages.fillna(0), probability / probability.sum(), atol=0.01
        )

    def test_chosen_labels_are_kept(self, notebook, face_model):
        labels = pd.DataFrame(
            {"age": [5, 50, 90], "gender": [0, 1, 0], "ethnicity": [4, 2, 0]}
        )
        _, table = notebook.sample_faces(face_model, 3, seed=1, labels=labels)
        pd.testing.assert_frame_equal(table[list(labels)], labels)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"count": -1, "seed": 1}, "0 or more"),
            ({"count": 1, "seed": -1}, "0 or more"),
            ({"count": 2, "seed": 1, "labels": pd.DataFrame()}, "2 faces need as many"),
        ],
    )
    def test_senseless_requests(self, notebook, face_model, arguments, message):
        with pytest.raises(ValueError, match=message):
            notebook.sample_faces(face_model, **arguments)

    @pytest.mark.parametrize(
        ("label", "value"), [("gender", 2), ("ethnicity", -1), ("age", np.nan)]
    )
    def test_labels_out_of_range(self, notebook, face_model, label, value):
        person = {"age": 30, "gender": 0, "ethnicity": 0} | {label: value}
        with pytest.raises(ValueError, match=label):
            notebook.draw_faces(face_model, pd.DataFrame([person]), np.zeros((1, 150)))

    def test_a_face_without_deviation_is_that_of_its_labels(self, notebook, face_model):
        people = pd.DataFrame({"age": [1, 1, 90], "gender": 0, "ethnicity": 0})
        faces = notebook.draw_faces(face_model, people, np.zeros((3, 150)))
        assert faces.shape == (3, 48, 48) and faces.dtype == np.uint8
        child, same, old = faces.astype(int)
        assert (child == same).all()
        assert np.abs(child - old).mean() > 10

    @pytest.mark.parametrize(
        ("content", "message"),
        [(b"", "cannot be read as a face model"), (None, "there is no face model at")],
    )
    def test_a_face_model_that_is_none(self, notebook, tmp_path, content, message):
        path = tmp_path / "face_model.npz"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            notebook.load_face_model(path)

    def test_an_archive_of_something_else(self, notebook, tmp_path):
        np.savez(tmp_path / "other.npz", mean=np.zeros(3))
        with pytest.raises(ValueError, match="other.npz is no face model: it lacks"):
            notebook.load_face_model(tmp_path / "other.npz")

    def test_another_number_of_faces_gets_its_own_folder(
        self, notebook, data_folder, tmp_path
    ):
        folder, _ = notebook.use_sample(tmp_path, 100)
        assert folder.name == "synthetic_100"
        assert len(split_of(folder)) == 100

    def test_another_seed_leaves_no_face_behind(self, notebook, tmp_path, monkeypatch):
        for seed in (1, 2):
            monkeypatch.setattr(notebook, "SEED", seed)
            folder, _ = notebook.use_sample(tmp_path, 100)
            source = json.loads((folder / "source.json").read_text())
            assert source["seed"] == seed
            images, _ = notebook.sample_faces(
                notebook.load_face_model(
                    notebook.SHIPPED_DATA / "sample/face_model.npz"
                ),
                100,
                seed,
            )
            table, found, faults = notebook.load_folder(folder)
            assert faults.empty and len(table) == 100
            np.testing.assert_array_equal(found, images)


LARGE = """
import json, pathlib, resource, sys, time
from notebook_cells import load_functions

notebook = load_functions()
folder = pathlib.Path(sys.argv[1])


def measured(function, *arguments):
    started = time.perf_counter()
    result = function(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    steps.append((function.__name__, round(time.perf_counter() - started), peak))
    return result


steps = []
measured(notebook.has_pixels, folder / "age_gender.csv")  # what it takes to start
imported = folder / "imported"
measured(notebook.import_pixel_csv, folder / "age_gender.csv", imported)
table, images, faults = measured(notebook.load_folder, imported)
audit = measured(notebook.audit_twins, table, images)
twins = notebook.mark_twins(table, audit)["twin"].sum()
sets = table["split"].value_counts().to_dict()
found = {"steps": steps, "faults": len(faults), "twins": int(twins), "sets": sets}
print(json.dumps(found))
"""


@pytest.mark.stress
def test_twenty_thousand_faces(notebook, face_model, tmp_path):
    """Import them from a pixel CSV, load and audit them, in bounded memory."""
    path = tmp_path / "age_gender.csv"
    for first in range(0, 20_000, 2000):
        images, rows = notebook.sample_faces(face_model, 2000, seed=1, first=first)
        rows["pixels"] = [" ".join(map(str, image.ravel())) for image in images]
        rows.to_csv(path, mode="a", index=False, header=first == 0)
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(NOTEBOOK.parent / "tests")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for step, seconds, peak in found["steps"]:
        print(f"{step}: {seconds} s, at most {peak} MiB so far")
    peaks = [peak for _, _, peak in found["steps"]]
    assert peaks[-1] - peaks[0] < 1500
    assert found["faults"] == found["twins"] == 0
    assert found["sets"] == {"train": 12_800, "test": 4_000, "val": 3_200}
