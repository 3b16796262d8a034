"""Claim (vi): the limit of a large ε, and the nested spaces on results made from closed forms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import path, results, tiny_task, with_finalists

from decoupled_wd.study.claims import inclusion
from decoupled_wd.study.claims.inclusion import (
    NESTED,
    SPACE,
    Inclusion,
    adam,
    distances,
    momentum,
    sgd,
)
from decoupled_wd.study.claims.tuning import halton
from decoupled_wd.study.tasks.task import runner

MOMENTUM = "Tuned momentum is no worse than tuned SGD, which it includes"
ADAM = "Tuned Adam is no worse than tuned momentum, which it includes"


def verdicts(monkeypatch, floors, noise=0.0, power=-1.0):
    """Of families that are tuned to these errors, Adam with noise over the seeds, at a distance ``ε^power``."""
    monkeypatch.setattr(inclusion, "distances", lambda task, epsilons: epsilons**power)

    def fake(training):
        (family,) = training.make_optimizer.label
        away = np.abs(np.arange(len(training.space["trial"])) - 3.0)
        offsets = noise * np.resize([-1, 1], training.seeds) * (family == "Adam")
        return results(training.space, away + floors[family], away + floors[family], offsets)

    design = Inclusion(trials=6, seeds=2, fresh_seeds=4)
    found = design.measure(with_finalists(fake), tiny_task())
    return {v.statement: v for v in found.verdicts}


@pytest.mark.parametrize(
    ("floors", "noise", "expected"),
    [
        ((5.0, 4.0, 3.0), 0.0, ("holds", "holds")),
        ((5.0, 5.4, 5.8), 0.0, ("holds", "holds")),
        ((5.0, 5.6, 6.2), 0.0, ("does not hold", "does not hold")),
        ((5.0, 5.0, 5.0), 3.0, ("holds", "undecided")),
    ],
)
def test_a_larger_family_is_no_worse(monkeypatch, floors, noise, expected):
    found = verdicts(monkeypatch, dict(zip(NESTED, floors, strict=True)), noise)
    assert (found[MOMENTUM].verdict, found[ADAM].verdict) == expected
    gain = found[MOMENTUM].estimate.value
    assert gain == pytest.approx(floors[0] - floors[1])


def test_the_distance_is_that_of_the_papers_algorithms():
    task, eps, b1, lr = tiny_task()._replace(batch_size=20), 2.0, 0.9, 0.01
    x, y = task.dataset.x_train.astype(float), task.dataset.y_train
    start, order, _ = jax.random.split(jax.random.key(0), 3)
    batches = np.asarray(jax.random.choice(order, 20, (5, 20)))

    def gradient(w, rows):
        p = np.exp(x[rows] @ w)
        p /= p.sum(1, keepdims=True)
        return x[rows].T @ (p - np.eye(2)[y[rows]]) / len(rows)

    momentum_path, adam_path = ([np.asarray(task.model.init(start), float)] for _ in range(2))
    buffer = m = v = 0
    for t, rows in enumerate(batches, 1):
        buffer = b1 * buffer + gradient(momentum_path[-1], rows)
        momentum_path.append(momentum_path[-1] - lr * buffer)
        g = gradient(adam_path[-1], rows)
        m, v = b1 * m + (1 - b1) * g, 0.999 * v + 0.001 * g**2
        step = m / (1 - b1) / (np.sqrt(v / (1 - 0.999**t)) + eps)  # m not corrected
        adam_path.append(adam_path[-1] - lr * eps * step)
    a, b = np.stack(adam_path), np.stack(momentum_path)
    expected = np.linalg.norm(a - b) / np.linalg.norm(b - b[0])
    found = distances(task, np.array([eps]), rate=lr / (1 - b1), b1=b1, steps=5)
    assert found[0] == pytest.approx(expected, rel=1e-3)


def last_step(optimizer, steps=300):
    """After many equal gradients."""
    g = jnp.array([0.3, -2.0])

    def step(state, _):
        updates, state = optimizer.update(g, state, g)
        return state, updates

    return jax.jit(lambda s: jax.lax.scan(step, s, None, steps))(optimizer.init(g))[1]


def test_each_space_is_the_next_ones_at_its_edge():
    cosine = optax.constant_schedule
    with_sgd = last_step(sgd(cosine, 0.5))
    np.testing.assert_allclose(with_sgd[0], [-0.15, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(last_step(momentum(cosine, 0.5, 1.0)), with_sgd)
    # a steady gradient: the buffer fills to g/(1 − β1), and all of them step by rate·g
    np.testing.assert_allclose(last_step(momentum(cosine, 0.5, 0.1))[-1], with_sgd[-1], rtol=1e-5)
    np.testing.assert_allclose(last_step(adam(cosine, 0.5, 0.1, 1e6))[-1], with_sgd[-1], rtol=1e-3)


@pytest.mark.parametrize(
    ("power", "near", "as_one_over_epsilon"),
    [
        (-1.0, "holds", "holds"),
        (-0.6, "holds", "does not hold"),
        (-1.4, "holds", "does not hold"),
        (0.0, "does not hold", "does not hold"),
    ],
)
def test_the_limit(monkeypatch, power, near, as_one_over_epsilon):
    found = verdicts(monkeypatch, dict.fromkeys(NESTED, 5.0), power=power)
    assert found["Adam with a large ε follows momentum"].verdict == near
    assert found["Adam approaches momentum as 1/ε"].verdict == as_one_over_epsilon


def test_a_trial_is_its_point_of_the_search(monkeypatch):
    makes = {}

    def fake(training):
        makes[training.place] = training.make_optimizer
        alike = np.ones(len(training.space["trial"]))
        return results(training.space, alike, alike, np.zeros(training.seeds))

    monkeypatch.setattr(inclusion, "distances", lambda task, epsilons: 1 / epsilons)
    task = tiny_task()._replace(batch_size=20, epochs=6)
    Inclusion(trials=4, seeds=2, fresh_seeds=1).measure(fake, task)
    space = halton(4, **SPACE)
    rate, l2, forgetting, eps = (axis[2] for axis in space.values())
    cosine = partial(optax.cosine_decay_schedule, decay_steps=6)
    adams = optax.adam(cosine(rate * eps), 1 - forgetting, eps=eps)
    heavy = optax.sgd(cosine(rate * forgetting), 1 - forgetting)
    known = {"SGD": optax.sgd(cosine(rate)), "momentum": heavy, "Adam": adams}
    for name, step in known.items():
        expected = path(lambda _: optax.chain(optax.add_decayed_weights(l2), step), 0.0)  # noqa: B023
        found = path(makes["tiny", "inclusion", name], 2.0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_real_study():
    finding = Inclusion(trials=3, seeds=2, fresh_seeds=2).measure(runner(), tiny_task())
    assert [v.verdict for v in finding.verdicts].count("not measured") == 0
    assert [v.verdict for v in finding.verdicts[2:]] == ["holds", "holds"]
    assert set(finding.drawings) == {"inclusion tiny", "large ε tiny"}
