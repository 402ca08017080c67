"""Bad input, row by row of ``tests/README.md``: injected for real, told or mended."""

import dataclasses
import os
import shutil
import subprocess
import sys
import unicodedata
import zipfile

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import tiny
from notebook_cells import ROOT
from tensorflow.python.framework import config as tf_config

from facekit import (
    batches,
    colour,
    dataset,
    labels,
    pictures,
    predictions,
    runs,
    sources,
    tables,
)


def change(folder, **columns):
    """Give some columns of the table other values."""
    path = folder / "age_gender.csv"
    pd.read_csv(path).assign(**columns).to_csv(path, index=False)


def replace_picture(folder, image, name="face_003.png", **options):
    """Put another picture in the place of the fourth one, and name it in its row."""
    path = folder / "images/train/face_003.jpg"
    path.unlink()
    image.save(path.with_name(name), **options)
    table = pd.read_csv(folder / "age_gender.csv")
    table.loc[3, "img_name"] = name
    table.to_csv(folder / "age_gender.csv", index=False)
    return path.with_name(name)


def exif(orientation):
    """EXIF data with an orientation."""
    data = PIL.Image.Exif()
    data[274] = orientation
    return data


GREY = np.arange(48 * 48).reshape(48, 48)
ODD = {  # pictures that Keras' generators would feed as something else
    "16 or 32 bits per pixel": (PIL.Image.fromarray((28 * GREY).astype("uint16")), {}),
    "turned by its camera (EXIF)": (
        PIL.Image.fromarray((GREY % 256).astype("uint8")),
        {"exif": exif(6)},
    ),
    "transparent parts": (PIL.Image.new("RGBA", (48, 48), (9, 9, 9, 9)), {}),
}


@pytest.mark.parametrize("why", ODD)
def test_01_13_what_a_generator_reads_otherwise_is_left_out(small_folder, why):
    image, options = ODD[why]
    replace_picture(small_folder, image, **options)
    found = dataset.load(small_folder)
    assert found.faults["fault"].tolist() == [f"picture: {why}"]
    assert len(found.table) == 59


def test_01_what_is_checked_is_what_is_fed(small_folder, save_picture):
    kinds = {"face_000.jpg": "L", "face_001.jpg": "RGB", "face_002.jpg": "CMYK"}
    for name, mode in kinds.items():
        path = small_folder / "images/train" / name
        PIL.Image.open(path).convert(mode).save(path)
    replace_picture(small_folder, PIL.Image.new("RGBA", (48, 48), (9, 99, 9, 255)))
    found = dataset.load(small_folder)
    rows = found.rows("train")
    flow = batches.flow(rows, small_folder / "images/train", (48, 48, 1))
    fed = np.concatenate([flow[n][0] for n in range(len(flow))])[..., 0]
    assert len(rows) == 30
    np.testing.assert_allclose(255 * fed, found.images[rows.index], atol=1e-3)


@pytest.mark.parametrize(
    ("label", "codes"), [("gender", (1, 2)), ("ethnicity", (1, 6)), ("age", (900, 999))]
)
def test_02_other_codes_stop_the_run_and_say_which_are_wanted(
    small_folder, label, codes
):
    change(small_folder, **{label: np.tile(codes, 30)})
    with pytest.raises(ValueError, match=f"In .. of 60 rows {label} not .* code the"):
        dataset.load(small_folder)


def test_03_a_nested_folder_is_found(small_folder, tmp_path):
    (tmp_path / "data/archive").mkdir(parents=True)
    (small_folder / "source.json").unlink()
    shutil.move(small_folder, tmp_path / "data/archive/faces")
    source = sources.find_source("auto", tmp_path / "data")
    assert source.folder == tmp_path / "data/archive/faces"
    assert len(dataset.load(source.folder).table) == 60


def test_03_a_zip_is_named_before_the_sample_is_taken(tmp_path, offline, capsys):
    (tmp_path / "faces.zip").write_bytes(b"PK")
    (tmp_path / "README.md").touch()
    assert sources.find_source("auto", tmp_path).synthetic
    told = capsys.readouterr().out
    assert "Warning: the synthetic sample is used" in told
    assert "holds faces.zip: unpack it there; data/README.md" in told


def test_03_an_empty_data_folder_is_no_reason_to_warn(tmp_path, offline, capsys):
    for _ in range(2):
        sources.find_source("auto", tmp_path)
    assert "Warning" not in capsys.readouterr().out


