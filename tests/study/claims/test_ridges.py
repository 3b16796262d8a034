"""Points along the ridge of a pilot, and its slope, on landscapes whose ridge is known."""

import numpy as np
import pytest
import xarray as xr
from benchmark import landscapes
from toys import every_run, made_up, recorded

import decoupled_wd as dwd
from decoupled_wd.study.claims.optimizers import CONTENDERS, octaves
from decoupled_wd.study.claims.ridges import OFFSETS, ROWS, along_the_ridge, around, valley
from decoupled_wd.study.claims.tuning import PILOTS, at_the_end, grid_of
from decoupled_wd.study.statistics import over_seeds

TASK = landscapes.task()
MIDDLE = CONTENDERS["Adam"]


def clean(landscape, validation=None):
    """A landscape without noise; with `validation` its validation errors are another one's."""

    def errors(training, point):
        x = np.log2(point["learning_rate"] / MIDDLE.learning_rate)
        y = np.log2(np.maximum(point["weight_decay"], 1e-9) / MIDDLE.weight_decay)
        one, other = landscape.error(x, y), (validation or landscape).error(x, y)
        return {"test_error": one, "validation_error": other}

    return made_up(errors)


def pilot(run, grid=8):
    return at_the_end(run, grid_of(TASK, "Adam", "cosine", grid=grid))


def octaves_of(points):
    """Where the points are, in octaves from the middle of the grid."""
    rates = np.log2(np.reshape(points["learning_rate"], (ROWS, -1)) / MIDDLE.learning_rate)
    decays = np.log2(np.reshape(points["weight_decay"], (ROWS, -1)) / MIDDLE.weight_decay)
    return rates, decays


@pytest.mark.parametrize("slope", [-1.0, -0.5, 0.0, 0.5])
@pytest.mark.parametrize("level", [0.0, 0.5])
def test_the_points_lie_around_the_ridge_of_the_landscape(slope, level):
    # its lowest point is this much below the line that it is named by
    ridge = landscapes.Landscape(slope, level=level)
    y = np.linspace(-6, 6, 4001)
    bottom = y[ridge.error(np.zeros(1), y).argmin()]
    rates, decays = octaves_of(along_the_ridge(pilot(clean(ridge)), TASK.tolerance))
    middles = decays[:, list(OFFSETS).index(0)]
    np.testing.assert_allclose(decays - middles[:, None], np.tile(OFFSETS, (ROWS, 1)), atol=1e-12)
    np.testing.assert_array_equal(rates, rates[:, :1] + np.zeros(len(OFFSETS)))
    np.testing.assert_allclose(np.diff(rates[:, 0]), 1)
    # steps of a quarter, on a grid of whole octaves
    np.testing.assert_allclose(np.diff(middles), slope, atol=0.251)
    np.testing.assert_allclose(middles, slope * rates[:, 0] + bottom, atol=1.0)


def test_the_rows_are_the_five_neighbours_of_the_lowest_errors():
    for center in (-2.0, 1.0):
        ridge = landscapes.Landscape(0.0, center=center)
        rates, _ = octaves_of(along_the_ridge(pilot(clean(ridge), 9), TASK.tolerance))
        np.testing.assert_allclose(rates[:, 0], np.arange(center - 2, center + 3), atol=1e-12)


def test_the_ridge_is_that_of_the_validation_errors_with_decay():
    ridge, other = landscapes.Landscape(-1.0), landscapes.Landscape(0.0, level=-1.0)
    run = clean(other, validation=ridge)
    points = along_the_ridge(pilot(run), TASK.tolerance)
    for name, values in along_the_ridge(pilot(clean(ridge)), TASK.tolerance).items():
        np.testing.assert_array_equal(points[name], values)
    without = pilot(run)
    without["validation_error"].loc[{"weight_decay": 0.0}] = -50.0
    for name, values in along_the_ridge(without, TASK.tolerance).items():
        np.testing.assert_array_equal(points[name], values)


def test_what_diverged_or_soared_beyond_the_ridge_does_not_move_it():
    ridge = landscapes.Landscape(-1.0)
    found = pilot(clean(ridge))
    points = along_the_ridge(found, TASK.tolerance)
    far = found["validation_error"] > found["validation_error"].min("weight_decay") + TASK.tolerance
    assert far.sum() > 20
    for instead in (np.nan, 90.0):
        damaged = found.assign(validation_error=found["validation_error"].where(~far, instead))
        for name, values in along_the_ridge(damaged, TASK.tolerance).items():
            np.testing.assert_array_equal(points[name], values)


