"""Which parameters decay, and how much each: a multiplier m >= 0 for every leaf, resolved from the params.

A mask is a small frozen value, not a bare callable, so that ``optax.inject_hyperparams`` cannot mistake it
for a schedule. optax's own habits work too: a callable, called on the *params*, or a tree of booleans or
numbers with the structure of the params or a prefix of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._scalars import check_nonnegative
from decoupled_wd._trees import is_inexact, path_name


@dataclass(frozen=True)
class Mask:
    """A rule that gives every leaf its multiplier: ``multiplier(path, leaf) -> float >= 0``."""

    multiplier: Callable[[str, Any], float]


MaskLike: TypeAlias = Mask | Callable[[optax.Params], Any] | Any


def everything() -> Mask:
    """Every floating-point parameter decays, biases and normalisation scales included: the paper's choice.

    Returns:
      A mask, ``m = 1``.

    Example:
      >>> multipliers(everything(), {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)})
      {'bias': 1.0, 'kernel': 1.0}

    Source: arXiv 1711.05101, Algorithms 1 and 2, where θ is the whole parameter vector.
    """
    return Mask(_one)


def matrices(*, stacked_axes: int = 0) -> Mask:
    """Parameters with at least two axes decay; biases and normalisation scales do not.

    Args:
      stacked_axes: leading axes that only stack layers (as ``nnx.vmap`` or ``nn.scan`` make), and do not
        count: with 1, norm scales stacked to shape (12, 64) are not a matrix.

    Returns:
      A mask, ``m = 1`` where ``ndim − stacked_axes >= 2``, else 0.

    Raises:
      TypeError, ValueError: `stacked_axes` is not a whole number >= 0.

    Example:
      >>> multipliers(matrices(), {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)})
      {'bias': 0.0, 'kernel': 1.0}

    Source: common practice since Goyal et al., arXiv 1706.02677, section 5.1.
    """
    check_nonnegative("stacked_axes", stacked_axes)
    return Mask(lambda _, leaf: float(jnp.ndim(leaf) - stacked_axes >= 2))


def _one(path: str, leaf: Any) -> float:
    del path, leaf
    return 1.0


def multipliers(mask: MaskLike, params: optax.Params) -> Any:
    """The multiplier of each leaf, as floats in the structure of `params`.

    Leaves that are not floating point get 0 whatever the mask says.

    Raises:
      ValueError: the mask has another structure than `params`, a negative or non-finite multiplier, or
        selects no parameter.
      TypeError: a multiplier is not a boolean or a number.
    """
    if isinstance(mask, Mask):
        tree = jax.tree.map_with_path(lambda path, p: mask.multiplier(path_name(path), p), params)
    else:
        tree = _broadcast(mask(params) if callable(mask) else mask, params)
    tree = jax.tree.map_with_path(_checked, tree, params)
    if any(map(is_inexact, jax.tree.leaves(params))) and not any(jax.tree.leaves(tree)):
        paths = [path_name(path) for path, _ in jax.tree.leaves_with_path(params)]
        raise ValueError(
            f"mask selects no parameter of {paths}; use a weight decay of 0 for no decay"
        )
    return tree


def _broadcast(mask: Any, params: optax.Params) -> Any:
    if isinstance(mask, Mask):
        raise TypeError(
            "mask is a function that makes a mask; call it, as in mask=masks.matrices()"
        )
    try:
        return jax.tree.broadcast(True if mask is None else mask, params)
    except ValueError as error:
        raise ValueError(
            f"mask must have the structure of the params, or a prefix of it; got {jax.tree.structure(mask)} "
            f"for {jax.tree.structure(params)}"
        ) from error


def _checked(path: Any, multiplier: Any, leaf: Any) -> float:
    """A leaf's multiplier as a float; a string or a sentence would be truthy, so it is refused."""
    if not is_inexact(leaf):
        return 0.0
    name = f"mask at {path_name(path)!r}"
    if isinstance(multiplier, jax.core.Tracer):
        raise TypeError(f"{name} is traced; a mask must be known before compilation")
    if jnp.result_type(multiplier) != jnp.bool_:
        check_nonnegative(name, multiplier, "use False or 0 for no decay")
    return float(multiplier)


def select(tree: Any, multipliers: Any) -> Any:
    """The leaves with a multiplier, and ``optax.MaskedNode()`` in place of the others."""
    return jax.tree.map(lambda m, leaf: leaf if m else optax.MaskedNode(), multipliers, tree)
