"""Which links of an optimiser round, told by their states."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._base.bits import is_bfloat16
from decoupled_wd._base.leaves import is_absent
from decoupled_wd._base.types import DType, PyTree
from decoupled_wd.rounding._byte import ByteState
from decoupled_wd.rounding._residual import ResidualState
from decoupled_wd.rounding._stochastic import StochasticRoundingState
from decoupled_wd.rules import Rule


def is_rounding_state(node: PyTree) -> bool:
    """Tell whether a part of a state belongs to these links."""
    return isinstance(node, ResidualState | ByteState | StochasticRoundingState)


def rounded_leaves(link: optax.GradientTransformation, params: optax.Params) -> list[bool]:
    """Tell of each leaf whether one of these links rounds it, bare, chained or for some weights.

    Shapes alone are computed, and None is a leaf.
    """

    def leaf(p: PyTree) -> jax.ShapeDtypeStruct:
        # float16 too, so that the links do not refuse it here
        dtype = jnp.bfloat16 if is_bfloat16(p) else jnp.float32
        shape = getattr(p, "shape", ())
        return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]

    def step(weights: optax.Params) -> tuple[optax.OptState, optax.Updates]:
        state = link.init(weights)
        return state, link.update(weights, state, weights)[0]

    state, emitted = jax.eval_shape(step, jax.tree.map(leaf, params))
    # what is rounded leaves in float32, and the rest as it came
    both = (jax.tree.leaves(tree, is_leaf=is_absent) for tree in (params, emitted))
    rows = zip(*both, strict=True)
    return [holds_rounding(state) and is_bfloat16(p) and not is_bfloat16(u) for p, u in rows]


def holds_rounding(state: PyTree) -> bool:
    """Tell whether a state of these links is anywhere in it."""
    return bool(_rounding_states(state))


def check_rounding(rounding: object) -> None:
    """Check that `rounding` is None or a link.

    The usual slip is a link that was not called.
    """
    if isinstance(rounding, Rule):
        raise TypeError(f"rounding must be a link, got the rule {rounding!r}; pass it as rule=")
    if rounding is not None and not isinstance(rounding, optax.GradientTransformation):
        name = getattr(rounding, "__name__", None)
        remedy = f"call it, as in {name}(...)" if name else "pass rounding=dwd.rounding.residual()"
        raise TypeError(f"rounding must be a link, got {rounding!r}; {remedy}")


# what holds bits of weights, and as what
_RESIDUALS = {ResidualState: jnp.int16, ByteState: jnp.uint8}


def residuals_in(state: optax.OptState) -> list[tuple[PyTree, DType]]:
    """Return the residuals of every link in a state, and their dtype.

    There may be several under ``optax.partition``, each with leaves of its own.
    """
    links = [node for node in _rounding_states(state) if type(node) in _RESIDUALS]
    return [(link.residual, _RESIDUALS[type(link)]) for link in links]


def map_residuals(function: Callable[[PyTree], PyTree], state: optax.OptState) -> optax.OptState:
    """Replace the residuals of every link in a state."""

    def link(node: PyTree) -> PyTree:
        held = type(node) in _RESIDUALS
        return node._replace(residual=function(node.residual)) if held else node

    return jax.tree.map(link, state, is_leaf=is_rounding_state)


def _rounding_states(tree: PyTree) -> list[PyTree]:
    leaves = jax.tree.leaves(tree, is_leaf=is_rounding_state)
    return [node for node in leaves if is_rounding_state(node)]
