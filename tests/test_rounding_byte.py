"""24 bits a weight: the byte beside a bfloat16 is right on average, where rounding it to nearest loses the decay."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import decoupled_wd as dwd
from decoupled_wd import rounding
from decoupled_wd.rounding._halves import as_byte, cut_with, halved, joined, split

DITHERS = np.arange(1 << 8, dtype=np.uint8)
HIGH = [0x0000, 0x8000, 0x0001, 0x0080, 0x3F7F, 0x3F80, 0xBF80, 0x4049, 0xC2F7, 0x7F7E, 0x1234]
LOW = np.random.default_rng(0).integers(0, 1 << 16, 300, np.uint32)


def floats(bits):
    return np.asarray(bits, np.uint32).view(np.float32)


def bits32(x):
    return np.asarray(x, np.float32).view(np.uint32)


@pytest.mark.parametrize("high", HIGH, ids=hex)
def test_a_weight_and_its_byte_are_24_bits_of_the_float32(high):
    w = floats((high << 16) | (np.arange(1 << 8) << 8))
    for p, byte in (halved(jnp.asarray(w), jnp.uint8), (split(w)[0], as_byte(split(w)[1]))):
        assert (p.dtype, byte.dtype) == (jnp.bfloat16, jnp.uint8)
        np.testing.assert_array_equal(bits32(joined(p, byte)), bits32(w))


@pytest.mark.parametrize("high", HIGH, ids=hex)
def test_the_mean_over_all_dithers_is_the_float32_weight_exactly(high):
    w = floats((high << 16) | LOW)
    cut = cut_with(jnp.asarray(w)[:, None], jnp.asarray(DITHERS))
    p, low = split(cut)
    held = np.asarray(joined(p, as_byte(low)), np.float64)
    np.testing.assert_array_equal(held, np.asarray(cut, np.float64))
    # of 256 numbers of 24 bits the sum is exact in float64
    np.testing.assert_array_equal(held.mean(axis=1), w.astype(np.float64))
    assert len(np.unique(held[LOW % 256 != 0][0])) == 2


@pytest.mark.parametrize("high", HIGH, ids=hex)
def test_without_a_dither_it_is_the_nearest(high):
    w = floats((high << 16) | LOW)
    error = np.abs(np.asarray(joined(*halved(jnp.asarray(w), jnp.uint8)), np.float64) - w)
    normal = np.abs(w) >= np.finfo(np.float32).tiny
    assert (error[normal] <= 2.0**-16 * np.abs(w[normal], dtype=np.float64)).all()
    neighbours = [floats((bits32(w) & 0xFFFFFF00) + step) for step in (0, 0x100)]
    nearest = np.min([np.abs(n.astype(np.float64) - w) for n in neighbours], axis=0)
    np.testing.assert_array_equal(error, nearest)


def test_what_is_no_number_stays():
    w = jnp.array([jnp.inf, -jnp.inf, jnp.nan])
    np.testing.assert_array_equal(cut_with(w, jnp.uint8(255)), w)


# Decay, however small


STEPS = 20_000


def decayed(c, dtype, link=None):
    """4096 ones after 20 000 steps of decay alone, in float64."""
    params = jnp.ones(4096, dtype)
    optimizer = dwd.sgdw(0.0, c, rounding=link)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jnp.zeros_like(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    carry = params, optimizer.init(params)
    (params, state), _ = jax.jit(lambda c: jax.lax.scan(step, c, length=STEPS))(carry)
    return np.asarray(rounding.weights(state, params), np.float64)


def test_a_small_decay_is_that_of_float32_within_its_sampling_error():
    held = decayed(1e-6, jnp.bfloat16, rounding.residual(bits=8))
    error = held.std() / np.sqrt(held.size)
    exact = decayed(1e-6, jnp.float32)[0]
    assert abs(held.mean() - exact) < 4 * error
    assert error < 1e-3 * (1 - exact)
    # float32 itself rounds 1 − 1e-6 to 17 units where the formula has 16.8
    np.testing.assert_allclose(1 - exact, 1 - (1 - 1e-6) ** STEPS, rtol=0.02)


def nearest_byte(w):
    """FlashOptim's encoder and decoder: 127 equal parts of the largest error, to nearest."""
    p = w.astype(jnp.bfloat16).astype(np.float64)
    half = 2.0 ** (np.floor(np.log2(np.abs(p))) - 8)
    return p + half * np.round(np.clip((w - p) / half, -1, 1) * 127) / 127


def test_a_byte_rounded_to_nearest_loses_every_decay_below_7e_6():
    start = 1 + np.arange(1 << 7) / (1 << 7)
    np.testing.assert_array_equal(nearest_byte(start * (1 - 7e-6)), start)
    assert (nearest_byte(start * (1 - 3.2e-5)) < start).all()
    cut = cut_with(jnp.asarray(start * (1 - 7e-6), jnp.float32)[:, None], jnp.asarray(DITHERS))
    kept = np.asarray(cut, np.float64).mean(axis=1)
    np.testing.assert_allclose(1 - kept / start, 7e-6, rtol=0.02)


# The link


def test_the_dither_differs_by_leaf_and_step_and_comes_back_with_the_seed():
    params = {"a": jnp.ones(256, jnp.bfloat16), "b": jnp.ones(256, jnp.bfloat16)}
    small = jax.tree.map(lambda p: jnp.full(p.shape, -1e-6), params)

    def two_steps(seed):
        link = rounding.residual(bits=8, seed=seed)
        _, one = link.update(small, link.init(params), params)
        fresh = one._replace(residual=link.init(params).residual)
        _, two = link.update(small, fresh, params)
        return [np.asarray(state.residual[key]) for state in (one, two) for key in ("a", "b")]

    first = two_steps(1)
    for i, one in enumerate(first):
        assert 0 < (one != 0).mean() < 1
        assert all((one != other).any() for other in first[i + 1 :])
    np.testing.assert_array_equal(first, two_steps(1))
    assert (first[0] != two_steps(2)[0]).any()


def test_a_parameter_changed_from_outside_keeps_its_new_value():
    link = rounding.residual(bits=8)
    p = jnp.asarray([1.0, 1.0, -1.0, 2.0], jnp.bfloat16)
    _, state = link.update(jnp.asarray([-0.0031, 0.0031, 0.0031, 1e-3]), link.init(p), p)
    assert (state.residual != 0).all()
    changed = jnp.asarray([0.0, jnp.inf, -0.0, 5.0], jnp.bfloat16)
    updates, state = link.update(jnp.zeros(4), state, changed)
    after = optax.apply_updates(changed, updates)
    np.testing.assert_array_equal(after.astype(jnp.float32), changed.astype(jnp.float32))


def held_bytes(optimizer):
    """Of weights and state, for each weight."""
    params = {"w": jax.ShapeDtypeStruct((1024, 1024), jnp.bfloat16)}
    kept = (params, jax.eval_shape(optimizer.init, params))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept)) / 2**20


@pytest.mark.parametrize(("dtype", "expected"), [(None, 11), (jnp.bfloat16, 7)])
def test_adamw_holds_11_bytes_a_weight_and_7_with_moments_in_bfloat16(dtype, expected):
    link = rounding.residual(bits=8)
    held = held_bytes(dwd.adamw(1e-3, 1e-4, mu_dtype=dtype, nu_dtype=dtype, rounding=link))
    assert expected <= held < expected + 1e-4
