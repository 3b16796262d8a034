"""Wrong calls of `examine`, one a line, as in tests/test_bad_input.py."""

import jax
import jax.numpy as jnp
import optax

import decoupled_wd as dwd

PARAMS = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
ADAMW = dwd.adamw(0.1, 0.1)
STATE = ADAMW.init(PARAMS)
OTHER = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}


def examine(gradients=PARAMS, optimizer=ADAMW, params=PARAMS, state=STATE):
    return dwd.examine(optimizer, params, state, gradients)


WRONG = [
    (lambda: examine(optimizer=dwd.adamw), TypeError, "optimizer must be a GradientTransformation"),
    (lambda: examine(optimizer=None), TypeError, "optimizer must be a GradientTransformation"),
    (lambda: examine(params=None), ValueError, "examine needs the weights"),
    (lambda: examine(params="x"), TypeError, "params must hold arrays, got 'x'"),
    (lambda: jax.jit(lambda p: examine(params=p))(PARAMS), TypeError, "call it outside of jit"),
    # the state of others
    (lambda: examine(params=OTHER), ValueError, "state must be that of this optimizer"),
    (lambda: examine(params=PARAMS["bias"]), ValueError, "state must be that of this optimizer"),
    (lambda: examine(state=None), ValueError, "state must be that of this optimizer"),
    (lambda: examine(state=optax.adamw(0.1).init(PARAMS)), ValueError, "call dwd.adopt first"),
    (lambda: examine(optimizer=optax.sgd(0.1)), ValueError, "call dwd.adopt first"),
    (lambda: examine(state=dwd.record(ADAMW).init(PARAMS)), ValueError, "call dwd.adopt first"),
    # gradients
    (lambda: examine(OTHER), ValueError, "gradients at 'kernel' has shape (3, 2)"),
    (lambda: examine(PARAMS["bias"]), ValueError, "gradients must have the structure of the"),
    (
        lambda: examine(PARAMS | {"bias": jnp.array([1, 2])}),
        TypeError,
        "gradients at 'bias' is int",
    ),
    (
        lambda: examine(PARAMS | {"bias": PARAMS["bias"] * jnp.nan}),
        ValueError,
        "at 'bias' hold NaN",
    ),
    (
        lambda: examine(PARAMS | {"bias": PARAMS["bias"] / 0}),
        ValueError,
        "at 'bias' hold NaN or inf",
    ),
    (lambda: examine("x"), TypeError, "gradients must hold arrays, got 'x'"),
    (lambda: examine(None), ValueError, "state holds no moment to take them from, or only zeros"),
    (
        lambda: examine(None, optax.sgd(0.1), state=optax.sgd(0.1).init(PARAMS)),
        ValueError,
        "pass those of the next step",
    ),
]
