"""The script ``handin.py``: assignment B's zip file."""

import ast
import os
import re
import shutil
import zipfile

import nbformat
import pytest

import handin

TABLE = {"text/markdown": "| Accuracy |\n|:--|\n| 93.1 |"}
FIGURE = {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"}


def markdown(text, tags=("report",)):
    return nbformat.v4.new_markdown_cell(text, metadata={"tags": list(tags)})


def code(source, *shown, tags=("report",)):
    outputs = [nbformat.v4.new_output("display_data", data=data) for data in shown]
    metadata = {"tags": list(tags)}
    cell = nbformat.v4.new_code_cell(source, metadata=metadata, outputs=outputs)
    cell.execution_count = 1 if outputs else None
    return cell


SUMMARY = """<pre style="x">Model: "small"
</pre>
<pre style="x">┏━━━━━━━━━━━┳━━━━━━━━━━┓
┃<b> Layer     </b>┃<b>  Param # </b>┃
┡━━━━━━━━━━━╇━━━━━━━━━━┩
│ a_layer_w │      448 │
│ ith_a_nam │          │
├───────────┼──────────┤
│   └ conv1 │      100 │
├───────────┼──────────┤
│ out (<i>Den</i>) │       65 │
└───────────┴──────────┘
</pre>
<pre style="x"> Total params: 513
</pre>"""


def write(path, *cells):
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)
    return path


@pytest.fixture
def executed(tmp_path):
    """Write a notebook of a few cells that was executed."""
    return write(
        tmp_path / "executed.ipynb",
        markdown("## Gender"),
        markdown("what is not in the report", tags=()),
        code("secret = 'source code'", TABLE, FIGURE),
    )


