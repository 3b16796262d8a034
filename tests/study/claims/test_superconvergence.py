"""Claim (vii): the cycle against fast.ai's description, and epochs saved on results made from closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import every_run, luck, made_up, path, recorded, tiny_task

import decoupled_wd as dwd
from decoupled_wd.study.claims.best_of import Trials, best_of
from decoupled_wd.study.claims.choice import box
from decoupled_wd.study.claims.optimizers import DECOUPLED, L2
from decoupled_wd.study.claims.superconvergence import (
    COSINE,
    COUPLED,
    CYCLE,
    OneCycle,
    Superconvergence,
    one_cycle,
    speedup,
)
from decoupled_wd.study.claims.verdicts import FAILS, HOLDS, MISSING, SAME, UNDECIDED
from decoupled_wd.study.tasks.task import runner

STEPS = 400
LABELS = {
    ("cosine", "Adam", DECOUPLED): COSINE,
    ("one cycle", "Adam", DECOUPLED): CYCLE,
    ("one cycle", "Adam", L2): COUPLED,
}
EPOCHS = np.array([5, 10, 20, 40])


def fake(faster, noise=0.0):
    """Every contender's error falls by 3 points an octave of ``faster × epochs``."""

    def errors(training, point):
        task, way = training.task, LABELS[training.make_optimizer.label[-3:]]
        assert training.experiment[-1] == f"{task.epochs} epochs"
        family, decay = ("Adam", L2 if way == COUPLED else DECOUPLED)
        most = box(family, decay)["weight_decay"][1]
        # every search has a trial in the upper half, and whoever chose on test errors would be found out
        away = 9.0 * (point["weight_decay"] < most / 2**4.5)
        lucky = noise * luck(point["seed"], task.epochs) * (way == CYCLE)
        error = 60 - 3 * np.log2(faster[way] * task.epochs) + lucky
        return {"validation_error": error + away, "test_error": error - away}

    return made_up(errors)


def verdicts(faster, noise=0.0, look=0, looks=(8,)):
    design = Superconvergence(trials=4, looks=looks)
    found = design.measure(fake(faster, noise), tiny_task()._replace(epochs=40), look)
    assert list(found.drawings) == ["super-convergence tiny"]
    return dict(zip((COSINE, COUPLED), found.verdicts, strict=True))


@pytest.mark.parametrize(
    ("cycle", "noise", "expected"),
    [
        (2.5, 0.0, HOLDS),
        (1.0, 0.0, SAME),
        (1.1, 0.0, SAME),
        (0.7, 0.0, FAILS),
        (1.3, 8.0, UNDECIDED),
        (3.0, 0.3, HOLDS),
    ],
)
def test_fewer_epochs(cycle, noise, expected):
    found = verdicts({COSINE: 1.0, COUPLED: 0.9, CYCLE: cycle}, noise)
    assert found[COSINE].verdict == expected
    if not noise:
        assert found[COSINE].estimate.value == pytest.approx(np.log2(cycle), abs=1e-9)
        assert found[COUPLED].estimate.value == pytest.approx(np.log2(cycle / 0.9), abs=1e-9)


def test_a_later_look_has_more_searches_and_each_a_smaller_share_of_the_error():
    faster = {COSINE: 1.0, COUPLED: 0.9, CYCLE: 1.3}
    found = [verdicts(faster, 1.0, look, (4, 12))[COSINE] for look in (0, 1)]
    assert [(line.estimate.seeds, line.looks) for line in found] == [(4, 2), (12, 2)]


def curves(error, seeds=6, noise=0.0, salt=0):
    """Of searches of one trial each, which have nothing to choose from."""
    runs = np.asarray(error, float) + noise * np.random.default_rng(salt).normal(size=(seeds, 4))
    return {
        int(n): Trials(each[:, None], each[:, None]) for n, each in zip(EPOCHS, runs.T, strict=True)
    }


def mean(curve, drawn=slice(None)):
    return np.array([each.test[drawn].mean() for each in curve.values()])


@pytest.mark.parametrize("faster", [0.5, 1.0, 1.3, 4.0])
def test_the_speed_up_of_straight_curves_is_their_shift_along_the_epochs(faster):
    slow, fast = (curves(60 - 4 * np.log2(each * EPOCHS)) for each in (1.0, faster))
    found = speedup(slow, fast, 0.95)
    assert found.value == pytest.approx(np.log2(faster), abs=1e-12)
    assert found.high - found.low < 1e-9
    assert speedup(fast, slow, 0.95).value == pytest.approx(-np.log2(faster), abs=1e-12)


@pytest.mark.parametrize("bend", [-0.3, 0.0, 0.5])
@pytest.mark.parametrize("drop", [-1.0, 0.0, 2.0])
def test_the_speed_up_of_bent_curves_is_their_drop_over_the_slope_of_the_chord(bend, drop):
    x = np.log2(EPOCHS)
    slow = 60 - 5 * x + bend * x**2
    # the chord of a parabola has the slope of its middle
    chord = -5 + 2 * bend * (x[0] + x[-1]) / 2
    found = speedup(curves(slow), curves(slow - drop), 0.95)
    assert found.value == pytest.approx(drop / -chord, rel=1e-12, abs=1e-12)