def write_csv(path, rows, **options):
    """Write rows as a CSV file, as other programs do."""
    rows.to_csv(path, **{"index": False} | options)


WAYS = {
    "UTF-16": {"encoding": "utf-16"},
    "semicolons": {"sep": ";"},
    "tabs": {"sep": "\t"},
    "UTF-8 with a mark": {"encoding": "utf-8-sig"},
    "an index of texts": {"index": True},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["pixels", "folder"])
def test_07_11_as_excel_and_others_write_it(
    tmp_path, small_folder, pixel_rows, way, kind
):
    rows = pixel_rows[:60] if kind == "pixels" else None
    path = tmp_path / "age_gender.csv"
    if rows is None:
        path = small_folder / path.name
        rows = pd.read_csv(path)
    rows.index = [f"row {number}" for number in range(len(rows))]
    write_csv(path, rows, **WAYS[way])
    source = sources.find_source("auto", path.parent)
    found = dataset.load(source.folder)
    assert len(found.table) == 60 and found.faults.empty
    # the notebook reads it with pandas and these options
    assert len(pd.read_csv(source.csv, **tables.csv_options(source.csv))) == 60


@pytest.mark.parametrize("heading", ["Age, Gender , ETHNICITY,img_name", " age,gender"])
def test_08_11_headings_in_another_case_and_with_blanks(small_folder, heading):
    path = small_folder / "age_gender.csv"
    table = pd.read_csv(path)[["age", "gender", "ethnicity", "img_name"]]
    lines = table.to_csv(index=False).splitlines()
    rest = lines[0].split(",")[heading.count(",") + 1 :]
    path.write_text("\n".join([",".join([heading, *rest]), *lines[1:]]))
    assert len(dataset.load(small_folder).table) == 60


@pytest.mark.parametrize("name", ["n" * 300 + ".jpg", "a:b.jpg", "a\nb.jpg", 'a"b.jpg'])
def test_08_a_name_that_no_file_can_have_is_counted(tmp_path, pixel_rows, name):
    rows = pixel_rows[:60].copy()
    rows.loc[6, "img_name"] = name
    write_csv(tmp_path / "faces.csv", rows)
    found = dataset.load(sources.find_source("csv", tmp_path).folder)
    assert found.faults["fault"].tolist() == ["image name that no file can have"]
    assert found.faults["row"].tolist() == [7] and len(found.table) == 59


def test_09_a_comma_at_the_end_of_every_row(small_folder):
    path = small_folder / "age_gender.csv"
    heading, *lines = path.read_text().splitlines()
    path.write_text("\n".join([heading, *(f"{line}," for line in lines)]))
    assert len(dataset.load(small_folder).table) == 60
    path.write_text("\n".join(f"{line}," for line in [heading, *lines]))
    assert len(dataset.load(small_folder).table) == 60


def test_10_a_folder_in_the_place_of_the_table(small_folder):
    path = small_folder / "age_gender.csv"
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match="age_gender.csv is a folder: a CSV file"):
        dataset.load(sources.find_source("auto", small_folder).folder)


def test_10_names_that_are_no_text_are_counted(small_folder, utkface):
    name = b"\xff\xfe.jpg".decode("utf-8", "surrogateescape")
    shutil.copy(small_folder / "images/train/face_003.jpg", small_folder / name)
    shutil.move(small_folder / name, small_folder / "images/train")
    found = dataset.load(small_folder)
    assert found.faults["fault"].tolist() == ["name that is not text"]
    assert found.faults["img_name"][0].encode() and len(found.table) == 60
    shutil.copy(small_folder / "images/train/face_004.jpg", utkface / name)
    faults = colour.read_utkface(utkface).faults
    assert "name that is not text" in set(faults["fault"])


def test_12_a_column_named_twice(small_folder):
    path = small_folder / "age_gender.csv"
    table = pd.read_csv(path)
    table.assign(AGE=3).to_csv(path, index=False)
    with pytest.raises(ValueError, match="has two columns age: remove one"):
        dataset.load(small_folder)


@pytest.mark.parametrize("value", ["True", "yes", "0.5", "-1", "inf", ""])
def test_12_labels_that_are_no_numbers(small_folder, value):
    change(small_folder, gender=value)
    with pytest.raises(ValueError, match="In 60 of 60 rows gender not 0 or 1"):
        dataset.load(small_folder)


