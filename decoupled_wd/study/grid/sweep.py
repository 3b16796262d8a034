"""A whole grid in one compiled program: a map over cells, a scan over steps.

A cell is one training run: one value of each hyperparameter and one seed. Cells are trained in
blocks, each a rectangle of the grid, one block a device at a time: memory stays bounded, progress
shows, and a block that is finished is never trained again.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

from decoupled_wd._base.types import PyTree
from decoupled_wd.study.grid import checks, traced
from decoupled_wd.study.grid.blocks import (
    Block,
    Results,
    block_shape,
    blocks,
    cells_at_once,
    run_blocks,
)
from decoupled_wd.study.grid.cells import Carry, advance, begin, optimizer_of, starts_of
from decoupled_wd.study.grid.interrupts import deferred
from decoupled_wd.study.grid.store import Store, digest
from decoupled_wd.study.grid.types import Axis, Init, Loss, Metric, Points, TrainOne

LEAST_SEEDS, SPARE_MEMORY = 32, 2**26
"""Seeds, and bytes of their orders, up to which sweeps of fewer seeds have the same program."""


def sweep(
    make_optimizer: Callable[..., optax.GradientTransformation],
    hyperparameters: Mapping[str, Axis],
    *,
    init: Init,
    loss: Loss,
    metric: Metric,
    train: tuple[PyTree, ...],
    test: PyTree = (),
    epochs: int,
    batch_size: int,
    seeds: int | Sequence[int] = 1,
    evaluate_every: int | None = None,
    memory: int | None = None,
    store: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda finished, cells: None,  # noqa: ARG005
) -> xr.Dataset:
    """Trains every combination of hyperparameters, in one compiled program.

    Each is trained once a seed.

    Cells are spread over all devices of the host. Under ``jax.distributed`` each process trains
    its share, all write into one `store`, and each returns the whole. On CPU the last bits of
    large matrix products depend on how many threads XLA has, the larger of the number of cores and
    of devices.

    Ctrl-C takes effect when the blocks under way are finished and kept.

    Args:
      make_optimizer: called with one traced scalar per hyperparameter, by name; returns an
        optimiser.
      hyperparameters: the values of each axis of the grid; or `Points`, which are trained as they
        are listed.
      init: ``init(key) -> params``, any tree of arrays; the same for every cell of a seed.
      loss: ``loss(params, *batch, key) -> scalar``; the key is another one in every step.
      metric: ``metric(params, train, test) -> scalar``, or a dict of named scalars.
      train: arrays with the same first axis, such as inputs ``[n, ...]`` and labels ``[n]``; each
        epoch runs through them in a new order, its incomplete last batch dropped.
      test: any tree of arrays, for `metric` alone.
      epochs: passes over the training data.
      batch_size: examples in a batch.
      seeds: runs per combination, or the numbers of their seeds; a seed fixes the start, the order
        of the data and the keys.
      evaluate_every: epochs between two evaluations of `metric`, a divisor of `epochs`; by default
        one evaluation, after the last step.
      memory: bytes that the runs on one device may take together; by default 1 GiB on CPU, half of
        an accelerator's memory.
      store: folder of a Zarr store: a new or an empty one, or that of the same sweep. Finished
        blocks are written to it as they come, and the same call goes on where it stopped. Nothing
        else in it is touched.
      progress: called with the number of finished cells and of all cells, at first and after each
        block; of several processes each counts its own, and all at the end.

    Returns:
      One variable for each scalar (``metric`` if it has no name) over the hyperparameters,
      ``seed`` and ``epoch``; with `Points` over ``trial`` in place of the hyperparameters, which
      are coordinates of it. A cell that diverged holds what `metric` makes of it, and touches no
      other.

    Raises:
      ValueError: an axis is empty, holds NaN or what float32 cannot hold; lists of `Points` of
        different lengths; seeds that are no distinct whole numbers, or given although `Points` have
        a seed; a count is not a whole number that fits the data; arrays of different lengths, NaN
        in them or numbers that JAX would change; a loss or metric that is no scalar, or takes
        another's name; a store of another sweep, a damaged one, or a folder of something else;
        several processes without a store.
      TypeError: `train` or `test` holds what is no array of numbers; what should be a function is
        none.
      BlockingIOError: another process writes to the store; the message names it.
      OSError: the store cannot be written to; finished blocks are kept.

    Examples:
      >>> runs = sweep(
      ...     lambda rate: optax.sgd(rate), {"rate": [0.1, 0.2]},
      ...     init=lambda key: jnp.ones(()), loss=lambda w, x, key: w**2 / 2,
      ...     metric=lambda w, *_: w,
      ...     train=(np.zeros((4, 1)),), epochs=1, batch_size=2, seeds=1,
      ... )  # fmt: skip
      >>> runs.metric.sel(seed=0, epoch=1).values.round(3)
      array([0.81, 0.64], dtype=float32)

    Source: the grids of arXiv 1711.05101, Figures 1 and 2.
    """
    every = epochs if evaluate_every is None else evaluate_every
    counts = checks.counts(epochs=epochs, batch_size=batch_size, evaluate_every=every)
    checks.functions(
        make_optimizer=make_optimizer, init=init, loss=loss, metric=metric, progress=progress
    )
    checks.check_memory(memory)
    folder = checks.folder(store)
    space = _space(checks.as_axes(hyperparameters, make_optimizer), hyperparameters, seeds)
    axes = space.axes
    data = checks.arrays(train, test, counts["batch_size"])
    if folder is None and jax.process_count() > 1:
        raise ValueError("store must be a folder that all processes share, got None")
    with deferred():
        run = _prepared(make_optimizer, space, init, loss, metric, data, counts)
    shape = tuple(len(axis) for axis in axes.values())
    block = block_shape(shape, cells_at_once(run.lowered, math.prod(shape), memory))
    configuration = {
        "epochs": counts["epochs"],
        "batch_size": counts["batch_size"],
        "data": digest(data),
        "program": run.program,
        "jaxlib": version("jaxlib"),
        "device": jax.local_devices()[0].device_kind,
    }
    if space.points:
        configuration["points"] = digest(*space.points.values())
    epoch = np.arange(counts["evaluate_every"], counts["epochs"] + 1, counts["evaluate_every"])
    with Store(folder, {**axes, "epoch": epoch}, run.metrics, block, configuration) as finished:

        def keep(where: Block, values: Results) -> None:
            finished.write(where, values)
            progress(finished.cells, math.prod(shape))

        progress(finished.cells, math.prod(shape))
        # processes share the blocks by turns: they differ in nothing but their place
        mine = blocks(shape, block)[jax.process_index() :: jax.process_count()]
        todo = [where for where in mine if not finished.has(where)]
        run_blocks(run.cell, space.told, todo, math.prod(block), run.starts, data, keep)
        results = finished.dataset()
    if jax.process_count() > 1:
        progress(finished.cells, math.prod(shape))
    return results.assign_coords({name: (checks.TRIAL, at) for name, at in space.points.items()})


class _Space(NamedTuple):
    """Holds what is trained: every combination of the axes, or listed points."""

    names: tuple[str, ...]
    """The hyperparameters that an optimiser is made with."""
    axes: dict[str, np.ndarray]
    """The coordinates of each dimension of the results."""
    points: dict[str, np.ndarray]
    """What each trial is; empty for a grid."""
    told: list[np.ndarray]
    """What a cell is told of its place: ``[places, coordinates]`` for each dimension."""
    seeds: np.ndarray
    """The numbers of all seeds, in order; a cell is told the place of its own among them."""


def _space(given: dict[str, np.ndarray], hyperparameters: object, seeds: object) -> _Space:
    listed = isinstance(hyperparameters, Points)
    of_points = given.get("seed") if listed else None
    numbers = checks.seed_numbers(seeds, of_points)
    names, known = tuple(name for name in given if not listed or name != "seed"), np.unique(numbers)
    # a cell is told a place, since the number of a seed may be too large for a float
    place = np.searchsorted(known, numbers)[:, None]
    if not listed:
        columns = [axis[:, None] for axis in given.values()]
        return _Space(names, {**given, "seed": numbers}, {}, [*columns, place], known)
    told = np.stack([given[name] for name in names], axis=1)
    trials = {checks.TRIAL: np.arange(len(told))}
    if of_points is not None:
        return _Space(names, trials, given, [np.hstack([told, place])], known)
    return _Space(names, {**trials, "seed": numbers}, given, [told, place], known)


class _Run(NamedTuple):
    """Holds one training run, traced: what all cells share."""

    cell: TrainOne
    starts: PyTree
    lowered: jax.stages.Lowered
    metrics: dict[str, np.dtype]
    program: str
    """The digest of everything that is computed."""


def _prepared(
    make_optimizer: Callable[..., optax.GradientTransformation],
    space: _Space,
    init: Init,
    loss: Loss,
    metric: Metric,
    data: PyTree,
    counts: Mapping[str, int],
) -> _Run:
    epochs, names = counts["epochs"], space.names
    # a function of its own, so that it is traced once for all that is compiled of it
    run = _cell(make_optimizer, names, loss, metric, epochs // counts["evaluate_every"])
    cell = jax.jit(run, inline=True)
    rows = len(data[0][0])
    seeds = _filled(space.seeds, 4 * rows * epochs)
    starts = starts_of(init, seeds, rows=rows, epochs=epochs, batch_size=counts["batch_size"])
    # lowered once, for three ends: the memory of a run, its metrics' dtypes, and its fingerprint
    lowered = cell.lower(jnp.zeros(len(names) + 1), starts, data)
    metrics = {name: leaf.dtype for name, leaf in lowered.out_info.items()}
    checks.check_names(metrics, space.axes)
    # init is no part of a cell, which is given the parameters that it made
    program = digest(lowered.as_text(), jax.jit(init).lower(jax.random.key(0)).as_text())
    return _Run(cell, starts, lowered, metrics, program)


def _filled(seeds: np.ndarray, each: int) -> np.ndarray:
    """Repeats the last seed up to `LEAST_SEEDS` of them, as far as bytes for `each` are spared.

    Sweeps with fewer seeds then have the same program, which is compiled once and kept.
    """
    room = min(LEAST_SEEDS, SPARE_MEMORY // each)
    return np.pad(seeds, (0, max(0, room - len(seeds))), mode="edge")


def _cell(
    make_optimizer: Callable[..., optax.GradientTransformation],
    names: tuple[str, ...],
    loss: Loss,
    metric: Metric,
    evaluations: int,
) -> TrainOne:
    """Returns one training run as a function of its hyperparameters."""

    def run(cell: jax.Array, starts: PyTree, data: PyTree) -> dict[str, jax.Array]:
        train, test = data
        optimizer, seed = optimizer_of(make_optimizer, names, cell)
        steps = starts[1].shape[1] // evaluations

        def evaluation(carry: Carry, _: None) -> tuple[Carry, dict[str, jax.Array]]:
            carry = advance(optimizer, loss, seed, starts, train, carry, steps)
            return carry, traced.named(metric(carry[0], train, test), names)

        _, metrics = jax.lax.scan(evaluation, begin(optimizer, seed, starts), length=evaluations)
        return metrics

    return run
