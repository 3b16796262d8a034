"""Claim (vii): the cycle against fast.ai's description, and epochs saved on results made from closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import path, results, tiny_task

import decoupled_wd as dwd
from decoupled_wd.study.claims.optimizers import DECOUPLED, L2
from decoupled_wd.study.claims.superconvergence import (
    COSINE,
    COUPLED,
    CYCLE,
    OneCycle,
    Superconvergence,
    needed,
    one_cycle,
)
from decoupled_wd.study.tasks.task import runner

STEPS = 400
LABELS = {
    ("cosine", "Adam", DECOUPLED): COSINE,
    ("one cycle", "Adam", DECOUPLED): CYCLE,
    ("one cycle", "Adam", L2): COUPLED,
}


def verdicts(faster, noise=0.0):
    """Every contender's error falls by 3 points an e-fold of ``faster × epochs``."""

    def fake(training):
        task, way = training.task, LABELS[training.make_optimizer.label]
        assert training.experiment[-1] == f"{task.epochs} epochs"
        shape = [len(axis) for axis in training.space.values()]
        away = np.add.outer(*(np.abs(np.arange(size) - size // 2) for size in shape))
        error = 40 - 3 * np.log(faster[way] * task.epochs) + away
        # the lowest test error is where validation is worst
        test = np.where(away == away.max(), error - 30, error)
        offsets = noise * np.linspace(-1, 1, training.seeds) * (way == CYCLE)
        return results(training.space, error, test, offsets)

    design = Superconvergence(grid=4, seeds=2)
    found = design.measure(fake, tiny_task()._replace(epochs=40))
    assert len(found.drawings) == 1
    return dict(zip((COSINE, COUPLED), found.verdicts, strict=True))


@pytest.mark.parametrize(
    ("cycle", "noise", "expected"),
    [
        (2.5, 0.0, "holds"),
        (1.0, 0.0, "does not hold"),
        (0.7, 0.0, "does not hold"),
        (1.3, 3.0, "undecided"),
        (3.0, 0.3, "holds"),
    ],
)
def test_fewer_epochs(cycle, noise, expected):
    found = verdicts({COSINE: 1.0, COUPLED: 0.9, CYCLE: cycle}, noise)
    assert found[COSINE].verdict == expected
    if cycle > 1:
        assert found[COSINE].estimate.value == pytest.approx(cycle, rel=1e-6)
        assert found[COUPLED].estimate.value == pytest.approx(cycle / 0.9, rel=1e-6)


def test_what_is_never_reached_saves_nothing():
    assert verdicts({COSINE: 1.0, COUPLED: 0.9, CYCLE: 0.95})[COSINE].estimate.value == 0
    assert verdicts({COSINE: 1.0, COUPLED: 0.9, CYCLE: 0.95})[COUPLED].verdict == "holds"


@pytest.mark.parametrize(
    ("error", "target", "epochs"),
    [
        ([9, 5, 3, 2], 4, np.sqrt(200)),
        ([9, 5, 3, 2], 3, 20),
        ([9, 5, 3, 2], 9.5, 5),
        ([9, 5, 3, 2], 1, np.inf),
        ([9, 3, 4, 3], 3, 10),
        ([9, 3, 4, 3], 3.5, 5 * 2 ** (5.5 / 6)),
        ([np.nan, 5, 3, 2], 4, np.sqrt(200)),
        ([np.nan, 5, 3, 2], 5, 10),
        ([9, 5, 3, 2], np.nan, np.nan),
    ],
)
def test_epochs_needed(error, target, epochs):
    found = needed(np.array([5, 10, 20, 40]), np.array(error, float), target)
    assert found == pytest.approx(epochs, nan_ok=True)


def test_the_cycle_is_fast_ai_s():
    schedule, direction = one_cycle(0.2, STEPS)
    where = [0, 0.4625 * STEPS, 0.925 * STEPS, STEPS]
    times = np.arange(STEPS + 1)
    rates = np.interp(times, where, [0.02, 0.2, 0.02, 0.0002])
    np.testing.assert_allclose(jax.jit(jax.vmap(schedule))(times), rates, rtol=1e-5)

    def step(state, _):
        _, state = direction.update(jnp.ones(2), state)
        return state, (state.hyperparams["b1"], state.hyperparams["b2"])

    state = direction.init(jnp.ones(2))
    _, (b1, b2) = jax.jit(lambda s: jax.lax.scan(step, s, None, STEPS))(state)
    np.testing.assert_allclose(
        b1, np.interp(times[:-1], where, [0.95, 0.85, 0.95, 0.95]), rtol=1e-6
    )
    np.testing.assert_allclose(b2, 0.99, rtol=1e-6)


@pytest.mark.parametrize("where_decay", [DECOUPLED, L2])
def test_one_cycle_line_by_line(where_decay):
    """Adam's algorithm in NumPy with β1 of each step, and the decay in its place."""
    rate, decay, steps = 0.05, 0.1, 40
    theta = np.array([1.0, -2.0, 0.5])
    curvature = np.array([1.0, 0.1, 3.0])
    where = [0, int(0.4625 * steps), 0.925 * steps, steps]

    @jax.jit
    def run(rate, decay):
        optimizer = OneCycle(where_decay, steps)(rate, decay)

        def step(carry, _):
            theta, state = carry
            updates, state = optimizer.update(curvature * theta + 0.3, state, theta)
            return (optax.apply_updates(theta, updates), state), None

        start = jnp.asarray(theta, jnp.float32)
        return jax.lax.scan(step, (start, optimizer.init(start)), None, steps)[0][0]

    found = run(rate, decay)
    m = v = 0
    for t in range(steps):
        b1 = np.interp(t, where, [0.95, 0.85, 0.95, 0.95])
        lr = np.interp(t, where, [rate / 10, rate, rate / 10, rate / 1000])
        g = curvature * theta + 0.3 + (decay * theta if where_decay == L2 else 0)
        m, v = b1 * m + (1 - b1) * g, 0.99 * v + 0.01 * g**2
        step = lr * (m / (1 - b1 ** (t + 1))) / (np.sqrt(v / (1 - 0.99 ** (t + 1))) + 1e-8)
        decoupled = decay * lr / rate * theta if where_decay == DECOUPLED else 0
        theta = theta - step - decoupled
    np.testing.assert_allclose(found, theta, rtol=1e-3, atol=1e-4)


def test_each_way_trains_its_own_optimiser():
    makes = {}

    def fake(training):
        steps = training.task.steps
        makes[LABELS[training.make_optimizer.label], steps] = training.make_optimizer
        ones = np.ones([len(axis) for axis in training.space.values()])
        return results(training.space, ones, ones, np.zeros(training.seeds))

    design = Superconvergence(grid=2, seeds=2, shares=(1 / 2, 1))
    design.measure(fake, tiny_task()._replace(epochs=8))
    known = {
        COSINE: lambda lr: dwd.adamw(
            optax.cosine_decay_schedule(lr, 8), 0.1, peak_learning_rate=lr
        ),
        CYCLE: lambda lr: OneCycle(DECOUPLED, 8)(lr, 0.1),
        COUPLED: lambda lr: OneCycle(L2, 8)(lr, 0.1),
    }
    assert set(makes) == {(name, steps) for name in known for steps in (8, 16)}
    for name, expected in known.items():
        found = path(lambda lr: makes[name, 8](lr, 0.1), 0.05)  # noqa: B023
        np.testing.assert_allclose(found, path(expected, 0.05), rtol=1e-6)


def test_a_real_study():
    design = Superconvergence(grid=2, seeds=2, shares=(1,))
    finding = design.measure(runner(), tiny_task())
    assert [v.verdict for v in finding.verdicts].count("not measured") == 0
    (drawing,) = finding.drawings.values()
    assert drawing.panels["tiny"][CYCLE]["epochs"].values.tolist() == [4]
