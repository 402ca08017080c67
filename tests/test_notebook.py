"""The notebook as a whole: executed on the sample, and in the shape committed."""

import ast
import collections
import hashlib
import json
import re
import shutil

import nbformat
import papermill
import pytest
from notebook_cells import NOTEBOOK

ROOT = NOTEBOOK.parent
HEADINGS = {
    "Loading the relevant datasets": 15,
    "Create the ImageDataGenerators": 22,
    "Create the model": 44,
    "Making predictions on test data": 14,
    "Present prediction results on test data": 5,
}
PARAMETERS = {"DATA": "sample", "PROFILE": "quick", "SAMPLE_FACES": 300}
# An absolute path on Linux, macOS or Windows; neither an address nor a share.
MACHINE_PATH = re.compile(
    r"(?<![\w.:/<*`])/(?:[\w.+-]+/)+[\w.+-]+|\b[A-Z]:\\\w+|(?<!\w)~/\w+"
)
RUNS = 10  # the main one, five, four of the study of overfitting


def texts_of(cell):
    """Give every text that a cell shows, pictures left out."""
    for output in cell.get("outputs", []):
        if output["output_type"] == "stream":
            yield output["text"]
        for kind, content in output.get("data", {}).items():
            if kind.startswith("text/"):
                yield "".join(content)


def markdown_of(notebook):
    return [cell["source"] for cell in notebook.cells if cell.cell_type == "markdown"]


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def fingerprint(folder):
    """Hash every file of a folder, by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def committed():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Copy what the repository ships into a folder where nothing can be damaged."""
    folder = tmp_path_factory.mktemp("repository")
    shutil.copyfile(NOTEBOOK, folder / NOTEBOOK.name)
    shutil.copyfile(ROOT / "README.md", folder / "README.md")
    for path in ("data/README.md", "data/split.csv.gz", "data/sample/face_model.npz"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / path)
    if (ROOT / "model/utkface").exists():
        shutil.copytree(ROOT / "model/utkface", folder / "model/utkface")
    (folder / "model/utkface").mkdir(parents=True, exist_ok=True)
    (folder / "model/utkface/witness.txt").write_text("stays as it is")
    return folder


def execute(folder, name):
    """Run the notebook there as `make run` does."""
    target = folder / name
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND")  # else figures would not be shown
        papermill.execute_notebook(
            str(folder / NOTEBOOK.name),
            str(target),
            PARAMETERS,
            kernel_name="python3",
            cwd=str(folder),
            progress_bar=False,
        )
    return nbformat.read(target, as_version=4)


@pytest.fixture(scope="module")
def before(repository):
    return {
        "README.md": (repository / "README.md").read_bytes(),
        "model": fingerprint(repository / "model/utkface"),
    }


@pytest.fixture(scope="module")
def executed(repository, before):
    """Execute the notebook where nothing was trained yet."""
    return execute(repository, "first.ipynb")


@pytest.fixture(scope="module")
def runs(repository, executed):
    """Fingerprint what the first execution trained."""
    return fingerprint(repository / "model/runs")


@pytest.fixture(scope="module")
def again(repository, executed, runs):
    """Execute it once more, where everything is trained."""
    return execute(repository, "second.ipynb")


@pytest.fixture(params=["executed", "again", "committed"])
def any_run(request):
    """Give each of the executions, and the outputs that are committed."""
    return request.getfixturevalue(request.param)


