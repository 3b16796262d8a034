"""A search in pictures: what its trials found, over time and over each hyperparameter.

They look like `curves` and `heatmaps`, and like them never go through pyplot. `trials` has over
``trial`` the ``value``, NaN where a run diverged; ``stopped``, true of those that were ended early;
and ``steps``. Its coordinates are the hyperparameters. What was chosen has a star.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import NDArray

from decoupled_wd.figures._style import COLOURS, canvas, dress, use_logarithms

SHOWN = 0.75
"""The share of the values that the scales spread out; the rest is drawn at their end."""
SYMBOLS = {"learning_rate": "learning rate α", "weight_decay": "weight decay λ"}
STAR: dict[str, Any] = {"marker": "*", "s": 330, "color": "black", "edgecolor": "white"}
_Array = NDArray[np.float64]


def progress(trials: xr.Dataset, *, metric: str, higher: bool = False) -> Figure:
    """Draws the best value so far over the training steps of the search.

    Examples:
        >>> found = {"value": [5.0, 6.0, 4.0], "stopped": [False] * 3, "steps": [10, 10, 10]}
        >>> trials = xr.Dataset({k: ("trial", v) for k, v in found.items()})
        >>> progress(trials, metric="error").axes[0].lines[0].get_ydata().tolist()
        [5.0, 5.0, 4.0]
    """
    figure = canvas(7.5, 4.2)
    axis = figure.subplots()
    value, done, _ = kinds(trials)
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
    draw_legend(figure, axis)
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
    check_names(trials, names)
    columns = min(len(names), 3)
    # division rounded up
    rows = -(-len(names) // columns)
    size = max(7.5, 1 + 3.6 * columns), 0.6 + 3.6 * rows
    figure = canvas(*size)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    value, done, _ = kinds(trials)
    for number, (axis, name) in enumerate(zip(axes, names, strict=False)):
        at = trials[name].values
        if done.any():
            _scatter(axis, at[done], value[done], higher)
            star = best_of(value, higher) if chosen is None else chosen
            axis.scatter(at[star], value[star], label="the choice", zorder=5, **STAR)
        use_logarithms(axis, "x" if name in log else "")
        dress(axis, "", named(name), "" if number % columns else metric)
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    draw_legend(figure, axes[0])
    return figure


def found_of(trials: xr.Dataset) -> list[str]:
    """Says in words what each trial found."""
    value, done, diverged = kinds(trials)
    return [
        f"{value[i]:.4g}" if done[i] else "diverged" if diverged[i] else "stopped early"
        for i in range(len(value))
    ]


def kinds(trials: xr.Dataset) -> tuple[_Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns the values, which trials came to their end, and which diverged."""
    value, stopped = trials["value"].values.astype(float), trials["stopped"].values
    return value, np.isfinite(value) & ~stopped, ~np.isfinite(value) & ~stopped


def best_of(value: _Array, higher: bool) -> int:
    """Returns the place of the best value."""
    return int(np.nanargmax(value) if higher else np.nanargmin(value))


def ends(value: _Array, higher: bool) -> tuple[float, float]:
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


def draw_legend(figure: Figure, axis: Axes) -> None:
    """Writes the labels of an axis below the figure."""
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


def named(name: str) -> str:
    """Returns a hyperparameter's name as an axis has it; a dollar sign starts no formula."""
    return SYMBOLS.get(name, name).replace("$", r"\$")


def check_names(trials: xr.Dataset, names: Sequence[str]) -> None:
    """Refuses hyperparameters that the trials do not have."""
    missing = [name for name in names if name not in trials.coords]
    if missing or not names:
        known = [name for name in trials.coords if name != "trial"]
        raise ValueError(f"names has {missing or 'nothing'}; the hyperparameters are {known}")


def _scatter(axis: Axes, at: _Array, value: _Array, higher: bool) -> None:
    """Draws values as dots, and those beyond the scale as arrows at its end."""
    low, high = ends(value, higher)
    room = 0.5 * (high - low)
    end = low - room if higher else high + room
    beyond = value < end if higher else value > end
    style: dict[str, Any] = {"color": COLOURS[0], "alpha": 0.6, "linewidth": 0}
    axis.scatter(at[~beyond], value[~beyond], 34, label="a trial", **style)
    if beyond.any():
        arrow = "v" if higher else "^"
        edge = np.full(beyond.sum(), end)
        label = "lower still" if higher else "higher still"
        axis.scatter(at[beyond], edge, 34, marker=arrow, label=label, **style)
    axis.set_ylim(
        *sorted((end + (end - (high if higher else low)) * 0.06, _past(low, high, higher)))
    )


def _past(low: float, high: float, higher: bool) -> float:
    """Returns the end of an axis just past the best value."""
    room = 0.12 * (high - low)
    return high + room if higher else low - room