def test_the_zip_holds_report_code_and_weights(executed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["--group", "7", "--notebook", str(executed)]
    assert handin.main([*arguments, "--students", "A <b>, 12; C, 34"]) == 0
    with zipfile.ZipFile("group_7.zip") as archive:
        names = set(archive.namelist())
        report = archive.read("report.html").decode()
        script = archive.read("gender_recognition.py").decode()
        notebook = archive.read("notebooks/gender_recognition.ipynb")
    first, *rest = nbformat.reads(notebook.decode(), as_version=4).cells
    assert first.source == "Group 7. A <b>, 12; C, 34"
    assert [cell.source for cell in rest] == [
        cell.source for cell in nbformat.read(executed, as_version=4).cells
    ]
    assert {"predict.py", "requirements.txt", "constraints.txt"} <= names
    assert "tools/vgg16.py" in names
    assert {"facekit/__init__.py", "data/README.md", "data/split.csv.gz"} <= names
    weights = ("gender_recognition/gender_improved", "assignment_2/mtl")
    assert {f"model/utkface/{name}.keras" for name in weights} <= names
    assert any(name.startswith("data/sample/") for name in names)
    assert not any(name.startswith(("/", "..")) for name in names)
    assert "secret = 'source code'" in script and ast.parse(script)
    assert "Group 7. A &lt;b&gt;, 12; C, 34" in report
    assert "93.1" in report and "Gender" in report
    assert report.count("Fig. 1</span><img") == 1 and "Fig. 2" not in report
    assert "source code" not in report and "not in the report" not in report
    assert "group_7.zip" in capsys.readouterr().out


def test_the_latest_own_run_is_taken_and_named(executed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert handin.find_run(tmp_path) == handin.NOTEBOOK
    runs = [tmp_path / f"logs/runs/{day}/gender_recognition.ipynb" for day in "123"]
    for path, when in zip(runs, (5, 9, 7), strict=True):
        path.parent.mkdir(parents=True)
        shutil.copy(executed, path)
        os.utime(path, (when, when))
    assert handin.find_run(tmp_path) == runs[1]
    monkeypatch.setattr(handin, "find_run", lambda: runs[1])
    assert handin.main(["--group", "7"]) == 0
    assert f"made of {runs[1]}" in capsys.readouterr().out


@pytest.mark.skipif(
    not any(map(shutil.which, handin.page.BROWSERS)), reason="no Chrome or Chromium"
)
def test_the_report_prints_to_four_pages(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert handin.main(["--group", "1", "--notebook", str(handin.NOTEBOOK)]) == 0
    assert "are allowed" not in capsys.readouterr().out
    with zipfile.ZipFile("group_1.zip") as archive:
        pages = re.findall(rb"/Type\s*/Page\b", archive.read("report.pdf"))
    assert 1 < len(pages) <= 4


def test_a_report_that_is_too_long_says_so(executed, tmp_path, monkeypatch, capsys):
    def print_page(source, target):
        target.write_bytes(b"<< /Type /Pages >> " + b"<< /Type /Page >> " * 5)
        return True

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(handin.page, "print_page", print_page)
    assert handin.main(["--group", "1", "--notebook", str(executed)]) == 0
    told = capsys.readouterr().out
    assert "report.pdf has 5 pages, 4 are allowed" in told


def test_a_summary_of_a_network_becomes_a_table(executed):
    notebook = nbformat.read(executed, as_version=4)
    shown = {"text/html": SUMMARY}
    notebook.cells.append(code("model.summary()", shown))
    report = handin.make_report(notebook, "1", "")
    assert "<tr><th>Layer</th><th>Param #</th></tr>" in report
    assert "<tr><td>a_layer_with_a_nam</td><td>448</td></tr>" in report
    assert "<tr><td>out (Den)</td><td>65</td></tr></table>" in report
    assert 'Model: "small"' in report and "Total params: 513" in report
    assert not set("┃│└") & set(report) and "conv1" not in report


def test_sections_of_the_report_are_numbered_from_one():
    cells = [
        markdown("## 3 Baseline\n\nsee section 7, sections 3 and 7"),
        markdown("## 7 Best\n\nSection 3, and section 11 of the notebook"),
    ]
    handin.number_sections(cells)
    assert cells[0].source == "## 1 Baseline\n\nsee section 2, sections 1 and 2"
    assert cells[1].source == "## 2 Best\n\nSection 1, and section 11 of the notebook"


def test_without_students_the_place_for_them_is_shown(executed):
    report = handin.make_report(nbformat.read(executed, as_version=4), "1", "")
    assert "write them here" in report


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([markdown("text", tags=())], "has no figure"),
        ([markdown("text"), code("x", TABLE)], "has no figure"),
        ([markdown("text"), code("x", FIGURE)], "has no table"),
        ([code("x", TABLE, FIGURE), code("y")], "was not run"),
    ],
)
def test_a_report_without_results_is_refused(cells, message, tmp_path, capsys):
    path = write(tmp_path / "bare.ipynb", *cells)
    assert handin.main(["--group", "1", "--notebook", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("bare.ipynb: ") and message in said
    assert not list(tmp_path.glob("*.zip"))


@pytest.mark.parametrize("group", ["", "../1", "a b"])
def test_a_group_that_is_no_name_of_a_file_is_refused(group, capsys):
    with pytest.raises(SystemExit) as ended:
        handin.main(["--group", group])
    assert ended.value.code == 2 and "--group" in capsys.readouterr().err


def test_the_committed_notebook_has_what_the_report_asks_for():
    notebook = nbformat.read(handin.NOTEBOOK, as_version=4)
    report = handin.make_report(notebook, "1", "")
    for word in ("Levi", "Yaman", "Yang", "Xu", "Dropout", "optimizer", "stride"):
        assert word in report
    assert "two labels" in report.lower() and report.count("<img") >= 7
    assert "shared_conv1_1" in report and "┏" not in report
    sections = set(re.findall(r"[Ss]ections? (\d+)", report))
    assert sections <= set(re.findall(r"<h2[^>]*>(\d+) ", report))
    assert "Traceback" not in report and "Error" not in report