def test_14_a_picture_too_large_is_not_decoded(small_folder, monkeypatch):
    path = replace_picture(small_folder, PIL.Image.new("1", (12_000, 12_000)))
    with pytest.raises(ValueError, match="more than 89 million pixels"):
        pictures.read(path)
    found = dataset.load(small_folder)
    assert found.faults["fault"].tolist() == ["picture: more than 89 million pixels"]


def test_16_17_pixels_have_reasons_of_their_own_and_other_scales(tmp_path, pixel_rows):
    rows = pixel_rows[:60].copy()
    levels = np.array(rows["pixels"][0].split(), int)
    rows.loc[0, "pixels"] = " ".join(f"{level}.0" for level in levels)
    rows.loc[1, "pixels"] = " ".join(f"{level / 255:.5f}" for level in levels)
    rows.loc[2, "pixels"] = " ".join(f"{level / 2}" for level in levels)
    rows.loc[3, "img_name"] = "missing/picture.jpg"
    write_csv(tmp_path / "faces.csv", rows)
    found = dataset.load(sources.find_source("csv", tmp_path).folder)
    assert found.faults[["row", "fault"]].values.tolist() == [
        [3, "pixels not 2,304 numbers from 0 to 255"],
        [4, "image name that is a path"],
    ]
    same = found.images[:2].astype(int) - levels.reshape(48, 48)
    assert np.abs(same).mean() < 3  # JPEG loses a little


@pytest.mark.parametrize("kind", ["few", "the same picture"])
def test_18_too_few_to_split_say_how_many_are_needed(tmp_path, pixel_rows, kind):
    rows = pixel_rows[: 20 if kind == "few" else 60].copy()
    if kind != "few":
        rows["pixels"] = rows["pixels"].iloc[0]
    write_csv(tmp_path / "faces.csv", rows)
    with pytest.raises(ValueError, match="faces.csv has .0 rows .*; 25 different ones"):
        sources.find_source("csv", tmp_path)


def test_18_33_too_few_pictures_of_validation_say_so(small_folder):
    for path in sorted((small_folder / "images/val").iterdir())[1:]:
        path.unlink()
    with pytest.raises(ValueError, match="The val set has too few usable pictures"):
        dataset.load(small_folder)


def test_19_utkface_with_one_set_alone_says_so(utkface):
    for path in utkface.rglob("*.jpg"):
        if path.name in set(colour.read_utkface(utkface).rows("test")["img_name"]):
            path.unlink()
    with pytest.raises(ValueError, match="no usable picture of the test set"):
        colour.read_utkface(utkface)


def test_20_letters_of_macos_and_names_without_extension(small_folder):
    folder = small_folder / "images/train"
    composed = unicodedata.normalize("NFC", "Zo\u00eb.jpg")
    (folder / "face_003.jpg").rename(folder / unicodedata.normalize("NFD", composed))
    table = pd.read_csv(small_folder / "age_gender.csv")
    table.loc[3, "img_name"] = composed
    table.loc[4, "img_name"] = "face_004"
    table.to_csv(small_folder / "age_gender.csv", index=False)
    found = dataset.load(small_folder)
    assert len(found.table) == 60 and found.faults.empty


def test_20_a_name_that_could_be_two_files_is_not_guessed(small_folder):
    folder = small_folder / "images/train"
    shutil.copy(folder / "face_004.jpg", folder / "face_004.jpeg")
    table = pd.read_csv(small_folder / "age_gender.csv")
    table.loc[4, "img_name"] = "face_004"
    table.to_csv(small_folder / "age_gender.csv", index=False)
    faults = dataset.load(small_folder).faults
    told = ["row whose image is missing"] + 2 * ["image without a row"]
    assert faults["fault"].tolist() == told


FALLING = [5.0, 4.0, 3.0, 2.0, 1.0]
FIVE = tiny.Settings(epochs=5)


