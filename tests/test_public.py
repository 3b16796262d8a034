"""The public names: what tab completion shows, and the study, which is imported on first use."""

import importlib.util
import inspect
import pydoc
import rlcompleter
import subprocess
import sys
import textwrap
import types

import optax
import pytest
from cases import ROUNDED, RULES

import decoupled_wd as dwd

STUDY = importlib.util.find_spec("zarr") is not None
PLOT = importlib.util.find_spec("matplotlib") is not None
NAMESPACES = {
    "masks": {
        "Mask",
        "everything",
        "matching",
        "matrices",
        "multipliers",
        "relative_to",
        "without",
    },
    # the table of cases knows them: nothing else is public there
    "rules": {"Rule"} | {name.partition("-")[0] for name in RULES},
    "rounding": {"from_float32", "weights"} | {name.split("-")[1] for name in ROUNDED},
    "theory": {
        "adamw_norm",
        "ball_radius",
        "half_life",
        "hyperball_fraction",
        "hyperball_learning_rate",
        "hyperball_rotation",
        "influence",
        "lion_norm",
        "lion_rotation",
        "muon_norm",
        "muon_rotation",
        "norms",
        "rotation",
        "sgdw_norm",
        "timescale",
    },
}


def completed(text):
    """What the interpreter's own completion offers behind a dot."""
    completer = rlcompleter.Completer({"dwd": dwd})
    found = []
    while (match := completer.complete(text, len(found))) is not None:
        found.append(match)
    names = {match.removeprefix(text).partition("(")[0] for match in found}
    return {name for name in names if not name.startswith("__")}


def run(program):
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_namespace_shows_its_public_names_alone(namespace):
    assert completed(f"dwd.{namespace}.") == NAMESPACES[namespace]


def test_the_package_shows_its_public_names_alone():
    shown = completed("dwd.")
    assert {"adamw", "decouple", "masks", "theory", "record", "study", "figures", "PAPER"} <= shown
    # what a test of private modules, or an import of numpy or jax, would leave behind
    assert shown.isdisjoint({"aliases", "transforms", "coupling", "jax", "optax", "importlib"})
    assert not {name for name in shown if name.startswith("_")}


def test_every_public_name_is_there_and_documented():
    for module in (dwd, *(getattr(dwd, namespace) for namespace in NAMESPACES)):
        for name in module.__all__:
            value = getattr(module, name)
            is_code = callable(value) or isinstance(value, types.ModuleType)
            assert not is_code or value.__doc__


def test_a_star_imports_the_names_and_no_extra():
    done = run("import sys; from decoupled_wd import *; adamw, masks; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert {"decoupled_wd.study", "decoupled_wd.figures"}.isdisjoint(done.stdout.split())


@pytest.mark.skipif(not STUDY, reason="needs the extra study")
def test_the_study_is_found_on_first_use():
    program = """
import sys, decoupled_wd as dwd
assert "decoupled_wd.study" not in sys.modules
print(*dwd.study.__all__, *(getattr(dwd.study, name).__name__ for name in dwd.study.__all__))
"""
    assert run(program).stdout.split() == ["Points", "sweep", "tune", "Points", "sweep", "tune"]


@pytest.mark.skipif(not PLOT, reason="needs the extra plot")
def test_the_figures_are_found_on_first_use_and_show_their_names_alone():
    program = """
import sys, decoupled_wd as dwd
assert "decoupled_wd.figures" not in sys.modules
assert dir(dwd.figures) == dwd.figures.__all__
print(*(getattr(dwd.figures, name).__name__ for name in dwd.figures.__all__))
"""
    names = ["half_lives", "heatmap", "influence", "plan", "ridge", "rotation"]
    assert run(program).stdout.split() == names


MISSING = """
import sys
sys.modules[{missing!r}] = None
import decoupled_wd as dwd
try:
    dwd.{extra}
except {expected} as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("extra", "missing", "expected", "text"),
    [
        ("study", "zarr", "AttributeError", "pip install 'decoupled-wd[study]'"),
        ("study", "decoupled_wd.study.grid.sweep", "ModuleNotFoundError", "grid.sweep"),
        ("figures", "matplotlib", "AttributeError", "pip install 'decoupled-wd[plot]'"),
        ("figures", "decoupled_wd.figures._style", "ModuleNotFoundError", "figures._style"),
    ],
)
@pytest.mark.skipif(not STUDY, reason="needs the extra study")
def test_a_missing_extra_is_told_from_a_missing_module(extra, missing, expected, text):
    done = run(MISSING.format(extra=extra, missing=missing, expected=expected))
    assert done.returncode == 0, done.stderr
    assert text in done.stdout
    assert ("pip install" in done.stdout) == (expected == "AttributeError")


@pytest.mark.skipif(not STUDY, reason="needs the extra study")
def test_help_works_without_the_extra():
    done = run("import sys; sys.modules['zarr'] = None; import decoupled_wd as d; help(d)")
    assert done.returncode == 0, done.stderr
    assert "adamw(" in done.stdout


def test_a_name_that_is_not_there_is_told_as_python_tells_it():
    with pytest.raises(AttributeError, match="'decoupled_wd' has no attribute 'adamx'"):
        _ = dwd.adamx


@pytest.mark.parametrize("name", ["adamw", "adam", "sgdw", "sgd", "adamwr", "sgdwr"])
def test_help_fits_on_a_page_and_shows_readable_defaults(name):
    text = pydoc.plain(pydoc.render_doc(getattr(dwd, name)))
    # a terminal of 100 columns, which breaks the signature
    lines = [row for line in text.splitlines() for row in textwrap.wrap(line, 100) or [""]]
    assert len(lines) <= 60
    assert "mask: 'MaskLike' = everything()" in text
    assert "0x" not in text
    assert "Union" not in text


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("option", ["eps_root", "nesterov"])
def test_help_says_how_to_get_what_only_optax_has(name, option):
    assert option in inspect.signature(getattr(optax, name)).parameters
    assert f"`{option}`" in getattr(dwd, name).__doc__
