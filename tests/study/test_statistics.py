import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import t, ttest_1samp, ttest_rel

from decoupled_wd.study import statistics
from decoupled_wd.study.statistics import (
    Estimate,
    best_cell,
    leeway,
    line_slope,
    over_seeds,
    propagated,
    ridge,
    slope_weights,
    top_correlation,
    valleys,
    widened,
)

FIGURE = json.loads((Path(__file__).parents[1] / "data" / "paper_figure2.json").read_text("utf-8"))
RATES = 2.0 ** np.arange(0, -7, -1)
DECAYS = 2.0 ** np.arange(-12, 1)


def valley_slope(error, x, y, **settings):
    """The slope of the line through the middles of the valleys."""
    return line_slope(x, valleys(error, y, **settings))


def paper(optimizer):
    """Error, learning rates and weight decays of Figure 2."""
    return (
        np.array(FIGURE["error"][optimizer]),
        np.array(FIGURE["learning_rate"][optimizer]),
        np.array(FIGURE["weight_decay_raw"]),
    )


def valley(slope, *, intercept=-5.3, rates=RATES, decays=DECAYS):
    """A parabola in log λ for every α, lowest on log λ = intercept + slope·log α."""
    bottom = intercept + slope * np.log(rates / rates.mean())
    return 5 + 0.3 * (np.log(decays) - bottom[:, None]) ** 2


@pytest.mark.parametrize(
    ("optimizer", "best", "without_decay"),
    [("SGD", 3.85, 5.86), ("SGDW", 3.85, 5.69), ("Adam", 4.87, 5.17), ("AdamW", 3.88, 5.30)],
)
def test_the_paper_s_best_errors(optimizer, best, without_decay):
    error, rates, decays = paper(optimizer)
    assert best_cell(error, rates, decays).error == pytest.approx(best, abs=0.005)
    assert best_cell(error[:, :1], rates, decays[:1]).error == pytest.approx(
        without_decay, abs=0.005
    )


@pytest.mark.parametrize(
    ("optimizer", "drop_edge", "slope"),
    [
        ("SGD", False, -0.80),
        ("SGDW", False, 0.01),
        ("Adam", False, -1.67),
        ("Adam", True, -1.63),
        ("AdamW", False, 0.00),
    ],
)
def test_the_paper_s_ridges(optimizer, drop_edge, slope):
    found = ridge(*paper(optimizer), tolerance=1.0, drop_edge=drop_edge)
    assert found.slope == pytest.approx(slope, abs=0.01)


def attainable_correlations(error, rates, decays, cells):
    """The correlation for every way to choose among the cells tied for the last place."""
    points = [(e, np.log(a), np.log(d)) for a, row in zip(rates, error, strict=True)
              for d, e in zip(decays, row, strict=True) if d > 0]  # fmt: skip
    last = sorted(e for e, _, _ in points)[cells - 1]
    sure = [p for p in points if p[0] < last]
    tied = [p for p in points if p[0] == last]
    choices = itertools.combinations(tied, cells - len(sure))
    return [np.corrcoef(np.array([*sure, *c]).T[1:])[0, 1] for c in choices]


# Ties for the tenth place decide SGDW (five cells for two places, −0.40…+0.18) and AdamW (two for
# one, +0.07 or +0.32). The circles the paper draws give −0.92, −0.15, −0.82 and +0.07.
@pytest.mark.parametrize(
    ("optimizer", "correlation"),
    [("SGD", -0.85), ("SGDW", -0.18), ("Adam", -0.79), ("AdamW", 0.07)],
)
def test_the_paper_s_ten_best_cells(optimizer, correlation):
    figure = paper(optimizer)
    found = top_correlation(*figure, cells=10)
    assert found == pytest.approx(correlation, abs=0.006)
    assert min(abs(found - c) for c in attainable_correlations(*figure, cells=10)) < 1e-12


