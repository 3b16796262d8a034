"""Hyperball against levanter's formula in NumPy float64, and the laws of training on a sphere."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from optax.contrib import MuonDimensionNumbers, scale_by_muon

import decoupled_wd as dwd

STEPS, RATE = 100, 0.02
RNG = np.random.default_rng(0)


def muon(**options):
    """optax's direction for a tree of matrices, of which it must be told."""

    def every_leaf(tree):
        return jax.tree.map(lambda _: MuonDimensionNumbers(), tree)

    return scale_by_muon(weight_dimension_numbers=every_leaf, **options)


class Matrix:
    """A quadratic with a wave of its own, whose gradient is that of NumPy and JAX alike."""

    def __init__(self, *shape):
        self.curvature = RNG.uniform(0.5, 2, shape)
        self.optimum, self.start = RNG.normal(size=(2, *shape))

    def gradient(self, t, theta):
        h, o = (np.asarray(x, theta.dtype) for x in (self.curvature, self.optimum))
        wave = np.cos if isinstance(theta, np.ndarray) else jnp.cos
        return h * (theta - o) + 0.3 * wave(theta + t)

    def run(self, optimizer, steps=STEPS, dtype=float):
        """Every θ of the optimiser."""

        def step(carry, t):
            theta, state = carry
            gradients = {"kernel": self.gradient(t.astype(theta["kernel"].dtype), theta["kernel"])}
            updates, state = optimizer.update(gradients, state, theta)
            theta = optax.apply_updates(theta, updates)
            return (theta, state), theta["kernel"]

        start = {"kernel": jnp.asarray(self.start, dtype)}
        carry = start, optimizer.init(start)
        _, path = jax.jit(lambda c: jax.lax.scan(step, c, jnp.arange(1, steps + 1)))(carry)
        return np.concatenate([self.start[None], path])


def along(path, axes):
    return np.sqrt(np.sum(np.float64(path) ** 2, axis=axes))


COSINE = optax.cosine_decay_schedule(RATE, STEPS)
DIRECTIONS = {
    # ours, levanter's in NumPy, shape, arguments, the axes of one matrix
    "adamh": (optax.scale_by_adam(), reference.adam_direction, (24, 16), {}, None),
    "adamh, own": (dwd.scale_by_adam(), reference.adam_direction, (24, 16), {}, None),
    "adamh, stacked": (
        optax.scale_by_adam(),
        reference.adam_direction,
        (3, 12, 8),
        {"stacked_axes": 1},
        (1, 2),
    ),
    "muonh": (muon(nesterov=False), reference.muon_direction, (16, 24), {}, None),
}
RATES = {
    "constant": (RATE, lambda t: RATE),
    "cosine": (COSINE, lambda t: RATE * reference.cosine(STEPS)(t)),
}


def both(name, schedule, dtype=float):
    """The path of ours, that of levanter's formula, and the norms of ours over those at the start."""
    ours, theirs, shape, options, axes = DIRECTIONS[name]
    rate, at = RATES[schedule]
    matrix = Matrix(*shape)
    got = matrix.run(dwd.hyperball(ours, rate, **options), dtype=dtype)
    expected = reference.hyperball(
        matrix.start, theirs(matrix.gradient), learning_rate=at, steps=STEPS, axes=axes
    )
    over = (1, 2) if axes is None else (2, 3)
    return got, expected, along(got, over) / along(got[:1], over)


@pytest.mark.parametrize("schedule", RATES)
@pytest.mark.parametrize("name", DIRECTIONS)
def test_it_is_levanters_formula(x64, name, schedule):
    got, expected, norms = both(name, schedule)
    # Newton and Schulz amplify what is left of ε
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-7 if "muon" in name else 1e-11)
    np.testing.assert_allclose(norms, 1, rtol=1e-14)
    assert np.abs(got[-1] - got[0]).max() > 0.1


@pytest.mark.parametrize("schedule", RATES)
@pytest.mark.parametrize("name", DIRECTIONS)
def test_in_float32_it_is_levanters_formula_to_1e_5(name, schedule):
    got, expected, norms = both(name, schedule, jnp.float32)
    error = np.linalg.norm(got[-1] - expected[-1]) / np.linalg.norm(expected[-1])
    assert error < 1e-5
    np.testing.assert_allclose(norms, 1, rtol=2e-6)


# The laws of the sphere


PARAMS = {
    "dense": {"kernel": jnp.asarray(RNG.normal(size=(6, 4))), "bias": jnp.zeros(4)},
    "scale": jnp.ones(6),
}
SLOPES = jax.tree.map(lambda p: jnp.asarray(RNG.normal(size=p.shape), p.dtype), PARAMS)


