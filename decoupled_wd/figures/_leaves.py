"""Over the leaves of a model: in how many steps each would halve."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decoupled_wd._ridges import require
from decoupled_wd.diagnostics.describe import Description, PlannedLeaf
from decoupled_wd.figures._inputs import check_labels, numbers
from decoupled_wd.figures._style import COLOURS, canvas, dress, use_logarithms, written


def half_lives(described: Description | Mapping[str, ArrayLike]) -> Figure:
    """Draw in how many steps at the peak each part of a model halves if no gradient holds it.

    Leaves that one rule of the mask gives the same half-life share a bar, with their number. What
    does not decay has a row without a bar, which says so.

    Args:
      described: what `describe` returned; or label to half-life in steps, ∞ where nothing decays.

    Returns:
      A figure of 7.5 inches, as high as its rows need.

    Raises:
      TypeError, ValueError: there is nothing to draw, or a half-life is no number >= 0.

    Examples:
      >>> import decoupled_wd as dwd
      >>> params = {"kernel": np.ones((3, 4)), "bias": np.ones(4)}
      >>> axis = half_lives(dwd.describe(params, 1e-3, mask=dwd.masks.matrices())).axes[0]
      >>> [label.get_text() for label in axis.get_yticklabels()]
      ['bias: not a matrix', 'kernel: matrix']
      >>> [round(float(bar.get_width()), 1) for bar in axis.patches]
      [692.8]

    Source: `theory.half_life`.
    """
    rows = _grouped(described) if isinstance(described, Description) else _numbers(described)
    require(bool(rows), "described has no leaf that is trained; pass describe(params, …)")
    figure = canvas(7.5, 1.2 + 0.4 * len(rows))
    axis = figure.subplots()
    use_logarithms(axis, "x")
    shown = [steps for _, steps in rows if np.isfinite(steps) and steps > 0]
    # bars have no zero to start from on a logarithmic axis
    axis.set_xlim(min(shown, default=1) / 3, max(shown, default=10) * 6)
    for place, (_, steps) in enumerate(rows):
        _draw_half_life(axis, place, steps)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_yticks(range(len(rows)), [textwrap.fill(written(label), 40) for label, _ in rows])
    dress(axis, "", "half-life in steps at the peak", "")
    axis.grid(visible=False, axis="y")
    return figure


def _draw_half_life(axis: Axes, place: int, steps: float) -> None:
    if np.isfinite(steps) and steps > 0:
        axis.barh(place, steps, height=0.6, color=COLOURS[0])
        axis.text(steps, place, f" {_as_steps(steps)}", va="center", fontsize=11)
    else:
        words = "does not decay" if steps else "one step removes it"
        across = axis.get_yaxis_transform()
        axis.text(0.01, place, words, va="center", transform=across, fontsize=11, color="0.4")


def _as_steps(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _grouped(described: Description) -> list[tuple[str, float]]:
    """Return a row for each rule and half-life, with what shares it."""
    groups: dict[tuple[str, float], list[PlannedLeaf]] = defaultdict(list)
    for row in described.rows:
        if row.trained:
            groups[row.rule, row.half_life].append(row)
    return [(_label(rule, leaves), steps) for (rule, steps), leaves in groups.items()]


def _label(rule: str, leaves: list[PlannedLeaf]) -> str:
    path = leaves[0].path
    others = f" and {len(leaves) - 1} more" if len(leaves) > 1 else ""
    return f"{path}{others}: {rule}" if path else rule


def _numbers(given: Mapping[str, ArrayLike]) -> list[tuple[str, float]]:
    check_labels("described", given, "its half-life, or pass what describe(…) returns")
    rows = {label: numbers(f"described[{label!r}]", steps) for label, steps in given.items()}
    for label, steps in rows.items():
        require(
            steps.ndim == 0 and bool(steps >= 0),
            f"described[{label!r}] must be a half-life in steps, one number >= 0, got {steps}; "
            "inf stands for no decay",
        )
    return [(label, float(steps)) for label, steps in rows.items()]
