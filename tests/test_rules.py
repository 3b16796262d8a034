"""Every rule against its formula in NumPy float64, and the laws that tie the rules together."""

import subprocess
import sys
from pathlib import Path

import cases
import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import lp_step, norm, where_agreed
from hypothesis import given, settings
from hypothesis import strategies as st

import decoupled_wd as dwd
from decoupled_wd.rules import (
    Rule,
    as_rule,
    cautious,
    huber,
    lp,
    onto_norm,
    touched,
    towards,
    towards_norm,
    towards_start,
    towards_zero,
)

C = 0.3
RNG = np.random.default_rng(0)
START = {"kernel": RNG.normal(size=(3, 4)), "bias": RNG.normal(size=4), "scalar": RNG.normal()}
THETA = jax.tree.map(lambda x: x + RNG.normal(size=np.shape(x)), START)
DELTA = jax.tree.map(lambda x: RNG.normal(size=np.shape(x)), START)
TARGET = jax.tree.map(lambda x: RNG.normal(size=np.shape(x)), START)
DELTA["kernel"][1], DELTA["bias"][2] = 0, 0  # ties, and rows without a gradient


def as_jax(tree, dtype=None):
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)


def pull_of(rule, *, start=START, theta=THETA, delta=DELTA, fraction=C, dtype=None):
    """The pull of `rule` at theta, begun at start; compiled, as users run it."""
    start, theta, delta = (as_jax(tree, dtype) for tree in (start, theta, delta))

    def update(updates, state, params):
        return rule.update(updates, state, params, gradients=updates, fraction=fraction)

    state = jax.jit(rule.init)(start)
    pull, after = jax.jit(update)(delta, state, theta)
    chex.assert_trees_all_equal(state, after)
    return pull


FORMULAS = cases.FORMULAS | {
    "lp-2": (lp(2), lambda theta, start, delta, c: theta + delta),
    "lp-3": (lp(3), lp_step(3)),
    "cautious-zero": (
        cautious(towards_zero()),
        where_agreed(lambda theta, start, delta, c: theta),
    ),
    "cautious-lp": (cautious(lp(1)), where_agreed(lp_step(1))),
}
RULES = {name: rule for name, (rule, _) in FORMULAS.items()}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_pull_is_its_formula_in_float64(x64, name):
    rule, formula = FORMULAS[name]
    expected = jax.tree.map(lambda *x: formula(*x, C).reshape(np.shape(x[0])), THETA, START, DELTA)
    chex.assert_trees_all_close(pull_of(rule), expected, rtol=1e-13, atol=1e-14)


