"""Runs of different ages side by side: one compiled round, for whatever is in its slots.

A round trains every slot on for as many steps, and evaluates it. A slot whose run has ended takes
the next one, while its neighbours go on from the states they are in: every round of every rung of
a search is the same program, and nothing is trained twice.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from decoupled_wd._base.types import PyTree
from decoupled_wd.study.grid import checks, traced
from decoupled_wd.study.grid.blocks import cells_at_once
from decoupled_wd.study.grid.cells import Carry, advance, begin, optimizer_of, starts_of
from decoupled_wd.study.grid.interrupts import deferred
from decoupled_wd.study.grid.store import digest
from decoupled_wd.study.grid.types import Init, Loss, Metric

LANES = 2
"""Batches under way: while the devices train one, the next one's trials are chosen."""
WANTED = {"cpu": 4}
"""Runs a device trains at once; a core has them in turn."""
WANTED_ELSEWHERE = 32

Metrics: TypeAlias = Mapping[str, float]


@dataclass(frozen=True)
class Job:
    """Describes a run that is in a slot."""

    label: int
    told: tuple[float, ...]
    """Its hyperparameters, and the place of its seed."""
    rounds: int = 0
    """How many rounds it has behind it."""


class Slots(NamedTuple):
    """Holds the compiled round."""

    program: Callable[..., Any]
    """``program(told, fresh, busy, carry) -> carry, (metrics, finite)``, of all slots."""
    empty: Callable[[], PyTree]
    """Makes the states of slots that nothing was trained in."""
    size: int
    steps: int
    """Training steps of a round."""
    rounds: int
    """Rounds of a whole run."""
    names: tuple[str, ...]
    """The names of the hyperparameters, in the order in which a run is told of them."""
    metrics: tuple[str, ...]
    fingerprint: str
    """The digest of what a trial's metrics depend on, beside its hyperparameters and its seed."""


def slots_of(
    make_optimizer: Callable[..., optax.GradientTransformation],
    names: Sequence[str],
    *,
    init: Init,
    loss: Loss,
    metric: Metric,
    data: tuple[tuple[jax.Array, ...], PyTree],
    counts: Mapping[str, int],
    seeds: np.ndarray,
    memory: int | None,
) -> Slots:
    """Returns a round of as many slots as all devices hold.

    The arguments are those of `sweep`, checked; a run is told the place of its seed in `seeds`.
    """
    epochs, rows = counts["epochs"], len(data[0][0])
    starts = starts_of(init, seeds, rows=rows, epochs=epochs, batch_size=counts["batch_size"])
    rounds = epochs // counts["evaluate_every"]
    steps = starts[1].shape[1] // rounds
    one = _one(make_optimizer, names, loss, metric, steps)
    told, flag = jnp.zeros(len(names) + 1), jnp.zeros((), bool)
    carry = jax.eval_shape(lambda: begin(*optimizer_of(make_optimizer, names, told), starts))
    lowered = jax.jit(one).lower(told, flag, flag, carry, starts, data)
    _, (metrics, _) = lowered.out_info
    checks.check_names(metrics, names)
    devices = jax.local_devices()
    wanted = WANTED.get(devices[0].platform, WANTED_ELSEWHERE)
    # cells_at_once divides by eight, so that as many devices have work
    size = len(devices) * cells_at_once(lowered, 8 * wanted, memory)
    mesh = jax.sharding.Mesh(np.array(devices), ("slot",))
    shards, whole = jax.P("slot"), jax.P()  # type: ignore[no-untyped-call]
    sharded = jax.shard_map(
        _over_slots(one),
        mesh=mesh,
        in_specs=(shards, shards, shards, shards, whole, whole),
        out_specs=shards,
        # as in blocks.run_blocks: optimisers start from constants
        check_vma=False,
    )
    # new states are written over those that were given: there is no second copy
    program = jax.jit(sharded, donate_argnums=3)
    spread = jax.NamedSharding(mesh, shards)
    starts, data = jax.device_put((starts, data), jax.NamedSharding(mesh, whole))

    def empty() -> PyTree:
        zeros = jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape), leaf.dtype), carry)
        return jax.device_put(zeros, spread)

    def round_of(told: np.ndarray, fresh: np.ndarray, busy: np.ndarray, carry: PyTree) -> Any:
        return program(*jax.device_put((told, fresh, busy), spread), carry, starts, data)

    text = digest(lowered.as_text(), jax.jit(init).lower(jax.random.key(0)).as_text(), data)
    return Slots(round_of, empty, size, steps, rounds, tuple(names), tuple(metrics), text)


