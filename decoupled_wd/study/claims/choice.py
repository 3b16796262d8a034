"""Claim (vi): which optimiser to choose, each tuned with equally many trials."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd.study.claims.drawings import Bars, Drawing
from decoupled_wd.study.claims.optimizers import DECOUPLED, FAMILIES, L2, Decayed
from decoupled_wd.study.claims.tuning import (
    Box,
    chosen,
    difference,
    halton,
    search_of,
    searched,
)
from decoupled_wd.study.claims.verdicts import Finding, Verdict, level
from decoupled_wd.study.grid.types import Points
from decoupled_wd.study.statistics import mean
from decoupled_wd.study.tasks.task import Run, Task, Training

SHARE = 5.0
"""The smallest difference in the share of good trials that matters, in percent of all."""


class Tuned(NamedTuple):
    """Holds the searches of one optimiser, and what each of them is worth."""

    found: xr.Dataset
    """All trials, each with its seed."""
    worth: NDArray[np.float64]
    """``[searches]``, in percent."""


Searches: TypeAlias = Mapping[str, Mapping[str, Tuned]]
"""By family, and by decay."""


class Trained(NamedTuple):
    """Holds what claim (vi) trains."""

    searches: Searches
    carried: Tuned
    """Searches of Adam + L2 over α alone, each with the λ of a search of momentum."""


@dataclass(frozen=True)
class Choice:
    """Measures how well each optimiser does when tuned, and how easily.

    It also measures what a λ loses that was tuned for another optimiser.

    All optimisers have as many independent searches of `trials` trials each, and what a search
    chooses by its validation error is judged by fresh seeds.

    Source: the comparisons of arXiv 1705.08292, 1902.09843, 1908.03265 and 1910.05446, and
    fast.ai's advice.
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
        carried = self._carried_over(run, task, searches["momentum"][L2].found, look)
        return Trained(searches, carried)

    def _tuned(self, run: Run, task: Task, family: str, decay: str, look: int) -> Tuned:
        def training(searches: range) -> Training:
            return search_of(
                task,
                Decayed(family, decay, "cosine", task.steps),
                box(family, decay, task.decay),
                trials=self.trials,
                searches=searches,
                experiment=("optimizers",),
            )

        return Tuned(*searched(run, training, self.looks, look))

    def _carried_over(self, run: Run, task: Task, source: xr.Dataset, look: int) -> Tuned:
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

        return Tuned(*searched(run, training, self.looks, look))


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
    searches = trained.searches
    adam, momentum = searches["Adam"], searches["momentum"]

    def gain(
        statement: str, worse: Tuned, better: Tuned, sense: str = ">", bound: float = 0.0
    ) -> Verdict:
        return Verdict(
            statement,
            task.name,
            f"gain in tuned {task.metric.name}, {task.metric.differences}",
            difference(worse.worth, better.worth, level(looks)),
            sense,
            bound,
            # that one competes has its margin in the bound
            0.0 if bound else task.matters,
            len(looks),
        )

    return [
        *(
            gain(
                f"Tuned {name} has a lower {task.metric.name} decoupled than with L2", *_both(pair)
            )
            if FAMILIES[name].adaptive
            else gain(f"Tuned {name} is as good with L2 as decoupled", *_both(pair), sense="≈")
            for name, pair in searches.items()
        ),
        *(
            _easier(name, pair, task, looks)
            for name, pair in searches.items()
            if FAMILIES[name].adaptive
        ),
        gain(
            "AdamW competes with SGD with momentum and L2",
            momentum[L2],
            adam[DECOUPLED],
            bound=-task.matters,
        ),
        gain(
            "The best λ of momentum is not the best for Adam + L2, even with α tuned anew",
            trained.carried,
            adam[L2],
        ),
    ]


def _both(pair: Mapping[str, Tuned]) -> tuple[Tuned, Tuned]:
    return pair[L2], pair[DECOUPLED]


def draw(trained: Trained, task: Task, looks: tuple[int, ...]) -> dict[str, Drawing]:
    """Describes tuned errors, and how many trials come near them."""
    pairs, wanted, unit = trained.searches.items(), level(looks), task.metric.differences
    tested = {
        name: {decay: mean(each.worth, wanted) for decay, each in pair.items()}
        for name, pair in pairs
    }
    near = {
        name: {decay: mean(each, wanted) for decay, each in shares(pair, task.tolerance).items()}
        for name, pair in pairs
    }
    return {
        f"optimizers {task.name}": Bars(tested, ylabel=f"tuned {task.metric.label}"),
        f"sensitivity {task.name}": Bars(
            near, ylabel=f"trials within {task.tolerance} {unit} of the pair's best (%)"
        ),
    }


def _easier(family: str, pair: Mapping[str, Tuned], task: Task, looks: tuple[int, ...]) -> Verdict:
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


def shares(pair: Mapping[str, Tuned], tolerance: float) -> dict[str, NDArray[np.float64]]:
    """Returns the share of each search's trials near the best of both, in percent.

    A trial is near if its validation error is at most `tolerance` points above it.
    """
    cost = {decay: _by_search(each.found) for decay, each in pair.items()}
    best = np.min([each.min(axis=1) for each in cost.values()], axis=0)[:, None]
    # where every trial of both diverged, no share is known
    known = np.where(np.isfinite(best), 1.0, np.nan)
    near = {decay: known * (each <= best + tolerance) for decay, each in cost.items()}
    return {decay: 100 * each.mean(axis=1) for decay, each in near.items()}


def _by_search(found: xr.Dataset) -> NDArray[np.float64]:
    """Returns the validation errors, ``[searches, trials]``, infinite where a run diverged."""
    seeds = np.unique(found["seed"])
    cost = found["validation_error"].fillna(np.inf).values.astype(float)
    # the trials of a search stand together
    return cost[np.argsort(found["seed"].values, kind="stable")].reshape(len(seeds), -1)