def test_towards_a_tree(x64):
    expected = jax.tree.map(lambda theta, target: theta - target, THETA, TARGET)
    chex.assert_trees_all_close(pull_of(towards(TARGET)), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("axis", [0, 1, -1, (0,), (0, 1), (-2, -1), (), slice(1, None), slice(1)])
@pytest.mark.parametrize("radius", [0.5, None])
@pytest.mark.parametrize("make", [towards_norm, onto_norm])
def test_a_norm_for_each_slice(x64, axis, radius, make):
    theta, start = THETA["kernel"], START["kernel"]
    over = (0, 1)[axis] if isinstance(axis, slice) else axis
    r = norm(start, over) if radius is None else radius
    got = pull_of(make(radius, axis), start=start, theta=theta, delta=np.zeros_like(theta))
    np.testing.assert_allclose(got, (1 - r / norm(theta, over)) * theta, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_narrow_params_are_pulled_in_float32(name, dtype):
    narrow = [as_jax(as_jax(tree, dtype), jnp.float32) for tree in (START, THETA, DELTA)]
    wide = pull_of(RULES[name], **dict(zip(("start", "theta", "delta"), narrow, strict=True)))
    got = pull_of(RULES[name], dtype=dtype)
    chex.assert_trees_all_close(as_jax(got, jnp.float32), wide, rtol=2e-6, atol=2e-6)
    if name != "towards_zero":  # its pull is θ, which is exact in any dtype
        assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype("float32")}


# Fixed points and limits


STILL = jax.tree.map(np.zeros_like, START)
TARGETS = {
    "towards_zero": (towards_zero(), STILL),
    "towards_start": (towards_start(), START),
    "towards-tree": (towards(TARGET), TARGET),
    "towards-number": (towards(0.25), jax.tree.map(lambda x: np.full_like(x, 0.25), START)),
    "towards_norm": (towards_norm(2.0), jax.tree.map(lambda x: 2 * x / norm(x).item(), THETA)),
    "onto_norm": (onto_norm(2.0), jax.tree.map(lambda x: 2 * x / norm(x).item(), THETA)),
    "lp": (lp(1), STILL),
    "cautious": (cautious(towards_start()), START),
}


@pytest.mark.parametrize("name", TARGETS)
def test_the_target_is_a_fixed_point(x64, name):
    rule, target = TARGETS[name]
    pull = pull_of(rule, theta=target, delta=STILL)
    chex.assert_trees_all_close(pull, STILL, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", TARGETS)
def test_an_idle_weight_ends_at_the_target(x64, name):
    """With its own direction where the target is a norm."""
    rule, target = TARGETS[name]
    optimizer = dwd.decay_weights(0.1, rule=rule)

    def step(carry, _):
        updates, state = optimizer.update(as_jax(STILL), carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), None

    carry = (as_jax(THETA), optimizer.init(as_jax(START)))
    (params, _), _ = jax.lax.scan(step, carry, length=400)
    chex.assert_trees_all_close(params, as_jax(target), rtol=0, atol=1e-14)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_norm_of_zero_is_plain_decay_bit_for_bit(axis):
    theta = np.concatenate([RNG.normal(size=(50, 4)), np.zeros((2, 4)), 1e-30 * np.ones((1, 4))])
    pair = (
        pull_of(rule, start=theta, theta=theta, delta=theta, dtype=jnp.float32)
        for rule in (towards_norm(0.0, axis), towards_zero())
    )
    chex.assert_trees_all_equal(*pair)


@pytest.mark.parametrize(
    "make", [towards_norm, lambda radius, axis: onto_norm(radius or None, axis)]
)
@pytest.mark.parametrize("radius", [None, 0.0, 3.0])
@pytest.mark.parametrize("axis", [None, 1])
def test_a_norm_that_is_zero_stays_without_nan(radius, axis, make):
    theta = jnp.zeros((2, 3)).at[0].set(1.0) if axis else jnp.zeros((2, 3))
    pull = pull_of(make(radius, axis), start=theta, theta=theta, delta=theta)
    assert bool(jnp.isfinite(pull).all())
    assert not pull[1].any()


# Onto a norm


def onto(rule):
    """Full decay: the weight lands where the rule wants it."""
    return dwd.decay_weights(1.0, coupling=dwd.CONSTANT, rule=rule)


@pytest.mark.parametrize("axis", [None, 0, slice(1, None)])
@pytest.mark.parametrize("radius", [None, 40.0])
def test_full_decay_onto_a_norm_lands_on_it(radius, axis):
    """However long the step is, and in float32 to its rounding, over many steps."""
    start = jnp.asarray(RNG.normal(size=(64, 48)), jnp.float32)
    link, over = onto(onto_norm(radius, axis)), (1,) if isinstance(axis, slice) else axis
    wanted = norm(np.float64(start), over) if radius is None else radius
    state, theta = link.init(start), start
    for scale in (1e-4, 0.1, 30.0, 0.0, *np.full(60, 1e-3)):
        updates, state = link.update(scale * jnp.cos(theta + scale), state, theta)
        theta = optax.apply_updates(theta, updates)
        # a step of 30 rounds in units of its own
        tolerance = 5e-7 if scale < 1 else 1e-5
        np.testing.assert_allclose(norm(np.float64(theta), over) / wanted, 1, atol=tolerance)
    before, z = theta, np.float64(theta) + 1.0
    updates, _ = link.update(jnp.ones_like(theta), state, before)
    np.testing.assert_allclose(
        optax.apply_updates(before, updates), wanted * z / norm(z, over), rtol=2e-6, atol=2e-6
    )


def test_one_sided_only_caps(x64):
    link = onto(onto_norm(5.0, one_sided=True))
    theta = jnp.array([3.0, 0.0])
    for delta, expected in (([0.0, 3.0], [3.0, 3.0]), ([3.0, 8.0], [3.0, 4.0])):
        updates, _ = link.update(jnp.array(delta), link.init(theta), theta)
        np.testing.assert_allclose(theta + updates, expected, rtol=1e-15)


@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("axis", [None, 1])
def test_a_norm_of_zero_at_init_is_refused_by_name(axis, one_sided):
    params = {"a": jnp.ones((2, 2)), "b": {"kernel": jnp.zeros((2, 2)).at[0].set(float(axis or 0))}}
    link = onto(onto_norm(axis=axis, one_sided=one_sided))
    with pytest.raises(ValueError, match=r"would hold 'b/kernel', .* which is 0; pass radius="):
        link.init(params)
    link = onto(onto_norm(1.0, axis=axis, one_sided=one_sided))
    updates, _ = link.update(params, link.init(params), params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))


def test_a_norm_of_nan_at_init_is_told_from_one_of_zero():
    params = {"a": jnp.ones(2), "b": jnp.array([1.0, jnp.nan])}
    with pytest.raises(ValueError, match=r"would hold 'b', .* which is not finite; correct the"):
        onto(onto_norm()).init(params)
    with pytest.raises(ValueError, match=r"would hold 'b', .* which is not finite; correct the"):
        onto(onto_norm()).init({"b": jnp.array([jnp.inf])})


@pytest.mark.parametrize("make", [towards_norm, onto_norm])
def test_a_python_number_has_a_norm(make):
    link = onto(make())
    updates, _ = link.update({"w": 1.0}, link.init({"w": -2.0}), {"w": -2.0})
    assert float(updates["w"]) == (0.0 if make is onto_norm else 1.0)
    with pytest.raises(ValueError, match="does not fit the parameter 'w' of shape"):
        make(axis=slice(1, None)).init({"w": 2.0})


def test_where_a_norm_of_zero_at_init_is_not_known_the_weight_stays_zero():
    link, params = onto(onto_norm()), {"w": jnp.zeros((2, 3))}
    state = jax.jit(link.init)(params)
    updates, _ = link.update({"w": jnp.ones((2, 3))}, state, params)
    assert not updates["w"].any()


# Laws


@pytest.mark.parametrize(
    "rule", [towards_zero(), towards_start(), towards(TARGET), towards_norm(1.0)]
)
def test_strengths_add(x64, rule):
    """Two decays of λ1 and λ2 in one chain see the same params: they are one of λ1 + λ2."""
    params, updates = as_jax(THETA), as_jax(DELTA)
    both = optax.chain(dwd.decay_weights(0.1, rule=rule), dwd.decay_weights(0.02, rule=rule))
    one = dwd.decay_weights(0.12, rule=rule)
    got, _ = both.update(updates, both.init(as_jax(START)), params)
    expected, _ = one.update(updates, one.init(as_jax(START)), params)
    chex.assert_trees_all_close(got, expected, rtol=1e-14, atol=1e-15)


def shifted(problem, shift):
    return problem._replace(theta=problem.theta - shift, optimum=problem.optimum - shift)


@pytest.mark.parametrize("make", [dwd.sgdw, dwd.adamw])
def test_towards_start_is_plain_decay_on_the_shifted_problem(problem, x64, make):
    start = problem.theta
    ours = problem.run(make(0.01, 0.02, rule=towards_start()))
    zero = shifted(problem, start).run(make(0.01, 0.02))
    np.testing.assert_allclose(ours, zero + start, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [dwd.sgdw, dwd.adamw])
def test_towards_is_plain_decay_on_the_shifted_problem(problem, x64, make):
    target = np.linspace(-1, 1, 16)
    ours = problem.run(make(0.01, 0.02, rule=towards(problem.tree(target))))
    zero = shifted(problem, target).run(make(0.01, 0.02))
    np.testing.assert_allclose(ours, zero + target, rtol=0, atol=1e-12)
    assert np.abs(ours - problem.run(make(0.01, 0.02))).max() > 0.01


def test_lp_2_is_plain_decay_of_the_weight_reached(x64):
    """(1 − c)(θ + Δ), which is plain decay less c·Δ."""
    rule, plain = (dwd.decay_weights(C, rule=r) for r in (lp(2), towards_zero()))
    params, delta = as_jax(THETA), as_jax(DELTA)
    got, _ = rule.update(delta, rule.init(params), params)
    expected, _ = plain.update(delta, plain.init(params), params)
    expected = jax.tree.map(lambda u, d: u - C * d, expected, delta)
    chex.assert_trees_all_close(got, expected, rtol=0, atol=1e-14)


# The soft threshold


def after_one_step(rule, theta, delta, c):
    link = dwd.decay_weights(c, rule=rule)
    theta, delta = jnp.asarray(theta), jnp.asarray(delta)
    updates, _ = jax.jit(link.update)(delta, link.init(theta), theta)
    return optax.apply_updates(theta, updates)


def test_lp_1_is_the_soft_threshold(x64):
    theta, delta = RNG.normal(size=(2, 2000))
    z = theta + delta
    expected = np.sign(z) * np.maximum(np.abs(z) - C, 0)
    assert 0.1 < (expected == 0).mean() < 0.9
    np.testing.assert_allclose(after_one_step(lp(1), theta, delta, C), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("c", [2.0**-3, 0.3, 1e-4])
def test_what_the_soft_threshold_cuts_off_is_zero_to_the_rounding_of_its_terms(c):
    theta, delta = (c * RNG.normal(size=(2, 20_000))).astype(np.float32)
    cut = np.abs(np.float64(theta) + np.float64(delta)) <= c
    new = np.abs(after_one_step(lp(1), theta, delta, c))[cut]
    terms = (np.abs(theta) + np.abs(delta))[cut]
    assert cut.mean() > 0.3
    assert (new <= 2.0**-22 * terms).all()
    assert (new == 0).mean() > 0.5


def test_an_idle_weight_is_cut_off_to_exactly_zero():
    """With a fraction that is a power of two nothing rounds, and zero stays zero."""
    theta = jnp.array([0.1, -0.125, 0.126, 3.0, 0.0])
    new = after_one_step(lp(1), theta, jnp.zeros(5), 0.125)
    chex.assert_trees_all_equal(new == 0, jnp.array([True, True, False, False, True]))


@pytest.mark.parametrize("p", [1, 1.5, 2, 50.0])
def test_a_strength_scheduled_to_zero_leaves_a_weight_of_zero_where_it_is(p):
    new = after_one_step(
        lp(p), jnp.array([0.0, 1.0, 1e4]), jnp.zeros(3), optax.constant_schedule(0.0)
    )
    assert new.tolist() == [0.0, 1.0, 1e4]


@pytest.mark.parametrize("p", [1, 1.2, 1.5, 2, 3, 50.0])
@pytest.mark.parametrize("c", [0.0, 1e-3, 0.5, 5.0])
def test_lp_never_crosses_zero(p, c):
    theta, delta = (10 ** RNG.uniform(-8, 4, (2, 2000)) * RNG.choice([-1, 1], (2, 2000))).astype(
        "f"
    )
    z, new = np.float64(theta) + delta, np.float64(after_one_step(lp(p), theta, delta, c))
    rounding = 2.0**-22 * (np.abs(theta) + np.abs(delta))
    assert np.isfinite(new).all()
    assert (np.sign(z) * new >= -rounding).all()
    assert (np.abs(new) <= np.abs(z) + rounding).all()


def test_lp_1_finds_the_lasso_solution(x64):
    """Proximal gradient descent on ½·h(θ − o)² + λ|θ| ends at the soft threshold of o by λ/h."""
    curvature, optimum, lr, penalty = RNG.uniform(0.5, 2, 50), RNG.normal(size=50), 0.1, 0.4
    optimizer = dwd.decouple(optax.sgd(lr), penalty, learning_rate=lr, coupling=dwd.LR, rule=lp(1))

    def step(carry, _):
        theta, state = carry
        updates, state = optimizer.update(curvature * (theta - optimum), state, theta)
        return (optax.apply_updates(theta, updates), state), None

    theta = jnp.ones(50)
    (theta, _), _ = jax.lax.scan(step, (theta, optimizer.init(theta)), length=2000)
    expected = np.sign(optimum) * np.maximum(np.abs(optimum) - penalty / curvature, 0)
    assert 5 < (expected == 0).sum() < 45
    np.testing.assert_allclose(theta, expected, rtol=0, atol=1e-14)


# Caution


SIZES = st.sampled_from([-(2.0**-100), 0.0, 2.0**-100]) | st.floats(
    -(2.0**100), 2.0**100, width=32, allow_subnormal=False
)


@settings(max_examples=200, deadline=None, database=None)
@given(theta=SIZES, delta=SIZES)
def test_cautious_never_decays_against_the_update_and_decays_on_ties(theta, delta):
    rule = cautious(towards_zero())
    params = jnp.float32(theta)
    pull, _ = rule.update(jnp.float32(delta), rule.init(params), params, gradients=None)
    agrees = np.sign(delta) * np.sign(theta) <= 0  # as signs, since a product underflows
    assert float(pull) == (theta if agrees else 0)


def test_a_weight_without_a_gradient_decays():
    rule = cautious(lp(2))
    params = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([3.0])}
    updates = {"a": jnp.zeros(2), "b": None}
    pull, _ = rule.update(updates, rule.init(params), params, gradients=None, fraction=C)
    chex.assert_trees_all_equal(pull, params)


def test_cautious_keeps_the_update_where_it_decays_nothing(x64):
    link = dwd.decay_weights(C, rule=cautious(towards_zero()))
    params, delta = jnp.asarray(THETA["kernel"]), jnp.asarray(DELTA["kernel"])
    updates, _ = link.update(delta, link.init(params), params)
    shrinks = np.sign(params) * np.sign(delta) <= 0
    assert 0 < shrinks.sum() < shrinks.size
    np.testing.assert_allclose(updates, np.where(shrinks, delta - C * params, delta), rtol=1e-15)


def test_cautious_looks_at_the_update_and_not_at_the_gradient():
    rule, params = cautious(towards_zero()), jnp.array([1.0])
    for gradient in (jnp.array([1.0]), jnp.array([-1.0]), None):
        pull, _ = rule.update(-params, rule.init(params), params, gradients=gradient)
        assert float(pull[0]) == 1


def test_complex_weights(x64):
    theta, start, delta = RNG.normal(size=(3, 2, 40)).view(np.complex128)
    plane = {"start": start, "theta": theta, "delta": delta}
    agrees = (delta.conj() * (theta - start)).real <= 0
    z = theta + delta
    shrunk = z / np.abs(z) * np.minimum(1, np.abs(z) / C)
    for rule, expected in [
        (towards_start(), theta - start),
        (towards_norm(0.5, 1), (1 - 0.5 / norm(theta, 1)) * theta),
        (onto_norm(0.5, 1), (1 - 0.5 / norm(z, 1)) * z),
        (huber(0.5), theta * np.minimum(1, 0.5 / np.abs(theta))),
        (cautious(towards_start()), np.where(agrees, theta - start, 0)),
        (lp(1), shrunk),
    ]:
        chex.assert_trees_all_close(pull_of(rule, **plane), expected, rtol=1e-13)
    narrow = {name: value.astype(np.complex64) for name, value in plane.items()}
    assert pull_of(cautious(towards_norm()), **narrow).dtype == jnp.complex64


# Huber, and rows that a batch has touched


def test_huber_is_plain_decay_of_small_weights_bit_for_bit():
    theta = np.float32([0.5, -0.5, 1e-3, -1e-30, 1e-42, 0.0, 0.50001, -1e30])
    pull = np.asarray(pull_of(huber(0.5), start=theta, theta=theta, delta=theta, dtype=jnp.float32))
    assert pull[:4].tolist() == theta[:4].tolist()
    assert pull[-2:].tolist() == [0.5, -0.5]


TABLE = {"table": jnp.asarray(RNG.normal(size=(6, 3)), jnp.float32)}
SEEN = jnp.array([True, False, True, True, False, False])
SLOPE = {"table": jnp.where(SEEN[:, None], jnp.cos(TABLE["table"]), 0)}
SLOPE["table"] = SLOPE["table"].at[2, :2].set(0)  # one entry is enough


def trained_table(optimizer, steps, then=None):
    """After so many steps with the gradients, and as many with others."""
    params, state = TABLE, optimizer.init(TABLE)
    for g in [SLOPE] * steps + [then] * (steps if then else 0):
        updates, state = optimizer.update(g, state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params["table"])


def test_without_moments_a_row_without_a_gradient_stays_bit_for_bit():
    waiting, plain = (
        trained_table(dwd.sgdw(0.1, 0.02, momentum=0.0, rule=rule), 3)
        for rule in (touched(towards_zero()), towards_zero())
    )
    seen = np.asarray(SEEN)
    assert waiting[~seen].tolist() == np.asarray(TABLE["table"])[~seen].tolist()
    np.testing.assert_array_equal(waiting[seen], plain[seen])
    assert np.abs(plain - np.asarray(TABLE["table"])).min() > 1e-3


def test_with_moments_a_row_moves_on_and_only_its_decay_waits():
    """After rows have been seen, Adam moves them in steps without a gradient, as it does without any decay."""
    still = jax.tree.map(jnp.zeros_like, TABLE)
    waiting = trained_table(dwd.adamw(0.1, 0.02, rule=touched(towards_zero())), 1, still)
    link = dwd.adamw(0.1, 0.02, rule=touched(towards_zero()))
    updates, state = link.update(SLOPE, link.init(TABLE), TABLE)
    after_one = optax.apply_updates(TABLE, updates)
    moved, _ = link.update(still, state, after_one)
    bare = dwd.adamw(0.1, 0.0)
    _, moments = bare.update(SLOPE, bare.init(TABLE), TABLE)
    alone, _ = bare.update(still, moments, after_one)
    np.testing.assert_array_equal(moved["table"], alone["table"])
    assert np.abs(moved["table"][SEEN][0]).min() > 0.01
    np.testing.assert_array_equal(waiting, after_one["table"] + moved["table"])


@pytest.mark.parametrize(
    ("axis", "rows"), [(0, (1, 2)), (1, (0, 2)), (-1, (0, 1)), ((0, 1), (2,)), ((0, -2), (2,))]
)
def test_the_axes_of_rows(axis, rows):
    theta, g = RNG.normal(size=(4, 3, 2)), np.zeros((4, 3, 2))
    g[1, 0, 1], g[3, 2, 1] = 0.5, -1e-30
    kept = np.any(g != 0, axis=rows, keepdims=True)
    assert 0 < kept.mean() < 1
    got = pull_of(touched(towards_zero(), axis), start=theta, theta=theta, delta=g)
    np.testing.assert_array_equal(got, np.where(kept, np.float32(theta), 0))


def test_a_row_without_any_gradient_does_not_decay():
    rule, params = touched(towards_zero()), {"a": jnp.ones(2), "b": jnp.ones(())}
    g = {"a": None, "b": jnp.array(0.5)}
    pull, _ = rule.update(params, rule.init(params), params, gradients=g)
    assert (pull["a"].tolist(), float(pull["b"])) == ([0.0, 0.0], 1.0)


def test_an_axis_may_be_a_number_of_numpy():
    params = {"table": jnp.ones((2, 3)), "stack": jnp.ones((2, 2, 2))}
    rule = touched(towards_zero(), axis=np.int64(1))
    pull, _ = rule.update(params, rule.init(params), params, gradients=params)
    chex.assert_trees_all_equal(pull, params)


def test_rows_that_are_held_at_a_norm_are_no_strong_decay(recwarn):
    rule = touched(onto_norm(axis=1))
    onto(rule)
    assert not recwarn.list
    described = str(dwd.describe({"table": jnp.ones((2, 2))}, 1.0, rule=rule))
    assert "held at its norm in rows that have a gradient" in described
    assert "overshoots" not in described
    with pytest.warns(dwd.StrongDecayWarning):
        onto(touched(towards_zero()))


def test_touched_asks_for_gradients_and_axes_by_name():
    link = optax.chain(optax.sgd(0.1), dwd.decay_weights(0.1, rule=touched(towards_zero())))
    with pytest.raises(ValueError, match="touched looks at the gradients; use it in decouple"):
        link.update(SLOPE, link.init(TABLE), TABLE)
    updates, _ = link.update(SLOPE, link.init(TABLE), TABLE, gradients=SLOPE)
    assert not updates["table"][1].any()
    params = {"table": jnp.ones((2, 3)), "bias": jnp.ones(3), "scalar": 1.0}
    with pytest.raises(ValueError, match=r"axis=\(1,\) does not fit the parameter 'bias' of shape"):
        touched(towards_zero(), axis=1).init(params)
    touched(towards_zero()).init(params)


# Masks, schedules, couplings


MASK = {"kernel": True, "bias": False, "scalar": 0.5}


def size_in_bytes(tree):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("rule", "size"),
    [
        (towards_zero(), 0),
        (towards_start(), 13 * 2),
        (cautious(towards_start()), 13 * 2),
        (touched(towards_start()), 13 * 2),
        (towards(TARGET), 0),
        (huber(0.5), 0),
        (towards_norm(), 2 * 4),
        (onto_norm(), 2 * 4),
        (lp(1), 0),
    ],
)
def test_masked_out_leaves_hold_no_state(rule, size):
    """A kernel of 12 and a scalar in bfloat16; the norms in float32; nothing for the bias."""
    params = as_jax(START, jnp.bfloat16)
    init = dwd.decay_weights(0.1, rule=rule, mask=MASK).init
    assert size_in_bytes(init(params).rule) == size
    chex.assert_trees_all_equal_shapes_and_dtypes(init(params), jax.eval_shape(init, params))


