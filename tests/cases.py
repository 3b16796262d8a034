"""Every public transformation once: a name, and a factory whose keywords can be overridden.

``CASES["adamw"](weight_decay=0.0)`` makes one. A new rule is one entry in FORMULAS, with which it goes through
every law and is compared with its formula; a new transformation is one line in LINKS, a new rounding in ROUNDED.
"""

import inspect
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import decoupled_wd as dwd

PARAMS = {
    "dense": {"bias": jnp.array([0.5, -1.5]), "kernel": jnp.array([[1.0, -2.0], [0.25, 3.0]])},
    "scale": jnp.array([1.0]),
}
ALPHA, LAMBDA = 0.1, 0.02
RUN = {"batch_size": 1, "dataset_size": 3, "first_cycle_epochs": 1}


def norm(x, axis=None):
    """The L2 norm in NumPy, its axes kept."""
    return np.sqrt(np.sum(np.abs(x) ** 2, axis=axis, keepdims=True))


def lp_step(p):
    """The gradient step on |z|^p/p from z = θ + Δ, cut off at zero, written as a pull."""

    def pull(theta, start, delta, c):
        z = theta + delta
        new = np.sign(z) * np.maximum(np.abs(z) - c * np.abs(z) ** (p - 1), 0)
        return (z - new) / c

    return pull


def where_agreed(pull):
    """The pull where the step Δ goes that way already."""

    def kept(*args):
        _, _, delta, _ = args
        return np.where(delta * pull(*args) <= 0, pull(*args), 0)

    return kept


def where_touched(pull):
    """The pull in rows whose gradient, for which Δ stands here, is not zero."""

    def kept(*args):
        _, _, delta, _ = args
        rows = tuple(range(1, np.ndim(delta)))
        return np.where(np.any(delta != 0, axis=rows, keepdims=True), pull(*args), 0)

    return kept


# each rule, and its pull in NumPy from θ, θ_0, Δ and the fraction c
FORMULAS = {
    "towards_zero": (
        dwd.rules.towards_zero(),
        lambda theta, start, delta, c: theta,
    ),
    "towards_start": (
        dwd.rules.towards_start(),
        lambda theta, start, delta, c: theta - start,
    ),
    "towards": (
        dwd.rules.towards(0.7),
        lambda theta, start, delta, c: theta - 0.7,
    ),
    "towards_norm": (
        dwd.rules.towards_norm(0.5),
        lambda theta, start, delta, c: (1 - 0.5 / norm(theta)) * theta,
    ),
    "towards_norm-start": (
        dwd.rules.towards_norm(),
        lambda theta, start, delta, c: (1 - norm(start) / norm(theta)) * theta,
    ),
    "onto_norm": (
        dwd.rules.onto_norm(0.5),
        lambda theta, start, delta, c: (theta + delta) * (1 - 0.5 / norm(theta + delta)),
    ),
    "onto_norm-start": (
        dwd.rules.onto_norm(),
        lambda theta, start, delta, c: (theta + delta) * (1 - norm(start) / norm(theta + delta)),
    ),
    "onto_norm-one_sided": (
        dwd.rules.onto_norm(0.6, one_sided=True),
        lambda theta, start, delta, c: (
            (theta + delta) * np.maximum(1 - 0.6 / norm(theta + delta), 0)
        ),
    ),
    "huber": (
        dwd.rules.huber(0.4),
        lambda theta, start, delta, c: np.clip(theta, -0.4, 0.4),
    ),
    "lp": (dwd.rules.lp(1.5), lp_step(1.5)),
    "lp-1": (dwd.rules.lp(1), lp_step(1)),
    "cautious": (
        dwd.rules.cautious(dwd.rules.towards_start()),
        where_agreed(lambda theta, start, delta, c: theta - start),
    ),
    "touched": (
        dwd.rules.touched(dwd.rules.towards_start()),
        where_touched(lambda theta, start, delta, c: theta - start),
    ),
}
SEES_GRADIENTS = {"touched"}  # which a bare link in a chain is not told of
# the laws take a target that is a tree, which must fit the params and the mask
RULES = {name: rule for name, (rule, _) in FORMULAS.items()} | {
    "towards": dwd.rules.towards(jax.tree.map(lambda p: 1.5 * p - 0.1, PARAMS)),
}
LINEAR = {"towards_zero"}  # pull(θ) is θ, whatever Δ and the gradients are
COUPLINGS = {
    "PAPER": dwd.PAPER,
    "LR": dwd.LR,
    "CONSTANT": dwd.CONSTANT,
    "CORRECTED": dwd.CORRECTED,
    "SQUARED": dwd.SQUARED,
}
INNER = {
    "sgd": optax.sgd(ALPHA, 0.9),
    "rmsprop": optax.rmsprop(ALPHA),
    "lion": optax.lion(ALPHA, weight_decay=0.0),
}

