"""A search in pictures: where it tried, what it found there, and how fast.

They look like `curves` and `heatmaps`, and like them never go through pyplot. `trials` has ``value``
over ``trial``, NaN where a run diverged, ``stopped`` for those that were ended early, and
``steps``; its coordinates over ``trial`` are the hyperparameters. What was chosen has a star.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import NDArray

from decoupled_wd.study.figures.curves import COLOURS, dress, use_logarithms

SHOWN = 0.75
"""The share of the values that the scales spread out; the rest is drawn at their end."""
SYMBOLS = {"learning_rate": "learning rate α", "weight_decay": "weight decay λ"}
_RIDGE = "crimson"
_STAR: dict[str, Any] = {"marker": "*", "s": 330, "color": "black", "edgecolor": "white"}
_STOPPED: dict[str, Any] = {"facecolor": "none", "edgecolor": "0.55", "linewidth": 1.1, "zorder": 3}
_CROSS: dict[str, Any] = {"marker": "x", "color": "0.35", "linewidth": 1.4, "zorder": 3}
_Array = NDArray[np.float64]


class Line(NamedTuple):
    """Holds a ridge: a power law through a place, with an interval for its exponent."""

    x: float
    y: float
    slope: float
    low: float
    high: float


def landscape(
    trials: xr.Dataset,
    x: str,
    y: str,
    *,
    metric: str,
    log: Collection[str] = (),
    higher: bool = False,
    chosen: int | None = None,
    ridge: Line | None = None,
) -> Figure:
    """Draws the trials over two hyperparameters, coloured by what they found.

    Args:
        trials: as the module says.
        x, y: names of two of their coordinates.
        metric: what the values are, with their unit.
        log: the hyperparameters whose axes are logarithmic.
        higher: whether a higher value is better.
        chosen: the place of the trial that gets the star, by default the best.
        ridge: a line ``y ∝ x^slope``, and between its steepest and its flattest a band.

    Raises:
        ValueError: a hyperparameter is missing.

    Examples:
        >>> tried = {"a": ("trial", [0.1, 0.2]), "b": ("trial", [3.0, 4.0])}
        >>> found = {"value": [5.0, 4.0], "stopped": [False, False], "steps": [9, 9]}
        >>> trials = xr.Dataset({k: ("trial", v) for k, v in found.items()}, tried)
        >>> axis, bar = landscape(trials, "a", "b", metric="error").axes
        >>> axis.format_coord(0.2, 4.0)
        'a = 0.2, b = 4: 4'
    """
    _check(trials, (x, y))
    figure = Figure(figsize=(8.5, 5.6), dpi=100, layout="constrained")
    axis = figure.subplots()
    across, up = (trials[name].values for name in (x, y))
    value, done, diverged = _kinds(trials)
    if diverged.any():
        axis.scatter(across[diverged], up[diverged], 42, label="diverged", **_CROSS)
    left = ~done & ~diverged
    if left.any():
        axis.scatter(across[left], up[left], 42, label="stopped early", **_STOPPED)
    low, high = _ends(value[done], higher)
    colours = "viridis" if higher else "viridis_r"
    dots = axis.scatter(
        across[done], up[done], 75, value[done], cmap=colours, norm=Normalize(low, high)
    )
    dots.set(edgecolor="0.15", linewidth=0.7, zorder=3)
    if done.any():
        star = _best(value, higher) if chosen is None else chosen
        axis.scatter(across[star], up[star], label="the choice", zorder=5, **_STAR)
        bar = figure.colorbar(dots, ax=axis, pad=0.02, aspect=28, extend="min" if higher else "max")
        bar.set_label(metric, fontsize=12)
    use_logarithms(axis, "".join(i for i, name in (("x", x), ("y", y)) if name in log))
    if ridge is not None:
        _draw_ridge(axis, ridge)
    dress(axis, "", _named(x), _named(y))
    _draw_legend(figure, axis)
    found, places = found_of(trials), np.stack([across, up], axis=1)

    def read(at_x: float, at_y: float) -> str:
        # of a dot, whose place is exact
        trial = int(np.abs(places - (at_x, at_y)).sum(axis=1).argmin())
        a, b = places[trial]
        return f"{_symbol(x)} = {a:.3g}, {_symbol(y)} = {b:.3g}: {found[trial]}"

    axis.format_coord = read
    return figure


def progress(trials: xr.Dataset, *, metric: str, higher: bool = False) -> Figure:
    """Draws the best value so far over the training steps of the search.

    Examples:
        >>> found = {"value": [5.0, 6.0, 4.0], "stopped": [False] * 3, "steps": [10, 10, 10]}
        >>> trials = xr.Dataset({k: ("trial", v) for k, v in found.items()})
        >>> progress(trials, metric="error").axes[0].lines[0].get_ydata().tolist()
        [5.0, 5.0, 4.0]
    """
    figure = Figure(figsize=(7.5, 4.2), dpi=100, layout="constrained")
    axis = figure.subplots()
    value, done, _ = _kinds(trials)
    steps = np.cumsum(trials["steps"].values)
    running = np.maximum if higher else np.minimum
    if done.any():
        best = running.accumulate(value[done])
        axis.plot(
            steps[done], best, drawstyle="steps-post", color=COLOURS[0], linewidth=2.2, zorder=3
        )
        axis.lines[0].set_label("best so far")
        _scatter(axis, steps[done], value[done], higher)
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    dress(axis, "", "training steps of the search", metric)
    _draw_legend(figure, axis)
    return figure


def slices(
    trials: xr.Dataset,
    names: Sequence[str],
    *,
    metric: str,
    log: Collection[str] = (),
    higher: bool = False,
    chosen: int | None = None,
) -> Figure:
    """Draws the values over each hyperparameter, one panel each.

    Raises:
        ValueError: a hyperparameter is missing.
    """
    _check(trials, names)
    columns = min(len(names), 3)
    # division rounded up
    rows = -(-len(names) // columns)
    size = max(7.5, 1 + 3.6 * columns), 0.6 + 3.6 * rows
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    value, done, _ = _kinds(trials)
    for number, (axis, name) in enumerate(zip(axes, names, strict=False)):
        at = trials[name].values
        if done.any():
            _scatter(axis, at[done], value[done], higher)
            star = _best(value, higher) if chosen is None else chosen
            axis.scatter(at[star], value[star], label="the choice", zorder=5, **_STAR)
        use_logarithms(axis, "x" if name in log else "")
        dress(axis, "", _named(name), "" if number % columns else metric)
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    _draw_legend(figure, axes[0])
    return figure


def found_of(trials: xr.Dataset) -> list[str]:
    """Says in words what each trial found."""
    value, done, diverged = _kinds(trials)
    return [
        f"{value[i]:.4g}" if done[i] else "diverged" if diverged[i] else "stopped early"
        for i in range(len(value))
    ]


def _kinds(trials: xr.Dataset) -> tuple[_Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns the values, which trials came to their end, and which diverged."""
    value, stopped = trials["value"].values.astype(float), trials["stopped"].values
    return value, np.isfinite(value) & ~stopped, ~np.isfinite(value) & ~stopped


