"""Claim (vi): which optimiser to choose, each tuned with equally many trials."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd.study.claims.drawings import Bars, Drawing
from decoupled_wd.study.claims.optimizers import DECOUPLED, FAMILIES, L2, Decayed
from decoupled_wd.study.claims.tuning import (
    at_the_end,
    difference,
    error,
    errors,
    finalists,
    halton,
    search_of,
    tuned_error,
)
from decoupled_wd.study.claims.verdicts import MARGIN, Finding, Verdict
from decoupled_wd.study.statistics import Estimate, over_seeds
from decoupled_wd.study.tasks.task import Run, Task, Training

Searches: TypeAlias = Mapping[str, Mapping[str, xr.Dataset]]
"""By family, and by decay."""


class Trained(NamedTuple):
    """Holds what claim (vi) trains."""

    searches: Searches
    """All trials of each search."""
    best: Searches
    """The best three of each, trained again with other seeds."""
    carried: xr.Dataset
    """The best three of Adam + L2 with the λ of momentum, trained again likewise."""


@dataclass(frozen=True)
class Choice:
    """Measures how well each optimiser does when tuned, and how easily.

    It also measures what a λ loses that was tuned for another optimiser.

    All optimisers have `trials` trials with the same `seeds`; the best three of each are trained
    again with `fresh_seeds` others, and tuned is the one with the lowest validation error there.

    Source: the comparisons of arXiv 1705.08292, 1902.09843, 1908.03265 and 1910.05446, and
    fast.ai's advice.
    """

    trials: int
    seeds: int
    fresh_seeds: int
    families: tuple[str, ...] = tuple(FAMILIES)
    """Those compared; momentum and Adam, whose λ are exchanged, are always among them."""

    def measure(self, run: Run, task: Task) -> Finding:
        """Trains, judges, and describes errors and sensitivities."""
        trained = self.train(run, task)
        return Finding(judge(trained, task), draw(trained, task))

    def train(self, run: Run, task: Task) -> Trained:
        """Trains each search, then its best points again.

        Last comes Adam + L2 with the λ of momentum.
        """
        trainings = {
            family: {decay: self._search(task, family, decay) for decay in (L2, DECOUPLED)}
            for family in self.families
        }
        searches = {
            family: {decay: at_the_end(run, each) for decay, each in pair.items()}
            for family, pair in trainings.items()
        }
        best = {
            family: {
                decay: finalists(run, each, searches[family][decay], fresh_seeds=self.fresh_seeds)
                for decay, each in pair.items()
            }
            for family, pair in trainings.items()
        }
        carried = self._carried_over(task, searches["momentum"][L2])
        # tuned like the others, or the comparison would not be fair
        again = finalists(run, carried, at_the_end(run, carried), fresh_seeds=self.fresh_seeds)
        return Trained(searches, best, again)

    def _search(self, task: Task, family: str, decay: str) -> Training:
        make_optimizer = Decayed(family, decay, "cosine", task.steps)
        points = search(family, decay, self.trials)
        return search_of(task, make_optimizer, points, seeds=self.seeds, experiment=("optimizers",))

    def _carried_over(self, task: Task, source: xr.Dataset) -> Training:
        """Returns Adam + L2 with the best λ of `source`.

        That is the λ which all seeds together prefer; α alone is searched, in as many trials.
        """
        best = int(source["validation_error"].mean("seed", skipna=False).argmin("trial"))
        space = {
            "learning_rate": FAMILIES["Adam"].learning_rate
            * 2.0 ** -np.linspace(10, 0, self.trials),
            "weight_decay": search("momentum", L2, self.trials)["weight_decay"][[best]],
        }
        return Training(
            task,
            Decayed("Adam", L2, "cosine", task.steps),
            space,
            seeds=self.seeds,
            experiment=("optimizers", "with the decay of momentum"),
        )


def search(family: str, decay: str, trials: int) -> dict[str, NDArray[np.float64]]:
    """Spreads trials over ten octaves of α and nine of λ.

    The highest α and the highest λ' with L2 are those of the family.

    Decoupled λ reaches from 2^-11 to 2^-2 in all families.
    """
    highest = FAMILIES[family]
    most = highest.l2 if decay == L2 else 0.25
    rates = (highest.learning_rate * 2.0**-10, highest.learning_rate)
    return halton(trials, learning_rate=rates, weight_decay=(most * 2.0**-9, most))


def judge(trained: Trained, task: Task) -> list[Verdict]:
    """Judges all that claim (vi) says."""
    best, where = trained.best, task.name
    return [
        *(_gain(family, pair, where) for family, pair in best.items()),
        *(
            _easier(family, pair, where, task.tolerance)
            for family, pair in trained.searches.items()
            if FAMILIES[family].adaptive
        ),
        _competes(best["Adam"][DECOUPLED], best["momentum"][L2], where),
        _regret(trained.carried, best["Adam"][L2], where),
    ]


def draw(trained: Trained, task: Task) -> dict[str, Drawing]:
    """Describes tuned errors, and how many trials come near them."""
    tested = {
        family: {decay: error(each) for decay, each in pair.items()}
        for family, pair in trained.best.items()
    }
    shares = {family: _shares(pair, task.tolerance) for family, pair in trained.searches.items()}
    near = f"trials within {task.tolerance} points of the pair's best (%)"
    return {
        f"optimizers {task.name}": Bars(tested, ylabel="tuned test error (%)"),
        f"sensitivity {task.name}": Bars(shares, ylabel=near),
    }


def share(runs: xr.Dataset, best: float, drawn: NDArray[np.intp], tolerance: float) -> float:
    """Counts the trials near the best, in percent.

    Near are those whose mean test error is at most `tolerance` points above it.
    """
    mean = runs["test_error"].isel(seed=drawn).mean("seed", skipna=False)
    return 100 * float((mean <= best + tolerance).mean())


def _gain(family: str, pair: Mapping[str, xr.Dataset], where: str) -> Verdict:
    adaptive = FAMILIES[family].adaptive
    sense, margin = (">", 0.0) if adaptive else ("≈", MARGIN)
    return Verdict(
        f"Tuned {family} has a lower test error decoupled than with L2"
        if adaptive
        else f"Tuned {family} is as good with L2 as decoupled",
        where,
        "gain in tuned test error, points",
        difference(pair[L2], pair[DECOUPLED]),
        sense,
        0.0,
        margin,
    )


def _competes(adamw: xr.Dataset, momentum: xr.Dataset, where: str) -> Verdict:
    return Verdict(
        "AdamW competes with SGD with momentum",
        where,
        "gain in tuned test error over momentum with L2, points",
        difference(momentum, adamw),
        ">",
        -MARGIN,
    )


def _regret(carried: xr.Dataset, own: xr.Dataset, where: str) -> Verdict:
    return Verdict(
        "The best λ of momentum is not the best for Adam + L2, even with α tuned anew",
        where,
        "loss in tuned test error, points",
        difference(carried, own),
        ">",
        0.0,
    )


def _easier(family: str, pair: Mapping[str, xr.Dataset], where: str, tolerance: float) -> Verdict:
    share_of_each = _share_of_each(pair, tolerance)

    def gain(drawn: NDArray[np.intp]) -> float:
        found = share_of_each(drawn)
        return found[DECOUPLED] - found[L2]

    return Verdict(
        f"{family} is easier to tune decoupled than with L2",
        where,
        f"more trials within {tolerance} points of the pair's best, percent of all",
        over_seeds(gain, pair[L2].sizes["seed"]),
        ">",
        0.0,
    )


def _share_of_each(
    pair: Mapping[str, xr.Dataset], tolerance: float
) -> Callable[[NDArray[np.intp]], dict[str, float]]:
    # once, and not in every resample
    measured = [errors(runs) for runs in pair.values()]

    def shares(drawn: NDArray[np.intp]) -> dict[str, float]:
        # both are measured from the better of the two, and NaN is no best
        best = float(np.fmin.reduce([tuned_error(each, drawn) for each in measured]))
        return {decay: share(runs, best, drawn, tolerance) for decay, runs in pair.items()}

    return shares


def _shares(pair: Mapping[str, xr.Dataset], tolerance: float) -> dict[str, Estimate]:
    share_of_each = _share_of_each(pair, tolerance)
    return {
        decay: over_seeds(
            lambda drawn: share_of_each(drawn)[decay],  # noqa: B023
            runs.sizes["seed"],
        )
        for decay, runs in pair.items()
    }
