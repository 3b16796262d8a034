"""From a mask and the params to one multiplier for each leaf."""

from __future__ import annotations

import warnings

import jax
import optax

from decoupled_wd._base.leaves import is_absent, is_inexact, kind_of
from decoupled_wd._base.paths import named_leaves, some
from decoupled_wd._base.types import PyTree, PyTreeDef
from decoupled_wd.masks._mask import MaskLike, Match, Tree, find
from decoupled_wd.masks._numbers import is_off


def multipliers(mask: MaskLike, params: optax.Params) -> PyTree:
    """Return the multiplier of each leaf, in the structure of `params`.

    Leaves that are not floating point get 0 whatever the mask says. The others get a float, or the
    traced number or schedule that the mask was given.

    Raises:
      ValueError: the mask has another structure than `params`, a negative or non-finite multiplier,
        or selects no parameter; or a rule has no effect, or does not cover a parameter.
      TypeError: a multiplier is not a boolean or a number, or the mask is a function of `masks`,
        not called.

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
    """List path, leaf and `Match` of every leaf.

    None and ``optax.MaskedNode`` are included.
    """
    # absent leaves keep their place, so that a tree of multipliers fits
    leaves = named_leaves(params, is_leaf=is_absent)
    found = find(mask, Tree(params, leaves))
    rows = [
        (path, leaf, match if is_inexact(leaf) else Match(0.0, f"{kind_of(leaf)}: untouched"))
        for (path, leaf), match in zip(leaves, found, strict=True)
    ]
    # a mask that selects nothing is a wrong name, and would be silent
    parameters = [path for path, leaf, _ in rows if is_inexact(leaf)]
    if parameters and all(is_off(match.multiplier) for *_, match in rows):
        raise ValueError(
            f"mask selects no parameter of {some(parameters)}; select at least one, "
            "or use a weight decay of 0 for no decay"
        )
    return rows


def select(tree: PyTree, multipliers: PyTree) -> PyTree:
    """Keep the leaves with a multiplier, and hide the others.

    In their place there is an ``optax.MaskedNode()``.
    """
    return jax.tree.map(
        lambda m, leaf: optax.MaskedNode() if is_off(m) else leaf, multipliers, tree
    )
