"""``gender_recognition.ipynb``: its networks, and what is shipped of it."""

import dataclasses
import json
import types

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import pytest
from notebook_cells import ROOT, load_definitions

from facekit import batches, colour, measure, predictions, runs
from facekit.labels import DATA, LABELS, validation_half
from studies import framing, gender

SHIPPED = ROOT / "model" / "utkface" / "gender_recognition"
NETWORKS = ("gender_baseline", "gender_improved", "gender_mtl_transfer")


@pytest.fixture(scope="module")
def notebook():
    """What the notebook defines."""
    return load_definitions("notebooks/gender_recognition.ipynb")


@pytest.fixture(scope="module")
def settings(notebook):
    """The settings of all runs, by the names of their files."""
    first, *trials = notebook.CHAIN.values()
    named = {"gender_baseline": first, "gender_improved": notebook.IMPROVED}
    for number, trial in enumerate(trials, start=1):
        kind = f"trial{number}" if number < 8 else f"explain{number - 7}"
        named[f"gender_{kind}"] = trial
        named[f"gender_{kind}_seed2"] = dataclasses.replace(trial, seed=2)
    base = json.loads((ROOT / "model/utkface/assignment_2/mtl.json").read_text())
    named["gender_vgg16"] = dataclasses.replace(notebook.HEAD, base="VGG16")
    named["gender_mtl_transfer"] = dataclasses.replace(
        notebook.HEAD,
        base="main network",
        base_digest=base["digest"],
        base_date=base["date"],
    )
    return named


def history(name):
    return json.loads((SHIPPED / f"{name}.json").read_text(encoding="utf-8"))


