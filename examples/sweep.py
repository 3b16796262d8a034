# %% [markdown]
# # Learning rate against weight decay, on a model of your own
#
# The whole grid, five seeds of it, is one compiled program. Here: a small regression network in a bare dict.

# %%
import os

import jax

jax.config.update("jax_num_cpu_devices", os.cpu_count())  # cells are spread over devices

import jax.numpy as jnp  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

import decoupled_wd as dwd  # noqa: E402
from decoupled_wd.study import sweep  # noqa: E402

rng = np.random.default_rng(0)
x = rng.uniform(-2, 2, (1064, 4)).astype(np.float32)
y = np.sin(2 * x[:, 0]) * x[:, 1] + 0.3 * rng.normal(size=1064).astype(np.float32)


# %%
def init(key):
    """The parameters, any tree of arrays."""
    first, second = jax.random.split(key)
    return {
        "in": jax.random.normal(first, (4, 64)) / 2,
        "bias": jnp.zeros(64),
        "out": jax.random.normal(second, (64,)) / 8,
    }


def loss(params, x, y, key):  # noqa: ARG001
    """Mean squared error; the key is for models with dropout and the like."""
    return ((jnp.tanh(x @ params["in"] + params["bias"]) @ params["out"] - y) ** 2).mean()


def metric(params, train, test):
    """Whatever is to be measured, by name."""
    return {"train": loss(params, *train, None), "test": loss(params, *test, None)}


# %%
runs = {}
makers = {
    "Adam + L2": lambda learning_rate, strength: dwd.adam(learning_rate, strength),
    "AdamW": lambda learning_rate, strength: dwd.adamw(
        learning_rate, strength, peak_learning_rate=learning_rate
    ),
}
for name, make in makers.items():
    runs[name] = sweep(
        make,
        {"learning_rate": 2.0 ** -np.arange(2, 10), "strength": 2.0 ** -np.arange(3, 17, 2)},
        init=init,
        loss=loss,
        metric=metric,
        train=(x[:64], y[:64]),
        test=(x[64:], y[64:]),
        epochs=200,
        batch_size=16,
        seeds=5,
    )
    means = runs[name].test.mean("seed").isel(epoch=-1)
    best = means.isel(means.argmin(...))
    print(f"{name:10} test loss {float(best):.3f} at α = {float(best.learning_rate):.4f}, ", end="")
    print(f"strength {float(best.strength):.5f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
for axis, (name, dataset) in zip(axes, runs.items(), strict=True):
    dataset.test.mean("seed").isel(epoch=-1).plot.pcolormesh(
        ax=axis, xscale="log", yscale="log", vmax=1.0, cmap="viridis_r"
    )
    axis.set_title(name)
plt.show()
