"""Nothing is lost: the state keeps what the bfloat16 weight leaves out."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._base.bits import is_bfloat16, straight_through
from decoupled_wd._base.leaves import map_leaves, once_per_shape
from decoupled_wd._base.types import Number, PyTree
from decoupled_wd._base.updates import check_gradients
from decoupled_wd.rounding._byte import byte_residual
from decoupled_wd.rounding._checks import check_bits, check_dtypes, check_seed
from decoupled_wd.rounding._halves import joined, landing, split
from decoupled_wd.rounding._pairs import check_residuals, nothing_left


class ResidualState(NamedTuple):
    """The low 16 bits of each float32 weight, as int16."""

    residual: optax.Updates


def residual(bits: int = 16, *, seed: Number = 0) -> optax.GradientTransformationExtraArgs:
    """Keep beside each weight the bits that bfloat16 leaves out: 16, or 8.

    With 16 training follows float32 bit for bit; with 8 it does so on average.

    ``w ← (p, r)``, ``w' = w + u``, ``p' = nearest bfloat16 of w'``, ``r' = low 16 bits of w'``

    So it is under the same gradients. As ``rounding=`` of `decouple` or an alias the decay is taken
    of w; as a bare last link of a chain, the links before it see p, which is within 2^-9 of w. A
    parameter changed from outside keeps its new value, to within half a unit in its last place. A
    weight that shrinks more than 2^16-fold in one step lands within 2^-25 of its old size instead.
    Derivatives pass straight through: p' has that of p + u, in bfloat16 as p has.

    With 8 bits w' is first cut to 24 bits, ``w' ← floor24(bits(w + u) + dither)`` with a dither
    uniform over 0 … 2^8 − 1, and r' is its third byte. Without bias: however small a change of the
    float32 sum, it arrives on average. The noise of a step is less than 2^-15 of w.

    Args:
      bits: how many bits the state holds for each weight: 16, or 8.
      seed: a whole number below 2^32, of the dither, as in `stochastic_rounding`; 16 bits need
        none.

    Returns:
      A last link for bfloat16 parameters. Its state is 2 bytes a weight, or 1 byte a weight and a
      key, and is part of the weights: losing it is losing data.

    Raises:
      TypeError: a parameter is of another type narrower than float32, or of another than at init.
      ValueError: `bits` is neither 8 nor 16, or params are missing in `update`, or do not fit the
        state or the updates.

    Examples:
      >>> for link in (residual(), residual(bits=8)):
      ...     p = jnp.ones(1, jnp.bfloat16)
      ...     state = link.init(p)
      ...     for _ in range(10):
      ...         updates, state = link.update(jnp.full(1, -0.001), state, p)
      ...         p = optax.apply_updates(p, updates)
      ...     print(float(p[0]), state.residual.dtype)  # without the link: 1.0
      0.98828125 int16
      0.98828125 uint8

    Source: the split of a float32 into bfloat16 and 16 more bits, as in Zamirai et al., arXiv
      2010.06192; 24 bits, as in FlashOptim, whose byte is rounded to nearest.
    """
    check_bits(bits)
    check_seed(seed)
    return _exact() if bits == 16 else byte_residual(seed)


def _exact() -> optax.GradientTransformationExtraArgs:
    """Make the link that keeps the low half of each float32 weight."""

    def init(params: optax.Params) -> ResidualState:
        check_dtypes(params)
        return ResidualState(nothing_left(params, jnp.int16))

    def update(
        updates: PyTree, state: ResidualState, params: PyTree = None, **extra: object
    ) -> tuple[PyTree, ResidualState]:
        del extra
        check_dtypes(params)
        check_gradients("updates", updates, params)
        check_residuals(state.residual, params, jnp.int16)

        def leaf(u: jax.Array, r: PyTree, p: jax.Array) -> tuple[PyTree, PyTree, PyTree]:
            return (*_written(u, r, p), p) if is_bfloat16(p) else (u, r, p)

        updates, r, _ = map_leaves(leaf, updates, state.residual, params)
        return updates, ResidualState(r)

    return optax.GradientTransformationExtraArgs(init, update)


@once_per_shape
@straight_through
def _written(u: jax.Array, r: jax.Array, p: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return what to add to p, and the new low half."""
    # the float32 weight exists only here, between two writes
    w = joined(p, r) + u.astype(jnp.float32)
    return landing(p, *split(w))
