"""Build what is handed in for assignment B: one zip file with the report and the code.

    python handin.py --group 1 --students "Name, number; Name, number"

The report is made of the executed notebook, your own latest run if there is one: its
cells tagged `report`, texts, tables and figures as they stand there, without code. On
A4 it has at most four pages; where a browser is found, it is printed to a PDF too.
"""

import argparse
import copy
import html
import itertools
import pathlib
import re
import sys
import tempfile
import zipfile

import nbconvert
import nbformat

import page

ROOT = pathlib.Path(__file__).resolve().parent
NOTEBOOK = ROOT / "notebooks" / "gender_recognition.ipynb"
CODE = (  # what makes the results and the predictions; patterns below the project
    "predict.py",
    "facekit/*.py",
    "studies/*.py",
    "inference/*.py",
    "tools/vgg16.py",
    "requirements.txt",
    "constraints.txt",
    "data/README.md",
    "data/split.csv.gz",
    "data/sample/*",
    "model/utkface/gender_recognition/*",
    "model/utkface/assignment_2/mtl*",
    "model/utkface/trust.json",
)
README = (
    "report.html is the report, for A4; report.pdf, if there, is the same, printed.\n\n"
    "pip install -r requirements.txt -c constraints.txt\n"
    "jupyter lab notebooks/gender_recognition.ipynb       # all results\n"
    "python gender_recognition.py                         # the same as a script\n"
    "python tools/vgg16.py        # ImageNet's weights, to train VGG16's new layers\n"
    "python predict.py pictures/ --model gender_improved  # your own pictures\n"
)
MOST_PAGES = 4  # of the report
STYLE = """
@page { size: A4; margin: 8mm 10mm }
body { font: 8.2pt/1.07 "DejaVu Sans Condensed", "Liberation Sans", Arial, sans-serif;
  max-width: 190mm; margin: auto; columns: 2; column-gap: 5mm }
header, .celltag_wide { column-span: all }
.output_area:has(img[alt^="ROC curves and confusion"]) { column-span: all }
h1 { font-size: 15pt; margin: 0 } h2 { font-size: 11pt; margin: 1.4mm 0 .3mm }
h3 { font-size: 9.5pt; margin: 1.5mm 0 .3mm } p, ul { margin: .6mm 0 }
h2, h3 { break-after: avoid } tr, img { break-inside: avoid }
ul { padding-left: 4mm } a { color: inherit; text-decoration: none }
table { border-collapse: collapse; font-size: 7pt; margin: .8mm 0 }
th, td { border-bottom: .2mm solid #bbb; padding: 0 .8mm; text-align: left;
  line-height: 1.08 } td { white-space: nowrap }
pre { font: inherit !important; margin: 0; white-space: pre-wrap }
pre span { color: inherit !important } pre, code { overflow-wrap: anywhere }
.celltag_wide table { break-inside: avoid } .celltag_wide td { padding: 0 1.2mm }
.figure { float: left; margin-right: -9mm; position: relative; font-size: 7pt }
td:last-child { white-space: normal }
.text_cell:last-child { font-size: 6.5pt }
img { max-width: 100%; max-height: 36mm; display: block }
img[alt^="ROC curves of all"] { max-height: 42mm }
img[alt^="Cross-entropy"] { max-height: 28mm }
"""


def table_of(summary: re.Match) -> str:
    """Turn a Keras summary, drawn of lines, into a table without nested layers."""
    text = html.unescape(re.sub("<[^>]+>", "", summary[0]))
    rows, cells = [], None
    for line in text.splitlines():
        if line[:1] in ("┃", "│"):  # a long name goes on in the next line
            parts = [part.strip() for part in line[1:-1].split(line[0])]
            pairs = zip(cells or [""] * len(parts), parts, strict=True)
            cells = [before + part for before, part in pairs]
        elif cells:
            rows += [cells] * (not cells[0].startswith("└"))
            cells = None
    lines = ["".join(f"<td>{html.escape(part)}</td>" for part in row) for row in rows]
    lines[0] = lines[0].replace("td>", "th>")
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def number_sections(cells: list[nbformat.NotebookNode]) -> None:
    """Number the headings of the report from 1, and what refers to them."""
    texts = [cell for cell in cells if cell.cell_type == "markdown"]
    heads = re.findall(r"^## (\d+)", "\n".join(t.source for t in texts), re.MULTILINE)
    new = {old: str(number) for number, old in enumerate(heads, start=1)}
    refer = re.compile(r"(?<=^## )\d+|(?<=ection )\d+|(?<=ections )\d+ and \d+", re.M)
    for cell in texts:
        cell.source = refer.sub(
            lambda found: re.sub(r"\d+", lambda n: new.get(n[0], n[0]), found[0]),
            cell.source,
        )


