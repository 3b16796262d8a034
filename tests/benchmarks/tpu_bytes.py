"""Bytes of state and bytes moved for each weight of an optimiser step: ``pip install libtpu``, no TPU needed.

The step is compiled ahead of time for one TPU v5e; the bytes moved are what the compiler's cost analysis says the
program reads and writes. The state is that of ``jax.eval_shape(optimizer.init)``, the weights themselves included.
"""

import os

os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import topologies

import decoupled_wd as dwd

F32, BF16 = jnp.float32, jnp.bfloat16
RESIDUAL, STOCHASTIC = dwd.rounding.residual(), dwd.rounding.stochastic_rounding(0)
SHAPE = (8192, 512)


def adamw(rounding=None, mu=F32, nu=F32):
    return dwd.adamw(1e-3, 1e-4, mu_dtype=mu, nu_dtype=nu, rounding=rounding)


CASES = {
    "optax.adamw, float32 weights": (optax.adamw(1e-3), F32),
    "adamw, float32 weights": (adamw(), F32),
    "adamw, float32 weights, mu bfloat16": (adamw(mu=BF16), F32),
    "adamw, float32 weights, mu and nu bfloat16": (adamw(mu=BF16, nu=BF16), F32),
    "adamw, bfloat16 weights": (adamw(), BF16),
    "adamw, bfloat16 weights, stochastic": (adamw(STOCHASTIC), BF16),
    "adamw, bfloat16 weights, residual": (adamw(RESIDUAL), BF16),
    "adamw, bfloat16 weights, stochastic, mu bfloat16": (adamw(STOCHASTIC, mu=BF16), BF16),
    "adamw, bfloat16 weights, residual, mu bfloat16": (adamw(RESIDUAL, mu=BF16), BF16),
    "adamw, bfloat16 weights, residual, mu and nu bfloat16": (
        adamw(RESIDUAL, mu=BF16, nu=BF16),
        BF16,
    ),
    "sgdw, float32 weights": (dwd.sgdw(1e-3, 1e-4), F32),
    "sgdw, bfloat16 weights, residual": (dwd.sgdw(1e-3, 1e-4, rounding=RESIDUAL), BF16),
}


def measure(optimizer, dtype, device):
    """Bytes held, moved and temporarily needed for each weight; gradients have the dtype of the weights."""

    def step(params, state, gradients):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    params = jax.ShapeDtypeStruct(SHAPE, dtype)
    held = (params, jax.eval_shape(optimizer.init, params))
    sharding = jax.sharding.SingleDeviceSharding(device)
    arguments = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), (*held, params)
    )
    program = jax.jit(step, donate_argnums=(0, 1)).lower(*arguments).compile()
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(held))
    moved = program.cost_analysis()["bytes accessed"]
    temporary = program.memory_analysis().temp_size_in_bytes
    return np.array([state, moved, temporary]) / params.size, splits_bits(program)


def splits_bits(program):
    """Whether the compiled program still takes float32 weights apart: XLA has not simplified the rounding away."""
    return all(
        operation in program.as_text() for operation in ("shift-right-logical", "bitcast-convert")
    )


def main():
    device = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices[0]
    print(f"jax {jax.__version__}, compiled for {device.device_kind}\n")
    print(
        "| bytes for each weight | weights and state | moved by a step | temporary | splits bits |"
    )
    print("|---|---|---|---|---|")
    for name, (optimizer, dtype) in CASES.items():
        (state, moved, temporary), kept = measure(optimizer, dtype, device)
        assert kept or not name.partition(", ")[2].startswith("bfloat16 weights, "), name
        print(
            f"| {name} | {state:.1f} | {moved:.1f} | {temporary:.1f} | {'yes' if kept else 'no'} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
