"""Build what is handed in for assignment B: one zip file with the report and the code.

    python handin.py --group 1 --students "Name, number; Name, number"

The report is made of the executed notebook: its cells tagged `report`, texts, tables
and figures as they stand there, without code. On A4 it has at most four pages.
"""

import argparse
import html
import pathlib
import re
import sys
import zipfile

import nbconvert
import nbformat

ROOT = pathlib.Path(__file__).resolve().parent
NOTEBOOK = ROOT / "notebooks" / "gender_recognition.ipynb"
CODE = (  # what makes the results and the predictions; patterns below the project
    "predict.py",
    "facekit/*.py",
    "requirements.txt",
    "constraints.txt",
    "data/README.md",
    "data/split.csv.gz",
    "data/sample/*",
    "model/utkface/gender_recognition/*",
    "model/utkface/assignment_2/mtl*",
)
STYLE = """
@page { size: A4; margin: 10mm }
body { font: 7.6pt/1.2 sans-serif; max-width: 188mm; margin: auto }
h1 { font-size: 14pt; margin: 0 } h2 { font-size: 11pt; margin: 2mm 0 .5mm }
h3 { font-size: 9pt; margin: 1mm 0 .5mm } p, ul { margin: .6mm 0 }
table { border-collapse: collapse; font-size: 6.5pt; margin: .8mm 0 }
th, td { border-bottom: .2mm solid #bbb; padding: .1mm 1mm; text-align: left }
pre { font: 5pt/1 monospace; margin: 0; columns: 2 }
img { max-width: 100%; max-height: 33mm } a { color: inherit; text-decoration: none }
"""


def make_report(notebook: nbformat.NotebookNode, group: str, students: str) -> str:
    """Turn the cells tagged ``report`` into one HTML page.

    Raises ValueError if a cell of it was not run, or it has no figure or no table.
    """
    cells = [c for c in notebook.cells if "report" in c.metadata.get("tags", [])]
    if any(cell.get("execution_count", 0) is None for cell in cells):
        raise ValueError("a cell of the report was not run: run the notebook before")
    exporter = nbconvert.HTMLExporter(template_name="basic", embed_images=True)
    exporter.exclude_input = True
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    exporter.exclude_anchor_links = True
    body, _ = exporter.from_notebook_node(nbformat.v4.new_notebook(cells=cells))
    for mark, what in (("<img", "figure"), ("<table", "table")):
        if mark not in body:
            raise ValueError(f"the report has no {what}: run the notebook before")
    names = students.strip() or "names and numbers: write them here"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Gender recognition, group {html.escape(group)}</title>"
        f"<style>{STYLE}</style></head><body>"
        "<h1>Gender recognition from faces</h1>"
        f"<p>Group {html.escape(group)}. {html.escape(names)}</p>{body}</body></html>\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Build the zip file and say where it lies; 1 if there is no report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--group", required=True, help="number of the group")
    parser.add_argument("--students", default="", help="names and numbers")
    parser.add_argument("--notebook", default=NOTEBOOK, type=pathlib.Path)
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[\w-]+", options.group):
        parser.error("--group: letters, digits, _ and - only")
    try:
        notebook = nbformat.read(options.notebook, as_version=4)
        report = make_report(notebook, options.group, options.students)
    except (OSError, ValueError) as why:
        print(f"{options.notebook.name}: {why}", file=sys.stderr)
        return 1
    script, _ = nbconvert.PythonExporter().from_notebook_node(notebook)
    target = pathlib.Path(f"group_{options.group}.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("report.html", report)
        archive.write(options.notebook, f"notebooks/{NOTEBOOK.name}")
        archive.writestr(f"{NOTEBOOK.stem}.py", script)
        for path in sorted(path for pattern in CODE for path in ROOT.glob(pattern)):
            if path.is_file():
                archive.write(path, path.relative_to(ROOT))
    print(f"{target}: the report, the notebook with its script, facekit and weights")
    return 0


if __name__ == "__main__":
    sys.exit(main())
