"""One process of a search: ``python tune_worker.py STORAGE RUNS``, which prints what it ends with."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from decoupled_wd.study.tune.search import tune

SETTINGS = {
    "init": lambda key: jax.random.normal(key, (4,)),
    "loss": lambda w, x, key: jnp.mean((w - x) ** 2),
    "metric": lambda w, train, test: jnp.mean((w - 1) ** 2),
    "train": (np.ones((64, 4), np.float32),),
    "epochs": 8,
    "batch_size": 16,
    "finalists": 2,
    "seeds": 4,
}


def search(storage, runs, **options):
    return tune(
        lambda rate: optax.sgd(rate),
        {"rate": (1e-4, 1e2)},
        **SETTINGS,
        storage=storage,
        runs=runs,
        **options,
    )


if __name__ == "__main__":
    found = search(sys.argv[1], float(sys.argv[2]))
    print(json.dumps({"best": found.best, "steps": found.steps}))
