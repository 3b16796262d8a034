"""A float32 weight as two halves: the nearest bfloat16, and how far it is from it in bits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from decoupled_wd._base.bits import bits_of, from_bits, straight_through
from decoupled_wd._base.leaves import once_per_shape

# of NumPy, since making one in JAX is an error under jax_debug_nans
_NAN = np.array(np.nan, jnp.bfloat16)


def split(w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Split a float32 into the nearest bfloat16 and its distance in bits.

    Ties go away from zero; the distance is the low half, as a signed number.
    """
    bits = jax.lax.bitcast_convert_type(w, jnp.uint32)
    # half a unit in the last place is added, and the low half cut off
    nearest = from_bits(((bits + 0x8000) >> 16).astype(jnp.uint16))
    low = jax.lax.bitcast_convert_type(bits.astype(jnp.uint16), jnp.int16)
    # adding to the bits of a NaN could make it a number
    nan = jnp.isnan(w)
    return jnp.where(nan, _NAN, nearest), jnp.where(nan, jnp.int16(0), low)


@once_per_shape
@straight_through
def joined(p: jax.Array, low: jax.Array) -> jax.Array:
    """Join the two halves of a float32 weight.

    A half that no weight has was left by a change from outside.
    """
    # without the sign
    size = bits_of(p) & 0x7FFF
    stale = ((size == 0) & (low < 0)) | ((size >= 0x7F80) & (low > 0))
    low = jnp.where(stale, 0, low.astype(jnp.int32))
    high = bits_of(p).astype(jnp.uint32) << 16
    return jax.lax.bitcast_convert_type(high + low.astype(jnp.uint32), jnp.float32)


def difference(p: jax.Array, chosen: jax.Array) -> jax.Array:
    """Return what ``optax.apply_updates`` must add to p to land on `chosen`.

    −0 keeps zeros and infinities too.
    """
    exact = chosen.astype(jnp.float32) - p.astype(jnp.float32)
    # x + (−0) is x, for 0 and −0 alike; ∞ − ∞ would be NaN
    return jnp.where(bits_of(chosen) == bits_of(p), -0.0, exact)


def landed(p: jax.Array, chosen: jax.Array) -> jax.Array:
    """Return where ``optax.apply_updates`` lands.

    That is on `chosen`, unless p is more than 2^16 times as large.
    """
    return (p.astype(jnp.float32) + difference(p, chosen)).astype(jnp.bfloat16)
