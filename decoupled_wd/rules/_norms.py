"""Rules that move the norm of a weight, and leave its direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from decoupled_wd._base.checks import check_nonnegative, check_positive, check_type
from decoupled_wd._base.leaves import manual_axes, once_per_shape, root, widen
from decoupled_wd._base.paths import named_leaves, path_name, unbox
from decoupled_wd._base.types import KeyPath, PyTree, PyTreeDef
from decoupled_wd.rules._rule import Rule, call_text, make_rule, reached

__all__ = ["onto_norm", "towards_norm"]

Axis: TypeAlias = int | tuple[int, ...] | slice | None


class NormState(NamedTuple):
    """The norms at init, whatever the radius is.

    So a checkpoint survives a change of it.
    """

    norm: optax.Params


def towards_norm(radius: ArrayLike | None = None, axis: Axis = None) -> Rule:
    """Decay the norm towards a radius: ``pull(θ) = (1 − r/||θ||)·θ``.

    The direction is untouched.

    With a radius of 0 it is `towards_zero`. A norm of 0 has no direction and stays. Under ``jit``
    the norm is that of the whole weight, however sharded. ``jax.shard_map`` shows one shard of it
    only, an error; with ``check_vma=False`` JAX does not tell, and the norm is the shard's.

    Args:
      radius: r >= 0 for every tensor; by default each one's own norm at init.
      axis: the axes over which the norm is taken, one norm for each slice along the others; by
        default all. ``axis=0`` gives each output of a (inputs, outputs) kernel its own norm, and
        ``axis=slice(1, None)``, all axes but the first, each layer of a stack.

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

    @once_per_shape
    def leaf(p: jax.Array, _delta: PyTree, norm_0: jax.Array) -> PyTree:
        return _excess(norm_of(p, axis), norm_0, radius) * widen(p)

    text = call_text("towards_norm", radius=radius, axis=axis)
    return make_rule(text, lambda params: norms_at_init(params, axis), _with_norms(leaf))


def onto_norm(
    radius: ArrayLike | None = None, axis: Axis = None, *, one_sided: bool = False
) -> Rule:
    """Put the weight that is reached onto a norm: ``pull = (1 − R/||z||)·z``.

    ``z = θ + Δ``

    With λ = 1 and the coupling `CONSTANT` the new weight is ``R·z/||z||``: its norm is R to
    rounding after every step, whatever the learning rate. With less it goes that share of the way.
    With steps of a length of R too it is `hyperball`. A norm of 0 has no direction and stays.
    Shards are as in `towards_norm`.

    Args:
      radius: R > 0 for every tensor; by default each one's own norm at init.
      axis: the axes over which the norm is taken, as in `towards_norm`.
      one_sided: only cap the norm, ``pull = max(0, 1 − R/||z||)·z``: a weight inside the ball moves
        freely.

    Returns:
      A rule whose state holds one norm per tensor or slice.

    Raises:
      TypeError, ValueError: `radius` is out of range, or, at init, `axis` does not fit a parameter,
        or the radius is the norm at init and that is 0 or not finite; or the params are shards
        under ``jax.shard_map``. Inside ``jit`` a norm is not known at init: a weight of 0 then
        stays 0.

    Examples:
      >>> rule, params = onto_norm(1.0), jnp.array([3.0, 0.0])
      >>> delta = jnp.array([0.0, 4.0])
      >>> pull, _ = rule.update(delta, rule.init(params), params, gradients=None)
      >>> [round(float(p), 6) for p in params + delta - pull]
      [0.6, 0.8]

    Source: hyperball, arXiv 2606.16899, whose projection it is; `one_sided`, arXiv 2605.10797.
    """
    if radius is not None:
        check_positive("radius", radius, "use None for the norm at init, towards_zero() for 0")
    _check_axis(axis)
    check_type("one_sided", one_sided, bool, "pass True to cap the norm, False to hold it")

    def init(params: optax.Params) -> NormState:
        state = norms_at_init(params, axis)
        if radius is None:
            jax.tree.map_with_path(_check_directed, unbox(params), state.norm)
        return state

    @once_per_shape
    def leaf(p: jax.Array, delta: PyTree, norm_0: jax.Array) -> PyTree:
        z = reached(p, delta)
        excess = _excess(norm_of(z, axis), norm_0, radius)
        return (jnp.maximum(excess, 0) if one_sided else excess) * z

    capped = {"one_sided": True} if one_sided else {}
    rule = make_rule(
        call_text("onto_norm", radius=radius, axis=axis, **capped), init, _with_norms(leaf)
    )
    rule.holds = "held within its norm" if one_sided else "held at its norm"
    return rule


