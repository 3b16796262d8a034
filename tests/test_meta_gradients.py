"""Derivatives through training, with respect to λ, α and the start, against finite differences.

Weights, gradients and norms of zero are among them, where roots are steep: "dead" is a tensor of zeros without a
gradient, and of "w" the first weights are 0 without a gradient, at its optimum, and with a gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import decoupled_wd as dwd
from decoupled_wd._base.leaves import root
from decoupled_wd.preconditioners import scale_by_adabound
from decoupled_wd.rules import (
    cautious,
    huber,
    lp,
    onto_norm,
    touched,
    towards,
    towards_norm,
    towards_start,
    towards_zero,
)

START = {"dead": np.zeros((2, 2)), "w": np.array([0.0, 0.0, 0.0, 1.0, -2.0, 0.3])}
CURVATURE = {"dead": np.zeros((2, 2)), "w": np.array([0.0, 1.0, 1.0, 0.5, 2.0, 1.0])}
OPTIMUM = {"dead": np.zeros((2, 2)), "w": np.array([0.0, 0.0, 1.0, -1.0, 1.0, 0.31])}
READ = {"dead": np.array([[1.0, 0.5], [-1.0, 2.0]]), "w": np.array([0.7, 1.0, -1.0, 0.4, 1.3, 0.9])}
LAMBDA, ALPHA, STEPS, H = 0.3, 0.05, 4, 1e-8

RULES = {
    "towards_zero": towards_zero(),
    "towards_start": towards_start(),
    "towards": towards(0.25),
    "towards_norm": towards_norm(0.5),
    "towards_norm-zero": towards_norm(0.0),
    "towards_norm-start": towards_norm(),
    "towards_norm-axis": towards_norm(axis=0),
    "onto_norm": onto_norm(0.5),
    "onto_norm-start": onto_norm(),
    "onto_norm-axis": onto_norm(axis=0),
    "onto_norm-one_sided": onto_norm(one_sided=True),
    "huber": huber(0.5),
    "huber-wide": huber(1e3),
    "touched": touched(towards_zero()),
    "touched-lp": touched(lp(1)),
    "lp-1": lp(1),
    "lp-1.5": lp(1.5),
    "lp-2": lp(2),
    "lp-3": lp(3),
    "cautious": cautious(towards_zero()),
    "cautious-lp": cautious(lp(1)),
    "cautious-start": cautious(towards_start()),
}
OPTIMIZERS = {
    "sgdw": lambda lam, lr, rule: dwd.sgdw(lr, lam, coupling=dwd.LR, rule=rule),
    "adamw": lambda lam, lr, rule: dwd.adamw(lr, lam, coupling=dwd.LR, rule=rule, eps=1e-2),
    "adabound": lambda lam, lr, rule: dwd.decouple(
        optax.chain(
            scale_by_adabound(learning_rate=lr, peak_learning_rate=lr, eps=1e-2), optax.scale(-1)
        ),
        lam,
        learning_rate=lr,
        coupling=dwd.LR,
        rule=rule,
    ),
}
# a norm of 0 has no neighbours of the same direction, and caution jumps where the update meets a zero
STAYS = {"towards_norm": {"dead": 0.0}, "onto_norm": {"dead": 0.0}}
STAYS |= {name: {"w": np.array([1, 0, 0, 1, 1, 1])} for name in RULES if "cautious" in name}
# nor does a weight at its optimum have neighbours without a gradient
STAYS |= {name: {"w": np.array([1, 0, 1, 1, 1, 1])} for name in RULES if "touched" in name}
STEEP = (
    "towards_zero",
    "towards_norm-start",
    "onto_norm-start",
    "lp-1",
    "lp-1.5",
    "cautious-start",
)
PAIRS = (
    [("sgdw", rule) for rule in RULES]
    + [("adamw", rule) for rule in STEEP]
    + [("adabound", "lp-1")]
)


def trained(optimizer, start):
    """A number that reads off the weights after training."""
    curvature, optimum, read = jax.tree.map(jnp.array, (CURVATURE, OPTIMUM, READ))

    def step(carry, _):
        params, state = carry
        gradients = jax.tree.map(
            lambda h, p, o: (h * (p.astype(float) - o)).astype(p.dtype), curvature, params, optimum
        )
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=STEPS)
    products = jax.tree.map(lambda a, p: jnp.sum(a * p.astype(float)), read, params)
    return sum(jax.tree.leaves(products))


def check(function, *points):
    """Both modes against central differences, or at the end of the range of λ against those inwards."""

    @jax.jit
    def all_modes(x):
        return function(x), jax.jacfwd(function)(x), jax.grad(function)(x)

    for x in points:
        below, above = (np.array([x] * len(x)) + sign * H * np.eye(len(x)) for sign in (-1, 1))
        below[:, 0] = np.maximum(below[:, 0], 0)
        values = [[float(all_modes(row)[0]) for row in rows] for rows in (below, above)]
        expected = np.subtract(*values[::-1]) / np.diag(above - below)
        _, forward, reverse = all_modes(np.array(x))
        np.testing.assert_allclose(forward, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(reverse, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("optimizer", "rule"), PAIRS)
def test_with_respect_to_lambda_alpha_and_the_start(x64, rule, optimizer):
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda p: rng.normal(size=p.shape), START)
    direction |= {key: direction[key] * x for key, x in STAYS.get(rule, {}).items()}

    def final(x):
        link = OPTIMIZERS[optimizer](x[0], x[1], RULES[rule])
        return trained(link, jax.tree.map(lambda p, d: p + x[2] * d, START, direction))

    check(final, (LAMBDA, ALPHA, 0.0), (0.0, ALPHA, 0.0))


@pytest.mark.parametrize("stays", [0.0, 1.0])
@pytest.mark.parametrize("direction", [optax.identity(), dwd.scale_by_adam(eps=1e-2)])
def test_of_training_on_a_sphere(x64, direction, stays):
    """A matrix of zeros is held at 0, or moves away from it in the start; a direction of 0 is no step."""
    rng = np.random.default_rng(0)
    turn = jax.tree.map(lambda p: rng.normal(size=p.shape), START)
    turn["dead"] = turn["dead"] * stays

    def final(x):
        optimizer = dwd.hyperball(direction, x[0], mask=dwd.masks.everything())
        return trained(optimizer, jax.tree.map(lambda p, d: p + x[1] * d, START, turn))

    check(final, (ALPHA, 0.0), (0.0, 0.0))


@pytest.mark.parametrize("make", [dwd.sgd, dwd.adam])
def test_l2_in_the_gradient(x64, make):
    start = jax.tree.map(jnp.asarray, START)
    check(lambda x: trained(make(x[1], x[0]), start), (LAMBDA, ALPHA), (0.0, ALPHA))


def test_a_root_is_flat_at_zero_and_a_root_elsewhere(x64):
    from_zero = jax.grad(lambda x: root(x).sum())(jnp.array([0.0, 1e-300, 4.0]))
    np.testing.assert_allclose(from_zero, [0, 0.5e150, 0.25])
    assert jax.jvp(root, (0.0,), (1.0,)) == (0, 0)
    np.testing.assert_allclose(jax.grad(jax.grad(root))(4.0), -1 / 32)


# Behind a rounding link


LINKS = {
    "residual": dwd.rounding.residual,
    "byte": lambda: dwd.rounding.residual(bits=8),
    "stochastic": lambda: dwd.rounding.stochastic_rounding(0),
}


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_rounding_link_passes_derivatives_straight_through(link, wrap):
    """To within bfloat16, in which they are kept between steps; without a rule for it they are exactly 0."""
    wide = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), START)
    narrow = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), START)

    def final(lam, start, rounding=None):
        return trained(dwd.sgdw(ALPHA, lam, coupling=dwd.LR, rounding=rounding), start)

    expected = jax.grad(final)(LAMBDA, wide)
    assert abs(expected) > 0.01
    through = wrap(lambda lam: final(lam, narrow, LINKS[link]()))
    got = jax.grad(through)(LAMBDA), jax.jvp(through, (LAMBDA,), (1.0,))[1]
    np.testing.assert_allclose(got, expected, rtol=0.02)


@pytest.mark.parametrize("link", LINKS)
def test_a_weight_that_stays_has_the_derivative_of_one_that_moves(link):
    link, p = LINKS[link](), jnp.full(3, 1.5, jnp.bfloat16)
    tangent = jnp.array([1.0, -2.0, 1e-6])

    def emitted(u):
        return link.update(u, link.init(p), p)[0]

    updates, straight = jax.jvp(emitted, (jnp.full(3, 1e-9),), (tangent,))
    assert not updates.any()
    np.testing.assert_array_equal(straight, tangent)


def test_the_straight_derivative_is_that_of_the_sum():
    link, p = dwd.rounding.residual(), jnp.full(3, 1.5, jnp.bfloat16)
    state = link.init(p)
    _, state = link.update(jnp.full(3, 1e-3), state, p)

    def step(u):
        updates, after = link.update(u, state, p)
        return updates, dwd.rounding.weights(after, p)

    tangent = jnp.array([1.0, -2.0, 1e-6])
    (updates, _), (straight, _) = jax.jvp(step, (jnp.full(3, 0.01),), (tangent,))
    assert straight.dtype == updates.dtype == jnp.float32
    np.testing.assert_array_equal(straight, tangent)
    held = jax.grad(lambda p: dwd.rounding.weights(state, p).sum())(p)
    assert held.dtype == jnp.bfloat16
    np.testing.assert_array_equal(held.astype(float), 1)
