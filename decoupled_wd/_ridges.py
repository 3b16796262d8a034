"""The best λ of every learning rate α in a grid of errors: the ridge, and its slope.

In every function `error` is [A, L] or [A, L, S], learning rates × weight decays × seeds;
`learning_rate` is [A], all > 0, and `weight_decay` [L], all >= 0, in any order. NaN marks a run
that diverged. The mean over the seeds counts, and it is NaN as soon as one seed is.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Array = NDArray[np.float64]
# errors or their mean, learning rates, weight decays
_Grid = tuple[_Array, _Array, _Array]


class Ridge(NamedTuple):
    """Holds the best λ of every kept α, and how it depends on α.

    Both are [K], and the slope is d log λ* / d log α.
    """

    learning_rate: _Array
    weight_decay: _Array
    slope: float


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
    """Find the valley of low error over α and λ, and its slope.

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
    require(tolerance >= 0, f"tolerance must be >= 0 points, got {tolerance}")
    mean, rates, decays = positive(averaged(error, learning_rate, weight_decay))
    # a diverged cell is never the lowest, nor near it
    cost = np.where(np.isnan(mean), np.inf, mean)
    lowest, best = cost.argmin(axis=1), cost.min(axis=1)
    # the best λ of a row at the edge may lie beyond the grid
    on_edge = (lowest == 0) | (lowest == cost.shape[1] - 1)
    kept = np.isfinite(best) & (best <= best.min() + tolerance) & ~(drop_edge & on_edge)
    rates, log_best = rates[kept], np.array([_vertex(np.log(decays), row) for row in cost[kept]])
    slope = _theil_sen(np.log(rates), log_best)
    return Ridge(rates, np.exp(log_best), slope)


def best_cell(error: ArrayLike, learning_rate: ArrayLike, weight_decay: ArrayLike) -> Cell:
    """Return the first cell of lowest mean error, λ = 0 included.

    Examples:
        >>> best_cell([[5.0, 4.0], [6.0, np.nan]], [0.1, 0.2], [0.0, 1e-3])
        Cell(error=4.0, learning_rate=0.1, weight_decay=0.001)
    """
    mean, rates, decays = averaged(error, learning_rate, weight_decay)
    if np.isnan(mean).all():
        return Cell(np.nan, np.nan, np.nan)
    row, column = np.unravel_index(np.nanargmin(mean), mean.shape)
    return Cell(float(mean[row, column]), float(rates[row]), float(decays[column]))


def averaged(error: ArrayLike, learning_rate: ArrayLike, weight_decay: ArrayLike) -> _Grid:
    """Return the mean error over the seeds, and the axes, checked."""
    runs, rates, decays = checked(error, learning_rate, weight_decay)
    return runs.mean(axis=2), rates, decays


def positive(grid: _Grid) -> _Grid:
    """Return the part of a grid with λ > 0, its λ rising."""
    mean, rates, decays = grid
    order = np.argsort(decays)[np.count_nonzero(decays == 0) :]
    require(order.size > 0, "weight_decay must have a λ > 0: λ = 0 alone has no logarithm")
    return mean[:, order], rates, decays[order]


def checked(error: ArrayLike, learning_rate: ArrayLike, weight_decay: ArrayLike) -> _Grid:
    """Return the errors of all seeds, [A, L, S], and the axes, checked."""
    runs, rates, decays = (np.asarray(a, np.float64) for a in (error, learning_rate, weight_decay))
    for name, axis, least in (("learning_rate", rates, "> 0"), ("weight_decay", decays, ">= 0")):
        in_range = np.isfinite(axis) & ((axis > 0) | ((axis == 0) & (least == ">= 0")))
        require(
            axis.ndim == 1 and bool(in_range.all()) and np.unique(axis).size == axis.size > 0,
            f"{name} must be a list of distinct finite numbers {least}, got {axis.tolist()}",
        )
    require(
        runs.ndim in (2, 3) and runs.shape[:2] == (rates.size, decays.size) and runs.size > 0,
        f"error must be [{rates.size}, {decays.size}] (learning rates × weight decays), with or "
        f"without a third axis of seeds, got {list(runs.shape)}; transpose or reshape it",
    )
    require(not np.isinf(runs).any(), "error must not be infinite; write NaN for a diverged run")
    return np.atleast_3d(runs), rates, decays


def require(condition: bool, message: str) -> None:
    """Raise a ValueError with this message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def _theil_sen(x: _Array, y: _Array) -> float:
    """Return the median of the slopes between any two points, NaN if there are fewer."""
    one, other = np.triu_indices(len(x), 1)
    slopes = (y[other] - y[one]) / (x[other] - x[one])
    return float(np.median(slopes)) if len(slopes) else np.nan


def _vertex(log_decay: _Array, cost: _Array) -> float:
    i = int(cost.argmin())
    x, y = log_decay[i - 1 : i + 2], cost[i - 1 : i + 2]
    if len(x) < 3 or not np.isfinite(y).all():
        return float(log_decay[i])
    # A parabola's derivative is linear, and equals the secants' slopes half-way along them.
    return float(np.interp(0.0, np.diff(y) / np.diff(x), (x[:-1] + x[1:]) / 2))
