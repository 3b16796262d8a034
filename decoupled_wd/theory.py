"""What weight decay leads to: timescales, and the norm and rotation at which a weight settles.

Where the loss does not depend on a weight's size, as before a normalisation layer, its gradient is
orthogonal to it: steps make it longer and decay shorter, until the two balance. There the weight
keeps its norm and turns by the same angle at each step. The formulas are those of a random walk,
for small fractions: c ≪ 1 − β of every moving average. All take the fraction c = λ·α^p that a step
removes, whatever the coupling, as numbers or arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import numpy as np
from jax.typing import ArrayLike

from decoupled_wd._base.checks import check_averaging_rate, check_nonnegative, check_positive
from decoupled_wd._base.types import Number

__all__ = [
    "adamw_norm",
    "half_life",
    "lion_norm",
    "lion_rotation",
    "rotation",
    "sgdw_norm",
    "timescale",
]


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


def rotation(fraction: ArrayLike, momentum: float = 0.9) -> Number:
    """Return the angle by which AdamW and SGDW turn a weight.

    At each step it is ``√(2c·(1−β1)/(1+β1))``.

    It holds for SGD with L2 regularisation too, whose fraction is ``c = lr·λ'/(1−β1)``.

    Args:
      fraction: c, a number or an array.
      momentum: β1 of either, 0 for none.

    Returns:
      Radians, like `fraction`.

    Raises:
      TypeError, ValueError: a number is out of range.

    Examples:
      >>> round(rotation(1e-4, 0.9), 6)
      0.003244

    Source: Kosson et al., arXiv 2305.17212, table 1, with aλ of AdamW, and aλ/(1−β1) of SGDM,
      written c.
    """
    _check_all(check_nonnegative, fraction=fraction)
    _check_all(check_averaging_rate, momentum=momentum)
    return (2 * fraction * (1 - momentum) / (1 + momentum)) ** 0.5


def lion_rotation(fraction: ArrayLike, b1: float = 0.9, b2: float = 0.99) -> Number:
    """Return the angle by which Lion turns a weight at each step.

    ``√(πc)·√((1−β1)² + β1²·(1−β2)/(1+β2))``

    For c ≪ 1 − β2 only: simulated, the angle is 3 % larger at c = (1 − β2)/10, and 30 % at c = 1 −
    β2.

    Args:
      fraction: c, a number or an array.
      b1, b2: β1 of the step and β2 of the moving average.

    Returns:
      Radians, like `fraction`.

    Raises:
      TypeError, ValueError: a number is out of range.

    Examples:
      >>> round(lion_rotation(1e-4), 6)
      0.002102

    Source: Kosson et al., arXiv 2305.17212, table 1.
    """
    _check_all(check_nonnegative, fraction=fraction)
    _check_all(check_averaging_rate, b1=b1, b2=b2)
    return (math.pi * fraction * ((1 - b1) ** 2 + b1**2 * (1 - b2) / (1 + b2))) ** 0.5


def adamw_norm(fraction: ArrayLike, *, learning_rate: ArrayLike, size: int) -> Number:
    """Return the norm at which AdamW keeps a weight: ``lr·√(C/(2c))``.

    It is the same whatever β1 is.

    Args:
      fraction: c > 0, a number or an array.
      learning_rate: lr, a number or an array.
      size: C, the coordinates of the weight.

    Returns:
      The L2 norm.

    Raises:
      TypeError, ValueError: a number is out of range.

    Examples:
      >>> adamw_norm(5e-5, learning_rate=1e-3, size=10_000)
      10.0

    Source: Kosson et al., arXiv 2305.17212, table 1: √(aC/(2λ)) with c = aλ.
    """
    _check_all(check_positive, fraction=fraction, size=size)
    _check_all(check_nonnegative, learning_rate=learning_rate)
    return learning_rate * (size / (2 * fraction)) ** 0.5


def sgdw_norm(
    fraction: ArrayLike,
    *,
    learning_rate: ArrayLike,
    gradient_norm: ArrayLike,
    momentum: float = 0.9,
) -> Number:
    """Return the norm at which SGDW keeps a weight.

    ``(lr·G/(1−β1))^½ / (2c)^¼``

    It holds for SGD with L2 regularisation too, whose fraction is ``c = lr·λ'/(1−β1)``.

    Args:
      fraction: c > 0, a number or an array.
      learning_rate: lr, a number or an array.
      gradient_norm: G, of a weight of norm 1: where the loss is free of the norm, the gradient's is
        G/‖θ‖.
      momentum: β1, 0 for none.

    Returns:
      The L2 norm.

    Raises:
      TypeError, ValueError: a number is out of range.

    Examples:
      >>> round(sgdw_norm(0.005, learning_rate=0.1, gradient_norm=1.0), 4)
      3.1623

    Source: Kosson et al., arXiv 2305.17212, table 1: (aG²/(2λ(1−β1)))^¼, with c = aλ/(1−β1).
    """
    _check_all(check_positive, fraction=fraction)
    _check_all(check_nonnegative, learning_rate=learning_rate, gradient_norm=gradient_norm)
    _check_all(check_averaging_rate, momentum=momentum)
    return (learning_rate * gradient_norm / (1 - momentum)) ** 0.5 / (2 * fraction) ** 0.25


def lion_norm(
    fraction: ArrayLike,
    *,
    learning_rate: ArrayLike,
    size: int,
    b1: float = 0.9,
    b2: float = 0.99,
) -> Number:
    """Return the norm at which Lion keeps a weight.

    It is Lion's step ``lr·√C`` over its rotation.

    Args:
      fraction: c > 0, a number or an array.
      learning_rate: lr, a number or an array.
      size: C, the coordinates of the weight.
      b1, b2: as in `lion_rotation`.

    Returns:
      The L2 norm.

    Raises:
      TypeError, ValueError: a number is out of range.

    Examples:
      >>> round(lion_norm(1e-4, learning_rate=1e-4, size=10_000), 3)
      4.756

    Source: Kosson et al., arXiv 2305.17212, table 1.
    """
    _check_all(check_positive, fraction=fraction, size=size)
    _check_all(check_nonnegative, learning_rate=learning_rate)
    return learning_rate * size**0.5 / lion_rotation(fraction, b1, b2)


def _check_all(check: Callable[[str, Number], None], **arguments: Number) -> None:
    """Check every entry of an array; of a traced one, nothing."""
    for name, value in arguments.items():
        if isinstance(value, jax.core.Tracer):
            continue
        if np.size(value) == 0 or isinstance(value, list | tuple):
            raise TypeError(
                f"{name} must be a number or an array of them, got {value!r}; pass an array"
            )
        # NaN is both the least and the greatest of its array
        extremes = (np.min(value), np.max(value)) if np.ndim(value) else (value,)
        for number in extremes:
            check(name, number)


def __dir__() -> list[str]:
    """List the names for users, for tab completion."""
    return __all__
