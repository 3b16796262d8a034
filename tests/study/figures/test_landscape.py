"""A search's figures: every trial in its place, what is far off at the end, nothing global touched."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import PathCollection

from decoupled_wd.study.figures.landscape import Line, landscape
from decoupled_wd.study.figures.trials import found_of, progress, slices

NAN = float("nan")
RATES, DECAYS = [1e-3, 1e-2, 1e-1, 1e-2, 1e-3], [1e-2, 1e-3, 1e-4, 1e-2, 1e-4]
TRIALS = xr.Dataset(
    {
        "value": ("trial", [6.0, 5.0, 7.0, NAN, NAN]),
        "stopped": ("trial", [False, False, False, True, False]),
        "steps": ("trial", [10, 10, 10, 3, 5]),
    },
    {"learning_rate": ("trial", RATES), "weight_decay": ("trial", DECAYS), "trial": range(5)},
)
BOTH = ("learning_rate", "weight_decay")


def clouds(axis):
    """Places of the dots by their label."""
    found = (each for each in axis.collections if isinstance(each, PathCollection))
    return {each.get_label(): np.asarray(each.get_offsets()).tolist() for each in found}


def drawn(**options):
    return landscape(TRIALS, *BOTH, metric="error", log=BOTH, **options).axes


def test_each_kind_of_trial_has_its_own_marks():
    axis, _ = drawn()
    whole = [[*place] for place in zip(RATES[:3], DECAYS[:3], strict=True)]
    found = clouds(axis)
    assert found["stopped early"] == [[1e-2, 1e-2]]
    assert found["diverged"] == [[1e-3, 1e-4]]
    assert found["the choice"] == [[1e-2, 1e-3]]
    assert whole in found.values()
    assert found_of(TRIALS) == ["6", "5", "7", "stopped early", "diverged"]
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")


@pytest.mark.parametrize("higher", [False, True])
def test_the_best_is_brightest_and_starred(higher):
    axis, bar = drawn(higher=higher)
    dots = next(c for c in axis.collections if c.get_array() is not None)
    luminance = dots.to_rgba(dots.get_array())[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert luminance.argmax() == (2 if higher else 1)
    assert clouds(axis)["the choice"] == [[RATES[luminance.argmax()], DECAYS[luminance.argmax()]]]
    assert bar.get_ylabel() == "error"


def test_the_choice_need_not_be_the_best_trial():
    assert clouds(drawn(chosen=0)[0])["the choice"] == [[1e-3, 1e-2]]
    panels = slices(TRIALS, BOTH, metric="error", log=BOTH, chosen=0).axes
    assert [clouds(axis)["the choice"] for axis in panels] == [[[1e-3, 6.0]], [[1e-2, 6.0]]]


def test_the_ridge_is_a_power_law_within_its_fan():
    axis, _ = drawn(ridge=Line(1e-2, 1e-3, -1.0, -1.5, -0.5))
    x, y = axis.lines[0].get_data()
    assert np.allclose(np.gradient(np.log(y), np.log(x)), -1)
    assert np.allclose(x * y, 1e-5)
    fan = next(each for each in axis.collections if not isinstance(each, PathCollection))
    steepest, flattest = (1e-3 * (x[0] / 1e-2) ** slope for slope in (-1.5, -0.5))
    ends = fan.get_paths()[0].vertices
    at_the_left = ends[np.isclose(ends[:, 0], x[0]), 1]
    assert np.isclose(at_the_left.max(), steepest)
    assert np.isclose(at_the_left.min(), flattest)
    unbounded, _ = drawn(ridge=Line(1e-2, 1e-3, -1.0, -np.inf, np.inf))
    assert all(isinstance(each, PathCollection) for each in unbounded.collections)


def test_the_best_so_far_goes_over_all_steps():
    figure = progress(TRIALS, metric="error")
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == [10, 20, 30]
    assert line.get_ydata().tolist() == [6, 5, 5]
    better = progress(TRIALS, metric="accuracy", higher=True).axes[0].lines[0]
    assert better.get_ydata().tolist() == [6, 6, 7]


@pytest.mark.parametrize(("higher", "label"), [(False, "higher still"), (True, "lower still")])
def test_what_is_far_off_stands_at_the_end(higher, label):
    values = np.r_[np.linspace(5, 6, 19), 90.0] * (-1 if higher else 1)
    data = {"value": values, "stopped": np.zeros(20, bool), "steps": np.ones(20, int)}
    trials = xr.Dataset({k: ("trial", v) for k, v in data.items()}, {"a": ("trial", range(20))})
    axis = slices(trials, ["a"], metric="m", higher=higher).axes[0]
    ((x, y),) = clouds(axis)[label]
    low, high = axis.get_ylim()
    assert x == 19
    assert low < y < high
    assert abs(y) < 7
    assert len(clouds(axis)["a trial"]) == 19


def test_names_are_text_and_no_formula():
    trials = TRIALS.rename(learning_rate="$\\frac{$", weight_decay="_b")
    figure = landscape(trials, "$\\frac{$", "_b", metric="$\\x{")
    figure.draw_without_rendering()
    assert figure.axes[0].format_coord(1e-2, 1e-3) == "$\\frac{$ = 0.01, _b = 0.001: 5"


def test_trials_that_are_all_alike_or_all_diverged_are_drawn():
    alike = TRIALS.assign(value=TRIALS["value"] * 0 + 3)
    none = TRIALS.assign(value=TRIALS["value"] * NAN)
    for trials in (alike, none, TRIALS.isel(trial=[0])):
        figures = [
            landscape(trials, *BOTH, metric="m", log=BOTH),
            progress(trials, metric="m"),
            slices(trials, BOTH, metric="m", log=BOTH),
        ]
        for figure in figures:
            figure.draw_without_rendering()


def test_a_missing_hyperparameter_is_named():
    with pytest.raises(
        ValueError, match=r"names has \['b1'\]; the hyperparameters are \['learning"
    ):
        slices(TRIALS, ["learning_rate", "b1"], metric="m")
    with pytest.raises(ValueError, match="names has nothing"):
        slices(TRIALS, [], metric="m")


def test_nothing_global_is_touched():
    drawn()
    assert plt.get_fignums() == []
