"""A user's own power law for the timescale, from small runs whose λ was tuned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from decoupled_wd._base.checks import check_positive, check_type
from decoupled_wd.planning._formulas import share_of
from decoupled_wd.planning._run import Run

# e^60 times the run, or as small a share of it, is no timescale
_FARTHEST = 60.0
# e to more than that is no number
_STEEPEST = 700.0
Over = Literal["data_per_parameter", "data_seen", "parameters", "width", "depth", "batch_size"]


class Share(NamedTuple):
    """The best timescale of a run as a share of it, with the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TimescaleFit:
    """A power law ``τ = a·x^m`` for the best timescale τ = b/(c·D), as a share of the run.

    Its numbers are those of least squares: a, m with the ends of its interval, how many runs, the
    level, the least and the greatest x, and in log x their mean, the sum of squared deviations,
    and the standard deviation of log τ about the line.
    """

    over: Over
    coefficient: float
    exponent: float
    exponent_low: float
    exponent_high: float
    runs: int
    level: float
    lowest: float
    highest: float
    mean: float
    spread: float
    scatter: float

    def share(self, run: Run) -> Share:
        """Predict the best τ of a run, with the interval of a run that is tuned once more.

        ``log τ ± t·s·√(1 + 1/n + (log x − mean)² / Sxx)``
        """
        x = math.log(getattr(run, self.over))
        line = math.log(self.coefficient) + self.exponent * x
        doubt = math.sqrt(1 + 1 / self.runs + (x - self.mean) ** 2 / self.spread)
        half = student(self.level, self.runs - 2) * self.scatter * doubt
        if abs(line) + half > _FARTHEST:
            raise ValueError(
                f"fitted on {self.over}={self.lowest:.4g} to {self.highest:.4g}, the law says "
                f"nothing of {self.over}={math.exp(x):g}; pass a run nearer to these, or fit more "
                "runs, farther apart"
            )
        return Share(math.exp(line), math.exp(line - half), math.exp(line + half))

    def outside(self, run: Run, _: Run) -> str:
        """Where x of the run is not among those of the runs that were fitted."""
        x = getattr(run, self.over)
        if self.lowest <= x <= self.highest:
            return ""
        words = self.over.replace("_", " ")
        return f"fitted on {words} of {self.lowest:.4g} to {self.highest:.4g}, and it is {x:.4g}"


def fit_timescale(
    runs: Sequence[Run], *, over: Over = "data_per_parameter", level: float = 0.95
) -> TimescaleFit:
    """Fit a power law to the best timescales of tuned runs: ``log τ = log a + m·log x``.

    τ = b/(c·D) is the timescale as a share of the run, c = λ·α^p at the peak. Pass the result to
    `plan` as ``fitted``.

    Args:
      runs: three or more, each with the λ that was found best for it, in the unit of its coupling.
      over: x, the number of a run that τ is taken to depend on: "data_per_parameter" for D/N,
        "data_seen" for D, "parameters", "width", "depth" or "batch_size".
      level: of the intervals, which are Student's t.

    Returns:
      A `TimescaleFit`, with ``coefficient`` a, ``exponent`` m and its interval.

    Raises:
      TypeError, ValueError: there are fewer than three runs, x is the same in all of them, or one
        lacks its λ or x.

    Examples:
      >>> best = {1e7: 2.5e-3, 4e7: 1.2e-3, 16e7: 6.5e-4}  # λ by the tokens seen
      >>> runs = [Run(1e-3, 1e4, d, weight_decay=c, parameters=1e6) for d, c in best.items()]
      >>> fit = fit_timescale(runs)
      >>> f"{fit.exponent:.2f}, {fit.exponent_low:.2f} to {fit.exponent_high:.2f}"
      '-0.51, -0.83 to -0.19'

    Source: the form is that of Bergsma et al., arXiv 2505.13738; the interval is that of simple
      linear regression.
    """
    _check(runs, over, level)
    x = np.log([getattr(run, over) for run in runs])
    y = np.log([share_of(run) for run in runs])
    mean, n = float(x.mean()), len(runs)
    spread = float(np.sum((x - mean) ** 2))
    slope = float(np.sum((x - mean) * y)) / spread
    start = float(y.mean()) - slope * mean
    if abs(start) > _STEEPEST:
        raise ValueError(
            f"runs have {over} from {math.exp(x.min()):.4g} to {math.exp(x.max()):.4g}, too near "
            "each other for a power law; pass runs that differ more"
        )
    scatter = math.sqrt(float(np.sum((y - start - slope * x) ** 2)) / (n - 2))
    half = student(level, n - 2) * scatter / math.sqrt(spread)
    lowest, highest = math.exp(x.min()), math.exp(x.max())
    return TimescaleFit(
        over=over,
        coefficient=math.exp(start),
        exponent=slope,
        exponent_low=slope - half,
        exponent_high=slope + half,
        runs=n,
        level=level,
        lowest=lowest,
        highest=highest,
        mean=mean,
        spread=spread,
        scatter=scatter,
    )


def student(level: float, freedom: int) -> float:
    """Return the t within which Student's distribution has the share `level`, by bisection.

    With ``t = √ν·tan θ`` the share is a finite sum of powers of cos θ.
    """
    low, high = 0.0, math.pi / 2
    # each halving adds a bit, until the angle is that of float64
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if _within(angle, freedom) < level else (low, angle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """The share of ``|t| <= √ν·tan θ``: Abramowitz & Stegun, 26.7.3 and 26.7.4."""
    odd = freedom % 2
    sine, cosine = math.sin(angle), math.cos(angle)
    term = cosine if odd else 1.0
    total = 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= k / (k + 1) * cosine**2
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _check(runs: Sequence[Run], over: str, level: float) -> None:
    if over not in get_args(Over):
        raise ValueError(f"over must be one of {get_args(Over)}, got {over!r}; pass one of them")
    check_positive("level", level)
    if level >= 1:
        raise ValueError(f"level must be below 1, got {level}; 0.95 is usual")
    if not isinstance(runs, list | tuple) or len(runs) < 3:
        raise ValueError(
            f"runs must be a list of three runs or more, got {runs!r}; two points leave no interval"
        )
    for index, run in enumerate(runs):
        check_type(f"runs[{index}]", run, Run, "pass dwd.Run(…) with its best weight_decay")
        for name in ("weight_decay", "parameters" if over == "data_per_parameter" else over):
            if not getattr(run, name):
                raise ValueError(
                    f"runs[{index}] has {name}={getattr(run, name)}; pass {name}= above 0, of the "
                    "run at its best λ"
                )
    x = [getattr(run, over) for run in runs]
    # D/N of equal ratios may differ in their last digit
    if math.isclose(min(x), max(x)):
        raise ValueError(
            f"all runs have the {over} {getattr(runs[0], over):g}, and a power law needs two; pass "
            "runs that differ in it, or another over="
        )
