"""The ridge: the best λ of each learning rate, of one or more optimisers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decoupled_wd._base.checks import check_nonnegative
from decoupled_wd._ridges import Ridge, require
from decoupled_wd._ridges import ridge as find_ridge
from decoupled_wd.figures._grids import Array, Grid, read
from decoupled_wd.figures._style import canvas, draw_legend, dress, looks, use_logarithms, written


def ridge(results: Mapping[str, Grid], *, tolerance: float = 1.0, drop_edge: bool = True) -> Figure:
    """Draw the best λ over α on logarithmic axes: ``log λ* = slope·log α + …``.

    Dots are the best λ > 0 of each α, between the cells where the error says so, and lines have
    Theil and Sen's slope, which the legend tells. Grey lines are those of the products α·λ that are
    the same all along: a ridge that runs as they do says that half the learning rate takes twice
    the decay, and a level one that the two are decoupled.

    Args:
      results: optimiser to its errors over α and λ, of which the mean over the seeds counts. A grid
        is ``(error, learning_rate, weight_decay)`` of shapes ``[A, L]`` or ``[A, L, S]``, ``[A]``
        and ``[L]``; or an array with the dimensions learning_rate and weight_decay, and perhaps
        seed, such as xarray's. NaN marks a run that diverged.
      tolerance: in units of the error; rows whose least error is farther above the best of all are
        left out.
      drop_edge: leave out rows whose least error is at the least or the greatest λ > 0, beyond
        which the best may lie.

    Returns:
      A figure of 6.5 × 4.5 inches, with one line for each optimiser that has a ridge.

    Raises:
      TypeError, ValueError: there is no grid, one has other shapes, dimensions or axes, or no λ >
        0; no optimiser has two rows of which a line could be made.

    Examples:
      >>> rates, decays = 2.0 ** np.arange(-3, 1), 2.0 ** np.arange(-6, 1)
      >>> error = 5 + np.log(np.outer(rates, decays) / 0.1) ** 2  # lowest where α·λ = 0.1
      >>> axis = ridge({"SGD": (error, rates, decays)}).axes[0]
      >>> axis.lines[0].get_label()
      'SGD + L2, slope −1.00'

    Source: our reading of Figure 2 in Loshchilov & Hutter, arXiv 1711.05101.
    """
    cells = read(results)
    check_nonnegative("tolerance", tolerance)
    every = {
        name: find_ridge(*grid, tolerance=tolerance, drop_edge=drop_edge)
        for name, grid in cells.items()
    }
    found = {name: one for name, one in every.items() if np.isfinite(one.slope)}
    require(
        bool(found),
        f"results has no ridge: in none of {list(results)} are there two learning rates whose best "
        f"λ lies inside the grid, within tolerance={tolerance:g} of the best error; measure more "
        "λ, raise tolerance, or pass drop_edge=False",
    )
    figure = canvas(6.5, 4.5)
    axis = figure.subplots()
    look = looks(results)
    for name, one in found.items():
        text = f"{written(name)}, slope {one.slope:+.2f}".replace("-", "−")
        style = {"color": look[name]["color"], "linewidth": 2}
        axis.plot(*fitted(one), look[name]["linestyle"], label=text, **style)
        axis.plot(one.learning_rate, one.weight_decay, look[name]["marker"], **style)
    use_logarithms(axis, "xy")
    _draw_products(axis)
    dress(axis, "", "learning rate α", "best weight decay λ")
    draw_legend(figure)
    return figure


def fitted(found: Ridge) -> tuple[Array, Array]:
    """Return α and λ along the line, through the median of the intercepts as Theil and Sen's."""
    x, y = np.log(found.learning_rate), np.log(found.weight_decay)
    line = np.linspace(x.min(), x.max(), 200)
    return np.exp(line), np.exp(found.slope * line + np.median(y - found.slope * x))


def _draw_products(axis: Axes) -> None:
    """Draw lines of equal α·λ through what is shown, a factor of four apart."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    first, last = np.log2(left * low), np.log2(right * high)
    for number, exponent in enumerate(np.arange(first, last, 2.0)):
        label = "the same α·λ" if number == 0 else None
        product = 2.0**exponent
        ends = [product / left, product / right]
        axis.plot([left, right], ends, ":", color="0.6", linewidth=1, label=label, zorder=0)
    axis.set(xlim=(left, right), ylim=(low, high))
