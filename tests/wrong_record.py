"""Wrong calls of `record`, one a line, as in tests/test_bad_input.py."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import decoupled_wd as dwd

PARAMS = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
ADAMW = dwd.adamw(0.1, 0.1)
REMEDY = "optax.MultiSteps(record(...), 4)"


def updated(optimizer, params=PARAMS, gradients=PARAMS):
    return optimizer.update(gradients, optimizer.init(params), params)


def around(optimizer, wrap):
    """An optimiser whose update runs inside a transformation of JAX."""
    inner = optax.with_extra_args_support(optimizer)
    return optax.GradientTransformationExtraArgs(inner.init, wrap(inner.update))


def vmapped(update):
    def run(updates, state, params=None):
        one = jax.tree.map(lambda x: x[None], (updates, state, params))
        return jax.tree.map(lambda x: x[0], jax.vmap(update)(*one))

    return run


def scanned(update):
    def run(updates, state, params=None):
        return jax.lax.scan(lambda x, _: (update(*x, params), None), (updates, state), length=1)[0]

    return run


def warm(optimizer):
    """A jitted update whose program is there already, so that nothing of it is traced again."""
    jitted = around(optimizer, jax.jit)
    updated(jitted)
    return jitted


def idle(updates, state, params=None, **extra):
    return updates, state


WRONG = [
    # every
    (lambda: dwd.record(ADAMW, every=0), ValueError, "every must be finite and >= 1, got 0"),
    (lambda: dwd.record(ADAMW, every=-10), ValueError, "every must be finite and >= 1, got -10"),
    (lambda: dwd.record(ADAMW, every=0.5), ValueError, "every must be finite and >= 1, got 0.5"),
    (lambda: dwd.record(ADAMW, every=2.5), ValueError, "every must be a whole number of steps"),
    (lambda: dwd.record(ADAMW, every=np.inf), ValueError, "every must be finite"),
    (lambda: dwd.record(ADAMW, every=float("nan")), ValueError, "every must be finite"),
    (lambda: dwd.record(ADAMW, every="100"), TypeError, "every must be a real number, got '100'"),
    (lambda: dwd.record(ADAMW, every=None), TypeError, "every must be a real number, got None"),
    (lambda: dwd.record(ADAMW, every=True), TypeError, "every must be a real number, got True"),
    (lambda: dwd.record(ADAMW, every=1j), TypeError, "every must be a real number"),
    (lambda: dwd.record(ADAMW, every=jnp.ones(2)), TypeError, "every must be a real number"),
    (lambda: dwd.record(ADAMW, every=lambda count: 2), TypeError, "a schedule has no place here"),
    (lambda: dwd.record(ADAMW, 10), TypeError, "positional argument"),
    # inner
    (lambda: dwd.record(dwd.adamw), TypeError, "inner must be a GradientTransformation"),
    (lambda: dwd.record(None), TypeError, "inner must be a GradientTransformation, got None"),
    (lambda: dwd.record([ADAMW]), TypeError, "inner must be a GradientTransformation"),
    (lambda: dwd.record("adamw"), TypeError, "inner must be a GradientTransformation"),
    (lambda: dwd.record(dwd.rules.towards_zero), TypeError, "inner must be a Gradient"),
    (lambda: dwd.record(optax.adamw(0.1)).init(PARAMS), ValueError, "holds no decay_weights"),
    (lambda: dwd.record(dwd.adam(0.1, 0.1)).init(PARAMS), ValueError, "holds no decay_weights"),
    (lambda: dwd.record(optax.identity()).init(PARAMS), ValueError, "holds no decay_weights"),
    (lambda: dwd.record(dwd.record(ADAMW)).init(PARAMS), ValueError, "holds a record already"),
    (
        lambda: dwd.record(optax.chain(optax.identity(), dwd.record(ADAMW))).init(PARAMS),
        ValueError,
        "record once, around the whole",
    ),
    # where no record reaches
    (lambda: updated(dwd.record(optax.apply_if_finite(ADAMW, 3))), ValueError, REMEDY),
    (
        lambda: updated(dwd.record(optax.MultiSteps(ADAMW, 2).gradient_transformation())),
        ValueError,
        REMEDY,
    ),
    (lambda: updated(dwd.record(around(ADAMW, jax.jit))), ValueError, REMEDY),
    (lambda: updated(dwd.record(warm(ADAMW))), ValueError, REMEDY),
    (lambda: updated(dwd.record(around(ADAMW, vmapped))), ValueError, REMEDY),
    (lambda: updated(dwd.record(around(ADAMW, scanned))), ValueError, REMEDY),
    (lambda: updated(dwd.record(around(ADAMW, jax.checkpoint))), ValueError, REMEDY),
    (lambda: updated(dwd.record(around(ADAMW, lambda update: idle))), ValueError, "not at all"),
    (
        lambda: jax.jit(lambda: updated(dwd.record(optax.apply_if_finite(ADAMW, 3))))(),
        ValueError,
        REMEDY,
    ),
    (
        lambda: updated(dwd.record(optax.chain(around(ADAMW, jax.jit), dwd.decay_weights(0.1)))),
        ValueError,
        REMEDY,
    ),
    (
        lambda: updated(dwd.record(optax.flatten(ADAMW))),
        ValueError,
        "optax.flatten(record(...))",
    ),
    # update and recorded
    (
        lambda: dwd.record(ADAMW).update(PARAMS, dwd.record(ADAMW).init(PARAMS)),
        ValueError,
        "record needs the weights",
    ),
    (lambda: dwd.recorded(ADAMW.init(PARAMS), PARAMS), ValueError, "one record of 2 leaves"),
    (lambda: dwd.recorded(None, PARAMS), ValueError, "one record of 2 leaves"),
    (
        lambda: dwd.recorded(dwd.record(ADAMW).init(PARAMS), PARAMS["bias"]),
        ValueError,
        "one record of 1 leaves, got records of shapes [(2,)]",
    ),
    (
        lambda: dwd.recorded([dwd.record(ADAMW).init(PARAMS)] * 2, PARAMS),
        ValueError,
        "one record of 2 leaves",
    ),
]
