"""A bfloat16 is the high half of a float32, and rounding to one is arithmetic on whole numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from decoupled_wd._base.types import PyTree


def is_bfloat16(leaf: PyTree) -> bool:
    """Tell whether a leaf is a bfloat16 array."""
    return bool(getattr(leaf, "dtype", None) == jnp.bfloat16)


def bits_of(x: jax.Array) -> jax.Array:
    """Return the 16 bits of each bfloat16."""
    return jax.lax.bitcast_convert_type(x, jnp.uint16)


def from_bits(bits: jax.Array) -> jax.Array:
    """Return the bfloat16 numbers that have these bits."""
    return jax.lax.bitcast_convert_type(bits, jnp.bfloat16)


def straight_through(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a rounding the derivative of its first argument."""
    rounded = jax.custom_jvp(function)

    @rounded.defjvp
    def tangents(
        primals: tuple[PyTree, ...], tangents: tuple[PyTree, ...]
    ) -> tuple[PyTree, PyTree]:
        results = rounded(*primals)
        first, *integers = results if isinstance(results, tuple) else (results,)
        # integers have no derivative, which JAX writes as float0
        zeros = [np.zeros(x.shape, jax.dtypes.float0) for x in integers]
        straight = tangents[0].astype(first.dtype)
        return results, (straight, *zeros) if zeros else straight

    return rounded


@straight_through
def round_with(w: jax.Array, dither: jax.Array) -> jax.Array:
    """Round each float32 up or down by a dither in 0 … 2^16 − 1.

    Infinities and NaN stay.
    """
    bits = jax.lax.bitcast_convert_type(w, jnp.uint32)
    up = (bits + dither.astype(jnp.uint32)) & np.uint32(0xFFFF0000)
    # exact, and a conversion at the end is what XLA writes together with other results
    return jnp.where(jnp.isfinite(w), jax.lax.bitcast_convert_type(up, jnp.float32), w).astype(
        jnp.bfloat16
    )
