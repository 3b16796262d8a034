"""Small tasks and made-up results for the tests of the claims."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

from decoupled_wd.study.tasks.data import Dataset
from decoupled_wd.study.tasks.models import Model
from decoupled_wd.study.tasks.task import Task

RNG = np.random.default_rng(0)
STEPS = 6
THETA = jnp.array([1.0, -2.0, 0.5])


def loss(w, x, y, key):
    return optax.softmax_cross_entropy_with_integer_labels(x @ w, y).mean()


def evaluate(w, train, held_out):
    errors = {
        f"{name}_error": 100 * jnp.mean((x @ w).argmax(-1) != y)
        for name, (x, y) in held_out.items()
    }
    return {"train_loss": loss(w, *train, None), **errors}


def linear(features):
    return Model(lambda key: 0.1 * jax.random.normal(key, (features, 2)), loss, evaluate)


def tiny(points=384):
    """Logistic regression without noise, on so many training points."""
    x = RNG.normal(size=(points, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    data = Dataset("toy", x, y, x[:12], y[:12], x[:12], y[:12], num_classes=2, shape=(4, 1))
    return Task("toy, linear", data, linear(4), epochs=2, batch_size=4, tolerance=1.0)


def tiny_task():
    """Logistic regression on twenty noisy points."""
    x = RNG.normal(size=(60, 3)).astype(np.float32)
    y = (x[:, 0] + 0.5 * RNG.normal(size=60) > 0).astype(np.int32)
    parts = (
        part for start in (0, 20, 40) for part in (x[start : start + 20], y[start : start + 20])
    )
    data = Dataset("tiny", *parts, 2, (3,))
    return Task("tiny", data, linear(3), epochs=4, batch_size=10, tolerance=1.0)


def results(space, validation, test, offsets):
    """What a sweep returns, from errors over its axes plus an offset for each seed."""
    coordinates = {**space, "seed": np.arange(len(offsets)), "epoch": [4]}
    shape = [len(axis) for axis in coordinates.values()]

    def variable(error):
        return tuple(coordinates), (np.asarray(error)[..., None] + offsets).reshape(shape)

    return xr.Dataset(
        {"validation_error": variable(validation), "test_error": variable(test)}, coordinates
    )


def with_finalists(fake):
    """A `run` that trains the finalists of what `fake` measured: its three best, with more seeds."""
    seen = {}

    def run(training):
        if training.experiment[:1] != ("finalists",):
            seen[training.experiment, training.make_optimizer.label] = training
            return fake(training)
        searched = seen[training.experiment[1:], training.make_optimizer.label]
        axes = tuple(searched.space)
        before, again = fake(searched), fake(replace(searched, seeds=training.seeds))
        mean = before["validation_error"].isel(epoch=-1).mean("seed", skipna=False)
        order = mean.stack(cell=axes).argsort().values[:3]
        best = again.stack(cell=axes).isel(cell=order).drop_vars(["cell", *axes])
        return best.rename(cell="trial").assign_coords(training.space)

    return run


def gradient(t, theta):
    return jnp.array([0.3, -0.01, 2.0]) * jnp.cos(t) + 0.1 * theta


@partial(jax.jit, static_argnums=0)
def path(make, rate):
    """Every θ of ``make(rate)``, whose rate is traced as it is in a sweep."""
    optimizer = make(rate)

    def step(carry, t):
        theta, state = carry
        updates, state = optimizer.update(gradient(t, theta), state, theta)
        theta = optax.apply_updates(theta, updates)
        return (theta, state), theta

    return jax.lax.scan(step, (THETA, optimizer.init(THETA)), jnp.arange(STEPS))[1]
