"""Writes checkpoint.json: optimisers of this version after 5 steps, 3 more gradients, and where these lead.

Run once with the code of commit 6c10afb (version 0.1.0) on the path:
``PYTHONPATH=<that code> python make.py``. It is kept to show how the file came about; do not run it again.
The leaf ``current_learning_rate`` came later, and was put in by hand: it is only there to be logged.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import decoupled_wd as dwd

STEPS, MORE = 5, 3
RUN = {"batch_size": 1, "dataset_size": 3, "first_cycle_epochs": 1}
COSINE = optax.cosine_decay_schedule(0.1, 20)
LION = optax.lion(0.01, weight_decay=0.0)
OPTIMIZERS = {
    "adamw": (jnp.float32, dwd.adamw(0.1, 0.02, mask=dwd.masks.matrices())),
    "sgdw": (jnp.float32, dwd.sgdw(COSINE, 0.02, peak_learning_rate=0.1)),
    "adamwr": (jnp.float32, dwd.adamwr(0.1, 0.05, **RUN)),
    "lion-towards_start": (
        jnp.float32,
        dwd.decouple(LION, 0.02, rule=dwd.rules.towards_start(), mask=dwd.masks.matrices()),
    ),
    "towards_norm": (jnp.float32, dwd.sgdw(0.1, 0.02, rule=dwd.rules.towards_norm())),
    "residual": (jnp.bfloat16, dwd.adamw(1e-3, 1e-3, rounding=dwd.rounding.residual())),
    "stochastic": (
        jnp.bfloat16,
        dwd.adamw(1e-3, 1e-3, rounding=dwd.rounding.stochastic_rounding(0)),
    ),
}


def leaves(tree):
    """Each leaf by its path: dtype and values, as text keeps them without loss."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): [str(leaf.dtype), _values(leaf)]
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def run(optimizer, params, state, gradients):
    """The params and the state after a step for each of the gradients."""
    for g in gradients:
        updates, state = optimizer.update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def _values(leaf):
    wide = leaf.astype(jnp.float32) if leaf.dtype == jnp.bfloat16 else leaf
    return json.loads(json.dumps(np.asarray(wide).tolist()), parse_float=_short)


def _short(text):
    return float(str(np.float32(text)))  # the fewest digits that are the same float32


def _main():
    rng, record = np.random.default_rng(0), {}
    shapes = {"dense": {"bias": (2,), "kernel": (3, 2)}, "scale": (1,)}
    for name, (dtype, optimizer) in OPTIMIZERS.items():
        params, *gradients = (
            jax.tree.map(
                lambda shape, dtype=dtype: jnp.asarray(rng.normal(size=shape), dtype),
                shapes,
                is_leaf=lambda node: isinstance(node, tuple),
            )
            for _ in range(1 + STEPS + MORE)
        )
        params, state = run(optimizer, params, optimizer.init(params), gradients[:STEPS])
        end, last = run(optimizer, params, state, gradients[STEPS:])
        record[name] = {
            "params": leaves(params),
            "state": leaves(state),
            "gradients": [leaves(g) for g in gradients[STEPS:]],
            "end": leaves(dwd.rounding.weights(last.rounding, end)),
        }
    versions = f"decoupled_wd {dwd.__version__}, jax {jax.__version__}, optax {optax.__version__}"
    stored = {"made_by": versions, "optimizers": record}
    Path(__file__).with_name("checkpoint.json").write_text(json.dumps(stored) + "\n")


if __name__ == "__main__":
    _main()
