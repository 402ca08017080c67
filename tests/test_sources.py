"""Every layout a user has becomes the assignment's; nothing of the user's is lost."""

import json

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from facekit import dataset, labels, sources, tables


def fingerprint(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def split_of(folder):
    """Say in which set's folder each picture lies."""
    paths = sorted(folder.glob("images/*/*"))
    assert len({path.name for path in paths}) == len(paths)
    return pd.Series({path.name: path.parent.name for path in paths})


class TestLayouts:
    def test_auto_finds_it_once_and_it_loads(self, layout):
        kind, data_dir = layout
        source = sources.find_source("auto", data_dir)
        words = {"folder": "folder", "csv": "pixels", "kaggle": "Kaggle", "sample": "s"}
        assert words[kind] in source.sentence
        assert source.synthetic == (kind == "sample")
        found = dataset.load(source.folder, source.synthetic)
        assert found.faults.empty
        assert found.name == ("sample" if kind == "sample" else "own")
        count = 2000 if kind == "sample" else 300
        sizes = found.table["split"].value_counts(normalize=True).to_dict()
        assert len(found.table) == len(found.images) == count
        expected = {"train": 0.64, "val": 0.16, "test": 0.2}
        assert sizes == pytest.approx(expected, abs=0.005)
        before = fingerprint(source.folder)
        assert sources.find_source("auto", data_dir).folder == source.folder
        assert sources.find_source(kind, data_dir).folder == source.folder
        assert fingerprint(source.folder) == before

    @pytest.mark.parametrize("kind", ["csv", "folder"])
    def test_what_is_attached_on_kaggle_is_found(
        self, tmp_path, monkeypatch, small_folder, pixel_rows, kind
    ):
        attached = tmp_path / "input"
        place = attached / "datasets/someone/faces"
        place.parent.mkdir(parents=True)
        if kind == "csv":
            place.mkdir()
            pixel_rows.to_csv(place / "age_gender.csv", index=False)
        else:
            small_folder.rename(place)
            (place / "source.json").unlink(missing_ok=True)
        before = fingerprint(attached)
        monkeypatch.setattr(sources, "ATTACHED", attached)
        source = sources.find_source("auto", tmp_path / "own")
        assert not source.synthetic and fingerprint(attached) == before
        inside = tmp_path / "own/imported" if kind == "csv" else place
        assert source.folder == inside and dataset.load(source.folder).name == "own"

    def test_an_unknown_choice_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="DATA is 'mine'; use 'auto' or one of"):
            sources.find_source("mine", tmp_path)

    @pytest.mark.parametrize("choice", ["folder", "csv", "kaggle"])
    def test_chosen_data_that_are_not_there(self, tmp_path, offline, choice):
        with pytest.raises(FileNotFoundError, match="README.md names .* 'auto' takes"):
            sources.find_source(choice, tmp_path)

    def test_a_folder_without_its_table_or_its_pictures(self, small_folder):
        (small_folder / "images").rename(small_folder / "pictures")
        with pytest.raises(FileNotFoundError, match="^images is not there.*belongs"):
            sources.find_source("auto", small_folder)
        (small_folder / "pictures").rename(small_folder / "images")
        (small_folder / "age_gender.csv").unlink()
        with pytest.raises(FileNotFoundError, match="^age_gender.csv is not there"):
            sources.find_source("auto", small_folder)

    def test_the_sample_is_known_again_as_synthetic(self, data_folder):
        assert sources.find_source("folder", data_folder).synthetic

    def test_without_its_zip_the_sample_says_so(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sources, "SAMPLE", tmp_path / "faces.zip")
        with pytest.raises(FileNotFoundError, match="faces.zip is not there: it comes"):
            sources.find_source("sample", tmp_path)

    def test_the_sample_is_as_the_assignments_data(self, sample):
        sizes = sample.table["split"].value_counts().to_dict()
        assert sizes == {"train": 1280, "test": 400, "val": 320}
        assert set(sample.table["ethnicity"]) == set(range(5))
        assert set(sample.table["gender"]) == {0, 1}
        assert sample.images.std() > 20 and sample.faults.empty
        assert sources.SAMPLE.stat().st_size < 3e6


