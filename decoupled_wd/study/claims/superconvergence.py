"""Claim (vii): super-convergence, AdamW under one cycle in fewer epochs than the others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np
import optax
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd import add_decayed_weights, decouple, scale_by_adam
from decoupled_wd.study.claims.drawings import Drawing, Lines
from decoupled_wd.study.claims.optimizers import DECOUPLED, L2, Scalar, contender, octaves
from decoupled_wd.study.claims.tuning import at_the_end, errors, tuned_error
from decoupled_wd.study.claims.verdicts import Finding, Verdict
from decoupled_wd.study.statistics import Estimate, over_seeds
from decoupled_wd.study.tasks.task import MakeOptimizer, Run, Task, Training

ErrorsByEpochs: TypeAlias = Mapping[int, NDArray[np.float64]]
"""The `errors` of a grid for each number of epochs."""
RunsByEpochs: TypeAlias = Mapping[int, xr.Dataset]
TOP, END = 0.4625, 0.925
"""Shares of the steps at which the cycle turns and ends; fast.ai's 92.5 % in two equal halves."""


def one_cycle(rate: Scalar, steps: int) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """Returns the learning rate of one cycle, and Adam's direction.

    The learning rate goes α/10 → α → α/10 → α/1000, and β1 goes 0.95 → 0.85 → 0.95; β2 is 0.99.

    Source: fast.ai, AdamW and Super-convergence is now the fastest way to train neural nets, 2018.
    """
    schedule = optax.linear_onecycle_schedule(steps, rate, TOP, END, 10, 100)
    turns = {int(TOP * steps): 0.85 / 0.95, int(END * steps): 0.95 / 0.85}
    b1 = optax.piecewise_interpolate_schedule("linear", 0.95, turns)
    return schedule, optax.inject_hyperparams(scale_by_adam)(b1=b1, b2=0.99)


@dataclass(frozen=True)
class OneCycle:
    """Makes Adam under one cycle, with L2 or decoupled decay."""

    decay: str
    steps: int

    @property
    def label(self) -> tuple[str, ...]:
        """The schedule, the family and its decay."""
        return ("one cycle", "Adam", self.decay)

    def __call__(self, learning_rate: Scalar, weight_decay: Scalar) -> optax.GradientTransformation:
        """Returns the optimiser of one cell."""
        schedule, direction = one_cycle(learning_rate, self.steps)
        step = optax.chain(direction, optax.scale_by_learning_rate(schedule))
        if self.decay == L2:
            return optax.chain(add_decayed_weights(weight_decay), step)
        return decouple(
            step, weight_decay, learning_rate=schedule, peak_learning_rate=learning_rate
        )


class Way(NamedTuple):
    """Names a way to train, and the contender whose grid it has."""

    contender: str
    make_optimizer: Callable[[int], MakeOptimizer]


COSINE, CYCLE, COUPLED = "AdamW, cosine", "AdamW, one cycle", "Adam + L2, one cycle"
WAYS: Mapping[str, Way] = MappingProxyType(
    {
        COSINE: Way("AdamW", lambda steps: contender("AdamW", "cosine", steps)),
        CYCLE: Way("AdamW", lambda steps: OneCycle(DECOUPLED, steps)),
        COUPLED: Way("Adam", lambda steps: OneCycle(L2, steps)),
    }
)