@pytest.mark.parametrize(("optimizer", "printed"), [("SGDW", 0.18), ("AdamW", 0.32)])
def test_other_orders_of_tied_cells_give_other_correlations(optimizer, printed):
    choices = attainable_correlations(*paper(optimizer), cells=10)
    assert max(choices) == pytest.approx(printed, abs=0.006)


@pytest.mark.parametrize("slope", [-2.0, -1.0, -0.37, 0.0, 0.61])
def test_a_parabolic_valley_is_recovered_exactly(slope):
    found = ridge(valley(slope), RATES, DECAYS, tolerance=100.0)
    assert found.slope == pytest.approx(slope, abs=1e-9)
    np.testing.assert_allclose(
        np.log(found.weight_decay),
        -5.3 + slope * np.log(found.learning_rate / RATES.mean()),
        atol=1e-9,
    )
    assert len(found.learning_rate) >= 4


def test_the_parabola_holds_on_uneven_steps_of_weight_decay():
    decays = np.array([1e-4, 3e-4, 5e-4, 2e-3, 3e-3, 1e-2, 8e-2, 0.2, 1.0])
    error = valley(-0.4, decays=decays)
    assert ridge(error, RATES, decays, tolerance=100.0).slope == pytest.approx(-0.4, abs=1e-9)


def test_the_slope_is_free_of_units_and_of_the_order_of_both_axes():
    error = valley(-0.6) + np.random.default_rng(3).normal(0, 0.2, (7, 13))
    slope = ridge(error, RATES, DECAYS).slope
    assert ridge(error, 0.1 * RATES, 1e-3 * DECAYS).slope == pytest.approx(slope, abs=1e-9)
    assert ridge(error[::-1], RATES[::-1], DECAYS).slope == pytest.approx(slope, abs=1e-9)
    assert ridge(error[:, ::-1], RATES, DECAYS[::-1]).slope == pytest.approx(slope, abs=1e-9)
    scaled, found = ridge(error, RATES, 1e-3 * DECAYS), ridge(error, RATES, DECAYS)
    np.testing.assert_allclose(scaled.weight_decay, 1e-3 * found.weight_decay, rtol=1e-9)


def test_the_column_without_decay_takes_no_part():
    error = np.hstack([np.full((7, 1), 0.1), valley(-1.0)])
    with_zero = np.append(0.0, DECAYS)
    for statistic in (lambda *a: ridge(*a).slope, top_correlation):
        assert statistic(error, RATES, with_zero) == statistic(valley(-1.0), RATES, DECAYS)
    assert best_cell(error, RATES, with_zero) == (0.1, 1.0, 0.0)


def test_only_rows_near_the_best_are_kept():
    error = valley(0.0) + np.arange(7)[:, None]
    np.testing.assert_array_equal(
        ridge(error, RATES, DECAYS, tolerance=2.0).learning_rate, [1, 1 / 2, 1 / 4]
    )


def test_rows_with_their_lowest_cell_on_the_edge_are_dropped():
    error = np.array([[3.0, 2.0, 4.0], [1.5, 2.0, 4.0], [3.0, 2.0, 1.5], [4.0, 2.0, 3.0]])
    axes = (RATES[:4], [0.1, 0.2, 0.4])
    np.testing.assert_array_equal(ridge(error, *axes).learning_rate, RATES[[0, 3]])
    every = ridge(error, *axes, drop_edge=False)
    np.testing.assert_allclose(every.weight_decay[1:3], [0.1, 0.4], rtol=1e-12)


def test_no_parabola_beside_a_diverged_cell_and_no_row_without_a_cell():
    error = valley(0.0)
    lowest = error[0].argmin()
    error[0, lowest + 1] = np.nan
    error[1] = np.nan
    found = ridge(error, RATES, DECAYS)
    np.testing.assert_array_equal(found.learning_rate, RATES[[0, 2, 3, 4, 5, 6]])
    np.testing.assert_allclose(found.weight_decay[0], DECAYS[lowest], rtol=1e-12)
    np.testing.assert_allclose(np.log(found.weight_decay[1:]), -5.3, rtol=1e-9)


