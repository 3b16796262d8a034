"""Looks at every statement again, with more seeds, until it is decided or the time is up."""

import math
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

from decoupled_wd.study.claims.verdicts import DECIDED, Finding, Verdict
from decoupled_wd.study.experiment import Experiment

Measure = Callable[[Experiment, int], Finding]
"""``measure(experiment, look) -> finding``, with the seeds of all looks so far."""


class _Seen(NamedTuple):
    """Holds what the looks at one experiment found so far."""

    experiment: Experiment
    finding: Finding
    looks: int
    took: float
    """Seconds of the last look."""

    @property
    def undecided(self) -> list[Verdict]:
        """Lists the statements that another look may decide; none after the last look."""
        if self.looks == len(self.experiment.design.looks):
            return []
        return [v for v in self.finding.verdicts if v.verdict not in DECIDED]

    @property
    def seconds(self) -> float:
        """Estimates how long the next look takes, from the last one and the seeds of both."""
        sizes = (0, *self.experiment.design.looks)
        if self.looks == len(sizes) - 1:
            return 0.0
        last, added = (sizes[n + 1] - sizes[n] for n in (self.looks - 1, self.looks))
        again = self.experiment.again if self.looks == 1 else 1.0
        return self.took * again * added / last

    @property
    def promise(self) -> float:
        """Estimates how many statements the next look decides."""
        sizes = self.experiment.design.looks
        return sum(
            # with how many times as many seeds, of those that seem to be needed
            min(1.0, sizes[self.looks] / sizes[self.looks - 1] * v.estimate.seeds / needed)
            for v in self.undecided
            for needed in [max(1, _perhaps_closed(v).seeds_needed)]
        )


def _perhaps_closed(verdict: Verdict) -> Verdict:
    """Returns a verdict as it may become: with more seeds a valley may close that seemed level."""
    width = verdict.estimate.high - verdict.estimate.low
    return verdict.closed if math.isinf(width) else verdict


def _seconds(together: Iterable[_Seen]) -> float:
    """Estimates how long the next look at experiments takes that share what they train.

    At the first look one of them trained for all, and which one trains next is not known.
    """
    return sum(each.seconds for each in together)


def _promise(together: Sequence[_Seen]) -> float:
    """Estimates how many statements the next look at them decides in a second of it."""
    # a fake clock may stand still
    return sum(each.promise for each in together) / max(_seconds(together), 1e-9)


def look(
    experiments: Sequence[Experiment],
    measure: Measure,
    *,
    seconds: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
) -> list[tuple[Experiment, Finding]]:
    """Measures all experiments, then again those in which something is undecided.

    The first verdict that decides a statement stays, with its interval, since each look has its
    share of the error. Which experiment is looked at next is free: it is the one that is expected
    to decide most in its time, together with those that share what it trains. None is begun that
    would take more than what is left. How long it takes is told by its profile at first, and then
    by its own last look.

    Args:
      experiments: what is measured, in this order at the first look.
      measure: trains what the look adds, and judges.
      seconds: the time that all of it may take.
      clock: tells the time, in seconds.

    Returns:
      The experiments that were measured, each with what was found.

    Raises:
      ValueError: the time is too short for the first look of any experiment.
    """
    started = clock()
    seen: dict[int, _Seen] = {}

    def fits(expected: float) -> bool:
        return clock() - started + expected <= seconds

    def look_at(place: int) -> None:
        each, before = experiments[place], clock()
        earlier = seen.get(place)
        number = earlier.looks if earlier else 0
        finding = measure(each, number)
        took = clock() - before
        kept = _first_decided(earlier.finding if earlier else None, finding, took)
        seen[place] = _Seen(each, kept, number + 1, took)

    # all of them once before any is looked at again
    for place, each in enumerate(experiments):
        if fits(each.seconds):
            look_at(place)
    if not seen:
        least = min(each.seconds for each in experiments)
        raise ValueError(
            f"--minutes {seconds / 60:g} is too short for any experiment: the shortest takes "
            f"{least / 60:.1f}; pass more"
        )
    groups = [[p for p in group if p in seen] for group in _groups(experiments)]

    def wanted(group: list[int]) -> bool:
        return any(seen[p].undecided for p in group) and fits(_seconds(seen[p] for p in group))

    while left := [group for group in groups if wanted(group)]:
        for place in max(left, key=lambda group: _promise([seen[p] for p in group])):
            if seen[place].undecided:
                look_at(place)
    return [(experiments[place], each.finding) for place, each in seen.items()]


def _groups(experiments: Sequence[Experiment]) -> list[list[int]]:
    """Lists the places of experiments that share what they train, and of each other one."""
    groups: dict[Hashable, list[int]] = {}
    for place, each in enumerate(experiments):
        key = (each.dataset, each.network, each.shares) if each.shares else place
        groups.setdefault(key, []).append(place)
    return [*groups.values()]


def _first_decided(earlier: Finding | None, later: Finding, seconds: float) -> Finding:
    """Returns the later finding, with the verdicts that were decided before."""
    if earlier is None:
        return later._replace(seconds=seconds)
    # an experiment makes the same statements in the same order at every look
    pairs: Iterable[tuple[Verdict, Verdict]] = zip(earlier.verdicts, later.verdicts, strict=True)
    verdicts = [old if old.verdict in DECIDED else new for old, new in pairs]
    return later._replace(verdicts=verdicts, seconds=earlier.seconds + seconds)
