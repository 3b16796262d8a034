"""What a type checker says of a program that uses the package."""

import importlib.util
import re
import subprocess
import sys

import pytest

PROGRAM = """
import dataclasses

import jax.numpy as jnp
import numpy as np
import optax

import decoupled_wd as dwd


@dataclasses.dataclass
class Model:
    weight: float


def halved(step: int) -> float:
    return 0.5**step


dwd.adamw(1e-3, 1e-4)
dwd.adamw(halved, halved, peak_learning_rate=1.0)
dwd.adamw(optax.constant_schedule(1e-3), np.float32(1e-4), peak_learning_rate=jnp.float32(1e-3))
dwd.adamw(1e-3, {"kernel": 1e-4, "bias": 0.0}, mask=lambda params: {"kernel": True, "bias": False})
dwd.adamw(1e-3, Model(1e-4), mask=dwd.masks.matrices() & dwd.masks.without("bias"))
dwd.decouple(optax.lion(1e-4), (1e-4, None), coupling="torch", rule=dwd.rules.lp(1))
dwd.decouple(optax.lion(1e-4), 1e-4, rule=dwd.rules.onto_norm(2.0, axis=slice(1, None)))
dwd.hyperball(optax.scale_by_adam(), halved, stacked_axes=1, mask=dwd.masks.matrices())
dwd.sgdw(1e-3, 1e-4, momentum=0.9, rounding=dwd.rounding.residual())
dwd.describe({"kernel": jnp.ones(3)}, 1e-4, mask={"kernel": True})
dwd.preflight({"kernel": jnp.ones(3)}, 1e-4, on_loss="raise")
half_life: float = dwd.theory.half_life(1e-4)

dwd.adamw(1e-3, "x")  # wrong
dwd.adamw("1e-3", 1e-4)  # wrong
dwd.adamw(1e-3, 1e-4, b1="0.9")  # wrong
dwd.adamw(1e-3, 1e-4, coupling=1)  # wrong
dwd.adamw(1e-3, 1e-4, mask="kernel")  # wrong
dwd.sgd(1e-3, None)  # wrong
dwd.decay_weights(1e-3, peak_learning_rate=halved)  # wrong
dwd.rules.towards_norm("0.5")  # wrong
dwd.preflight({}, 1e-4, on_loss="shout")  # wrong
dwd.hyperball(optax.scale_by_adam(), "1e-3")  # wrong
dwd.rules.touched(dwd.rules.lp(1), axis="0")  # wrong
dwd.warm_restarts(halved, first_cycle_steps=10)  # wrong
"""


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("mypy"), reason="needs mypy")
def test_a_type_checker_finds_what_is_wrong_and_nothing_else(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", str(path)]
    found = subprocess.run(command, capture_output=True, text=True)
    got = {int(line) for line in re.findall(r"program\.py:(\d+): error", found.stdout)}
    wrong = {n for n, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# wrong")}
    assert got == wrong, found.stdout + found.stderr
