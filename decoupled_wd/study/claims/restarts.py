"""Claim (v): warm restarts are good at any time and lose nothing in the end."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import optax
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from decoupled_wd import adamwr, sgdwr
from decoupled_wd.study.claims.tuning import errors
from decoupled_wd.study.claims.verdicts import MARGIN, Finding, Verdict
from decoupled_wd.study.figures.curves import lines
from decoupled_wd.study.statistics import Estimate, over_seeds
from decoupled_wd.study.tasks.task import Run, Task

OPTIMIZERS: Mapping[str, Callable[..., optax.GradientTransformation]] = MappingProxyType(
    {"SGDW": sgdwr, "AdamW": adamwr}
)


def restarts(first_cycle: int, epochs: int) -> list[int]:
    """Epochs at which cycles of double length end, the last at the end of the run.

    Raises:
      ValueError: no number of cycles fits.

    Examples:
      >>> restarts(10, 150)
      [10, 30, 70, 150]
    """
    ends = [first_cycle]
    while ends[-1] < epochs:
        ends.append(2 * ends[-1] + first_cycle)
    if ends[-1] != epochs:
        raise ValueError(
            f"epochs must be the end of a cycle, got {epochs}; with a first cycle of {first_cycle} for "
            f"example {ends[-1]}"
        )
    return ends


def measure(
    run: Run,
    task: Task,
    *,
    learning_rates: Mapping[str, Sequence[float]],
    normalized_decays: Sequence[float],
    seeds: int,
    epochs: int = 150,
    first_cycle: int = 10,
    evaluate_every: int = 5,
) -> Finding:
    """Cycles of 10, 20, 40 and 80 epochs against one cosine over all of them, with the same normalised rule.

    Both have the same grid of α and normalised λ, and each counts where its validation error is lowest at
    the end of the run.

    Args:
      run: trains and keeps.
      task: its epochs do not count.
      learning_rates: SGDW, AdamW or both to the α of the grid.
      normalized_decays: λ_norm of the grid.
      seeds: runs of each.
      epochs: of the whole run, the end of a cycle.
      first_cycle: epochs, 7 to 10 % of the run; with very few the advantage vanishes.
      evaluate_every: epochs, a divisor of both.

    Source: arXiv 1711.05101, appendix B.2 and section 4.3.
    """
    task, ends = task._replace(epochs=epochs), restarts(first_cycle, epochs)
    verdicts, figures = [], {}
    for name, rates in learning_rates.items():
        axes = {
            "learning_rate": np.asarray(rates),
            "normalized_weight_decay": np.asarray(normalized_decays),
        }
        restarted, one_shot = (
            run(
                f"restarts, {name}, first cycle of {cycle}",
                task,
                maker(name, task, cycle),
                axes,
                seeds=seeds,
                evaluate_every=evaluate_every,
            )
            for cycle in (first_cycle, epochs)
        )
        where = f"{task.name}, {name}"
        verdicts += judge(restarted, one_shot, ends, where)
        figures[f"restarts {where}"] = _figure(restarted, one_shot, ends, name)
    return Finding(verdicts, figures)


def maker(name: str, task: Task, cycle: int) -> Callable[..., optax.GradientTransformation]:
    """``make(learning_rate, normalized_weight_decay)``; a cycle as long as the run is a single cosine."""

    def make(learning_rate: Any, normalized_weight_decay: Any) -> optax.GradientTransformation:
        return OPTIMIZERS[name](
            learning_rate,
            normalized_weight_decay,
            batch_size=task.batch_size,
            dataset_size=task.steps // task.epochs * task.batch_size,  # less the dropped last batch
            first_cycle_epochs=cycle,
        )

    return make


def judge(
    restarted: xr.Dataset, one_shot: xr.Dataset, ends: Sequence[int], where: str
) -> list[Verdict]:
    """Error at any time, speed-up at the end of each cycle but the last, and the gap at the end."""
    epochs, both = restarted["epoch"].values, (errors(restarted), errors(one_shot))

    def over(statistic: Callable[[NDArray[Any], NDArray[Any]], float]) -> Estimate:
        return over_seeds(
            lambda drawn: statistic(*(tuned(each, drawn).mean(axis=0) for each in both)),
            restarted.sizes["seed"],
        )

    def speed_up(end: int) -> Estimate:
        return over(lambda a, b: epochs_to(float(a[epochs == end][0]), b, epochs) / end)

    return [
        Verdict(
            "With restarts the error is lower, on average over the time at which one may stop",
            where,
            "difference in test error over log epochs, points",
            over(lambda a, b: anytime(a, epochs) - anytime(b, epochs)),
            "<",
            0.0,
        ),
        *(
            Verdict(
                f"Restarts reach sooner the error that they have after {end} epochs",
                where,
                f"epochs of one cosine (at most {epochs[-1]}) over {end}",
                speed_up(end),
                ">",
                1.0,
            )
            for end in ends[:-1]
        ),
        Verdict(
            "At the end both are equally good",
            where,
            "difference in test error, points",
            over(lambda a, b: float(a[-1] - b[-1])),
            "≈",
            0.0,
            MARGIN,
        ),
    ]


def tuned(errors: NDArray[np.float64], drawn: NDArray[np.intp] | slice) -> NDArray[np.float64]:
    """Test error, ``[seeds, epochs]``, of the cell whose mean validation error is lowest at the end."""
    validation, test = errors[:, :, drawn]
    last = validation[..., -1].mean(axis=1)
    return np.asarray(test[np.where(np.isnan(last), np.inf, last).argmin()])


def anytime(error: NDArray[np.float64], epochs: NDArray[Any]) -> float:
    """Mean over the logarithm of the epochs.

    Examples:
      >>> anytime(np.array([4.0, 2.0, 0.0]), np.array([1, 2, 4]))
      2.0
    """
    time = np.log(epochs)
    return float(np.trapezoid(error, time) / np.ptp(time))


def epochs_to(target: float, error: NDArray[np.float64], epochs: NDArray[Any]) -> float:
    """When the least error so far is that of the target, linearly between evaluations; at most all epochs.

    Examples:
      >>> epochs_to(3.0, np.array([4.0, 2.0, 0.0]), np.array([1, 2, 4]))
      1.5
    """
    if not np.isfinite([target, *error]).all():
        return np.nan
    return float(np.interp(-target, -np.minimum.accumulate(error), epochs))


def _figure(restarted: xr.Dataset, one_shot: xr.Dataset, ends: Sequence[int], name: str) -> Figure:
    shown = {
        label: xr.DataArray(
            tuned(errors(runs), slice(None)), {"epoch": runs["epoch"]}, ("seed", "epoch")
        )
        for label, runs in (("warm restarts", restarted), ("one cosine", one_shot))
    }
    return lines(
        {name: shown},
        x="epoch",
        xlabel="epochs",
        ylabel="test error (%)",
        log="x",
        marks={name: ends[:-1]},
    )
