"""Gender recognition: networks shown, trials compared, faces framed anew."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from facekit import batches, duplicates, measure, plots, report
from facekit.labels import ETHNICITIES, GENDERS
from facekit.runs import Run
from studies import groups
from studies.framing import Reframed

METRIC = "gender_accuracy"
UNCHANGED = (1, 1, 0)  # the framing that a picture has
BANDS = (0, 3, 13, 18, 40, 61, 117)  # years, of the errors by age


def show_network(run: Run, title: str, views: dict[str, pd.DataFrame], note: str):
    """Show plain cross-entropy and accuracy by epoch, measures, ROC and confusions.

    ``views``: predictions by set; ``note``: how they were made.
    """
    history, panels = run.history, {"loss": "Binary cross-entropy", METRIC: "Accuracy"}
    epochs = dict(history["epochs"])
    for key in ("loss", "val_loss"):
        epochs[key] = np.divide(epochs[key], history["settings"]["loss_weight"])
    figure = plots.curves({title: history | {"epochs": epochs}}, panels, title)
    figure.set_size_inches(5.6, 2.4)
    figure.axes[-1].get_legend().remove()
    plots.legend_below(figure, figure.axes[-1], ncols=3)
    report.show_figure(figure, f"Cross-entropy and accuracy by epoch: {title}")
    best, losses = history["best_epoch"], (epochs["val_loss"], epochs["loss"])
    later, learned = (values[-1] - values[best - 1] for values in losses)
    report.say(
        f"The best epoch is {best} of {len(losses[0])}."
        + " From there to the last one the cross-entropy changes by "
        f"{report.signed(later)} in validation and by {report.signed(learned)} in "
        f"training{': it overfits' * (later > 0.02)}." * (best < len(losses[0]))
    )
    show_measures({name.capitalize(): view for name, view in views.items()})
    figure, axes = plots.panels(1 + len(views), 2.5, 2.3)
    sides = {name: (v["gender"], v["gender_probability"]) for name, v in views.items()}
    plots.roc(axes[0], sides, "ROC of the label female", plots.SET_COLOURS)
    for axis, (name, (true, score)) in zip(axes[1:], sides.items(), strict=True):
        plots.confusion(axis, true, (score >= 0.5).astype(int), GENDERS, name)
        axis.set_aspect("auto")
    plots.legend_below(figure, axes[0], ncols=1 + len(views))
    figure.suptitle(f"{title}, {note}")
    report.show_figure(figure, f"ROC curves and confusion matrices: {title}, {note}")


def show_settings(runs: dict[str, Run]) -> None:
    """Show the settings of networks side by side; all of them have ReLU somewhere."""
    table = pd.DataFrame({t: run.history["settings"] for t, run in runs.items()})
    table = table.drop(["base_digest", "base_date"]).map(report.format_setting)
    table.loc["activation"] = table.loc["activation"].replace("–", "relu")
    table.index = table.index.str.replace("_", " ").str.capitalize()
    report.show_table(table.reset_index(names="Setting"))


def show_measures(views: dict[str, pd.DataFrame]) -> None:
    """Show accuracy, sensitivity, specificity, F1 and AUC of several predictions."""
    table = report.metrics_table({k: measure.evaluate(v) for k, v in views.items()})
    table["Metric"] = table["Metric"].str.removeprefix("Gender: ")
    report.show_table(table)


def show_rocs(views: dict[str, dict[str, pd.DataFrame]]) -> None:
    """Show ROC curves of all networks (the keys) on each set, whole and enlarged.

    Enlarged is the axis of false positives, by its logarithm.
    """
    sets = list(dict.fromkeys(name for parts in views.values() for name in parts))
    figure, axes = plots.panels(2 * len(sets), 2.5, 3.0)
    for name, whole, enlarged in zip(sets, axes[::2], axes[1::2], strict=True):
        found = {title: parts[name] for title, parts in views.items()}
        sides = {t: (v["gender"], v["gender_probability"]) for t, v in found.items()}
        plots.roc(whole, sides, name.capitalize())
        lines, told = whole.get_legend_handles_labels()
        names, areas = zip(*(text.split(": ") for text in told), strict=True)
        whole.legend(lines, areas, frameon=False, loc="lower right")
        plots.roc(enlarged, sides, f"{name.capitalize()}, enlarged", few=True)
    figure.legend(lines, names, loc="outside lower center", ncols=4, frameon=False)
    report.show_figure(figure, "ROC curves of all networks: " + " and ".join(sets))
    told = []
    for name in sets:
        found = {title: measure.evaluate(parts[name]) for title, parts in views.items()}
        best = max(found, key=lambda title: found[title][METRIC])
        told.append(f"{name}: {best}, {report.format_metric(METRIC, found[best])} %")
    report.say(f"**Answer.** Highest accuracy, {'; '.join(told)}.")


def compare_trials(views: dict[str, pd.DataFrame], changed: dict[str, str]):
    """A table of each trial's accuracy, and of its change to what it started from."""
    rows = []
    for title, view in views.items():
        row = {"Trial": title, "Starts from": changed[title]}
        row["Accuracy (%)"] = report.format_metric(METRIC, measure.evaluate(view))
        if changed[title] in views:
            step = measure.compare(views[changed[title]], view)[METRIC]
            row["Change"] = report.describe_change(METRIC, step)
        rows.append(row)
    return pd.DataFrame(rows).fillna("")


