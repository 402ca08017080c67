"""The notebooks themselves: house rules, committed outputs, a run on the sample."""

import ast
import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import keras
import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from notebook_cells import load_definitions

import page
from facekit import labels, measure

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = [ROOT / "assignment_2.ipynb", *sorted(ROOT.glob("notebooks/*.ipynb"))]
GRADED = (  # under the five headings, in this order
    "pd.read_csv(",
    "ImageDataGenerator(",
    "flow_from_dataframe(",
    "Conv2D(",
    ".compile(",
    ".fit(",
    "model.evaluate(test_batches",
    "model.predict(test_batches",
)
BROWSER = shutil.which("make") and next(
    filter(None, map(shutil.which, page.BROWSERS)), None
)
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def output_texts(cell):
    for output in cell.outputs:
        yield output.get("text", "")
        for mime, value in output.get("data", {}).items():
            if mime.startswith("text/"):
                yield value


def run_on_sample(project, path, **parameters):
    """Execute a notebook from the folder it lies in, as Jupyter does."""
    place = project / path.relative_to(ROOT)
    return papermill.execute_notebook(
        place,
        place.with_suffix(".done.ipynb"),
        parameters={"DATA": "sample", "QUICK": True, **parameters},
        cwd=place.parent,
        kernel_name="python3",
        progress_bar=False,
    )


def check_run(project, path, done):
    """Its outputs and its results are those of a run without errors and warnings."""
    for cell in done.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", output.traceback
            assert output.get("name") != "stderr", output.text
    results = list(project.glob(f"model/runs/*/{path.stem}/results.json"))
    assert len(results) == 1
    assert json.loads(results[0].read_text())["results"]


@pytest.mark.parametrize(  # where there is a browser, JupyterLab runs the main one
    "path", NOTEBOOKS[bool(BROWSER) :], ids=lambda path: path.stem
)
def test_it_runs_from_first_to_last_cell_on_the_sample(project, path):
    check_run(project, path, run_on_sample(project, path))


def test_make_all_runs_every_notebook_once():
    lists = (ROOT / "Makefile").read_text().split("FIRST :=")[1].split("TWO_AT")[0]
    assert {path.stem: lists.count(path.stem) for path in NOTEBOOKS} == {
        path.stem: 1 for path in NOTEBOOKS
    }


@by_name
def test_committed_outputs_are_from_one_clean_run(path):
    cells = code(path)
    counts = [cell.execution_count for cell in cells]
    assert counts == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr"
        for text in output_texts(cell):
            assert not re.search(r"(?<![\w.])/(?:work|root|tmp|home|usr)/", text)
            assert not re.search(r"\b\w+Error: |Warning: ", text)


@by_name
def test_every_figure_has_an_alternative_text(path):
    for cell in code(path):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                assert output.metadata["image/png"]["alt"]


@by_name
def test_house_rules(path):
    notebook = read(path)
    most_cells, most_lines = (
        (110, 700) if path.name == "assignment_2.ipynb" else (90, 320)
    )
    sizes = [
        sum(bool(line.strip()) for line in cell.source.splitlines())
        for cell in code(path)
    ]
    assert len(notebook.cells) <= most_cells
    assert sum(sizes) <= most_lines
    assert max(sizes) <= 40
    titles = [
        line
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("# ")
    ]
    assert len(titles) == 1
    assert path.stat().st_size < 5_000_000


@by_name
def test_jupyterlab_finds_the_metadata_it_writes(path):
    metadata = read(path).metadata
    assert metadata.kernelspec.display_name == "Python 3 (ipykernel)"
    assert set(metadata) == {"kernelspec", "language_info"}


