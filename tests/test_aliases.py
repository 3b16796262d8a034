"""Every alias against the literal algorithms of the paper, optax and torch."""

import json
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from conftest import STEPS

import decoupled_wd as dwd

ALPHA = {"sgd": 0.05, "sgdw": 0.05, "adam": 1e-3, "adamw": 1e-3}
DECAY = {"sgd": 0.1, "sgdw": 0.005, "adam": 0.1, "adamw": 0.005}
ETAS = {"constant": reference.constant, "cosine": reference.cosine(STEPS)}
RATES = {
    "constant": lambda alpha: alpha,
    "cosine": lambda alpha: optax.cosine_decay_schedule(alpha, STEPS),
}


def alias(name, schedule):
    options = {"peak_learning_rate": ALPHA[name]} if name.endswith("w") else {}
    return getattr(dwd, name)(RATES[schedule](ALPHA[name]), DECAY[name], **options)


def oracle(name, problem, eta, weight_decay=None, **options):
    algorithm = reference.algorithm_1 if "sgd" in name else reference.algorithm_2
    return algorithm(
        problem.theta,
        problem.gradient,
        alpha=ALPHA[name],
        weight_decay=weight_decay or (lambda t: DECAY[name]),
        eta=eta,
        decoupled=name.endswith("w"),
        steps=STEPS,
        **({"beta1": 0.9} if "sgd" in name else {}),
        **options,
    )


# After 250 steps. Most of it is the first steps of Adam: 1 − β2^t in float32 is off by 5e-5 at t = 1, as in
# optax, which scale_by_adam equals bit for bit. A wrong order or coupling is off by thousands.
FEW_ULPS = 16


def ulps(got, expected):
    """Largest distance in units of the last place of the largest weight of float32."""
    return np.abs(got - expected).max() / np.spacing(np.float32(np.abs(expected).max()))


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("name", ["sgd", "sgdw", "adam", "adamw"])
def test_alias_is_the_papers_algorithm_in_float64(problem, x64, name, schedule):
    chex.assert_trees_all_close(
        problem.run(alias(name, schedule)),
        oracle(name, problem, ETAS[schedule]),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("name", ["sgd", "sgdw", "adam", "adamw"])
def test_alias_is_the_papers_algorithm_in_float32(problem, name, schedule):
    assert (
        ulps(problem.run(alias(name, schedule)), oracle(name, problem, ETAS[schedule])) <= FEW_ULPS
    )


RESTARTS = {"batch_size": 50, "dataset_size": 500, "first_cycle_epochs": 3, "cycle_factor": 2.0}


@pytest.mark.parametrize("name", ["sgdw", "adamw"])
def test_restarts_are_the_papers_algorithm_with_the_decay_of_each_cycle(problem, x64, name):
    optimizer = getattr(dwd, name + "r")(ALPHA[name], 0.05, **RESTARTS)
    multipliers, lengths = reference.warm_restarts(STEPS, 30, 2)
    decays = [reference.normalized(0.05, 50, 500, steps * 50 / 500) for steps in lengths]
    expected = oracle(name, problem, lambda t: multipliers[t - 1], lambda t: decays[t - 1])
    assert len(set(decays)) == 4
    chex.assert_trees_all_close(problem.run(optimizer), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["sgdw", "adamw"])
def test_restarts_in_float32(problem, name):
    optimizer = getattr(dwd, name + "r")(ALPHA[name], 0.05, **RESTARTS)
    multipliers, lengths = reference.warm_restarts(STEPS, 30, 2)
    decays = [reference.normalized(0.05, 50, 500, steps * 50 / 500) for steps in lengths]
    expected = oracle(name, problem, lambda t: multipliers[t - 1], lambda t: decays[t - 1])
    assert ulps(problem.run(optimizer), expected) <= FEW_ULPS


@pytest.mark.parametrize(("schedule", "differs"), [("constant", False), ("cosine", True)])
def test_the_learning_rates_place_matters_only_under_a_schedule(problem, x64, schedule, differs):
    lr = RATES[schedule](0.05)
    options = {"learning_rate": lr, "peak_learning_rate": 0.05}
    links = optax.chain(dwd.scale_by_momentum(0.9), optax.scale_by_learning_rate(lr))
    outside = problem.run(dwd.decouple(links, DECAY["sgdw"], **options))
    expected = oracle("sgdw", problem, ETAS[schedule], lr_in_buffer=False)
    chex.assert_trees_all_close(outside, expected, rtol=0, atol=1e-12)
    with_optax = problem.run(dwd.decouple(optax.sgd(lr, 0.9), DECAY["sgdw"], **options))
    chex.assert_trees_all_close(outside, with_optax, rtol=0, atol=1e-12)
    inside = problem.run(alias("sgdw", schedule))
    assert (np.abs(inside - outside).max() > 1e-3) == differs


@pytest.mark.parametrize("lr", [1e-2, optax.linear_schedule(1e-2, 0.0, STEPS)])
def test_lr_coupling_is_optax_adamw(problem, lr):
    ours = problem.run(dwd.adamw(lr, 0.1, coupling=dwd.LR))
    assert ulps(ours, problem.run(optax.adamw(lr, weight_decay=0.1))) <= 8


def test_paper_coupling_is_optax_adamw_with_the_decay_over_the_learning_rate(problem):
    ours = problem.run(dwd.adamw(1e-2, 1e-3))
    assert ulps(ours, problem.run(optax.adamw(1e-2, weight_decay=1e-3 / 1e-2))) <= 8
    assert ulps(ours, problem.run(optax.adamw(1e-2, weight_decay=1e-3))) > 1000


def test_torch_adamw_is_matched_through_the_conversion(x64):
    stored = json.loads((Path(__file__).parent / "data" / "torch_adamw.json").read_text())
    alpha, weight_decay = stored["learning_rate"], stored["weight_decay"]
    lam = dwd.convert_weight_decay(weight_decay, from_="torch", to=dwd.PAPER, learning_rate=alpha)
    optimizer = dwd.adamw(alpha, lam)
    params = jnp.asarray(stored["trajectory"][0])
    state = optimizer.init(params)
    for gradient, expected in zip(stored["gradients"], stored["trajectory"][1:], strict=True):
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params, expected, rtol=0, atol=1e-12)


