"""What a claim shows, as numbers of which `study.figures` makes pictures.

Nothing here imports a plotting library, so that a verdict can be reached where none is installed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import xarray as xr

from decoupled_wd.study.statistics import Estimate, Ridge
from decoupled_wd.study.tasks.task import ERROR, Metric


@dataclass(frozen=True)
class Heatmaps:
    """Shows test error over α and λ, by `figures.heatmaps.heatmaps`."""

    results: xr.DataTree
    ridges: Mapping[str, Ridge]
    tolerance: float
    metric: Metric = ERROR


@dataclass(frozen=True)
class Lines:
    """Shows curves over one axis, by `figures.curves.lines`."""

    panels: Mapping[str, Mapping[str, xr.DataArray]]
    x: str
    xlabel: str
    ylabel: str
    log: str = ""
    marks: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scatter:
    """Shows test error over training loss, by `figures.curves.scatter`."""

    results: Mapping[str, xr.Dataset]
    tolerance: float
    metric: Metric = ERROR


@dataclass(frozen=True)
class Bars:
    """Shows estimates with their intervals, by `figures.curves.bars`."""

    groups: Mapping[str, Mapping[str, Estimate]]
    ylabel: str


Drawing: TypeAlias = Heatmaps | Lines | Scatter | Bars


def joined(one: Drawing, other: Drawing) -> Drawing | None:
    """Puts two drawings of one kind into one, or returns None where that cannot be.

    What is measured by several experiments can be compared in one figure this way.

    Examples:
      >>> sgd, adam = (Bars({name: {}}, "test error (%)") for name in ("SGD", "Adam"))
      >>> list(joined(sgd, adam).groups)
      ['SGD', 'Adam']
    """
    match one, other:
        case Bars(), Bars():
            return replace(one, groups={**one.groups, **other.groups})
        case Heatmaps(), Heatmaps():
            grids = {**one.results.children, **other.results.children}
            return replace(
                one,
                results=xr.DataTree.from_dict(grids),
                ridges={**one.ridges, **other.ridges},
            )
    return None
