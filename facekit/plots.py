"""Figures: the same colours for the same thing throughout (Okabe & Ito)."""

import itertools

import matplotlib.colors
import matplotlib.patches
import matplotlib.pyplot as plt
import matplotlib.ticker
import numpy as np
import pandas as pd
import sklearn.metrics

from facekit.labels import ETHNICITIES, GENDERS
from facekit.report import METRICS, Metric

TASK_COLOURS = {
    "shared": "#7f7f7f",
    "age": "#0072b2",
    "gender": "#d55e00",
    "ethnicity": "#009e73",
}
SET_COLOURS = {
    "training": "#56b4e9",
    "validation": "#e69f00",
    "test": "#cc79a7",
    "foreign test": "#000000",
}
LINES = {"": ("--", "training"), "val_": ("-", "validation")}  # by the key's prefix
SERIES = ("#000000", "#e69f00", "#56b4e9", "#cc79a7", "#8c6d31", "#999999")


def style() -> None:
    """Set what all figures share; each is shown by ``report.show_figure``, once."""
    plt.rc("axes.spines", top=False, right=False)
    plt.rc("font", size=9)
    plt.ioff()


def panels(count: int, width: float = 3.4, height: float = 3.0, **options):
    """A figure with ``count`` panels side by side, and their axes."""
    size = {"figsize": (width * count, height), "layout": "constrained"}
    figure, axes = plt.subplots(1, count, squeeze=False, **size, **options)
    return figure, axes[0]


def grid(rows: int, columns: int, width: float, height: float):
    """A figure with rows of bare panels of that size (inches), and their axes."""
    size = {"figsize": (width * columns, height * rows), "layout": "constrained"}
    figure, axes = plt.subplots(rows, columns, squeeze=False, **size)
    for axis in axes.ravel():
        axis.axis("off")
    return figure, axes


def curves(histories: dict[str, dict], keys: dict[str, str], title="", apart=False):
    """Learning curves, a panel for each of ``keys`` (log's key: title).

    One history: training dashed, validation solid, best epoch dotted. Several: a colour
    each, or with ``apart`` a panel each. Metrics are written in their unit, losses as
    they are.
    """
    drawn = [(key, heading, histories) for key, heading in keys.items()]
    if apart:
        pasts = histories.items()
        drawn = [(key, name, {name: past}) for key in keys for name, past in pasts]
    figure, axes = panels(len(drawn), 2.6 if apart else 3.4, sharey=apart, sharex=apart)
    several = len(histories) > 1 and not apart
    for axis, (key, heading, shown) in zip(axes, drawn, strict=True):
        told = METRICS.get(key, Metric("", "loss", "", 1))
        for place, (name, history) in enumerate(shown.items()):
            colour = SERIES[place] if several else _task_colour(key)
            for prefix, (line, side) in LINES.items():
                values = told.factor * np.array(history["epochs"][prefix + key])
                label = side if not several else name if prefix else None
                numbers = range(1, 1 + len(values))
                axis.plot(numbers, values, line, color=colour, label=label)
            best = {"color": colour if several else "grey", "linestyle": ":"}
            best["label"] = None if several else "best epoch"
            axis.axvline(history["best_epoch"], **best)
        axis.set(title=heading, xlabel="epoch", ylabel=told.axis)
        if apart:
            axis.label_outer()
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))
    note = "dashed: training, solid: validation\ndotted: best epoch"
    place = 0 if several else -1  # falling losses leave room for a longer legend
    axes[place].legend(edgecolor="none", title=note if several else None)
    figure.suptitle(title or None)
    return figure


def points(figures: dict[str, dict[str, dict]], metrics, title: str, colours=None):
    """Metrics with intervals: a panel per metric, a row per network, a dot per series.

    ``figures`` maps network, then series (a set, a seed), to what ``evaluate`` gives.
    """
    colours = colours or {}
    figure, axes = panels(len(metrics), 3.4, 1.2 + 0.34 * len(figures), sharey=True)
    series = list(dict.fromkeys(name for parts in figures.values() for name in parts))
    for axis, metric in zip(axes, metrics, strict=True):
        told = METRICS[metric]
        for place, name in enumerate(series):
            rows = [row for row, parts in enumerate(figures.values()) if name in parts]
            found = [parts[name] for parts in figures.values() if name in parts]
            values = told.factor * np.array([part[metric] for part in found])
            ends = told.factor * np.array([part[f"{metric}_ci95"] for part in found])
            style = {"fmt": "o", "capsize": 2, "markersize": 4, "label": name}
            style["color"] = colours.get(name, _task_colour(metric))
            heights = np.array(rows) + 0.22 * (place - (len(series) - 1) / 2)
            axis.errorbar(values, heights, xerr=np.abs(ends.T - values), **style)
        axis.set_yticks(range(len(figures)), list(figures))
        axis.set(title=told.task, xlabel=told.axis, ylim=(len(figures) - 0.5, -0.5))
        axis.grid(axis="x", color="#eeeeee")
    if len(series) > 1:
        legend_below(figure, axes[0], ncols=4)
    figure.suptitle(title)
    return figure


