"""Muon, a fixed norm, balls and whole runs: against simulations in NumPy, float64 loops and laws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import enable_x64

import decoupled_wd as dwd
from decoupled_wd import theory


def norm(x):
    """The norm of each weight of a batch, its axes kept."""
    return np.linalg.norm(x.reshape(len(x), -1), axis=1).reshape(-1, *[1] * (x.ndim - 1))


def angle(x, y):
    """The angle between each weight of two batches, exact for small ones."""
    x, y = x / norm(x), y / norm(y)
    return 2 * np.arcsin(norm(x - y) / 2).ravel()


def walk(step, theta, steps, rng):
    """Every norm and angle of a batch of weights, under random gradients orthogonal to them."""
    norms, angles = [], []
    for t in range(steps):
        g = rng.standard_normal(theta.shape)
        g -= theta * np.sum(theta * g, tuple(range(1, g.ndim)), keepdims=True) / norm(theta) ** 2
        new = step(t, theta, g)
        norms.append(norm(new).ravel())
        angles.append(angle(theta, new))
        theta = new
    return np.array(norms), np.array(angles)


def rms(x):
    return math.sqrt(np.mean(np.square(x)))


def polar(x):
    u, _, vt = np.linalg.svd(x, full_matrices=False)
    return u @ vt


def muon(lr, c, beta, nesterov, shape):
    m = np.zeros(shape)

    def step(t, theta, g):
        nonlocal m
        m = beta * m + (1 - beta) * g
        return (1 - c) * theta - lr * polar(beta * m + (1 - beta) * g if nesterov else m)

    return step


@pytest.mark.parametrize(
    ("shape", "momentum", "nesterov"),
    [((12, 12), 0.9, True), ((12, 12), 0.95, False), ((6, 24), 0.95, True), ((24, 6), 0.0, False)],
)
def test_muon_settles_where_the_formulas_say(shape, momentum, nesterov):
    lr, c = 0.1, 1e-3
    options = {"shape": shape, "momentum": momentum, "nesterov": nesterov}
    settled = theory.muon_norm(c, learning_rate=lr, **options)
    rng = np.random.default_rng(0)
    start = rng.standard_normal((6, *shape))
    start *= settled / norm(start)
    norms, angles = walk(muon(lr, c, momentum, nesterov, start.shape), start, 2000, rng)
    assert rms(norms[500:]) == pytest.approx(settled, rel=0.04)
    assert rms(angles[500:]) == pytest.approx(theory.muon_rotation(c, **options), rel=0.04)


def test_the_linear_part_of_a_square_matrix_and_of_a_vector():
    """8/(3π) is the mean singular value of a large square matrix; a vector has one singular value."""
    still = {"momentum": 0.999, "nesterov": False}
    wide = theory.muon_rotation(1e-3, shape=(1, 10**9), **still)
    assert wide == pytest.approx(theory.rotation(1e-3, 0.999), rel=1e-5)
    beta = 0.999
    kappa = (8 / (3 * math.pi)) ** 2
    together = 1 + 2 * (kappa * beta / (1 - beta) + (1 - kappa) * beta**3 / (1 - beta**3))
    square = theory.muon_rotation(1e-3, shape=(7, 7), **still)
    assert square == pytest.approx(math.sqrt(2e-3 / together), rel=1e-5)


@pytest.mark.slow
def test_optax_muon_settles_there_too():
    """Its iteration leaves singular values of 0.7 to 1.2, so the norm is that of its own step."""
    lr, c, shape = 1e-2, 1e-3, (16, 16)
    inner = optax.contrib.muon(lr, weight_decay=0.0)
    optimizer = dwd.record(dwd.decouple(inner, c))

    def run(key):
        start, noise = jax.random.split(key)

        def step(carry, key):
            theta, state = carry
            n = jax.random.normal(key, shape)
            g = n - theta * jnp.sum(theta * n) / jnp.sum(theta**2)
            updates, state = optimizer.update(g, state, theta)
            return (theta + updates, state), state.total.angle

        theta = jax.random.normal(start, shape)
        theta = theta * theory.muon_norm(c, learning_rate=lr, shape=shape) / jnp.linalg.norm(theta)
        carry = (theta, optimizer.init(theta))
        return jax.lax.scan(step, carry, jax.random.split(noise, 2000))[1]

    angles = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 6))
    expected = theory.muon_rotation(c, shape=shape)
    assert rms(np.asarray(angles)[:, 1000:]) == pytest.approx(expected, rel=0.06)


def adam_direction(beta1, shape, beta2=0.999):
    m, v = np.zeros(shape), np.zeros(shape)

    def direction(t, g):
        nonlocal m, v
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        return m / (1 - beta1 ** (t + 1)) / np.sqrt(v / (1 - beta2 ** (t + 1)))

    return direction


SIZE = 200


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_a_fixed_norm_turns_as_fast_as_the_decay_it_stands_for(beta):
    """Steps at fixed norm, beside AdamW at its equilibrium, both simulated."""
    lr, c, radius = 1e-2, 5e-4, 3.0
    rate = theory.hyperball_learning_rate(c, beta)
    rng = np.random.default_rng(0)
    start = rng.standard_normal((8, SIZE))
    direction = adam_direction(beta, start.shape)

    def hyperball(t, theta, g):
        u = direction(t, g)
        new = theta - rate * radius * u / norm(u)
        return radius * new / norm(new)

    norms, angles = walk(hyperball, radius * start / norm(start), 1200, rng)
    assert norms == pytest.approx(radius)
    assert rms(angles[300:]) == pytest.approx(theory.hyperball_rotation(rate), rel=0.01)

    decayed = adam_direction(beta, start.shape)
    settled = theory.adamw_norm(c, learning_rate=lr, size=SIZE)
    _, turned = walk(
        lambda t, theta, g: (1 - c) * theta - lr * decayed(t, g),
        settled * start / norm(start),
        2000,
        rng,
    )
    assert rms(angles[300:]) == pytest.approx(rms(turned[1000:]), rel=0.02)


@pytest.mark.parametrize("beta", [0.0, 0.9, np.array([0.5, 0.95])])
def test_the_rate_at_fixed_norm_and_the_fraction_are_inverses(beta):
    c = np.array([1e-6, 3e-3])
    rate = theory.hyperball_learning_rate(c, beta)
    np.testing.assert_allclose(theory.hyperball_fraction(rate, beta), c)
    np.testing.assert_allclose(jax.jit(theory.hyperball_rotation)(rate), np.arctan(rate), rtol=1e-6)
    assert theory.hyperball_learning_rate(0.0) == theory.hyperball_fraction(0.0) == 0


@pytest.mark.parametrize("name", ["lion", "sign", "muon"])
def test_the_ball_is_never_left_and_is_entered_from_outside(name):
    lr, c, steps = 0.1, 0.02, 400
    size = {"muon": lambda x: np.linalg.norm(x, 2)}.get(name, lambda x: np.abs(x).max())
    unit = {"muon": polar}.get(name, np.sign)
    radius = theory.ball_radius(c, learning_rate=lr)
    rng = np.random.default_rng(0)
    pull = rng.standard_normal((8, 5))
    for scale in (0.999, 3.0):
        theta = rng.standard_normal((8, 5))
        theta *= scale * radius / size(theta)
        for t in range(steps):
            # one direction throughout, the worst that can be, behind random ones
            u = unit(-pull if t > steps // 2 else rng.standard_normal((8, 5)))
            theta = (1 - c) * theta - lr * u
            assert size(theta) <= radius * (1 + max(scale - 1, 0) * (1 - c) ** (t + 1)) + 1e-9
        assert size(theta) == pytest.approx(radius, rel=0.03)


def test_lion_of_optax_stays_in_the_ball():
    lr, c = 0.1, 0.02
    optimizer = dwd.decouple(optax.lion(lr, weight_decay=0.0), c)
    radius = theory.ball_radius(c, learning_rate=lr)
    theta = jnp.full(3, 0.9 * radius)
    state = optimizer.init(theta)
    for _ in range(300):
        updates, state = optimizer.update(-jnp.ones(3), state, theta)
        theta = theta + updates
        assert float(jnp.abs(theta).max()) <= radius
    assert float(theta[0]) == pytest.approx(radius, rel=0.01)


PEAK, C, STEPS = 1e-2, 4e-3, 2500
SCHEDULE = optax.warmup_cosine_decay_schedule(0.0, PEAK, 250, STEPS)
COUPLINGS = {"PAPER": dwd.PAPER, "CONSTANT": dwd.CONSTANT, "SQUARED": dwd.SQUARED}


@pytest.mark.parametrize("name", COUPLINGS)
def test_the_norm_follows_the_recursion_under_a_schedule(name):
    """The whole path of AdamW's norm, which its fixed point misses by far."""
    coupling = COUPLINGS[name]
    lam = C / PEAK**coupling.p
    fraction = coupling.fraction(lam, SCHEDULE, PEAK)
    lrs = np.asarray(jax.vmap(SCHEDULE)(jnp.arange(STEPS)), np.float64)
    cs = lam * PEAK**coupling.p * (lrs / PEAK) ** coupling.s
    rng = np.random.default_rng(0)
    start = rng.standard_normal((12, SIZE))
    start *= 4.0 / norm(start)
    direction = adam_direction(0.9, start.shape)
    found, _ = walk(
        lambda t, theta, g: (1 - cs[t]) * theta - lrs[t] * direction(t, g), start, STEPS, rng
    )
    expected = theory.norms(SCHEDULE, fraction, STEPS, start=4.0, step_norm=SIZE**0.5)
    np.testing.assert_allclose(np.sqrt(np.mean(found**2, 1)), expected, rtol=0.04)
    if name == "CONSTANT":
        settled = theory.adamw_norm(C, learning_rate=lrs[-300], size=SIZE)
        assert expected[-300] > 2 * settled


