# %% [markdown]
# # AdamW against Adam with L2, in Flax nnx
#
# Both are given the same network, data and learning rates. With L2 the penalty's gradient goes through Adam's
# preconditioner, so its effect depends on the size of the gradients; decoupled, it does not.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

import decoupled_wd as dwd
from decoupled_wd.study.data import mnist1d

EPOCHS, BATCH, PEAK = 30, 100, 5e-3
data = mnist1d()
steps = EPOCHS * (len(data.y_train) // BATCH)
schedule = optax.cosine_decay_schedule(PEAK, steps)


# %%
class Classifier(nnx.Module):
    """Two hidden layers with BatchNorm."""

    def __init__(self, rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Linear(40, 64, rngs=rngs), nnx.Linear(64, 64, rngs=rngs)])
        self.norms = nnx.List([nnx.BatchNorm(64, rngs=rngs) for _ in range(2)])
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
# The same strength where they are comparable: L2 with 0.01 in Adam, decay with λ = 0.01 per step at the peak, and none.

# %%
runs = {
    "Adam": train(dwd.adam(schedule, 0.0)),
    "Adam + L2": train(dwd.adam(schedule, 0.01)),
    "AdamW": train(dwd.adamw(schedule, 0.01, peak_learning_rate=PEAK)),
}
for name, (errors, norm) in runs.items():
    print(f"{name:10} test error {errors[-1]:.1f} %, weight norm {norm:.1f}")

# %%
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for name, (errors, _) in runs.items():
    axis.plot(np.arange(1, EPOCHS + 1), errors, label=name)
axis.set(xlabel="epoch", ylabel="test error (%)", title="MNIST-1D, MLP 40-64-64-10")
axis.legend()
if __name__ != "__main__" or not hasattr(__builtins__, "__IPYTHON__"):
    plt.close(figure)

# %% [markdown]
# Which weights decay, and how fast:

# %%
params = nnx.state(Classifier(nnx.Rngs(0)), nnx.Param)
print(dwd.describe(params, 0.01, learning_rate=schedule, peak_learning_rate=PEAK))
print(jax.default_backend(), "done")
