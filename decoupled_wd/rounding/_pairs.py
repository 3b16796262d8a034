"""Which residual belongs to which parameter."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._base.bits import is_bfloat16
from decoupled_wd._base.leaves import dtype_name, is_absent
from decoupled_wd._base.paths import path_name, structure_error
from decoupled_wd._base.types import PyTree, PyTreeDef


def check_residuals(residuals: PyTree, params: optax.Params) -> None:
    """Check that every bfloat16 parameter has its residual, and no other."""
    rows, _ = pairs(residuals, params)
    lacking = [number for number, (r, p) in enumerate(rows) if is_absent(r) and is_bfloat16(p)]
    if lacking:
        raise TypeError(
            f"{_path_of(residuals, lacking[0])!r} is bfloat16 and was of another dtype at init, so "
            "that no residual is held; init the optimiser with the bfloat16 params"
        )


def pairs(residuals: PyTree, params: optax.Params) -> tuple[list[tuple[PyTree, PyTree]], PyTreeDef]:
    """Pair each residual with what the params have in its place."""
    treedef: PyTreeDef
    leaves, treedef = jax.tree.flatten(residuals, is_leaf=is_absent)
    try:
        rows = list(zip(leaves, treedef.flatten_up_to(params), strict=True))
    except ValueError:
        raise structure_error("the residual in state", residuals, params, prefix=False) from None
    for number, (r, p) in enumerate(rows):
        if not is_absent(r) and not (
            is_bfloat16(p) and r.dtype == jnp.int16 and r.shape == p.shape
        ):
            raise _no_pair(_path_of(residuals, number), r, p)
    return rows, treedef


def _no_pair(path: str, r: PyTree, p: PyTree) -> Exception:
    if r.dtype != jnp.int16:
        return TypeError(
            f"residual of {path!r} is {r.dtype}, and must be int16: bits of a weight; restore it "
            "as it was saved"
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
