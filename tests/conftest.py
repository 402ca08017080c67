"""What all tests share: the notebook's functions, synthetic faces, a tiny training.

With `CI=true` a skipped test counts as failed: nothing may go unnoticed there.
"""

import os
import pathlib
import shutil
import socket
import sys
import types

# Before TensorFlow and matplotlib are imported, here and in every child process.
os.environ["MPLBACKEND"] = "Agg"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import numpy as np
import PIL.Image
import pytest
from notebook_cells import load_functions

ROOT = pathlib.Path(__file__).resolve().parents[1]
FACES = 300
IN_CI = os.environ.get("CI", "").lower() == "true"


def _skipped(config: pytest.Config) -> list:
    """List the reports of skipped tests, where they count as failed."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return reporter.stats.get("skipped", []) if IN_CI and reporter else []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session if a test was skipped in CI."""
    if session.exitstatus == pytest.ExitCode.OK and _skipped(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Say why a session without a failed test failed."""
    count = len(_skipped(config))
    if count:
        line = f"CI=true: {count} skipped test(s) count as failed"
        terminalreporter.write_line(line, red=True)


@pytest.fixture(scope="session")
def notebook() -> types.ModuleType:
    """Give the notebook's functions, whatever the working directory is."""
    module = load_functions()
    module.SHIPPED_DATA = ROOT / "data"
    return module


@pytest.fixture
def offline(monkeypatch) -> None:
    """Let every connection fail, as without a network."""

    def refuse(*address, **options):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture(scope="session")
def face_model(notebook) -> dict[str, np.ndarray]:
    """Load the embedded face model."""
    return notebook.load_face_model(ROOT / "data/sample/face_model.npz")


@pytest.fixture(scope="session")
def data_folder(notebook, tmp_path_factory) -> pathlib.Path:
    """Write 300 synthetic faces as the assignment lays its pictures out."""
    folder, _ = notebook.use_sample(tmp_path_factory.mktemp("data"), FACES)
    return folder


@pytest.fixture(scope="session")
def loaded(notebook, data_folder) -> tuple:
    """Load those faces: table, pictures, faults."""
    return notebook.load_folder(data_folder)


@pytest.fixture(scope="session")
def parts(notebook, loaded) -> dict:
    """Give the table's rows by set."""
    table = loaded[0]
    return {split: table[table["split"] == split] for split in notebook.SPLITS}


@pytest.fixture
def small_folder(notebook, face_model, tmp_path) -> pathlib.Path:
    """Write 60 faces that a test may damage: 30, 15 and 15 by set."""
    images, table = notebook.sample_faces(face_model, 60, seed=5)
    table["img_name"] = [f"face_{number:02d}.jpg" for number in range(60)]
    table["split"] = np.repeat(notebook.SPLITS, [30, 15, 15])
    folder = tmp_path / "small"
    notebook.write_layout(images, table, folder, {})
    return folder


@pytest.fixture(scope="session")
def tiny(notebook) -> dict:
    """Give the hyperparameters of a network that trains in seconds."""
    return notebook.MAIN_RUN | {
        "filters": [4, 4, 4, 4],
        "convolutions": [1, 1, 1, 1],
        "shared_units": 8,
        "head_units": 8,
        "dropout": 0.0,
        "batch_size": 64,
        "epochs": 2,
        "warmup_epochs": 1,
    }


@pytest.fixture(scope="session")
def make_context(notebook, parts, data_folder):
    """Make the context of trainings on the 300 faces, writing into a folder."""

    def make(folder: pathlib.Path) -> dict:
        return {
            "tables": {"train": parts["train"], "select": parts["val"]},
            "folder": data_folder / "images",
            "data_name": "test-faces",
            "model_dir": folder / "model",
            "log_dir": folder / "logs",
            "shipped": True,
            "commit": "0a1b2c3",
        }

    return make


@pytest.fixture(scope="session")
def context(make_context, tmp_path_factory) -> dict:
    """Give the context of the one training that many tests look at."""
    return make_context(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def trained(notebook, tiny, context) -> dict:
    """Train the tiny network once, as the run `mtl`."""
    return notebook.fit_or_load("mtl", tiny, context)


@pytest.fixture(scope="session")
def predicted(notebook, trained, parts, context):
    """Predict the test pictures with the tiny network."""
    return notebook.predict_or_load(trained, parts["test"], context)


@pytest.fixture
def save_picture():
    """Give a function that saves an array as a picture, in any mode and size."""

    def save(path: pathlib.Path, pixels: np.ndarray) -> None:
        PIL.Image.fromarray(pixels).save(path)

    return save


@pytest.fixture(scope="session")
def pixel_rows(loaded):
    """Give the 300 faces as rows of a CSV with pixels; no name is a known one."""
    table, images, _ = loaded
    rows = table.drop(columns="split")
    rows["img_name"] = [f"face_{number:03d}.jpg" for number in range(len(rows))]
    rows["pixels"] = [" ".join(map(str, image.ravel())) for image in images]
    return rows


@pytest.fixture
def fake_kaggle(monkeypatch):
    """Give a function that lets Kaggle answer, with the files of a folder."""

    def answer(folder: pathlib.Path) -> None:
        reached = types.SimpleNamespace(close=lambda: None)
        monkeypatch.setattr(socket, "create_connection", lambda *a, **o: reached)
        hub = types.ModuleType("kagglehub")
        hub.dataset_download = lambda name: str(folder)
        monkeypatch.setitem(sys.modules, "kagglehub", hub)

    return answer


@pytest.fixture(params=["folder", "csv", "kaggle", "sample"])
def layout(request, tmp_path, data_folder, pixel_rows, offline, fake_kaggle) -> tuple:
    """Lay out data in each of the four ways users have: its kind, and `DATA_DIR`."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    if request.param == "folder":
        shutil.copytree(data_folder, data_dir, dirs_exist_ok=True)
    elif request.param == "csv":
        pixel_rows.to_csv(data_dir / "age_gender.csv", index=False)
    elif request.param == "kaggle":
        download = tmp_path / "download"
        download.mkdir()
        pixel_rows.to_csv(download / "age_gender.csv", index=False)
        fake_kaggle(download)
    return request.param, data_dir
