"""The version number and the lowest versions stand in one place each, and CI tests the core on the latter."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import decoupled_wd

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_version_is_that_of_the_package():
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert "version" not in PYPROJECT["project"]
    assert version("decoupled-wd") == decoupled_wd.__version__


def test_every_dependency_has_a_lowest_version():
    project = PYPROJECT["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["study"]]
    named += project["optional-dependencies"]["test"]
    assert [line for line in named if ">=" not in line] == ["decoupled-wd[study]"]


def test_the_core_is_tested_with_the_tools_of_the_test_extra():
    tools = set(PYPROJECT["dependency-groups"]["core"])
    assert tools <= set(PYPROJECT["project"]["optional-dependencies"]["test"])


def test_ci_runs_the_core_on_the_lowest_versions():
    assert "--resolution lowest-direct --group core -e ." in (ROOT / ".ci" / "run").read_text()
