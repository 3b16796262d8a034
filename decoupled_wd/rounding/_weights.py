"""The weights that a state and the params hold together."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._base.leaves import is_absent
from decoupled_wd._base.paths import unbox
from decoupled_wd._base.types import DType, PyTree, PyTreeDef
from decoupled_wd._base.updates import as_transformation, check_params
from decoupled_wd.rounding._halves import halved, joined
from decoupled_wd.rounding._links import holds_rounding, map_residuals, residuals_in
from decoupled_wd.rounding._pairs import pairs, places


def weights(state: optax.OptState, params: optax.Params) -> optax.Params:
    """Return the weights that a state and the params hold together.

    Behind `residual` they are in float32.

    Decay is taken of these, not of the rounded params, so that it too is the float32 one.

    Args:
      state: of a link, or of any optimiser around it, whose residuals are found in it.
      params: the parameters that the state is for.

    Returns:
      A tree like the params, in float32 where a residual is held.

    Raises:
      TypeError: `state` is no optimiser's state, as when both are swapped; or a residual is not
        that of a bfloat16 parameter.
      ValueError: a residual has another structure or shape than the params.

    Examples:
      >>> import jax.numpy as jnp
      >>> from decoupled_wd.rounding import residual
      >>> link, p = residual(), jnp.ones(1, jnp.bfloat16)
      >>> updates, state = link.update(jnp.full(1, -0.001), link.init(p), p)
      >>> [float(w[0]) for w in (optax.apply_updates(p, updates), weights(state, p))]
      [1.0, 0.9990000128746033]
    """
    check_params("rounding.weights", params)
    order = "call weights(state, params) with the optimiser's whole state"
    # the usual slip is to swap the two
    if holds_rounding(params):
        raise TypeError(f"params must be the parameters, got an optimiser's state; {order}")
    if not _is_state(state):
        raise TypeError(f"state must be an optimiser's, got {type(state).__name__}; {order}")
    held = held_weights(unbox(state), unbox(params))
    # boxes back in their place, as the params had them
    structure: PyTreeDef = jax.tree.structure(params)
    return structure.unflatten(jax.tree.leaves(held))


def held_weights(state: optax.OptState, params: optax.Params) -> optax.Params:
    """Do as `weights`, for the state of any link, without boxes."""
    for residuals, dtype in residuals_in(state):
        rows, structure = pairs(residuals, params, dtype)
        params = structure.unflatten(p if is_absent(r) else joined(p, r) for r, p in rows)
    return params


def from_float32(
    optimizer: optax.GradientTransformation | optax.MultiSteps, params: optax.Params
) -> tuple[optax.Params, optax.OptState]:
    """Start training in bfloat16 from float32 weights, of which nothing is lost.

    ``θ = (p, r)``: p is the nearest bfloat16, and r in the state what is left.

    So `weights` gives θ back: bit for bit with 16 bits, within 2^-16 of itself with 8. A leaf
    becomes bfloat16 where the optimiser holds a residual for it: with ``rounding=optax.masked(
    residual(), mask)`` the others stay as they are. Everything else in the state is that of
    ``optimizer.init`` with the new params, so a rule that remembers the start remembers p.

    Args:
      optimizer: any optimiser that ends in `residual`, whatever is around it.
      params: the weights, with float32 leaves.

    Returns:
      The params in bfloat16, and the optimiser's state for them, sharded as `params` are.

    Raises:
      TypeError: `optimizer` is no optimiser, or a leaf is of another type narrower than float32.
      ValueError: the optimiser holds no residual, or there are no params.

    Examples:
      >>> import jax.numpy as jnp
      >>> from decoupled_wd.rounding import residual
      >>> params, state = from_float32(residual(), jnp.array([0.999]))
      >>> params.dtype, float(params[0]), float(weights(state, params)[0])
      (dtype(bfloat16), 1.0, 0.9990000128746033)
    """
    remedy = "call from_float32(optimizer, params)"
    optimizer = as_transformation(optimizer)
    if not isinstance(optimizer, optax.GradientTransformation):
        kind = type(optimizer).__name__
        raise TypeError(f"optimizer must be a gradient transformation, got {kind}; {remedy}")
    if params is None:
        raise ValueError(f"params must be the float32 weights, got None; {remedy}")
    narrow = jax.tree.map(lambda p: p.astype(jnp.bfloat16) if _is_float32(p) else p, params)
    # which leaves hold a residual is asked of shapes alone, without memory for a state
    planned = residuals_in(jax.eval_shape(lambda: optimizer.init(narrow)))
    if not jax.tree.leaves([residuals for residuals, _ in planned]):
        raise ValueError(
            "optimizer holds no residual for these params, so that their float32 bits would be "
            "lost; give it rounding=dwd.rounding.residual()"
        )
    halves = params
    for residuals, dtype in planned:
        rows, structure = places(residuals, halves)
        halves = structure.unflatten(p if is_absent(r) else _nearest(p, dtype) for r, p in rows)

    def left(residuals: PyTree) -> PyTree:
        rows, structure = places(residuals, params)
        return structure.unflatten(_left(r, w) for r, w in rows)

    return halves, map_residuals(left, optimizer.init(halves))


def _nearest(w: jax.Array, dtype: DType) -> jax.Array:
    return halved(w, dtype)[0] if _is_float32(w) else w


def _left(r: PyTree, w: jax.Array) -> PyTree:
    # what is bfloat16 already leaves nothing
    return r if is_absent(r) or not _is_float32(w) else halved(w, r.dtype)[1]


def _is_float32(leaf: PyTree) -> bool:
    return bool(getattr(leaf, "dtype", None) == jnp.float32)


def _is_state(node: PyTree) -> bool:
    """Tell whether a node can be an optimiser's state.

    A bare array is none, nor is a container of arrays, as params are.
    """
    if isinstance(node, Mapping):
        return all(map(_is_state, node.values()))
    if isinstance(node, list) or (isinstance(node, tuple) and not hasattr(node, "_fields")):
        return all(map(_is_state, node))
    return node is not None and not jax.tree_util.all_leaves([node])
