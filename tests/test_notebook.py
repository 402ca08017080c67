"""The notebook as a whole: executed on the sample, and in the shape committed."""

import ast
import builtins
import collections
import contextlib
import dis
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import types

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
PARAMETERS["IMAGENET"] = "nowhere"  # else what runs would depend on the network
# An absolute path on Linux, macOS or Windows; neither an address nor a share.
MACHINE_PATH = re.compile(
    r"(?<![\w.:/<*`])/(?:[\w.+-]+/)+[\w.+-]+|\b[A-Z]:\\\w+|(?<!\w)~/\w+"
)
# From 2.21 on, TensorFlow says on import what the processor can do, whatever is set.
TENSORFLOW = importlib.metadata.version("tensorflow").split(".")
GREETS = tuple(map(int, TENSORFLOW[:2])) >= (2, 21)
GREETING = re.compile(
    r"WARNING: All log messages before absl::InitializeLog\(\)|I0000 |To enable the fol"
)
# Main, five, study of overfitting, sharing, learning curve; B, C and D; one seed.
RUNS = 17 + 10 + 6 + 4
PRETRAINED = ("gender_vgg16", "age_gender_B")  # without ImageNet's weights
MODELS = RUNS - 1  # in the results: the three single-task networks are one answer,
# and the informed network answers twice
LOOKS = 6 + 3 + 1 + 5  # at the test set, by assignment


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


def is_greeting(cell, text):
    """Tell whether a text is what TensorFlow 2.21 writes to stderr on import."""
    lines = text.strip().splitlines()
    imports = "imports" in cell["metadata"].get("tags", [])
    return GREETS and imports and all(GREETING.match(line) for line in lines)


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
    def test_no_cell_failed_or_warned(self, any_run, committed):
        for number, cell in enumerate(any_run.cells, start=1):
            for output in cell.get("outputs", []):
                assert output["output_type"] != "error", f"cell {number}"
                if output.get("name") == "stderr":
                    greeted = is_greeting(cell, output["text"])
                    allowed = greeted and any_run is not committed
                    assert allowed, f"cell {number}: {output}"

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
        assert len({name for name, _ in places}) == MODELS
        names = {row["data"] for row in results if row["chapter"] == "A"}
        assert names == {"sample-300"}
        names = {row["data"] for row in results if row["chapter"] != "A"}
        assert names == {"sample-300-enlarged"}
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
        assert f"{RUNS} of {RUNS + len(PRETRAINED)} trainings are loaded" in shown
        assert "0 are done here" in shown
        assert "epoch 1 of at most" not in shown

    def test_both_executions_have_the_same_results(self, repository, runs, again):
        name = "sample-300/results.json"
        assert fingerprint(repository / "model/runs")[name] == runs[name]

    def test_each_training_is_looked_at_once(self, repository, again):
        path = repository / "model/runs/sample-300/test_looks.csv"
        assert len(path.read_text().splitlines()) == 1 + LOOKS

    def test_what_could_not_be_done_says_why(self, executed):
        failed = {
            text.splitlines()[2].strip("| ").split("|")[0].strip(): text
            for cell in code_of(executed)
            for text in texts_of(cell)
            if text.startswith("| Not done")
        }
        assert {name.split(": ")[-1] for name in failed} == set(PRETRAINED)
        for text in failed.values():
            assert "set IMAGENET to a folder with" in text


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

    def test_every_parameter_is_in_the_readme(self, committed):
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        (cell,) = (
            cell
            for cell in committed.cells
            if "parameters" in cell.metadata.get("tags", [])
        )
        names = re.findall(r"^([A-Z_]+) = ", cell["source"], re.M)
        assert len(names) > 10
        assert [name for name in names if f"`{name}`" not in readme] == []

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


def global_names(code, nested=True):
    """List the global names that code reads, that of its functions included."""
    names = {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL")
    }
    if nested:
        for inner in code.co_consts:
            names |= global_names(inner) if isinstance(inner, types.CodeType) else set()
    return names


def stored_names(code):
    return {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("STORE_NAME", "STORE_GLOBAL")
    }


def names_not_yet_there(cells):
    """Find names that code reaches, through any function, before they are defined.

    Parameters
    ----------
    cells : list of (bool, str)
        Whether a cell only defines, and its source.

    Returns
    -------
    list of (int, str)
        Number of the cell, from 1, and name.
    """
    known = {*dir(builtins), "__name__"}
    uses, missing = {}, []
    for number, (only_defines, source) in enumerate(cells, start=1):
        for statement in ast.parse(source).body:
            code = compile(ast.Module([statement], []), f"cell {number}", "exec")
            stores = stored_names(code)
            defines = isinstance(statement, ast.FunctionDef | ast.ClassDef)
            reached = set()
            todo = global_names(code, nested=not defines)
            if defines or only_defines:  # what it reads counts once it is used
                uses |= dict.fromkeys(stores, global_names(code))
                reached, todo = todo, set()
            while todo:
                name = todo.pop()
                reached.add(name)
                todo |= uses.get(name, set()) - reached
            missing += [(number, name) for name in sorted(reached - known - stores)]
            known |= stores
    return missing


