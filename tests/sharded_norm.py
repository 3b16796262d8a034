"""Run by test_rules on eight simulated devices: norms under flax's sharding metadata and under shard_map."""

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_cpu_enable_async_dispatch", False)
jax.config.update("jax_platforms", "cpu")

import flax.linen as nn  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import pytest  # noqa: E402
from flax import nnx  # noqa: E402
from flax.training.train_state import TrainState  # noqa: E402

import decoupled_wd as dwd  # noqa: E402

mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
RULES = (
    dwd.rules.towards_norm(),
    dwd.rules.towards_norm(1.0, axis=1),
    dwd.rules.onto_norm(),
    dwd.rules.towards_start(),
    "hyperball",
)


def optimizer(rule):
    if rule == "hyperball":
        return dwd.hyperball(optax.identity(), 0.1)
    return dwd.decouple(optax.sgd(0.1), 0.25, rule=rule)


def expected(rule, kernel):
    """After one step of gradients of 1 and one of decay alone, on one device without boxes."""
    return after(optimizer(rule), jnp.asarray(jax.device_get(kernel)))[0]


def after(link, params):
    state = link.init(params)
    for factor in (1.0, 0.0):
        updates, state = link.update(
            jax.tree.map(lambda p, f=factor: f + 0 * p, params), state, params
        )
        params = optax.apply_updates(params, updates)
    return params, state


for rule in RULES:
    # linen, as MaxText starts: every leaf of the state on the axes of its metadata
    layer = nn.Dense(
        16,
        use_bias=False,
        kernel_init=nn.with_logical_partitioning(nn.initializers.normal(), ("in", "out")),
    )

    def create(key, layer=layer, rule=rule):
        params = layer.init(key, jnp.ones((1, 32)))["params"]
        return TrainState.create(apply_fn=layer.apply, params=params, tx=optimizer(rule))

    with jax.set_mesh(mesh):
        specs = nn.get_partition_spec(jax.eval_shape(create, jax.random.key(0)))
        shardings = nn.logical_to_mesh_sharding(specs, mesh, [("in", None), ("out", "data")])
        train = jax.jit(create, out_shardings=shardings)(jax.random.key(0))
    kernel = train.params["kernel"].value
    assert kernel.sharding.spec == jax.P(None, "data"), kernel.sharding
    if "start" in repr(rule):
        start = train.opt_state.decay.rule.start["kernel"].value
        assert start.sharding.spec == jax.P(None, "data"), start.sharding
    params, _ = jax.jit(lambda p, rule=rule: after(optimizer(rule), p))(train.params)
    np.testing.assert_allclose(params["kernel"].value, expected(rule, kernel), rtol=1e-5, atol=1e-7)

    # nnx
    with jax.set_mesh(mesh):
        init = nnx.with_partitioning(nnx.initializers.normal(), (None, "data"))
        model = nnx.Linear(32, 16, use_bias=False, kernel_init=init, rngs=nnx.Rngs(0))
        kernel = model.kernel.get_value()
        assert kernel.sharding.spec == jax.P(None, "data"), kernel.sharding
        trained = nnx.Optimizer(model, optimizer(rule), wrt=nnx.Param)
        for factor in (1.0, 0.0):
            grads = jax.tree.map(lambda p, f=factor: f + 0 * p, nnx.state(model, nnx.Param))
            trained.update(model, grads)
        got = model.kernel.get_value()
    np.testing.assert_allclose(got, expected(rule, kernel), rtol=1e-5, atol=1e-7)

# shard_map
params = {"w": jnp.arange(1.0, 17.0).reshape(8, 2)}
link = optimizer(dwd.rules.towards_norm(1.0))
state = link.init(params)


def shards(state, params):
    return link.update(params, state, params)[0]


one, all_ = jax.P("data"), jax.P()
for call in (
    lambda: jax.shard_map(shards, mesh=mesh, in_specs=(all_, one), out_specs=one)(state, params),
    lambda: jax.shard_map(link.init, mesh=mesh, in_specs=one, out_specs=all_)(params),
):
    with pytest.raises(ValueError, match=r"one shard of 'w' under shard_map over \['data'\]"):
        jax.jit(call)()
whole = jax.shard_map(shards, mesh=mesh, in_specs=(all_, all_), out_specs=all_)(state, params)
np.testing.assert_allclose(whole["w"], link.update(params, state, params)[0]["w"], rtol=1e-6)
print("same")
