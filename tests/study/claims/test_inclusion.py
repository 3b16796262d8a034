"""Claim (vi): the limit of a large ε, and the nested spaces on results made from closed forms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import luck, made_up, path, recorded, tiny_task

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
from decoupled_wd.study.claims.verdicts import FAILS, HOLDS, UNDECIDED
from decoupled_wd.study.figures.draw import draw
from decoupled_wd.study.statistics import over_seeds
from decoupled_wd.study.tasks.task import runner

MOMENTUM = "Tuned momentum is no worse than tuned SGD, which it includes"
ADAM = "Tuned Adam is no worse than tuned momentum, which it includes"


def measured(monkeypatch, floors, noise=0.0, power=-1.0, looks=(6,), look=0):
    """Of families that are tuned to these errors, Adam with noise over the seeds, at a distance ``ε^power``."""
    monkeypatch.setattr(inclusion, "distances", lambda task, epsilons: epsilons**power)

    def errors(training, point):
        family = training.make_optimizer.family
        # the trial of the highest rate is the best, and the others test better than they validate
        away = 1.0 * (point["rate"] < SPACE["rate"][1] / 8)
        lucky = noise * luck(point["seed"]) * (family == "Adam")
        return {
            "validation_error": floors[family] + away,
            "test_error": floors[family] + lucky - 50 * away,
        }

    # so many that each search has some of the high rates
    design = Inclusion(trials=16, looks=looks)
    return design.measure(made_up(errors), tiny_task(), look)


def verdicts(*args, **options):
    return {v.statement: v for v in measured(*args, **options).verdicts}


@pytest.mark.parametrize(
    ("floors", "noise", "expected"),
    [
        ((5.0, 4.0, 3.0), 0.0, (HOLDS, HOLDS)),
        ((5.0, 5.4, 5.8), 0.0, (HOLDS, HOLDS)),
        ((5.0, 5.6, 6.2), 0.0, (FAILS, FAILS)),
        ((5.0, 5.0, 5.0), -3.0, (HOLDS, UNDECIDED)),
    ],
)
def test_a_larger_family_is_no_worse(monkeypatch, floors, noise, expected):
    found = verdicts(monkeypatch, dict(zip(NESTED, floors, strict=True)), noise)
    assert (found[MOMENTUM].verdict, found[ADAM].verdict) == expected
    gain = found[MOMENTUM].estimate.value
    assert gain == pytest.approx(floors[0] - floors[1])
    # a loss of what matters is in the bound
    assert {(line.sense, line.bound) for line in (found[MOMENTUM], found[ADAM])} == {(">", -0.5)}


def test_the_intervals_are_over_searches(monkeypatch):
    looks = (4, 8)
    finding = measured(monkeypatch, dict.fromkeys(NESTED, 5.0), noise=1.0, looks=looks, look=1)
    (line,) = (each for each in finding.verdicts if each.statement == ADAM)
    # all trials of a search have its luck, and a search counts by how many good ones it has
    seeds = np.arange(1, 9)
    rates = np.array([halton(16, seed, SPACE)["rate"] for seed in seeds])
    good = (rates >= SPACE["rate"][1] / 8).sum(axis=1)

    def lucky(drawn):
        return -np.average(luck(seeds[drawn]), weights=good[drawn])

    wanted = over_seeds(lucky, 8, level=0.975)
    np.testing.assert_allclose(line.estimate[:3], wanted[:3], rtol=1e-6)
    assert (line.looks, line.estimate.seeds) == (2, 8)
    for drawing in finding.drawings.values():
        draw(drawing)


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
        (-1.0, HOLDS, HOLDS),
        (-0.6, HOLDS, FAILS),
        (-1.4, HOLDS, FAILS),
        (0.0, FAILS, FAILS),
    ],
)
def test_the_limit(monkeypatch, power, near, as_one_over_epsilon):
    found = verdicts(monkeypatch, dict.fromkeys(NESTED, 5.0), power=power)
    assert found["Adam with a large ε follows momentum"].verdict == near
    assert found["Adam approaches momentum as 1/ε"].verdict == as_one_over_epsilon


def test_a_trial_is_its_point_of_the_search(monkeypatch):
    def alike(training, point):
        ones = np.ones(point["seed"].shape)
        return {"validation_error": ones, "test_error": ones}

    run, trainings = recorded(made_up(alike))
    monkeypatch.setattr(inclusion, "distances", lambda task, epsilons: 1 / epsilons)
    task = tiny_task()._replace(batch_size=20, epochs=6)
    Inclusion(trials=4, looks=(3,)).measure(run, task, 0)
    cosine = partial(optax.cosine_decay_schedule, decay_steps=6)

    def known(family, rate, l2, forgetting=None, eps=None):
        steps = {
            "SGD": lambda: optax.sgd(cosine(rate)),
            "momentum": lambda: optax.sgd(cosine(rate * forgetting), 1 - forgetting),
            "Adam": lambda: optax.adam(cosine(rate * eps), 1 - forgetting, eps=eps),
        }
        return optax.chain(optax.add_decayed_weights(l2), steps[family]())

    searches = [each for each in trainings if each.experiment == ("inclusion",)]
    assert [each.make_optimizer.family for each in searches] == list(NESTED)
    for training, axes in zip(searches, (2, 3, 4), strict=True):
        family = training.make_optimizer.family
        # the sixth trial is the second of the second search
        point = {name: float(training.space[name][5]) for name in training.space if name != "seed"}
        drawn = halton(4, 2, dict(list(SPACE.items())[:axes]))
        assert point == {name: values[1] for name, values in drawn.items()}
        expected = path(lambda _: known(family, **point), 0.0)  # noqa: B023
        found = path(lambda _: training.make_optimizer(**point), 2.0)  # noqa: B023
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_real_study():
    finding = Inclusion(trials=3, looks=(2,)).measure(runner(), tiny_task(), 0)
    assert [v.verdict for v in finding.verdicts].count("not measured") == 0
    assert [v.verdict for v in finding.verdicts[2:]] == [HOLDS, HOLDS]
    assert set(finding.drawings) == {"inclusion tiny", "large ε tiny"}
