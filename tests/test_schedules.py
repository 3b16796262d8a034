"""Warm restarts against counting, and the schedules that optax already has."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

import decoupled_wd as dwd
from decoupled_wd import schedules


@pytest.mark.parametrize(("first", "factor"), [(100, 2), (7, 1), (10, 3)])
def test_warm_restarts_by_counting(x64, first, factor):
    schedule = dwd.warm_restarts(0.3, first_cycle_steps=first, cycle_factor=factor)
    got = jax.vmap(schedule)(jnp.arange(1600))
    expected, _ = reference.warm_restarts(1600, first, factor)
    np.testing.assert_allclose(got, 0.3 * np.array(expected), rtol=0, atol=1e-15)


def test_restarts_at_100_300_700_1500():
    schedule = dwd.warm_restarts(1.0, first_cycle_steps=100)
    rates = np.array([schedule(step) for step in range(1600)])
    assert list(np.flatnonzero(np.diff(rates) > 0) + 1) == [100, 300, 700, 1500]
    assert (rates[[0, 100, 300, 700, 1500]] == 1).all()
    assert 0 < rates[99] < 1e-3


def test_restarts_late_in_a_long_run_are_not_missed():
    """A float32 closed form would be off here: 2^24 steps are past its whole numbers."""
    schedule = dwd.warm_restarts(1.0, first_cycle_steps=1000, cycle_factor=1.5)
    lengths = np.rint(1000 * 1.5 ** np.arange(30))
    late = int(lengths.sum())
    assert late > 2**24
    assert float(schedule(late)) == 1
    assert float(schedule(late - 1)) < 1e-6


def test_the_floor_is_where_a_cycle_ends():
    schedule = dwd.warm_restarts(1.0, first_cycle_steps=10, cycle_factor=1, floor=0.2)
    rates = [float(schedule(step)) for step in range(20)]
    assert max(rates) == 1
    assert 0.2 < min(rates) < 0.23


def test_growth_that_is_not_whole_is_rounded_to_steps():
    schedule = dwd.warm_restarts(1.0, first_cycle_steps=5, cycle_factor=1.5)
    rates = np.array([schedule(step) for step in range(30)])
    assert list(np.flatnonzero(np.diff(rates) > 0) + 1) == [5, 13, 24]  # 5, 7.5 → 8, 11.25 → 11


def test_optax_has_the_fast_ai_cycle():
    """Linear α/10 → α → α/10 over 92.5 % of the steps, then to α/1000: no schedule of our own needed."""
    schedule = optax.linear_onecycle_schedule(1000, 1.0, 0.4625, 0.925, 10, 100)
    marks = [float(schedule(step)) for step in (0, 462, 925, 1000)]
    assert marks == pytest.approx([0.1, 1.0, 0.1, 0.001], abs=2e-3)


@pytest.mark.parametrize("first", [6.7, 7.49, 7])
def test_a_length_that_is_not_whole_is_rounded_for_equal_cycles_too(first):
    schedule = dwd.warm_restarts(1.0, first_cycle_steps=first, cycle_factor=1)
    whole = dwd.warm_restarts(1.0, first_cycle_steps=7, cycle_factor=1)
    steps = np.arange(100)
    np.testing.assert_array_equal(jax.vmap(schedule)(steps), jax.vmap(whole)(steps))


@pytest.mark.parametrize("factor", [1e9, 1e30, 1e38])
def test_after_a_huge_factor_there_is_no_third_cycle(factor):
    schedule = dwd.warm_restarts(1.0, first_cycle_steps=10, cycle_factor=factor)
    rates = [float(schedule(step)) for step in (0, 5, 10, 1000, 2**31 - 1)]
    expected = [1, 0.5, 1, 1, 0.5 + 0.5 * np.cos(np.pi * (2**31 - 11) / min(10 * factor, 2e10))]
    if factor > 1e9:
        expected[-1] = rates[-1]
        assert rates[-1] > 0.97
    np.testing.assert_allclose(rates, expected, atol=1e-6)


def test_the_slowest_growth_that_is_taken_is_a_small_table():
    starts, lengths = schedules.cycle_table(1, 1 + 1.1e-4)
    assert len(starts) < 2**17
    assert (np.diff(lengths) >= 0).all()
    with pytest.raises(ValueError, match="pass 1 for cycles of equal length"):
        schedules.check_cycles(1, 1 + 1e-5)
