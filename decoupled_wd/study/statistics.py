"""What a grid of test errors over learning rate α and weight decay λ says about their coupling.

The ridge is the best λ of every α. Its slope d log λ* / d log α is −1 if half the learning rate
takes twice the decay, as with SGD + L2, and 0 if the two are decoupled.

In every function `error` is [A, L] or [A, L, S], learning rates × weight decays × seeds, in
percent; `learning_rate` is [A], all > 0, and `weight_decay` [L], all >= 0, in any order. NaN marks
a run that diverged. The mean over the seeds counts, and it is NaN as soon as one seed is: a setting
that diverges now and then is no good setting. λ = 0 has no logarithm: only `best_cell` looks there.
Shapes that disagree and axes that repeat or leave their range are a ValueError everywhere.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline  # type: ignore[import-untyped]
from scipy.stats import sem  # type: ignore[import-untyped]
from scipy.stats import t as student

from decoupled_wd._ridges import Cell, Ridge, averaged, best_cell, positive, require, ridge

__all__ = [
    "FRESH",
    "Cell",
    "Estimate",
    "Ridge",
    "best_cell",
    "half_width",
    "leeway",
    "line_slope",
    "mean",
    "over_seeds",
    "propagated",
    "ridge",
    "slope_weights",
    "top_correlation",
    "valleys",
    "widened",
]

FRESH = 10_000
"""The seeds from here on judge what searches with the seeds before chose."""
# 0.7 octaves: callers pass y as a natural logarithm
WIDTH = 0.7 * float(np.log(2))
FINER = 8
"""Places between two neighbouring points at which the error of a valley is interpolated."""
SHIFTS = 50
"""Steps of the mean shift, which halve what is left of its way or better."""
HIGH = 4.0
"""So many tolerances above the least, an error counts no more."""
RISE = 0.2
"""A valley ends where the error rises by this part of the tolerance: so the intervals hold."""

_Array = NDArray[np.float64]


class Estimate(NamedTuple):
    """Holds a statistic, its interval, and what the interval was made of."""

    value: float
    low: float
    high: float
    standard_error: float = 0.0
    seeds: int = 1


def over_seeds(
    statistic: Callable[[NDArray[np.intp]], float], seeds: int, *, level: float = 0.95
) -> Estimate:
    """Estimates a statistic and its interval, by a jackknife over seeds.

    With T of all S seeds and T_i of all but the i-th, the pseudovalues ``S·T − (S − 1)·T_i`` are
    treated as S independent measurements of the statistic: the interval is Student's t of their
    mean, around T. Of a mean, and of any difference of means, it is exactly the usual t interval;
    of a smooth function of means it holds for enough seeds, and `tests/benchmarks/coverage.py`
    measures how many are enough. With a single seed, or where a statistic is NaN, it is (nan, nan).

    Args:
        statistic: ``statistic(indices) -> number`` of the runs with these seeds, in any order.
        seeds: S, the number of seeds.
        level: how often such an interval should hold the truth.

    Raises:
        ValueError: level outside (0, 1).

    Examples:
        >>> runs = np.array([1.0, 2.0, 3.0])
        >>> mean = over_seeds(lambda drawn: float(runs[drawn].mean()), 3)
        >>> mean.value, round(mean.low, 2), round(mean.high, 2)
        (2.0, -0.48, 4.48)

    Source: Tukey 1958; Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11.
    """
    require(0 < level < 1, f"level must be between 0 and 1, got {level}; for example 0.95")
    every = np.arange(seeds)
    value = float(statistic(every))
    if seeds == 1:
        return Estimate(value, np.nan, np.nan, np.nan, seeds)
    without = np.array([statistic(np.delete(every, seed)) for seed in every])
    pseudovalues = seeds * value - (seeds - 1) * without
    error = float(sem(pseudovalues))
    # all seeds may agree to the last bit, and then there is nothing to be unsure of
    half = float(half_width(error, seeds, level)) if error else 0.0
    # around the statistic as it is: the bias that a jackknife finds is not taken off
    return Estimate(value, value - half, value + half, error, seeds)


def half_width(standard_error: ArrayLike, seeds: int, level: float) -> NDArray[np.float64]:
    """Returns half the width of Student's interval around a mean over seeds."""
    return np.asarray(student.ppf((1 + level) / 2, max(seeds - 1, 1)) * standard_error)


def mean(worth: NDArray[np.float64], level: float = 0.95) -> Estimate:
    """Estimates the mean over seeds or searches, ``[seeds]``."""
    return over_seeds(lambda drawn: float(worth[drawn].mean()), worth.size, level=level)


