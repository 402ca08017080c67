"""The script ``predict.py``: what it reads, what it answers, and how it fails."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter

import keras
import numpy as np
import PIL.Image
import pytest
import tiny

import predict
from facekit import labels, pictures, predictions
from inference import framing, inputs, predictor

SHIPPED = labels.MODELS / "utkface"


def save_network(path, size=48, channels=1, tasks=("age", "gender", "ethnicity")):
    """Save an untrained network with the outputs of the main notebook's."""
    keras.utils.set_random_seed(1)
    image = keras.Input((size, size, channels), name="image")
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(size // 6)(image))
    heads = {
        "age": lambda: keras.layers.Dense(1, "softplus", name="age"),
        "gender": lambda: keras.layers.Dense(1, "sigmoid", name="gender"),
        "ethnicity": lambda: keras.layers.Dense(5, "softmax", name="ethnicity"),
    }
    outputs = {task: heads[task]()(x) for task in tasks}
    keras.Model(image, outputs).save(path)
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Give the path of an untrained network with all three tasks."""
    return save_network(tmp_path_factory.mktemp("model") / "tiny.keras")


@pytest.fixture(scope="module")
def faces(sample):
    """Give eight synthetic faces."""
    return sample.images[:8]


@pytest.fixture(scope="module")
def face_model():
    """Load what tells aligned faces from anything else."""
    with np.load(labels.DATA / "sample/face_model.npz", allow_pickle=False) as file:
        return {key: file[key].astype("float32") for key in file}


@pytest.fixture
def folder(faces, tmp_path):
    """Write the faces into a folder and a subfolder."""
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    for number, face in enumerate(faces):
        place = "pictures/more" if number > 5 else "pictures"
        PIL.Image.fromarray(face).save(tmp_path / place / f"face{number}.png")
    return tmp_path / "pictures"


@pytest.fixture
def run(network, capsys):
    """Run the script; give its exit status, what it printed, and its messages."""

    def run(*arguments, model=network):
        status = predict.main([*map(str, arguments), "--model", str(model)])
        return status, *capsys.readouterr()

    return run


def rows_of(printed):
    """Read the rows of a CSV that was printed."""
    return list(csv.DictReader(io.StringIO(printed)))


class TestPictures:
    @pytest.mark.parametrize(
        "mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"]
    )
    def test_any_colour_mode_is_read(self, tmp_path, mode):
        grey = np.tile(np.arange(64, dtype="uint8") * 4, (64, 1))
        if mode == "I;16":
            image = PIL.Image.fromarray(grey.astype("uint16") * 257)
        else:
            image = PIL.Image.fromarray(grey).convert(mode)
        path = tmp_path / "picture.tif"
        image.save(path)
        read = framing.prepare(inputs.open_picture(path), 64, 1)[..., 0]
        assert read.shape == (64, 64)
        if mode not in ("1", "P"):
            assert np.abs(read.astype(int) - grey).max() <= 8

    def test_the_camera_s_orientation_is_respected(self, tmp_path):
        upright = np.zeros((40, 40, 3), "uint8")
        upright[:10] = 255  # bright above
        turned = PIL.Image.fromarray(np.rot90(upright))  # as a camera on its side
        exif = PIL.Image.Exif()
        exif[0x0112] = 6  # turn by 90° clockwise to see it upright
        turned.save(tmp_path / "turned.png", exif=exif)
        read = np.asarray(inputs.open_picture(tmp_path / "turned.png"))
        np.testing.assert_array_equal(read, upright)

    def test_of_an_oblong_picture_the_middle_is_taken(self):
        oblong = np.zeros((20, 60), "uint8")
        oblong[:, 20:40] = 200
        read = framing.middle(inputs.open_picture(oblong))
        assert np.asarray(read).min() == 200

    def test_transparent_parts_are_grey(self, tmp_path):
        PIL.Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
        read = np.asarray(inputs.open_picture(tmp_path / "clear.png"))
        assert (read == 128).all()

    @pytest.mark.parametrize(("size", "channels"), [(48, 1), (100, 3)])
    def test_it_is_resized_to_what_the_network_takes(self, size, channels):
        image = PIL.Image.new("RGB", (333, 333), (10, 20, 30))
        assert framing.prepare(image, size, channels).shape == (size, size, channels)


class TestFinding:
    def test_folders_are_searched_in_order_and_to_the_bottom(self, folder):
        (folder / "notes.txt").write_text("not a picture")
        names = [name for name, _ in inputs.find_pictures([str(folder)])]
        assert [name.rpartition("/")[2] for name in names] == [
            f"face{number}.png" for number in range(8)
        ]

    def test_pictures_are_listed_one_by_one(self, folder):
        found = inputs.find_pictures([str(folder), "nowhere"])
        assert next(found)[0].endswith("face0.png")

    def test_a_batch_is_all_that_is_read_ahead(self, network):
        taken = []

        def sources():
            for number in range(100):
                taken.append(number)
                yield str(number), np.full((48, 48), number, "uint8")

        rows = predict.predict(predictor.Predictor(network), sources(), 8)
        next(rows)
        assert len(taken) == 8

    def test_pixels_of_a_csv(self, faces, tmp_path, run):
        pixels = [" ".join(map(str, face.ravel())) for face in faces]
        lines = ["img_name,pixels", *(f"{n}.jpg,{p}" for n, p in enumerate(pixels))]
        (tmp_path / "faces.csv").write_text("\n".join(lines))
        status, printed, _ = run(tmp_path / "faces.csv", "--output", "csv")
        assert status == 0
        assert [row["file"].split()[-1] for row in rows_of(printed)] == [
            f"{number}.jpg" for number in range(8)
        ]

    def test_a_csv_names_files_beside_and_below_it(self, folder, run):
        table = folder / "labels.csv"
        table.write_text("img_name,age\nface0.png,3\nface7.png,5\nlost.png,9\n")
        status, printed, _ = run(table, "--output", "csv")
        notes = [row["note"] for row in rows_of(printed)]
        assert status == 1
        assert notes == ["", "", "error: no such file or folder"]

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("1 2 3", "3 pixels make no square picture"),
            ("", "0 pixels make no square picture"),
            ("1 2 x 4", "not whole numbers from 0 to 255"),
            ("1 2 3 400", "not whole numbers from 0 to 255"),
            ("1 2 3 nan", "not whole numbers from 0 to 255"),
        ],
    )
    def test_bad_pixels_are_named_in_their_row(self, tmp_path, run, text, word):
        good = " ".join(["7"] * 16)
        path = tmp_path / "faces.csv"
        path.write_text(f'pixels\n{good}\n"{text}"\n{good}\n')
        status, printed, _ = run(path, "--output", "csv")
        rows = rows_of(printed)
        assert status == 1
        assert len(rows) == 3
        assert word in rows[1]["note"]
        assert rows[1]["file"] == f"{path}:2"
        assert rows[2]["female"]

    def test_a_csv_without_a_known_column(self, tmp_path, run):
        (tmp_path / "other.csv").write_text("name,colour\na,b\n")
        status, printed, _ = run(tmp_path / "other.csv", "--output", "csv")
        assert status == 1
        assert "no column of the names pixels, img_name, file, path" in printed


class TestAnswers:
    def test_all_is_answered(self, folder, run):
        status, printed, messages = run(folder, "--output", "csv")
        rows = rows_of(printed)
        assert status == 0
        assert len(rows) == 8
        for row in rows:
            five = [float(row[name]) for name in labels.ETHNICITIES]
            assert sum(five) == pytest.approx(1, abs=0.003)
            assert 0 <= float(row["female"]) <= 1
            assert float(row["age"]) >= 0
        assert "labels that annotators gave" in messages

    def test_a_notebook_gives_the_same_numbers(self, data, network, run):
        part = data.rows("val")
        model = keras.saving.load_model(network)
        own = predictions.predict(model, part, tiny.flow_of(data, "val"))
        _, printed, _ = run(data.folder / "val", "--output", "csv")
        rows = {row["file"].rpartition("/")[2]: row for row in rows_of(printed)}
        assert set(rows) == set(part["img_name"])
        for row in own.itertuples():
            other = rows[row.img_name]
            assert float(other["age"]) == pytest.approx(row.age_predicted, abs=0.06)
            female = float(other["female"])
            assert female == pytest.approx(row.gender_probability, abs=6e-4)
            assert float(other["Asian"]) == pytest.approx(row.Asian, abs=6e-4)

    def test_the_batch_size_changes_nothing(self, folder, run):
        assert run(folder, "--batch", 3)[1] == run(folder, "--batch", 64)[1]

    def test_json_and_csv_say_the_same(self, folder, run):
        (folder / "broken.png").write_bytes(b"broken")
        read = json.loads(run(folder, "--output", "json")[1])
        rows = rows_of(run(folder, "--output", "csv")[1])
        assert len(read) == len(rows) == 9
        for one, other in zip(read, rows, strict=True):
            assert {key: str(value) for key, value in one.items()} == {
                key: value for key, value in other.items() if key in one
            }

    def test_a_table_has_a_line_for_each_picture(self, folder, run):
        lines = run(folder)[1].splitlines()
        answers = ["age", "female", *labels.ETHNICITIES]
        heading = ["file", "left", "top", "side", *answers, "note"]
        assert lines[0].split() == heading
        assert len(lines) == 9

    def test_columns_of_a_table_stand_below_one_another(self, folder, run):
        place = folder / "a_folder_with_a_long_name" / "and_another_one_in_it"
        place.mkdir(parents=True)
        shutil.copy(folder / "face0.png", place / "a_face_with_a_long_name.png")
        _, printed, _ = run(folder / "face0.png", place)
        ends = {line.index(".", 34) for line in printed.splitlines()[1:]}
        assert len(ends) == 1 and "…" in printed and "a_face_with" in printed

    def test_an_age_lies_in_its_interval(self, network, tmp_path, folder, run):
        own = tmp_path / "own.keras"
        own.write_bytes(network.read_bytes())
        table = {"from": [0, 1], "low": [-2, -9], "high": [3, 8]}
        results = {"age_intervals": {"own": table}}
        (tmp_path / "results.json").write_text(json.dumps(results))
        rows = rows_of(run(folder, "--output", "csv", model=own)[1])
        for row in rows:
            age, low, high = (float(row[key]) for key in ("age", "age_low", "age_high"))
            assert 0 <= low <= age <= high
            assert high - age == pytest.approx(3 if age < 1 else 8, abs=0.11)

    def test_the_intervals_of_another_network_are_not_taken(
        self, network, tmp_path, folder, run
    ):
        own = tmp_path / "own.keras"
        own.write_bytes(network.read_bytes())
        table = {"from": [0], "low": [-2], "high": [3]}
        results = {"age_intervals": {"mtl": table}}
        (tmp_path / "results.json").write_text(json.dumps(results))
        _, printed, _ = run(folder, "--output", "csv", model=own)
        assert "age_low" not in printed

    def test_a_network_for_gender_alone(self, tmp_path, folder, run):
        own = save_network(tmp_path / "gender.keras", 100, 3, ["gender"])
        _, printed, _ = run(folder, "--output", "csv", model=own)
        assert printed.splitlines()[0] == "file,left,top,side,female,note"


class TestWarnings:
    def test_synthetic_faces_look_like_faces(self, folder, run):
        rows = rows_of(run(folder, "--output", "csv")[1])
        assert [row["note"] for row in rows] == [""] * 8

    @pytest.mark.parametrize(
        "change",
        [
            lambda face: face[::-1],
            np.rot90,
            lambda face: 255 - face,
            lambda face: np.pad(face, 24, mode="edge"),
            lambda face: face[12:36, 12:36],
        ],
        ids=["upside down", "turned", "negative", "far away", "too near"],
    )
    def test_most_of_what_is_not_aligned_is_warned_of(self, sample, face_model, change):
        faces = sample.images[100:200]
        changed = np.stack(
            [
                framing.prepare(inputs.open_picture(change(face)), labels.SIZE, 1)
                for face in faces
            ]
        )
        threshold = face_model["alignment_quantiles"][1]
        warned, before = (
            (framing.face_scores(face_model, part) < threshold).mean()
            for part in (changed, faces)
        )
        assert before <= 0.05
        assert warned >= 0.75

    @pytest.mark.parametrize("kind", ["noise", "grey"])
    def test_what_is_no_face_is_warned_of(self, tmp_path, kind, run):
        picture = {
            "noise": np.random.default_rng(1).integers(0, 256, (48, 48), "uint8"),
            "grey": np.full((48, 48), 99, "uint8"),
        }[kind]
        PIL.Image.fromarray(picture).save(tmp_path / "odd.png")
        status, printed, _ = run(tmp_path / "odd.png", "--output", "csv")
        (row,) = rows_of(printed)
        assert status == 0
        assert row["note"].startswith("warning: unlike one upright face")
        assert row["age"]


class TestFailures:
    def test_a_broken_file_stands_on_its_row(self, folder, run):
        whole = (folder / "face0.png").read_bytes()
        (folder / "face1.png").write_bytes(b"not a picture")
        (folder / "face2.png").write_bytes(whole[: len(whole) // 2])
        (folder / "face3.png").write_bytes(b"")
        status, printed, messages = run(folder, "--output", "csv")
        rows = rows_of(printed)
        assert status == 1
        assert len(rows) == 8
        assert [row["note"][:6] for row in rows[1:4]] == ["error:"] * 3
        assert all(row["age"] for row in rows[4:])
        assert "3 of them not answered" in messages

    def test_a_bomb_is_not_unpacked(self, tmp_path, monkeypatch, run):
        monkeypatch.setattr(pictures, "LARGEST", 1000)
        PIL.Image.new("L", (40, 40)).save(tmp_path / "large.png")
        status, printed, _ = run(tmp_path / "large.png")
        assert status == 1
        assert "error: " in printed

    def test_an_empty_folder_and_a_missing_one(self, tmp_path, run):
        status, printed, _ = run(tmp_path, tmp_path / "lost", "--output", "csv")
        notes = [row["note"] for row in rows_of(printed)]
        assert status == 1
        assert notes == ["error: holds no pictures", "error: no such file or folder"]

    def test_an_unknown_model_lists_the_known_ones(self, folder, run):
        status, printed, messages = run(folder, model="nonsense")
        assert status == 2
        assert not printed
        assert "no such file or model" in messages
        assert "mtl" in messages

    def test_a_file_that_is_no_model(self, folder, tmp_path, run):
        (tmp_path / "odd.keras").write_bytes(b"nothing")
        status, printed, messages = run(folder, model=tmp_path / "odd.keras")
        assert status == 2
        assert not printed
        assert messages

    @pytest.mark.parametrize("wrong", [["--batch", "0"], ["--output", "xml"], []])
    def test_wrong_arguments_end_with_2(self, wrong, capsys):
        with pytest.raises(SystemExit) as stop:
            predict.main(["face.png", *wrong] if wrong else [])
        assert stop.value.code == 2

    def test_long_work_tells_how_far_it_is(self, folder, monkeypatch, run):
        monkeypatch.setattr(predict, "SHORT", 0)
        assert "8 rows" in run(folder)[2]

    def test_help_is_for_people(self, capsys):
        with pytest.raises(SystemExit):
            predict.main(["--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert predict.ETHICS in text
        assert "python predict.py holiday.jpg" in text


class TestShippedModels:
    def test_every_name_is_one_model(self):
        names = Counter(path.stem for path in SHIPPED.glob("*/*.keras"))
        assert "mtl" in names
        assert set(names.values()) == {1}

    def test_they_are_found_by_name(self):
        for path in SHIPPED.glob("*/*.keras"):
            assert predictor.find_model(path.stem) == path

    def test_the_main_network_answers_all(self, folder, run):
        status, printed, _ = run(folder, "--output", "csv", model="mtl")
        assert status == 0
        assert len(rows_of(printed)) == 8


@pytest.mark.parametrize("several", [True, False])
def test_outputs_may_be_a_list_or_one(tmp_path, several):
    image = keras.Input((48, 48, 1))
    x = keras.layers.Flatten()(image)
    age = keras.layers.Dense(1, name="age")(x)
    gender = keras.layers.Dense(1, "sigmoid", name="gender")(x)
    path = tmp_path / "own.keras"
    keras.Model(image, [age, gender] if several else gender).save(path)
    own = predictor.Predictor(path)
    (row,) = own.answer([PIL.Image.new("L", (48, 48), 90)])
    assert 0 <= row["female"] <= 1 and ("age" in row) == several


def save_odd(path, kind):
    """Save a network that ``predict.py`` cannot use."""
    image = keras.Input((48, 48, 1), name="image")
    x = keras.layers.Flatten()(image)
    if kind == "Lambda":
        x = keras.layers.Lambda(lambda value: 2 * value, output_shape=(2304,))(x)
    units = 7 if kind == "seven ethnicities" else 5
    name = "mood" if kind == "unknown output" else "ethnicity"
    outputs = {name: keras.layers.Dense(units, name=name)(x)}
    if kind == "input size None":
        image = keras.Input((None, None, 1), name="image")
        x = keras.layers.GlobalAveragePooling2D()(image)
        outputs = {name: keras.layers.Dense(5, name=name)(x)}
    if kind == "Sequential":
        layers = [keras.Input((48, 48, 1)), keras.layers.Flatten()]
        keras.Sequential([*layers, keras.layers.Dense(1)]).save(path)
    else:
        keras.Model(image, outputs).save(path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:3000])
    if kind == "foreign layer":
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        config = files["config.json"].replace(b"keras.layers", b"evil.layers")
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (files | {"config.json": config}).items():
                archive.writestr(name, content)
    return path


class TestFaults:
    """Rows 34 to 40 of ``tests/README.md``."""

    def test_34_large_fields_of_a_csv(self, faces, tmp_path, run):
        large = PIL.Image.fromarray(faces[0]).resize((200, 200))
        pixels = " ".join(map(str, np.asarray(large).ravel()))
        path = tmp_path / "large.csv"
        path.write_text(f"pixels;img_name\n{pixels};{'n' * 5000}\n{pixels};b\n")
        status, printed, _ = run(path, "--output", "json")
        assert status == 0 and [row["note"] for row in json.loads(printed)] == ["", ""]
        path.write_text(f"img_name\n{'n' * 5000}.jpg\nb.jpg\n")
        PIL.Image.fromarray(faces[0]).save(tmp_path / "b.jpg")
        _, printed, _ = run(path, "--output", "json")
        notes = [row["note"] for row in json.loads(printed)]
        assert "name too long" in notes[0] and notes[1] == ""

    @pytest.mark.parametrize("kind", ["table", "csv", "json"])
    def test_35_39_names_that_a_terminal_or_a_spreadsheet_would_take_for_more(
        self, network, folder, kind
    ):
        odd = [
            b"\xff.png",
            "\u4eba.png".encode(),
            b"a\nb.png",
            b"\x1b[2J.png",
            b"=1.png",
        ]
        content = (folder / "face0.png").read_bytes()
        for name in odd:
            with open(os.fsencode(folder) + b"/" + name, "wb") as file:
                file.write(content)
        command = [sys.executable, labels.ROOT / "predict.py", "--model", network]
        names = sorted(os.fsencode(path.name) for path in folder.glob("*.png"))
        done = subprocess.run(
            [*command, "--output", kind, *names],
            cwd=folder,
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        )
        assert done.returncode == 0, done.stderr
        text = done.stdout.decode("cp1252")
        if kind == "json":
            found = {os.fsencode(row["file"]) for row in json.loads(text)}
            assert found == set(names)
        elif kind == "csv":
            found = [row["file"] for row in csv.DictReader(io.StringIO(text))]
            assert len(found) == len(names) and "./=1.png" in found
        else:
            assert len(text.splitlines()) == 1 + len(names)
        assert b"\x1b" not in done.stdout or kind == "csv"

    def test_36_what_is_no_file_does_not_hang(self, folder, run):
        os.mkfifo(folder / "face0.jpg")
        status, printed, _ = run(folder, "--output", "csv")
        notes = {row["file"][-9:]: row["note"] for row in rows_of(printed)}
        assert status == 1 and notes["face0.jpg"] == "error: not a file"
        assert len(notes) == 9

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("truncated", "cannot be used: it is damaged"),
            ("Lambda", "cannot be used: it holds code"),
            ("foreign layer", "layers that are not Keras' own"),
            ("Sequential", "has the outputs .*; wanted are age"),
            ("seven ethnicities", r"ethnicity \(7,\); wanted are"),
            ("unknown output", r"mood \(5,\); wanted are"),
            ("input size None", "takes None×None×1, not square"),
        ],
    )
    def test_37_whatever_is_wrong_with_a_model_is_one_sentence(
        self, folder, tmp_path, run, kind, message
    ):
        path = save_odd(tmp_path / "odd.keras", kind)
        status, printed, told = run(folder, model=path)
        assert status == 2 and not printed and "Traceback" not in told
        assert re.search(message, told) and len(told.strip().splitlines()) == 1

    def test_37_40_damaged_files_beside_a_model_are_named(
        self, network, folder, tmp_path, monkeypatch, run
    ):
        shutil.copy(network, tmp_path / "tiny.keras")
        (tmp_path / "results.json").write_text('{"age_inter')
        (tmp_path / "sample").mkdir()
        (tmp_path / "sample/face_model.npz").write_bytes(b"PK")
        (tmp_path / "utkface").mkdir()
        (tmp_path / "utkface/trust.json").write_text('{"frame": []}')
        monkeypatch.setattr(predictor, "DATA", tmp_path)
        monkeypatch.setattr(predictor, "MODELS", tmp_path)
        status, printed, told = run(folder, model=tmp_path / "tiny.keras")
        assert status == 0 and "age_low" not in printed
        assert "results.json is damaged: ages have no interval" in told
        assert "face_model.npz is damaged: odd framing is not warned of" in told
        assert "trust.json is damaged: no faces are found" in told

    def test_37_a_batch_beyond_memory_is_refused(self, capsys):
        with pytest.raises(SystemExit):
            predict.main(["face.png", "--batch", str(10**23)])
        assert "--batch must be from 1 to 4,096" in capsys.readouterr().err

    def test_37_a_full_disk_and_ctrl_c(self, network, folder, monkeypatch, run):
        command = [sys.executable, "predict.py", folder, "--model", network]
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                command, cwd=labels.ROOT, stdout=full, stderr=subprocess.PIPE, text=True
            )
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "The answers cannot be written: No space left" in done.stderr

        def stop(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(predict, "open_picture", stop)
        status, _, told = run(folder)
        assert status == 130 and told == "Stopped after 0 rows.\n"

    def test_38_an_empty_argument_searches_nothing(self, run):
        status, printed, _ = run("", "--output", "csv")
        assert status == 1 and rows_of(printed)[0]["note"] == "error: an empty argument"

    def test_40_answers_that_are_no_numbers(self, network, folder, tmp_path, run):
        model = keras.saving.load_model(network)
        model.get_layer("age").set_weights([np.full((36, 1), np.nan), np.zeros(1)])
        model.save(tmp_path / "odd.keras")
        status, printed, _ = run(
            folder, "--output", "csv", model=tmp_path / "odd.keras"
        )
        notes = {row["note"] for row in rows_of(printed)}
        assert status == 1 and notes == {"error: the network's answer is not a number"}


class TestCommand:
    def run(self, *arguments):
        """Run Python in a process of its own, in the project's root."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=labels.ROOT,
            capture_output=True,
            text=True,
        )

    def test_nothing_slow_is_imported_before_the_arguments_are_checked(self):
        code = "import sys, predict; print(*sys.modules)"
        loaded = self.run("-c", code).stdout.split()
        assert "facekit.labels" in loaded
        assert not {"keras", "tensorflow"} & set(loaded)

    def test_it_runs_from_any_folder(self, network, folder, tmp_path):
        done = subprocess.run(
            [sys.executable, labels.ROOT / "predict.py", folder, "--model", network],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 9

    def test_a_reader_that_has_enough_is_no_error(self, network, sample):
        folder = sample.folder / "train"  # more rows than a pipe holds
        command = f"{sys.executable} predict.py {folder} --model {network} | head -1"
        done = subprocess.run(
            command, shell=True, cwd=labels.ROOT, capture_output=True, text=True
        )
        assert done.stdout.split()[:2] == ["file", "left"]
        assert "Error" not in done.stderr
