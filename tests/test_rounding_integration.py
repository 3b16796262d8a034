"""The rounding links inside what users put around an optimiser, against float32 training."""

import subprocess
import sys
import textwrap

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

import decoupled_wd as dwd
from decoupled_wd.rounding._halves import joined as join
from decoupled_wd.study.tasks import data, models

LINKS = {
    "residual": dwd.rounding.residual,
    "byte": lambda: dwd.rounding.residual(bits=8),
    "stochastic": lambda: dwd.rounding.stochastic_rounding(0),
}
LAM, ALPHA, STEPS = 1e-3, 1e-4, 200
every_link = pytest.mark.parametrize("make", LINKS.values(), ids=LINKS)


def adamw(rounding=None, **options):
    return dwd.adamw(ALPHA, LAM, rounding=rounding, **options)


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def start(dtype=jnp.bfloat16, seed=0):
    key = jax.random.key(seed)
    params = {"kernel": jax.random.normal(key, (64, 64)), "bias": jnp.ones(64)}
    return cast(cast(params, jnp.bfloat16), dtype)


def gradients(steps=STEPS, dtype=jnp.bfloat16, seed=1):
    keys = jax.random.split(jax.random.key(seed))
    noise = {
        "kernel": jax.random.normal(keys[0], (steps, 64, 64)),
        "bias": jax.random.normal(keys[1], (steps, 64)),
    }
    return cast(cast(noise, jnp.bfloat16), dtype)


def step(optimizer):
    def one(carry, g):
        params, state = carry
        updates, state = optimizer.update(g, state, params)
        return (optax.apply_updates(params, updates), state), params

    return one


def train(optimizer, params, noise, state=None):
    carry = (params, optimizer.init(params) if state is None else state)
    return jax.jit(lambda c: jax.lax.scan(step(optimizer), c, noise)[0])(carry)


