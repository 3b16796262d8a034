"""A claim of the paper after a measurement: a statistic, what was expected of it, and a verdict."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.stats import false_discovery_control, norm  # type: ignore[import-untyped]
from scipy.stats import t as student

from decoupled_wd.study.claims.drawings import Drawing
from decoupled_wd.study.statistics import Estimate, half_width
from decoupled_wd.study.tasks.task import Run, Task

HOLDS, FAILS, UNDECIDED, MISSING = "holds", "does not hold", "undecided", "not measured"
SAME = "no difference that matters"
DECIDED = (HOLDS, FAILS, SAME)
ERROR = 0.05
"""How often a verdict may be wrong, whatever the truth, over all looks at it."""
SLOPE = 0.25
"""The smallest slope of a ridge that matters: a quarter of an octave of λ an octave of α."""

OCTAVE = 0.2
"""The smallest speed-up that matters, as log2: 15 % of the epochs."""


def level(looks: Sequence[int]) -> float:
    """Returns the level of each interval, if the data are looked at so many times.

    The error is shared among the looks (Bonferroni), so that all intervals hold the truth at once
    in 95 % of cases, and whichever of them decides is right as often.

    Examples:
      >>> round(level((8, 16)), 4)
      0.975
    """
    return 1 - ERROR / len(looks)


class Verdict(NamedTuple):
    """Holds one line of the study's table of verdicts."""

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
    """With ``≈`` how far from the bound it may be; else the smallest effect that matters."""
    looks: int = 1
    """How often the statement may be looked at; each interval has its share of the error."""

    @property
    def verdict(self) -> str:
        """Tells whether the interval lies where it is expected.

        It holds if all of it does, does not hold if none of it does, and is undecided otherwise.
        With ``<`` and ``>`` an interval less than `margin` from the bound on both sides says that
        there is no difference that matters.

        Examples:
          >>> slope = Estimate(-0.7, -0.9, -0.5)
          >>> Verdict("λ* falls as α rises", "mnist1d", "slope", slope, "<", 0.0).verdict
          'holds'
          >>> Verdict("λ* falls as 1/α", "mnist1d", "slope", slope, "<", -0.6).verdict
          'undecided'
          >>> Verdict("λ* falls as 1/α", "mnist1d", "slope", slope, "<", -0.6, 0.4).verdict
          'no difference that matters'
          >>> Verdict("There is no gain", "mnist1d", "points", slope, "≈", 0.0, margin=1.0).verdict
          'holds'
        """
        value, low, high, *_ = self.estimate
        # NaN is what differs from itself
        if value != value or low != low or high != high:
            return MISSING
        least, most = self._expected()
        # asked first: a difference may be certain and still too small to matter
        if self.sense != "≈" and self.bound - self.margin < low <= high < self.bound + self.margin:
            return SAME
        # an end that nothing is expected of may lie anywhere
        if (low > least or math.isinf(least)) and (high < most or math.isinf(most)):
            return HOLDS
        return FAILS if high <= least or low >= most else UNDECIDED

    @property
    def p_value(self) -> float:
        """Returns how often chance alone decides so clearly, for the least favourable truth.

        It is Student's, of the distance from the nearest truth that the verdict denies, times the
        number of looks; 1 for what is not decided.
        """
        _, low, high, error, seeds = self.estimate
        if self.verdict not in DECIDED:
            return 1.0
        # nothing random entered, so that chance decides nothing
        if not error:
            return 0.0
        near = [self.bound - self.margin, self.bound + self.margin]
        denied = near if self.verdict == SAME or self.sense == "≈" else [self.bound]
        degrees = max(seeds - 1, 1)
        # from the value, or from where a leeway may have it: within its end by what chance has
        distance = min(max(low - bound, bound - high) for bound in denied) + self._chance
        return min(1.0, self.looks * 2 * float(student.sf(distance / error, degrees)))

    @property
    def seeds_needed(self) -> int:
        """Estimates how many seeds would decide, if the statistic stays where it is.

        The interval shrinks with the root of their number, and as Student's quantile does, from
        that of the seeds there are to the normal one: ``n = (z·s/room)² + z²/2``.

        Source: Guenther 1981, Sample size formulas for normal theory t tests.
        """
        value, low, high, _, seeds = self.estimate
        least, most = self._expected()
        ends = [end for end in (least, most) if math.isfinite(end)]
        if self.sense != "≈" and self.margin:
            # either clear of the bound, or within the margin on both its sides
            clear = abs(value - self.bound)
            within = self.margin - clear
            room = max(clear, within)
        else:
            room = min(abs(value - end) for end in ends)
        half = (high - low) / 2
        if not room or not math.isfinite(half):
            return 10**9
        normal = float(norm.ppf((1 + self._level) / 2))
        spread = half * normal / float(half_width(1.0, seeds, self._level))
        return math.ceil(seeds * (spread / room) ** 2 + normal**2 / 2)

    @property
    def closed(self) -> "Verdict":
        """Returns it with an interval that chance alone makes, as if no valley were open."""
        value = self.estimate.value
        low, high = value - self._chance, value + self._chance
        return self._replace(estimate=self.estimate._replace(low=low, high=high))

    @property
    def _chance(self) -> float:
        """Returns half the width of the interval that chance alone makes: Student's."""
        _, _, _, error, seeds = self.estimate
        return float(half_width(error, seeds, self._level))

    @property
    def _level(self) -> float:
        """Returns the level of the interval: the looks share the error."""
        return level(range(self.looks))

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
        """Returns the line with its verdict as JSON has it, without NaN and infinity."""
        numbers = {k: v if math.isfinite(v) else None for k, v in self.estimate._asdict().items()}
        line = self._asdict() | numbers | {"verdict": self.verdict}
        del line["estimate"]
        return line


def expected_wrong(verdicts: Sequence[Verdict]) -> float:
    """Bounds how many of the decided verdicts are expected to be wrong.

    It is their number times the largest of their q-values; those of statements that nothing random
    enters are left out.

    Source: Benjamini & Hochberg 1995.
    """
    decided = [v.p_value for v in verdicts if v.verdict in DECIDED and v.estimate.standard_error]
    if not decided:
        return 0.0
    return len(decided) * float(np.max(false_discovery_control(decided)))


class Finding(NamedTuple):
    """Holds what one experiment found, in numbers and drawings."""

    verdicts: list[Verdict]
    drawings: dict[str, Drawing]
    """By the name that the report gives to each."""
    table: Sequence[dict[str, Any]] = ()
    """Records of a grid, which all have the same keys."""
    seconds: float = 0.0
    """How long all looks took."""


class Design(Protocol):
    """Measures a claim, with the sizes of its experiment as fields."""

    @property
    def looks(self) -> tuple[int, ...]:
        """Returns how many seeds there are at each look; later looks are taken if needed."""
        ...

    def measure(self, run: Run, task: Task, look: int) -> Finding:
        """Trains on the task with `run` up to this look, and returns what it found."""
        ...
