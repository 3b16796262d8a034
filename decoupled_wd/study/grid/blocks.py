"""Which cells of a grid train at once: rectangles, sized by the memory of one run."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from decoupled_wd._base.types import PyTree
from decoupled_wd.study.grid.interrupts import deferred
from decoupled_wd.study.grid.types import TrainOne

Block = tuple[slice, ...]
Results = dict[str, np.ndarray]

CPU_MEMORY = 2**30
# what a kill loses, and what progress counts
CPU_CELLS = 16


def cells_at_once(lowered: jax.stages.Lowered, cells: int, memory: int | None) -> int:
    """Estimates how many runs one device can train together.

    It is the bytes to spend over the bytes of a run, and at least one.

    A run is estimated by the bytes that its lowered program touches in one step and one
    evaluation, as if nothing were fused or freed. The number does not depend on how many devices
    there are. With few cells blocks are smaller, so that up to eight devices have work.
    """
    device = jax.local_devices()[0]
    if memory is None:
        limits = device.memory_stats() if device.platform != "cpu" else None
        memory = limits["bytes_limit"] // 2 if limits else CPU_MEMORY
    costs: Mapping[str, float] = lowered.cost_analysis() or {}
    # a backend that does not tell sets no limit
    fit = max(1, int(memory // costs.get("bytes accessed", 1.0)))
    best = CPU_CELLS if device.platform == "cpu" else cells
    return min(fit, best, math.ceil(cells / 8))


def block_shape(shape: tuple[int, ...], cells: int) -> tuple[int, ...]:
    """Chooses the sides of a rectangle of at most `cells` cells.

    It is long in the last axes, and little is left at the edges of the grid.

    Examples:
      >>> block_shape((11, 10, 4), 16)
      (1, 4, 4)
    """
    sides: list[int] = []
    # the last axis is the seed: runs of one setting are finished together
    for size in reversed(shape):
        pieces = math.ceil(size / max(1, cells))
        sides.insert(0, math.ceil(size / pieces))
        cells //= sides[0]
    return tuple(sides)


def blocks(shape: tuple[int, ...], block: tuple[int, ...]) -> list[Block]:
    """Lists all blocks of a grid, those at its edges cut off.

    Examples:
      >>> blocks((3,), (2,))
      [(slice(0, 2, None),), (slice(2, 3, None),)]
    """
    cuts = (
        [slice(start, min(start + side, size)) for start in range(0, size, side)]
        for size, side in zip(shape, block, strict=True)
    )
    return list(itertools.product(*cuts))


def run_blocks(
    cell: TrainOne,
    axes: Sequence[np.ndarray],
    todo: list[Block],
    size: int,
    starts: PyTree,
    data: PyTree,
    keep: Callable[[Block, Results], None],
) -> None:
    """Trains every block, one a device at a time, and keeps its results.

    An axis is ``[places, coordinates]``: what a cell is told of its place on it. A block has at
    most `size` cells, and ``keep(block, results)`` is called when it is finished.

    Ctrl-C takes effect when the blocks under way are kept.
    """
    devices = jax.local_devices()
    mesh = jax.sharding.Mesh(np.array(devices), ("cell",))
    shards, whole = jax.P("cell"), jax.P()  # type: ignore[no-untyped-call]
    # small blocks have the program of large ones, and are done as soon
    room = CPU_CELLS if devices[0].platform == "cpu" else size
    # no check of varying axes: optimisers start from constants,
    # which do not vary until the first step
    sharded = jax.shard_map(
        _over_cells(cell),
        mesh=mesh,
        in_specs=(shards, shards, whole, whole),
        out_specs=shards,
        check_vma=False,
    )
    program = jax.jit(sharded)
    starts, data = jax.device_put((starts, data), jax.NamedSharding(mesh, whole))
    for first in range(0, len(todo), mesh.size):
        group = todo[first : first + mesh.size]
        points = [_points(axes, where, room) for where in group]
        counts = [math.prod(part.stop - part.start for part in where) for where in group]
        # every device needs a block: those without one have none of the cells of the last
        idle = mesh.size - len(group)
        points, counts = points + points[-1:] * idle, counts + [0] * idle
        with deferred():
            chunk = jax.device_put(
                (np.array(counts), np.concatenate(points)), jax.NamedSharding(mesh, shards)
            )
            values = jax.device_get(program(*chunk, starts, data))
            for index, where in enumerate(group):
                keep(where, {name: _part(v, index * room, where) for name, v in values.items()})


def _over_cells(cell: TrainOne) -> Callable[..., dict[str, jax.Array]]:
    """Maps a cell over the first `count` of a block, ``[1]``, as the device likes it.

    On a CPU core that is in turn: its cache holds one run and not sixteen. Elsewhere all are
    trained at once, those that fill up a block among them.
    """
    if jax.local_devices()[0].platform != "cpu":
        many = jax.vmap(cell, in_axes=(0, None, None))
        return lambda count, block, starts, data: many(block, starts, data)  # noqa: ARG005

    def in_turn(
        count: jax.Array, block: jax.Array, starts: PyTree, data: PyTree
    ) -> dict[str, jax.Array]:
        def train(place: jax.Array, results: dict[str, jax.Array]) -> dict[str, jax.Array]:
            one = cell(block[place], starts, data)
            return {name: results[name].at[place].set(value) for name, value in one.items()}

        shapes = jax.eval_shape(cell, block[0], starts, data)
        nothing = {n: jnp.zeros((len(block), *s.shape), s.dtype) for n, s in shapes.items()}
        results: dict[str, jax.Array] = jax.lax.fori_loop(0, count[0], train, nothing)
        return results

    return in_turn


def _points(axes: Sequence[np.ndarray], where: Block, size: int) -> np.ndarray:
    """Returns the coordinates of a block's cells, ``[size, coordinates]``.

    A block at an edge is filled up: one shape, one program.
    """
    places = np.meshgrid(*(np.arange(part.start, part.stop) for part in where), indexing="ij")
    told = [axis[place.ravel()] for axis, place in zip(axes, places, strict=True)]
    points = np.concatenate(told, axis=1).astype(float)
    return np.pad(points, ((0, size - len(points)), (0, 0)), mode="edge")


def _part(values: np.ndarray, first: int, where: Block) -> np.ndarray:
    shape = [part.stop - part.start for part in where]
    return values[first : first + math.prod(shape)].reshape(*shape, -1)
