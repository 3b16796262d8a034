"""A step with `record` around `adamw`, beside the same without and beside optax.adamw, on CPU.

Step: processor time of a compiled step with weights and state donated. The contenders take turns in one process,
and the least of many turns counts, so that a busy machine matters less. ``every=1000`` is timed between the steps
that it measures. Eager: the same without ``jit``, after a first step. Compiling has the stages of `tracing`.
"""

import time

import jax
import jax.numpy as jnp
import optax
import tracing
from step import _transformer
from table import row
from variants import PEER, step_of

import decoupled_wd as dwd

ADAMW = dwd.adamw(1e-3, 1e-4)
OPTIMIZERS = {
    PEER: optax.adamw(1e-3),
    "adamw": ADAMW,
    "record(adamw)": dwd.record(ADAMW),
    "record(adamw, every=1000)": dwd.record(ADAMW, every=1000),
}
TREES = {
    "transformer, 148 leaves": _transformer(12, 256, 8192, 256) | {"head_bias": (8192,)},
    "1000 small leaves": {f"w{i:03}": (16, 8 * (1 + i % 8)) for i in range(1000)},
}
TURNS, STEPS = {"step": 30, "eager": 3}, {"step": 3, "eager": 1}
SPARING = "every=1000"
TARGETS = {"step": 1.2, "trace, lower and compile": 2.0}


def measure():
    """Every figure over that of optax's adamw, and over that of the same optimiser without a record."""
    return [
        row(
            "record",
            f"{name} {stage} | {tree}",
            seconds[stage],
            "s",
            against=peer,
            reference=all_seconds[peer][stage],
            target=TARGETS.get(stage) if SPARING in name else None,
        )
        for tree, shapes in TREES.items()
        for all_seconds in [_tree(shapes)]
        for name, seconds in all_seconds.items()
        if "record" in name
        for stage in seconds
        for peer in (PEER, "adamw")
    ]


def _tree(shapes):
    is_shape = {"is_leaf": lambda x: isinstance(x, tuple)}
    params = jax.tree.map(lambda shape: jnp.full(shape, 0.1), shapes, **is_shape)
    compiling = {
        name: [min(s) for s in zip(*(tracing._seconds(o, params) for _ in range(2)), strict=True)]
        for name, o in OPTIMIZERS.items()
    }
    stages = {"step": lambda f: jax.jit(f, donate_argnums=(0, 1)), "eager": lambda f: f}
    timed = {stage: _stepping(stage, wrap, params) for stage, wrap in stages.items()}
    return {
        name: dict(zip(tracing.STAGES, compiling[name], strict=True))
        | {"trace, lower and compile": sum(compiling[name])}
        | {stage: timed[stage][name] for stage in stages}
        for name in OPTIMIZERS
    }


def _stepping(stage, wrap, params):
    """The least seconds of a step of each optimiser, in turns."""
    gradients = jax.tree.map(lambda p: 1e-2 * p, params)
    steps = {name: wrap(step_of(o)) for name, o in OPTIMIZERS.items()}
    held = {n: (jax.tree.map(jnp.copy, params), o.init(params)) for n, o in OPTIMIZERS.items()}
    best = dict.fromkeys(OPTIMIZERS, float("inf"))
    for turn in range(1 + TURNS[stage]):
        for name, step in steps.items():
            start = time.process_time()
            for _ in range(STEPS[stage]):
                held[name] = step(*held[name], gradients)
            jax.block_until_ready(held[name])
            seconds = (time.process_time() - start) / STEPS[stage]
            # the first turn compiles
            best[name] = min(best[name], seconds) if turn else best[name]
    return best
