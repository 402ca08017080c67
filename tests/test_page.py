"""The script ``page.py``: the page that a student hands in."""

import pathlib
import re
import stat

import nbformat
import pytest
from notebook_cells import ROOT

import page

NOTEBOOKS = [ROOT / "assignment_2.ipynb", *sorted(ROOT.glob("notebooks/*.ipynb"))]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def committed(request):
    """The page of a committed notebook, and its cells."""
    notebook = nbformat.read(request.param, as_version=4)
    return page.make_page(notebook, request.param.stem), notebook.cells


def test_code_is_folded_and_headings_are_linked(committed):
    text, cells = committed
    code = [cell for cell in cells if cell.cell_type == "code" and cell.source]
    assert text.count("<details><summary>Code</summary>") == len(code)
    assert text.count("</details>") == len(code)
    assert not re.search(r"<details(?:(?!</details>).)*<img", text, re.DOTALL)
    places = re.findall(r'<h[23] id="(h\d+)">', text)
    heads = sum(
        len(re.findall("^###? ", cell.source, re.MULTILINE))
        for cell in cells
        if cell.cell_type == "markdown"
    )
    assert len(places) == heads
    linked = re.findall(r'<li class="level[23]"><a href="#(h\d+)">', text)
    assert linked == places


def test_it_is_whole_and_asks_no_other_host(committed):
    text, _ = committed
    assert len(text.encode()) < 5e6
    assert not re.search(r'<(?:link|script|img|iframe)[^>]+(?:src|href)="http', text)
    assert "@import" not in text and "url(" not in text
    assert text.count("<table") == text.count('<div class="table"><table')
    alternatives = re.findall(r'<img[^>]*?alt="([^"]*)"', text)
    assert len(alternatives) == text.count("<img") and all(alternatives)
    assert "No description" not in text


def write(path, *cells):
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)
    return path


def test_page_and_pdf_lie_beside_the_notebook(tmp_path, monkeypatch, capsys):
    cell = nbformat.v4.new_code_cell("1 + 1", execution_count=1)
    path = write(tmp_path / "done.ipynb", nbformat.v4.new_markdown_cell("# A"), cell)
    monkeypatch.setattr(page, "BROWSERS", ())
    assert page.main([str(path)]) == 0
    assert capsys.readouterr().out == f"Page: {tmp_path / 'done.html'}\n"
    browser = tmp_path / "browser"
    browser.write_text(
        "#!/bin/sh\nfor word; do case $word in\n"
        '--print-to-pdf=*) echo "$word" > "${word#*=}";;\nesac; done\n'
    )
    browser.chmod(browser.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setattr(page, "BROWSERS", ("no-such-browser", str(browser)))
    assert page.main([str(path)]) == 0
    assert f"PDF:  {tmp_path / 'done.pdf'}" in capsys.readouterr().out
    assert pathlib.Path(tmp_path / "done.pdf").exists()


@pytest.mark.parametrize("kind", ["not run", "no notebook", "not there"])
def test_what_is_no_executed_notebook_is_refused(tmp_path, capsys, kind):
    path = tmp_path / "bad.ipynb"
    if kind == "not run":
        write(path, nbformat.v4.new_code_cell("1 + 1"))
    elif kind == "no notebook":
        path.write_text("a text")
    assert page.main([str(path)]) == 1
    assert capsys.readouterr().err.startswith("bad.ipynb: ")
    assert not path.with_suffix(".html").exists()
