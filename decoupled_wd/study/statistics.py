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
from scipy.stats import theilslopes  # type: ignore[import-untyped]

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
    """Holds a statistic and its interval, by default of 95 %."""

    value: float
    low: float
    high: float


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
    statistic: Callable[[NDArray[np.intp]], float],
    seeds: int,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Estimates a statistic and its interval, by a bootstrap over seeds.

    A resample draws S of the S seeds with replacement; one whose statistic is NaN is left out. The
    S^S resamples are drawn and not enumerated, so that ten seeds need no other code than three.
    With three or four the interval is rough, and rather too narrow; with a single seed, or if
    every statistic is NaN, it is (nan, nan).

    Args:
        statistic: ``statistic(indices) -> number`` of the runs with these seeds, in any order.
        seeds: S, the number of seeds.
        level: how often such an interval should hold the truth.
        resamples: how many resamples are drawn.
        seed: seed of the draws.

    Raises:
        ValueError: level outside (0, 1), or resamples < 1.

    Examples:
        >>> runs = np.array([1.0, 2.0, 3.0])
        >>> over_seeds(lambda drawn: float(runs[drawn].mean()), 3).value
        2.0

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    _require(0 < level < 1, f"level must be between 0 and 1, got {level}; for example 0.95")
    _require(resamples >= 1, f"resamples must be at least 1, got {resamples}; for example 1000")
    value = float(statistic(np.arange(seeds)))
    draws = np.random.default_rng(seed).integers(seeds, size=(resamples, seeds))
    # few seeds give few different resamples: each is computed once
    distinct, times = np.unique(np.sort(draws, axis=1), axis=0, return_counts=True)
    found = np.repeat([statistic(drawn) for drawn in distinct], times)
    if seeds == 1 or np.isnan(found).all():
        return Estimate(value, np.nan, np.nan)
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high))


def ridge_slope(
    error: ArrayLike,
    learning_rate: ArrayLike,
    weight_decay: ArrayLike,
    *,
    tolerance: float = 1.0,
    drop_edge: bool = True,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Estimates the slope of `ridge`, with its interval.

    It is that of the mean over the seeds, and the interval is as in `over_seeds`.

    Raises:
        ValueError: as `ridge` and `over_seeds`.
    """
    axes = _checked(error, learning_rate, weight_decay)[1:]
    runs = np.atleast_3d(np.asarray(error, np.float64))

    def slope(drawn: NDArray[np.intp]) -> float:
        return ridge(runs[..., drawn], *axes, tolerance=tolerance, drop_edge=drop_edge).slope

    return over_seeds(slope, runs.shape[2], level=level, resamples=resamples, seed=seed)


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


def summarize(
    optimizer: str,
    error: ArrayLike,
    learning_rate: ArrayLike,
    weight_decay: ArrayLike,
    *,
    tolerance: float = 1.0,
    drop_edge: bool = True,
    level: float = 0.95,
) -> dict[str, str | float]:
    """Sums up a grid in one row of the study's table.

    A value is NaN where the grid is too small for it. Errors are as in `ridge`.
    """
    axes = _checked(error, learning_rate, weight_decay)[1:]
    best = best_cell(error, *axes)
    slope, low, high = ridge_slope(
        error, *axes, tolerance=tolerance, drop_edge=drop_edge, level=level
    )
    # the paper looks at the ten best cells, and a small grid has fewer
    has_ten = axes[0].size * np.count_nonzero(axes[1]) >= 10
    return {
        "optimizer": optimizer,
        "best_error": best.error,
        "learning_rate": best.learning_rate,
        "weight_decay": best.weight_decay,
        "ridge_slope": slope,
        "ridge_slope_low": low,
        "ridge_slope_high": high,
        "top10_correlation": top_correlation(error, *axes, cells=10) if has_ten else np.nan,
    }


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
