"""Claim (vi), across optimisers: AdamW against momentum, and a λ that was tuned for another."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import xarray as xr

from decoupled_wd.study.claims.best_of import by_search, gain
from decoupled_wd.study.claims.choice import box, of_gain, searches_of
from decoupled_wd.study.claims.optimizers import DECOUPLED, L2, Decayed
from decoupled_wd.study.claims.tuning import chosen, difference, grown, halton
from decoupled_wd.study.claims.verdicts import Finding, Verdict, level
from decoupled_wd.study.grid.types import Points
from decoupled_wd.study.tasks.task import Run, Task, Training


class Searched(NamedTuple):
    """Holds all trials of each optimiser, each trial with its seed, the number of its search."""

    momentum: xr.Dataset
    """With L2."""
    adam: xr.Dataset
    """With L2."""
    adamw: xr.Dataset
    carried: xr.Dataset
    """Adam + L2 over α alone, each search with the λ that the same one of momentum chose."""


@dataclass(frozen=True)
class Exchange:
    """Measures how AdamW does against momentum, and what a λ loses that was tuned for another.

    The searches are those of `Choice`, and some of Adam + L2 with the λ of momentum.

    Source: arXiv 1711.05101, abstract, for the first; 1705.08292, where Adam has the λ of SGD,
    for the other.
    """

    trials: int
    looks: tuple[int, ...]
    """How many searches of each optimiser there are at each look."""

    def measure(self, run: Run, task: Task, look: int) -> Finding:
        """Trains and judges."""
        return Finding(judge(self.train(run, task, look), task, self.looks), {})

    def train(self, run: Run, task: Task, look: int) -> Searched:
        """Trains the searches of each optimiser, and those with the λ of another."""
        found = partial(searches_of, run, task, trials=self.trials, looks=self.looks, look=look)
        momentum = found("momentum", L2)
        return Searched(
            momentum=momentum,
            adam=found("Adam", L2),
            adamw=found("Adam", DECOUPLED),
            carried=self._carried_over(run, task, momentum, look),
        )

    def _carried_over(self, run: Run, task: Task, source: xr.Dataset, look: int) -> xr.Dataset:
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


def judge(found: Searched, task: Task, looks: tuple[int, ...]) -> list[Verdict]:
    """Judges whether AdamW competes, and whether each optimiser wants a λ of its own."""
    # each of these searches has the λ of another, so that they cannot be drawn from together
    carried, own = (
        chosen(each)["test_error"].values.astype(float) for each in (found.carried, found.adam)
    )
    return [
        of_gain(
            "AdamW competes with SGD with momentum and L2",
            gain(by_search(found.momentum), by_search(found.adamw), level(looks)),
            task,
            looks,
            bound=-task.matters,
        ),
        of_gain(
            "The best λ of momentum is not the best for Adam + L2, even with α tuned anew",
            difference(carried, own, level(looks)),
            task,
            looks,
        ),
    ]
