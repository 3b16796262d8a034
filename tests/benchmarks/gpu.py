"""``python tests/benchmarks/gpu.py``: the step and the sweep on a GPU, in one run of some minutes.

A step stands beside optax's and torch's AdamW, and its memory traffic beside that of a triad; the sweep beside a loop
and beside the same sweep on CPU. The rows replace those of the same card in ``docs/benchmarks-gpu.json``. Needs the
extra ``bench``, and JAX and torch built for CUDA.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cuda,cpu")  # `run` would take the CPU alone
# torch and the processes of the sweep need memory of the same card
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import argparse
import functools
import json
import statistics
import sys
from pathlib import Path

import grid
import jax
import jax.numpy as jnp
import optax
import rich
import step
from run import machine, table
from table import absent, row
from variants import ALIASES, F32, PEER, VARIANTS

import decoupled_wd as dwd

OUTPUT = Path(__file__).parents[2] / "docs" / "benchmarks-gpu.json"
WEIGHTS = 2**27
LARGE, SMALL = {"w": (WEIGHTS,)}, step.TREES["1000 small leaves"]
# a program of 1000 leaves takes long to compile
FEW = ("adamw", "adamw, cautious", "bf16 stochastic adamw", "bf16 residual adamw")
CELLS = 4096


def main():
    """Measure, print one table, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    output = parser.parse_args().output
    card = gpu().device_kind
    rows = [*one_leaf(), *small_leaves(), *cells()]
    rich.print(table(rows))
    before = json.loads(output.read_text()) if output.exists() else {}
    text = json.dumps(before | {card: {"machine": machine(), "rows": rows}}, indent=1)
    output.write_text(text + "\n")


def gpu():
    """The GPU that JAX uses; without one nothing is measured."""
    try:
        return jax.devices("gpu")[0]
    except RuntimeError as error:
        sys.exit(f"JAX finds no GPU, so nothing was measured: {error}")


def one_leaf():
    """Every variant beside optax's AdamW of the same dtype, and its traffic beside a triad's."""
    adamw = _stepping(ALIASES["adamw"].optimizer, LARGE)
    triad = functools.partial(step.triad_step, _arrays(LARGE))
    peak = step.ADAM * WEIGHTS / (1e-3 * _beside("", adamw, triad, "")["reference"])
    for name, variant in VARIANTS.items():
        case = f"{name} | one leaf of 2^{WEIGHTS.bit_length() - 1}"
        make = _stepping(variant.optimizer, LARGE, variant.dtype)
        beside = _beside(case, make, _stepping(step.PEERS[PEER], LARGE, variant.dtype), PEER)
        yield beside
        rate = variant.floor * WEIGHTS / (1e-3 * beside["value"])
        figures = {"against": "a triad in place", "reference": peak / 1e9, "target": None}
        yield row("gpu bandwidth", case, rate / 1e9, "GB/s", **figures)
    yield from _beside_torch("one leaf", adamw, LARGE)


def small_leaves():
    """What a thousand leaves cost, as they are and in one flat array."""
    case = f"{len(SMALL)} small leaves"
    for name in FEW:
        dtype = VARIANTS[name].dtype
        peer = _stepping(step.PEERS[PEER], SMALL, dtype)
        yield _beside(
            f"{name} | {case}", _stepping(VARIANTS[name].optimizer, SMALL, dtype), peer, PEER
        )
    adamw = _stepping(ALIASES["adamw"].optimizer, SMALL)
    flat = _stepping(optax.flatten(dwd.adamw(1e-3, 1e-4)), SMALL)
    yield _beside(f"adamw in optax.flatten | {case}", flat, adamw, "adamw")
    yield from _beside_torch(case, adamw, SMALL)


def cells():
    """Cells a second of the sweep, of a loop that reuses one jit, and of the sweep on CPU."""
    case = f"sweep | {CELLS} cells, {grid.GROWTH_EPOCHS * grid.ROWS // grid.BATCH} steps"
    here, one = grid.isolated("grow", CELLS), grid.isolated("loop")
    on_cpu = grid.isolated("grow", CELLS, JAX_PLATFORMS="cpu")
    for against, milliseconds in (("one jit", one["loop"]), ("CPU", on_cpu["warm"])):
        reference = 1e3 / milliseconds
        figures = {"against": against, "reference": reference, "target": None}
        yield row("gpu sweep", case, 1e3 / here["warm"], "cells/s", **figures)


def _beside_torch(case, adamw, shapes):
    """Beside torch's fused AdamW, on the leaves and on one flat array of them, as apex has it."""
    for against, flat in (("torch AdamW fused", False), ("torch AdamW fused, flat", True)):
        if step.torch and step.torch.cuda.is_available():
            peer = functools.partial(step.torch_step, _arrays(shapes), device="cuda", flat=flat)
            yield _beside(f"adamw | {case}", adamw, peer, against)
        else:
            yield absent("gpu step", f"adamw | {case}", against)


def _beside(case, make, make_peer, against):
    """Milliseconds a step of both, in turn; one order of compiling is enough without a host's caches."""
    pairs = step.pairs_of(make, make_peer)
    value, reference = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    figures = {"against": against, "reference": reference, "ratio": ratio, "target": None}
    return row("gpu step", case, value, "ms", **figures)


def _stepping(optimizer, shapes, dtype=F32):
    params = _arrays(shapes, dtype)
    gradients = jax.tree.map(lambda leaf: 1e-2 * leaf, params)
    return functools.partial(step.jax_step, optimizer, params, gradients)


def _arrays(shapes, dtype=F32):
    return {name: jnp.ones(shape, dtype) for name, shape in shapes.items()}


if __name__ == "__main__":
    main()
