"""Every public transformation exports for GPU and TPU, as serving and ahead-of-time compilation need."""

import jax
import optax
import pytest
from cases import CASES, PARAMS
from jax import export

PLATFORMS = ("cuda", "tpu")


@pytest.mark.parametrize("name", CASES)
def test_a_step_exports_for_gpu_and_tpu(name):
    optimizer = CASES[name]()

    def step(params, state, gradients):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(PARAMS)
    exported = export.export(jax.jit(step), platforms=PLATFORMS)(PARAMS, state, PARAMS)
    assert exported.platforms == PLATFORMS
    assert exported.out_tree == jax.tree.structure((PARAMS, state))
