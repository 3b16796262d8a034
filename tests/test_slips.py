"""Strengths that are most likely a slip warn, at the place that calls, and no others do."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import decoupled_wd as dwd

PARAMS = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
RESTARTS = {"batch_size": 1, "dataset_size": 4, "first_cycle_epochs": 1}


def caught(make):
    """The warnings of this kind that a call gives, however often its text was given before."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", dwd.StrongDecayWarning)
        make()
    return [w for w in found if issubclass(w.category, dwd.StrongDecayWarning)]


STRONG = {
    "the optax unit": (lambda: dwd.adamw(1e-3, 0.1), ["removes 10 %", "6.58 steps", "dwd.LR"]),
    "the second argument": (lambda: dwd.adamw(1e-3, 0.9), ["removes 90 %", "b1="]),
    "at the bar": (lambda: dwd.sgdw(0.1, 0.05), ["removes 5 %", "momentum="]),
    "numpy": (lambda: dwd.adamw(1e-3, np.float32(0.5)), ["a half-life of 1 steps"]),
    "a tree": (
        lambda: dwd.adamw(1e-3, {"kernel": 0.25, "bias": 0.0}),
        ["weight_decay=0.25 at 'kernel' removes 25 %"],
    ),
    "decouple": (lambda: dwd.decouple(optax.sgd(0.1), 0.5), ["removes 50 %"]),
    "a link": (lambda: dwd.decay_weights(0.5), ["removes 50 %"]),
    "constant": (lambda: dwd.adamw(1e-3, 0.1, coupling="tensorflow_addons"), ["removes 10 %"]),
    "a scheduled learning rate": (
        lambda: dwd.adamw(optax.constant_schedule(1e-3), 0.1, peak_learning_rate=1e-3),
        ["removes 10 %"],
    ),
    "lr-coupled": (lambda: dwd.sgdw(0.5, 0.2, coupling=dwd.LR), ["removes 10 %"]),
    "l2 of sgd": (lambda: dwd.sgd(0.1, 0.9), ["momentum=0.9"]),
    "l2 of adam": (lambda: dwd.adam(1e-3, 0.9), ["b1=0.9"]),
}
QUIET = {
    "below the bar": lambda: dwd.adamw(1e-3, 0.0499),
    "the paper's": lambda: dwd.sgdw(1.0, 1e-4),
    "zero": lambda: dwd.adamw(1e-3, 0.0),
    "onto a norm": lambda: dwd.decay_weights(
        1.0, coupling=dwd.CONSTANT, rule=dwd.rules.onto_norm()
    ),
    "optax's unit": lambda: dwd.adamw(1e-3, 0.1, coupling=dwd.LR),
    "optax's unit at the peak": lambda: dwd.adamw(
        optax.constant_schedule(1e-3), 1.0, peak_learning_rate=1e-3, coupling=dwd.LR
    ),
    "an unknown peak": lambda: dwd.adamw(optax.constant_schedule(1e-3), 1.0, coupling=dwd.LR),
    "a schedule": lambda: dwd.adamw(1e-3, optax.constant_schedule(0.5)),
    "restarts": lambda: dwd.adamwr(1e-3, 0.5, **RESTARTS),
    "traced": lambda: jax.eval_shape(lambda c: dwd.adamw(1e-3, c).init(PARAMS), jnp.float32(0.9)),
    "an injected number": lambda: optax.inject_hyperparams(dwd.adamw)(
        1e-3, 0.9, peak_learning_rate=1e-3
    ).init(PARAMS),
    "a mild tree": lambda: dwd.adamw(1e-3, {"kernel": 0.01, "bias": 0.0}),
    "an empty tree": lambda: dwd.adamw(1e-3, {}),
    "mild l2": lambda: dwd.adam(1e-3, 0.1),
}


@pytest.mark.parametrize(("make", "words"), STRONG.values(), ids=STRONG)
def test_what_removes_a_twentieth_of_a_weight_warns_at_the_place_that_calls(make, words):
    (warning,) = caught(make)
    assert all(word in str(warning.message) for word in words)
    assert warning.filename == __file__


@pytest.mark.parametrize("make", QUIET.values(), ids=QUIET)
def test_nothing_else_warns(make):
    assert not caught(make)


def test_the_remedy_for_another_unit_is_given_where_it_helps():
    (coupled,) = caught(lambda: dwd.sgdw(0.5, 0.2, coupling=dwd.LR))
    assert "dwd.LR" not in str(coupled.message)


def test_once_for_each_place():
    def here():
        return dwd.adamw(1e-3, 0.9)

    def there():
        return dwd.adamw(1e-3, 0.9)

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default", dwd.StrongDecayWarning)
        for make in (here, here, functools.partial(here), there):
            make()
    assert len({w.lineno for w in found}) == len(found) == 2


def test_it_can_be_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error", dwd.StrongDecayWarning)
        with pytest.raises(dwd.StrongDecayWarning, match="half-life"):
            dwd.adamw(1e-3, 0.9)