def test_a_cell_diverged_in_one_seed_has_diverged():
    error = np.stack([valley(-0.5)] * 3, axis=-1)
    row, column = np.unravel_index(error[..., 0].argmin(), error.shape[:2])
    error[row, column, 1] = np.nan
    lowest = np.delete(error[..., 0].ravel(), row * len(DECAYS) + column).min()
    assert best_cell(error, RATES, DECAYS).error == pytest.approx(lowest)
    twice = np.where(np.isnan(error.mean(axis=2)), np.nan, error[..., 0])
    assert ridge(error, RATES, DECAYS).slope == pytest.approx(ridge(twice, RATES, DECAYS).slope)


def test_a_grid_that_diverged_everywhere_is_all_nan_without_a_warning():
    error = np.full((7, 13, 2), np.nan)
    assert np.isnan(best_cell(error, RATES, DECAYS)).all()
    assert np.isnan(ridge(error, RATES, DECAYS).slope)
    assert ridge(error, RATES, DECAYS).learning_rate.size == 0
    assert np.isnan(top_correlation(error, RATES, DECAYS))


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (1, 1), (2, 2)])
def test_a_grid_too_small_for_a_slope_has_none(shape):
    error = np.arange(np.prod(shape), dtype=float).reshape(shape)
    axes = RATES[: shape[0]], DECAYS[: shape[1]]
    assert np.isnan(ridge(error, *axes).slope)
    assert best_cell(error, *axes).error == 0


def jackknife(statistic, runs):
    """The jackknife as astropy.stats.jackknife_stats has it, in NumPy: its bias and standard error."""
    n = len(runs)
    without = np.array([statistic(np.delete(runs, i, axis=0)) for i in range(n)])
    bias = (n - 1) * (without.mean() - statistic(runs))
    return bias, np.sqrt((n - 1) * np.mean((without - without.mean()) ** 2))


def of(statistic, runs, **options):
    return over_seeds(lambda drawn: statistic(runs[drawn]), len(runs), **options)


@pytest.mark.parametrize("level", [0.5, 0.95, 1 - 0.05 / 3])
@pytest.mark.parametrize("seeds", [2, 5, 8, 32])
def test_the_interval_of_a_mean_is_students(seeds, level):
    runs = np.random.default_rng(seeds).normal(40, 0.8, seeds)
    found = of(np.mean, runs, level=level)
    error = runs.std(ddof=1) / np.sqrt(seeds)
    wanted = t.interval(level, seeds - 1, runs.mean(), error)
    np.testing.assert_allclose([found.low, found.high], wanted, rtol=1e-12)
    wanted = ttest_1samp(runs, 0.0).confidence_interval(level)
    np.testing.assert_allclose([found.low, found.high], wanted, rtol=1e-12)
    assert found.value == runs.mean()
    assert found.standard_error == pytest.approx(error, rel=1e-10)
    assert found.seeds == seeds


@pytest.mark.parametrize("seeds", [2, 5, 8, 32])
def test_the_interval_of_a_difference_in_pairs_is_students(seeds):
    ours, theirs = np.random.default_rng(seeds).normal(40, 0.8, (2, seeds))
    found = over_seeds(lambda drawn: ours[drawn].mean() - theirs[drawn].mean(), seeds)
    wanted = ttest_rel(ours, theirs).confidence_interval()
    # the difference of two numbers near 40 has lost their last digits
    np.testing.assert_allclose([found.low, found.high], wanted, rtol=1e-12, atol=40e-12)


@pytest.mark.parametrize("seeds", [3, 8, 20])
@pytest.mark.parametrize(
    "statistic",
    [lambda runs: np.var(runs), lambda runs: np.exp(runs.mean()), lambda runs: np.corrcoef(runs.T)[0, 1]],
    ids=["biased variance", "exponential", "correlation"],
)  # fmt: skip
def test_the_standard_error_is_that_of_a_jackknife(statistic, seeds):
    runs = np.random.default_rng(seeds).normal(size=(seeds, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])
    found, (_, error) = of(statistic, runs, level=0.9), jackknife(statistic, runs)
    assert found.standard_error == pytest.approx(error, rel=1e-10)
    # around the statistic as it is, which is not corrected for its bias
    assert found.value == statistic(runs)
    half = t.ppf(0.95, seeds - 1) * error
    np.testing.assert_allclose(found[1:3], [found.value - half, found.value + half], rtol=1e-10)


