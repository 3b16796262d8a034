# %% [markdown]
# # Decay around any optax optimiser, with rules for paths
#
# optax has no decoupled decay for most of its optimisers. `decouple` adds it to each in the same way, and with
# the paper's coupling the same λ removes the same fraction of a weight, whatever the optimiser and its rate.

# %%
import jax
import jax.numpy as jnp
import optax

import decoupled_wd as dwd

key = jax.random.key(0)
x = jax.random.normal(key, (256, 16))
y = jnp.sin(x[:, :1]) + 0.1 * jax.random.normal(jax.random.fold_in(key, 1), (256, 1))
params = {
    "hidden": {"kernel": 0.3 * jax.random.normal(key, (16, 64)), "bias": jnp.zeros(64)},
    "readout": {"kernel": 0.1 * jax.random.normal(key, (64, 1)), "bias": jnp.zeros(1)},
}


def loss(params):
    """Mean squared error of a network with one hidden layer."""
    hidden = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return ((hidden @ params["readout"]["kernel"] + params["readout"]["bias"] - y) ** 2).mean()


# %% [markdown]
# Biases do not decay, the readout decays a tenth as fast.

# %%
mask = dwd.masks.matching((r".*/bias", 0.0), (r"readout/.*", 0.1), (r".*", 1.0))
print(dwd.describe(params, 1e-3, mask=mask))

OPTIMIZERS = {
    "sgd": optax.sgd(0.03, momentum=0.9),
    "rmsprop": optax.rmsprop(1e-3),
    "radam": optax.radam(3e-3),
    "adabelief": optax.adabelief(3e-3),
    "adagrad": optax.adagrad(0.03),
    "lion": optax.lion(3e-4, weight_decay=0.0),
    "yogi": optax.yogi(3e-3),
    "nadam": optax.nadam(3e-3),
}


# %%
def train(optimizer, steps=400):
    """The last loss and the norm of the hidden kernel; one compiled loop."""

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    (trained, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
    return float(loss(trained)), float(jnp.linalg.norm(trained["hidden"]["kernel"]))


print(f"{'':12}{'without decay':>24}{'with λ = 0.001':>24}")
for name, inner in OPTIMIZERS.items():
    runs = [train(inner), train(dwd.decouple(inner, 1e-3, mask=mask))]
    print(f"{name:12}" + "".join(f"   loss {value:.4f}, norm {norm:5.2f}" for value, norm in runs))