@by_name
def test_nothing_that_the_package_has_is_defined_again(path):
    own = set()
    for module in (ROOT / "facekit").glob("*.py"):
        for node in ast.parse(module.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                own.add(node.name)
    for cell in code(path):
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.name not in own
                assert ast.get_docstring(node), node.name


def test_graded_calls_stand_in_the_main_notebook_in_order():
    text = "\n".join(cell.source for cell in code(NOTEBOOKS[0]))
    places = [text.index(call) for call in GRADED]
    assert places == sorted(places)


def test_the_five_graded_headings_follow_one_another():
    headings = [
        line
        for cell in read(NOTEBOOKS[0]).cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("## ")
    ]
    points = [re.search(r"\((\d+) points\)", line) for line in headings]
    graded = [place for place, found in enumerate(points) if found]
    assert graded == list(range(graded[0], graded[0] + 5))
    assert [int(points[place][1]) for place in graded] == [15, 22, 44, 14, 5]


def test_the_network_written_out_is_the_shipped_one():
    notebook = load_definitions("assignment_2.ipynb")
    built = notebook.one_output_per_task(notebook.build(notebook.Settings()))
    shipped = keras.saving.load_model(
        ROOT / "model/utkface/assignment_2/mtl.keras", compile=False
    )
    assert shipped.count_params() == built.count_params()
    assert [layer.name for layer in shipped.layers] == [
        layer.name for layer in built.layers
    ]
    for one, other in zip(shipped.layers, built.layers, strict=True):
        assert plain_config(one) == plain_config(other), one.name


def plain_config(layer):
    """A layer's configuration; a seed of chance is nobody's concern."""
    config = layer.get_config()
    config.pop("dtype")
    if "kernel_initializer" in config:
        config["kernel_initializer"]["config"].pop("seed")
    return config


def test_the_shared_layers_are_those_of_the_package():
    from facekit import networks

    notebook = load_definitions("assignment_2.ipynb")
    built = notebook.build(notebook.Settings())
    inputs = keras.Input((48, 48, 1), name="image")
    numbers = (32, 64, 128, 256), (1, 2, 2, 2)
    same = keras.Model(
        inputs, networks.trunk(inputs, *numbers, units=256, dropout=0.25)
    )
    for layer in same.layers[1:]:
        assert plain_config(layer) == plain_config(built.get_layer(layer.name))


def test_every_history_is_found_by_the_main_notebooks_settings():
    from facekit import runs

    settings = load_definitions("assignment_2.ipynb").Settings
    for path in (ROOT / "model/utkface/assignment_2").glob("*.json"):
        if path.name == "results.json":
            continue
        history = json.loads(path.read_text())
        told = {"soft_labels": None} | history["settings"]  # older runs have none
        told |= {"filters": tuple(history["settings"]["filters"])}
        assert runs._digest(settings(**told)) == history["digest"], path.name


def test_results_are_those_of_the_shipped_predictions():
    """Labels are not shipped: the kept predictions' number and range can be checked."""
    folder = ROOT / "model/utkface/assignment_2"
    results = json.loads((folder / "results.json").read_text())
    rows = {(row["model"], row["split"]): row for row in results["results"]}
    for name in results["runs"]:
        assert (folder / f"{name}.json").exists()
        assert (name, "val") in rows
    with np.load(folder / "mtl_val.npz", allow_pickle=False) as file:
        assert len(file["values"]) == rows["mtl", "val"]["n"]
        assert file["values"].shape[1] == len(measure.PREDICTED)
    looks = pd.read_csv(folder / "test_looks.csv").query("set == 'test'")
    for (name, split), row in rows.items():
        if split == "test":
            seen = looks[looks["training"] == name].iloc[-1]
            assert seen["age_mae"] == pytest.approx(
                row["age_mae"], abs=2e-4
            )  # what was logged had been rounded to 16 bits


def test_a_notebook_that_was_opened_alone_says_what_to_set(tmp_path):
    cell = next(cell for cell in code(NOTEBOOKS[0]) if "REPOSITORY" in cell.source)
    done = subprocess.run(
        [sys.executable, "-c", cell.source],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "set REPOSITORY" in line


def test_a_notebook_that_was_opened_alone_fetches_the_project(tmp_path):
    origin = tmp_path / "origin"
    shutil.copytree(ROOT / "facekit", origin / "facekit")
    git = [
        "git",
        "-C",
        str(origin),
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b.invalid",
    ]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    alone = tmp_path / "alone"
    alone.mkdir()
    cell = next(cell for cell in code(NOTEBOOKS[0]) if "REPOSITORY" in cell.source)
    text = cell.source.replace('REPOSITORY = ""', f'REPOSITORY = "{origin.as_uri()}"')
    text += "\nprint(facekit.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=alone, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert pathlib.Path(done.stdout.strip()).is_relative_to(alone / "repository")


def test_the_readmes_picture_is_the_notebooks():
    pictures = [
        base64.b64decode(output.data["image/png"])
        for cell in code(NOTEBOOKS[0])
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert (ROOT / "model/errors_by_age.png").read_bytes() in pictures


def test_no_real_names_are_shown():
    names = re.compile(r"\d{17}")  # UTKFace's time stamps
    for path in NOTEBOOKS:
        for cell in code(path):
            assert not any(names.search(text) for text in output_texts(cell)), path.name


def test_labels_of_the_package_are_the_assignments():
    assert labels.COLUMNS == ("age", "gender", "ethnicity", "img_name")
