"""From a mask, a tree λ and the params to one multiplier per leaf, as the transforms need it."""

import jax
import optax

from decoupled_wd._checks import check_known, check_nonnegative, check_scalar_or_schedule
from decoupled_wd._trees import broadcast_leaves, is_absent, is_none, named_leaves, path_name
from decoupled_wd._types import KeyPath, Number, PyTree, PyTreeDef, WeightDecay
from decoupled_wd.masks import MaskLike, multipliers


def per_leaf(name: str, strength: WeightDecay) -> tuple[PyTree, PyTree]:
    """λ as what all leaves share, a number or a schedule, and the factors, a tree or its prefix."""
    if callable(strength) or jax.tree_util.all_leaves([strength], is_leaf=is_none):
        check_scalar_or_schedule(name, strength)
        zero = isinstance(strength, int | float) and strength == 0
        return strength, 0.0 if zero else 1.0  # 0·θ would be NaN for infinite θ

    def leaf(path: KeyPath, number: Number) -> float:
        at = f"{name} at {path_name(path)!r}"
        check_nonnegative(at, number)
        check_known(at, number, "pass one traced number, and its multiples as mask=")
        return float(number)

    return 1.0, jax.tree.map_with_path(leaf, strength)


def resolve(mask: MaskLike, factors: PyTree, params: optax.Params) -> tuple[PyTree, PyTree]:
    """The multipliers of the mask, and the same times the factors of λ."""
    if not jax.tree.leaves(params):  # optax.tree.map_params calls init with an empty stand-in
        return params, params
    if isinstance(mask, bool | jax.Array):
        raise TypeError(
            f"mask is {mask} for all; optax.inject_hyperparams turns a callable mask into that: name it in its "
            "static_args; or leave mask out to decay everything"
        )
    m = multipliers(mask, params)
    structure: PyTreeDef
    leaves, structure = jax.tree.flatten(m, is_leaf=is_absent)
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
    return m, structure.unflatten(x if is_absent(x) else x * factor for x, factor in rows)
