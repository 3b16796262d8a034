"""The shape of the package: imports only go down, and the core stays light."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import decoupled_wd

PACKAGE = Path(decoupled_wd.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
EXTRAS = ("study", "figures")
CORE = sorted(name for name in MODULES if not name.startswith(EXTRAS))
# each room stands above all that it imports; a folder is one room to those outside it
FLOORS = {
    "": [
        {"_base"},
        {"coupling", "schedules", "theory", "rules", "_storage", "_ridges"},
        {"strengths", "preconditioners", "masks", "rounding"},
        {"_resolution", "_slips", "_traces"},
        {"transforms"},
        {"aliases", "sphere", "diagnostics"},
        {"adoption", "planning"},
        {"__init__", "cli"},
        {"figures"},
        {"_start", "study"},
    ],
    "_base": [
        {"types", "arguments", "__init__"},
        {"checks", "leaves", "bits"},
        {"paths"},
        {"updates"},
    ],
    "masks": [
        {"_kinds", "_numbers"},
        {"_patterns"},
        {"_mask"},
        {"_policies", "_multipliers"},
        {"_widths"},
        {"__init__"},
    ],
    "theory": [
        {"_checks", "_schedules"},
        {"_equilibrium", "_times"},
        {"_matrices", "_sphere"},
        {"__init__"},
    ],
    "rounding": [
        {"_halves", "_pairs", "_checks"},
        {"_byte", "_stochastic"},
        {"_residual"},
        {"_links"},
        {"_weights"},
        {"__init__"},
    ],
    "rules": [
        {"_rule"},
        {"_targets", "_norms", "_penalties", "_wrappers"},
        {"__init__"},
    ],
    "diagnostics": [
        {"__init__", "_tables", "_measures", "_moments"},
        {"describe", "equivalents", "record"},
        {"preflight", "_looks"},
        {"_findings"},
        {"examine"},
    ],
    "figures": [
        {"_inputs", "_style"},
        {"_grids"},
        {"_ridge"},
        {"_heatmaps", "_histories", "_leaves", "_plans"},
        {"__init__"},
    ],
    "planning": [
        {"_run"},
        {"_limits", "_rule"},
        {"_formulas"},
        {"_rules", "_fit", "_table"},
        {"_plan"},
        {"__init__", "cli"},
    ],
    "study": [
        {"grid", "statistics"},
        {"tasks", "response"},
        {"claims"},
        {"experiment", "figures", "tune"},
        {"modern", "images"},
        {"profiles"},
        {"report", "own", "looks"},
        {"arguments", "commands"},
        {"cli", "tune_cli", "__init__"},
    ],
    "study.tune": [
        {"types", "slots", "storages", "sizes", "__init__"},
        {"finals", "trials"},
        {"checks"},
        {"search"},
        {"modules"},
    ],
    "study.report": [
        {"intervals", "machine", "pieces", "pictures", "search", "__init__"},
        {"best", "ridge", "page", "tables"},
        {"paste", "terminal"},
        {"tuned"},
    ],
}


def imports(path, nested=False):
    """Modules that a file imports, at its top level or anywhere."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if nested else tree.body
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def ours(path):
    """Modules of this package that a file imports, or the faces of folders that hand their names on."""
    for name in imports(path):
        top, *parts = name.split(".")
        if top == "decoupled_wd":
            ends = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
            faces = [".".join([*parts[:n], "__init__"]) for n in range(len(parts), -1, -1)]
            yield next(module for module in [*ends, *faces] if module in MODULES)


def within(folder, module):
    """The room in `folder` in which a module is, or None where it is elsewhere."""
    inside = module if not folder else module.removeprefix(f"{folder}.")
    return None if folder and inside == module else inside.partition(".")[0]


def floor(folder, room):
    return next(index for index, rooms in enumerate(FLOORS[folder]) if room in rooms)


@pytest.mark.parametrize("folder", FLOORS)
def test_every_room_has_a_floor(folder):
    rooms = {within(folder, module) for module in MODULES} - {None}
    assert rooms == set().union(*FLOORS[folder])


@pytest.mark.parametrize("folder", FLOORS)
def test_imports_only_go_down(folder):
    for module, path in MODULES.items():
        above = within(folder, module)
        for name in ours(path):
            below = within(folder, name)
            if None not in (above, below) and above != below:
                assert floor(folder, below) < floor(folder, above), f"{module} imports {name}"


def test_no_module_imports_itself_by_a_detour():
    # the face of the package is imported by its study, and imports none of it
    graph = {module: set(ours(path)) - {"__init__"} for module, path in MODULES.items()}
    assert set(graphlib.TopologicalSorter(graph).static_order()) >= set(MODULES)


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
    tops = {name.partition(".")[0] for name in imports(MODULES[module], nested=True)}
    assert tops <= allowed
    assert not any(name.startswith(EXTRAS) for name in ours(MODULES[module]))


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("figures")])
def test_the_figures_need_the_core_and_matplotlib_alone(module):
    allowed = set(sys.stdlib_module_names) | {"jax", "matplotlib", "numpy", "decoupled_wd"}
    tops = {name.partition(".")[0] for name in imports(MODULES[module], nested=True)}
    assert tops <= allowed
    assert not any(name.startswith("study") for name in ours(MODULES[module]))


def test_importing_the_core_imports_nothing_of_an_extra():
    program = (
        "import sys, decoupled_wd;"
        "heavy = {'flax', 'matplotlib', 'sklearn', 'xarray', "
        "'decoupled_wd.figures', 'decoupled_wd.study'};"
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
    lengths = {module: code_lines(path) for module, path in MODULES.items()}
    assert {name: n for name, n in lengths.items() if n > 220} == {}


@pytest.mark.parametrize("module", CORE)
def test_lines_end_before_101_characters(module):
    lines = MODULES[module].read_text().splitlines()
    assert not [number for number, line in enumerate(lines, 1) if len(line) > 100]
