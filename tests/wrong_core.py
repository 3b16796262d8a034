"""Wrong calls of the optimisers, couplings and strengths: the call, its error, and words of the message."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import decoupled_wd as dwd

PARAMS = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
COSINE = optax.cosine_decay_schedule(0.1, 10)
RUN = {"batch_size": 8, "dataset_size": 64, "first_cycle_epochs": 2}


def stepped(optimizer, gradients=PARAMS, params=PARAMS):
    return optimizer.update(gradients, optimizer.init(params), params)


def injected(make, *arguments, **options):
    return optax.inject_hyperparams(make)(*arguments, **options).init(PARAMS)


def jitted(make, *arguments):
    return jax.jit(lambda *numbers: make(*numbers).init(PARAMS))(*arguments)


def from_step(number, step=0):
    return lambda count: jnp.where(count >= step, number, 0.01)


def adopted(state, params=PARAMS, **options):
    return dwd.adopt(dwd.adamw(0.1, 0.01), params, state, **options)


ADAM = optax.adam(0.1)
LION = optax.lion(1e-4, weight_decay=0.0)

WRONG = [
    # numbers that float32 cannot hold
    (lambda: dwd.adamw(0.1, 1e39), ValueError, "weight_decay overflows: 1e+39"),
    (lambda: dwd.adamw(1e39, 0.1), ValueError, "learning_rate overflows: 1e+39"),
    (lambda: dwd.sgd(0.1, 1e300), ValueError, "l2 overflows: 1e+300"),
    (
        lambda: dwd.adamw(0.1, {"kernel": 1e40, "bias": 0}),
        ValueError,
        "weight_decay at 'kernel' over",
    ),
    (
        lambda: dwd.normalized(1e39, batch_size=1, dataset_size=1, epochs=1),
        ValueError,
        "normalized_weight_decay overflows",
    ),
    (lambda: dwd.Coupling(1e39, 0), ValueError, "p overflows"),
    # learning rates that are arrays, and their peaks
    (lambda: injected(dwd.adamw, COSINE, 0.1), ValueError, "learning_rate is a JAX array"),
    (lambda: injected(dwd.sgdw, 0.1, 0.1), ValueError, "peak_learning_rate=learning_rate"),
    (
        lambda: injected(dwd.adamw, COSINE, 0.1, coupling=dwd.CORRECTED),
        ValueError,
        "Coupling(p=1, s=2) needs its peak",
    ),
    (lambda: jitted(dwd.adamw, 0.1, 0.1), ValueError, "as inside optax.inject_hyperparams"),
    (
        lambda: dwd.decay_weights(0.1, learning_rate=jnp.array(0.1)),
        ValueError,
        "may be that of one step only",
    ),
    (
        lambda: dwd.PAPER.fraction(0.1, jnp.float32(0.1)),
        ValueError,
        "tell α from η_t; pass peak_learning_rate=",
    ),
    (
        lambda: dwd.adamw(0.1, 0.1, peak_learning_rate=1e-3),
        ValueError,
        "peak_learning_rate=0.001 is below the learning rate 0.1",
    ),
    (
        lambda: dwd.sgdw(COSINE, 0.1, peak_learning_rate=0.01),
        ValueError,
        "peak_learning_rate=0.01 is below",
    ),
    (
        lambda: dwd.decouple(LION, 0.1, learning_rate=2.0, peak_learning_rate=1.0),
        ValueError,
        "peak_learning_rate=1 is below the learning rate 2",
    ),
    (
        lambda: dwd.adamw(jnp.array(0.1), 0.1, peak_learning_rate=jnp.array(0.05)),
        ValueError,
        "whose highest value it must be",
    ),
    (
        lambda: dwd.adamw(COSINE, 0.1, peak_learning_rate=-1),
        ValueError,
        "peak_learning_rate must be finite and > 0, got -1.0",
    ),
    (
        lambda: dwd.adamw(COSINE, 0.1, peak_learning_rate=np.nan),
        ValueError,
        "peak_learning_rate must be finite and > 0, got nan",
    ),
    (
        lambda: dwd.adamw(COSINE, 0.1, peak_learning_rate="0.1"),
        TypeError,
        "peak_learning_rate must be a real number, got '0.1'",
    ),
    # schedules
    (
        lambda: dwd.adamw(lambda t: -0.1, 0.1, peak_learning_rate=1),
        ValueError,
        "the schedule returned -0.1 at step 0",
    ),
    (
        lambda: dwd.adamw(0.1, from_step(-1.0)),
        ValueError,
        "weight_decay must be finite and >= 0, and the schedule returned -1.0",
    ),
    (lambda: dwd.adamw(0.1, from_step(jnp.nan)), ValueError, "the schedule returned nan at step 0"),
    (lambda: dwd.adamw(0.1, from_step(jnp.inf)), ValueError, "the schedule returned inf at step 0"),
    (
        lambda: dwd.sgd(0.1, lambda t: -t - 1),
        ValueError,
        "l2 must be finite and >= 0, and the schedule returned -1.0",
    ),
    (
        lambda: dwd.add_decayed_weights(from_step(-2.0)),
        ValueError,
        "weight_decay must be finite and >= 0, and the schedule",
    ),
    (
        lambda: dwd.adamw(0.1, lambda t: jnp.ones(2)),
        TypeError,
        "weight_decay is a schedule that must return one real number",
    ),
    (
        lambda: dwd.adamw(lambda t: jnp.ones(1), 0.1, peak_learning_rate=1),
        TypeError,
        "learning_rate is a schedule that must return",
    ),
    (lambda: dwd.adamw(0.1, lambda t: "0.1"), TypeError, "must return one real number, got '0.1'"),
    (lambda: dwd.adamw(0.1, lambda t: None), TypeError, "must return one real number, got None"),
    (lambda: dwd.adamw(0.1, lambda t: True), TypeError, "must return one real number, got True"),
    (lambda: dwd.adamw(0.1, lambda t: 1j * t), TypeError, "must return one real number, got "),
    (
        lambda: dwd.adamw(0.1, lambda: 0.1),
        TypeError,
        "it was called with the step count 0 as a schedule, and raised TypeError",
    ),
    (
        lambda: dwd.adamw(optax.adam, 0.1, peak_learning_rate=1),
        TypeError,
        "learning_rate is a schedule that must return one",
    ),
    (
        lambda: dwd.adamw(0.1, [0.1, 0.2][5:].pop),
        TypeError,
        "weight_decay is callable, so it was called",
    ),
    (
        lambda: dwd.scale_by_momentum(learning_rate=lambda t: -1.0),
        ValueError,
        "learning_rate must be finite and >= 0, and",
    ),
    # positions and names
    (lambda: dwd.adamw(0.1, 0.1, 0.9), TypeError, "positional argument"),
    (lambda: dwd.adamw(0.1, 0.1, weight_deacy=0.1), TypeError, "weight_deacy"),
    (
        lambda: dwd.adamw(0.1, 0.1, coupling="torhc"),
        ValueError,
        "coupling='torhc' is not a known framework; did you mean 'torch'?",
    ),
    (
        lambda: dwd.adamw(0.1, 0.1, coupling=(0, 1)),
        TypeError,
        "coupling must be a Coupling or a framework's name, got (0, 1)",
    ),
    (
        lambda: dwd.decouple(LION, 0.1, coupling=None),
        TypeError,
        "coupling must be a Coupling or a framework's name, got None",
    ),
    (
        lambda: dwd.describe(PARAMS, 0.1, coupling="jax"),
        ValueError,
        "coupling='jax' is not a known framework",
    ),
    (
        lambda: dwd.preflight(PARAMS, 0.1, coupling=3),
        TypeError,
        "coupling must be a Coupling or a framework's name, got 3",
    ),
    (
        lambda: dwd.from_timescale(steps=9, coupling="torc"),
        ValueError,
        "coupling='torc' is not a known framework",
    ),
    (lambda: dwd.from_timescale(steps=9, coupling="torch"), ValueError, "pass learning_rate="),
    (
        lambda: dwd.keep_timescale(0.1, coupling=1.0),
        TypeError,
        "coupling must be a Coupling or a framework's name",
    ),
    (
        lambda: dwd.equivalents(0.1, from_="torch.optim.Adam", learning_rate=0.1),
        ValueError,
        "from_='torch.optim.Adam' is not known as an optimiser of decoupled",
    ),
    (
        lambda: dwd.equivalents(0.1, from_="optax.sgd", learning_rate=0.1),
        ValueError,
        "decays as optax's AdamW does, pass 'optax'",
    ),
    (
        lambda: dwd.equivalents(0.1, from_="mylib.AdamW", learning_rate=0.1),
        ValueError,
        "from_='mylib.AdamW' is not a known framework; pass a",
    ),
    (
        lambda: dwd.convert_weight_decay(0.1, from_=None, to="torch", learning_rate=0.1),
        TypeError,
        "from_ must be a Coupling or a framework's name",
    ),
    (
        lambda: dwd.convert_weight_decay(0.1, from_="torch", to="", learning_rate=0.1),
        ValueError,
        "to='' is not a known framework",
    ),
    (
        lambda: dwd.convert_weight_decay(1, from_="paper", to="torch", learning_rate=5e-324),
        ValueError,
        "learning_rate=5e-324 is too small",
    ),
    (
        lambda: dwd.from_timescale(steps=2, coupling="torch", learning_rate=5e-324),
        ValueError,
        "raise the learning rate",
    ),
    # decays that meet
    (
        lambda: dwd.decouple(dwd.adamw(0.1, 0.1), 0.1).init(PARAMS),
        ValueError,
        "inner decays already",
    ),
    (
        lambda: dwd.decouple(optax.chain(optax.sgd(0.1), dwd.decay_weights(0.1)), 0.1).init(PARAMS),
        ValueError,
        "weights would decay twice",
    ),
    (
        lambda: dwd.decouple(dwd.record(dwd.sgdw(0.1, 0.1)), 0.1).init(PARAMS),
        ValueError,
        "each with its mask",
    ),
    (
        lambda: dwd.decouple(None, 0.1),
        TypeError,
        "inner must be a GradientTransformation, got None",
    ),
    (lambda: dwd.decouple(0.1, LION), TypeError, "pass a finished optimiser, as in optax.lion"),
    # what an update is given
    (
        lambda: stepped(dwd.adamw(0.1, 0.1), {"kernel": PARAMS["kernel"]}),
        ValueError,
        "it lacks ['bias']",
    ),
    (
        lambda: stepped(dwd.decouple(LION, 0.1), PARAMS | {"kernel": jnp.ones((3, 2, 2))}),
        ValueError,
        "at 'kernel' has shape (3, 2, 2)",
    ),
    (
        lambda: stepped(dwd.decay_weights(0.1), PARAMS | {"bias": jnp.ones(2, int)}),
        TypeError,
        "updates at 'bias' is int32",
    ),
    (
        lambda: stepped(dwd.add_decayed_weights(0.1), PARAMS | {"bias": jnp.ones(3)}),
        ValueError,
        "updates at 'bias' has shape (3,)",
    ),
    (
        lambda: stepped(dwd.sgdw(0.1, 0.1), PARAMS | {"bias": jnp.ones(2, bool)}),
        TypeError,
        "at 'bias' is bool",
    ),
    # trees of λ
    (
        lambda: stepped(dwd.adamw(0.1, {"kernel": None, "bias": 0.1})),
        TypeError,
        "weight_decay at 'kernel' must be a number, got None",
    ),
    (
        lambda: stepped(dwd.adamw(0.1, {"kernel": 0.1, "bias": "no"})),
        TypeError,
        "weight_decay at 'bias' must be a real number, got 'no'",
    ),
    (
        lambda: stepped(dwd.adamw(0.1, {"kernel": 0.1, "bias": 0.1, "head": 0.1})),
        ValueError,
        "no ['head']",
    ),
    (
        lambda: stepped(dwd.adamw(0.1, [0.1, 0.1])),
        ValueError,
        "weight_decay must have the structure of the params",
    ),
    # other strengths and runs
    (lambda: dwd.from_timescale(steps="9"), TypeError, "steps must be a real number, got '9'"),
    (lambda: dwd.from_half_life(steps=np.inf), ValueError, "steps must be finite and >= 1"),
    (
        lambda: dwd.keep_normalized(0.1, batch_ratio=0),
        ValueError,
        "batch_ratio must be finite and > 0",
    ),
    (lambda: dwd.keep_timescale(-0.1), ValueError, "weight_decay must be finite and >= 0"),
    (
        lambda: dwd.keep_timescale(0.1, dataset_ratio=np.nan),
        ValueError,
        "dataset_ratio must be finite",
    ),
    (
        lambda: dwd.adamwr(0.1, 0.1, **RUN | {"dataset_size": 1j}),
        TypeError,
        "dataset_size must be a real number",
    ),
    (
        lambda: dwd.sgdwr(0.1, 0.1, **RUN, cycle_factor=0.9),
        ValueError,
        "cycle_factor must be finite and >= 1",
    ),
    (
        lambda: dwd.sgdwr(0.1, COSINE, **RUN),
        TypeError,
        "normalized_weight_decay must be a real number",
    ),
    (
        lambda: dwd.equivalents(0.1, from_="torch", learning_rate=0.1, steps=-5),
        ValueError,
        "steps must be finite and >= 1",
    ),
    # a state of another optimiser
    (lambda: adopted(None), ValueError, "state counts no steps; pass count=, the number of steps"),
    (lambda: adopted(None, count=3), ValueError, "for 'inner/0' of the optimiser; it has {}; put"),
    (lambda: adopted(ADAM.init(PARAMS["bias"])), ValueError, "must have the structure of the"),
    (
        lambda: adopted(optax.sgd(0.1, momentum=0.9).init(PARAMS), count=3),
        ValueError,
        "state has no ScaleByAdamState(count, mu, nu) for 'inner/0' of the optimiser; it has",
    ),
    (
        lambda: adopted(optax.amsgrad(0.1).init(PARAMS)),
        ValueError,
        "it has {'0': 'ScaleByAmsgradState(count, mu, nu, nu_max)'}",
    ),
    (
        lambda: adopted(ADAM.init(PARAMS), {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(2)}),
        ValueError,
        "state at '0/mu/kernel' has shape (2, 2), and these params need (2, 3)",
    ),
    (lambda: adopted(ADAM.init(PARAMS), {}), ValueError, "state at '0/mu' must have the structure"),
    (lambda: adopted(ADAM.init(PARAMS), None), ValueError, "adopt needs the weights"),
    (lambda: adopted(ADAM.init(PARAMS), count=-1), ValueError, "count must be in 0…2147483647"),
    (lambda: adopted(ADAM.init(PARAMS), count=0.5), TypeError, "count must be a whole number"),
    (lambda: dwd.adopt(dwd.adamw, PARAMS, ()), TypeError, "optimizer must be a GradientTransf"),
]
