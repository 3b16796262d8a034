"""The landscape of a search: its trials over two hyperparameters, and its ridge."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from decoupled_wd.figures._style import canvas, dress, use_logarithms
from decoupled_wd.study.figures.trials import (
    STAR,
    best_of,
    check_names,
    draw_legend,
    ends,
    found_of,
    kinds,
    named,
)

_RIDGE = "crimson"
_STOPPED: dict[str, Any] = {"facecolor": "none", "edgecolor": "0.55", "linewidth": 1.1, "zorder": 3}
_CROSS: dict[str, Any] = {"marker": "x", "color": "0.35", "linewidth": 1.4, "zorder": 3}


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
    check_names(trials, (x, y))
    figure = canvas(8.5, 5.6)
    axis = figure.subplots()
    across, up = (trials[name].values for name in (x, y))
    value, done, diverged = kinds(trials)
    if diverged.any():
        axis.scatter(across[diverged], up[diverged], 42, label="diverged", **_CROSS)
    left = ~done & ~diverged
    if left.any():
        axis.scatter(across[left], up[left], 42, label="stopped early", **_STOPPED)
    low, high = ends(value[done], higher)
    colours = "viridis" if higher else "viridis_r"
    dots = axis.scatter(
        across[done], up[done], 75, value[done], cmap=colours, norm=Normalize(low, high)
    )
    dots.set(edgecolor="0.15", linewidth=0.7, zorder=3)
    if done.any():
        star = best_of(value, higher) if chosen is None else chosen
        axis.scatter(across[star], up[star], label="the choice", zorder=5, **STAR)
        bar = figure.colorbar(dots, ax=axis, pad=0.02, aspect=28, extend="min" if higher else "max")
        bar.set_label(metric, fontsize=12)
    use_logarithms(axis, "".join(i for i, name in (("x", x), ("y", y)) if name in log))
    if ridge is not None:
        _draw_ridge(axis, ridge)
    dress(axis, "", named(x), named(y))
    draw_legend(figure, axis)
    # told as heat maps tell their cells
    axis.format_coord = _reader(trials, x, y)  # type: ignore[method-assign, assignment]
    return figure


def _reader(trials: xr.Dataset, x: str, y: str) -> Callable[[float, float], str]:
    """Tells what was found by the trial at a place."""
    found = found_of(trials)
    places = np.stack([trials[name].values for name in (x, y)], axis=1)

    def read(at_x: float, at_y: float) -> str:
        # of a dot, whose place is exact
        trial = int(np.abs(places - (at_x, at_y)).sum(axis=1).argmin())
        a, b = places[trial]
        return f"{_symbol(x)} = {a:.3g}, {_symbol(y)} = {b:.3g}: {found[trial]}"

    return read


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
    style: dict[str, Any] = {"color": _RIDGE, "linewidth": 2, "path_effects": outline, "zorder": 2}
    axis.plot(ends, line, label="ridge: best λ for each α", **style)
    # what is drawn of the line is what lies among the trials
    axis.set_xlim(limits[0])
    axis.set_ylim(limits[1])


def _symbol(name: str) -> str:
    return {"learning_rate": "α", "weight_decay": "λ"}.get(name, name)
