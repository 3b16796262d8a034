"""The paper's propositions with their limits, L2 as textbooks write it, and the order of links."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import STEPS
from sklearn.datasets import load_breast_cancer

import decoupled_wd as dwd

ALPHA = 0.05


def distance(path_a, path_b):
    """Largest distance between two trajectories, relative to the length of the way."""
    way = np.abs(np.diff(path_a, axis=0)).sum(axis=0).max()
    return np.abs(path_a - path_b).max() / way


@pytest.mark.parametrize("schedule", [None, optax.cosine_decay_schedule(1.0, STEPS)])
def test_proposition_1_sgd_with_decay_is_l2_with_decay_over_alpha(problem, x64, schedule):
    lr = ALPHA if schedule is None else lambda t: ALPHA * schedule(t)
    decayed = dwd.sgdw(lr, 0.005, momentum=0.0, peak_learning_rate=ALPHA)
    coupled = dwd.sgd(lr, 0.005 / ALPHA, momentum=0.0)
    chex.assert_trees_all_close(problem.run(decayed), problem.run(coupled), rtol=0, atol=1e-13)


def test_proposition_1_does_not_hold_with_momentum(problem, x64):
    decayed = problem.run(dwd.sgdw(ALPHA, 0.005, momentum=0.9))
    naive = problem.run(dwd.sgd(ALPHA, 0.005 / ALPHA, momentum=0.9))
    corrected = problem.run(dwd.sgd(ALPHA, 0.005 * (1 - 0.9) / ALPHA, momentum=0.9))
    assert distance(decayed, naive) > 1e-2
    assert 1e-4 < distance(decayed, corrected) < distance(decayed, naive) / 5


def test_proposition_2_no_l2_coefficient_makes_adam_take_adamws_steps(problem, x64):
    adamw = problem.run(dwd.adamw(1e-2, 0.005))

    def gap(l2):
        return distance(adamw, problem.run(dwd.adam(1e-2, l2)))

    gaps = [gap(l2) for l2 in np.geomspace(1e-5, 1e3, 33)]
    assert min(gaps) > 1e-3
    assert distance(adamw, adamw) == 0


PRECONDITIONER = 10.0 ** np.linspace(-1, 1, 16)  # s: the steps are divided by it


def preconditioned(problem, alpha, momentum, before=None, after=None):
    """SGD on ``M = diag(s)^-1`` with a term before the preconditioner, or decay after the step."""
    s = problem.tree(PRECONDITIONER)
    precondition = optax.stateless(lambda u, _: jax.tree.map(jnp.divide, u, s))
    links = [before or optax.identity(), precondition, optax.trace(momentum), optax.scale(-alpha)]
    return problem.run(optax.chain(*links, after or optax.identity()))


def scaled_l2(problem, coefficient):
    """The gradient of ``coefficient · ||θ ⊙ √s||²``."""
    s = problem.tree(PRECONDITIONER)
    return optax.stateless(
        lambda u, p: jax.tree.map(lambda g, w, k: g + 2 * coefficient * k * w, u, p, s)
    )


@pytest.mark.parametrize(("alpha", "momentum"), [(0.01, 0.0), (0.05, 0.0), (0.01, 0.9)])
def test_proposition_3_decay_is_scale_adjusted_l2_without_momentum(problem, x64, alpha, momentum):
    lam = 0.005
    decayed = preconditioned(problem, alpha, momentum, after=dwd.decay_weights(lam))
    adjusted = preconditioned(
        problem, alpha, momentum, before=scaled_l2(problem, lam / (2 * alpha))
    )
    assert (distance(decayed, adjusted) < 1e-13) == (momentum == 0)


@pytest.mark.parametrize("alpha", [0.05, 1.0])
def test_proposition_3_as_printed_counts_alpha_twice(problem, x64, alpha):
    lam = 0.005
    scale = dwd.decay_weights(lam)
    printed = scaled_l2(problem, (lam / alpha) / (2 * alpha))
    # the printed coefficient is λ'/(2α) with λ' = λ/α; ten steps, since α = 1 is no stable rate here
    decayed = preconditioned(problem, alpha, 0.0, after=scale)[:10]
    as_printed = preconditioned(problem, alpha, 0.0, before=printed)[:10]
    assert (distance(decayed, as_printed) < 1e-12) == (alpha == 1.0)


def test_textbook_l2_in_the_cost_is_sgd_with_decay_on_the_weights_alone(x64):
    x, y = load_breast_cancer(return_X_y=True)
    x = jnp.asarray((x - x.mean(0)) / x.std(0))
    n, alpha, penalty = len(y), 0.5, 5.0
    start = {"weights": jnp.linspace(-1, 1, x.shape[1]), "bias": jnp.ones(())}

    def cost_0(params):
        logits = x @ params["weights"] + params["bias"]
        return optax.sigmoid_binary_cross_entropy(logits, y).mean()

    def cost(params):
        return cost_0(params) + penalty / (2 * n) * jnp.sum(params["weights"] ** 2)

    lam = dwd.from_cost_penalty(penalty, dataset_size=n, learning_rate=alpha)
    assert lam == pytest.approx(alpha * penalty / n)
    only_weights = {"weights": True, "bias": False}
    by_decay = dwd.sgdw(alpha, lam, momentum=0.0, mask=only_weights)
    by_cost = optax.sgd(alpha)

    def step(carry, _):
        (a, a_state), (b, b_state) = carry
        u, a_state = by_decay.update(jax.grad(cost_0)(a), a_state, a)
        v, b_state = by_cost.update(jax.grad(cost)(b), b_state, b)
        a, b = optax.apply_updates(a, u), optax.apply_updates(b, v)
        return ((a, a_state), (b, b_state)), (a, b)

    carry = ((start, by_decay.init(start)), (start, by_cost.init(start)))
    _, (decayed, penalised) = jax.lax.scan(step, carry, length=200)
    chex.assert_trees_all_close(decayed, penalised, rtol=0, atol=1e-12)
    moved = jnp.abs(decayed["weights"][-1] - start["weights"]).max()
    assert moved > 0.1


def test_order_is_meaning(x64):
    """The same three links in three orders, on one weight and one step: g = 3, θ = 2, α = 0.1, λ = 0.5."""
    g, theta, alpha, lam = jnp.array(3.0), jnp.array(2.0), 0.1, 0.5
    adam, lr = dwd.scale_by_adam(), optax.scale_by_learning_rate(alpha)
    decay, last = dwd.add_decayed_weights(lam), dwd.decay_weights(lam)

    def step(*links):
        optimizer = optax.chain(*links)
        return float(optimizer.update(g, optimizer.init(theta), theta)[0])

    # Adam's first direction is the sign of what it is given
    assert step(decay, adam, lr) == pytest.approx(-alpha * 1)  # L2: the decay drowns in the sign
    assert step(adam, decay, lr) == pytest.approx(-alpha * (1 + lam * 2))  # optax: lr-coupled
    assert step(adam, lr, last) == pytest.approx(-alpha * 1 - lam * 2)  # the paper


@pytest.mark.parametrize(("coupling", "factor"), [(dwd.PAPER, 1.0), (dwd.LR, 10.0)])
def test_the_paper_decay_does_not_depend_on_the_learning_rate(x64, coupling, factor):
    def log_shrinkage(alpha):
        schedule = optax.cosine_decay_schedule(alpha, 100)
        optimizer = dwd.adamw(schedule, 1e-4, coupling=coupling, peak_learning_rate=alpha)
        theta = jnp.ones(3)

        def step(carry, _):
            theta, state = carry
            updates, state = optimizer.update(jnp.zeros(3), state, theta)
            return (optax.apply_updates(theta, updates), state), None

        (theta, _), _ = jax.lax.scan(step, (theta, optimizer.init(theta)), length=100)
        return float(jnp.log(theta[0]))

    assert log_shrinkage(0.01) / log_shrinkage(0.001) == pytest.approx(factor, rel=1e-3)
    assert log_shrinkage(0.001) < -1e-6