def test_the_shift_down_is_that_of_parallel_parabolas_by_least_squares():
    x, noise = np.log2(EPOCHS), 0.5
    slow, fast = curves(60 - 4 * x, noise=noise), curves(58 - 4 * x, noise=noise, salt=1)
    a, b = mean(slow), mean(fast)
    design = [np.repeat([1.0, 0.0], 4), np.ones(8), np.tile(x, 2), np.tile(x, 2) ** 2]
    shift = np.linalg.lstsq(np.stack(design, 1), np.concatenate([a, b]))[0][0]
    chord = np.mean([each[-1] - each[0] for each in (a, b)]) / (x[-1] - x[0])
    assert speedup(slow, fast, 0.95).value == pytest.approx(-shift / chord, rel=1e-10)


def test_the_interval_of_a_speed_up_is_a_jackknife_of_pairs():
    x = np.log2(EPOCHS)
    slow, fast = curves(60 - 4 * x, noise=1.0), curves(58 - 4 * x, noise=1.0, salt=1)

    def shift(drawn):
        a, b = mean(slow, drawn), mean(fast, drawn)
        return 2 * 3 * np.mean(a - b) / (a[0] - a[-1] + b[0] - b[-1])

    found, every = speedup(slow, fast, 0.9), np.arange(6)
    without = np.array([shift(np.delete(every, i)) for i in every])
    error = np.sqrt(5 * np.mean((without - without.mean()) ** 2))
    assert found.value == pytest.approx(shift(every), rel=1e-12)
    assert found.standard_error == pytest.approx(error, rel=1e-9)
    assert found.high - found.value == pytest.approx(2.015048373 * error, rel=1e-8)


def test_where_the_error_does_not_fall_there_is_no_shift_along_the_epochs():
    flat, falling = curves(np.full(4, 60.0)), curves(60 - np.log2(EPOCHS))
    for pair in ((flat, flat), (curves(np.log2(EPOCHS)), flat)):
        assert np.isnan(speedup(*pair, 0.95)[:4]).all()
    # together they fall half as fast
    assert speedup(flat, falling, 0.95).value == pytest.approx(2 * np.log2(EPOCHS).mean())


def test_the_error_is_what_a_search_ends_with_expected_from_all_trials():
    chance = np.random.default_rng(0)
    slow, fast = ({n: Trials(*chance.normal(60 - n, 1, (2, 6, 3))) for n in (1, 2)} for _ in "ab")
    a, b = (
        np.array([best_of(v.ravel(), t.ravel(), 3) for v, t in each.values()])
        for each in (slow, fast)
    )
    expected = 2 * np.mean(a - b) / (a[0] - a[1] + b[0] - b[1])
    assert speedup(slow, fast, 0.95).value == pytest.approx(expected, rel=1e-12)


def test_searches_that_diverged_are_not_measured():
    lost = curves(60 - np.log2(EPOCHS))
    lost[10] = Trials(*np.full((2, 6, 1), np.nan))
    assert np.isnan(speedup(lost, curves(60 - np.log2(EPOCHS)), 0.95)[:4]).all()

    def errors(training, point):
        gone = training.make_optimizer.label[0] == "cosine"
        error = np.full(point["seed"].shape, np.nan if gone else 60.0 - training.task.epochs)
        return {"validation_error": error, "test_error": error}

    found = Superconvergence(trials=2, looks=(3,)).measure(made_up(errors), tiny_task(), 0)
    assert found.verdicts[0].verdict == MISSING
    assert found.verdicts[1].verdict != MISSING


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


def test_each_way_searches_with_its_own_optimiser_in_its_own_box():
    def alike(training, point):
        error = np.full(point["seed"].shape, 60.0 - training.task.epochs)
        return {"validation_error": error, "test_error": error}

    run, trainings = recorded(made_up(alike))
    design = Superconvergence(trials=4, looks=(3,), shares=(1 / 2, 1))
    design.measure(run, tiny_task()._replace(epochs=8), 0)
    runs = [each for training in trainings for each in every_run(training)]
    assert len(set(runs)) == len(runs)
    makes = {}
    for training in trainings:
        way = LABELS[training.make_optimizer.label]
        makes[way, training.task.steps] = training.make_optimizer
        for name, (low, high) in box("Adam", L2 if way == COUPLED else DECOUPLED).items():
            assert low <= np.min(training.space[name]) < np.max(training.space[name]) <= high
        np.testing.assert_array_equal(training.space["seed"], np.repeat([1, 2, 3], 4))
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


@pytest.mark.slow
def test_a_real_study():
    design = Superconvergence(trials=2, looks=(2,), shares=(1 / 2, 1))
    finding = design.measure(runner(), tiny_task(), 0)
    assert len(finding.verdicts) == 2
    (drawing,) = finding.drawings.values()
    curve = drawing.panels["tiny"][CYCLE]
    assert curve["epochs"].values.tolist() == [2, 4]
    assert np.isfinite(curve.values).all()
