"""Every figure is drawn, with title, labels and what it was given."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from facekit import diagrams, labels, measure, networks, plots

KEYS = {"loss": "Weighted sum", "age_mae": "Age", "gender_accuracy": "Gender"}


@pytest.fixture(autouse=True)
def close():
    """Close what a test drew, and let no setting outlive it."""
    with plt.rc_context():
        plots.style()
        yield
        plt.close("all")


def check(figure, panels):
    """Check that a figure and its panels have titles and labels; draw it."""
    axes = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]
    assert figure.get_suptitle() and len(axes) == panels
    for axis in axes:
        assert axis.get_title() and axis.get_xlabel()
    assert axes[0].get_ylabel() or axes[0].get_yticklabels()
    figure.canvas.draw()
    return axes


def texts_of(axis):
    return [text.get_text() for text in axis.texts if text.get_text()]


def test_curves_of_one_history_in_their_units(trained):
    history = trained.history
    axes = check(plots.curves({"Main": history}, KEYS, "Curves"), 3)
    for axis, key in zip(axes, KEYS, strict=True):
        factor = 100 if key == "gender_accuracy" else 1
        training, validation, best = axis.lines
        for line, name in ((training, key), (validation, f"val_{key}")):
            values = [factor * value for value in history["epochs"][name]]
            assert line.get_ydata() == pytest.approx(values)
        assert best.get_xdata()[0] == history["best_epoch"]
    units = [axis.get_ylabel() for axis in axes]
    assert units == ["loss", "MAE (years)", "accuracy (%)"]


def test_curves_of_several_histories_have_a_colour_each(trained):
    histories = {"One": trained.history, "Other": trained.history}
    (axis,) = check(plots.curves(histories, {"loss": "Loss"}, "Curves"), 1)
    assert len(axis.lines) == 6 and len({line.get_color() for line in axis.lines}) == 2
    shown = [text.get_text() for text in axis.get_legend().get_texts()]
    assert shown == ["One", "Other"]


def test_points_are_metrics_with_their_intervals(predicted):
    row = measure.evaluate(predicted)
    figures = {"Main": {"validation": row, "test": row}, "Run 1": {"test": row}}
    axes = check(plots.points(figures, measure.HEADLINE, "Results"), 3)
    for axis, metric in zip(axes, measure.HEADLINE, strict=True):
        factor = 1 if metric == "age_mae" else 100
        assert [len(part[0].get_xdata()) for part in axis.containers] == [1, 2]
        for dots, _, (bars,) in axis.containers:
            assert dots.get_xdata() == pytest.approx(factor * row[metric])
            for segment in bars.get_segments():
                ends = factor * np.array(row[f"{metric}_ci95"])
                assert segment[:, 0] == pytest.approx(ends)
    names = [text.get_text() for text in axes[0].get_yticklabels()]
    assert names == ["Main", "Run 1"]


def test_confusion_shows_counts_and_shares(predicted):
    _, ethnicity = check(plots.both_confusions(predicted, "Test set"), 2)
    counts = [int(text.split("\n")[0]) for text in texts_of(ethnicity)]
    assert len(counts) == 25 and sum(counts) == len(predicted)
    _, axis = plt.subplots()
    plots.confusion(axis, [0, 0, 0, 1], [0, 0, 1, 1], labels.GENDERS, "Gender")
    assert texts_of(axis) == ["2\n67 %", "1\n33 %", "0\n0 %", "1\n100 %"]


def test_roc_curves_name_their_areas():
    figure, axis = plt.subplots()
    sides = {"test": ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), "one": ([1, 1], [0.2, 0.3])}
    plots.roc(axis, sides, "ROC")
    plots.legend_below(figure, axis)
    figure.suptitle("ROC")
    check(figure, 1)
    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown == ["test: AUC 0.750", "chance: AUC 0.500"]
    assert axis.get_xscale() == "linear" and axis.get_xlim() == (0, 1)
    plots.roc(axis, sides, "ROC", few=True)
    assert axis.get_xscale() == "log"


@pytest.mark.parametrize("lowest", [0, -7])
def test_ages_hold_everybody_answers_below_zero_too(predicted, lowest):
    ages = predicted.assign(age_predicted=predicted["age_predicted"] + lowest)
    bands = measure.error_by_age(ages)
    left, right = check(plots.age_errors(ages, bands, "Ages"), 2)
    assert left.collections[0].get_array().sum() == len(ages)
    heights = [bar.get_height() for bar in right.patches]
    assert heights == pytest.approx(bands["mae"].tolist())


def test_faces_have_titles_and_empty_places_none(data):
    titles = [f"face {number}" for number in range(13)]
    figure = plots.faces(data.images[:13], titles, "Synthetic faces")
    assert [axis.get_title() for axis in figure.axes] == titles + [""] * 7
    (shown,) = figure.axes[12].images
    np.testing.assert_array_equal(shown.get_array(), data.images[12])
    figure.canvas.draw()


def test_sharing_is_drawn_hard_and_soft():
    hard, soft = diagrams.sharing().axes
    assert texts_of(hard).count("shared layer") == 3 and "Hard" in hard.get_title()
    assert "shared layer" not in texts_of(soft) and "Soft" in soft.get_title()
    hard.figure.canvas.draw()


def test_the_architecture_shows_every_layer_in_its_colour():
    image = keras.Input((48, 48, 1))
    x = networks.trunk(image, (4, 4), (1, 1), 8, 0.1)
    heads = {task: keras.layers.Dense(1, name=task)(x) for task in labels.LABELS}
    model = keras.Model(image, heads)
    (axis,) = diagrams.architecture(model).axes
    assert len(texts_of(axis)) == len(model.layers) - 1 and axis.get_title()
    expected = {"Conv2D 3×3, relu: 48 × 48 × 4", "age: Dense, linear: 1"}
    assert expected <= set(texts_of(axis))
    colours = {patch.get_facecolor() for patch in axis.patches if patch.get_width() > 1}
    assert len(colours) == 4
    axis.figure.canvas.draw()


def test_a_heat_map_writes_every_cell_and_leaves_gaps_grey():
    values = pd.DataFrame({"young": [1.0, np.nan], "old": [4.0, 2.0]}, ["a", "b"])
    texts = pd.DataFrame({"young": ["1.0", "n = 3"], "old": ["4.0", "2.0"]}, ["a", "b"])
    figure, (axis,) = plots.panels(1)
    plots.heat_map(axis, values, texts, "age")
    axis.set(title="Age", xlabel="band")
    figure.suptitle("Groups")
    check(figure, 1)
    assert sorted(texts_of(axis)) == ["1.0", "2.0", "4.0", "n = 3"]
    shades = axis.images[0].cmap(axis.images[0].norm(axis.images[0].get_array()))
    assert np.ptp(shades[1, 0][:3]) == 0  # grey
    assert shades[0, 1].tolist() != shades[1, 1].tolist()


def test_calibration_is_drawn_against_the_diagonal():
    curve = pd.DataFrame({"stated": [0.5, 0.9], "right": [0.4, 0.8], "n": [5, 5]})
    figure, (axis,) = plots.panels(1)
    plots.calibration(axis, {"as it is": curve, "softer": curve}, "Gender", "red")
    figure.suptitle("Calibration")
    check(figure, 1)
    perfect, drawn, _ = axis.lines
    assert list(perfect.get_xdata()) == list(perfect.get_ydata())
    assert list(drawn.get_ydata()) == [0.4, 0.8]
    low, high = axis.get_ylim()
    assert low < 0.4 and high > 0.8 and axis.get_xlim() == (low, high)


def test_a_map_lies_over_the_whole_picture():
    figure, axes = plots.grid(1, 2, 2, 2)
    plots.map_over(axes[0, 0], np.ones((48, 48)), np.eye(6), 0.5)
    axes[0, 0].set_title("Group")
    figure.canvas.draw()
    below, above = axes[0, 0].images
    assert below.get_extent() == above.get_extent()
    assert above.get_clim() == (0, 0.5) and axes.shape == (1, 2)
