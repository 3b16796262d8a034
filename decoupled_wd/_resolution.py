"""From a mask, a tree λ and the params to one multiplier per leaf, as the transforms need it."""

import jax
import optax

from decoupled_wd._base.checks import check_scalar_or_schedule, scheduled
from decoupled_wd._base.leaves import is_absent, is_none
from decoupled_wd._base.paths import broadcast_leaves, named_leaves, path_name
from decoupled_wd._base.types import Number, PyTree, PyTreeDef, WeightDecay
from decoupled_wd.masks import MaskLike, is_off, multipliers


def check_weight_decay(name: str, strength: WeightDecay) -> None:
    """Check that λ is a number, a schedule, or a tree of them."""
    if is_shared(strength):
        check_scalar_or_schedule(name, strength)
        return
    for path, each in jax.tree.leaves_with_path(strength):
        check_scalar_or_schedule(f"{name} at {path_name(path)!r}", each)


def is_shared(strength: WeightDecay) -> bool:
    """Whether all leaves share one λ, a number or a schedule."""
    return callable(strength) or jax.tree_util.all_leaves([strength], is_leaf=is_none)


def is_scheduled(strength: WeightDecay) -> bool:
    """Whether λ, or that of some leaf, is a schedule."""
    return callable(strength) or any(map(callable, jax.tree.leaves(strength)))


def per_leaf(strength: WeightDecay) -> tuple[PyTree, PyTree]:
    """Split λ into what all leaves share and their factors.

    The first is a number or a schedule, the second a tree of these or a prefix of it.
    """
    if is_shared(strength):
        # a factor of 0 skips the leaf, where 0·θ would be NaN for an infinite θ
        zero = isinstance(strength, int | float) and strength == 0
        return strength, 0.0 if zero else 1.0
    return 1.0, jax.tree.map(_factor, strength)


def _factor(strength: Number) -> Number:
    # known numbers stay Python's, which need no place in the compiled program
    unknown = callable(strength) or isinstance(strength, jax.core.Tracer)
    return strength if unknown else float(strength)


def check_fit(mask: MaskLike, factors: PyTree, params: optax.Params) -> None:
    """Refuse a mask or a tree λ that does not fit, before training."""
    resolve(mask, factors, params)


def resolve(
    mask: MaskLike, factors: PyTree, params: optax.Params, count: Number = 0
) -> tuple[PyTree, PyTree]:
    """Return the mask's multipliers, and these times the factors of λ, at the step `count`."""
    # optax.tree.map_params calls init with an empty stand-in
    if not jax.tree.leaves(params):
        return params, params
    if isinstance(mask, bool | jax.Array):
        raise TypeError(
            f"mask is {mask} for all; optax.inject_hyperparams turns a callable mask into that: "
            "name it in its static_args; or leave mask out to decay everything"
        )
    m = multipliers(mask, params)
    structure: PyTreeDef
    leaves, structure = jax.tree.flatten(m, is_leaf=is_absent)
    # one number may stand for a whole branch of the params
    strengths = broadcast_leaves("weight_decay", factors, m)
    rows = list(zip(leaves, strengths, strict=True))
    if any(is_absent(factor) and not is_absent(x) for x, factor in rows):
        paths = [path for path, _ in named_leaves(m, is_leaf=is_absent)]
        bare = [
            p for p, (x, c) in zip(paths, rows, strict=True) if is_absent(c) and not is_absent(x)
        ]
        raise TypeError(
            f"weight_decay at {bare[0]!r} must be a number, got None; use 0 for no decay"
        )
    return m, structure.unflatten(
        x if is_absent(x) else _strength(x, factor, count) for x, factor in rows
    )


def _strength(multiplier: Number, factor: Number, count: Number) -> Number:
    # what is known to be 0 stays so, and its leaf is left alone
    if is_off(multiplier) or is_off(factor):
        return 0.0
    return scheduled("mask", multiplier, count) * scheduled("weight_decay", factor, count)
