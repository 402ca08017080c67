"""Read what a notebook defines, without running it."""

import ast
import contextlib
import json
import pathlib
import types

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "assignment_2.ipynb"


def load_definitions(notebook: str | pathlib.Path) -> types.ModuleType:
    """Imports, parameters, settings, functions and classes of a notebook, as a module.

    ``notebook`` is a path, relative to the project. Cells tagged ``parameters`` and
    ``settings`` are run as they are; of all others only ``import``, ``def`` and
    ``class``. A definition that needs a name which only a run makes is left out.
    """
    path = ROOT / notebook
    module = types.ModuleType(path.stem)
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        tags = set(cell["metadata"].get("tags", []))
        if cell["cell_type"] != "code" or "setup" in tags:
            continue
        for node in ast.parse("".join(cell["source"])).body:
            kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
            if isinstance(node, kinds) or tags & {"parameters", "settings"}:
                made = compile(ast.Module([node], []), path.name, "exec")
                with contextlib.suppress(NameError):
                    exec(made, vars(module))
    return module
