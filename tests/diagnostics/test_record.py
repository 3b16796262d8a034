"""The record against an independent AdamW in NumPy float64, and against the weights themselves."""

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import chex
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from cases import ALPHA, DECOUPLED, LAMBDA, PARAMS
from conftest import enable_x64

import decoupled_wd as dwd
import decoupled_wd.transforms
from decoupled_wd.diagnostics.record import Record, record, recorded

MASK = {"bias": 0.0, "kernel": 0.5}
COSINE = optax.cosine_decay_schedule(0.03, 40)
SHAPES = {"bias": (4,), "kernel": (3, 4)}


def trained(optimizer, params, gradients, dtype=None):
    """The parameters before every step and after the last, and the states after each, from one scan."""

    def step(carry, g):
        p, state = carry
        updates, state = optimizer.update(g, state, p)
        return (optax.apply_updates(p, updates), state), (p, state)

    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), params)
    gradients = jax.tree.map(lambda x: jnp.asarray(x, dtype), gradients)
    carry = (params, jax.jit(optimizer.init)(params))
    (last, _), (path, states) = jax.jit(lambda c: jax.lax.scan(step, c, gradients))(carry)
    return jax.tree.map(lambda rows, end: np.concatenate([rows, end[None]]), path, last), states


def problem(steps=30):
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    gradients = {name: rng.normal(size=(steps, *shape)) for name, shape in SHAPES.items()}
    return params, gradients


def expected_adamw(theta, gradients, lam, multiplier, lr, peak):
    """Algorithm 2 of the paper in NumPy, and what a record of it must say."""
    m, v, log, rows = 0.0, 0.0, 0.0, []
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        delta = -lr(t - 1) * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        c = lam * multiplier * lr(t - 1) / peak
        decay = c * theta
        new = theta + delta - decay
        log += np.log(1 - c)
        a, b, d = theta.ravel(), new.ravel(), decay.ravel()
        rows.append(
            Record(
                c=c,
                lam=lam * multiplier,
                lr=lr(t - 1),
                weight_norm=np.linalg.norm(a),
                update_norm=np.linalg.norm(delta),
                decay_norm=np.linalg.norm(d),
                ratio=np.linalg.norm(d) / np.linalg.norm(delta),
                growth=a @ (b - a) / (a @ a),
                angle=2 * np.arctan2(*map(np.linalg.norm, (unit(a) - unit(b), unit(a) + unit(b)))),
                log_shrinkage=log,
                lost=0.0,
            )
        )
        theta = new
    return Record(*(np.array(column) for column in zip(*rows, strict=True)))


def unit(x):
    return x / np.linalg.norm(x)


def lr64(count):
    return 0.03 * 0.5 * (1 + np.cos(np.pi * count / 40))


OPTIONS = {"peak_learning_rate": 0.03, "mask": MASK}


@pytest.mark.parametrize(("wide", "rtol"), [(True, 1e-11), (False, 3e-4)])
def test_the_record_of_each_leaf_is_that_of_numpy(wide, rtol):
    params, gradients = problem()
    with enable_x64(wide):
        _, states = trained(record(dwd.adamw(COSINE, 0.2, **OPTIONS)), params, gradients)
        got = recorded(states, params)
    assert list(got) == ["bias", "kernel"]
    for name, row in got.items():
        expected = expected_adamw(params[name], gradients[name], 0.2, MASK[name], lr64, 0.03)
        for field in Record._fields:
            value, wanted = getattr(row, field), getattr(expected, field)
            np.testing.assert_allclose(value, wanted, rtol=rtol, atol=rtol / 100, err_msg=field)


def test_the_total_is_the_record_of_all_weights_as_one_vector(x64):
    params, gradients = problem()
    _, states = trained(record(dwd.adamw(COSINE, 0.2, peak_learning_rate=0.03)), params, gradients)
    theta = np.concatenate([params[name].ravel() for name in SHAPES])
    g = np.concatenate([gradients[name].reshape(30, -1) for name in SHAPES], axis=1)
    expected = expected_adamw(theta, g, 0.2, 1.0, lr64, 0.03)
    chex.assert_trees_all_close(states.total, expected, rtol=1e-11, atol=1e-13)


