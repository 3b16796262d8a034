"""Claim (vi) on results made from closed forms, its optimisers against their parts, and a tiny real run."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import STEPS, THETA, gradient, path, results, tiny_task, with_finalists

import decoupled_wd as dwd
from decoupled_wd.study.claims.choice import Choice, search, share
from decoupled_wd.study.claims.optimizers import DECOUPLED, FAMILIES, L2, Decayed
from decoupled_wd.study.claims.tuning import Trials, halton
from decoupled_wd.study.tasks.task import runner

ADAPTIVE = ("Adam", "AdaGrad")
FEW = ("SGD", "momentum", *ADAPTIVE)


def decayed(training):
    """The optimiser of a training, of all its trials."""
    make_optimizer = training.make_optimizer
    return make_optimizer.make_optimizer if isinstance(make_optimizer, Trials) else make_optimizer


class Fake:
    """A valley over log λ, for every optimiser with its own floor and its own best λ; α plays no part.

    The test error is one point above the validation error, and 50 below it where λ is at its least:
    whoever chooses on the test set is found out.
    """

    def __init__(self, gain=0.0, *, noise=0.0, best=None, steep=None):
        self.gain, self.noise = gain, noise
        self.best = {"momentum": 2.0**-6, "Adam": 2.0**-2} if best is None else best
        self.steep = steep or {}

    def __call__(self, training):
        space, seeds = training.space, training.seeds
        family, decay = decayed(training).family, decayed(training).decay
        if "trial" in space:
            decays = search(family, decay, len(space["trial"]))["weight_decay"]
        else:
            decays = np.broadcast_to(space["weight_decay"], [len(a) for a in space.values()])
        valley = np.log2(decays / self.best.get(family, 2.0**-5)) ** 2
        decoupled = decay == DECOUPLED
        validation = 20 + self.steep.get(decay, 1.0) * valley
        offsets = np.zeros(seeds)
        if decoupled and FAMILIES[family].adaptive:
            validation = validation - validation.min() + 20 - self.gain
            offsets = self.noise * np.resize([-1, 1], seeds)
        elif "trial" in space:
            validation = validation - validation.min() + 20
        test = np.where(decays == decays.min(), validation - 50, validation + 1)
        if "trial" not in space:
            test = validation + 1
        return results(space, validation, test, offsets)


def verdicts(fake, trials=16, seeds=2):
    """Of four families."""
    design = Choice(trials=trials, seeds=seeds, fresh_seeds=4, families=FEW)
    found = design.measure(with_finalists(fake), tiny_task())
    return {v.statement: v for v in found.verdicts}


def gains(found):
    return {
        name: found[f"Tuned {name} has a lower test error decoupled than with L2"]
        for name in ADAPTIVE
    }


@pytest.mark.parametrize(
    ("gain", "noise", "expected"),
    [
        (2.0, 0.0, "holds"),
        (0.0, 0.0, "does not hold"),
        (-2.0, 0.0, "does not hold"),
        (0.2, 3.0, "undecided"),
        (6.0, 1.0, "holds"),
    ],
)
def test_the_gain_of_decoupling(gain, noise, expected):
    found = gains(verdicts(Fake(gain, noise=noise)))
    assert {v.verdict for v in found.values()} == {expected}
    assert found["Adam"].estimate.value == pytest.approx(gain, abs=1e-9)


@pytest.mark.parametrize("name", ["SGD", "momentum"])
def test_sgd_gains_nothing_by_decoupling(name):
    statement = f"Tuned {name} is as good with L2 as decoupled"
    assert verdicts(Fake(2.0))[statement].verdict == "holds"

    def better_decoupled(training):
        found = Fake()(training)
        return found - 1.0 if decayed(training).decay == DECOUPLED else found

    assert verdicts(better_decoupled)[statement].verdict == "does not hold"


@pytest.mark.parametrize(
    ("steep", "expected"),
    [
        ({L2: 5.0}, "holds"),
        ({DECOUPLED: 5.0}, "does not hold"),
    ],
)
def test_the_wider_valley_is_easier_to_tune(steep, expected):
    # the best λ in the middle of either range, for the valleys to differ in their steepness alone
    best = dict.fromkeys(FAMILIES, 2.0**-6)
    found = verdicts(Fake(steep=steep, best=best), trials=64)
    assert found["Adam is easier to tune decoupled than with L2"].verdict == expected


def test_near_is_near_the_better_of_the_pair():
    found = verdicts(Fake(gain=30.0, steep={DECOUPLED: 9.0}), trials=64)
    assert found["Adam is easier to tune decoupled than with L2"].estimate.value > 0


def test_share_is_a_count():
    runs = results({"trial": [0, 1, 2, 3]}, np.zeros(4), [3.0, 4.0, 4.5, np.nan], np.array([-1, 1]))
    assert share(runs, 3.0, np.arange(2), 1.0) == 50.0
    assert share(runs, 3.0, np.array([1, 1]), 1.0) == 25.0


@pytest.mark.parametrize(("best", "expected"), [(2.0**-2, "holds"), (2.0**-6, "does not hold")])
def test_the_regret_of_a_decay_carried_over(best, expected):
    found = verdicts(Fake(best={"momentum": 2.0**-6, "Adam": best}), trials=64)
    statement = "The best λ of momentum is not the best for Adam + L2, even with α tuned anew"
    regret = found[statement]
    assert regret.verdict == expected
    assert regret.estimate.value == pytest.approx(np.log2(best / 2.0**-6) ** 2, abs=0.5)


@pytest.mark.parametrize(("gain", "expected"), [(-0.4, "holds"), (-0.6, "does not hold")])
def test_adamw_against_momentum(gain, expected):
    found = verdicts(Fake(gain))
    assert found["AdamW competes with SGD with momentum"].verdict == expected


def test_halton_is_the_radical_inverse_in_logarithms():
    def inverse(number, base):
        digits = np.base_repr(number, base)[::-1]
        return sum(int(digit) / base**place for place, digit in enumerate(digits, 1))

    found = halton(20, a=(1e-3, 10.0), b=(2.0, 8.0), c=(1e-8, 1.0))
    for (low, high), base, points in zip(
        ((1e-3, 10.0), (2.0, 8.0), (1e-8, 1.0)), (2, 3, 5), found.values(), strict=True
    ):
        share = np.array([inverse(number, base) for number in range(1, 21)])
        np.testing.assert_allclose(points, low * (high / low) ** share)


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


def test_equal_budgets():
    spans = {
        (family, decay, axis): np.log2(values.max() / values.min())
        for family in FAMILIES
        for decay in (L2, DECOUPLED)
        for axis, values in search(family, decay, 64).items()
    }
    for axis, octaves in (("learning_rate", 10), ("weight_decay", 9)):
        found = [span for (*_, name), span in spans.items() if name == axis]
        assert np.ptp(found) < 1e-9
        assert octaves - 1 < found[0] < octaves


def test_a_trial_is_its_point_of_the_search():
    makes = {}
    run = with_finalists(Fake())

    def fake(training):
        makes[training.experiment, training.make_optimizer.label] = training.make_optimizer
        return run(training)

    task = tiny_task()._replace(batch_size=20, epochs=STEPS)
    Choice(trials=4, seeds=2, fresh_seeds=1, families=FEW).measure(fake, task)
    assert len(makes) == 2 * (2 * len(FEW) + 1)
    for family, decay in (("Adam", DECOUPLED), ("momentum", L2)):
        rate, strength = (axis[2] for axis in search(family, decay, 4).values())
        found = path(makes[("optimizers",), ("cosine", family, decay)], 2.0)
        expected = literal(family, decay, rate, strength)
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
    carried = makes[("optimizers", "with the decay of momentum"), ("cosine", "Adam", L2)]
    found = path(lambda rate: carried(rate, 0.1), 0.05)
    np.testing.assert_allclose(found, literal("Adam", L2, 0.05, 0.1), rtol=2e-5, atol=1e-6)


def test_a_real_study():
    design = Choice(trials=3, seeds=2, fresh_seeds=2, families=("momentum", "Adam"))
    finding = design.measure(runner(), tiny_task())
    assert [v.verdict for v in finding.verdicts].count("not measured") == 0
    assert len(finding.verdicts) == 5
    assert set(finding.drawings) == {"optimizers tiny", "sensitivity tiny"}
