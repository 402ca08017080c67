"""What the repository ships: weights, results, tables; and what it must not ship."""

import json
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import publish
import pytest

from facekit import labels, pictures, report

SHIPPED = labels.MODELS / "utkface"
COUNTS = {"train": 15_026, "val": 3_757, "test": 4_696}
# The names of UTKFace: a time stamp of 17 digits, or the labels before it.
REAL_NAME = re.compile(r"\d{17}(?:_\d)?\.jpg|\b\d{1,3}_[01]_[0-4]_\d{17}")
INVENTED = re.compile(r"2099\d{13}")  # a day that no picture has: in tests
TEXTS = {".md", ".py", ".txt", ".toml", ".json", ".csv", ".ipynb", ".yml", ""}
NEWEST = "3.15.1"  # of Keras, that requirements.txt allows
by_notebook = pytest.mark.parametrize("notebook", publish.WEIGHTS)


def results_of(notebook):
    return json.loads((SHIPPED / notebook / "results.json").read_text(encoding="utf-8"))


def shipped_files():
    """List what git holds or would hold."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=labels.ROOT, capture_output=True, check=True)
    paths = [labels.ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_no_text_names_a_real_picture():
    found = {}
    for path in shipped_files():
        if path.suffix in TEXTS:
            text = INVENTED.sub("", path.read_text(encoding="utf-8"))
            if names := REAL_NAME.findall(text):
                found[path.name] = len(names)
    assert found == {}


def test_no_file_is_a_picture_or_a_table_of_people():
    for path in shipped_files():
        if path.name != "errors_by_age.png":  # a figure, the README's
            assert path.suffix.lower() not in {*pictures.ENDINGS, *pictures.OTHERS}
        if path.suffix == ".csv":
            assert not {"img_name", "pixels"} & set(pd.read_csv(path, nrows=1))
    zips = [path.name for path in shipped_files() if path.suffix == ".zip"]
    assert zips == ["faces.zip"]


def test_it_is_not_too_much():
    folders = (SHIPPED, labels.LOGS / "utkface")
    paths = [path for folder in folders for path in folder.rglob("*")]
    assert sum(path.stat().st_size for path in paths) < 96e6


LOOKS = "test_looks.csv", ".test_looks.csv.lock"  # the lock is never committed


@by_notebook
def test_runs_and_their_files_belong_together(notebook):
    names = set(results_of(notebook)["runs"])
    for name, digest in results_of(notebook)["runs"].items():
        history = json.loads((SHIPPED / notebook / f"{name}.json").read_text())
        assert (history["digest"], history["data"]) == (digest, "utkface")
        epochs = history["epochs"]
        assert len({len(values) for values in epochs.values()}) == 1
        assert history["best_epoch"] == 1 + int(np.argmin(epochs["val_loss"]))
    for path in (SHIPPED / notebook).iterdir():
        if path.name not in ("results.json", *LOOKS):
            assert [name for name in names if path.name.startswith(name)], path.name
    weights = {path.stem for path in (SHIPPED / notebook).glob("*.keras")}
    assert weights == set(publish.WEIGHTS[notebook])


@by_notebook
def test_every_figure_has_its_interval_and_every_look_is_logged(notebook):
    rows = results_of(notebook)["results"]
    for row in rows:
        assert row["data"] == "utkface" and row["n"] >= 30
        metrics = [metric for metric in report.METRICS if metric in row]
        assert metrics
        for metric in metrics:
            low, high = row[f"{metric}_ci95"]
            assert low <= row[metric] <= high, (row["model"], metric)
    places = [(row["model"], row["split"]) for row in rows]
    assert len(set(places)) == len(places)
    tested = {row["model"] for row in rows if "test" in row["split"]}
    looks = SHIPPED / notebook / "test_looks.csv"
    assert tested <= (set(pd.read_csv(looks)["training"]) if tested else set())


def test_readme_and_model_card_show_the_results():
    readme = (labels.ROOT / "README.md").read_text(encoding="utf-8")
    card = (SHIPPED / "README.md").read_text(encoding="utf-8")
    for notebook in publish.WEIGHTS:
        rows = results_of(notebook)["results"]
        rows = [row for row in rows if not row["title"].startswith("Trial")]
        tested = report.results_table([row for row in rows if "test" in row["split"]])
        assert not len(tested) or report.as_markdown(tested) in readme
    main = [row for row in results_of("assignment_2")["results"]]
    main = [row for row in main if row["model"] == "mtl" and "test" in row["split"]]
    assert report.as_markdown(report.results_table(main)) in card


def test_the_main_network_reads_grey_levels_from_0_to_1(sample):
    model = keras.saving.load_model(SHIPPED / "assignment_2/mtl.keras", safe_mode=True)
    assert not model.compiled and {weight.dtype for weight in model.weights} == {
        "float32"
    }
    rows = sample.rows("test")
    faces = sample.images[rows.index][..., None].astype("float32")
    right, wrong = (model.predict(part, verbose=0) for part in (faces / 255, faces))
    gender = right["gender"][:, 0] >= 0.5
    assert (gender == rows["gender"]).mean() > 0.7
    found = [
        (outputs["ethnicity"].argmax(axis=1) == rows["ethnicity"]).mean()
        for outputs in (right, wrong)
    ]
    assert found[0] > max(found[1], 0.5)
    assert 0 <= right["age"].min() and right["age"].max() <= labels.AGES[-1]


PREDICT = """
import json, sys, keras, numpy as np
found = {}
for path in sys.argv[1:]:
    model = keras.saving.load_model(path, compile=False)
    size = model.input_shape[1:]
    noise = np.random.default_rng(0).random((2, *size), dtype="float32")
    outputs = model(noise, training=False)
    if not isinstance(outputs, dict):  # as the old format keeps them
        outputs = outputs if isinstance(outputs, list) else [outputs]
        outputs = dict(zip(model.output_names, outputs))
    found[path] = {name: np.array(out).tolist() for name, out in outputs.items()}
print(json.dumps({"version": keras.__version__, "values": found}))
"""


def predict_noise(environment):
    """Load every shipped network in a process of its own, and predict noise."""
    weights = (
        path for ending in ("keras", "h5") for path in SHIPPED.rglob(f"*.{ending}")
    )
    paths = sorted(map(str, weights))
    command = [sys.executable, "-c", PREDICT, *paths]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_all_networks_say_the_same_under_the_newest_keras(tmp_path):
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    pip += ["--disable-pip-version-check", "--target", str(tmp_path)]
    pip += [f"keras=={NEWEST}"]
    installed = subprocess.run(pip, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"keras {NEWEST} cannot be installed: {installed.stderr}")
    here, newest = predict_noise({}), predict_noise({"PYTHONPATH": str(tmp_path)})
    assert newest["version"] == NEWEST and len(here["values"]) > 5
    for path, outputs in here["values"].items():
        for task, values in outputs.items():
            found = newest["values"][path][task]
            np.testing.assert_allclose(found, values, rtol=1e-3, atol=1e-3)
