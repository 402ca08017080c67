"""The 23 defects of the first version, each with its scenario, against this one."""

import ast
import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import types

import numpy as np
import pandas as pd
import publish
import pytest
import test_runs
import tiny
from notebook_cells import load_definitions

from facekit import (
    batches,
    boards,
    colour,
    dataset,
    labels,
    machine,
    measure,
    places,
    predictions,
    report,
    runs,
    sources,
)

ONE = tiny.Settings(epochs=1)
NOTEBOOKS = [labels.ROOT / "assignment_2.ipynb"]
NOTEBOOKS += sorted((labels.ROOT / "notebooks").glob("*.ipynb"))
by_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
pytestmark = test_runs.pytestmark


def cells_of(path):
    """Give source and tags of a notebook's code cells."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [
        ("".join(cell["source"]), cell["metadata"].get("tags", []))
        for cell in cells
        if cell["cell_type"] == "code"
    ]


def nodes_of(path):
    """Give all syntax nodes of a notebook's code."""
    source = "\n".join(source for source, _ in cells_of(path))
    return list(ast.walk(ast.parse(source)))


def fields_of(path):
    """Give the default settings of a notebook, and their fields' names."""
    settings = load_definitions(path).Settings()
    return settings, [field.name for field in dataclasses.fields(settings)]


def store_of(data, folder, **options):
    return runs.Store(
        "study", data, models=folder / "model", logs=folder / "logs", **options
    )


def train(store, name="sum", settings=ONE):
    fit, _ = tiny.fit_scripted([1.0] * settings.epochs)
    return store.fit_or_load(name, settings, tiny.build_sum, fit)


def ship(store, run):
    """Let the repository ship a run under the name that the store looks for."""
    store.shipped.mkdir(parents=True, exist_ok=True)
    for ending in (".json", ".keras"):
        shutil.copyfile(run.path(ending), store.shipped / f"{run.name}{ending}")


def told_of(table, images):
    """Give what a data set is told by, as ``dataset.UTKFACE`` has it."""
    found = {}
    for split in labels.SPLITS:
        rows = (table["split"] == split).to_numpy()
        means = table.loc[rows, ["age", "gender"]].mean().to_list()
        found[split] = (*means, images[rows].mean(), images[rows].std())
    return found


def test_finding_01_what_is_announced_is_what_is_trained(
    utkface, class_folders, tmp_path
):
    """A part of UTKFace, then class folders, in place of the known pictures."""
    whole, _ = colour.find_gender("auto", tmp_path)
    own = train(store_of(whole, tmp_path))
    ship(store_of(whole, tmp_path), own)
    shutil.rmtree(tmp_path / "model/runs")
    assert tiny.missing(store_of(whole, tmp_path), {"sum": ONE}) == []
    sorted(utkface.iterdir())[0].unlink()
    for folders in ((), ("gender/train", "gender/test")):
        for place in folders:
            class_folders(place)
        part, _ = colour.find_gender("auto", tmp_path)
        store = store_of(part, tmp_path)
        assert part.name == "own" and tiny.missing(store, {"sum": ONE}) == ["sum"]
        assert train(store).trained_here
        assert tiny.missing(store, {"sum": ONE}) == [] and not train(store).trained_here


@pytest.fixture
def maintainer(tmp_path, trained, predicted, monkeypatch):
    """Write what all notebooks leave behind, and a README; returns the models."""
    models = tmp_path / "model"
    for module in (publish, boards):
        monkeypatch.setattr(module, "LOGS", tmp_path / "logs")
    for notebook, names in publish.WEIGHTS.items():
        folder = models / "runs/utkface-0a1b2c" / notebook
        folder.mkdir(parents=True)
        names = names or ["sum"]
        row = report.result_row(trained, "A network", "test", predicted)
        rows = [row | {"model": name} for name in names]
        rows += [row | {"model": name, "split": "foreign_test"} for name in names]
        for name in names:
            history = trained.history | {"name": name, "data": "utkface"}
            history |= {"digest": "aaaaaa"}
            runs.write_history(folder / f"{name}-aaaaaa.json", history)
            for ending in (".keras", "_test.npz"):
                (folder / f"{name}-aaaaaa{ending}").write_text(f"new {name}")
        told = {"data": "utkface", "runs": dict.fromkeys(names, "aaaaaa")}
        told |= {"results": rows, "age_intervals": {}, "card": {"By label": "| x |"}}
        (folder / "results.json").write_text(json.dumps(told))
        shipped = models / "utkface" / notebook
        shipped.mkdir(parents=True)
        (shipped / f"{names[0]}_foreign_test-b3af1e.npz").write_text("old")
    marks = [f"<!-- {m}:begin -->\nold\n<!-- {m}:end -->" for m in ("first", "results")]
    (tmp_path / "README.md").write_text("\n\n".join(["# Title", *marks, "The end."]))
    return models


