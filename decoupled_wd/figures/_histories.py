"""Over the steps of a run: what each is worth in the final weights, and how far each turns them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from jax.typing import ArrayLike
from matplotlib.figure import Figure
from numpy.typing import NDArray

from decoupled_wd import theory
from decoupled_wd._base.checks import check_at_least_one
from decoupled_wd._ridges import require
from decoupled_wd.figures._inputs import check_labels, numbers
from decoupled_wd.figures._style import canvas, draw_legend, dress, looks, written
from decoupled_wd.theory._times import Influence

_Array = NDArray[np.float64]
# more points than a figure is wide show nothing more
_BINS = 500


class Turning(Protocol):
    """The history of a leaf: a `Record` with a number for each step, or a dataset with these."""

    @property
    def angle(self) -> ArrayLike:
        """[T], radians."""

    @property
    def c(self) -> ArrayLike:
        """[T], the fraction of the weight that each step removed."""


def influence(memories: Mapping[str, ArrayLike | Influence]) -> Figure:
    """Draw the share of each step in the final weights, beside that of an average step.

    Where a line is at 2, a step counts twice as much as one of T equal steps, ``T·w_t``. A dot
    marks the step after which half of the final weights are made.

    Args:
      memories: label to what `theory.influence` returned, or to shares ``[T]`` that are >= 0 and
        sum to 1, as numbers or as a labelled array.

    Returns:
      A figure of 7.5 × 4.5 inches, with one line for each label.

    Raises:
      ValueError: there is no label, or its shares are no list of numbers >= 0 that sum to 1.

    Examples:
      >>> memory = theory.influence(1e-3, 1e-4, steps=200_000)
      >>> axis = influence({"constant": memory}).axes[0]
      >>> axis.lines[0].get_label()
      'constant: half from the last 6,932 steps'

    Source: Wang & Aitchison, arXiv 2405.13698, section 3.
    """
    check_labels("memories", memories, "what theory.influence returns, or its shares")
    figure = canvas(7.5, 4.5)
    axis = figure.subplots()
    look = looks(memories)
    for name, memory in memories.items():
        shares = _shares(name, memory)
        half = int(np.searchsorted(np.cumsum(shares[::-1]), 0.5)) + 1
        steps, density = _binned(shares)
        text = f"{written(name)}: half from the last {half:,} steps"
        axis.plot(steps, density, label=text, linewidth=2, **look[name] | {"marker": ""})
        start = len(shares) - half
        at = np.interp(start, steps, density)
        axis.plot([start], [at], markersize=8, **look[name] | {"linestyle": ""})
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    dress(axis, "", "step of the run", "share of a step, × average")
    draw_legend(figure)
    return figure


def rotation(
    rows: Mapping[str, Turning],
    *,
    predicted: Callable[[_Array], ArrayLike] = theory.rotation,
    window: int = 20,
) -> Figure:
    """Draw how far each step turned a weight, over what its fraction predicts at equilibrium.

    A line at 1 is a weight at its equilibrium, in front of a normalisation. Below it are weights
    whose size the loss holds, or the beginning and the end of a schedule, where c changes faster
    than a norm can. Leaves of which no step removes anything have no prediction, and are left out.

    Args:
      rows: path to `Record`, as `recorded` returns them for a history that `jax.lax.scan` stacked;
        or anything with ``angle`` and ``c`` of shape ``[T]``, such as a dataset of xarray.
      predicted: from c to the angle; by default that of AdamW with β1 = 0.9. For another take
        ``functools.partial(theory.rotation, momentum=0.95)``, or `theory.lion_rotation`.
      window: steps of the moving averages of both.

    Returns:
      A figure of 7.5 × 4.5 inches, with one line for each leaf that decays.

    Raises:
      TypeError, ValueError: no leaf decays, a history is not ``[T]``, or the window is below 1, no
        whole number, or longer than the history.

    Examples:
      >>> from types import SimpleNamespace
      >>> history = SimpleNamespace(angle=np.full(100, 0.003), c=np.full(100, 1e-4))
      >>> axis = rotation({"kernel": history}).axes[0]
      >>> round(float(axis.lines[0].get_ydata()[0]), 3)  # predicted 0.003244
      0.925

    Source: Kosson et al., arXiv 2305.17212, section 3.
    """
    check_labels("rows", rows, "its record, as recorded(…) returns it")
    check_at_least_one("window", window)
    require(window == int(window), f"window must be a whole number of steps, got {window}")
    window = int(window)
    histories = {name: _turned(name, row, window) for name, row in rows.items()}
    decaying = {name: pair for name, pair in histories.items() if pair[1].any()}
    require(
        bool(decaying),
        f"rows must hold a leaf that decays, and c is 0 in all of {list(rows)}; pass recorded(…) "
        "of a run with a decay",
    )
    figure = canvas(7.5, 4.5)
    axis = figure.subplots()
    look = looks(decaying)
    for name, (angle, c) in decaying.items():
        measured, expected = (_averaged(x, window) for x in (angle, _predicted(predicted, c)))
        ratio = measured / np.where(expected > 0, expected, np.nan)
        steps = np.arange(len(ratio)) + (window - 1) / 2
        axis.plot(steps, ratio, label=written(name), linewidth=1.5, **look[name] | {"marker": ""})
    axis.axhline(1, color="black", linestyle=":", linewidth=1.5, label="predicted")
    axis.set_xlim(0, max(len(c) for _, c in decaying.values()))
    axis.set_ylim(0, max(1.1, axis.get_ylim()[1]))
    dress(axis, "", "step of the run", "angle turned, measured / predicted")
    draw_legend(figure)
    return figure


def _shares(name: str, memory: ArrayLike | Influence) -> _Array:
    shares = numbers(f"memories[{name!r}]", getattr(memory, "shares", memory))
    right = shares.ndim == 1 and bool((shares >= 0).all()) and np.isclose(shares.sum(), 1)
    require(
        bool(right),
        f"memories[{name!r}] must be shares of steps, numbers >= 0 that sum to 1, got shape "
        f"{shares.shape} with the sum {shares.sum():.4g}; pass theory.influence(…)",
    )
    return shares


def _binned(shares: _Array) -> tuple[_Array, _Array]:
    """Return the middles of up to 500 bins of steps, and their mean share × T."""
    edges = np.linspace(0, len(shares), min(len(shares), _BINS) + 1).astype(int)
    density = np.add.reduceat(shares, edges[:-1]) / np.diff(edges) * len(shares)
    return (edges[:-1] + edges[1:] - 1) / 2, density


def _turned(name: str, row: Turning, window: int) -> tuple[_Array, _Array]:
    """Return the angle and the fraction of every step, in float64."""
    if not (hasattr(row, "angle") and hasattr(row, "c")):
        raise TypeError(
            f"rows[{name!r}] must have angle and c, got {type(row).__name__}; pass recorded(…)"
        )
    angle, c = (numbers(f"rows[{name!r}]", x) for x in (row.angle, row.c))
    require(
        angle.ndim == 1 and angle.shape == c.shape and len(angle) >= window,
        f"rows[{name!r}] must be a history of at least window={window} steps, got angle of shape "
        f"{angle.shape} and c of shape {c.shape}; stack the records of a run, as jax.lax.scan does",
    )
    return angle, c


def _predicted(predicted: Callable[[_Array], ArrayLike], c: _Array) -> _Array:
    expected = numbers("what predicted returns", predicted(c))
    require(
        expected.shape == c.shape,
        f"predicted must return an angle for each of {c.shape} fractions, got {expected.shape}",
    )
    return expected


def _averaged(x: _Array, window: int) -> _Array:
    return np.convolve(x, np.ones(window) / window, "valid")