class TestOutputs:
    def test_no_cell_failed_or_warned(self, any_run):
        for number, cell in enumerate(any_run.cells, start=1):
            for output in cell.get("outputs", []):
                assert output["output_type"] != "error", f"cell {number}"
                assert output.get("name") != "stderr", f"cell {number}: {output}"

    def test_every_cell_was_executed_in_order(self, any_run):
        counts = [cell["execution_count"] for cell in code_of(any_run)]
        assert counts == list(range(1, len(counts) + 1))

    def test_tables_are_rendered(self, any_run):
        shown = [text for cell in code_of(any_run) for text in texts_of(cell)]
        tables = [text for text in shown if re.match(r"\| .*\|\n\|[-:| ]+\|\n", text)]
        assert len(tables) >= 15
        for table in tables:
            widths = {line.count("|") for line in table.strip().splitlines()}
            assert len(widths) == 1
        assert not [text for text in shown if "<table" in text]

    def test_every_section_ends_with_an_answer(self, any_run):
        answers, heading = collections.Counter(), None
        for cell in any_run.cells:
            if cell.cell_type == "markdown":
                match = re.search(r"^## (\d+ .*)$", cell["source"], re.MULTILINE)
                heading = match[1] if match else heading
            elif any(text.startswith("**Answer.**") for text in texts_of(cell)):
                answers[heading] += 1
        sections = [
            line.removeprefix("## ")
            for text in markdown_of(any_run)
            for line in text.splitlines()
            if line.startswith("## ")
        ]
        assert sections and not [name for name in sections if not answers[name]]

    def test_figures_are_shown(self, any_run):
        figures = [
            output
            for cell in code_of(any_run)
            for output in cell["outputs"]
            if "image/png" in output.get("data", {})
        ]
        assert len(figures) >= 8

    def test_nothing_disagrees(self, any_run):
        shown = "\n".join(text for cell in code_of(any_run) for text in texts_of(cell))
        assert "DISAGREES" not in shown and "DOES NOT KEEP" not in shown

    def test_outputs_name_no_path_of_a_machine(self, any_run):
        found = [
            match[0]
            for cell in code_of(any_run)
            for text in texts_of(cell)
            for match in MACHINE_PATH.finditer(text)
        ]
        assert not found


class TestExecution:
    def test_results_are_written_where_the_user_trains(self, repository, executed):
        path = repository / "model/runs/sample-300/results.json"
        results = json.loads(path.read_text())
        places = {(row["model"], row["split"]) for row in results}
        assert {"test", "test_without_twins", "test_without_near_twins", "val"} <= {
            split for name, split in places if name == "mtl"
        }
        assert len({name for name, _ in places}) == RUNS
        assert {row["data"] for row in results} == {"sample-300"}
        assert {row["n"] for row in results if row["split"] == "val"} == {48}

    def test_the_assignments_table_has_five_runs(self, executed):
        tables = [
            text
            for cell in code_of(executed)
            for text in texts_of(cell)
            if text.startswith("| Hyperparameters")
        ]
        heading, _, *rows = tables[-1].strip().splitlines()
        columns = [name.strip() for name in heading.strip("|").split("|")]
        assert columns == [
            "Hyperparameters",
            "Age (MAE)",
            "Ethnicity (Accuracy)",
            "Gender (Accuracy)",
        ]
        assert len(rows) >= 5

    def test_nothing_shipped_was_touched(self, repository, before, executed, again):
        assert fingerprint(repository / "model/utkface") == before["model"]
        assert (repository / "README.md").read_bytes() == before["README.md"]

    def test_every_training_is_in_tensorboards_folder(self, repository, executed):
        folders = [path for path in (repository / "logs").iterdir() if path.is_dir()]
        assert len(folders) == RUNS
        assert all(list(path.rglob("events.out.*")) for path in folders)

    def test_the_second_execution_trains_nothing(self, repository, runs, again):
        trained = {key: value for key, value in runs.items() if "results" not in key}
        now = fingerprint(repository / "model/runs")
        assert {key: now[key] for key in trained} == trained
        assert now.keys() == runs.keys()
        shown = "\n".join(text for cell in code_of(again) for text in texts_of(cell))
        assert shown.count("loads it") == RUNS and "trains it" not in shown
        assert "epoch 1 of at most" not in shown

    def test_both_executions_have_the_same_results(self, repository, runs, again):
        name = "sample-300/results.json"
        assert fingerprint(repository / "model/runs")[name] == runs[name]

    def test_each_training_is_looked_at_once(self, repository, again):
        path = repository / "model/runs/sample-300/test_looks.csv"
        assert len(path.read_text().splitlines()) == 1 + 6