def test_the_order_of_the_seeds_does_not_matter():
    runs = np.random.default_rng(0).normal(size=8)
    np.testing.assert_allclose(of(np.var, runs), of(np.var, runs[::-1]), rtol=1e-12)


def test_what_all_seeds_agree_on_is_a_point():
    assert of(np.mean, np.full(5, 0.3)) == (0.3, 0.3, 0.3, 0.0, 5)


def test_one_seed_or_one_that_diverged_has_no_interval():
    (value, *interval, seeds) = of(np.mean, np.array([3.0]))
    assert (value, seeds) == (3.0, 1)
    assert np.isnan(interval).all()
    assert np.isnan(of(np.mean, np.array([3.0, np.nan, 4.0]))[:4]).all()


@pytest.mark.parametrize("level", [0.0, 1.0, 95, np.nan])
def test_a_level_is_a_share(level):
    with pytest.raises(ValueError, match=f"level must be between 0 and 1, got {level}"):
        of(np.mean, np.arange(3.0), level=level)


X, Y = np.arange(5.0), np.linspace(-8, 8, 33)  # half a unit apart


def lopsided(u):
    """Gentle below and steep above, as the study's valleys are."""
    return 3 * (1 - np.exp(-(np.minimum(u, 0) ** 2))) + 8 * np.maximum(u, 0) ** 2


@pytest.mark.parametrize("slope", [-1.0, -0.5, 0.0, 0.5])
@pytest.mark.parametrize("shape", [np.square, lopsided], ids=["parabola", "lopsided"])
def test_parallel_valleys_have_the_slope_of_their_shift(shape, slope):
    """Each row is the first one moved by slope·x, a whole number of points."""
    found = valley_slope(40 + shape(Y - slope * X[:, None]), X, Y, tolerance=1.0)
    assert found == pytest.approx(slope, abs=2e-3)


@pytest.mark.parametrize("slope", [-1.37, -0.31, 0.0, 0.77])
def test_where_the_points_move_with_the_valley_its_slope_is_exact(slope):
    at = slope * X[:, None] + Y
    found = valley_slope(lopsided(at - slope * X[:, None] - 0.3), X, at, tolerance=1.0)
    assert found == pytest.approx(slope, abs=1e-9)


def middle(error, tolerance, width):
    """The fixed point of the mean shift, by quadrature and by a search for a root."""

    def moved(center):
        def weight(y):
            return np.exp(-4 * error(y) / tolerance - ((y - center) / width) ** 2 / 2)

        top, total = (
            quad(f, -8, 8, points=[0.0, center])[0] for f in (lambda y: y * weight(y), weight)
        )
        return top / total - center

    return brentq(moved, -3, 3)


@pytest.mark.parametrize(("tolerance", "width"), [(1.0, 0.5), (2.5, 0.5), (1.0, 1.0)])
def test_the_middle_of_a_lopsided_valley_is_the_fixed_point_of_its_mean_shift(tolerance, width):
    """The first row is symmetric about 0, so the slope over one unit of x is the other's middle."""
    y = np.linspace(-8, 8, 129)
    rows = np.stack([y**2, lopsided(y)])
    found = valley_slope(rows, [0, 1], y, tolerance=tolerance, width=width)
    assert found == pytest.approx(middle(lopsided, tolerance, width), abs=1e-3)
    assert found < -0.02


def test_it_matters_neither_how_far_nor_how_finely_y_was_measured():
    def found(y):
        return valley_slope(lopsided(y + 0.6 * X[:, None]), X, y, tolerance=1.0)

    assert found(np.linspace(-6, 4, 41)) == pytest.approx(found(np.linspace(-8, 8, 65)), abs=1e-3)
    assert found(np.linspace(-8, 8, 33)) == pytest.approx(found(np.linspace(-8, 8, 129)), abs=0.01)


