"""Claim (ii): learning rate and weight decay can be tuned apart once the decay is decoupled."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd import LR, PAPER, Coupling
from decoupled_wd.study.claims.drawings import Drawing, Heatmaps
from decoupled_wd.study.claims.optimizers import CONTENDERS, DECOUPLED, PAIRS
from decoupled_wd.study.claims.ridges import Valley, valley
from decoupled_wd.study.claims.verdicts import SLOPE, Finding, Verdict, level
from decoupled_wd.study.statistics import Estimate, over_seeds, propagated, widened
from decoupled_wd.study.tasks.task import Run, Task

Valleys: TypeAlias = Mapping[tuple[str, Coupling], Mapping[str, Valley]]
"""What was trained under each schedule and coupling, by contender."""
UNIT = "d log λ* / d log α"
SHOWN = 0.95
"""The level in table and figures, not shared among the looks: nothing is decided by them."""


@dataclass(frozen=True)
class Interaction:
    """Measures how steep the ridge of low error is.

    It does so with L2 and decoupled, under each schedule. A pilot of few seeds over the whole
    grid shows where the ridge is; all others are trained along it.

    Source: arXiv 1711.05101, Figures 1 and 2.
    """

    grid: int
    """How many values of α and how many of λ the pilot has."""
    looks: tuple[int, ...]
    schedules: tuple[str, ...] = ("cosine",)
    couplings: tuple[Coupling, ...] = (PAPER,)
    pairs: tuple[tuple[str, str], ...] = PAIRS
    """Each optimiser with L2, and its decoupled form."""

    def measure(self, run: Run, task: Task, look: int) -> Finding:
        """Trains the grids, judges their ridges, and describes the heat maps."""
        valleys = self.train(run, task, look)
        return Finding(
            judge(valleys, task, self.looks, self.pairs),
            draw(valleys, task),
            tabulate(valleys, task),
        )

    def train(self, run: Run, task: Task, look: int) -> Valleys:
        """Trains every contender under each schedule and coupling.

        With L2 the coupling has no meaning, so those run under the paper's alone.
        """
        return {
            (schedule, coupling): {
                name: valley(
                    run,
                    task,
                    name,
                    schedule,
                    grid=self.grid,
                    looks=self.looks,
                    look=look,
                    coupling=coupling,
                )
                for name in itertools.chain(*self.pairs)
                if coupling == PAPER or CONTENDERS[name].decay == DECOUPLED
            }
            for schedule in self.schedules
            for coupling in self.couplings
        }


def judge(
    valleys: Valleys,
    task: Task,
    looks: tuple[int, ...],
    pairs: tuple[tuple[str, str], ...] = PAIRS,
) -> list[Verdict]:
    """Judges all ridges."""
    verdicts = []
    for (schedule, coupling), each in valleys.items():
        where = f"{task.name}, {schedule}"
        if coupling == LR:
            verdicts += _lr_coupled(each, where, looks)
        else:
            verdicts += _paper(each, pairs, where, looks)
    return verdicts


def draw(valleys: Valleys, task: Task) -> dict[str, Drawing]:
    """Describes the pilots' grids: heat maps in a row for each schedule and coupling."""
    return {
        f"heatmaps {_where(task, *key)}": Heatmaps(
            xr.DataTree.from_dict({name: each.pilot for name, each in mine.items()}),
            {name: each.known(SHOWN) for name, each in mine.items()},
            task.tolerance,
            task.metric,
        )
        for key, mine in valleys.items()
    }


def tabulate(valleys: Valleys, task: Task) -> list[dict[str, Any]]:
    """Lists each contender's best point along its ridge, and the ridge's slope."""
    records = []
    for key, mine in valleys.items():
        for name, each in mine.items():
            mean = each.along.mean("seed", skipna=False)
            # argmin ends in an error where all runs diverged
            best = mean.isel(trial=mean["validation_error"].fillna(np.inf).argmin("trial"))
            slope = slope_of(each, SHOWN)
            records.append(
                {
                    "where": _where(task, *key),
                    "optimizer": name,
                    "best_error": float(best["test_error"]),
                    "learning_rate": float(best["learning_rate"]),
                    "weight_decay": float(best["weight_decay"]),
                    "ridge_slope": slope.value,
                    "ridge_slope_low": slope.low,
                    "ridge_slope_high": slope.high,
                    "seeds": slope.seeds,
                }
            )
    return records


def _where(task: Task, schedule: str, coupling: Coupling) -> str:
    return f"{task.name}, {schedule}{'' if coupling == PAPER else ', lr-coupled'}"


def _paper(
    mine: Mapping[str, Valley],
    pairs: tuple[tuple[str, str], ...],
    where: str,
    looks: tuple[int, ...],
) -> list[Verdict]:
    verdicts = []
    for coupled, decoupled in pairs:
        statement = f"With L2 in {coupled}, the best λ falls as α rises"
        verdicts.append(_falls(statement, where, mine[coupled], looks))
        verdicts.append(_flatter(coupled, decoupled, where, mine, looks))
    return verdicts


def _flatter(
    coupled: str, decoupled: str, where: str, mine: Mapping[str, Valley], looks: tuple[int, ...]
) -> Verdict:
    steep, level_one = mine[coupled], mine[decoupled]
    every = np.arange(steep.along.sizes["seed"])
    # signs are those of all seeds together: a seed left out must not flip one
    signs = np.sign([steep.slope(every), level_one.slope(every)])

    weights = signs * [0.5, -1.0]

    def flatter(drawn: NDArray[np.intp]) -> float:
        return float(np.dot([steep.slope(drawn), level_one.slope(drawn)], weights))

    sure = level(looks)
    unknown = propagated(weights, [each.leeway(sure) for each in (steep, level_one)])
    found = over_seeds(flatter, every.size, level=sure)
    return Verdict(
        f"{decoupled}'s ridge is less than half as steep as that of {coupled} with L2",
        where,
        f"½·|slope of {coupled}| − |slope of {decoupled}|",
        widened(found, unknown),
        ">",
        0.0,
        SLOPE / 2,
        len(looks),
    )


def _lr_coupled(mine: Mapping[str, Valley], where: str, looks: tuple[int, ...]) -> list[Verdict]:
    return [
        _falls(
            f"In lr-coupled units (λ·α a step) the best λ of {name} falls as α rises",
            where,
            each,
            looks,
        )
        for name, each in mine.items()
    ]


def _falls(statement: str, where: str, mine: Valley, looks: tuple[int, ...]) -> Verdict:
    return Verdict(
        statement, where, UNIT, slope_of(mine, level(looks)), "<", 0.0, SLOPE, len(looks)
    )


def slope_of(mine: Valley, level: float) -> Estimate:
    """Estimates the slope of a ridge, with the leeway of its valleys in the interval."""
    seeds = over_seeds(mine.slope, mine.along.sizes["seed"], level=level)
    return widened(seeds, mine.leeway(level))
