"""How figures are written for people: numbers, differences, tables, sentences."""

import dataclasses
import json
import types

import IPython
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from facekit import machine, measure, report

BETTER = (-0.5, -0.6, -0.4)


@pytest.fixture
def row(trained, predicted):
    return report.result_row(trained, "Main network", "test", predicted)


@pytest.fixture
def shown(monkeypatch):
    """Note what is displayed."""
    calls = []

    def display(what, metadata=None):
        calls.append((what, metadata))

    shows = types.SimpleNamespace(Markdown=IPython.display.Markdown, display=display)
    there = types.SimpleNamespace(get_ipython=lambda: True, display=shows)
    monkeypatch.setattr(report, "IPython", there)
    return calls


class TestNumbers:
    def test_a_mean_with_its_interval(self):
        assert report.with_interval((5.04, 4.9, 5.16)) == "5.0 (4.9–5.2)"
        assert report.with_interval((-0.04, -1.26, 1.1)) == "0.0 (−1.3 to 1.1)"
        assert report.with_interval((0.3, -0.1, 0.7), signs=True) == (
            "+0.3 (−0.1 to +0.7)"
        )
        assert report.with_interval((53.2, 44.1, 62.4), 0) == "53 (44–62)"

    @pytest.mark.parametrize(
        ("metric", "value", "interval", "text", "unit"),
        [
            ("age_mae", 5.374, [5.2249, 5.5151], "5.37 (5.22–5.52)", " years"),
            ("age_rmse", 7.0, [6.5, 7.5], "7.00 (6.50–7.50)", " years"),
            ("gender_accuracy", 0.9074, [0.8996, 0.915], "90.7 (90.0–91.5)", " %"),
            ("ethnicity_macro_f1", 0.7, [0.6, 0.8], "70.0 (60.0–80.0)", " %"),
            ("gender_auc", 0.96661, [0.9612, 0.97], "0.967 (0.961–0.970)", ""),
        ],
    )
    def test_a_metric(self, metric, value, interval, text, unit):
        figures = {metric: value, f"{metric}_ci95": interval}
        assert report.format_metric(metric, figures) == text
        with_unit = text.replace(" (", f"{unit} (")
        assert report.format_metric(metric, figures, unit=True) == with_unit

    def test_a_metric_that_is_not_there(self):
        for figures in ({}, {"gender_auc": np.nan, "gender_auc_ci95": [np.nan] * 2}):
            assert report.format_metric("gender_auc", figures) == "–"

    @pytest.mark.parametrize(
        ("metric", "change", "text"),
        [
            ("age_mae", BETTER, "better by 0.50 years (0.40 to 0.60)"),
            ("age_rmse", (0.5, 0.3, 0.7), "worse by 0.50 years (0.30 to 0.70)"),
            (
                "gender_accuracy",
                (0.012, 0.002, 0.022),
                "better by 1.20 points (0.20 to 2.20)",
            ),
            (
                "ethnicity_accuracy",
                (-0.012, -0.022, -0.002),
                "worse by 1.20 points (0.20 to 2.20)",
            ),
            (
                "age_mae",
                (0.2, -0.31, 0.62),
                "no difference found: 0.20 years worse (0.31 better to 0.62 worse)",
            ),
            (
                "gender_accuracy",
                (-0.001, -0.003, 0.001),
                "no difference found: 0.10 points worse (0.30 worse to 0.10 better)",
            ),
            ("age_mae", (0, 0, 0), "no difference found: 0.00 years (0.00 to 0.00)"),
            (
                "age_mae",
                (0.1, 0, 1),
                "no difference found: 0.10 years worse (0.00 to 1.00 worse)",
            ),
            (
                "gender_auc",
                (0.01, -0.01, 0.03),
                "no difference found: 0.01 better (0.01 worse to 0.03 better)",
            ),
            ("gender_auc", (-0.03, -0.04, -0.02), "worse by 0.03 (0.02 to 0.04)"),
            # As many digits as it takes: 0.00 beside a verdict would contradict it.
            ("gender_auc", (0.003, 0.001, 0.005), "better by 0.003 (0.001 to 0.005)"),
            ("gender_auc", (2e-3, 4e-4, 9e-3), "better by 0.0020 (0.0004 to 0.0090)"),
        ],
    )
    def test_a_change(self, metric, change, text):
        assert report.describe_change(metric, change) == text
        assert text.startswith(report.verdict(metric, change))

    def test_every_metric_knows_which_way_is_better(self):
        verdicts = {
            metric: report.verdict(metric, (-2, -3, -1)) for metric in report.METRICS
        }
        smaller = {metric for metric, found in verdicts.items() if found == "better"}
        assert smaller == {"age_mae", "age_rmse"}
        assert set(verdicts.values()) == {"better", "worse"}

    def test_what_was_not_measured_is_no_difference(self):
        nothing = (np.nan,) * 3
        for metric in ("age_mae", "gender_auc"):
            assert report.verdict(metric, nothing) == "no difference found"

    def test_changes_of_all_tasks(self):
        changes = {"age_mae": BETTER, "gender_accuracy": (0.0, -0.001, 0.002)}
        text = report.describe_changes(changes)
        assert text == (
            "age: better by 0.50 years (0.40 to 0.60); "
            "gender: no difference found: 0.00 points (0.10 worse to 0.20 better)"
        )
        table = report.changes_table({"a → b": changes, "b → c": changes})
        assert list(table) == ["Step", "Age", "Gender"]
        assert table["Step"].tolist() == ["a → b", "b → c"]
        assert table["Age"].tolist() == ["better by 0.50 years (0.40 to 0.60)"] * 2

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0.2, "0 s"),
            (89, "89 s"),
            (90, "1.5 min"),
            (5399, "90.0 min"),
            (5400, "1.5 h"),
            (8280, "2.3 h"),
        ],
    )
    def test_a_duration(self, seconds, text):
        assert machine.duration(seconds) == text

    def test_the_time_of_a_training_names_cores(self):
        history = {"seconds": 1080, "hardware": "2 cores, EPYC"}
        assert report.training_time(history) == "18.0 min on 2 cores"


