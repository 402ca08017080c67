"""What all tests share: synthetic faces, a tiny training, no network.

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
import pandas as pd
import PIL.Image
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
IN_CI = os.environ.get("CI", "").lower() == "true"


def _skipped(config: pytest.Config) -> list:
    """List the reports of skipped tests, where they count as failed."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return reporter.stats.get("skipped", []) if IN_CI and reporter else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take minutes, so that no process waits at the end.

    pytest-xdist gives one process the first half of the tests, another the second.
    """
    slow = "test_jupyterlab_runs", "test_it_runs_from_first"
    slow += "test_two_notebooks_at_once", "test_killed_at_random"
    long = [item for item in items if item.name.startswith(slow)]
    rest = [item for item in items if item not in long]
    half = len(rest) // 2
    items[:] = long[::2] + rest[: half + 2] + long[1::2] + rest[half + 2 :]


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


@pytest.fixture
def offline(monkeypatch) -> None:
    """Let every connection fail, as without a network."""

    def refuse(*address, **options):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "create_connection", refuse)


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


@pytest.fixture
def save_picture():
    """Give a function that saves noise around a grey level, or given pixels."""

    def save(path: pathlib.Path, pixels=None, size=(60, 60)) -> pathlib.Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if pixels is None:
            generator = np.random.default_rng(len(path.name))
            pixels = generator.integers(60, 200, (*size, 3)).astype("uint8")
        PIL.Image.fromarray(pixels).save(path)
        return path

    return save


@pytest.fixture
def project(tmp_path):
    """Copy the project, without data and runs of its own."""
    for package in ("facekit", "studies", "inference"):
        shutil.copytree(ROOT / package, tmp_path / package)
    for path in [ROOT / "assignment_2.ipynb", *ROOT.glob("notebooks/*.ipynb")]:
        place = tmp_path / path.relative_to(ROOT)
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, place)
    for folder in ("data/sample", "model/utkface", "logs/utkface"):
        (tmp_path / folder).parent.mkdir(exist_ok=True)
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "benchmarks").mkdir()
    for file in ("data/split.csv.gz", "benchmarks/experiments.md"):
        shutil.copyfile(ROOT / file, tmp_path / file)
    return tmp_path


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """Load the embedded sample: 2,000 synthetic faces."""
    from facekit import dataset, sources

    source = sources.find_source("sample", tmp_path_factory.mktemp("sample"))
    return dataset.load(source.folder, source.synthetic)


def _write_faces(sample, sizes, folder):
    """Write some of the faces of each set as a folder of their own."""
    import pandas as pd

    from facekit import sources

    parts = zip(sizes, ("train", "val", "test"), strict=True)
    table = pd.concat([sample.rows(split)[:size] for size, split in parts])
    images = sample.images[table.index]
    table = table.assign(img_name=[f"face_{row:03d}.jpg" for row in range(len(table))])
    sources.write_layout(images, table, folder, {"synthetic faces": "faces.zip"})
    return folder


@pytest.fixture(scope="session")
def data_folder(sample, tmp_path_factory) -> pathlib.Path:
    """Write 300 synthetic faces in the assignment's layout: 192, 48 and 60 by set."""
    return _write_faces(sample, (192, 48, 60), tmp_path_factory.mktemp("data") / "some")


@pytest.fixture(scope="session")
def data(data_folder):
    """Load those 300 faces."""
    from facekit import dataset

    return dataset.load(data_folder, synthetic=True)


@pytest.fixture
def small_folder(sample, tmp_path) -> pathlib.Path:
    """Write 60 faces that a test may damage: 30, 15 and 15 by set."""
    return _write_faces(sample, (30, 15, 15), tmp_path / "small")


@pytest.fixture(scope="session")
def pixel_rows(data):
    """Give the 300 faces as rows of a CSV with pixels; no name is a known one."""
    pixels = [" ".join(map(str, image.ravel())) for image in data.images]
    return data.table.drop(columns="split").assign(pixels=pixels)