def test_one_row_whose_valley_is_elsewhere_turns_the_line_little():
    found = pilot(clean(landscapes.Landscape(0.0)))
    _, wanted = octaves_of(along_the_ridge(found, TASK.tolerance))
    elsewhere = pilot(clean(landscapes.Landscape(0.0, level=-3.0, steep=20.0)))["validation_error"]
    one = found["learning_rate"] == MIDDLE.learning_rate * 2
    damaged = found.assign(validation_error=xr.where(one, elsewhere, found["validation_error"]))
    _, decays = octaves_of(along_the_ridge(damaged, TASK.tolerance))
    # alone it would lie four octaves lower
    np.testing.assert_allclose(decays, wanted, atol=1.01)


def test_a_setting_that_diverged_with_one_seed_is_no_good_setting():
    """A second valley, deeper than the first, in which one of two seeds diverges."""
    ridge, deeper = (
        landscapes.Landscape(0.0, level=1.0),
        landscapes.Landscape(0.0, level=-2.5, least=30.0),
    )
    found = pilot(clean(ridge))
    better = pilot(clean(deeper))["validation_error"]
    better = better.where(better["seed"] == 0)
    cells = found["weight_decay"] < MIDDLE.weight_decay * 2.0**-1.5
    damaged = found.assign(validation_error=found["validation_error"].where(~cells, better))
    _, decays = octaves_of(along_the_ridge(damaged, TASK.tolerance))
    _, wanted = octaves_of(along_the_ridge(found, TASK.tolerance))
    np.testing.assert_allclose(decays[:, 6], wanted[:, 6], atol=0.75)


