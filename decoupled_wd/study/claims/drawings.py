"""What a claim shows, as numbers: each drawing names what it is drawn from, and `study.figures` draws it.

Nothing here imports a plotting library, so that a verdict can be reached where none is installed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import xarray as xr

from decoupled_wd.study.statistics import Estimate


@dataclass(frozen=True)
class Heatmaps:
    """Test error over learning rate and weight decay, for `figures.heatmaps.heatmaps`."""

    results: xr.DataTree
    tolerance: float


@dataclass(frozen=True)
class Lines:
    """Curves over one axis in some panels, for `figures.curves.lines`."""

    panels: Mapping[str, Mapping[str, xr.DataArray]]
    x: str
    xlabel: str
    ylabel: str
    log: str = ""
    marks: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scatter:
    """Test error over training loss, for `figures.curves.scatter`."""

    results: Mapping[str, xr.Dataset]
    tolerance: float


@dataclass(frozen=True)
class Bars:
    """Estimates with their intervals in groups, for `figures.curves.bars`."""

    groups: Mapping[str, Mapping[str, Estimate]]
    ylabel: str


Drawing: TypeAlias = Heatmaps | Lines | Scatter | Bars
