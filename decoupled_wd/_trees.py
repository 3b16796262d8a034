"""What is done to every leaf: widening, skipping what is not trainable, naming it by its path."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax

Result = TypeVar("Result")


def is_none(leaf: Any) -> bool:
    """Marks None as a leaf, so that absent gradients keep their place in a map over trees."""
    return leaf is None


def dtype_of(leaf: Any) -> Any:
    """The dtype of an array, and the type of anything else: `jnp.issubdtype` takes both."""
    return getattr(leaf, "dtype", type(leaf))


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf can be optimised: real or complex floating point, and not None, integer or key."""
    return leaf is not None and jnp.issubdtype(dtype_of(leaf), jnp.inexact)


def wide_dtype(leaf: Any) -> jnp.dtype:
    """The dtype in which arithmetic on a leaf is done: its own, but at least float32."""
    return jnp.promote_types(leaf.dtype, jnp.float32)


def widen(leaf: Any) -> Any:
    """The leaf in float32 or wider; what is not floating point stays as it is."""
    return leaf.astype(wide_dtype(leaf)) if is_inexact(leaf) else leaf


def cast_like(tree: optax.Updates, like: optax.Updates) -> optax.Updates:
    """Each floating-point leaf of `tree` in the dtype of its twin in `like`."""

    def leaf(new: Any, old: Any) -> Any:
        return new.astype(old.dtype) if is_inexact(old) else new

    return jax.tree.map(leaf, tree, like)


def map_leaves(
    function: Callable[..., tuple[Any, ...]], updates: Any, *states: Any
) -> tuple[Any, ...]:
    """Map ``(u, *s) -> (u', *s')`` over the floating-point leaves; the others keep update and state."""
    treedef: Any
    leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
    rows = zip(leaves, *map(treedef.flatten_up_to, states), strict=True)
    results = [function(*row) if is_inexact(row[0]) else row for row in rows]
    columns = zip(*results, strict=True) if results else [()] * (1 + len(states))
    return tuple(treedef.unflatten(column) for column in columns)


def once_per_shape(function: Callable[..., Result]) -> Callable[..., Result]:
    """The function of one leaf, which a program of many leaves holds once for each of their shapes.

    The compiled program is the same, as compilers inline it. Define it where it lives as long as the optimiser:
    what was traced is found again by its identity.
    """
    shared = jax.jit(function)

    @functools.wraps(function)
    def call(*arguments: Any) -> Result:
        traced = any(isinstance(argument, jax.core.Tracer) for argument in arguments)
        return shared(*arguments) if traced else function(*arguments)  # eager steps compile nothing

    return call


def check_params(what: str, params: Any) -> None:
    """ValueError where `update` was called without the weights."""
    if params is None:
        raise ValueError(
            f"{what} needs the weights; call update(gradients, state, params), with params"
        )


def path_name(path: tuple[Any, ...]) -> str:
    """A leaf's path as one string: ``("dense", "kernel")`` is ``dense/kernel``."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[tuple[str, Any]]:
    """Each leaf with its path in one normal form, whichever library made the tree, boxed or not."""
    leaves = jax.tree.leaves_with_path(unbox(tree), is_leaf=is_leaf)
    return [(path_name(path), leaf) for path, leaf in leaves]


def unbox(tree: Any) -> Any:
    """The tree with the contents of flax's boxes in their place: ``a/kernel/value`` becomes ``a/kernel``."""

    def contents(node: Any) -> Any:
        return jax.tree.leaves(node, is_leaf=lambda child: child is not node)[0]

    return jax.tree.map(lambda n: contents(n) if _is_box(n) else n, tree, is_leaf=_is_box)


def _is_box(node: Any) -> bool:
    """Whether flax wraps one value with metadata; told by its origin, as others too have a field `value`."""
    boxes = ("flax.nnx.variablelib", "flax.core.meta")
    return any(origin.__module__ in boxes for origin in type(node).__mro__)