def train(store, cut_off=None, moment="before the checkpoint"):
    """Train five scripted epochs; the run (None if cut off) and the script."""
    fit, script = tiny.fit_scripted(FALLING, cut_off, moment)
    try:
        return store.fit_or_load("sum", FIVE, tiny.build_sum, fit), script
    except KeyboardInterrupt:
        return None, script


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestCutOff:
    @pytest.mark.parametrize("name", ["latest.weights.h5", "training_metadata.json"])
    @pytest.mark.parametrize("both", [False, True])
    def test_26_27_a_backup_without_one_of_its_files(self, store, name, both, capsys):
        train(store, cut_off=3)
        (backup,) = store.folder.glob("*.partial/backup")
        for path in backup.glob(f"{name}*" if both else name):
            path.unlink()
        run, script = train(store)
        assert script.begun == list(range(0 if both else 2, 5))
        assert run.history["epochs"]["val_loss"] == FALLING
        assert ("the training begins anew" in capsys.readouterr().out) == both

    @pytest.mark.parametrize("damage", ["deleted", "emptied", "a row short"])
    def test_28_a_log_with_holes_is_not_gone_on_with(self, store, damage, capsys):
        train(store, cut_off=3)
        (log,) = store.folder.glob("*.partial/log.csv")
        lines = log.read_bytes().splitlines(keepends=True)
        if damage == "deleted":
            log.unlink()
        else:
            log.write_bytes(b"".join(lines[:0] if damage == "emptied" else lines[:1]))
        run, script = train(store)
        assert script.begun == [0, 1, 2, 3, 4]
        assert run.history["epochs"]["val_loss"] == FALLING
        assert "no whole epoch was kept" in capsys.readouterr().out

    def test_23_damaged_weights_of_the_best_epoch_name_the_folder(self, store):
        train(store, cut_off=4, moment="after the backup")
        (best,) = store.folder.glob("*.partial/005.weights.h5")
        best.write_bytes(b"")
        with pytest.raises(ValueError, match="delete sum-.{6}.partial .* train again"):
            train(store)

    def test_25_a_damaged_shipped_history_is_named(self, shipped_run, capsys):
        store, path = shipped_run
        path.write_text('{"digest": "')
        assert store.find("mtl", tiny.FACES) is None
        assert capsys.readouterr().out == (
            "mtl.json is damaged: fetch it from the repository again\n"
        )

    def test_25_damaged_predictions_are_made_again(self, copy_run, data, capsys):
        rows = data.rows("test")

        def make(model, rows):
            return tiny.predict(model, rows, data)

        first = predictions.make_or_load(copy_run, "test", rows, make)
        path = copy_run.path("_test.npz")
        whole = path.read_bytes()
        for content in (b"", whole[:200]):
            path.write_bytes(content)
            again = predictions.make_or_load(copy_run, "test", rows, make)
            pd.testing.assert_frame_equal(first, again)
            told = capsys.readouterr().out
            assert told == f"{path.name} is damaged: predicted again\n"
            predictions.make_or_load(copy_run, "test", rows, None)  # kept again

    def test_31_logs_that_cannot_be_written_end_nothing(self, store, capsys):
        (store.logs).write_text("a file in the place of the folder")
        run, _ = train(store)
        assert run.history["best_epoch"] == 5
        assert "TensorBoard's files go into sum-" in capsys.readouterr().out
        assert list(store.folder.glob("sum-*.logs/train/events*"))
        assert train(store)[1].begun == []  # it is loaded, and writes nothing

    def test_32_what_a_killed_process_left_is_cleaned_up(self, store):
        run, _ = train(store)
        partial = run.stem.with_name(f"{run.stem.name}.partial")
        partial.mkdir()
        train(store)
        assert not partial.exists()
        run.path(".json").unlink()
        draft = run.stem.with_name(f".123-{run.stem.name}.keras")
        draft.write_bytes(b"half of it")
        train(store)
        assert not draft.exists()


@pytest.fixture
def shipped_run(trained, face_store, tmp_path):
    """Ship the trained run: a store, and the path of its history."""
    store = dataclasses.replace(
        face_store,
        data=dataclasses.replace(face_store.data, name="utkface"),
        models=tmp_path / "model",
    )
    store.shipped.mkdir(parents=True)
    for ending in (".json", ".keras"):
        shutil.copy(trained.path(ending), store.shipped / f"mtl{ending}")
    return store, store.shipped / "mtl.json"


LIMITED = """
import pathlib, resource, sys
from facekit import sources
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    sources.find_source(sys.argv[1], pathlib.Path(sys.argv[2]))
except ValueError as why:
    print(why)
"""


READ_ONLY = """
import pathlib, sys
import pandas as pd
import tiny
from facekit import dataset, labels, predictions, runs, sources

what, folder = sys.argv[1], pathlib.Path(sys.argv[2])
nothing = pd.DataFrame({"img_name": [], "split": []})
data = dataset.Dataset(nothing, folder, nothing, "own", "0a1b2c")
store = runs.Store("study", data, models=folder, logs=folder)
looked = pd.DataFrame({"age": [20.0], "age_predicted": [21.0]})
looked = looked.reindex(columns=[*labels.LABELS, *predictions.PREDICTED])
history = {"date": "today", "commit": "unknown"}
try:
    if what == "data":
        sources.find_source("sample", folder)
    if what == "trainings":
        store.fit_or_load("sum", tiny.Settings(), tiny.build_sum, None)
    if what == "looks":
        run = runs.Run("sum", folder / "sum", history)
        predictions.log_look(run, "test", looked, "to test")
except ValueError as why:
    print(why)
"""