def test_the_rates_in_total_are_those_of_the_leaf_that_decays_most():
    params, gradients = problem(1)
    _, states = trained(record(dwd.adamw(0.03, 0.2, mask=MASK)), params, gradients)
    total = jax.tree.map(lambda x: float(x[0]), states.total)
    assert (total.c, total.lam, total.lr) == pytest.approx((0.1, 0.1, 0.03))
    assert total.log_shrinkage == pytest.approx(np.log(0.9))


@pytest.mark.parametrize("name", DECOUPLED)
def test_the_updates_are_those_of_the_optimiser_bit_for_bit(name):
    inner = DECOUPLED[name]()
    plain, observed = inner.init(PARAMS), record(inner).init(PARAMS)
    for t in range(3):
        g = jax.tree.map(lambda p: jnp.cos(p + t), PARAMS)  # noqa: B023
        expected, plain = inner.update(g, plain, PARAMS)
        updates, after = record(inner).update(g, observed, PARAMS)
        chex.assert_trees_all_equal(updates, expected)
        chex.assert_trees_all_equal(after.inner, plain)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, observed)
        observed = after


@pytest.mark.parametrize("name", [n for n in DECOUPLED if "stochastic" not in n])
def test_step_and_decay_add_up_to_what_was_applied(name):
    """‖Δ − decay‖² from the record's norms and angle is that of the weights that moved, for every rule."""
    optimizer = record(DECOUPLED[name]())
    g = jax.tree.map(lambda p: jnp.cos(p), PARAMS)
    updates, state = optimizer.update(g, optimizer.init(PARAMS), PARAMS)
    for path, row in recorded(state, PARAMS).items():
        p, u = (
            dict(zip(recorded(state, PARAMS), map(np.ravel, jax.tree.leaves(t)), strict=True))[path]
            for t in (PARAMS, updates)
        )
        p, new = p.astype(np.float64), (p + u).astype(np.float64)
        cosine = p @ new / np.linalg.norm(p) / np.linalg.norm(new)
        assert np.cos(float(row.angle)) == pytest.approx(min(cosine, 1), abs=1e-6)
        assert float(row.growth) == pytest.approx(p @ (new - p) / (p @ p), rel=1e-4, abs=1e-6)
        bounds = abs(row.update_norm - row.decay_norm), row.update_norm + row.decay_norm
        assert bounds[0] - 1e-5 <= np.linalg.norm(new - p) <= bounds[1] + 1e-5


@pytest.mark.parametrize("sign", [-1, 1])
def test_trap_the_sign_of_the_decay_in_the_update(sign):
    """SGD along θ: Δ and decay in one line, so the growth tells their signs apart."""
    params = jnp.array([3.0, -4.0])
    optimizer = record(dwd.sgdw(0.5, 0.25))
    _, state = optimizer.update(sign * params, optimizer.init(params), params)
    row = state.total
    assert (float(row.update_norm), float(row.decay_norm)) == pytest.approx((2.5, 1.25))
    assert float(row.growth) == pytest.approx(-0.5 * sign - 0.25)
    assert float(row.angle) == pytest.approx(0, abs=1e-6)


def test_small_angles_are_exact():
    params = jnp.ones((32, 32))
    across = jnp.where(jnp.arange(32) % 2 == 0, 1.0, -1.0) * jnp.ones((32, 1))
    optimizer = record(dwd.sgdw(1e-5, 0.0))
    _, state = optimizer.update(across, optimizer.init(params), params)
    landed = np.float32(1) + np.array([-1e-5, 1e-5], np.float32)
    a, b = landed.astype(np.float64)
    expected = np.arctan2(b - a, a + b)
    assert float(state.total.angle) == pytest.approx(expected, rel=1e-4)