ALL = {
    "sgd": lambda lr, wd, **o: dwd.sgd(lr, wd, **o),
    "sgdw": lambda lr, wd, **o: dwd.sgdw(lr, wd, peak_learning_rate=0.1, **o),
    "adam": lambda lr, wd, **o: dwd.adam(lr, wd, **o),
    "adamw": lambda lr, wd, **o: dwd.adamw(lr, wd, peak_learning_rate=0.1, **o),
}


@pytest.mark.parametrize("name", ALL)
def test_state_is_the_same_whatever_the_settings(problem, name):
    params = problem.tree(problem.theta)
    plain = ALL[name](0.1, 0.01).init(params)
    lr, wd = optax.linear_schedule(0.1, 0.0, 9), optax.linear_schedule(0.01, 0.0, 9)
    scheduled = ALL[name](lr, wd, mask=dwd.masks.matrices()).init(params)
    chex.assert_trees_all_equal_shapes_and_dtypes(plain, scheduled)
    _, after = ALL[name](0.1, 0.01).update(params, plain, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(plain, after)


@pytest.mark.parametrize("name", ALL)
def test_updates_keep_the_gradients_dtype_and_are_rounded_once(problem, name):
    params = problem.tree(problem.theta, jnp.bfloat16)
    gradients = problem.tree(problem.noise[0], jnp.bfloat16)
    for lr in (0.1, optax.constant_schedule(0.1)):
        narrow = ALL[name](lr, 0.01)
        updates, _ = narrow.update(gradients, narrow.init(params), params)
        wide = [jax.tree.map(lambda x: x.astype(jnp.float32), x) for x in (gradients, params)]
        exact, _ = narrow.update(wide[0], narrow.init(wide[1]), wide[1])
        chex.assert_trees_all_equal(updates, jax.tree.map(lambda x: x.astype(jnp.bfloat16), exact))


def test_numbers_may_be_traced(problem):
    params, gradients = problem.tree(problem.theta), problem.tree(problem.noise[0])

    def update(alpha, weight_decay):
        optimizer = dwd.adamw(
            optax.cosine_decay_schedule(alpha, 9), weight_decay, peak_learning_rate=alpha
        )
        return optimizer.update(gradients, optimizer.init(params), params)[0]

    alphas, decays = jnp.array([0.1, 0.01]), jnp.array([0.01, 0.1])
    together = jax.jit(jax.vmap(update))(alphas, decays)
    apart = [update(float(a), float(d)) for a, d in zip(alphas, decays, strict=True)]
    for index, one in enumerate(apart):
        row = jax.tree.map(lambda leaf: leaf[index], together)  # noqa: B023
        chex.assert_trees_all_close(row, one, rtol=1e-5)
