"""Claim (iii): tuned AdamW generalises better than tuned Adam + L2, also at equal training loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd.study.claims.drawings import Drawing, Scatter
from decoupled_wd.study.claims.ridges import valley
from decoupled_wd.study.claims.tuning import difference, tuned
from decoupled_wd.study.claims.verdicts import Finding, Verdict, level
from decoupled_wd.study.statistics import Estimate, over_seeds
from decoupled_wd.study.tasks.task import Run, Task


class Tuned(NamedTuple):
    """Holds what was trained of a contender, and what tuning it is worth."""

    along: xr.Dataset
    """The points along its ridge."""
    worth: NDArray[np.float64]
    """The tuned test error of each pair of seeds that searched among those points."""


Tunings: TypeAlias = Mapping[str, Mapping[str, Tuned]]
"""By schedule, and by contender: Adam and AdamW."""


@dataclass(frozen=True)
class Generalization:
    """Measures by how much tuned AdamW beats tuned Adam + L2.

    It is the test error of the one less that of the other, each where its validation error is
    lowest.

    Both have the same grid for a pilot, and as many points along the ridge that it shows. Among
    those each pair of seeds makes a choice of its own, which four fresh seeds judge. Under a fixed
    learning rate the paper saw no gain, so there the gain is expected to be about 0.

    Source: arXiv 1711.05101, Figures 1, 3 and 4.
    """

    grid: int
    """How many values of α and how many of λ; the grid is that of claim (ii) if the sizes are."""
    looks: tuple[int, ...]
    schedules: tuple[str, ...] = ("cosine",)

    def measure(self, run: Run, task: Task, look: int) -> Finding:
        """Trains both optimisers, judges the gain, and describes error over training loss."""
        tunings = self.train(run, task, look)
        return Finding(judge(tunings, task, self.looks), draw(tunings, task))

    def train(self, run: Run, task: Task, look: int) -> Tunings:
        """Trains both valleys under each schedule, then what each seed chose."""
        return {
            schedule: {
                name: self._tuned(run, task, name, schedule, look) for name in ("Adam", "AdamW")
            }
            for schedule in self.schedules
        }

    def _tuned(self, run: Run, task: Task, name: str, schedule: str, look: int) -> Tuned:
        found = valley(run, task, name, schedule, grid=self.grid, looks=self.looks, look=look)
        worth = tuned(
            run, found.training, found.along, self.looks, look, seeds_each=2, fresh_seeds=4
        )
        return Tuned(found.along, worth)


def judge(tunings: Tunings, task: Task, looks: tuple[int, ...]) -> list[Verdict]:
    """Judges the gain, and where α falls, that at equal training loss."""
    verdicts = []
    for schedule, each in tunings.items():
        where = f"{task.name}, {schedule}"
        adam, adamw = each["Adam"], each["AdamW"]
        gain = difference(adam.worth, adamw.worth, level(looks))
        verdicts.append(_gain(gain, schedule, where, task, len(looks)))
        if schedule != "fixed":
            verdicts.append(_matched_gain(adam.along, adamw.along, where, task, looks))
    return verdicts


def draw(tunings: Tunings, task: Task) -> dict[str, Drawing]:
    """Describes test error over training loss under each schedule."""
    # shown are as many settings as `matched` compares
    return {
        f"generalization {task.name}, {schedule}": Scatter(
            {name: each.along for name, each in tuned.items()}, 2 * task.tolerance, task.metric
        )
        for schedule, tuned in tunings.items()
    }


def _gain(gain: Estimate, schedule: str, where: str, task: Task, looks: int) -> Verdict:
    statement = f"Tuned AdamW has a lower {task.metric.name} than tuned Adam + L2"
    sense = ">"
    if schedule == "fixed":
        statement = "Under a fixed learning rate tuned AdamW gains nothing over tuned Adam + L2"
        sense = "≈"
    return Verdict(statement, where, task.metric.gain, gain, sense, 0.0, task.matters, looks)


def _matched_gain(
    adam: xr.Dataset, adamw: xr.Dataset, where: str, task: Task, looks: tuple[int, ...]
) -> Verdict:
    statement = f"At the same training loss AdamW has a lower {task.metric.name} than Adam + L2"
    gain = matched(adam, adamw, task.tolerance, level(looks))
    measured = task.metric.gain
    return Verdict(statement, where, measured, gain, ">", 0.0, task.matters, len(looks))


def matched(first: xr.Dataset, second: xr.Dataset, tolerance: float, level: float) -> Estimate:
    """Compares test errors at equal training loss: the first's less the second's.

    It is the coefficient g in ``error = g·[first] + b0 + b1·log loss + b2·(log loss)²``, fitted by
    least squares to the settings within ``2·tolerance`` points of each one's best whose losses both
    reach. Which settings those are, all seeds together decide, on validation data.

    Source: analysis of covariance, Fisher 1932.
    """
    # chosen once: a setting that comes and goes with a seed would make the jackknife jump
    near = [_near(runs, 2 * tolerance) for runs in (first, second)]
    seeds = first.sizes["seed"]
    if any(loss.size == 0 for loss, _ in near):
        return Estimate(np.nan, np.nan, np.nan, np.nan, seeds)
    low = max(loss.mean(axis=1).min() for loss, _ in near)
    high = min(loss.mean(axis=1).max() for loss, _ in near)
    shared = [(low <= loss.mean(axis=1)) & (loss.mean(axis=1) <= high) for loss, _ in near]
    counts = [int(kept.sum()) for kept in shared]
    # a parabola and a step between two groups want some settings of each
    if min(counts) < 2 or sum(counts) < 5:
        return Estimate(np.nan, np.nan, np.nan, np.nan, seeds)
    loss, error = (
        np.concatenate([each[i][kept] for each, kept in zip(near, shared, strict=True)])
        for i in (0, 1)
    )
    of_first = np.repeat([1.0, 0.0], counts)

    def gain(drawn: NDArray[np.intp]) -> float:
        x = np.log(loss[:, drawn].mean(axis=1))
        design = np.stack([of_first, np.ones_like(x), x, x**2], axis=1)
        return float(np.linalg.lstsq(design, error[:, drawn].mean(axis=1))[0][0])

    return over_seeds(gain, seeds, level=level)


def _near(runs: xr.Dataset, tolerance: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns training loss and test error near the best, both ``[settings, seeds]``."""
    validation = runs["validation_error"].mean("seed", skipna=False)
    kept = (validation <= validation.min() + tolerance).values
    loss, error = (
        runs[name].transpose("trial", "seed").values[kept].astype(float)
        for name in ("train_loss", "test_error")
    )
    return loss, error