@pytest.mark.parametrize("steps", [1, 7, 600])
def test_norms_are_a_loop_in_float64(steps, monkeypatch):
    monkeypatch.setattr("decoupled_wd.theory._schedules._BLOCK", 64)
    r, expected = 2.0, []
    for t in range(steps):
        lr, c = 0.3 / (1 + t), 0.01 * (1 + t % 5)
        r = math.sqrt(((1 - c) * r) ** 2 + (1.7 * lr) ** 2)
        expected.append(r)
    with enable_x64(True):
        got = theory.norms(
            lambda t: 0.3 / (1 + t), lambda t: 0.01 * (1 + t % 5), steps, start=2.0, step_norm=1.7
        )
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_norms_end_where_the_equilibrium_is():
    c, lr = 1e-3, 1e-2
    s = theory.adamw_norm(0.5, learning_rate=1, size=SIZE)
    end = theory.norms(lr, c, 20_000, start=1.0, step_norm=s)[-1]
    assert end == pytest.approx(theory.adamw_norm(c, learning_rate=lr, size=SIZE), rel=1e-3)
    s = theory.lion_norm(0.5, learning_rate=1, size=SIZE)
    end = theory.norms(lr, c, 20_000, start=1.0, step_norm=s)[-1]
    assert end == pytest.approx(theory.lion_norm(c, learning_rate=lr, size=SIZE), rel=1e-3)


