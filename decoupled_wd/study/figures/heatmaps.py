"""The study's main figure: test error over learning rate and weight decay."""

from collections.abc import Mapping

import xarray as xr
from matplotlib.figure import Figure

from decoupled_wd.figures import heatmap
from decoupled_wd.study.statistics import Ridge
from decoupled_wd.study.tasks.task import ERROR, Metric


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
    """Draws a heat map of test error for each optimizer, by `decoupled_wd.figures.heatmap`.

    Args:
        results: one child for each optimizer, each with `test_error` over the dimensions
            learning_rate, weight_decay and seed, the first two with coordinates.
        ridges: the ridge of each, if it was measured more finely; none where it is empty.
        tolerance: as for `statistics.ridge`.
        metric: what `test_error` is, and its unit.
        drop_edge: as for `statistics.ridge`.
        circled: how many cells get a ring.
        cap: upper end of the colour scale; by default 60 % of all cells lie below it.

    Raises:
        ValueError: there is no child; a child lacks `test_error`; or as `heatmap`.

    Source: Figure 2 of Loshchilov & Hutter, arXiv 1711.05101.
    """
    if not results.children:
        raise ValueError("results has no children: it needs one for each optimizer, such as AdamW")
    errors = {name: _test_error(name, child) for name, child in results.children.items()}
    return heatmap(
        errors,
        ridges=ridges or None,
        tolerance=tolerance,
        drop_edge=drop_edge,
        circled=circled,
        cap=cap,
        name=metric.name,
        unit=metric.unit,
    )


def _test_error(name: str, child: xr.DataTree) -> xr.DataArray:
    if "test_error" not in child.dataset:
        raise ValueError(f"results[{name!r}] has no test_error, only {list(child.dataset)}")
    return child.dataset["test_error"]
