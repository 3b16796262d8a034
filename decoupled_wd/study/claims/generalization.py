"""Claim (iii): tuned AdamW generalises better than tuned Adam + L2, also at equal training loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd.study.claims.drawings import Drawing, Scatter
from decoupled_wd.study.claims.tuning import at_the_end, difference, finalists, grid_of
from decoupled_wd.study.claims.verdicts import MARGIN, Finding, Verdict
from decoupled_wd.study.statistics import Estimate, over_seeds
from decoupled_wd.study.tasks.task import Run, Task

BINS = 8
GAIN = "gain in test error, points"


class Tuned(NamedTuple):
    """Holds a contender's grid, and its best three cells trained again."""

    grid: xr.Dataset
    best: xr.Dataset


Tunings: TypeAlias = Mapping[str, Mapping[str, Tuned]]
"""By schedule, and by contender: Adam and AdamW."""


@dataclass(frozen=True)
class Generalization:
    """Measures by how much tuned AdamW beats tuned Adam + L2.

    It is the test error of the one less that of the other, each where its validation error is
    lowest.

    Both have the same grid and the same `seeds`; the best three cells of each are trained again
    with `fresh_seeds` others, which decide. Under a fixed learning rate the paper saw no gain, so
    there the gain is expected to be about 0.

    Source: arXiv 1711.05101, Figures 1, 3 and 4.
    """

    grid: int
    """How many values of α and how many of λ; the grid is that of claim (ii) if the sizes are."""
    seeds: int
    fresh_seeds: int
    schedules: tuple[str, ...] = ("cosine",)

    def measure(self, run: Run, task: Task) -> Finding:
        """Trains both optimisers, judges the gain, and describes error over training loss."""
        tunings = self.train(run, task)
        return Finding(judge(tunings, task), draw(tunings, task))

    def train(self, run: Run, task: Task) -> Tunings:
        """Trains both grids under each schedule, then the best of each again."""
        return {
            schedule: {name: self._tuned(run, task, name, schedule) for name in ("Adam", "AdamW")}
            for schedule in self.schedules
        }

    def _tuned(self, run: Run, task: Task, name: str, schedule: str) -> Tuned:
        training = grid_of(task, name, schedule, grid=self.grid, seeds=self.seeds)
        found = at_the_end(run, training)
        return Tuned(found, finalists(run, training, found, fresh_seeds=self.fresh_seeds))


def judge(tunings: Tunings, task: Task) -> list[Verdict]:
    """Judges the gain, and where α falls, that at equal training loss."""
    verdicts = []
    for schedule, tuned in tunings.items():
        where = f"{task.name}, {schedule}"
        gain = difference(tuned["Adam"].best, tuned["AdamW"].best)
        verdicts.append(_null(gain, where) if schedule == "fixed" else _gain(gain, where))
        if schedule != "fixed":
            grids = tuned["Adam"].grid, tuned["AdamW"].grid
            verdicts.append(_matched_gain(*grids, where, task.tolerance))
    return verdicts


def draw(tunings: Tunings, task: Task) -> dict[str, Drawing]:
    """Describes test error over training loss under each schedule."""
    return {
        f"generalization {task.name}, {schedule}": Scatter(
            {name: each.grid for name, each in tuned.items()}, tolerance=2 * task.tolerance
        )
        for schedule, tuned in tunings.items()
    }


def _gain(gain: Estimate, where: str) -> Verdict:
    statement = "Tuned AdamW has a lower test error than tuned Adam + L2"
    return Verdict(statement, where, GAIN, gain, ">", 0.0)


def _null(gain: Estimate, where: str) -> Verdict:
    statement = "Under a fixed learning rate tuned AdamW gains nothing over tuned Adam + L2"
    return Verdict(statement, where, GAIN, gain, "≈", 0.0, MARGIN)


def _matched_gain(adam: xr.Dataset, adamw: xr.Dataset, where: str, tolerance: float) -> Verdict:
    statement = "At the same training loss AdamW has a lower test error than Adam + L2"
    gain = over_seeds(lambda drawn: matched(adam, adamw, drawn, tolerance), adam.sizes["seed"])
    return Verdict(statement, where, GAIN, gain, ">", 0.0)


def matched(
    first: xr.Dataset, second: xr.Dataset, drawn: NDArray[np.intp], tolerance: float
) -> float:
    """Compares tuned test errors at equal training loss.

    It returns the first's less the second's.

    It is a mean over bins of the logarithm of the training loss. The bins divide the losses that
    both reach in cells within ``2·tolerance`` points of their best.
    """
    near = [_near(_means(runs, drawn), 2 * tolerance) for runs in (first, second)]
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


def _near(mean: xr.Dataset, tolerance: float) -> tuple[NDArray[np.float64], ...]:
    """Returns training loss, validation and test error of the cells near the best."""
    validation = mean["validation_error"]
    kept = (validation <= validation.min() + tolerance).values
    names = ("train_loss", "validation_error", "test_error")
    return tuple(mean[name].values[kept].astype(float) for name in names)


def _best_by_bin(
    near: tuple[NDArray[np.float64], ...], edges: NDArray[np.float64], span: tuple[float, float]
) -> NDArray[np.float64]:
    loss, validation, test = near
    # bin −1 is outside the span: np.digitize would put what is beyond the ends into the outer bins
    bins = np.where((loss < span[0]) | (loss > span[1]), -1, np.digitize(loss, edges))
    cells = [np.flatnonzero(bins == number) for number in range(BINS)]
    return np.array([test[c[validation[c].argmin()]] if c.size else np.nan for c in cells])
