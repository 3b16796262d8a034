"""Claim (vi): which optimiser to choose, each tuned with equally many trials."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd.study.claims.best_of import Trials, by_search, expected, gain
from decoupled_wd.study.claims.drawings import Bars, Drawing
from decoupled_wd.study.claims.optimizers import DECOUPLED, FAMILIES, L2, Decayed
from decoupled_wd.study.claims.tuning import Box, grown, search_of
from decoupled_wd.study.claims.verdicts import Finding, Verdict, level
from decoupled_wd.study.statistics import Estimate, mean
from decoupled_wd.study.tasks.task import Run, Task, Training

SHARE = 5.0
"""The smallest difference in the share of good trials that matters, in percent of all."""


@dataclass(frozen=True)
class Choice:
    """Measures how well each optimiser does when tuned, and how easily, with L2 and decoupled.

    All have as many independent searches of `trials` trials each. What counts is the test error of
    the trial with the lowest validation error, expected over all ways to draw as many trials from
    those of all searches.

    Source: the comparisons of arXiv 1705.08292, 1902.09843, 1908.03265 and 1910.05446, and
    fast.ai's advice; for what is expected `best_of`.
    """

    trials: int
    looks: tuple[int, ...]
    """How many searches of each optimiser there are at each look."""
    families: tuple[str, ...] = tuple(FAMILIES)

    def measure(self, run: Run, task: Task, look: int) -> Finding:
        """Trains, judges, and describes errors and sensitivities."""
        tried = self.train(run, task, look)
        return Finding(judge(tried, task, self.looks), draw(tried, task, self.looks))

    def train(self, run: Run, task: Task, look: int) -> dict[str, dict[str, Trials]]:
        """Trains each family's searches, with either decay."""
        return {
            family: {
                decay: by_search(
                    searches_of(
                        run, task, family, decay, trials=self.trials, looks=self.looks, look=look
                    )
                )
                for decay in (L2, DECOUPLED)
            }
            for family in self.families
        }


def searches_of(
    run: Run,
    task: Task,
    family: str,
    decay: str,
    *,
    trials: int,
    looks: tuple[int, ...],
    look: int,
) -> xr.Dataset:
    """Trains all searches of an optimiser up to a look, each trial with its search's seed.

    Whoever asks for the same ones gets the same results.
    """

    def training(searches: range) -> Training:
        return search_of(
            task,
            Decayed(family, decay, "cosine", task.steps),
            box(family, decay, task.decay),
            trials=trials,
            searches=searches,
            experiment=("optimizers",),
        )

    return grown(run, training, looks, look).isel(epoch=-1, drop=True)


def box(family: str, decay: str, scale: float = 1.0) -> Box:
    """Returns the space of a search: ten octaves of α and nine of λ.

    The highest α and the highest λ' with L2 are those of the family.

    Decoupled λ reaches from 2^-11 to 2^-2 in all families, times the `scale` of the task's λ.
    """
    highest = FAMILIES[family]
    most = scale * (highest.l2 if decay == L2 else 0.25)
    return {
        "learning_rate": (highest.learning_rate * 2.0**-10, highest.learning_rate),
        "weight_decay": (most * 2.0**-9, most),
    }


def judge(
    tried: Mapping[str, Mapping[str, Trials]], task: Task, looks: tuple[int, ...]
) -> list[Verdict]:
    """Judges how each family does with either decay, and how easily."""
    verdicts = []
    for name, pair in tried.items():
        gained = gain(pair[L2], pair[DECOUPLED], level(looks))
        if FAMILIES[name].adaptive:
            statement = f"Tuned {name} has a lower {task.metric.name} decoupled than with L2"
            verdicts.append(of_gain(statement, gained, task, looks))
            verdicts.append(_easier(name, pair, task, looks))
        else:
            statement = f"Tuned {name} is as good with L2 as decoupled"
            verdicts.append(of_gain(statement, gained, task, looks, sense="≈"))
    return verdicts


def of_gain(
    statement: str,
    found: Estimate,
    task: Task,
    looks: tuple[int, ...],
    *,
    sense: str = ">",
    bound: float = 0.0,
) -> Verdict:
    """Judges by how much one optimiser is better than another, both tuned."""
    return Verdict(
        statement,
        task.name,
        f"gain in tuned {task.metric.name}, {task.metric.differences}",
        found,
        sense,
        bound,
        # that one competes has its margin in the bound
        0.0 if bound else task.matters,
        len(looks),
    )


def draw(
    tried: Mapping[str, Mapping[str, Trials]], task: Task, looks: tuple[int, ...]
) -> dict[str, Drawing]:
    """Describes tuned errors, and how many trials come near them."""
    wanted, unit = level(looks), task.metric.differences
    tested = {
        name: {decay: expected(each, wanted) for decay, each in pair.items()}
        for name, pair in tried.items()
    }
    near = {
        name: {decay: mean(each, wanted) for decay, each in shares(pair, task.tolerance).items()}
        for name, pair in tried.items()
    }
    return {
        f"optimizers {task.name}": Bars(tested, ylabel=f"tuned {task.metric.label}"),
        f"sensitivity {task.name}": Bars(
            near, ylabel=f"trials within {task.tolerance} {unit} of the pair's best (%)"
        ),
    }


def _easier(family: str, pair: Mapping[str, Trials], task: Task, looks: tuple[int, ...]) -> Verdict:
    each = shares(pair, task.tolerance)
    more = each[DECOUPLED] - each[L2]
    unit = task.metric.differences
    return Verdict(
        f"{family} is easier to tune decoupled than with L2",
        task.name,
        f"more trials within {task.tolerance} {unit} of the pair's best, percent of all",
        mean(more, level(looks)),
        ">",
        0.0,
        SHARE,
        len(looks),
    )


def shares(pair: Mapping[str, Trials], tolerance: float) -> dict[str, NDArray[np.float64]]:
    """Returns the share of each search's trials near the best of both, in percent.

    A trial is near if its validation error is at most `tolerance` points above it.
    """
    cost = {decay: np.nan_to_num(each.validation, nan=np.inf) for decay, each in pair.items()}
    best = np.min([each.min(axis=1) for each in cost.values()], axis=0)[:, None]
    # where every trial of both diverged, no share is known
    known = np.where(np.isfinite(best), 1.0, np.nan)
    near = {decay: known * (each <= best + tolerance) for decay, each in cost.items()}
    return {decay: 100 * each.mean(axis=1) for decay, each in near.items()}