def show_errors(view: pd.DataFrame) -> None:
    """Show the share of wrong answers by gender with adults' ethnicity, and with age.

    Of groups under 30, only the number of pictures.
    """
    wrong = groups.errors_of(view)["gender"]
    names = [f"{a}–{b - 1} years" for a, b in zip(BANDS, BANDS[1:], strict=False)]
    bands = pd.cut(view["age"], BANDS, right=False, labels=names)
    gender = view["gender"].map(dict(enumerate(GENDERS)))
    adults, rows = dict(enumerate(f"{name}, 18–60" for name in ETHNICITIES)), {}
    grown = view["ethnicity"].where(view["age"].between(18, 60)).map(adults)
    for key in (grown, bands):
        for (name, label), part in measure.by_group(wrong, [key, gender]).iterrows():
            told = groups.tell(part) if part["n"] >= groups.FEWEST else "–"
            row = {f"Images, {label}": f"{part['n']:,.0f}"}
            row[f"Wrong, {label} (%)"] = told
            rows.setdefault(name, {"Group": name}).update(row)
    none = [{"Group": "no labels of ethnicity and age here"}]
    report.show_table(pd.DataFrame([*rows.values()] or none).fillna("–"))
    young = view["age"] < 13
    shares = 100 * young.mean(), 100 * wrong[young].sum() / max(1, wrong.sum())
    told = "Under 13: {:.1f} % of the images, {:.1f} % of the errors."
    report.say(told.format(*shares))


def show_conditions(seen: dict[str, dict[str, pd.DataFrame]]) -> list[pd.Series]:
    """Show each network's accuracy under each condition, and what the improvement is
    worth there; given back are its points for each picture, by condition.
    """
    rows, worth = [], []
    for name, views in seen.items():
        right = {t: 100 - groups.errors_of(v)["gender"] for t, v in views.items()}
        worth.append(right["Improved network"] - right["Baseline"])
        told = {t: measure.mean_interval(x.to_numpy()) for t, x in right.items()}
        row = {t: "{:.1f} ({:.1f}–{:.1f})".format(*ends) for t, ends in told.items()}
        step = measure.mean_interval(worth[-1].to_numpy() / 100)
        row["Improved against baseline"] = report.describe_change(METRIC, step)
        rows.append({"Accuracy (%)": name} | row)
    report.show_table(pd.DataFrame(rows))
    return worth


