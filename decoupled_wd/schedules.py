"""Learning-rate schedules that optax lacks: cosine annealing with warm restarts of growing length.

The 1cycle schedule of fast.ai is
``optax.linear_onecycle_schedule(steps, peak, 0.4625, 0.925, 10, 100)`` and a step drop is
``optax.piecewise_constant_schedule``: neither is repeated here.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from decoupled_wd._base.checks import (
    LAST_STEP,
    check_at_least_one,
    check_known,
    check_nonnegative,
    check_ordered,
)
from decoupled_wd._base.types import Number, Schedule

# the table is a constant of the program: at most a megabyte
_MOST_CYCLES = 2**17


def warm_restarts(
    peak: ArrayLike, *, first_cycle_steps: int, cycle_factor: float = 2.0, floor: float = 0.0
) -> Schedule:
    """Anneal by cosine from `peak` to `floor`, in ever longer cycles.

    ``lr_t = floor + (peak − floor) · (0.5 + 0.5·cos(π · T_cur / T_i))``,
    ``T_{i+1} = cycle_factor · T_i``

    Args:
      peak: α, the learning rate right after a restart.
      first_cycle_steps: T_0 in optimiser steps (batches, not epochs), rounded to a whole number
        below 2^31.
      cycle_factor: T_mult >= 1, by which each cycle is longer; lengths are rounded to whole steps.
      floor: the learning rate that a cycle approaches at its end, in the units of `peak`.

    Returns:
      A schedule from the step count to the learning rate, both scalars.

    Raises:
      TypeError, ValueError: a number is out of range, or `cycle_factor` so little above 1 that
        there are more than 2^17 cycles in the 2^31 steps that optax counts.

    Examples:
      >>> schedule = warm_restarts(1.0, first_cycle_steps=100)
      >>> [round(float(schedule(step)), 3) for step in (0, 50, 99, 100, 200, 300)]
      [1.0, 0.5, 0.0, 1.0, 0.5, 1.0]

    Source: arXiv 1711.05101, appendix B.2, eq. (14); the floor is that of SGDR, arXiv 1608.03983,
      eq. (5).
    """
    check_nonnegative("peak", peak)
    check_nonnegative("floor", floor)
    check_ordered("floor", floor, "the peak", peak)
    check_cycles(first_cycle_steps, cycle_factor)

    def schedule(step: Number) -> Number:
        _, t_cur, t_i = cycle(step, first_cycle_steps, cycle_factor)
        return floor + (peak - floor) * (0.5 + 0.5 * jnp.cos(jnp.pi * t_cur / t_i))

    return schedule


def cycle(
    step: Number, first_cycle_steps: int, cycle_factor: float
) -> tuple[Number, Number, Number]:
    """Return ``(i, T_cur, T_i)``: the cycle, the steps in it, its length."""
    table = cycle_table(first_cycle_steps, cycle_factor)
    # no table: there may be 2^31 cycles
    if cycle_factor == 1:
        length = int(table[1][0])
        return step // length, step % length, length
    starts, lengths = map(jnp.asarray, table)
    # the restart itself belongs to the new cycle
    index = jnp.searchsorted(starts, step, side="right") - 1
    return index, step - starts[index], lengths[index]


def check_cycles(first_cycle_steps: int, cycle_factor: float) -> None:
    """Check that the cycles' lengths are known, in range, and not too many."""
    for name, number in (("first_cycle_steps", first_cycle_steps), ("cycle_factor", cycle_factor)):
        check_at_least_one(name, number)
        check_known(name, number)
    if first_cycle_steps > LAST_STEP:
        raise ValueError(
            f"first_cycle_steps must be below 2^31, got {first_cycle_steps}; "
            "optax counts no more steps"
        )
    if cycle_factor != 1 and _cycles(first_cycle_steps, cycle_factor) > _MOST_CYCLES:
        raise ValueError(
            f"cycle_factor must be 1, or large enough for at most {_MOST_CYCLES} cycles in "
            f"2^31 steps, got {cycle_factor}; pass 1 for cycles of equal length"
        )


def cycle_table(first_cycle_steps: int, cycle_factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the first step and the length of every cycle.

    They are those that start within the int32 range of step counts.

    A table, and not the closed form with a logarithm, because float32 would miss restarts by a
    step.
    """
    if cycle_factor == 1:
        return np.array([0]), np.rint([float(first_cycle_steps)])
    powers = np.arange(math.ceil(_cycles(first_cycle_steps, cycle_factor)))
    lengths = np.rint(first_cycle_steps * _factor(cycle_factor) ** powers)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return starts.astype(np.int32), lengths


def _cycles(first_cycle_steps: int, cycle_factor: float) -> float:
    """Count the cycles of growing length that start before the last step.

    They are the terms of a geometric series.
    """
    factor = _factor(cycle_factor)
    return math.log1p(LAST_STEP * (factor - 1) / first_cycle_steps) / math.log(factor)


def _factor(cycle_factor: float) -> float:
    """Return the factor as a float, as powers of an int may overflow.

    One cycle that outlasts all steps is enough.
    """
    return min(float(cycle_factor), LAST_STEP + 1.0)
