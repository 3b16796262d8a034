"""The finalists of a search, trained again with seeds that took no part in it."""

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from optuna.trial import FrozenTrial

from decoupled_wd.study.statistics import FRESH, Estimate, mean
from decoupled_wd.study.tune.slots import Job, Metrics, Slots, run_jobs


def finals(
    slots: Slots, trials: Sequence[FrozenTrial], seeds: int, tick: Callable[[int], None]
) -> xr.Dataset:
    """Trains whole runs of each trial, and returns every metric over ``trial`` and ``seed``.

    The seeds are those from `FRESH` on, whose places are behind that of the search; `tick` is
    called with the rounds so far as runs end.
    """
    told = [tuple(float(trial.params[name]) for name in slots.names) for trial in trials]
    found = {name: np.full((len(trials), seeds), np.nan) for name in slots.metrics}
    places = iter(range(len(trials) * seeds))
    ended = 0

    def ask() -> Job | None:
        place = next(places, None)
        # place 0 among the seeds is that of the search
        return None if place is None else Job(place, (*told[place // seeds], 1.0 + place % seeds))

    def hear(job: Job, metrics: Metrics) -> bool:
        nonlocal ended
        if job.rounds < slots.rounds:
            return True
        for name, value in metrics.items():
            found[name].flat[job.label] = value
        ended += slots.rounds
        tick(ended)
        return False

    run_jobs(slots, ask, hear)
    numbers = {"trial": [trial.number for trial in trials], "seed": FRESH + np.arange(seeds)}
    points = dict(zip(slots.names, (("trial", each) for each in np.transpose(told)), strict=True))
    over = {name: (("trial", "seed"), values) for name, values in found.items()}
    return xr.Dataset(over, {**numbers, **points})


def judged(finalists: xr.Dataset, choose_by: str, judge_by: str) -> tuple[int, Estimate]:
    """Returns the place of the best finalist, and an estimate of what it is worth.

    It is chosen by the mean of `choose_by` over the first half of the seeds, and judged by
    `judge_by` over the others: of several means the lowest is low by luck too, and seeds that chose
    would keep that luck.

    Examples:
      >>> error = [[3.0, 3.0, 5.0, 5.0], [4.0, 4.0, 2.0, 4.0]]
      >>> runs = xr.Dataset({"error": (("trial", "seed"), error)})
      >>> place, estimate = judged(runs, "error", "error")
      >>> place, estimate.value
      (0, 5.0)
    """
    half = finalists.sizes["seed"] // 2
    chosen = finalists[choose_by].isel(seed=slice(half)).mean("seed", skipna=False)
    place = int(chosen.fillna(np.inf).argmin("trial"))
    worth = finalists[judge_by].isel(trial=place, seed=slice(half, None)).values
    return place, mean(worth)
