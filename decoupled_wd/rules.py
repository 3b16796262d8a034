"""Towards what the weights decay: each rule is an optax pair that emits the pull.

``init(params) -> state`` and
``update(updates, state, params, *, gradients, fraction) -> (pull, state)``. A rule sees the
optimiser's final updates Δ (optax's sign: they are added to the params), the raw gradients and the
fraction c_t·m of each leaf, may keep state, and never sees a masked-out leaf: in its place there is
an ``optax.MaskedNode()``. `decay_weights` subtracts ``c_t · m ⊙ pull``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from decoupled_wd._base.checks import check_at_least_one, check_nonnegative
from decoupled_wd._base.leaves import (
    dtype_name,
    dtype_of,
    is_absent,
    manual_axes,
    once_per_shape,
    root,
    wide_dtype,
    widen,
)
from decoupled_wd._base.paths import named_leaves, path_name, unbox
from decoupled_wd._base.types import KeyPath, PyTree, PyTreeDef

__all__ = [
    "Rule",
    "cautious",
    "lp",
    "towards",
    "towards_norm",
    "towards_start",
    "towards_zero",
]

Axis: TypeAlias = int | tuple[int, ...] | None


class Rule(optax.GradientTransformationExtraArgs):  # type: ignore[misc]  # optax carries no types
    """What the weights decay towards.

    It is an optax pair whose updates are the pull, and whose text is its call.

    Examples:
      >>> cautious(towards_norm(0.5))
      cautious(towards_norm(radius=0.5))
    """

    text = "Rule(...)"

    def __repr__(self) -> str:
        """Write the call that makes it."""
        return self.text


class TowardsStartState(NamedTuple):
    """The weights at init, θ_0."""

    start: optax.Params


class TowardsNormState(NamedTuple):
    """The norms at init, whatever the radius is.

    So a checkpoint survives a change of it.
    """

    norm: optax.Params


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
    return _rule("towards_zero()", optax.init_empty_state, lambda params, _state, **_: params)


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

    return _rule("towards_start()", init, pull)


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

    return _rule(_call("towards", target=target), init, pull)


def towards_norm(radius: ArrayLike | None = None, axis: Axis = None) -> Rule:
    """Decay the norm towards a radius: ``pull(θ) = (1 − r/||θ||)·θ``.

    The direction is untouched.

    With a radius of 0 it is `towards_zero`. A norm of 0 has no direction and stays. Under ``jit``
    the norm is that of the whole weight, however sharded. ``jax.shard_map`` shows one shard of it
    only, an error; with ``check_vma=False`` JAX does not tell, and the norm is the shard's.

    Args:
      radius: r >= 0 for every tensor; by default each one's own norm at init.
      axis: the axes over which the norm is taken, one norm for each slice along the others; by
        default all. ``axis=0`` gives each output of a (inputs, outputs) kernel its own norm.

    Returns:
      A rule whose state holds one norm per tensor or slice.

    Raises:
      TypeError, ValueError: `radius` is out of range, or, at init, `axis` does not fit a parameter;
        or the params are shards under ``jax.shard_map``.

    Examples:
      >>> rule, params = towards_norm(1.0), jnp.array([3.0, 4.0])
      >>> pull, _ = rule.update(jnp.zeros(2), rule.init(params), params, gradients=None)
      >>> [round(float(p), 6) for p in pull]
      [2.4, 3.2]

    Source: weight norm control, Loshchilov, arXiv 2311.11446, section 2.
    """
    if radius is not None:
        check_nonnegative("radius", radius, "use None for the norm at init")
    _check_axis(axis)

    def init(params: optax.Params) -> TowardsNormState:
        # outside flax's boxes, whose axes of a sharding would be those of the weights
        bare = unbox(params)
        # the norm of a shard is not that of its weight
        _check_whole(bare)
        return TowardsNormState(
            jax.tree.map_with_path(lambda path, p: _checked_norm(path, p, axis), bare)
        )

    @once_per_shape
    def leaf(p: jax.Array, norm_0: jax.Array) -> PyTree:
        norm = _norm(p, axis)
        moves = norm > 0
        # the norm at init of a weight that is still 0 follows it, so that its derivative is that
        # of staying
        r = jnp.where(moves, norm_0, 1) if radius is None else jnp.asarray(radius, norm_0.dtype)
        return (1 - r / jnp.where(moves, norm, 1)) * widen(p)

    def pull(params: optax.Params, state: TowardsNormState, **_: object) -> PyTree:
        structure: PyTreeDef
        _check_whole(params)
        leaves, structure = jax.tree.flatten(params)
        return structure.unflatten(map(leaf, leaves, jax.tree.leaves(state.norm)))

    return _rule(_call("towards_norm", radius=radius, axis=axis), init, pull)


def lp(p: ArrayLike) -> Rule:
    """Decay by the penalty ``||θ||_p^p / p``, stopping at zero.

    ``pull = sign(z)·min(|z|^(p−1), |z|/c)`` with ``z = θ + Δ``

    The pull acts on the weight that the optimiser has reached, as proximal steps do. ``p = 1`` is
    the proximal step itself, the soft threshold ``θ' = sign(z)·max(|z| − c, 0)``. ``p = 2`` is
    ``θ' = (1 − c)·z``, plain decay but for the second-order term c·Δ. Every other p is the gradient
    step on the penalty, cut off at zero. A weight cut off is zero but for the rounding of θ + Δ −
    c·pull, about 1e-7 of the terms in float32.

    Args:
      p: the exponent, at least 1, below which the penalty is not convex.

    Returns:
      A rule without state.

    Raises:
      TypeError, ValueError: `p` is out of range.

    Examples:
      >>> rule, params = lp(1), jnp.array([3.0, -0.25])
      >>> state = rule.init(params)
      >>> pull, _ = rule.update(jnp.zeros(2), state, params, gradients=None, fraction=0.5)
      >>> (params - 0.5 * pull).tolist()
      [2.5, 0.0]

    Source: iterative shrinkage-thresholding, Beck & Teboulle 2009, doi 10.1137/080716542, section
      1.
    """
    check_at_least_one("p", p)

    @once_per_shape
    def leaf(theta: jax.Array, delta: PyTree, fraction: ArrayLike) -> jax.Array:
        # a weight without a gradient has no step
        z = widen(theta) if delta is None else widen(theta) + widen(delta)
        c, exponent = (jnp.asarray(x, z.real.dtype) for x in (fraction, p - 1))
        return _shrinkage(z, c, exponent)

    def pull(
        params: optax.Params,
        _state: PyTree,
        *,
        updates: PyTree,
        fraction: ArrayLike | None = None,
        **_: object,
    ) -> PyTree:
        if fraction is None:
            raise ValueError("lp stops at zero, so it needs fraction=; use it in decay_weights")
        return jax.tree.map(leaf, params, updates, jax.tree.broadcast(fraction, params))

    return _rule(_call("lp", p=p), optax.init_empty_state, pull)


def cautious(rule: Rule) -> Rule:
    """Decay by another rule, where the step already goes that way.

    ``pull ⊙ [Δ·pull <= 0]``

    Δ is added and the pull subtracted, so they agree where their signs differ. Ties decay, and so
    does a weight without a gradient, for which Δ = 0. For complex weights the product is
    ``Re(conj(Δ)·pull)``.

    Args:
      rule: any rule.

    Returns:
      A rule with the state of the inner one.

    Raises:
      TypeError: `rule` is not a rule.

    Examples:
      >>> rule, params = cautious(towards_zero()), jnp.array([3.0, 3.0])
      >>> pull, _ = rule.update(jnp.array([-1.0, 1.0]), rule.init(params), params, gradients=None)
      >>> pull.tolist()
      [3.0, 0.0]

    Source: cautious weight decay, arXiv 2510.12402, in optax's sign.
    """
    rule = as_rule(rule)

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, **extra: object
    ) -> tuple[PyTree, optax.OptState]:
        pull, state = rule.update(updates, state, params, **extra)
        return jax.tree.map(_where_agreed, pull, updates), state

    return _with_text(Rule(rule.init, update), f"cautious({rule!r})")


def as_rule(rule: object) -> Rule:
    """Return the rule itself, or a plain optax pair as one.

    Such a pair need not take ``gradients=`` and ``fraction=``.

    Raises:
      TypeError: `rule` is no optax pair; the usual slip is a rule that was not called.
    """
    if isinstance(rule, Rule):
        return rule
    if not isinstance(rule, optax.GradientTransformation):
        name = getattr(rule, "__name__", None)
        remedy = f"call it, as in {name}()" if name else "pass one of rules, as in towards_zero()"
        raise TypeError(f"rule must be a rule, got {rule!r}; {remedy}")
    return Rule(*optax.with_extra_args_support(rule))


def _shrinkage(z: jax.Array, c: jax.Array, exponent: jax.Array) -> jax.Array:
    """Return ``sign(z)·min(|z|^e, |z|/c)`` with finite derivatives.

    They are those of the step ``z − c·pull``, also at z = 0 and c = 0.
    """
    limits = jnp.finfo(c.dtype)  # type: ignore[no-untyped-call]
    # roots of |z| are steep at 0, and `where` multiplies the derivative that it leaves out by 0: it
    # must be finite all the same
    size = jnp.where(z == 0, limits.tiny, jnp.abs(z))
    power = jnp.minimum(size**exponent, limits.max)
    sign = z / size if jnp.iscomplexobj(z) else jnp.sign(z)
    gradient = jnp.where(z == 0, z * limits.tiny ** (exponent - 1), sign * power)
    # here the step would cross zero, so it stops there
    cut = c * power >= size
    return jnp.where(cut, z / jnp.where(cut, c, 1), gradient)


@once_per_shape
def _where_agreed(r: jax.Array, delta: PyTree) -> jax.Array:
    # sign(Δ), and not Δ: the product of two small numbers would underflow to a tie
    direction = 0 if delta is None else jnp.sign(widen(delta)).conj()
    return jnp.where((direction * widen(r)).real <= 0, widen(r), 0)


def _rule(text: str, init: Callable[[PyTree], PyTree], pull: Callable[..., PyTree]) -> Rule:
    """Make a rule from ``pull(params, state, *, updates, ...)``.

    It leaves its state as it is.
    """

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, **extra: object
    ) -> tuple[PyTree, PyTree]:
        return pull(params, state, updates=updates, **extra), state

    return _with_text(Rule(init, update), text)


def _with_text(rule: Rule, text: str) -> Rule:
    rule.text = text
    return rule


def _call(name: str, **arguments: object) -> str:
    """Write the call that makes a rule.

    What is not a number is cut short, since a target may be a whole model.
    """
    shown = {key: x for key, x in arguments.items() if x is not None}
    texts = [
        f"{key}={x!r}" if isinstance(x, int | float | tuple) else f"{key}=..."
        for key, x in shown.items()
    ]
    return f"{name}({', '.join(texts)})"


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


def _check_whole(params: optax.Params) -> None:
    """Check that weights are whole, and no shards of ``jax.shard_map``.

    Its types do not always tell.
    """
    axes = [manual_axes(p) for p in jax.tree.leaves(params)]
    if any(axes):
        names = zip(named_leaves(params), axes, strict=True)
        path, over = next((path, sorted(over)) for (path, _), over in names if over)
        raise ValueError(
            f"towards_norm sees one shard of {path!r} under shard_map over {over}, whose norm is "
            "not that of the weight; call update outside shard_map, on the whole params"
        )


def _norm(p: jax.Array, axis: Axis) -> jax.Array:
    """Return the L2 norm over `axis`, which keeps a length of 1."""
    return root(jnp.sum(jnp.square(jnp.abs(widen(p))), axis, keepdims=True))


def _check_axis(axis: Axis) -> None:
    axes = () if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if not all(isinstance(a, int | np.integer) and not isinstance(a, bool) for a in axes):
        raise TypeError(
            f"axis must be None, a whole number or a tuple of them, got {axis!r}; pass 0 for one "
            "norm per output"
        )


def _checked_norm(path: KeyPath, p: jax.Array, axis: Axis) -> jax.Array:
    try:
        return _norm(p, axis)
    except (TypeError, ValueError, NameError) as error:
        raise type(error)(
            f"axis={axis!r} does not fit the parameter {path_name(path)!r} of shape {p.shape}: "
            f"{error}; pass an int or a tuple of ints that it has, or leave it out with a mask"
        ) from error


def __dir__() -> list[str]:
    """List the names for users, for tab completion."""
    return __all__
