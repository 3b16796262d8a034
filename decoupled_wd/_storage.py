"""How moments are kept: in which dtype, and in bfloat16 rounded by chance."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from decoupled_wd._base.bits import is_bfloat16, round_with
from decoupled_wd._base.leaves import is_inexact, once_per_shape, wide_dtype
from decoupled_wd._base.types import PyTree, PyTreeDef

# of the dither of moments, which is another than that of any weights
_SEED = 2**32 - 1


def check_storage_dtype(name: str, dtype: DTypeLike | None) -> None:
    """Check that moments can be stored in `dtype`.

    That is None, or real floating point of at least 16 bits.
    """
    if isinstance(dtype, jax.Array):
        raise TypeError(
            f"{name} must be a dtype, got an array of {dtype.dtype}, which is what "
            "optax.inject_hyperparams makes of jnp.bfloat16; pass it the text 'bfloat16', or name "
            f"{name} in its static_args"
        )
    try:
        fits = dtype is None or _holds_moments(jnp.dtype(dtype))
    except (TypeError, ValueError):
        fits = False
    if not fits:
        got = getattr(dtype, "__name__", dtype)
        raise TypeError(
            f"{name} must be a real floating-point dtype of at least 16 bits, got {got!r}; pass "
            "jnp.float32 or jnp.bfloat16 (jnp.float64 under jax_enable_x64), or None for at "
            "least float32"
        )


def _holds_moments(dtype: jnp.dtype) -> bool:
    # float64 only under jax_enable_x64
    known = jax.dtypes.canonicalize_dtype(dtype) == dtype
    return known and jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize in (2, 4, 8)


def to_be_stored(moment: jax.Array, kept: jax.Array) -> jax.Array:
    """Round a moment to the dtype in which it is kept, unless `stored` does it by chance."""
    return moment if is_bfloat16(kept) else moment.astype(kept.dtype)


def stored(
    moments: tuple[optax.Updates, ...], kept: tuple[optax.Updates, ...], t: jax.Array
) -> tuple[optax.Updates, ...]:
    """Round by chance what is kept in bfloat16, so that it follows however small a change.

    The dither is a function of the step and the leaf, and so needs no state.
    """
    if not any(map(is_bfloat16, jax.tree.leaves(kept))):
        return moments
    key = jax.random.fold_in(jax.random.key(_SEED), t)
    structure: PyTreeDef = jax.tree.structure(moments[0])
    columns = zip(*map(jax.tree.leaves, moments), strict=True)
    dtypes = zip(*map(jax.tree.leaves, kept), strict=True)
    rows = [
        _by_chance(new, old, key, number)
        for number, (new, old) in enumerate(zip(columns, dtypes, strict=True))
    ]
    return tuple(structure.unflatten(column) for column in zip(*rows, strict=True))


@once_per_shape
def _by_chance(
    moments: tuple[jax.Array, ...], kept: tuple[jax.Array, ...], key: jax.Array, number: int
) -> tuple[jax.Array, ...]:
    """Round the moments of one leaf that are kept in bfloat16."""
    # one draw of 32 bits dithers both moments of a weight
    bits = jax.random.bits(jax.random.fold_in(key, number), moments[0].shape, jnp.uint32)
    return tuple(
        round_with(m.astype(jnp.float32), dither) if is_bfloat16(k) else m
        for m, k, dither in zip(moments, kept, (bits >> 16, bits & 0xFFFF), strict=False)
    )


def zeros(params: optax.Params, dtype: DTypeLike | None) -> optax.Updates:
    """Make a zero per weight, and no state where nothing trains."""

    def leaf(p: PyTree) -> PyTree:
        if not is_inexact(p):
            return optax.MaskedNode()
        # a real dtype would drop the imaginary part
        keeps_own = dtype is None or jnp.iscomplexobj(p)
        return jnp.zeros_like(p, dtype=wide_dtype(p) if keeps_own else dtype)

    return jax.tree.map(leaf, params)
