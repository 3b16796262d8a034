"""The study's main figure: test error over learning rate and weight decay, in the paper's manner.

Figures are built on `matplotlib.figure.Figure` itself, never through pyplot: nothing global is
touched, so they can be drawn in any thread and without a display.
"""

import math
from collections.abc import Callable, Mapping

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from decoupled_wd.study.statistics import Ridge, best_cell, ridge
from decoupled_wd.study.tasks.task import ERROR, Metric

TITLES = {
    "SGD": "SGD + L2",
    "SGDW": "SGDW (decoupled)",
    "Adam": "Adam + L2",
    "AdamW": "AdamW (decoupled)",
}
_DIMS = ("learning_rate", "weight_decay", "seed")
_DIVERGED = "0.8"
_RIDGE = "crimson"
_Array = NDArray[np.float64]
_Scale = tuple[float, float]  # the best error and the cap


def heatmaps(
    results: xr.DataTree,
    *,
    ridges: Mapping[str, Ridge] | None = None,
    tolerance: float = 1.0,
    metric: Metric = ERROR,
    drop_edge: bool = True,
    circled: int = 10,
    cap: float | None = None,
) -> Figure:
    """Draws a heat map of test error for each optimizer.

    They stand side by side, each with its ridge, and show the mean over the seeds.

    All maps share one colour scale, from the best error of all to `cap`; cells above look alike,
    and a cell with a diverged seed is grey. Rings mark the `circled` best cells and a star the
    best one, λ = 0 included. Dots are the best λ > 0 of each α of the ridge, and the line has its
    slope.

    Args:
        results: one child for each optimizer, each with `test_error` over the dimensions
            learning_rate, weight_decay and seed, the first two with coordinates.
        ridges: the ridge of each, if it was measured more finely; by default that of the map, as
            `statistics.ridge` finds it.
        tolerance: as for `statistics.ridge`.
        metric: what `test_error` is, and its unit.
        drop_edge: as for `statistics.ridge`.
        circled: how many cells get a ring.
        cap: upper end of the colour scale; by default 60 % of all cells lie below it.

    Returns:
        A figure, 1600 × 450 pixels for four optimizers; its `savefig` writes it. The
        `format_coord` of each map tells the α, the λ and the error, with its standard deviation
        over the seeds, at a place.

    Raises:
        ValueError: there is no child; a child lacks `test_error`, or that a dimension or a
            coordinate; cap is not above the best error; circled < 1; or as `statistics.ridge`.

    Source: Figure 2 of Loshchilov & Hutter, arXiv 1711.05101.
    """
    panels = {name: _test_error(name, child) for name, child in results.children.items()}
    _check(panels, circled)
    means = [runs.mean("seed", skipna=False) for runs in panels.values()]
    errors = np.concatenate([mean.values.ravel() for mean in means])
    scale = _colour_scale(errors, cap, metric)
    figure = Figure(figsize=(1 + 3.75 * len(panels), 4.5), dpi=100, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, mean, (name, runs) in zip(axes, means, panels.items(), strict=True):
        found = (
            ridges[name]
            if ridges
            else ridge(*_arrays(mean), tolerance=tolerance, drop_edge=drop_edge)
        )
        _draw_errors(axis, mean, scale)
        _draw_ridge(axis, mean, found)
        _draw_best(axis, mean, circled)
        axis.set_title(_title(name, mean, found, metric), fontsize=13)
        axis.format_coord = _reader(runs, metric)
    _draw_colorbar(figure, scale, metric)
    _draw_legend(figure, circled, diverged=bool(np.isnan(errors).any()))
    return figure


def _check(panels: dict[str, xr.DataArray], circled: int) -> None:
    if not panels:
        raise ValueError("results has no children: it needs one for each optimizer, such as AdamW")
    if circled < 1:
        raise ValueError(f"circled must be at least 1, got {circled}; the paper has 10")


def _test_error(name: str, child: xr.DataTree) -> xr.DataArray:
    if "test_error" not in child.dataset:
        raise ValueError(f"results[{name!r}] has no test_error, only {list(child.dataset)}")
    error = child.dataset["test_error"]
    if set(error.dims) != set(_DIMS) or not set(_DIMS[:2]) <= set(error.coords):
        raise ValueError(
            f"results[{name!r}]: test_error must have the dimensions {_DIMS}, the first two with "
            f"coordinates; got {error.dims} with coordinates for {tuple(error.coords)}"
        )
    return error.transpose(*_DIMS).sortby(["learning_rate", "weight_decay"])


def _arrays(mean: xr.DataArray) -> tuple[_Array, _Array, _Array]:
    return mean.values, mean["learning_rate"].values, mean["weight_decay"].values


def _colour_scale(errors: _Array, cap: float | None, metric: Metric) -> _Scale:
    finite = errors[np.isfinite(errors)]
    if finite.size == 0:
        return 0.0, 100.0
    # bad cells are many and far off: above the cap they look alike
    finer = 10.0 ** (metric.digits - 1)
    best, usual = float(finite.min()), float(np.ceil(finer * np.quantile(finite, 0.6)) / finer)
    if cap is not None and not best < cap < np.inf:
        raise ValueError(
            f"cap must be finite and above the best error {best:g} {metric.unit}, got {cap}"
        )
    return best, cap or (usual if usual > best else best + 1 / finer)


def _draw_errors(axis: Axes, mean: xr.DataArray, scale: _Scale) -> None:
    error, rates, decays = _arrays(mean)
    colours = mpl.colormaps["viridis_r"].with_extremes(bad=_DIVERGED)
    axis.imshow(error, colours, Normalize(*scale), origin="lower", aspect="auto")
    if decays[0] == 0:
        axis.axvline(0.5, color="white", linewidth=3)  # no step in log λ leads from 0 to the rest
    (rate_labels, rate_unit), (decay_labels, decay_unit) = _labels(rates), _labels(decays)
    y, x = _ticks(rates), _ticks(decays)
    axis.set_yticks(y, [rate_labels[i] for i in y], fontsize=11)
    axis.set_xticks(x, [decay_labels[i] for i in x], fontsize=11)
    axis.set_ylabel(f"learning rate α{rate_unit}", fontsize=12)
    axis.set_xlabel(f"weight decay λ{decay_unit}", fontsize=12)


def _labels(values: _Array) -> tuple[list[str], str]:
    """Writes the values as powers of two, if they are.

    They may be powers of two of a power of ten, which the axis then names.
    """
    positive = values[values > 0]
    zero = ["0"] * (values.size - positive.size)
    for unit in (1.0, 0.1, 10.0, 0.01, 0.001, 0.0001, 0.00001):
        exponents = np.log2(positive / unit)
        if np.allclose(exponents, exponents.round(), atol=1e-4):
            labels = [f"$2^{{{round(exponent)}}}$" for exponent in exponents]
            return zero + labels, f" (× {unit:g})" * (unit != 1)
    return zero + [_short(value) for value in positive], ""


def _short(value: float) -> str:
    scientific = np.format_float_scientific(value, 1, trim="-", exp_digits=1)
    return min(scientific, f"{value:.2g}", key=len)


def _ticks(values: _Array) -> list[int]:
    """Chooses about six places to label, from the last one down.

    λ = 0 is always among them, and the place beside it never.
    """
    step = -(-values.size // 6)
    if values[0] == 0:
        return [0, *range(values.size - 1, 1, -step)]
    return list(range(values.size - 1, -1, -step))


def _reader(runs: xr.DataArray, metric: Metric) -> Callable[[float, float], str]:
    """Tells what stands in the cell at a place (x, y)."""
    mean, rates, decays = _arrays(runs.mean("seed", skipna=False))
    seeds = runs.sizes["seed"]
    spread = runs.std("seed", skipna=False, ddof=1).values if seeds > 1 else mean * np.nan

    def read(x: float, y: float) -> str:
        row, column = math.floor(y + 0.5), math.floor(x + 0.5)
        if not (0 <= row < rates.size and 0 <= column < decays.size):
            return ""
        around = f" (± {spread[row, column]:.{metric.digits}f} over {seeds} seeds)" * (seeds > 1)
        diverged = np.isnan(mean[row, column])
        error = "diverged" if diverged else f"{metric.write(mean[row, column])}{around}"
        return f"α = {rates[row]:.3g}, λ = {decays[column]:.3g}: {error}"

    return read


def _draw_ridge(axis: Axes, mean: xr.DataArray, found: Ridge) -> None:
    if np.isnan(found.slope):
        return
    x, y = np.log(found.learning_rate), np.log(found.weight_decay)
    line = np.linspace(x.min(), x.max(), 200)
    # through the median of the intercepts, as Theil and Sen have it
    theil_sen = found.slope * line + np.median(y - found.slope * x)
    outline = [withStroke(linewidth=3.5, foreground="white")]
    for marks, look in ((_places(mean, line, theil_sen), "-"), (_places(mean, x, y), "o")):
        axis.plot(*marks, look, color=_RIDGE, linewidth=2, markersize=4, path_effects=outline)


def _places(mean: xr.DataArray, log_rate: _Array, log_decay: _Array) -> tuple[_Array, _Array]:
    """Finds where (log α, log λ) lie on the map, NaN beyond it."""
    _, rates, decays = _arrays(mean)
    columns = np.flatnonzero(decays > 0)
    # Rounded, or a λ on the grid's edge might fall off it on its way through exp and log.
    known, wanted = np.log(decays[columns]).round(9), log_decay.round(9)
    return (
        np.interp(wanted, known, columns, left=np.nan, right=np.nan),
        np.interp(log_rate, np.log(rates), np.arange(rates.size)),
    )


def _draw_best(axis: Axes, mean: xr.DataArray, circled: int) -> None:
    error = mean.values
    order = np.argsort(error, axis=None, kind="stable")[: np.isfinite(error).sum()]
    row, column = np.unravel_index(order[:circled], error.shape)
    # rings fill their cells whatever the size of the grid
    area = (140 / max(error.shape)) ** 2
    axis.scatter(column, row, area, "none", edgecolors="black", linewidths=1.5, zorder=3)
    star = axis.scatter(column[:1], row[:1], s=area, marker="*", color="black", zorder=4)
    star.set(edgecolor="white", linewidth=0.7)


def _title(name: str, mean: xr.DataArray, found: Ridge, metric: Metric) -> str:
    best = best_cell(*_arrays(mean)).error
    number = f"{found.slope:+.2f}".replace("-", "−")
    slope = "no ridge" if np.isnan(found.slope) else f"ridge slope {number}"
    text = "every cell diverged" if np.isnan(best) else f"best {metric.write(best)}, {slope}"
    return f"{TITLES.get(name, name)}\n{text}"


def _draw_colorbar(figure: Figure, scale: _Scale, metric: Metric) -> None:
    low, cap = scale
    round_values = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, cap)
    ticks = [tick for tick in round_values if low <= tick < cap - 0.1 * (cap - low)]
    bar = figure.colorbar(figure.axes[0].images[0], ax=figure.axes, aspect=25, pad=0.01)
    bar.set_ticks([*ticks, cap], labels=[*(f"{tick:g}" for tick in ticks), f"≥ {cap:g}"])
    bar.ax.tick_params(labelsize=11)
    bar.set_label(metric.label, fontsize=12)


def _draw_legend(figure: Figure, circled: int, diverged: bool) -> None:
    handles: list[Artist] = [
        Line2D([], [], color="black", marker="o", markersize=11, fillstyle="none", linestyle=""),
        Line2D([], [], color="black", marker="*", markersize=10, linestyle=""),
        Line2D([], [], color=_RIDGE, marker="o", markersize=4, linewidth=2),
        Patch(facecolor=_DIVERGED),
    ]
    labels = [f"{circled} best cells", "best cell", "ridge: best λ > 0 for each α", "diverged"]
    figure.legend(
        handles[: 3 + diverged],
        labels[: 3 + diverged],
        loc="outside lower center",
        ncols=2 if figure.get_figwidth() < 8 else 4,
        fontsize=12,
        frameon=False,
    )
