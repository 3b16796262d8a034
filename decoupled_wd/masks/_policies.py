"""The masks of this package: everything, by shape, by kind, and by name."""

from __future__ import annotations

import optax

from decoupled_wd._base.checks import check_nonnegative
from decoupled_wd._base.leaves import is_inexact
from decoupled_wd._base.types import Number, PyTree
from decoupled_wd.masks import _patterns
from decoupled_wd.masks._kinds import KINDS, first_kind, is_unknown, missing_kinds, why_no_matrix
from decoupled_wd.masks._mask import Mask, Match, Tree, as_multiplier


def everything() -> Mask:
    """Let every floating-point parameter decay: the paper's choice.

    Biases and normalisation scales are included.

    Returns:
      A mask, ``m = 1``.

    Examples:
      >>> import jax.numpy as jnp
      >>> from decoupled_wd.masks import multipliers
      >>> multipliers(everything(), {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)})
      {'bias': 1.0, 'kernel': 1.0}

    Source: arXiv 1711.05101, Algorithms 1 and 2, where θ is the whole parameter vector.
    """
    return Mask(_everything)


def matrices(*, stacked_axes: int = 0) -> Mask:
    """Let parameters with at least two axes decay.

    Biases and normalisation scales do not decay, whatever their shape.

    These two are told by name, as by `without`: biases of shape (heads, features) and scales of
    shape (1, 1, 1, C) have several axes too. An unnamed vector with axes of length 1 around it,
    such as (1, 1, C), counts as one axis. Embeddings, tokens and state-space parameters are
    matrices here: for others write ``matrices() & without("embedding", "token", "ssm")``.

    Args:
      stacked_axes: leading axes that only stack layers (as ``nnx.vmap`` or ``nn.scan`` make), and
        do not count: with 1, vectors stacked to shape (12, 64) are not a matrix.

    Returns:
      A mask, ``m = 1`` where ``ndim − stacked_axes >= 2`` and the name is not that of a bias or a
      scale, else 0.

    Raises:
      TypeError, ValueError: `stacked_axes` is not a whole number >= 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> from decoupled_wd.masks import multipliers
      >>> multipliers(matrices(), {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)})
      {'bias': 0.0, 'kernel': 1.0}

    Source: common practice since Goyal et al., arXiv 1706.02677, section 5.1.
    """
    return Mask(_matrices, options=(("stacked_axes", check_stacked(stacked_axes)),))


def without(*kinds: str, stacked_axes: int = 0) -> Mask:
    """Let every parameter decay but those of the given kinds.

    The name alone leaves one thing open, which the shape tells: a ``weight``, ``kernel`` or ``w``
    of at most one axis belongs to a normalisation layer. So norm scales that a scan has stacked to
    shape (12, 64) are left out too, if their module's name says what it is. A kind that the model
    plainly lacks is no error; names differ, so look with `describe`, and where it is wrong use
    `matching`.

    Args:
      kinds: "bias"; "norm" (scale and offset of a normalisation layer, and any scale, such as
        LayerScale's); "embedding" (tables of tokens and positions); "token" (a learned input, such
        as ``cls_token``, ``mask_token``, ``register_tokens``, ``probe``); "ssm" (the dynamics of a
        state-space layer, such as ``A_log``, ``D``, ``dt_bias``).
      stacked_axes: leading axes that only stack layers, and do not count; needed where only the
        shape tells, as for ``layers/0/weight`` of shape (12, 64).

    Returns:
      A mask, ``m = 0`` for these kinds, else 1.

    Raises:
      TypeError, ValueError: a kind is unknown, or none is given; `stacked_axes` is not a whole
        number >= 0; or, when it meets the params, they are one array, which has no name.

    Warns:
      UserWarning: no parameter is of one of these kinds, and one of fewer than two axes, of which
        no name is known, would decay.

    Examples:
      >>> import jax.numpy as jnp
      >>> from decoupled_wd.masks import multipliers
      >>> shapes = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
      >>> params = {"Dense_0": shapes, "LayerNorm_0": {"scale": jnp.ones(2)}}
      >>> multipliers(without("bias", "norm"), params)
      {'Dense_0': {'bias': 0.0, 'kernel': 1.0}, 'LayerNorm_0': {'scale': 0.0}}

    Source: common practice: He et al., arXiv 1812.01187, section 3.1 (no bias decay).
    """
    # a list, since what is asked for may not be hashable
    unknown = [kind for kind in kinds if kind not in list(KINDS)]
    if unknown or not kinds:
        got = f"got {unknown[0]!r}" if unknown else "got none"
        raise ValueError(f"kinds must be among {list(KINDS)}, {got}; for other names use matching")
    return Mask(_without, kinds, (("stacked_axes", check_stacked(stacked_axes)),))


