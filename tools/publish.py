"""What the repository ships: ``python tools/publish.py`` (maintainers).

Takes what the notebooks wrote on UTKFace. Everything is checked before anything is
overwritten; each notebook's folder is then replaced as a whole.
"""

import json
import pathlib
import re
import shutil
import sys
import tempfile

import pandas as pd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from facekit.boards import SHIPPED, find_logs
from facekit.labels import LOGS, MODELS, ROOT
from facekit.machine import duration
from facekit.measure import HEADLINE
from facekit.report import as_markdown, format_metric, results_table
from facekit.runs import Run

WEIGHTS = {  # networks whose weights are shipped, by notebook
    "assignment_2": ["mtl", *(f"run{number}" for number in range(1, 8))],
    "does_sharing_help": [],
    "who_is_it_wrong_about": [],
    "gender_recognition": ["gender_baseline", "gender_improved", "gender_mtl_transfer"],
    "two_branches": ["age_gender_A"],
    "age_subclassed": ["age_subclassed"],
}
FIRST = {  # of the README: a line for each assignment, from one row of results
    "Age, gender, ethnicity (48×48 grey)": ("assignment_2", "mtl", "test"),
    "Gender, on another data set": ("gender_recognition", "gender_improved", "foreign"),
    "Age and gender, 4,000 pictures": ("two_branches", "age_gender_A", "test"),
    "Age, custom training loop": ("age_subclassed", "age_subclassed", "test"),
}


def main(models: pathlib.Path = MODELS, readme: pathlib.Path = ROOT / "README.md"):
    """Check all notebooks' results, then publish them; exit with what is wrong."""
    problems, found = [], {}
    for notebook in WEIGHTS:
        found[notebook] = _collect(models, notebook, problems)
    text = readme.read_text(encoding="utf-8")
    problems += [
        f"{readme.name} lacks the lines <!-- {mark}:begin --> and <!-- {mark}:end -->"
        for mark in ("first", "results")
        if not re.search(_between(mark), text, re.DOTALL)
    ]
    problems += [
        f"{notebook}: no result of {model} on a set that begins with {split}"
        for notebook, model, split in FIRST.values()
        if not _rows(found[notebook][0].get("results", []), model, split)
    ]
    groups = found["who_is_it_wrong_about"][0].get("card")
    problems += ["who_is_it_wrong_about: no tables for the model card"] * (not groups)
    if problems:
        sys.exit("Nothing was published:\n" + "\n".join(problems))
    for notebook, (results, stems) in found.items():
        _replace_folder(models / "utkface" / notebook, results, stems)
    _copy_boards(found["assignment_2"][1])
    results = {name: part["results"] for name, (part, _) in found.items()}
    history = json.loads((models / "utkface/assignment_2/mtl.json").read_text())
    card = models / "utkface" / "README.md"
    card.write_text(_make_card(history, results, groups), encoding="utf-8")
    _write_readme(readme, results)
    print(f"{sum(map(len, results.values()))} rows of results are published.")


def _collect(models, notebook, problems):
    """Newest results of a notebook on UTKFace, and the files' stem of each run."""
    paths = sorted(
        models.glob(f"runs/utkface-??????/{notebook}/results.json"),
        key=lambda path: path.stat().st_mtime,
    )
    if not paths:
        problems.append(f"{notebook}: no results on UTKFace: run the notebook on it")
        return {}, {}
    results, stems = json.loads(paths[-1].read_text(encoding="utf-8")), {}
    for name in WEIGHTS[notebook]:
        if name not in results["runs"]:
            problems.append(f"{notebook}: {name} is not among its runs")
    for name, digest in results["runs"].items():
        own = paths[-1].with_name(f"{name}-{digest}")
        shipped = models / "utkface" / notebook / name
        stem = own if own.with_name(f"{own.name}.json").exists() else shipped
        stems[name] = stem
        path = stem.with_name(f"{stem.name}.json")
        history = json.loads(path.read_text()) if path.exists() else {}
        if (history.get("digest"), history.get("data")) != (digest, "utkface"):
            problems.append(f"{notebook}: the training {name} on UTKFace is not there")
        weights = stem.with_name(f"{stem.name}.keras")
        if name in WEIGHTS[notebook] and not weights.exists():
            problems.append(f"{notebook}: the weights of {name} are not there")
    return results, stems


def _rows(rows, model, split):
    """The results of a network on sets whose names begin so."""
    fits = [row for row in rows if row["model"] == model]
    return [row for row in fits if row["split"].startswith(split)]


