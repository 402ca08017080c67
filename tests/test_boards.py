"""What TensorBoard shows of the eight runs, asked of TensorBoard itself."""

import io
import json
import math
import re
import socket
import time
import urllib.parse
import urllib.request

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import publish
import pytest
from tensorboard import program
from tensorboard.backend.event_processing import event_accumulator

from facekit import boards, labels, measure, runs

TASKS = {"age": "mae", "gender": "accuracy", "ethnicity": "accuracy"}
SIDES = ("train", "validation")
TICKED = 40  # TensorBoard ticks no run at first where there are more
RESULTS = json.loads((labels.MODELS / "utkface/assignment_2/results.json").read_text())
FIGURES = {
    f"results/{split}_{metric}": (split, metric)
    for split in ("val", "test")
    for metric in measure.HEADLINE
}


def history(name):
    path = labels.MODELS / f"utkface/assignment_2/{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def filter_tags(pattern, tags):
    return [tag for tag in tags if re.match(pattern, tag)]


@pytest.fixture(scope="module")
def ask():
    """Start TensorBoard as ``make tensorboard`` does; returns what asks it."""
    server = program.TensorBoard()
    folder = str(labels.LOGS / "utkface")
    server.configure((None, "--logdir", folder, "--port", "0"))
    url = server.launch()

    def get(place, body=None, text=False, **query):
        data = None if body is None else json.dumps(body).encode()
        address = f"{url}data/{place}?{urllib.parse.urlencode(query)}"
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(address, data, kind)
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = answer.read()
        return content if text else json.loads(content)

    seen = []
    for _ in range(60):  # it reads files while it answers
        seen.append(
            (get("runs"), get("plugin/images/tags"), get("plugin/scalars/tags"))
        )
        if seen[-1][0] and seen[-3:] == seen[-1:] * 3:
            break
        time.sleep(0.3)
    return get


def test_the_runs_have_the_names_that_were_chosen(ask):
    names = [*boards.SHIPPED.values()]
    assert len(set(names)) == 8
    sides = [f"{name}/{side}" for name in names for side in SIDES]
    found = ask("runs")
    assert sorted(found) == sorted(names + sides) and len(found) <= TICKED


@pytest.mark.parametrize("name", boards.SHIPPED)
def test_training_and_validation_of_each_head_are_curves(ask, name):
    epochs = history(name)["epochs"]
    for side, prefix in zip(SIDES, ("", "val_"), strict=True):
        for key in [f"{task}_{metric}" for task, metric in TASKS.items()] + ["loss"]:
            run, tag = f"{boards.SHIPPED[name]}/{side}", f"epoch_{key}"
            points = ask("plugin/scalars/scalars", run=run, tag=tag)
            assert [step for _, step, _ in points] == list(range(len(epochs["loss"])))
            values = [value for *_, value in points]
            assert values == pytest.approx(epochs[prefix + key], abs=2e-5)


def test_each_head_has_a_view_with_training_and_validation(ask):
    views = {
        category["title"]: category["chart"]
        for category in ask("plugin/custom_scalars/layout")["category"]
    }
    assert list(views) == ["Age", "Gender", "Ethnicity", "All heads"]
    curves = ask("plugin/scalars/tags")
    for view, charts in views.items():
        assert len(charts) == len(boards.VIEWS[view])
        for chart in charts:
            (tag,) = chart["multiline"]["tag"]
            found = {run for run, tags in curves.items() if filter_tags(tag, tags)}
            without = "run1" if "distribution" in tag else None
            names = [boards.SHIPPED[name] for name in boards.SHIPPED if name != without]
            assert found == {f"{name}/{side}" for name in names for side in SIDES}
            for side in SIDES:
                run = f"main_network/{side}"
                told = ask("plugin/custom_scalars/scalars", run=run, tag=tag)
                (line,) = told["tag_to_events"].values()
                assert len(line) == 100
    for task, metric in TASKS.items():
        titles = {chart["title"] for chart in views[task.capitalize()]}
        assert {f"{task}_{metric}", f"{task}_loss"} <= titles


