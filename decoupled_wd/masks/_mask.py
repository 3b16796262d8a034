"""A mask as a value: what it says of each leaf, and how masks combine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._base.checks import check_nonnegative, check_scalar_or_schedule
from decoupled_wd._base.leaves import dtype_of, is_inexact
from decoupled_wd._base.paths import broadcast_leaves
from decoupled_wd._base.types import Nested, Number, PyTree, ScalarOrSchedule
from decoupled_wd.masks._numbers import as_leaf, is_known, is_off, larger, shown, smaller, times


class Match(NamedTuple):
    """What a mask says of one leaf.

    That is its multiplier m (a float, a traced number, or a schedule), the rule that gave it, and
    what makes it doubtful.
    """

    multiplier: Number
    rule: str
    doubt: str = ""


class Tree(NamedTuple):
    """The params, and the same as leaves with their paths."""

    params: PyTree
    leaves: list[tuple[str, PyTree]]


@dataclass(frozen=True)
class Mask:
    """A policy with its arguments, which gives each leaf a `Match`.

    It is called as ``policy(tree, *arguments, **options)``.

    Masks are equal, hashed and printed by what they say. They combine with each other, and with a
    callable or a tree: ``a & b``, ``a | b``, ``~a``, ``0.1 * a``.
    """

    policy: Callable[..., list[Match]]
    arguments: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    # So that NumPy's numbers leave the product to `__rmul__`.
    __array_ufunc__ = None

    def __and__(self, other: MaskLike) -> Mask:
        """Take the smaller of the two multipliers of each leaf."""
        return Mask(_both, (self, _operand(other)))

    def __rand__(self, other: MaskLike) -> Mask:
        """Take the smaller of the two multipliers of each leaf."""
        return Mask(_both, (_operand(other), self))

    def __or__(self, other: MaskLike) -> Mask:
        """Take the larger of the two multipliers of each leaf."""
        return Mask(_either, (self, _operand(other)))

    def __ror__(self, other: MaskLike) -> Mask:
        """Take the larger of the two multipliers of each leaf."""
        return Mask(_either, (_operand(other), self))

    def __invert__(self) -> Mask:
        """Return ``1 − m``, where all multipliers are 0 or 1."""
        return Mask(_opposite, (self,))

    def __mul__(self, factor: ScalarOrSchedule | Mask) -> Mask:
        """Multiply each multiplier by a number, a schedule, or that of another mask."""
        if isinstance(factor, Mask):
            return Mask(_product, (self, factor))
        return Mask(_scaled, (as_multiplier("the factor of a mask", factor), self))

    __rmul__ = __mul__

    def __bool__(self) -> bool:
        """Refused, as ``a and b`` would be b alone."""
        raise TypeError(f"{self!r} is neither true nor false; combine masks with &, | and ~")

    def __repr__(self) -> str:
        """Write the same text in every process, as configurations need."""
        sign = _SIGNS.get(self.policy)
        words = [_text(argument, sign) for argument in self.arguments]
        if sign:
            return f" {sign} ".join(words) if len(words) > 1 else f"{sign}{words[0]}"
        words += [f"{name}={value!r}" for name, value in self.options if value]
        return f"{self.policy.__name__.strip('_')}({', '.join(words)})"


MaskLike: TypeAlias = Mask | Callable[[PyTree], PyTree] | Nested | bool | None


def as_multiplier(name: str, value: Number) -> Number:
    """Turn a boolean or a number into a float; leave a traced number and a schedule.

    A string would be true as well, so it is refused.
    """
    if callable(value):
        check_scalar_or_schedule(name, value)
        return as_leaf(value)
    if getattr(value, "ndim", 0) != 0 or not jnp.issubdtype(dtype_of(value), jnp.bool_):
        check_nonnegative(name, value, "use False or 0 for no decay")
    return value if isinstance(value, jax.core.Tracer) else float(value)


def find(mask: MaskLike, tree: Tree) -> list[Match]:
    """Ask any mask, callable or tree what it says of each leaf."""
    # a mask first: it is not callable, so that no library takes it for a schedule
    if isinstance(mask, Mask):
        return mask.policy(tree, *mask.arguments, **dict(mask.options))
    _check_called(mask)
    if callable(mask) and not _is_tree_like(mask, tree.params):
        # a callable may return a mask as well as a tree
        made, rule = _called(mask, tree.params), f"{_text(mask)}(params)"
        return find(made, tree) if isinstance(made, Mask) else _given(made, tree, rule)
    return _given(True if mask is None else mask, tree, "mask tree")


def _is_tree_like(mask: object, params: optax.Params) -> bool:
    """Tell a tree that can be called, as Equinox's modules can, from a function of the params."""
    return type(mask) is type(params) and not jax.tree_util.all_leaves([mask])


