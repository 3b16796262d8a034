"""Every example runs as it stands, in a process of its own, and four of them are notebooks with their plots."""

import os
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
PRINTED = {
    "any_optimizer": "adabelief",
    "character_transformer": "bits a character",
    "choosing_weight_decay": "no decay is worse",
    "cifar10": "2 of 2 runs",
    "diagnosing": "! grows: no decay reaches it",
    "fsdp": "collectives in the optimiser's step: 0",
    "warm_restarts": "end of a cycle",
}


# those that are notebooks too run as notebooks, in CI
@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [path for path in SCRIPTS if not path.with_suffix(".ipynb").exists()],
    ids=lambda path: path.stem,
)
def test_the_script_runs(script, tmp_path):
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "MPLBACKEND": "agg", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert PRINTED.get(script.stem, "") in done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_script_is_short_and_in_percent_format(script):
    lines = script.read_text().splitlines()
    assert len(lines) <= (170 if script.with_suffix(".ipynb").exists() else 120)
    assert any(line.startswith("# %%") for line in lines)


def test_there_are_four_notebooks():
    names = ["adamw_vs_l2", "choosing_weight_decay", "diagnosing", "sweep"]
    assert [path.stem for path in NOTEBOOKS] == names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_its_script_executed_with_a_plot(path):
    notebook, script = nbformat.read(path, as_version=4), jupytext.read(path.with_suffix(".py"))
    here, there = ([cell.source for cell in each.cells] for each in (notebook, script))
    assert here == there
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert PRINTED.get(path.stem, "") in "".join(
        out.get("text", "") for c in code for out in c.outputs
    )
    kinds = {kind for cell in code for out in cell.outputs for kind in out.get("data", {})}
    assert "image/png" in kinds
