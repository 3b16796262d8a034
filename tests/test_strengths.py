"""Weight decays from the budget, a timescale or a penalty, against the paper's numbers and closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

import decoupled_wd as dwd


@pytest.mark.parametrize(
    ("epochs", "printed"), [(25, 2.53e-4), (100, 1.26e-4), (400, 6.3e-5), (1800, 3.0e-5)]
)
def test_normalized_gives_the_papers_check_values(epochs, printed):
    got = dwd.normalized(0.025, batch_size=128, dataset_size=50_000, epochs=epochs)
    assert got == pytest.approx(printed, rel=0.01)
    assert got == pytest.approx(reference.normalized(0.025, 128, 50_000, epochs))


def test_normalized_per_cycle_changes_at_each_restart():
    """One batch an epoch: restarts at 100, 300, 700 and 1500 steps, as in the paper's figure 1."""
    schedule = dwd.normalized_per_cycle(
        0.025, batch_size=128, dataset_size=128, first_cycle_epochs=100
    )
    _, lengths = reference.warm_restarts(1600, 100, 2)
    expected = [0.025 / np.sqrt(length) for length in lengths]
    got = np.array([schedule(step) for step in range(1600)])
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert list(np.flatnonzero(np.diff(got)) + 1) == [100, 300, 700, 1500]


@pytest.mark.parametrize("steps", [1, 7, 1000.0])
def test_timescale_and_half_life(steps):
    assert dwd.from_timescale(steps=steps) * steps == pytest.approx(1)
    assert (1 - dwd.from_half_life(steps=steps)) ** steps == pytest.approx(0.5)


@pytest.mark.parametrize("coupling", [dwd.PAPER, dwd.LR, dwd.CONSTANT, dwd.CORRECTED])
def test_their_unit_is_the_couplings(coupling):
    for strength in (dwd.from_timescale, dwd.from_half_life):
        weight_decay = strength(steps=50, learning_rate=0.01, coupling=coupling)
        fraction = coupling.fraction(weight_decay, 0.01)(0)
        assert fraction == pytest.approx(strength(steps=50))


def test_cycles_of_one_length():
    schedule = dwd.normalized_per_cycle(
        0.1, batch_size=1, dataset_size=1, first_cycle_epochs=10, cycle_factor=1
    )
    assert [float(schedule(step)) for step in (0, 9, 10, 95)] == pytest.approx([0.1 / 10**0.5] * 4)


RATIOS = {"batch_ratio": 4.0, "dataset_ratio": 10.0}


def test_the_two_transfers_keep_what_they_name():
    old = {"batch_size": 128, "dataset_size": 50_000}
    new = {"batch_size": 512, "dataset_size": 500_000}
    got = dwd.keep_normalized(1e-3, epochs_ratio=0.3, **RATIOS)
    norms = [
        1e-3 / reference.normalized(1, *old.values(), 90),
        got / reference.normalized(1, *new.values(), 27),
    ]
    assert norms[1] == pytest.approx(norms[0])
    got = dwd.keep_timescale(1e-3, **RATIOS)
    epochs = [
        1 / c * run["batch_size"] / run["dataset_size"] for c, run in ((1e-3, old), (got, new))
    ]
    assert epochs[1] == pytest.approx(epochs[0])


def test_they_differ_by_the_root_of_the_steps():
    """Per run of n times the steps: λ/√n with λ_norm kept, λ with the timescale kept, if n is of epochs."""
    assert dwd.keep_normalized(1.0, epochs_ratio=9) == pytest.approx(1 / 3)
    assert dwd.keep_normalized(1.0, batch_ratio=9) == pytest.approx(3)
    assert dwd.keep_timescale(1.0, batch_ratio=9) == pytest.approx(9)
    assert dwd.keep_timescale(1.0) == dwd.keep_normalized(1.0) == 1


@pytest.mark.parametrize("keep", [dwd.keep_normalized, dwd.keep_timescale])
@pytest.mark.parametrize("coupling", [dwd.PAPER, dwd.LR, dwd.CONSTANT, dwd.CORRECTED])
def test_transfer_in_another_unit_removes_the_same_fraction(keep, coupling):
    lam = keep(0.1, learning_rate_ratio=3.0, coupling=coupling, **RATIOS)
    before, after = coupling.fraction(0.1, 0.02)(0), coupling.fraction(lam, 0.06)(0)
    assert after / before == pytest.approx(keep(1.0, **RATIOS))


@pytest.mark.parametrize(
    "name", ["batch_ratio", "dataset_ratio", "epochs_ratio", "learning_rate_ratio"]
)
def test_ratios_are_positive(name):
    for keep in (dwd.keep_normalized, dwd.keep_timescale)[: 1 if name == "epochs_ratio" else 2]:
        with pytest.raises(ValueError, match=f"{name} must be finite and > 0"):
            keep(0.1, **{name: 0.0})
        with pytest.raises(ValueError, match="weight_decay must be finite and >= 0"):
            keep(-0.1)


def test_log_time_is_what_its_authors_write():
    """ADana: wd_factor = −wd / (1 + step / wd_ts) · γ(t), with wd = ω / wd_ts and steps counted from 1."""
    omega, wd_ts, peak = 4.0, 50, 0.1
    schedule = optax.linear_schedule(peak, 0.0, 300)
    c = dwd.PAPER.fraction(dwd.log_time(omega, start=wd_ts), schedule, peak)
    for step in (1, 2, 17, 250):
        wd_factor = -(omega / wd_ts) / (1 + step / wd_ts) * (1 - (step - 1) / 300)
        assert float(c(step - 1)) == pytest.approx(-wd_factor)
        assert float(c(jnp.int32(step - 1))) == pytest.approx(-wd_factor)


@pytest.mark.parametrize(("omega", "start"), [(0.7, 0), (3.9, 3.0), (2.5, 40)])
def test_under_log_time_an_idle_weight_is_left_with_a_power_of_time(omega, start):
    weight_decay = dwd.log_time(omega, start=start)
    left = np.cumprod([1 - weight_decay(step) for step in range(2000)])
    # the product is Γ(T_0 + t + 1 − ω)/Γ(T_0 + t + 1), but for a constant
    logs = [math.lgamma(start + n + 1 - omega) - math.lgamma(start + n + 1) for n in range(1, 2001)]
    assert np.ptp(np.log(left) - logs) < 1e-9
    slope = np.log(left[1999] / left[999]) / np.log((start + 2000) / (start + 1000))
    assert slope == pytest.approx(-omega, rel=0.01)


def test_log_time_takes_traced_numbers_and_averages_all_steps_alike():
    got = jax.jit(lambda omega, start: dwd.log_time(omega, start=start)(9))(4.0, 10.0)
    assert float(got) == pytest.approx(0.2)
    # with ω = 1 and no start-up, steps of 1/t make the mean of all that was added
    mean = dwd.log_time(1.0, start=0)
    memory = dwd.theory.influence(mean, mean, 100)
    np.testing.assert_allclose(memory.shares, 0.01, rtol=1e-5)
