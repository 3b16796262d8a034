"""Claim (vii): super-convergence, AdamW under one cycle in fewer epochs than cosine or than Adam + L2."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import optax
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd import add_decayed_weights, decouple, scale_by_adam
from decoupled_wd.study.claims.optimizers import axes, maker
from decoupled_wd.study.claims.tuning import Make, errors, tuned
from decoupled_wd.study.claims.verdicts import Finding, Verdict
from decoupled_wd.study.figures.curves import lines
from decoupled_wd.study.statistics import Estimate, over_seeds
from decoupled_wd.study.tasks.task import Run, Task

Budgets = Mapping[int, NDArray[np.float64]]
"""Epochs to the `errors` of a grid."""
TOP, END = 0.4625, 0.925
"""Shares of the steps at which the cycle turns and ends; fast.ai's 92.5 % in two equal halves."""


def one_cycle(rate: Any, steps: int) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """The learning rate, α/10 → α → α/10 → α/1000, and Adam's direction with β1 0.95 → 0.85 → 0.95, β2 = 0.99.

    Source: fast.ai, AdamW and Super-convergence is now the fastest way to train neural nets, 2018.
    """
    schedule = optax.linear_onecycle_schedule(steps, rate, TOP, END, 10, 100)
    turns = {int(TOP * steps): 0.85 / 0.95, int(END * steps): 0.95 / 0.85}
    b1 = optax.piecewise_interpolate_schedule("linear", 0.95, turns)
    return schedule, optax.inject_hyperparams(scale_by_adam)(b1=b1, b2=0.99)


def adamw_one_cycle(steps: int) -> Make:
    """``make(learning_rate, weight_decay)`` of AdamW under one cycle."""

    def make(learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
        schedule, direction = one_cycle(learning_rate, steps)
        return decouple(
            optax.chain(direction, optax.scale_by_learning_rate(schedule)),
            weight_decay,
            learning_rate=schedule,
            peak_learning_rate=learning_rate,
        )

    return make


def adam_one_cycle(steps: int) -> Make:
    """``make(learning_rate, weight_decay)`` of Adam with L2 under one cycle."""

    def make(learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
        schedule, direction = one_cycle(learning_rate, steps)
        lr = optax.scale_by_learning_rate(schedule)
        return optax.chain(add_decayed_weights(weight_decay), direction, lr)

    return make


COSINE, CYCLE, COUPLED = "AdamW, cosine", "AdamW, one cycle", "Adam + L2, one cycle"
CONTENDERS: Mapping[str, tuple[str, Callable[[int], Make]]] = MappingProxyType(
    {
        COSINE: ("AdamW", lambda steps: maker("AdamW", "cosine", steps)),
        CYCLE: ("AdamW", adamw_one_cycle),
        COUPLED: ("Adam", adam_one_cycle),
    }
)
"""Each with the grid of the optimiser of this name."""


def measure(
    run: Run,
    task: Task,
    *,
    grid: int,
    seeds: int,
    shares: Sequence[float] = (1 / 8, 1 / 4, 1 / 2, 1),
) -> Finding:
    """How much earlier AdamW under one cycle reaches the error that the others reach at the end.

    The budgets are `shares` of the task's epochs. Each has its own schedules, and its α and λ are chosen on
    validation from equal grids.

    Source: Smith & Topin, arXiv 1708.07120; fast.ai 2018.
    """
    epochs = sorted({max(1, round(share * task.epochs)) for share in shares})
    runs = {
        name: {budget: _grid(run, task, name, budget, grid, seeds) for budget in epochs}
        for name in CONTENDERS
    }
    verdicts = [
        Verdict(
            f"AdamW under one cycle reaches the error of {slow} in fewer epochs",
            task.name,
            f"epochs of {slow} over epochs of AdamW, one cycle",
            _speedup_over_seeds(runs[slow], runs[CYCLE], seeds),
            ">",
            1.0,
        )
        for slow in (COSINE, COUPLED)
    ]
    shown = {name: _curve(budgets) for name, budgets in runs.items()}
    figure = lines(
        {task.name: shown},
        x="epochs",
        xlabel="epochs, each with its own schedule",
        ylabel="tuned test error (%)",
        log="x",
    )
    return Finding(verdicts, {f"super-convergence {task.name}": figure})


def speedup(slow: Budgets, fast: Budgets, drawn: NDArray[np.intp]) -> float:
    """Epochs that `slow` needs for the tuned test error of its largest budget, over those `fast` needs for it.

    0 where `fast` never reaches it.
    """
    epochs = np.array(sorted(slow))
    ours, theirs = (np.array([tuned(runs[n], drawn) for n in epochs]) for runs in (fast, slow))
    return needed(epochs, theirs, theirs[-1]) / needed(epochs, ours, theirs[-1])


def needed(epochs: NDArray[Any], error: NDArray[np.float64], target: float) -> float:
    """The first number of epochs with `target` or less, interpolated in its logarithm; ∞ if there is none.

    Examples:
      >>> round(needed(np.array([10, 40]), np.array([4.0, 2.0]), 3.0), 6)
      20.0
    """
    if np.isnan(target):
        return np.nan
    reached = np.flatnonzero(error <= target)
    if not reached.size:
        return np.inf
    first = int(reached[0])
    before = slice(max(first - 1, 0), first + 1)
    log = np.interp(-target, -error[before], np.log(epochs[before]))
    return float(np.exp(log))


def _speedup_over_seeds(
    slow: Mapping[int, xr.Dataset], fast: Mapping[int, xr.Dataset], seeds: int
) -> Estimate:
    theirs, ours = ({n: errors(grid) for n, grid in runs.items()} for runs in (slow, fast))
    return over_seeds(lambda drawn: speedup(theirs, ours, drawn), seeds)


def _grid(run: Run, task: Task, name: str, epochs: int, grid: int, seeds: int) -> xr.Dataset:
    optimizer, make = CONTENDERS[name]
    shorter = task._replace(epochs=epochs)
    group = f"super-convergence, {name}, {epochs} epochs"
    found = run(group, shorter, make(shorter.steps), axes(optimizer, grid), seeds=seeds)
    return found.isel(epoch=-1)


def _curve(budgets: Mapping[int, xr.Dataset]) -> xr.DataArray:
    """Test error of each seed where the mean validation error is lowest, over the budgets."""
    best = []
    for runs in budgets.values():
        validation = runs["validation_error"].mean("seed", skipna=False)
        best.append(runs["test_error"].isel(validation.argmin(...)).drop_vars(set(runs.coords)))
    return xr.concat(best, "epochs").assign_coords(epochs=list(budgets))
