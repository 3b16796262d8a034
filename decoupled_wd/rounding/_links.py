"""Which links of an optimiser round, told by their states."""

from __future__ import annotations

import jax
import optax

from decoupled_wd._base.types import PyTree
from decoupled_wd.rounding._residual import ResidualState
from decoupled_wd.rounding._stochastic import StochasticRoundingState
from decoupled_wd.rules import Rule


def is_rounding_state(node: PyTree) -> bool:
    """Tell whether a part of a state belongs to these links."""
    return isinstance(node, ResidualState | StochasticRoundingState)


def is_rounding_link(link: optax.GradientTransformation) -> bool:
    """Tell whether one of these links is in it, bare or chained.

    The state of no weights at all tells.
    """
    return bool(rounding_states(link.init({})))


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


def rounding_states(tree: PyTree) -> list[PyTree]:
    leaves = jax.tree.leaves(tree, is_leaf=is_rounding_state)
    return [node for node in leaves if is_rounding_state(node)]
