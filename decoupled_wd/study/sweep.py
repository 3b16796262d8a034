"""A whole grid of hyperparameters and seeds in one compiled program: ``vmap`` over cells, ``scan`` over steps.

A cell is one training run: one value of each hyperparameter and one seed. Cells are trained in chunks of a
fixed size, so that memory stays bounded and progress shows, and each chunk is spread over all devices.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

Arrays: TypeAlias = tuple[Any, ...]
Axis: TypeAlias = Sequence[float] | np.ndarray


def sweep(
    make_optimizer: Callable[..., optax.GradientTransformation],
    hyperparameters: Mapping[str, Axis],
    *,
    init: Callable[[jax.Array], Any],
    loss: Callable[[Any, jax.Array, jax.Array], jax.Array],
    metric: Callable[[Any, Any, Any], jax.Array],
    train: Arrays,
    test: Arrays,
    epochs: int,
    batch_size: int,
    seeds: int,
    cells_per_chunk: int = 32,
    progress: Callable[[int], None] = lambda cells: None,  # noqa: ARG005
) -> xr.DataArray:
    """Train every combination of hyperparameters once a seed, all in one compiled program.

    Args:
      make_optimizer: called with one traced scalar per hyperparameter, by name; returns an optimiser.
      hyperparameters: the values of each axis of the grid.
      init: ``init(key) -> params``; the same for every cell of a seed.
      loss: ``loss(params, x, y) -> scalar`` on a batch.
      metric: ``metric(params, train, test) -> scalar`` after the last step.
      train: inputs ``[n, ...]`` and labels ``[n]``; each epoch in a new order, its incomplete batch dropped.
      test: inputs and labels for `metric`.
      epochs: passes over the training data.
      batch_size: examples in a batch.
      seeds: runs per combination; a seed fixes the start and the order of the data.
      cells_per_chunk: cells trained at once, rounded up to a multiple of the devices.
      progress: called after each chunk with the number of cells it finished.

    Returns:
      The metric with one axis per hyperparameter, and ``seed``. A cell that diverges holds what `metric`
      makes of it, and touches no other.

    Raises:
      ValueError: an axis is empty or holds NaN, or a count is not a whole number that fits the data.

    Example:
      >>> error = sweep(
      ...     lambda rate: optax.sgd(rate), {"rate": [0.1, 0.2]},
      ...     init=lambda key: jnp.ones(()), loss=lambda w, x, y: w**2 / 2, metric=lambda w, *_: w,
      ...     train=(np.zeros((4, 1)), np.zeros(4)), test=(), epochs=1, batch_size=2, seeds=1,
      ... )  # fmt: skip
      >>> error.sel(seed=0).values.round(3)
      array([0.81, 0.64], dtype=float32)

    Source: the grids of arXiv 1711.05101, Figures 1 and 2.
    """
    _check(hyperparameters, train, epochs=epochs, batch_size=batch_size, seeds=seeds)
    starts = _starts(init, len(train[1]), epochs, batch_size, seeds)
    cell = partial(
        _train,
        make_optimizer,
        tuple(hyperparameters),
        loss,
        metric,
        jax.tree.map(jnp.asarray, train),
        jax.tree.map(jnp.asarray, test),
        starts,
    )
    grid = list(itertools.product(*hyperparameters.values(), range(seeds)))
    values = _in_chunks(jax.vmap(cell), np.array(grid, np.float32), cells_per_chunk, progress)
    coordinates = {**hyperparameters, "seed": np.arange(seeds)}
    shape = [*map(len, hyperparameters.values()), seeds]
    return xr.DataArray(values.reshape(shape), coords=coordinates, dims=list(coordinates))


def _starts(init: Any, rows: int, epochs: int, batch_size: int, seeds: int) -> Any:
    """The parameters and the row numbers of every batch, ``[seed, step, batch]``."""

    def start(key: jax.Array) -> tuple[Any, jax.Array]:
        init_key, order_key = jax.random.split(key)
        orders = jax.vmap(lambda k: jax.random.permutation(k, rows))(
            jax.random.split(order_key, epochs)
        )
        return init(init_key), orders[:, : rows // batch_size * batch_size].reshape(-1, batch_size)

    return jax.jit(jax.vmap(start))(jax.random.split(jax.random.key(0), seeds))


def _train(
    make_optimizer: Any,
    names: tuple[str, ...],
    loss: Any,
    metric: Any,
    train: Arrays,
    test: Arrays,
    starts: Any,
    cell: jax.Array,
) -> Any:
    """One training run, its hyperparameters and seed traced."""
    optimizer = make_optimizer(**dict(zip(names, cell[:-1], strict=True)))
    params, batches = jax.tree.map(lambda leaf: leaf[cell[-1].astype(int)], starts)

    def step(carry: Any, rows: jax.Array) -> Any:
        params, state = carry
        gradients = jax.grad(loss)(params, *(array[rows] for array in train))
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), batches)
    return metric(params, train, test)


def _in_chunks(
    function: Any, cells: np.ndarray, cells_per_chunk: int, progress: Callable[[int], None]
) -> np.ndarray:
    """`function` over the cells, a chunk at a time, each chunk spread over all devices."""
    mesh = jax.make_mesh((jax.device_count(),), ("cell",))
    spec = jax.P("cell")  # type: ignore[no-untyped-call]
    # no check of varying axes: optimisers start from constants, which do not vary until the first step
    program = jax.jit(
        jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    )
    size = mesh.size * math.ceil(min(cells_per_chunk, len(cells)) / mesh.size)
    results = []
    for start in range(0, len(cells), size):
        chunk = cells[start : start + size]
        full = np.pad(
            chunk, ((0, size - len(chunk)), (0, 0)), mode="edge"
        )  # one shape, one program
        results.append(
            np.asarray(program(jax.device_put(full, jax.NamedSharding(mesh, spec))))[: len(chunk)]
        )
        progress(len(chunk))
    return np.concatenate(results)


def _check(hyperparameters: Mapping[str, Axis], train: Arrays, **counts: int) -> None:
    for name, axis in hyperparameters.items():
        if not len(axis) or not np.isfinite(np.asarray(axis, float)).all():
            raise ValueError(f"{name} must be a non-empty list of finite numbers, got {axis}")
    for name, count in counts.items():
        if count != int(count) or count < 1:
            raise ValueError(f"{name} must be a whole number >= 1, got {count}")
    if counts["batch_size"] > len(train[1]):
        raise ValueError(
            f"batch_size={counts['batch_size']} is larger than the {len(train[1])} training examples; lower it"
        )