@pytest.mark.parametrize("name", [*RULES, "towards-tree"])
def test_the_mask_scales_the_pull(x64, name):
    rule = RULES.get(name, towards(TARGET))
    params, delta = as_jax(THETA), as_jax(DELTA)
    link = dwd.decay_weights(C, rule=rule, mask=MASK)
    update = jax.jit(lambda d, state, p: link.update(d, state, p, gradients=d))
    updates, _ = update(delta, link.init(as_jax(START)), params)
    c = {"kernel": C, "bias": 0.0, "scalar": 0.5 * C}
    pull = {key: pull_of(rule, fraction=c[key])[key] for key in c} if "tree" not in name else None
    pull = pull or pull_of(rule)
    expected = {key: delta[key] - c[key] * pull[key] for key in c}
    chex.assert_trees_all_close(updates, expected, rtol=0, atol=1e-14)
    assert updates["bias"].tolist() == delta["bias"].tolist()


COUPLINGS = [dwd.PAPER, dwd.LR, dwd.CONSTANT, dwd.CORRECTED]


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_every_coupling_and_a_scheduled_strength(problem, x64, coupling):
    """cautious(towards_start()) in full: η_t and λ_t scheduled, against the formula step by step."""
    lr, steps = optax.cosine_decay_schedule(0.05, 50), 40
    optimizer = dwd.decouple(
        optax.sgd(lr),
        lambda t: 0.2 / (1.0 + t),
        learning_rate=lr,
        peak_learning_rate=0.05,
        coupling=coupling,
        rule=cautious(towards_start()),
    )
    theta, path = problem.theta, [problem.theta]
    for t in range(steps):
        eta = 0.5 + 0.5 * np.cos(np.pi * t / 50)
        delta = -0.05 * eta * problem.gradient(t + 1, theta)
        pull = theta - problem.theta
        c = 0.2 / (1 + t) * 0.05**coupling.p * eta**coupling.s
        theta = theta + delta - c * np.where(delta * pull <= 0, pull, 0)
        path.append(theta)
    np.testing.assert_allclose(problem.run(optimizer, steps=steps), path, rtol=0, atol=1e-12)


