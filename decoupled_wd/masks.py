"""Which parameters decay, and how much each: a multiplier m >= 0 for every leaf, resolved from the params.

A mask is a small frozen value, not a bare callable, so that ``optax.inject_hyperparams`` cannot mistake it
for a schedule. optax's own habits work too: a callable, called on the *params*, or a tree of booleans or
numbers with the structure of the params or a prefix of it. Paths are ``dense/kernel`` in every library.

Masks combine, leaf by leaf: ``a & b`` is the smaller multiplier and ``a | b`` the larger (with multipliers
of 0 and 1: where both, where either), ``~a`` is 1 − m, and ``0.1 * a`` is 0.1·m.

Examples:
  >>> params = {"embed": {"embedding": jnp.ones((9, 2))}, "head": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
  >>> multipliers(matrices() & without("embedding"), params)
  {'embed': {'embedding': 0.0}, 'head': {'bias': 0.0, 'kernel': 1.0}}
  >>> multipliers(without("bias", "embedding") | 0.1 * matrices(), params)
  {'embed': {'embedding': 0.1}, 'head': {'bias': 0.0, 'kernel': 1.0}}
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from decoupled_wd import _patterns
from decoupled_wd._checks import check_known, check_nonnegative
from decoupled_wd._kinds import KINDS, first_kind, is_unknown, missing_kinds, why_no_matrix
from decoupled_wd._trees import (
    broadcast_leaves,
    dtype_of,
    is_absent,
    is_inexact,
    kind_of,
    named_leaves,
    some,
)
from decoupled_wd._types import Nested, Number, PyTree, PyTreeDef

__all__ = ["Mask", "everything", "matching", "matrices", "multipliers", "without"]


class Match(NamedTuple):
    """What a mask says of one leaf: its multiplier m, the rule that gave it, and what makes it doubtful."""

    multiplier: float
    rule: str
    doubt: str = ""


class Tree(NamedTuple):
    """The params, and the same as leaves with their paths."""

    params: PyTree
    leaves: list[tuple[str, PyTree]]


@dataclass(frozen=True)
class Mask:
    """A policy with its arguments: ``policy(tree, *arguments, **options)`` gives each leaf a `Match`.

    Masks are equal, hashed and printed by what they say. They combine with each other, and with a callable or
    a tree: ``a & b``, ``a | b``, ``~a``, ``0.1 * a``.
    """

    policy: Callable[..., list[Match]]
    arguments: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    # So that NumPy's numbers leave the product to `__rmul__`.
    __array_ufunc__ = None

    def __and__(self, other: MaskLike) -> Mask:
        """The smaller of the two multipliers of each leaf."""
        return Mask(_both, (self, _operand(other)))

    def __rand__(self, other: MaskLike) -> Mask:
        """The smaller of the two multipliers of each leaf."""
        return Mask(_both, (_operand(other), self))

    def __or__(self, other: MaskLike) -> Mask:
        """The larger of the two multipliers of each leaf."""
        return Mask(_either, (self, _operand(other)))

    def __ror__(self, other: MaskLike) -> Mask:
        """The larger of the two multipliers of each leaf."""
        return Mask(_either, (_operand(other), self))

    def __invert__(self) -> Mask:
        """1 − m, for a mask whose multipliers are all 0 or 1."""
        return Mask(_opposite, (self,))

    def __mul__(self, factor: Number) -> Mask:
        """`factor` times each multiplier."""
        if isinstance(factor, Mask):
            raise TypeError(
                f"a mask is multiplied by a number, got {factor!r}; combine two masks with & or |"
            )
        return Mask(_times, (as_multiplier("the factor of a mask", factor), self))

    __rmul__ = __mul__

    def __bool__(self) -> bool:
        """Refused, as ``a and b`` would be b alone."""
        raise TypeError(f"{self!r} is neither true nor false; combine masks with &, | and ~")

    def __repr__(self) -> str:
        """The same text in every process, as logs and configurations need."""
        sign = _SIGNS.get(self.policy)
        words = [_text(argument, sign) for argument in self.arguments]
        if sign:
            return f" {sign} ".join(words) if len(words) > 1 else f"{sign}{words[0]}"
        words += [f"{name}={value!r}" for name, value in self.options if value]
        return f"{self.policy.__name__.strip('_')}({', '.join(words)})"


MaskLike: TypeAlias = Mask | Callable[[PyTree], PyTree] | Nested | bool | None


def everything() -> Mask:
    """Every floating-point parameter decays, biases and normalisation scales included: the paper's choice.

    Returns:
      A mask, ``m = 1``.

    Examples:
      >>> multipliers(everything(), {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)})
      {'bias': 1.0, 'kernel': 1.0}

    Source: arXiv 1711.05101, Algorithms 1 and 2, where θ is the whole parameter vector.
    """
    return Mask(_everything)


def matrices(*, stacked_axes: int = 0) -> Mask:
    """Parameters with at least two axes decay; biases and normalisation scales do not, whatever their shape.

    These two are told by name, as by `without`: biases of shape (heads, features) and scales of shape
    (1, 1, 1, C) have several axes too. An unnamed vector with axes of length 1 around it, such as (1, 1, C),
    counts as one axis. Embeddings, tokens and state-space parameters are matrices here: for others write
    ``matrices() & without("embedding", "token", "ssm")``.

    Args:
      stacked_axes: leading axes that only stack layers (as ``nnx.vmap`` or ``nn.scan`` make), and do not
        count: with 1, vectors stacked to shape (12, 64) are not a matrix.

    Returns:
      A mask, ``m = 1`` where ``ndim − stacked_axes >= 2`` and the name is not that of a bias or a scale, else 0.

    Raises:
      TypeError, ValueError: `stacked_axes` is not a whole number >= 0.

    Examples:
      >>> multipliers(matrices(), {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)})
      {'bias': 0.0, 'kernel': 1.0}

    Source: common practice since Goyal et al., arXiv 1706.02677, section 5.1.
    """
    return Mask(_matrices, options=(("stacked_axes", _check_stacked(stacked_axes)),))


def without(*kinds: str, stacked_axes: int = 0) -> Mask:
    """Every parameter decays but those of the given kinds, which are told by their names.

    The name alone leaves one thing open, which the shape tells: a ``weight``, ``kernel`` or ``w`` of at most
    one axis belongs to a normalisation layer. So norm scales that a scan has stacked to shape (12, 64) are left
    out too, if their module's name says what it is. A kind that the model plainly lacks is no error; names
    differ, so look with `describe`, and where it is wrong use `matching`.

    Args:
      kinds: "bias"; "norm" (scale and offset of a normalisation layer, and any scale, such as LayerScale's);
        "embedding" (tables of tokens and positions); "token" (a learned input, such as ``cls_token``,
        ``mask_token``, ``register_tokens``, ``probe``); "ssm" (the dynamics of a state-space layer, such as
        ``A_log``, ``D``, ``dt_bias``).
      stacked_axes: leading axes that only stack layers, and do not count; needed where only the shape tells,
        as for ``layers/0/weight`` of shape (12, 64).

    Returns:
      A mask, ``m = 0`` for these kinds, else 1.

    Raises:
      TypeError, ValueError: a kind is unknown, or none is given; `stacked_axes` is not a whole number >= 0;
        or, when it meets the params, they are one array, which has no name.

    Warns:
      UserWarning: no parameter is of one of these kinds, and one of fewer than two axes, of which no name is
        known, would decay.

    Examples:
      >>> shapes = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
      >>> multipliers(without("bias", "norm"), {"Dense_0": shapes, "LayerNorm_0": {"scale": jnp.ones(2)}})
      {'Dense_0': {'bias': 0.0, 'kernel': 1.0}, 'LayerNorm_0': {'scale': 0.0}}

    Source: common practice: He et al., arXiv 1812.01187, section 3.1 (no bias decay).
    """
    unknown = [kind for kind in kinds if kind not in list(KINDS)]
    if unknown or not kinds:
        got = f"got {unknown[0]!r}" if unknown else "got none"
        raise ValueError(f"kinds must be among {list(KINDS)}, {got}; for other names use matching")
    return Mask(_without, kinds, (("stacked_axes", _check_stacked(stacked_axes)),))


def matching(*rules: tuple[str, float]) -> Mask:
    r"""Multipliers by name: each leaf takes the one of the first pattern that matches its whole path.

    Args:
      rules: pairs (pattern, multiplier): a regular expression for paths such as ``Dense_0/kernel`` (flax),
        ``layers/0/weight`` (Equinox) or ``mlp/~/linear_0/w`` (Haiku), and a number >= 0.

    Returns:
      A mask. When it meets the params, every floating-point parameter must be covered, and every pattern must
      match one, not all of them hidden behind one earlier rule that says otherwise. Inside ``optax.masked``
      or ``optax.partition``, which hide a part of the params, a pattern may match nothing.

    Raises:
      TypeError, ValueError: a rule is not such a pair; or, when it meets the params, a pattern has no effect or
        a parameter is not covered.

    Examples:
      >>> mask = matching((r".*/bias", 0.0), (r"head/.*", 0.1), (r".*", 1.0))
      >>> layer = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
      >>> multipliers(mask, {"body": layer, "head": layer})
      {'body': {'bias': 0.0, 'kernel': 1.0}, 'head': {'bias': 0.0, 'kernel': 0.1}}

    Source: the rule lists of big_vision, made strict.
    """
    if not rules:
        raise ValueError("matching needs at least one rule; for all parameters use everything()")
    pairs = map(_patterns.check_rule, rules)
    return Mask(_matching, tuple((p, as_multiplier(f"multiplier of {p!r}", m)) for p, m in pairs))


def multipliers(mask: MaskLike, params: optax.Params) -> PyTree:
    """The multiplier of each leaf, as floats in the structure of `params`.

    Leaves that are not floating point get 0 whatever the mask says.

    Raises:
      ValueError: the mask has another structure than `params`, a negative or non-finite multiplier, or
        selects no parameter; or a rule has no effect, or does not cover a parameter.
      TypeError: a multiplier is not a boolean or a number, or the mask is a function of `masks`, not called.

    Warns:
      UserWarning: what is to be left out was not found; see `without`.
    """
    rows = matches(mask, params)
    doubtful = [path for path, _, match in rows if match.doubt]
    if doubtful:
        why = next(match.doubt for *_, match in rows if match.doubt)
        warnings.warn(
            f"{why}, and {some(doubtful)}, of fewer than two axes, will decay; if they should not, "
            "name them with masks.matching; if they should, leave out the kind that is not there",
            stacklevel=2,
        )
    structure: PyTreeDef = jax.tree.structure(params, is_leaf=is_absent)
    return structure.unflatten(p if is_absent(p) else m.multiplier for _, p, m in rows)


def matches(mask: MaskLike, params: optax.Params) -> list[tuple[str, PyTree, Match]]:
    """Path, leaf and `Match` of every leaf, those of None and ``optax.MaskedNode`` included."""
    leaves = named_leaves(params, is_leaf=is_absent)
    found = _find(mask, Tree(params, leaves))
    rows = [
        (path, leaf, match if is_inexact(leaf) else Match(0.0, f"{kind_of(leaf)}: untouched"))
        for (path, leaf), match in zip(leaves, found, strict=True)
    ]
    parameters = [path for path, leaf, _ in rows if is_inexact(leaf)]
    if parameters and not any(match.multiplier for *_, match in rows):
        raise ValueError(
            f"mask selects no parameter of {some(parameters)}; use a weight decay of 0 for no decay"
        )
    return rows


def select(tree: PyTree, multipliers: PyTree) -> PyTree:
    """The leaves with a multiplier, and ``optax.MaskedNode()`` in place of the others."""
    return jax.tree.map(lambda m, leaf: leaf if m else optax.MaskedNode(), multipliers, tree)


def as_multiplier(name: str, value: Number) -> float:
    """A boolean or a number as a float; a string or a sentence would be truthy, so it is refused."""
    check_known(name, value, "trace the weight decay, which it multiplies")
    if getattr(value, "ndim", 0) != 0 or not jnp.issubdtype(dtype_of(value), jnp.bool_):
        check_nonnegative(name, value, "use False or 0 for no decay")
    return float(value)


def _find(mask: MaskLike, tree: Tree) -> list[Match]:
    """What any mask, callable or tree says of each leaf."""
    if isinstance(mask, Mask):
        return mask.policy(tree, *mask.arguments, **dict(mask.options))
    _check_called(mask)
    if callable(mask):
        made, rule = _called(mask, tree.params), f"{_text(mask)}(params)"
        return _find(made, tree) if isinstance(made, Mask) else _given(made, tree, rule)
    return _given(True if mask is None else mask, tree, "mask tree")


def _called(mask: Callable[[optax.Params], PyTree], params: optax.Params) -> PyTree:
    try:
        return mask(params)
    except Exception as error:
        raise TypeError(
            f"mask is callable, so it was called with the params, and raised {type(error).__name__}: {error}; "
            "pass a function from the params to a tree of booleans or numbers, or one of masks"
        ) from error


def _given(values: PyTree, tree: Tree, rule: str) -> list[Match]:
    rows = zip(tree.leaves, broadcast_leaves("mask", values, tree.params), strict=True)
    return [
        Match(as_multiplier(f"mask at {path!r}", value) if is_inexact(leaf) else 0.0, rule)
        for (path, leaf), value in rows
    ]


def _everything(tree: Tree) -> list[Match]:
    return [Match(1.0, "everything")] * len(tree.leaves)


def _matrices(tree: Tree, stacked_axes: int) -> list[Match]:
    reasons = [why_no_matrix(path, _shape(leaf)[stacked_axes:]) for path, leaf in tree.leaves]
    return [Match(0.0, reason) if reason else Match(1.0, "matrix") for reason in reasons]


def _without(tree: Tree, *kinds: str, stacked_axes: int) -> list[Match]:
    rows = [(path, leaf, len(_shape(leaf)[stacked_axes:])) for path, leaf in tree.leaves]
    named = [(path, axes) for path, leaf, axes in rows if is_inexact(leaf)]
    if any(not path for path, _ in named):
        raise ValueError(
            f"without{kinds} goes by names, and the params are one array, which has none; instead of "
            "optax.flatten(adamw(...)) write decouple(optax.flatten(optax.adam(...)), weight_decay, mask=...)"
        )
    absent = [] if _hides(tree) else missing_kinds(kinds, named)
    doubt = f"no parameter is of the kind {' or '.join(map(repr, absent))}" if absent else ""

    def match(path: str, axes: int) -> Match:
        kind = first_kind(kinds, path, axes)
        stays = f"not {' or '.join(kinds)}"
        return Match(0.0, kind) if kind else Match(1.0, stays, doubt * is_unknown(path, axes))

    return [match(path, axes) for path, _, axes in rows]


def _matching(tree: Tree, *rules: tuple[str, float]) -> list[Match]:
    paths = [path for path, leaf in tree.leaves if is_inexact(leaf)]
    _patterns.check_distinct(paths)
    # Inside optax.masked or optax.partition, the rules may name what is hidden.
    if not _hides(tree):
        _patterns.check_effect(paths, rules)
    _patterns.check_covered(paths, rules)
    found = [_patterns.first_match(path, rules) or ("no pattern", 0.0) for path, _ in tree.leaves]
    return [Match(multiplier, pattern) for pattern, multiplier in found]


def _hides(tree: Tree) -> bool:
    return any(isinstance(leaf, optax.MaskedNode) for _, leaf in tree.leaves)


def _both(tree: Tree, left: MaskLike, right: MaskLike) -> list[Match]:
    def smaller(a: Match, b: Match) -> Match:
        least = min(a.multiplier, b.multiplier)
        return Match(least, _joined("&", a, b), (a.doubt or b.doubt) if least else "")

    return list(map(smaller, _find(left, tree), _find(right, tree)))


def _either(tree: Tree, left: MaskLike, right: MaskLike) -> list[Match]:
    def larger(a: Match, b: Match) -> Match:
        first, second = (a, b) if a.multiplier > b.multiplier else (b, a)
        tie = first.multiplier == second.multiplier
        doubt = first.doubt and (second.doubt if tie else first.doubt)
        return Match(first.multiplier, _joined("|", a, b), doubt)

    return list(map(larger, _find(left, tree), _find(right, tree)))


def _opposite(tree: Tree, mask: MaskLike) -> list[Match]:
    found = _find(mask, tree)
    for (path, _), match in zip(tree.leaves, found, strict=True):
        if match.multiplier not in (0, 1):
            raise ValueError(
                f"~ turns 1 into 0 and 0 into 1, and {_text(mask, '~')} is {match.multiplier:g} at {path!r}; "
                "name the multipliers with masks.matching"
            )
    return [Match(1 - match.multiplier, f"~{_inside(match.rule)}") for match in found]


def _times(tree: Tree, factor: float, mask: MaskLike) -> list[Match]:
    return [
        Match(factor * m, f"{factor:g} * {_inside(rule)}", doubt if factor else "")
        for m, rule, doubt in _find(mask, tree)
    ]


_SIGNS = {_both: "&", _either: "|", _opposite: "~", _times: "*"}


def _operand(mask: MaskLike) -> MaskLike:
    """What stands beside a mask: another, a callable, or a tree of multipliers."""
    _check_called(mask)
    if mask is None or isinstance(mask, str | bytes):
        raise TypeError(
            f"a mask combines with a mask, a callable or a tree of multipliers, got {mask!r}; "
            "for a kind of parameters write masks.without"
        )
    return mask


def _check_called(mask: MaskLike) -> None:
    if getattr(mask, "__module__", "") == __name__ and not isinstance(mask, Mask):
        name = getattr(mask, "__name__", mask)
        raise TypeError(f"mask is a function that makes a mask; call it, as in mask=masks.{name}()")


def _check_stacked(stacked_axes: Number) -> int:
    check_nonnegative("stacked_axes", stacked_axes)
    if stacked_axes != int(stacked_axes):
        raise ValueError(f"stacked_axes must be whole, got {stacked_axes}; it counts axes")
    return int(stacked_axes)


def _shape(leaf: PyTree) -> tuple[int, ...]:
    return tuple(getattr(leaf, "shape", ()))


def _text(value: object, within: str | None = None) -> str:
    """A mask, callable or tree as text, in brackets where the sign around it would bind tighter."""
    if isinstance(value, Mask):
        sign = _SIGNS.get(value.policy)
        return f"({value!r})" if within and sign not in (None, "~", within) else repr(value)
    # Never a repr, which may hold an address.
    return getattr(value, "__name__", type(value).__name__) if callable(value) else repr(value)


def _joined(sign: str, a: Match, b: Match) -> str:
    return f"{_inside(a.rule, sign)} {sign} {_inside(b.rule, sign)}"


def _inside(rule: str, sign: str = "") -> str:
    """The rule, in brackets where it is made of several by another sign."""
    mixed = any(f" {other} " in rule for other in _SIGNS.values() if other != sign)
    return f"({rule})" if mixed else rule


def __dir__() -> list[str]:
    """The names for users, for tab completion."""
    return __all__