def content_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_finding_02_publishing_replaces_all_of_the_old_and_nothing_by_halves(
    maintainer, tmp_path
):
    publish.main(maintainer, tmp_path / "README.md")
    shipped = maintainer / "utkface"
    assert not list(shipped.rglob("*foreign_test-b3af1e.npz"))  # of former weights
    for notebook, names in publish.WEIGHTS.items():
        kept = {path.name for path in (shipped / notebook).glob("*.keras")}
        assert kept == {f"{name}.keras" for name in names}
        for name in names or ["sum"]:
            assert (shipped / notebook / f"{name}.json").exists()
            text = (shipped / notebook / f"{name}_test.npz").read_text()
            assert text == f"new {name}"
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("# Title") and readme.endswith("The end.")
    assert "old" not in readme and "| A network" in readme
    card = (shipped / "README.md").read_text()
    assert "583 parameters" in card and "### By label\n\n| x |" in card
    before = content_of(shipped)
    publish.main(maintainer, tmp_path / "README.md")
    assert content_of(shipped) == before
    assert (tmp_path / "README.md").read_text() == readme


GENDER = "runs/utkface-0a1b2c/gender_recognition"
GROUPS = "runs/utkface-0a1b2c/who_is_it_wrong_about"


@pytest.mark.parametrize(
    ("damage", "message"),
    {
        "trained on enlarged grey pictures": (
            lambda m: (m / GENDER).rename(m / "elsewhere"),
            "gender_recognition: no results on UTKFace",
        ),
        "weights are missing": (
            lambda m: (m / GENDER / "gender_improved-aaaaaa.keras").unlink(),
            "the weights of gender_improved are not there",
        ),
        "a training is missing": (
            lambda m: (m / GENDER / "gender_improved-aaaaaa.json").unlink(),
            "the training gender_improved on UTKFace is not there",
        ),
        "the foreign set was not there": (
            lambda m: (m / GENDER / "results.json").write_text(
                (m / GENDER / "results.json").read_text().replace("foreign_test", "val")
            ),
            "gender_recognition: no result of gender_improved on .* foreign",
        ),
        "other data": (
            lambda m: (m / GENDER / "gender_improved-aaaaaa.json").write_text(
                '{"digest": "aaaaaa", "data": "utkface-enlarged"}'
            ),
            "the training gender_improved on UTKFace is not there",
        ),
        "no tables by group": (
            lambda m: (m / GROUPS / "results.json").write_text(
                (m / GROUPS / "results.json").read_text().replace('"card"', '"other"')
            ),
            "who_is_it_wrong_about: no tables for the model card",
        ),
        "no place in the README": (
            lambda m: (m.parent / "README.md").write_text("# Title"),
            "README.md lacks the lines",
        ),
    }.values(),
)
def test_finding_02_what_is_missing_is_named_and_nothing_is_published(
    maintainer, tmp_path, damage, message
):
    damage(maintainer)
    before = content_of(maintainer), (tmp_path / "README.md").read_text()
    with pytest.raises(SystemExit, match=f"(?s)Nothing was published.*{message}"):
        publish.main(maintainer, tmp_path / "README.md")
    assert (content_of(maintainer), (tmp_path / "README.md").read_text()) == before


