"""From a mask, a tree λ and the params to one multiplier per leaf: what every kind of mask has in common."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._scalars import check_known, check_nonnegative, check_scalar_or_schedule
from decoupled_wd._trees import dtype_of, is_inexact, is_none, named_leaves, path_name, unbox

NamedLeaves: TypeAlias = list[tuple[str, Any]]


class Match(NamedTuple):
    """What a mask says of one leaf: its multiplier m, and the rule that gave it."""

    multiplier: float
    rule: str


@dataclass(frozen=True)
class Mask:
    """A policy with its arguments: ``policy(named_leaves, *arguments)`` gives each leaf a `Match`."""

    policy: Callable[..., list[Match]]
    arguments: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        """The same text in every process, as logs and configurations need."""
        return f"{self.policy.__name__.strip('_')}({', '.join(map(repr, self.arguments))})"


MaskLike: TypeAlias = Mask | Callable[[optax.Params], Any] | Any


def multipliers(mask: MaskLike, params: optax.Params) -> Any:
    """The multiplier of each leaf, as floats in the structure of `params`.

    Leaves that are not floating point get 0 whatever the mask says.

    Raises:
      ValueError: the mask has another structure than `params`, a negative or non-finite multiplier, or
        selects no parameter; or a rule has no effect, or does not cover a parameter.
      TypeError: a multiplier is not a boolean or a number, or the mask is a function of `masks`, not called.
    """
    structure: Any = jax.tree.structure(params, is_leaf=is_absent)
    rows = matches(mask, params)
    return structure.unflatten(p if is_absent(p) else m.multiplier for _, p, m in rows)


def matches(mask: MaskLike, params: optax.Params) -> list[tuple[str, Any, Match]]:
    """Path, leaf and `Match` of every leaf, those of None and ``optax.MaskedNode`` included."""
    leaves = named_leaves(params, is_leaf=is_absent)
    found = _find(mask, params, leaves)
    rows = [
        (path, leaf, match if is_inexact(leaf) else Match(0.0, f"{kind_of(leaf)}: untouched"))
        for (path, leaf), match in zip(leaves, found, strict=True)
    ]
    parameters = [path for path, leaf, _ in rows if is_inexact(leaf)]
    if parameters and not any(match.multiplier for *_, match in rows):
        raise ValueError(
            f"mask selects no parameter of {parameters}; use a weight decay of 0 for no decay"
        )
    return rows


def _find(mask: MaskLike, params: optax.Params, leaves: NamedLeaves) -> list[Match]:
    if getattr(mask, "__module__", "") == f"{__package__}.masks":
        name = getattr(mask, "__name__", mask)
        raise TypeError(f"mask is a function that makes a mask; call it, as in mask=masks.{name}()")
    rule = "mask tree"
    if callable(mask):
        rule = f"{getattr(mask, '__name__', type(mask).__name__)}(params)"
        mask = mask(params)
    if isinstance(mask, Mask):
        return mask.policy(leaves, *mask.arguments)
    values = broadcast_leaves("mask", True if mask is None else mask, params)
    return [
        Match(as_multiplier(f"mask at {path!r}", value) if is_inexact(leaf) else 0.0, rule)
        for (path, leaf), value in zip(leaves, values, strict=True)
    ]


def broadcast_leaves(name: str, prefix: Any, params: optax.Params) -> list[Any]:
    """The leaves of `prefix`, each as often as `params` has leaves in its place."""
    prefix, params = unbox(prefix), unbox(params)
    try:
        tree = jax.tree.broadcast(prefix, params, is_leaf=is_absent)
    except ValueError as error:
        raise ValueError(
            f"{name} must have the structure of the params, or a prefix of it; got "
            f"{jax.tree.structure(prefix)} for {jax.tree.structure(params)}"
        ) from error
    return jax.tree.leaves(tree, is_leaf=is_absent)


def as_multiplier(name: str, value: Any) -> float:
    """A boolean or a number as a float; a string or a sentence would be truthy, so it is refused."""
    check_known(name, value, "trace the weight decay, which it multiplies")
    if getattr(value, "ndim", 0) != 0 or not jnp.issubdtype(dtype_of(value), jnp.bool_):
        check_nonnegative(name, value, "use False or 0 for no decay")
    return float(value)


def per_leaf(name: str, strength: Any) -> tuple[Any, Any]:
    """λ as what all leaves share, a number or a schedule, and the factors, a tree or its prefix."""
    if callable(strength) or jax.tree_util.all_leaves([strength], is_leaf=is_none):
        check_scalar_or_schedule(name, strength)
        zero = isinstance(strength, int | float) and strength == 0
        return strength, 0.0 if zero else 1.0  # 0·θ would be NaN for infinite θ

    def leaf(path: Any, number: Any) -> float:
        at = f"{name} at {path_name(path)!r}"
        check_nonnegative(at, number)
        check_known(at, number, "pass one traced number, and its multiples as mask=")
        return float(number)

    return 1.0, jax.tree.map_with_path(leaf, strength)


def resolve(mask: MaskLike, factors: Any, params: optax.Params) -> tuple[Any, Any]:
    """The multipliers of the mask, and the same times the factors of λ."""
    if not jax.tree.leaves(params):  # optax.tree.map_params calls init with an empty stand-in
        return params, params
    if isinstance(mask, bool | jax.Array):
        raise TypeError(
            f"mask is {mask} for all; optax.inject_hyperparams turns a callable mask into that: name it in its "
            "static_args; or leave mask out to decay everything"
        )
    m = multipliers(mask, params)
    structure: Any
    leaves, structure = jax.tree.flatten(m, is_leaf=is_absent)
    rows = zip(leaves, broadcast_leaves("weight_decay", factors, m), strict=True)
    return m, structure.unflatten(x if is_absent(x) else x * factor for x, factor in rows)


def is_absent(node: Any) -> bool:
    """Whether nothing is there to train: None, or what ``optax.masked`` and ``optax.partition`` hide."""
    return node is None or isinstance(node, optax.MaskedNode)


def kind_of(leaf: Any) -> str:
    """What a leaf is that does not train, in a word."""
    kinds = {jnp.integer: "integer", jnp.bool_: "boolean", jax.dtypes.prng_key: "key"}
    found = [word for kind, word in kinds.items() if jnp.issubdtype(dtype_of(leaf), kind)]
    named = {type(None): "None", optax.MaskedNode: "masked out"}
    return found[0] if found else named.get(type(leaf), type(leaf).__name__)


def select(tree: Any, multipliers: Any) -> Any:
    """The leaves with a multiplier, and ``optax.MaskedNode()`` in place of the others."""
    return jax.tree.map(lambda m, leaf: leaf if m else optax.MaskedNode(), multipliers, tree)
