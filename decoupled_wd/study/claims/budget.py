"""Claims (iv), (ix), (x): how the best λ follows the steps, the batch size and the width."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd.study.claims.drawings import Drawing, Lines
from decoupled_wd.study.claims.laws import LAWS, VARY
from decoupled_wd.study.claims.optimizers import contender
from decoupled_wd.study.claims.tuning import grown
from decoupled_wd.study.claims.verdicts import Finding, Verdict, level
from decoupled_wd.study.statistics import (
    HIGH,
    leeway,
    line_slope,
    over_seeds,
    propagated,
    slope_weights,
    valleys,
    widened,
)
from decoupled_wd.study.tasks.data import Dataset, mnist1d
from decoupled_wd.study.tasks.task import Run, Task, Training

EXPONENT = 0.125
"""The smallest difference between exponents that matters: a quarter of the paper's ½."""


def half_octaves(low: int, high: int) -> tuple[float, ...]:
    """Returns the λ from 2^low to 2^high in half octaves.

    Examples:
      >>> half_octaves(-2, 0)[::2]
      (0.25, 0.5, 1.0)
    """
    return tuple((2.0 ** np.arange(low, high + 0.5, 0.5)).tolist())


@functools.cache
def more_points() -> Dataset:
    """Makes MNIST-1D with twice the training points.

    With few of them the best λ hardly moves.
    """
    return mnist1d(train_size=4000)


class Row(NamedTuple):
    """Holds test errors of one optimiser at one α.

    Their dimensions are that of the `LAWS`, λ and seed.
    """

    varied: str
    """What was varied, a key of `VARY`."""
    tasks: Mapping[int, Task]
    """The task at each value of it."""
    name: str
    learning_rate: float
    error: xr.DataArray
    power: float = 0.0
    """The learning rate follows what is varied with this power."""

    @property
    def where(self) -> str:
        """Says where the verdicts of this row stand."""
        first, task = next(iter(self.tasks.items()))
        scaled = f"·({self.varied} / {first})^{self.power:g}" if self.power else ""
        rate = f"{self.learning_rate:g}{scaled}".replace("-", "−")
        return f"{task.name}, {self.varied}, {self.name}, α = {rate}"


