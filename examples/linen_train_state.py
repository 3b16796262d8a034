# %% [markdown]
# # Linen and TrainState
#
# `decoupled_wd` optimisers are optax optimisers, so `TrainState` takes them as they are. Biases do not decay here.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

import decoupled_wd as dwd
from decoupled_wd.study.tasks.data import digits

data = digits()


class Classifier(nn.Module):
    """Two layers."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.relu(nn.Dense(64)(x)))


# %%
model = Classifier()
params = model.init(jax.random.key(0), data.x_train[:1])["params"]
mask = dwd.masks.without("bias")
print(dwd.describe(params, 1e-3, mask=mask))
state = TrainState.create(apply_fn=model.apply, params=params, tx=dwd.adamw(1e-2, 1e-3, mask=mask))


# %%
@jax.jit
def train_step(state, x, y):
    def loss(params):
        logits = state.apply_fn({"params": params}, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    value, gradients = jax.value_and_grad(loss)(state.params)
    return state.apply_gradients(grads=gradients), value


order = np.random.default_rng(0)
for epoch in range(30):
    for rows in order.permutation(len(data.y_train)).reshape(-1, 50):
        state, value = train_step(state, data.x_train[rows], data.y_train[rows])
    if epoch % 10 == 9:
        logits = state.apply_fn({"params": state.params}, data.x_test)
        error = 100 * jnp.mean(logits.argmax(-1) != data.y_test)
        print(f"epoch {epoch + 1}: training loss {value:.3f}, test error {error:.1f} %")
