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
from decoupled_wd.study.claims.best_of import Trials, by_search, of_searches
from decoupled_wd.study.claims.choice import box
from decoupled_wd.study.claims.drawings import Drawing, Lines
from decoupled_wd.study.claims.optimizers import DECOUPLED, L2, Scalar, contender
from decoupled_wd.study.claims.tuning import grown, search_of
from decoupled_wd.study.claims.verdicts import OCTAVE, Finding, Verdict, level
from decoupled_wd.study.statistics import Estimate, over_seeds
from decoupled_wd.study.tasks.task import MakeOptimizer, Run, Task, Training

TOP, END = 0.4625, 0.925
"""Shares of the steps at which the cycle turns and ends; fast.ai's 92.5 % in two equal halves."""


def one_cycle(rate: Scalar, steps: int) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """Returns the learning rate of one cycle, and Adam's direction.

    The learning rate goes α/10 → α → α/10 → α/1000, and β1 goes 0.95 → 0.85 → 0.95; β2 is 0.99.

    Source: fast.ai, AdamW and Super-convergence is now the fastest way to train neural nets, 2018.
    """
    # optax takes the last rate from the first one, not from the peak: α/10 by 100
    schedule = optax.linear_onecycle_schedule(steps, rate, TOP, END, 10, 100)
    # optax takes factors on the value that is reached, and not values
    turns = {int(TOP * steps): 0.85 / 0.95, int(END * steps): 0.95 / 0.85}
    b1 = optax.piecewise_interpolate_schedule("linear", 0.95, turns)
    # scale_by_adam takes a number, which is injected anew in each step
    return schedule, optax.inject_hyperparams(scale_by_adam)(b1=b1, b2=0.99)


@dataclass(frozen=True)
class OneCycle:
    """Makes Adam under one cycle, with L2 or decoupled decay."""

    decay: str
    steps: int

    @property
    def label(self) -> tuple[str, ...]:
        """Names the schedule, the family and its decay."""
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
    """Names a way to train, and the family and decay whose space is searched."""

    searched: tuple[str, str]
    make_optimizer: Callable[[int], MakeOptimizer]


COSINE, CYCLE, COUPLED = "AdamW, cosine", "AdamW, one cycle", "Adam + L2, one cycle"
WAYS: Mapping[str, Way] = MappingProxyType(
    {
        COSINE: Way(("Adam", DECOUPLED), lambda steps: contender("AdamW", "cosine", steps)),
        CYCLE: Way(("Adam", DECOUPLED), lambda steps: OneCycle(DECOUPLED, steps)),
        COUPLED: Way(("Adam", L2), lambda steps: OneCycle(L2, steps)),
    }
)


Curve: TypeAlias = Mapping[int, Trials]
"""The trials of all searches, by the number of epochs."""


@dataclass(frozen=True)
class Superconvergence:
    """Measures how much earlier one cycle reaches the final error.

    It compares AdamW under one cycle with AdamW under a cosine, and with Adam + L2 under one
    cycle.

    Each number of epochs has its own schedules, and searches of its own choose α and λ on
    validation data. What a search ends with is expected as in `best_of`.

    Source: Smith & Topin, arXiv 1708.07120; fast.ai 2018.
    """

    trials: int
    looks: tuple[int, ...]
    """How many searches of each there are at each look."""
    shares: tuple[float, ...] = (1 / 8, 1 / 4, 1 / 2, 1)
    """The numbers of epochs, as shares of the task's."""

    def measure(self, run: Run, task: Task, look: int) -> Finding:
        """Trains, judges the epochs saved, and describes tuned error over epochs."""
        curves = self.train(run, task, look)
        verdicts = judge(curves, task, self.looks)
        return Finding(verdicts, {f"super-convergence {task.name}": draw(curves, task)})

    def train(self, run: Run, task: Task, look: int) -> dict[str, Curve]:
        """Trains every way for every number of epochs."""
        # a set, as two shares of few epochs may be the same number
        epochs = sorted({max(1, round(share * task.epochs)) for share in self.shares})
        return {
            name: {n: self._tried(run, task, way, n, look) for n in epochs}
            for name, way in WAYS.items()
        }

    def _tried(self, run: Run, task: Task, way: Way, epochs: int, look: int) -> Trials:
        shorter = task._replace(epochs=epochs)

        def training(searches: range) -> Training:
            return search_of(
                shorter,
                way.make_optimizer(shorter.steps),
                box(*way.searched, task.decay),
                trials=self.trials,
                searches=searches,
                experiment=("super-convergence", f"{epochs} epochs"),
            )

        return by_search(grown(run, training, self.looks, look).isel(epoch=-1, drop=True))


def judge(curves: Mapping[str, Curve], task: Task, looks: tuple[int, ...]) -> list[Verdict]:
    """Judges how many epochs AdamW under one cycle saves."""
    return [
        Verdict(
            f"AdamW under one cycle reaches the error of {slow} in fewer epochs",
            task.name,
            f"log2 of the epochs of {slow} over those of AdamW, one cycle",
            speedup(curves[slow], curves[CYCLE], level(looks)),
            ">",
            0.0,
            OCTAVE,
            len(looks),
        )
        for slow in (COSINE, COUPLED)
    ]


def draw(curves: Mapping[str, Curve], task: Task) -> Drawing:
    """Describes the tuned test error over the number of epochs."""
    tuned = {
        name: xr.DataArray(
            _tuned(curve, np.arange(_searches(curve))), {"epochs": [*curve]}, ("epochs",)
        )
        for name, curve in curves.items()
    }
    return Lines(
        {task.name: tuned},
        x="epochs",
        xlabel="epochs, each with its own schedule",
        ylabel=f"tuned {task.metric.label}",
        log="x",
    )


def speedup(slow: Curve, fast: Curve, level: float) -> Estimate:
    """Estimates the log2 of how many times more epochs `slow` needs than `fast`.

    Both curves, error over the logarithm of the epochs, are fitted by parabolas that differ by a
    shift down alone; over the slope of the chord that shift is one along the epochs. It takes all
    epochs into account, and has no case in which an error is never reached. It is NaN where the
    error does not fall.

    Source: the parallel-line assay, Finney, Statistical Method in Biological Assay, 1978.
    """
    doses = np.log2([*slow])

    def shift(drawn: NDArray[np.intp]) -> float:
        ours, theirs = (_tuned(each, drawn) for each in (fast, slow))
        chord = ((ours + theirs)[-1] - (ours + theirs)[0]) / 2 / (doses[-1] - doses[0])
        return float(np.mean(theirs - ours) / -chord) if chord < 0 else np.nan

    return over_seeds(shift, _searches(slow), level=level)


def _tuned(curve: Curve, drawn: NDArray[np.intp]) -> NDArray[np.float64]:
    """Returns what a search ends with at each number of epochs, from the trials of these."""
    return np.array([of_searches(each, drawn) for each in curve.values()])


def _searches(curve: Curve) -> int:
    return len(next(iter(curve.values())).test)
