"""The shape of the package: imports only go down, and the core stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import decoupled_wd

PACKAGE = Path(decoupled_wd.__file__).parent
CORE = sorted(path.stem for path in PACKAGE.glob("*.py"))
FLOORS = [
    {"_scalars", "_tables", "_trees"},
    {"coupling", "schedules", "preconditioners", "theory", "_kinds", "_patterns"},
    {"strengths", "_adabound", "masks"},
    {"_resolution"},
    {"rules", "_measures"},
    {"describe", "equivalents", "rounding"},
    {"transforms", "diagnostics", "convert"},
    {"aliases", "recorder"},
    {"__init__", "cli"},
    {"_start"},
]


def imports(path, nested=False):
    """Modules that a file imports, at its top level or anywhere."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if nested else tree.body
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            if node.module == "decoupled_wd":
                yield from (f"decoupled_wd.{alias.name}" for alias in node.names)
            else:
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def floor(module):
    return next(index for index, modules in enumerate(FLOORS) if module in modules)


def test_every_module_has_a_floor():
    assert set(CORE) == set().union(*FLOORS)


@pytest.mark.parametrize("module", CORE)
def test_imports_only_go_down(module):
    for name in imports(PACKAGE / f"{module}.py"):
        top, _, below = name.partition(".")
        if top == "decoupled_wd":
            assert floor(below) < floor(module), f"{module} imports {below}"


# but for the start of the command, which must meet Ctrl-C before it imports anything
IMPORTED = sorted(path for path in PACKAGE.rglob("*.py") if path.stem != "_start")


@pytest.mark.parametrize("path", IMPORTED, ids=lambda path: path.stem)
def test_no_import_is_delayed(path):
    tree = ast.parse(path.read_text())
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    delayed = [
        n for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    assert not delayed


@pytest.mark.parametrize("module", CORE)
def test_the_core_needs_jax_and_optax_alone(module):
    allowed = set(sys.stdlib_module_names) | {"jax", "numpy", "optax", "decoupled_wd"}
    assert {
        name.partition(".")[0] for name in imports(PACKAGE / f"{module}.py", nested=True)
    } <= allowed


def test_importing_the_core_does_not_import_the_study():
    program = (
        "import sys, decoupled_wd;"
        "heavy = {'flax', 'matplotlib', 'sklearn', 'xarray', 'decoupled_wd.study'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def code_lines(path):
    """Lines of a module without its docstrings, comments and blank lines."""
    source = path.read_text()
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    strings = [
        node.body[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented) and ast.get_docstring(node)
    ]
    prose = {line for text in strings for line in range(text.lineno, text.end_lineno + 1)}
    lines = enumerate(source.splitlines(), 1)
    return sum(n not in prose and line.strip()[:1] not in ("", "#") for n, line in lines)


def test_modules_stay_small():
    lengths = {path.name: code_lines(path) for path in PACKAGE.rglob("*.py")}
    assert {name: n for name, n in lengths.items() if n > 220} == {}
