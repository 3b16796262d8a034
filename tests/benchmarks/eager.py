"""A step without jit, as in a notebook, of a thousand small leaves: beside optax's in turn, in processor time."""

import statistics
import time

import jax
import jax.numpy as jnp
import optax
from step import PEERS, SGD_PEER
from table import row
from variants import BF16, F32, PEER, RESIDUAL

import decoupled_wd as dwd
from decoupled_wd import rules

TURNS, LEAVES, SHAPES = 7, 1000, 8
TARGET = 1.2
SCHEDULE = optax.cosine_decay_schedule(1e-3, 100)
SGD = PEERS[SGD_PEER]
CASES = {
    "adamw": (dwd.adamw(1e-3, 1e-4), optax.adamw(1e-3), F32),
    "adamw, cosine": (
        dwd.adamw(SCHEDULE, 1e-4, peak_learning_rate=1e-3),
        optax.adamw(SCHEDULE),
        F32,
    ),
    "adamw, matrices": (
        dwd.adamw(1e-3, 1e-4, mask=dwd.masks.matrices()),
        optax.adamw(1e-3, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params)),
        F32,
    ),
    "adamw, cautious": (
        dwd.adamw(1e-3, 1e-4, rule=rules.cautious(rules.towards_zero())),
        optax.adamw(1e-3),
        F32,
    ),
    "decouple(optax.adam)": (dwd.decouple(optax.adam(1e-3), 1e-4), optax.adamw(1e-3), F32),
    "sgdw": (dwd.sgdw(1e-3, 1e-4), SGD, F32),
    "bf16 residual adamw": (dwd.adamw(1e-3, 1e-4, rounding=RESIDUAL), optax.adamw(1e-3), BF16),
}


def measure():
    """Every case against optax's optimiser on the same leaves."""
    return [_row(name, *case) for name, case in CASES.items()]


def _row(name, optimizer, peer, dtype):
    params = {f"w{i:04}": jnp.ones((16, 8 * (1 + i % SHAPES)), dtype) for i in range(LEAVES)}
    steps = [_stepping(each, params) for each in (optimizer, peer)]
    pairs = [[step() for step in steps] for _ in range(1 + TURNS)][1:]  # the first compiles
    value, reference = map(statistics.median, zip(*pairs, strict=True))
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    against = "optax's SGD with L2" if peer is SGD else PEER
    figures = {"against": against, "reference": reference, "ratio": ratio, "target": TARGET}
    return row("eager", f"{name} | {LEAVES} leaves", value, "s", **figures)


def _stepping(optimizer, params):
    state = optimizer.init(params)

    def step():
        start = time.process_time()
        jax.block_until_ready(optimizer.update(params, state, params))
        return time.process_time() - start

    return step
