"""A fixed norm in place of decay, and the ball in which decay holds a weight."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from decoupled_wd._base.checks import check_averaging_rate, check_nonnegative, check_positive
from decoupled_wd._base.types import Number
from decoupled_wd.theory._checks import check_all
from decoupled_wd.theory._equilibrium import rotation


def hyperball_rotation(learning_rate: ArrayLike) -> Number:
    """Return the angle by which a step at fixed norm turns a weight: ``arctan(lr)``.

    The step is ``θ' = R·N(θ − lr·R·N(u))`` with ``N(x) = x/‖x‖``. u is taken as orthogonal to θ,
    as for a gradient in front of a normalisation, which holds for lr ≪ 1 − β.

    Args:
      learning_rate: lr, relative to the norm, a number or an array.

    Returns:
      Radians, like `learning_rate`; momentum does not change it.

    Raises:
      TypeError, ValueError: a number is out of range.

    Examples:
      >>> round(float(hyperball_rotation(0.01)), 6)
      0.01

    Source: hyperball optimisation, arXiv 2606.16899; that decay and fixed norm are two ways to set
      the rotation, Kosson et al., arXiv 2305.17212.
    """
    check_all(check_nonnegative, learning_rate=learning_rate)
    return _numpy_of(learning_rate).arctan(learning_rate)


def hyperball_learning_rate(fraction: ArrayLike, momentum: float = 0.9) -> Number:
    """Return the rate at fixed norm that turns as AdamW does: ``tan √(2c·(1−β1)/(1+β1))``.

    AdamW is meant at its equilibrium, with c = λ·α^p, and with the same momentum as the optimiser
    at fixed norm. For another optimiser take the tangent of its own rotation, such as
    ``np.tan(muon_rotation(c, shape=shape))``.

    Args:
      fraction: c < 1, a number or an array.
      momentum: β1, 0 for none.

    Returns:
      lr of the step at fixed norm, like `fraction`.

    Raises:
      TypeError, ValueError: a number is out of range, or c turns by a right angle or more.

    Examples:
      >>> round(float(hyperball_learning_rate(1e-3 * 0.1, 0.9)), 6)  # torch's lr·λ
      0.003244

    Source: `rotation` and `hyperball_rotation`, set equal.
    """
    angle = rotation(fraction, momentum)
    check_all(_check_acute, rotation=angle)
    return _numpy_of(angle).tan(angle)


def hyperball_fraction(learning_rate: ArrayLike, momentum: float = 0.9) -> Number:
    """Return the c at which AdamW turns as fast: ``arctan(lr)²·(1+β1)/(2·(1−β1))``.

    It is the inverse of `hyperball_learning_rate`.

    Args:
      learning_rate: lr of the step at fixed norm, a number or an array.
      momentum: β1 of both, 0 for none.

    Returns:
      c, what a step of AdamW removes; λ in the paper's unit.

    Raises:
      TypeError, ValueError: a number is out of range.

    Examples:
      >>> round(float(hyperball_fraction(0.003244, 0.9)), 6)
      0.0001

    Source: `rotation` and `hyperball_rotation`, set equal.
    """
    check_all(check_averaging_rate, momentum=momentum)
    return hyperball_rotation(learning_rate) ** 2 * (1 + momentum) / (2 * (1 - momentum))


def ball_radius(fraction: ArrayLike, *, learning_rate: ArrayLike) -> Number:
    """Return the radius of the ball that holds a weight whose steps are bounded: ``lr/c``.

    ``‖θ'‖ ≤ (1 − c)·‖θ‖ + lr`` wherever ``‖u‖ ≤ 1``: who is inside stays inside, and who is outside
    comes closer by 1 − c a step. The norm is that in which the step is 1: the largest weight for
    Lion and sign descent, the largest singular value for Muon (as far as its iteration keeps these
    at 1). AdamW's steps may be larger than lr, so this does not bind it.

    Args:
      fraction: 0 < c <= 1, a number or an array.
      learning_rate: lr, a number or an array.

    Returns:
      The radius, in that norm.

    Raises:
      TypeError, ValueError: a number is out of range.

    Examples:
      >>> ball_radius(1e-4, learning_rate=1e-3)
      10.0

    Source: Pethick et al., arXiv 2502.07529: decay is a step of Frank and Wolfe in this ball.
    """
    check_all(check_positive, fraction=fraction)
    check_all(_check_share, fraction=fraction)
    check_all(check_nonnegative, learning_rate=learning_rate)
    return learning_rate / fraction


def _check_share(name: str, number: Number) -> None:
    if number > 1:
        raise ValueError(f"{name} must be at most 1, got {number}; a larger one overshoots zero")


def _check_acute(name: str, angle: Number) -> None:
    if angle >= np.pi / 2:
        raise ValueError(
            f"{name} must be below a right angle, got {angle:g} radians a step; lower fraction"
        )


def _numpy_of(value: ArrayLike) -> Number:
    """Return jax.numpy for its arrays, traced or not, and numpy for all else."""
    return jnp if isinstance(value, jax.Array) else np
