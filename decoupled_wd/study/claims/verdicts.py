"""A claim of the paper after a measurement: a statistic, what was expected of it, and a verdict."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from decoupled_wd.study.claims.drawings import Drawing
from decoupled_wd.study.statistics import Estimate
from decoupled_wd.study.tasks.task import Run, Task

HOLDS, FAILS, UNDECIDED, MISSING = "holds", "does not hold", "undecided", "not measured"
MARGIN = 0.5
"""Points of test error by which two optimisers may differ and still be equally good."""


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
    margin: float = 0.0
    """How far from the bound ``≈`` reaches."""

    @property
    def verdict(self) -> str:
        """Tells whether the interval lies where it is expected.

        It holds if all of it does, does not hold if none of it does, and is undecided otherwise.

        Examples:
          >>> slope = Estimate(-0.7, -0.9, -0.5)
          >>> Verdict("λ* falls as α rises", "mnist1d", "slope", slope, "<", 0.0).verdict
          'holds'
          >>> Verdict("λ* falls as 1/α", "mnist1d", "slope", slope, "<", -0.6).verdict
          'undecided'
          >>> Verdict("There is no gain", "mnist1d", "points", slope, "≈", 0.0, margin=1.0).verdict
          'holds'
        """
        value, low, high = self.estimate
        # NaN is what differs from itself
        if value != value or low != low or high != high:
            return MISSING
        least, most = self._expected()
        if least < low and high < most:
            return HOLDS
        return FAILS if high <= least or low >= most else UNDECIDED

    @property
    def expected(self) -> str:
        """Writes the sense and the bound as the tables show them.

        Examples:
          >>> gain = Estimate(0.2, 0.1, 0.3)
          >>> Verdict("There is no gain", "", "points", gain, "≈", 0.0, 0.5).expected
          '0 ± 0.5'
        """
        text = f"{self.sense} {self.bound:g}"
        if self.sense == "≈":
            text = f"{self.bound:g} ± {self.margin:g}"
        return text.replace("-", "−")

    def _expected(self) -> tuple[float, float]:
        """Returns the open interval in which the estimate is expected."""
        if self.sense == "≈":
            return self.bound - self.margin, self.bound + self.margin
        return (-math.inf, self.bound) if self.sense == "<" else (self.bound, math.inf)

    def record(self) -> dict[str, Any]:
        """Returns the line with its verdict as JSON has it, without NaN."""
        numbers = {k: None if v != v else v for k, v in self.estimate._asdict().items()}
        line = self._asdict() | numbers | {"verdict": self.verdict}
        del line["estimate"]
        return line


class Finding(NamedTuple):
    """Holds what one experiment found, in numbers and drawings."""

    verdicts: list[Verdict]
    drawings: dict[str, Drawing]
    """By the name that the report gives to each."""
    table: Sequence[dict[str, Any]] = ()
    """Records of a grid, which all have the same keys."""


class Design(Protocol):
    """Measures a claim, with the sizes of its experiment as fields."""

    def measure(self, run: Run, task: Task) -> Finding:
        """Trains with `run`, counts, and returns what it found on the task."""
        ...