def _called(mask: Callable[[optax.Params], PyTree], params: optax.Params) -> PyTree:
    try:
        return mask(params)
    except Exception as error:
        raise TypeError(
            "mask is callable, so it was called with the params, and raised "
            f"{type(error).__name__}: {error}; pass a function from the params to a tree of "
            "booleans or numbers, or one of masks"
        ) from error


def _given(values: PyTree, tree: Tree, rule: str) -> list[Match]:
    rows = zip(tree.leaves, broadcast_leaves("mask", values, tree.params), strict=True)
    return [
        Match(as_multiplier(f"mask at {path!r}", value) if is_inexact(leaf) else 0.0, rule)
        for (path, leaf), value in rows
    ]


def _both(tree: Tree, left: MaskLike, right: MaskLike) -> list[Match]:
    def match(a: Match, b: Match) -> Match:
        least = smaller(a.multiplier, b.multiplier)
        return Match(least, _joint_rule("&", a, b), "" if is_off(least) else a.doubt or b.doubt)

    return list(map(match, find(left, tree), find(right, tree)))


def _either(tree: Tree, left: MaskLike, right: MaskLike) -> list[Match]:
    def match(a: Match, b: Match) -> Match:
        rule, most = _joint_rule("|", a, b), larger(a.multiplier, b.multiplier)
        if not is_known(most):
            return Match(most, rule, a.doubt or b.doubt)
        first, second = (a, b) if a.multiplier > b.multiplier else (b, a)
        # a doubt counts only where it decides the multiplier
        tie = first.multiplier == second.multiplier
        return Match(most, rule, first.doubt and (second.doubt if tie else first.doubt))

    return list(map(match, find(left, tree), find(right, tree)))


def _opposite(tree: Tree, mask: MaskLike) -> list[Match]:
    found = find(mask, tree)
    for (path, _), match in zip(tree.leaves, found, strict=True):
        if not is_known(match.multiplier) or match.multiplier not in (0, 1):
            raise ValueError(
                f"~ turns 1 into 0 and 0 into 1, and {_text(mask, '~')} is "
                f"{shown(match.multiplier)} at {path!r}; name the multipliers with masks.matching"
            )
    return [Match(1 - match.multiplier, f"~{_inside(match.rule)}") for match in found]


def _product(tree: Tree, left: MaskLike, right: MaskLike) -> list[Match]:
    def match(a: Match, b: Match) -> Match:
        both = times(a.multiplier, b.multiplier)
        return Match(both, _joint_rule("*", a, b), "" if is_off(both) else a.doubt or b.doubt)

    return list(map(match, find(left, tree), find(right, tree)))


def _scaled(tree: Tree, factor: Number, mask: MaskLike) -> list[Match]:
    return [
        Match(
            times(factor, m), f"{shown(factor)} * {_inside(rule)}", "" if is_off(factor) else doubt
        )
        for m, rule, doubt in find(mask, tree)
    ]


_SIGNS = {_both: "&", _either: "|", _opposite: "~", _product: "*", _scaled: "*"}


def _operand(mask: MaskLike) -> MaskLike:
    """Check what stands beside a mask: a mask, callable or tree."""
    _check_called(mask)
    if mask is None or isinstance(mask, str | bytes):
        raise TypeError(
            f"a mask combines with a mask, a callable or a tree of multipliers, got {mask!r}; "
            "for a kind of parameters write masks.without"
        )
    return mask


def _check_called(mask: MaskLike) -> None:
    # a function without a module, as `exec` makes, has None there
    ours = str(getattr(mask, "__module__", "")).startswith(f"{__package__}.")
    if ours and not isinstance(mask, Mask):
        name = getattr(mask, "__name__", mask)
        raise TypeError(f"mask is a function that makes a mask; call it, as in mask=masks.{name}()")


def _text(value: object, around: str | None = None) -> str:
    """Write a mask, callable or tree as text.

    It is in brackets where the sign around it would bind tighter.
    """
    if isinstance(value, Mask):
        sign = _SIGNS.get(value.policy)
        return f"({value!r})" if around and sign not in (None, "~", around) else repr(value)
    if isinstance(value, tuple) and any(map(callable, value)):
        return f"({', '.join(map(_text, value))})"
    # Never a repr, which may hold an address.
    return getattr(value, "__name__", type(value).__name__) if callable(value) else repr(value)


def _joint_rule(sign: str, a: Match, b: Match) -> str:
    return f"{_inside(a.rule, sign)} {sign} {_inside(b.rule, sign)}"


def _inside(rule: str, sign: str = "") -> str:
    """Put brackets around a rule that another sign has joined."""
    mixed = any(f" {other} " in rule for other in _SIGNS.values() if other != sign)
    return f"({rule})" if mixed else rule
