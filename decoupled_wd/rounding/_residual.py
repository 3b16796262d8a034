"""Nothing is lost: the state keeps what the bfloat16 weight leaves out."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._base.bits import bits_of, is_bfloat16, straight_through
from decoupled_wd._base.leaves import map_leaves, once_per_shape
from decoupled_wd._base.types import PyTree
from decoupled_wd._base.updates import check_gradients
from decoupled_wd.rounding._checks import check_dtypes
from decoupled_wd.rounding._halves import difference, joined, landed, split
from decoupled_wd.rounding._pairs import check_residuals


class ResidualState(NamedTuple):
    """The low 16 bits of each float32 weight, as int16."""

    residual: optax.Updates


def residual() -> optax.GradientTransformationExtraArgs:
    """Keep the float32 weight in two halves, parameter and state.

    Training then follows float32 bit for bit.

    ``w ← (p, r)``, ``w' = w + u``, ``p' = nearest bfloat16 of w'``, ``r' = low 16 bits of w'``

    So it is under the same gradients. As ``rounding=`` of `decouple` or an alias the decay is taken
    of w; as a bare last link of a chain, the links before it see p, which is within 2^-9 of w. A
    parameter changed from outside keeps its new value, to within half a unit in its last place. A
    weight that shrinks more than 2^16-fold in one step lands within 2^-25 of its old size instead.
    Derivatives pass straight through: p' has that of p + u, in bfloat16 as p has.

    Returns:
      A last link for bfloat16 parameters. Its state is 2 bytes a weight, and is part of the
      weights: losing it is losing data.

    Raises:
      TypeError: a parameter is of another type narrower than float32, or of another than at init.
      ValueError: params are missing in `update`, or do not fit the state or the updates.

    Examples:
      >>> link, p = residual(), jnp.ones(1, jnp.bfloat16)
      >>> state = link.init(p)
      >>> for _ in range(10):
      ...     updates, state = link.update(jnp.full(1, -0.001), state, p)
      ...     p = optax.apply_updates(p, updates)
      >>> float(p[0])  # without the link: 1.0
      0.98828125

    Source: the split of a float32 into bfloat16 and 16 more bits, as in Zamirai et al., arXiv
      2010.06192.
    """

    def init(params: optax.Params) -> ResidualState:
        def leaf(p: PyTree) -> PyTree:
            return jnp.zeros_like(p, dtype=jnp.int16) if is_bfloat16(p) else optax.MaskedNode()

        check_dtypes(params)
        return ResidualState(jax.tree.map(leaf, params))

    def update(
        updates: PyTree, state: ResidualState, params: PyTree = None, **extra: object
    ) -> tuple[PyTree, ResidualState]:
        del extra
        check_dtypes(params)
        check_gradients("updates", updates, params)
        check_residuals(state.residual, params)

        def leaf(u: jax.Array, r: PyTree, p: jax.Array) -> tuple[PyTree, PyTree, PyTree]:
            return (*_written(u, r, p), p) if is_bfloat16(p) else (u, r, p)

        updates, r, _ = map_leaves(leaf, updates, state.residual, params)
        return updates, ResidualState(r)

    return optax.GradientTransformationExtraArgs(init, update)


@once_per_shape
@straight_through
def _written(u: jax.Array, r: jax.Array, p: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return what to add to p, and the new low half.

    The half is 0 where ``optax.apply_updates`` would miss the nearest bfloat16.
    """
    # the float32 weight exists only here, between two writes
    w = joined(p, r) + u.astype(jnp.float32)
    nearest, low = split(w)
    # p' − p is exact in float32 unless p is far larger than p'
    kept = bits_of(landed(p, nearest)) == bits_of(nearest)
    # chosen as float32: XLA writes a choice among integers apart from moments in bfloat16
    low = jnp.where(kept, low.astype(jnp.float32), 0).astype(jnp.int16)
    return difference(p, nearest), low