def run_jobs(
    slots: Slots,
    ask: Callable[[], Job | None],
    hear: Callable[[Job, Metrics], bool],
) -> None:
    """Trains jobs until there are none.

    Ctrl-C takes effect when the rounds under way are finished.

    Args:
      slots: the compiled round.
      ask: the next job, or None while there is none.
      hear: told of each round of a job; says whether the job goes on. Metrics are NaN once the
        parameters are not finite.
    """
    idle: list[Job | None] = [None] * slots.size
    lanes: deque[tuple[list[Job | None], PyTree, Any]] = deque()
    try:
        with deferred():
            lanes.extend((idle, slots.empty(), None) for _ in range(LANES))
        while lanes:
            with deferred():
                jobs, carry, values = lanes.popleft()
                if values is not None:
                    jobs = _heard(jobs, jax.device_get(values), hear)
                jobs = [job or ask() for job in jobs]
                if any(jobs):
                    lanes.append((jobs, *_dispatched(slots, jobs, carry)))
    finally:
        # a program that still runs must not outlive the interpreter
        jax.block_until_ready([values for *_, values in lanes])  # type: ignore[no-untyped-call]


def _dispatched(slots: Slots, jobs: Sequence[Job | None], carry: PyTree) -> tuple[PyTree, Any]:
    width = next(len(job.told) for job in jobs if job)
    told = np.array([job.told if job else (0.0,) * width for job in jobs])
    fresh = np.array([job is not None and job.rounds == 0 for job in jobs])
    busy = np.array([job is not None for job in jobs])
    carry, values = slots.program(told.astype(float), fresh, busy, carry)
    return carry, values


def _heard(
    jobs: Sequence[Job | None], values: Any, hear: Callable[[Job, Metrics], bool]
) -> list[Job | None]:
    metrics, finite = values

    def after(slot: int, job: Job | None) -> Job | None:
        if job is None:
            return None
        job = replace(job, rounds=job.rounds + 1)
        found = {name: float(v[slot]) if finite[slot] else np.nan for name, v in metrics.items()}
        return job if hear(job, found) else None

    return [after(slot, job) for slot, job in enumerate(jobs)]


def _one(
    make_optimizer: Callable[..., optax.GradientTransformation],
    names: Sequence[str],
    loss: Loss,
    metric: Metric,
    steps: int,
) -> Callable[..., Any]:
    """Returns one round of one slot."""

    def one(
        told: jax.Array,
        fresh: jax.Array,
        busy: jax.Array,
        carry: Carry,
        starts: PyTree,
        data: PyTree,
    ) -> Any:
        train, test = data
        optimizer, seed = optimizer_of(make_optimizer, names, told)

        def trained(carry: Carry) -> Any:
            carry = jax.lax.cond(fresh, lambda: begin(optimizer, seed, starts), lambda: carry)
            carry = advance(optimizer, loss, seed, starts, train, carry, steps)
            # a metric may be finite although parameters are not
            finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(carry[0])]
            metrics = traced.named(metric(carry[0], train, test), names)
            return carry, (metrics, jnp.stack(finite).all())

        def left(carry: Carry) -> Any:
            shapes = jax.eval_shape(trained, carry)[1]
            return carry, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        # in turn an empty slot takes no time; under vmap both branches are computed
        return jax.lax.cond(busy, trained, left, carry)

    return one


def _over_slots(one: Callable[..., Any]) -> Callable[..., Any]:
    """Maps a round over the slots of a device: on a CPU in turn, as `grid.blocks` does."""
    if jax.local_devices()[0].platform != "cpu":
        return jax.vmap(one, in_axes=(0, 0, 0, 0, None, None))

    def in_turn(
        told: jax.Array, fresh: jax.Array, busy: jax.Array, carry: PyTree, starts: PyTree, data: Any
    ) -> Any:
        return jax.lax.map(lambda each: one(*each, starts, data), (told, fresh, busy, carry))

    return in_turn