def confusion(axis, true, guess, names: tuple[str, ...], title: str) -> None:
    """Draw a confusion matrix: counts, and shares of the true label."""
    codes = range(len(names))
    counts = sklearn.metrics.confusion_matrix(true, guess, labels=codes)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if share[row, column] > 0.5 else "black"
        text = f"{count:,}\n{100 * share[row, column]:.0f} %"
        axis.text(column, row, text, ha="center", va="center", color=colour)
    axis.set_xticks(codes, names)
    axis.set_yticks(codes, names)
    axis.set(xlabel="predicted label", ylabel="true label", title=title)


def both_confusions(predictions: pd.DataFrame, title: str):
    """Confusion matrices of gender and ethnicity."""
    figure, axes = panels(2, 4.75, 4.4, width_ratios=(1, 1.5))
    gender = (predictions["gender_probability"] >= 0.5).astype(int)
    ethnicity = predictions[list(ETHNICITIES)].to_numpy().argmax(axis=1)
    confusion(axes[0], predictions["gender"], gender, GENDERS, "Gender")
    confusion(axes[1], predictions["ethnicity"], ethnicity, ETHNICITIES, "Ethnicity")
    figure.suptitle(title)
    return figure


def roc(axis, sides: dict[str, tuple], title: str, colours=None, few=False) -> None:
    """Draw ROC curves of ``name: (true, score)`` with their areas.

    ``few``: false positives on a logarithmic axis, where good curves lie apart.
    """
    colours = colours or dict(zip(sides, SERIES, strict=False))
    lines = itertools.cycle(("-", "--", "-.", (0, (1, 1))))
    for name, (true, score) in sides.items():
        if len(np.unique(true)) < 2:
            continue
        area = sklearn.metrics.roc_auc_score(true, score)
        rates = sklearn.metrics.roc_curve(true, score)[:2]
        style = {"color": colours[name], "linestyle": next(lines)}
        axis.plot(*rates, label=f"{name}: AUC {area:.3f}", **style)
    chance = np.geomspace(1e-3, 1, 50)
    axis.plot(chance, chance, color="grey", linewidth=0.8, label="chance: AUC 0.500")
    axis.set(xlabel="false positive rate", ylabel="true positive rate", title=title)
    axis.set(xscale="log" if few else "linear", xlim=(1e-3 * few, 1), ylim=(0, 1.02))
    axis.xaxis.set_major_formatter("{x:g}")


def legend_below(figure, axis, **options) -> None:
    """One legend under the whole figure: that of a panel."""
    options = {"loc": "outside lower center", "frameon": False} | options
    figure.legend(*axis.get_legend_handles_labels(), **options)


def ages_predicted(axes, tables: dict[str, pd.DataFrame]) -> None:
    """Draw predicted against true age as heat maps: a panel each, all on one scale.

    The whole range of the answers is shown; what is below zero lies on grey.
    """
    pairs = [(table["age"], table["age_predicted"]) for table in tables.values()]
    least = min(predicted.min() for _, predicted in pairs)
    lowest = min(-10, 2 * np.floor(least / 2)) if least < 0 else 0
    highest = max(117, *(predicted.max() for _, predicted in pairs))
    edges = np.arange(0, 119, 2), np.arange(lowest, highest + 2, 2)
    most = max(np.histogram2d(*pair, edges)[0].max() for pair in pairs)
    norm = matplotlib.colors.SymLogNorm(1, vmin=0, vmax=most)
    for axis, name, pair in zip(axes, tables, pairs, strict=True):
        axis.axhspan(lowest, 0, color="#e6e6e6", zorder=0)
        axis.text(72, lowest / 2, "below 0", va="center", visible=lowest < 0)
        *_, image = axis.hist2d(*pair, edges, cmap="Blues", cmin=1, norm=norm)
        axis.plot([0, 117], [0, 117], ":", color="black")
        axis.set(title=name, xlabel="true age (years)")
    axes[0].set_ylabel("predicted age (years)")
    ticks = matplotlib.ticker.FixedLocator([0, 1, 10, 100, 1000])
    bar = axes[0].figure.colorbar(image, ax=axes, ticks=ticks, format="%d")
    bar.set_label("pictures per 2 × 2 years")


