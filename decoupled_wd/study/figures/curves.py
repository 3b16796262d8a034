"""The study's other figures: curves, clouds of cells, and estimates with their intervals.

They look like `heatmaps.heatmaps`, and like it never go through pyplot. Every label has one colour
and one line style or marker in all panels of a figure, so that it is told apart without colour
too.
"""

import itertools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator, NullLocator, StrMethodFormatter

from decoupled_wd.study.figures.heatmaps import TITLES
from decoupled_wd.study.statistics import Estimate
from decoupled_wd.study.tasks.task import ERROR, Metric

# Okabe & Ito's colours, which the common kinds of colour blindness keep apart;
# yellow is too pale for lines
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_STYLES = ("-", "--", "-.", ":")
_MARKERS = "osD^vPX"
_GRID: dict[str, Any] = {"color": "0.9", "linewidth": 0.8}
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
    look = _looks(itertools.chain(*panels.values()))
    width = max(7.5, 1 + 3.75 * columns)
    figure = Figure(figsize=(width, 0.6 + 3.9 * rows), dpi=100, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for number, (axis, (title, curves)) in enumerate(zip(axes, panels.items(), strict=False)):
        for place in marks.get(title, ()):
            axis.axvline(place, color="0.4", linestyle=":", linewidth=1.2)
        for label, values in curves.items():
            _draw_line(axis, values.sortby(x), x, TITLES.get(label, label), look[label])
        _use_logarithms(axis, log)
        _dress(axis, title, xlabel, "" if number % columns else ylabel)
    # the last row may have places left
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    _draw_legend(figure)
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
    _require(bool(results), "results is empty: it needs one dataset for each optimiser")
    figure = Figure(figsize=(7.5, 4.5), dpi=100, layout="constrained")
    axis = figure.subplots()
    looks = _looks(results)
    for name, runs in results.items():
        mean = runs.mean("seed", skipna=False)
        near = (mean["validation_error"] <= mean["validation_error"].min() + tolerance).values
        loss, error = mean["train_loss"].values[near], mean["test_error"].values[near]
        dots = axis.scatter(
            loss, error, 45, looks[name]["color"], marker=looks[name]["marker"], alpha=0.75
        )
        dots.set(label=TITLES.get(name, name), edgecolor="white", linewidth=0.7)
    _use_logarithms(axis, "x")
    _dress(axis, "", "training loss", metric.label)
    _draw_legend(figure)
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
    look = _looks(itertools.chain(*groups.values()))
    height = sum(0.28 * len(group) + 0.15 for group in groups.values())
    figure = Figure(figsize=(8.5, max(3.0, 1.4 + height)), dpi=100, layout="constrained")
    axis = figure.subplots()
    middles, y = [], 0.0
    for group in groups.values():
        middles.append(y + (len(group) - 1) / 2)
        for label, estimate in group.items():
            _draw_estimate(axis, y, estimate, TITLES.get(label, label), look[label])
            y += 1
        axis.axhline(y, **_GRID)
        y += 1
    # the first group is on top
    axis.set_ylim(y - 1, -1)
    axis.set_yticks(middles, [textwrap.fill(name, 40) for name in groups])
    if axis.get_xlim()[0] < 0 < axis.get_xlim()[1]:
        axis.axvline(0, color="0.4", linewidth=1, zorder=0)
    _dress(axis, "", ylabel, "")
    axis.grid(visible=False, axis="y")
    _draw_legend(figure)
    return figure


def _looks(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Gives each label a look of its own, of which 28 differ.

    The four optimisers have the same in every figure.
    """
    distinct = dict.fromkeys(labels)
    # TITLES backwards gives AdamW, the paper's own, the first colour
    own = {label: _look(i) for i, label in enumerate(reversed(TITLES)) if label in distinct}
    free = (look for look in map(_look, itertools.count()) if look not in own.values())
    return {label: own[label] if label in own else next(free) for label in distinct}


def _look(number: int) -> dict[str, Any]:
    turn, colour = divmod(number, len(COLOURS))
    return {
        "color": COLOURS[colour],
        "linestyle": _STYLES[(turn + colour) % len(_STYLES)],
        "marker": _MARKERS[(turn + colour) % len(_MARKERS)],
    }


def _draw_line(axis: Axes, values: xr.DataArray, x: str, label: str, look: dict[str, Any]) -> None:
    places = values[x].values
    if "seed" in values.dims:
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


def _dress(axis: Axes, title: str, xlabel: str, ylabel: str) -> None:
    axis.set_title(textwrap.fill(title, 36), fontsize=13)
    axis.set_xlabel(xlabel, fontsize=12)
    axis.set_ylabel(ylabel, fontsize=12)
    axis.tick_params(labelsize=11)
    axis.grid(**_GRID)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_legend(figure: Figure) -> None:
    """Writes every label once, in as many columns as fit."""
    found: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    room = figure.get_figwidth() / (0.85 + 0.1 * max(map(len, found), default=0))
    figure.legend(
        found.values(),
        found.keys(),
        loc="outside lower center",
        ncols=max(1, min(len(found), int(room))),
        fontsize=12,
        frameon=False,
    )


def _use_logarithms(axis: Axes, log: str) -> None:
    """Makes axes logarithmic, with plain numbers and enough of them."""
    for one in (getattr(axis, f"{name}axis") for name in log):
        getattr(axis, f"set_{one.axis_name}scale")("log")
        one.set_major_formatter(_Plain())
        one.set_minor_formatter(_Plain(minor_thresholds=(1.5, 0.7)))
        low, high = one.get_view_interval()
        if high < 5 * low:
            one.set_major_locator(MaxNLocator(5))
            one.set_major_formatter(StrMethodFormatter("{x:g}"))
            one.set_minor_locator(NullLocator())


class _Plain(LogFormatter):
    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _check(panels: Mapping[str, Any], x: str, log: str, marks: Mapping[str, Any]) -> None:
    _check_filled(panels, "panels", "lines")
    _require(log in ("", "x", "y", "xy"), f"log must be '', 'x', 'y' or 'xy', got {log!r}")
    for title, curves in panels.items():
        for label, values in curves.items():
            _require(
                {x} <= set(values.dims) <= {x, "seed"} and x in values.coords,
                f"panels[{title!r}][{label!r}] must have the dimension {x!r}, with its "
                "coordinate, and at "
                f"most 'seed' beside it; got {values.dims} with coordinates for "
                f"{tuple(values.coords)}",
            )
            _require(
                "x" not in log or bool((values[x] > 0).all()),
                f"panels[{title!r}][{label!r}] has {x} <= 0, which no logarithmic axis can show; "
                "leave it out",
            )
    if unknown := set(marks) - set(panels):
        raise ValueError(f"marks has {sorted(unknown)}, but the panels are {list(panels)}")


def _check_filled(groups: Mapping[str, Mapping[str, Any]], name: str, what: str) -> None:
    _require(bool(groups), f"{name} is empty; pass at least one title with its {what}")
    for title, group in groups.items():
        _require(bool(group), f"{name}[{title!r}] has no {what}; leave it out")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