def test_the_baseline_is_the_figures(notebook):
    layers = notebook.build_baseline(notebook.Settings()).layers[1:]
    assert [
        (type(layer).__name__, layer.output.shape[1:], layer.count_params())
        for layer in layers
    ] == [
        ("Conv2D", (98, 98, 16), 448),
        ("MaxPooling2D", (49, 49, 16), 0),
        ("Conv2D", (47, 47, 16), 2_320),
        ("MaxPooling2D", (23, 23, 16), 0),
        ("Flatten", (8_464,), 0),
        ("Dense", (64,), 541_760),
        ("Dense", (1,), 65),
    ]
    assert sum(layer.count_params() for layer in layers) == 544_593
    kernels = [layer for layer in layers if hasattr(layer, "activation")]
    assert [layer.activation.__name__ for layer in kernels] == ["relu"] * 3 + [
        "sigmoid"
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_shipped_weights_fit_the_notebooks_builders(name, notebook, settings):
    run = runs.Run(name, SHIPPED / name, history(name))
    shipped, one = run.load(), settings[name]
    if name == "gender_mtl_transfer":
        head = shipped.get_layer("gender_head")
        main = runs.Run("mtl", SHIPPED.parent / "assignment_2" / "mtl", {}).load()
        trunk = [layer for layer in main.layers if layer.name.startswith("shared")]
        for layer in trunk[:-1]:  # the last one is Dropout behind the features
            pairs = zip(
                layer.get_weights(),
                shipped.get_layer(layer.name).get_weights(),
                strict=True,
            )
            assert all((ours == theirs).all() for ours, theirs in pairs)
        built = notebook.build_head(one, shipped.get_layer("shared_dense"))
        assert head.count_params() == built.count_params()
        built.set_weights(head.get_weights())
    else:
        build = notebook.build_deeper if one.filters else notebook.build_baseline
        built = build(one)
        built.set_weights(shipped.get_weights())
        assert [layer.name for layer in built.layers] == [
            layer.name for layer in shipped.layers
        ]
    assert run.history["parameters"] == shipped.count_params()


def test_every_shipped_history_is_that_of_the_notebooks_settings(settings):
    found = {path.stem for path in SHIPPED.glob("gender_*.json")}
    assert found <= set(settings)
    for name in sorted(found):
        told = history(name)
        assert told["digest"] == runs._digest(settings[name]), name
        assert told["data"] == "utkface" and not told["diverged"]
        again = json.loads(json.dumps(dataclasses.asdict(settings[name])))
        assert dict.fromkeys(again) | told["settings"] == again  # None: not there yet


def test_the_records_hold_no_hyperparameter_that_a_network_lacks(settings):
    told = history("gender_baseline")["settings"]
    for field in ("filters", "convolutions", "dropout", "activation", "base"):
        assert told[field] is None
    assert settings["gender_improved"].base is None
    assert settings["gender_mtl_transfer"].filters is None


def test_a_run_is_shown_where_it_brings_answers(notebook, monkeypatch, tmp_path):
    shipped = runs.Run("gender_vgg16", SHIPPED / "gender_vgg16", {})
    (path,) = SHIPPED.glob("gender_vgg16_foreign_test-*.npz")
    own = runs.Run(
        "x", tmp_path / "runs" / "utkface-1" / "gender_recognition" / "x", {}
    )
    found = {}
    for name in (path.stem.rpartition("-")[2], "000000", None):
        foreign = name and types.SimpleNamespace(digest=name)
        monkeypatch.setattr(notebook, "foreign", foreign, raising=False)
        found[name] = notebook.is_answered(shipped), notebook.is_answered(own)
    assert [*found.values()] == [(True, True), (False, True), (True, True)]


@pytest.fixture(scope="module")
def rows():
    """Rows of the shipped results."""
    return json.loads((SHIPPED / "results.json").read_text("utf-8"))["results"]


def test_results_name_what_is_shipped(rows, settings):
    assert {row["model"] for row in rows} == set(settings)
    for row in rows:
        told = history(row["model"])
        assert row["train_seconds"] == told["seconds"]
        assert row["parameters"] == told["parameters"]
        assert row["epochs"] == len(told["epochs"]["loss"])
        ending = "-??????" * row["split"].startswith("foreign")
        (path,) = SHIPPED.glob(f"{row['model']}_{row['split']}{ending}.npz")
        with np.load(path) as file:
            assert len(file["values"]) == row["n"]


def test_results_are_those_of_the_shipped_predictions(rows):
    """Labels are not shipped: this needs the pictures in ``data``."""
    if not (DATA / "UTKFace").is_dir():
        return
    data, _ = colour.find_gender("auto", DATA)
    foreign = colour.find_foreign(DATA)
    for row in rows:
        away = row["split"].startswith("foreign")
        if data.name != "utkface" or away and foreign is None:
            continue
        if row["split"] == "held_out":
            table = data.rows("val")
            table = table[validation_half(table["main_name"]) == "held out"]
        else:
            table = foreign.table if away else data.rows(row["split"].split("_")[0])
        ending = row["split"] + f"-{foreign.digest}" * away
        path = SHIPPED / f"{row['model']}_{ending}.npz"
        if path.exists():  # else it is another foreign set
            kept = predictions._load(path, table)
            for metric, value in measure.evaluate(kept).items():
                assert row[metric] == pytest.approx(value, abs=1e-4), path.name


def test_each_trial_changes_one_that_stands_before_it(notebook):
    fields = [field.name for field in dataclasses.fields(notebook.Settings)]
    made = ["baseline"]
    for title, (of, changes) in notebook.STEPS.items():
        assert of in made
        made.append(title)
        pair = notebook.CHAIN[of], notebook.CHAIN[title]
        values = [[getattr(one, field) for one in pair] for field in fields]
        apart = {f for f, (a, b) in zip(fields, values, strict=True) if a != b}
        assert apart == set(changes)


@pytest.fixture
def pictures(tmp_path):
    """Three pictures of different sizes, smooth, and their rows."""
    names = ("wide.png", "tall.png", "square.png")
    for name, size in zip(names, ((160, 90), (90, 200), (200, 200)), strict=True):
        across, down = np.meshgrid(*(np.linspace(0, 6, side) for side in size))
        waves = np.stack([np.sin(across), np.cos(down), np.sin(across + down)], axis=2)
        PIL.Image.fromarray((127 + 100 * waves).astype("uint8")).save(tmp_path / name)
    rows = pd.DataFrame({"img_name": names, "age": [np.nan, 30, 40]})
    return rows.assign(gender=[0, 1, 1], ethnicity=np.nan), tmp_path


@pytest.mark.parametrize("shape", [(100, 100, 3), (48, 48, 1)])
def test_a_frame_left_as_it_is_gives_the_usual_pictures(pictures, shape):
    rows, folder = pictures
    flow = batches.flow(rows, folder, shape)
    framed = framing.Reframed(rows, folder, shape, framing.UNCHANGED, batch_size=2)
    assert framed.filenames == flow.filenames and len(framed) == 2
    named = batches.LabelledBatches(framed)  # as predictions are made
    named.on_epoch_end()
    assert named[1][1]["gender"].tolist() == [1]
    (usual, answers), parts = flow[0], [framed[0], framed[1]]
    images = np.concatenate([images for images, _ in parts])
    assert images.shape == usual.shape and images.dtype == "float32"
    np.testing.assert_allclose(images[:, 3:-3, 3:-3], usual[:, 3:-3, 3:-3], atol=0.01)
    np.testing.assert_allclose(images, usual, atol=0.1)  # the filter ends at the edge
    for place in range(len(LABELS)):
        told = np.concatenate([numbers[place] for _, numbers in parts])
        np.testing.assert_array_equal(told, answers[place])


def spot(across, down):
    """A picture with one bright spot."""
    x, y = np.meshgrid(np.arange(100), np.arange(100))
    return np.exp(-((x - across) ** 2 + (y - down) ** 2) / 50).astype("float32")


def test_faces_are_zoomed_from_the_middle_and_shifted_down():
    def place(*frame):
        picture = framing.Reframed.cut(spot(69.5, 39.5), frame, (100, 100))
        down, across = np.unravel_index(picture.argmax(), picture.shape)
        return across, down

    assert place(1, 1, 0) == pytest.approx((69.5, 39.5), abs=1)
    assert place(1, 1, 0.2) == pytest.approx((69.5, 59.5), abs=1)
    assert place(2, 1, 0) == pytest.approx((69.5, 29.5), abs=1)
    assert place(1, 2, 0) == pytest.approx((89.5, 39.5), abs=1)
    assert place(0.5, 0.5, 0) == pytest.approx((59.5, 44.5), abs=1)


def test_beyond_a_picture_its_edge_is_repeated():
    picture = np.zeros((100, 100), "uint8")
    picture[0], picture[-1] = 200, 90
    framed = framing.Reframed.cut(picture, (1, 1, 0.3), (100, 100))
    assert (framed[:28] == 200).all() and (framed[33:95] == 0).all()


def test_beyond_a_picture_it_may_be_mirrored():
    picture = np.arange(100).repeat(100).reshape(100, 100).astype("uint8")
    framed = framing.Reframed.cut(picture, (1, 1, 0.3, "reflect"), (100, 100))
    assert abs(framed[5:25, 50].astype(int) - np.arange(25, 5, -1)).max() <= 1


def test_the_framing_is_found_again(monkeypatch):
    said, shown = [], []
    monkeypatch.setattr(gender.report, "say", said.append)
    monkeypatch.setattr(gender.report, "show_figure", lambda f, alt: shown.append(alt))
    home = spot(35, 35) + spot(65, 35) + 0.5 * spot(50, 70)
    away = framing.Reframed.cut(home, (0.9, 1.1, 0.08), home.shape)
    back, forth = framing.find_framing(home, away)
    plt.close("all")
    assert forth == pytest.approx([0.9, 1.1, 0.08], abs=0.02)
    high, wide, down = forth
    assert back == pytest.approx([1 / high, 1 / wide, -down / high], abs=0.02)
    assert "0.90 times as high" in said[0] and "8 % of the height lower" in said[0]
    assert shown


def view(right, count=400, **columns):
    """Answers to pictures of both labels, of which a share is right."""
    true = np.arange(count) % 2
    draws = np.random.default_rng(1).random(count)
    answers = np.where(draws < right, true, 1 - true)
    table = pd.DataFrame({"age": 30, "gender": true, "ethnicity": 0} | columns)
    return table.assign(
        age_predicted=np.nan,
        gender_probability=columns.get("gender_probability", answers.astype(float)),
        **dict.fromkeys(("White", "Black", "Asian", "Indian", "Other"), np.nan),
    )


STEPS = {"one": ("baseline", {}), "same": ("one", {}), "better": ("one", {"seed": 3})}
TRIALS = {  # two seeds of each
    "one": [view(0.7), view(0.8)],
    "same": [view(0.7), view(0.8)],
    "better": [view(0.9), view(0.9)],
}


def test_trials_are_compared_with_what_they_change():
    table = gender.compare_trials(TRIALS, STEPS).set_index("Trial")
    assert table["Starts from"].tolist() == ["baseline", "one", "one"]
    assert table.loc["one", "Change (points)"] == ""
    assert table.loc["same", "Change (points)"] == "0.00 (0.00 to 0.00)"
    rights = [100 * measure.point_values(x)["gender_accuracy"] for x in TRIALS["one"]]
    best = 100 * measure.point_values(TRIALS["better"][0])["gender_accuracy"]
    steps = [best - right for right in rights]
    assert table.loc["better", "By seed"] == "+{:.1f}, +{:.1f}".format(*steps)
    assert table.loc["better", "Change (points)"].startswith(
        f"**+{sum(steps) / 2:.2f} (+"
    )
    assert table.loc["one", "Accuracy (%)"].startswith(f"{sum(rights) / 2:.1f} (")
    assert table.loc["better", "Change of cross-entropy"].startswith("**−")


def test_cross_entropy_is_that_of_the_label():
    answers = pd.DataFrame({"gender": [1, 0], "gender_probability": [0.8, 0.8]})
    losses = gender.cross_entropy([answers, answers.assign(gender_probability=0.5)])
    assert losses == pytest.approx(
        [-(np.log(0.8) + np.log(0.5)) / 2, -(np.log(0.2) + np.log(0.5)) / 2], abs=1e-5
    )


def test_trials_are_shown_with_their_settings_and_training(monkeypatch):
    shown = []
    monkeypatch.setattr(gender.report, "show_table", shown.append)
    made = {"settings": {"loss_weight": 2.0}}
    logs = [{"gender_accuracy": [0.1, end], "val_loss": [end, 1]} for end in (0.5, 0.7)]
    pair = [runs.Run("name", ROOT / "stem", made | {"epochs": log}) for log in logs]
    gender.show_trials(TRIALS, STEPS, dict.fromkeys(TRIALS, pair))
    assert shown[0]["Settings"].tolist() == ["", "", "seed 3"]
    assert set(shown[0]["Training, last epoch (%)"]) == {"60.0"}
    assert set(shown[0]["Selection half"]) == {
        "0.250"
    }  # the first seed's, without the weight
    assert "By seed" in shown[1] and "Starts from" not in shown[1]
    gender.show_abroad(TRIALS, {t: x[:1] for t, x in TRIALS.items()}, STEPS)
    assert shown[2]["Framed, second seed: change (points)"][2].startswith("**+")
    gender.show_abroad(TRIALS, {}, STEPS)
    assert list(shown[3]) == ["Trial", "Accuracy (%)", "Change (points)", "By seed"]


def test_a_change_is_bold_if_every_seed_shows_it():
    apart = {"one": [view(0.7), view(0.7)], "mixed": [view(0.9), view(0.69)]}
    table = gender.compare_trials(apart, STEPS | {"mixed": ("one", {})})
    step = measure.compare(apart["one"], apart["mixed"])["gender_accuracy"]
    assert step[1] > 0  # by pictures alone it is certain
    assert table["Change (points)"][1].startswith("+")
    assert not table["Change of cross-entropy"][1].startswith("**")


def test_gains_are_over_every_other_network(monkeypatch):
    shown = []
    monkeypatch.setattr(gender.report, "show_table", shown.append)
    parts = {"validation": view(0.7), "test": view(0.8), "foreign test": view(0.6)}
    better = {name: view(0.9) for name in parts}
    gender.show_gains({"Baseline": parts, "New": better}, "New")
    rows = shown[0].set_index("Accuracy: New against")["Gender"]
    assert rows.index.tolist() == ["Baseline, test", "Baseline, foreign test"]
    assert rows.str.startswith("better by").all()


def test_sensitivity_is_told_at_validations_threshold():
    male = pd.DataFrame({"gender": 0, "gender_probability": np.arange(100) / 100})
    female = male.assign(gender=1, gender_probability=0.5 + np.arange(100) / 200)
    both = pd.concat([male, female], ignore_index=True)
    other = both.assign(gender_probability=both["gender_probability"] + 0.05)
    told = gender.tell_sensitivity(
        {"Net": {"validation": both, "test": other}}, both.index
    )
    # above 0.891: 10 of 100 male; 0.05 more: of males 15, of females from 0.845 on
    assert told.endswith("Net, test: 31.0 (85.0).")
    told = gender.tell_sensitivity({"Net": {"validation": both}}, both.index)
    assert told.endswith("no test set.")


def test_conditions_give_what_is_right(monkeypatch):
    shown = []
    monkeypatch.setattr(gender.report, "show_table", shown.append)
    same = {"Baseline": view(0.8), "Improved network": view(0.8)}
    apart = {"Baseline": view(0.6), "Improved network": view(0.9)}
    home, away = gender.show_conditions({"home": same, "away": apart}).values()
    assert (home["Baseline"] == home["Improved network"]).all()
    assert set(away.to_numpy().flat) == {0, 100}
    assert away["Improved network"].mean() - away["Baseline"].mean() > 20
    assert shown[0]["Accuracy (%)"].tolist() == ["home", "away"]
    assert shown[0]["Improved against baseline"][1].startswith("better by")


POINTS = {  # what the improvement is worth under each condition
    "UTKFace test": 2,
    "– zoomed as foreign": 6,
    "– shifted as foreign": 20,
    "– shifted, edges mirrored": 18,
    "– framed as foreign (both)": 22,
    "– adults": 1,
    "– adults, framed as foreign": 26,
    "Foreign test": 42,
    "– framed as UTKFace": 12,
}


def worth(points):
    """What is right under conditions in which the improvement is worth points."""
    right = {}
    for name, n in points.items():
        improved = np.array([100.0] * 2 * n + [0.0] * (200 - 2 * n))
        right[name] = pd.DataFrame({"Improved network": improved, "Baseline": 0.0})
    return right


def test_the_gap_is_told_with_what_closes_it():
    right = worth(POINTS)
    right["– adults"] += 7
    told = gender.explain_gap(right)
    assert "worth 2.0 points" in told and "42.0 on the foreign ones" in told
    assert "a gap of 40.0 (" in told
    assert "makes the improvement worth 20.0 (" in told and "worth 30.0 (" in told
    assert told.index("explains between 50 (") < told.index("and 75 (")
    assert "foreign pictures is 7.0 (7.0–7.0) points lower" in told
    assert "among these the improvement is worth 1.0 points, among all 2.0" in told
    assert "framed as foreign, 26.0 and 22.0." in told
    told = gender.explain_gap(worth(POINTS | {"Foreign test": 3}))
    assert "The gap is not certain." in told and "explains" not in told


def test_the_notebook_has_the_conditions_that_are_explained():
    cells = json.loads((ROOT / "notebooks/gender_recognition.ipynb").read_text("utf-8"))
    code = "".join("".join(cell["source"]) for cell in cells["cells"])
    assert [name for name in POINTS if f'"{name}": (' not in code] == []


def test_copies_in_another_frame_are_counted():
    random = np.random.default_rng(1)
    blurred = np.kron(random.integers(0, 255, (440, 5, 5)), np.ones((5, 5)))
    faces, (back, forth) = blurred.astype("uint8"), ([0.9, 1.1, 0], [1.11, 0.91, 0])
    home, strangers = faces[:400], faces[400:]
    copies = [framing.Reframed.cut(x, forth, x.shape) for x in home[::20]]
    told = framing.count_overlap(home, np.array(copies), back, forth)
    assert told.startswith("19 of 20 foreign pictures look like a copy")
    told = framing.count_overlap(home, strangers, back, forth)
    assert told.startswith("0 of 40 foreign pictures look like a copy")


def test_errors_by_group_give_no_share_of_small_groups(monkeypatch):
    shown, said = [], []
    monkeypatch.setattr(gender.report, "show_table", shown.append)
    monkeypatch.setattr(gender.report, "say", said.append)
    ages = np.where(np.arange(400) < 40, 2, 30)
    gender.show_errors(view(0.8, age=ages))
    table = shown[0].set_index("Group")
    assert table.loc["All", "Wrong, male (%)"].endswith(") of 200")
    assert table.loc["White, 18–60", "Wrong, male (%)"].endswith(") of 180")
    assert table.loc["0–2 years", "Wrong, female (%)"] == "– of 20"
    assert table.loc["0–2 years", "Female − male"] == "–"
    assert " to " in table.loc["18–39 years", "Female − male"]
    gender.show_errors(view(1, gender_probability=np.zeros(400)))  # women are missed
    assert (
        shown.pop().set_index("Group").loc["18–39 years", "Female − male"][:4] == "+100"
    )
    assert said[0].startswith("Under 13: 10.0 %")
    gender.show_errors(view(0.8, age=np.nan, ethnicity=np.nan))
    told = ["All", "no labels of ethnicity and age here"]
    assert shown[1]["Group"].tolist() == told
