# %% [markdown]
# # AdamW against Adam with L2, in Flax nnx
#
# Both are given the same network, data and learning rates. With L2 the penalty's gradient goes through Adam's
# preconditioner, so its effect depends on the size of the gradients; decoupled, it does not.

# %%
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

import decoupled_wd as dwd
from decoupled_wd.study.tasks.data import mnist1d

EPOCHS, BATCH, PEAK = 15, 100, 5e-3
data = mnist1d()
steps = EPOCHS * (len(data.y_train) // BATCH)


# %%
class Classifier(nnx.Module):
    """Two hidden layers with BatchNorm."""

    def __init__(self, rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Linear(40, 64, rngs=rngs), nnx.Linear(64, 64, rngs=rngs)])
        self.norms = nnx.List([nnx.BatchNorm(64, momentum=0.9, rngs=rngs) for _ in range(2)])
        self.readout = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = nnx.relu(norm(layer(x)))
        return self.readout(x)


@nnx.jit
def train_step(model, optimizer, x, y):
    def loss(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    value, gradients = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradients)
    return value


@nnx.jit
def test_error(model, x, y):
    return 100 * jnp.mean(model(x).argmax(-1) != y)


# %%
def train(transformation):
    """The test error after every epoch, and the norm of the weights."""
    model = Classifier(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)
    order, errors = np.random.default_rng(0), []
    for _ in range(EPOCHS):
        model.train()
        for rows in order.permutation(len(data.y_train)).reshape(-1, BATCH):
            train_step(model, optimizer, data.x_train[rows], data.y_train[rows])
        model.eval()
        errors.append(float(test_error(model, data.x_test, data.y_test)))
    return errors, float(optax.global_norm(nnx.state(model, nnx.Param)))


# %% [markdown]
# First each at a strength that suits it, and without any. Then all of it again with a quarter of the learning rate
# and the strengths left as they are: decoupled decay still fits, L2 would have to be tuned anew.

# %%
mask = dwd.masks.without("bias", "norm")
runs = {}
for peak in (PEAK, PEAK / 4):
    rates = optax.cosine_decay_schedule(peak, steps)
    runs["Adam", peak] = train(dwd.adam(rates, 0.0))
    runs["Adam + L2", peak] = train(dwd.adam(rates, 0.03, mask=mask))
    runs["AdamW", peak] = train(dwd.adamw(rates, 0.01, peak_learning_rate=peak, mask=mask))
for (name, peak), (errors, norm) in runs.items():
    print(f"α = {peak:<9g} {name:10} test error {errors[-1]:.1f} %, weight norm {norm:.1f}")

# %%
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for (name, peak), (errors, _) in runs.items():
    look = "-" if peak == PEAK else "--"
    colour = {"Adam": "C0", "Adam + L2": "C1", "AdamW": "C2"}[name]
    axis.plot(np.arange(1, EPOCHS + 1), errors, look, color=colour, label=f"{name}, α = {peak:g}")
axis.set(xlabel="epoch", ylabel="test error (%)", title="MNIST-1D, MLP 40-64-64-10")
axis.legend()
plt.show()

# %% [markdown]
# Which weights decay, and how fast:

# %%
params = nnx.state(Classifier(nnx.Rngs(0)), nnx.Param)
print(dwd.describe(params, 0.01, mask=mask))
