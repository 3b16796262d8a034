"""Claim (v): warm restarts are good at any time and lose nothing in the end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np
import optax
import xarray as xr
from numpy.typing import NDArray
from scipy.interpolate import make_smoothing_spline  # type: ignore[import-untyped]

from decoupled_wd import adamwr, sgdwr
from decoupled_wd.study.claims.drawings import Drawing, Lines
from decoupled_wd.study.claims.optimizers import Scalar
from decoupled_wd.study.claims.tuning import grown
from decoupled_wd.study.claims.verdicts import OCTAVE, Finding, Verdict, level
from decoupled_wd.study.statistics import Estimate, over_seeds
from decoupled_wd.study.tasks.task import Run, Task, Training

RESTARTED: Mapping[str, Callable[..., optax.GradientTransformation]] = MappingProxyType(
    {"SGDW": sgdwr, "AdamW": adamwr}
)
"""The restarted form of each decoupled contender of `optimizers.CONTENDERS`."""


@dataclass(frozen=True)
class Cycles:
    """Makes a contender with warm restarts.

    A cycle as long as the run is a single cosine.
    """

    contender: str
    batch_size: int
    dataset_size: int
    """Training examples, less the last batch of an epoch where it is not full and dropped."""
    first_cycle: int

    @property
    def label(self) -> tuple[str, ...]:
        """Names the contender and its first cycle."""
        return (self.contender, f"first cycle of {self.first_cycle}")

    def __call__(
        self, learning_rate: Scalar, normalized_weight_decay: Scalar
    ) -> optax.GradientTransformation:
        """Returns the optimiser of one cell."""
        return RESTARTED[self.contender](
            learning_rate,
            normalized_weight_decay,
            batch_size=self.batch_size,
            dataset_size=self.dataset_size,
            first_cycle_epochs=self.first_cycle,
        )


def cycles(name: str, task: Task, first_cycle: int) -> Cycles:
    """Returns what makes a restarted contender for a task."""
    seen = task.steps // task.epochs * task.batch_size
    return Cycles(name, task.batch_size, seen, first_cycle)


def ends_of_cycles(first_cycle: int, epochs: int) -> list[int]:
    """Lists the epochs at which cycles of double length end.

    Raises:
      ValueError: no number of cycles fits.

    Examples:
      >>> ends_of_cycles(10, 150)
      [10, 30, 70, 150]
    """
    ends = [first_cycle]
    while ends[-1] < epochs:
        # cycles f, 2f, 4f, … end after f, 3f, 7f, …: each time twice as late, and f more
        ends.append(2 * ends[-1] + first_cycle)
    if ends[-1] != epochs:
        raise ValueError(
            f"epochs must be the end of a cycle, got {epochs}; with a first cycle of "
            f"{first_cycle} for example {ends[-1]}"
        )
    return ends


Cost: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From errors ``[..., epochs]`` to what is tuned, ``[...]``."""


class Pair(NamedTuple):
    """Holds errors over learning_rate, normalized_weight_decay, seed and epoch."""

    restarted: xr.Dataset
    one_shot: xr.Dataset
    """One cosine over the whole run."""


@dataclass(frozen=True)
class Restarts:
    """Measures warm restarts against one cosine over all epochs.

    Both have the same rule of normalised decay and the same grid of α and normalised λ, and each
    counts where its validation error is lowest at the end of the run. The epochs of the task do
    not count.

    Source: arXiv 1711.05101, appendix B.2 and section 4.3.
    """

    learning_rates: Mapping[str, Sequence[float]]
    """SGDW, AdamW or both to the α of the grid."""
    normalized_decays: Sequence[float]
    """λ_norm of the grid."""
    looks: tuple[int, ...]
    epochs: int = 150
    """Epochs of the whole run, which ends with a cycle."""
    first_cycle: int = 10
    """Its epochs, 7 to 14 % of the run; with very few the advantage vanishes."""
    evaluate_every: int = 5
    """Epochs between two evaluations, a divisor of both."""

    def measure(self, run: Run, task: Task, look: int) -> Finding:
        """Trains both, judges them, and describes the curves."""
        pairs, ends = self.train(run, task, look), ends_of_cycles(self.first_cycle, self.epochs)
        verdicts, drawings = [], {}
        for name, pair in pairs.items():
            verdicts += judge(pair, ends, f"{task.name}, {name}", task.matters, self.looks)
            drawings[f"restarts {task.name}, {name}"] = draw(pair, ends, name)
        return Finding(verdicts, drawings)

    def train(self, run: Run, task: Task, look: int) -> dict[str, Pair]:
        """Trains each optimiser with restarts and without."""
        longer = task._replace(epochs=self.epochs)
        return {
            name: Pair(
                *(
                    grown(run, partial(self._training, longer, name, cycle), self.looks, look)
                    for cycle in (self.first_cycle, self.epochs)
                )
            )
            for name in self.learning_rates
        }

    def _training(self, task: Task, name: str, first_cycle: int, seeds: range) -> Training:
        space = {
            "learning_rate": np.asarray(self.learning_rates[name]),
            "normalized_weight_decay": np.asarray(self.normalized_decays),
        }
        return Training(
            task,
            cycles(name, task, first_cycle),
            space,
            seeds=seeds,
            experiment=("restarts",),
            evaluate_every=self.evaluate_every,
        )


