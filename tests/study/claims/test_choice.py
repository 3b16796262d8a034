"""Claim (vi) on results made from closed forms, its optimisers against their parts, and a tiny real run."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import ttest_1samp
from toys import STEPS, THETA, gradient, luck, made_up, path, recorded, searched, tiny_task

import decoupled_wd as dwd
from decoupled_wd.study.claims.best_of import Trials, by_search
from decoupled_wd.study.claims.choice import Choice, box, judge, shares
from decoupled_wd.study.claims.optimizers import DECOUPLED, FAMILIES, L2, Decayed
from decoupled_wd.study.claims.verdicts import FAILS, HOLDS, SAME, UNDECIDED
from decoupled_wd.study.figures.draw import draw
from decoupled_wd.study.statistics import FRESH
from decoupled_wd.study.tasks.task import runner

ADAPTIVE = ("Adam", "AdaGrad")
FEW = ("SGD", "momentum", *ADAPTIVE)


def fake(gain=0.0, *, noise=0.0, best=2.0**-6, steep=None):
    """A valley over log λ, for every optimiser with its own floor and its own best λ; α plays no part.

    The test error is 50 points below the validation error where that is more than nine points above its least:
    whoever chooses on the test set is found out.
    """

    def errors(training, point):
        family, decay = training.make_optimizer.family, training.make_optimizer.decay
        lowest = best if isinstance(best, float) else best[family]
        above = (steep or {}).get(decay, 0.1) * np.log2(point["weight_decay"] / lowest) ** 2
        number = 2 * sorted(FAMILIES).index(family) + (decay == L2)
        lucky = noise * luck(point["seed"], number)
        validation = 20 + above - gain * (decay == DECOUPLED and FAMILIES[family].adaptive)
        test = np.where(above > 9, validation - 50, validation + 1 + lucky)
        return {"validation_error": validation, "test_error": test}

    return made_up(errors)


def measured(run, trials=16, looks=(6,), look=0):
    """Of four families."""
    return Choice(trials=trials, looks=looks, families=FEW).measure(run, tiny_task(), look)


def verdicts(run, **sizes):
    return {v.statement: v for v in measured(run, **sizes).verdicts}


def gains(found):
    return {
        name: found[f"Tuned {name} has a lower test error decoupled than with L2"]
        for name in ADAPTIVE
    }


@pytest.mark.parametrize(
    ("gain", "noise", "expected"),
    [
        (2.0, 0.0, HOLDS),
        (0.0, 0.0, SAME),
        (0.3, 0.0, SAME),
        (-2.0, 0.0, FAILS),
        (0.2, 3.0, UNDECIDED),
        (9.0, 1.0, HOLDS),
    ],
)
def test_the_gain_of_decoupling(gain, noise, expected):
    found = gains(verdicts(fake(gain, noise=noise)))
    assert {v.verdict for v in found.values()} == {expected}
    if not noise:
        # each search has its own distance from the best λ, of less than 0.1 points
        assert found["Adam"].estimate.value == pytest.approx(gain, abs=0.1)
        assert found["Adam"].margin == tiny_task().matters


@pytest.mark.parametrize("name", ["SGD", "momentum"])
def test_sgd_gains_nothing_by_decoupling(name):
    statement = f"Tuned {name} is as good with L2 as decoupled"
    assert verdicts(fake(2.0))[statement].verdict == HOLDS

    def better_decoupled(training):
        found = fake()(training)
        return found - 1.0 if training.make_optimizer.decay == DECOUPLED else found

    assert verdicts(better_decoupled)[statement].verdict == FAILS


@pytest.mark.parametrize(
    ("steep", "expected"),
    [({L2: 5.0}, HOLDS), ({DECOUPLED: 5.0}, FAILS), ({}, SAME)],
)
def test_the_wider_valley_is_easier_to_tune(steep, expected):
    # the best λ in the middle of either range, for the valleys to differ in their steepness alone
    middle = {"SGD": 2.0**-6.5, "momentum": 2.0**-6.5, "Adam": 2.0**-5.5, "AdaGrad": 2.0**-5.5}
    found = verdicts(fake(steep=steep, best=middle), trials=64)
    easier = found["Adam is easier to tune decoupled than with L2"]
    assert easier.verdict == expected
    assert easier.margin == 5.0


def test_near_is_near_the_better_of_the_pair():
    found = verdicts(fake(gain=30.0, steep={DECOUPLED: 9.0}), trials=64)
    assert found["Adam is easier to tune decoupled than with L2"].estimate.value > 0


def pair(l2, decoupled):
    return {
        decay: by_search(searched(each, each))
        for decay, each in {L2: l2, DECOUPLED: decoupled}.items()
    }


def test_shares_are_counts_of_each_search_near_the_best_of_both():
    nan = np.nan
    found = shares(
        pair(
            [[3.0, 4.0, 4.5, nan], [9.0, 9.5, 2.0, 9.0]],
            [[3.5, 4.0, 9.0, 9.0], [2.5, 3.0, 2.9, 3.1]],
        ),
        1.0,
    )
    # within a point of 3, and of 2
    assert found[L2].tolist() == [50.0, 25.0]
    assert found[DECOUPLED].tolist() == [50.0, 75.0]


def test_shares_of_searches_that_diverged():
    nan = np.nan
    found = shares(pair([[nan, nan], [nan, nan]], [[1.0, 9.0], [nan, nan]]), 1.0)
    np.testing.assert_array_equal(found[L2], [0.0, nan])
    np.testing.assert_array_equal(found[DECOUPLED], [50.0, nan])


@pytest.mark.parametrize("scramble", [False, True])
def test_shares_belong_to_their_search_in_whichever_order_the_trials_stand(scramble):
    chance = np.random.default_rng(0)
    both = chance.uniform(0, 5, (2, 6, 10))
    order = chance.permutation(60) if scramble else np.arange(60)
    found = {
        decay: by_search(searched(errors, errors).isel(trial=order))
        for decay, errors in zip((L2, DECOUPLED), both, strict=True)
    }
    got = shares(found, 1.0)
    for decay, errors in zip((L2, DECOUPLED), both, strict=True):
        wanted = [100 * np.mean(errors[i] <= both[:, i].min() + 1.0) for i in range(6)]
        np.testing.assert_allclose(got[decay], wanted)


def test_the_intervals_are_students_over_searches_in_pairs():
    """Of searches of one trial each, which have nothing to choose from."""
    chance = np.random.default_rng(0)
    worth = {f: {d: chance.normal(20, 1, (8, 1)) for d in (L2, DECOUPLED)} for f in FEW}
    near = {d: chance.uniform(0, 3, (8, 1)) for d in (L2, DECOUPLED)}
    tried = {
        family: {decay: Trials(near[decay], each) for decay, each in both.items()}
        for family, both in worth.items()
    }
    lines = judge(tried, tiny_task(), (4, 8))
    found = {line.statement: line for line in lines}
    each = shares({d: Trials(e, e) for d, e in near.items()}, tiny_task().tolerance)
    differences = {
        "Tuned Adam has a lower test error decoupled than with L2": worth["Adam"][L2]
        - worth["Adam"][DECOUPLED],
        "Tuned SGD is as good with L2 as decoupled": worth["SGD"][L2] - worth["SGD"][DECOUPLED],
        "Adam is easier to tune decoupled than with L2": each[DECOUPLED] - each[L2],
    }
    for statement, numbers in differences.items():
        line = found[statement]
        wanted = ttest_1samp(np.ravel(numbers), 0.0).confidence_interval(0.975)
        np.testing.assert_allclose(line.estimate[1:3], wanted, rtol=1e-9, atol=1e-9)
        assert line.looks == 2
    assert len(lines) == len(FEW) + len(ADAPTIVE)


def test_the_searches_of_all_optimisers_have_equally_many_trials_of_their_own():
    run, trainings = recorded(fake())
    found = measured(run, trials=5, looks=(3, 4), look=1)
    assert {v.estimate.seeds for v in found.verdicts} == {4}
    searches = [each for each in trainings if each.experiment[0] == "optimizers"]
    assert len(searches) == len(trainings) == 2 * 2 * len(FEW)
    for training in searches:
        seeds = np.asarray(training.space["seed"])
        np.testing.assert_array_equal(seeds, np.repeat(training.seeds, 5))
        assert seeds.max() < FRESH
        rates = np.reshape(training.space["learning_rate"], (-1, 5))
        assert np.unique(rates).size == rates.size
        low, high = box(training.make_optimizer.family, training.make_optimizer.decay)[
            "learning_rate"
        ]
        assert ((low <= rates) & (rates <= high)).all()


def test_families_measured_apart_are_those_measured_together():
    """A look may be taken at one of them alone."""
    run, trainings = recorded(fake(2.0, noise=0.3))
    task = tiny_task()
    together = Choice(trials=16, looks=(6,), families=FEW).measure(run, task, 0)
    kept = {each.key for each in trainings}
    apart = [Choice(trials=16, looks=(6,), families=(name,)).measure(run, task, 0) for name in FEW]
    assert [v for each in apart for v in each.verdicts] == together.verdicts
    assert {each.key for each in trainings} == kept


def test_the_drawings_show_what_is_judged():
    finding = measured(fake(2.0))
    assert set(finding.drawings) == {"optimizers tiny", "sensitivity tiny"}
    bars = finding.drawings["optimizers tiny"].groups
    gain = bars["Adam"][L2].value - bars["Adam"][DECOUPLED].value
    line = gains({v.statement: v for v in finding.verdicts})["Adam"]
    assert gain == pytest.approx(line.estimate.value)
    for drawing in finding.drawings.values():
        draw(drawing)


@partial(jax.jit, static_argnums=(0, 1))
def literal(family, decay, rate, strength):
    """The optimiser's own steps, with λθ added to its gradient or with λ·η_t·θ taken off its step."""
    inner = FAMILIES[family].step(optax.cosine_decay_schedule(rate, STEPS), rate)
    l2, decoupled = (strength, 0.0) if decay == L2 else (0.0, strength)

    def step(carry, t):
        theta, state = carry
        updates, state = inner.update(gradient(t, theta) + l2 * theta, state, theta)
        eta = 0.5 + 0.5 * jnp.cos(jnp.pi * t / STEPS)
        theta = theta + updates - decoupled * eta * theta
        return (theta, state), theta

    return jax.lax.scan(step, (THETA, inner.init(THETA)), jnp.arange(STEPS))[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_two_decays_of_every_family(family):
    for decay in (L2, DECOUPLED):
        found = path(lambda rate: Decayed(family, decay, "cosine", STEPS)(rate, 0.1), 0.05)  # noqa: B023
        np.testing.assert_allclose(found, literal(family, decay, 0.05, 0.1), rtol=2e-5, atol=1e-6)


def test_known_optimisers_are_among_them():
    schedule = optax.cosine_decay_schedule(0.05, STEPS)
    same = {
        ("Adam", DECOUPLED): dwd.adamw(schedule, 0.1, peak_learning_rate=0.05),
        ("Adam", L2): dwd.adam(schedule, 0.1),
        ("momentum", DECOUPLED): dwd.sgdw(schedule, 0.1, peak_learning_rate=0.05),
        ("momentum", L2): dwd.sgd(schedule, 0.1),
        ("SGD", L2): dwd.sgd(schedule, 0.1, momentum=0.0),
    }
    for (family, decay), known in same.items():
        found = path(lambda rate: Decayed(family, decay, "cosine", STEPS)(rate, 0.1), 0.05)  # noqa: B023
        np.testing.assert_allclose(found, path(lambda _: known, 0.0), rtol=1e-5, atol=1e-6)  # noqa: B023


def test_equal_boxes():
    for family in FAMILIES:
        for decay in (L2, DECOUPLED):
            (low, high), (least, most) = box(family, decay).values()
            assert np.log2(high / low) == pytest.approx(10)
            assert np.log2(most / least) == pytest.approx(9)
            assert high == FAMILIES[family].learning_rate
            assert most == (FAMILIES[family].l2 if decay == L2 else 0.25)


@pytest.mark.slow
def test_a_real_study():
    design = Choice(trials=2, looks=(2,), families=("momentum", "Adam"))
    finding = design.measure(runner(), tiny_task(), 0)
    assert [v.verdict for v in finding.verdicts].count("not measured") == 0
    assert len(finding.verdicts) == 3
    assert set(finding.drawings) == {"optimizers tiny", "sensitivity tiny"}
