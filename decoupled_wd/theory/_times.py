"""How long a weight remembers: timescale, half-life, and the share of each step in the result."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from decoupled_wd._base.checks import check_nonnegative
from decoupled_wd._base.types import ScalarOrSchedule
from decoupled_wd.theory._schedules import check_steps, values


def timescale(fraction: float) -> float:
    """Return the steps over which AdamW averages its updates: ``1/c``.

    After so many steps an update is worth 1/e.

    Args:
      fraction: c >= 0, what a step removes.

    Returns:
      Steps, a float; ∞ where c = 0. `from_timescale` is its inverse.

    Raises:
      TypeError, ValueError: the fraction is out of range.

    Examples:
      >>> timescale(1e-3 * 0.1)  # torch's lr·λ
      10000.0

    Source: Wang & Aitchison, arXiv 2405.13698, section 3.
    """
    check_nonnegative("fraction", fraction)
    return 1 / fraction if fraction else math.inf


def half_life(fraction: float) -> float:
    """Return the steps in which an idle weight halves.

    ``ln 2 / −ln(1 − c)``

    Args:
      fraction: c >= 0, what a step removes.

    Returns:
      Steps, a float; ∞ where c = 0, and 0 where c >= 1. `from_half_life` is its inverse.

    Raises:
      TypeError, ValueError: the fraction is out of range.

    Examples:
      >>> half_life(0.5)
      1.0
    """
    check_nonnegative("fraction", fraction)
    # log1p(0) is 0, by which Python refuses to divide
    if fraction == 0:
        return math.inf
    # one step removes it whole, or makes it swing
    return 0.0 if fraction >= 1 else -math.log(2) / math.log1p(-fraction)


class Influence(NamedTuple):
    """The share of each step in the final weights, and the steps at the end that make half."""

    shares: np.ndarray
    half_life: int


def influence(learning_rate: ScalarOrSchedule, fraction: ScalarOrSchedule, steps: int) -> Influence:
    """Return the share of each step, and of its examples, in the final weights.

    ``w_t ∝ lr_t · Π_{s>t} (1 − c_s)``, with Σ w_t = 1

    AdamW's final weights are ``Σ_t w_t·u_t`` of its normalised updates u, and what is left of the
    start. Schedules are computed in their own precision, products and sums in float64.

    Args:
      learning_rate: lr_t, a number or a schedule.
      fraction: c_t between 0 and 1, a number or a schedule, such as that of `Coupling.fraction`.
      steps: the steps of the run, a whole number.

    Returns:
      An `Influence`: ``shares``, one for each step, in float64; and ``half_life``, the number of
      last steps that together make half of the result.

    Raises:
      TypeError, ValueError: a number is out of range, or the learning rate is 0 at every step.

    Examples:
      >>> memory = influence(1e-3, 0.5, steps=3)
      >>> [round(float(share), 4) for share in memory.shares]
      [0.1429, 0.2857, 0.5714]
      >>> influence(1e-3, 1e-4, steps=200_000).half_life  # that of an idle weight
      6932

    Source: Wang & Aitchison, arXiv 2405.13698, section 3, with lr_t and c_t of each step.
    """
    check_steps(steps)
    logs = np.empty(int(steps))
    later = 0.0
    # from the end, as what a step leaves depends on those after it
    for block in reversed(list(values(steps, learning_rate=learning_rate, fraction=fraction))):
        start, lr, c = block
        with np.errstate(divide="ignore"):
            left = np.log1p(-c)
            after = np.cumsum(left[::-1])[::-1]
            logs[start : start + len(c)] = np.log(lr) + np.append(after[1:], 0.0) + later
        later += after[0]
    highest = logs.max()
    if highest == -np.inf:
        raise ValueError(
            "learning_rate is 0 at every step, or all of the weight is removed after it; pass "
            "the schedule that the optimiser follows"
        )
    # of the largest first, so that no share that counts is rounded to 0
    shares = np.exp(logs - highest)
    shares /= shares.sum()
    half_life = int(np.searchsorted(np.cumsum(shares[::-1]), 0.5)) + 1
    return Influence(shares, half_life)
