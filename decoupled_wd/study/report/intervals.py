"""Every interval on one axis: how far it lies from its bound, in units of what matters."""

from typing import NamedTuple

from decoupled_wd.study.claims.verdicts import MISSING, Verdict

REACH = 4.0
"""Units to both sides of the bound that are shown."""


class Bar(NamedTuple):
    """Holds an interval as the page draws it, in units of what matters from the bound.

    Expected is to the right of 0; or, where two things should be equal, between -1 and 1. What lies
    beyond the axis is at its end.
    """

    low: float
    value: float
    high: float


def bar(verdict: Verdict) -> Bar | None:
    """Returns the bar of a verdict, or None where nothing was measured.

    Examples:
      >>> from decoupled_wd.study.statistics import Estimate
      >>> gain = Verdict("It gains", "", "points", Estimate(1.0, 0.5, 9.0), ">", 0.0, margin=1.0)
      >>> bar(gain)
      Bar(low=0.5, value=1.0, high=4.0)
    """
    if verdict.verdict == MISSING:
        return None
    sign = -1.0 if verdict.sense == "<" else 1.0
    # without a smallest effect the bound itself is the unit
    unit = verdict.margin or abs(verdict.bound) or 1.0
    # a change of sign turns low and high round
    low, value, high = sorted(
        sign * (number - verdict.bound) / unit for number in verdict.estimate[:3]
    )
    return Bar(*(min(max(number, -REACH), REACH) for number in (low, value, high)))
