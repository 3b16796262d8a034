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
from scipy.stats import sem, theilslopes  # type: ignore[import-untyped]
from scipy.stats import t as student

WIDTH = 0.7 * float(np.log(2))
FINER = 8
"""Places between two neighbouring points at which the error of a valley is interpolated."""
SHIFTS = 50
"""Steps of the mean shift, which halve what is left of its way or better."""

_Array = NDArray[np.float64]
_Grid = tuple[_Array, _Array, _Array]  # mean error, learning rate, weight decay


class Ridge(NamedTuple):
    """Holds the best λ of every kept α, and how it depends on α.

    Both are [K], and the slope is d log λ* / d log α.
    """

    learning_rate: _Array
    weight_decay: _Array
    slope: float


class Estimate(NamedTuple):
    """Holds a statistic, its interval, and what the interval was made of."""

    value: float
    low: float
    high: float
    standard_error: float = 0.0
    seeds: int = 1


class Cell(NamedTuple):
    """Holds one cell of the grid: mean test error, α and λ.

    The error is in percent; all are NaN if every cell diverged.
    """

    error: float
    learning_rate: float
    weight_decay: float


def ridge(
    error: ArrayLike,
    learning_rate: ArrayLike,
    weight_decay: ArrayLike,
    *,
    tolerance: float = 1.0,
    drop_edge: bool = True,
) -> Ridge:
    """Finds the valley of low error over α and λ, and its slope.

    log λ*(α) is the vertex of the parabola through the lowest cell of row α and its two neighbours
    in log λ; at the edge of the grid or beside a diverged cell it is the lowest cell itself. The
    slope is Theil and Sen's: the median over the slopes between any two rows.

    Kept are the rows whose lowest error is at most `tolerance` points above the best of all; with
    `drop_edge` not those whose lowest cell has the smallest or the largest λ > 0. Their order is
    the one given; the slope is NaN if there are fewer than two.

    Raises:
        ValueError: bad axes, no λ > 0, or tolerance < 0.

    Examples:
        >>> rates, decays = 2.0 ** np.arange(-3, 1), 2.0 ** np.arange(-6, 1)
        >>> error = 5 + np.log(np.outer(rates, decays) / 0.1) ** 2  # lowest where α·λ = 0.1
        >>> round(ridge(error, rates, decays).slope, 6)
        -1.0

    Source: our reading of Figure 2 in Loshchilov & Hutter, arXiv 1711.05101; Sen 1968.
    """
    _require(tolerance >= 0, f"tolerance must be >= 0 points, got {tolerance}")
    mean, rates, decays = _positive(_checked(error, learning_rate, weight_decay))
    # a diverged cell is never the lowest, nor near it
    cost = np.where(np.isnan(mean), np.inf, mean)
    lowest, best = cost.argmin(axis=1), cost.min(axis=1)
    # the best λ of a row at the edge may lie beyond the grid
    on_edge = (lowest == 0) | (lowest == cost.shape[1] - 1)
    kept = np.isfinite(best) & (best <= best.min() + tolerance) & ~(drop_edge & on_edge)
    rates, log_best = rates[kept], np.array([_vertex(np.log(decays), row) for row in cost[kept]])
    slope = float(theilslopes(log_best, np.log(rates)).slope) if len(rates) > 1 else np.nan
    return Ridge(rates, np.exp(log_best), slope)


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
    _require(0 < level < 1, f"level must be between 0 and 1, got {level}; for example 0.95")
    every = np.arange(seeds)
    value = float(statistic(every))
    if seeds == 1:
        return Estimate(value, np.nan, np.nan, np.nan, seeds)
    without = np.array([statistic(np.delete(every, seed)) for seed in every])
    pseudovalues = seeds * value - (seeds - 1) * without
    error = float(sem(pseudovalues))
    # all seeds may agree to the last bit, and then there is nothing to be unsure of
    half = float(student.ppf((1 + level) / 2, seeds - 1)) * error if error else 0.0
    return Estimate(value, value - half, value + half, error, seeds)


