"""A claim of the paper as it stands after a measurement: a statistic, what was expected of it, and a verdict."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from decoupled_wd.study.statistics import Estimate

HOLDS, FAILS, UNDECIDED, MISSING = "holds", "does not hold", "undecided", "not measured"


class Verdict(NamedTuple):
    """One line of the study's table of verdicts."""

    statement: str
    """What the paper says, in words that the statistic decides."""
    where: str
    """Data set, network and learning rate schedule."""
    statistic: str
    """What was measured, with its unit."""
    estimate: Estimate
    sense: str
    """``<``, ``>`` or ``≈``."""
    bound: float

    @property
    def verdict(self) -> str:
        """Whether the interval lies on the expected side of the bound; for ``≈``, whether it holds it.

        Examples:
          >>> slope = Estimate(-0.7, -0.9, -0.5)
          >>> Verdict("λ* falls as α rises", "mnist1d", "slope", slope, "<", 0.0).verdict
          'holds'
          >>> Verdict("λ* falls as 1/α", "mnist1d", "slope", slope, "<", -0.6).verdict
          'undecided'
        """
        value, low, high = self.estimate
        if value != value or low != low or high != high:
            return MISSING
        if self.sense == "≈":
            return HOLDS if low <= self.bound <= high else FAILS
        if self.sense == ">":
            low, high = -high, -low
        bound = self.bound if self.sense == "<" else -self.bound
        return HOLDS if high < bound else FAILS if low >= bound else UNDECIDED

    def record(self) -> dict[str, Any]:
        """The line as JSON has it: no NaN, and the verdict with it."""
        numbers = {k: None if v != v else v for k, v in self.estimate._asdict().items()}
        line = self._asdict() | numbers | {"verdict": self.verdict}
        del line["estimate"]
        return line


class Finding(NamedTuple):
    """What one experiment found: lines of the table of verdicts, figures by file name, records of a grid."""

    verdicts: list[Verdict]
    figures: dict[str, Figure]
    table: Sequence[dict[str, Any]] = ()
