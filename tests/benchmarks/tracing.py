"""Tracing, lowering and compiling one step on CPU, beside optax.adamw on the same tree.

Seconds of processor time, not of the clock, so that a busy machine matters less; medians of interleaved runs.
Without garbage collection, as in timeit: a pass over JAX's objects takes as long as lowering a hundred leaves.
"""

import gc
import itertools
import statistics
import time

import jax
import optax
from table import row
from variants import BF16, F32, PEER, RESIDUAL, step_of

import decoupled_wd as dwd
from decoupled_wd import rules

CASES = {
    "adamw": (dwd.adamw(1e-3, 1e-4), F32),
    "adamw, cautious(towards_start)": (
        dwd.adamw(1e-3, 1e-4, rule=rules.cautious(rules.towards_start())),
        F32,
    ),
    "adamw, bf16 residual": (dwd.adamw(1e-3, 1e-4, rounding=RESIDUAL), BF16),
}
LEAVES = {100: 5, 1000: 3, 5000: 1}  # and how often each is measured
COMPILED = 1000  # leaves at most: compiling grows in proportion, and takes minutes beyond
SHAPES = 8
STAGES = ("trace", "lower", "compile")


def measure():
    """Each stage against optax's, for growing numbers of leaves of eight shapes."""
    return [
        row(
            f"tracing {stage}",
            f"{case} | {leaves} leaves",
            value,
            "s",
            against=PEER,
            reference=peer,
        )
        for leaves, repetitions in LEAVES.items()
        for case, (optimizer, dtype) in CASES.items()
        for stage, value, peer in _compare(optimizer, dtype, leaves, repetitions)
    ]


def _compare(optimizer, dtype, leaves, repetitions):
    params = {
        f"layer{i:04}": jax.ShapeDtypeStruct((16, 8 * (1 + i % SHAPES)), dtype)
        for i in range(leaves)
    }
    runs = [
        [_seconds(candidate, params) for candidate in (optimizer, optax.adamw(1e-3))]
        for _ in range(repetitions)
    ]
    medians = [
        [statistics.median(s) for s in zip(*run, strict=True)] for run in zip(*runs, strict=True)
    ]
    return zip(STAGES, *medians, strict=False)


def _seconds(optimizer, params):
    """Of each stage, from an empty cache; the third is missing where it would take too long."""
    arguments = (params, jax.eval_shape(optimizer.init, params), params)
    jax.clear_caches()
    gc.collect()
    gc.disable()
    times = [time.process_time()]
    traced = jax.jit(step_of(optimizer), donate_argnums=(0, 1)).trace(*arguments)
    times.append(time.process_time())
    lowered = traced.lower()
    times.append(time.process_time())
    if len(params) <= COMPILED:
        lowered.compile()
        times.append(time.process_time())
    gc.enable()
    return [after - before for before, after in itertools.pairwise(times)]
