"""What the repository ships: weights, results, predictions, tables, the sample."""

import json
import os
import re
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pandas as pd
import pytest
from notebook_cells import NOTEBOOK

ROOT = NOTEBOOK.parent
SHIPPED = ROOT / "model/utkface"
COUNTS = {"train": 15_026, "val": 3_757, "test": 4_696}
MAIN_SPLITS = {"test", "test_without_twins", "test_without_near_twins", "val"}
MAIN_SPLITS |= {"test_without_flip_averaging"}
UTKFACE = {"train": 15_166, "val": 3_805, "test": 4_732}  # colour: some labels twice
FOREIGN = 2_307
FOREIGN_SETS = ("foreign_test", "foreign_test_cropped")
DIGEST = re.compile(r"-[0-9a-f]{6}(?=\.npz)")  # of pictures that names do not tell
PRETRAINED = {"gender_vgg16", "age_gender_B"}  # need ImageNet's weights
FIELDS = {"chapter", "model", "data", "split", "n", "parameters", "epochs"}
FIELDS |= {"train_seconds", "hardware", "seed"}
# The names of UTKFace: a time stamp of 17 digits, or the labels before it.
REAL_NAME = re.compile(r"\d{17}(?:_\d)?\.jpg|\b\d{1,3}_[01]_[0-4]_\d{17}")
TEXTS = {".md", ".py", ".txt", ".toml", ".json", ".csv", ".ipynb", ".yml", ""}