_DECAY = {"learning_rate": ALPHA, "weight_decay": LAMBDA}
ALIASES = {
    "sgd": partial(dwd.sgd, learning_rate=ALPHA, l2=LAMBDA),
    "sgdw": partial(dwd.sgdw, **_DECAY),
    "sgdwr": partial(dwd.sgdwr, learning_rate=ALPHA, normalized_weight_decay=LAMBDA, **RUN),
    "adam": partial(dwd.adam, learning_rate=ALPHA, l2=LAMBDA),
    "adamw": partial(dwd.adamw, **_DECAY),
    "adamwr": partial(dwd.adamwr, learning_rate=ALPHA, normalized_weight_decay=LAMBDA, **RUN),
}
LINKS = {
    "add_decayed_weights": partial(dwd.add_decayed_weights, weight_decay=LAMBDA),
    "scale_by_adabound": partial(dwd.scale_by_adabound, learning_rate=ALPHA),
    "scale_by_adam": partial(dwd.scale_by_adam),
    "scale_by_momentum": partial(dwd.scale_by_momentum, learning_rate=ALPHA),
}
DECAY_WEIGHTS = {
    f"decay_weights-{name}": partial(dwd.decay_weights, **_DECAY, rule=rule)
    for name, rule in RULES.items()
    if name not in SEES_GRADIENTS
} | {
    f"decay_weights-{name}": partial(dwd.decay_weights, **_DECAY, coupling=coupling)
    for name, coupling in COUPLINGS.items()
}
TOUCHED = {
    f"decouple-{name}": partial(dwd.decouple, optax.sgd(ALPHA), **_DECAY, rule=RULES[name])
    for name in SEES_GRADIENTS
}
DECOUPLE = {
    f"decouple-{name}": partial(dwd.decouple, inner, **_DECAY) for name, inner in INNER.items()
}
ROUNDED = {
    "adamw-residual": partial(dwd.adamw, **_DECAY, rounding=dwd.rounding.residual()),
    "adamw-residual-8": partial(dwd.adamw, **_DECAY, rounding=dwd.rounding.residual(bits=8)),
    "adamw-stochastic_rounding": partial(
        dwd.adamw, **_DECAY, rounding=dwd.rounding.stochastic_rounding(0)
    ),
}
NARROW = {  # moments in bfloat16, rounded by chance
    "adamw-narrow": partial(dwd.adamw, **_DECAY, mu_dtype="bfloat16", nu_dtype="bfloat16"),
    "sgdw-narrow": partial(dwd.sgdw, **_DECAY, momentum_dtype="bfloat16"),
}
SPHERE = {
    "hyperball": partial(dwd.hyperball, optax.scale_by_adam(), learning_rate=ALPHA),
    "hyperball-everything": partial(
        dwd.hyperball, optax.identity(), learning_rate=ALPHA, mask=dwd.masks.everything()
    ),
}
CASES = ALIASES | LINKS | DECAY_WEIGHTS | TOUCHED | DECOUPLE | ROUNDED | NARROW | SPHERE


def strength_of(make):
    """The keyword that holds the strength of the decay, or None where nothing decays."""
    return next((name for name in make.keywords if name.endswith(("weight_decay", "l2"))), None)


def takes(make, keyword):
    """Whether the case can be made with `keyword`."""
    return keyword in inspect.signature(make.func).parameters


def only(keyword):
    """The cases that take `keyword`."""
    return {name: make for name, make in CASES.items() if takes(make, keyword)}


DECAYING = {name: make for name, make in CASES.items() if strength_of(make)}
DECOUPLED = only("rule")


def public_transformations(module):
    """The functions of a module's public face that return a transformation."""
    return {
        name
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and name in module.__all__
        # annotations may be names, such as that of an alias of optax's type
        and re.search(
            "GradientTransformation|Rule|Optimizer",
            str(inspect.signature(function).return_annotation),
        )
    }
