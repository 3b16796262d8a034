"""Claim (vi): which optimiser to choose, each tuned with the same number of trials, with L2 and decoupled."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import optax
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import qmc  # type: ignore[import-untyped]

import decoupled_wd as dwd
from decoupled_wd.study.claims.tuning import (
    Make,
    difference,
    error,
    errors,
    finalists,
    over_trials,
    tuned,
)
from decoupled_wd.study.claims.verdicts import MARGIN, Finding, Verdict
from decoupled_wd.study.figures.curves import bars
from decoupled_wd.study.statistics import Estimate, over_seeds
from decoupled_wd.study.tasks.task import Run, Task

L2, DECOUPLED, CARRIED = "with L2", "decoupled", " of momentum"

Searches = Mapping[str, Mapping[str, xr.Dataset]]
"""Families to their decays to what was measured."""


class Family(NamedTuple):
    """An optimiser without decay, ``step(schedule, peak)``, and the highest α and λ' of its search.

    They are such that the best of the study's small networks lie inside, not on the edge.
    """

    step: Callable[[optax.Schedule, Any], optax.GradientTransformation]
    learning_rate: float
    l2: float
    adaptive: bool


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "SGD": Family(lambda lr, _: optax.sgd(lr), 8.0, 0.125, False),
        "momentum": Family(
            lambda lr, _: optax.chain(
                dwd.scale_by_momentum(0.9, learning_rate=lr), optax.scale(-1)
            ),
            1.0,
            0.125,
            False,
        ),
        "Adam": Family(
            lambda lr, _: optax.chain(dwd.scale_by_adam(), optax.scale_by_learning_rate(lr)),
            0.1,
            0.5,
            True,
        ),
        "AdaGrad": Family(lambda lr, _: optax.adagrad(lr), 4.0, 0.5, True),
        "RMSProp": Family(lambda lr, _: optax.rmsprop(lr), 0.1, 0.5, True),
        "AdaBound": Family(
            lambda lr, peak: optax.chain(
                dwd.scale_by_adabound(learning_rate=lr, peak_learning_rate=peak), optax.scale(-1)
            ),
            0.1,
            0.5,
            True,
        ),
        "RAdam": Family(lambda lr, _: optax.radam(lr), 0.4, 0.5, True),
    }
)
"""Momentum and the constants of the others are their defaults; decoupled Adam is AdamW."""


def halton(trials: int, **ranges: tuple[float, float]) -> dict[str, NDArray[np.float64]]:
    """Points spread evenly over a box in the logarithms of its axes: Halton's sequence after its corner.

    Examples:
      >>> halton(3, learning_rate=(1.0, 16.0), weight_decay=(1.0, 27.0))["weight_decay"].round(6).tolist()
      [3.0, 9.0, 1.44225]

    Source: Halton 1960; for the tuning of optimisers Choi et al., arXiv 1910.05446, section 4.
    """
    low, high = np.log(list(ranges.values())).T
    points = qmc.Halton(len(ranges), scramble=False).random(trials + 1)[1:]
    return dict(zip(ranges, np.exp(low + points * (high - low)).T, strict=True))


def search(family: str, decay: str, trials: int) -> dict[str, NDArray[np.float64]]:
    """α over ten octaves below the family's highest, λ over nine; decoupled λ from 2^-11 to 2^-2 for all."""
    highest = FAMILIES[family]
    most = highest.l2 if decay == L2 else 0.25
    rates = (highest.learning_rate * 2.0**-10, highest.learning_rate)
    return halton(trials, learning_rate=rates, weight_decay=(most * 2.0**-9, most))


def build(
    family: str, decay: str, steps: int, rate: Any, strength: Any
) -> optax.GradientTransformation:
    """One optimiser under a cosine schedule, with L2 before it or with the paper's decay behind it."""
    schedule = optax.cosine_decay_schedule(rate, steps)
    step = FAMILIES[family].step(schedule, rate)
    if decay == L2:
        return optax.chain(dwd.add_decayed_weights(strength), step)
    return dwd.decouple(step, strength, learning_rate=schedule, peak_learning_rate=rate)


