"""Claim (iv): the best λ falls with the number of steps, the normalised one does not."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from decoupled_wd import normalized
from decoupled_wd.study.claims.optimizers import maker
from decoupled_wd.study.claims.verdicts import Finding, Verdict
from decoupled_wd.study.figures.curves import lines
from decoupled_wd.study.statistics import over_seeds, ridge
from decoupled_wd.study.tasks.data import Dataset
from decoupled_wd.study.tasks.task import Run, Task

RATE, DECAY = "learning_rate", "weight_decay"
DECAYS = tuple(2.0 ** np.arange(-11, -3))


def _first(task: Task, size: int) -> Task:
    """The task with only the first training points."""
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


def measure(
    run: Run,
    task: Task,
    *,
    budgets: Mapping[str, Sequence[int]],
    learning_rates: Mapping[str, Sequence[float]],
    decays: Sequence[float] = DECAYS,
    seeds: int,
    dataset: Callable[[], Dataset] | None = None,
) -> Finding:
    """The exponent d log λ* / d log steps, of λ as it is and normalised, in test error.

    Args:
      run: trains and keeps.
      task: the network, and the epochs and batch size where they are not varied.
      budgets: what is varied, a key of `VARY`, to its values.
      learning_rates: SGDW, AdamW or both to their α, each of which has verdicts of its own.
      decays: the λ, some octaves on both sides of the best.
      seeds: runs of each.
      dataset: made in place of the task's, since with few training points the best λ hardly moves.

    Source: arXiv 1711.05101, appendix B.1.
    """
    if dataset is not None:
        task = task._replace(dataset=dataset())
    verdicts, figures = [], {}
    for varied, values in budgets.items():
        tasks = [VARY[varied](task, value) for value in values]
        for name, rates in learning_rates.items():
            grid = {RATE: np.asarray(rates), DECAY: np.asarray(decays)}
            rows = [
                run(
                    f"budget, {varied} {value}, {len(task.dataset.y_train)} points, {name}",
                    one,
                    maker(name, "cosine", one.steps),
                    grid,
                    seeds=seeds,
                )["test_error"].isel(epoch=-1, drop=True)
                for one, value in zip(tasks, values, strict=True)
            ]
            errors = xr.concat(rows, xr.DataArray([one.steps for one in tasks], dims="steps"))
            for rate in rates:
                error = errors.sel({RATE: rate}, drop=True)
                where = f"{task.name}, {varied}, {name}, α = {rate:g}"
                verdicts += judge(error, where)
                figures[f"budget {where}"] = _figure(error, tasks, varied, values)
    return Finding(verdicts, figures)


def judge(error: xr.DataArray, where: str) -> list[Verdict]:
    """Both exponents from test errors over steps, weight_decay and seed."""

    def exponent(drawn: NDArray[np.intp]) -> float:
        runs = error.transpose("steps", DECAY, "seed").values[..., drawn]
        steps, decays = error["steps"].values, error[DECAY].values
        return ridge(runs, steps, decays, within=np.inf).slope

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


def _figure(
    error: xr.DataArray, tasks: Sequence[Task], varied: str, values: Sequence[int]
) -> Figure:
    """Error over λ and over normalised λ, one line for each budget."""
    raw, scaled = {}, {}
    for task, value in zip(tasks, values, strict=True):
        row = error.sel(steps=task.steps, drop=True).rename({DECAY: "λ"})
        one = normalized(
            1.0,
            batch_size=task.batch_size,
            dataset_size=len(task.dataset.y_train),
            epochs=task.epochs,
        )
        raw[f"{value} {varied}"] = row
        scaled[f"{value} {varied}"] = row.assign_coords({"λ": row["λ"] / one})
    return lines(
        {"λ": raw, "normalised λ": scaled},
        x="λ",
        xlabel="weight decay",
        ylabel="test error (%)",
        log="x",
    )
