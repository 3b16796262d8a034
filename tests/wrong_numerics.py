"""Wrong calls of rules, rounding links, preconditioners, schedules and theory; see test_bad_input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import decoupled_wd as dwd
from decoupled_wd._adabound import scale_by_adabound
from decoupled_wd.rounding import check_rounding

PARAMS = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
NARROW = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)


def step(link, gradients, params=PARAMS):
    return link.update(gradients, link.init(params), params)


def seeded(seed):
    return dwd.rounding.stochastic_rounding(seed)


STORAGE = [
    # storage dtypes
    (
        lambda: dwd.sgdw(0.1, 0.1, momentum_dtype=jnp.int32),
        TypeError,
        "momentum_dtype must be a real",
    ),
    (lambda: dwd.sgd(0.1, 0.1, momentum_dtype=bool), TypeError, "got 'bool'; pass jnp.float32"),
    (lambda: dwd.adamw(0.1, 0.1, mu_dtype=jnp.int8), TypeError, "mu_dtype must be a real floating"),
    (lambda: dwd.adamw(0.1, 0.1, nu_dtype="int32"), TypeError, "nu_dtype must be a real floating"),
    (lambda: dwd.adam(0.1, 0.1, nu_dtype=jnp.complex64), TypeError, "nu_dtype must be a real"),
    (lambda: dwd.scale_by_adam(mu_dtype="fast"), TypeError, "mu_dtype must be a real floating"),
    (lambda: dwd.scale_by_adam(mu_dtype=jnp.float8_e4m3fn), TypeError, "got 'float8_e4m3fn'"),
    (lambda: dwd.scale_by_adam(nu_dtype=32), TypeError, "nu_dtype must be a real floating"),
    (lambda: dwd.scale_by_momentum(momentum_dtype=[]), TypeError, "momentum_dtype must be a real"),
    (lambda: dwd.scale_by_momentum(momentum_dtype=np.uint8), TypeError, "at least 16 bits"),
    (
        lambda: scale_by_adabound(learning_rate=0.1, mu_dtype=np.longdouble),
        TypeError,
        "mu_dtype must be a real floating",
    ),
    (
        lambda: scale_by_adabound(learning_rate=0.1, nu_dtype=str),
        TypeError,
        "nu_dtype must be a real floating",
    ),
]
GRADIENTS = [
    # gradients that are not those of the params
    (
        lambda: step(dwd.adamw(0.1, 0.1), PARAMS | {"bias": jnp.ones(2, jnp.int32)}),
        TypeError,
        "gradients at 'bias' is int32 for a floating-point parameter; cast it",
    ),
    (
        lambda: step(dwd.sgdw(0.1, 0.1), PARAMS | {"bias": np.array([True, False])}),
        TypeError,
        "gradients at 'bias' is bool",
    ),
    (
        lambda: step(dwd.scale_by_adam(), PARAMS | {"bias": jnp.ones(2) * 1j}),
        TypeError,
        "gradients at 'bias' is complex64 for a real parameter; pass its real part",
    ),
    (
        lambda: step(dwd.scale_by_momentum(), PARAMS | {"bias": 1}),
        TypeError,
        "gradients at 'bias' is int for",
    ),
    (
        lambda: step(dwd.scale_by_adam(), PARAMS | {"bias": np.zeros(2, jax.dtypes.float0)}),
        TypeError,
        "gradients at 'bias' is void for",
    ),
    (
        lambda: step(dwd.adamw(0.1, 0.1), PARAMS | {"kernel": jnp.ones((3, 2, 2))}),
        ValueError,
        "gradients at 'kernel' has shape (3, 2, 2) for a parameter of shape (2, 2)",
    ),
    (
        lambda: step(dwd.scale_by_momentum(), PARAMS | {"kernel": jnp.ones(2)}),
        ValueError,
        "'kernel' has shape (2,) for a parameter of shape (2, 2); pass one of that shape",
    ),
    (
        lambda: step(scale_by_adabound(learning_rate=0.1), PARAMS | {"bias": 1.0}),
        ValueError,
        "'bias' has shape () for a parameter of shape (2,)",
    ),
    (
        lambda: jax.jit(lambda g: step(dwd.scale_by_adam(), {"kernel": g, "bias": g}))(jnp.ones(2)),
        ValueError,
        "'kernel' has shape (2,)",
    ),
    (
        lambda: step(dwd.scale_by_adam(), {"kernel": jnp.ones((2, 2))}),
        ValueError,
        "gradients must have the structure of the params; the tree lacks 'bias'",
    ),
    (
        lambda: step(dwd.scale_by_adam(), PARAMS | {"scale": jnp.ones(2)}),
        ValueError,
        "the tree has 'scale' too. Pass what jax.grad gives",
    ),
    (
        lambda: step(dwd.scale_by_momentum(), [jnp.ones((2, 2)), jnp.ones(2)]),
        ValueError,
        "gradients must have the structure of the params; the tree lacks 'bias'",
    ),
    (
        lambda: step(dwd.scale_by_momentum(), jnp.ones(2)),
        ValueError,
        "gradients must have the structure of the params",
    ),
    (
        lambda: step(dwd.scale_by_adam(), [jnp.ones(2)], (jnp.ones(2),)),
        ValueError,
        "the tree is a list for a tuple",
    ),
]
ROUNDING = [
    # seeds and links
    (lambda: seeded(0.5), TypeError, "seed must be a whole number, got 0.5; pass a Python int"),
    (lambda: seeded("0"), TypeError, "seed must be a whole number, got '0'"),
    (lambda: seeded(None), TypeError, "seed must be a whole number, got None"),
    (lambda: seeded(True), TypeError, "seed must be a whole number, got True"),
    (lambda: seeded(np.float32(3)), TypeError, "seed must be a whole number"),
    (lambda: seeded(np.array(True)), TypeError, "seed must be a whole number"),
    (lambda: seeded(jnp.array([1, 2])), TypeError, "seed must be a whole number"),
    (lambda: seeded(jax.random.key(0)), TypeError, "seed must be a whole number"),
    (lambda: seeded(2**64), ValueError, "seed must be at least 0 and below 2^32, got 1844"),
    (lambda: seeded(2**32), ValueError, "seed must be at least 0 and below 2^32, got 4294967296"),
    (lambda: seeded(-1), ValueError, "seed must be at least 0 and below 2^32, got -1"),
    (lambda: check_rounding(dwd.rounding.residual), TypeError, "call it, as in residual(...)"),
    (lambda: check_rounding("residual"), TypeError, "got 'residual'; pass rounding=dwd.rounding"),
    (lambda: check_rounding(True), TypeError, "rounding must be a link, got True"),
    (lambda: check_rounding(16), TypeError, "rounding must be a link, got 16"),
    (lambda: check_rounding(jnp.bfloat16), TypeError, "rounding must be a link"),
    (
        lambda: check_rounding(dwd.rules.towards_zero()),
        TypeError,
        "got the rule towards_zero(); pass it as rule=",
    ),
    (
        lambda: dwd.preflight(NARROW, 1e-4, rounding=dwd.rounding.stochastic_rounding),
        TypeError,
        "call it, as in stochastic_rounding(...)",
    ),
    (
        lambda: dwd.preflight(NARROW, 1e-4, rounding=dwd.rules.towards_start()),
        TypeError,
        "got the rule towards_start()",
    ),
    (lambda: dwd.preflight(NARROW, 1e-4, rounding="bf16"), TypeError, "rounding must be a link"),
    (
        lambda: dwd.preflight(NARROW, 1e-4, rounding=optax.identity(), on_loss="raise"),
        ValueError,
        "decay is lost, wholly or partly, in 2 of 2 decayed leaves",
    ),
]

WRONG = [*STORAGE, *GRADIENTS, *ROUNDING]
