# %% [markdown]
# # Equinox
#
# Parameters are the inexact arrays of the model; everything else is `None` and left alone.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import decoupled_wd as dwd
from decoupled_wd.study.tasks.data import digits

data = digits()
model = eqx.nn.MLP(64, 10, 64, depth=2, key=jax.random.key(0))

# %% [markdown]
# Paths are Equinox's own: `layers/0/weight`. The first pattern that matches wins.

# %%
mask = dwd.masks.matching((r".*/bias", 0.0), (r"layers/2/.*", 0.1), (r".*", 1.0))
optimizer = dwd.adamw(3e-3, 1e-3, mask=mask)
params = eqx.filter(model, eqx.is_inexact_array)
print(dwd.describe(params, 1e-3, mask=mask))
state = optimizer.init(params)


# %%
@eqx.filter_jit
def train_step(model, state, x, y):
    @eqx.filter_value_and_grad
    def loss(model):
        return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()

    value, gradients = loss(model)
    updates, state = optimizer.update(gradients, state, eqx.filter(model, eqx.is_inexact_array))
    return eqx.apply_updates(model, updates), state, value


order = np.random.default_rng(0)
for epoch in range(30):
    for rows in order.permutation(len(data.y_train)).reshape(-1, 50):
        model, state, value = train_step(model, state, data.x_train[rows], data.y_train[rows])
    if epoch % 10 == 9:
        error = 100 * jnp.mean(jax.vmap(model)(data.x_test).argmax(-1) != data.y_test)
        print(f"epoch {epoch + 1}: training loss {value:.3f}, test error {error:.1f} %")