def test_finding_03_data_are_known_by_more_than_names(
    data_folder, data, know, tmp_path, monkeypatch, save_picture
):
    """Fifty pictures, corrected labels, replaced pictures: under the same names."""
    know(dict(zip(data.table["img_name"], data.table["split"], strict=True)))
    monkeypatch.setattr(dataset, "UTKFACE", told_of(data.table, data.images))
    whole = dataset.load(data_folder)
    run = train(store_of(whole, tmp_path))
    ship(store_of(whole, tmp_path), run)
    assert whole.name == "utkface"
    folders = {store_of(whole, tmp_path).folder}

    def changed(change):
        folder = tmp_path / f"changed {len(folders)}"
        shutil.copytree(data_folder, folder)
        change(folder)
        found = dataset.load(folder)
        folders.add(store_of(found, tmp_path).folder)
        assert store_of(found, tmp_path / "nowhere").find("sum", ONE) is None
        return found, store_of(found, tmp_path).find("sum", ONE)

    def correct_labels(folder, rows):
        table = pd.read_csv(folder / "age_gender.csv")
        table.loc[table.index[:rows], "age"] += 10
        table.to_csv(folder / "age_gender.csv", index=False)

    def blacken(folder):
        for path in folder.glob("images/*/*.jpg"):
            save_picture(path, np.zeros((48, 48), "uint8"))

    def keep_fifty(folder):
        for path in sorted(folder.glob("images/*/*.jpg"))[::2][:250]:
            path.unlink()

    for change in (blacken, keep_fifty, lambda f: correct_labels(f, 200)):
        found, loaded = changed(change)
        assert found.name == "own" and loaded is None
    found, loaded = changed(lambda folder: correct_labels(folder, 2))
    assert found.name == "utkface" and not loaded.own  # what was trained here is not
    assert len(folders) == 5


def test_finding_03_colour_pictures_too(utkface, monkeypatch, save_picture):
    found = colour.read_utkface(utkface)
    small = [np.full((25, 25), 130)] * len(found.table)
    monkeypatch.setattr(dataset, "UTKFACE", told_of(found.table, np.stack(small)))
    monkeypatch.setattr(dataset, "CLOSE", (0.2, 0.005, 10, 99))
    assert colour.read_utkface(utkface).name == "utkface"
    for path in utkface.iterdir():
        save_picture(path, np.zeros((60, 60, 3), "uint8"))
    assert colour.read_utkface(utkface).name == "own"


@by_notebook
def test_finding_04_every_setting_is_a_value_and_changes_the_digest(path):
    settings, names = fields_of(path)
    others = {bool: lambda v: not v, tuple: lambda v: (*v, 9), str: lambda v: v + "x"}
    for name in names:
        value = getattr(settings, name)
        assert isinstance(value, bool | int | float | str | tuple | None)
        other = others.get(type(value), lambda v: (v or 0) + 1)(value)
        changed = dataclasses.replace(settings, **{name: other})
        assert runs._digest(changed) != runs._digest(settings), name


def test_finding_04_settings_are_one_notebooks_own():
    """One edit leaves the digests of all other notebooks alone."""
    classes = [type(fields_of(path)[0]) for path in NOTEBOOKS]
    assert len(set(classes)) == len(NOTEBOOKS) > 3
    assert all(one.__bases__ == (object,) for one in classes)
    package = labels.ROOT.glob("facekit/*.py")
    assert not [path for path in package if "class Settings" in path.read_text()]


@pytest.mark.parametrize(
    "moment", ["between checkpoint and log", "between log and backup"]
)
@pytest.mark.parametrize("cut_off", [0, 1])
def test_finding_05_weights_are_those_of_the_epoch_in_the_history(
    store, cut_off, moment
):
    """The epoch in which it was cut off is best, then begun again, and worse."""
    first = {0: [1.0, 2.0, 2.0], 1: [2.0, 1.0, 2.0]}[cut_off]
    second = {0: [1.05, 1.2, 1.2], 1: [2.0, 1.05, 1.2]}[cut_off]
    settings = tiny.Settings()
    cut, _ = test_runs.train(store, first, settings, cut_off, moment=moment)
    assert cut is None
    run, script = test_runs.train(store, second, settings)
    assert script.begun == list(range(cut_off, 3))
    assert run.history["best_epoch"] == 1 + cut_off
    assert run.history["epochs"]["val_loss"] == second
    test_runs.assert_same(run.load().get_weights(), script.ends_with[cut_off])


@by_notebook
def test_finding_05_notebooks_log_after_the_checkpoint(path):
    lists = [
        [ast.unparse(entry) for entry in node.elts]
        for node in nodes_of(path)
        if isinstance(node, ast.List)
    ]
    chains = [entries for entries in lists if "*place.resume()" in entries]
    assert chains
    for entries in chains:
        assert entries[-1] == "*place.resume()"
        assert any("ModelCheckpoint(place.weights" in entry for entry in entries)


def test_finding_06_a_look_is_logged_where_it_is_made(copy_run, data):
    """The cell that shows the figures fails: the look is in the log already."""
    path = copy_run.stem.with_name("test_looks.csv")
    rows = data.rows("test")

    def make(model, rows):
        return tiny.predict(model, rows, data)

    predictions.make_or_load(copy_run, "val", rows, make)
    assert not path.exists()
    with contextlib.suppress(ZeroDivisionError):
        predictions.make_or_load(copy_run, "test", rows, make, look="a reason")
        raise ZeroDivisionError
    assert pd.read_csv(path)[["set", "why"]].to_numpy().tolist() == [
        ["test", "a reason"]
    ]
    predictions.make_or_load(copy_run, "test", rows, make, look="a reason")
    assert len(pd.read_csv(path)) == 1


