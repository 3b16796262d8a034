"""AdaBound against a literal transcription in NumPy float64, and at both ends of its bounds."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import decoupled_wd as dwd
from decoupled_wd.preconditioners import scale_by_adabound

STEPS = 300
PEAK, FINAL = 0.02, 0.1


def run(link, gradients, dtype=None):
    """Every step that `link` emits, compiled."""
    params = jax.tree.map(lambda g: jnp.zeros(g.shape[1:], dtype or g.dtype), gradients)

    def step(state, g):
        updates, state = link.update(g, state, params)
        return state, updates

    return jax.jit(lambda s: jax.lax.scan(step, s, gradients))(link.init(params))


def reference(gradients, *, lr, base_lr, final_lr, gamma, beta1=0.9, beta2=0.999, eps=1e-8):
    """The authors' code line by line; lr(step) with step = 1, 2, …; also how often each bound was met."""
    m = np.zeros(gradients.shape[1:])
    v = np.zeros(gradients.shape[1:])
    steps, met = [], np.zeros(2, int)
    for step, grad in enumerate(gradients, start=1):
        m = m * beta1 + (1 - beta1) * grad
        v = v * beta2 + (1 - beta2) * grad * grad
        denom = np.sqrt(v) + eps
        bias_correction1 = 1 - beta1**step
        bias_correction2 = 1 - beta2**step
        step_size = lr(step) * np.sqrt(bias_correction2) / bias_correction1
        final = final_lr * lr(step) / base_lr
        lower_bound = final * (1 - 1 / (gamma * step + 1))
        upper_bound = final * (1 + 1 / (gamma * step))
        rate = step_size / denom
        met += [(rate < lower_bound).sum(), (rate > upper_bound).sum()]
        steps.append(np.clip(rate, lower_bound, upper_bound) * m)
    return np.stack(steps), met


