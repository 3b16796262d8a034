"""Rules that pull towards a point: zero, the start, or given weights."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from decoupled_wd._base.leaves import dtype_name, dtype_of, is_absent, wide_dtype, widen
from decoupled_wd._base.paths import path_name
from decoupled_wd._base.types import KeyPath, PyTree
from decoupled_wd.rules._rule import Rule, call_text, make_rule

__all__ = ["towards", "towards_start", "towards_zero"]


class TowardsStartState(NamedTuple):
    """The weights at init, θ_0."""

    start: optax.Params


def towards_zero() -> Rule:
    """Decay towards zero, as plain weight decay: ``pull(θ) = θ``.

    Returns:
      A rule without state.

    Examples:
      >>> import jax.numpy as jnp
      >>> rule, params = towards_zero(), jnp.array([3.0])
      >>> state = rule.init(params)
      >>> pull, _ = rule.update(jnp.zeros(1), state, params, gradients=None)
      >>> float(pull[0])
      3.0

    Source: arXiv 1711.05101, Algorithm 2, line 12.
    """
    return make_rule("towards_zero()", optax.init_empty_state, lambda params, _state, **_: params)


def towards_start() -> Rule:
    """Decay towards the weights at init: ``pull(θ) = θ − θ_0``.

    It is meant for fine-tuning.

    Returns:
      A rule whose state holds a copy of each decayed weight, in its own dtype.

    Examples:
      >>> rule, params = towards_start(), jnp.array([3.0])
      >>> state = rule.init(jnp.ones(1))
      >>> pull, _ = rule.update(jnp.zeros(1), state, params, gradients=None)
      >>> float(pull[0])
      2.0

    Source: L2-SP, Li et al., arXiv 1802.01483, section 3, made decoupled.
    """

    def init(params: optax.Params) -> TowardsStartState:
        # a copy, as the params may be donated
        return TowardsStartState(jax.tree.map(jnp.copy, params))

    def pull(params: optax.Params, state: TowardsStartState, **_: object) -> PyTree:
        return jax.tree.map(lambda p, p_0: widen(p) - widen(p_0), params, state.start)

    return make_rule("towards_start()", init, pull)


def towards(target: PyTree) -> Rule:
    """Decay towards given weights: ``pull(θ) = θ − target``.

    Under ``jit`` the target is a constant of the program. Where it is the starting point of a large
    model, `towards_start` keeps it as state instead, which is sharded, donated and saved like any
    other.

    Args:
      target: a tree with the structure of the whole params, masked-out leaves included, or a prefix
        of it. Each leaf has the shape of its weights, or is one number for all of them:
        ``towards(1.0)`` suits the scales of normalisation layers.

    Returns:
      A rule without state.

    Raises:
      TypeError, ValueError: at init, the target does not fit the params, or holds a number that is
        not finite in their dtype; the message names the path.

    Examples:
      >>> rule, params = towards(1.0), jnp.array([3.0])
      >>> state = rule.init(jnp.ones(1))
      >>> pull, _ = rule.update(jnp.zeros(1), state, params, gradients=None)
      >>> float(pull[0])
      2.0

    Source: arXiv 1802.01483, section 3, with any reference point.
    """

    def init(params: optax.Params) -> optax.EmptyState:
        # none in optax.tree.map_params, which inits with a placeholder
        if jax.tree.leaves(params):
            # what does not fit is refused here, before training
            full = _targets(target, params)
            jax.tree.map_with_path(_check_value, params, full)
        return optax.EmptyState()

    def leaf(p: jax.Array, t: PyTree) -> PyTree:
        return widen(p) - jnp.asarray(t, wide_dtype(p))

    def pull(params: optax.Params, _state: optax.EmptyState, **_: object) -> PyTree:
        return jax.tree.map(leaf, params, _targets(target, params))

    return make_rule(call_text("towards", target=target), init, pull)


def _targets(target: PyTree, params: optax.Params) -> PyTree:
    """Return the target of each leaf of `params`.

    Where there is no leaf it is their own None or MaskedNode.
    """
    try:
        full = jax.tree.broadcast(target, params, is_leaf=is_absent)
    except ValueError as error:
        raise ValueError(
            "target must have the structure of the params, or a prefix of it; "
            f"got {jax.tree.structure(target)}; {error}"
        ) from error
    return jax.tree.map_with_path(_checked_target, params, full, is_leaf=is_absent)


def _checked_target(path: KeyPath, p: PyTree, target: PyTree) -> PyTree:
    if is_absent(p):
        return p
    name, dtype = f"target at {path_name(path)!r}", dtype_of(target)
    if not jnp.issubdtype(dtype, jnp.number):
        raise TypeError(
            f"{name} must be a number or an array of numbers, got {target!r}; pass weights"
        )
    if jnp.issubdtype(dtype, jnp.complexfloating) and not jnp.iscomplexobj(p):
        raise TypeError(f"{name} is complex and its parameter is real; pass its real part")
    if jnp.shape(target) not in ((), jnp.shape(p)):
        raise ValueError(
            f"{name} has shape {jnp.shape(target)} for a parameter of shape {jnp.shape(p)}; "
            "pass that shape or a single number"
        )
    return target


def _check_value(path: KeyPath, p: PyTree, target: PyTree) -> None:
    """Check that a target is finite in the dtype of its parameter."""
    # its values are not known; its shape and dtype were checked
    if isinstance(target, jax.core.Tracer):
        return
    # inside jit too the target is known, and is checked now
    with jax.ensure_compile_time_eval(), np.errstate(over="ignore"):
        # JAX takes no Python int above 2^63
        wide = jnp.asarray(float(target) if isinstance(target, int) else target, wide_dtype(p))
        finite = bool(jnp.isfinite(wide.astype(jax.dtypes.canonicalize_dtype(dtype_of(p)))).all())
    if not finite:
        got = target if jnp.ndim(target) == 0 else "an array that holds one that is not"
        raise ValueError(
            f"target at {path_name(path)!r} must be finite in {dtype_name(p)}, got {got}; every "
            "weight would become NaN or infinite"
        )