class TestTables:
    def test_metrics_stand_side_by_side(self, predicted):
        figures = measure.evaluate(predicted)
        ages = {key: figures[key] for key in figures if key[:3] in ("n", "age")}
        table = report.metrics_table({"All": figures, "Age": ages})
        titles = [told.title for told in report.METRICS.values()]
        assert table["Metric"].tolist() == ["Images", *titles]
        assert table["All"][0] == "60" and "–" not in table["All"].tolist()
        assert (table["Age"] == "–").sum() == 7
        assert set(report.headline(figures)) <= set(titles)
        assert list(report.headline(ages)) == ["Age: MAE (years)"]

    def test_a_row_of_results_has_every_field(self, row, trained):
        history = trained.history
        assert json.loads(json.dumps(row)) == row
        assert row["model"] == "mtl" and row["split"] == "test" and row["n"] == 60
        assert row["train_images"] == history["images"] and row["epochs"] == 2
        assert row["train_seconds"] == history["seconds"] and row["seed"] == 1
        assert row["hardware"].startswith(history["hardware"])
        for metric in report.METRICS:
            low, high = row[f"{metric}_ci95"]
            assert low <= row[metric] <= high

    def test_results_are_a_table_for_people(self, row):
        rows = [row, row | {"split": "val"}, row | {"split": "foreign_test", "n": 1200}]
        table = report.results_table(rows)
        assert table["Set"].tolist() == ["test", "validation", "foreign test"]
        assert table["Images"].tolist() == ["60", "60", "1,200"]
        assert set(table["Network"]) == {"Main network"}
        assert table["Training"][0].startswith("2 epochs, ")
        gender = {key: row[key] for key in row if not key.startswith("ethni")}
        missing = set(table) - set(report.results_table([gender]))
        assert missing == {"Ethnicity: accuracy (%)"}
        assert report.results_table([]).empty

    def test_tables_are_markdown(self, shown):
        frame = pd.DataFrame({"Name": ["1e5", "a|b"], "Number": [1, 20]})
        report.show_table(frame)
        report.say("A *sentence*.")
        table, sentence = (what.data for what, _ in shown)
        heading, rule, *rows = table.splitlines()
        assert heading.split() == ["|", "Name", "|", "Number", "|"]
        assert rule.startswith("|:") and rule.endswith(":|")
        assert "1e5" in rows[0] and len(rows) == 2
        assert sentence == "A *sentence*."

    def test_a_figure_is_shown_once_with_its_alternative_text(self, shown):
        figure, _ = plt.subplots()
        report.show_figure(figure, "A curve")
        ((what, metadata),) = shown
        assert what is figure and metadata == {"image/png": {"alt": "A curve"}}
        assert not plt.fignum_exists(figure.number)


def test_results_are_kept_where_publish_finds_them(store, trained, row):
    intervals = {"mtl": {"from": [0.0], "low": [-4.0], "high": [5.0]}}
    text = report.write_results(store, [trained], [row, row], intervals)
    path = store.folder / "results.json"
    place = "`model/runs/own-0a1b2c/study/results.json`"
    assert text == f"2 rows of results are in {place}."
    told = json.loads(path.read_text(encoding="utf-8"))
    assert told == {
        "data": "own",
        "runs": {"mtl": trained.history["digest"]},
        "age_intervals": intervals,
        "results": [row, row],
    }
    report.write_results(dataclasses.replace(store), [], [])
    assert json.loads(path.read_text())["results"] == []


def test_the_lab_log_is_read_row_by_row(tmp_path):
    path = tmp_path / "log.md"
    path.write_text(
        "# Log\n\n"
        "| name | change | prediction | MAE / gender / ethnicity | losses | s |\n"
        "|---|---|---|---|---|---|\n"
        "| `a` | Adam | reference | 6.38 / 90.0 / 78.0 | 0.246 / 0.641 | 394 |\n"
        "| `b`, again | Muon | +1 | 5.9 / 91.1 / 80.7 | | 446 |\n"
        "| `c` | larger | too large | stopped after epoch 4 | | |\n"
        "| views | MAE / gender / ethnicity | losses |\n"
        "| one | 5.20 / 92.4 / 83.4 | 0.196 / 0.525 |\n"
    )
    log = report.read_lab_log(path)
    assert log["prediction"].to_dict() == {"a": "reference", "b, again": "+1"}
    assert log.loc["b, again", list(measure.HEADLINE)].tolist() == [5.9, 91.1, 80.7]
    assert log["age_mae"].dtype == float


def test_a_plain_script_prints_texts_and_writes_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    report.show_table(pd.DataFrame({"Group": ["all"]}))
    figure, _ = plt.subplots()
    report.show_figure(figure, "Error, by age: all")
    assert capsys.readouterr().out.splitlines() == [
        "| Group   |",
        "|:--------|",
        "| all     |",
        "",
        "Figure: figures/Error_by_age_all.png",
        "",
    ]
    assert (tmp_path / "figures/Error_by_age_all.png").stat().st_size > 1000
    assert not plt.get_fignums()
