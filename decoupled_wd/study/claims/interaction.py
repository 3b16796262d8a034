"""Claim (ii): learning rate and weight decay can be tuned apart once the decay is decoupled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd import LR, PAPER, Coupling
from decoupled_wd.study.claims.drawings import Drawing, Heatmaps
from decoupled_wd.study.claims.optimizers import CONTENDERS, DECOUPLED, PAIRS
from decoupled_wd.study.claims.tuning import at_the_end, grid_of
from decoupled_wd.study.claims.verdicts import Finding, Verdict
from decoupled_wd.study.statistics import Estimate, over_seeds, ridge, summarize
from decoupled_wd.study.tasks.task import Run, Task

Grids: TypeAlias = Mapping[tuple[str, Coupling], xr.DataTree]
"""What was measured under each schedule and coupling, one child for each contender."""


@dataclass(frozen=True)
class Interaction:
    """Measures how steep the ridge of low error is.

    It does so with L2 and decoupled, under each schedule.

    Source: arXiv 1711.05101, Figures 1 and 2.
    """

    grid: int
    """How many values of α and how many of λ."""
    seeds: int
    schedules: tuple[str, ...] = ("cosine",)
    couplings: tuple[Coupling, ...] = (PAPER,)

    def measure(self, run: Run, task: Task) -> Finding:
        """Trains the grids, judges their ridges, and describes the heat maps."""
        grids = self.train(run, task)
        return Finding(judge(grids, task), draw(grids, task), tabulate(grids, task))

    def train(self, run: Run, task: Task) -> Grids:
        """Trains every contender under each schedule and coupling.

        With L2 the coupling has no meaning, so those run under the paper's alone.
        """
        return {
            (schedule, coupling): xr.DataTree.from_dict(
                {
                    name: at_the_end(
                        run,
                        grid_of(
                            task,
                            name,
                            schedule,
                            grid=self.grid,
                            seeds=self.seeds,
                            coupling=coupling,
                        ),
                    )
                    for name, contender in CONTENDERS.items()
                    if coupling == PAPER or contender.decay == DECOUPLED
                }
            )
            for schedule in self.schedules
            for coupling in self.couplings
        }


def judge(grids: Grids, task: Task) -> list[Verdict]:
    """Judges the ridges of all grids."""
    verdicts = []
    for (schedule, coupling), results in grids.items():
        judge_one = _lr_coupled if coupling == LR else _paper
        verdicts += judge_one(results, f"{task.name}, {schedule}", task.tolerance)
    return verdicts


def draw(grids: Grids, task: Task) -> dict[str, Drawing]:
    """Describes one row of heat maps for each schedule and coupling."""
    return {
        f"heatmaps {_where(task, *key)}": Heatmaps(results, tolerance=task.tolerance)
        for key, results in grids.items()
    }


def tabulate(grids: Grids, task: Task) -> list[dict[str, Any]]:
    """Lists one record of `statistics.summarize` for each contender in each grid."""
    records = []
    for key, results in grids.items():
        for name, child in results.children.items():
            error = child["test_error"].transpose("learning_rate", "weight_decay", "seed")
            # statistics know arrays and no labels
            values = (error[axis].values for axis in ("learning_rate", "weight_decay"))
            record = summarize(name, error.values, *values, tolerance=task.tolerance)
            records.append({"where": _where(task, *key), **record})
    return records


def _where(task: Task, schedule: str, coupling: Coupling) -> str:
    return f"{task.name}, {schedule}{'' if coupling == PAPER else ', lr-coupled'}"


def _paper(results: xr.DataTree, where: str, tolerance: float) -> list[Verdict]:
    verdicts = []
    for coupled, decoupled in PAIRS:
        with_l2, without = results[coupled].dataset, results[decoupled].dataset

        # the defaults bind this pair: a closure would see the last one
        def steeper(
            drawn: NDArray[np.intp], a: xr.Dataset = without, b: xr.Dataset = with_l2
        ) -> float:
            slopes = np.array([_slope(a, drawn, tolerance), _slope(b, drawn, tolerance)])
            return float(np.divide(*np.abs(slopes))) if slopes[1] else np.nan

        verdicts += [
            Verdict(
                f"With L2 in {coupled}, the best λ falls as α rises",
                where,
                "d log λ* / d log α",
                _estimate(with_l2, tolerance),
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


def _lr_coupled(results: xr.DataTree, where: str, tolerance: float) -> list[Verdict]:
    return [
        Verdict(
            f"In lr-coupled units (λ·α a step) the best λ of {name} falls as α rises",
            where,
            "d log λ* / d log α",
            _estimate(child.dataset, tolerance),
            "<",
            0.0,
        )
        for name, child in results.children.items()
    ]


def _slope(runs: xr.Dataset, drawn: NDArray[np.intp], tolerance: float) -> float:
    error = runs["test_error"].transpose("learning_rate", "weight_decay", "seed").values
    rates, decays = runs["learning_rate"].values, runs["weight_decay"].values
    return ridge(error[..., drawn], rates, decays, tolerance=tolerance).slope


def _estimate(runs: xr.Dataset, tolerance: float) -> Estimate:
    return over_seeds(lambda drawn: _slope(runs, drawn, tolerance), runs.sizes["seed"])
