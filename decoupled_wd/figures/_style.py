"""How every figure looks: one colour, line style and marker for each label, one manner of axes."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)

TITLES = {
    "SGD": "SGD + L2",
    "SGDW": "SGDW (decoupled)",
    "Adam": "Adam + L2",
    "AdamW": "AdamW (decoupled)",
}
# Okabe & Ito's colours, which the common kinds of colour blindness keep apart;
# yellow is too pale for lines
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_STYLES = ("-", "--", "-.", ":")
_MARKERS = "osD^vPX"
GRID: dict[str, Any] = {"color": "0.9", "linewidth": 0.8}


def written(label: object) -> str:
    """Write a label as it is: matplotlib takes $ for mathematics, and hides what starts with _."""
    text = TITLES.get(str(label), str(label)).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def looks(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Give each label a look of its own, of which 28 differ.

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


def canvas(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches."""
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def dress(axis: Axes, title: str, xlabel: str, ylabel: str) -> None:
    """Write title and labels, and draw a faint grid behind everything."""
    axis.set_title(textwrap.fill(title, 36), fontsize=13)
    axis.set_xlabel(xlabel, fontsize=12)
    axis.set_ylabel(ylabel, fontsize=12)
    axis.tick_params(which="both", labelsize=11)
    axis.grid(**GRID)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def draw_legend(figure: Figure) -> None:
    """Write every label once, in as many columns as fit."""
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


def use_logarithms(axis: Axes, log: str) -> None:
    """Make axes logarithmic, with plain numbers and enough of them."""
    for one in (getattr(axis, f"{name}axis") for name in log):
        getattr(axis, f"set_{one.axis_name}scale")("log")
        low, high = one.get_view_interval()
        if high < 5 * low:
            one.set_major_locator(MaxNLocator(5))
            one.set_minor_locator(NullLocator())
        elif high < 60 * low:
            # powers of ten alone would be two or three
            one.set_major_locator(LogLocator(subs=(1, 2, 5)))
        one.set_major_formatter(StrMethodFormatter("{x:g}"))
        one.set_minor_formatter(NullFormatter())
