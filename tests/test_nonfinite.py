"""NaN and infinite gradients: what they reach, and what of the decay they never reach.

Under ``optax.apply_if_finite`` the whole state stays as it is (for every case: `test_laws`). Without it the moments
of Adam and the weights become NaN, which is the optimiser's doing; the decay's own state (count, fraction, what a
rule remembers, the key of the stochastic rounding) is that of a finite gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import ALPHA, DECOUPLED, LAMBDA, PARAMS, ROUNDED, RULES

import decoupled_wd as dwd

BAD = [np.nan, np.inf, -np.inf]
AT = (0, 1)  # the entry of the kernel whose gradient is broken
NARROW = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
LINKS = {
    "residual": dwd.rounding.residual(),
    "byte": dwd.rounding.residual(bits=8),
    "stochastic": dwd.rounding.stochastic_rounding(0),
}


def gradients(entry=0.25):
    """0.25 everywhere but for one entry, as in practice."""
    g = jax.tree.map(lambda p: jnp.full_like(p, 0.25), PARAMS)
    kernel = g["dense"]["kernel"].at[AT].set(entry)
    return g | {"dense": g["dense"] | {"kernel": kernel}}


def after(optimizer, entry, params=PARAMS):
    """Params and state after a finite step and one with the entry."""
    state = optimizer.init(params)
    for g in (gradients(), gradients(entry)):
        updates, state = optimizer.update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rounding", LINKS)
@pytest.mark.parametrize("rule", ["towards_zero", "towards_norm-start", "cautious"])
def test_a_refused_step_leaves_every_state_as_it_was(rule, rounding):
    optimizer = dwd.adamw(ALPHA, LAMBDA, rule=RULES[rule], rounding=LINKS[rounding])
    guarded = optax.apply_if_finite(optimizer, 5)
    update, state = jax.jit(guarded.update), guarded.init(NARROW)
    updates, state = update(gradients(), state, NARROW)
    params = optax.apply_updates(NARROW, updates)
    for bad in BAD:
        updates, refused = update(gradients(bad), state, params)
        assert not refused.last_finite
        assert not any(map(jnp.any, jax.tree.leaves(updates)))
        equal(refused.inner_state, state.inner_state)


@pytest.mark.parametrize("name", DECOUPLED)
def test_the_decays_own_state_is_that_of_a_finite_step(name):
    """Bit for bit, so nothing in it is a function of the gradients."""
    optimizer, params = DECOUPLED[name](), NARROW if name in ROUNDED else PARAMS
    _, finite = after(optimizer, 0.25, params)
    for bad in BAD:
        _, state = after(optimizer, bad, params)
        equal(getattr(state, "decay", state), getattr(finite, "decay", finite))


@pytest.mark.parametrize("rule", RULES)
def test_what_a_rule_remembers_outlasts_weights_that_are_nan(rule):
    """So restoring the weights restores the run."""
    optimizer = dwd.decay_weights(LAMBDA, rule=RULES[rule])
    state = optimizer.init(PARAMS)
    for bad in BAD:
        spoilt = jax.tree.map(lambda p, bad=bad: jnp.full_like(p, bad), PARAMS)
        _, later = optimizer.update(spoilt, state, spoilt, gradients=spoilt)
        equal(later.rule, state.rule)
        assert (int(later.count), later.fraction) == (1, np.float32(LAMBDA))


@pytest.mark.parametrize("rule", RULES)
def test_the_harm_stays_where_the_gradient_was_broken(rule):
    """Every other weight takes the step of a finite gradient, bit for bit: no rule mixes entries of the updates.

    But for the norm that a tensor would reach, of which nothing is known then: all of the tensor is NaN.
    """
    optimizer = dwd.adamw(ALPHA, LAMBDA, rule=RULES[rule])
    finite, _ = after(optimizer, 0.25)
    for bad in BAD:
        params, _ = after(optimizer, bad)
        kernel = params["dense"].pop("kernel")
        assert not jnp.isfinite(kernel[AT])
        if rule.startswith("onto_norm"):
            assert jnp.isnan(kernel).all()
            kernel = finite["dense"]["kernel"]
        mended = kernel.at[AT].set(finite["dense"]["kernel"][AT])
        equal(params | {"dense": params["dense"] | {"kernel": mended}}, finite)


def test_adams_moments_and_the_weight_do_become_nan():
    """The optimiser, not the decay: no later gradient mends them, hence ``apply_if_finite``."""
    params, state = after(dwd.adamw(ALPHA, LAMBDA), np.nan)
    for tree in (state.inner[0].mu, state.inner[0].nu, params):
        assert jnp.isnan(tree["dense"]["kernel"]).tolist() == [[False, True], [False, False]]


@pytest.mark.parametrize("bad", BAD)
def test_only_the_low_half_of_the_weight_that_is_lost_is_lost(bad):
    optimizer = dwd.sgdw(ALPHA, LAMBDA, rounding=LINKS["residual"])
    params, state = after(optimizer, bad, NARROW)
    finite, wanted = after(optimizer, 0.25, NARROW)
    assert not jnp.isfinite(params["dense"]["kernel"][AT])
    low, kept = (s.rounding.residual["dense"]["kernel"] for s in (state, wanted))
    assert jnp.all(kept != 0)
    equal(low, kept.at[AT].set(0))
    weights, exact = (
        dwd.rounding.weights(s.rounding, p)["dense"]["kernel"]
        for p, s in ((params, state), (finite, wanted))
    )
    equal(weights.at[AT].set(0), exact.at[AT].set(0))


@pytest.mark.parametrize("change", [-0.001, 0.001])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_half_left_by_another_weight_makes_no_nan_of_zero(change, zero):
    """A weight pruned from outside: the low half of 0.999 is negative, and 0 minus one bit is a NaN."""
    link, one = LINKS["residual"], jnp.ones(1, jnp.bfloat16)
    _, state = link.update(jnp.full(1, change), link.init(one), one)
    assert jnp.sign(state.residual) == np.sign(change)
    pruned = jnp.full(1, zero, jnp.bfloat16)
    assert np.abs(np.asarray(dwd.rounding.weights(state, pruned))) < 1e-37
    updates, _ = link.update(jnp.zeros(1), state, pruned)
    assert optax.apply_updates(pruned, updates) == 0


@pytest.mark.parametrize("link", ["stochastic", "byte"])
def test_the_key_of_the_dither_goes_on_as_if_nothing_had_happened(link):
    optimizer = dwd.adamw(ALPHA, LAMBDA, rounding=LINKS[link])
    finite, wanted = after(optimizer, 0.25, NARROW)
    for bad in BAD:
        params, state = after(optimizer, bad, NARROW)
        equal(state.rounding.key, wanted.rounding.key)
        equal(
            (params["scale"], params["dense"]["bias"]), (finite["scale"], finite["dense"]["bias"])
        )
