"""Which parameters decay, and how much each: a multiplier m >= 0 for every leaf, resolved from the params.

A mask is a small frozen value, not a bare callable, so that ``optax.inject_hyperparams`` cannot mistake it
for a schedule. optax's own habits work too: a callable, called on the *params*, or a tree of booleans or
numbers with the structure of the params or a prefix of it. Paths are ``dense/kernel`` in every library.
"""

import difflib
import re
from typing import Any

import jax.numpy as jnp  # noqa: F401  # for the examples
import optax

from decoupled_wd._resolution import Mask as Mask
from decoupled_wd._resolution import MaskLike as MaskLike
from decoupled_wd._resolution import Match, NamedLeaves, as_multiplier
from decoupled_wd._resolution import multipliers as multipliers
from decoupled_wd._resolution import select as select
from decoupled_wd._scalars import check_nonnegative
from decoupled_wd._trees import is_inexact

# The names that flax, Equinox, Haiku and the models written in them use; case does not count.
_KINDS = {
    "bias": r"(.*/)?(b|beta|offset|(\w+_)?bias(_\w+)?)",
    "norm": r"(.*/)?((\w*norms?|(\w+_)?[lbg]n)\d*(_\w+)?(/\d+)?/(scale|weight|gamma|bias|offset|beta)"
    r"|(\w+_)?scale|gamma)",
    "embedding": r"(.*/)?(\w*embed\w*|((?!\w*patch)\w*embed\w*|wte|wpe)(/\d+)?/(weight|table))",
}


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
    """Parameters with at least two axes decay; biases and normalisation scales do not.

    Args:
      stacked_axes: leading axes that only stack layers (as ``nnx.vmap`` or ``nn.scan`` make), and do not
        count: with 1, norm scales stacked to shape (12, 64) are not a matrix.

    Returns:
      A mask, ``m = 1`` where ``ndim − stacked_axes >= 2``, else 0.

    Raises:
      TypeError, ValueError: `stacked_axes` is not a whole number >= 0.

    Examples:
      >>> multipliers(matrices(), {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)})
      {'bias': 0.0, 'kernel': 1.0}

    Source: common practice since Goyal et al., arXiv 1706.02677, section 5.1.
    """
    check_nonnegative("stacked_axes", stacked_axes)
    if stacked_axes != int(stacked_axes):
        raise ValueError(f"stacked_axes must be whole, got {stacked_axes}; it counts axes")
    return Mask(_matrices, (int(stacked_axes),))


def without(*kinds: str) -> Mask:
    """Every parameter decays but those of the given kinds, which are told by their names, not their shapes.

    So norm scales that a scan has stacked to shape (12, 64) are left out too. A kind that the model does
    not have is no error. Names differ: look with `describe`, and where it is wrong use `matching`.

    Args:
      kinds: "bias", "norm" (scale and offset of a normalisation layer, and any scale), "embedding"
        (lookup tables of tokens and positions).

    Returns:
      A mask, ``m = 0`` for these kinds, else 1.

    Raises:
      ValueError: a kind is unknown, or none is given.

    Examples:
      >>> shapes = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
      >>> multipliers(without("bias", "norm"), {"Dense_0": shapes, "LayerNorm_0": {"scale": jnp.ones(2)}})
      {'Dense_0': {'bias': 0.0, 'kernel': 1.0}, 'LayerNorm_0': {'scale': 0.0}}

    Source: common practice: He et al., arXiv 1812.01187, section 3.1 (no bias decay).
    """
    unknown = [kind for kind in kinds if kind not in list(_KINDS)]
    if unknown or not kinds:
        got = f"got {unknown[0]!r}" if unknown else "got none"
        raise ValueError(f"kinds must be among {list(_KINDS)}, {got}; for other names use matching")
    return Mask(_without, kinds)


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
    return Mask(_matching, tuple(map(_rule, rules)))


def _everything(leaves: NamedLeaves) -> list[Match]:
    return [Match(1.0, "everything")] * len(leaves)


def _matrices(leaves: NamedLeaves, stacked_axes: int) -> list[Match]:
    axes = [len(getattr(leaf, "shape", ())) - stacked_axes for _, leaf in leaves]
    return [Match(1.0, "matrix") if n >= 2 else Match(0.0, "not a matrix") for n in axes]


def _without(leaves: NamedLeaves, *kinds: str) -> list[Match]:
    rules = [(re.compile(_KINDS[kind], re.IGNORECASE), kind) for kind in kinds]
    first = [next((k for rule, k in rules if rule.fullmatch(path)), None) for path, _ in leaves]
    return [Match(0.0, kind) if kind else Match(1.0, f"not {' or '.join(kinds)}") for kind in first]


def _matching(leaves: NamedLeaves, *rules: tuple[str, float]) -> list[Match]:
    _check_effect(leaves, rules)
    found = [_first_match(path, rules) for path, _ in leaves]
    bare = [
        path for (path, p), match in zip(leaves, found, strict=True) if is_inexact(p) and not match
    ]
    if bare:
        raise ValueError(
            f"no pattern covers {_some(bare)}; add a rule, such as ('.*', 1.0) as the last one"
        )
    return [match or Match(0.0, "no pattern") for match in found]


def _first_match(path: str, rules: tuple[tuple[str, float], ...]) -> Match | None:
    return next((Match(m, rule) for rule, m in rules if re.fullmatch(rule, path)), None)


def _check_effect(leaves: NamedLeaves, rules: tuple[tuple[str, float], ...]) -> None:
    """Every pattern matches a parameter, and none hides behind one earlier rule with another multiplier."""
    if any(isinstance(leaf, optax.MaskedNode) for _, leaf in leaves):
        return  # inside optax.masked or optax.partition, the rules may name what is hidden
    paths = [path for path, leaf in leaves if is_inexact(leaf)]
    for index, (pattern, multiplier) in enumerate(rules):
        hits = [path for path in paths if re.fullmatch(pattern, path)]
        if not hits:
            nearest = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.3) or _some(paths)
            raise ValueError(
                f"pattern {pattern!r} matches no floating-point parameter; the nearest paths are {nearest}; "
                "a pattern must match the whole path: correct it (perhaps with '.*/' before it), or remove the rule"
            )
        for earlier, other in rules[:index]:
            hidden = all(re.fullmatch(earlier, path) for path in hits)
            if hidden and other != multiplier and len(hits) < len(paths):
                raise ValueError(
                    f"pattern {pattern!r} has no effect: {earlier!r} comes first and matches all of "
                    f"{_some(hits)}; put the narrower pattern first, or remove the rule"
                )


def _rule(rule: Any) -> tuple[str, float]:
    if not (isinstance(rule, tuple | list) and len(rule) == 2 and isinstance(rule[0], str)):
        raise TypeError(
            f"a rule must be a pair (pattern, multiplier) with a string as pattern, got {rule!r}; "
            "write matching(('.*/bias', 0.0), ('.*', 1.0))"
        )
    pattern, multiplier = rule
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"pattern {pattern!r} is not a regular expression: {error}; put a backslash before the "
            "characters that are meant literally"
        ) from error
    return pattern, as_multiplier(f"multiplier of {pattern!r}", multiplier)


def _some(paths: list[str], limit: int = 10) -> str:
    more = f" and {len(paths) - limit} more" if len(paths) > limit else ""
    return f"{paths[:limit]}{more}"
