"""A float32 weight as two halves: the nearest bfloat16, and how far it is from it in bits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from decoupled_wd._base.bits import bits_of, from_bits, straight_through
from decoupled_wd._base.leaves import once_per_shape
from decoupled_wd._base.types import DType

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


def halved(w: jax.Array, dtype: DType) -> tuple[jax.Array, jax.Array]:
    """Split a float32 into the nearest bfloat16 and a residual of this dtype."""
    if dtype == jnp.int16:
        return split(w)
    # a dither of one half cuts to the nearest
    p, low = split(cut_with(w, jnp.full(w.shape, 0x80, jnp.uint8)))
    return p, as_byte(low)


def cut_with(w: jax.Array, dither: jax.Array) -> jax.Array:
    """Cut each float32 to its upper 24 bits, up or down by a dither in 0 … 2^8 − 1.

    Infinities and NaN stay.
    """
    bits = jax.lax.bitcast_convert_type(w, jnp.uint32)
    # a carry into the exponent is right, since the next number is a power of 2
    cut = (bits + dither.astype(jnp.uint32)) & np.uint32(0xFFFFFF00)
    return jnp.where(jnp.isfinite(w), jax.lax.bitcast_convert_type(cut, jnp.float32), w)


def as_byte(low: jax.Array) -> jax.Array:
    """Return the upper byte of a low half, whose lower byte is 0."""
    return (jax.lax.bitcast_convert_type(low, jnp.uint16) >> 8).astype(jnp.uint8)


def from_byte(byte: jax.Array) -> jax.Array:
    """Return the low half of which this is the upper byte."""
    return jax.lax.bitcast_convert_type(byte.astype(jnp.uint16) << 8, jnp.int16)


@once_per_shape
@straight_through
def joined(p: jax.Array, r: jax.Array) -> jax.Array:
    """Join a weight and its residual, of 16 or 8 bits, to a float32.

    A residual that no weight has was left by a change from outside.
    """
    low = from_byte(r) if r.dtype == jnp.uint8 else r
    high = bits_of(p).astype(jnp.uint32) << 16
    w = _float_of(high + low.astype(jnp.int32).astype(jnp.uint32))
    # past zero or infinity the bits are those of a NaN
    return jnp.where(jnp.isnan(w), _float_of(high), w)


def _float_of(bits: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def landing(p: jax.Array, nearest: jax.Array, r: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return what to add to p, and the residual.

    That is 0 where ``optax.apply_updates`` would miss the nearest bfloat16.
    """
    # p′ − p is exact in float32 unless p is far larger than p′
    u = difference(p, nearest)
    kept = p.astype(jnp.float32) + u == nearest.astype(jnp.float32)
    # chosen as float32: XLA writes a choice among integers apart from moments in bfloat16
    return u, jnp.where(kept, r.astype(jnp.float32), 0).astype(r.dtype)


def difference(p: jax.Array, chosen: jax.Array) -> jax.Array:
    """Return what ``optax.apply_updates`` must add to p to land on `chosen`.

    −0 keeps zeros and infinities too.
    """
    exact = chosen.astype(jnp.float32) - p.astype(jnp.float32)
    # x + (−0) is x, for 0 and −0 alike; ∞ − ∞ would be NaN
    return jnp.where(bits_of(chosen) == bits_of(p), -0.0, exact)
