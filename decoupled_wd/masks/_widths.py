"""Multipliers by width: the shapes of a model against those of a smaller one."""

from __future__ import annotations

import math

import jax

from decoupled_wd._base.checks import check_finite, check_nonnegative
from decoupled_wd._base.leaves import is_inexact
from decoupled_wd._base.paths import named_leaves, some
from decoupled_wd._base.types import Number, PyTree
from decoupled_wd.masks._mask import Mask, Match, Tree
from decoupled_wd.masks._policies import check_stacked, shape_of


class Shapes(tuple[tuple[str, tuple[int, ...]], ...]):
    """Pairs of a path and a shape, a value that prints in one word."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Count the shapes, which may be hundreds."""
        return f"<{len(self)} shapes>"


def relative_to(base_shapes: PyTree, exponent: float, *, stacked_axes: int = 0) -> Mask:
    """Scale the decay with the width, against a base model: ``m = (d/d_0)^exponent``.

    d/d_0 is the geometric mean of the ratios of those axes that differ from the base model's, so
    that a kernel whose rows and columns both grow by r has r, as an embedding whose columns do, and
    what keeps its shape has m = 1. Depth must be that of the base model.

    The exponent is that of c: −1 for λ kept under muP's Adam (lr ∝ 1/d) in the learning rate's
    unit, −½ for arXiv 2510.15262, which sets no decay on vectors (``matrices() * relative_to(…)``),
    0 for decay that is independent of the learning rate, which arXiv 2510.19093 keeps over widths.

    Args:
      base_shapes: a tree like the params, of arrays or of ``jax.ShapeDtypeStruct``, such as
        ``jax.eval_shape(init)`` of the base model.
      exponent: any finite number.
      stacked_axes: leading axes that only stack layers, and do not count.

    Returns:
      A mask. When it meets the params, each floating-point parameter must have a twin of the same
      path and number of axes in the base model.

    Raises:
      TypeError, ValueError: the exponent is no finite number, or the base model has no shapes; or,
        when it meets the params, a parameter has no twin.

    Examples:
      >>> import jax.numpy as jnp
      >>> from decoupled_wd.masks import multipliers
      >>> base = {"kernel": jnp.ones((8, 8)), "readout": jnp.ones((8, 10)), "gain": jnp.ones(())}
      >>> wide = {"kernel": jnp.ones((32, 32)), "readout": jnp.ones((32, 10)), "gain": jnp.ones(())}
      >>> multipliers(relative_to(base, -0.5), wide)
      {'gain': 1.0, 'kernel': 0.5, 'readout': 0.5}

    Source: Yang et al., arXiv 2203.03466 (muP), for a base model's shapes; the exponents from
      arXiv 2510.15262 and 2510.19093.
    """
    check_finite("exponent", exponent)
    leaves = [
        (path, shape_of(leaf)) for path, leaf in named_leaves(base_shapes) if is_inexact(leaf)
    ]
    if not leaves:
        raise ValueError(
            f"base_shapes must hold floating-point arrays or shapes, got {base_shapes!r}; pass "
            "jax.eval_shape(init) of the base model"
        )
    power = exponent if isinstance(exponent, jax.core.Tracer) else float(exponent)
    options = (("stacked_axes", check_stacked(stacked_axes)),)
    return Mask(_relative_to, (Shapes(leaves), power), options)


def _relative_to(tree: Tree, base: Shapes, exponent: Number, stacked_axes: int) -> list[Match]:
    twins = dict(base)
    lonely = [path for path, leaf in tree.leaves if is_inexact(leaf) and path not in twins]
    if lonely:
        raise ValueError(
            f"base_shapes has no parameter {some(lonely)}, only {some(list(twins))}; pass a base "
            "model of the same depth and names, or leave these out by another mask"
        )

    def match(path: str, leaf: PyTree) -> Match:
        if not is_inexact(leaf):
            return Match(0.0, "no parameter")
        ours, theirs = shape_of(leaf), twins[path]
        if len(ours) != len(theirs):
            raise ValueError(
                f"base_shapes at {path!r} is {theirs}, and the parameter {ours}; pass a base model "
                "that differs in widths alone"
            )
        ratio = _ratio(ours[stacked_axes:], theirs[stacked_axes:])
        m = _power(ratio, exponent)
        check_nonnegative(f"multiplier at {path!r}", m, "move exponent towards 0")
        return Match(m, f"width × {ratio:g}")

    return [match(path, leaf) for path, leaf in tree.leaves]


def _ratio(shape: tuple[int, ...], base: tuple[int, ...]) -> float:
    """Return the geometric mean of the ratios of the axes that differ."""
    ratios = [n / n_0 for n, n_0 in zip(shape, base, strict=True) if n != n_0 and n and n_0]
    return math.prod(ratios) ** (1 / len(ratios)) if ratios else 1.0


def _power(ratio: float, exponent: Number) -> Number:
    try:
        return ratio**exponent
    except OverflowError:
        return math.inf
