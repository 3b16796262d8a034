"""The norm and the rotation at which Muon keeps a matrix."""

from __future__ import annotations

import math

import numpy as np
from jax.typing import ArrayLike

from decoupled_wd._base.checks import (
    check_averaging_rate,
    check_known,
    check_nonnegative,
    check_positive,
    check_type,
)
from decoupled_wd._base.types import Number
from decoupled_wd.theory._checks import check_all
from decoupled_wd.theory._equilibrium import variance

# points of the integral over singular values, which then has six digits
_POINTS = 512


def muon_rotation(
    fraction: ArrayLike,
    *,
    shape: tuple[int, int],
    momentum: float = 0.95,
    nesterov: bool = True,
) -> Number:
    """Return the angle by which Muon turns a matrix at each step: ``√(2c/S)``.

    ``S = 1 + 2Σ_k f(ρ_k)`` counts how many steps go the same way. Moving averages of gradients that
    lie k steps apart have the correlation ``ρ_k = q·β^k``, with q = 1 without Nesterov's step; once
    they are orthogonalised it is ``f(ρ) ≈ κ·ρ + (1 − κ)·ρ³``, where κ is (E σ)²/E σ² of the
    singular values σ of a random matrix: 0.72 for a square one, 1 for a vector.

    For gradients of full rank, without structure, and c ≪ 1 − β: simulated with c = (1 − β)/25,
    norm and angle are within 5 %, and nearer for a smaller c.

    Args:
      fraction: c, a number or an array.
      shape: rows and columns of the matrix.
      momentum: β of the moving average.
      nesterov: whether the step is Nesterov's, ``(1 − β)·g + β·m``, as in optax and most others.

    Returns:
      Radians, like `fraction`.

    Raises:
      TypeError, ValueError: a number is out of range, or `shape` is not a pair of sizes.

    Examples:
      >>> round(muon_rotation(1e-4, shape=(256, 256)), 6)
      0.002775

    Source: Kosson et al., arXiv 2305.17212, section 3, for the walk; Marchenko and Pastur 1967 for
      κ. The second term of f is a fit that makes f(1) = 1.
    """
    check_all(check_nonnegative, fraction=fraction)
    return (2 * fraction / _steps_together(shape, momentum, nesterov)) ** 0.5


def muon_norm(
    fraction: ArrayLike,
    *,
    learning_rate: ArrayLike,
    shape: tuple[int, int],
    momentum: float = 0.95,
    nesterov: bool = True,
) -> Number:
    """Return the Frobenius norm at which Muon keeps a matrix: ``lr·√(k·S/(2c))``.

    k is the smaller of rows and columns: the step is a matrix with k singular values of lr.

    Args:
      fraction: c > 0, a number or an array.
      learning_rate: lr, a number or an array, times what scales the orthogonal matrix:
        √max(1, rows/columns) in Keller Jordan's and optax's Muon, 0.2·√max(rows, columns) in
        Moonshot's.
      shape, momentum, nesterov: as in `muon_rotation`, with S from there.

    Returns:
      The Frobenius norm.

    Raises:
      TypeError, ValueError: a number is out of range, or `shape` is not a pair of sizes.

    Examples:
      >>> round(muon_norm(1e-4, learning_rate=1e-3, shape=(256, 256)), 3)
      5.766

    Source: as of `muon_rotation`.
    """
    check_all(check_positive, fraction=fraction)
    check_all(check_nonnegative, learning_rate=learning_rate)
    together = _steps_together(shape, momentum, nesterov)
    return learning_rate * (min(shape) * together / (2 * fraction)) ** 0.5


def _steps_together(shape: tuple[int, int], momentum: float, nesterov: bool) -> Number:
    """Return S, the variance of many steps over that of one."""
    _check_shape(shape)
    check_averaging_rate("momentum", momentum)
    check_type("nesterov", nesterov, bool, "pass True or False")
    kappa, b = _linear_part(min(shape) / max(shape)), momentum
    # of Nesterov's step, the correlation at lag k is q·b^k
    lagged = b * (1 - b**2) * (1 - b) + b**4 * (1 - b) / (1 + b)
    q = lagged / variance(b, nesterov) if nesterov else 1.0
    cubic = q**3 * b**3 / (1 - b**3)
    return 1 + 2 * (kappa * q * b / (1 - b) + (1 - kappa) * cubic)


def _linear_part(ratio: float) -> float:
    """Return κ = (E σ)²/E σ² of the law of Marchenko and Pastur, whose E σ² is 1."""
    phi = (np.arange(_POINTS) + 0.5) * math.pi / _POINTS
    sizes = 1 + ratio + 2 * math.sqrt(ratio) * np.cos(phi)
    return float(2 * np.mean(np.sin(phi) ** 2 / np.sqrt(sizes))) ** 2


def _check_shape(shape: object) -> None:
    if not isinstance(shape, tuple | list) or len(shape) != 2:
        raise TypeError(f"shape must be a pair (rows, columns), got {shape!r}; reshape the weight")
    for name, size in zip(("rows of shape", "columns of shape"), shape, strict=True):
        check_positive(name, size, "pass the sizes of a matrix")
        check_known(name, size, "pass Python ints")
