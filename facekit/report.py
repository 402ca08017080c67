"""Tables and sentences: figures written for people, in the same way everywhere."""

import dataclasses
import json
import math
import pathlib
import re

import IPython.display
import matplotlib.pyplot as plt
import pandas as pd

from facekit.machine import duration
from facekit.measure import HEADLINE, evaluate
from facekit.places import whole
from facekit.runs import Run, Store


@dataclasses.dataclass(frozen=True)
class Metric:
    """How a metric is written: ``factor`` turns what is computed into ``unit``."""

    task: str
    name: str
    unit: str = "%"
    factor: float = 100
    digits: int = 1
    lower_is_better: bool = False

    @property
    def axis(self) -> str:
        """Such as ``"MAE (years)"``."""
        return f"{self.name}{f' ({self.unit})' * bool(self.unit)}"

    @property
    def title(self) -> str:
        """Such as ``"Age: MAE (years)"``."""
        return f"{self.task}: {self.axis}"


METRICS = {
    "age_mae": Metric("Age", "MAE", "years", 1, 2, True),
    "age_rmse": Metric("Age", "RMSE", "years", 1, 2, True),
    "age_within_5": Metric("Age", "within 5 years"),
    "age_within_10": Metric("Age", "within 10 years"),
    "gender_accuracy": Metric("Gender", "accuracy"),
    "gender_sensitivity": Metric("Gender", "sensitivity"),
    "gender_specificity": Metric("Gender", "specificity"),
    "gender_f1": Metric("Gender", "F1"),
    "gender_auc": Metric("Gender", "AUC", "", 1, 3),
    "ethnicity_accuracy": Metric("Ethnicity", "accuracy"),
    "ethnicity_macro_f1": Metric("Ethnicity", "macro F1"),
}


def as_markdown(frame: pd.DataFrame) -> str:
    """A table as markdown, the same under every version of tabulate."""
    aligned = ["right" if kind.kind in "iuf" else "left" for kind in frame.dtypes]
    aligned = aligned if len(frame) else None  # tabulate aligns no empty table
    return frame.to_markdown(index=False, colalign=aligned, disable_numparse=True)


def show_table(frame: pd.DataFrame) -> None:
    """Show a table as markdown, which renders wherever the notebook does."""
    say(as_markdown(frame))


def say(text: str) -> None:
    """Show a computed sentence, in markdown; a plain script prints it."""
    if IPython.get_ipython():
        IPython.display.display(IPython.display.Markdown(text))
    else:
        print(text, end="\n\n")


def show_figure(figure: plt.Figure, alt: str) -> None:
    """Show a figure once, with its alternative text, and free its memory.

    A plain script writes it into ``figures/`` and prints its name.
    """
    figure.set_label(alt)
    if IPython.get_ipython():
        IPython.display.display(figure, metadata={"image/png": {"alt": alt}})
    else:
        path = pathlib.Path("figures", re.sub(r"\W+", "_", alt)[:80] + ".png")
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, dpi=150)
        print(f"Figure: {path}", end="\n\n")
    plt.close(figure)


def format_metric(metric: str, figures: dict, unit: bool = False) -> str:
    """A metric with its interval, such as ``"5.04 years (4.90–5.19)"``."""
    if math.isnan(figures.get(metric, math.nan)):
        return "–"
    told = METRICS[metric]
    ends = (figures[metric], *figures[f"{metric}_ci95"])
    value, low, high = (f"{told.factor * end:.{told.digits}f}" for end in ends)
    return f"{value}{f' {told.unit}' * bool(unit and told.unit)} ({low}–{high})"


def headline(figures: dict, unit: bool = False) -> dict[str, str]:
    """The metric of each task that there is, by its title."""
    keys = [key for key in HEADLINE if key in figures]
    return {METRICS[key].title: format_metric(key, figures, unit) for key in keys}


def metrics_table(results: dict[str, dict]) -> pd.DataFrame:
    """What ``evaluate`` gives for several sets or networks, side by side."""
    metrics = [key for key in METRICS if any(key in row for row in results.values())]
    table = {"Metric": ["Images", *(METRICS[key].title for key in metrics)]}
    for heading, row in results.items():
        figures = [format_metric(key, row) for key in metrics]
        table[heading] = [f"{row['n']:,}", *figures]
    return pd.DataFrame(table)


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, zero without one."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if float(f"{value:.{digits}f}") else text[1:]


def with_interval(numbers, digits: int = 1, signs: bool = False) -> str:
    """A mean and the ends of its interval: ``"5.0 (4.9–5.2)"``, or with their signs:
    ``"+0.3 (−0.1 to +0.7)"``.
    """
    ends = [round(number, digits) + 0.0 for number in numbers]
    told = [signed(end, digits) for end in ends]
    mean, low, high = told if signs else [text.lstrip("+") for text in told]
    return f"{mean} ({low}{' to ' if signs or ends[1] < 0 else '–'}{high})"


def verdict(metric: str, change: tuple[float, float, float]) -> str:
    """``"better"``, ``"worse"``, or ``"no difference found"`` if the interval has 0."""
    value, low, high = change
    if not (low > 0 or high < 0):
        return "no difference found"
    return "better" if (value < 0) == METRICS[metric].lower_is_better else "worse"


