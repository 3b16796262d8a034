"""What the points of a search say of its landscape: where it is lowest, and how its valley runs.

A search places its points where it hopes to gain, not on a grid. So a surface is fitted to all of
them, and what is asked is asked of the surface, with an interval. A value is the lower the better,
and NaN where a run diverged, which counts as the worst.
"""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import qmc  # type: ignore[import-untyped]
from scipy.stats import t as student
from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
from sklearn.gaussian_process import GaussianProcessRegressor  # type: ignore[import-untyped]
from sklearn.gaussian_process.kernels import (  # type: ignore[import-untyped]
    ConstantKernel,
    Matern,
    WhiteKernel,
)

from decoupled_wd.study.statistics import Estimate

NEAR = 2.0
"""How fast a point's weight falls with the height of the quadratic, in units of the median one."""
CAP = 0.8
"""Values above this quantile are lowered to it: how bad a bad point is says nothing."""
LEAST = 15
"""Fewer points say nothing of a valley."""
SURFACES, PLACES = 400, 400
"""Surfaces that are drawn, and the places at which each is looked at."""
MOST = 1000
"""Of more points a surface would take longer than the search: its time goes as their cube."""

_Array = NDArray[np.float64]


class Valley(NamedTuple):
    """Holds the line of best y at each x: a place on it, and its slope dy/dx."""

    x: float
    y: float
    slope: Estimate


def valley_line(
    x: ArrayLike, y: ArrayLike, values: ArrayLike, *, level: float = 0.95
) -> Valley | None:
    """Finds the line along which y is best at each x.

    An example is the best log λ at each log α.

    Near its lowest points a landscape is close to ``b₀ + b₁x + b₂y + b₃x² + b₄xy + b₅y²``, which is
    least in y along a line of slope ``m = −b₄/(2·b₅)``. That is a ratio, and the interval is
    Fieller's: all m at which ``b₄ + 2·b₅·m`` is not distinguishable from 0.

    It is fitted in turns with weights ``exp(−2·h/h½)``, where h is how high it is itself above its
    lowest point, and h½ its median. Values are not weighted by themselves, as luck would choose
    along.

    Args:
        x, y: ``[n]``.
        values: ``[n]``.
        level: how often such an interval should hold the truth.

    Returns:
        The line; its interval is without ends where the points do not show that some y are better.
        None of fewer than `LEAST` points, of points that do not spread over both x and y, or where
        the quadratic has no valley.

    Examples:
        >>> x, y = np.random.default_rng(0).uniform(-4, 4, (2, 40))
        >>> found = valley_line(x, y, (x + y - 1) ** 2 + 0.1 * x**2)
        >>> round(found.slope.value, 1), round(found.x + found.y, 1)
        (-1.0, 1.0)

    Source: Box & Wilson 1951, response surfaces; Fieller 1954, Some problems in interval
    estimation; the covariance is HC3 of MacKinnon & White 1985.
    """
    z = np.stack([np.asarray(x, float), np.asarray(y, float)], axis=1)
    worth = _capped(values)
    if len(z) < LEAST or not np.ptp(z, axis=0).all():
        return None
    middle, scale = z.mean(axis=0), z.std(axis=0)
    # standardised: squares of logarithms far from 0 would be nearly linear in them
    u, v = ((z - middle) / scale).T
    terms = np.stack([np.ones(len(z)), u, v, u * u, u * v, v * v], axis=1)
    if np.linalg.matrix_rank(terms) < terms.shape[1]:
        return None
    weights = _weights(terms, worth)
    b, covariance, freedom = _least_squares(terms, worth, weights)
    # curved down along y it is a hill, and what is stationary is the worst
    if b[5] <= 0:
        return None
    t = float(student.ppf((1 + level) / 2, freedom))
    # of b₄ and 2·b₅
    twice = np.array([1.0, 2.0])
    spread = covariance[4:, 4:] * np.outer(twice, twice)
    # the top of the ratio is −b₄, which turns the sign of the covariance
    slope = _ratio(-b[4], 2 * b[5], spread * [[1, -1], [-1, 1]], t)
    # a place among the points near the valley, and not in the middle of all
    at = np.average(u, weights=weights)
    best = -(b[2] + b[4] * at) / (2 * b[5])
    unit = float(scale[1] / scale[0])
    place = middle + scale * [at, best]
    value, low, high, error = (float(unit * number) for number in slope)
    return Valley(float(place[0]), float(place[1]), Estimate(value, low, high, error, len(z)))