def _replace_folder(folder, results, stems):
    """Make a notebook's shipped folder anew: nothing of former runs stays behind."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
        draft = pathlib.Path(draft)
        for name, stem in stems.items():
            longer = tuple(other for other in stems if other.startswith(f"{name}_"))
            for path in stem.parent.glob(f"{stem.name}[._]*"):
                ending = path.name.removeprefix(stem.name)
                if path.name.startswith(longer) or path.is_dir():
                    continue
                if ending != ".keras" or name in WEIGHTS[folder.name]:
                    shutil.copyfile(path, draft / f"{name}{ending}")
        looks = [folder / "test_looks.csv"]
        looks += {stem.with_name("test_looks.csv") for stem in stems.values()}
        tables = [pd.read_csv(path) for path in dict.fromkeys(looks) if path.exists()]
        if tables:
            table = pd.concat(tables).drop_duplicates()
            table = table.sort_values("date", kind="stable")
            table.to_csv(draft / "test_looks.csv", index=False)
        text = json.dumps(results, indent=1) + "\n"
        (draft / "results.json").write_text(text, encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        shutil.copytree(draft, folder)


def _copy_boards(stems):
    """Ship TensorBoard's files of the eight runs, without the machine's name.

    Of a run that is shipped already its notebook wrote results anew, but no curves.
    """
    for name, board in SHIPPED.items():
        source = find_logs(Run(name, stems[name], {}))
        for folder in (source, source / "train", source / "validation"):
            target = LOGS / "utkface" / board / folder.relative_to(source)
            for path in folder.glob("events.out.tfevents.*"):
                *start, ending = path.name.split(".")  # .v2, or .graph
                target.mkdir(parents=True, exist_ok=True)
                for former in target.glob(f"*.{ending}"):
                    former.unlink()
                shutil.copyfile(path, target / ".".join([*start[:4], ending]))


def _make_card(history, results, groups):
    """The model card of the main network, and what else is shipped.

    ``groups``: by heading, the tables of ``who_is_it_wrong_about.ipynb``.
    """
    tested = [
        (notebook, row)
        for notebook, rows in results.items()
        for row in rows
        if row["model"] in WEIGHTS[notebook] and "test" in row["split"]
    ]
    main_rows = [row for _, row in tested if row["model"] == "mtl"]
    others = [row for notebook, row in tested if notebook != "assignment_2"]
    trust = json.loads((MODELS / "utkface/trust.json").read_text(encoding="utf-8"))
    trust = trust["networks"]["mtl"]
    template = pathlib.Path(__file__).with_name("model_card.md")
    return template.read_text(encoding="utf-8").format(
        **history,
        count=len(history["epochs"]["loss"]),
        softened=f"{100 * (history['settings'].get('soft_labels') or 0):.0f} %",
        time=duration(history["seconds"]),
        results=as_markdown(results_table(main_rows)),
        groups="\n\n".join(f"### {name}\n\n{part}" for name, part in groups.items()),
        detail=as_markdown(_by_detail(trust["check"])),
        least=trust["least_pixels"],
        others=as_markdown(results_table(others)),
    )


def _by_detail(check):
    """A network's errors on blurred and shrunk pictures, as `fit_trust.py` found."""
    table = pd.DataFrame(check).T
    shown = {"age": "Age error (years)", "gender": "Gender errors (%)"}
    shown |= {"ethnicity": "Ethnicity errors (%)", "coverage": "In the interval (%)"}
    shown |= {"width": "Its width (years)", "warned": "Warned of (%)"}
    shares = [key for key, heading in shown.items() if heading.endswith("(%)")]
    table[shares] *= 100
    table = table[[*shown]].map("{:.1f}".format).rename(columns=shown)
    return table.reset_index(names="Pictures (blur: pixels of 200)")


def _write_readme(readme, results):
    """Renew the README's two tables: a line per assignment, and test results.

    Trials have their table in their notebook.
    """
    first = []
    for title, (notebook, model, split) in FIRST.items():
        row = _rows(results[notebook], model, split)[0]
        first.append([title, *(format_metric(key, row, unit=True) for key in HEADLINE)])
    heading = ["On test pictures", "Age: MAE", "Gender", "Ethnicity"]
    first = as_markdown(pd.DataFrame(first, columns=heading))
    tables = []
    for notebook, rows in results.items():
        tested = [row for row in rows if "test" in row["split"]]
        if tested := [row for row in tested if not row["title"].startswith("Trial")]:
            tables.append(
                f"**{notebook}.ipynb**\n\n{as_markdown(results_table(tested))}"
            )
    text = readme.read_text(encoding="utf-8")
    for mark, part in (("first", first), ("results", "\n\n".join(tables))):
        new = f"<!-- {mark}:begin -->\n{part}\n<!-- {mark}:end -->"
        text = re.sub(_between(mark), lambda _, new=new: new, text, flags=re.DOTALL)
    readme.write_text(text, encoding="utf-8")


def _between(mark):
    """Pattern of what stands between two marks of a file, the marks included."""
    return f"<!-- {mark}:begin -->.*<!-- {mark}:end -->"


if __name__ == "__main__":
    main()