def at(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def joined(params, state):
    """The float32 weights that a bfloat16 run with residuals holds."""
    return jax.tree.map(join, params, state.rounding.residual)


def distance(tree, exact):
    """Root mean square of the differences over that of the kernel."""
    got, exact = np.asarray(tree["kernel"], np.float64), np.asarray(exact["kernel"], np.float64)
    return np.sqrt(np.mean((got - exact) ** 2) / np.mean(exact**2))


# Float32 sums in another order differ by some 1e-7; a lost decay differs by 1 − (1 − λ)^200 = 0.18.
SAME, LOST = 2e-6, 0.05


# Accumulated gradients


@every_link
def test_multi_steps_takes_float32_gradients_and_rounds_once_every_k(make):
    noise = gradients(4 * 50, jnp.float32)
    means = jax.tree.map(lambda g: g.reshape(50, 4, *g.shape[1:]).mean(1), noise)
    accumulated, state = train(optax.MultiSteps(adamw(make()), 4), start(), noise)
    direct, expected = train(adamw(make()), start(), means)
    chex.assert_trees_all_equal_dtypes(accumulated, start())
    assert state.gradient_step == 50
    assert int(state.inner_opt_state.decay.count) == 50
    chex.assert_trees_all_equal_shapes_and_dtypes(state.inner_opt_state, expected)
    if make is LINKS["residual"]:
        assert distance(joined(accumulated, state.inner_opt_state), joined(direct, expected)) < SAME
    else:  # one key for each optimiser step, none for the steps between
        chex.assert_trees_all_equal(state.inner_opt_state.rounding.key, expected.rounding.key)
        same = np.mean(np.asarray(accumulated["kernel"] == direct["kernel"]))
        assert same > 0.999  # means in another order tip a dither now and then


@every_link
def test_multi_steps_leaves_weights_and_rounding_alone_in_between(make):
    optimizer = optax.MultiSteps(adamw(make()), 4)
    one, carry = jax.jit(step(optimizer)), (start(), optimizer.init(start()))
    for index in range(8):
        params, state = carry
        carry, _ = one(carry, at(gradients(8, jnp.float32), index))
        changed = (carry[0], carry[1].inner_opt_state.rounding)
        if index % 4 < 3:
            chex.assert_trees_all_equal(changed, (params, state.inner_opt_state.rounding))
    assert (changed[0]["kernel"] != params["kernel"]).any()


def test_multi_steps_rounds_the_mean_of_bfloat16_gradients():
    """Why the gradients are cast first: the accumulator is float32, what leaves it is not."""
    noise = jnp.asarray([1.0, 1 + 2.0**-7])

    def mean(dtype):
        optimizer = optax.MultiSteps(optax.identity(), 2)
        state = optimizer.init(noise[0].astype(jnp.bfloat16))
        for g in noise.astype(dtype):
            update, state = optimizer.update(g, state)
        return float(update)

    assert mean(jnp.float32) == 1 + 2.0**-8
    assert mean(jnp.bfloat16) in (1.0, 1 + 2.0**-7)


# Steps that are refused


@every_link
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_apply_if_finite_leaves_weights_and_rounding_alone(make, bad):
    optimizer = optax.apply_if_finite(adamw(make()), 3)
    one, carry = jax.jit(step(optimizer)), (start(), optimizer.init(start()))
    for index in range(3):
        carry, _ = one(carry, at(gradients(3, jnp.float32), index))
    broken = jax.tree.map(lambda g: g.at[0].set(bad), at(gradients(3, jnp.float32), 0))
    (params, state), _ = one(carry, broken)
    assert not state.last_finite
    chex.assert_trees_all_equal((params, state.inner_state), (carry[0], carry[1].inner_state))
    (params, _), _ = one((params, state), at(gradients(3, jnp.float32), 1))
    assert (params["kernel"] != carry[0]["kernel"]).any()


@every_link
def test_apply_if_finite_refuses_bfloat16_gradients(make):
    """Its zeros have the gradients' dtype and the links emit float32: cast the gradients, as for MultiSteps."""
    optimizer = optax.apply_if_finite(adamw(make()), 3)
    with pytest.raises(TypeError, match="equal output types"):
        optimizer.update(start(), optimizer.init(start()), start())


# Frameworks and transformations


@every_link
def test_nnx_optimizer_takes_the_same_steps(make):
    model = nnx.Linear(8, 4, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    noise = {
        "kernel": gradients()["kernel"][:, :8, :4],
        "bias": gradients()["bias"][:, :4],
    }
    optimizer = nnx.Optimizer(model, adamw(make()), wrt=nnx.Param)

    @nnx.jit
    def nnx_step(model, optimizer, g):
        grads = nnx.state(model, nnx.Param)
        nnx.replace_by_pure_dict(grads, g)
        optimizer.update(model, grads)

    expected, state = params, adamw(make()).init(params)
    one = jax.jit(step(adamw(make())))
    for t in range(50):
        g = at(noise, t)
        nnx_step(model, optimizer, g)
        (expected, state), _ = one((expected, state), g)
    got = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    chex.assert_trees_all_equal(got, expected)
    chex.assert_trees_all_equal_dtypes(got, params)


@every_link
def test_vmap_takes_the_steps_of_each_alone(make):
    starts = [start(seed=seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    noise = gradients(50)
    together = jax.vmap(lambda p: train(adamw(make()), p, noise)[0])(stacked)
    for index, alone in enumerate(starts):
        row = at(together, index)
        chex.assert_trees_all_equal(row, train(adamw(make()), alone, noise)[0])


@every_link
def test_donated_buffers_and_one_step_at_a_time(make):
    expected = train(adamw(make()), start(), gradients(20))
    one = jax.jit(step(adamw(make())), donate_argnums=0)
    carry = (start(), adamw(make()).init(start()))
    for t in range(20):
        donated = carry
        carry, _ = one(carry, at(gradients(20), t))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((donated[0], donated[1].rounding)))
    chex.assert_trees_all_equal(carry, expected)


SHARDED = """
    import jax, jax.numpy as jnp, numpy as np, optax
    import decoupled_wd as dwd

    assert jax.device_count() == 8
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    sharding = jax.NamedSharding(mesh, jax.P("data"))
    byte = dwd.rounding.residual(bits=8)
    for link in (dwd.rounding.residual(), byte, dwd.rounding.stochastic_rounding(0)):
        optimizer = dwd.adamw(1e-4, 1e-3, rounding=link)
        params = jax.random.normal(jax.random.key(0), (64, 16)).astype(jnp.bfloat16)

        @jax.jit
        def step(p, s, g):
            u, s = optimizer.update(g, s, p)
            return optax.apply_updates(p, u), s

        def run(params):
            state = jax.jit(optimizer.init)(params)
            for key in jax.random.split(jax.random.key(1), 20):
                g = jax.random.normal(key, params.shape).astype(jnp.bfloat16)
                params, state = step(params, state, jax.device_put(g, params.sharding))
            return params, state

        alone, spread = run(params), run(jax.device_put(params, sharding))
        assert len(spread[0].sharding.device_set) == 8
        for one, eight in zip(jax.tree.leaves(alone), jax.tree.leaves(spread), strict=True):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(eight))
        residual = jax.tree.leaves(spread[1].rounding)[0]
        if residual.dtype in (jnp.int16, jnp.uint8):
            assert residual.sharding.is_equivalent_to(sharding, 2), residual.sharding
    print("same")
"""


@pytest.mark.slow
def test_eight_devices_give_the_numbers_of_one():
    program = textwrap.dedent(SHARDED)
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=flags
    )
    assert done.stdout.strip() == "same", done.stderr


# Checkpoints


@every_link
def test_a_checkpoint_continues_bit_for_bit(make, tmp_path):
    optimizer, noise = adamw(make()), gradients(40)
    first = jax.tree.map(lambda g: g[:20], noise)
    second = jax.tree.map(lambda g: g[20:], noise)
    halfway = train(optimizer, start(), first)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "halfway", halfway)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(
            tmp_path / "halfway", jax.eval_shape(lambda carry: carry, halfway)
        )
    whole = train(optimizer, start(), noise)
    chex.assert_trees_all_equal(train(optimizer, restored[0], second, restored[1]), whole)
    lost = restored[1]._replace(rounding=optimizer.init(restored[0]).rounding)
    params, _ = train(optimizer, restored[0], second, lost)
    assert (np.asarray(params["kernel"]) != np.asarray(whole[0]["kernel"])).mean() > 0.01


# Masks, rules and schedules


OPTIONS = {
    "plain": {},
    "mask": {"mask": dwd.masks.matrices()},
    "multiplier": {"mask": dwd.masks.matching((".*bias", 0.0), (".*", 0.5))},
    "cautious": {"rule": dwd.rules.cautious(dwd.rules.towards_zero())},
    "to zero": {"weight_decay": optax.linear_schedule(2 * LAM, 0.0, STEPS)},
}


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_link_follow_float32_whatever_the_decay(options):
    def optimizer(rounding=None):
        settings = {"weight_decay": LAM, **options}
        return dwd.adamw(ALPHA, rounding=rounding, **settings)

    exact, _ = train(optimizer(), start(jnp.float32), gradients(dtype=jnp.float32))
    plain, _ = train(optimizer(), start(), gradients())
    assert distance(plain, exact) > LOST / 2
    run = train(optimizer(LINKS["residual"]()), start(), gradients())
    assert distance(joined(*run), exact) < SAME
    chance, _ = train(optimizer(LINKS["stochastic"]()), start(), gradients())
    error = np.asarray(chance["kernel"], np.float64) - np.asarray(exact["kernel"], np.float64)
    towards_zero = error * np.sign(np.asarray(exact["kernel"]))
    assert abs(towards_zero.mean()) < 4 * towards_zero.std() / np.sqrt(towards_zero.size)


# What the compiler and the order of links do


@every_link
def test_the_compiled_step_is_the_step_op_by_op(make):
    optimizer = adamw(make())
    compiled = train(optimizer, start(), gradients(20))
    with jax.disable_jit():
        carry = (start(), optimizer.init(start()))
        for t in range(20):
            carry, _ = step(optimizer)(carry, at(gradients(20), t))
    if make is LINKS["residual"]:
        assert distance(joined(*compiled), joined(*carry)) < SAME
    same = np.mean(np.asarray(compiled[0]["kernel"] == carry[0]["kernel"]))
    assert same > 0.999  # fused multiply-adds tip a tie now and then


def test_the_compiled_program_writes_the_residual():
    carry = (start(), adamw(LINKS["residual"]()).init(start()))
    g = at(gradients(1), 0)
    program = jax.jit(step(adamw(LINKS["residual"]()))).lower(carry, g).compile()
    results = program.as_text().splitlines()[0].partition("->")[2]
    assert "s16[64,64]" in results
    (_, state), _ = program(carry, g)
    assert np.mean(np.asarray(state.rounding.residual["kernel"]) != 0) > 0.99


def test_a_link_behind_the_rounding_lands_elsewhere():
    """The residual says where p would have landed; a clip or a scale behind makes the pair a wrong weight."""

    def off_by(*behind):
        link = dwd.rounding.residual()
        optimizer = optax.chain(optax.sgd(1.0), link, *behind)
        p = start()
        g = jax.tree.map(lambda leaf: 0.01 * leaf.astype(jnp.float32), p)
        (p, state), _ = step(optimizer)((p, optimizer.init(p)), g)
        wanted = jax.tree.map(lambda leaf: 0.99 * leaf, start(jnp.float32))
        return distance(jax.tree.map(join, p, state[1].residual), wanted)

    assert off_by() < SAME
    assert off_by(optax.scale(0.5)) > 1e-3
    assert off_by(optax.scale_by_sign()) > 1e-1


@every_link
def test_decouple_refuses_a_rounding_inside(make):
    for inner in (make(), optax.chain(optax.sgd(0.1), make()), adamw(make())):
        with pytest.raises(
            ValueError, match="rounding must be the last link; pass it as rounding= instead"
        ):
            dwd.decouple(inner, LAM).init(start())
    dwd.decouple(optax.sgd(0.1), LAM, rounding=make()).init(start())


# A network


SEEDS, EPOCHS, BATCH = 4, 40, 125


MOMENTS = {"mu_dtype": jnp.bfloat16, "nu_dtype": jnp.bfloat16}


def network(task, dtype, rounding, **moments):
    """Final training loss and weight norm for each seed."""
    model = models.mlp(40, 10, hidden=(32,))
    x, y = jnp.asarray(task.x_train, dtype), jnp.asarray(task.y_train)
    schedule = optax.cosine_decay_schedule(1e-3, EPOCHS * len(y) // BATCH)
    options = {"peak_learning_rate": 1e-3, "rounding": rounding, **moments}
    optimizer = dwd.adamw(schedule, 1.5e-3, **options)

    def run(key):
        keys = jax.random.split(key, EPOCHS)
        order = jax.vmap(lambda k: jax.random.permutation(k, len(y)))(keys).reshape(-1, BATCH)

        def one(carry, batch):
            params, state = carry
            loss, g = jax.value_and_grad(model.loss)(params, x[batch], y[batch], key)
            updates, state = optimizer.update(g, state, params)
            return (optax.apply_updates(params, updates), state), loss

        params = cast(model.init(key), dtype)
        (params, _), losses = jax.lax.scan(one, (params, optimizer.init(params)), order)
        norm = optax.tree.norm(cast(params, jnp.float32))
        return losses[-32:].astype(jnp.float32).mean(), norm

    return np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), SEEDS)))


@pytest.mark.slow
def test_a_network_ends_as_in_float32_with_a_link_and_not_without():
    """To within two standard deviations between seeds, of the loss and of the norm."""
    task = data.mnist1d(train_size=1000, validation_size=10, test_size=10)
    exact = network(task, jnp.float32, None)

    def off(rounding, **moments):
        difference = network(task, jnp.bfloat16, rounding, **moments) - exact
        return np.abs(difference.mean(axis=1)) / (2 * exact.std(axis=1, ddof=1))

    assert (off(LINKS["residual"]()) < 1).all()
    assert (off(LINKS["stochastic"]()) < 1).all()
    assert (off(LINKS["byte"](), **MOMENTS) < 1).all()
    assert (off(None) > 1).all()
