"""NaN and infinite gradients: what they reach, and what of the decay they never reach.

Under ``optax.apply_if_finite`` the whole state stays as it is. Without it the moments of Adam and the weights become
NaN, which is the optimiser's doing; the decay's own state (count, fraction, what a rule remembers, the key of the
stochastic rounding) is that of a finite gradient, and the residual holds integers, which have no NaN.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import ALPHA, CASES, DECOUPLED, LAMBDA, PARAMS, ROUNDED, RULES

import decoupled_wd as dwd

BAD = pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
LINKS = {"none": None, "residual": dwd.rounding.residual()}
LINKS |= {"stochastic": dwd.rounding.stochastic_rounding(0)}


def slopes(params):
    return jax.tree.map(lambda p: jnp.full_like(p, 0.25, dtype=jnp.float32), params)


def broken(params, bad):
    """One entry of one leaf, as in practice; the others are finite."""
    g = slopes(params)
    return g | {"dense": g["dense"] | {"kernel": g["dense"]["kernel"].at[0, 1].set(bad)}}


def after(optimizer, g, params):
    """The state and the params after a finite step and then one with the gradients."""
    state = optimizer.init(params)
    for gradients in (slopes(params), g):
        updates, state = jax.jit(optimizer.update)(gradients, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def bfloat16(params):
    return jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)


@BAD
@pytest.mark.parametrize("name", CASES)
def test_a_refused_step_leaves_the_whole_state(name, bad):
    params = bfloat16(PARAMS) if name in ROUNDED else PARAMS
    guarded = optax.apply_if_finite(CASES[name](), 3)
    _, state = guarded.update(slopes(params), guarded.init(params), params)
    updates, refused = jax.jit(guarded.update)(broken(params, bad), state, params)
    equal(refused.inner_state, state.inner_state)
    assert not refused.last_finite
    assert not any(map(jnp.any, jax.tree.leaves(updates)))


@BAD
@pytest.mark.parametrize("rounding", LINKS)
@pytest.mark.parametrize("rule", RULES)
def test_a_refused_step_leaves_every_rule_behind_every_rounding(rule, rounding, bad):
    optimizer = dwd.adamw(ALPHA, LAMBDA, rule=RULES[rule], rounding=LINKS[rounding])
    params, guarded = bfloat16(PARAMS), optax.apply_if_finite(optimizer, 3)
    params, state = after(guarded, slopes(params), params)
    _, refused = guarded.update(broken(params, bad), state, params)
    equal(refused.inner_state, state.inner_state)


@BAD
@pytest.mark.parametrize("name", DECOUPLED)
def test_the_decays_own_state_is_that_of_a_finite_step(name, bad):
    """Bit for bit: nothing in it is a function of the gradients."""
    params = bfloat16(PARAMS) if name in ROUNDED else PARAMS
    optimizer = DECOUPLED[name]()
    _, state = after(optimizer, broken(params, bad), params)
    _, finite = after(optimizer, slopes(params), params)
    equal(getattr(state, "decay", state), getattr(finite, "decay", finite))


@BAD
@pytest.mark.parametrize("rule", RULES)
def test_what_a_rule_remembers_is_never_touched_again(rule, bad):
    """The start and the norm outlast even weights that are NaN, so that restoring the weights restores the run."""
    optimizer = dwd.decay_weights(LAMBDA, rule=RULES[rule])
    state = optimizer.init(PARAMS)
    spoilt = jax.tree.map(lambda p: jnp.full_like(p, bad), PARAMS)
    _, later = optimizer.update(spoilt, state, spoilt)
    equal(later.rule, state.rule)
    assert (int(later.count), float(later.fraction)) == (1, np.float32(LAMBDA))


@BAD
@pytest.mark.parametrize("rule", RULES)
def test_the_harm_stays_where_the_gradient_was_broken(rule, bad):
    """Every other weight takes the step of a finite gradient, bit for bit: no rule mixes entries of the updates."""
    optimizer = dwd.adamw(ALPHA, LAMBDA, rule=RULES[rule])
    params, _ = after(optimizer, broken(PARAMS, bad), PARAMS)
    finite, _ = after(optimizer, slopes(PARAMS), PARAMS)
    assert not jnp.isfinite(params["dense"]["kernel"][0, 1])
    mended = params["dense"]["kernel"].at[0, 1].set(finite["dense"]["kernel"][0, 1])
    equal(params | {"dense": params["dense"] | {"kernel": mended}}, finite)


def test_adams_moments_and_the_weight_do_become_nan():
    """The optimiser, not the decay: no later gradient mends them, hence ``apply_if_finite``."""
    optimizer = dwd.adamw(ALPHA, LAMBDA)
    params, state = after(optimizer, broken(PARAMS, np.nan), PARAMS)
    moments, _ = state.inner
    for tree in (moments.mu, moments.nu, params):
        assert jnp.isnan(tree["dense"]["kernel"]).tolist() == [[False, True], [False, False]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_residual_of_a_weight_that_is_lost_is_lost_with_it(bad):
    """sgdw, whose step is as broken as the gradient: the low half is 0, and those of the other weights are kept."""
    optimizer = dwd.sgdw(ALPHA, LAMBDA, rounding=LINKS["residual"])
    params, state = after(optimizer, broken(PARAMS, bad), bfloat16(PARAMS))
    finite, kept = after(optimizer, slopes(PARAMS), bfloat16(PARAMS))
    assert not jnp.isfinite(params["dense"]["kernel"][0, 1])
    low, wanted = (s.rounding.residual["dense"]["kernel"] for s in (state, kept))
    assert low[0, 1] == 0
    equal(low, wanted.at[0, 1].set(0))
    assert jnp.any(low != 0)
    weights = dwd.rounding.weights(state.rounding, finite | params)
    assert jnp.isfinite(weights["dense"]["kernel"]).tolist() == [[True, False], [True, True]]


@BAD
def test_the_key_of_the_stochastic_rounding_goes_on_as_if_nothing_had_happened(bad):
    optimizer = dwd.adamw(ALPHA, LAMBDA, rounding=LINKS["stochastic"])
    _, state = after(optimizer, broken(PARAMS, bad), bfloat16(PARAMS))
    _, finite = after(optimizer, slopes(PARAMS), bfloat16(PARAMS))
    equal(state.rounding, finite.rounding)