def test_the_soft_threshold_follows_the_schedule_and_the_mask(x64):
    link = dwd.decay_weights(lambda t: 0.1 * (t + 1), rule=lp(1), mask={"a": 1.0, "b": 2.0})
    params = {"a": jnp.full(1, 1.0), "b": jnp.full(1, 1.0)}
    state, still = link.init(params), jax.tree.map(jnp.zeros_like, params)
    for a, b in [(0.9, 0.8), (0.7, 0.4), (0.4, 0.0)]:
        updates, state = link.update(still, state, params)
        params = optax.apply_updates(params, updates)
        chex.assert_trees_all_close(params, {"a": jnp.full(1, a), "b": jnp.full(1, b)}, atol=1e-15)


# Transformations and odd trees


@pytest.mark.parametrize("name", RULES)
def test_params_may_be_donated_and_rules_vmapped(name):
    link = dwd.decay_weights(C, rule=RULES[name])
    params, delta = as_jax(THETA, jnp.float32), as_jax(DELTA, jnp.float32)
    expected, _ = link.update(delta, link.init(params), params, gradients=delta)

    def stack(tree):
        return jax.tree.map(lambda x: jnp.stack([x, 2 * x]), tree)

    batched = jax.vmap(lambda d, p: link.update(d, link.init(p), p, gradients=d)[0])(
        stack(delta), stack(params)
    )
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[0], batched), expected, rtol=1e-6)
    state = link.init(params)
    step = jax.jit(lambda p, s: link.update(p, s, p, gradients=p)[0], donate_argnums=0)
    step(jax.tree.map(jnp.array, params), state)
    again, _ = link.update(delta, state, params, gradients=delta)
    chex.assert_trees_all_equal(again, expected)