def test_decay_lost_to_bfloat16_is_counted():
    rng = np.random.default_rng(0)
    p = rng.normal(size=(8, 512)).astype(ml_dtypes.bfloat16)
    g = rng.normal(size=(8, 512)).astype(ml_dtypes.bfloat16)
    lr, c = 2.0**-9, 1.4 * 2.0**-9
    for gradient in (g, np.zeros_like(g)):
        delta = (-lr * gradient.astype(np.float32)).astype(np.float32)
        full = (delta - np.float32(c) * p.astype(np.float32)).astype(ml_dtypes.bfloat16)
        landed = [p + full, p + delta.astype(ml_dtypes.bfloat16)]
        expected = np.mean(landed[0] == landed[1])
        _, states = trained(
            record(dwd.sgdw(lr, c, momentum=0.0)), jnp.asarray(p), jnp.asarray(gradient)[None]
        )
        assert float(states.total.lost[0]) == pytest.approx(expected, abs=1e-6)
        assert 0.05 < expected < 0.95


@pytest.mark.parametrize(
    ("dtype", "rounding", "lost"),
    [
        (jnp.float32, None, 0.0),
        (jnp.bfloat16, None, 1.0),
        (jnp.bfloat16, dwd.rounding.residual(), 0.0),
        (jnp.bfloat16, dwd.rounding.stochastic_rounding(0), 0.0),
    ],
)
def test_a_small_decay_is_lost_in_bfloat16_unless_a_link_carries_it(dtype, rounding, lost):
    params = jnp.ones((4, 8))
    optimizer = record(dwd.sgdw(0.1, 1e-4, rounding=rounding))
    _, states = trained(optimizer, params, jnp.zeros((5, 4, 8)), dtype)
    np.testing.assert_array_equal(states.total.lost, lost)
    np.testing.assert_allclose(states.total.c, 1e-4, rtol=1e-6)
    np.testing.assert_allclose(
        states.total.log_shrinkage, np.arange(1, 6) * np.log1p(-1e-4), rtol=1e-6
    )
    growth = {0.0: -1e-4, 1.0: 0.0}[lost]
    np.testing.assert_allclose(states.total.growth, growth, rtol=2e-3, atol=1e-9)


def test_behind_the_residual_the_record_is_that_of_the_float32_weight():
    params, gradients = problem()
    narrow = [jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16), t) for t in (params, gradients)]
    rounded = record(dwd.adamw(3e-3, 1e-3, rounding=dwd.rounding.residual()))
    _, states = trained(rounded, *narrow)
    _, wide = trained(record(dwd.adamw(3e-3, 1e-3)), *narrow, jnp.float32)
    chex.assert_trees_all_close(states.leaves, wide.leaves, rtol=1e-3, atol=1e-7)


def test_every_holds_the_record_and_counts_all_steps():
    params, gradients = problem(10)
    _, each = trained(record(dwd.adamw(COSINE, 0.1, peak_learning_rate=0.03)), params, gradients)
    held = record(dwd.adamw(COSINE, 0.1, peak_learning_rate=0.03), every=4)
    _, some = trained(held, params, gradients)
    rows = np.array([0, 0, 0, 0, 4, 4, 4, 4, 8, 8])
    chex.assert_trees_all_equal(some.total, jax.tree.map(lambda x: x[rows], each.total))
    chex.assert_trees_all_equal(some.step, rows.astype(np.int32))


def test_the_log_shrinkage_counts_fractions_that_float32_would_lose():
    c, steps = 3e-8, 100_000
    optimizer = record(dwd.sgdw(0.1, c))
    state = optimizer.init(jnp.ones(1))
    state = state._replace(shrunk=jnp.array([-1.0]))

    def step(state, _):
        return optimizer.update(jnp.zeros(1), state, jnp.ones(1))[1], None

    state, _ = jax.jit(lambda s: jax.lax.scan(step, s, None, steps))(state)
    expected = -1 + steps * np.log1p(-c)
    assert float(state.total.log_shrinkage) == pytest.approx(expected, abs=2e-7)


