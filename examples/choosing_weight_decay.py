# %% [markdown]
# # Choosing λ for a small language model
#
# From nothing to the final run: a search with many runs of a small model, a plan that carries its λ to the larger run,
# that run with a record of what the decay did, and a comparison with two habits: λ = 0.1 times the learning rate, and
# no decay. The text is a part of Python's help, and a run reads it eight times.

# %%
import os

import jax

jax.config.update("jax_num_cpu_devices", os.cpu_count())  # runs are spread over devices

from dataclasses import replace  # noqa: E402
from functools import partial  # noqa: E402

import numpy as np  # noqa: E402
import optax  # noqa: E402

import decoupled_wd as dwd  # noqa: E402
from decoupled_wd.study import statistics, sweep, tune  # noqa: E402
from decoupled_wd.study.tasks import language  # noqa: E402

# %matplotlib inline

BATCH, EPOCHS = 16, 8
SMALL, LARGE = {"width": 16, "rows": 1024}, {"width": 32, "rows": 2048}


def task(width, rows):
    """What `tune` and `sweep` ask for: a transformer in Flax nnx, as functions, and rows of 32 characters."""
    data = language.from_text(train_size=rows)
    model = language.transformer(data.num_classes, 32, width=width, heads=width // 8)
    names = ("train", "validation", "test")
    splits = {name: (getattr(data, f"x_{name}"), getattr(data, f"y_{name}")) for name in names}
    functions = {"init": model.init, "loss": model.loss, "metric": model.evaluate}
    lengths = {"epochs": EPOCHS, "batch_size": BATCH}
    return functions | lengths | {"train": splits.pop("train"), "test": splits}


def schedule(rows, peak):
    """A tenth of the run to warm up, and a cosine down to 0."""
    steps = rows // BATCH * EPOCHS
    shape = optax.warmup_cosine_decay_schedule(0.0, 1.0, steps // 10, steps)
    return lambda step: peak * shape(step)


def adamw(rows, learning_rate, weight_decay):
    """λ in the paper's unit: the fraction that a step removes at the peak."""
    rates = {"learning_rate": schedule(rows, learning_rate), "peak_learning_rate": learning_rate}
    return dwd.adamw(**rates, weight_decay=weight_decay, b2=0.99, mask=dwd.masks.matrices())


# %% [markdown]
# ## A search with small runs
#
# Half the width and half the text. The search gives up what lags behind after half a run, and trains its best two anew
# with six fresh seeds each: three choose, and the other three judge. All of it takes as many steps as 28 whole runs.

# %%
space = {"learning_rate": (3e-3, 0.1), "weight_decay": (3e-4, 0.1)}
make = partial(adamw, SMALL["rows"])
found = tune(make, space, **task(**SMALL), runs=28, finalists=2, seeds=6)
print(f"best of {len(found.study.trials)} trials:", {k: round(v, 5) for k, v in found.best.items()})
print("its test loss: {:.3f} nats, 95 % interval {:.3f} to {:.3f}".format(*found.estimate))


# %% [markdown]
# ## From there to the larger run
#
# A run is what one knows of it, here in characters. The learning rate goes as 1/width. A star marks a rule that is
# outside the range on which it was found. One is left without, the constant timescale: the weights average over as many
# epochs as in the small run. We follow it, and say so before anything is trained.


# %%
def run(width, rows, learning_rate, **told):
    """What `plan` is told of a run."""
    weights = jax.tree.leaves(jax.eval_shape(task(width, rows)["init"], jax.random.key(0)))
    sizes = {"batch_size": 32 * BATCH, "dataset_size": 32 * rows, "epochs": EPOCHS, "width": width}
    return dwd.Run(learning_rate, **sizes, parameters=sum(w.size for w in weights), **told)


small = run(**SMALL, **found.best)
peak = small.learning_rate * SMALL["width"] / LARGE["width"]
large = run(**LARGE, learning_rate=peak, schedule=schedule(LARGE["rows"], peak))
plan = dwd.plan(large, reference=small)
print("without a star:", [row.rule for row in plan.compared if not row.outside])
chosen = {row.rule: row.weight_decay for row in plan.rows}["constant timescale"]
plan

# %%
longer = [
    replace(large, dataset_size=large.dataset_size * 4.0**k, schedule="cosine") for k in range(4)
]
dwd.figures.plan([dwd.plan(each, small) for each in longer])

# %% [markdown]
# What the final weights will be made of, under this λ and under 0.1 times the learning rate:

# %%
decays = {"the plan's λ": chosen, "0.1·lr": 0.1 * peak, "no decay": 0.0}
fractions = {name: dwd.PAPER.fraction(c, large.schedule, peak) for name, c in decays.items()}
dwd.figures.influence(
    {name: dwd.theory.influence(large.schedule, c, large.steps) for name, c in fractions.items()}
)

# %% [markdown]
# ## The run, with a look at it half-way

# %%
settings = task(**LARGE)
x, y = map(jax.numpy.asarray, settings["train"])
optimizer = dwd.record(adamw(LARGE["rows"], peak, chosen))


def step(carry, rows):
    params, state = carry
    gradients = jax.grad(settings["loss"])(params, x[rows], y[rows], None)
    updates, state = optimizer.update(gradients, state, params)
    return (optax.apply_updates(params, updates), state), state.leaves


order = np.random.default_rng(0)
first, second = np.split(np.stack([order.permutation(len(x)) for _ in range(EPOCHS)]), 2)
params = settings["init"](jax.random.key(0))
carry, before = jax.lax.scan(step, (params, optimizer.init(params)), first.reshape(-1, BATCH))
print(dwd.examine(optimizer, *carry))
(params, state), after = jax.lax.scan(step, carry, second.reshape(-1, BATCH))

# %% [markdown]
# The angle by which each step turned a weight, over that at equilibrium. Matrices between normalisations come near it; the
# last one, whose size the loss holds, does not. At the end of a cosine c falls faster than norms can follow.

# %%
history = jax.tree.map(lambda *halves: np.concatenate(halves), before, after)
rows = dwd.recorded(state._replace(leaves=history), params)
paths = [f"blocks/0/{name}/kernel" for name in ("query", "value", "up", "down")]
dwd.figures.rotation({path: rows[path] for path in [*paths, "head/kernel"]}, window=50)

# %% [markdown]
# ## Beside the habits
#
# The same run with each λ, from five seeds that nothing above has seen. A difference has the interval of the pairs with
# the same seed. The habit is no bad guess: for such a model that reads more of the text, and once, it was the best of seven
# λ in a trial with one seed. But it knows nothing of the length of a run, which the plan does.

# %%
make = partial(adamw, LARGE["rows"], peak)
runs = sweep(make, {"weight_decay": [*decays.values()]}, **settings, seeds=range(10, 15))
losses = dict(zip(decays, runs.test_error.isel(epoch=-1).values, strict=True))


def mean(numbers):
    """The mean over the seeds, and its 95 % interval."""
    return statistics.over_seeds(lambda drawn: float(numbers[drawn].mean()), len(numbers))


for name, loss in losses.items():
    print("{:12} test loss {:.3f} nats, {:.3f} to {:.3f}".format(name, *mean(loss)))
for name in ("0.1·lr", "no decay"):
    more = mean(losses[name] - losses["the plan's λ"])
    verdict = (
        "is worse than" if more.low > 0 else "is better than" if more.high < 0 else "about equals"
    )
    print("{} {} the plan's λ: {:+.3f} nats, {:+.3f} to {:+.3f}".format(name, verdict, *more))