def judge(
    pair: Pair, ends: Sequence[int], where: str, matters: float, looks: tuple[int, ...]
) -> list[Verdict]:
    """Judges error at any time, speed-ups, and the gap at the end.

    There is a speed-up for the end of each cycle but the last.
    """
    epochs = pair.restarted["epoch"].values
    # most statements are about the same curves, which are chosen once
    at_the_end = [tuned_curves(runs, last) for runs in pair]

    def over(
        statistic: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
        curves: Sequence[NDArray[np.float64]] = at_the_end,
    ) -> Estimate:
        restarted, one_shot = curves
        return over_seeds(
            lambda drawn: statistic(restarted[drawn].mean(axis=0), one_shot[drawn].mean(axis=0)),
            len(restarted),
            level=level(looks),
        )

    def at_any_time(error: NDArray[np.float64]) -> NDArray[np.float64]:
        return anytime(error, epochs)

    def speed_up(end: int) -> Estimate:
        return over(
            lambda a, b: np.log2(
                # only what is searched is smoothed: the error to reach stands at a known time
                epochs_to(float(a[epochs == end][0]), smoothed(b, epochs), epochs) / end
            )
        )

    return [
        Verdict(
            "With restarts the error is lower, on average over the time at which one may stop",
            where,
            "difference in test error over log epochs, each tuned for it, points",
            over(
                lambda a, b: float(at_any_time(a) - at_any_time(b)),
                [tuned_curves(runs, at_any_time) for runs in pair],
            ),
            "<",
            0.0,
            matters,
            len(looks),
        ),
        *(
            Verdict(
                f"Restarts reach sooner the error that they have after {end} epochs",
                where,
                f"log2 of the epochs of one cosine ({epochs[0]} to {epochs[-1]}) over {end}",
                speed_up(end),
                ">",
                0.0,
                OCTAVE,
                len(looks),
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
            matters,
            len(looks),
        ),
    ]


def draw(pair: Pair, ends: Sequence[int], name: str) -> Drawing:
    """Describes the tuned curves of both, with the restarts as marks."""
    labels = ("warm restarts", "one cosine")
    shown = {
        label: xr.DataArray(tuned_curves(runs, last), {"epoch": runs["epoch"]}, ("seed", "epoch"))
        for label, runs in zip(labels, pair, strict=True)
    }
    return Lines(
        {name: shown},
        x="epoch",
        xlabel="epochs",
        ylabel="test error (%)",
        log="x",
        marks={name: ends[:-1]},
    )


def last(error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the error after all epochs, which are the last axis."""
    return error[..., -1]


def tuned_curves(runs: xr.Dataset, cost: Cost) -> NDArray[np.float64]:
    """Returns what each seed's tuning gives: test error over the epochs, ``[seeds, epochs]``.

    Each seed chooses the run of its own whose validation error costs least.
    """
    cells = runs.stack(trial=["learning_rate", "normalized_weight_decay"])
    costs = cost(cells["validation_error"].transpose("trial", "seed", "epoch").values)
    # NumPy's argmin takes NaN for the lowest
    best = xr.DataArray(np.where(np.isnan(costs), np.inf, costs).argmin(axis=0), dims="seed")
    curves = cells["test_error"].isel(trial=best).transpose("seed", "epoch")
    return np.asarray(curves.values, float)


def anytime(error: NDArray[np.float64], epochs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Averages the error over the logarithm of the epochs, which are the last axis.

    Examples:
      >>> float(anytime(np.array([4.0, 2.0, 0.0]), np.array([1, 2, 4])))
      2.0
    """
    time = np.log(epochs)
    return np.asarray(np.trapezoid(error, time) / np.ptp(time))


def smoothed(
    error: NDArray[np.float64], epochs: NDArray[np.int64], penalty: float = 1e-3
) -> NDArray[np.float64]:
    """Smooths a curve over the logarithm of the epochs, if there are enough of them.

    The first time at which a noisy curve is low enough is a lucky one, and it moves in jumps. Early
    on, where evaluations are far apart in that scale, next to nothing is smoothed.

    Source: penalised natural cubic splines, Reinsch 1967.
    """
    # make_smoothing_spline needs five points or more
    if len(error) < 5 or not np.isfinite(error).all():
        return error
    return np.asarray(make_smoothing_spline(np.log(epochs), error, lam=penalty)(np.log(epochs)))


def epochs_to(target: float, error: NDArray[np.float64], epochs: NDArray[np.int64]) -> float:
    """Finds when an error was first as low as the target, within the evaluated epochs.

    Between two evaluations the error is interpolated linearly. A target that is met before the
    first gives its epoch, and one that is never met that of the last.

    Examples:
      >>> epochs_to(3.0, np.array([4.0, 2.0, 0.0]), np.array([1, 2, 4]))
      1.5
    """
    if not np.isfinite([target, *error]).all():
        return np.nan
    # np.interp wants rising abscissae, and the least error so far never rises
    return float(np.interp(-target, -np.minimum.accumulate(error), epochs))