def valleys(
    error: ArrayLike, y: ArrayLike, *, tolerance: float, width: float = WIDTH
) -> NDArray[np.float64]:
    """Finds the middle of each row's valley of low error.

    It is the mean y* of y with the weights ``exp(−4·(error − least error) / tolerance)`` under a
    bell around y* itself, ``exp(−(y − y*)² / (2·width²))``. Unlike the lowest point it moves
    smoothly with the errors, so that noise averages out and a jackknife is valid; and thanks to the
    bell it does not depend on how far y was measured. Between two points the error is interpolated.

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


def line_slope(x: ArrayLike, y: ArrayLike) -> float:
    """Returns the slope of the least-squares line, as of log λ* over log α.

    It is NaN where a y is.

    Examples:
        >>> round(line_slope([0.0, 1.0, 2.0], [1.0, 0.5, 0.0]), 6)
        -0.5
    """
    known = np.isfinite(np.asarray(y, float)).all()
    return float(np.polyfit(np.asarray(x, float), np.asarray(y, float), 1)[0]) if known else np.nan


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
    mean, rates, decays = _positive(_checked(error, learning_rate, weight_decay))
    rule = f"cells must be between 2 and {mean.size}, the cells of the grid with λ > 0"
    _require(2 <= cells <= mean.size, f"{rule}, got {cells}")
    order = np.argsort(mean, axis=None, kind="stable")[:cells]  # NaN comes last
    row, column = np.unravel_index(order, mean.shape)
    log_rate, log_decay = np.log(rates[row]), np.log(decays[column])
    diverged = bool(np.isnan(mean[row, column]).any())
    if diverged or np.ptp(log_rate) == 0 or np.ptp(log_decay) == 0:
        return np.nan
    return float(np.corrcoef(log_rate, log_decay)[0, 1])


def best_cell(error: ArrayLike, learning_rate: ArrayLike, weight_decay: ArrayLike) -> Cell:
    """Returns the first cell of lowest mean error, λ = 0 included.

    Examples:
        >>> best_cell([[5.0, 4.0], [6.0, np.nan]], [0.1, 0.2], [0.0, 1e-3])
        Cell(error=4.0, learning_rate=0.1, weight_decay=0.001)
    """
    mean, rates, decays = _checked(error, learning_rate, weight_decay)
    if np.isnan(mean).all():
        return Cell(np.nan, np.nan, np.nan)
    row, column = np.unravel_index(np.nanargmin(mean), mean.shape)
    return Cell(float(mean[row, column]), float(rates[row]), float(decays[column]))


def _middle(y: _Array, error: _Array, tolerance: float, width: float) -> float:
    """Returns the middle of a valley, by a mean shift on its interpolated error."""
    if np.isnan(error).all():
        return np.nan
    least = np.nanmin(error)
    # far above the valley nothing counts, but what diverged must not spoil its neighbours
    above = np.fmin(error - least, 4 * tolerance)
    # a smooth curve through the points, so that it matters little where they lie
    at = np.linspace(y[0], y[-1], FINER * (len(y) - 1) + 1)
    weight = np.exp(-4 * CubicSpline(y, above)(at) / tolerance)
    middle = np.average(at, weights=weight)
    for _ in range(SHIFTS):
        bell = np.exp(-(((at - middle) / width) ** 2) / 2)
        middle = np.average(at, weights=weight * bell)
    return float(middle)


def _vertex(log_decay: _Array, cost: _Array) -> float:
    i = int(cost.argmin())
    x, y = log_decay[i - 1 : i + 2], cost[i - 1 : i + 2]
    if len(x) < 3 or not np.isfinite(y).all():
        return float(log_decay[i])
    # A parabola's derivative is linear, and equals the secants' slopes half-way along them.
    return float(np.interp(0.0, np.diff(y) / np.diff(x), (x[:-1] + x[1:]) / 2))


def _positive(grid: _Grid) -> _Grid:
    mean, rates, decays = grid
    order = np.argsort(decays)[np.count_nonzero(decays == 0) :]
    _require(order.size > 0, "weight_decay must have a λ > 0: λ = 0 alone has no logarithm")
    return mean[:, order], rates, decays[order]


def _checked(error: ArrayLike, learning_rate: ArrayLike, weight_decay: ArrayLike) -> _Grid:
    runs, rates, decays = (np.asarray(a, np.float64) for a in (error, learning_rate, weight_decay))
    for name, axis, least in (("learning_rate", rates, "> 0"), ("weight_decay", decays, ">= 0")):
        in_range = np.isfinite(axis) & ((axis > 0) | ((axis == 0) & (least == ">= 0")))
        _require(
            axis.ndim == 1 and bool(in_range.all()) and np.unique(axis).size == axis.size > 0,
            f"{name} must be a list of distinct finite numbers {least}, got {axis.tolist()}",
        )
    _require(
        runs.ndim in (2, 3) and runs.shape[:2] == (rates.size, decays.size) and runs.size > 0,
        f"error must be [{rates.size}, {decays.size}] (learning rates × weight decays), with or "
        f"without a third axis of seeds, got {list(runs.shape)}; transpose or reshape it",
    )
    _require(not np.isinf(runs).any(), "error must not be infinite; write NaN for a diverged run")
    return np.atleast_3d(runs).mean(axis=2), rates, decays


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