def measure(run: Run, task: Task, *, trials: int, seeds: int, fresh_seeds: int) -> Finding:
    """Tuned test errors, how many trials come near them, and what λ loses when it moves to another optimiser.

    All optimisers have `trials` trials with the same `seeds`; the best three of each are trained again with
    `fresh_seeds` others, and tuned is the one with the lowest validation error there.

    Source: the comparisons of arXiv 1705.08292, 1902.09843, 1908.03265 and 1910.05446, and fast.ai's advice.
    """

    def confirmed(family: str, decay: str, found: xr.Dataset, suffix: str = "") -> xr.Dataset:
        name, make = _name(family, decay) + suffix, _maker(task, family, decay)
        return finalists(run, name, task, make, found, seeds=fresh_seeds)

    runs = {
        family: {
            decay: _trials(run, task, family, decay, trials, seeds) for decay in (L2, DECOUPLED)
        }
        for family in FAMILIES
    }
    best = {
        family: {decay: confirmed(family, decay, found) for decay, found in pair.items()}
        for family, pair in runs.items()
    }
    carried = _carried_over(run, task, runs["momentum"][L2], trials, seeds)
    adaptive = {family: pair for family, pair in runs.items() if FAMILIES[family].adaptive}
    verdicts = [
        *(_gain(family, pair, task.name) for family, pair in best.items()),
        *(_easier(family, pair, task.name, task.within) for family, pair in adaptive.items()),
        _competes(best["Adam"][DECOUPLED], best["momentum"][L2], task.name),
        _regret(confirmed("Adam", L2, carried, CARRIED), best["Adam"][L2], task.name),
    ]
    return Finding(verdicts, _figures(runs, best, task))


def share(runs: xr.Dataset, best: float, drawn: NDArray[np.intp], within: float) -> float:
    """Percent of the trials whose mean test error is at most `within` points above the best."""
    mean = runs["test_error"].isel(seed=drawn).mean("seed", skipna=False)
    return 100 * float((mean <= best + within).mean())


def _name(family: str, decay: str) -> str:
    return f"optimizers, {family}, {decay}"


def _maker(task: Task, family: str, decay: str) -> Make:
    def make(learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
        return build(family, decay, task.steps, learning_rate, weight_decay)

    return make


def _trials(run: Run, task: Task, family: str, decay: str, trials: int, seeds: int) -> xr.Dataset:
    name, make = _name(family, decay), _maker(task, family, decay)
    return over_trials(run, name, task, make, search(family, decay, trials), seeds=seeds)


def _carried_over(run: Run, task: Task, source: xr.Dataset, trials: int, seeds: int) -> xr.Dataset:
    """Adam + L2 with the best λ of `source`, that of all its seeds, and as many trials of α alone."""
    best = int(source["validation_error"].mean("seed", skipna=False).argmin("trial"))
    highest = FAMILIES["Adam"].learning_rate
    axes = {
        "learning_rate": highest * 2.0 ** -np.linspace(10, 0, trials),
        "weight_decay": search("momentum", L2, trials)["weight_decay"][[best]],
    }
    name = _name("Adam", L2) + CARRIED
    return run(name, task, _maker(task, "Adam", L2), axes, seeds=seeds).isel(epoch=-1)


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


def _easier(family: str, pair: Mapping[str, xr.Dataset], where: str, within: float) -> Verdict:
    share_of_each = _share_of_each(pair, within)

    def gain(drawn: NDArray[np.intp]) -> float:
        found = share_of_each(drawn)
        return found[DECOUPLED] - found[L2]

    return Verdict(
        f"{family} is easier to tune decoupled than with L2",
        where,
        f"more trials within {within} points of the pair's best, percent of all",
        over_seeds(gain, pair[L2].sizes["seed"]),
        ">",
        0.0,
    )


def _share_of_each(
    pair: Mapping[str, xr.Dataset], within: float
) -> Callable[[NDArray[np.intp]], dict[str, float]]:
    measured = [errors(runs) for runs in pair.values()]  # once, and not in every resample

    def shares(drawn: NDArray[np.intp]) -> dict[str, float]:
        best = float(np.fmin.reduce([tuned(each, drawn) for each in measured]))
        return {decay: share(runs, best, drawn, within) for decay, runs in pair.items()}

    return shares


def _figures(runs: Searches, best: Searches, task: Task) -> dict[str, Figure]:
    tested = {
        family: {decay: error(each) for decay, each in pair.items()}
        for family, pair in best.items()
    }
    shares = {family: _shares(pair, task.within) for family, pair in runs.items()}
    near = f"trials within {task.within} points of the pair's best (%)"
    return {
        f"optimizers {task.name}": bars(tested, ylabel="tuned test error (%)"),
        f"sensitivity {task.name}": bars(shares, ylabel=near),
    }


def _shares(pair: Mapping[str, xr.Dataset], within: float) -> dict[str, Estimate]:
    share_of_each = _share_of_each(pair, within)
    return {
        decay: over_seeds(
            lambda drawn: share_of_each(drawn)[decay],  # noqa: B023
            runs.sizes["seed"],
        )
        for decay, runs in pair.items()
    }