@pytest.mark.parametrize(("c", "left"), [(0.25, 0.75), (np.float64(0.75), 0.25), (1.5, 0.5)])
def test_the_log_shrinkage_of_large_fractions(c, left):
    optimizer = record(dwd.sgdw(0.1, c))
    _, state = optimizer.update(jnp.zeros(1), optimizer.init(jnp.ones(1)), jnp.ones(1))
    assert float(jnp.exp(state.total.log_shrinkage)) == pytest.approx(left)


def test_fraction_and_total_are_found_from_above():
    params, gradients = problem(3)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), record(dwd.adamw(COSINE, 0.1, peak_learning_rate=0.03))
    )
    _, states = trained(optimizer, params, gradients)
    fraction = optax.tree.get(states, "fraction")
    np.testing.assert_allclose(fraction, 0.1 / 0.03 * lr64(np.arange(3)), rtol=1e-6)
    np.testing.assert_allclose(optax.tree.get(states, "total").c, fraction, rtol=1e-7)


def test_under_vmap_it_is_a_loop():
    params, gradients = jax.tree.map(jnp.asarray, problem(3))

    def run(lam):
        return trained(record(dwd.adamw(0.03, lam)), params, gradients)[1]

    def traced(lam):
        optimizer = record(dwd.adamw(0.03, lam))
        state = optimizer.init(params)
        p = params
        for t in range(3):
            updates, state = optimizer.update(jax.tree.map(lambda g: g[t], gradients), state, p)  # noqa: B023
            p = optax.apply_updates(p, updates)
        return state.total

    strengths = np.array([0.01, 0.3], np.float32)
    together = jax.jit(jax.vmap(traced))(strengths)
    for i, lam in enumerate(strengths):
        alone = jax.tree.map(lambda x: x[-1], run(float(lam)).total)
        one = jax.tree.map(lambda x: x[i], together)  # noqa: B023
        chex.assert_trees_all_close(one, alone, rtol=1e-4, atol=1e-6)


def two_links():
    kernels, biases = dwd.masks.matrices(), {"bias": True, "kernel": False}
    corrected = {"learning_rate": COSINE, "peak_learning_rate": 0.03, "coupling": dwd.CORRECTED}
    return optax.chain(
        optax.adam(COSINE),
        dwd.decay_weights(2.0, mask=kernels, **corrected),
        dwd.decay_weights(1.0, learning_rate=COSINE, coupling=dwd.LR, mask=biases),
    )


def partitioned():
    groups = {
        "kernel": dwd.decouple(
            optax.adam(COSINE), 2.0, coupling=dwd.CORRECTED, learning_rate=COSINE,
            peak_learning_rate=0.03,
        ),
        "bias": dwd.adamw(COSINE, 1.0, coupling=dwd.LR),
    }  # fmt: skip
    return optax.partition(groups, {name: name for name in SHAPES})


@pytest.mark.parametrize("make", [two_links, partitioned])
def test_several_decays_are_put_together(make):
    params, gradients = problem(10)
    path, states = trained(record(make()), params, gradients)
    rows = recorded(states, params)
    lr = lr64(np.arange(10))
    np.testing.assert_allclose(rows["kernel"].c, 2.0 * lr**2 / 0.03, rtol=1e-5)
    np.testing.assert_allclose(rows["bias"].c, 1.0 * lr, rtol=1e-5)
    np.testing.assert_allclose(states.total.c, np.maximum(rows["kernel"].c, rows["bias"].c))
    for name, row in rows.items():
        norms = np.linalg.norm(path[name][:-1].reshape(10, -1), axis=1)
        np.testing.assert_allclose(row.decay_norm, row.c * norms, rtol=1e-5)
        plain = expected_adamw(params[name], gradients[name][:1], 0.0, 0.0, lr64, 0.03)
        np.testing.assert_allclose(row.update_norm[0], plain.update_norm[0], rtol=1e-5)
        np.testing.assert_allclose(row.lr, lr, rtol=1e-6)


