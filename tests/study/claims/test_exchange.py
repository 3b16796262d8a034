"""Claim (vi), across optimisers, on results made from closed forms and on a tiny real run."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from toys import luck, made_up, recorded, searched, tiny_task

from decoupled_wd.study.claims.choice import Choice, box
from decoupled_wd.study.claims.exchange import Exchange, Searched, judge
from decoupled_wd.study.claims.optimizers import DECOUPLED, L2
from decoupled_wd.study.claims.tuning import chosen, halton
from decoupled_wd.study.claims.verdicts import FAILS, HOLDS, SAME
from decoupled_wd.study.tasks.task import runner

COMPETES = "AdamW competes with SGD with momentum and L2"
CARRIED = "The best λ of momentum is not the best for Adam + L2, even with α tuned anew"


def fake(gain=0.0, *, best=2.0**-6, noise=0.0):
    """A valley over log λ: `best` is Adam's λ with L2, and 2^-6 that of all others."""

    def errors(training, point):
        adam = training.make_optimizer.family == "Adam"
        decay = training.make_optimizer.decay
        lowest = best if adam and decay == L2 else 2.0**-6
        above = 0.1 * np.log2(point["weight_decay"] / lowest) ** 2
        validation = 20 + above - gain * (adam and decay == DECOUPLED)
        number = 2 * adam + (decay == L2)
        return {
            "validation_error": validation,
            "test_error": validation + 1 + noise * luck(point["seed"], number),
        }

    return made_up(errors)


def verdicts(run, trials=64, looks=(6,), look=0):
    finding = Exchange(trials=trials, looks=looks).measure(run, tiny_task(), look)
    assert not finding.drawings
    return {v.statement: v for v in finding.verdicts}


@pytest.mark.parametrize(("gain", "expected"), [(-0.3, HOLDS), (-0.7, FAILS), (1.0, HOLDS)])
def test_adamw_against_momentum(gain, expected):
    line = verdicts(fake(gain), trials=16)[COMPETES]
    assert line.verdict == expected
    assert (line.sense, line.bound, line.margin) == (">", -0.5, 0.0)


@pytest.mark.parametrize(("best", "expected"), [(2.0**-2, HOLDS), (2.0**-6, SAME)])
def test_the_regret_of_a_decay_carried_over(best, expected):
    regret = verdicts(fake(best=best))[CARRIED]
    assert regret.verdict == expected
    assert regret.estimate.value == pytest.approx(0.1 * np.log2(best / 2.0**-6) ** 2, abs=0.1)


def test_the_intervals_are_students_over_searches_in_pairs():
    """Of searches of one trial each, which have nothing to choose from."""
    chance = np.random.default_rng(0)
    worth = {name: chance.normal(20, 1, (8, 1)) for name in Searched._fields}
    found = Searched(*(searched(np.ones((8, 1)), each) for each in worth.values()))
    competes, carried = judge(found, tiny_task(), (4, 8))
    for line, numbers in (
        (competes, worth["momentum"] - worth["adamw"]),
        (carried, worth["carried"] - worth["adam"]),
    ):
        wanted = ttest_1samp(np.ravel(numbers), 0.0).confidence_interval(0.975)
        np.testing.assert_allclose(line.estimate[1:3], wanted, rtol=1e-9, atol=1e-9)
        assert line.looks == 2


def test_a_decay_carried_over_is_compared_search_by_search():
    """Drawn from together its trials would choose among the λ of all searches."""
    validation = np.array([[1.0, 9.0], [2.0, 9.0]])
    own = searched(validation, np.full((2, 2), 20.0))
    carried = searched(validation, np.array([[22.0, 90.0], [30.0, 90.0]]))
    _, line = judge(Searched(own, own, own, carried), tiny_task(), (2,))
    assert line.estimate.value == 6.0


def test_each_search_is_carried_the_decay_that_its_own_of_momentum_chose():
    run, trainings = recorded(fake())
    verdicts(run, trials=5, looks=(3,))
    by_label = {(each.experiment, each.make_optimizer.label): each for each in trainings}
    momentum = by_label[("optimizers",), ("cosine", "momentum", L2)]
    carried = by_label[("optimizers", "with the decay of momentum"), ("cosine", "Adam", L2)]
    decays = chosen(run(momentum).isel(epoch=-1))["weight_decay"].values
    assert np.unique(decays).size == 3
    np.testing.assert_array_equal(
        np.reshape(carried.space["weight_decay"], (3, 5)), decays[:, None] + np.zeros(5)
    )
    rates = [
        halton(5, search, {"learning_rate": box("Adam", L2)["learning_rate"]})
        for search in (1, 2, 3)
    ]
    np.testing.assert_array_equal(
        carried.space["learning_rate"], np.concatenate([each["learning_rate"] for each in rates])
    )


def test_the_searches_are_those_of_the_choice():
    run, trainings = recorded(fake())
    task = tiny_task()
    Choice(trials=5, looks=(3,), families=("momentum", "Adam")).measure(run, task, 0)
    kept = {each.key for each in trainings}
    Exchange(trials=5, looks=(3,)).measure(run, task, 0)
    added = {each.key: each for each in trainings if each.key not in kept}
    assert [each.experiment for each in added.values()] == [
        ("optimizers", "with the decay of momentum")
    ]


@pytest.mark.slow
def test_a_real_study():
    finding = Exchange(trials=2, looks=(2,)).measure(runner(), tiny_task(), 0)
    assert [v.verdict for v in finding.verdicts].count("not measured") == 0
