"""Multipliers that may be known, traced, or schedules: how they compare and combine."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from decoupled_wd._base.checks import scheduled
from decoupled_wd._base.types import Number


def is_off(multiplier: Number) -> bool:
    """Tell whether a multiplier is known to be 0, so that its leaf is left alone."""
    return is_known(multiplier) and multiplier == 0


def is_known(multiplier: Number) -> bool:
    """Tell whether it is a number that Python can compare: not traced, and no schedule."""
    return isinstance(multiplier, int | float)


def same(a: Number, b: Number) -> bool:
    """Tell whether two multipliers are surely the same."""
    return a is b or bool(is_known(a) and is_known(b) and a == b)


def times(a: Number, b: Number) -> Number:
    """Return ``a·b``, a schedule if one of them is, and a known 0 if one of them is that."""
    return 0.0 if is_off(a) or is_off(b) else _joined(lambda x, y: x * y, a, b)


def smaller(a: Number, b: Number) -> Number:
    """Return the smaller of two multipliers, a known 0 if one of them is that."""
    if is_known(a) and is_known(b):
        return min(a, b)
    return 0.0 if is_off(a) or is_off(b) else _joined(jnp.minimum, a, b)


def larger(a: Number, b: Number) -> Number:
    """Return the larger of two multipliers."""
    if is_known(a) and is_known(b):
        return max(a, b)
    return _joined(jnp.maximum, a, b)


def shown(multiplier: Number) -> str:
    """Write a multiplier for people."""
    if is_known(multiplier):
        return f"{multiplier:g}"
    return "(schedule)" if callable(multiplier) else "(traced)"


def as_leaf(schedule: Callable[[Number], Number]) -> Callable[[Number], Number]:
    """Return a schedule that is a leaf to JAX, where it is a node, such as a module."""
    if jax.tree_util.all_leaves([schedule]):
        return schedule
    return lambda count: schedule(count)


def _joined(operation: Callable[[Number, Number], Number], a: Number, b: Number) -> Number:
    if not callable(a) and not callable(b):
        return operation(a, b)
    return lambda count: operation(scheduled("mask", a, count), scheduled("mask", b, count))
