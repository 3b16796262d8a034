"""Which residual belongs to which parameter."""

from __future__ import annotations

from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._base.bits import is_bfloat16
from decoupled_wd._base.leaves import dtype_name, is_absent
from decoupled_wd._base.paths import path_name, structure_error
from decoupled_wd._base.types import DType, PyTree, PyTreeDef

Pair: TypeAlias = tuple[PyTree, PyTree]


def nothing_left(params: optax.Params, dtype: DType) -> PyTree:
    """Make the residuals of weights that bfloat16 holds exactly."""

    def leaf(p: PyTree) -> PyTree:
        return jnp.zeros_like(p, dtype=dtype) if is_bfloat16(p) else optax.MaskedNode()

    return jax.tree.map(leaf, params)


def check_residuals(residuals: PyTree, params: optax.Params, dtype: DType) -> None:
    """Check that every bfloat16 parameter has its residual, and no other."""
    rows, _ = pairs(residuals, params, dtype)
    lacking = [number for number, (r, p) in enumerate(rows) if is_absent(r) and is_bfloat16(p)]
    if lacking:
        raise TypeError(
            f"{_path_of(residuals, lacking[0])!r} is bfloat16 and was of another dtype at init, so "
            "that no residual is held; init the optimiser with the bfloat16 params"
        )


def pairs(residuals: PyTree, params: optax.Params, dtype: DType) -> tuple[list[Pair], PyTreeDef]:
    """Pair each residual with the parameter that it belongs to."""
    rows, structure = places(residuals, params)
    for number, (r, p) in enumerate(rows):
        if not is_absent(r) and not (is_bfloat16(p) and r.dtype == dtype and r.shape == p.shape):
            raise _no_pair(_path_of(residuals, number), r, p, dtype)
    return rows, structure


def places(residuals: PyTree, params: optax.Params) -> tuple[list[Pair], PyTreeDef]:
    """Pair each residual with whatever the params have in its place."""
    structure: PyTreeDef
    leaves, structure = jax.tree.flatten(residuals, is_leaf=is_absent)
    try:
        return list(zip(leaves, structure.flatten_up_to(params), strict=True)), structure
    except ValueError:
        raise structure_error("the residual in state", residuals, params, prefix=False) from None


def _no_pair(path: str, r: PyTree, p: PyTree, dtype: DType) -> Exception:
    if r.dtype != dtype:
        return TypeError(
            f"residual of {path!r} is {r.dtype}, and must be {jnp.dtype(dtype)}: bits of a weight; "
            "restore it as it was saved, for residual() with the same bits="
        )
    if not is_bfloat16(p):
        return TypeError(
            f"{path!r} is {dtype_name(p)} and was bfloat16 when its residual was made; pass the "
            "params of this state, or init the optimiser anew"
        )
    return ValueError(
        f"residual of {path!r} has shape {r.shape} for a parameter of shape {p.shape}; "
        "pass the params of this state"
    )


def _path_of(tree: PyTree, number: int) -> str:
    return path_name(jax.tree.leaves_with_path(tree, is_leaf=is_absent)[number][0])
