"""What a run leaves behind: results, looks at the test set, what is shipped."""

import hashlib
import json

import keras
import pandas as pd
import pytest

FIELDS = ("chapter", "model", "data", "split", "n", "parameters", "epochs")
FIELDS += ("train_seconds", "hardware", "seed")
INTERVALS = {"from": [0.0, 30.0], "low": [-4.0, -9.0], "high": [5.0, 8.0]}
README = "# Title\n\n<!-- results:begin -->\nold\n<!-- results:end -->\n\nThe end.\n"


@pytest.fixture
def rows(notebook, trained, predicted):
    """Make result rows as the notebook does."""
    splits = ("test", "test_without_twins", "val")
    return [notebook.result_row(trained, split, predicted) for split in splits]


class TestResults:
    def test_a_row_has_every_field(self, notebook, trained, rows):
        history = trained["history"]
        row = json.loads(json.dumps(rows))[0]
        assert set(FIELDS) < set(row)
        for metric in notebook.METRIC_NAMES:
            low, high = row[f"{metric}_ci95"]
            assert low <= row[metric] <= high
        assert row["chapter"] == "A" and row["model"] == "mtl"
        assert row["split"] == "test" and row["n"] == 60
        assert row["parameters"] == history["parameters"]
        assert row["epochs"] == len(history["epochs"]["loss"])
        assert row["train_seconds"] == history["seconds"]
        assert row["seed"] == history["hyperparameters"]["seed"]
        assert row["hardware"].startswith(history["hardware"])

    def test_results_are_side_by_side_in_a_table(self, notebook, rows):
        table = notebook.results_table(rows)
        assert len(table) == len(rows)
        assert table["Set"].tolist()[:2] == ["test", "test without twins"]
        assert not table.isna().any(axis=None)

    def test_a_metric_that_no_row_has_is_left_out(self, notebook, rows):
        without = [
            {key: value for key, value in row.items() if not key.startswith("ethni")}
            for row in rows
        ]
        found, all_columns = map(notebook.results_table, (without, rows))
        name = notebook.METRIC_NAMES["ethnicity_accuracy"]
        assert list(found) == [column for column in all_columns if column != name]

    @pytest.mark.parametrize(
        ("split", "name"), [("val", "validation"), ("foreign_test", "foreign test")]
    )
    def test_sets_have_names_for_people(self, notebook, split, name):
        assert notebook.name_set(split) == name


class TestLooks:
    @pytest.fixture
    def look(self, notebook, trained, predicted, tmp_path):
        """Log a look at the test set, at a training with a changed history."""

        def log(**changes):
            run = trained | {"history": trained["history"] | changes}
            notebook.log_look(run, predicted, tmp_path, "a reason")
            return pd.read_csv(tmp_path / "test_looks.csv")

        return log

    def test_a_training_is_logged_once(self, look):
        assert len(look()) == len(look()) == 1

    @pytest.mark.parametrize(
        "change", [{"name": "other"}, {"digest": "0a0a0a"}, {"date": "2001-01-01"}]
    )
    def test_another_training_is_appended(self, look, change):
        look()
        looks = look(**change)
        assert len(looks) == 2
        assert looks["training"].is_unique

    def test_a_look_has_date_commit_figures_and_reason(self, notebook, look):
        (row,) = look().to_dict("records")
        expected = {"date", "commit", "training", "n", "why", *notebook.HEADLINE}
        assert set(row) >= expected
        assert row["n"] == 60 and row["why"] == "a reason"


class TestReplaceBetween:
    def test_only_what_stands_between_the_marks_changes(self, notebook, tmp_path):
        path = tmp_path / "README.md"
        path.write_text(README)
        for text in ("new", "newer"):
            notebook.replace_between(path, text)
            assert path.read_text() == README.replace("old", text)

    @pytest.mark.parametrize("mark", ["begin", "end"])
    def test_a_missing_mark_is_named(self, notebook, tmp_path, mark):
        path = tmp_path / "README.md"
        text = README.replace(f"<!-- results:{mark} -->", "")
        path.write_text(text)
        with pytest.raises(ValueError, match="README.md lacks.*put them back"):
            notebook.replace_between(path, "new")
        assert path.read_text() == text


class TestPublish:
    @pytest.fixture
    def shipped(self, notebook, trained, parts, context, rows, tmp_path, monkeypatch):
        """Publish one run as `mtl` and as another; returns the shipped folder."""
        folder = tmp_path / "model/utkface"
        folder.mkdir(parents=True)
        (tmp_path / "README.md").write_text(README)
        monkeypatch.chdir(tmp_path)
        for split in ("train", "val"):
            notebook.predict_or_load(trained, parts[split], context)
        runs = {"mtl": trained, "run1": trained}
        notebook.publish_all(runs, rows, {"mtl": INTERVALS}, folder)
        return folder

    def test_only_named_networks_ship_their_weights(self, notebook, shipped):
        assert "run1" not in notebook.SHIPPED_MODELS
        expected = {"mtl.keras", "mtl_intervals.json", "README.md"} | {
            f"{name}{ending}"
            for name in ("mtl", "run1")
            for ending in (".json", "_train.npz", "_val.npz", "_test.npz")
        }
        assert {path.name for path in shipped.iterdir()} == expected

    def test_what_is_shipped_is_what_was_trained(self, notebook, shipped, trained):
        for ending in (".json", ".keras", "_train.npz", "_test.npz"):
            copies = [
                hashlib.sha256(notebook.of_run(stem, ending).read_bytes()).digest()
                for stem in (trained["stem"], shipped / "mtl")
            ]
            assert copies[0] == copies[1]
        assert keras.saving.load_model(shipped / "mtl.keras")

    def test_the_card_is_filled_in(self, shipped, trained):
        card = " ".join((shipped / "README.md").read_text().split())
        assert "{" not in card
        assert f"{trained['history']['parameters']:,} parameters" in card
        assert "non-commercial research only" in card
        assert "Not for decisions about people" in card

    def test_the_readme_gets_the_test_results_alone(self, notebook, shipped, rows):
        text = (shipped.parents[1] / "README.md").read_text()
        tested = [row for row in rows if row["split"] != "val"]
        assert notebook.as_markdown(notebook.results_table(tested)) in text
        assert "old" not in text and text.endswith("The end.\n")

    def test_publishing_what_is_shipped_changes_nothing(
        self, notebook, shipped, trained, rows
    ):
        before = {path: path.read_bytes() for path in shipped.iterdir()}
        runs = {name: trained | {"stem": shipped / name} for name in ("mtl", "run1")}
        notebook.publish_all(runs, rows, {"mtl": INTERVALS}, shipped)
        assert before == {path: path.read_bytes() for path in shipped.iterdir()}