@dataclass(frozen=True)
class Budget:
    """Measures how the best λ depends on the number of steps, the batch size or the width.

    It is the exponent d log λ* / d log steps in test error, of λ as it is and normalised; along the
    other axes it is judged between what two laws say. λ is in the paper's unit, so that it is the
    fraction removed at the peak.

    Source: arXiv 1711.05101, appendix B.1, for λ ∝ √(batch size); Wang & Aitchison, arXiv
    2405.13698, for λ ∝ batch size; arXiv 2510.19093 for a λ that stays over widths, and 2510.15262
    for one that falls as width^−½, both with α ∝ 1/width.
    """

    budgets: Mapping[str, Sequence[int]]
    """What is varied, a key of `VARY`, to its values."""
    learning_rates: Mapping[str, Sequence[float]]
    """SGDW, AdamW or both to their α, each of which has verdicts of its own."""
    looks: tuple[int, ...]
    decays: Sequence[float] = half_octaves(-11, -4)
    """The λ, the same at every value: some octaves on both sides of the best of each."""
    dataset: Callable[[], Dataset] | None = None
    """Makes a data set in place of the task's: with few points the best λ hardly moves."""
    along: str = "steps"
    """The axis of the exponent, a key of `LAWS`."""
    power: float = 0.0
    """The learning rate follows what is varied with this power, from the first value on."""

    def measure(self, run: Run, task: Task, look: int) -> Finding:
        """Trains at every budget, judges the exponents, and describes error over λ."""
        rows = self.train(run, task, look)
        verdicts = [
            verdict
            for row in rows
            for verdict in judge(row.error, row.where, task.tolerance, self.looks, self.along)
        ]
        drawings = {f"budget {row.where}": draw(row, self.along) for row in rows}
        return Finding(verdicts, drawings)

    def train(self, run: Run, task: Task, look: int) -> list[Row]:
        """Trains one row for each thing that is varied, optimiser and α."""
        if self.dataset is not None:
            task = task._replace(dataset=self.dataset())
        rows, followed = [], f", α to the power {self.power:g}" if self.power else ""
        for varied, values in self.budgets.items():
            tasks = {value: VARY[varied](task, value) for value in values}
            at = [LAWS[self.along].at(one, value) for value, one in tasks.items()]
            for name, rates in self.learning_rates.items():
                for rate in rates:
                    errors = xr.concat(
                        [
                            self._error(
                                run,
                                one,
                                name,
                                rate * (value / values[0]) ** self.power,
                                # its folder has what neither the task nor the optimiser tells
                                (f"{varied} {value}{followed}", _points(task), f"α {rate:g}"),
                                look,
                            )
                            for value, one in tasks.items()
                        ],
                        xr.DataArray(at, dims=self.along),
                    )
                    rows.append(Row(varied, tasks, name, rate, errors, self.power))
        return rows

    def _error(
        self, run: Run, task: Task, name: str, rate: float, folder: tuple[str, ...], look: int
    ) -> xr.DataArray:
        """Returns test errors over λ and seed."""
        found = grown(
            run,
            # all of the range with every seed: a pilot that narrowed it would have luck of its own
            lambda seeds: Training(
                task,
                contender(name, "cosine", task.steps),
                {"learning_rate": [rate], "weight_decay": np.asarray(self.decays)},
                seeds=seeds,
                experiment=("budget", *folder),
            ),
            self.looks,
            look,
        )
        return found.isel(epoch=-1, learning_rate=0, drop=True)["test_error"]


def judge(
    error: xr.DataArray,
    where: str,
    tolerance: float,
    looks: tuple[int, ...],
    along: str = "steps",
) -> list[Verdict]:
    """Judges the exponent from test errors over an axis of `LAWS`, λ and seed."""
    runs = error.transpose(along, "weight_decay", "seed").values.astype(float)
    at, decays = np.log(error[along].values), np.log(error["weight_decay"].values)

    def exponent(drawn: NDArray[np.intp]) -> float:
        mean = runs[..., drawn].mean(axis=2)
        return line_slope(at, valleys(mean, decays, tolerance=tolerance))

    sure = level(looks)
    seeds = over_seeds(exponent, error.sizes["seed"], level=sure)
    unknown = leeway(runs, decays, tolerance=tolerance, level=sure)
    found = widened(seeds, propagated(slope_weights(at), unknown))
    return [
        Verdict(
            statement, where, f"d log λ* / d log {along}", found, sense, bound, EXPONENT, len(looks)
        )
        for statement, sense, bound in LAWS[along].statements
    ]


def draw(row: Row, along: str = "steps") -> Drawing:
    """Describes error over λ, and over λ in another law's unit, a line a budget.

    What is too far above the valley to count is left out.
    """
    raw, scaled, law = {}, {}, LAWS[along]
    for number, (value, task) in enumerate(row.tasks.items()):
        error = row.error.isel({along: number}, drop=True)
        mean = error.mean("seed", skipna=False)
        error = error.isel(weight_decay=~(mean > mean.min() + HIGH * task.tolerance))
        error = error.rename({"weight_decay": "λ"})
        # the factor between the two axes
        one = law.unit(task, value)
        raw[f"{row.varied} = {value}"] = error
        scaled[f"{row.varied} = {value}"] = error.assign_coords({"λ": error["λ"] / one})
    return Lines(
        {"λ": raw, law.other: scaled},
        x="λ",
        xlabel="weight decay",
        ylabel=task.metric.label,
        log="x",
    )


def _points(task: Task) -> str:
    return f"{len(task.dataset.y_train)} points"
