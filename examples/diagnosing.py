# %% [markdown]
# # Diagnosing a broken job
#
# Three mistakes that no error and no loss curve shows: a weight decay that bfloat16 swallows, a mask that leaves out a
# matrix, and a λ copied from PyTorch into the paper's unit. Each is found, mended, and seen to be well. The jobs train an
# MLP in Flax nnx on MNIST-1D.

# %%
import warnings

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import decoupled_wd as dwd
from decoupled_wd.study.tasks import data

# %matplotlib inline

STEPS, BATCH, RATE = 1200, 64, 1e-3
waves = data.load("mnist1d")


class Classifier(nnx.Module):
    """A layer with a normalisation, and one without."""

    def __init__(self, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.body = nnx.Linear(40, 64, use_bias=False, param_dtype=dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(64, rngs=rngs)
        self.readout = nnx.Linear(64, 10, param_dtype=dtype, rngs=rngs)

    def __call__(self, x):
        return self.readout(nnx.relu(self.norm(self.body(x))))


@nnx.jit
def train_step(model, optimizer, x, y):
    def loss(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    optimizer.update(model, nnx.grad(loss)(model))


def train(transformation, dtype=jnp.float32):
    """A job: the model and its optimiser after `STEPS` steps."""
    model = Classifier(nnx.Rngs(0), dtype)
    optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)
    order = np.random.default_rng(0)
    for _ in range(STEPS):
        rows = order.integers(len(waves.y_train), size=BATCH)
        train_step(model, optimizer, waves.x_train[rows], waves.y_train[rows])
    return model, optimizer


def examine(model, optimizer):
    """One look at the state of a job, as a checkpoint holds it."""
    params, state = nnx.state(model, nnx.Param), nnx.as_pure(optimizer.opt_state)
    return dwd.examine(optimizer.tx, params, state)


# %% [markdown]
# ## The decay is lost in bfloat16
#
# A step that removes 0.001 of a weight is less than half the distance to the next number of bfloat16.

# %%
DECAY = 1e-3
matrices = dwd.masks.matrices()
narrow = train(dwd.adamw(RATE, DECAY, mask=matrices), jnp.bfloat16)
print(examine(*narrow))

# %% [markdown]
# `preflight` says so before anything is trained, from the shapes alone. The remedy that both name is a rounding link:

# %%
shapes = nnx.eval_shape(lambda: nnx.state(Classifier(nnx.Rngs(0), jnp.bfloat16), nnx.Param))
for rounding in (None, dwd.rounding.residual()):
    print(dwd.preflight(shapes, DECAY, mask=matrices, rounding=rounding, on_loss="return"))

mended = train(
    dwd.adamw(RATE, DECAY, mask=matrices, rounding=dwd.rounding.residual()), jnp.bfloat16
)
print(examine(*mended).alarms or "no alarm")

# %% [markdown]
# ## A matrix that the mask leaves out
#
# The names of the layers changed, and the pattern of the mask did not.

# %%
pattern = dwd.masks.matching((r"body/kernel|head/kernel", 1.0), (r".*", 0.0))
forgetful = train(dwd.adamw(RATE, DECAY, mask=pattern))
print(examine(*forgetful))

# %% [markdown]
# `describe` names the rule that decides on each leaf. A mask that goes by the kind of a weight needs no names.

# %%
params = nnx.state(forgetful[0], nnx.Param)
print(dwd.describe(params, DECAY, mask=pattern))
mended = train(dwd.adamw(RATE, DECAY, mask=matrices))
print(examine(*mended).alarms or "no alarm")

# %% [markdown]
# ## A λ copied from PyTorch
#
# There λ = 0.1 is multiplied by the learning rate, and a step removes 0.0001 of a weight. In the paper's unit, which is that
# of this package, it is the fraction itself.

# %%
with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always")
    copied = train(dwd.adamw(RATE, 0.1, mask=matrices))
print(*(f"{each.category.__name__}: {each.message}" for each in heard), sep="\n")
print(dwd.describe(params, 0.1, mask=matrices))

# %% [markdown]
# Half of a weight is gone in seven steps. Either λ is converted, or its unit is named; both are the same optimiser.

# %%
converted = dwd.convert_weight_decay(0.1, from_="torch", to="paper", learning_rate=RATE)
print(f"λ in the paper's unit: {float(converted):.6f}")
mended = train(dwd.adamw(RATE, 0.1, coupling="torch", mask=matrices))
print(examine(*mended).alarms or "no alarm")
for name, job in {"copied": copied, "mended": mended}.items():
    wrong = job[0](waves.x_test).argmax(-1) != waves.y_test
    print(f"{name}: {100 * float(wrong.mean()):.1f} % of the test set is wrong")
half_lives = {"copied": dwd.theory.half_life(0.1), "mended": dwd.theory.half_life(converted)}
dwd.figures.half_lives(half_lives)