def test_the_start_is_a_copy_that_survives_the_donation_of_the_params():
    params = {"w": jnp.ones(4)}
    state = towards_start().init(params)
    params["w"].delete()
    assert state.start["w"].tolist() == [1.0] * 4


@pytest.mark.parametrize("rule", [*RULES.values(), towards({})], ids=[*RULES, "towards-tree"])
def test_an_empty_tree(rule):
    pull, _ = rule.update({}, rule.init({}), {}, gradients={}, fraction=C)
    assert pull == {}


@pytest.mark.parametrize("name", RULES)
def test_tensors_without_elements_and_absent_updates(name):
    rule, params = RULES[name], {"empty": jnp.zeros((0, 3)), "w": jnp.ones(2)}
    updates = {"empty": jnp.zeros((0, 3)), "w": None}
    pull, _ = rule.update(updates, rule.init(params), params, gradients=updates, fraction=C)
    chex.assert_trees_all_equal_shapes(pull, params)
    assert np.isfinite(pull["w"]).all()


def test_a_radius_and_an_exponent_may_be_traced():
    params = jnp.array([3.0, -4.0])

    def step(radius, p):
        link = optax.chain(
            dwd.decay_weights(0.1, rule=towards_norm(radius)), dwd.decay_weights(0.1, rule=lp(p))
        )
        return link.update(params, link.init(params), params)[0]

    radii, exponents = jnp.array([1.0, 2.0]), jnp.array([1.0, 3.0])
    together = jax.jit(jax.vmap(step))(radii, exponents)
    apart = [step(float(r), float(p)) for r, p in zip(radii, exponents, strict=True)]
    np.testing.assert_allclose(together, apart, rtol=1e-6)


