# %% [markdown]
# # AdamWR: warm restarts with normalised weight decay
#
# Cosine annealing, again and again, every cycle twice as long; λ is renormalised with the length of each cycle. The
# network is good at the end of every cycle, so a run can be stopped at any of them.

# %%
import jax
import jax.numpy as jnp
import optax

import decoupled_wd as dwd
from decoupled_wd.study.tasks.data import mnist1d
from decoupled_wd.study.tasks.models import mlp

BATCH, FIRST, CYCLES, PEAK = 100, 4, 4, 0.01
data = mnist1d()
model = mlp(40, 10)
n = len(data.y_train)
epochs = FIRST * (2**CYCLES - 1)

# %%
optimizer = dwd.adamwr(
    PEAK, 0.05, batch_size=BATCH, dataset_size=n, first_cycle_epochs=FIRST, cycle_factor=2.0
)
learning_rate = dwd.warm_restarts(PEAK, first_cycle_steps=FIRST * (n // BATCH))
weight_decay = dwd.normalized_per_cycle(
    0.05, batch_size=BATCH, dataset_size=n, first_cycle_epochs=FIRST
)


# %%
@jax.jit
def train_epoch(params, state, key):
    def step(carry, rows):
        params, state = carry
        gradients = jax.grad(model.loss)(params, x[rows], y[rows], key)
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), None

    x, y = jnp.asarray(data.x_train), jnp.asarray(data.y_train)
    order = jax.random.permutation(key, n).reshape(-1, BATCH)
    return jax.lax.scan(step, (params, state), order)[0]


@jax.jit
def test_error(params):
    train = (data.x_train, data.y_train)
    return model.evaluate(params, train, {"test": (data.x_test, data.y_test)})["test_error"]


# %%
params = model.init(jax.random.key(0))
state = optimizer.init(params)
ends = [FIRST * (2**cycle - 1) for cycle in range(1, CYCLES + 1)]
for epoch in range(1, epochs + 1):
    params, state = train_epoch(params, state, jax.random.key(epoch))
    if epoch in ends or epoch % 5 == 0:
        step = epoch * (n // BATCH) - 1
        print(
            f"epoch {epoch:3}: learning rate {float(learning_rate(step)):.5f}, "
            f"λ {float(weight_decay(step)):.5f}, test error {float(test_error(params)):.1f} %"
            + ("   end of a cycle" if epoch in ends else "")
        )