@dataclass(frozen=True)
class Superconvergence:
    """Measures how much earlier one cycle reaches the final error.

    It compares AdamW under one cycle with AdamW under a cosine, and with Adam + L2 under one
    cycle.

    Each number of epochs has its own schedules, and its α and λ are chosen on validation from
    equal grids.

    Source: Smith & Topin, arXiv 1708.07120; fast.ai 2018.
    """

    grid: int
    """How many values of α and how many of λ."""
    seeds: int
    shares: tuple[float, ...] = (1 / 8, 1 / 4, 1 / 2, 1)
    """The numbers of epochs, as shares of the task's."""

    def measure(self, run: Run, task: Task) -> Finding:
        """Trains, judges the epochs saved, and describes tuned error over epochs."""
        runs = self.train(run, task)
        return Finding(judge(runs, task), {f"super-convergence {task.name}": draw(runs, task)})

    def train(self, run: Run, task: Task) -> dict[str, RunsByEpochs]:
        """Trains every way for every number of epochs."""
        epochs = sorted({max(1, round(share * task.epochs)) for share in self.shares})
        return {
            name: {n: at_the_end(run, self._training(task, way, n)) for n in epochs}
            for name, way in WAYS.items()
        }

    def _training(self, task: Task, way: Way, epochs: int) -> Training:
        shorter = task._replace(epochs=epochs)
        return Training(
            shorter,
            way.make_optimizer(shorter.steps),
            octaves(way.contender, self.grid),
            seeds=self.seeds,
            experiment=("super-convergence", f"{epochs} epochs"),
        )


def judge(runs: Mapping[str, RunsByEpochs], task: Task) -> list[Verdict]:
    """Judges how many epochs AdamW under one cycle saves."""
    return [
        Verdict(
            f"AdamW under one cycle reaches the error of {slow} in fewer epochs",
            task.name,
            f"epochs of {slow} over epochs of AdamW, one cycle",
            _speedup_over_seeds(runs[slow], runs[CYCLE]),
            ">",
            1.0,
        )
        for slow in (COSINE, COUPLED)
    ]


def draw(runs: Mapping[str, RunsByEpochs], task: Task) -> Drawing:
    """Describes the tuned test error over the number of epochs."""
    return Lines(
        {task.name: {name: _curve(budgets) for name, budgets in runs.items()}},
        x="epochs",
        xlabel="epochs, each with its own schedule",
        ylabel="tuned test error (%)",
        log="x",
    )


def speedup(slow: ErrorsByEpochs, fast: ErrorsByEpochs, drawn: NDArray[np.intp]) -> float:
    """Tells how many times fewer epochs `fast` needs than `slow`.

    Both must reach the tuned test error with which `slow` ends.

    The last error is that of the most epochs. The result is 0 where `fast` never reaches it.
    """
    epochs = np.array(sorted(slow))
    ours, theirs = (
        np.array([tuned_error(runs[n], drawn) for n in epochs]) for runs in (fast, slow)
    )
    return needed(epochs, theirs, theirs[-1]) / needed(epochs, ours, theirs[-1])


def needed(epochs: NDArray[np.int64], error: NDArray[np.float64], target: float) -> float:
    """Finds the first epoch that reaches `target`, or ∞.

    Between two numbers of epochs, their logarithm is interpolated.

    Examples:
      >>> round(needed(np.array([10, 40]), np.array([4.0, 2.0]), 3.0), 6)
      20.0
    """
    if np.isnan(target):
        return np.nan
    reached = np.flatnonzero(error <= target)
    if not reached.size:
        return np.inf
    # between the last budget above the target and the first at or below it
    first = int(reached[0])
    before = slice(max(first - 1, 0), first + 1)
    log = np.interp(-target, -error[before], np.log(epochs[before]))
    return float(np.exp(log))


def _speedup_over_seeds(slow: RunsByEpochs, fast: RunsByEpochs) -> Estimate:
    theirs, ours = ({n: errors(grid) for n, grid in runs.items()} for runs in (slow, fast))
    seeds = next(iter(slow.values())).sizes["seed"]
    return over_seeds(lambda drawn: speedup(theirs, ours, drawn), seeds)


def _curve(budgets: RunsByEpochs) -> xr.DataArray:
    """Returns the tuned test error of each seed over the epochs."""
    best = []
    for runs in budgets.values():
        validation = runs["validation_error"].mean("seed", skipna=False)
        best.append(runs["test_error"].isel(validation.argmin(...)).drop_vars(set(runs.coords)))
    return xr.concat(best, "epochs").assign_coords(epochs=list(budgets))