def test_hparams_has_the_settings_and_the_results_of_all_runs(ask):
    experiment = ask("plugin/hparams/experiment", {"experimentName": ""})
    settings = [info["name"] for info in experiment["hparamInfos"]]
    metrics = [info["name"] for info in experiment["metricInfos"]]
    assert [metric["tag"] for metric in metrics] == [*FIGURES]
    differ = {info["name"] for info in experiment["hparamInfos"] if info.get("differs")}
    histories = {name: history(name)["settings"] for name in boards.SHIPPED}
    wanted = {name: dict(of) for name, of in histories.items()}
    for of in wanted.values():
        of["soft_labels"] = of.get("soft_labels") or 0  # as older runs have it
        of["interpolation_order"] = of.pop("spline_order")
        of["filters"] = "–".join(map(str, of["filters"]))
    assert sorted(settings) == sorted(wanted["mtl"])
    assert differ == {
        key for key in settings if len({of[key] for of in wanted.values()}) > 1
    }
    columns = [{"metric": name, "includeInResult": True} for name in metrics]
    columns += [{"hparam": name, "includeInResult": True} for name in settings]
    states = [f"STATUS_{of}" for of in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
    body = {"allowedStatuses": states, "colParams": columns, "sliceSize": 100}
    groups = ask("plugin/hparams/session_groups", body)["sessionGroups"]
    assert sorted(group["name"] for group in groups) == sorted(boards.SHIPPED.values())
    of_board = {board: name for name, board in boards.SHIPPED.items()}
    for group in groups:
        name = of_board[group["name"]]
        assert group["hparams"] == wanted[name]
        rows = {row["split"]: row for row in RESULTS["results"] if row["model"] == name}
        values = {part["name"]["tag"]: part["value"] for part in group["metricValues"]}
        assert all(map(math.isfinite, values.values()))
        expected = {tag: rows[split][key] for tag, (split, key) in FIGURES.items()}
        assert values == pytest.approx(expected, abs=1e-6)


def test_images_are_confusion_matrices_and_the_augmentation(ask):
    tags = ask("plugin/images/tags")
    matrices, augmentation = "figures/confusion_matrices", "figures/augmentation"
    expected = {board: {matrices} for board in boards.SHIPPED.values()}
    expected["main_network"] = {matrices, augmentation}
    assert {run: set(of) for run, of in tags.items()} == expected
    for run, of in expected.items():
        for tag in of:
            (image,) = ask("plugin/images/images", run=run, tag=tag, sample=0)
            query = dict(urllib.parse.parse_qsl(image["query"]))
            picture = ask("plugin/images/individualImage", text=True, **query)
            pixels = np.asarray(PIL.Image.open(io.BytesIO(picture)))
            assert pixels.shape[1] > 1000 and pixels.std() > 20


@pytest.mark.parametrize("name", boards.SHIPPED)
def test_the_graph_ends_in_the_three_tasks(ask, name):
    query = {"run": boards.SHIPPED[name], "conceptual": "false"}
    text = ask("plugin/graphs/graph", text=True, **query).decode()
    nodes = {}
    for part in text.split("node {\n")[1:]:
        lines = [line.strip().partition(": ")[::2] for line in part.splitlines()]
        told = [(key, value.strip('"')) for key, value in lines]
        node = dict(reversed(told))
        nodes[node["name"]] = [value for key, value in told if key == "input"]
    assert "image" in nodes
    used = {source for sources in nodes.values() for source in sources}
    for task in TASKS:
        (source,) = nodes[task]
        assert re.search(rf"/{task}(_\d+)?/", source) and task not in used


def test_shipped_files_name_no_machine():
    paths = list((labels.LOGS / "utkface").rglob("*.tfevents.*"))
    assert len(paths) == 32
    host = socket.gethostname().encode()
    for path in paths:
        assert re.fullmatch(r"events\.out\.tfevents\.\d+\.(v2|graph)", path.name)
        content = path.read_bytes()
        assert str(labels.ROOT).encode() not in content
        assert len(host) < 4 or host not in content


@pytest.fixture
def six(tmp_path, monkeypatch):
    """The shipped runs, and LOGS of their own."""
    for module in (boards, publish):
        monkeypatch.setattr(module, "LOGS", tmp_path / "logs")
    folder = labels.MODELS / "utkface/assignment_2"
    return {
        name: runs.Run(name, folder / name, history(name)) for name in boards.SHIPPED
    }


def figures():
    return {name: {"some": plt.figure(figsize=(1, 1))} for name in boards.SHIPPED}


def test_what_was_written_before_is_replaced(six, tmp_path):
    for _ in range(2):
        boards.write_summaries(six, RESULTS["results"], figures())
        folders = tmp_path / "logs/runs/utkface/assignment_2"
        assert {path.parent.name for path in folders.rglob("events*")} == {
            *boards.SHIPPED.values()
        }
        assert len(list(folders.rglob("events*"))) == 8
    assert not plt.get_fignums()


def test_own_runs_get_it_into_their_folders(six, tmp_path):
    own = runs.Run("mtl", labels.MODELS / "runs/own-1/study/mtl-2", six["mtl"].history)
    folder = tmp_path / "logs/runs/own-1/study/mtl_2026-01-01_000000"
    (folder / "validation").mkdir(parents=True)
    boards.write_summaries(six | {"mtl": own}, RESULTS["results"], figures())
    (path,) = folder.glob("events*")
    accumulator = event_accumulator.EventAccumulator(str(path))
    accumulator.Reload()
    assert "results/test_age_mae" in accumulator.Tags()["tensors"]


def test_a_folder_that_cannot_be_written_says_so(six, tmp_path, capsys):
    (tmp_path / "logs").write_text("a file")
    boards.write_summaries(six, RESULTS["results"], figures())
    assert (
        "TensorBoard gets no results (Not a directory: logs)" in capsys.readouterr().out
    )
    plt.close("all")


def test_publishing_replaces_what_is_new_without_the_machines_name(six, tmp_path):
    boards.write_summaries(six, RESULTS["results"], figures())
    shipped = tmp_path / "logs/utkface/main_network"
    files = ["1.graph", "1.v2", "train/1.v2", "validation/1.v2"]
    for name in files:
        path = shipped / name.replace("1.", "events.out.tfevents.1.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")

    def publish_them(**stems):
        publish._copy_boards({name: run.stem for name, run in six.items()} | stems)
        content = {path: path.read_bytes() for path in shipped.rglob("events*")}
        names = [path.relative_to(shipped).as_posix() for path in content]
        short = sorted(name.replace("events.out.tfevents.", "") for name in names)
        return short, [text for text in content.values() if text == b"old"]

    found, old = publish_them()  # no training: results alone are new
    (results,) = set(found) - set(files)
    assert re.fullmatch(r"\d{10}\.v2", results) and len(found) == 4 and len(old) == 3
    own = tmp_path / "logs/runs/utkface-0/assignment_2/mtl_2026-01-01_000000"
    for name in files:
        path = own / name.replace("1.", "events.out.tfevents.5.my.machine.77.3.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("new")
    stem = labels.MODELS / "runs/utkface-0/assignment_2/mtl-1"
    found, old = publish_them(mtl=stem)
    assert found == [name.replace("1.", "5.") for name in files] and not old