def test_a_group_without_decay_is_recorded_too():
    groups = {"kernel": dwd.adamw(0.03, 0.1), "bias": optax.sgd(0.5)}
    params, gradients = problem(2)
    optimizer = record(optax.partition(groups, {name: name for name in SHAPES}))
    _, states = trained(optimizer, params, gradients)
    rows = recorded(states, params)
    np.testing.assert_array_equal(rows["bias"].c, 0)
    np.testing.assert_array_equal(rows["bias"].lr, 0)
    np.testing.assert_allclose(states.total.lr, 0.03, rtol=1e-6)
    norms = 0.5 * np.linalg.norm(gradients["bias"], axis=1)
    np.testing.assert_allclose(rows["bias"].update_norm, norms, rtol=1e-5)


def test_inside_multi_steps_and_around_injected_hyperparameters():
    params, gradients = problem(4)
    optimizer = optax.MultiSteps(record(dwd.adamw(0.03, 0.1)), 2).gradient_transformation()
    _, states = trained(optimizer, params, gradients)
    np.testing.assert_allclose(
        optax.tree.get(states, "total").log_shrinkage, np.log(0.9) * np.array([0, 1, 1, 2])
    )
    injected = record(optax.inject_hyperparams(dwd.adamw)(0.03, 0.1, peak_learning_rate=0.03))
    _, states = trained(injected, params, gradients)
    np.testing.assert_allclose(states.total.lam, 0.1, rtol=1e-6)
    np.testing.assert_allclose(optax.tree.get(states, "learning_rate"), 0.03, rtol=1e-6)


def test_leaves_that_do_not_train_or_have_no_gradient():
    params = {"w": jnp.ones(2), "idle": jnp.ones(2), "ids": jnp.arange(3), "none": None}
    g = {"w": jnp.ones(2), "idle": None, "ids": jnp.zeros(3, jnp.int32), "none": None}
    optimizer = record(dwd.decouple(optax.identity(), 0.1))
    _, state = optimizer.update(g, optimizer.init(params), params)
    rows = recorded(state, params)
    assert list(rows) == ["idle", "w"]
    assert float(rows["idle"].c) == float(rows["idle"].update_norm) == 0
    assert float(rows["w"].c) == pytest.approx(0.1)
    chex.assert_tree_all_finite(state.total._replace(lr=0.0))


def test_zero_weights_have_no_angle_and_empty_trees_pass():
    optimizer = record(dwd.sgdw(0.1, 0.1))
    _, state = optimizer.update(jnp.ones(2), optimizer.init(jnp.zeros(2)), jnp.zeros(2))
    assert (float(state.total.angle), float(state.total.growth)) == (0, 0)
    _, state = optimizer.update({}, optimizer.init({}), {})
    assert recorded(state, {}) == {}


def test_complex_weights():
    params = jnp.array([3.0 + 4.0j])
    optimizer = record(dwd.sgdw(0.5, 0.1, momentum=0.0))
    _, state = optimizer.update(1j * params, optimizer.init(params), params)
    row = state.total
    numbers = [float(x) for x in (row.weight_norm, row.update_norm, row.decay_norm, row.angle)]
    assert numbers == pytest.approx([5, 2.5, 0.5, np.arctan2(0.5, 0.9)], rel=1e-6)


def test_buffers_are_donated_and_shapes_are_enough_for_init():
    params, gradients = problem(1)
    params, g = jax.tree.map(jnp.asarray, (params, jax.tree.map(lambda x: x[0], gradients)))
    optimizer = record(dwd.adamw(0.03, 0.1))
    state = optimizer.init(params)
    shapes = jax.eval_shape(optimizer.init, jax.eval_shape(lambda: params))
    chex.assert_trees_all_equal_shapes_and_dtypes(shapes, state)
    jax.jit(optimizer.update, donate_argnums=(0, 1))(g, state, params)
    kept = [leaf for key in ("mu", "nu") for leaf in jax.tree.leaves(optax.tree.get(state, key))]
    assert len(kept) == 4
    assert all(leaf.is_deleted() for leaf in kept)


