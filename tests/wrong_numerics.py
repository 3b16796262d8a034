"""Wrong calls of rules, rounding links, preconditioners, schedules and theory; see test_bad_input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import decoupled_wd as dwd
from decoupled_wd import theory
from decoupled_wd.preconditioners import scale_by_adabound
from decoupled_wd.rounding import check_rounding, from_float32, weights

PARAMS = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
COUNTS = jnp.array([1, 2])
SCHEDULE = optax.constant_schedule(0.1)
NARROW = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)


def step(link, gradients, params=PARAMS):
    return link.update(gradients, link.init(params), params)


def seeded(seed):
    return dwd.rounding.stochastic_rounding(seed)


def targeted(target, dtype=jnp.float32):
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    return dwd.adamw(0.1, 0.1, rule=dwd.rules.towards(target)).init(params)


LINK = dwd.rounding.residual()
BYTE = dwd.rounding.residual(bits=8)
BEHIND = dwd.adamw(0.1, 0.1, rounding=LINK)
RESIDUALS = LINK.init(NARROW)


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
    (
        lambda: optax.inject_hyperparams(dwd.scale_by_adam)(nu_dtype=jnp.bfloat16).init(PARAMS),
        TypeError,
        "nu_dtype must be a dtype, got an array of bfloat16, which is what optax.inject_hyper",
    ),
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
        "gradients at 'bias' is float0, the derivative of an integer; pass zeros",
    ),
    (
        lambda: step(
            dwd.adamw(0.1, 0.1), {"steps": np.zeros(2, jax.dtypes.float0)}, {"steps": COUNTS}
        ),
        TypeError,
        "gradients at 'steps' is float0",
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
        "gradients must have the structure of the params; it lacks ['bias']",
    ),
    (
        lambda: step(dwd.scale_by_adam(), PARAMS | {"scale": jnp.ones(2)}),
        ValueError,
        "the params have no ['scale']; pass what jax.grad gives",
    ),
    (
        lambda: step(dwd.scale_by_momentum(), [jnp.ones((2, 2)), jnp.ones(2)]),
        ValueError,
        "gradients must have the structure of the params; at the top it has a node of type list",
    ),
    (
        lambda: step(dwd.scale_by_momentum(), jnp.ones(2)),
        ValueError,
        "gradients must have the structure of the params",
    ),
    (
        lambda: step(dwd.scale_by_adam(), [jnp.ones(2)], (jnp.ones(2),)),
        ValueError,
        "at the top it has a node of type list, where the params have a node of type tuple",
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
    (lambda: dwd.rounding.residual(bits=4), ValueError, "bits must be 8 or 16, got 4; pass 16"),
    (lambda: dwd.rounding.residual(32), ValueError, "bits must be 8 or 16, got 32"),
    (lambda: dwd.rounding.residual(8.0), ValueError, "bits must be 8 or 16, got 8.0"),
    (lambda: dwd.rounding.residual("8"), ValueError, "bits must be 8 or 16, got '8'"),
    (lambda: dwd.rounding.residual(None), ValueError, "bits must be 8 or 16, got None"),
    (lambda: dwd.rounding.residual(True), ValueError, "bits must be 8 or 16, got True"),
    (lambda: dwd.rounding.residual(jnp.int8), ValueError, "bits must be 8 or 16, got <class"),
    (lambda: dwd.rounding.residual(8, seed=-1), ValueError, "seed must be at least 0 and below"),
    (lambda: dwd.rounding.residual(8, seed=0.5), TypeError, "seed must be a whole number"),
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

RATES = {"learning_rate": 0.1, "gradient_norm": 1.0}
NUMBERS = [
    # theory
    (
        lambda: theory.sgdw_norm(0.005, learning_rate=-0.1, gradient_norm=1.0),
        ValueError,
        "learning_rate must be finite and >= 0, got -0.1",
    ),
    (
        lambda: theory.sgdw_norm(0.005, learning_rate=0.1, gradient_norm=-1.0),
        ValueError,
        "gradient_norm must be finite and >= 0",
    ),
    (
        lambda: theory.sgdw_norm(0.005, learning_rate=np.array([0.1, np.nan]), gradient_norm=1.0),
        ValueError,
        "learning_rate must be finite and >= 0, got nan",
    ),
    (
        lambda: theory.sgdw_norm(0.1, momentum=1.0, **RATES),
        ValueError,
        "momentum must be in [0, 1)",
    ),
    (
        lambda: theory.sgdw_norm(np.array([1.0, 0.0]), **RATES),
        ValueError,
        "fraction must be finite",
    ),
    (
        lambda: theory.adamw_norm(0.1, learning_rate=-1.0, size=3),
        ValueError,
        "learning_rate must be finite and >= 0",
    ),
    (
        lambda: theory.adamw_norm(0.1, learning_rate=1.0, size=np.array([3, -3])),
        ValueError,
        "size must be finite and > 0, got -3.0",
    ),
    (
        lambda: theory.adamw_norm(0.1, learning_rate="fast", size=3),
        TypeError,
        "learning_rate must be a real number, got 'fast'",
    ),
    (
        lambda: theory.adamw_norm(0.1, learning_rate=[0.1, 0.2], size=3),
        TypeError,
        "learning_rate must be a number or an array of them, got [0.1, 0.2]; pass an array",
    ),
    (
        lambda: theory.adamw_norm(0.1, learning_rate=1.0, size=True),
        TypeError,
        "size must be a real",
    ),
    (
        lambda: theory.lion_norm(0.1, learning_rate=np.nan, size=3),
        ValueError,
        "learning_rate must be finite and >= 0, got nan",
    ),
    (
        lambda: theory.lion_norm(0.1, learning_rate=1.0, size=3, b1=-0.5),
        ValueError,
        "b1 must be in [0, 1)",
    ),
    (
        lambda: theory.lion_rotation(0.1, b2=np.array([0.9, 1.0])),
        ValueError,
        "b2 must be in [0, 1)",
    ),
    (
        lambda: theory.lion_rotation(np.array([])),
        TypeError,
        "fraction must be a number or an array",
    ),
    (lambda: theory.rotation(0.1, np.array([0.9, -0.1])), ValueError, "momentum must be in [0, 1)"),
    (lambda: theory.rotation(1j), TypeError, "fraction must be a real number"),
    (lambda: theory.rotation(0.1, nesterov=1), TypeError, "nesterov must be a bool"),
    (
        lambda: theory.muon_rotation(0.1, shape=12),
        TypeError,
        "shape must be a pair (rows, columns), got 12",
    ),
    (
        lambda: theory.muon_norm(0.1, learning_rate=0.1, shape=(2, 0)),
        ValueError,
        "columns of shape",
    ),
    (
        lambda: theory.muon_norm(0.0, learning_rate=0.1, shape=(2, 2)),
        ValueError,
        "fraction must be",
    ),
    (
        lambda: theory.muon_rotation(0.1, shape=(2, 2), nesterov=1),
        TypeError,
        "nesterov must be a bool, got 1; pass True or False",
    ),
    (lambda: theory.muon_rotation(0.1, shape=(2, 2), momentum=1.0), ValueError, "momentum must be"),
    (
        lambda: theory.hyperball_learning_rate(20.0, 0.5),
        ValueError,
        "rotation must be below a right angle, got 3.65148 radians a step; lower fraction",
    ),
    (lambda: theory.hyperball_rotation(-1.0), ValueError, "learning_rate must be finite and >= 0"),
    (lambda: theory.hyperball_fraction(0.1, 1.0), ValueError, "momentum must be in [0, 1)"),
    (
        lambda: theory.ball_radius(1.5, learning_rate=0.1),
        ValueError,
        "fraction must be at most 1, got 1.5; a larger one overshoots zero",
    ),
    (lambda: theory.ball_radius(0.0, learning_rate=0.1), ValueError, "fraction must be finite and"),
    (
        lambda: theory.influence(0.1, 1.5, 3),
        ValueError,
        "fraction must be between 0 and 1, got 1.5",
    ),
    (
        lambda: theory.influence(0.1, lambda t: 0.5 * t, 5),
        ValueError,
        "fraction must be between 0 and 1, got 1.5 at step 3",
    ),
    (
        lambda: theory.influence(lambda t: 1.0 - t, 0.1, 5),
        ValueError,
        "learning_rate must be finite and >= 0, got -1 at step 2",
    ),
    (lambda: theory.influence(0.0, 0.1, 5), ValueError, "learning_rate is 0 at every step"),
    (lambda: theory.influence(0.1, 0.1, 0), ValueError, "steps must be finite and >= 1"),
    (
        lambda: theory.influence(0.1, 0.1, 2.5),
        ValueError,
        "steps must be a whole number below 2^31",
    ),
    (lambda: theory.influence(0.1, 0.1, 2**31), ValueError, "steps must be a whole number below"),
    (
        lambda: theory.influence(lambda t: jnp.ones(2), 0.1, 5),
        TypeError,
        "learning_rate is a schedule that must return one real number",
    ),
    (
        lambda: theory.norms(0.1, 0.1, 5, start=-1.0, step_norm=1.0),
        ValueError,
        "start must be finite and >= 0",
    ),
    (
        lambda: theory.norms(0.1, 0.1, 5, start=1.0, step_norm=None),
        TypeError,
        "step_norm must be a real number, got None",
    ),
    (
        lambda: jax.jit(lambda c: theory.influence(0.1, c, 5).shares)(0.1),
        TypeError,
        "fraction is traced",
    ),
    (lambda: theory.rotation(None), TypeError, "fraction must be a real number, got None"),
    (
        lambda: theory.rotation(-jnp.ones(3)),
        ValueError,
        "fraction must be finite and >= 0, got -1.0",
    ),
    # log-time
    (lambda: dwd.log_time(0.0, start=9), ValueError, "omega must be finite and > 0, got 0.0"),
    (lambda: dwd.log_time(-4.0, start=9), ValueError, "omega must be finite and > 0"),
    (lambda: dwd.log_time(np.nan, start=9), ValueError, "omega must be finite and > 0"),
    (lambda: dwd.log_time("4", start=9), TypeError, "omega must be a real number, got '4'"),
    (lambda: dwd.log_time(4.0, start=-1), ValueError, "start must be finite and >= 0"),
    (lambda: dwd.log_time(4.0, start=SCHEDULE), TypeError, "a schedule has no place here"),
    (
        lambda: dwd.log_time(4.0, start=2),
        ValueError,
        "omega must be at most start + 1, got 4.0 > 3.0; lower it",
    ),
    # averages and schedules
    (
        lambda: dwd.adamw(0.1, 0.1, b2=0.99999999999),
        ValueError,
        "b2 must be in [0, 1), got 0.99999999999; 0.9",
    ),
    (lambda: dwd.sgdw(0.1, 0.1, momentum=1 - 1e-9), ValueError, "it is rounded to float32"),
    (
        lambda: dwd.scale_by_adam(b1=np.float64(1 - 1e-8)),
        ValueError,
        "b1 must be in [0, 1), got 0.99999999",
    ),
    (
        lambda: dwd.warm_restarts(1.0, first_cycle_steps=10, cycle_factor=1 + 1e-12),
        ValueError,
        "cycle_factor must be 1, or large enough for at most 131072 cycles",
    ),
    (
        lambda: dwd.warm_restarts(1.0, first_cycle_steps=2**31),
        ValueError,
        "first_cycle_steps must be below 2^31, got 2147483648",
    ),
    (
        lambda: dwd.warm_restarts(1.0, first_cycle_steps=1e300),
        ValueError,
        "first_cycle_steps overflows: 1e+300",
    ),
    (
        lambda: dwd.warm_restarts(1.0, first_cycle_steps=0.5),
        ValueError,
        "first_cycle_steps must be",
    ),
    (
        lambda: dwd.warm_restarts(1.0, first_cycle_steps=None),
        TypeError,
        "first_cycle_steps must be",
    ),
]
TARGETS = [
    # rules
    (lambda: targeted(np.nan), ValueError, "target at 'bias' must be finite in float32, got nan"),
    (lambda: targeted(jnp.inf), ValueError, "target at 'bias' must be finite in float32, got inf"),
    (lambda: targeted(1e39), ValueError, "target at 'bias' must be finite in float32, got 1e+39"),
    (lambda: targeted({"kernel": np.full((2, 2), -np.inf), "bias": 0.0}), ValueError, "'kernel'"),
    (lambda: targeted(7e4, jnp.float16), ValueError, "must be finite in float16, got 70000.0"),
    (lambda: targeted(True), TypeError, "target at 'bias' must be a number"),
    (lambda: dwd.rules.cautious(dwd.rules.lp), TypeError, "call it, as in lp()"),
    (lambda: dwd.rules.cautious(0.5), TypeError, "rule must be a rule, got 0.5"),
    (lambda: dwd.rules.lp(np.nan), ValueError, "p must be finite and >= 1, got nan"),
    (lambda: dwd.describe(PARAMS, 0.1, rule=dwd.rules.lp), TypeError, "call it, as in lp()"),
    (lambda: dwd.rules.huber(0), ValueError, "delta must be finite and > 0, got 0"),
    (lambda: dwd.rules.huber(-1.0), ValueError, "delta must be finite and > 0, got -1.0"),
    (lambda: dwd.rules.huber([1.0]), TypeError, "delta must be a real number, got [1.0]"),
    (lambda: dwd.rules.touched("zero"), TypeError, "rule must be a rule, got 'zero'"),
    (
        lambda: dwd.rules.touched(dwd.rules.lp(1), axis=0.5),
        TypeError,
        "axis must be a whole number or a tuple of them, got 0.5; pass 0",
    ),
    (
        lambda: dwd.adamw(0.1, 0.1, rule=dwd.rules.touched(dwd.rules.lp(1), axis=1)).init(PARAMS),
        ValueError,
        "axis=(1,) does not fit the parameter 'bias' of shape (2,); pass axes that it has",
    ),
    (
        lambda: step(dwd.decay_weights(0.1, rule=dwd.rules.touched(dwd.rules.lp(1))), PARAMS),
        ValueError,
        "touched looks at the gradients; use it in decouple or an alias",
    ),
    (lambda: dwd.rules.onto_norm(0), ValueError, "radius must be finite and > 0, got 0"),
    (lambda: dwd.rules.onto_norm(-1.0), ValueError, "radius must be finite and > 0, got -1.0"),
    (lambda: dwd.rules.onto_norm(axis="0"), TypeError, "or a slice, got '0'; pass 0"),
    (lambda: dwd.rules.onto_norm(one_sided=None), TypeError, "one_sided must be a bool, got None"),
    (
        lambda: dwd.adamw(0.1, 0.1, rule=dwd.rules.onto_norm()).init({"kernel": jnp.zeros(2)}),
        ValueError,
        "would hold 'kernel', or a slice of it, at its norm at init, which is 0; pass radius=",
    ),
    (lambda: dwd.rules.towards_norm([1.0]), TypeError, "radius must be a real number, got [1.0]"),
    (lambda: dwd.rules.towards_norm(axis={}), TypeError, "axis must be None, a whole number, a t"),
    (lambda: dwd.rules.towards_norm(axis=(0, 0.5)), TypeError, "or a slice, got (0, 0.5); pass 0"),
    (lambda: dwd.decay_weights(0.1, rule="towards_zero"), TypeError, "rule must be a rule, got"),
    (lambda: dwd.decay_weights(0.1, rule=None), TypeError, "rule must be a rule, got None"),
]
WEIGHTS = [
    # weights behind a rounding link
    (lambda: weights(NARROW, RESIDUALS), TypeError, "params must be the parameters, got an"),
    (lambda: weights(NARROW, NARROW), TypeError, "state must be an optimiser's, got dict; call"),
    (
        lambda: weights(RESIDUALS.residual, NARROW),
        TypeError,
        "state must be an optimiser's, got dict",
    ),
    (lambda: weights(None, NARROW), TypeError, "state must be an optimiser's, got NoneType"),
    (lambda: weights(jnp.ones(2), NARROW), TypeError, "state must be an optimiser's"),
    (
        lambda: weights(list(NARROW.values()), NARROW),
        TypeError,
        "state must be an optimiser's, got",
    ),
    (lambda: weights(RESIDUALS, None), ValueError, "rounding.weights needs the weights"),
    (lambda: weights(RESIDUALS, PARAMS), TypeError, "'bias' is float32 and was bfloat16 when its"),
    (
        lambda: weights(RESIDUALS, {"kernel": NARROW["kernel"]}),
        ValueError,
        "the residual in state must have the structure of the params; the params have no ['bias']",
    ),
    (
        lambda: weights(RESIDUALS, NARROW | {"bias": jnp.ones(3, jnp.bfloat16)}),
        ValueError,
        "residual of 'bias' has shape (2,) for a parameter of shape (3,)",
    ),
    (
        lambda: weights(dwd.rounding.ResidualState(PARAMS), NARROW),
        TypeError,
        "residual of 'bias' is float32, and must be int16",
    ),
    (
        lambda: BYTE.update(NARROW, RESIDUALS, NARROW),
        TypeError,
        "residual of 'bias' is int16, and must be uint8: bits of a weight; restore it as it was",
    ),
    (
        lambda: LINK.update(NARROW, BYTE.init(NARROW), NARROW),
        TypeError,
        "residual of 'bias' is uint8, and must be int16: bits of a weight; restore it as it was",
    ),
    (
        lambda: weights(BYTE.init(NARROW), PARAMS),
        TypeError,
        "'bias' is float32 and was bfloat16 when its",
    ),
    (
        lambda: from_float32(dwd.adamw(0.1, 0.1), PARAMS),
        ValueError,
        "optimizer holds no residual for these params, so that their float32 bits would be lost; "
        "give it rounding=dwd.rounding.residual()",
    ),
    (
        lambda: from_float32(seeded(0), PARAMS),
        ValueError,
        "optimizer holds no residual for these params",
    ),
    (
        lambda: from_float32(LINK, {"steps": COUNTS}),
        ValueError,
        "optimizer holds no residual for these params",
    ),
    (
        lambda: from_float32(PARAMS, BEHIND),
        TypeError,
        "optimizer must be a gradient transformation, got dict; call from_float32(optimizer, params)",
    ),
    (
        lambda: from_float32(dwd.rounding.residual, PARAMS),
        TypeError,
        "optimizer must be a gradient transformation, got function",
    ),
    (
        lambda: from_float32(BEHIND, None),
        ValueError,
        "params must be the float32 weights, got None; call from_float32(optimizer, params)",
    ),
    (
        lambda: from_float32(BEHIND, {"w": jnp.ones(2, jnp.float16)}),
        TypeError,
        "'w' is float16",
    ),
    (
        lambda: LINK.update(NARROW, LINK.init(PARAMS), NARROW),
        TypeError,
        "'bias' is bfloat16 and was of another dtype at init",
    ),
    (
        lambda: BEHIND.update(NARROW, BEHIND.init(PARAMS), NARROW),
        TypeError,
        "'bias' is bfloat16 and was of another dtype at init",
    ),
    (
        lambda: LINK.update(PARAMS, RESIDUALS, PARAMS),
        TypeError,
        "'bias' is float32 and was bfloat16",
    ),
    (lambda: LINK.init({"w": jnp.ones(2, jnp.float8_e5m2)}), TypeError, "'w' is float8_e5m2"),
    (lambda: seeded(0).init({"w": jnp.ones(2, jnp.float16)}), TypeError, "'w' is float16"),
    (
        lambda: LINK.update(NARROW | {"bias": jnp.ones(2, jnp.int8)}, RESIDUALS, NARROW),
        TypeError,
        "updates at 'bias' is int8 for a floating-point parameter",
    ),
    (
        lambda: step(seeded(0), NARROW | {"bias": jnp.ones(1)}, NARROW),
        ValueError,
        "updates at 'bias' has shape (1,) for a parameter of shape (2,)",
    ),
]

WRONG = [*STORAGE, *GRADIENTS, *ROUNDING, *NUMBERS, *TARGETS, *WEIGHTS]
