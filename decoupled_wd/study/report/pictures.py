"""Figures as a page shows them: a PNG, what it says in words, and what the pointer finds in it."""

import base64
import io
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

DOT = 14.0
"""Pixels of the square around a dot in which the pointer finds it."""


class Tile(NamedTuple):
    """Holds a cell of a heat map, or a dot: its rectangle, and what it says.

    The rectangle is in pixels from the upper left.
    """

    x: float
    y: float
    width: float
    height: float
    text: str


class Map(NamedTuple):
    """Holds a title and cells: the highest row of a heat map first, or dots in one row."""

    title: str
    rows: list[list[Tile]]


class Picture(NamedTuple):
    """Holds a figure as the page shows it."""

    name: str
    file: str
    data: str
    """The PNG in base 64."""
    width: float
    height: float
    alt: str
    maps: list[Map]


def picture(name: str, figure: Figure, file: str) -> Picture:
    """Draws a figure into a PNG, with what its cells say."""
    drawn = io.BytesIO()
    # twice the resolution is sharp on dense screens and on paper
    figure.savefig(drawn, format="png", dpi=2 * figure.dpi)
    data = base64.b64encode(drawn.getvalue()).decode()
    # only what says something of its places can be pointed at
    maps = [_map(axis) for axis in figure.axes if "format_coord" in vars(axis)]
    return Picture(name, file, data, *figure.bbox.size, _alt(name, figure), maps)


def _map(axis: Axes) -> Map:
    if not axis.images:
        return Map(axis.get_title(), [[_dot(axis, *place) for place in _places(axis)]])
    rows, columns = axis.images[0].get_size()
    cells = [[_cell(axis, row, column) for column in range(columns)] for row in range(rows)]
    return Map(axis.get_title().replace("\n", ": "), cells[::-1])


def _cell(axis: Axes, row: int, column: int) -> Tile:
    corners = [(column - 0.5, row - 0.5), (column + 0.5, row + 0.5)]
    (left, bottom), (right, top) = axis.transData.transform(corners)
    # matplotlib measures from the lower left, SVG from the upper left
    upper = axis.get_figure(root=True).bbox.height - top  # type: ignore[union-attr]
    return Tile(left, upper, right - left, top - bottom, axis.format_coord(column, row))


def _places(axis: Axes) -> list[tuple[float, float]]:
    """Returns where an axis has dots, each place once."""
    clouds = [each for each in axis.collections if isinstance(each, PathCollection)]
    places = (np.asarray(each.get_offsets(), float).tolist() for each in clouds)
    return list(dict.fromkeys((x, y) for cloud in places for x, y in cloud))


def _dot(axis: Axes, x: float, y: float) -> Tile:
    across, up = axis.transData.transform((x, y))
    down = axis.get_figure(root=True).bbox.height - up  # type: ignore[union-attr]
    return Tile(across - DOT / 2, down - DOT / 2, DOT, DOT, axis.format_coord(x, y))


def _alt(name: str, figure: Figure) -> str:
    """Says what is drawn, for those who cannot see it."""
    panels = [
        " ".join(filter(None, [axis.get_title(), f"{axis.get_ylabel()} over {axis.get_xlabel()}"]))
        for axis in figure.axes
        if axis.get_xlabel()
    ]
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return " ".join(f"{name}. {'; '.join(panels)}. Legend: {', '.join(labels)}.".split())
