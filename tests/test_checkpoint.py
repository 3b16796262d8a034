"""A state saved by version 0.1.0 is restored into today's optimisers, and goes on to the same numbers."""

import json
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import decoupled_wd as dwd

FOLDER = Path(__file__).parent / "data" / "checkpoint-0.1.0"
MADE = runpy.run_path(str(FOLDER / "make.py"))  # the optimisers, of today's code
STORED = json.loads((FOLDER / "checkpoint.json").read_text())["optimizers"]
SHAPES = {"dense": {"bias": (2,), "kernel": (3, 2)}, "scale": (1,)}


def restored(template, stored):
    """The stored leaves in the structure of `template`: the same paths, dtypes and shapes, no more, no fewer."""
    assert list(MADE["leaves"](template)) == list(stored)
    leaves, structure = jax.tree.flatten(template)
    arrays = [jnp.asarray(values, dtype) for dtype, values in stored.values()]
    assert [(x.dtype, x.shape) for x in arrays] == [(x.dtype, x.shape) for x in leaves]
    return structure.unflatten(arrays)


@pytest.fixture(params=STORED)
def checkpoint(request):
    dtype, optimizer = MADE["OPTIMIZERS"][request.param]
    like = jax.tree.map(
        lambda shape: jnp.zeros(shape, dtype), SHAPES, is_leaf=lambda x: isinstance(x, tuple)
    )
    stored = STORED[request.param]
    gradients = [restored(like, g) for g in stored["gradients"]]
    params, state = restored(like, stored["params"]), optimizer.init(like)
    return optimizer, params, state, restored(state, stored["state"]), gradients, stored["end"]


def weights(params, state):
    return dwd.rounding.weights(state.rounding, params)


def distance(found, stored):
    """The largest difference from the stored weights, relative to them."""
    wanted = (np.asarray(values) for _, values in stored.values())
    pairs = zip(jax.tree.leaves(found), wanted, strict=True)
    return max(np.max(np.abs(np.asarray(x, np.float64) - y) / np.abs(y)) for x, y in pairs)


def test_training_goes_on_to_the_same_numbers(checkpoint):
    optimizer, params, _, state, gradients, end = checkpoint
    assert distance(weights(*MADE["run"](optimizer, params, state, gradients)), end) < 1e-6


def test_it_is_the_state_that_leads_there(checkpoint):
    optimizer, params, fresh, _, gradients, end = checkpoint
    assert distance(weights(*MADE["run"](optimizer, params, fresh, gradients)), end) > 1e-4


def test_every_optimiser_of_the_script_is_stored():
    assert list(STORED) == list(MADE["OPTIMIZERS"])
