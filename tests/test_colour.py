"""Colour pictures and class folders: labels, sets, faults, and whose they are."""

import numpy as np
import pandas as pd
import pytest

from facekit import batches, colour, labels

STAMP = "20990101000000{:03d}"  # as the fixture `utkface` has them
SHAPE = (20, 20, 3)


class TestUtkface:
    def test_labels_come_from_names_and_sets_from_time_stamps(self, utkface):
        found = colour.read_utkface(utkface)
        assert found.name == "utkface" and found.faults.empty
        assert found.table["img_name"].is_monotonic_increasing
        for row in found.table.itertuples():
            age, gender, ethnicity, rest = row.img_name.split("_")
            assert (row.age, row.gender, row.ethnicity) == tuple(
                map(int, (age, gender, ethnicity))
            )
            assert row.main_name == rest
        assert set(found.table["split"]) == set(labels.SPLITS)

    @pytest.mark.parametrize(
        ("name", "fault"),
        [
            (f"39_1_{STAMP}.jpg", "name is not age_gender_ethnicity_stamp"),
            (f"139_1_0_{STAMP}.jpg", "name is not age_gender_ethnicity_stamp"),
            (f"39_1_0_{STAMP}.jpg", "time stamp that is not in the main assignment"),
            ("notes.txt", "file that is not an image"),
        ],
    )
    def test_what_cannot_be_used_is_named(self, utkface, save_picture, name, fault):
        name = name.format(999)
        save_picture(utkface / "whole.jpg").rename(utkface / name)
        found = colour.read_utkface(utkface)
        assert len(found.table) == 40
        assert found.faults["img_name"].tolist() == [name]
        assert found.faults["fault"].tolist() == [fault]

    def test_a_broken_picture_is_named(self, utkface):
        path = sorted(utkface.iterdir())[3]
        path.write_bytes(path.read_bytes()[:400])
        found = colour.read_utkface(utkface)
        assert len(found.table) == 39
        assert found.faults["img_name"].tolist() == [path.name]
        assert found.faults["fault"].tolist() == ["broken picture"]

    def test_a_folder_without_such_names_says_how_they_look(
        self, tmp_path, save_picture
    ):
        save_picture(tmp_path / "UTKFace/face.jpg")
        with pytest.raises(ValueError, match="usable picture of the train set.*<age>"):
            colour.read_utkface(tmp_path / "UTKFace")

    def test_other_pictures_of_the_same_names_are_other_data(
        self, utkface, save_picture
    ):
        before = colour.read_utkface(utkface).digest
        assert colour.read_utkface(utkface).digest == before
        save_picture(sorted(utkface.iterdir())[3], size=(90, 90))
        assert colour.read_utkface(utkface).digest != before


class TestFindPictures:
    def test_utkface_comes_first_unless_the_sample_is_asked_for(self, utkface):
        found, sentence = colour.find_pictures("auto", utkface.parent)
        assert found.name == "utkface" and sentence.endswith("/UTKFace")
        sample, sentence = colour.find_pictures("sample", utkface.parent)
        assert sample.name == "sample-enlarged" and "enlarged" in sentence

    def test_without_colour_the_grey_pictures_are_enlarged(self, data_folder, data):
        found, sentence = colour.find_pictures("auto", data_folder)
        assert found.name == "sample-enlarged" and found.digest == data.digest
        assert "enlarged from 48×48 grey levels" in sentence
        assert found.table["main_name"].tolist() == data.table["img_name"].tolist()
        flow = batches.flow(found.rows("val"), found.folder, (96, 96, 3))
        assert flow.samples == len(data.rows("val"))
        assert flow[0][0].shape[1:] == (96, 96, 3)


class TestClassFolders:
    @pytest.mark.parametrize(
        "names", [("Male", "Female"), ("man", "woman"), ("MEN", "Women"), ("m", "w")]
    )
    def test_they_are_found_by_many_names(self, class_folders, names):
        folder = class_folders("faces", names)
        (folder / names[0] / "list.txt").write_text("x")
        assert colour.has_class_folders(folder)
        found = colour.read_class_folders(folder, "foreign test")
        assert found.name == "own" and set(found.table["split"]) == {"foreign test"}
        gender = found.table["img_name"].str.startswith(names[1] + "/").astype(int)
        assert found.table["gender"].tolist() == gender.tolist() and gender.sum() == 2
        assert found.table[["age", "ethnicity"]].isna().all(axis=None)
        assert found.faults["fault"].tolist() == ["file that is not an image"]
        flow = batches.flow(found.table, found.folder, SHAPE)
        assert flow.samples == 4

    def test_an_empty_one_is_named(self, class_folders):
        folder = class_folders("faces", ["Male"])
        (folder / "Female").mkdir()
        with pytest.raises(ValueError, match="faces has no usable picture.*female"):
            colour.read_class_folders(folder, "foreign test")

    def test_another_data_set_is_found_beside_the_main_data(
        self, class_folders, tmp_path, data_folder
    ):
        assert colour.find_foreign(data_folder) is None
        (tmp_path / "a file").touch()
        class_folders("others", ("man", "woman"))
        assert colour.find_foreign(tmp_path).folder == tmp_path / "others"

    def test_those_to_learn_from_come_first(self, class_folders, utkface, tmp_path):
        found, _ = colour.find_gender("auto", tmp_path)
        assert found.name == "utkface"
        class_folders("gender/train", count=3)
        assert colour.find_gender("auto", tmp_path)[0].name == "utkface"
        class_folders("gender/test", ("Man", "Woman"))
        found, sentence = colour.find_gender("auto", tmp_path)
        assert found.name == "own" and sentence.endswith("/gender")
        counts = found.table.groupby(["split", "gender"]).size()
        assert counts.to_dict() == {
            ("train", 0): 3,
            ("train", 1): 3,
            ("val", 0): 2,
            ("val", 1): 2,
        }
        assert set(labels.validation_half(found.rows("val")["main_name"])) <= {
            "select",
            "held out",
        }
        for split in ("train", "val"):
            rows = found.rows(split)
            assert batches.flow(rows, found.folder, SHAPE).samples == len(rows)
        assert colour.find_gender("sample", tmp_path)[0].name == "sample-enlarged"


@pytest.mark.parametrize("crop", [False, True])
def test_of_an_oblong_picture_the_middle_is_taken_if_asked(
    tmp_path, save_picture, crop
):
    values = np.zeros((20, 60, 3), "uint8")
    values[:, 20:40] = 200
    save_picture(tmp_path / "val/1.png", values)
    rows = pd.DataFrame({"img_name": ["val/1.png"], "age": 1, "gender": 0})
    flow = batches.flow(rows.assign(ethnicity=0), tmp_path, SHAPE, crop=crop)
    assert (flow[0][0].min() > 0.5) == crop
