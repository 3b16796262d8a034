"""Claim (iii): tuned AdamW generalises better than tuned Adam with L2, also at the same training loss."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd.study.claims.interaction import grids
from decoupled_wd.study.claims.optimizers import maker
from decoupled_wd.study.claims.tuning import difference, finalists
from decoupled_wd.study.claims.verdicts import MARGIN, Finding, Verdict
from decoupled_wd.study.figures.curves import scatter
from decoupled_wd.study.statistics import Estimate, over_seeds
from decoupled_wd.study.tasks.task import Run, Task

BINS = 8
GAIN = "gain in test error, points"


def measure(
    run: Run,
    task: Task,
    *,
    grid: int,
    seeds: int,
    fresh_seeds: int,
    schedules: Sequence[str] = ("cosine",),
) -> Finding:
    """Test error of Adam + L2 less that of AdamW, each where its validation error is lowest.

    Both have the same grid and the same `seeds`; the best three cells of each are trained again with
    `fresh_seeds` others, which decide. Under a fixed learning rate the paper saw no gain, so there the gain is
    expected to be about 0.

    Source: arXiv 1711.05101, Figures 1, 3 and 4.
    """
    verdicts, figures = [], {}
    for schedule in schedules:
        grown = grids(run, task, schedule, grid=grid, seeds=seeds)
        runs = {name: grown[name].dataset for name in ("Adam", "AdamW")}
        best = {
            name: finalists(
                run,
                f"{schedule}, {name}",
                task,
                maker(name, schedule, task.steps),
                found,
                seeds=fresh_seeds,
            )
            for name, found in runs.items()
        }
        where, gain = f"{task.name}, {schedule}", difference(best["Adam"], best["AdamW"])
        verdicts.append(_null(gain, where) if schedule == "fixed" else _gain(gain, where))
        if schedule != "fixed":
            verdicts.append(_matched_gain(runs["Adam"], runs["AdamW"], where, task.within))
        figures[f"generalization {where}"] = scatter(runs, within=2 * task.within)
    return Finding(verdicts, figures)


def _gain(gain: Estimate, where: str) -> Verdict:
    statement = "Tuned AdamW has a lower test error than tuned Adam + L2"
    return Verdict(statement, where, GAIN, gain, ">", 0.0)


def _null(gain: Estimate, where: str) -> Verdict:
    statement = "Under a fixed learning rate tuned AdamW gains nothing over tuned Adam + L2"
    return Verdict(statement, where, GAIN, gain, "≈", 0.0, MARGIN)


def _matched_gain(adam: xr.Dataset, adamw: xr.Dataset, where: str, within: float) -> Verdict:
    statement = "At the same training loss AdamW has a lower test error than Adam + L2"
    gain = over_seeds(lambda drawn: matched(adam, adamw, drawn, within), adam.sizes["seed"])
    return Verdict(statement, where, GAIN, gain, ">", 0.0)


def matched(first: xr.Dataset, second: xr.Dataset, drawn: NDArray[np.intp], within: float) -> float:
    """Mean over bins of log training loss of the first's tuned test error less the second's.

    The bins divide the training losses that both reach in cells within `2·within` points of their best.
    """
    near = [_near(_means(runs, drawn), 2 * within) for runs in (first, second)]
    if min(loss.size for loss, _, _ in near) == 0:
        return np.nan
    low, high = max(loss.min() for loss, _, _ in near), min(loss.max() for loss, _, _ in near)
    if not low < high:
        return np.nan
    edges = np.geomspace(low, high, BINS + 1)[1:-1]
    best = np.array([_best_by_bin(cells, edges, (low, high)) for cells in near])
    gaps = best[0] - best[1]
    return float(np.nanmean(gaps)) if np.isfinite(gaps).any() else np.nan


def _means(runs: xr.Dataset, drawn: NDArray[np.intp]) -> xr.Dataset:
    return runs.isel(seed=drawn).mean("seed", skipna=False)


def _near(mean: xr.Dataset, within: float) -> tuple[NDArray[np.float64], ...]:
    """Training loss, validation and test error of the cells near the best."""
    validation = mean["validation_error"]
    kept = (validation <= validation.min() + within).values
    names = ("train_loss", "validation_error", "test_error")
    return tuple(mean[name].values[kept].astype(float) for name in names)


def _best_by_bin(
    near: tuple[NDArray[np.float64], ...], edges: NDArray[np.float64], span: tuple[float, float]
) -> NDArray[np.float64]:
    loss, validation, test = near
    bins = np.where((loss < span[0]) | (loss > span[1]), -1, np.digitize(loss, edges))
    cells = [np.flatnonzero(bins == number) for number in range(BINS)]
    return np.array([test[c[validation[c].argmin()]] if c.size else np.nan for c in cells])