class TestOrder:
    """Run All runs the cells one after the other: each needs what came before."""

    def test_no_cell_reaches_what_a_later_one_defines(self, committed):
        cells = [
            ("functions" in cell.metadata.get("tags", []), cell["source"])
            for cell in code_of(committed)
        ]
        assert names_not_yet_there(cells) == []

    @pytest.mark.parametrize(
        ("sources", "missing"),
        [
            (["def f():\n return g()", "f()", "def g(): pass"], [(2, "g")]),
            (["def f():\n return g()", "def g(): pass", "f()"], []),
            (
                ["def f():\n return g()", "D = {1: f}", "D[1]()", "def g(): 0"],
                [(3, "g")],
            ),
            (["def f(a=B): pass", "B = 1"], [(1, "B")]),
            (["class A(B): pass", "class B: pass"], [(1, "B")]),
            (["class A:\n def f(self): return B", "A()", "B = 1"], [(2, "B")]),
            (["x = [n for n in range(3)]", "[print(y) for y in x]"], []),
            (["[f(n) for n in (1, 2)]", "def f(n): pass"], [(1, "f")]),
            (["import os.path as p", "p.join('a')", "for a in 'b': print(a)"], []),
        ],
    )
    def test_the_check_finds_what_it_should(self, sources, missing):
        cells = [(source.startswith(("def", "class", "D ="))) for source in sources]
        found = names_not_yet_there(list(zip(cells, sources, strict=True)))
        assert found == missing

    def test_every_layout_runs_to_the_end_of_section_2(
        self, committed, layout, tmp_path, monkeypatch, capsys
    ):
        kind, data_dir = layout
        assert data_dir == tmp_path / "data"
        for path in ("split.csv.gz", "sample/face_model.npz"):
            (data_dir / path).parent.mkdir(exist_ok=True)
            shutil.copyfile(ROOT / "data" / path, data_dir / path)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MPLBACKEND", "Agg")
        module = types.ModuleType("assignment_2_in_order")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        with contextlib.ExitStack() as stack:
            sections = 0
            for number, cell in enumerate(committed.cells, start=1):
                if cell.cell_type == "markdown":
                    sections += len(re.findall(r"^## \d", cell["source"], re.MULTILINE))
                    if sections == 3:
                        break
                    continue
                code = compile(cell["source"], f"cell {number}", "exec")
                exec(code, vars(module))
                if "imports" in cell.metadata.get("tags", []):
                    stack.enter_context(module.plt.rc_context())
                if "parameters" in cell.metadata.get("tags", []):
                    module.SAMPLE_FACES = 300
        assert sections == 3
        assert module.data_kind == kind
        name = "sample-300" if kind == "sample" else "own-"
        assert module.data_name.startswith(name)
        waiting = module.plan["Training"].isin(PRETRAINED)
        assert set(module.plan["This run"][~waiting]) == {"trains it"}
        assert len(module.table) == len(module.images) == 300
        assert len(module.faces) == 20 and module.faults.empty
        assert "is not there" not in capsys.readouterr().out
        assert not (tmp_path / "model").exists()


WITHOUT_TENSORFLOW = """
import os, sys
lent = None
if os.environ["KERAS_BACKEND"] == "tensorflow":  # no other one: Keras alone has it
    import keras
    import tensorflow as lent
sys.modules["tensorflow"] = None
from notebook_cells import load_functions
notebook = load_functions()
assert notebook.tf is None and notebook.ImageDataGenerator is None
if lent:
    sys.modules["tensorflow"] = lent
model = notebook.build_model(notebook.MAIN_RUN)
assert notebook.keras.backend.backend() == os.environ["KERAS_BACKEND"]
assert set(notebook.LABELS) < set(model.output)
notebook.compile_model(model, notebook.MAIN_RUN)
assert not notebook.has_bfloat16()
print(model.count_params(), notebook.describe_machine()["versions"])
"""


def test_functions_load_where_tensorflow_is_missing(notebook):
    others = ("jax", "torch")
    backends = [name for name in others if importlib.util.find_spec(name)]
    backend = (backends or ["tensorflow"])[0]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW],
        env={**os.environ, "KERAS_BACKEND": backend}
        | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    count, versions = done.stdout.splitlines()[-1].split(maxsplit=1)
    assert int(count) == notebook.build_model(notebook.MAIN_RUN).count_params()
    assert "TensorFlow" not in versions and backend in versions
