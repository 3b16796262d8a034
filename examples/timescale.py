"""How fast AdamW forgets, read off while it trains: measured rotation over the predicted line.

A small MLP with BatchNorm on MNIST-1D; under a minute on two cores. Give a path to keep the figure.
"""

# %% Data and network: the study's data, and each kernel before a normalisation but the last
import itertools
import sys
import tempfile
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import decoupled_wd as dwd
from decoupled_wd.study.tasks import data

task, WIDTHS = data.load("mnist1d"), (40, 64, 64, 10)
ALPHA, LAMBDA, EPOCHS, BATCH, B1 = 3e-3, 3e-3, 50, 25, 0.9
STEPS = EPOCHS * len(task.x_train) // BATCH
x_train, y_train = jnp.asarray(task.x_train), jnp.asarray(task.y_train)
schedule = optax.cosine_decay_schedule(ALPHA, STEPS)


def init(key):
    kernel = jax.nn.initializers.lecun_normal()
    layers = enumerate(itertools.pairwise(WIDTHS))
    return {
        f"layer{i}": {"kernel": kernel(jax.random.fold_in(key, i), s), "scale": jnp.ones(s[1])}
        for i, s in layers
    }


def loss(params, x, y):
    for i in range(len(WIDTHS) - 1):
        layer = params[f"layer{i}"]
        x = x @ layer["kernel"]
        if i < len(WIDTHS) - 2:
            x = jax.nn.relu(jax.nn.standardize(x, axis=0) * layer["scale"])
    return optax.softmax_cross_entropy_with_integer_labels(x, y).mean()


# %% The decay in every unit, before training
run = {"batch_size": BATCH, "dataset_size": len(y_train), "epochs": EPOCHS}
print(dwd.equivalents(LAMBDA, from_="paper", learning_rate=ALPHA, **run))

# %% Train. The state holds the latest record, and the scan stacks it to a history
optimizer = dwd.record(
    dwd.adamw(schedule, LAMBDA, b1=B1, peak_learning_rate=ALPHA, mask=dwd.masks.matrices())
)


def step(carry, batch):
    params, state = carry
    gradients = jax.grad(loss)(params, x_train[batch], y_train[batch])
    updates, state = optimizer.update(gradients, state, params)
    return (optax.apply_updates(params, updates), state), (state.total, state.leaves)


@jax.jit
def train(key):
    start, order = jax.random.split(key)
    params = init(start)
    orders = jax.vmap(lambda k: jax.random.permutation(k, len(y_train)))
    batches = orders(jax.random.split(order, EPOCHS)).reshape(STEPS, BATCH)
    carry, history = jax.lax.scan(step, (params, optimizer.init(params)), batches)
    return *carry, history


params, state, (total, leaves) = train(jax.random.key(0))
rows = dwd.recorded(state._replace(total=total, leaves=leaves), params)

# %% The timescale, the half-life, and what is left at the end of a weight that no gradient holds
c = np.asarray(total.c, np.float64)
peak = float(c.max())
print(f"\ntimescale at the peak {dwd.theory.timescale(peak):.0f} steps of {STEPS}")
print(f"half-life at the peak {dwd.theory.half_life(peak):.0f} steps")
print(f"left of an idle weight {np.exp(float(total.log_shrinkage[-1])):.3f}")

# %% Measured over predicted rotation. The last kernel, before no normalisation, need not follow; and at the end of
# the schedule c falls faster than a norm can: no weight is in equilibrium there
predicted = np.asarray(dwd.theory.rotation(c, B1))
kernels = {path: row for path, row in rows.items() if float(row.c[0]) > 0}
half = slice(STEPS // 4, STEPS // 2)
print("\nkernel, and its measured over its predicted rotation in the second quarter of the run")
for path, row in kernels.items():
    ratio = np.asarray(row.angle)[half].mean() / predicted[half].mean()
    print(f"{path:30} {ratio:.3f}")


# %% The figure: 1 is the prediction
arguments = [word for word in sys.argv[1:] if word.endswith(".png")]  # a notebook passes others
path = Path(arguments[0] if arguments else Path(tempfile.mkdtemp()) / "timescale.png")
figure = dwd.figures.rotation(kernels, predicted=partial(dwd.theory.rotation, momentum=B1))
figure.savefig(path, dpi=150)
print(f"\nfigure: {path}")