def matching(*rules: tuple[str, float]) -> Mask:
    r"""Choose multipliers by name.

    Each leaf takes that of the first pattern that matches its whole path.

    Args:
      rules: pairs (pattern, multiplier): a regular expression for paths such as ``Dense_0/kernel``
        (flax), ``layers/0/weight`` (Equinox) or ``mlp/~/linear_0/w`` (Haiku), and a number >= 0.

    Returns:
      A mask. When it meets the params, every floating-point parameter must be covered, and every
      pattern must match one, not all of them hidden behind one earlier rule that says otherwise.
      Inside ``optax.masked`` or ``optax.partition``, which hide a part of the params, a pattern may
      match nothing.

    Raises:
      TypeError, ValueError: a rule is not such a pair; or, when it meets the params, a pattern has
        no effect or a parameter is not covered.

    Examples:
      >>> import jax.numpy as jnp
      >>> from decoupled_wd.masks import multipliers
      >>> mask = matching((r".*/bias", 0.0), (r"head/.*", 0.1), (r".*", 1.0))
      >>> layer = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
      >>> multipliers(mask, {"body": layer, "head": layer})
      {'body': {'bias': 0.0, 'kernel': 1.0}, 'head': {'bias': 0.0, 'kernel': 0.1}}
    """
    if not rules:
        raise ValueError("matching needs at least one rule; for all parameters use everything()")
    pairs = map(_patterns.check_rule, rules)
    return Mask(_matching, tuple((p, as_multiplier(f"multiplier of {p!r}", m)) for p, m in pairs))


def _everything(tree: Tree) -> list[Match]:
    return [Match(1.0, "everything")] * len(tree.leaves)


def _matrices(tree: Tree, stacked_axes: int) -> list[Match]:
    reasons = [why_no_matrix(path, shape_of(leaf)[stacked_axes:]) for path, leaf in tree.leaves]
    return [Match(0.0, reason) if reason else Match(1.0, "matrix") for reason in reasons]


def _without(tree: Tree, *kinds: str, stacked_axes: int) -> list[Match]:
    rows = [(path, leaf, len(shape_of(leaf)[stacked_axes:])) for path, leaf in tree.leaves]
    named = [(path, axes) for path, leaf, axes in rows if is_inexact(leaf)]
    # optax.flatten has made one array of all weights
    if any(not path for path, _ in named):
        raise ValueError(
            f"without{kinds} goes by names, and the params are one array, which has none; instead "
            "of optax.flatten(adamw(...)) write decouple(optax.flatten(optax.adam(...)), "
            "weight_decay, mask=...)"
        )
    # where params are hidden, a kind may be among those
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


def check_stacked(stacked_axes: Number) -> int:
    check_nonnegative("stacked_axes", stacked_axes)
    if stacked_axes != int(stacked_axes):
        raise ValueError(f"stacked_axes must be whole, got {stacked_axes}; it counts axes")
    return int(stacked_axes)


def shape_of(leaf: PyTree) -> tuple[int, ...]:
    return tuple(getattr(leaf, "shape", ()))
