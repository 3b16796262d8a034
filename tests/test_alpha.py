"""α is never guessed: inside wrappers that rebuild an optimiser at every step the decay is right, or an error."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import enable_x64

import decoupled_wd as dwd

STEPS, PEAK, LAMBDA = 6, 0.1, 0.02
PARAMS = {"w": jnp.array([1.0, -2.0]), "b": jnp.array([0.5])}
STILL = jax.tree.map(jnp.zeros_like, PARAMS)
COSINE = optax.cosine_decay_schedule(PEAK, 10)
FALLING = optax.linear_schedule(LAMBDA, LAMBDA / 2, 10)
COUPLINGS = {
    "PAPER": dwd.PAPER,
    "LR": dwd.LR,
    "CONSTANT": dwd.CONSTANT,
    "CORRECTED": dwd.CORRECTED,
    "SQUARED": dwd.SQUARED,
    "peak alone": dwd.Coupling(1, 0),
    "roots": dwd.Coupling(0.5, 1.5),
}
TIMES = {
    "numbers": (PEAK, LAMBDA),
    "learning rate": (COSINE, LAMBDA),
    "decay": (PEAK, FALLING),
    "both": (COSINE, FALLING),
}


def lion(learning_rate, weight_decay, coupling=dwd.PAPER, peak_learning_rate=None):
    told = {"learning_rate": learning_rate, "peak_learning_rate": peak_learning_rate}
    inner = optax.lion(learning_rate, weight_decay=0.0)
    return dwd.decouple(inner, weight_decay, coupling=coupling, **told)


def chain(learning_rate, weight_decay, coupling=dwd.PAPER, peak_learning_rate=None):
    told = {"learning_rate": learning_rate, "peak_learning_rate": peak_learning_rate}
    decay = dwd.decay_weights(weight_decay, coupling=coupling, **told)
    return optax.chain(optax.sgd(learning_rate), decay)


MAKERS = {"adamw": dwd.adamw, "sgdw": dwd.sgdw, "decouple": lion, "decay_weights": chain}


def number_at(value, t):
    return float(value(t)) if callable(value) else value


def fractions(learning_rate, weight_decay, coupling):
    """c_t of the first steps, in float64 from the formula."""
    lr = np.array([number_at(learning_rate, t) for t in range(STEPS)])
    lam = np.array([number_at(weight_decay, t) for t in range(STEPS)])
    return lam * PEAK**coupling.p * (lr / PEAK) ** coupling.s


def idle(optimizer, compiled=True):
    """What is left of the weights without gradients, step by step, as a share of the start."""
    update = jax.jit(optimizer.update) if compiled else optimizer.update
    params, state, left = PARAMS, optimizer.init(PARAMS), []
    for _ in range(STEPS):
        updates, state = update(STILL, state, params)
        params = optax.apply_updates(params, updates)
        left.append(float(params["w"][0] / PARAMS["w"][0]))
    return left, state


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("make", MAKERS)
def test_injected_decay_is_annealed_by_the_formula(make, coupling, times):
    pair = COUPLINGS[coupling]
    wrapped = optax.inject_hyperparams(MAKERS[make])
    injected = wrapped(*TIMES[times], coupling=pair, peak_learning_rate=PEAK)
    expected = np.cumprod(1 - fractions(*TIMES[times], pair))
    np.testing.assert_allclose(idle(injected)[0], expected, rtol=2e-6)
    if make == "adamw":  # eager steps see a concrete learning rate
        np.testing.assert_allclose(idle(injected, compiled=False)[0], expected, rtol=2e-6)


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("make", MAKERS)
def test_injected_without_a_peak_is_right_or_an_error(make, coupling, times):
    pair = COUPLINGS[coupling]
    injected = optax.inject_hyperparams(MAKERS[make])(*TIMES[times], coupling=pair)
    if pair.p != pair.s:
        with pytest.raises(ValueError, match=r"JAX array.*peak_learning_rate=learning_rate"):
            injected.init(PARAMS)
        return
    expected = np.cumprod(1 - fractions(*TIMES[times], pair))
    np.testing.assert_allclose(idle(injected)[0], expected, rtol=2e-6)


@pytest.mark.parametrize("make", [dwd.sgd, dwd.adam])
@pytest.mark.parametrize("times", TIMES)
def test_injected_l2_is_that_of_the_schedules(make, times):
    injected = idle(optax.inject_hyperparams(make)(*TIMES[times]))[0]
    np.testing.assert_allclose(injected, idle(make(*TIMES[times]))[0], rtol=1e-5)


@pytest.mark.parametrize("make", [dwd.sgdwr, dwd.adamwr])
def test_injected_restarts_keep_the_decay_of_their_own_schedule(make):
    """Their learning rate *is* the peak: a schedule of it moves the steps, and not c = λ·η."""
    run = {"batch_size": 1, "dataset_size": 4, "first_cycle_epochs": 1}
    wrapped = optax.inject_hyperparams(make, static_args=(*run, "cycle_factor"))
    plain = idle(make(PEAK, LAMBDA, **run))[0]
    for peak in (PEAK, COSINE):
        np.testing.assert_allclose(idle(wrapped(peak, LAMBDA, **run))[0], plain, rtol=2e-6)


@pytest.mark.parametrize("make", [dwd.adamw, dwd.sgdw])
def test_a_rate_traced_anew_at_every_step_needs_its_peak(make):
    @jax.jit
    def step(rate, state):
        return make(rate, LAMBDA, **peak).update(STILL, state, PARAMS)

    peak, state = {}, make(PEAK, LAMBDA).init(PARAMS)
    with pytest.raises(ValueError, match="peak_learning_rate="):
        step(PEAK / 2, state)
    peak = {"peak_learning_rate": PEAK}
    updates, state = jax.jit(step.__wrapped__)(PEAK / 2, state)
    np.testing.assert_allclose(updates["w"], -LAMBDA / 2 * PARAMS["w"], rtol=1e-6)


def test_a_rate_set_by_hand_moves_the_decay_with_it():
    optimizer = optax.inject_hyperparams(dwd.adamw)(PEAK, LAMBDA, peak_learning_rate=PEAK)
    state = optimizer.init(PARAMS)
    state.hyperparams["learning_rate"] = jnp.asarray(PEAK / 4)
    updates, _ = optimizer.update(STILL, state, PARAMS)
    np.testing.assert_allclose(updates["w"], -LAMBDA / 4 * PARAMS["w"], rtol=1e-6)


@pytest.mark.parametrize("make", MAKERS)
def test_the_state_holds_the_learning_rate_for_the_log(make):
    optimizer = MAKERS[make](COSINE, LAMBDA, peak_learning_rate=PEAK)
    _, state = idle(optimizer)
    logged = optax.tree.get(state, "current_learning_rate")
    np.testing.assert_allclose(logged, float(COSINE(STEPS - 1)), rtol=1e-6)
    injected = optax.inject_hyperparams(MAKERS[make])(COSINE, LAMBDA, peak_learning_rate=PEAK)
    _, state = idle(injected)
    np.testing.assert_allclose(optax.tree.get(state, "current_learning_rate"), logged, rtol=1e-6)
    _, untold = idle(optax.chain(optax.sgd(COSINE), dwd.decay_weights(LAMBDA)))
    assert optax.tree.get(untold, "current_learning_rate") == 0


def test_a_schedule_that_decouple_was_not_told_of_is_said():
    for inner in (
        optax.adam(COSINE),
        optax.inject_hyperparams(optax.lion)(COSINE, weight_decay=0.0),
    ):
        with pytest.warns(UserWarning, match=r"not told.*same at every step.*learning_rate="):
            dwd.decouple(inner, LAMBDA).init(PARAMS)
        for said in (
            {"coupling": dwd.CONSTANT},
            {"learning_rate": COSINE, "peak_learning_rate": PEAK},
        ):
            dwd.decouple(inner, LAMBDA, **said).init(PARAMS)
    dwd.decouple(optax.adam(PEAK), LAMBDA).init(PARAMS)


def test_a_decay_inside_a_decay_is_refused():
    with pytest.raises(ValueError, match=r"inner decays already.*twice"):
        dwd.decouple(dwd.adamw(PEAK, LAMBDA), LAMBDA).init(PARAMS)


@pytest.mark.parametrize("count", [0, 3])
def test_a_peak_below_its_schedule_is_met_where_numbers_are_known(count):
    warm = optax.linear_schedule(0.0 if count else PEAK, PEAK, 3)
    with pytest.raises(
        ValueError, match=r"peak_learning_rate=0.001 is below the learning rate 0.1"
    ):
        dwd.PAPER.fraction(LAMBDA, warm, 1e-3)(count)


@pytest.mark.parametrize(
    ("value", "words"), [(-0.5, "got|returned -0.5 at step 2"), (np.nan, "returned nan at step 2")]
)
def test_a_schedule_that_leaves_its_range_is_met_where_numbers_are_known(value, words):
    late = lambda t: jnp.where(t == 2, value, 0.1)  # noqa: E731
    optimizer = dwd.adamw(0.1, late)
    state = optimizer.init(PARAMS)
    for _ in range(2):
        _, state = optimizer.update(STILL, state, PARAMS)
    with pytest.raises(ValueError, match=f"weight_decay must be finite and >= 0.*{words}"):
        optimizer.update(STILL, state, PARAMS)


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("torch", dwd.LR),
        ("torch.optim.AdamW", dwd.LR),
        ("keras.optimizers.AdamW", dwd.LR),
        ("optax.adamw", dwd.LR),
        ("optax.contrib.muon", dwd.LR),
        ("optax.adafactor", dwd.CONSTANT),
        ("composer.optim.DecoupledAdamW", dwd.PAPER),
        ("Paper", dwd.PAPER),
    ],
)
def test_frameworks_and_their_optimisers_are_couplings(name, pair):
    assert dwd.convert_weight_decay(0.3, from_=name, to=pair, learning_rate=0.01) == 0.3
    ours, theirs = (dwd.adamw(PEAK, LAMBDA, coupling=c) for c in (name, pair))
    assert idle(ours)[0] == idle(theirs)[0]


def test_pytorchs_sgd_under_a_schedule_is_a_chain():
    """The recipe of docs/coming-from.md beside PyTorch's own documentation of SGD, in float64."""
    rng = np.random.default_rng(0)
    noise, decay, momentum = rng.normal(size=(STEPS, 2)), 0.3, 0.9
    theta, buffer = np.array([1.0, -2.0]), None
    with enable_x64(True):
        optimizer = optax.chain(dwd.add_decayed_weights(decay), optax.sgd(COSINE, momentum))
        params = jnp.asarray(theta)
        state = optimizer.init(params)
        for t in range(STEPS):
            g = noise[t] + decay * theta
            buffer = g if buffer is None else momentum * buffer + g
            theta = theta - float(COSINE(t)) * buffer
            updates, state = optimizer.update(jnp.asarray(noise[t]), state, params)
            params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params, theta, rtol=1e-12)