def test_units_and_places_of_a_valley():
    error = (Y + 0.6 * X[:, None]) ** 2
    found = valley_slope(error, X, Y, tolerance=1.0, width=0.5)
    assert valley_slope(error + 30, X, Y, tolerance=1.0, width=0.5) == pytest.approx(found)
    assert valley_slope(9 * error, X, Y, tolerance=9.0, width=0.5) == pytest.approx(found)
    assert valley_slope(error, X + 7, Y + 7, tolerance=1.0, width=0.5) == pytest.approx(found)
    assert valley_slope(error, X, 3 * Y, tolerance=1.0, width=1.5) == pytest.approx(3 * found)
    assert valley_slope(error[::-1], X[::-1], Y, tolerance=1.0, width=0.5) == pytest.approx(found)


def test_what_diverged_far_from_the_valley_is_as_good_as_high():
    error = np.minimum(lopsided(Y + 0.5 * X[:, None]), 50.0)
    broken = np.where(error >= 50, np.nan, error)
    assert np.isnan(broken).any(axis=1).all()
    wanted = valley_slope(error, X, Y, tolerance=1.0)
    assert valley_slope(broken, X, Y, tolerance=1.0) == pytest.approx(wanted, abs=1e-12)
    assert valley_slope(np.where(error >= 50, 1e6, error), X, Y, tolerance=1.0) == pytest.approx(
        wanted, abs=1e-12
    )


@pytest.mark.parametrize("diverged", [np.nan, np.inf])
def test_a_row_that_diverged_has_no_valley(diverged):
    error = lopsided(Y + 0.5 * X[:, None])
    error[1] = diverged
    found = valleys(error, [Y] * len(X), tolerance=1.0)
    np.testing.assert_array_equal(np.isnan(found), np.arange(len(X)) == 1)


def plateau(y, gain, steep=1.0):
    """A valley at 0 that is `gain` deep as seen from the left, where it is level, and steep on the right."""
    return gain * (1 - np.exp(np.minimum(y, 0))) + steep * np.maximum(y, 0) ** 2


def alike(error, y, tolerance):
    """The leeway of valleys that all seeds agree on."""
    runs = np.repeat(np.asarray(error)[..., None], 8, axis=2)
    return leeway(runs, y, tolerance=tolerance, level=0.95)


@pytest.mark.parametrize("far", [-3, -6, -12])
def test_how_far_a_level_side_was_measured_does_not_matter(far):
    y = np.arange(far, 3.25, 0.25)
    near = np.arange(-4, 3.25, 0.25)
    (wanted,) = valleys([plateau(near, 0.4)], near, tolerance=1.0)
    (found,) = valleys([plateau(y, 0.4)], y, tolerance=1.0)
    assert found == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("unit", [1.0, 7.0])
@pytest.mark.parametrize(
    ("gain", "is_open"), [(0.0, True), (0.1, True), (0.5, False), (2.0, False)]
)
def test_where_the_error_hardly_rises_the_best_may_be_anywhere_before_the_wall(gain, is_open, unit):
    y = np.arange(-8, 3.5, 0.5)
    error = unit * np.array([plateau(y, gain), 100 + plateau(y, gain)])
    found, shifted = alike(error, y, tolerance=unit)
    middle, _ = valleys(error, y, tolerance=unit)
    np.testing.assert_allclose(shifted, found, atol=1e-6)
    if is_open:
        # the wall, y², has risen by a fifth at 0.45, and by the next point at the latest
        assert found[0] == -np.inf
        assert np.sqrt(0.2) <= middle + found[1] <= 1.0
    else:
        assert found.tolist() == [0.0, 0.0]
    # the other way round
    turned = alike(error[:, ::-1], -y[::-1], tolerance=unit)[0]
    np.testing.assert_allclose(turned, -found[::-1], atol=1e-6)


