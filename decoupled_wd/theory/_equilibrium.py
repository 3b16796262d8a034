"""The norm and the rotation at which AdamW, SGDW and Lion keep a weight."""

from __future__ import annotations

import math

from jax.typing import ArrayLike

from decoupled_wd._base.checks import (
    check_averaging_rate,
    check_nonnegative,
    check_positive,
    check_type,
)
from decoupled_wd._base.types import Number
from decoupled_wd.theory._checks import check_all


def rotation(fraction: ArrayLike, momentum: float = 0.9, *, nesterov: bool = False) -> Number:
    """Return the angle by which AdamW and SGDW turn a weight.

    At each step it is ``√(2c·(1−β1)/(1+β1))``, and ``√(2c·((1−β1²)² + β1⁴·(1−β1)/(1+β1)))`` where
    the step is Nesterov's.

    It holds for SGD with L2 regularisation too, whose fraction is ``c = lr·λ'/(1−β1)``.

    Args:
      fraction: c, a number or an array.
      momentum: β1 of either, 0 for none.
      nesterov: whether the step is Nesterov's, ``(1 − β1)·g + β1·m``: its latest gradient is
        larger, while the norm at equilibrium is the same.

    Returns:
      Radians, like `fraction`.

    Raises:
      TypeError, ValueError: a number is out of range.

    Examples:
      >>> round(rotation(1e-4, 0.9), 6), round(rotation(1e-4, 0.9, nesterov=True), 6)
      (0.003244, 0.003758)

    Source: Kosson et al., arXiv 2305.17212, table 1, with aλ of AdamW, and aλ/(1−β1) of SGDM,
      written c; Nesterov's is derived alike, from ``E[‖Δ‖²]`` of independent gradients.
    """
    check_all(check_nonnegative, fraction=fraction)
    check_all(check_averaging_rate, momentum=momentum)
    check_type("nesterov", nesterov, bool, "pass True or False")
    return (2 * fraction * variance(momentum, nesterov)) ** 0.5


def variance(momentum: float, nesterov: bool) -> Number:
    """Return that of a step, the mean of independent gradients with a variance of 1."""
    plain = (1 - momentum) / (1 + momentum)
    return (1 - momentum**2) ** 2 + momentum**4 * plain if nesterov else plain


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
    check_all(check_nonnegative, fraction=fraction)
    check_all(check_averaging_rate, b1=b1, b2=b2)
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
    check_all(check_positive, fraction=fraction, size=size)
    check_all(check_nonnegative, learning_rate=learning_rate)
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
    check_all(check_positive, fraction=fraction)
    check_all(check_nonnegative, learning_rate=learning_rate, gradient_norm=gradient_norm)
    check_all(check_averaging_rate, momentum=momentum)
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
    check_all(check_positive, fraction=fraction, size=size)
    check_all(check_nonnegative, learning_rate=learning_rate)
    return learning_rate * size**0.5 / lion_rotation(fraction, b1, b2)
