"""What a claim shows, as numbers of which `study.figures` makes pictures.

Nothing here imports a plotting library, so that a verdict can be reached where none is installed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
