"""One step on TPU, without a TPU: compiled ahead of time by libtpu for one chip, 4 chips and 256 chips.

Bytes moved are those of the compiler's cost analysis, for each weight on a chip. The leaves are too large for the
chip's fast memory: what fits there the compiler fetches ahead, and the analysis then counts some of it twice.
"""

import os

os.environ |= {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}

import re

import jax
import numpy as np
from jax.experimental import topologies
from table import row
from variants import VARIANTS, step_of

TOPOLOGIES = {"v5e:2x2": (1, 4), "v5e:16x16": (256,)}
ROWS, COLUMNS, LEAVES = (
    32768,
    4096,
    2,
)  # of a chip: 2^27 weights a leaf, whose bytes alone fill the fast memory
FUSION = re.compile(rf"^%fused\S* \(.*\[{ROWS},{COLUMNS}\]", re.MULTILINE)  # not those of scalars
COLLECTIVE = re.compile(
    r" (?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
SPLITS = ("shift-right-logical", "bitcast-convert")  # how a rounding takes a weight apart
SMALL = (
    1 << 20
)  # bytes: accumulators of a norm, tables of a schedule, keys; whatever the size of the leaves


def measure():
    """Bytes, temporary memory, fusions and collectives of every variant, against their floors."""
    rows = []
    for name, sizes in TOPOLOGIES.items():
        devices = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
        for chips in sizes:
            mesh = jax.sharding.Mesh(np.array(devices[:chips]), ("fsdp",))
            for case, variant in VARIANTS.items():
                rows += _figures(f"{case} | {chips} chips", variant, _compile(variant, mesh))
    return rows


def _compile(variant, mesh):
    """Weights, gradients and state in shards of their first axis, over all chips."""
    shape = (ROWS * mesh.size, COLUMNS)

    def sharding(leaf):
        spec = jax.P("fsdp") if leaf.shape[:1] == shape[:1] else jax.P()
        return jax.sharding.NamedSharding(mesh, spec)

    params = {f"w{i}": jax.ShapeDtypeStruct(shape, variant.dtype) for i in range(LEAVES)}
    arguments = (params, jax.eval_shape(variant.optimizer.init, params), params)
    shardings = jax.tree.map(sharding, arguments)
    step = jax.jit(
        step_of(variant.optimizer),
        donate_argnums=(0, 1),
        in_shardings=shardings,
        out_shardings=shardings[:2],
    )
    return step.trace(*arguments).lower(lowering_platforms=("tpu",)).compile()


def _figures(label, variant, program):
    text = program.as_text()
    if any(rounding in label for rounding in ("residual", "stochastic")):
        assert all(operation in text for operation in SPLITS), f"{label}: XLA drops the rounding"
    weights = ROWS * COLUMNS * LEAVES
    norm = variant.reread > 0
    moved = program.cost_analysis()["bytes accessed"] / weights
    temporary = program.memory_analysis().temp_size_in_bytes
    temporary = temporary if temporary > SMALL else 0
    figures = {
        "moved": (moved, "bytes/weight", variant.floor),
        "temporary": (temporary / weights, "bytes/weight", 0),
        "fusions": (len(FUSION.findall(text)) / LEAVES, "fusions/leaf", 2 if norm else 1),
        "collectives": (len(COLLECTIVE.findall(text)) / LEAVES, "collectives/leaf", norm),
    }
    return [
        row(f"tpu {name}", label, value, unit, against="floor", reference=floor)
        for name, (value, unit, floor) in figures.items()
    ]
