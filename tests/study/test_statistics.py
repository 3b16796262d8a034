import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from decoupled_wd.study import statistics
from decoupled_wd.study.statistics import (
    best_cell,
    ridge,
    ridge_slope,
    summarize,
    top_correlation,
)

FIGURE = json.loads((Path(__file__).parents[1] / "data" / "paper_figure2.json").read_text("utf-8"))
RATES = 2.0 ** np.arange(0, -7, -1)
DECAYS = 2.0 ** np.arange(-12, 1)


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
    assert np.isnan(ridge_slope(error, RATES, DECAYS)[1:]).all()
    assert np.isnan(top_correlation(error, RATES, DECAYS))


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (1, 1), (2, 2)])
def test_a_grid_too_small_for_a_slope_has_none(shape):
    error = np.arange(np.prod(shape), dtype=float).reshape(shape)
    axes = RATES[: shape[0]], DECAYS[: shape[1]]
    assert np.isnan(ridge(error, *axes).slope)
    record = summarize("AdamW", error, *axes)
    assert record["best_error"] == 0
    assert np.isnan(record["top10_correlation"])


def test_one_seed_has_no_interval():
    for error in (valley(-1.0), valley(-1.0)[..., None]):
        assert np.isnan(ridge_slope(error, RATES, DECAYS)[1:]).all()


def test_the_interval_matches_the_enumeration_of_all_resamples():
    slopes = (-0.8, -0.5, -0.1)
    error = np.stack([valley(s) for s in slopes], axis=-1)
    every = [
        ridge(error[..., list(p)], RATES, DECAYS, tolerance=100.0).slope
        for p in itertools.product(range(3), repeat=3)
    ]
    found = ridge_slope(error, RATES, DECAYS, tolerance=100.0, level=0.8, resamples=20_000, seed=1)[
        1:
    ]
    np.testing.assert_allclose(found, np.quantile(every, [0.1, 0.9]), atol=1e-9)


def test_the_interval_of_parallel_valleys_is_a_point_and_of_noise_covers_the_truth():
    same = np.stack([valley(-0.5), valley(-0.5) + 3], axis=-1)
    np.testing.assert_allclose(ridge_slope(same, RATES, DECAYS)[1:], -0.5, atol=1e-9)
    noise = np.random.default_rng(0).normal(0, 0.3, (7, 13, 6))
    low, high = ridge_slope(valley(-0.5)[..., None] + noise, RATES, DECAYS)[1:]
    assert low < -0.5 < high
    assert high - low < 1.0


def test_a_wider_level_gives_a_wider_interval_and_the_seed_decides_it():
    noise = np.random.default_rng(1).normal(0, 0.5, (7, 13, 5))
    error = valley(-0.5)[..., None] + noise
    narrow = ridge_slope(error, RATES, DECAYS, level=0.5)[1:]
    wide = ridge_slope(error, RATES, DECAYS, level=0.95)[1:]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert wide == ridge_slope(error, RATES, DECAYS, level=0.95)[1:]


def test_resamples_without_a_slope_are_left_out():
    error = np.stack([valley(-0.5), np.full((7, 13), np.nan)], axis=-1)
    np.testing.assert_allclose(ridge_slope(error, RATES, DECAYS)[1:], -0.5, atol=1e-9)


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


def test_summarize_has_the_columns_of_the_table():
    error, rates, decays = paper("Adam")
    runs = error[..., None] + np.random.default_rng(0).normal(0, 0.1, (11, 11, 3))
    record = summarize("Adam", runs, rates, decays, tolerance=1.5, level=0.5)
    low, high = ridge_slope(runs, rates, decays, tolerance=1.5, level=0.5)[1:]
    best = best_cell(runs, rates, decays)
    assert record == {
        "optimizer": "Adam",
        "best_error": best.error,
        "learning_rate": best.learning_rate,
        "weight_decay": best.weight_decay,
        "ridge_slope": ridge(runs, rates, decays, tolerance=1.5).slope,
        "ridge_slope_low": low,
        "ridge_slope_high": high,
        "top10_correlation": top_correlation(runs, rates, decays),
    }
    assert low < high
    assert json.loads(json.dumps(record)) == record


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
@pytest.mark.parametrize("statistic", ["ridge", "ridge_slope", "top_correlation", "best_cell"])
def test_bad_grids_are_met_at_the_door(statistic, error, rates, decays, message):
    with pytest.raises(ValueError, match=message):
        getattr(statistics, statistic)(error, rates, decays)


@pytest.mark.parametrize(
    ("statistic", "options", "message"),
    [
        (ridge, {"tolerance": -1.0}, "tolerance must be >= 0 points, got -1.0"),
        (ridge, {"tolerance": np.nan}, "tolerance"),
        (ridge_slope, {"level": 95}, "level must be between 0 and 1, got 95"),
        (ridge_slope, {"resamples": 0}, "resamples must be at least 1, got 0"),
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
