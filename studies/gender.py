"""Gender recognition: networks shown, trials compared, a difference explained."""

import keras
import numpy as np
import pandas as pd

from facekit import measure, plots, report
from facekit.labels import ETHNICITIES, GENDERS
from facekit.runs import Run
from studies import groups

METRIC = "gender_accuracy"
HOME, ABROAD, ADULTS = "UTKFace test", "Foreign test", "– adults"  # conditions
FRAMED, REFRAMED = "– framed as foreign (both)", "– framed as UTKFace"
BANDS = (0, 3, 13, 18, 40, 61, 117)  # years, of the errors by age


def show_network(run: Run, title: str, views: dict[str, pd.DataFrame], note: str):
    """Show plain cross-entropy and accuracy by epoch, measures, ROC and confusions.

    ``views``: predictions by set; ``note``: how they were made.
    """
    history, panels = run.history, {"loss": "Binary cross-entropy", METRIC: "Accuracy"}
    epochs = dict(history["epochs"])
    for key in ("loss", "val_loss"):
        epochs[key] = np.divide(epochs[key], history["settings"]["loss_weight"])
    told = f"{title} (validation: selection half)"
    figure = plots.curves({title: history | {"epochs": epochs}}, panels, told)
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
    """Show the settings in which networks differ, side by side."""
    table = pd.DataFrame({t: run.history["settings"] for t, run in runs.items()})
    table = table.drop(["base_digest", "base_date"]).fillna("–")
    table = table.map(report.format_setting)
    table = table[table.nunique(axis=1) > 1].reset_index(names="Setting")
    table["Setting"] = table["Setting"].str.replace("_", " ").str.capitalize()
    report.show_table(table)


def show_measures(views: dict[str, pd.DataFrame]) -> None:
    """Show accuracy, sensitivity, specificity, F1 and AUC of several predictions."""
    table = report.metrics_table({k: measure.evaluate(v) for k, v in views.items()})
    report.show_table(table.replace("^Gender: ", "", regex=True))


def show_gains(views: dict[str, dict[str, pd.DataFrame]], title: str) -> None:
    """Show by how much a network is better than each other one: the last two sets."""
    gains = {
        f"{other}, {name}": measure.compare(part, views[title][name])
        for other, parts in views.items()
        for name, part in [*parts.items()][-2:]
        if other != title
    }
    report.show_table(report.changes_table(gains, f"Accuracy: {title} against"))


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


def show_trials(views: dict[str, list[pd.DataFrame]], steps: dict, runs: dict) -> None:
    """Show what each trial changes and how well it learned its own pictures; then what
    that brings. By trial: predictions and runs of its seeds, and its step.
    """
    table = compare_trials(views, steps)
    made = table[["Trial"]].assign(**{"Starts from": table.pop("Starts from")})
    made["Settings"] = [report.format_settings(steps[t][1]) for t in made["Trial"]]
    pasts = [[run.history["epochs"] for run in runs[title]] for title in made["Trial"]]
    last = [np.mean([past[METRIC][-1] for past in seeds]) for seeds in pasts]
    made["Training, last epoch (%)"] = [f"{100 * share:.1f}" for share in last]
    weight = next(iter(runs.values()))[0].history["settings"]["loss_weight"]
    made["Selection half"] = [
        f"{min(one['val_loss']) / weight:.3f}" for one, *_ in pasts
    ]
    report.show_table(made)
    report.show_table(table)


def compare_trials(views: dict[str, list[pd.DataFrame]], steps: dict) -> pd.DataFrame:
    """Each trial's accuracy and cross-entropy, means of its seeds, and their changes to
    what it started from (the first of its step). Intervals are over pictures; bold
    where they exclude 0 and all seeds agree on the sign.
    """
    rows = []
    for title, seeds in views.items():
        of, _ = steps[title]
        row = {"Trial": title, "Starts from": of}
        row["Accuracy (%)"] = report.format_metric(METRIC, measure.average(seeds))
        row["Cross-entropy"] = f"{cross_entropy(seeds).mean():.3f}"
        if start := views.get(of):
            pairs = [(start, seeds), *zip(start, seeds, strict=True)]
            step, *each = (measure.compare(*pair)[METRIC] for pair in pairs)
            each = [100 * change[0] for change in each]
            row["Change (points)"] = _bold(100 * np.array(step), each, 2)
            row["By seed"] = ", ".join(report.signed(change, 1) for change in each)
            each = [cross_entropy([b]) - cross_entropy([a]) for a, b in pairs[1:]]
            gain = measure.mean_interval(np.mean(each, axis=0))
            row["Change of cross-entropy"] = _bold(gain, [x.mean() for x in each], 3)
        rows.append(row)
    return pd.DataFrame(rows).fillna("")


def show_abroad(abroad: dict, framed: dict, steps: dict) -> None:
    """Show trials on foreign pictures, and what the second seed answers to known ones
    framed like them, where there are such answers.
    """
    keep = ["Accuracy (%)", "Change (points)", "By seed"]
    table = compare_trials(abroad, steps)[["Trial", *keep]]
    if framed:
        told = compare_trials(framed, steps)[keep[:2]].rename(columns=str.lower)
        table = table.join(told.add_prefix("Framed, second seed: "))
    report.show_table(table)


def cross_entropy(seeds: list[pd.DataFrame]) -> np.ndarray:
    """Binary cross-entropy of each picture, mean of several predictions: ``(n,)``."""
    pairs = [x[["gender", "gender_probability"]].to_numpy("float32") for x in seeds]
    losses = [keras.losses.binary_crossentropy(x[:, :1], x[:, 1:]) for x in pairs]
    return np.mean(losses, axis=0)


