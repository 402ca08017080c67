"""Turn an executed notebook into one HTML page to hand in, and into a PDF.

    python page.py logs/runs/2026-01-31_12-00-00/assignment_2.ipynb

The page has a table of contents, code folded behind a button, and asks no other host
for anything. The PDF needs Chrome, Chromium or Edge; where none is found, only the page
is written: any browser can print it.
"""

import argparse
import html
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import nbconvert
import nbformat
import pygments.formatters

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
STYLE = """
body { font: 16px/1.45 "DejaVu Sans", "Segoe UI", Helvetica, Arial, sans-serif;
  max-width: 62rem; margin: 0 auto; padding: 1rem; color: #1a1a1a }
h1 { font-size: 1.7rem } h2 { font-size: 1.35rem; margin-top: 2.2rem }
h3 { font-size: 1.1rem }
nav ul { list-style: none; padding-left: 0 } nav li.level3 { padding-left: 1.5rem }
a { color: #005a9c } img, svg { max-width: 100%; height: auto }
.table { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem }
th, td { border-bottom: 1px solid #bbb; padding: .2rem .5rem; text-align: left }
pre { overflow-x: auto; font-size: .8rem; line-height: 1.3 }
details { margin: .4rem 0 } summary { cursor: pointer; color: #555; font-size: .85rem }
details pre { background: #f6f6f6; padding: .5rem }
button { font: inherit; padding: .2rem .8rem }
@page { size: A4; margin: 14mm 12mm }
@media print { button, summary { display: none }
  body { font-size: 10pt; max-width: none; padding: 0 }
  table { font-size: 7pt } th, td { padding: .1rem .25rem }
  .table, pre { overflow: visible } pre { white-space: pre-wrap; font-size: 7pt }
  tr, img { break-inside: avoid } h2, h3 { break-after: avoid } }
"""
SCRIPT = """
const button = document.querySelector("button");
button.onclick = () => {
  const parts = [...document.querySelectorAll("details")];
  const open = parts.some(part => !part.open);
  parts.forEach(part => { part.open = open });
  button.textContent = open ? "Hide all code" : "Show all code";
};
"""


def make_page(notebook: nbformat.NotebookNode, name: str) -> str:
    """Give the page of an executed notebook.

    Raises ValueError if it was not run.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not any(cell.execution_count for cell in cells):
        raise ValueError("it was not run: run it from the first to the last cell")
    exporter = nbconvert.HTMLExporter(template_name="basic", embed_images=True)
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    exporter.exclude_anchor_links = True
    body, _ = exporter.from_notebook_node(notebook)
    code = r'<div class="input">.*?</pre></div>\s*</div>\s*</div>\s*</div>'
    folded = r"<details><summary>Code</summary>\g<0></details>"
    body = re.sub(code, folded, body, flags=re.DOTALL)
    body = body.replace("<table", '<div class="table"><table')
    body = body.replace("</table>", "</table></div>")
    links = []

    def number(heading):
        level, text = heading[1], heading[2]
        links.append(
            f'<li class="level{level}"><a href="#h{len(links)}">{text}</a></li>'
        )
        return f'<h{level} id="h{len(links) - 1}">{text}</h{level}>'

    body = re.sub(r"<h([23])>(.*?)</h\1>", number, body, flags=re.DOTALL)
    contents = f"<nav><h2>Contents</h2><ul>{''.join(links)}</ul></nav>"
    button = "<p><button>Show all code</button></p>"
    body = body.replace("</h1>", f"</h1>{button}{contents}", 1)
    colours = pygments.formatters.HtmlFormatter().get_style_defs(".highlight")
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(name)}</title><style>{colours}{STYLE}</style></head>"
        f"<body>{body}<script>{SCRIPT}</script></body></html>\n"
    )


def print_page(page: pathlib.Path, target: pathlib.Path) -> bool:
    """Print a page to a PDF by the first browser that is found; tell whether it did."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        return False
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--disable-gpu", "--no-pdf-header-footer"]
        options += [f"--user-data-dir={profile}", f"--print-to-pdf={target}"]
        if sys.platform == "linux":
            options.append("--no-sandbox")  # containers have none
        command = [browser, *options, page.resolve().as_uri()]
        subprocess.run(command, capture_output=True, timeout=120, check=False)
    return target.exists()


def main(arguments: list[str] | None = None) -> int:
    """Write page and PDF beside the notebook and name them; 1 if there is none."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("notebook", type=pathlib.Path, help="an executed notebook")
    path = parser.parse_args(arguments).notebook
    try:
        page = make_page(nbformat.read(path, as_version=4), path.stem)
    except (OSError, ValueError) as why:
        print(f"{path.name}: {why}", file=sys.stderr)
        return 1
    target = path.with_suffix(".html")
    target.write_text(page, encoding="utf-8")
    print(f"Page: {target}")
    if print_page(target, path.with_suffix(".pdf")):
        print(f"PDF:  {path.with_suffix('.pdf')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