def describe_change(metric: str, change: tuple[float, float, float]) -> str:
    """A difference with interval, such as ``"better by 0.84 years (0.62 to 1.06)"``, or
    ``"no difference found: 0.10 years better (0.32 better to 0.11 worse)"``.
    """
    told, found = METRICS[metric], verdict(metric, change)
    unit = {"%": " points", "": ""}.get(told.unit, f" {told.unit}")
    ends = [told.factor * end for end in change]
    digits = 2
    while digits < 4 and any(end and not round(end, digits) for end in ends):
        digits += 1  # 0.00 beside a verdict would contradict it
    value, *both = (f"{abs(end):.{digits}f}" for end in ends)
    if found != "no difference found":
        return f"{found} by {value}{unit} ({' to '.join(sorted(both, key=float))})"
    better = [end * (-1 if told.lower_is_better else 1) for end in ends]
    now, *sides = (" better" * (x > 0) + " worse" * (x < 0) for x in better)
    low, high = map("".join, zip(both, sides, strict=True))
    return f"{found}: {value}{unit}{now} ({low} to {high})"


def describe_changes(changes: dict[str, tuple]) -> str:
    """What a comparison shows, task by task, in one line."""
    told = _describe_by_task(changes)
    return "; ".join(f"{task.lower()}: {text}" for task, text in told.items())


def changes_table(steps: dict[str, dict[str, tuple]], name="Step") -> pd.DataFrame:
    """What several comparisons show, a row each, a column for each task."""
    rows = [{name: step} | _describe_by_task(found) for step, found in steps.items()]
    return pd.DataFrame(rows)


def _describe_by_task(changes):
    """What a comparison shows, in words, for each task."""
    return {METRICS[key].task: describe_change(key, changes[key]) for key in changes}


def format_setting(value) -> str:
    """A hyperparameter for people: three digits, no brackets, "–" for None."""
    if value is None or isinstance(value, bool):
        return {None: "–", False: "no", True: "yes"}[value]
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def format_settings(settings: dict) -> str:
    """Several hyperparameters in one line, such as ``"share 0.333; epochs 12"``."""
    told = {key.replace("_", " "): format_setting(v) for key, v in settings.items()}
    return "; ".join(f"{key} {value}" for key, value in told.items())


def training_time(history: dict) -> str:
    """How long a training took and on how many cores: ``"18.0 min on 2 cores"``."""
    return f"{duration(history['seconds'])} on {history['hardware'].split(',')[0]}"


def result_row(run: Run, title: str, split: str, predictions: pd.DataFrame) -> dict:
    """One row of ``results.json``: a network on a set, with what its training cost."""
    history = run.history
    return {
        "model": run.name,
        "title": title,
        "data": history["data"],
        "split": split,
        "parameters": history["parameters"],
        "train_images": history["images"],
        "epochs": len(history["epochs"]["loss"]),
        "train_seconds": history["seconds"],
        "hardware": f"{history['hardware']}, {history['precision']}",
        "seed": history["settings"]["seed"],
        "diverged": history.get("diverged", False),
    } | evaluate(predictions)


def results_table(results: list[dict]) -> pd.DataFrame:
    """Rows of ``results.json`` as a table for people."""
    given = pd.DataFrame(results, columns=["title", "split", "parameters"])
    sets = given["split"].str.replace("_", " ").str.replace("val", "validation")
    table = {"Network": given["title"], "Set": sets}
    table["Images"] = [f"{row['n']:,}" for row in results]
    for key in HEADLINE:
        if any(key in row for row in results):
            table[METRICS[key].title] = [format_metric(key, row) for row in results]
    table["Parameters"] = (given["parameters"] / 1e6).map("{:.2f} M".format)
    table["Training"] = [
        f"{row['epochs']} epochs, {duration(row['train_seconds'])}, "
        + row["hardware"].rpartition(", ")[2].removeprefix("mixed_")
        + ", diverged" * row.get("diverged", False)
        for row in results
    ]
    return pd.DataFrame(table)


def read_lab_log(path: pathlib.Path) -> pd.DataFrame:
    """Runs of the lab log's tables, by name: ``prediction`` and ``HEADLINE`` (in %)."""
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 6 and re.fullmatch(r"[\d.]+ / [\d.]+ / [\d.]+", cells[3]):
            found = map(float, cells[3].split(" / "))
            row = {"prediction": cells[2]} | dict(zip(HEADLINE, found, strict=True))
            rows[cells[0].replace("`", "")] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def write_results(
    store: Store,
    runs: list[Run],
    rows: list[dict],
    intervals: dict | None = None,
    card: dict[str, str] | None = None,
) -> str:
    """Keep a notebook's results where ``tools/publish.py`` finds them; say how many.

    ``intervals``: by network, what ``fit_age_intervals`` gives; for ``predict.py``.
    ``card``: by heading, tables in markdown for the model card.
    """
    told = {
        "data": store.data.name,
        "runs": {run.name: run.history["digest"] for run in runs},
        "age_intervals": intervals or {},
        "results": rows,
    } | ({"card": card} if card else {})
    with whole(store.folder / "results.json") as path:
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    place = store.folder.relative_to(store.models.parent).as_posix()
    return f"{len(rows)} rows of results are in `{place}/results.json`."