def _best(value: _Array, higher: bool) -> int:
    return int(np.nanargmax(value) if higher else np.nanargmin(value))


def _ends(value: _Array, higher: bool) -> tuple[float, float]:
    """Returns the values between which a scale spreads out: the best, and a usual bad one."""
    if not value.size:
        return 0.0, 1.0
    best, usual = (
        (value.max(), np.quantile(value, 1 - SHOWN))
        if higher
        else (value.min(), np.quantile(value, SHOWN))
    )
    # where all are alike, some room around them
    room = 0.0 if usual != best else abs(float(best)) * 0.05 or 0.5
    low, high = sorted((float(best), float(usual)))
    return low - room, high + room


def _scatter(axis: Axes, at: _Array, value: _Array, higher: bool) -> None:
    """Draws values as dots, and those beyond the scale as arrows at its end."""
    low, high = _ends(value, higher)
    room = 0.5 * (high - low)
    end = low - room if higher else high + room
    beyond = value < end if higher else value > end
    style = {"color": COLOURS[0], "alpha": 0.6, "linewidth": 0}
    axis.scatter(at[~beyond], value[~beyond], 34, label="a trial", **style)
    if beyond.any():
        arrow = "v" if higher else "^"
        edge = np.full(beyond.sum(), end)
        label = "lower still" if higher else "higher still"
        axis.scatter(at[beyond], edge, 34, marker=arrow, label=label, **style)
    axis.set_ylim(*sorted((end + (end - (high if higher else low)) * 0.06, _past(low, high, higher))))


def _past(low: float, high: float, higher: bool) -> float:
    """Returns the end of an axis just past the best value."""
    room = 0.12 * (high - low)
    return high + room if higher else low - room


def _draw_ridge(axis: Axes, ridge: Line) -> None:
    """Draws a line through a place of log-log axes, and the fan of its interval."""
    limits = axis.get_xlim(), axis.get_ylim()
    ends = np.geomspace(*limits[0], 50)
    line, low, high = (
        ridge.y * (ends / ridge.x) ** slope for slope in (ridge.slope, ridge.low, ridge.high)
    )
    if np.isfinite([ridge.low, ridge.high]).all():
        axis.fill_between(ends, low, high, color=_RIDGE, alpha=0.13, linewidth=0, zorder=1)
    outline = [withStroke(linewidth=4, foreground="white")]
    style = {"color": _RIDGE, "linewidth": 2, "path_effects": outline, "zorder": 2}
    axis.plot(ends, line, label="ridge: best λ for each α", **style)
    # what is drawn of the line is what lies among the trials
    axis.set_xlim(limits[0])
    axis.set_ylim(limits[1])


def _draw_legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    if labels:
        columns = 2 if figure.get_figwidth() < 8 and len(labels) > 3 else 4
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(len(labels), columns),
            fontsize=12,
            frameon=False,
        )


def _symbol(name: str) -> str:
    return {"learning_rate": "α", "weight_decay": "λ"}.get(name, name)


def _named(name: str) -> str:
    """Returns a hyperparameter's name as an axis has it; a dollar sign starts no formula."""
    return SYMBOLS.get(name, name).replace("$", r"\$")


def _check(trials: xr.Dataset, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in trials.coords]
    if missing or not names:
        raise ValueError(f"trials has no hyperparameter {missing}; it has {list(trials.coords)}")
