"""The script ``handin.py``: assignment B's zip file."""

import zipfile

import nbformat
import pytest
from notebook_cells import NOTEBOOK

import handin


def markdown(text, tags=("report",)):
    return nbformat.v4.new_markdown_cell(text, metadata={"tags": list(tags)})


def code(source, shown=None, tags=("report",)):
    outputs = []
    if shown is not None:
        data = {"text/markdown": shown}
        outputs = [nbformat.v4.new_output("display_data", data=data)]
    metadata = {"tags": list(tags)}
    cell = nbformat.v4.new_code_cell(source, metadata=metadata, outputs=outputs)
    cell.execution_count = 1 if outputs else None
    return cell


@pytest.fixture
def executed(tmp_path):
    """Write a notebook of a few cells that was executed."""
    cells = [
        markdown("## Gender"),
        markdown("what is not in the report", tags=()),
        code("secret = 'source code'", "| Accuracy |\n|:--|\n| 93.1 |"),
    ]
    path = tmp_path / "executed.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_the_zip_holds_report_code_and_weights(executed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["--group", "7", "--notebook", str(executed)]
    assert handin.main([*arguments, "--students", "A <b>, 12; C, 34"]) == 0
    with zipfile.ZipFile("handin_group_7.zip") as archive:
        names = archive.namelist()
        report = archive.read("report.html").decode()
        assert archive.read("assignment_2.ipynb") == executed.read_bytes()
        for name in names:
            assert not name.startswith(("/", ".."))
    assert {"predict.py", "requirements.txt", "model/utkface/mtl.keras"} <= set(names)
    assert "Group 7. A &lt;b&gt;, 12; C, 34" in report
    assert "93.1" in report and "Gender" in report
    assert "source code" not in report and "not in the report" not in report
    assert "handin_group_7.zip" in capsys.readouterr().out


def test_without_students_the_place_for_them_is_shown(executed):
    report = handin.make_report(nbformat.read(executed, as_version=4), "1", "")
    assert "write them here" in report


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([markdown("text", tags=())], "tagged 'report'"),
        ([code("x")], "run the notebook"),
    ],
)
def test_a_notebook_without_results_is_refused(cells, message, tmp_path, capsys):
    path = tmp_path / "bare.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    assert handin.main(["--group", "1", "--notebook", str(path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("group", ["", "../1", "a b"])
def test_a_group_that_is_no_name_of_a_file_is_refused(group, capsys):
    with pytest.raises(SystemExit) as ended:
        handin.main(["--group", group])
    assert ended.value.code == 2 and "--group" in capsys.readouterr().err


def test_the_committed_notebook_has_what_the_report_asks_for():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    report = handin.make_report(notebook, "1", "")
    for word in ("544,593", "Levi", "Yaman", "Yang", "Xu", "Dropout", "optimizer"):
        assert word in report
    assert "two genders" in report.lower() and report.count("<img") >= 6
