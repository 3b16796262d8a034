"""What is measured of one leaf in one step.

These are sums over its weights, from which norms and angles follow.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from decoupled_wd._base.leaves import float_info, widen
from decoupled_wd._base.types import Number, PyTree
from decoupled_wd.masks import is_off

# weights that are added one after another: float32 cannot count past 2^24
_BLOCK = 512
# a sum of its own costs more to compile and to start than a leaf of 32 kB to copy
_SMALL = 2**13


class Leaf(NamedTuple):
    """What one leaf does in a step.

    It holds θ, what was emitted, θ and Δ as the decay saw them; and of each decay pull and m, if
    any.

    `carried` holds something where a rounding link carries the float32 weight: it is part of the
    tree's structure.
    """

    param: PyTree
    emitted: PyTree
    weights: PyTree
    delta: PyTree
    pulls: list[PyTree]
    multipliers: list[Number]
    carried: tuple[()] | None


class Sums(NamedTuple):
    """What adds up over leaves, for s = θ' − θ and the decay d.

    These are Σθ², ΣΔ², Σd², Σθ·s, Σs², and weights that are counted.
    """

    weights: jax.Array
    updates: jax.Array
    decay: jax.Array
    along: jax.Array
    step: ArrayLike
    lost: jax.Array
    decayed: jax.Array


def applied(pull: PyTree, multiplier: Number) -> PyTree:
    """Return the pull, or None where there is no decay."""
    return None if multiplier is None or is_off(multiplier) else pull


def join(numbers: list[Number], dtype: DTypeLike) -> Number:
    """Join numbers: in NumPy where all are known, which takes no time to trace."""
    if any(isinstance(x, jax.Array) for x in numbers):
        return jax.lax.stop_gradient(jnp.stack([jnp.asarray(x, dtype) for x in numbers]))
    return np.array(numbers, dtype)


def sums_of_each(leaves: list[Leaf], fractions: list[PyTree]) -> jax.Array:
    """Measure a row of `Sums` for each leaf.

    Small leaves of one kind are measured as one array.
    """
    alike: dict[object, list[int]] = {}
    for i, leaf in enumerate(leaves):
        alike.setdefault(_kind(leaf) if np.size(leaf.param) <= _SMALL else i, []).append(i)
    rows = [_sums_together([leaves[i] for i in group], fractions) for group in alike.values()]
    # back in the order of the leaves, as groups have mixed them
    order = np.argsort([i for group in alike.values() for i in group])
    table: jax.Array = jnp.concatenate(rows)[order] if rows else jnp.zeros((0, len(Sums._fields)))
    return table


def _kind(leaf: Leaf) -> tuple[object, ...]:
    """Tell what leaves must share to be stacked: structure, shapes, dtypes and shardings."""
    return jax.tree.structure(leaf), *map(jax.typeof, jax.tree.leaves(leaf))


def _sums_together(leaves: list[Leaf], fractions: list[PyTree]) -> jax.Array:
    if len(leaves) == 1:
        return jnp.stack([_sums(leaves[0], fractions)])
    # one kernel for a hundred biases, instead of a hundred
    together = jax.tree.map(lambda *x: jnp.stack(x), *leaves)
    return jnp.asarray(jax.vmap(_sums, (0, None))(together, fractions))


@jax.jit
def _sums(leaf: Leaf, fractions: list[PyTree]) -> jax.Array:
    """Measure the `Sums` of one leaf as a vector.

    It is traced once for each shape, and one call where nothing is traced.
    """
    leaf, fractions = jax.lax.stop_gradient((leaf, fractions))
    p, w = leaf.param, widen(leaf.weights)
    u, without = (p * 0, w * 0) if leaf.emitted is None else (leaf.emitted, widen(leaf.delta))
    # several decays may act on one leaf; what they take adds up
    decay: Number = 0.0
    for c, m, pull in zip(fractions, leaf.multipliers, leaf.pulls, strict=True):
        decay = decay if pull is None else decay + c * m * widen(pull)
    if leaf.carried is not None:
        step = without - decay
        same = w + step == w + without
    else:
        # as optax.apply_updates writes it, with and without the decay
        landed = _rounded(widen(p) + _rounded(widen(u), u.dtype), p.dtype)
        same = landed == _rounded(widen(p) + _rounded(without, u.dtype), p.dtype)
        step = landed - widen(p)
    decayed = decay != 0
    # as pairs, so that complex weights have conj(x)·y
    pairs = [(w, w), (without, without), (decay, decay), (w, step), (step, step)]
    terms = [(jnp.conj(x) * y).real for x, y in pairs] + [same & decayed, decayed]
    return _totals([jnp.broadcast_to(x, p.shape).astype(step.real.dtype) for x in terms])


def _totals(terms: list[jax.Array]) -> jax.Array:
    """Sum each term, in one pass over the weights.

    Each block is summed, and then the sums of the blocks.
    """
    shape, pad, axes = _blocked(terms[0].shape)
    blocks = [jnp.pad(x, pad).reshape(shape) if x.ndim else x for x in terms]
    zeros = [jnp.zeros([], x.dtype) for x in blocks]
    totals = jax.lax.reduce(blocks, zeros, lambda x, y: [*map(jnp.add, x, y)], axes)
    return jnp.stack(totals).sum(range(1, 1 + totals[0].ndim))


def _blocked(
    shape: tuple[int, ...],
) -> tuple[tuple[int, ...], list[tuple[int, int]], tuple[int, ...]]:
    """Divide the last axes of a shape into blocks of `_BLOCK` weights.

    Returned are that shape, the padding before, and the axes of a block.

    Axes are split, never joined, so that weights that are split over devices stay where they are.
    """
    axis, size = len(shape), 1
    while axis and size * shape[axis - 1] <= _BLOCK:
        axis -= 1
        size *= shape[axis]
    room = _BLOCK // max(size, 1)
    if not axis or room == 1:
        return shape, [(0, 0)] * len(shape), tuple(range(axis, len(shape)))
    n = shape[axis - 1]
    # a divisor needs no padding, if it is not much smaller than a block
    divisor = max(d for d in range(1, room + 1) if n % d == 0)
    length = divisor if 4 * divisor >= room else room
    count = math.ceil(n / length)
    blocked = *shape[: axis - 1], count, length, *shape[axis:]
    pad = [(0, count * length - n if i == axis - 1 else 0) for i in range(len(shape))]
    return blocked, pad, tuple(range(axis, len(blocked)))


def _rounded(x: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Round x as `dtype` holds it, in the dtype of x.

    XLA may drop a conversion there and back.
    """
    info = float_info(dtype)
    return x if info.bits >= 32 else jax.lax.reduce_precision(x, info.nexp, info.nmant)


def compensated(total: jax.Array, error: jax.Array, term: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Add a term by Kahan's sum.

    Alone, float32 would stop counting fractions of 1e-7 of a step.
    """
    wanted = term - error
    new = total + wanted
    return new, (new - total) - wanted
