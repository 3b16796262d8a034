"""Rules that move the norm of a weight, and leave its direction."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from decoupled_wd._base.checks import check_nonnegative
from decoupled_wd._base.leaves import manual_axes, once_per_shape, root, widen
from decoupled_wd._base.paths import named_leaves, path_name, unbox
from decoupled_wd._base.types import KeyPath, PyTree, PyTreeDef
from decoupled_wd.rules._rule import Rule, call_text, make_rule

__all__ = ["towards_norm"]

Axis: TypeAlias = int | tuple[int, ...] | None


class TowardsNormState(NamedTuple):
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

    return make_rule(call_text("towards_norm", radius=radius, axis=axis), init, pull)


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