def valleys(
    error: ArrayLike, y: ArrayLike, *, tolerance: float, width: float = WIDTH
) -> NDArray[np.float64]:
    """Finds the middle of each row's valley of low error.

    It is the y* around which a bell, ``exp(−(y − y*)² / (2·width²))``, holds most of the weights
    ``exp(−4·(error − least error) / tolerance)``, and so their mean under it. Unlike the lowest
    point it moves smoothly with the errors, so that noise averages out and a jackknife is valid;
    and thanks to the bell it does not depend on how far y was measured, unless the valley is open
    at an end. Between two points the error is interpolated.

    Args:
        error: ``[R, L]`` in percent, with NaN or anything high where a run diverged.
        y: ``[R, L]`` or ``[L]``, such as log λ; rising, in each row some widths around the valley.
        tolerance: points of error above the least that still count as near it.
        width: of the bell, in units of y; by default 0.7 octaves, where y is a natural logarithm.

    Returns:
        ``[R]``; NaN for a row in which every run diverged.

    Examples:
        >>> y = np.linspace(-6, 4, 21)
        >>> valleys([(y + 1) ** 2, (y - 1) ** 2], y, tolerance=1.0).round(3).tolist()
        [-1.0, 1.0]

    Source: mean shift, Cheng 1995; ``tests/benchmarks/ridges.py`` compares it with others at equal
    training.
    """
    rows = np.asarray(error, float)
    every = np.broadcast_to(np.asarray(y, float), rows.shape)
    return np.array(
        [_middle(at, row, tolerance, width) for at, row in zip(every, rows, strict=True)]
    )


def leeway(
    runs: ArrayLike, y: ArrayLike, *, tolerance: float, level: float, width: float = WIDTH
) -> NDArray[np.float64]:
    """Tells how far below and above the middle of each row's valley its best y may lie.

    Usually that is 0. But where the error at an end of y is above that in the middle by less than a
    fifth of the tolerance, or by no more than chance explains (Student's t over seeds), the valley
    is open: it may go on there, nobody knows how far, and what is best may be anywhere in it. Then
    the leeway is infinite on that side, and on the other one reaches to where the error has risen
    by as much.

    Args:
        runs: ``[R, L, S]``, error with each of S seeds, whose mean is that of `valleys`.
        y: as of `valleys`.
        tolerance: as of `valleys`.
        level: of Student's interval of a rise; the error has risen where it is above 0.
        width: as of `valleys`.

    Returns:
        ``[R, 2]``, the first ``<= 0`` and the second ``>= 0``; 0 for a row in which every run
        diverged.

    Examples:
        >>> y = np.linspace(-4, 4, 17)
        >>> two_seeds = np.stack([y**2, y**2], axis=-1)
        >>> leeway([two_seeds], y, tolerance=1.0, level=0.95).tolist()
        [[0.0, 0.0]]
        >>> two_seeds[y < 0] = 0.0
        >>> leeway([two_seeds], y, tolerance=1.0, level=0.95)[0, 0].item()
        -inf
    """
    seeds = np.asarray(runs, float)
    rows = seeds.mean(axis=2)
    middles = valleys(rows, y, tolerance=tolerance, width=width)
    every = np.broadcast_to(np.asarray(y, float), rows.shape)
    found = np.zeros((len(rows), 2))
    for row in np.flatnonzero(np.isfinite(middles)):
        away, above = every[row] - middles[row], _above(rows[row], tolerance)
        # the mean of what lies in the middle: the least of many is lower by its luck
        weight = np.exp(-4 * above / tolerance) * _bell(away, width)
        low = above < np.average(above, weights=weight) + RISE * tolerance
        counted = np.fmin(seeds[row], np.nanmin(rows[row]) + HIGH * tolerance)
        low |= _by_chance(counted, weight, level)
        if low[0] or low[-1]:
            first, *_, last = np.flatnonzero(np.convolve(low, [1, 1, 1], "same"))
            found[row] = (
                -np.inf if low[0] else min(away[first], 0.0),
                np.inf if low[-1] else max(away[last], 0.0),
            )
    return found


def propagated(weights: ArrayLike, leeways: ArrayLike) -> NDArray[np.float64]:
    """Returns the leeway of a weighted sum of what has a leeway each.

    Args:
        weights: ``[R]``, such as `slope_weights` of the middles of valleys.
        leeways: ``[R, 2]``, the `leeway` of each.

    Returns:
        ``[2]``, how far the sum may lie below and above its value.

    Examples:
        >>> weights = slope_weights([-1.0, 0.0, 1.0])
        >>> propagated(weights, [[0, 0], [-np.inf, np.inf], [-np.inf, 1.0]]).tolist()
        [-inf, 0.5]
    """
    # a row in the very middle has no weight in a slope, whatever rounding leaves of it
    weight = np.round(np.asarray(weights, float), 9)[:, None]
    with np.errstate(invalid="ignore"):
        moves = np.where(weight == 0, 0.0, weight * np.asarray(leeways, float))
    return np.array([moves.min(axis=1).sum(), moves.max(axis=1).sum()])


