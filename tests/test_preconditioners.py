"""Adam equals optax's where optax is right, and is right where it is not."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import decoupled_wd as dwd


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