def make_report(notebook: nbformat.NotebookNode, group: str, students: str) -> str:
    """Turn the cells tagged ``report`` into one HTML page.

    Raises ValueError if a cell of it was not run, or it has no figure or no table.
    """
    cells = copy.deepcopy(notebook.cells)
    cells = [cell for cell in cells if "report" in cell.metadata.get("tags", [])]
    if any(cell.get("execution_count", 0) is None for cell in cells):
        raise ValueError("a cell of the report was not run: run the notebook before")
    number_sections(cells)
    exporter = nbconvert.HTMLExporter(template_name="basic", embed_images=True)
    exporter.exclude_input = True
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    exporter.exclude_anchor_links = True
    body, _ = exporter.from_notebook_node(nbformat.v4.new_notebook(cells=cells))
    body = re.sub(
        "<pre[^>]*>(?:(?!</pre>)[^┏])*┏.*?</pre>", table_of, body, flags=re.DOTALL
    )
    numbers = itertools.count(1)
    body = re.sub(
        "<img", lambda _: f'<span class="figure">Fig. {next(numbers)}</span><img', body
    )
    for mark, what in (("<img", "figure"), ("<table", "table")):
        if mark not in body:
            raise ValueError(f"the report has no {what}: run the notebook before")
    names = students.strip() or "names and numbers: write them here"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Gender recognition, group {html.escape(group)}</title>"
        f"<style>{STYLE}</style></head><body>"
        "<header><h1>Gender recognition from a face</h1>"
        f"<p>Group {html.escape(group)}. {html.escape(names)}</p></header>"
        f"{body}</body></html>\n"
    )


def find_run(root: pathlib.Path = ROOT) -> pathlib.Path:
    """The user's own latest run of the notebook, else the one that comes along."""
    own = root.glob(f"logs/runs/*/{NOTEBOOK.name}")
    return max(own, key=lambda path: path.stat().st_mtime, default=NOTEBOOK)


def main(arguments: list[str] | None = None) -> int:
    """Build the zip file and say where it lies; 1 if there is no report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--group", required=True, help="number of the group")
    parser.add_argument("--students", default="", help="names and numbers")
    parser.add_argument("--notebook", type=pathlib.Path, help="default: the latest run")
    options = parser.parse_args(arguments)
    source = options.notebook or find_run()
    if not re.fullmatch(r"[\w-]+", options.group):
        parser.error("--group: letters, digits, _ and - only")
    try:
        notebook = nbformat.read(source, as_version=4)
        report = make_report(notebook, options.group, options.students)
    except (OSError, ValueError) as why:
        print(f"{source.name}: {why}", file=sys.stderr)
        return 1
    named = f"Group {options.group}. {options.students.strip()}"
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(named))
    script, _ = nbconvert.PythonExporter().from_notebook_node(notebook)
    target = pathlib.Path(f"group_{options.group}.zip")
    with (
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive,
        tempfile.TemporaryDirectory() as folder,
    ):
        draft = pathlib.Path(folder, "report.html")
        draft.write_text(report, encoding="utf-8")
        archive.write(draft, draft.name)
        printed = draft.with_suffix(".pdf")
        if page.print_page(draft, printed):
            archive.write(printed, printed.name)
            pages = len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes()))
            if pages > MOST_PAGES:
                print(f"{printed.name} has {pages} pages, {MOST_PAGES} are allowed")
        archive.writestr("README.txt", README)
        archive.writestr(f"notebooks/{NOTEBOOK.name}", nbformat.writes(notebook))
        archive.writestr(f"{NOTEBOOK.stem}.py", script)
        for path in sorted(path for pattern in CODE for path in ROOT.glob(pattern)):
            if path.is_file() and not path.name.startswith("."):
                archive.write(path, path.relative_to(ROOT))
    shipped = source == NOTEBOOK
    made_of = "the notebook that comes with the project" if shipped else f"{source}"
    print(f"{target}: report, notebook, script, code and weights, made of {made_of}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