def test_where_many_lines_are_as_good_the_points_lie_in_their_middle():
    """A valley with a level bottom of five octaves, or whose best is a matter of luck."""
    chance = np.random.default_rng(0)
    middles = []
    for _ in range(30):
        found = pilot(clean(landscapes.Landscape(0.0)))
        away = np.abs(np.log2(np.fmax(found["weight_decay"], 1e-9) / MIDDLE.weight_decay) + 0.5)
        error = xr.where(away < 2.6, 40.0, 60.0) + 0 * found["validation_error"]
        error += chance.normal(0, 0.3, error.shape)
        _, decays = octaves_of(
            along_the_ridge(found.assign(validation_error=error), TASK.tolerance)
        )
        middles.append(decays[:, list(OFFSETS).index(0)])
    # lines fall on average, as those of L2 and of decoupled decay together
    assert np.mean(middles, axis=0)[ROWS // 2] == pytest.approx(-0.5, abs=0.6)
    assert np.std(middles, axis=0).max() < 0.6


def test_the_order_of_the_axes_does_not_matter():
    found = pilot(clean(landscapes.Landscape(-0.5)))
    turned = found.isel(weight_decay=slice(None, None, -1)).transpose("seed", "weight_decay", ...)
    for name, values in along_the_ridge(found, TASK.tolerance).items():
        np.testing.assert_array_equal(along_the_ridge(turned, TASK.tolerance)[name], values)


def test_points_around_are_half_octaves_and_away_from_the_middle_whole_ones():
    points = around([0.1, 0.2, 0.4], [0.5, 0.25, 1.0])
    octaves = np.log2(np.reshape(points["weight_decay"], (3, 11)) / [[0.5], [0.25], [1.0]])
    np.testing.assert_allclose(np.diff(octaves), [[1, 1, *[0.5] * 6, 1, 1]] * 3, atol=1e-12)
    np.testing.assert_allclose(octaves[:, [0, 6]], [[-4, 0]] * 3, atol=1e-12)
    np.testing.assert_array_equal(points["learning_rate"], np.repeat([0.1, 0.2, 0.4], 11))


def measured(run, looks=(4,), look=0, **options):
    return valley(run, TASK, "Adam", "cosine", grid=8, looks=looks, look=look, **options)


@pytest.mark.parametrize("slope", [-1.0, -0.75, -0.4, 0.0, 0.3])
def test_without_noise_the_slope_is_the_landscapes(slope):
    found = measured(clean(landscapes.Landscape(slope)))
    assert found.slope(np.arange(4)) == pytest.approx(slope, abs=0.02)
    assert over_seeds(found.slope, 4).standard_error == pytest.approx(0.0, abs=1e-12)


def test_with_noise_the_interval_holds_the_slope_and_is_no_wider_than_what_matters():
    run = landscapes.Runs({"Adam": landscapes.Landscape(-0.9)}, 0)
    found = measured(run, looks=(32,))
    slope = over_seeds(found.slope, 32)
    assert slope.low < -0.9 < slope.high < -0.65
    assert slope.high - slope.low < 0.5


def test_one_seed_that_diverged_takes_its_point_away_and_no_other():
    found = measured(clean(landscapes.Landscape(-1.0)))
    cell = ROWS // 2 * len(OFFSETS)
    found.along["test_error"][cell, 1] = np.nan
    assert found.slope(np.arange(4)) == pytest.approx(-1.0, abs=0.02)


@pytest.mark.parametrize(("row", "turns"), [(0, True), (ROWS // 2, False)])
def test_a_row_whose_valley_is_open_is_not_known_nor_the_slope_that_it_turns(row, turns):
    found = measured(clean(landscapes.Landscape(-1.0)))
    every = found.ridge(np.arange(4))
    for one, other in zip(found.known(0.95), every, strict=True):
        np.testing.assert_array_equal(one, other)
    # level from the middle on
    cells = slice(row * len(OFFSETS) + list(OFFSETS).index(0), (row + 1) * len(OFFSETS))
    found.along["test_error"][cells] = float(found.along["test_error"].min())
    below, above = found.leeway(0.95)
    assert below == (-np.inf if turns else 0.0)
    assert 0 <= above < (1 if turns else 1e-12)
    known = found.known(0.95)
    np.testing.assert_array_equal(known.learning_rate, np.delete(every.learning_rate, row))
    np.testing.assert_array_equal(known.weight_decay, np.delete(every.weight_decay, row))
    assert np.isnan(known.slope) == turns


def test_seeds_of_the_pilot_take_no_part_and_no_run_is_trained_twice():
    run, trainings = recorded(landscapes.Runs({"Adam": landscapes.Landscape(-0.9)}, 0))
    found = measured(run, looks=(3, 7), look=1)
    assert [each.seeds for each in trainings] == [range(2), range(2, 5), range(5, 9)]
    assert found.along["seed"].values.tolist() == list(range(PILOTS, PILOTS + 7))
    runs = [each for training in trainings for each in every_run(training)]
    assert len(set(runs)) == len(runs)
    assert len(runs) == 8 * 8 * PILOTS + ROWS * len(OFFSETS) * 7
    assert found.training.place[-4:] == ("ridge", "cosine", "Adam", "with L2")
    xr.testing.assert_equal(found.pilot, at_the_end(run, grid_of(TASK, "Adam", "cosine", grid=8)))


def test_the_slope_is_that_of_the_seeds_that_are_drawn():
    run = landscapes.Runs({"Adam": landscapes.Landscape(-0.9)}, 0)
    found, first = measured(run, looks=(3, 7), look=1), measured(run, looks=(3,))
    assert found.slope(np.arange(3)) == first.slope(np.arange(3))
    assert found.slope(np.arange(3)) != found.slope(np.arange(3, 7))
    assert found.slope(np.array([2, 0, 1])) == pytest.approx(found.slope(np.arange(3)), rel=1e-12)


def test_the_coupling_moves_the_points_with_its_units():
    ridge = landscapes.Landscape(-0.5)

    def coupled(training, point):
        x = np.log2(point["learning_rate"] / CONTENDERS["AdamW"].learning_rate)
        y = np.log2(np.maximum(point["weight_decay"], 1e-9) * point["learning_rate"])
        error = ridge.error(x, y - np.log2(CONTENDERS["AdamW"].weight_decay))
        return {"test_error": error, "validation_error": error}

    options = {"grid": 8, "looks": (2,), "look": 0, "coupling": dwd.LR}
    found = valley(made_up(coupled), TASK, "AdamW", "cosine", **options)
    assert found.slope(np.arange(2)) == pytest.approx(-1.5, abs=0.02)
    assert found.pilot.sizes["weight_decay"] == len(octaves("AdamW", 8)["weight_decay"])
