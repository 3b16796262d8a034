"""One step of any optimiser, measured and not applied: what decays each weight, and by how much."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._base.leaves import is_inexact, wide_dtype, widen
from decoupled_wd._base.types import PyTree, PyTreeDef
from decoupled_wd.diagnostics._measures import Leaf, Sums
from decoupled_wd.diagnostics._moments import Average, averages, first_moments
from decoupled_wd.diagnostics.record import (
    Record,
    is_rounded,
    leaves_of,
    measured,
    rates_of,
    record_of,
)
from decoupled_wd.transforms import Applied, observed

# a difference below this share is the rounding of float32
_NOISE = 1e-6
# a decay shrinks all weights of a tensor alike, and a trust ratio does not
_UNLIKE = 0.01
# a decay below this share of the step is measured on larger weights, of which it takes no more
# than half the step, up to the largest of these that float16 holds
_FAINT, _LARGER, _LARGEST = 2.0**-8, 2.0**7, 2.0**14


class Look(NamedTuple):
    """What a step does to each leaf of the params.

    The `record` is of the floating-point leaves alone. Of a leaf in `untold` the step depends on
    its weights, and not as on a decay.
    """

    record: Record
    averages: list[Average]
    untold: list[bool]
    rounded: bool


def look(
    optimizer: optax.GradientTransformationExtraArgs,
    params: optax.Params,
    state: optax.OptState,
    gradients: optax.Updates,
) -> Look:
    """Make a step, and measure it."""
    with observed() as found:
        emitted, after = optimizer.update(gradients, state, params)
    rounded, each = is_rounded(after), averages(optimizer, after, params)
    # of what ran inside jit or cond there are no numbers
    links = [link for link in found if not isinstance(link.fraction, jax.core.Tracer)]
    try:
        leaves = leaves_of(params, emitted, links, rounded)
    except ValueError:
        # decays that see the weights in another structure
        links, leaves = [], leaves_of(params, emitted, [], rounded)
    weights = jax.tree.leaves(params)
    told = iter([any(m is not None for m in leaf.multipliers) for leaf in leaves])
    asked = [is_inexact(p) and not next(told) for p in weights]
    fractions: list[float | None] = [None] * len(weights)
    if any(asked) and not rounded:
        by_difference = _by_difference(optimizer, params, state, gradients, each)
        fractions = [c if x else None for c, x in zip(by_difference, asked, strict=True)]
        links = [*links, _as_link(params, emitted, fractions)]
        leaves = leaves_of(params, emitted, links, rounded)
    untold = [c is not None and math.isnan(c) for c in fractions]
    return Look(_recorded(leaves, links), each, untold, rounded)


def _by_difference(
    optimizer: optax.GradientTransformationExtraArgs,
    params: optax.Params,
    state: optax.OptState,
    gradients: optax.Updates,
    each: list[Average],
) -> list[float]:
    """Return c of each leaf: by how much steps from weights of 1 and of 0 differ.

    L2 that goes into momentum comes out of it ``1/(1 − β1)`` times, now and in later steps. NaN
    stands where the difference is no decay: L2 in front of Adam's moments, or a trust ratio.
    """
    structure: PyTreeDef = jax.tree.structure(params)
    g, state = jax.tree.map(widen, (gradients, state))
    zeros, sizes = _filled(params, [0.0] * len(each)), [1.0] * len(each)

    def step(state: optax.OptState, weights: optax.Params) -> tuple[list[PyTree], optax.OptState]:
        updates, after = optimizer.update(g, state, weights)
        return structure.flatten_up_to(updates), after

    from_zeros, before = step(state, zeros)
    while True:
        from_sizes, after = step(state, _filled(params, sizes))
        taken = [*map(_less, from_zeros, from_sizes)]
        rows = zip(sizes, taken, from_zeros, strict=True)
        faint = [x < _LARGEST and _is_faint(d, v) for x, d, v in rows]
        if not any(faint):
            break
        sizes = [x * _LARGER if f else x for x, f in zip(sizes, faint, strict=True)]
    moments = zip(*(first_moments(s, params) for s in (after, before)), strict=True)
    changed = [
        [is_inexact(m) and bool(jnp.any(m != w)) for m, w in zip(a.leaves, b.leaves, strict=True)]
        for a, b in moments
    ]
    through = [any(column) for column in zip(*changed, strict=True)] or [False] * len(each)
    later: list[PyTree] = [None] * len(each)
    if any(through):
        # momentum gives b of the first step in the second, and Nesterov's less
        later = [*map(_less, step(before, zeros)[0], step(after, zeros)[0])]
    columns = zip(taken, from_zeros, later, sizes, each, through, strict=True)
    return [_fraction(*row) for row in columns]


def _filled(params: optax.Params, sizes: list[float]) -> optax.Params:
    structure: PyTreeDef = jax.tree.structure(params)
    pairs = zip(jax.tree.leaves(params), sizes, strict=True)
    return structure.unflatten(jnp.full_like(p, x) if is_inexact(p) else p for p, x in pairs)


def _less(v: PyTree, u: PyTree) -> PyTree:
    return v - u if u is not None and is_inexact(u) and u.size else None


def _is_faint(taken: PyTree, v: PyTree) -> bool:
    if taken is None:
        return False
    most = jnp.max(jnp.abs(taken))
    return bool((most > 0) & (most <= _FAINT * jnp.max(jnp.abs(v))))


def _fraction(
    taken: PyTree, v: PyTree, later: PyTree, size: float, average: Average, through_moment: bool
) -> float:
    if taken is None:
        return 0.0
    if float(jnp.max(jnp.abs(taken))) <= _NOISE * float(jnp.max(jnp.abs(v))):
        return 0.0
    if through_moment and average.kind != "momentum":
        return math.nan
    # all that is still in the momentum comes out of it at the rate β1
    shrinks = (taken + later / (1 - average.b1) if through_moment else taken) / size
    c = float(jnp.mean(shrinks.real))
    spread = float(jnp.max(jnp.abs(shrinks - c)))
    return c if c > 0 and spread <= _UNLIKE * c else math.nan


def _as_link(
    params: optax.Params, emitted: optax.Updates, fractions: list[float | None]
) -> Applied:
    """Write the fractions as what a `decay_weights` applies."""
    structure: PyTreeDef = jax.tree.structure(params)
    weights, steps = jax.tree.leaves(params), structure.flatten_up_to(emitted)
    rows = list(zip(weights, steps, [c or 0.0 for c in fractions], strict=True))
    kept = [0.0 if math.isnan(c) else c for *_, c in rows]
    without = [
        widen(u) + c * widen(p) if is_inexact(p) and u is not None else u
        for (p, u, _), c in zip(rows, kept, strict=True)
    ]
    absent = optax.MaskedNode()
    strengths = [absent if told is None else c for told, c in zip(fractions, kept, strict=True)]
    one, none = jnp.ones([]), jnp.zeros([], jnp.int32)
    updates, multipliers = map(structure.unflatten, (without, strengths))
    return Applied(none, params, updates, params, multipliers, one, 1.0, None)


def _recorded(leaves: list[Leaf], links: list[Applied]) -> Record:
    """Return the record of each leaf, as vectors."""
    dtype = jnp.result_type(jnp.float32, *(wide_dtype(leaf.param.real) for leaf in leaves))
    table = measured(links, leaves).astype(dtype)
    rates = rates_of(leaves, links, dtype)
    return record_of(rates, jnp.zeros(len(leaves), dtype), Sums(*table.T))