def test_a_level_row_may_have_its_best_anywhere():
    assert alike([np.full(9, 40.0)], np.arange(9), tolerance=1.0).tolist() == [[-np.inf, np.inf]]


def test_a_single_lucky_point_ends_no_valley():
    """The least of many errors is low by its luck alone: an end is compared with the middle as a whole."""
    y = np.arange(-8, 3.5, 0.5)
    error = plateau(y, 0.0)
    error[8] -= 0.25
    assert alike([error], y, tolerance=1.0)[0, 0] == -np.inf


def test_what_diverged_ends_a_valley_and_a_row_of_it_has_none():
    y = np.arange(-3, 3.5, 0.5)
    error = np.array([plateau(y, 0.0), np.full(y.size, np.nan)])
    error[0, 0] = np.nan
    assert alike(error, y, tolerance=1.0).tolist() == [[0.0, 0.0]] * 2


@pytest.mark.parametrize("seeds", [5, 8])
def test_what_rises_by_chance_ends_no_valley(seeds):
    """Of rows that are level, hardly one is told to end, and of those that rise all are."""
    y, chance = np.arange(-4, 4.5, 0.5), np.random.default_rng(3)
    noise = chance.normal(0, 1.0, (1000, y.size, seeds))
    found = np.isinf(leeway(noise, y, tolerance=4.0, level=0.95))
    assert (found.mean(axis=0) > 0.9).all()
    rising = noise + np.where(y == y[-1], 5.0, 0.0)[:, None]
    assert np.isinf(leeway(rising, y, tolerance=4.0, level=0.95)).mean(axis=0)[1] < 0.02
    # what all seeds share is no noise
    shared = chance.normal(0, 1.0, (1000, 1, seeds))
    again = leeway(rising + shared, y, tolerance=4.0, level=0.95)
    np.testing.assert_allclose(again, leeway(rising, y, tolerance=4.0, level=0.95), atol=1e-6)


def test_the_weights_of_a_slope_are_those_of_least_squares():
    x, y = np.array([0.0, 1.0, 4.0, 6.0]), np.array([2.0, -1.0, 0.5, 3.0])
    assert slope_weights(x) @ y == pytest.approx(np.polyfit(x, y, 1)[0], rel=1e-12)
    assert line_slope(x, y) == pytest.approx(np.polyfit(x, y, 1)[0], rel=1e-12)
    assert np.isnan(line_slope(x, [0.0, np.nan, 1.0, 2.0]))


