"""Wrong calls of masks, trees of multipliers and trees of λ; `test_bad_input` makes them."""

import warnings
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

import decoupled_wd as dwd
from decoupled_wd import masks

ONE = jnp.ones(2)
PARAMS = {"a": {"kernel": jnp.ones((2, 2)), "bias": ONE}, "b": [ONE, (ONE, ONE)]}
LAYER = PARAMS["a"]
NAMELESS = [(jnp.ones((2, 2)), ONE), (jnp.ones((2, 1)), jnp.ones(1))]
SHARED = {"a/kernel": ONE, "a": {"kernel": jnp.ones((2, 2))}}


class Pairs(Sequence):
    """A sequence that is no list, as configurations have."""

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]

    def __repr__(self):
        return f"Pairs{self.items}"


def take(mask, params=LAYER):
    return masks.multipliers(mask, params)


def init(optimizer, params=PARAMS):
    return optimizer.init(params)


def warned(mask, params):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masks.multipliers(mask, params)


FIT = "mask must have the structure of the params, or a prefix of it; "
WRONG = [
    # structures: the first key that differs
    (lambda: take({"a": True}, PARAMS), ValueError, FIT + "it lacks ['b']"),
    (lambda: take({"a": True, "c": True}, PARAMS), ValueError, "and the params have no ['c']"),
    (lambda: take({"a": {"kernel": 1}, "b": 1}, PARAMS), ValueError, FIT + "it lacks ['a/bias']"),
    (
        lambda: take({"a": {"kernel": 1, "bias": 1, "scale": 1}, "b": 1}, PARAMS),
        ValueError,
        FIT + "the params have no ['a/scale']",
    ),
    (
        lambda: take({"a": 1, "b": [1, [1, 1]]}, PARAMS),
        ValueError,
        "at 'b/1' it has a node of type list, where the params have a node of type tuple",
    ),
    (lambda: take({"a": 1, "b": [1, (1,)]}, PARAMS), ValueError, "it lacks ['b/1/1']"),
    (lambda: take({"a": 1, "b": [[1], 1]}, PARAMS), ValueError, "at 'b/0' it has a node of type"),
    (lambda: take([1, 1], PARAMS), ValueError, "at the top it has a node of type list"),
    (lambda: take({}, PARAMS), ValueError, "it lacks ['a', 'b']"),
    (
        lambda: take({"w": 1}, {f"layer_{i}": ONE for i in range(300)}),
        ValueError,
        "it lacks ['layer_0', 'layer_1', 'layer_10', 'layer_100', 'layer_101'] and 295 more",
    ),
    (lambda: take(lambda p: {"kernel": True}), ValueError, FIT + "it lacks ['bias']"),
    (
        lambda: init(dwd.adamw(0.1, {"a": 0.1, "c": 0.1})),
        ValueError,
        "weight_decay must have the structure of the params, or a prefix of it; it lacks ['b']",
    ),
    (
        lambda: dwd.describe(PARAMS, {"a": {"kernel": 0.1}, "b": 0.1}),
        ValueError,
        "it lacks ['a/bias']",
    ),
    # combinations
    (lambda: masks.matrices() & masks.without, TypeError, "call it, as in mask=masks.without()"),
    (lambda: masks.everything | masks.matrices(), TypeError, "call it"),
    (lambda: masks.matrices() & "embedding", TypeError, "got 'embedding'; for a kind of"),
    (
        lambda: masks.matrices() | None,
        TypeError,
        "a mask combines with a mask, a callable or a tree",
    ),
    (lambda: masks.matrices() and masks.everything(), TypeError, "combine masks with &, | and ~"),
    (lambda: not masks.matrices(), TypeError, "matrices() is neither true nor false"),
    (lambda: ~(jnp.sin * masks.everything()) and 1, TypeError, "neither true nor false"),
    (lambda: take(~((lambda t: 1.0) * masks.matrices())), ValueError, "is (schedule) at 'kernel'"),
    (lambda: take((lambda t: -1.0) * masks.matrices()), ValueError, "the factor of a mask must be"),
    (
        lambda: take({"kernel": lambda t: "x", "bias": 1}),
        TypeError,
        "mask at 'kernel' is a schedule",
    ),
    (
        lambda: jax.jit(lambda m: take(~(m * masks.matrices()))["kernel"])(0.5),
        ValueError,
        "is (traced) at 'kernel'; name the multipliers",
    ),
    (lambda: "2" * masks.matrices(), TypeError, "the factor of a mask must be a real number"),
    (lambda: -1.0 * masks.matrices(), ValueError, "the factor of a mask must be finite and >= 0"),
    (lambda: masks.matrices() * float("nan"), ValueError, "the factor of a mask must be finite"),
    (lambda: np.inf * masks.matrices(), ValueError, "the factor of a mask must be finite"),
    (
        lambda: masks.matrices() * np.ones(2),
        TypeError,
        "the factor of a mask must be a real number",
    ),
    (lambda: take(~(0.5 * masks.matrices())), ValueError, "is 0.5 at 'kernel'"),
    (lambda: take(~masks.everything()), ValueError, "mask selects no parameter"),
    (lambda: take(masks.matrices() & ~masks.matrices()), ValueError, "mask selects no parameter"),
    (lambda: take(0 * masks.matrices()), ValueError, "use a weight decay of 0 for no decay"),
    (lambda: take(masks.matrices() & {"kernel": True}), ValueError, FIT + "it lacks ['bias']"),
    (
        lambda: take(masks.everything() & masks.matching(("kernal", 1.0), (".*", 0.0))),
        ValueError,
        "the nearest paths are ['kernel']",
    ),
    # widths
    (
        lambda: masks.relative_to({}, -1.0),
        ValueError,
        "base_shapes must hold floating-point arrays",
    ),
    (lambda: masks.relative_to(LAYER, "x"), TypeError, "exponent must be a real number, got 'x'"),
    (lambda: masks.relative_to(LAYER, np.nan), ValueError, "exponent must be finite, got nan"),
    (
        lambda: masks.relative_to(LAYER, -1, stacked_axes=0.5),
        ValueError,
        "stacked_axes must be whole",
    ),
    (
        lambda: take(masks.relative_to({"kernel": ONE}, -1)),
        ValueError,
        "base_shapes has no parameter ['bias'], only ['kernel']",
    ),
    (
        lambda: take(masks.relative_to({"kernel": ONE, "bias": ONE}, -1)),
        ValueError,
        "base_shapes at 'kernel' is (2,), and the parameter (2, 2); pass a base model",
    ),
    (
        lambda: take(masks.relative_to({"kernel": jnp.ones((1, 1)), "bias": ONE}, 1e4)),
        ValueError,
        "multiplier at 'kernel' must be finite and >= 0, got inf; move exponent towards 0",
    ),
    # kinds and what they go by
    (lambda: masks.without("tokens"), ValueError, "'token', 'ssm'], got 'tokens'"),
    (lambda: masks.without("Bias"), ValueError, "got 'Bias'"),
    (lambda: masks.without(None), ValueError, "got None"),
    (lambda: masks.without("bias", stacked_axes=-1), ValueError, "stacked_axes must be finite"),
    (lambda: masks.without("bias", stacked_axes=1.5), ValueError, "stacked_axes must be whole"),
    (lambda: masks.matrices(stacked_axes="1"), TypeError, "stacked_axes must be a real number"),
    (lambda: masks.matrices(stacked_axes=True), TypeError, "stacked_axes must be a real number"),
    (
        lambda: optax.flatten(dwd.adamw(0.1, 0.1, mask=masks.without("bias"))).init(PARAMS),
        ValueError,
        "goes by names, and the params are one array, which has none",
    ),
    (lambda: take(masks.without("norm"), ONE), ValueError, "decouple(optax.flatten("),
    (
        lambda: optax.flatten(dwd.adamw(0.1, 0.1, mask=masks.matrices())).init(PARAMS),
        ValueError,
        "mask selects no parameter of ['']",
    ),
    (
        lambda: warned(masks.without("bias"), NAMELESS),
        UserWarning,
        "no parameter is of the kind 'bias', and ['0/1', '1/1'], of fewer than two axes",
    ),
    (lambda: warned(masks.without("embedding"), NAMELESS), UserWarning, "masks.matching"),
    (
        lambda: warned(masks.without("bias", "norm"), {"w": LAYER["kernel"], "intercept": ONE}),
        UserWarning,
        "no parameter is of the kind 'bias' or 'norm', and ['intercept']",
    ),
    # paths
    (lambda: take(masks.matching((".*", 1.0)), SHARED), ValueError, "share the path ['a/kernel']"),
    (
        lambda: take(masks.matching((".*", 1.0)), {"a.b": ONE, "a": {"b": ONE}}),
        ValueError,
        "rename one of them, or pass a tree of multipliers",
    ),
    (lambda: masks.matching(Pairs("a", 1.0, 2.0)), TypeError, "a rule must be a pair"),
    (lambda: masks.matching(Pairs(("a", 1.0))), TypeError, "matching(*rules) for a list of pairs"),
    (lambda: masks.matching(b"ab"), TypeError, "a rule must be a pair"),
    (lambda: masks.matching({"a": 1.0}), TypeError, "a rule must be a pair"),
    (lambda: masks.matching(Pairs("[", 1.0)), ValueError, "is not a regular expression"),
    (lambda: masks.matching(Pairs("a", -1)), ValueError, "multiplier of 'a' must be finite"),
]
