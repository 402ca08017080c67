"""Load the functions of the notebook, so that tests and benchmarks can call them.

    from notebook_cells import load_functions

    notebook = load_functions()
    notebook.some_function(...)

Only the cells tagged `imports`, `parameters` and `functions` are run: they define and
have no other effect.
"""

import itertools
import json
import linecache
import pathlib
import sys
import types
from collections.abc import Iterator, Mapping

NOTEBOOK = pathlib.Path(__file__).resolve().parents[1] / "assignment_2.ipynb"
TAGS = ("imports", "parameters", "functions")

_loaded: dict[tuple[pathlib.Path, str], types.ModuleType] = {}
_numbers = itertools.count(2)


def load_functions(
    path: str | pathlib.Path | None = None,
    overrides: Mapping[str, object] | None = None,
) -> types.ModuleType:
    """Run the notebook's defining cells, in order, as one module.

    The same arguments give the same module, so the cells run once per test session.

    Parameters
    ----------
    path : str | pathlib.Path | None
        The notebook; the project's own if None.
    overrides : Mapping[str, object] | None
        Values for parameters, set right after the cell `parameters`, as papermill does.

    Returns
    -------
    types.ModuleType
        The module with everything those cells define.

    Raises
    ------
    ValueError
        A tag is on no cell, or an override names no parameter.
    """
    path = pathlib.Path(path or NOTEBOOK).resolve()
    overrides = dict(overrides or {})
    key = path, repr(sorted(overrides.items()))
    if key not in _loaded:
        _loaded[key] = _run_cells(path, overrides)
    return _loaded[key]


def _run_cells(path: pathlib.Path, overrides: dict[str, object]) -> types.ModuleType:
    """Run the tagged cells of a notebook in a new module, registered by a new name."""
    name = path.stem
    if name in sys.modules:
        name += f"_{next(_numbers)}"
    module = types.ModuleType(name, f"The functions of {path.name}.")
    # Pickle and dataclasses look a class's module up by its name.
    sys.modules[name] = module
    for tag, filename, source in _tagged_cells(path):
        # Tracebacks and inspect.getsource read the lines from this cache. An entry
        # without a modification time (None) is never dropped.
        lines = source.splitlines(keepends=True)
        linecache.cache[filename] = len(source), None, lines, filename
        exec(compile(source, filename, "exec", dont_inherit=True), vars(module))
        if tag == "parameters":
            unknown = sorted(overrides.keys() - vars(module).keys())
            if unknown:
                raise ValueError(f"{path.name} has no parameter {', '.join(unknown)}")
            vars(module).update(overrides)
    return module


def _tagged_cells(path: pathlib.Path) -> Iterator[tuple[str, str, str]]:
    """Yield tag, name and source of the defining cells, in the notebook's order.

    A cell's name counts all cells from 1: `assignment_2.ipynb[cell 12]`.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    tags = [cell["metadata"].get("tags", []) for cell in cells]
    missing = [tag for tag in TAGS if not any(tag in of_cell for of_cell in tags)]
    if missing:
        raise ValueError(f"{path.name}: no cell is tagged {', '.join(missing)}")
    for number, (cell, of_cell) in enumerate(zip(cells, tags, strict=True), start=1):
        for tag in TAGS:
            if tag in of_cell:
                yield tag, f"{path.name}[cell {number}]", "".join(cell["source"])
