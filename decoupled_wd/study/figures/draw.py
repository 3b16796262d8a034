"""From a claim's drawing to its figure: which function of this folder draws which kind."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from matplotlib.figure import Figure

from decoupled_wd.study.claims.drawings import Bars, Drawing, Heatmaps, Lines, Scatter
from decoupled_wd.study.figures.curves import bars, lines, scatter
from decoupled_wd.study.figures.heatmaps import heatmaps

FUNCTIONS: Mapping[type[Drawing], Callable[..., Figure]] = MappingProxyType(
    {Heatmaps: heatmaps, Lines: lines, Scatter: scatter, Bars: bars}
)


def draw(drawing: Drawing) -> Figure:
    """Draws the figure that a claim described.

    Examples:
      >>> from decoupled_wd.study.statistics import Estimate
      >>> shown = Bars({"digits": {"AdamW": Estimate(4.0, 3.0, 5.0)}}, ylabel="test error (%)")
      >>> draw(shown).axes[0].get_xlabel()
      'test error (%)'
    """
    return FUNCTIONS[type(drawing)](**vars(drawing))
