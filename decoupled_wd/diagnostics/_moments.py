"""What an optimiser averages: the first moments in its state, and how fast they forget.

An optimiser is a closure, so its β's are asked of it: it makes a step of a small, chosen gradient
from weights of zero, and its moments show what became of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from decoupled_wd._base.leaves import is_absent, is_inexact, widen
from decoupled_wd._base.types import PyTree, PyTreeDef
from decoupled_wd.theory import lion_rotation, muon_rotation, rotation

_FIRST = ("mu", "trace", "momentum")
_SECOND = "nu"
# of what is asked with, too small for any clipping, and a power of two
_SMALL = 2.0**-20


class Moment(NamedTuple):
    """The first moment that one link keeps.

    Of each weight, in their order; absent where the link does not train it. No count is kept where
    the moment is not corrected for its start.
    """

    kind: str
    count: PyTree
    leaves: list[PyTree]


class Average(NamedTuple):
    """How the steps of one weight are averaged: the kind of its optimiser, and β1 and β2."""

    kind: str
    b1: float
    b2: float = math.nan
    nesterov: bool = False

    @property
    def power(self) -> int:
        """The power of the norm that decays to its equilibrium, ``‖θ‖^n`` at the rate n·c."""
        # of a scale-free loss, SGD's steps grow as the norm falls, and others stay as they are
        return 4 if self.kind == "momentum" else 2

    def rotation(self, fraction: float, shape: tuple[int, ...]) -> float:
        """Return the angle that `theory` predicts at equilibrium, NaN where it has none."""
        known = 0 <= self.b1 < 1 and (self.kind != "lion" or 0 <= self.b2 < 1)
        if not known or (self.kind == "muon" and len(shape) != 2):
            return math.nan
        if self.kind == "lion":
            return float(lion_rotation(fraction, self.b1, self.b2))
        if self.kind == "muon":
            return float(muon_rotation(fraction, shape=(shape[0], shape[1]), momentum=self.b1))
        return float(rotation(fraction, self.b1, nesterov=self.nesterov))


UNKNOWN = Average("", math.nan)


def first_moments(state: optax.OptState, params: optax.Params) -> list[Moment]:
    """List the first moments of a state that have the structure of the params."""
    found = []
    for node in filter(_keeps, jax.tree.leaves(state, is_leaf=_keeps)):
        leaves = _like(params, getattr(node, _field(node)))
        # the moments of other weights, as behind optax.flatten, tell nothing of these
        if leaves is not None:
            # every tuple has a method of that name
            count = node.count if "count" in node._fields else None
            found.append(Moment(_kind(node), count, leaves))
    return found


def averages(
    optimizer: optax.GradientTransformationExtraArgs, state: optax.OptState, params: optax.Params
) -> list[Average]:
    """Return of each weight how its steps are averaged."""
    moments, scaled = first_moments(state, params), _scaled(state, params)
    kept, steps = _left_over(optimizer, state, params, of=0.0)
    more, longer = _left_over(optimizer, state, params, of=1.0)
    b1 = _lion_b1(optimizer, state, params) if any(m.kind == "lion" for m in moments) else math.nan
    found = [UNKNOWN] * len(scaled)
    for moment, b, total, step, longest in zip(moments, kept, more, steps, longer, strict=True):
        average = (
            Average("lion", b1, b)
            if moment.kind == "lion"
            else Average(moment.kind, b, nesterov=_looks_ahead(b, total, step, longest))
        )
        for i, leaf in enumerate(moment.leaves):
            if _is(leaf):
                # momentum behind RMSProp's scale averages steps of its size, as Adam does
                alike = average.kind == "momentum" and scaled[i]
                found[i] = average._replace(kind="scaled") if alike else average
    return found


def standing_gradients(
    optimizer: optax.GradientTransformationExtraArgs, state: optax.OptState, params: optax.Params
) -> tuple[optax.Updates, list[bool]]:
    """Return the gradients that leave the first moments as they are, and where they are known.

    ``g = (1 − β)·m / k`` of ``m ← β·m + k·g``; Adam's m is corrected for its start. So the step is
    the mean of the latest.
    """
    structure: PyTreeDef
    weights, structure = jax.tree.flatten(params)
    gradients = [jnp.zeros_like(p) if is_inexact(p) else p for p in weights]
    known, scaled = [False] * len(weights), _scaled(state, params)
    moments = first_moments(state, params)
    kept, _ = _left_over(optimizer, state, params, of=0.0)
    more, _ = _left_over(optimizer, state, params, of=1.0)
    for moment, b, total in zip(moments, kept, more, strict=True):
        # not so in a moment of zeros, or one that no gradient reaches in this step
        asked = total > b
        factor = (1 - b) / (total - b) if asked else 0.0
        if moment.kind == "adam" and moment.count is not None and asked:
            factor /= 1 - b ** max(int(moment.count), 1)
        for i, m in enumerate(moment.leaves):
            # behind RMSProp's scale momentum is of steps, and tells no gradient
            if not _is(m) or (moment.kind == "momentum" and scaled[i]):
                continue
            # whatever the gradient, the step from a moment that is NaN is known
            if asked or not jnp.all(jnp.isfinite(m)):
                gradients[i] = _finite(factor * widen(m)).astype(jnp.result_type(weights[i]))
                known[i] = True
    return structure.unflatten(gradients), known


def _left_over(
    optimizer: optax.GradientTransformationExtraArgs,
    state: optax.OptState,
    params: optax.Params,
    of: float,
) -> tuple[list[float], list[float]]:
    """Return ``⟨m', m⟩/⟨m, m⟩`` of each moment after a step whose gradient is `of` times it.

    And ``⟨Δ, m⟩/⟨m, m⟩`` of that step.
    """
    state = _shrunk(state, params)
    moments = first_moments(state, params)
    step, after = optimizer.update(_as_gradients(moments, params, of), state, _zeros(params))
    pairs = zip(moments, first_moments(after, params), strict=True)
    structure: PyTreeDef = jax.tree.structure(params)
    steps = structure.flatten_up_to(step)
    return (
        [_share(old.leaves, new.leaves) for old, new in pairs],
        [_share(old.leaves, steps) for old in moments],
    )


def _looks_ahead(kept: float, total: float, step: float, longest: float) -> bool:
    """Tell Nesterov's step by how much of it a gradient is, beside the moment.

    Of the moment the gradient g = m makes ``k = total − β``. It is k to β of the step, too, and
    ``k·(1 + β)`` to β² of Nesterov's.
    """
    plain, found = (total - kept) * step, kept * (longest - step)
    # Nesterov's is at least twice the other, and the second moment hardly changes either
    return abs(found) > 1.5 * abs(plain) > 0


def _lion_b1(
    optimizer: optax.GradientTransformationExtraArgs, state: optax.OptState, params: optax.Params
) -> float:
    """Return β1 of ``sign(β1·m + (1 − β1)·g)``.

    Gradients of ``g = −m·b/(1 − b)``, with b from 0 to 1 over the coordinates, leave the sign of m
    where ``b < β1``.
    """
    state = _shrunk(state, params)
    moments = [m for m in first_moments(state, params) if m.kind == "lion"]

    def against(m: jax.Array) -> jax.Array:
        b = (jnp.arange(m.size, dtype=jnp.float32).reshape(m.shape) + 0.5) / m.size
        return -m * b / (1 - b)

    probes = [m._replace(leaves=[against(x) if _is(x) else x for x in m.leaves]) for m in moments]
    updates, _ = optimizer.update(_as_gradients(probes, params, 1.0), state, _zeros(params))
    steps = jax.tree.leaves(updates)
    signs = [
        np.ravel(np.sign(m) * np.sign(steps[i]))
        for moment in moments
        for i, m in enumerate(moment.leaves)
        if _is(m)
    ]
    every = np.concatenate([*signs, np.zeros(0)])
    # a step goes against the average of its gradients
    return float(np.mean(every[every != 0] < 0)) if np.any(every) else math.nan


def _shrunk(state: optax.OptState, params: optax.Params) -> optax.OptState:
    """Make the first moments small, and the state wide, so that nothing is clipped or rounded.

    What is not finite in them becomes 0, or the rest would not be told.
    """
    leaves = [_finite(x) for m in first_moments(state, params) for x in m.leaves if _is(x)]
    largest = max((float(jnp.max(jnp.abs(x), initial=0)) for x in leaves), default=0.0)
    factor = _SMALL / largest if largest > 0 else 1.0

    def small(node: PyTree) -> PyTree:
        if not _keeps(node):
            return jax.tree.map(widen, node)
        first = jax.tree.map(
            lambda m: factor * widen(_finite(m)) if is_inexact(m) else m,
            getattr(node, _field(node)),
        )
        return jax.tree.map(widen, node)._replace(**{_field(node): first})

    return jax.tree.map(small, state, is_leaf=_keeps)


def _as_gradients(moments: list[Moment], params: optax.Params, factor: float) -> optax.Updates:
    structure: PyTreeDef = jax.tree.structure(params)
    gradients = jax.tree.leaves(jax.tree.map(widen, _zeros(params)))
    for moment in moments:
        for i, leaf in enumerate(moment.leaves):
            if _is(leaf):
                gradients[i] = factor * leaf
    return structure.unflatten(gradients)


def _zeros(params: optax.Params) -> optax.Params:
    return jax.tree.map(lambda p: jnp.zeros_like(p) if is_inexact(p) else p, params)


def _share(old: list[PyTree], new: list[PyTree]) -> float:
    pairs = [(m, x) for m, x in zip(old, new, strict=True) if _is(m)]
    # of the shrunk moments, whose squares would be subnormal
    rows = [(m / _SMALL, x / _SMALL) for m, x in pairs]
    whole = sum(float(jnp.vdot(m, m).real) for m, _ in rows)
    return sum(float(jnp.vdot(m, x).real) for m, x in rows) / whole if whole else math.nan


def _finite(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(x), x, jnp.zeros_like(x))


def _is(leaf: PyTree) -> bool:
    return not is_absent(leaf) and is_inexact(leaf)


def _like(params: optax.Params, tree: PyTree) -> list[PyTree] | None:
    structure: PyTreeDef = jax.tree.structure(params)
    try:
        leaves: list[PyTree] = structure.flatten_up_to(tree)
    except ValueError:
        return None
    return leaves


def _scaled(state: optax.OptState, params: optax.Params) -> list[bool]:
    """Tell which weights have a second moment, by which their steps are scaled."""
    found = np.zeros(len(jax.tree.leaves(params)), bool)
    for node in jax.tree.leaves(state, is_leaf=lambda n: hasattr(n, _SECOND)):
        leaves = _like(params, getattr(node, _SECOND)) if hasattr(node, _SECOND) else None
        if leaves is not None:
            found |= np.array([not is_absent(leaf) for leaf in leaves], bool)
    return [bool(x) for x in found]


def _field(node: PyTree) -> str:
    return next(name for name in _FIRST if hasattr(node, name))


def _keeps(node: PyTree) -> bool:
    """Tell a link that keeps a moment; params may be named tuples too."""
    fields, name = set(_FIRST).intersection(getattr(node, "_fields", ())), type(node).__name__
    # the mean of a centred RMSProp only scales its steps
    return bool(fields) and name.endswith("State") and "StdDev" not in name


def _kind(node: PyTree) -> str:
    name = type(node).__name__
    told = [kind for word, kind in {"Lion": "lion", "Muon": "muon"}.items() if word in name]
    return told[0] if told else "adam" if _field(node) == "mu" else "momentum"