@by_notebook
def test_finding_06_every_notebook_that_tests_logs_looks(path):
    calls = [ast.unparse(node) for node in nodes_of(path) if isinstance(node, ast.Call)]
    tests = [call for call in calls if "'test'" in call and "rows(" in call]
    looks = [call for call in calls if "look=" in call or "log_look(" in call]
    looks += [call for call in calls if "make_or_load(" in call and "look)" in call]
    assert looks or not tests


def test_finding_07_seconds_are_the_sum_of_all_that_was_done(store, monkeypatch):
    """Features are prepared within fit; a resumed training names both machines."""
    clock = itertools.count(0, 10)
    fake = types.SimpleNamespace(perf_counter=lambda: float(next(clock)))
    for module in (runs, places):
        monkeypatch.setattr(module, "time", fake)
    settings = tiny.Settings()
    fit, _ = tiny.fit_scripted([3.0, 2.0, 1.0])

    def prepare_and_fit(model, settings, place):
        for _ in range(9):  # 90 seconds
            runs.time.perf_counter()
        return fit(model, settings, place)

    run = store.fit_or_load("slow", settings, tiny.build_sum, prepare_and_fit)
    assert run.history["epochs"]["seconds"] == [100, 10, 10]
    assert run.history["seconds"] == 120
    for hardware in ("1 core, slow", "8 cores, fast"):
        here = machine.describe() | {"hardware": hardware}
        monkeypatch.setattr(machine, "describe", lambda here=here: here)
        cut_off = 1 if hardware == "1 core, slow" else None
        run, _ = test_runs.train(store, [3.0, 2.0, 1.0], settings, cut_off)
    assert run.history["hardware"] == "1 core, slow, then 8 cores, fast"
    assert run.history["seconds"] == 30


def test_finding_08_a_training_tells_how_many_pictures_it_had(store, data, predicted):
    """There is no plan that could guess; fit says what its flow delivered."""
    rows = batches.subset(data.rows("train"), 0.25, seed=1)
    flow = batches.flow(rows, data.folder / "train", (48, 48, 1))
    fit, _ = tiny.fit_scripted([1.0])

    def fit_and_tell(model, settings, place):
        fit(model, settings, place)
        return {"images": flow.samples}

    run = store.fit_or_load("quarter", ONE, tiny.build_sum, fit_and_tell)
    assert run.history["images"] == 48
    nothing = predicted[:0]
    assert report.result_row(run, "Quarter", "val", nothing)["train_images"] == 48
    assert tiny.missing(store, {"quarter": ONE, "half": ONE}) == ["half"]


@by_notebook
def test_finding_09_no_notebook_swallows_an_error(path):
    nodes = nodes_of(path)
    assert not [node for node in nodes if isinstance(node, ast.Try)]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert names & {"chapter", "suppress", "SKIPPABLE", "NOT_DONE"} == set()
    tags = {tag for _, tags in cells_of(path) for tag in tags}
    assert "raises-exception" not in tags


@by_notebook
def test_finding_10_settings_hold_what_build_and_fit_read(path):
    """A base network is told by its digest and date, and is read elsewhere."""
    _, names = fields_of(path)
    read = {
        node.attr
        for node in nodes_of(path)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "settings"
    }
    base = {"base", "base_digest", "base_date"}
    assert set(names) - read - base == set() and "seed" in read


@by_notebook
def test_finding_10_shipped_histories_have_the_notebooks_settings(path):
    _, names = fields_of(path)
    histories = (labels.MODELS / "utkface" / path.stem).glob("*.json")
    told = [json.loads(history.read_text(encoding="utf-8")) for history in histories]
    told = [history for history in told if "settings" in history]
    assert all(set(history["settings"]) <= set(names) for history in told)


def test_finding_10_the_baseline_has_no_dropout():
    place = labels.MODELS / "utkface/gender_recognition/gender_baseline.json"
    settings = json.loads(place.read_text(encoding="utf-8"))["settings"]
    for name in ("dropout", "filters", "convolutions", "activation"):
        assert settings[name] is None


