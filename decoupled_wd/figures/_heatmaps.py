"""Test error over learning rate and weight decay, in the paper's manner."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from decoupled_wd._base.checks import check_at_least_one, check_nonnegative
from decoupled_wd._ridges import Ridge, best_cell, require
from decoupled_wd._ridges import ridge as find_ridge
from decoupled_wd.figures._grids import Array, Cells, Grid, labels, read, ticks
from decoupled_wd.figures._ridge import fitted
from decoupled_wd.figures._style import canvas, written

_DIVERGED = "0.8"
_RIDGE = "crimson"
# the best error and the cap
_Scale = tuple[float, float]


def heatmap(
    results: Mapping[str, Grid],
    *,
    ridges: Mapping[str, Ridge] | None = None,
    tolerance: float = 1.0,
    drop_edge: bool = True,
    circled: int = 10,
    cap: float | None = None,
    name: str = "test error",
    unit: str = "%",
) -> Figure:
    """Draw a heat map of the error over α and λ for each optimiser, with its ridge.

    They stand side by side, and show the mean over the seeds.

    All maps share one colour scale, from the best error of all to `cap`; cells above look alike,
    and a cell with a diverged seed is grey. Rings mark the `circled` best cells and a star the
    best one, λ = 0 included. Dots are the best λ > 0 of each α of the ridge, and the line has its
    slope.

    Args:
      results: optimiser to its errors over α and λ. A grid is ``(error, learning_rate,
        weight_decay)`` of shapes ``[A, L]`` or ``[A, L, S]``, ``[A]`` and ``[L]``; or an array with
        the dimensions learning_rate and weight_decay, and perhaps seed, such as xarray's. NaN marks
        a run that diverged.
      ridges: the ridge of each, if it was measured more finely; by default that of the map, as
        `ridge` finds it. Where its slope is NaN, as unknown, there are dots without a line.
      tolerance: as for `ridge`, in units of the error.
      drop_edge: as for `ridge`.
      circled: how many cells get a ring.
      cap: upper end of the colour scale; by default 60 % of all cells lie below it.
      name: what the error is, such as "validation loss".
      unit: its unit, empty for none.

    Returns:
      A figure, 1600 × 450 pixels for four optimisers. The `format_coord` of each map tells the α,
      the λ and the error, with its standard deviation over the seeds, at a place.

    Raises:
      TypeError, ValueError: there is no grid, or one has other shapes, dimensions or axes; cap is
        not above the best error; circled < 1; or as `ridge`.

    Examples:
      >>> rates, decays = 2.0 ** np.arange(-3, 1), 2.0 ** np.arange(-6, 1)
      >>> error = 5 + np.log(np.outer(rates, decays) / 0.1) ** 2  # lowest where α·λ = 0.1
      >>> heatmap({"Lion": (error, rates, decays)}).axes[0].get_title().splitlines()
      ['Lion', 'best 5.0 %, ridge slope −1.00']

    Source: Figure 2 of Loshchilov & Hutter, arXiv 1711.05101.
    """
    panels = read(results)
    check_at_least_one("circled", circled)
    require(circled == int(circled), f"circled must be a whole number of cells, got {circled}")
    circled = int(circled)
    check_nonnegative("tolerance", tolerance)
    if ridges is not None and set(panels) - set(ridges):
        raise ValueError(f"ridges must have one for each of {[*panels]}, got {[*ridges]}")
    errors = np.concatenate([cells.mean.ravel() for cells in panels.values()])
    scale = _colour_scale(errors, cap, unit)
    write = _writer(scale, unit)
    figure = canvas(1 + 3.75 * len(panels), 4.5)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (key, cells) in zip(axes, panels.items(), strict=True):
        found = (
            ridges[key] if ridges else find_ridge(*cells, tolerance=tolerance, drop_edge=drop_edge)
        )
        _draw_errors(axis, cells, scale)
        _draw_ridge(axis, cells, found)
        _draw_best(axis, cells.mean, circled)
        axis.set_title(f"{written(key)}\n{_summary(cells, found, write)}", fontsize=13)
        axis.format_coord = _reader(cells, write)
    _draw_colorbar(figure, scale, f"{name} ({unit})" if unit else name)
    _draw_legend(figure, circled, diverged=bool(np.isnan(errors).any()))
    return figure


def _colour_scale(errors: Array, cap: float | None, unit: str) -> _Scale:
    finite = errors[np.isfinite(errors)]
    if finite.size == 0:
        return 0.0, 100.0
    # bad cells are many and far off: above the cap they look alike
    best, usual = float(finite.min()), float(np.quantile(finite, 0.6))
    if cap is not None and not best < cap < np.inf:
        raise ValueError(f"cap must be finite and above the best error {best:g} {unit}, got {cap}")
    # a round number, of the size of what it is above the best, or 1
    step = min(1.0, 10.0 ** np.floor(np.log10(usual - best))) if usual > best else 1.0
    usual = float(np.ceil(usual / step) * step)
    reached = usual if usual > best else best + 1
    return best, reached if cap is None else cap


def _writer(scale: _Scale, unit: str) -> Callable[[float], str]:
    """Write errors with as many digits as tell the cells apart."""
    digits = max(1, 1 - math.floor(math.log10(scale[1] - scale[0])))
    return lambda value: f"{value:.{digits}f} {unit}".rstrip()


def _draw_errors(axis: Axes, cells: Cells, scale: _Scale) -> None:
    _, rates, decays = cells
    colours = mpl.colormaps["viridis_r"].with_extremes(bad=_DIVERGED)
    axis.imshow(cells.mean, colours, Normalize(*scale), origin="lower", aspect="auto")
    if decays[0] == 0:
        # no step in log λ leads from 0 to the rest
        axis.axvline(0.5, color="white", linewidth=3)
    (rate_labels, rate_unit), (decay_labels, decay_unit) = labels(rates), labels(decays)
    y, x = ticks(rates), ticks(decays)
    axis.set_yticks(y, [rate_labels[i] for i in y], fontsize=11)
    axis.set_xticks(x, [decay_labels[i] for i in x], fontsize=11)
    axis.set_ylabel(f"learning rate α{rate_unit}", fontsize=12)
    axis.set_xlabel(f"weight decay λ{decay_unit}", fontsize=12)


def _reader(cells: Cells, write: Callable[[float], str]) -> Callable[[float, float], str]:
    """Tell what stands in the cell at a place (x, y)."""
    runs, rates, decays = cells
    mean, seeds = cells.mean, runs.shape[2]
    spread = runs.std(axis=2, ddof=1) if seeds > 1 else mean * np.nan

    def read_at(x: float, y: float) -> str:
        row, column = math.floor(y + 0.5), math.floor(x + 0.5)
        if not (0 <= row < rates.size and 0 <= column < decays.size):
            return ""
        # the deviation stands behind the unit, without one of its own
        deviation = write(spread[row, column]).partition(" ")[0]
        around = f" (± {deviation} over {seeds} seeds)" * (seeds > 1)
        diverged = np.isnan(mean[row, column])
        error = "diverged" if diverged else f"{write(mean[row, column])}{around}"
        return f"α = {rates[row]:.3g}, λ = {decays[column]:.3g}: {error}"

    return read_at


def _draw_ridge(axis: Axes, cells: Cells, found: Ridge) -> None:
    if _rows(found) < 2:
        return
    outline = [withStroke(linewidth=3.5, foreground="white")]
    line = [] if np.isnan(found.slope) else [(fitted(found), "-")]
    for (rates, decays), look in (*line, (found[:2], "o")):
        marks = _places(cells, rates, decays)
        axis.plot(*marks, look, color=_RIDGE, linewidth=2, markersize=4, path_effects=outline)


def _rows(found: Ridge) -> int:
    """Count the rows whose best λ is known."""
    return int(np.isfinite(found.weight_decay).sum())


def _places(cells: Cells, rate: Array, decay: Array) -> tuple[Array, Array]:
    """Find where (α, λ) lie on the map, NaN beyond it."""
    _, rates, decays = cells
    columns = np.flatnonzero(decays > 0)
    # rounded, or a λ on the grid's edge might fall off it on its way through exp and log
    known, wanted = np.log(decays[columns]).round(9), np.log(decay).round(9)
    return (
        np.interp(wanted, known, columns, left=np.nan, right=np.nan),
        np.interp(np.log(rate), np.log(rates), np.arange(rates.size)),
    )


def _draw_best(axis: Axes, error: Array, circled: int) -> None:
    order = np.argsort(error, axis=None, kind="stable")[: np.isfinite(error).sum()]
    row, column = np.unravel_index(order[:circled], error.shape)
    # rings fill their cells whatever the size of the grid
    area = (140 / max(error.shape)) ** 2
    axis.scatter(column, row, area, "none", edgecolors="black", linewidths=1.5, zorder=3)
    star = axis.scatter(column[:1], row[:1], s=area, marker="*", color="black", zorder=4)
    star.set(edgecolor="white", linewidth=0.7)


def _summary(cells: Cells, found: Ridge, write: Callable[[float], str]) -> str:
    best = best_cell(*cells).error
    slope = "unknown" if np.isnan(found.slope) else f"{found.slope:+.2f}".replace("-", "−")
    ridge = "no ridge" if _rows(found) < 2 else f"ridge slope {slope}"
    return "every cell diverged" if np.isnan(best) else f"best {write(best)}, {ridge}"


def _draw_colorbar(figure: Figure, scale: _Scale, label: str) -> None:
    low, cap = scale
    round_values = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, cap)
    between = [tick for tick in round_values if low <= tick < cap - 0.1 * (cap - low)]
    bar = figure.colorbar(figure.axes[0].images[0], ax=figure.axes, aspect=25, pad=0.01)
    bar.set_ticks([*between, cap], labels=[*(f"{tick:g}" for tick in between), f"≥ {cap:g}"])
    bar.ax.tick_params(labelsize=11)
    bar.set_label(label, fontsize=12)


def _draw_legend(figure: Figure, circled: int, diverged: bool) -> None:
    handles: list[Artist] = [
        Line2D([], [], color="black", marker="o", markersize=11, fillstyle="none", linestyle=""),
        Line2D([], [], color="black", marker="*", markersize=10, linestyle=""),
        Line2D([], [], color=_RIDGE, marker="o", markersize=4, linewidth=2),
        Patch(facecolor=_DIVERGED),
    ]
    texts = [f"{circled} best cells", "best cell", "ridge: best λ > 0 for each α", "diverged"]
    figure.legend(
        handles[: 3 + diverged],
        texts[: 3 + diverged],
        loc="outside lower center",
        ncols=2 if figure.get_figwidth() < 8 else 4,
        fontsize=12,
        frameon=False,
    )