def test_the_leeway_of_a_slope_is_the_farthest_that_its_middles_allow():
    """Every corner of the box of middles, by the slope itself."""
    x = np.log([1.0, 3.0, 9.0, 11.0])
    leeways = np.array([[-1.0, 0.5], [0.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    slopes = [line_slope(x, corner) for corner in itertools.product(*leeways)]
    found = propagated(slope_weights(x), leeways)
    np.testing.assert_allclose(found, [min(slopes), max(slopes)], rtol=1e-9)
    assert widened(Estimate(1.0, 0.5, 1.5, 0.2, 8), [-0.25, np.inf]) == (1, 0.25, np.inf, 0.2, 8)


@pytest.mark.parametrize(
    ("row", "side", "expected"),
    [
        (0, 0, [0, np.inf]),
        (0, 1, [-np.inf, 0]),
        # the middle one has no weight, and so no say
        (1, 0, [0, 0]),
        (2, 0, [-np.inf, 0]),
        (2, 1, [0, np.inf]),
    ],
)
def test_a_slope_may_be_anything_on_the_side_of_an_open_valley(row, side, expected):
    leeways = np.zeros((3, 2))
    leeways[row, side] = [-np.inf, np.inf][side]
    assert propagated(slope_weights(np.log([1.0, 3.0, 9.0])), leeways).tolist() == expected


def test_noise_averages_out_of_a_slope():
    """As many seeds, as much nearer to the truth: the lowest point alone would not get there."""
    at = -0.9 * X[:, None] + np.linspace(-3, 3, 17)
    chance = np.random.default_rng(0)
    clean = (at + 0.9 * X[:, None]) ** 2
    noisy = clean[..., None] + chance.normal(0, 0.75, (*clean.shape, 64))
    found = over_seeds(
        lambda drawn: valley_slope(noisy[..., drawn].mean(-1), X, at, tolerance=2.5), 64
    )
    assert found.low < -0.9 < found.high
    assert found.high - found.low < 0.2


@pytest.mark.parametrize(("sign", "expected"), [(-1, -1.0), (1, 1.0)])
def test_cells_on_a_line_are_fully_correlated(sign, expected):
    on_line = np.log2(RATES)[:, None] - sign * np.log2(DECAYS) == (0 if sign == 1 else -8)
    found = top_correlation(np.where(on_line, 1.0, 9.0), RATES, DECAYS, cells=5)
    assert found == pytest.approx(expected)


def test_cells_of_one_learning_rate_have_no_correlation():
    error = np.where(RATES[:, None] == 0.25, 1.0, 9.0) + np.zeros(13)
    assert np.isnan(top_correlation(error, RATES, DECAYS))


def test_cells_that_divergence_has_left_too_few_have_no_correlation():
    error = np.full((7, 13), np.nan)
    error[[0, 1, 2], [3, 2, 5]] = 5.0
    assert np.isnan(top_correlation(error, RATES, DECAYS, cells=4))
    assert np.isfinite(top_correlation(error, RATES, DECAYS, cells=3))


@pytest.mark.parametrize(
    ("error", "rates", "decays", "message"),
    [
        (np.ones(3), [0.1], [0.1, 0.2, 0.3], r"error must be \[1, 3\].*got \[3\]"),
        (np.ones((3, 2)), [0.1, 0.2], [1.0, 2.0, 3.0], r"error must be \[2, 3\].*got \[3, 2\]"),
        (np.ones((1, 2, 0)), [0.1], [1.0, 2.0], r"error must be.*got \[1, 2, 0\]"),
        (np.full((1, 2), np.inf), [0.1], [1.0, 2.0], "error must not be infinite"),
        (np.ones((2, 1)), [0.1, 0.0], [1.0], r"learning_rate must.*> 0, got \[0.1, 0.0\]"),
        (np.ones((2, 1)), [0.1, 0.1], [1.0], "learning_rate must be a list of distinct"),
        (np.ones((2, 1)), [[0.1, 0.2]], [1.0], "learning_rate must be a list"),
        (np.ones((0, 1)), [], [1.0], "learning_rate must be a list"),
        (np.ones((1, 2)), [0.1], [-1e-3, 1.0], r"weight_decay must.*>= 0, got \[-0.001, 1.0\]"),
        (np.ones((1, 2)), [0.1], [np.nan, 1.0], "weight_decay must be .* finite"),
    ],
)
@pytest.mark.parametrize("statistic", ["ridge", "top_correlation", "best_cell"])
def test_bad_grids_are_met_at_the_door(statistic, error, rates, decays, message):
    with pytest.raises(ValueError, match=message):
        getattr(statistics, statistic)(error, rates, decays)


@pytest.mark.parametrize(
    ("statistic", "options", "message"),
    [
        (ridge, {"tolerance": -1.0}, "tolerance must be >= 0 points, got -1.0"),
        (ridge, {"tolerance": np.nan}, "tolerance"),
        (top_correlation, {"cells": 92}, "cells must be between 2 and 91.*got 92"),
        (top_correlation, {"cells": 1}, "cells must be between 2 and 91.*got 1"),
    ],
)
def test_bad_options_are_met_at_the_door(statistic, options, message):
    with pytest.raises(ValueError, match=message):
        statistic(valley(0.0), RATES, DECAYS, **options)


def test_a_grid_without_decay_has_no_ridge_to_look_for():
    with pytest.raises(ValueError, match="weight_decay must have a λ > 0"):
        ridge(np.ones((2, 1)), [0.1, 0.2], [0.0])