def one_step(optimizer, gradients=SLOPES, params=PARAMS):
    updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(params), params)
    return optax.apply_updates(params, updates)


def test_a_step_at_a_right_angle_turns_by_the_learning_rate(x64):
    theta, u = jnp.array([[3.0, 4.0], [0.0, 0.0]]), jnp.array([[-4.0, 3.0], [5.0, 1.0]])
    for rate in (1e-3, 0.3):
        new = one_step(dwd.hyperball(optax.identity(), rate), u, theta)
        cosine = jnp.vdot(theta, new) / 25
        np.testing.assert_allclose(jnp.arccos(cosine), np.arctan(rate), rtol=1e-9)


def test_only_the_direction_of_a_direction_counts():
    """So that gradient clipping and the scale of a direction change nothing where a norm is held."""
    expected = one_step(dwd.hyperball(optax.identity(), RATE))
    for factor in (1e-6, 1e6):
        got = one_step(dwd.hyperball(optax.scale(factor), RATE))
        chex.assert_trees_all_close(got["dense"]["kernel"], expected["dense"]["kernel"], rtol=2e-6)
        assert jnp.abs(got["scale"] - expected["scale"]).max() > 1e-3


def test_what_is_not_held_takes_the_plain_step():
    plain = one_step(optax.adam(RATE))
    held = one_step(dwd.hyperball(optax.scale_by_adam(), RATE))
    chex.assert_trees_all_close(held["scale"], plain["scale"], rtol=1e-6)
    chex.assert_trees_all_close(held["dense"]["bias"], plain["dense"]["bias"], rtol=1e-6)
    assert jnp.abs(held["dense"]["kernel"] - plain["dense"]["kernel"]).max() > 1e-3


def test_every_layer_of_a_stack_is_trained_as_if_it_stood_alone():
    stack = {"kernel": jnp.asarray(RNG.normal(size=(3, 5, 4))), "gain": jnp.ones((3, 4))}
    slopes = jax.tree.map(lambda p: jnp.asarray(RNG.normal(size=p.shape)), stack)
    got = one_step(dwd.hyperball(optax.scale_by_adam(), RATE, stacked_axes=1), slopes, stack)

    def layer(number, tree):
        return jax.tree.map(lambda x: x[number], tree)

    for number in range(3):
        optimizer = dwd.hyperball(optax.scale_by_adam(), RATE)
        alone = one_step(optimizer, layer(number, slopes), layer(number, stack))
        chex.assert_trees_all_close(layer(number, got), alone, rtol=1e-6)


def test_without_a_direction_nothing_moves():
    still = jax.tree.map(jnp.zeros_like, PARAMS)
    got = one_step(dwd.hyperball(optax.scale_by_adam(), RATE), still)
    chex.assert_trees_all_close(got, PARAMS, rtol=2e-7)
    absent = {"dense": {"kernel": None, "bias": SLOPES["dense"]["bias"]}, "scale": None}
    optimizer = dwd.hyperball(optax.identity(), RATE)
    updates, _ = optimizer.update(absent, optimizer.init(PARAMS), PARAMS)
    assert updates["dense"]["kernel"] is None
    assert updates["scale"] is None


def test_it_is_the_composition_that_its_page_shows():
    """Where every weight is held, a direction of length R, and λ = 1 towards the norm reached."""
    kernel, slope = PARAMS["dense"]["kernel"], SLOPES["dense"]["kernel"]
    radius = jnp.linalg.norm(kernel)
    composed = dwd.decouple(
        optax.chain(
            optax.stateless(lambda u, _: radius * u / jnp.linalg.norm(u)),
            optax.scale_by_learning_rate(RATE),
        ),
        optax.constant_schedule(1.0),
        coupling=dwd.CONSTANT,
        rule=dwd.rules.onto_norm(),
    )
    got = one_step(dwd.hyperball(optax.identity(), RATE), slope, kernel)
    np.testing.assert_allclose(got, one_step(composed, slope, kernel), rtol=1e-6)


def test_muon_on_matrices_and_adam_elsewhere():
    labels = {"dense": {"kernel": "muon", "bias": "adam"}, "scale": "adam"}
    direction = optax.partition({"muon": muon(), "adam": optax.scale_by_adam()}, labels)
    got = one_step(dwd.hyperball(direction, RATE))
    kernel = {"kernel": PARAMS["dense"]["kernel"]}, {"kernel": SLOPES["dense"]["kernel"]}
    alone = one_step(dwd.hyperball(muon(), RATE), *kernel[::-1])
    chex.assert_trees_all_close(got["dense"]["kernel"], alone["kernel"], rtol=1e-6)
    chex.assert_trees_all_close(got["scale"], one_step(optax.adam(RATE))["scale"], rtol=1e-6)


