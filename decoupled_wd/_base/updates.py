"""What arrives in ``update`` fits the weights: structure, shapes and dtypes."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._base.leaves import dtype_name, dtype_of, is_absent, is_none
from decoupled_wd._base.paths import path_name, structure_error
from decoupled_wd._base.types import DType, PyTree, PyTreeDef


def check_gradients(what: str, updates: PyTree, like: PyTree) -> None:
    """Check that each update fits its twin: a weight or its moment.

    None stands for an absent one.

    Only structures, shapes and dtypes are compared, and paths are named only where one does not
    fit.

    Raises:
      TypeError: an update is integer or boolean for a floating-point weight, or complex for a real
        one.
      ValueError: the trees differ in structure, or an update in shape.
    """
    # paths cost time, so they are made only where something does not fit
    leaves, twins = check_structure(what, updates, like)
    if not all(map(_fits, leaves, twins)):
        paths = [path for path, _ in jax.tree.leaves_with_path(updates, is_leaf=is_none)]
        rows = zip(paths, leaves, twins, strict=True)
        path, u, twin = next(row for row in rows if not _fits(*row[1:]))
        if not jax.tree_util.all_leaves([twin]):
            raise _other_structure(what, updates, like)
        raise _misfit(f"{what} at {path_name(path)!r}", u, twin)


_PYTHON_NUMBERS = int | float | complex


def check_structure(what: str, updates: PyTree, like: PyTree) -> tuple[list[PyTree], list[PyTree]]:
    """Return the leaves of `updates`, None among them, and their twins.

    Trees that differ are a ValueError, and what is no number a TypeError.
    """
    treedef: PyTreeDef
    leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
    strange = [
        u for u in leaves if not (hasattr(u, "dtype") or isinstance(u, _PYTHON_NUMBERS | None))
    ]
    if strange:
        raise TypeError(f"{what} must hold arrays, got {strange[0]!r}; pass None in its place")
    if any(map(_is_float0, leaves)):
        paths = jax.tree.leaves_with_path(updates)
        path = next(path for path, u in paths if _is_float0(u))
        remedy = "pass zeros of its parameter's dtype, or hide both with optax.masked"
        name = f"{what} at {path_name(path)!r}"
        raise TypeError(f"{name} is float0, the derivative of an integer; {remedy}")
    try:
        return leaves, treedef.flatten_up_to(like)
    except ValueError:
        raise _other_structure(what, updates, like) from None


def _fits(u: PyTree, twin: PyTree) -> bool:
    # None is what partial derivatives and frozen leaves have
    if u is None:
        return is_absent(twin) or jax.tree_util.all_leaves([twin])
    if is_absent(twin):
        return True
    dtype = dtype_of(twin)
    if dtype is type(twin) and not isinstance(twin, int | float | complex):
        return False
    return _kind_fits(dtype_of(u), dtype) and jnp.shape(u) == jnp.shape(twin)


def _is_float0(u: PyTree) -> bool:
    """Tell whether an update is what ``jax.grad`` gives for an integer.

    No optimiser of optax takes it.
    """
    return u is not None and bool(dtype_of(u) == jax.dtypes.float0)


# an eager step asks this of every leaf, and there are few pairs of dtypes
@functools.cache
def _kind_fits(dtype: DType, like: DType) -> bool:
    """Tell whether a weight takes an update of this dtype.

    One that does not train takes any.
    """
    kind = jnp.floating if jnp.issubdtype(like, jnp.floating) else jnp.inexact
    return jnp.issubdtype(dtype, kind) or not jnp.issubdtype(like, jnp.inexact)


def _misfit(name: str, u: PyTree, twin: PyTree) -> Exception:
    if not _kind_fits(dtype_of(u), dtype_of(twin)):
        imaginary = jnp.issubdtype(dtype_of(u), jnp.complexfloating)
        kind = "real" if imaginary else "floating-point"
        remedy = "pass its real part" if imaginary else "cast it, or pass None where there is none"
        return TypeError(f"{name} is {dtype_name(u)} for a {kind} parameter; {remedy}")
    return ValueError(
        f"{name} has shape {jnp.shape(u)} for a parameter of shape {jnp.shape(twin)}; "
        "pass one of that shape, summed or averaged over any batch"
    )


def _other_structure(what: str, updates: PyTree, like: PyTree) -> ValueError:
    error = structure_error(what, updates, like, prefix=False)
    remedy = "pass what jax.grad gives for these params, with None where a gradient is absent"
    return ValueError(f"{error}; {remedy}")


def as_transformation(optimizer: PyTree) -> PyTree:
    """Return an optimiser as it is, but ``optax.MultiSteps`` as the pair that it is around."""
    wrapped = isinstance(optimizer, optax.MultiSteps)
    return optimizer.gradient_transformation() if wrapped else optimizer


def check_params(what: str, params: PyTree) -> None:
    """Check that `update` was called with the weights."""
    if params is None:
        raise ValueError(
            f"{what} needs the weights; call update(gradients, state, params), with params"
        )