def test_map_params_leaves_the_record_alone():
    params = jax.tree.map(jnp.asarray, problem(1)[0])
    optimizer = record(dwd.adamw(0.03, 0.1))
    state = optimizer.init(params)
    marked = optax.tree.map_params(optimizer, lambda p: "param", state)
    assert jax.tree.leaves(marked.inner).count("param") == 4
    chex.assert_trees_all_equal(marked.total, state.total)
    chex.assert_trees_all_equal(marked.leaves, state.leaves)


def trained_total(strength, rounding=None, recorded_too=True, dtype=jnp.float32, **options):
    """The sum of the squares after five steps of AdamW as a function of λ and the start."""

    def run(strength, start):
        optimizer = dwd.adamw(0.03, strength, rounding=rounding, eps=1e-4)
        optimizer = record(optimizer, **options) if recorded_too else optimizer

        def step(carry, g):
            p, state = carry
            updates, state = optimizer.update(g, state, p)
            return (optax.apply_updates(p, updates), state), None

        start = start.astype(dtype)
        gradients = jnp.cos(jnp.arange(30.0)).reshape(5, 2, 3).astype(dtype)
        (last, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), gradients)
        return jnp.sum(jnp.square(last.astype(jnp.float32)))

    return run


STARTS = {"ones": jnp.ones((2, 3)), "zeros": jnp.zeros((2, 3))}


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("compiled", [True, False])
def test_derivatives_through_training_are_those_without_the_record(every, start, compiled):
    with_, without = trained_total(0.1, every=every), trained_total(0.1, recorded_too=False)
    for derivative in (
        lambda f: jax.grad(f, argnums=(0, 1)),
        lambda f: lambda *x: jax.jvp(f, x, (1.0, jnp.ones((2, 3)))),
        lambda f: jax.hessian(f),
    ):
        got, expected = (
            (jax.jit(derivative(f)) if compiled else derivative(f))(0.1, STARTS[start])
            for f in (with_, without)
        )
        chex.assert_tree_all_finite(got)
        chex.assert_trees_all_close(got, expected, rtol=1e-5, atol=1e-7)


def test_derivatives_of_one_eager_step_at_zero_weights_and_gradients():
    optimizer = record(dwd.sgdw(0.1, 0.1))
    zeros = jnp.zeros(3)

    def moved(params, gradients):
        return optimizer.update(gradients, optimizer.init(params), params)

    tangents = jax.jvp(lambda p: moved(p, zeros), (zeros,), (jnp.ones(3),))[1]
    np.testing.assert_allclose(tangents[0], -0.1, rtol=1e-6)
    slope = jax.grad(lambda p: sum(jax.tree.leaves(moved(p, p)[1].total)))(zeros)
    np.testing.assert_array_equal(slope, 0)


SLOW = [pytest.param(shape, marks=pytest.mark.slow) for shape in ((2**25,), (2**25, 1), (1, 2**25))]
LONG = [(3, 2**24 + 1), *SLOW]


@pytest.mark.parametrize("shape", LONG, ids=str)
def test_sums_are_exact_whatever_the_shape(shape):
    """Against closed forms in float64: norms of weights, step and decay, and the share that loses its decay."""
    size = int(np.prod(shape))
    # towards 0.97 the decay of a weight of 1 is 2.3e-4, which bfloat16 cannot hold; towards 0 it is 2^-7
    params = jnp.full(shape, 1.0, jnp.bfloat16)
    target = jnp.where(jnp.arange(size).reshape(shape) % 5 < 2, 0.0, 0.97).astype(jnp.float32)
    optimizer = record(dwd.sgdw(0.1, 2.0**-7, momentum=0.0, rule=dwd.rules.towards(target)))
    gradients = jnp.full(shape, 0.01, jnp.bfloat16)
    state = jax.jit(lambda: optimizer.init(params))()
    total = jax.jit(lambda: optimizer.update(gradients, state, params)[1].total)()
    zeros = int((np.arange(size) % 5 < 2).sum())
    pull = np.float32(1) - np.float32(0.97)
    norm = 2.0**-7 * np.sqrt(zeros + (size - zeros) * float(pull) ** 2)
    assert float(total.weight_norm) == pytest.approx(np.sqrt(size), rel=1e-6)
    assert float(total.update_norm) == pytest.approx(
        0.1 * float(gradients.ravel()[0]) * np.sqrt(size), rel=1e-5
    )
    assert float(total.decay_norm) == pytest.approx(norm, rel=1e-5)
    assert float(total.lost) == pytest.approx(1 - zeros / size, abs=1e-6)