def where_lowest(
    points: ArrayLike,
    values: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    level: float = 0.95,
) -> NDArray[np.float64]:
    """Finds between which values of each hyperparameter the landscape is lowest.

    A Gaussian process is fitted to the points, or to `some` of them, and surfaces are drawn from it
    that agree with them within their noise. Each is lowest somewhere, and the interval holds these
    places.

    Args:
        points: ``[n, hyperparameters]``.
        values: ``[n]``.
        low, high: ``[hyperparameters]``, the ends of the space.
        level: the share of the surfaces within.

    Returns:
        ``[2, hyperparameters]``, the ends of each interval; those of the space if there are fewer
        than `LEAST` points, or all values are alike.

    Examples:
        >>> z = np.random.default_rng(0).uniform(-1, 1, (30, 1))
        >>> where_lowest(z, (z[:, 0] - 0.25) ** 2, [-1.0], [1.0]).round(1).ravel().tolist()
        [0.2, 0.3]

    Source: Villemonteix, Vazquez & Walter 2009, the conditional minimisers of a random process.
    """
    ends = np.array([low, high], float)
    worth = _capped(values)
    if len(worth) < LEAST or not np.ptp(worth):
        return ends
    unit = (np.asarray(points, float) - ends[0]) / np.ptp(ends, axis=0)
    unit, worth = unit[some(len(worth))], worth[some(len(worth))]
    count = unit.shape[1]
    # drawn with a fixed seed, so that one search has one answer
    places = np.concatenate([qmc.Halton(count, seed=0).random(PLACES), unit])
    lowest = places[_surfaces(unit, worth, places).argmin(axis=1)]
    shares = (1 - level) / 2, (1 + level) / 2
    return np.asarray(ends[0] + np.quantile(lowest, shares, axis=0) * np.ptp(ends, axis=0))


def some(count: int) -> NDArray[np.intp]:
    """Returns the places of `MOST` of so many points, drawn without a look at what was found there.

    Examples:
        >>> some(3).tolist(), some(5000).size
        ([0, 1, 2], 1000)
    """
    drawn = np.random.default_rng(0).permutation(count)[:MOST]
    return np.sort(drawn)


def _capped(values: ArrayLike) -> _Array:
    """Returns the values with none far above the good ones, diverged runs among the worst."""
    worth = np.asarray(values, float)
    known = worth[np.isfinite(worth)]
    if not known.size:
        return np.zeros_like(worth)
    worth = np.where(np.isfinite(worth), worth, known.max())
    return np.asarray(np.minimum(worth, np.quantile(worth, CAP)))


def _weights(terms: _Array, worth: _Array) -> _Array:
    """Returns weights that agree with the quadratic that is fitted with them."""
    weights = np.ones(len(worth))
    # half-way each time, so that it settles
    for _ in range(100):
        height = terms @ _least_squares(terms, worth, weights)[0]
        height -= height.min()
        # the median height of a flat quadratic is 0
        wanted = np.exp(-NEAR * height / max(float(np.median(height)), 1e-12))
        weights, before = (weights + wanted) / 2, weights
        if np.abs(weights - before).max() < 1e-4:
            break
    return weights


def _least_squares(terms: _Array, worth: _Array, weights: _Array) -> tuple[_Array, _Array, float]:
    """Returns coefficients, their covariance whatever the noise of each point, and its freedom."""
    root = np.sqrt(weights)[:, None]
    terms, worth = terms * root, worth * root[:, 0]
    inverse = np.linalg.pinv(terms.T @ terms)
    b = inverse @ terms.T @ worth
    leverage = np.einsum("ni,ij,nj->n", terms, inverse, terms)
    # HC3; a point of leverage 1 is met exactly, and its residual would be 0 / 0
    off = (worth - terms @ b) / np.maximum(1 - leverage, 0.05)
    # as many points as if all of them had the same weight
    points = weights.sum() ** 2 / (weights**2).sum()
    covariance = inverse @ (terms.T * off**2) @ terms @ inverse
    # weights may be so uneven that they are worth fewer points than there are terms
    return b, covariance, max(float(points) - terms.shape[1], 2.0)


def _ratio(top: float, bottom: float, covariance: _Array, t: float) -> tuple[float, ...]:
    """Returns ``top / bottom``, and Fieller's interval for it."""
    # all m with (top − m·bottom)² <= t²·variance: a·m² − 2·b·m + c <= 0
    a = bottom**2 - t**2 * covariance[1, 1]
    b = top * bottom - t**2 * covariance[0, 1]
    c = top**2 - t**2 * covariance[0, 0]
    # the bottom may be 0, and then no ratio is excluded
    if a <= 0:
        return top / bottom, -np.inf, np.inf, np.inf
    half = np.sqrt(max(b**2 - a * c, 0.0))
    # the error is that of a Student's interval of the same length
    return top / bottom, (b - half) / a, (b + half) / a, half / a / t


def _surfaces(unit: _Array, worth: _Array, places: _Array) -> _Array:
    """Draws surfaces from a Gaussian process, ``[surfaces, places]``, without the noise of runs."""
    widths = Matern([0.3] * unit.shape[1], (0.05, 5.0), nu=2.5)
    with warnings.catch_warnings():
        # a hyperparameter that plays no part has the greatest width, and that is no fault
        warnings.simplefilter("ignore", ConvergenceWarning)
        kernel = ConstantKernel() * widths + WhiteKernel(0.1, (1e-6, 2.0))
        found = GaussianProcessRegressor(kernel, normalize_y=True).fit(unit, worth).kernel_
    # noise goes into alpha: from a WhiteKernel predict would add it to the covariance
    smooth = GaussianProcessRegressor(
        found.k1, alpha=found.k2.noise_level, optimizer=None, normalize_y=True
    )
    mean, covariance = smooth.fit(unit, worth).predict(places, return_cov=True)
    # rounding makes some eigenvalues smaller than 0
    draw = np.random.default_rng(0).multivariate_normal
    surfaces = draw(mean, covariance, SURFACES, method="eigh", check_valid="ignore")
    return np.asarray(surfaces)
