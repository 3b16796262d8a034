"""Claim (ii): learning rate and weight decay can be tuned apart once the decay is decoupled."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd import LR, PAPER, Coupling
from decoupled_wd.study.claims.optimizers import CONTENDERS, PAIRS, axes, maker
from decoupled_wd.study.claims.verdicts import Finding, Verdict
from decoupled_wd.study.figures.heatmaps import heatmaps
from decoupled_wd.study.statistics import Estimate, over_seeds, ridge, summarize
from decoupled_wd.study.tasks.task import Run, Task

RATE, DECAY = "learning_rate", "weight_decay"


def grids(
    run: Run, task: Task, schedule: str, *, grid: int, seeds: int, coupling: Coupling = PAPER
) -> xr.DataTree:
    """Every contender over ``grid × grid`` values of α and λ; with L2 the coupling has no meaning."""
    wanted = [name for name in CONTENDERS if coupling == PAPER or CONTENDERS[name].decoupled]
    units = "" if coupling == PAPER else "lr-coupled, "
    results = {
        name: run(
            f"{schedule}, {units}{name}",
            task,
            maker(name, schedule, task.steps, coupling),
            axes(name, grid, coupling),
            seeds=seeds,
        ).isel(epoch=-1)
        for name in wanted
    }
    return xr.DataTree.from_dict(results)


def measure(
    run: Run,
    task: Task,
    *,
    grid: int,
    seeds: int,
    schedules: Sequence[str] = ("cosine",),
    couplings: Sequence[Coupling] = (PAPER,),
) -> Finding:
    """The slope of the ridge of low error, with L2 and decoupled, under each schedule.

    Source: arXiv 1711.05101, Figures 1 and 2.
    """
    verdicts, figures, table = [], {}, []
    for schedule in schedules:
        for coupling in couplings:
            results = grids(run, task, schedule, grid=grid, seeds=seeds, coupling=coupling)
            where = f"{task.name}, {schedule}"
            judge = _lr_coupled if coupling == LR else _paper
            verdicts += judge(results, where, task.within)
            units = "" if coupling == PAPER else ", lr-coupled"
            figures[f"heatmaps {where}{units}"] = heatmaps(results, within=task.within)
            table += _table(results, where + units, task.within)
    return Finding(verdicts, figures, table)


def _paper(results: xr.DataTree, where: str, within: float) -> list[Verdict]:
    verdicts = []
    for coupled, decoupled in PAIRS:
        with_l2, without = results[coupled].dataset, results[decoupled].dataset

        def steeper(
            drawn: NDArray[np.intp], a: xr.Dataset = without, b: xr.Dataset = with_l2
        ) -> float:
            slopes = np.array([_slope(a, drawn, within), _slope(b, drawn, within)])
            return float(np.divide(*np.abs(slopes))) if slopes[1] else np.nan

        verdicts += [
            Verdict(
                f"With L2 in {coupled}, the best λ falls as α rises",
                where,
                "d log λ* / d log α",
                _estimate(with_l2, within),
                "<",
                0.0,
            ),
            Verdict(
                f"{decoupled}'s ridge is less than half as steep as that of {coupled} with L2",
                where,
                f"|slope of {decoupled}| / |slope of {coupled}|",
                over_seeds(steeper, with_l2.sizes["seed"]),
                "<",
                0.5,
            ),
        ]
    return verdicts


def _lr_coupled(results: xr.DataTree, where: str, within: float) -> list[Verdict]:
    return [
        Verdict(
            f"In lr-coupled units (λ·α a step) the best λ of {name} falls as α rises",
            where,
            "d log λ* / d log α",
            _estimate(child.dataset, within),
            "<",
            0.0,
        )
        for name, child in results.children.items()
    ]


def _slope(runs: xr.Dataset, drawn: NDArray[np.intp], within: float) -> float:
    error = runs["test_error"].transpose(RATE, DECAY, "seed").values[..., drawn]
    return ridge(error, runs[RATE].values, runs[DECAY].values, within=within).slope


def _estimate(runs: xr.Dataset, within: float) -> Estimate:
    return over_seeds(lambda drawn: _slope(runs, drawn, within), runs.sizes["seed"])


def _table(results: xr.DataTree, where: str, within: float) -> list[dict[str, Any]]:
    """One record of statistics for each contender; see `statistics.summarize`."""
    records = []
    for name, child in results.children.items():
        error = child["test_error"].transpose(RATE, DECAY, "seed")
        axes = (error[axis].values for axis in (RATE, DECAY))
        records.append({"where": where, **summarize(name, error.values, *axes, within=within)})
    return records
