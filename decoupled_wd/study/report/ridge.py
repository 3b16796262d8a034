"""A search's ridge in words: how the best λ moves with α, and the coupling that would hold it."""

import math
from typing import NamedTuple

import numpy as np

from decoupled_wd import CONSTANT, CORRECTED, LR, PAPER, SQUARED, Coupling
from decoupled_wd.study.report.pieces import interval, with_ends
from decoupled_wd.study.report.search import DECAY, RATE, Search
from decoupled_wd.study.response import LEAST, Valley
from decoupled_wd.study.statistics import Estimate

NAMED = {"PAPER": PAPER, "LR": LR, "CONSTANT": CONSTANT, "CORRECTED": CORRECTED, "SQUARED": SQUARED}


class Flat(NamedTuple):
    """Holds the p of the coupling whose best λ stays, and which of ours may have it."""

    p: Estimate
    names: tuple[str, ...]

    @property
    def words(self) -> str:
        """Says which coupling of ours it is, if any."""
        if len(self.names) == 1:
            return f"That is dwd.{self.names[0]}."
        if self.names:
            several = " and ".join(f"dwd.{name}" for name in self.names)
            return f"The interval holds {several}; more trials would tell them apart."
        if self.p.high < 0:
            return "No coupling has p < 0; of ours dwd.PAPER is the nearest."
        return "None of ours has it."


def flat(slope: Estimate, coupling: Coupling) -> Flat:
    """Returns the coupling under which the best λ would be the same at every α.

    A step removes ``c = λ·α^p``. Along the ridge λ goes as ``α^slope``, so c as ``α^(p + slope)``:
    under a coupling with this exponent the same c takes the same λ.

    A search has one schedule, and tells nothing of s: couplings with the s that was used come
    first.

    Examples:
        >>> found = flat(Estimate(-0.95, -1.1, -0.8), LR)
        >>> round(found.p.value, 2), found.words
        (0.05, 'That is dwd.PAPER.')
    """
    low, value, high = (coupling.p + number for number in (slope.low, slope.value, slope.high))
    within = {name: each for name, each in NAMED.items() if low <= each.p <= high}
    alike = tuple(name for name, each in within.items() if each.s == coupling.s)
    return Flat(slope._replace(value=value, low=low, high=high), alike or tuple(within))


def ridge_words(search: Search, valley: Valley | None, coupling: Coupling | None) -> list[str]:
    """Says how the best λ moves with α and which coupling would hold it, or why that is not known.

    Each of the texts is a paragraph. The coupling is None where λ is L2's.
    """
    if {*search.space} != {RATE, DECAY}:
        return ["A ridge is the best λ for each α: it takes a search over these two alone."]
    if {*search.log} != {RATE, DECAY}:
        return ["A ridge is a line in logarithms; this search did not spread both over them."]
    if valley is None:
        whole = int(np.isfinite(search.trials["value"]).sum())
        return [
            f"The trials show no ridge: {whole} came to their end, and it takes {LEAST} on both "
            "sides of it. With more of them, or with fewer stopped early, it may appear."
        ]
    slope = valley.slope
    if not math.isfinite(slope.low):
        return [
            f"The trials do not tell the ridge's slope: {_held(slope)} is the likeliest, and no "
            "other is excluded. More trials on both sides of the ridge would tell."
        ]
    times = 2.0**-slope.value
    moves = f"at half the learning rate the best λ is {times:.2g} times what it is"
    ridge = (
        "The ridge is the best λ for each α. In this model its slope, d log λ / d log α, is "
        f"{_held(slope)}: {moves}."
    )
    if coupling is None:
        return [ridge, "This λ is that of L2, a part of the gradient: it has no coupling."]
    found = flat(slope, coupling)
    return [
        ridge,
        f"The coupling of the search removes {coupling.formula} in a step. One with p = "
        f"{_held(found.p)} would make the ridge flat, so that the best λ stays when the learning "
        f"rate moves. {found.words} Of its s, the part of the schedule, a search under one "
        "schedule tells nothing.",
    ]


def _held(estimate: Estimate) -> str:
    return with_ends(estimate) if math.isfinite(estimate.low) else interval(estimate)[0]
