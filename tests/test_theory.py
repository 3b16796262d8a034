"""The formulas of the equilibrium, against simulations of weights whose gradients are random and orthogonal."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import decoupled_wd as dwd
from decoupled_wd import theory

SIZE, WEIGHTS = 64, 48


def simulated(optimizer, norm, steps, kept):
    """RMS norm and angle over the last steps, under orthogonal gradients of norm 1/‖θ‖."""
    optimizer = dwd.record(optimizer)

    def run(key):
        start, noise = jax.random.split(key)

        def step(carry, key):
            theta, state = carry
            r = jnp.linalg.norm(theta)
            n = jax.random.normal(key, (SIZE,)) / SIZE**0.5
            g = (n - theta * (theta @ n) / r**2) / r
            updates, state = optimizer.update(g, state, theta)
            return (theta + updates, state), (state.total.weight_norm, state.total.angle)

        theta = jax.random.normal(start, (SIZE,))
        theta = norm * theta / jnp.linalg.norm(theta)
        return jax.lax.scan(step, (theta, optimizer.init(theta)), jax.random.split(noise, steps))[1]

    keys = jax.random.split(jax.random.key(0), WEIGHTS)
    rows = jax.tree.map(
        lambda x: np.asarray(x, np.float64)[:, -kept:], jax.jit(jax.vmap(run))(keys)
    )
    return tuple(math.sqrt(np.mean(x**2)) for x in rows)


LR, C, BETA = 1e-2, 2e-3, 0.9
ADAMW = {"learning_rate": LR, "size": SIZE}
SGDW = {"learning_rate": LR, "gradient_norm": 1.0}
CASES = {
    "adamw": (dwd.adamw(LR, C), theory.adamw_norm(C, **ADAMW), theory.rotation(C, BETA)),
    "adamw-0.5": (dwd.adamw(LR, C, b1=0.5), theory.adamw_norm(C, **ADAMW), theory.rotation(C, 0.5)),
    "sgdw": (dwd.sgdw(LR, C), theory.sgdw_norm(C, **SGDW), theory.rotation(C, BETA)),
    "sgdw-plain": (
        dwd.sgdw(LR, C, momentum=0.0),
        theory.sgdw_norm(C, momentum=0.0, **SGDW),
        theory.rotation(C, 0.0),
    ),
    "adamw-nesterov": (
        dwd.decouple(optax.adam(LR, nesterov=True), C, learning_rate=LR),
        theory.adamw_norm(C, **ADAMW),
        theory.rotation(C, BETA, nesterov=True),
    ),
    "sgdw-nesterov": (
        dwd.decouple(optax.sgd(LR, momentum=BETA, nesterov=True), C, learning_rate=LR),
        theory.sgdw_norm(C, **SGDW),
        theory.rotation(C, BETA, nesterov=True),
    ),
    "sgd": (  # its L2 term passes through the momentum
        dwd.decouple(dwd.sgd(LR, C * (1 - BETA) / LR), 0.0),
        theory.sgdw_norm(C, **SGDW),
        theory.rotation(C, BETA),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_weights_settle_where_the_formulas_say(name):
    optimizer, norm, angle = CASES[name]
    got = simulated(optimizer, 1.2 * norm, steps=2500, kept=1000)
    assert got == (pytest.approx(norm, rel=0.02), pytest.approx(angle, rel=0.02))


def test_lion_settles_where_the_formulas_say():
    c = 4e-4
    optimizer = dwd.decouple(optax.lion(LR, weight_decay=0.0), c)
    norm, angle = theory.lion_norm(c, learning_rate=LR, size=SIZE), theory.lion_rotation(c)
    got = simulated(optimizer, 1.1 * norm, steps=4500, kept=1500)
    assert got == (pytest.approx(norm, rel=0.04), pytest.approx(angle, rel=0.04))


@pytest.mark.parametrize("lam", [0.01, 0.3])
def test_the_formulas_are_those_printed_for_the_lr_coupled_unit(lam):
    """a and λ of Kosson et al., table 1: AdamW's c is aλ, that of SGD with L2 is aλ/(1−μ)."""
    a, mu, size, g = 3e-3, 0.9, 100, 0.7
    c = a * lam
    assert theory.rotation(c, 0.9) == pytest.approx(np.sqrt(2 * a * lam * 0.1 / 1.9))
    assert theory.rotation(c / (1 - mu), mu) == pytest.approx(np.sqrt(2 * a * lam / (1 + mu)))
    norm = theory.adamw_norm(c, learning_rate=a, size=size)
    assert norm == pytest.approx(np.sqrt(a * size / (2 * lam)))
    norm = theory.sgdw_norm(c / (1 - mu), learning_rate=a, gradient_norm=g, momentum=mu)
    assert norm == pytest.approx((a * g**2 / (2 * lam * (1 - mu))) ** 0.25)
    spread = np.sqrt((1 - 0.9) ** 2 + 0.9**2 * (1 - 0.99) / (1 + 0.99))
    assert theory.lion_rotation(c) == pytest.approx(np.sqrt(np.pi * a * lam) * spread)


@pytest.mark.parametrize("steps", [1, 7, 1e4])
def test_timescale_and_half_life_invert_the_strengths(steps):
    assert theory.timescale(dwd.from_timescale(steps=steps)) == pytest.approx(steps)
    assert theory.half_life(dwd.from_half_life(steps=steps)) == pytest.approx(steps)


def test_no_decay_takes_for_ever_and_full_decay_no_time():
    assert theory.timescale(0.0) == theory.half_life(0.0) == math.inf
    assert theory.half_life(1.0) == theory.half_life(1.5) == 0
    assert theory.half_life(1e-12) == pytest.approx(math.log(2) * 1e12)


def test_arrays_and_traced_fractions():
    c = np.array([0.0, 1e-4, 1e-3])
    expected = [theory.rotation(x) for x in c]
    np.testing.assert_allclose(theory.rotation(c), expected)
    np.testing.assert_allclose(jax.jit(theory.rotation)(c.astype(np.float32)), expected, rtol=1e-6)
    assert jax.jit(theory.rotation)(np.zeros(0, np.float32)).shape == (0,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.timescale(-1.0), "fraction must be finite and >= 0"),
        (lambda: theory.half_life(math.nan), "fraction must be finite and >= 0"),
        (lambda: theory.rotation(np.array([1e-3, -1e-3])), "fraction must be finite and >= 0"),
        (lambda: theory.rotation(np.array([1e-3, np.nan])), "fraction must be finite and >= 0"),
        (lambda: theory.rotation(1e-3, 1.0), "momentum must be in"),
        (lambda: theory.lion_rotation(1e-3, b2=2.0), "b2 must be in"),
        (
            lambda: theory.adamw_norm(0.0, learning_rate=1.0, size=3),
            "fraction must be finite and > 0",
        ),
        (lambda: theory.adamw_norm(0.1, learning_rate=1.0, size=0), "size must be finite and > 0"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