def test_finding_11_a_disk_that_is_full_costs_nothing_that_was_whole(
    store, copy_run, data, monkeypatch
):
    def full(path, history):
        path.write_text('{"name": "sum", "dig')
        raise OSError("disk full")

    def interrupted(file, **arrays):
        file.write(b"PK half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(runs, "write_history", full)
        train(store)
    assert tiny.missing(store, {"sum": ONE}) == ["sum"]
    assert train(store).load() and tiny.missing(store, {"sum": ONE}) == []

    def predict():
        make = lambda model, rows: tiny.predict(model, rows, data)  # noqa: E731
        return predictions.make_or_load(copy_run, "test", data.rows("test"), make)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(predictions.np, "savez_compressed", interrupted)
        predict()
    assert not list(copy_run.stem.parent.glob("*.npz"))
    assert predict().equals(predict())


def test_finding_12_a_training_has_one_save_that_can_be_repeated(store, monkeypatch):
    """Killed after the joined network was saved, before the training counts as done."""

    def join(model):
        joined.append(model.count_params())
        return model

    def killed(*arguments):
        raise KeyboardInterrupt

    joined, (fit, script) = [], tiny.fit_scripted([3.0, 2.0, 1.0])
    settings = tiny.Settings()
    arguments = "transfer", settings, tiny.build_sum
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs, "write_history", killed)
        store.fit_or_load(*arguments, fit, export=join)
    assert list(store.folder.glob("transfer-*.keras"))
    again, second = tiny.fit_scripted([9.0, 9.0, 9.0])
    run = store.fit_or_load(*arguments, again, export=join)
    assert second.begun == [] and len(set(joined)) == 1
    assert run.history["epochs"]["val_loss"] == [3.0, 2.0, 1.0]
    test_runs.assert_same(run.load().get_weights(), script.ends_with[2])


def test_finding_13_pictures_in_subfolders_named_as_sets(utkface):
    for number, path in enumerate(sorted(utkface.iterdir())):
        folder = utkface / labels.SPLITS[number % 3]  # not the sets they belong to
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
    found = colour.read_utkface(utkface)
    assert len(found.table) == 40 and found.name == "utkface"
    for split in labels.SPLITS:
        rows = found.rows(split)
        flow = batches.flow(rows, found.folder, (48, 48, 3))
        assert flow.samples == len(rows) > 0


def test_finding_14_of_two_that_ask_for_a_training_one_does_it(store):
    began, trainings, found = threading.Event(), [], []
    fit, _ = tiny.fit_scripted([1.0])

    def slow_fit(model, settings, place):
        trainings.append(place)
        began.set()
        other.join(0.5)  # it must wait, not train too
        return fit(model, settings, place)

    def ask():
        began.wait()
        found.append(store.fit_or_load("sum", ONE, tiny.build_sum, slow_fit))

    other = threading.Thread(target=ask)
    other.start()
    run = store.fit_or_load("sum", ONE, tiny.build_sum, slow_fit)
    other.join()
    assert run.trained_here and len(trainings) == 1
    assert not found[0].trained_here and found[0].history == run.history