class TestPlaces:
    @pytest.mark.parametrize("choice", ["sample", "csv"])
    def test_a_full_disk_leaves_nothing_half_written(
        self, tmp_path, pixel_rows, choice
    ):
        """The operating system refuses to let a file grow beyond 20,000 bytes."""
        many = pd.concat([pixel_rows] * 4, ignore_index=True)
        many["img_name"] = [f"a_long_name_of_face_{n}.jpg" for n in range(len(many))]
        write_csv(tmp_path / "faces.csv", many)
        command = [sys.executable, "-c", LIMITED, choice, tmp_path]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        *_, told = done.stdout.splitlines()
        assert "cannot be written (File too large): make room" in told
        assert [path.name for path in tmp_path.iterdir()] == ["faces.csv"]

    def test_a_place_that_cannot_be_written_says_so(self, tmp_path):
        (tmp_path / "data").write_text("a file in the place of the folder")
        with pytest.raises(ValueError, match="data/synthetic cannot be written"):
            sources.find_source("sample", tmp_path / "data")

    @pytest.mark.parametrize("what", ["data", "trainings", "looks"])
    def test_a_read_only_folder_says_so(self, tmp_path, what):
        """Its mode forbids writing, and root gives up the right to do so anyway."""
        (tmp_path / what).mkdir()
        (tmp_path / what).chmod(0o555)
        command = [sys.executable, "-c", READ_ONLY, what, str(tmp_path / what)]
        if os.geteuid() == 0:
            command = ["setpriv", "--bounding-set=-dac_override", *command]
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        env = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        told = {
            "data": "data/synthetic cannot be written (Permission denied): make room",
            "trainings": "trainings/ cannot be written (Permission denied), and sum",
            "looks": "logged in test_looks.csv beside sum (Permission denied)",
        }
        assert told[what] in done.stdout, done.stderr
        assert not list((tmp_path / what).iterdir())

    @pytest.mark.parametrize("damage", ["cut", "altered", "hostile"])
    def test_an_archive_that_is_not_ours_is_not_unpacked(
        self, tmp_path, monkeypatch, damage
    ):
        content = sources.SAMPLE.read_bytes()
        archive = tmp_path / "faces.zip"
        archive.write_bytes(content[: len(content) // 2])
        if damage == "altered":
            archive.write_bytes(content[:500] + b"x" + content[501:])
        if damage == "hostile":
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
                file.writestr("../escape.txt", "outside")
                file.writestr("bomb", bytes(10**7))
        monkeypatch.setattr(sources, "SAMPLE", archive)
        with pytest.raises(ValueError, match="faces.zip is damaged or altered: fetch"):
            sources.find_source("sample", tmp_path / "data")
        assert not (tmp_path / "data").exists()
        assert not (tmp_path / "escape.txt").exists()

    def test_a_download_that_breaks_off_leaves_nothing(
        self, tmp_path, fake_kaggle, capsys
    ):
        fake_kaggle(tmp_path)

        def break_off(name):
            raise ConnectionError("the network went away in the middle")

        sys.modules["kagglehub"].dataset_download = break_off
        data_dir = tmp_path / "data"
        with pytest.raises(
            FileNotFoundError, match="DATA is 'kaggle', but data/ holds"
        ):
            sources.find_source("kaggle", data_dir)
        assert "is out of reach" in capsys.readouterr().out and not data_dir.exists()


CRAMPED = """
import pathlib, resource, sys
import predict
from facekit import pictures
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 10**8, used + 10**8))
try:
    pictures.read(pathlib.Path(sys.argv[1]))
except pictures.UNREADABLE as why:
    print(pictures.fault(why), predict.describe(why), sep=";")
"""


def test_a_picture_beyond_memory_is_counted(tmp_path):
    """80 million pixels of colour, where 100 MB are left."""
    PIL.Image.new("RGB", (8_000, 10_000)).save(tmp_path / "large.png")
    command = [sys.executable, "-c", CRAMPED, tmp_path / "large.png"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    told = "too large for this machine's memory"
    assert done.stdout.strip() == f"picture: {told};{told}", done.stderr


def test_a_training_that_was_cut_off_ends_as_well_as_another(data, tmp_path):
    """Its error lies within what seeds of whole trainings differ by."""

    def train(place, settings, cut_off=None):
        fit = tiny.fit_on(data)

        def fit_and_cut(model, settings, place):
            cut = dataclasses.replace(settings, epochs=cut_off or settings.epochs)
            told = fit(model, cut, place)
            if cut_off:
                raise KeyboardInterrupt
            return told

        store = runs.Store(
            "faces", data, models=tmp_path / place, logs=tmp_path / "logs"
        )
        try:
            run = store.fit_or_load("mtl", settings, tiny.build, fit_and_cut)
        except KeyboardInterrupt:
            return None
        return min(run.history["epochs"]["val_age_mae"])

    settings = dataclasses.replace(tiny.FACES, epochs=6)
    seeds = [
        train(f"seed {seed}", dataclasses.replace(settings, seed=seed))
        for seed in (1, 2, 3, 4)
    ]
    assert train("cut off", settings, cut_off=3) is None
    least, most, spread = min(seeds), max(seeds), np.ptp(seeds)
    assert least - spread <= train("cut off", settings) <= most + spread


TWO = """
import pathlib, sys
import pandas as pd
import tiny
from facekit import dataset, labels, predictions, runs

folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
nothing = pd.DataFrame({"img_name": [], "split": []})
data = dataset.Dataset(nothing, folder, nothing, "own", "0a1b2c")
store = runs.Store("study", data, models=folder / "model", logs=folder / "logs")
fit, script = tiny.fit_scripted([float(30 - epoch) for epoch in range(20)])
for run_name in ("both", name):
    settings = tiny.Settings(epochs=20)
    run = store.fit_or_load(run_name, settings, tiny.build_sum, fit)
    looked = pd.DataFrame({"age": [20.0, 30.0], "age_predicted": [21.0, 30.0]})
    looked = looked.reindex(columns=[*labels.LABELS, *predictions.PREDICTED])
    predictions.log_look(run, name, looked, "to test")
print(len(script.begun))
"""


def test_two_notebooks_at_once_do_not_harm_each_other(tmp_path, store):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    options = {"env": {**os.environ, "PYTHONPATH": path}, "text": True}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, tmp_path, name],
            stdout=subprocess.PIPE,
            **options,
        )
        for name in ("one", "two")
    ]
    begun = sorted(int(child.communicate()[0].split()[-1]) for child in children)
    assert [child.returncode for child in children] == [0, 0]
    assert begun == [20, 40]  # of the common training one process did all epochs
    for name in ("both", "one", "two"):
        history = store.find(name, tiny.Settings(epochs=20)).history
        assert len(history["epochs"]["loss"]) == 20
    looks = pd.read_csv(next(store.folder.glob("test_looks.csv")))
    assert sorted(looks["training"]) == ["both", "both", "one", "two"]
    assert not list(store.folder.glob("*.partial"))


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_same_training_again_gives_the_same_weights(data, tmp_path, deterministic):
    """On a processor in any case; the parameter asks for it on a GPU too."""
    weights, asked = [], []
    for place in ("first", "second"):
        folders = {"models": tmp_path / place, "logs": tmp_path / "logs"}
        store = runs.Store("faces", data, deterministic=deterministic, **folders)
        try:
            run = store.fit_or_load("mtl", tiny.FACES, tiny.build, tiny.fit_on(data))
            asked.append(tf_config.is_op_determinism_enabled())
        finally:
            tf_config.disable_op_determinism()
        weights.append(run.load().get_weights())
    assert asked == [deterministic] * 2
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("line", ["import facekit", "import predict"])
def test_a_python_without_tensorflow_says_what_to_use(line):
    code = f"import sys; sys.modules['tensorflow'] = None; {line}"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "lacks TensorFlow, or is too old" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_one_list_of_endings():
    """Row 15: what the notebooks and ``predict.py`` take as pictures."""
    from inference import inputs

    assert inputs.ENDINGS is pictures.ENDINGS and inputs.OTHERS is pictures.OTHERS
    for name in ("a.webp", "a.gif"):
        assert pictures.name_fault(name) == "GIF or WebP: save it as PNG or JPEG"
    assert not any(map(pictures.name_fault, (f"a{e}" for e in pictures.ENDINGS)))
    assert labels.SPLITS  # the sets' folders are searched for these alone
