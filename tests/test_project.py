"""The files at the root say what pyproject.toml and the package say, and other programs can read them."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import decoupled_wd

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def read(name):
    return yaml.safe_load((ROOT / name).read_text())


def test_the_hooks_have_the_versions_of_the_group_lint():
    pinned = dict(line.split("==") for line in PYPROJECT["dependency-groups"]["lint"])
    ruff, local = read(".pre-commit-config.yaml")["repos"]
    assert ruff["rev"] == f"v{pinned['ruff']}"
    assert [hook["id"] for hook in ruff["hooks"]] == ["ruff-format", "ruff-check"]
    # mypy is that of the virtual environment, into which .ci/run installs the group
    (mypy,) = local["hooks"]
    assert mypy["entry"] == ".venv/bin/mypy"
    assert "--group lint" in (ROOT / ".ci" / "run").read_text()


def test_the_workflow_runs_the_one_command_on_every_python_that_is_promised():
    (job,) = read(".github/workflows/ci.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    promised = [c.rpartition(" :: ")[2] for c in PYPROJECT["project"]["classifiers"]]
    versions = [version for version in promised if version.startswith("3.")]
    assert job["strategy"]["matrix"]["python-version"] == versions


@pytest.mark.slow
def test_the_benchmark_of_gpus_says_that_there_is_none():
    command = [sys.executable, ROOT / "tests" / "benchmarks" / "gpu.py"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.startswith("JAX finds no GPU, so nothing was measured")


def test_contributors_are_told_the_same_command():
    assert "```bash\n.ci/run\n```" in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_citation_is_that_of_the_package_and_of_the_paper():
    citation = read("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == decoupled_wd.__version__
    assert citation["license"] == PYPROJECT["project"]["license"]
    assert [each["name"] for each in citation["authors"]] == [
        each["name"] for each in PYPROJECT["project"]["authors"]
    ]
    (paper,) = citation["references"]
    assert [each["family-names"] for each in paper["authors"]] == ["Loshchilov", "Hutter"]
    assert f"year = {{{paper['year']}}}" in (ROOT / "README.md").read_text()