def test_the_state_of_towards_norm_does_not_depend_on_its_radius():
    params = as_jax(START)
    states = [towards_norm(radius).init(params) for radius in (None, 0.0, 2.0)]
    states += [onto_norm(radius).init(params) for radius in (None, 2.0)]
    chex.assert_trees_all_equal(*states)


def test_a_target_may_be_a_prefix_or_hold_what_the_params_lack():
    params = {"a": {"x": jnp.ones(2), "y": jnp.ones(3)}, "b": None, "c": optax.MaskedNode()}
    target = {"a": 0.25, "b": jnp.zeros(7), "c": jnp.zeros(9)}
    rule = towards(target)
    pull, _ = rule.update(params, rule.init(params), params, gradients=None)
    chex.assert_trees_all_equal(
        pull, {"a": {"x": jnp.full(2, 0.75), "y": jnp.full(3, 0.75)}, "b": None, "c": params["c"]}
    )


def test_map_params_works_on_the_state_of_towards_a_tree():
    """It calls init with a placeholder, which no target has the structure of."""
    link, params = dwd.decay_weights(0.1, rule=towards(TARGET)), as_jax(START)
    state = link.init(params)
    chex.assert_trees_all_equal(optax.tree.map_params(link, lambda x: x, state), state)


def test_a_wide_target_does_not_widen_narrow_params(x64):
    params = jnp.ones(2, jnp.float32)
    for rule in (towards(np.ones(2)), towards_norm(np.float64(2)), lp(np.float64(1.5))):
        link = dwd.decay_weights(np.float64(0.1), rule=rule)
        pull, _ = rule.update(
            params, rule.init(params), params, gradients=None, fraction=jnp.float64(0.1)
        )
        assert pull.dtype == jnp.float32, rule
        assert link.update(params, link.init(params), params)[0].dtype == jnp.float32