@pytest.fixture(scope="module")
def results():
    return json.loads((SHIPPED / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model():
    return keras.saving.load_model(SHIPPED / "mtl.keras", safe_mode=True)


@pytest.fixture(scope="module")
def faces(notebook, face_model):
    images, _ = notebook.sample_faces(face_model, 64, seed=7)
    return images[..., None].astype("float32") / 255


def is_shipped(name):
    """Tell whether a run has to be shipped: without ImageNet's weights, some cannot."""
    return name not in PRETRAINED or (SHIPPED / f"{name}.json").exists()


def sets_of(notebook, name):
    """Say on which sets the predictions of a run are shipped."""
    if name == "age_gender_A":
        return ["val", "test", "val_unseen"]
    if name == "age_informed":
        return ["val", "test", "val_guessed", "test_guessed"]
    if name in notebook.BRANCH_SEEDS or name in notebook.AGE_RUNS:
        return ["val", "test"]
    if name == "gender_improved":
        return ["val", "test", "foreign_test", "foreign_test_cropped"]
    if name in notebook.GENDER_TRIALS:
        return ["val", "foreign_test"]
    if name in notebook.GENDER_RUNS:
        return ["val", "test", "foreign_test"]
    if name in notebook.FIVE_RUNS or name == "age_gender_B":
        return ["val", "test"]
    if name == "mtl" or name in notebook.STUDY_RUNS:
        return ["val", "train"]
    return ["val"]


def shipped_files():
    """List what git holds or would hold; everything where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        names = listed.stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
        private = ("data/", "model/runs/", "logs/", ".")
        shipped = ("data/README.md", "data/split.csv.gz", "data/sample/")
        names = [
            name
            for name in names
            if name.startswith(shipped) or not name.startswith(private)
        ]
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


WITH_INTERVALS = ("mtl", "age_gender_A", "age_subclassed")


def chapter_runs(notebook):
    """Give the runs of assignments B, C and D."""
    return list(notebook.CHAPTER_RUNS.values())


class TestResults:
    def test_every_row_is_well_formed(self, notebook, results):
        for row in results:
            assert FIELDS <= set(row)
            assert row["chapter"] in "ABCD" and row["data"] == "utkface"
            tasks = notebook.ALL_RUNS.get(row["model"], notebook.MAIN_RUN)["tasks"]
            for metric in notebook.METRIC_NAMES:
                if metric.split("_")[0] not in tasks:
                    assert metric not in row
                    continue
                low, high = row[f"{metric}_ci95"]
                assert low <= row[metric] <= high, (row["model"], metric)
        places = [(row["chapter"], row["model"], row["split"]) for row in results]
        assert len(set(places)) == len(places)

    def test_the_rows_are_those_that_were_promised(self, notebook, results):
        places = {(row["model"], row["split"]) for row in results}
        assert {("mtl", split) for split in MAIN_SPLITS} <= places
        assert {(name, "test") for name in notebook.FIVE_RUNS} <= places
        others = {**notebook.MAIN_SEEDS, **notebook.STUDY_RUNS, **notebook.CURVE_RUNS}
        assert {(name, "val") for name in others} <= places
        for kind in notebook.SHARING_KINDS:
            for seed in notebook.SHARING_SEEDS:
                assert (f"{kind}, seed {seed}", "val") in places
        for name in filter(is_shipped, sum(map(list, chapter_runs(notebook)), [])):
            sets = set(sets_of(notebook, name)) - {"val_unseen"}
            assert {(name, split) for split in sets} <= places

    def test_counts_are_those_of_the_assignments_sets(self, results):
        rows = {row["split"]: row for row in results if row["model"] == "mtl"}
        for row in results:
            if row["chapter"] != "A":
                expected = UTKFACE | dict.fromkeys(FOREIGN_SETS, FOREIGN)
                if row["chapter"] == "C":
                    expected |= {"val": 1_000}
                assert row["n"] == expected[row["split"].removesuffix("_guessed")]
        assert rows["test"]["n"] == COUNTS["test"]
        assert rows["val"]["n"] == COUNTS["val"]
        sizes = [
            rows[split]["n"]
            for split in ("test", "test_without_twins", "test_without_near_twins")
        ]
        assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3

    def test_the_readme_shows_them(self, notebook, results):
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        assert text.count("<!-- results:begin -->") == 1
        shown = text.split("<!-- results:begin -->")[1]
        shown, rest = shown.split("<!-- results:end -->")
        assert "<!-- results:" not in rest
        tested = [row for row in results if "test" in row["split"]]
        tested = [row for row in tested if row["model"] not in notebook.GENDER_TRIALS]
        table = notebook.as_markdown(notebook.results_table(tested))
        assert shown.strip() == table.strip()

    def test_the_model_card_shows_them(self, notebook, results):
        card = (SHIPPED / "README.md").read_text(encoding="utf-8")
        main = [row for row in results if row["model"] == "mtl"]
        assert notebook.as_markdown(notebook.results_table(main)) in card

    def test_every_look_at_the_test_set_is_logged(self, notebook, results):
        looks = pd.read_csv(SHIPPED / "test_looks.csv")
        assert looks["training"].is_unique
        assert set(looks["n"]) <= {COUNTS["test"], UTKFACE["test"], FOREIGN}
        names = {training.split("-")[0] for training in looks["training"]}
        assert {row["model"] for row in results if "test" in row["split"]} <= names
        foreign = looks[looks["n"] == FOREIGN]["training"]
        assert foreign.str.contains(", foreign_test").all()
        assert len(foreign) == sum("foreign" in row["split"] for row in results)


class TestRuns:
    GROUPS = ("MAIN_SEEDS", "FIVE_RUNS", "STUDY_RUNS", "SHARING_RUNS", "CURVE_RUNS")
    GROUPS += ("GENDER_RUNS", "BRANCH_RUNS", "AGE_RUNS")

    @pytest.fixture(params=GROUPS)
    def shipped_runs(self, request, notebook):
        runs = getattr(notebook, request.param)
        return {name: run for name, run in runs.items() if is_shipped(name)}

    def test_there_is_no_other_group(self, notebook):
        names = [name for group in self.GROUPS for name in getattr(notebook, group)]
        assert sorted(names) == sorted(notebook.ALL_RUNS)
        chapters = [set(runs) for runs in chapter_runs(notebook)]
        assert [set(getattr(notebook, name)) for name in self.GROUPS[5:]] == chapters

    def test_the_notebook_finds_them(self, notebook, shipped_runs):
        for name, hyperparameters in shipped_runs.items():
            history = json.loads((SHIPPED / f"{name}.json").read_text())
            assert history["name"] == name and history["data"] == "utkface"
            assert history["hyperparameters"] == hyperparameters
            assert history["digest"] == notebook.digest_of(hyperparameters)
            _, found = notebook.find_run(
                name, hyperparameters, "utkface", SHIPPED.parent
            )
            assert found is not None

    def test_histories_are_whole(self, notebook, shipped_runs):
        for name, hyperparameters in shipped_runs.items():
            history = json.loads((SHIPPED / f"{name}.json").read_text())
            lengths = {len(values) for values in history["epochs"].values()}
            assert len(lengths) == 1
            assert max(lengths) <= hyperparameters["epochs"]
            losses = history["epochs"]["val_loss"]
            assert history["best_epoch"] == 1 + int(np.argmin(losses))
            needed = {"hardware", "precision", "versions", "date", "commit", "seconds"}
            assert needed <= set(history)
            available = {  # one file of the main assignment is missing
                "A": COUNTS["train"] - 1,
                "C": 4_000,
            }.get(notebook.chapter_of(name), UTKFACE["train"])
            used = notebook.count_images(available, hyperparameters)
            assert history["images"] == used

    def test_predictions_are_complete(self, notebook, shipped_runs):
        known = notebook.read_split_table()
        for name, hyperparameters in shipped_runs.items():
            answered = [
                notebook.PREDICTED_BY[task] for task in hyperparameters["tasks"]
            ]
            columns = [notebook.PREDICTED.index(column) for column in sum(answered, [])]
            for split in sets_of(notebook, name):
                (path,) = (
                    path
                    for path in SHIPPED.glob(f"{name}_*.npz")
                    if DIGEST.sub("", path.name) == f"{name}_{split}.npz"
                )
                with np.load(path, allow_pickle=False) as file:
                    assert set(file.files) == {"name_hash", "values"}
                    hashes, values = file["name_hash"], file["values"]
                expected = {int(key, 16) for key in known[known == split].index}
                found = set(map(int, hashes))
                assert len(found) == len(hashes)
                if "shape" in hyperparameters:  # names of UTKFace, not in the table
                    own = UTKFACE | {"val_unseen": 2_805}
                    own |= dict.fromkeys(FOREIGN_SETS, FOREIGN)
                    if name in notebook.BRANCH_RUNS:
                        own |= {"val": 1_000}
                    assert len(found) == own[split.removesuffix("_guessed")]
                elif split == "train":  # what the run was trained on
                    history = json.loads((SHIPPED / f"{name}.json").read_text())
                    assert len(found) == history["images"] and found <= expected
                else:
                    assert found == expected
                assert values.shape == (len(hashes), len(notebook.PREDICTED))
                assert values.dtype == np.float16
                assert np.isfinite(values[:, columns]).all()
                assert np.isfinite(values).sum() == len(values) * len(columns)
                shares = values[:, [column for column in columns if column]]
                assert ((shares >= 0) & (shares <= 1)).all()

    def test_nothing_else_is_shipped(self, notebook):
        expected = {"README.md", "results.json", "test_looks.csv"}
        for name in filter(is_shipped, notebook.ALL_RUNS):
            sets = sets_of(notebook, name)
            expected |= {f"{name}.json", *(f"{name}_{split}.npz" for split in sets)}
            if name in notebook.SHIPPED_MODELS:
                expected.add(f"{name}.keras")
            if name in ("age_gender_A", "age_gender_B"):
                expected.add(f"{name}.h5")
        expected |= {f"{name}_intervals.json" for name in WITH_INTERVALS}
        found = [DIGEST.sub("", path.name) for path in SHIPPED.iterdir()]
        assert sorted(found) == sorted(expected)

    def test_it_is_not_too_much(self):
        assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 60e6


class TestModel:
    def test_it_answers_three_questions_about_a_face(self, notebook, model, faces):
        assert model.input_shape == (None, 48, 48, 1)
        outputs = model.predict(faces, verbose=0)
        assert {name: values.shape for name, values in outputs.items()} == {
            "age": (64, 1),
            "gender": (64, 1),
            "ethnicity": (64, 5),
        }
        assert 0 <= outputs["age"].min() and outputs["age"].max() <= 116
        np.testing.assert_allclose(outputs["ethnicity"].sum(axis=1), 1, rtol=1e-4)

    def test_it_takes_grey_levels_from_0_to_1(self, notebook, model, face_model):
        images, table = notebook.sample_faces(face_model, 500, seed=7)
        faces = images[..., None].astype("float32")
        right, wrong = (
            model.predict(pictures, verbose=0) for pictures in (faces / 255, faces)
        )
        gender = right["gender"][:, 0] >= 0.5
        assert (gender == table["gender"]).mean() > 0.7
        found = [
            (outputs["ethnicity"].argmax(axis=1) == table["ethnicity"]).mean()
            for outputs in (right, wrong)
        ]
        assert found[0] > max(found[1], 0.5)

    def test_it_holds_no_state_of_the_optimizer(self, model):
        assert getattr(model, "optimizer", None) is None
        with zipfile.ZipFile(SHIPPED / "mtl.keras") as archive:
            config = json.loads(archive.read("config.json"))
            weights = archive.getinfo("model.weights.h5").file_size
        assert not config.get("compile_config")
        assert weights < 1.1 * 4 * model.count_params() + 200_000

    def test_it_is_the_main_network(self, notebook, model):
        built = notebook.build_model(notebook.MAIN_RUN)
        assert model.count_params() == built.count_params() < 3e6
        shapes = [tuple(weight.shape) for weight in built.weights]
        assert sorted(shapes) == sorted(tuple(weight.shape) for weight in model.weights)
        assert {weight.dtype for weight in model.weights} == {"float32"}


PREDICT = """
import json, sys, keras, numpy as np
found = {}
for path in sys.argv[1:]:
    model = keras.saving.load_model(path, compile=False)
    size = model.input_shape[1:]
    noise = np.random.default_rng(0).random((4, *size), dtype="float32")
    outputs = model.predict(noise, verbose=0)
    if not isinstance(outputs, dict):  # as the old format keeps them
        outputs = outputs if isinstance(outputs, list) else [outputs]
        outputs = dict(zip(model.output_names, outputs))
    found[path] = {name: out.tolist() for name, out in outputs.items()}
print(json.dumps({"version": keras.__version__, "values": found}))
"""


def predict_under(version, folder):
    """Load every shipped model under a version of Keras, and predict noise."""
    target = folder / version
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    pip += ["--disable-pip-version-check", "--target", str(target)]
    installed = subprocess.run(
        [*pip, f"keras=={version}"], capture_output=True, text=True
    )
    if installed.returncode:
        pytest.skip(f"keras {version} cannot be installed: {installed.stderr}")
    paths = [*SHIPPED.glob("*.keras"), *SHIPPED.glob("*.h5")]
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, *map(str, paths)],
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["version"] == version
    return {path.name: found["values"][str(path)] for path in paths}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for task, values in found.items():
        np.testing.assert_allclose(values, expected[task], rtol=1e-3, atol=1e-3)


def test_all_models_give_the_same_numbers_under_every_supported_keras(tmp_path):
    oldest, newest = (
        predict_under(version, tmp_path) for version in ("3.13.2", "3.15.1")
    )
    assert {"mtl.keras", "gender_improved.keras", "age_gender_A.h5"} <= oldest.keys()
    assert oldest.keys() == newest.keys()
    for name in oldest:
        assert_same(newest[name], oldest[name])
    assert_same(oldest["age_gender_A.h5"], oldest["age_gender_A.keras"])


class TestData:
    def test_the_split_is_the_assignments(self):
        table = pd.read_csv(ROOT / "data/split.csv.gz")
        assert list(table) == ["name_hash", "split"]
        assert table["split"].value_counts().to_dict() == COUNTS
        assert table["name_hash"].is_unique
        assert table["name_hash"].str.fullmatch("[0-9a-f]{16}").all()

    def test_the_face_model_is_small(self, face_model):
        assert (ROOT / "data/sample/face_model.npz").stat().st_size < 1_000_000
        assert face_model["components"].shape == (150, 2304)

    def test_no_shipped_text_names_a_real_picture(self):
        found = {
            str(path.relative_to(ROOT)): REAL_NAME.findall(text)[:3]
            for path in shipped_files()
            if path.suffix in TEXTS
            and REAL_NAME.search(text := path.read_text(encoding="utf-8"))
        }
        assert not found

    def test_no_shipped_text_holds_a_mark_to_be_filled_in(self):
        mark = re.compile("@" + "@")  # in two parts, for this file is shipped too
        found = {
            str(path.relative_to(ROOT)): line
            for path in shipped_files()
            if path.suffix in TEXTS
            for line in path.read_text(encoding="utf-8").splitlines()
            if mark.search(line)
        }
        assert not found

    def test_no_shipped_file_is_a_picture_or_a_table_of_people(self):
        pictures = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".zip"}
        for path in shipped_files():
            assert path.suffix.lower() not in pictures
            if path.suffix == ".csv":
                assert not {"img_name", "pixels"} & set(pd.read_csv(path, nrows=1))

    def test_no_shipped_result_is_about_one_person(self, results):
        assert min(row["n"] for row in results) >= 30
