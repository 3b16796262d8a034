"""From float32 weights into bfloat16 and back: nothing of them is lost, on one device and on eight."""

import functools
import subprocess
import sys
import textwrap

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import decoupled_wd as dwd
from decoupled_wd.rounding import from_float32, residual, weights

KEY = jax.random.key(0)
PARAMS = {
    "kernel": jax.random.normal(KEY, (64, 33)),
    "scale": jnp.float32(0.1),
    "none": None,
    "steps": jnp.array([1, 2]),
}


def bits32(tree):
    return [np.asarray(x, np.float32).view(np.uint32) for x in jax.tree.leaves(tree)]


def equal_bits(one, other):
    for a, b in zip(bits32(one), bits32(other), strict=True):
        np.testing.assert_array_equal(a, b)


AROUND = {
    "link": residual(),
    "alias": dwd.adamw(0.1, 0.1, rounding=residual()),
    "narrow": dwd.adamw(0.1, 0.1, mu_dtype="bfloat16", nu_dtype="bfloat16", rounding=residual()),
    "record": dwd.record(dwd.sgdw(0.1, 0.1, rounding=residual())),
    "finite": optax.apply_if_finite(dwd.sgdw(0.1, 0.1, rounding=residual()), 3),
    "accumulated": optax.MultiSteps(
        dwd.sgdw(0.1, 0.1, rounding=residual()), 2
    ).gradient_transformation(),
    "as optax makes it": optax.MultiSteps(dwd.sgdw(0.1, 0.1, rounding=residual()), 2),
    "inject": optax.inject_hyperparams(
        lambda learning_rate: optax.chain(optax.sgd(learning_rate), residual())
    )(0.1),
    "partition": optax.partition(
        {name: optax.chain(optax.sgd(0.1), residual()) for name in ("first", "second")},
        {"kernel": "first", "scale": "second", "none": "first", "steps": "second"},
    ),
}


@pytest.mark.parametrize("name", AROUND)
def test_the_weights_are_the_float32_ones_bit_for_bit_and_the_rest_is_init(name):
    optimizer = AROUND[name]
    params, state = from_float32(optimizer, PARAMS)
    equal_bits(weights(state, params), PARAMS)
    assert params["kernel"].dtype == params["scale"].dtype == jnp.bfloat16
    assert params["steps"] is PARAMS["steps"]
    np.testing.assert_array_equal(params["kernel"], PARAMS["kernel"].astype(jnp.bfloat16))
    fresh = optimizer.init(params)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, fresh)
    differs = jax.tree.leaves(jax.tree.map(lambda a, b: jnp.any(a != b), state, fresh))
    assert sum(map(int, differs)) == 2  # the residuals of the kernel and of the scale


def test_numbers_at_the_edges():
    limits = np.finfo(np.float32)
    edges = [0.0, -0.0, limits.tiny, limits.smallest_subnormal, limits.max, np.inf, -np.inf]
    w = jnp.array([*edges, 1 + 2**-8, 1 - 2**-9, 1 + 3 * 2**-8], jnp.float32)
    params, state = from_float32(residual(), w)
    equal_bits(weights(state, params), w)
    params, state = from_float32(residual(), jnp.full(1, jnp.nan))
    assert jnp.isnan(weights(state, params)).all()


def test_a_byte_holds_them_within_its_resolution():
    w = jnp.concatenate([jax.random.normal(KEY, (10_000,)) ** 9, jnp.array([0.0, jnp.inf])])
    params, state = from_float32(residual(bits=8), w)
    held = weights(state, params)
    assert state.residual.dtype == jnp.uint8
    np.testing.assert_allclose(held, w, rtol=2.0**-16)
    assert (jnp.abs(held - w) > 2.0**-18 * jnp.abs(w)).any()


def test_training_goes_on_as_in_float32_bit_for_bit():
    plain, linked = dwd.adamw(1e-3, 1e-3), dwd.adamw(1e-3, 1e-3, rounding=residual())
    wide, wide_state = PARAMS["kernel"], plain.init(PARAMS["kernel"])
    narrow, state = from_float32(linked, wide)
    for t in range(20):
        g = jax.random.normal(jax.random.key(t), wide.shape)
        u, wide_state = plain.update(g, wide_state, wide)
        v, state = linked.update(g, state, narrow)
        wide, narrow = optax.apply_updates(wide, u), optax.apply_updates(narrow, v)
        equal_bits(weights(state, narrow), wide)