# Errors


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: towards_norm(-1.0), ValueError, "radius must be finite and >= 0, got -1.0"),
        (lambda: towards_norm(float("nan")), ValueError, "radius must be finite"),
        (lambda: towards_norm("start"), TypeError, "radius must be a real number, got 'start'"),
        (lambda: towards_norm(lambda t: 1.0), TypeError, "radius .* schedule has no place"),
        (lambda: towards_norm(axis=slice(0.5)), TypeError, "axis must be None, .* got slice"),
        (lambda: onto_norm(0.0), ValueError, "radius must be finite and > 0, got 0.0; use None"),
        (lambda: onto_norm(one_sided=1), TypeError, "one_sided must be a bool, got 1"),
        (lambda: lp(0.5), ValueError, "p must be finite and >= 1, got 0.5"),
        (lambda: lp(float("inf")), ValueError, "p must be finite"),
        (lambda: lp("1"), TypeError, "p must be a real number"),
        (lambda: cautious(towards_zero), TypeError, r"call it, as in towards_zero\(\)"),
        (lambda: huber(0.0), ValueError, "delta must be finite and > 0, got 0.0; use towards_zero"),
        (lambda: huber("1"), TypeError, "delta must be a real number"),
        (lambda: touched(lp), TypeError, r"call it, as in lp\(\)"),
        (lambda: touched(lp(1), axis=None), TypeError, "axis must be a whole number .* got None"),
        (lambda: touched(lp(1), axis=()), TypeError, "axis must be a whole number .* got"),
        (lambda: touched(lp(1), axis=True), TypeError, "axis must be a whole number .* got True"),
        (lambda: cautious("zero"), TypeError, "rule must be a rule, got 'zero'; pass one of rules"),
        (lambda: cautious(None), TypeError, "rule must be a rule, got None"),
        (lambda: as_rule(lp), TypeError, r"call it, as in lp\(\)"),
        (lambda: dwd.decay_weights(0.1, rule=towards_start), TypeError, r"as in towards_start\(\)"),
    ],
)
def test_a_wrong_argument_is_refused_at_the_door(make, error, message):
    with pytest.raises(error, match=message):
        make()


PARAMS = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ({"dense": {"kernel": jnp.ones((2, 3))}}, ValueError, r"\['dense'\](.|\n)*bias"),
        ({"dense": {"kernel": 1.0, "scale": 1.0}}, ValueError, r"\['dense'\](.|\n)*scale"),
        ([1.0], ValueError, "target must have the structure of the params"),
        ({"dense": jnp.ones((2, 3))}, ValueError, r"'dense/bias' has shape \(2, 3\) .* \(3,\)"),
        (
            {"dense": {"kernel": jnp.ones(3), "bias": 1.0}},
            ValueError,
            r"'dense/kernel' has shape \(3,\) for a parameter of shape \(2, 3\)",
        ),
        ({"dense": {"kernel": 1.0, "bias": "zero"}}, TypeError, "'dense/bias' must be a number"),
        ({"dense": {"kernel": None, "bias": 1.0}}, TypeError, "'dense/kernel' must be a number"),
        (None, TypeError, "'dense/bias' must be a number"),
        (1j, TypeError, "'dense/bias' is complex"),
    ],
)
def test_a_target_that_does_not_fit_is_refused_before_training(target, error, message):
    with pytest.raises(error, match=message):
        dwd.decay_weights(0.1, rule=towards(target)).init(PARAMS)


