"""Build what is handed in for assignment B: one zip file with the report and the code.

    python handin.py --group 1 --student "Name, number" --student "Name, number"

The report is made from the executed notebook: its cells tagged `report`, texts, tables and
figures as they stand there, without code. It has at most four pages of A4 when printed.
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
CODE = ("assignment_2.ipynb", "predict.py", "requirements.txt", "constraints.txt")
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
    if any(cell.cell_type == "code" and not cell.outputs for cell in cells):
        raise ValueError("a cell of the report has no output: run the notebook before")
    return nbformat.v4.new_notebook(cells=cells)


def make_report(notebook, group, students):
    """Write the report.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        Executed.
    group : str
    students : sequence of str

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
    names = "; ".join(students) or "names and numbers: write them here"
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
    parser.add_argument("--student", action="append", default=[], help="name, number")
    parser.add_argument("--notebook", default=str(ROOT / CODE[0]), help="executed")
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[\w-]+", options.group):
        parser.error("--group: letters, digits, _ and - only")
    try:
        report = make_report(
            nbformat.read(options.notebook, as_version=4),
            options.group,
            options.student,
        )
    except (OSError, ValueError) as why:
        print(f"{options.notebook}: {why}", file=sys.stderr)
        return 1
    target = pathlib.Path(f"group_{options.group}.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"group_{options.group}_report.html", report)
        for name in CODE:
            path = pathlib.Path(options.notebook) if name == CODE[0] else ROOT / name
            archive.write(path, name)
    print(f"{target}: the report and {', '.join(CODE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