def trained(optimizer, steps=300):
    """The weights of a small network after so many steps."""
    x = jax.random.normal(jax.random.key(0), (64, 8))
    y = jnp.sin(x.sum(1, keepdims=True))
    keys = jax.random.split(jax.random.key(1))
    params = {"a": jax.random.normal(keys[0], (8, 16)), "b": jax.random.normal(keys[1], (16, 1))}

    def step(carry, _):
        params, state = carry
        loss = jax.grad(lambda p: jnp.mean((jnp.tanh(x @ p["a"] / 3) @ p["b"] / 3 - y) ** 2))
        updates, state = optimizer.update(loss(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    carry = params, optimizer.init(params)
    return jax.jit(lambda c: jax.lax.scan(step, c, length=steps))(carry)[0][0]


def apart(one, other):
    """The largest difference, over the largest weight."""
    rows = jax.tree.leaves(
        jax.tree.map(lambda x, y: jnp.abs(x - y).max() / jnp.abs(y).max(), one, other)
    )
    return float(max(rows))


@pytest.mark.parametrize("coupling", [dwd.PAPER, dwd.LR])
def test_an_injected_optimiser_goes_the_way_of_the_plain_one(coupling):
    """What injection changes is the rounding of 1 − β2, as β2 becomes a float32; named static, it changes nothing."""
    rate = optax.constant_schedule(1e-2)
    options = {"weight_decay": 1e-3, "peak_learning_rate": 1e-2, "coupling": coupling}
    plain = trained(dwd.adamw(rate, **options))
    injected = optax.inject_hyperparams(dwd.adamw)
    assert apart(trained(injected(learning_rate=rate, **options)), plain) < 5e-5
    static = optax.inject_hyperparams(dwd.adamw, static_args=("b1", "b2", "eps"))
    assert apart(trained(static(learning_rate=rate, **options)), plain) < 3e-6
