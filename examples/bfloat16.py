"""Weights in bfloat16: where weight decay goes, and how to keep it.

An MLP on MNIST-1D, trained in ten ways from the same starts and batches; a minute on two cores. Give a folder
to keep the figure.
"""

# %% Data and network: the study's
import sys
import tempfile
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import decoupled_wd as dwd
from decoupled_wd.study.tasks import data, models

task, model = data.load("mnist1d"), models.mlp(40, 10)
ALPHA, LAMBDA, EPOCHS, BATCH, SEEDS = 1.5e-3, 1.5e-3, 80, 125, 5
STEPS = EPOCHS * len(task.x_train) // BATCH
schedule = optax.cosine_decay_schedule(ALPHA, STEPS)

# %% Beforehand: no weight in bfloat16 would notice a decay of 0.0015 a step
shapes = jax.eval_shape(model.init, jax.random.key(0))
narrow_shapes = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, jnp.bfloat16), shapes)
rates = {"learning_rate": schedule, "peak_learning_rate": ALPHA, "steps": STEPS}
print(dwd.preflight(narrow_shapes, LAMBDA, on_loss="return", **rates))

# %% Five ways to hold the weights, and two to hold Adam's moments
WEIGHTS = {
    "float32": (jnp.float32, None),
    "bfloat16": (jnp.bfloat16, None),
    "bfloat16, residual": (jnp.bfloat16, dwd.rounding.residual()),
    "bfloat16, residual of 8 bits": (jnp.bfloat16, dwd.rounding.residual(bits=8)),
    "bfloat16, stochastic": (jnp.bfloat16, dwd.rounding.stochastic_rounding(0)),
}
MOMENTS = {"float32": {}, "bfloat16": {"mu_dtype": jnp.bfloat16, "nu_dtype": jnp.bfloat16}}
WAYS = {(weights, moments): (*WEIGHTS[weights], MOMENTS[moments])
        for moments in MOMENTS for weights in WEIGHTS}  # fmt: skip


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


@jax.jit
@jax.vmap
def drawn(key):
    """The start and the rows of every batch, the same for all ways."""
    orders = jax.vmap(lambda k: jax.random.permutation(k, len(task.y_train)))
    return model.init(key), orders(jax.random.split(key, EPOCHS)).reshape(STEPS, BATCH)


def train(start, batches, key, dtype, rounding, moments):
    """Loss and weight norm of every step, and the weights at the end."""
    options = {"peak_learning_rate": ALPHA, "rounding": rounding, **moments}
    optimizer = dwd.adamw(schedule, LAMBDA, **options)
    x_train, y_train = jnp.asarray(task.x_train, dtype), jnp.asarray(task.y_train)

    def step(carry, rows):
        params, state = carry
        batch = x_train[rows], y_train[rows], key
        loss, gradients = jax.value_and_grad(model.loss)(params, *batch)
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (
            loss.astype(jnp.float32),
            optax.tree.norm(cast(params, jnp.float32)),
        )

    params = cast(start, dtype)
    (params, _), (loss, norm) = jax.lax.scan(step, (params, optimizer.init(params)), batches)
    return loss, norm, cast(params, jnp.float32)


@jax.jit
@jax.vmap
def test_error(params):
    """In float32 for all of them: it is the weights that are compared."""
    held_out = {"test": (task.x_test, task.y_test)}
    return model.evaluate(params, (task.x_train, task.y_train), held_out)["test_error"]


keys = jax.random.split(jax.random.key(0), SEEDS)
runs = {}
for name, (dtype, rounding, moments) in WAYS.items():
    way = partial(train, dtype=dtype, rounding=rounding, moments=moments)
    loss, norm, params = jax.jit(jax.vmap(way))(*drawn(keys), keys)
    runs[name] = tuple(map(np.asarray, (loss, norm, test_error(params))))

# %% Mean ± standard deviation over the seeds. The test error cannot tell them apart here: see its spread
print(f"\n{'weights':29} {'moments':9} {'training loss':16} {'weight norm':16} test error %")
for (weights, moments), (loss, norm, error) in runs.items():
    ends = {3: loss[:, -64:].mean(1), 2: norm[:, -1], 1: error}
    cells = [f"{v.mean():.{n}f} ± {v.std(ddof=1):.{n}f}" for n, v in ends.items()]
    print(f"{weights:29} {moments:9} {cells[0]:16} {cells[1]:16} {cells[2]}")

# %% The weight norm: rounded to nearest, bfloat16 weights lose half of the shrinking
figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
axis = figure.subplots()
looks = {"float32": ("black", "-"), "bfloat16": ("crimson", "-")}
looks |= {"bfloat16, residual": ("tab:blue", "--"), "bfloat16, stochastic": ("tab:orange", ":")}
for (name, (colour, line)), width in zip(looks.items(), (2, 2, 3, 4), strict=True):
    norm = runs[name, "float32"][1]
    mean, spread, steps = norm.mean(0), norm.std(0, ddof=1), np.arange(1, STEPS + 1)
    axis.fill_between(steps, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
    axis.plot(steps, mean, line, color=colour, linewidth=width, label=name)
axis.set(xlabel="step", ylabel="norm of all weights", xlim=(0, STEPS))
axis.set_title(f"AdamW, λ = {LAMBDA}: mean ± standard deviation of {SEEDS} seeds", fontsize=11)
axis.legend(frameon=False)
axis.spines[["top", "right"]].set_visible(False)
path = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir()) / "bfloat16.png"
figure.savefig(path)
print(path)
