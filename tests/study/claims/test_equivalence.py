"""Distances of trajectories against the paper's algorithms in float64, and the verdicts they lead to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from toys import tiny

from decoupled_wd.study.claims import equivalence
from decoupled_wd.study.claims.equivalence import CASES, DECOUPLED_DECAY, Equivalence
from decoupled_wd.study.claims.verdicts import FAILS, HOLDS
from decoupled_wd.study.tasks.models import Model

STEPS = 40
CURVATURE = np.array([1.0, 0.3, 0.1, 0.03])
OPTIMUM = np.array([0.5, -1.0, 2.0, 0.0])


def quadratic():
    """½·Σ h·(θ − θ*)², whatever the batch: the trajectory depends on the optimiser alone."""

    def loss(params, x, y, key):
        return jnp.sum(CURVATURE * (params["w"] - OPTIMUM) ** 2) / 2

    def init(key):
        return {"w": jnp.arange(1.0, 5.0)}

    return tiny(8)._replace(model=Model(init, loss, lambda *_: {}))


def trajectory(case, strength, decoupled):
    algorithm = reference.algorithm_2 if case.adaptive else reference.algorithm_1
    return algorithm(
        np.arange(1.0, 5.0),
        lambda t, theta: CURVATURE * (theta - OPTIMUM),
        alpha=case.rate,
        weight_decay=lambda t: strength,
        eta=reference.cosine(STEPS) if case.annealed else reference.constant,
        decoupled=decoupled,
        steps=STEPS,
        **({} if case.adaptive else {"beta1": case.momentum}),
    )[1:]


@pytest.fixture(scope="module")
def found():
    with jax.enable_x64(True):
        return equivalence.lockstep(quadratic(), CASES, steps=STEPS, seeds=1)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.preconditioned])
def test_the_distance_is_that_of_the_papers_algorithms(found, name):
    case = CASES[name]
    with_l2, decayed = trajectory(case, case.l2, False), trajectory(case, DECOUPLED_DECAY, True)
    expected = np.linalg.norm(with_l2 - decayed, axis=1)
    got = found.sel(case=name, seed=0)
    np.testing.assert_allclose(got["distance"], expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got["norm"], np.linalg.norm(decayed, axis=1), rtol=1e-9)


def test_without_decay_the_effect_behind_the_fixed_preconditioner_is_the_decay_alone(found):
    # α/s is tiny: θ hardly moves but for the decay, which no preconditioner touches
    distance = found["distance"].sel(case="scaled L2, λ' = 0", seed=0).values
    norms = found["norm"].sel(case="scaled L2, λ' = 0", seed=0).values
    kept = (1 - DECOUPLED_DECAY) ** np.arange(1, STEPS + 1)
    np.testing.assert_allclose(distance, norms * (1 / kept - 1), rtol=0.02)


def test_the_propositions_hold_on_the_quadratic(found):
    assert [line.verdict for line in equivalence.judge(found, "toy")] == [HOLDS] * 8


@pytest.mark.parametrize(
    ("case", "like", "line"),
    [
        ("SGD", "momentum", 0),
        ("SGD, cosine", "SGD, λ' = 0", 1),
        ("momentum", "momentum, λ' = 0", 2),
        ("momentum", "SGD", 3),
        (equivalence.SEARCHED[7], "SGD", 4),
        ("scaled L2", "scaled L2 as printed", 5),
        ("scaled L2 as printed", "scaled L2", 6),
        ("scaled L2 as printed, α = 1", "scaled L2 as printed", 7),
    ],
)
def test_each_verdict_falls_if_its_case_behaves_like_another(found, case, like, line):
    other = found.copy(deep=True)
    for name in ("distance", "norm"):
        other[name].loc[{"case": case}] = found[name].sel(case=like).values
    lines = equivalence.judge(other, "toy")
    assert lines[line].verdict == FAILS
    assert [each.verdict for each in lines].count(FAILS) == 1


def test_a_seed_on_the_other_side_of_the_bound_leaves_it_undecided(found):
    doubled = found.isel(seed=[0, 0]).assign_coords(seed=[0, 1]).copy(deep=True)
    doubled["distance"].loc[{"case": "SGD", "seed": 1}] = 1.0
    assert equivalence.judge(doubled, "toy")[0].verdict == "undecided"


def test_it_trains_the_tasks_network():
    finding = Equivalence(steps=3, seeds=2).measure(None, tiny(), 0)
    by_statement = {line.statement: line for line in finding.verdicts}
    exact = next(line for name, line in by_statement.items() if "α fixed" in name)
    assert exact.verdict == HOLDS
    assert exact.estimate.low <= exact.estimate.value <= exact.estimate.high < 1e-6
    assert list(finding.drawings) == ["equivalence toy, linear"]


def test_the_key_of_each_step_reaches_both_copies_alike():
    def loss(params, x, y, key):
        return jnp.sum(params["w"] * jax.random.normal(key, (4,)))

    task = quadratic()
    noisy = task._replace(model=task.model._replace(loss=loss))
    same = equivalence.lockstep(noisy, {"SGD": CASES["SGD"]}, steps=3, seeds=2)
    assert float(same["distance"].max()) < 1e-5
    assert same["norm"].sel(seed=0).values.tolist() != same["norm"].sel(seed=1).values.tolist()


def test_the_search_for_adams_l2_is_centred_on_what_is_right_for_sgd():
    strengths = np.array([CASES[name].l2 for name in equivalence.SEARCHED])
    right = DECOUPLED_DECAY / equivalence.ADAM_RATE
    np.testing.assert_allclose(strengths * strengths[::-1], right**2)
    np.testing.assert_allclose(strengths[[0, -1]], [right / 1000, right * 1000])
