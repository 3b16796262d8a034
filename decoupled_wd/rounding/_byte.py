"""24 bits a weight: one byte of what bfloat16 leaves out, right on average."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._base.bits import is_bfloat16, straight_through
from decoupled_wd._base.leaves import map_leaves, numbered, once_per_shape
from decoupled_wd._base.types import Number, PyTree
from decoupled_wd._base.updates import check_gradients
from decoupled_wd.rounding._checks import check_dtypes
from decoupled_wd.rounding._halves import as_byte, cut_with, joined, landing, split
from decoupled_wd.rounding._pairs import check_residuals, nothing_left


class ByteState(NamedTuple):
    """The third byte of each float32 weight, as uint8, and the key of the next step."""

    residual: optax.Updates
    key: jax.Array


def byte_residual(seed: Number) -> optax.GradientTransformationExtraArgs:
    """Make the link that keeps one byte, dithered so that it has no bias."""

    def init(params: optax.Params) -> ByteState:
        check_dtypes(params)
        key = jax.random.key_data(jax.random.key(seed))
        return ByteState(nothing_left(params, jnp.uint8), key)

    def update(
        updates: PyTree, state: ByteState, params: PyTree = None, **extra: object
    ) -> tuple[PyTree, ByteState]:
        del extra
        check_dtypes(params)
        check_gradients("updates", updates, params)
        check_residuals(state.residual, params, jnp.uint8)
        # each step has a key of its own, and so a dither of its own
        step, following = jax.random.split(jax.random.wrap_key_data(state.key))

        def leaf(u: jax.Array, r: PyTree, p: jax.Array, number: int) -> tuple[PyTree, ...]:
            written = _written(u, r, p, step, number) if is_bfloat16(p) else (u, r)
            return (*written, p, number)

        updates, r, *_ = map_leaves(leaf, updates, state.residual, params, numbered(updates))
        return updates, ByteState(r, jax.random.key_data(following))

    return optax.GradientTransformationExtraArgs(init, update)


@once_per_shape
@straight_through
def _written(
    u: jax.Array, r: jax.Array, p: jax.Array, key: jax.Array, number: int
) -> tuple[jax.Array, jax.Array]:
    """Return what to add to p, and the new byte."""
    w = joined(p, r) + u.astype(jnp.float32)
    dither = jax.random.bits(jax.random.fold_in(key, number), p.shape, jnp.uint8)
    nearest, low = split(cut_with(w, dither))
    return landing(p, nearest, as_byte(low))
