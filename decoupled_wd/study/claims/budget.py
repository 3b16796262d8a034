"""Claim (iv): the best λ falls with the number of steps, the normalised one does not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd import normalized
from decoupled_wd.study.claims.drawings import Drawing, Lines
from decoupled_wd.study.claims.optimizers import contender
from decoupled_wd.study.claims.tuning import at_the_end
from decoupled_wd.study.claims.verdicts import Finding, Verdict
from decoupled_wd.study.statistics import over_seeds, ridge
from decoupled_wd.study.tasks.data import Dataset
from decoupled_wd.study.tasks.task import Run, Task, Training

DECAYS = tuple((2.0 ** np.arange(-11, -3)).tolist())


def _first(task: Task, size: int) -> Task:
    """Returns the task with only the first training points."""
    data = task.dataset
    data = data._replace(x_train=data.x_train[:size], y_train=data.y_train[:size])
    return task._replace(dataset=data)


VARY: Mapping[str, Callable[[Task, int], Task]] = MappingProxyType(
    {
        "epochs": lambda task, epochs: task._replace(epochs=epochs),
        "training points": _first,
        "batch size": lambda task, size: task._replace(batch_size=size),
    }
)
"""The three numbers that make up the steps T·B/b, and how a task gets another one."""


class Row(NamedTuple):
    """Holds test errors of one optimiser at one α.

    Their dimensions are steps, weight_decay and seed.
    """

    varied: str
    """What was varied to vary the steps, a key of `VARY`."""
    tasks: Mapping[int, Task]
    """The task at each value of it."""
    name: str
    learning_rate: float
    error: xr.DataArray

    @property
    def where(self) -> str:
        """Says where the verdicts of this row stand."""
        task = next(iter(self.tasks.values()))
        return f"{task.name}, {self.varied}, {self.name}, α = {self.learning_rate:g}"


@dataclass(frozen=True)
class Budget:
    """Measures how the best λ depends on the number of steps.

    It is the exponent d log λ* / d log steps in test error, of λ as it is and normalised.

    Source: arXiv 1711.05101, appendix B.1.
    """

    budgets: Mapping[str, Sequence[int]]
    """What is varied, a key of `VARY`, to its values."""
    learning_rates: Mapping[str, Sequence[float]]
    """SGDW, AdamW or both to their α, each of which has verdicts of its own."""
    seeds: int
    decays: Sequence[float] = DECAYS
    """The λ, some octaves on both sides of the best."""
    dataset: Callable[[], Dataset] | None = None
    """Made in place of the task's, since with few training points the best λ hardly moves."""

    def measure(self, run: Run, task: Task) -> Finding:
        """Trains at every budget, judges the exponents, and describes error over λ."""
        rows = self.train(run, task)
        verdicts = [verdict for row in rows for verdict in judge(row.error, row.where)]
        return Finding(verdicts, {f"budget {row.where}": draw(row) for row in rows})

    def train(self, run: Run, task: Task) -> list[Row]:
        """Trains one row for each thing that is varied, optimiser and α."""
        if self.dataset is not None:
            task = task._replace(dataset=self.dataset())
        rows = []
        for varied, values in self.budgets.items():
            tasks = {value: VARY[varied](task, value) for value in values}
            for name, rates in self.learning_rates.items():
                errors = xr.concat(
                    [
                        self._error(run, one, name, (f"{varied} {value}", _points(task)))
                        for value, one in tasks.items()
                    ],
                    xr.DataArray([one.steps for one in tasks.values()], dims="steps"),
                )
                rows += [
                    Row(varied, tasks, name, rate, errors.sel(learning_rate=rate, drop=True))
                    for rate in rates
                ]
        return rows

    def _error(self, run: Run, task: Task, name: str, varied: tuple[str, ...]) -> xr.DataArray:
        space = {
            "learning_rate": np.asarray(self.learning_rates[name]),
            "weight_decay": np.asarray(self.decays),
        }
        training = Training(
            task,
            contender(name, "cosine", task.steps),
            space,
            seeds=self.seeds,
            experiment=("budget", *varied),
        )
        return at_the_end(run, training)["test_error"].drop_vars("epoch")


def judge(error: xr.DataArray, where: str) -> list[Verdict]:
    """Judges both exponents from test errors over steps, weight_decay and seed."""

    def exponent(drawn: NDArray[np.intp]) -> float:
        runs = error.transpose("steps", "weight_decay", "seed").values[..., drawn]
        steps, decays = error["steps"].values, error["weight_decay"].values
        # longer runs are better by more than any tolerance, and every row counts
        return ridge(runs, steps, decays, tolerance=np.inf).slope

    def nearer(drawn: NDArray[np.intp]) -> float:
        # λ_norm = λ·√steps: its exponent is larger by exactly a half
        raw = exponent(drawn)
        return abs(raw + 0.5) - abs(raw)

    seeds = error.sizes["seed"]
    return [
        Verdict(
            "The best λ falls as the number of steps rises",
            where,
            "d log λ* / d log steps",
            over_seeds(exponent, seeds),
            "<",
            0.0,
        ),
        Verdict(
            "The best normalised λ moves less with the number of steps than the best λ",
            where,
            "|exponent of λ_norm| − |exponent of λ|",
            over_seeds(nearer, seeds),
            "<",
            0.0,
        ),
    ]


def draw(row: Row) -> Drawing:
    """Describes error over λ and over normalised λ, one line for each budget."""
    raw, scaled = {}, {}
    for value, task in row.tasks.items():
        error = row.error.sel(steps=task.steps, drop=True).rename({"weight_decay": "λ"})
        # λ of a unit of normalised λ: the factor between the two axes
        one = normalized(
            1.0,
            batch_size=task.batch_size,
            dataset_size=len(task.dataset.y_train),
            epochs=task.epochs,
        )
        raw[f"{value} {row.varied}"] = error
        scaled[f"{value} {row.varied}"] = error.assign_coords({"λ": error["λ"] / one})
    return Lines(
        {"λ": raw, "normalised λ": scaled},
        x="λ",
        xlabel="weight decay",
        ylabel="test error (%)",
        log="x",
    )


def _points(task: Task) -> str:
    return f"{len(task.dataset.y_train)} points"