def age_errors(predictions: pd.DataFrame, bands: pd.DataFrame, title: str):
    """Predicted against true age, and the error by band of true age."""
    figure, (left, right) = panels(2, 5.2, 4)
    ages_predicted([left], {"Predicted against true age": predictions})
    ends = np.abs([bands["low"] - bands["mae"], bands["high"] - bands["mae"]])
    style = {"color": TASK_COLOURS["age"], "capsize": 3, "label": "MAE, 95 % interval"}
    right.bar(bands["band"], bands["mae"], yerr=ends, **style)
    label = "bias (predicted − true)"
    right.plot(bands["band"], bands["bias"], "D", color="black", label=label)
    right.axhline(0, color="grey", linewidth=0.8)
    right.set(title="Error by age", xlabel="true age (years)", ylabel="years")
    right.tick_params(axis="x", rotation=45)
    right.legend(frameon=False)
    figure.suptitle(title)
    return figure


def heat_map(axis, values: pd.DataFrame, texts: pd.DataFrame, key: str) -> None:
    """Draw a table of numbers in shades of the colour of a task; nan is grey."""
    shades = matplotlib.colors.LinearSegmentedColormap.from_list(
        key, ["white", _task_colour(key)]
    ).with_extremes(bad="#dddddd")
    numbers, most = values.to_numpy(), np.nanmax(values)
    axis.imshow(numbers, cmap=shades, vmin=0, vmax=most, aspect="auto")
    axis.set_xticks(range(len(values.columns)), values.columns)
    axis.set_yticks(range(len(values)), values.index)
    row, column = np.unravel_index(np.nanargmax(numbers), numbers.shape)
    frame = matplotlib.patches.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False)
    axis.add_patch(frame)  # the worst
    for (row, column), text in np.ndenumerate(texts):
        axis.text(column, row, text, ha="center", va="center", size=8)


def calibration(axis, curves: dict[str, pd.DataFrame], title: str, colour: str) -> None:
    """Draw stated probability against share of right answers, a curve each."""
    axis.plot([0, 1], [0, 1], ":", color="grey", label="perfect")
    for (name, curve), line in zip(curves.items(), ("o--", "s-"), strict=False):
        style = {"color": colour, "markersize": 4, "label": name}
        axis.plot(curve["stated"], curve["right"], line, **style)
    least = min(curve[["stated", "right"]].min().min() for curve in curves.values())
    axis.set(title=title, xlabel="stated probability", ylabel="share of right answers")
    axis.set(xlim=(least - 0.02, 1.01), ylim=(least - 0.02, 1.01))
    axis.legend(frameon=False)


def map_over(axis, picture: np.ndarray, values: np.ndarray, most: float) -> None:
    """Draw a coarse map, from 0 to ``most``, over a picture of grey levels."""
    ends = (-0.5, picture.shape[1] - 0.5, picture.shape[0] - 0.5, -0.5)
    axis.imshow(picture, cmap="gray", extent=ends)
    style = {"cmap": "viridis", "alpha": 0.5, "vmin": 0, "vmax": most}
    axis.imshow(values, extent=ends, **style)


def _task_colour(key):
    """Colour of the task that a metric or loss belongs to, by its name."""
    return TASK_COLOURS.get(key.partition("_")[0], TASK_COLOURS["shared"])


def faces(images, titles: list[str], title: str, columns: int = 10):
    """Draw pictures ``(n, height, width)`` of grey levels (0 to 255), with titles."""
    rows = -(-len(images) // columns)
    lines = 1 + max(text.count("\n") for text in titles)
    figure, axes = grid(rows, columns, 1, 0.4 / rows + 1 + 0.16 * lines)
    for axis, image, text in zip(axes.ravel(), images, titles, strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        axis.set_title(text, fontsize=8)
    figure.suptitle(title)
    return figure