class TestPixelCsv:
    @pytest.fixture
    def imported(self, tmp_path):
        """Write rows as a CSV and import it; returns the folder."""

        def run(rows, seed=1):
            (tmp_path / "data").mkdir(exist_ok=True)
            rows.to_csv(tmp_path / "data/pixels.csv", index=False)
            return sources.find_source("csv", tmp_path / "data", seed).folder

        return run

    def test_pictures_and_labels_are_those_of_the_rows(
        self, imported, pixel_rows, data
    ):
        found = dataset.load(imported(pixel_rows))
        columns = list(labels.COLUMNS)
        pd.testing.assert_frame_equal(found.table[columns], pixel_rows[columns])
        difference = found.images.astype(int) - data.images  # JPEG loses a little
        assert np.abs(difference).mean() < 2

    def test_known_names_keep_their_sets(self, imported, pixel_rows, know):
        sets = dict(zip(pixel_rows["img_name"][:9], 3 * labels.SPLITS, strict=True))
        know(sets)
        assert split_of(imported(pixel_rows))[list(sets)].to_dict() == sets

    def test_a_changed_csv_is_imported_again(self, imported, pixel_rows):
        imported(pixel_rows)
        assert len(split_of(imported(pixel_rows[:200]))) == 200

    def test_an_import_that_was_cut_off_is_begun_anew(
        self, imported, pixel_rows, monkeypatch
    ):
        def save(picture, target, **options):
            if target.name == "face_100.jpg":
                raise KeyboardInterrupt
            original(picture, target, **options)

        original = PIL.Image.Image.save
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(PIL.Image.Image, "save", save)
            imported(pixel_rows)
        folder = imported(pixel_rows)
        assert len(split_of(folder)) == 300
        assert sorted(path.name for path in folder.parent.iterdir()) == [
            "imported",
            "pixels.csv",
        ]

    @pytest.mark.parametrize(
        "pixels",
        [
            " ".join(["9"] * 2303),
            " ".join(["9"] * 2305),
            "",
            " ".join(["9"] * 2303 + ["256"]),
            " ".join(["-1"] + ["9"] * 2303),
            " ".join(["9" * 30] + ["9"] * 2303),
            " ".join(["nine"] + ["9"] * 2303),
            " ".join(["9.5"] + ["9"] * 2303),
        ],
        ids=["few", "many", "none", "256", "-1", "huge", "a word", "a fraction"],
    )
    def test_bad_pixels_are_named_and_left_out(self, imported, pixel_rows, pixels):
        rows = pixel_rows[:40].copy()
        rows.loc[6, "pixels"] = pixels
        found = dataset.load(imported(rows))
        assert found.faults["row"].tolist() == [7] and len(found.table) == 39
        why = "pixels not 2,304 numbers from 0 to 255"
        assert found.faults["fault"].tolist() == [why]

    @pytest.mark.parametrize(
        "name",
        ["../escape.jpg", "a/b.jpg", "/escape.jpg", "..", "", None]
        + ["face", "face.txt", "face.webp", "face_006.jpg "],
    )
    def test_a_name_that_is_no_pictures_is_left_out(
        self, imported, pixel_rows, tmp_path, name
    ):
        rows = pixel_rows[:40].copy()
        rows.loc[6, "img_name"] = name
        folder = imported(rows)
        found = dataset.load(folder)
        assert found.faults["row"].tolist() == [7]
        assert len(found.table) == len(list(folder.glob("images/*/*"))) == 39
        assert not list(tmp_path.rglob("escape.jpg"))

    def test_a_name_used_twice_keeps_its_first_picture(self, imported, pixel_rows):
        rows = pixel_rows[:40].copy()
        rows.loc[6, "img_name"] = "face_002.jpg"
        found = dataset.load(imported(rows))
        assert found.faults["fault"].tolist() == ["image name used by an earlier row"]
        kept = found.images[found.table["img_name"] == "face_002.jpg"][0]
        first = tables.parse_pixels(rows["pixels"][2]).astype(int)
        assert np.abs(first - kept).mean() < 3

    def test_blanks_after_the_commas_of_the_heading(self, tmp_path, pixel_rows):
        heading, rows = pixel_rows[:40].to_csv(index=False).split("\n", 1)
        (tmp_path / "pixels.csv").write_text(f"{heading.replace(',', ', ')}\n{rows}")
        source = sources.find_source("auto", tmp_path)
        assert len(dataset.load(source.folder).table) == 40

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"pixels": "1 2 3"}, "has 0 rows with a name and 2304 pixels; 25"),
            ({"img_name": "face"}, "has 0 rows with a name and 2304 pixels; 25"),
            ({"ethnicity": None}, "has no column ethnicity.*Rename or add"),
        ],
    )
    def test_a_csv_without_a_usable_row(
        self, imported, pixel_rows, tmp_path, change, message
    ):
        rows = pixel_rows[:40].assign(**change)
        with pytest.raises(ValueError, match=f"pixels.csv {message}"):
            imported(rows.dropna(axis=1))
        assert not (tmp_path / "data/imported").exists()

    def test_what_was_made_from_an_older_zip_is_made_anew(self, tmp_path):
        folder = sources.find_source("sample", tmp_path).folder
        (folder / "images/train/left_behind.jpg").touch()
        made = json.loads((folder / "source.json").read_text())
        made["bytes"] -= 1  # of an older release
        (folder / "source.json").write_text(json.dumps(made))
        assert sources.find_source("sample", tmp_path).folder == folder
        assert not (folder / "images/train/left_behind.jpg").exists()


class TestTwoAtOnce:
    """Two notebooks that are opened at once make the same folder."""

    @staticmethod
    def fill(draft, text):
        draft.mkdir()
        (draft / "age_gender.csv").write_text(text)
        (draft / "source.json").write_text(json.dumps({"file": text}))

    def test_the_same_is_kept_once(self, tmp_path):
        folder = tmp_path / "imported"
        with sources._made_anew(folder) as late:
            with sources._made_anew(folder) as early:
                self.fill(early, "a.csv")
            before = fingerprint(folder)
            self.fill(late, "a.csv")
        assert fingerprint(folder) == before
        assert [path.name for path in tmp_path.iterdir()] == ["imported"]

    def test_of_different_ones_the_later_stays(self, tmp_path):
        folder = tmp_path / "imported"
        with sources._made_anew(folder) as late:
            with sources._made_anew(folder) as early:
                self.fill(early, "a.csv")
            self.fill(late, "b.csv")
        assert (folder / "age_gender.csv").read_text() == "b.csv"

    def test_both_replace_an_older_one(self, tmp_path):
        folder = tmp_path / "imported"
        self.fill(folder, "older.csv")
        with sources._made_anew(folder) as late:
            with sources._made_anew(folder) as early:
                self.fill(early, "a.csv")
            self.fill(late, "a.csv")
        assert (folder / "age_gender.csv").read_text() == "a.csv"
        assert [path.name for path in tmp_path.iterdir()] == ["imported"]

    def test_what_another_one_has_not_finished_is_no_data(self, tmp_path):
        with sources._made_anew(tmp_path / "synthetic") as draft:
            draft.mkdir()
            (draft / "age_gender.csv").write_text("img_name")
            assert sources._places_below(tmp_path) == []