@pytest.mark.parametrize("axis", [1, (0, 0), (0, -2), slice(1, None), slice(None, None, 0)])
@pytest.mark.parametrize("make", [towards_norm, onto_norm])
def test_an_axis_that_does_not_fit_is_refused_before_training(axis, make):
    link = dwd.decay_weights(0.1, rule=make(1.0, axis))
    with pytest.raises((TypeError, ValueError, NameError), match=r"axis=.*'dense/(bias|kernel)'"):
        link.init(PARAMS)


def test_an_axis_that_only_the_masked_out_lack_is_fine():
    link = dwd.decay_weights(0.1, rule=towards_norm(1.0, 1), mask=dwd.masks.matrices())
    link.update(PARAMS, link.init(PARAMS), PARAMS)


def test_lp_says_that_it_needs_the_fraction():
    with pytest.raises(ValueError, match="needs fraction="):
        lp(1).update(jnp.ones(1), optax.EmptyState(), jnp.ones(1), gradients=None)


# What a rule is


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (towards_zero(), "towards_zero()"),
        (towards_norm(), "towards_norm()"),
        (towards_norm(0.5, axis=(0, 1)), "towards_norm(radius=0.5, axis=(0, 1))"),
        (onto_norm(axis=slice(1, None)), "onto_norm(axis=slice(1, None, None))"),
        (onto_norm(2.0, one_sided=True), "onto_norm(radius=2.0, one_sided=True)"),
        (cautious(lp(1)), "cautious(lp(p=1))"),
        (huber(0.5), "huber(delta=0.5)"),
        (touched(huber(0.5), (0, 1)), "touched(huber(delta=0.5), axis=(0, 1))"),
        (towards(jnp.ones((9, 9))), "towards(target=...)"),
        (as_rule(optax.identity()), "Rule(...)"),
    ],
)
def test_a_rule_shows_as_its_call(rule, text):
    assert isinstance(rule, Rule)
    assert isinstance(rule, optax.GradientTransformationExtraArgs)
    assert repr(rule) == text


def test_a_plain_optax_pair_is_a_rule():
    """It takes neither gradients= nor fraction=."""
    plain = optax.stateless(lambda updates, params: params)
    params, step = as_jax(THETA), as_jax(DELTA)
    for rule in (plain, cautious(plain)):
        link = dwd.decay_weights(C, rule=rule)
        got, _ = jax.jit(link.update)(step, link.init(params), params)
        own = cautious(towards_zero()) if isinstance(rule, Rule) else towards_zero()
        expected = dwd.decay_weights(C, rule=own)
        want, _ = expected.update(step, expected.init(params), params)
        chex.assert_trees_all_close(got, want, rtol=1e-6)


# Sharded weights


def test_norms_under_sharding_metadata_and_shard_map():
    """On eight simulated devices, with flax's linen and nnx."""
    pytest.importorskip("flax")
    program = Path(__file__).parent / "sharded_norm.py"
    done = subprocess.run([sys.executable, program], capture_output=True, text=True)
    assert done.stdout.strip() == "same", done.stderr


# Numbers that a target cannot be

WIDE = 7e4


@pytest.mark.parametrize(
    ("target", "dtype", "message"),
    [
        (float("nan"), jnp.float32, "target at 'bias' must be finite in float32, got nan"),
        (-np.inf, jnp.float32, "target at 'bias' must be finite in float32, got -inf"),
        (1e39, jnp.float32, "target at 'bias' must be finite in float32, got 1e.39"),
        (10**40, jnp.float32, "must be finite in float32"),
        (WIDE, jnp.float16, "must be finite in float16, got 70000"),
        ({"kernel": np.array([[0, np.nan]]), "bias": 0.0}, jnp.float32, "'kernel' .* got an array"),
        ({"kernel": 0.0, "bias": jnp.array([1, np.inf])}, jnp.bfloat16, "'bias' .* got an array"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_target_that_is_no_number_is_refused_at_init(target, dtype, message, wrap):
    params = {"kernel": jnp.ones((1, 2), dtype), "bias": jnp.ones(2, dtype)}
    link = dwd.decay_weights(0.1, rule=towards(target))
    with pytest.raises(ValueError, match=message):
        wrap(link.init)(params)


def test_a_wide_target_suits_a_wide_dtype(x64):
    params = jnp.ones(2)
    assert float(pull_of(towards(1e39), start=params, theta=params, delta=params)[0]) == -1e39
    narrow = jnp.ones(2, jnp.bfloat16)
    dwd.decay_weights(0.1, rule=towards(WIDE)).init(narrow)
    jax.jit(lambda t: dwd.decay_weights(0.1, rule=towards(t)).init(narrow))(WIDE)
