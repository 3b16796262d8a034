"""The README's commands are those that CI runs, and its code runs as it stands."""

import json
import re
import tomllib
from pathlib import Path

import jax.numpy as jnp
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_ci_runs_the_readmes_test_command():
    (command,) = [block.strip() for block in blocks("bash") if "pytest" in block]
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_python_blocks_run_in_order(capsys):
    names = {}
    for block in blocks("python"):
        exec(block, names)
    assert "of 9 parameters decay" in capsys.readouterr().out
    names["adamc"].init(
        {"hidden": {"kernel": jnp.ones((2, 2))}, "readout": {"kernel": jnp.ones((2, 2))}}
    )
    x, y = jnp.ones((4, 8)), jnp.ones((4, 1))
    losses = [
        float(names["train_step"](names["model"], names["optimizer"], x, y)) for _ in range(20)
    ]
    assert losses[-1] < losses[0]


def test_the_readme_stays_short():
    assert len(README.splitlines()) < 150


def test_runtime_dependencies_are_jax_and_optax():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [re.split("[^a-z]", name)[0] for name in project["dependencies"]] == ["jax", "optax"]
    assert set(project["optional-dependencies"]) == {"bench", "study", "test"}


@pytest.mark.parametrize("word", ["SGD + L2", "SGDW", "Adam + L2", "AdamW"])
def test_the_table_is_the_stored_run(word):
    """Numbers in the README come from a run of the command, kept beside the figure."""
    records = {r["optimizer"]: r for r in json.loads((ROOT / "docs" / "table.json").read_text())}
    record = records[word.removesuffix(" + L2")]
    (line,) = [line for line in README.splitlines() if line.startswith(f"| {word} |")]
    numbers = [
        float(n) for n in re.findall(r"[+-]?[0-9.]+", line.replace("−", "-").replace("L2", ""))
    ]
    keys = [
        "best_error",
        "learning_rate",
        "weight_decay",
        "ridge_slope",
        "ridge_slope_low",
        "ridge_slope_high",
    ]
    assert numbers == pytest.approx([record[key] for key in keys], rel=0.01, abs=0.006)
