"""λ over time and place: schedules and traced numbers for single leaves, in trees of λ and in masks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import PARAMS

import decoupled_wd as dwd


def close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


FALLING = optax.linear_schedule(0.3, 0.0, 4)
SCHEDULED = {
    "a tree of λ": lambda value: {"weight_decay": {"dense": value, "scale": 0.2}},
    "a tree of multipliers": lambda value: {
        "weight_decay": 1.0,
        "mask": {"dense": value, "scale": 0.2},
    },
    "patterns": lambda value: {
        "weight_decay": 1.0,
        "mask": dwd.masks.matching(("dense/.*", value), (".*", 0.2)),
    },
    "a product": lambda value: {
        "weight_decay": 0.5,
        "mask": value * dwd.masks.matching(("dense/.*", 2.0), (".*", 0.0))
        | dwd.masks.matching(("dense/.*", 0.0), (".*", 0.4)),
    },
}


def path_of(options, steps=6):
    """θ after each step of decay alone, and the states before and after; compiled."""
    link = dwd.decay_weights(**options)
    still = jax.tree.map(jnp.zeros_like, PARAMS)

    def step(carry, _):
        params, state = carry
        updates, state = link.update(still, state, params, gradients=still)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    start = link.init(PARAMS)
    (_, state), path = jax.jit(lambda c: jax.lax.scan(step, c, length=steps))((PARAMS, start))
    return path, start, state


@pytest.mark.parametrize("form", SCHEDULED)
def test_a_schedule_for_one_group_is_the_formula_in_float64(form):
    path, start, state = path_of(SCHEDULED[form](FALLING))
    kept = np.cumprod([1 - max(0.3 * (1 - t / 4), 0) for t in range(6)])
    kernel = np.asarray(PARAMS["dense"]["kernel"], np.float64)
    close(path["dense"]["kernel"], kept[:, None, None] * kernel)
    close(path["scale"], 0.8 ** np.arange(1, 7)[:, None] * np.asarray(PARAMS["scale"]))
    # as with a number, so that a checkpoint survives a change of mind
    number = dwd.decay_weights(**SCHEDULED[form](0.3)).init(PARAMS)
    assert jax.tree.structure(start) == jax.tree.structure(state) == jax.tree.structure(number)
    assert jax.tree.map(jnp.shape, start) == jax.tree.map(jnp.shape, number)


@pytest.mark.parametrize("form", SCHEDULED)
@pytest.mark.parametrize("rule", [dwd.rules.towards_zero(), dwd.rules.towards_start()])
def test_traced_numbers_of_single_leaves_need_one_program(form, rule):
    traces = []

    @jax.jit
    def run(value):
        traces.append(value)
        options = SCHEDULED[form](value)
        optimizer = dwd.sgdw(0.1, coupling=dwd.CONSTANT, rule=rule, **options)
        gradients = jax.tree.map(jnp.ones_like, PARAMS)
        params, state = PARAMS, optimizer.init(PARAMS)
        for _ in range(2):
            updates, state = optimizer.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
        return params

    for value in (0.1, 0.3, 0.0):
        known = dwd.sgdw(0.1, coupling=dwd.CONSTANT, rule=rule, **SCHEDULED[form](value))
        gradients, params, state = jax.tree.map(jnp.ones_like, PARAMS), PARAMS, known.init(PARAMS)
        for _ in range(2):
            updates, state = known.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
        jax.tree.map(lambda x, y: close(x, y), run(value), params)
    assert len(traces) == 1
    slope = jax.grad(lambda value: run(value)["dense"]["kernel"].sum())(0.1)
    assert np.isfinite(slope)
    assert slope != 0


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": {"dense": FALLING, "scale": 0.0}},
        {"weight_decay": {"dense": 0.1, "scale": FALLING}, "mask": {"dense": 1.0, "scale": 0.0}},
        {"weight_decay": {"dense": 0.1, "scale": 0.0}, "mask": {"dense": 1.0, "scale": FALLING}},
        {"weight_decay": FALLING, "mask": {"dense": FALLING, "scale": 0.0}},
    ],
)
def test_a_known_zero_leaves_a_leaf_alone_beside_a_schedule(options):
    infinite = PARAMS | {"scale": jnp.array([jnp.inf])}
    link = dwd.decay_weights(**options)
    updates, _ = link.update(infinite, link.init(infinite), infinite, gradients=infinite)
    assert float(updates["scale"][0]) == jnp.inf
    if options.get("mask", {}).get("scale") == 0.0:
        held = dwd.decay_weights(**options, rule=dwd.rules.towards_start()).init(PARAMS).rule
        assert len(jax.tree.leaves(held)) == 2


def test_a_tree_of_schedules_is_scaled_by_its_coupling_and_recorded():
    schedule = optax.linear_schedule(0.1, 0.0, 10)
    tree = {"dense": FALLING, "scale": 0.5}
    optimizer = dwd.record(dwd.sgdw(schedule, tree, peak_learning_rate=0.1))
    state, gradients = optimizer.init(PARAMS), jax.tree.map(jnp.ones_like, PARAMS)
    step = jax.jit(optimizer.update)
    for t in range(3):
        _, state = step(gradients, state, PARAMS)
        rows = dwd.recorded(state, PARAMS)
        eta = 1 - t / 10
        assert float(rows["dense/kernel"].c) == pytest.approx(eta * 0.3 * (1 - t / 4))
        assert float(rows["scale"].c) == pytest.approx(eta * 0.5)
