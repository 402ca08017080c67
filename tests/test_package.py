"""The package's shape: order of its modules, docstrings, size, no hidden state."""

import ast
import re

import pytest

import facekit
import inference
import studies
from facekit.labels import ROOT

PACKAGES = facekit, studies, inference
NAMES = [package.__name__ for package in PACKAGES]
PATHS = {
    f"{package}.{path.stem}": path
    for package in NAMES
    for path in sorted((ROOT / package).glob("[!_]*.py"))
}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in PATHS.items()}
LISTED = [
    f"{package.__name__}.{name}"
    for package in PACKAGES
    for name in re.findall(r"^([a-z]+) {2,}\S", package.__doc__, re.MULTILINE)
]

SCRIPTS = [*PATHS.values(), *ROOT.glob("*.py"), *(ROOT / "tools").glob("*.py")]


def imported(tree):
    """List our modules that one of them imports, wherever it does."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in NAMES:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module)
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name for name in found if name.partition(".")[0] in NAMES]


def documented(tree):
    """List the nodes that may have a docstring."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def count_code(path):
    """Count lines that hold code: no blank line, no comment, no docstring."""
    text = path.read_text(encoding="utf-8")
    skip = set()
    for node in documented(ast.parse(text)):
        if ast.get_docstring(node) is not None:
            skip |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(text.splitlines(), start=1)
    code = (line.strip() for number, line in lines if number not in skip)
    return sum(bool(line) and not line.startswith("#") for line in code)


def test_every_module_is_listed_once():
    assert sorted(LISTED) == sorted(TREES) and len(TREES) > 10


@pytest.mark.parametrize("module", TREES)
def test_a_module_imports_only_what_stands_above_it(module):
    above = LISTED[: LISTED.index(module)]
    assert set(imported(TREES[module])) <= set(above)


def test_the_check_finds_an_import_wherever_it_stands():
    source = "def f():\n from facekit import a\nimport facekit.b\n"
    source += "from studies.c import d"
    assert imported(ast.parse(source)) == ["facekit.b", "studies.c", "facekit.a"]


@pytest.mark.parametrize("module", TREES)
def test_everything_public_has_a_docstring(module):
    nodes = documented(TREES[module])
    inner = {id(part) for node in nodes for part in documented(node) if part != node}
    inner -= {id(node) for node in TREES[module].body}
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            inner -= {id(method) for method in node.body}
    bare = {
        getattr(node, "name", module)
        for node in nodes
        if id(node) not in inner and ast.get_docstring(node) is None
    }
    assert {name for name in bare if not name.startswith("_")} == set()


def test_modules_are_short():
    sizes = {name: count_code(path) for name, path in PATHS.items()}
    assert {name: size for name, size in sizes.items() if size > 200} == {}


def test_the_package_is_small():
    shared = [path for name, path in PATHS.items() if name.startswith("facekit.")]
    assert sum(map(count_code, shared)) <= 2_000
    assert sum(map(count_code, PATHS.values())) <= 2_880


@pytest.mark.parametrize("module", TREES)
def test_no_global_is_changed(module):
    changes = (ast.Global, ast.Nonlocal)
    assert not [node for node in ast.walk(TREES[module]) if isinstance(node, changes)]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_nothing_runs_what_a_file_or_a_user_says(path):
    """No pickle, no eval, no shell; files of arrays and models are read safely."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names.append(getattr(node, "module", None) or "")
            assert not {"pickle", "joblib", "dill", "shelve", "marshal"} & set(names)
        if not isinstance(node, ast.Call):
            continue
        named = ast.unparse(node.func)
        assert named not in ("eval", "exec", "os.system", "os.popen"), named
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        assert "shell" not in given and given.get("allow_pickle", "False") == "False"
        assert given.get("safe_mode", "True") == "True"
