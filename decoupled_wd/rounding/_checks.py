"""What the links take: a seed, and weights of a dtype that they can write."""

from __future__ import annotations

from numbers import Integral

import jax
import jax.numpy as jnp

from decoupled_wd._base.leaves import dtype_of
from decoupled_wd._base.paths import path_name
from decoupled_wd._base.types import Number, PyTree
from decoupled_wd._base.updates import check_params


def check_bits(bits: object) -> None:
    """Check how many bits are kept of what bfloat16 leaves out."""
    if not (isinstance(bits, Integral) and bits in (8, 16)):
        raise ValueError(f"bits must be 8 or 16, got {bits!r}; pass 16 to lose nothing")


def check_seed(seed: Number) -> None:
    """Check that a seed is a whole number below 2^32.

    Of a traced one only shape and dtype are checked.
    """
    remedy = "pass a Python int, such as 0"
    whole = jnp.issubdtype(dtype_of(seed), jnp.integer) and jnp.shape(seed) == ()
    if not whole or isinstance(seed, bool):
        raise TypeError(f"seed must be a whole number, got {seed!r}; {remedy}")
    if not isinstance(seed, jax.core.Tracer) and not 0 <= int(seed) < 2**32:
        raise ValueError(f"seed must be at least 0 and below 2^32, got {seed}; {remedy}")


def check_dtypes(params: PyTree) -> None:
    check_params("rounding", params)
    for path, leaf in jax.tree.leaves_with_path(params):
        dtype = getattr(leaf, "dtype", None)
        narrow = dtype is not None and jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
        if narrow and dtype != jnp.bfloat16:
            raise TypeError(
                f"rounding writes bfloat16, the high half of a float32; {path_name(path)!r} is "
                f"{dtype}. Keep it in bfloat16 or float32, or leave rounding out"
            )
