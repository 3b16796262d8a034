"""Claim (vi): which optimiser to choose, each tuned with equally many trials."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd.study.claims.best_of import Trials, by_search, expected, gain
from decoupled_wd.study.claims.drawings import Bars, Drawing
from decoupled_wd.study.claims.optimizers import DECOUPLED, FAMILIES, L2, Decayed
from decoupled_wd.study.claims.tuning import (
    Box,
    chosen,
    difference,
    grown,
    halton,
    search_of,
)
from decoupled_wd.study.claims.verdicts import Finding, Verdict, level
from decoupled_wd.study.grid.types import Points
from decoupled_wd.study.statistics import Estimate, mean
from decoupled_wd.study.tasks.task import Run, Task, Training

SHARE = 5.0
"""The smallest difference in the share of good trials that matters, in percent of all."""


Searches: TypeAlias = Mapping[str, Mapping[str, xr.Dataset]]
"""All trials by family and by decay, each trial with its seed, the number of its search."""


class Trained(NamedTuple):
    """Holds what claim (vi) trains."""

    searches: Searches
    carried: xr.Dataset
    """Searches of Adam + L2 over α alone, each with the λ of a search of momentum."""


@dataclass(frozen=True)
class Choice:
    """Measures how well each optimiser does when tuned, and how easily.

    It also measures what a λ loses that was tuned for another optimiser.

    All optimisers have as many independent searches of `trials` trials each. What counts is the
    test error of the trial with the lowest validation error, expected over all ways to draw as many
    trials from those of all searches.

    Source: the comparisons of arXiv 1705.08292, 1902.09843, 1908.03265 and 1910.05446, and
    fast.ai's advice; for what is expected `best_of`.
    """

    trials: int
    looks: tuple[int, ...]
    """How many searches of each optimiser there are at each look."""
    families: tuple[str, ...] = tuple(FAMILIES)
    """Those compared; momentum and Adam, whose λ are exchanged, are always among them."""

    def measure(self, run: Run, task: Task, look: int) -> Finding:
        """Trains, judges, and describes errors and sensitivities."""
        trained = self.train(run, task, look)
        return Finding(judge(trained, task, self.looks), draw(trained, task, self.looks))

    def train(self, run: Run, task: Task, look: int) -> Trained:
        """Trains each search, then its choice again.

        Last comes Adam + L2 with the λ of momentum.
        """
        searches = {
            name: {decay: self._tuned(run, task, name, decay, look) for decay in (L2, DECOUPLED)}
            for name in self.families
        }
        carried = self._carried_over(run, task, searches["momentum"][L2], look)
        return Trained(searches, carried)

    def _tuned(self, run: Run, task: Task, family: str, decay: str, look: int) -> xr.Dataset:
        def training(searches: range) -> Training:
            return search_of(
                task,
                Decayed(family, decay, "cosine", task.steps),
                box(family, decay, task.decay),
                trials=self.trials,
                searches=searches,
                experiment=("optimizers",),
            )

        return grown(run, training, self.looks, look).isel(epoch=-1, drop=True)

    def _carried_over(self, run: Run, task: Task, source: xr.Dataset, look: int) -> xr.Dataset:
        """Searches α alone for Adam + L2, with the λ that momentum's searches chose."""
        decays = chosen(source)["weight_decay"]
        rates = {"learning_rate": box("Adam", L2)["learning_rate"]}

        def training(searches: range) -> Training:
            drawn = [halton(self.trials, search, rates)["learning_rate"] for search in searches]
            points = Points(
                learning_rate=np.concatenate(drawn),
                weight_decay=np.repeat(decays.sel(seed=searches).values, self.trials),
                seed=np.repeat(searches, self.trials),
            )
            return Training(
                task,
                Decayed("Adam", L2, "cosine", task.steps),
                points,
                seeds=searches,
                experiment=("optimizers", "with the decay of momentum"),
            )

        return grown(run, training, self.looks, look).isel(epoch=-1, drop=True)


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


def judge(trained: Trained, task: Task, looks: tuple[int, ...]) -> list[Verdict]:
    """Judges all that claim (vi) says."""
    tried, wanted = _tried(trained), level(looks)

    def line(statement: str, found: Estimate, sense: str = ">", bound: float = 0.0) -> Verdict:
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

    # each of these searches has the λ of another, so that they cannot be drawn from together
    carried, own = (
        chosen(each)["test_error"].values.astype(float)
        for each in (trained.carried, trained.searches["Adam"][L2])
    )
    return [
        *(
            line(
                f"Tuned {name} has a lower {task.metric.name} decoupled than with L2"
                if FAMILIES[name].adaptive
                else f"Tuned {name} is as good with L2 as decoupled",
                gain(pair[L2], pair[DECOUPLED], wanted),
                sense=">" if FAMILIES[name].adaptive else "≈",
            )
            for name, pair in tried.items()
        ),
        *(
            _easier(name, pair, task, looks)
            for name, pair in tried.items()
            if FAMILIES[name].adaptive
        ),
        line(
            "AdamW competes with SGD with momentum and L2",
            gain(tried["momentum"][L2], tried["Adam"][DECOUPLED], wanted),
            bound=-task.matters,
        ),
        line(
            "The best λ of momentum is not the best for Adam + L2, even with α tuned anew",
            difference(carried, own, wanted),
        ),
    ]


def draw(trained: Trained, task: Task, looks: tuple[int, ...]) -> dict[str, Drawing]:
    """Describes tuned errors, and how many trials come near them."""
    tried, wanted, unit = _tried(trained), level(looks), task.metric.differences
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


def _tried(trained: Trained) -> dict[str, dict[str, Trials]]:
    return {
        name: {decay: by_search(each) for decay, each in pair.items()}
        for name, pair in trained.searches.items()
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
