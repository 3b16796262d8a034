"""What is done to every leaf: widening it, and skipping what is not trainable."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from decoupled_wd._base.types import DType, PyTree, PyTreeDef

Result = TypeVar("Result")


def is_none(leaf: PyTree) -> bool:
    """Tell that None is a leaf, so that absent gradients keep their place."""
    return leaf is None


def is_absent(node: PyTree) -> bool:
    """Tell whether nothing is there to train.

    It is None, or what ``optax.masked`` and ``optax.partition`` hide.
    """
    return node is None or isinstance(node, optax.MaskedNode)


def dtype_of(leaf: PyTree) -> DType:
    """Return the dtype of an array, and the type of anything else.

    ``jnp.issubdtype`` takes both.
    """
    return getattr(leaf, "dtype", type(leaf))


def is_inexact(leaf: PyTree) -> bool:
    """Tell whether a leaf is real or complex floating point.

    Only such a leaf can be optimised: no None, integer or key.
    """
    return leaf is not None and jnp.issubdtype(dtype_of(leaf), jnp.inexact)


def wide_dtype(leaf: PyTree) -> jnp.dtype:
    """Return the dtype for arithmetic on a leaf: its own, but at least float32."""
    dtype = dtype_of(leaf)
    # float8 has no path of promotion
    narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize < 4
    # complex64 and float64 stay; promotion does not know float8
    wide = jnp.dtype(jnp.float32) if narrow else jnp.promote_types(dtype, jnp.float32)
    return jax.dtypes.canonicalize_dtype(wide)


def widen(leaf: PyTree) -> PyTree:
    """Widen a floating-point leaf to float32 or wider."""
    return _as_array(leaf).astype(wide_dtype(leaf)) if is_inexact(leaf) else leaf


def cast_like(tree: optax.Updates, like: optax.Updates) -> optax.Updates:
    """Cast each floating-point leaf to the dtype of its twin in `like`."""

    def leaf(new: PyTree, old: PyTree) -> PyTree:
        return (
            new.astype(jax.dtypes.canonicalize_dtype(_as_array(old).dtype))
            if is_inexact(old)
            else new
        )

    return jax.tree.map(leaf, tree, like)


# sqrt's own derivative at 0 is infinite, and times 0 it is NaN: in meta-gradients all is lost
@jax.custom_jvp
def root(x: jax.Array) -> jax.Array:
    """Return √x, whose derivative at 0 is taken as 0.

    What is divided or scaled by it then has a finite derivative there.
    """
    return jnp.sqrt(x)


@root.defjvp
def _root_tangent(primals: tuple[Any], tangents: tuple[Any]) -> tuple[jax.Array, jax.Array]:
    y, safe = root(primals[0]), jnp.where(primals[0] > 0, primals[0], 1)
    return y, jnp.where(primals[0] > 0, tangents[0] / (2 * root(safe)), 0)


def _as_array(leaf: PyTree) -> PyTree:
    """Turn a Python number, which optax takes as a weight, into an array."""
    return leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)


def dtype_name(leaf: PyTree) -> str:
    """Name the dtype of an array, or the type of anything else."""
    dtype = dtype_of(leaf)
    return str(getattr(dtype, "name", None) or dtype.__name__)


def map_leaves(
    function: Callable[..., tuple[PyTree, ...]], updates: PyTree, *states: PyTree
) -> tuple[PyTree, ...]:
    """Map ``(u, *s) -> (u', *s')`` over the floating-point leaves.

    The others keep update and state.
    """
    treedef: PyTreeDef
    leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
    rows = zip(leaves, *map(treedef.flatten_up_to, states), strict=True)
    # integers and None pass through with the state that they have
    results = [function(*row) if is_inexact(row[0]) else row for row in rows]
    # an empty tree still has an update and each of its states
    columns = zip(*results, strict=True) if results else [()] * (1 + len(states))
    return tuple(treedef.unflatten(column) for column in columns)


def numbered(tree: PyTree) -> PyTree:
    """Number the leaves, in the order of the tree."""
    numbers = itertools.count()
    return jax.tree.map(lambda _: next(numbers), tree, is_leaf=is_none)


def once_per_shape(function: Callable[..., Result]) -> Callable[..., Result]:
    """Trace and compile the function of one leaf once for each shape of leaves.

    A program of many leaves is traced sooner and compiles to the same, as compilers inline calls.
    A step without jit makes one call a leaf, in place of one for each operation. Define it where it
    lives as long as the optimiser: what was traced is found again by its identity.
    """
    return jax.jit(function)


def once_per_numbers(make: Callable[..., Result]) -> Callable[..., Result]:
    """Make the function of one leaf once for the same hyperparameters.

    So all optimisers that share them share what was compiled.
    """
    cached = functools.lru_cache(maxsize=128)(make)

    def made(*numbers: object) -> Result:
        # what is traced must not outlive its trace
        concrete = all(isinstance(number, int | float) for number in numbers)
        return (cached if concrete else make)(*numbers)

    return made


def kind_of(leaf: PyTree) -> str:
    """Name what a leaf is that does not train."""
    kinds = {jnp.integer: "integer", jnp.bool_: "boolean", jax.dtypes.prng_key: "key"}
    found = [word for kind, word in kinds.items() if jnp.issubdtype(dtype_of(leaf), kind)]
    named = {type(None): "None", optax.MaskedNode: "masked out"}
    return found[0] if found else named.get(type(leaf), type(leaf).__name__)


def manual_axes(x: object) -> frozenset[str]:
    """Return the axes of a ``shard_map`` over which x differs."""
    kind = jax.typeof(x)
    # jax 0.10 has moved the axes within the type
    kind = getattr(kind, "manual_axis_type", kind)
    found: frozenset[str] = getattr(kind, "varying", getattr(kind, "vma", frozenset()))
    return found


def float_info(dtype: DTypeLike) -> jnp.finfo:
    """Return what a floating-point dtype can hold."""
    return jnp.finfo(dtype)  # type: ignore[no-untyped-call]