def test_leaves_without_a_residual_stay_in_float32():
    masked = optax.masked(residual(), {"kernel": True, "scale": False, "none": True, "steps": True})
    params, state = from_float32(dwd.adamw(0.1, 0.1, rounding=masked), PARAMS)
    assert (params["kernel"].dtype, params["scale"].dtype) == (jnp.bfloat16, jnp.float32)
    equal_bits(weights(state, params), PARAMS)


def test_what_is_bfloat16_already_stays():
    tree = {"new": jnp.array([0.999]), "old": jnp.ones(2, jnp.bfloat16)}
    params, state = from_float32(residual(), tree)
    assert params["old"] is tree["old"]
    equal_bits(weights(state, params), tree)


def test_inside_jit():
    optimizer = AROUND["alias"]
    outside = from_float32(optimizer, PARAMS)
    chex.assert_trees_all_equal(
        jax.jit(functools.partial(from_float32, optimizer))(PARAMS), outside
    )


def test_boxes_of_flax():
    boxed = {"w": linen.Partitioned(jnp.array([0.999, 0.1]), names=("data",))}
    params, state = from_float32(AROUND["alias"], boxed)
    assert params["w"].names == ("data",)
    equal_bits(weights(state, params), boxed)
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    wide = nnx.state(model, nnx.Param)
    params, state = from_float32(AROUND["alias"], wide)
    assert jax.tree.structure(params) == jax.tree.structure(wide)
    equal_bits(weights(state, params), wide)


EIGHT = """
    import sys
    import jax, jax.numpy as jnp, numpy as np, optax
    import orbax.checkpoint as ocp
    import decoupled_wd as dwd

    assert jax.device_count() == 8
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    spread = jax.NamedSharding(mesh, jax.P("data"))
    wide = jax.device_put(jax.random.normal(jax.random.key(0), (64, 16)), spread)
    g = jax.device_put(jax.random.normal(jax.random.key(1), (64, 16)), spread)

    def bits(x):
        return np.asarray(x, np.float32).view(np.uint32)

    def placed(x):
        where = spread if x.shape == wide.shape else jax.NamedSharding(mesh, jax.P())
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)

    for bits_kept in (16, 8):
        link = dwd.rounding.residual(bits=bits_kept)
        optimizer = dwd.adamw(1e-3, 1e-3, nu_dtype=jnp.bfloat16, rounding=link)

        @jax.jit
        def step(params, state):
            u, state = optimizer.update(g, state, params)
            return optax.apply_updates(params, u), state

        start = dwd.rounding.from_float32(optimizer, wide)
        params, state = start
        leaves = [leaf for leaf in jax.tree.leaves(start) if leaf.shape == wide.shape]
        assert len(leaves) == 4
        assert all(leaf.sharding.is_equivalent_to(spread, 2) for leaf in leaves)
        held = dwd.rounding.weights(state, params)
        assert held.sharding.is_equivalent_to(spread, 2)
        if bits_kept == 16:
            np.testing.assert_array_equal(bits(held), bits(wide))
        np.testing.assert_allclose(held, wide, rtol=2.0**-16)
        with ocp.StandardCheckpointer() as checkpointer:
            path = f"{sys.argv[1]}/{bits_kept}"
            checkpointer.save(path, start)
            checkpointer.wait_until_finished()
            restored = checkpointer.restore(path, jax.tree.map(placed, start))
        leaves = [leaf for leaf in jax.tree.leaves(restored) if leaf.shape == wide.shape]
        assert all(leaf.sharding.is_equivalent_to(spread, 2) for leaf in leaves)
        back = dwd.rounding.weights(restored[1], restored[0])
        np.testing.assert_array_equal(bits(back), bits(held))
        for one, other in zip(
            jax.tree.leaves(step(*start)), jax.tree.leaves(step(*restored)), strict=True
        ):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    print("same")
"""


@pytest.mark.slow
def test_through_a_checkpoint_on_eight_devices(tmp_path):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(EIGHT), str(tmp_path)],
        capture_output=True,
        text=True,
        env=flags | {"HOME": str(tmp_path)},
    )
    assert done.stdout.strip() == "same", done.stderr