def test_bfloat16_weights_with_the_residual_train_as_float32_weights():
    matrix = Matrix(32, 24)
    matrix.start = np.asarray(jnp.asarray(matrix.start, jnp.bfloat16), np.float32)
    wide = dwd.hyperball(dwd.scale_by_adam(), 1e-3)
    narrow = dwd.hyperball(dwd.scale_by_adam(), 1e-3, rounding=dwd.rounding.residual())
    float32 = {"kernel": jnp.asarray(matrix.start)}
    bfloat16 = jax.tree.map(lambda p: p.astype(jnp.bfloat16), float32)
    states = wide.init(float32), narrow.init(bfloat16)
    radius = np.linalg.norm(np.float64(matrix.start))
    for t in range(1, 51):
        g = {"kernel": matrix.gradient(jnp.float32(t), float32["kernel"]).astype(jnp.bfloat16)}
        same = jax.tree.map(lambda x: x.astype(jnp.float32), g)
        updates, first = jax.jit(wide.update)(same, states[0], float32)
        float32 = optax.apply_updates(float32, updates)
        updates, second = jax.jit(narrow.update)(g, states[1], bfloat16)
        bfloat16 = optax.apply_updates(bfloat16, updates)
        states = first, second
        carried = dwd.rounding.weights(states[1], bfloat16)["kernel"]
        np.testing.assert_allclose(carried, float32["kernel"], rtol=0, atol=3e-6)
        # 4e-6 leaves room for the float32 norms of other processors, and is 2^-9 of bfloat16's
        np.testing.assert_allclose(np.linalg.norm(np.float64(carried)), radius, rtol=4e-6)
    assert bfloat16["kernel"].dtype == jnp.bfloat16
    assert np.abs(float32["kernel"] - matrix.start).max() > 0.01


def test_a_record_shows_full_decay_and_the_angle_turned():
    optimizer = dwd.record(dwd.hyperball(optax.scale_by_adam(), RATE))
    _, state = optimizer.update(SLOPES, optimizer.init(PARAMS), PARAMS)
    kernel = dwd.recorded(state, PARAMS)["dense/kernel"]
    assert (float(kernel.c), float(kernel.lr)) == (1.0, pytest.approx(RATE))
    assert float(kernel.growth) < 1e-3
    u = SLOPES["dense"]["kernel"] / jnp.abs(SLOPES["dense"]["kernel"])
    theta = PARAMS["dense"]["kernel"]
    moved = theta / jnp.linalg.norm(theta) - RATE * u / jnp.linalg.norm(u)
    cosine = jnp.vdot(theta, moved) / jnp.linalg.norm(theta) / jnp.linalg.norm(moved)
    assert float(kernel.angle) == pytest.approx(float(jnp.arccos(cosine)), rel=1e-2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_describe_and_preflight_take_its_arguments():
    full = {"coupling": dwd.CONSTANT, "mask": dwd.masks.matrices()}
    described = str(dwd.describe(PARAMS, 1.0, rule=dwd.rules.onto_norm(), **full))
    assert "held at its norm" in described
    assert "overshoots" not in described
    assert not dwd.preflight(PARAMS, 1.0, on_loss="raise", **full).losses


@pytest.mark.parametrize("finished", [optax.adam(0.1), optax.sgd(0.1), optax.contrib.muon(0.1)])
def test_a_finished_optimiser_would_climb_and_is_refused(finished):
    with pytest.raises(ValueError, match=r"direction goes against the gradient, .* before its"):
        dwd.hyperball(finished, RATE).init(PARAMS)


@pytest.mark.parametrize(
    "direction",
    [
        optax.identity(),
        optax.scale_by_lion(),
        optax.chain(optax.centralize(), optax.scale_by_adam()),
        optax.partition({"all": optax.identity()}, jax.tree.map(lambda _: "all", PARAMS)),
    ],
)
def test_other_directions_start(direction):
    dwd.hyperball(direction, RATE).init(PARAMS)


def test_no_warning_and_no_decay_inside(recwarn):
    dwd.hyperball(optax.scale_by_adam(), RATE).init(PARAMS)
    assert not recwarn.list
    with pytest.raises(ValueError, match="inner decays already"):
        dwd.hyperball(dwd.adamw(0.1, 0.1), RATE).init(PARAMS)