@pytest.mark.parametrize("steps", [1, 5, 64, 65, 400])
def test_influence_is_a_product_over_later_steps(steps, monkeypatch):
    monkeypatch.setattr("decoupled_wd.theory._schedules._BLOCK", 64)
    t = np.arange(steps)
    lr, c = 0.3 / (1 + t), 0.01 * (1 + t % 5)
    weights = np.array([lr[i] * np.prod(1 - c[i + 1 :]) for i in t])
    with enable_x64(True):
        memory = theory.influence(lambda t: 0.3 / (1 + t), lambda t: 0.01 * (1 + t % 5), steps)
    np.testing.assert_allclose(memory.shares, weights / weights.sum(), rtol=1e-12)
    assert memory.shares.dtype == np.float64
    n = memory.half_life
    assert memory.shares[steps - n :].sum() >= 0.5 > memory.shares[steps - n + 1 :].sum()


def test_influence_is_what_a_step_changes_in_the_end():
    """The derivative of AdamW's final weight with respect to each step, through a run of the library."""
    steps, peak = 30, 0.1
    schedule = optax.cosine_decay_schedule(peak, steps + 1)
    decay = dwd.decay_weights(0.2, learning_rate=schedule, peak_learning_rate=peak)
    optimizer = optax.chain(optax.scale_by_learning_rate(schedule), decay)

    def final(gradients):
        def step(carry, g):
            theta, state = carry
            updates, state = optimizer.update(g, state, theta)
            return (theta + updates, state), None

        theta = jnp.array(1.0)
        return jax.lax.scan(step, (theta, optimizer.init(theta)), gradients)[0][0]

    slopes = -np.asarray(jax.grad(final)(jnp.zeros(steps)))
    shares = theory.influence(schedule, dwd.PAPER.fraction(0.2, schedule, peak), steps).shares
    np.testing.assert_allclose(shares, slopes / slopes.sum(), rtol=1e-5)


def test_the_half_life_of_a_long_run_is_that_of_an_idle_weight():
    for c in (1e-2, 3e-4):
        steps = round(30 / c)
        assert theory.influence(1.0, c, steps).half_life == math.ceil(theory.half_life(c))
    # without decay every step counts alike
    memory = theory.influence(0.1, 0.0, 1000)
    assert memory.half_life == pytest.approx(500, abs=1)
    np.testing.assert_allclose(memory.shares, 1e-3)


def test_ten_million_steps_and_shares_that_no_float_could_hold_unscaled():
    memory = theory.influence(1e-3, 1e-5, 10**7)
    assert memory.shares.sum() == pytest.approx(1, rel=1e-12)
    assert memory.half_life == math.ceil(theory.half_life(1e-5))
    # decay goes on for long after the last step that moves
    memory = theory.influence(lambda t: jnp.where(t < 3, 1.0, 0.0), 0.5, 5000)
    np.testing.assert_allclose(memory.shares[:3], np.array([1, 2, 4]) / 7)
    # a step that removes all leaves nothing of those before it
    memory = theory.influence(1.0, lambda t: jnp.where(t == 3, 1.0, 0.1), 5)
    np.testing.assert_allclose(memory.shares, [0, 0, 0, 0.9 / 1.9, 1 / 1.9], rtol=1e-6)