def test_finding_15_folders_of_the_user_are_not_deleted(tmp_path, pixel_rows):
    pixel_rows.to_csv(tmp_path / "pixels.csv", index=False)
    for choice, name in (("csv", "imported"), ("sample", "synthetic")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("mine")
        with pytest.raises(ValueError, match=f"{name}/ is in the way"):
            sources.find_source(choice, tmp_path)
        assert (tmp_path / name / "thesis.txt").read_text() == "mine"


def test_finding_16_a_transfer_names_the_network_it_began_with(store):
    """The same settings, trained anew: the old transfer is not loaded."""
    path = labels.ROOT / "notebooks/gender_recognition.ipynb"
    settings, names = fields_of(path)
    assert {"base", "base_digest", "base_date"} <= set(names)
    digests = {
        runs._digest(
            dataclasses.replace(settings, base_digest="aaaaaa", base_date=date)
        )
        for date in ("2026-01-01 10:00 UTC", "2026-01-01 11:00 UTC")
    }
    assert len(digests) == 2
    source = "\n".join(source for source, _ in cells_of(path))
    assert "main.history['digest']" in source.replace('"', "'")
    assert "main.history['date']" in source.replace('"', "'")


def test_finding_17_adults_alone_have_no_band_of_children(predicted):
    adults = predicted.assign(age=predicted["age"].clip(lower=20))
    bands = measure.error_by_age(adults)
    assert "0–4" not in bands["band"].tolist() and bands["n"].sum() == len(adults)
    children = adults[adults["age"] < 5]
    assert measure.compare(children, children) == {}
    assert report.describe_changes(measure.compare(children, children)) == ""


def test_finding_18_the_seed_moves_the_split_of_an_import(tmp_path, pixel_rows):
    pixel_rows.to_csv(tmp_path / "pixels.csv", index=False)
    splits = [
        dataset.load(sources.find_source("csv", tmp_path, seed).folder).table["split"]
        for seed in (1, 2, 1)
    ]
    assert (splits[0] != splits[1]).any() and (splits[0] == splits[2]).all()


@by_notebook
def test_finding_19_the_first_cell_looks_for_what_it_needs(path, tmp_path, monkeypatch):
    """After a first run ``model`` is there; ``REPOSITORY`` is set then."""
    (source,) = (source for source, tags in cells_of(path) if "setup" in tags)
    git = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org"]
    project, work = tmp_path / "project", tmp_path / "work/notebooks"
    (project / "facekit").mkdir(parents=True)
    (project / "facekit/__init__.py").touch()
    subprocess.run([*git, "init", "--quiet"], cwd=project, check=True)
    subprocess.run([*git, "add", "."], cwd=project, check=True)
    commit = [*git, "commit", "--quiet", "--message", "first"]
    subprocess.run(commit, cwd=project, check=True)
    (work / "model").mkdir(parents=True)
    monkeypatch.chdir(work)
    monkeypatch.setattr("sys.path", ["before"])
    with pytest.raises(SystemExit, match="facekit is not beside.*set REPOSITORY"):
        exec(source, {})
    exec(source.replace('REPOSITORY = ""', f'REPOSITORY = "{project.as_uri()}"'), {})
    assert sys.path == [str(work / "repository"), "before"]
    assert (work / "repository/facekit").is_dir()


def test_finding_20_a_training_that_ended_in_nan_says_so(store, predicted):
    class Broken(tiny.Scripted):
        def on_train_batch_end(self, batch, logs=None):
            if self.begun[-1] == self.broken_in:
                logs["loss"] = np.nan

        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            if epoch == self.broken_in:
                logs["loss"] = logs["val_loss"] = np.nan

    def fit_broken_in(epoch):
        fit, script = tiny.fit_scripted([2.0, 1.0, 0.5])
        script.__class__, script.broken_in = Broken, epoch
        return fit, script

    settings = tiny.Settings()
    fit, script = fit_broken_in(1)
    run = store.fit_or_load("late", settings, tiny.build_sum, fit)
    assert script.begun == [0, 1] and run.history["best_epoch"] == 1
    assert run.history["diverged"] and store.find("late", settings).history["diverged"]
    row = report.result_row(run, "Late", "val", predicted)
    assert "2 epochs" in report.results_table([row])["Training"][0]
    assert report.results_table([row])["Training"][0].endswith("diverged")
    fit, _ = fit_broken_in(0)
    with pytest.raises(ValueError, match="diverged in its first epoch: lower the"):
        store.fit_or_load("early", settings, tiny.build_sum, fit)
    assert store.find("early", settings) is None


def test_finding_21_predictions_are_the_same_made_or_loaded(copy_run, data):
    rows = data.rows("test")
    found = [
        predictions.make_or_load(
            copy_run, "test", rows, lambda model, rows: tiny.predict(model, rows, data)
        )
        for _ in range(2)
    ]
    assert found[0].equals(found[1])
    assert measure.evaluate(found[0]) == measure.evaluate(found[1])


def test_finding_22_commit_and_data_are_those_of_the_package(tmp_path, monkeypatch):
    here = machine.commit()
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    assert machine.commit() == here != "unknown"
    assert labels.DATA.is_absolute() and len(labels.read_split_table()) == 23_479
    monkeypatch.setattr(machine, "ROOT", tmp_path / "copy without git")
    assert machine.commit() == "unknown"
    assert os.getcwd() == str(tmp_path)


def test_finding_23_what_was_trained_here_is_predicted_once(face_store, data, tmp_path):
    folders = {"models": tmp_path / "model", "logs": tmp_path / "logs"}
    store = dataclasses.replace(face_store, **folders)
    run = store.fit_or_load("mtl", tiny.FACES, tiny.build, tiny.fit_on(data))
    calls = []

    def make(model, rows):
        calls.append(len(rows))
        return tiny.predict(model, rows, data)

    assert run.trained_here
    for _ in range(3):
        predictions.make_or_load(run, "test", data.rows("test"), make)
    assert calls == [60]
