"""What a run of steps leads to, where the learning rate and the decay follow schedules."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from decoupled_wd._base.checks import (
    LAST_STEP,
    check_at_least_one,
    check_known,
    check_nonnegative,
    scheduled,
)
from decoupled_wd._base.types import ScalarOrSchedule

# large enough for one call to cost nothing, small enough to stay in a cache
_BLOCK = 2**18


def norms(
    learning_rate: ScalarOrSchedule,
    fraction: ScalarOrSchedule,
    steps: int,
    *,
    start: float,
    step_norm: float,
) -> np.ndarray:
    """Return the norm of a weight after each step, on its way to the equilibrium.

    ``r_{t+1}² = (1 − c_t)²·r_t² + (lr_t·s)²``

    It is the random walk behind the norms at equilibrium, where they are never reached because
    lr_t and c_t move. It lags by the 1/(1 − β) steps of the moving average, which should be few
    beside 1/c and the length of the schedule.

    Args:
      learning_rate: lr_t, a number or a schedule.
      fraction: c_t between 0 and 1, a number or a schedule, such as that of `Coupling.fraction`.
      steps: the steps of the run, a whole number.
      start: the L2 norm before the first step.
      step_norm: s, what a step of ``lr = 1`` adds in the long run: √C for AdamW with C coordinates,
        which is ``adamw_norm(0.5, learning_rate=1, size=C)``. That of Lion and Muon is the same
        call of `lion_norm` and `muon_norm`. SGDW has none, as its steps depend on the norm.

    Returns:
      L2 norms in float64, one after each step.

    Raises:
      TypeError, ValueError: a number is out of range.

    Examples:
      >>> norms(0.1, 0.005, steps=3, start=2.0, step_norm=1.0).round(4).tolist()
      [1.9925, 1.9851, 1.9777]

    Source: Kosson et al., arXiv 2305.17212, section 3, before the fixed point is taken.
    """
    check_steps(steps)
    check_nonnegative("start", start)
    check_nonnegative("step_norm", step_norm)
    squares = [float(start) ** 2]
    for _, lr, c in values(steps, learning_rate=learning_rate, fraction=fraction):
        kept, added = (1 - c) ** 2, (lr * float(step_norm)) ** 2
        pairs = zip(kept.tolist(), added.tolist(), strict=True)
        walk = itertools.accumulate(pairs, lambda r, ab: ab[0] * r + ab[1], initial=squares[-1])
        squares.extend(itertools.islice(walk, 1, None))
    return np.sqrt(squares[1:])


def values(
    steps: int, *, learning_rate: ScalarOrSchedule, fraction: ScalarOrSchedule
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield blocks of lr_t and c_t in float64, each with its first step."""
    length = min(int(steps), _BLOCK)
    rates = _at(length, "learning_rate", learning_rate), _at(length, "fraction", fraction)
    for start in range(0, int(steps), length):
        lr, c = (each(start)[: int(steps) - start] for each in rates)
        _check_block("learning_rate", lr, start, np.inf, "finite and >= 0")
        _check_block("fraction", c, start, 1.0, "between 0 and 1")
        yield start, lr, c


def check_steps(steps: int) -> None:
    """Check that the number of steps is whole, known and in the range of optax's counts."""
    check_at_least_one("steps", steps)
    check_known("steps", steps, "pass a Python int")
    if steps != int(steps) or steps > LAST_STEP:
        raise ValueError(
            f"steps must be a whole number below 2^31, got {steps}; pass the steps of the run"
        )


def _at(length: int, name: str, value: ScalarOrSchedule) -> Callable[[int], np.ndarray]:
    """Return a function from the first step of a block to the values in it."""
    if not callable(value):
        check_nonnegative(name, value)
        check_known(name, value, "pass a Python float")
        block = np.full(length, value, np.float64)
        return lambda _: block
    many = jax.jit(jax.vmap(lambda count: scheduled(name, value, count)))
    return lambda start: np.asarray(many(start + jnp.arange(length)), np.float64)


def _check_block(name: str, block: np.ndarray, start: int, most: float, range_: str) -> None:
    wrong = ~((block >= 0) & (block <= most) & np.isfinite(block))
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(
            f"{name} must be {range_}, got {block[first]:g} at step {start + first}; correct it"
        )
