"""A checkpoint that optax's optimiser wrote through orbax goes on as the state of one of ours."""

import chex
import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
import pytest
from test_adopt import MORE, PARAMS, SAME, TAKEN, UNCOUNTED, halfway, train

import decoupled_wd as dwd


@pytest.mark.parametrize("name", ["adam-adamw", "chain", "lion", "injected-inside", "trace-sgdw"])
def test_a_restored_state_is_adopted(name, tmp_path):
    theirs, ours = (SAME | UNCOUNTED)[name]
    saved = halfway(theirs)
    template = jax.eval_shape(lambda params: (params, theirs.init(params)), PARAMS)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "step", saved)
        checkpointer.wait_until_finished()
        params, state = checkpointer.restore(tmp_path / "step", template)
    adopted = dwd.adopt(ours, params, state, count=TAKEN)
    here, _ = train(ours, params, adopted, MORE, TAKEN)
    there, _ = train(theirs, *saved, MORE, TAKEN)
    chex.assert_trees_all_equal(here, there)


def test_a_state_that_was_restored_without_its_structure_is_told_so(tmp_path):
    theirs = optax.adam(0.1)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "step", theirs.init(PARAMS))
        checkpointer.wait_until_finished()
        state = checkpointer.restore(tmp_path / "step")
    with pytest.raises(ValueError, match="restore a checkpoint into the structure that its init"):
        dwd.adopt(dwd.adamw(0.1, 0.01), PARAMS, state, count=jnp.array(0))