@pytest.mark.parametrize(
    "shape", [(), (0,), (1,), (3, 0), (513,), (7, 1031), (600, 2), (2, 3, 5, 700), (1, 1, 1, 1025)]
)
def test_every_weight_is_counted_once(shape):
    params = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    optimizer = record(dwd.sgdw(0.5, 0.1, momentum=0.0))
    _, state = optimizer.update(2 * params, optimizer.init(params), params)
    norm = np.linalg.norm(np.asarray(params, np.float64).ravel())
    got = [float(x) for x in (state.total.weight_norm, state.total.update_norm)]
    assert got == pytest.approx([norm, norm], rel=1e-6)


def strict(optimizer):
    """An optimiser that takes no keyword which it does not know."""

    def update(updates, state, params=None, *, value=0.0):
        return optimizer.update(updates, state, params)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


@pytest.mark.parametrize(
    "make",
    [lambda: strict(dwd.adamw(0.1, 0.1)), lambda: dwd.decouple(strict(optax.adam(0.1)), 0.1)],
)
def test_no_optimiser_sees_a_keyword_that_it_did_not_ask_for(make):
    optimizer = record(make())
    updates, state = optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS, value=1.0)
    assert float(state.total.c) == pytest.approx(0.1)
    assert "applied" not in dwd.transforms.DecayWeightsState._fields
    chex.assert_trees_all_equal(updates, make().update(PARAMS, make().init(PARAMS), PARAMS)[0])


def test_a_record_within_the_training_of_another_keeps_to_its_own():
    """The inner optimiser trains something by itself, with a record around that."""
    own = record(dwd.sgdw(0.5, 0.3))

    def update(updates, state, params=None, **extra):
        theta = jnp.ones(2)
        _, state_of_own = own.update(theta, own.init(theta), theta)
        assert float(state_of_own.total.c) == pytest.approx(0.3)
        return optimizer.update(updates, state, params)

    optimizer = dwd.sgdw(0.5, 0.1)
    outer = record(optax.GradientTransformationExtraArgs(optimizer.init, update))
    _, state = outer.update(PARAMS, outer.init(PARAMS), PARAMS)
    assert float(state.total.c) == pytest.approx(0.1)


def test_threads_keep_to_their_own():
    def run(c):
        optimizer = record(dwd.sgdw(0.5, c))
        state = optimizer.init(jnp.ones(3))
        for _ in range(20):
            _, state = optimizer.update(jnp.ones(3), state, jnp.ones(3))
        return float(state.total.c)

    strengths = [0.1, 0.2, 0.3, 0.4]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, strengths)) == pytest.approx(strengths)


def test_an_error_inside_leaves_nothing_behind():
    optimizer = record(dwd.sgdw(0.5, 0.1))
    with pytest.raises(TypeError, match="missing"):
        record(strict(optimizer)).update()
    assert dwd.transforms._OBSERVED.get() is None


@pytest.mark.parametrize("compiled", [True, False])
def test_a_learning_rate_that_was_not_told_is_no_nan(compiled):
    optimizer = record(dwd.decouple(optax.lion(0.1, weight_decay=0.0), 0.1), every=2)
    update = jax.jit(optimizer.update) if compiled else optimizer.update
    with jax.debug_nans(True):
        state = optimizer.init(PARAMS)
        for _ in range(3):
            _, state = update(PARAMS, state, PARAMS)
        for c in (1.0, 1.5):
            large = record(dwd.sgdw(0.1, c))
            large.update(PARAMS, large.init(PARAMS), PARAMS)
    assert float(state.total.lr) == 0
    chex.assert_tree_all_finite(state)