def gradients_of(seed=0, size=48):
    """Sizes from 1e-4 to 1e2, so that both bounds are met."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(STEPS, size)) * 10.0 ** rng.uniform(-4, 2, size)


def cosine(step):
    return PEAK * (0.5 + 0.5 * np.cos(np.pi * (step - 1) / STEPS))


RATES = {
    "constant": (PEAK, {}, lambda step: PEAK),
    "cosine": (optax.cosine_decay_schedule(PEAK, STEPS), {"peak_learning_rate": PEAK}, cosine),
}


@pytest.mark.parametrize("gamma", [1e-3, 0.3])
@pytest.mark.parametrize("schedule", RATES)
def test_it_is_the_authors_code_in_float64(x64, schedule, gamma):
    lr, peak, literal = RATES[schedule]
    gradients = gradients_of()
    link = scale_by_adabound(learning_rate=lr, final_learning_rate=FINAL, gamma=gamma, **peak)
    _, steps = run(link, jnp.asarray(gradients))
    expected, met = reference(
        gradients, lr=literal, base_lr=PEAK, final_lr=FINAL, gamma=gamma, eps=1e-8
    )
    assert (met > 100).all(), "the case must reach both bounds"
    np.testing.assert_allclose(steps, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_it_is_the_authors_code_in_float32_whatever_the_gradients(dtype):
    numbers = {"learning_rate": PEAK, "final_learning_rate": FINAL, "gamma": 0.05}
    gradients = jnp.asarray(gradients_of(), dtype)
    state, steps = run(scale_by_adabound(0.8, 0.95, 1e-6, **numbers), gradients)
    expected, _ = reference(
        np.asarray(gradients, np.float64),
        lr=lambda step: PEAK,
        base_lr=PEAK,
        final_lr=FINAL,
        gamma=0.05,
        beta1=0.8,
        beta2=0.95,
        eps=1e-6,
    )
    assert {leaf.dtype for leaf in (steps, state.mu, state.nu)} == {jnp.dtype("float32")}
    scale = np.abs(expected).max(axis=0)  # of each weight, since m passes through zero
    np.testing.assert_allclose(steps / scale, expected / scale, rtol=0, atol=1e-6)


def test_open_bounds_are_adam(x64):
    gradients = jnp.asarray(gradients_of())
    link = scale_by_adabound(eps=0.0, learning_rate=PEAK, gamma=1e-15)
    _, adam = run(dwd.scale_by_adam(eps=0.0), gradients)
    np.testing.assert_allclose(run(link, gradients)[1], PEAK * adam, rtol=1e-12)


def test_closed_bounds_are_momentum(x64):
    gradients = jnp.asarray(gradients_of())
    link = scale_by_adabound(learning_rate=PEAK, final_learning_rate=FINAL, gamma=1e15)
    _, momentum = run(dwd.scale_by_momentum(0.9, learning_rate=FINAL * (1 - 0.9)), gradients)
    np.testing.assert_allclose(run(link, gradients)[1], momentum, rtol=1e-12, atol=1e-16)


def test_the_schedule_scales_the_bounds_by_its_peak_and_not_by_its_first_value(x64):
    """The authors' base_lr is the constructor's, which a warm-up from 0 turns into a division by zero."""
    gradients = jnp.asarray(gradients_of())

    def warmup(count):
        return PEAK * jnp.minimum(count / 50.0, 1.0)  # optax.linear_schedule divides in float32

    link = scale_by_adabound(learning_rate=warmup, peak_learning_rate=PEAK, gamma=1e-2)
    constant = scale_by_adabound(learning_rate=PEAK, gamma=1e-2)
    _, warm = run(link, gradients)
    eta = np.minimum(np.arange(STEPS) / 50, 1)[:, None]
    np.testing.assert_allclose(warm, eta * run(constant, gradients)[1], rtol=1e-12, atol=1e-15)
    assert not np.asarray(warm[0]).any()


def test_its_state_is_adams_and_so_are_its_habits():
    params = {"w": jnp.ones(2), "z": jnp.array([3 + 4j]), "steps": jnp.array([1]), "none": None}
    link = scale_by_adabound(learning_rate=PEAK, mu_dtype=jnp.bfloat16)
    state = link.init(params)
    adam = dwd.scale_by_adam(mu_dtype=jnp.bfloat16).init(params)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, adam)
    steps, after = link.update(params, state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    assert steps["steps"] is params["steps"]
    np.testing.assert_allclose(steps["z"] / abs(steps["z"]), (3 + 4j) / 5, rtol=1e-4)
    absent, after = link.update(params | {"w": None}, state, params)
    assert absent["w"] is None
    chex.assert_trees_all_equal(after.nu["w"], state.nu["w"])


def test_numbers_may_be_traced():
    g = jnp.array([4.0, -1e-3])

    def step(lr, final, gamma):
        link = scale_by_adabound(
            learning_rate=lr, peak_learning_rate=lr, final_learning_rate=final, gamma=gamma
        )
        return link.update(g, link.init(g))[0]

    rows = jnp.array([[1e-3, 0.1, 1e-3], [1e-2, 0.5, 1.0]])
    together = jax.jit(jax.vmap(step))(*rows.T)
    apart = [step(*map(float, row)) for row in rows]
    np.testing.assert_allclose(together, apart, rtol=1e-5)


def test_with_decoupled_decay(x64):
    """AdaBoundW with the paper's coupling: the step as above, then the decay of the pre-step weight."""
    gradients = gradients_of(size=5)
    link = scale_by_adabound(learning_rate=PEAK, gamma=0.1)
    optimizer = dwd.decouple(optax.chain(link, optax.scale(-1)), 0.01)
    expected, _ = reference(gradients, lr=lambda t: PEAK, base_lr=PEAK, final_lr=FINAL, gamma=0.1)
    params = theta = np.ones(5)
    state = optimizer.init(jnp.asarray(params))
    update = jax.jit(optimizer.update)
    for g, step in zip(gradients, expected, strict=True):
        updates, state = update(jnp.asarray(g), state, jnp.asarray(params))
        params = optax.apply_updates(jnp.asarray(params), updates)
        theta = theta - step - 0.01 * theta
    np.testing.assert_allclose(params, theta, rtol=1e-11)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"learning_rate": "1"}, "learning_rate"),
        ({"learning_rate": optax.constant_schedule(0.1)}, "pass peak_learning_rate="),
        ({"learning_rate": 0.1, "final_learning_rate": 0.0}, "final_learning_rate"),
        ({"learning_rate": 0.1, "final_learning_rate": lambda t: 0.1}, "final_learning_rate"),
        ({"learning_rate": 0.1, "gamma": 0.0}, "gamma must be finite and > 0"),
        ({"learning_rate": 0.1, "gamma": float("nan")}, "gamma"),
        ({"learning_rate": 0.1, "b2": 1.0}, "b2"),
        ({"learning_rate": 0.1, "eps": -1e-8}, "eps"),
    ],
)
def test_a_wrong_number_is_refused_by_name(options, name):
    with pytest.raises((TypeError, ValueError), match=name):
        scale_by_adabound(**options)
