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
    assert set(project["optional-dependencies"]) == {"bench", "plot", "study", "test"}


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


FIGURES = {  # the README's words: rows of docs/benchmarks.json
    "bytes a weight that a step of `adamw` moves": ("tpu moved", "adamw | 1 chips", "floor"),
    "the same on bfloat16 weights": ("tpu moved", "bf16 residual adamw | 1 chips", "floor"),
    "a step of `adamw` on CPU": ("step", "adamw | transformer, 12 layers", "optax.adamw"),
    "tracing a step of 1000 leaves": ("tracing trace", "adamw | 1000 leaves", "optax.adamw"),
    "an 8×8 grid": ("grid", "sweep | 8x8, 240 steps, with compiling", "a jit for each cell"),
    "the same, compiled": ("grid", "sweep | 8x8, 240 steps, warm", "one jit"),
}


@pytest.mark.parametrize("words", FIGURES)
def test_the_benchmarks_are_the_stored_run(words):
    stored = json.loads((ROOT / "docs" / "benchmarks.json").read_text())["results"]
    benchmark, case, against = FIGURES[words]
    (row,) = [
        row
        for part in stored.values()
        for row in part["rows"]
        if (row["benchmark"], row["case"]) == (benchmark, case)
        and row["against"].startswith(against)
    ]
    (line,) = [line for line in README.splitlines() if line.startswith(f"| {words}")]
    figure = row["value"] if benchmark == "tpu moved" else row["ratio"]
    assert float(line.split("|")[2]) == pytest.approx(figure, abs=0.0051)
    machine = next(part for part in stored.values() if row in part["rows"])["machine"]
    assert benchmark == "tpu moved" or f"two {machine['cpu']} cores" in README