def tell_sensitivity(views: dict[str, dict[str, pd.DataFrame]], rows) -> str:
    """Sensitivity and specificity of networks (the keys) on each set but validation, at
    the threshold with 90 % specificity on validation's ``rows``, in words.
    """
    told = []
    for title, parts in views.items():
        known, *others = parts.items()
        male = known[1].loc[rows].query("gender == 0")
        bar = male["gender_probability"].quantile(0.9)
        for name, view in others:
            above = (view["gender_probability"] > bar).groupby(view["gender"]).mean()
            ends = 100 * above.reindex([1, 0]) * [1, -1] + [0, 100]
            told.append(f"{title}, {name}: " + "{:.1f} ({:.1f})".format(*ends))
    start = "With the threshold that has 90 % specificity on the selection half, "
    return f"{start}sensitivity (specificity) in %: {'; '.join(told) or 'no test set'}."


def show_errors(view: pd.DataFrame) -> None:
    """Show the share of wrong answers by gender: all, with adults' ethnicity, with age;
    and what the genders differ by. Of groups under 30, only the number of pictures.
    """
    wrong, rows = groups.errors_of(view)["gender"], []
    names = [f"{a}–{b - 1} years" for a, b in zip(BANDS, BANDS[1:], strict=False)]
    bands = pd.cut(view["age"], BANDS, right=False, labels=names)
    grown = view["ethnicity"].where(view["age"].between(18, 60))
    grown = grown.map(dict(enumerate(f"{name}, 18–60" for name in ETHNICITIES)))
    for key in (pd.Series("All", view.index), grown, bands):
        found = measure.by_group(wrong, [key, view["gender"]])
        for name, sides in found.groupby(level=0, sort=False):
            sides, row = sides.loc[name].reindex([1, 0]), {"Group": name}
            enough = sides["n"] >= groups.FEWEST
            for code, side in sides.fillna({"n": 0}).iterrows():
                told = report.with_interval(side[1:], 0) if enough[code] else "–"
                row[f"Wrong, {GENDERS[code]} (%)"] = f"{told} of {side['n']:,.0f}"
            apart = report.with_interval(groups.difference(*sides.values), 0, True)
            rows.append(row | {"Female − male": apart if enough.all() else "–"})
    none = {"Group": "no labels of ethnicity and age here"}
    report.show_table(pd.DataFrame(rows + [none] * (len(rows) == 1)).fillna("–"))
    young = view["age"] < 13
    shares = 100 * young.mean(), 100 * wrong[young].sum() / max(1, wrong.sum())
    report.say("Under 13: {:.1f} % of images, {:.1f} % of errors.".format(*shares))


def show_conditions(seen: dict[str, dict[str, pd.DataFrame]]) -> dict:
    """Show each network's accuracy under each condition, and what the improvement is
    worth there; given back is what is right (100 or 0): pictures by networks.
    """
    rows, found = [], {}
    for name, views in seen.items():
        errors = {t: groups.errors_of(view)["gender"] for t, view in views.items()}
        right = found[name] = 100 - pd.DataFrame(errors)
        told = right.apply(lambda x: report.with_interval(measure.mean_interval(x)))
        step = measure.mean_interval(_worth(right) / 100)
        told["Improved against baseline"] = report.describe_change(METRIC, step)
        rows.append({"Accuracy (%)": name} | told.to_dict())
    report.show_table(pd.DataFrame(rows))
    return found


def explain_gap(right: dict[str, pd.DataFrame]) -> str:
    """How much of what the improvement is worth abroad is framing, and age, in words.

    ``right``: as ``show_conditions`` gives it for the notebook's conditions.
    """
    means = {name: _draw(name, _worth(part)) for name, part in right.items()}
    start, end, framed = (means[name] for name in (HOME, ABROAD, FRAMED))
    gains = means[FRAMED] - start, end - means[REFRAMED]
    gap, shares = end - start, "The gap is not certain."
    if measure.ends(gap)[0] > 0:
        pair = sorted(gains, key=lambda gain: gain[0])
        pair = " and ".join(_interval(100 * gain / gap, 0) for gain in pair)
        shares = f"So framing explains between {pair} % of the gap."
    lost = [_draw(name, right[name]["Baseline"]) for name in (ADULTS, REFRAMED)]
    return (
        f"**Answer.** The improvement is worth {start[0]:.1f} points on UTKFace's test "
        f"pictures and {end[0]:.1f} on the foreign ones: a gap of {_interval(gap)}. "
        "Framing UTKFace as the foreign set makes the improvement worth "
        f"{_interval(gains[0])} points more; framing the foreign set as UTKFace makes "
        f"it worth {_interval(gains[1])} less. "
        f"{shares} What framing leaves: in UTKFace's frame, the baseline's accuracy on "
        f"foreign pictures is {_interval(lost[0] - lost[1])} points lower than on "
        "UTKFace's adults. Age: among these the improvement is worth "
        f"{means[ADULTS][0]:.1f} points, among all {start[0]:.1f}; framed as foreign, "
        f"{means['– adults, framed as foreign'][0]:.1f} and {framed[0]:.1f}."
    )


def _draw(name, values):
    """Means of resamples under a condition; those of the two sets are independent."""
    return measure.draw_means(values, measure.SEED + (name in (ABROAD, REFRAMED)))


def _worth(right):
    """By how many points the improved network is better, picture by picture."""
    return right["Improved network"] - right["Baseline"]


def _interval(drawn, digits=1):
    """A mean (first) with the interval of its resamples, in words."""
    return report.with_interval((drawn[0], *measure.ends(drawn)), digits)


def _bold(numbers, each, digits):
    """A change with its interval, bold where it and each seed are on one side of 0."""
    told = report.with_interval(numbers, digits, signs=True)
    found = [*numbers[1:], *each]
    return f"**{told}**" if min(found) > 0 or max(found) < 0 else told
