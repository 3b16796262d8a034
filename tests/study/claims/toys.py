"""Small tasks and made-up results for the tests of the claims."""

import itertools
from functools import cache, partial

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
    wider = cache(lambda width: linear(3))
    return Task("tiny", data, linear(3), epochs=4, batch_size=10, tolerance=1.0, of_width=wider)


def made_up(errors):
    """A `Run` of made-up numbers, which have the labels that a sweep gives them.

    ``errors(training, point) -> {metric: numbers}`` is told each hyperparameter and the number of the seed of every
    run, all of one shape, and returns numbers of that shape, or with an axis of evaluations behind.
    """

    def run(training):
        task, space = training.task, dict(training.space)
        names = [name for name in space if name != "seed"]
        if training.key.listed:
            trials = np.arange(len(space[names[0]]))
            labels = {name: ("trial", np.asarray(values)) for name, values in space.items()}
            frame = xr.Dataset(coords={**labels, "trial": trials})
        else:
            frame = xr.Dataset(coords={name: np.asarray(space[name]) for name in names})
        if "seed" not in space:
            frame = frame.assign_coords(seed=np.asarray(training.seeds))
        every = training.evaluate_every or task.epochs
        epochs = np.arange(every, task.epochs + 1, every)
        point = dict(
            zip([*names, "seed"], xr.broadcast(*(frame[n] for n in [*names, "seed"])), strict=True)
        )
        dims, shape = point["seed"].dims, point["seed"].shape
        found = errors(training, {name: each.values for name, each in point.items()})

        def variable(numbers):
            numbers = np.asarray(numbers, float)
            if numbers.ndim == len(shape):
                numbers = np.repeat(numbers[..., None], len(epochs), axis=-1)
            return (*dims, "epoch"), np.broadcast_to(numbers, (*shape, len(epochs))).copy()

        return frame.assign({k: variable(v) for k, v in found.items()}).assign_coords(epoch=epochs)

    return run


def luck(seed, salt=0):
    """A standard normal number for each seed, whatever other seeds there are."""
    numbers, place = np.unique(seed, return_inverse=True)
    drawn = [np.random.default_rng([salt, int(number)]).normal() for number in numbers]
    return np.asarray(drawn)[place].reshape(np.shape(seed))


def recorded(run):
    """The `Run`, and the list of the trainings that it is asked for."""
    trainings = []

    def asked(training):
        trainings.append(training)
        return run(training)

    return asked, trainings


def every_run(training):
    """Each run of a training: what decides its outcome."""
    names = [name for name in training.space if name != "seed"]
    axes = [np.asarray(training.space[name]).tolist() for name in names]
    points = list(zip(*axes, strict=True) if training.key.listed else itertools.product(*axes))
    if "seed" in training.space:
        runs = list(zip(points, np.asarray(training.space["seed"]).tolist(), strict=True))
    else:
        runs = list(itertools.product(points, training.seeds))
    fixed = training.key._replace(space=tuple(names), listed=False, seeds=range(1))
    return [(fixed, run) for run in runs]


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


def searched(validation, test):
    """The trials of searches, both ``[searches, trials]``, one search after the other."""
    searches, trials = np.shape(validation)
    seeds = np.repeat(np.arange(1, searches + 1), trials)
    labels = {"trial": np.tile(np.arange(trials), searches), "seed": ("trial", seeds)}
    errors = {"validation_error": validation, "test_error": test}
    return xr.Dataset({name: ("trial", np.ravel(each)) for name, each in errors.items()}, labels)
