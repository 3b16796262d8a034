"""The study's other figures: curves, clouds of cells, and estimates with their intervals.

They look like `heatmaps.heatmaps`, and like it never go through pyplot. Every label has one colour
and one line style or marker in all panels of a figure, so that it is told apart without colour
too.
"""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decoupled_wd._ridges import require
from decoupled_wd.figures._style import (
    GRID,
    canvas,
    draw_legend,
    dress,
    looks,
    use_logarithms,
    written,
)
from decoupled_wd.study.statistics import Estimate
from decoupled_wd.study.tasks.task import ERROR, Metric

# values of x up to which each gets a dot
_FEW = 15


def lines(
    panels: Mapping[str, Mapping[str, xr.DataArray]],
    *,
    x: str,
    xlabel: str,
    ylabel: str,
    log: str = "",
    marks: Mapping[str, Sequence[float]] = {},
) -> Figure:
    """Draws curves over `x`, one panel for each title.

    A line is the mean over the seeds and its band reaches from the least to the greatest of them;
    where a seed is NaN the line has a gap. On a logarithmic vertical axis, what is not above 0
    falls off its lower end.

    Args:
        panels: title to label to values over the dimension `x`, which has a coordinate, and over
            ``seed`` if there are seeds. A label looks the same in every panel, and the legend has
            it once.
        x: name of the dimension.
        xlabel: what x is, with its unit.
        ylabel: what the values are, with their unit.
        log: which axes are logarithmic, ``x``, ``y`` or ``xy``.
        marks: title to the places of dotted vertical lines.

    Raises:
        ValueError: there is no panel, or one without lines; other dimensions, or no coordinate; no
            such ``log``; an x <= 0 on a logarithmic axis; marks for a panel that is not there.

    Examples:
        >>> error = xr.DataArray([[9.0, 8.0], [6.0, 5.0]], {"epoch": [1, 2]}, ("epoch", "seed"))
        >>> labels = {"xlabel": "epochs", "ylabel": "test error (%)"}
        >>> figure = lines({"digits": {"AdamW": error}}, x="epoch", **labels)
        >>> figure.axes[0].lines[0].get_ydata().tolist()
        [8.5, 5.5]
    """
    _check(panels, x, log, marks)
    columns = min(len(panels), 4)
    # division rounded up
    rows = -(-len(panels) // columns)
    look = looks(itertools.chain(*panels.values()))
    width = max(7.5, 1 + 3.75 * columns)
    figure = canvas(width, 0.6 + 3.9 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for number, (axis, (title, curves)) in enumerate(zip(axes, panels.items(), strict=False)):
        for place in marks.get(title, ()):
            axis.axvline(place, color="0.4", linestyle=":", linewidth=1.2)
        for label, values in curves.items():
            _draw_line(axis, values.sortby(x), x, written(label), look[label])
        use_logarithms(axis, log)
        dress(axis, title, xlabel, "" if number % columns else ylabel)
    # the last row may have places left
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    draw_legend(figure)
    return figure


def scatter(
    results: Mapping[str, xr.Dataset], *, tolerance: float, metric: Metric = ERROR
) -> Figure:
    """Draws test error over training loss, a dot for each good cell.

    Dots are means over the seeds.

    Near are the cells whose mean validation error is at most `tolerance` above their optimiser's
    best.

    Args:
        results: optimiser to ``train_loss``, ``validation_error`` and ``test_error`` over
            learning_rate, weight_decay and seed; a cell with a diverged seed takes no part.
        tolerance: in the unit of the errors.
        metric: what `test_error` is, and its unit.

    Raises:
        ValueError: there is no optimiser, or one lacks a metric.

    Source: Figure 4 of Loshchilov & Hutter, arXiv 1711.05101.
    """
    names = ("train_loss", "validation_error", "test_error")
    for name, runs in results.items():
        if missing := [metric for metric in names if metric not in runs]:
            raise ValueError(f"results[{name!r}] lacks {', '.join(missing)}; it has {list(runs)}")
    require(bool(results), "results is empty: it needs one dataset for each optimiser")
    figure = canvas(7.5, 4.5)
    axis = figure.subplots()
    look = looks(results)
    for name, runs in results.items():
        mean = runs.mean("seed", skipna=False)
        near = (mean["validation_error"] <= mean["validation_error"].min() + tolerance).values
        loss, error = mean["train_loss"].values[near], mean["test_error"].values[near]
        dots = axis.scatter(
            loss, error, 45, look[name]["color"], marker=look[name]["marker"], alpha=0.75
        )
        dots.set(label=written(name), edgecolor="white", linewidth=0.7)
    use_logarithms(axis, "x")
    dress(axis, "", "training loss", metric.label)
    draw_legend(figure)
    return figure


def bars(groups: Mapping[str, Mapping[str, Estimate]], *, ylabel: str) -> Figure:
    """Draws estimates as points, with their intervals as whiskers.

    There is one row for each estimate, and the rows stand in groups.

    What is NaN reads 'not measured'; an estimate without an interval has no whisker.

    Args:
        groups: name of the group to label to estimate; a label looks the same in every group.
        ylabel: what the estimates are, with their unit; it stands under the axis, which is
          horizontal.

    Raises:
        ValueError: there is no group, or one without estimates.
    """
    _check_filled(groups, "groups", "estimates")
    look = looks(itertools.chain(*groups.values()))
    height = sum(0.28 * len(group) + 0.15 for group in groups.values())
    figure = canvas(8.5, max(3.0, 1.4 + height))
    axis = figure.subplots()
    middles, y = [], 0.0
    for group in groups.values():
        middles.append(y + (len(group) - 1) / 2)
        for label, estimate in group.items():
            _draw_estimate(axis, y, estimate, written(label), look[label])
            y += 1
        axis.axhline(y, **GRID)
        y += 1
    # the first group is on top
    axis.set_ylim(y - 1, -1)
    axis.set_yticks(middles, [textwrap.fill(name, 40) for name in groups])
    if axis.get_xlim()[0] < 0 < axis.get_xlim()[1]:
        axis.axvline(0, color="0.4", linewidth=1, zorder=0)
    dress(axis, "", ylabel, "")
    axis.grid(visible=False, axis="y")
    draw_legend(figure)
    return figure


def _draw_line(axis: Axes, values: xr.DataArray, x: str, label: str, look: dict[str, Any]) -> None:
    places = values[x].values
    if "seed" in values.dims:
        # np.min and np.max keep NaN, which xarray's own would leave out
        low, high = (values.reduce(f, "seed").values for f in (np.min, np.max))
        axis.fill_between(places, low, high, color=look["color"], alpha=0.18, linewidth=0)
        values = values.mean("seed", skipna=False)
    few = len(places) <= _FEW
    shown = look if few else look | {"marker": ""}
    axis.plot(places, values.values, label=label, linewidth=2, markersize=5, **shown)


def _draw_estimate(
    axis: Axes, y: float, estimate: Estimate, label: str, look: dict[str, Any]
) -> None:
    value, low, high, *_ = estimate
    style = {"color": look["color"], "marker": look["marker"]}
    axis.plot([value], [y], label=label, linestyle="", markersize=8, **style)
    axis.plot([low, high], [y, y], color=look["color"], linewidth=2)
    if math.isnan(value):
        across = axis.get_yaxis_transform()
        axis.text(0.01, y, "not measured", va="center", transform=across, fontsize=10, color="0.4")


def _check(panels: Mapping[str, Any], x: str, log: str, marks: Mapping[str, Any]) -> None:
    _check_filled(panels, "panels", "lines")
    require(log in ("", "x", "y", "xy"), f"log must be '', 'x', 'y' or 'xy', got {log!r}")
    for title, curves in panels.items():
        for label, values in curves.items():
            require(
                {x} <= set(values.dims) <= {x, "seed"} and x in values.coords,
                f"panels[{title!r}][{label!r}] must have the dimension {x!r}, with its "
                "coordinate, and at "
                f"most 'seed' beside it; got {values.dims} with coordinates for "
                f"{tuple(values.coords)}",
            )
            require(
                "x" not in log or bool((values[x] > 0).all()),
                f"panels[{title!r}][{label!r}] has {x} <= 0, which no logarithmic axis can show; "
                "leave it out",
            )
    if unknown := set(marks) - set(panels):
        raise ValueError(f"marks has {sorted(unknown)}, but the panels are {list(panels)}")


def _check_filled(groups: Mapping[str, Mapping[str, Any]], name: str, what: str) -> None:
    require(bool(groups), f"{name} is empty; pass at least one title with its {what}")
    for title, group in groups.items():
        require(bool(group), f"{name}[{title!r}] has no {what}; leave it out")
