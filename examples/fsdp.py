# %% [markdown]
# # Sharded training, saved and restored
#
# Parameters, gradients and optimiser state are split over eight (simulated) devices. The decay acts on each shard
# where it is: no device asks another for anything. Orbax saves the shards; training goes on where it stopped.

# %%
import tempfile

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_cpu_enable_async_dispatch", False)  # eight devices on few cores: in step
jax.config.update("jax_platforms", "cpu")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import orbax.checkpoint as ocp  # noqa: E402

import decoupled_wd as dwd  # noqa: E402

mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
split = jax.NamedSharding(mesh, jax.P("data"))

# %%
key = jax.random.key(0)
params = {
    "in": jax.random.normal(key, (64, 256)) / 8,
    "out": jax.random.normal(key, (256, 8)) / 16,
}
params = jax.device_put(params, split)
x = jax.device_put(jax.random.normal(key, (512, 64)), split)
y = jnp.tanh(x[:, :8])
optimizer = dwd.adamw(1e-3, 1e-4, rule=dwd.rules.cautious(dwd.rules.towards_zero()))


@jax.jit
def train_step(params, state, x, y):
    """One step; the state is sharded as the parameters are."""

    def loss(params):
        return ((jnp.tanh(x @ params["in"]) @ params["out"] - y) ** 2).mean()

    value, gradients = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, value


# %%
state = jax.tree.map(
    lambda leaf: jax.device_put(leaf, split if leaf.ndim else jax.NamedSharding(mesh, jax.P())),
    optimizer.init(params),
)
for _ in range(50):
    params, state, value = jax.block_until_ready(train_step(params, state, x, y))
print(f"loss {value:.4f}; each device holds", params["in"].addressable_shards[0].data.shape)

# %% [markdown]
# What the decay itself costs in communication: compile the optimiser's step alone and look for collectives.

# %%
alone = jax.jit(optimizer.update).lower(params, state, params).compile().as_text()
print(
    "collectives in the optimiser's step:",
    sum(alone.count(f" {c}(") for c in ("all-reduce", "all-gather")),
)

# %%
with tempfile.TemporaryDirectory() as folder:
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(f"{folder}/step-50", {"params": params, "state": state})
    like = jax.tree.map(ocp.utils.to_shape_dtype_struct, {"params": params, "state": state})
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(f"{folder}/step-50", like)

here, there = (params, state), (restored["params"], restored["state"])
for _ in range(10):
    *here, _ = jax.block_until_ready(train_step(*here, x, y))
    *there, _ = jax.block_until_ready(train_step(*there, x, y))
same = jax.tree.map(np.array_equal, *jax.device_get((here[0], there[0])))
assert all(jax.tree.leaves(same)), same
print("ten steps after the restore: the same weights, sharded as", there[0]["in"].sharding.spec)