def widened(estimate: Estimate, unknown: ArrayLike) -> Estimate:
    """Widens an interval over seeds, which knows nothing of what was not measured, by a leeway.

    Examples:
        >>> widened(Estimate(-0.5, -0.7, -0.3), [-np.inf, 0.5])[:3]
        (-0.5, -inf, 0.2)
    """
    below, above = (float(each) for each in np.asarray(unknown, float))
    return estimate._replace(low=estimate.low + below, high=estimate.high + above)


def slope_weights(x: ArrayLike) -> NDArray[np.float64]:
    """Returns the weight of each y in the slope of the least-squares line, ``[R]``."""
    at = np.asarray(x, float)
    away = at - at.mean()
    return np.asarray(away / (away @ away))


def line_slope(x: ArrayLike, y: ArrayLike) -> float:
    """Returns the slope of the least-squares line, as of log λ* over log α.

    It is NaN where a y is.

    Examples:
        >>> round(line_slope([0.0, 1.0, 2.0], [1.0, 0.5, 0.0]), 6)
        -0.5
    """
    return float(slope_weights(x) @ np.asarray(y, float))


def top_correlation(
    error: ArrayLike, learning_rate: ArrayLike, weight_decay: ArrayLike, *, cells: int = 10
) -> float:
    """Correlates log α and log λ over the best cells.

    It is Pearson's correlation, over the `cells` of lowest error with λ > 0.

    Of equal errors the smaller α index, then the smaller λ, comes first: a tie at the last place
    can matter. NaN if divergence leaves fewer cells, or if they all share one α or one λ.

    Raises:
        ValueError: as `ridge`, or cells < 2, or more cells than the grid has with λ > 0.

    Examples:
        >>> round(top_correlation([[4.0, 3.0], [3.0, 4.0]], [0.1, 0.2], [1e-3, 2e-3], cells=2), 6)
        -1.0
    """
    mean, rates, decays = positive(averaged(error, learning_rate, weight_decay))
    rule = f"cells must be between 2 and {mean.size}, the cells of the grid with λ > 0"
    require(2 <= cells <= mean.size, f"{rule}, got {cells}")
    order = np.argsort(mean, axis=None, kind="stable")[:cells]  # NaN comes last
    row, column = np.unravel_index(order, mean.shape)
    log_rate, log_decay = np.log(rates[row]), np.log(decays[column])
    diverged = bool(np.isnan(mean[row, column]).any())
    # without spread along an axis a correlation is 0 / 0
    if diverged or np.ptp(log_rate) == 0 or np.ptp(log_decay) == 0:
        return np.nan
    return float(np.corrcoef(log_rate, log_decay)[0, 1])


def _middle(y: _Array, error: _Array, tolerance: float, width: float) -> float:
    """Returns the middle of a valley, by a mean shift on its interpolated error."""
    # a row that diverged has no valley, whether its errors are NaN or infinite
    if not np.isfinite(error).any():
        return np.nan
    above = _above(error, tolerance)
    # a smooth curve through the points, so that it matters little where they lie
    at = np.linspace(y[0], y[-1], FINER * (len(y) - 1) + 1)
    weight = np.exp(-4 * CubicSpline(y, above)(at) / tolerance)
    # a mean shift ends where the bell holds most: from the nearest of these places
    middle = at[int((_bell(at[:, None] - at, width) @ weight).argmax())]
    for _ in range(SHIFTS):
        middle = np.average(at, weights=weight * _bell(at - middle, width))
    return float(middle)


def _above(error: _Array, tolerance: float) -> _Array:
    """Returns how far each error is above the least."""
    # far above the valley nothing counts, but what diverged must not spoil its neighbours
    return np.asarray(np.fmin(error - np.nanmin(error), HIGH * tolerance))


def _by_chance(runs: _Array, weight: _Array, level: float) -> NDArray[np.bool_]:
    """Says which of errors ``[L, S]`` are above their weighted mean by no more than chance."""
    rise = runs - np.average(runs, axis=0, weights=weight)
    most = half_width(sem(rise, axis=1), rise.shape[1], level)
    return np.asarray(rise.mean(axis=1) <= most)


def _bell(away: _Array, width: float) -> _Array:
    """Returns how much counts what is so far from a bell's middle."""
    return np.asarray(np.exp(-((away / width) ** 2) / 2))