def explain_gap(worth: list[pd.Series]) -> str:
    """How much of what the improvement is worth abroad is framing, and age, in words.

    ``worth``: as ``show_conditions`` gives it for the notebook's conditions.
    """
    start, _, zoomed, shifted, mirrored, framed, adults, aged, end, back = worth
    pairs = [(x, start) for x in (framed, shifted, mirrored, zoomed)] + [(end, back)]
    closed = [measure.mean_interval((x - y).to_numpy()) for x, y in pairs]
    told = ["{:.1f} ({:.1f}–{:.1f})".format(*ends) for ends in closed]
    both, shift, fill, zoom, reframed = told
    gap = end.mean() - start.mean()
    least, most = sorted(100 * x[0] / gap for x in (closed[0], closed[-1]))
    return (
        f"**Answer.** The improvement is worth {start.mean():.1f} points on UTKFace's "
        f"test pictures and {end.mean():.1f} on the foreign ones: a gap of {gap:.1f}. "
        f"UTKFace framed as the foreign set makes the improvement worth {both} points "
        f"more (the shift alone {shift}, with mirrored edges {fill}; the zoom alone "
        f"{zoom}). The foreign set framed as UTKFace makes it worth {reframed} less. "
        f"So framing explains between {least:.0f} and {most:.0f} % of the gap. Age: "
        f"among UTKFace's adults the improvement is worth {adults.mean():.1f} points, "
        f"among all {start.mean():.1f}; framed as foreign, {aged.mean():.1f} and "
        f"{framed.mean():.1f}."
    )


def mean_face(rows: pd.DataFrame, folder) -> np.ndarray:
    """Mean grey levels of pictures at ``(100, 100)``."""
    flow = batches.flow(rows, folder, (100, 100, 1), batch_size=len(rows))
    return 255 * flow[0][0].mean(axis=(0, 3))


def find_framing(home: np.ndarray, away: np.ndarray) -> tuple[list, list]:
    """The framing that makes the face ``away`` most like ``home``, and its inverse.

    As ``Reframed`` takes it. Both are shown, as they are and in the other's frame.
    """

    def likeness(framing):
        there = Reframed.cut(away, framing, home.shape)
        return np.corrcoef(there.flat, home.flat)[0, 1]

    found = minimize(lambda x: -likeness(x), (1, 1, -0.05), method="Nelder-Mead")
    high, wide, down = back = found.x.round(2).tolist()
    forth = np.round([1 / high, 1 / wide, -down / high], 2).tolist()
    ways = {
        "UTKFace": (home, UNCHANGED),
        "framed as foreign": (home, forth),
        "foreign": (away, UNCHANGED),
        "framed as UTKFace": (away, back),
    }
    faces = [Reframed.cut(face, way, home.shape) for face, way in ways.values()]
    faces = [127 + 50 * (face - face.mean()) / face.std() for face in faces]
    title = "Mean faces of the two sets, of equal contrast"
    figure = plots.faces(faces, [*ways], title, columns=4)
    figure.set_size_inches(5.6, 2)
    report.show_figure(figure, "Mean faces of both sets, each in both frames")
    report.say(
        f"Foreign faces are {forth[0]:.2f} times as high and {forth[1]:.2f} times as "
        f"wide, and lie {100 * forth[2]:.0f} % of the height lower. The mean faces "
        f"correlate by {likeness(UNCHANGED):.2f}, in UTKFace's frame by "
        f"{likeness(back):.2f}."
    )
    return back, forth


def count_overlap(home: np.ndarray, away: np.ndarray, back, forth) -> str:
    """How many pictures ``away`` show nearly what one at ``home`` shows, in words.

    Grey levels ``(n, 25, 25)``; ``back`` and ``forth`` as ``find_framing`` gives them.
    Pictures of home, framed there and back, tell how like copies are.
    """
    known, middle = duplicates.standardise(home[:, 5:20, 5:20]), slice(5, 20)

    def likeness(images, *framings):
        for way in framings:
            images = np.array([Reframed.cut(x, way, x.shape) for x in images])
        there = duplicates.standardise(images[:, middle, middle])
        return (there @ known.T).max(axis=1)

    found, copies = likeness(away, back), likeness(home[::20], forth, back)
    bar = np.quantile(copies, 0.05)
    return (
        f"{(found >= bar).sum():,} of {len(away):,} foreign pictures look like a copy "
        f"of one of UTKFace's: the most similar pair correlates by {found.max():.3f} "
        f"(middle of the face). Of UTKFace's own pictures, framed as foreign and back, "
        f"95 % correlate by {bar:.3f} or more. "
        "A copy framed quite differently would escape."
    )
