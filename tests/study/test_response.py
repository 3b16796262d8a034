"""What is read off a search, on landscapes whose truth is known."""

import numpy as np
import pytest
from scipy.stats import binom
from searches import BEST, SPACE, error, places

from decoupled_wd.study import response
from decoupled_wd.study.response import valley_line, where_lowest

ENDS = [np.log([getattr(each, end) for each in SPACE.values()]) for end in ("low", "high")]


def found(seed, slope, count=60, noise=0.4):
    """Places in logarithms, and noisy values, of one search."""
    at = places(count, seed, slope)
    chance = np.random.default_rng([seed, 2])
    return np.log(at), error(*at.T, slope) + chance.normal(0, noise, count)


@pytest.mark.parametrize("slope", [-1.0, -0.5, 0.0, 1.0])
def test_95_in_100_intervals_hold_the_slope(slope):
    lines = [
        valley_line(z[:, 0], z[:, 1], values)
        for z, values in (found(seed, slope) for seed in range(100))
    ]
    held = sum(line.slope.low <= slope <= line.slope.high for line in lines)
    # as few as this come of one honest interval in a thousand
    assert held >= binom.ppf(0.001, len(lines), 0.95)
    # and they are narrow enough to tell a ridge of −1 from a flat one
    assert np.median([line.slope.high - line.slope.low for line in lines]) < 0.5
    assert abs(np.median([line.slope.value for line in lines]) - slope) < 0.1


@pytest.mark.slow
def test_9_in_10_intervals_hold_the_best_place():
    best = np.log([*BEST.values()])
    held, width = [], []
    for seed in range(10):
        low, high = where_lowest(*found(seed, -1.0), *ENDS)
        held.append((low <= best) & (best <= high))
        width.append((high - low) / np.log(2))
    assert np.mean(held, axis=0).min() >= 0.9
    # of 12 and 11 octaves, along a ridge that is nearly flat
    assert np.median(width, axis=0).max() < 8


def test_a_quadratic_is_found_exactly():
    """Slope and place of ``2(y + 0.75x − 3)² + x²`` where its cap is far away."""
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 50))
    y = 3 - 0.75 * x + 0.5 * y
    line = valley_line(x, y, np.minimum(2 * (y + 0.75 * x - 3) ** 2 + x**2, 1e9))
    assert line.slope.value == pytest.approx(-0.75, abs=0.05)
    assert line.y == pytest.approx(3 - 0.75 * line.x, abs=0.05)
    assert line.slope.low <= -0.75 <= line.slope.high


def test_fieller_s_ends_are_where_a_t_test_turns():
    """At both ends ``(top − m·bottom)² = t²·variance``, and between them it is less."""
    covariance, t = np.array([[0.3, 0.1], [0.1, 0.2]]), 2.0
    value, low, high, _ = response._ratio(-3.0, 4.0, covariance, t)

    def tested(m):
        combination = np.array([1.0, -m])
        return (-3.0 - m * 4.0) ** 2 / (combination @ covariance @ combination)

    assert tested(low) == pytest.approx(t**2)
    assert tested(high) == pytest.approx(t**2)
    assert low < value == -0.75 < high
    assert tested(value) < t**2
    # a denominator that may be 0 excludes nothing
    assert response._ratio(-3.0, 0.5, covariance, t)[1:3] == (-np.inf, np.inf)


def test_units_only_stretch_the_answer():
    z, values = found(3, -0.5)
    line = valley_line(z[:, 0], z[:, 1], values)
    other = valley_line(10 * z[:, 0] + 5, z[:, 1] - 7, 3 * values + 100)
    assert np.allclose(np.array(other.slope[:4]) * 10, line.slope[:4], rtol=1e-6)
    assert np.allclose(other[:2], [10 * line.x + 5, line.y - 7])


def test_how_bad_a_bad_run_was_does_not_matter():
    z, values = found(4, -1.0)
    bad = values > np.quantile(values, 0.85)
    lines = [valley_line(z[:, 0], z[:, 1], np.where(bad, worse, values)) for worse in (1e4, np.nan)]
    ends = [where_lowest(z, np.where(bad, worse, values), *ENDS) for worse in (1e4, 1e6)]
    assert lines[0].slope.value == pytest.approx(
        valley_line(z[:, 0], z[:, 1], values).slope.value, abs=1e-9
    )
    assert np.isfinite(lines[1].slope.value)
    assert np.array_equal(*ends)


def test_where_nothing_can_be_told_nothing_is():
    z, values = found(5, -1.0)
    few = response.LEAST - 1
    assert valley_line(z[:few, 0], z[:few, 1], values[:few]) is None
    assert valley_line(z[:, 0], 0 * z[:, 1], values) is None
    assert valley_line(z[:, 0], z[:, 0], values) is None
    # a hill has no valley
    assert valley_line(z[:, 0], z[:, 1], -((z[:, 1] + 7) ** 2)) is None
    assert np.array_equal(where_lowest(z[:few], values[:few], *ENDS), ENDS)
    assert np.array_equal(where_lowest(z, 0 * values + 3, *ENDS), ENDS)
    assert np.array_equal(where_lowest(z, values * np.nan, *ENDS), ENDS)


def test_noise_alone_bounds_no_slope():
    chance = np.random.default_rng(0)
    z = chance.uniform(-3, 3, (40, 2))
    lines = [valley_line(*z.T, chance.normal(size=40)) for _ in range(20)]
    unbounded = [line is None or not np.isfinite(line.slope.low) for line in lines]
    assert np.mean(unbounded) > 0.6


def test_one_hyperparameter_is_enough_for_its_best():
    z = np.random.default_rng(0).uniform(-1, 1, (40, 1))
    noise = np.random.default_rng(1).normal(0, 0.05, 40)
    (low,), (high,) = where_lowest(z, (z[:, 0] - 0.25) ** 2 + noise, [-1.0], [1.0])
    assert -0.2 < low < 0.25 < high < 0.7


def test_of_very_many_points_some_are_looked_at(monkeypatch):
    """Among them bad ones: the good ones alone would be those of good luck."""
    monkeypatch.setattr(response, "MOST", 40)
    seen = []
    monkeypatch.setattr(
        response, "_surfaces", lambda unit, worth, places: seen.append(worth) or places.T
    )
    z, values = found(0, -1.0, count=400)
    where_lowest(z, values, *ENDS)
    assert seen[0].size == 40
    assert np.median(seen[0]) == pytest.approx(np.median(values), rel=0.25)
