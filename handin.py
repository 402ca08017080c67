"""Build what is handed in for assignment B: one zip file with the report and the code.

    python handin.py --group 1 --students "Name, number; Name, number"

The report is made from the executed notebook: its cells tagged `report`, texts, tables
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
NOTEBOOK = "assignment_2.ipynb"
CODE = (  # what makes the results and the predictions; patterns below the project
    "predict.py",
    "requirements.txt",
    "constraints.txt",
    "data/README.md",
    "data/split.csv.gz",
    "data/sample/face_model.npz",
    "model/utkface/mtl*",
    "model/utkface/gender_*",
)
STYLE = """
@page { size: A4; margin: 12mm }
body { font: 8.5pt/1.3 sans-serif; max-width: 186mm; margin: auto }
h1 { font-size: 14pt; margin: 0 } h2 { font-size: 11pt; margin: 2mm 0 1mm }
h3 { font-size: 9.5pt; margin: 1.5mm 0 .5mm } p, ul { margin: .8mm 0 }
table { border-collapse: collapse; font-size: 7pt; margin: 1mm 0 }
th, td { border-bottom: .2mm solid #bbb; padding: .3mm 1.2mm; text-align: left }
img { max-width: 100%; max-height: 42mm } a { color: inherit; text-decoration: none }
"""


def report_cells(notebook):
    """Choose what the report shows.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        Executed.

    Returns
    -------
    nbformat.NotebookNode
        Its cells tagged ``report``.

    Raises
    ------
    ValueError
        If there are none, or one was not executed.
    """
    cells = [c for c in notebook.cells if "report" in c.metadata.get("tags", [])]
    if not cells:
        raise ValueError("no cell of the notebook is tagged 'report'")
    if any(cell.get("execution_count", 0) is None for cell in cells):
        raise ValueError("a cell of the report was not run: run the notebook before")
    return nbformat.v4.new_notebook(cells=cells)


def make_report(notebook, group, students):
    """Write the report.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        Executed.
    group : str
    students : str
        Their names and numbers.

    Returns
    -------
    str
        HTML, complete in itself.
    """
    exporter = nbconvert.HTMLExporter(template_name="basic", embed_images=True)
    exporter.exclude_input = True
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    exporter.exclude_anchor_links = True
    body, _ = exporter.from_notebook_node(report_cells(notebook))
    names = students.strip() or "names and numbers: write them here"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Gender recognition, group {html.escape(group)}</title>"
        f"<style>{STYLE}</style></head><body>"
        "<h1>Gender recognition from faces</h1>"
        f"<p>Group {html.escape(group)}. {html.escape(names)}</p>{body}</body></html>\n"
    )


def main(arguments=None):
    """Build the zip file and say where it lies."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--group", required=True, help="number of the group")
    parser.add_argument("--students", default="", help="names and numbers")
    parser.add_argument("--notebook", default=str(ROOT / NOTEBOOK), help="executed")
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[\w-]+", options.group):
        parser.error("--group: letters, digits, _ and - only")
    try:
        report = make_report(
            nbformat.read(options.notebook, as_version=4),
            options.group,
            options.students,
        )
    except (OSError, ValueError) as why:
        print(f"{options.notebook}: {why}", file=sys.stderr)
        return 1
    target = pathlib.Path(f"handin_group_{options.group}.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("report.html", report)
        archive.write(options.notebook, NOTEBOOK)
        for path in sorted(path for pattern in CODE for path in ROOT.glob(pattern)):
            archive.write(path, path.relative_to(ROOT))
    print(f"{target}: the report, {NOTEBOOK} with its outputs, predict.py and weights")
    return 0


if __name__ == "__main__":
    sys.exit(main())