@pytest.fixture(params=["folder", "csv", "kaggle", "sample"])
def layout(request, tmp_path, data_folder, pixel_rows, offline, fake_kaggle) -> tuple:
    """Lay out data in each of the four ways users have: its kind, and `DATA_DIR`."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    if request.param == "folder":
        shutil.copytree(data_folder, data_dir, dirs_exist_ok=True)
        (data_dir / "source.json").unlink()
    elif request.param == "csv":
        pixel_rows.to_csv(data_dir / "age_gender.csv", index=False)
    elif request.param == "kaggle":
        download = tmp_path / "download"
        download.mkdir()
        pixel_rows.to_csv(download / "age_gender.csv", index=False)
        fake_kaggle(download)
    return request.param, data_dir


@pytest.fixture
def know(monkeypatch):
    """Give a function that lets the split table know names and their sets."""
    import pandas as pd

    from facekit import colour, dataset, labels, sources

    def table(sets: dict[str, str]) -> None:
        hashes = [labels.hash_name(name) for name in sets]
        known = pd.Series(list(sets.values()), index=hashes, dtype=object)
        for module in (labels, sources, dataset, colour):
            if hasattr(module, "read_split_table"):
                monkeypatch.setattr(module, "read_split_table", lambda: known)

    return table


@pytest.fixture
def utkface(tmp_path, save_picture, know, monkeypatch) -> pathlib.Path:
    """Write 40 pictures named as UTKFace names them, and let them be all of it."""
    from facekit import dataset

    sets = {}
    for number in range(40):
        stamp = f"20990101000000{number:03d}"  # a day that no picture has
        name = f"{20 + number}_{number % 2}_{number % 5}_{stamp}.jpg.chip.jpg"
        save_picture(tmp_path / "UTKFace" / name)
        sets[f"{stamp}.jpg.chip.jpg"] = ("train", "val", "test")[number % 7 // 3]
    know(sets)
    monkeypatch.setattr(dataset, "CLOSE", (99, 1, 99, 99))  # names alone decide
    return tmp_path / "UTKFace"


@pytest.fixture
def class_folders(tmp_path, save_picture):
    """Give a function that writes a folder for each gender label."""

    def write(place: str, names=("male", "female"), count=2) -> pathlib.Path:
        for name in names:
            for number in range(count):
                save_picture(tmp_path / place / name / f"{number}.png")
        return tmp_path / place

    return write


@pytest.fixture
def store(tmp_path):
    """Give a store for trainings on eight rows of numbers."""
    import pandas as pd

    from facekit import dataset, runs

    nothing = pd.DataFrame({"img_name": [], "split": []})
    numbers = dataset.Dataset(nothing, tmp_path, nothing, "own", "0a1b2c")
    return runs.Store(
        "study", numbers, models=tmp_path / "model", logs=tmp_path / "logs"
    )


@pytest.fixture(scope="session")
def face_store(data, tmp_path_factory):
    """Give a store for trainings on the 300 faces."""
    from facekit import runs

    folder = tmp_path_factory.mktemp("trained")
    return runs.Store("faces", data, models=folder / "model", logs=folder / "logs")


@pytest.fixture(scope="session")
def trained(face_store, data):
    """Train a tiny network on the 300 faces once, as the run `mtl`."""
    import tiny

    return face_store.fit_or_load("mtl", tiny.FACES, tiny.build, tiny.fit_on(data))


@pytest.fixture(scope="session")
def predicted(trained, data):
    """Predict the test pictures with the tiny network."""
    import tiny

    return tiny.predict(trained.load(), data.rows("test"), data)


@pytest.fixture
def copy_run(trained, tmp_path):
    """Copy the trained run, as the user's own, so that a test may change it."""
    from facekit import runs

    folder = tmp_path / "model/runs/sample-0a1b2c/faces"
    folder.mkdir(parents=True)
    for ending in (".json", ".keras"):
        shutil.copyfile(trained.path(ending), folder / f"mtl-0a1b2c{ending}")
    return runs.Run("mtl", folder / "mtl-0a1b2c", trained.history)


@pytest.fixture(scope="session")
def make_shipped_store(tmp_path_factory):
    """Make a notebook's store that knows of what is shipped alone, on UTKFace."""
    from facekit import dataset, labels, runs

    def make(notebook):
        folder = tmp_path_factory.mktemp("shipped")
        (folder / "utkface").mkdir()
        place = folder / "utkface" / notebook
        place.symlink_to(labels.MODELS / "utkface" / notebook)
        table = pd.DataFrame({"img_name": [], "split": []})
        data = dataset.Dataset(table, folder, table, "utkface", "0a1b2c")
        return runs.Store(notebook, data, models=folder, logs=folder)

    return make
