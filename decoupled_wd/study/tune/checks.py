"""What a search is given, checked before anything is trained."""

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from optuna.distributions import FloatDistribution, IntDistribution

from decoupled_wd.study.grid.checks import check_names, with_names
from decoupled_wd.study.statistics import FRESH

Range: TypeAlias = tuple[float, float] | FloatDistribution | IntDistribution
"""The lowest and the highest value of a hyperparameter, or a distribution of Optuna."""
EVALUATIONS = 10
"""How often a run is evaluated, about, where nothing else is asked for."""
RECORDED = ("value", "stopped", "steps", "trials", "seconds", "fresh_seeds", "finalists")
"""Names that ``best.json`` and the table of trials have for other things."""


def distributions(
    space: object, make_optimizer: Callable[..., object]
) -> dict[str, FloatDistribution | IntDistribution]:
    """Returns the range of each hyperparameter as a distribution of Optuna.

    It is logarithmic where the range is above 0.

    Raises:
      TypeError: `space` maps no names to ranges, or `make_optimizer` does not take the names.
      ValueError: a range is empty or inverted, or holds what is no finite number.

    Examples:
      >>> distributions({"rate": (1e-3, 1.0)}, lambda rate: None)["rate"].log
      True
    """
    if not isinstance(space, Mapping) or not space:
        raise TypeError(
            f"space must map hyperparameters to ranges, got {space!r}; pass for example "
            "{'learning_rate': (1e-4, 1e-1)}"
        )
    # the finalists have axes of the first two names
    check_names(space, ("seed", "trial", *RECORDED))
    with_names(make_optimizer, space)
    return {name: _range(name, given) for name, given in space.items()}


def _range(name: str, given: object) -> FloatDistribution | IntDistribution:
    if isinstance(given, FloatDistribution | IntDistribution):
        if given.single():
            raise ValueError(
                f"the range of {name} is empty, got {given}; leave it out of the space"
            )
        return given
    pair = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else ()
    if len(pair) != 2 or not all(map(_finite, pair)):
        raise ValueError(
            f"the range of {name} must be two finite numbers, got {given!r}; pass the lowest and "
            "the highest, or a FloatDistribution of Optuna"
        )
    low, high = map(float, pair)
    if not low < high:
        what = "empty" if low == high else "inverted"
        remedy = "leave it out of the space" if low == high else f"pass ({high:g}, {low:g})"
        raise ValueError(f"the range of {name} is {what}, got ({low:g}, {high:g}); {remedy}")
    return FloatDistribution(low, high, log=low > 0)


def budget(*, seconds: object, runs: object, judging: int) -> tuple[float, float]:
    """Returns how long to search, and how many whole runs to spend.

    One of the two may be infinite.

    Args:
      seconds: of the clock.
      runs: whole runs, in whose training steps all is counted.
      judging: how many of them the finalists take.
    """
    for name, given in (("seconds", seconds), ("runs", runs)):
        real = isinstance(given, numbers.Real) and not isinstance(given, bool)
        if not real or not float(given) > 0:  # type: ignore[arg-type]
            raise ValueError(f"{name} must be a number > 0, got {given!r}; raise the budget")
    limits = float(seconds), float(runs)  # type: ignore[arg-type]
    if math.inf == min(limits):
        raise ValueError(
            "seconds and runs are both infinite, and the search would never end; pass seconds=600 "
            "for ten minutes"
        )
    if limits[1] < judging + 1:
        raise ValueError(
            f"runs must be at least {judging + 1}, got {runs}: the finalists take {judging}, and "
            "one must be searched; raise it, or lower finalists or seeds"
        )
    return limits


def evaluate_every(epochs: int) -> int:
    """Chooses the epochs of a round: a divisor that gives about ten rounds.

    It is never the whole run, in which nothing could be given up, unless that is one epoch.

    Examples:
      >>> evaluate_every(40), evaluate_every(7), evaluate_every(23)
      (4, 1, 1)
    """
    divisors = (every for every in range(1, max(epochs, 2)) if epochs % every == 0)
    return min(divisors, key=lambda every: abs(epochs // every - EVALUATIONS))


def metric_name(
    argument: str, name: str | None, usual: Sequence[str], metrics: Sequence[str]
) -> str:
    """Returns the metric that is meant: the named, the first usual, or the only one.

    Raises:
      ValueError: it is not there, or not told from others, or an accuracy that nobody named.
    """
    found = [each for each in ([name] if name is not None else usual) if each in metrics]
    if not found and name is None and len(metrics) == 1:
        if "accuracy" in metrics[0].lower():
            raise ValueError(
                f"the search lowers its metric, got {metrics[0]!r}, which is good where it is "
                f"high; let metric return an error, or pass {argument}={metrics[0]!r}"
            )
        return metrics[0]
    if not found:
        raise ValueError(
            f"{argument} must be one of the metrics {', '.join(metrics)}, got {name!r}; name the "
            "one that is to be low"
        )
    return found[0]


def check_judging(*, finalists: object, seeds: object, seed: object, startup: object) -> None:
    """Refuses counts of finalists and seeds that give no interval, and wrong seeds."""
    # half of the seeds choose, and of four two are left, which is the least for an interval
    given = (("finalists", finalists, 1), ("seeds", seeds, 4), ("seed", seed, 0))
    for name, count, least in (*given, ("startup", startup, 0)):
        whole = isinstance(count, numbers.Integral) and not isinstance(count, bool)
        # the seeds from FRESH on belong to the finalists
        if not (whole and least <= int(count) < FRESH):  # type: ignore[call-overload]
            raise ValueError(
                f"{name} must be a whole number from {least} to {FRESH - 1}, got {count!r}; pass "
                "an int"
            )


def _finite(number: object) -> bool:
    real = isinstance(number, numbers.Real) and not isinstance(number, bool)
    return real and math.isfinite(number)  # type: ignore[arg-type]