class TestShape:
    def test_one_title_and_the_five_headings_with_their_points(self, committed):
        lines = [
            line
            for text in markdown_of(committed)
            for line in text.splitlines()
            if line.startswith("#")
        ]
        assert sum(line.startswith("# ") for line in lines) == 1
        sections = [line for line in lines if line.startswith("## ")]
        for heading, points in HEADINGS.items():
            pattern = rf"## \d+ {heading} \({points} points\)"
            assert sum(bool(re.fullmatch(pattern, line)) for line in sections) == 1
        numbers = [int(line.split()[1]) for line in sections]
        assert numbers == list(range(1, len(numbers) + 1))

    def test_links_inside_the_notebook_lead_somewhere(self, committed):
        text = "\n".join(markdown_of(committed))
        anchors = set(re.findall(r'<a id="([\w-]+)">', text))
        assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors

    @pytest.mark.parametrize("tag", ["imports", "parameters"])
    def test_one_cell_has_the_tag(self, committed, tag):
        tagged = [
            cell for cell in committed.cells if tag in cell.metadata.get("tags", [])
        ]
        assert len(tagged) == 1

    def test_parameters_are_literals(self, committed):
        (cell,) = (
            cell
            for cell in committed.cells
            if "parameters" in cell.metadata.get("tags", [])
        )
        values = {}
        for statement in ast.parse(cell["source"]).body:
            assert isinstance(statement, ast.Assign)
            values[statement.targets[0].id] = ast.literal_eval(statement.value)
        assert values["PUBLISH"] is False and values["RETRAIN"] is False
        assert values.keys() >= PARAMETERS.keys()

    def test_every_parameter_is_in_the_readme(self, notebook):
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        for name in ("DATA", "DATA_DIR", "PROFILE", "RETRAIN", "PUBLISH", "SEED"):
            assert f"`{name}`" in readme and hasattr(notebook, name)

    def test_cells_with_functions_only_define(self, committed):
        allowed = (ast.FunctionDef, ast.ClassDef, ast.Assign)
        for cell in committed.cells:
            if "functions" in cell.metadata.get("tags", []):
                body = ast.parse(cell["source"]).body
                assert {type(statement) for statement in body} <= set(allowed)

    def test_other_cells_define_no_function(self, committed):
        for cell in code_of(committed):
            if "functions" not in cell.metadata.get("tags", []):
                tree = ast.parse(cell["source"])
                assert not [
                    node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
                ]

    def test_nothing_is_defined_twice(self, committed):
        names = collections.Counter(
            node.name
            for cell in code_of(committed)
            for node in ast.parse(cell["source"]).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        )
        assert [name for name, count in names.items() if count > 1] == []

    def test_functions_are_short_and_documented(self, committed):
        long, bare = {}, []
        for cell in code_of(committed):
            tree = ast.parse(cell["source"])
            for node in ast.walk(tree):
                if not isinstance(node, ast.FunctionDef):
                    continue
                lines = node.end_lineno - node.lineno + 1
                if ast.get_docstring(node):
                    text = node.body[0]
                    lines -= text.end_lineno - text.lineno + 1
                elif node in tree.body:
                    bare.append(node.name)
                if lines > 30:
                    long[node.name] = lines
        assert long == {} and bare == []

    def test_cells_are_short(self, committed):
        for number, cell in enumerate(committed.cells, start=1):
            tags = {"functions", "imports"} & set(cell.metadata.get("tags", []))
            if cell.cell_type != "code" or tags:
                continue
            assert len(cell["source"].splitlines()) <= 30, f"cell {number}"

    def test_it_is_small_and_renders_everywhere(self, committed):
        assert NOTEBOOK.stat().st_size < 5_000_000
        assert "widgets" not in committed.metadata
        assert committed.metadata["kernelspec"]["name"] == "python3"
        for cell in committed.cells:
            for output in cell.get("outputs", []):
                assert not any("widget" in kind for kind in output.get("data", {}))

    def test_it_was_not_run_with_other_parameters(self, committed):
        assert not [
            cell
            for cell in committed.cells
            if "injected-parameters" in cell.metadata.get("tags", [])
        ]
        assert "papermill" not in committed.metadata

    def test_it_is_valid(self, committed):
        nbformat.validate(committed)
        ids = [cell["id"] for cell in committed.cells]
        assert len(set(ids)) == len(ids)
