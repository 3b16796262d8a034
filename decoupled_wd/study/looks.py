"""Looks at every statement again, with more seeds, until it is decided or the time is up."""

import itertools
import time
from collections.abc import Callable, Iterable, Sequence

from decoupled_wd.study.claims.verdicts import DECIDED, Finding, Verdict
from decoupled_wd.study.experiment import Experiment

Measure = Callable[[Experiment, int], Finding]
"""``measure(experiment, look) -> finding``, with the seeds of all looks so far."""


def look(
    experiments: Sequence[Experiment],
    measure: Measure,
    *,
    seconds: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
) -> list[tuple[Experiment, Finding]]:
    """Measures all experiments, then again those in which something is undecided.

    The first verdict that decides a statement stays, with its interval, since each look has its
    share of the error. An experiment is left out once it would take more than what is left of the
    time. How long it takes is told by its profile at first, and then by its own last look.

    Args:
      experiments: what is measured, in this order at each look.
      measure: trains what the look adds, and judges.
      seconds: the time that all of it may take.
      clock: tells the time, in seconds.

    Returns:
      The experiments that were measured, each with what was found.

    Raises:
      ValueError: the time is too short for the first look of any experiment.
    """
    started = clock()
    found: dict[int, Finding] = {}
    took: dict[int, float] = {}
    left_out: set[int] = set()
    # looks are outermost: all experiments are measured once before any is looked at again
    for number in range(max(len(each.design.looks) for each in experiments)):
        for place, each in enumerate(experiments):
            is_open = number == 0 or _is_open(found.get(place))
            if number >= len(each.design.looks) or not is_open or place in left_out:
                continue
            before = clock()
            if before - started + _expected(each, number, took.get(place)) > seconds:
                # for good, as a later look would train these seeds too; a shorter one may fit
                left_out.add(place)
                continue
            finding = measure(each, number)
            took[place] = clock() - before
            found[place] = _first_decided(found.get(place), finding, took[place])
    if not found:
        least = min(_expected(each, 0, None) for each in experiments)
        raise ValueError(
            f"--minutes {seconds / 60:g} is too short for any experiment: the shortest takes "
            f"{least / 60:.1f}; pass more"
        )
    return [(experiments[place], found[place]) for place in sorted(found)]


def _is_open(finding: Finding | None) -> bool:
    return finding is not None and any(v.verdict not in DECIDED for v in finding.verdicts)


def _first_decided(earlier: Finding | None, later: Finding, seconds: float) -> Finding:
    """Returns the later finding, with the verdicts that were decided before."""
    if earlier is None:
        return later._replace(seconds=seconds)
    # an experiment makes the same statements in the same order at every look
    pairs: Iterable[tuple[Verdict, Verdict]] = zip(earlier.verdicts, later.verdicts, strict=True)
    verdicts = [old if old.verdict in DECIDED else new for old, new in pairs]
    return later._replace(verdicts=verdicts, seconds=earlier.seconds + seconds)


def _expected(experiment: Experiment, number: int, took: float | None) -> float:
    """Estimates how many seconds a look takes, from the last one and the seeds of both."""
    if number == 0 or took is None:
        return experiment.seconds
    looks = (0, *experiment.design.looks)
    added = [last - first for first, last in itertools.pairwise(looks)]
    return took * added[number] / added[number - 1]
