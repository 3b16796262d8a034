"""Adam equals optax's where optax is right, and is right where it is not."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import decoupled_wd as dwd
from decoupled_wd.preconditioners import _adam_step


def run(link, gradients, dtype=jnp.float32):
    """Every direction that `link` emits, compiled."""
    params = jax.tree.map(lambda g: jnp.zeros(g.shape[1:], dtype), gradients)

    def step(state, g):
        updates, state = link.update(g, state, params)
        return state, updates

    return jax.jit(lambda s: jax.lax.scan(step, s, gradients))(link.init(params))


@pytest.mark.parametrize("shape", [(), (7,), (5, 33)])
def test_adam_is_optax_adam_bit_for_bit(shape):
    gradients = {"w": jax.random.normal(jax.random.key(0), (300, *shape)) ** 3}
    (_, ours), (_, theirs) = (
        run(f(0.8, 0.95, 1e-6), gradients) for f in (dwd.scale_by_adam, optax.scale_by_adam)
    )
    chex.assert_trees_all_equal(ours, theirs)


def test_momentum_is_optax_trace_bit_for_bit():
    gradients = {"w": jax.random.normal(jax.random.key(0), (300, 9))}
    _, ours = run(dwd.scale_by_momentum(0.7), gradients)
    _, theirs = run(optax.trace(0.7), gradients)
    chex.assert_trees_all_equal(ours, theirs)


def falling(dtype):
    """A gradient that falls 100-fold and stays there: √v must follow it."""
    return jnp.concatenate([jnp.ones((2500, 4)), jnp.full((2500, 4), 0.01)]).astype(dtype)


def test_adam_in_bfloat16_is_adam_in_float32():
    state, ours = run(dwd.scale_by_adam(), falling(jnp.bfloat16), jnp.bfloat16)
    wide, expected = run(dwd.scale_by_adam(), falling(jnp.bfloat16).astype(jnp.float32))
    chex.assert_trees_all_close(ours, expected, rtol=1e-4)
    chex.assert_trees_all_close(state.nu, wide.nu, rtol=1e-4)
    frozen, _ = run(optax.scale_by_adam(), falling(jnp.bfloat16), jnp.bfloat16)
    ratio = np.sqrt(np.float32(frozen.nu[0]) / state.nu[0])
    assert ratio > 2, "optax's v froze, which is why ours is float32"


# Moments in bfloat16, rounded by chance


WIDE = 4096


def fallen(link):
    """The state after a gradient that falls 100-fold: 4096 weights, and as many dithers."""
    gradients = jnp.broadcast_to(falling(jnp.float32)[:, :1], (5000, WIDE))
    return run(link, gradients, jnp.bfloat16)[0]


def mean_and_error(moments):
    moments = np.asarray(moments, np.float64)
    return moments.mean(), moments.std() / np.sqrt(moments.size)


@pytest.mark.slow
def test_moments_in_bfloat16_follow_a_falling_gradient_within_their_sampling_error():
    narrow = {"mu_dtype": jnp.bfloat16, "nu_dtype": jnp.bfloat16}
    state, exact = fallen(dwd.scale_by_adam(0.99, **narrow)), fallen(dwd.scale_by_adam(0.99))
    for name in ("mu", "nu"):
        found, wide = getattr(state, name), getattr(exact, name)
        assert found.dtype == jnp.bfloat16
        mean, error = mean_and_error(found)
        assert abs(mean - wide[0]) < 4 * error
        assert error < 0.002 * wide[0]
    # rounded to nearest, as optax rounds it, v stays where it was
    theirs = optax.scale_by_adam(0.99, mu_dtype=jnp.bfloat16)
    frozen = fallen(theirs).nu.astype(jnp.float32)
    assert (frozen > 5 * exact.nu).all()


def test_momentum_in_bfloat16_follows_a_falling_gradient_within_its_sampling_error():
    narrow, wide = (
        fallen(dwd.scale_by_momentum(0.999, momentum_dtype=dtype)).momentum
        for dtype in (jnp.bfloat16, None)
    )
    mean, error = mean_and_error(narrow)
    assert abs(mean - wide[0]) < 4 * error
    assert error < 0.002 * wide[0]


def test_the_dither_of_moments_differs_by_moment_leaf_and_step_and_comes_back():
    """v and m have the same value here, so that only the dither can make them differ."""
    link = dwd.scale_by_adam(0.999, 0.999, mu_dtype=jnp.bfloat16, nu_dtype=jnp.bfloat16)
    params = {"a": jnp.zeros(WIDE), "b": jnp.zeros(WIDE)}
    ones, fresh = jax.tree.map(jnp.ones_like, params), link.init(params)

    def one_step(count):
        _, state = link.update(ones, fresh._replace(count=jnp.int32(count)), params)
        return [np.asarray(tree[key]) for tree in (state.mu, state.nu) for key in params]

    rounded = [*one_step(0), *one_step(1)]
    for i, one in enumerate(rounded):
        assert len(np.unique(one)) == 2
        for other in rounded[i + 1 :]:
            # up or down as the other in half of the places, or in those of their chances
            up, also = (x > x.min() for x in (one, other))
            expected = up.mean() * also.mean()
            assert abs((up & also).mean() - expected) < 4 * np.sqrt(expected / WIDE)
    np.testing.assert_array_equal(rounded, [*one_step(0), *one_step(1)])


def test_only_bfloat16_is_rounded_by_chance():
    g = jax.random.normal(jax.random.key(0), (64,))
    link = dwd.scale_by_adam(mu_dtype=jnp.float16, nu_dtype=jnp.bfloat16)
    _, state = link.update(g, link.init(g), g)
    np.testing.assert_array_equal(state.mu, (jnp.float32(1 - 0.9) * g).astype(jnp.float16))
    exact = jnp.float32(1 - 0.999) * g * g
    assert (state.nu != exact.astype(jnp.bfloat16)).any()
    np.testing.assert_allclose(state.nu, exact, rtol=2**-7)


@pytest.mark.parametrize("dtype", [jnp.float16, "float16", np.dtype("float16")])
@pytest.mark.parametrize(
    "make", [dwd.scale_by_adam, partial(dwd.adamw, 0.1, 0.1), partial(dwd.adam, 0.1, 0.1)]
)
def test_squares_are_not_kept_in_float16(make, dtype):
    """Of gradients of 1e-3 they would be 0, and steps 29 times too large after 2000 of them."""
    with pytest.raises(TypeError, match=r"nu_dtype must not be float16, .*; pass jnp.bfloat16"):
        make(nu_dtype=dtype)


def test_derivatives_pass_straight_through_moments_in_bfloat16():
    """Of the second step with respect to the first gradient, which it knows from the moments alone."""

    def slope(dtype):
        link = dwd.scale_by_adam(mu_dtype=dtype, nu_dtype=dtype)

        def second_step(g):
            _, state = link.update(g, link.init(g), g)
            return link.update(jnp.ones(2), state, g)[0].sum()

        return jax.grad(second_step)(jnp.array([0.5, -2.0]))

    assert (jnp.abs(slope(jnp.float32)) > 0.1).all()
    np.testing.assert_allclose(slope(jnp.bfloat16), slope(jnp.float32), rtol=0.05)


@pytest.mark.parametrize(
    ("mu", "nu"), [(None, None), (jnp.bfloat16, None), (None, "bfloat16"), ("float16", "float32")]
)
def test_the_storage_dtype_of_each_moment_is_selectable(mu, nu):
    link = dwd.scale_by_adam(mu_dtype=mu, nu_dtype=nu)
    params = jnp.ones(3, jnp.bfloat16)
    state = link.init(params)
    updates, after = link.update(params, state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    assert state.mu.dtype == jnp.dtype(mu or "float32")
    assert state.nu.dtype == jnp.dtype(nu or "float32")
    assert updates.dtype == jnp.float32


def test_narrow_moments_only_round():
    gradients = jax.random.normal(jax.random.key(0), (50, 64))
    _, narrow = run(dwd.scale_by_adam(mu_dtype=jnp.bfloat16), gradients)
    _, wide = run(dwd.scale_by_adam(), gradients)
    assert 0 < jnp.abs(narrow - wide).max() < 0.02


def test_momentum_in_bfloat16_keeps_float32():
    gradients = jnp.full((400, 3), 0.01, jnp.bfloat16)
    _, ours = run(dwd.scale_by_momentum(0.999), gradients, jnp.bfloat16)
    expected = float(gradients[0, 0]) * (1 - 0.999**400) / (1 - 0.999)
    np.testing.assert_allclose(ours[-1], expected, rtol=1e-4)


def test_complex_gradients_have_a_real_second_moment():
    link = dwd.scale_by_adam()
    g = jnp.array([3 + 4j])
    direction, state = link.update(g, link.init(g))
    assert state.nu.dtype == jnp.float32
    np.testing.assert_allclose(direction, g / 5, rtol=1e-4)


@pytest.mark.parametrize("link", [dwd.scale_by_adam(), dwd.scale_by_momentum()])
def test_what_is_not_floating_point_is_left_alone(link):
    params = {"w": jnp.ones(2), "steps": jnp.array([1, 2]), "key": jax.random.key(0), "none": None}
    state = link.init(params)
    gradients = {"w": jnp.ones(2), "steps": jnp.array([0, 0]), "key": params["key"], "none": None}
    updates, after = link.update(gradients, state, params)
    chex.assert_trees_all_equal_structs(state, after)
    assert updates["steps"] is gradients["steps"]
    assert updates["key"] is gradients["key"]


@pytest.mark.parametrize("link", [dwd.scale_by_adam(), dwd.scale_by_momentum()])
def test_an_absent_gradient_keeps_its_moments(link):
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    _, state = link.update(params, link.init(params), params)
    updates, after = link.update({"a": jnp.ones(2), "b": None}, state, params)
    assert updates["b"] is None
    chex.assert_trees_all_equal(*(jax.tree.leaves(s)[-1] for s in (state, after)))
    chex.assert_trees_all_equal_structs(state, after)


def test_an_averaging_rate_is_seen_in_the_precision_it_has(x64):
    """1 − 1e-9 is 1 in float32, where it freezes Adam: an error there (tests/wrong_numerics.py), and right here."""
    g = jnp.array([4.0])
    link = dwd.scale_by_adam(b1=0.0, b2=1 - 1e-9)
    np.testing.assert_allclose(link.update(g, link.init(g))[0], 1.0, rtol=1e-6)


# Leaves of other kinds


def test_an_averaging_rate_that_float32_rounds_to_one_is_refused():
    dwd.scale_by_adam(b2=1 - 1e-7)
    with pytest.raises(ValueError, match=r"b2 must be in \[0, 1\)"):
        dwd.scale_by_adam(b2=1 - 1e-9)


@pytest.mark.parametrize("dtype", [jnp.float8_e4m3fn, jnp.float8_e5m2])
def test_float8_is_computed_in_float32(dtype):
    params = {"w": jnp.asarray([0.5, -2.0], dtype)}
    for make in (dwd.adamw, dwd.sgdw):
        link = make(0.25, 0.25)
        state = link.init(params)
        assert {leaf.dtype for leaf in jax.tree.leaves(state.inner)} == {
            jnp.dtype("float32"),
            jnp.dtype("int32"),
        }
        updates, after = link.update(params, state, params)
        chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
        assert updates["w"].dtype == dtype
        wide = jax.tree.map(lambda p: p.astype(jnp.float32), params)
        expected, _ = link.update(wide, link.init(wide), wide)
        np.testing.assert_array_equal(updates["w"], expected["w"].astype(dtype))


def test_python_numbers_are_weights_as_in_optax():
    for make in (dwd.adamw, dwd.sgdw, dwd.adam):
        link, params = make(0.1, 0.1), {"scale": 2.0, "w": jnp.ones(2)}
        gradients = {"scale": 0.5, "w": jnp.ones(2)}
        updates, _ = link.update(gradients, link.init(params), params)
        arrays = [jax.tree.map(jnp.asarray, tree) for tree in (gradients, params)]
        expected, _ = link.update(arrays[0], link.init(arrays[1]), arrays[1])
        chex.assert_trees_all_close(updates, expected)
        assert updates["scale"].dtype == jnp.float32


def test_optimizers_with_the_same_numbers_share_what_was_compiled():
    assert _adam_step(0.9, 0.99, 1e-8) is _adam_step(0.9, 0.99, 1e-8)
    assert _adam_step(0.9, 0.99, 1e-8) is not _adam_step(0.8, 0.99, 1e-8)


def test_what_is_made_for_a_traced_number_does_not_outlive_its_trace():
    def steps(b1):
        assert _adam_step(b1, 0.99, 1e-8) is not _adam_step(b1, 0.99, 1e-8)
        link = dwd.scale_by_adam(b1)
        return link.update(jnp.ones(2), link.init(jnp.ones(2)))[0]

    with jax.checking_leaks():
        np.testing.assert_allclose(jax.jit(steps)(0.9), 1, rtol=1e-4)
