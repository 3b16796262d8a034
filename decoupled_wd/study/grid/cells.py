"""One training run in two pieces: how it begins, and some steps further."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from decoupled_wd._base.types import PyTree
from decoupled_wd.study.grid import traced
from decoupled_wd.study.grid.types import Init, Loss

Carry: TypeAlias = tuple[PyTree, PyTree, jax.Array]
"""Parameters, the optimiser's state, and the number of steps behind them."""
DRAWN_ONCE = {"xla_backend_optimization_level": 0}
"""Options of `jax.jit`: what is drawn once takes XLA longer to optimise than to draw."""
KEPT_MEMORY = 2**25
"""Bytes of the orders of a sweep up to which they are kept for the next."""


def starts_of(init: Init, seeds: np.ndarray, *, rows: int, epochs: int, batch_size: int) -> PyTree:
    """Returns what differs between seeds.

    These are the parameters, the rows of every batch ``[step, batch]``, and a key for the loss.
    """
    seeds = seeds.astype(np.uint32)
    params, keys = _initial(seeds, init)
    traced.check_params(params)
    # a seed may be there more than once, and its order is drawn once
    numbers, places = np.unique(seeds, return_inverse=True)
    large = 4 * rows * epochs * len(numbers) > KEPT_MEMORY
    draw = _orders if large else _kept_orders
    orders = draw(tuple(numbers.tolist()), rows, epochs, batch_size)
    return params, orders[places], keys


def optimizer_of(
    make_optimizer: Callable[..., optax.GradientTransformation],
    names: Sequence[str],
    cell: jax.Array,
) -> tuple[optax.GradientTransformation, jax.Array]:
    """Returns the optimiser of a cell, and the place of its seed: its last coordinate."""
    optimizer = make_optimizer(**dict(zip(names, cell[:-1], strict=True)))
    traced.check_optimizer(optimizer)
    # among the floats of a cell the place is exact up to 2^24
    return optimizer, cell[-1].astype(int)


def begin(optimizer: optax.GradientTransformation, seed: jax.Array, starts: PyTree) -> Carry:
    """Returns a run before its first step."""
    params = jax.tree.map(lambda leaf: leaf[seed], starts[0])
    return params, optimizer.init(params), jnp.zeros((), jnp.uint32)


def advance(
    optimizer: optax.GradientTransformation,
    loss: Loss,
    seed: jax.Array,
    starts: PyTree,
    train: tuple[jax.Array, ...],
    carry: Carry,
    steps: int,
) -> Carry:
    """Trains a run for some steps, from wherever it is."""
    _, batches, keys = starts

    def step(carry: Carry, _: None) -> tuple[Carry, None]:
        params, state, count = carry
        # all seeds' batches are indices into the same data, which is never copied
        batch = (array[batches[seed, count]] for array in train)
        gradients = jax.grad(traced.scalar(loss))(
            params, *batch, jax.random.fold_in(keys[seed], count)
        )
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state, count + 1), None

    carry, _ = jax.lax.scan(step, carry, length=steps)
    return carry


def _keys(seeds: jax.Array) -> jax.Array:
    """Returns the keys of each seed: for its start, the order of its data, and its loss."""
    # a seed has the same keys, whichever others are trained beside it
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(seeds)
    # fold_in(key, i) is split(key)[i], so that each use needs a key of its own
    split: jax.Array = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
    return split


def _orders(seeds: tuple[int, ...], rows: int, epochs: int, batch_size: int) -> np.ndarray:
    # a seed at a time, so that another number of them compiles nothing
    return np.stack([_batches(np.uint32(seed), rows, epochs, batch_size) for seed in seeds])


# all optimisers of a study see the same orders
_kept_orders = lru_cache(maxsize=8)(_orders)


@partial(jax.jit, static_argnames="init", compiler_options=DRAWN_ONCE)
def _initial(seeds: jax.Array, init: Init) -> tuple[PyTree, jax.Array]:
    starts, _, losses = _keys(seeds)
    return jax.vmap(init)(starts), losses


def _batches(seed: np.uint32, rows: int, epochs: int, batch_size: int) -> np.ndarray:
    orders = np.tile(np.arange(rows, dtype=np.int32), (epochs, 1))
    # to the letter what jax.random.permutation draws, whose sort takes five times as long on a CPU
    for bits in np.asarray(_bits(seed, rows, epochs)):
        orders = np.take_along_axis(orders, np.argsort(bits, axis=1, kind="stable"), axis=1)
    return orders[:, : rows // batch_size * batch_size].reshape(-1, batch_size)


@partial(jax.jit, static_argnames=("rows", "epochs"), compiler_options=DRAWN_ONCE)
def _bits(seed: jax.Array, rows: int, epochs: int) -> jax.Array:
    """Returns what each epoch is sorted by, ``[times, epochs, rows]``."""
    # as often as leaves equal numbers no influence
    times = max(1, math.ceil(3 * math.log(rows) / math.log(2**32 - 1)))

    def drawn(key: jax.Array) -> jax.Array:
        every = []
        for _ in range(times):
            key, own = jax.random.split(key)
            every.append(jax.random.bits(own, (rows,)))
        return jnp.stack(every)

    keys = jax.random.split(_keys(seed[None])[1, 0], epochs)
    each: jax.Array = jax.vmap(drawn, out_axes=1)(keys)
    return each
