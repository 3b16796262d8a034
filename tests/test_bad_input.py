"""Wrong calls, one a line: the type of the error and the words it must contain."""

import importlib
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import decoupled_wd as dwd

PARAMS = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
SCHEDULE = optax.linear_schedule(0.1, 0.0, 10)
CYCLES = {"batch_size": 10, "dataset_size": 100, "first_cycle_epochs": 2}


def init(optimizer, params=PARAMS):
    return optimizer.init(params)


def update_without_params(optimizer):
    return optimizer.update(PARAMS, optimizer.init(PARAMS))


def masked(mask):
    return init(dwd.adamw(0.1, 0.1, mask=mask))


WRONG = [
    # λ
    (
        lambda: dwd.adamw(0.1, -0.1),
        ValueError,
        "weight_decay must be finite and >= 0, got -0.1; use 0",
    ),
    (lambda: dwd.adamw(0.1, float("nan")), ValueError, "weight_decay must be finite"),
    (lambda: dwd.adamw(0.1, np.inf), ValueError, "weight_decay must be finite"),
    (lambda: dwd.adamw(0.1, jnp.array(-1.0)), ValueError, "weight_decay must be finite"),
    (lambda: dwd.adamw(0.1, "0.1"), TypeError, "weight_decay must be"),
    (lambda: dwd.adamw(0.1, True), TypeError, "weight_decay must be"),
    (lambda: dwd.adamw(0.1, None), TypeError, "weight_decay must be"),
    (lambda: dwd.adamw(0.1), TypeError, "weight_decay"),
    (lambda: dwd.sgd(0.1, -1), ValueError, "l2 must be finite and >= 0, got -1.0"),
    (lambda: dwd.decouple(optax.lion(1e-4), -1), ValueError, "weight_decay must be"),
    (lambda: dwd.decay_weights(1j), TypeError, "weight_decay must be a real number"),
    (lambda: dwd.add_decayed_weights("1e-4"), TypeError, "weight_decay must be"),
    # α
    (lambda: dwd.adamw(-0.1, 0.1), ValueError, "learning_rate must be finite and >= 0, got -0.1"),
    (lambda: dwd.sgdw(np.nan, 0.1), ValueError, "learning_rate must be finite"),
    (lambda: dwd.adam("fast", 0.1), TypeError, "learning_rate must be a real number, got 'fast'"),
    (lambda: dwd.adamw(SCHEDULE, 0.1), ValueError, "peak_learning_rate=, the highest value"),
    (lambda: dwd.sgdw(SCHEDULE, 0.1), ValueError, "peak_learning_rate=, the highest value"),
    (
        lambda: dwd.adamw(SCHEDULE, 0.1, peak_learning_rate=0),
        ValueError,
        "peak_learning_rate must be",
    ),
    (lambda: dwd.adamw(SCHEDULE, 0.1, peak_learning_rate=SCHEDULE), TypeError, "no place here"),
    (lambda: dwd.decay_weights(0.1, coupling=dwd.LR), ValueError, "pass learning_rate="),
    (lambda: dwd.sgdwr(SCHEDULE, 0.1, **CYCLES), TypeError, "learning_rate must be a real number"),
    (lambda: dwd.adamwr(0, 0.1, **CYCLES), ValueError, "learning_rate must be finite and > 0"),
    (lambda: dwd.warm_restarts(-1, first_cycle_steps=5), ValueError, "peak must be"),
    # other hyperparameters
    (lambda: dwd.adamw(0.1, 0.1, b1=1.0), ValueError, "b1 must be in [0, 1), got 1.0"),
    (lambda: dwd.adam(0.1, 0.1, b2=-0.1), ValueError, "b2 must be in [0, 1)"),
    (lambda: dwd.scale_by_adam(eps=-1e-8), ValueError, "eps must be finite and >= 0"),
    (lambda: dwd.scale_by_momentum("0.9"), TypeError, "momentum must be a real number"),
    (lambda: dwd.scale_by_adam(b2=jnp.bfloat16(0.999)), TypeError, "hyperparam_dtype=jnp.float32"),
    (lambda: dwd.warm_restarts(1, first_cycle_steps=0), ValueError, "first_cycle_steps must be"),
    (
        lambda: dwd.warm_restarts(1, first_cycle_steps=5, cycle_factor=0.5),
        ValueError,
        "cycle_factor must",
    ),
    (
        lambda: dwd.warm_restarts(1, first_cycle_steps=5, floor=2),
        ValueError,
        "floor must be at most the peak",
    ),
    (
        lambda: jax.jit(lambda n: dwd.warm_restarts(1.0, first_cycle_steps=n)(3))(5),
        TypeError,
        "first_cycle_steps is traced",
    ),
    (lambda: dwd.adamwr(0.1, -1, **CYCLES), ValueError, "normalized_weight_decay must be"),
    (lambda: dwd.adamwr(0.1, 0.1, **CYCLES | {"batch_size": 0}), ValueError, "batch_size must be"),
    (
        lambda: dwd.normalized(0.1, batch_size=1, dataset_size=-5, epochs=1),
        ValueError,
        "dataset_size",
    ),
    (
        lambda: dwd.normalized(0.1, batch_size=1, dataset_size=5, epochs=0),
        ValueError,
        "epochs must be",
    ),
    (lambda: dwd.from_timescale(steps=0.5), ValueError, "steps must be finite and >= 1"),
    (lambda: dwd.from_half_life(steps=9, coupling=dwd.LR), ValueError, "pass learning_rate="),
    (
        lambda: dwd.from_cost_penalty(1.0, dataset_size=0, learning_rate=0.1),
        ValueError,
        "dataset_size must be finite and > 0",
    ),
    # couplings and frameworks
    (lambda: dwd.Coupling(-1, 0), ValueError, "p must be finite and >= 0"),
    (
        lambda: dwd.convert_weight_decay(0.1, from_="pytorch", to="paper", learning_rate=1e-3),
        ValueError,
        "did you mean 'torch'?",
    ),
    (
        lambda: dwd.convert_weight_decay(0.1, from_="torch", to="mine", learning_rate=1e-3),
        ValueError,
        "to='mine' is not a known framework",
    ),
    (
        lambda: dwd.convert_weight_decay(0.1, from_="torch", to="paper", learning_rate=0),
        ValueError,
        "learning_rate must be finite and > 0",
    ),
    (lambda: dwd.adamw(0.1, 0.1, coupling=1), TypeError, "coupling must be a Coupling"),
    # masks, rules and params
    (lambda: masked({"kernel": True}), ValueError, "mask must have the structure of the params"),
    (lambda: masked({"kernel": "no_decay", "bias": True}), TypeError, "mask at 'kernel'"),
    (lambda: masked({"kernel": -1.0, "bias": True}), ValueError, "mask at 'kernel'"),
    (lambda: masked({"kernel": False, "bias": False}), ValueError, "mask selects no parameter"),
    (lambda: masked(dwd.masks.matrices), TypeError, "call it"),
    (
        lambda: init(dwd.adamw(0.1, 0.1, mask=dwd.masks.matrices()), {"b": jnp.ones(2)}),
        ValueError,
        "selects no",
    ),
    (lambda: dwd.masks.matrices(stacked_axes=-1), ValueError, "stacked_axes must be"),
    (
        lambda: update_without_params(dwd.adamw(0.1, 0.1)),
        ValueError,
        "call update(gradients, state, params)",
    ),
    (
        lambda: update_without_params(dwd.sgd(0.1, 0.1)),
        ValueError,
        "call update(gradients, state, params)",
    ),
    (lambda: dwd.decouple(optax.lion, 0.1), TypeError, "inner must be a GradientTransformation"),
    (
        lambda: init(dwd.decouple(dwd.rounding.residual(), 0.1)),
        ValueError,
        "rounding must be the last link; pass it as rounding=",
    ),
    # rules
    (
        lambda: dwd.adamw(0.1, 0.1, rule=dwd.rules.towards_zero),
        TypeError,
        "call it, as in towards_zero()",
    ),
    (lambda: dwd.rules.towards_norm(-1.0), ValueError, "radius must be finite and >= 0"),
    (lambda: dwd.rules.lp(0.5), ValueError, "p must be finite and >= 1"),
    (lambda: dwd.rules.cautious("zero"), TypeError, "rule must be a rule"),
    (
        lambda: init(dwd.adamw(0.1, 0.1, rule=dwd.rules.towards({"kernel": 1.0}))),
        ValueError,
        "target must have the structure of the params",
    ),
    (
        lambda: init(dwd.adamw(0.1, 0.1, rule=dwd.rules.towards_norm(1.0, axis=1))),
        ValueError,
        "axis=1 does not fit the parameter 'bias'",
    ),
    # training on a sphere
    (
        lambda: dwd.hyperball(optax.scale_by_adam, 0.1),
        TypeError,
        "pass a direction without its learning rate, as in optax.scale_by_adam()",
    ),
    (lambda: dwd.hyperball("adam", 0.1), TypeError, "direction must be a GradientTransformation"),
    (lambda: dwd.hyperball(optax.identity()), TypeError, "learning_rate"),
    (lambda: dwd.hyperball(optax.identity(), -1), ValueError, "learning_rate must be finite"),
    (lambda: dwd.hyperball(optax.identity(), "1"), TypeError, "learning_rate must be a real"),
    (
        lambda: dwd.hyperball(optax.identity(), 0.1, stacked_axes=0.5),
        ValueError,
        "stacked_axes must be whole, got 0.5",
    ),
    (
        lambda: jax.jit(
            lambda n: dwd.hyperball(optax.identity(), 0.1, stacked_axes=n).init(PARAMS)
        )(0),
        TypeError,
        "stacked_axes is traced, and must be known before compilation; name it in static_args",
    ),
    (
        lambda: init(dwd.hyperball(optax.identity(), 0.1, mask={"kernel": 0.5, "bias": 0})),
        ValueError,
        "mask is 0.5 at 'kernel', and hyperball holds a weight or does not; use 0 or 1",
    ),
    (
        lambda: init(dwd.hyperball(optax.identity(), 0.1, mask={"kernel": SCHEDULE, "bias": 0})),
        ValueError,
        "mask is (schedule) at 'kernel', and hyperball holds a weight or does not; use 0 or 1",
    ),
    (
        lambda: jax.jit(
            lambda m: init(dwd.hyperball(optax.identity(), 0.1, mask={"kernel": m, "bias": 0}))
        )(1.0),
        ValueError,
        "mask is (traced) at 'kernel', and hyperball holds a weight or does not; use 0 or 1",
    ),
    (
        lambda: init(dwd.hyperball(optax.identity(), 0.1), {"kernel": jnp.zeros((2, 2))}),
        ValueError,
        "would hold 'kernel', or a slice of it, at its norm at init, which is 0",
    ),
    (
        lambda: init(
            dwd.hyperball(optax.identity(), 0.1, mask=dwd.masks.everything()),
            {"scale": jnp.ones(())},
        ),
        ValueError,
        "no axis is left for a norm; pass an int or a tuple of ints that it has, or leave it out",
    ),
    (
        lambda: update_without_params(dwd.hyperball(optax.identity(), 0.1)),
        ValueError,
        "call update(gradients, state, params)",
    ),
    (
        lambda: dwd.hyperball(optax.identity(), 0.1, rounding=dwd.rounding.residual),
        TypeError,
        "call it, as in residual(...)",
    ),
    # patterns and trees of λ
    (lambda: dwd.masks.matching(), ValueError, "at least one rule"),
    (lambda: dwd.masks.matching(".*"), TypeError, "a rule must be a pair"),
    (lambda: dwd.masks.matching(("(", 1.0)), ValueError, "is not a regular expression"),
    (
        lambda: masked(dwd.masks.matching(("kernal", 1.0), (".*", 0.0))),
        ValueError,
        "nearest paths are ['kernel']",
    ),
    (lambda: masked(dwd.masks.matching(("kernel", 1.0))), ValueError, "no pattern covers ['bias']"),
    (lambda: dwd.masks.without("biases"), ValueError, "got 'biases'"),
    (
        lambda: init(dwd.adamw(0.1, {"kernel": 0.1})),
        ValueError,
        "weight_decay must have the structure",
    ),
    (lambda: dwd.adamw(0.1, {"kernel": 0.1, "bias": -1.0}), ValueError, "weight_decay at 'bias'"),
    (lambda: dwd.describe(PARAMS, -1.0), ValueError, "weight_decay at 'bias' must be finite"),
    (
        lambda: dwd.scale_by_adabound(learning_rate=0.0),
        ValueError,
        "learning_rate must be finite and > 0",
    ),
    (
        lambda: jax.jit(lambda b2: dwd.scale_by_adam(b2=b2).init(1.0))(jnp.bfloat16(1)),
        TypeError,
        "b2 arrived",
    ),
]


# Each room may keep a table of its own beside this one. The core's tests run without the extras, too.
STUDY = importlib.util.find_spec("xarray") is not None
ROOMS = [
    path.stem
    for path in sorted(Path(__file__).parent.glob("wrong_*.py"))
    if STUDY
    or not any(extra in path.read_text() for extra in ("decoupled_wd.study", "dwd.figures"))
]
TABLES = {__name__: WRONG} | {room: importlib.import_module(room).WRONG for room in ROOMS}
ROWS = {
    f"{room.removeprefix('wrong_')} {number}: {row[-1]}": row
    for room, rows in TABLES.items()
    for number, row in enumerate(rows)
}


@pytest.mark.parametrize(("call", "kind", "words"), ROWS.values(), ids=ROWS)
def test_wrong_call(call, kind, words):
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)


def test_there_are_enough_of_them():
    assert len(ROWS) >= 200 or not STUDY
