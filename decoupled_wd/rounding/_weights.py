"""The weights that a state and the params hold together."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import optax

from decoupled_wd._base.leaves import is_absent
from decoupled_wd._base.paths import unbox
from decoupled_wd._base.types import PyTree, PyTreeDef
from decoupled_wd._base.updates import check_params
from decoupled_wd.rounding._halves import joined
from decoupled_wd.rounding._links import rounding_states
from decoupled_wd.rounding._pairs import pairs
from decoupled_wd.rounding._residual import ResidualState


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
    if rounding_states(params):
        raise TypeError(f"params must be the parameters, got an optimiser's state; {order}")
    if not _is_state(state):
        raise TypeError(f"state must be an optimiser's, got {type(state).__name__}; {order}")
    held = held_weights(unbox(state), unbox(params))
    # boxes back in their place, as the params had them
    structure: PyTreeDef = jax.tree.structure(params)
    return structure.unflatten(jax.tree.leaves(held))


def held_weights(state: optax.OptState, params: optax.Params) -> optax.Params:
    """Do as `weights`, for the state of any link, without boxes."""
    # there may be several under optax.partition, each with leaves of its own
    for link in rounding_states(state):
        params = _joined_tree(link.residual, params) if isinstance(link, ResidualState) else params
    return params


def _is_state(node: PyTree) -> bool:
    """Tell whether a node can be an optimiser's state.

    A bare array is none, nor is a container of arrays, as params are.
    """
    if isinstance(node, Mapping):
        return all(map(_is_state, node.values()))
    if isinstance(node, list) or (isinstance(node, tuple) and not hasattr(node, "_fields")):
        return all(map(_is_state, node))
    return node is not None and not jax.tree_util.all_leaves([node])


def _joined_tree(residuals: PyTree, params: optax.Params) -> optax.Params:
    """Return the float32 weights where there is a residual.

    ``optax.partition`` hides those of other optimisers.
    """
    rows, structure = pairs(residuals, params)
    return structure.unflatten(p if is_absent(r) else joined(p, r) for r, p in rows)
