"""Claim (iv): the best λ falls with the number of steps, the normalised one does not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd import normalized
from decoupled_wd.study.claims.drawings import Drawing, Lines
from decoupled_wd.study.claims.optimizers import contender
from decoupled_wd.study.claims.ridges import OFFSETS, around
from decoupled_wd.study.claims.tuning import at_the_end, grown
from decoupled_wd.study.claims.verdicts import Finding, Verdict, level
from decoupled_wd.study.statistics import line_slope, over_seeds, ridge, valleys
from decoupled_wd.study.tasks.data import Dataset
from decoupled_wd.study.tasks.task import Run, Task, Training

EXPONENT = 0.125
"""The smallest difference between exponents that matters: a quarter of the paper's ½."""
PILOTS = 4
"""Seeds of the pilot: in short runs one seed hardly tells where the best λ is."""
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

    Their dimensions are steps, place and seed; λ is a coordinate over steps and place.
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
    looks: tuple[int, ...]
    decays: Sequence[float] = DECAYS
    """The λ of the pilot, some octaves on both sides of the best."""
    dataset: Callable[[], Dataset] | None = None
    """Made in place of the task's, since with few training points the best λ hardly moves."""

    def measure(self, run: Run, task: Task, look: int) -> Finding:
        """Trains at every budget, judges the exponents, and describes error over λ."""
        rows = self.train(run, task, look)
        verdicts = [
            verdict
            for row in rows
            for verdict in judge(row.error, row.where, task.tolerance, self.looks)
        ]
        return Finding(verdicts, {f"budget {row.where}": draw(row) for row in rows})

    def train(self, run: Run, task: Task, look: int) -> list[Row]:
        """Trains one row for each thing that is varied, optimiser and α."""
        if self.dataset is not None:
            task = task._replace(dataset=self.dataset())
        rows = []
        for varied, values in self.budgets.items():
            tasks = {value: VARY[varied](task, value) for value in values}
            for name, rates in self.learning_rates.items():
                errors = xr.concat(
                    [
                        self._error(run, one, name, (f"{varied} {value}", _points(task)), look)
                        for value, one in tasks.items()
                    ],
                    xr.DataArray([one.steps for one in tasks.values()], dims="steps"),
                )
                rows += [
                    Row(varied, tasks, name, rate, errors.sel(learning_rate=rate, drop=True))
                    for rate in rates
                ]
        return rows

    def _error(
        self, run: Run, task: Task, name: str, varied: tuple[str, ...], look: int
    ) -> xr.DataArray:
        """Returns test errors over learning_rate, place and seed, where λ is a coordinate."""
        rates = np.asarray(self.learning_rates[name])
        pilot = Training(
            task,
            contender(name, "cosine", task.steps),
            {"learning_rate": rates, "weight_decay": np.asarray(self.decays)},
            seeds=range(PILOTS),
            experiment=("budget", *varied),
        )
        seen = at_the_end(run, pilot)["validation_error"]
        best = ridge(
            seen.transpose("learning_rate", "weight_decay", "seed").values,
            rates,
            self.decays,
            tolerance=np.inf,
            drop_edge=False,
        )
        points = around(best.learning_rate, best.weight_decay)
        found = grown(
            run,
            lambda seeds: replace(
                pilot, space=points, seeds=seeds, experiment=("ridge", *pilot.experiment)
            ),
            self.looks,
            look,
            first=PILOTS,
        )
        error = found.isel(epoch=-1, drop=True)["test_error"].transpose("trial", "seed")
        shape = len(rates), len(OFFSETS), error.sizes["seed"]
        decays = np.reshape(points["weight_decay"], shape[:2])
        return xr.DataArray(
            error.values.reshape(shape),
            {"learning_rate": rates, "weight_decay": (("learning_rate", "place"), decays)},
            ("learning_rate", "place", "seed"),
        )


def judge(
    error: xr.DataArray, where: str, tolerance: float, looks: tuple[int, ...]
) -> list[Verdict]:
    """Judges both exponents from test errors over steps, place and seed."""
    runs = error.transpose("steps", "place", "seed").values.astype(float)
    steps = np.log(error["steps"].values)
    decays = np.log(error["weight_decay"].transpose("steps", "place").values)

    def exponent(drawn: NDArray[np.intp]) -> float:
        mean = runs[..., drawn].mean(axis=2)
        return line_slope(steps, valleys(mean, decays, tolerance=tolerance))

    found = over_seeds(exponent, error.sizes["seed"], level=level(looks))
    return [
        Verdict(statement, where, "d log λ* / d log steps", found, "<", bound, EXPONENT, len(looks))
        for statement, bound in (
            ("The best λ falls as the number of steps rises", 0.0),
            # λ_norm = λ·√steps: its exponent is larger by a half, and nearer to 0 from −¼ on
            ("The best normalised λ moves less with the number of steps than the best λ", -0.25),
        )
    ]


def draw(row: Row) -> Drawing:
    """Describes error over λ and over normalised λ, one line for each budget."""
    raw, scaled = {}, {}
    for value, task in row.tasks.items():
        error = row.error.sel(steps=task.steps, drop=True)
        error = error.swap_dims(place="weight_decay").rename({"weight_decay": "λ"})
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