def scale_to_norm(axis: Axis = None) -> optax.GradientTransformationExtraArgs:
    """Give updates the norm of their weights at init: ``R·u/||u||``, 0 where u is 0."""

    @once_per_shape
    def leaf(_p: jax.Array, u: PyTree, norm_0: jax.Array) -> PyTree:
        if u is None:
            return None
        norm = norm_of(u, axis)
        return jnp.where(norm != 0, norm_0, 0) / jnp.where(norm != 0, norm, 1) * widen(u)

    scaled = _with_norms(leaf)
    return make_rule(
        call_text("scale_to_norm", axis=axis), lambda params: norms_at_init(params, axis), scaled
    )


def norms_at_init(params: optax.Params, axis: Axis) -> NormState:
    """Take the norm of every weight, or of each of its slices."""
    # outside flax's boxes, whose axes of a sharding would be those of the weights
    bare = unbox(params)
    # the norm of a shard is not that of its weight
    _check_whole(bare)
    return NormState(jax.tree.map_with_path(lambda path, p: _checked_norm(path, p, axis), bare))


def _excess(norm: jax.Array, norm_0: jax.Array, radius: ArrayLike | None) -> jax.Array:
    """Return ``1 − r/||·||``, the share by which a norm is too large."""
    # a norm of NaN is not 0, so that every weight shows it
    moves = norm != 0
    # the norm at init of a weight that is still 0 follows it, so that its derivative is that of
    # staying
    r = jnp.where(moves, norm_0, 1) if radius is None else jnp.asarray(radius, norm_0.dtype)
    return 1 - r / jnp.where(moves, norm, 1)


def _with_norms(leaf: Callable[[jax.Array, PyTree, jax.Array], PyTree]) -> Callable[..., PyTree]:
    """Map a function of a weight, its update and its norm at init over all."""

    def pull(params: optax.Params, state: NormState, *, updates: PyTree, **_: object) -> PyTree:
        structure: PyTreeDef
        _check_whole(params)
        leaves, structure = jax.tree.flatten(params)
        deltas = structure.flatten_up_to(updates)
        return structure.unflatten(map(leaf, leaves, deltas, jax.tree.leaves(state.norm)))

    return pull


def _check_whole(params: optax.Params) -> None:
    """Check that weights are whole, and no shards of ``jax.shard_map``.

    Its types do not always tell.
    """
    axes = [manual_axes(p) for p in jax.tree.leaves(params)]
    if any(axes):
        names = zip(named_leaves(params), axes, strict=True)
        path, over = next((path, sorted(over)) for (path, _), over in names if over)
        raise ValueError(
            f"there is one shard of {path!r} under shard_map over {over}, whose norm is not that "
            "of the weight; call update outside shard_map, on the whole params"
        )


def norm_of(p: jax.Array, axis: Axis) -> jax.Array:
    """Return the L2 norm over `axis`, which keeps a length of 1."""
    axis = tuple(range(jnp.ndim(p)))[axis] if isinstance(axis, slice) else axis
    return root(jnp.sum(jnp.square(jnp.abs(widen(p))), axis, keepdims=True))


def _check_axis(axis: Axis) -> None:
    if isinstance(axis, slice):
        axes = tuple(end for end in (axis.start, axis.stop, axis.step) if end is not None)
    else:
        axes = () if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if not all(isinstance(a, int | np.integer) and not isinstance(a, bool) for a in axes):
        raise TypeError(
            "axis must be None, a whole number, a tuple of them or a slice, got "
            f"{axis!r}; pass 0 for one norm per output"
        )


def _checked_norm(path: KeyPath, p: jax.Array, axis: Axis) -> jax.Array:
    try:
        if isinstance(axis, slice) and not tuple(range(jnp.ndim(p)))[axis]:
            raise ValueError("no axis is left for a norm")
        return norm_of(p, axis)
    except (TypeError, ValueError, NameError) as error:
        raise type(error)(
            f"axis={axis!r} does not fit the parameter {path_name(path)!r} of shape "
            f"{jnp.shape(p)}: {error}; pass an int or a tuple of ints that it has, or leave it out "
            "with a mask"
        ) from error


def _check_directed(path: KeyPath, p: jax.Array, norm: jax.Array) -> None:
    """Check that a weight has a norm on which it can be held."""
    # its value is not known, or it has no weight at all
    if isinstance(norm, jax.core.Tracer) or not jnp.size(p):
        return
    if not bool(jnp.isfinite(norm).all()):
        why = "not finite; correct the weight"
    elif not bool((norm > 0).all()):
        why = "0; pass radius="
    else:
        return
    raise ValueError(
        f"onto_norm would hold {path_name(path)!r}, or a slice of it, at its norm at init, which "
        f"is {why}, or leave it out with a mask"
    )