@pytest.mark.parametrize("every", [1, 1000])
def test_a_step_copies_no_moments_and_writes_no_step_to_memory(every):
    """Temporaries of a donated step are far below one weight's 4 bytes, as without a record."""
    params = {"kernel": jax.ShapeDtypeStruct((512, 2048), jnp.float32)}
    optimizer = record(dwd.adamw(1e-3, 1e-4), every=every)

    def step(params, state, gradients):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    arguments = params, jax.eval_shape(optimizer.init, params), params
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*arguments).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 0.1 * 4 * 512 * 2048


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 2])
def test_weights_that_are_split_over_devices(every):
    program = f"""
        import os
        os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
        import jax, jax.numpy as jnp, decoupled_wd as dwd
        from jax.sharding import NamedSharding, PartitionSpec as P
        mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
        optimizer = dwd.record(dwd.adamw(0.01, 0.01), every={every})
        params = jax.random.normal(jax.random.key(0), (64, 2048))
        gradients, state = jnp.cos(params), optimizer.init(params)
        alone = jax.jit(optimizer.update)(gradients, state, params)[1].total
        for spec in (P("d"), P(None, "d")):
            put = lambda x: jax.device_put(x, NamedSharding(mesh, spec))
            update = jax.jit(optimizer.update)
            arguments = put(gradients), jax.jit(optimizer.init)(put(params)), put(params)
            spread = update(*arguments)[1].total
            for a, b in zip(alone, spread):
                assert abs(a - b) <= 1e-5 * abs(a) + 1e-9, (spec, a, b)
            assert "all-gather" not in update.lower(*arguments).compile().as_text()
        step = lambda g, p: optimizer.update(g, optimizer.init(p), p)[0]
        mapped = jax.shard_map(step, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
        assert jnp.allclose(jax.jit(mapped)(gradients, params), step(gradients, params), 1e-5)
        print("spread")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert done.stdout == "spread\n", done.stderr


def test_one_function_is_traced_for_each_shape():
    def equations(leaves):
        params = {f"w{i}": jax.ShapeDtypeStruct((3, 4 + i % 2), jnp.float32) for i in range(leaves)}
        optimizer = record(dwd.adamw(1e-3, 1e-4), every=100)
        state = jax.eval_shape(optimizer.init, params)
        text = jax.jit(optimizer.update).lower(params, state, params).as_text()
        return text.count("stablehlo.reduce(")

    assert equations(4) == equations(40)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: record(dwd.adamw), TypeError, "inner must be a GradientTransformation"),
        (lambda: record(dwd.adamw(0.1, 0.1), every=0), ValueError, "every must be finite and >= 1"),
        (lambda: record(optax.adamw(0.1)).init(PARAMS), ValueError, r"decouple\(inner, 0.0\)"),
        (
            lambda: record(record(dwd.adamw(0.1, 0.1))).init(PARAMS),
            ValueError,
            "record once, around the whole",
        ),
        (
            lambda: record(dwd.adamw(ALPHA, LAMBDA)).update(
                PARAMS, record(dwd.adamw(ALPHA, LAMBDA)).init(PARAMS)
            ),
            ValueError,
            "record needs the weights",
        ),
        (
            lambda: recorded(dwd.adamw(0.1, 0.1).init(PARAMS), PARAMS),
            ValueError,
            "one record of 3 leaves",
        ),
        (
            lambda: recorded(record(dwd.adamw(0.1, 0.1)).init(PARAMS), PARAMS["dense"]),
            ValueError,
            r"one record of 2 leaves, got records of shapes \[\(3,\)\]",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_python_numbers_are_weights_as_in_optax():
    optimizer, params = record(dwd.sgdw(0.5, 0.25)), {"b": 0.5, "w": 2.0}
    _, state = optimizer.update({"b": 1.0, "w": 1.0}, optimizer.init(params), params)
    norms = [float(row.decay_norm) for row in recorded(state, params).values()]
    assert norms == pytest.approx([0.125, 0.5])
