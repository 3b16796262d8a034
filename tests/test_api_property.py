"""Any call of the public API ends in a right result, or in an error of ours that names an argument and a remedy.

Calls are drawn from every public name of the core. A value of an argument is *good* (the call must succeed), *wrong* (it
must be refused, or warned of), or *either* (refused, or right). A transformation is also started, and takes two steps on a
small tree. A name or an argument that is new to this file makes a test fail until POOLS knows it.

300 calls run here, and 5 000 by ``python tests/test_api_property.py --examples 5000``, which prints every fault by cause.
"""

import argparse
import functools
import inspect
import math
import random
import sys
import traceback
import warnings
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
from hypothesis import HealthCheck, Phase, given, settings

import decoupled_wd as dwd

PACKAGE = str(Path(dwd.__file__).parent)
MODULES = {
    "dwd": dwd,
    "dwd.masks": dwd.masks,
    "dwd.rules": dwd.rules,
    "dwd.rounding": dwd.rounding,
    "dwd.theory": dwd.theory,
}
NOT_CALLED = {  # what a module shows beside its functions, and what users do not call
    "dwd.rules.TowardsStartState": "a state",
    "dwd.rules.TowardsNormState": "a state",
    "dwd.rules.check_rule": "a check of the package",
    "dwd.rounding.ResidualState": "a state",
    "dwd.rounding.StochasticRoundingState": "a state",
    "dwd.rounding.is_rounding_state": "takes any object",
    "dwd.rounding.is_bfloat16": "takes any object",
    "dwd.rounding.round_with": "a kernel of the package",
}


REEXPORTED = {"multipliers", "select"}  # of masks, from a private module


def public(module):
    """The functions and classes of a module that users call: its own, all that `dwd` shows, and REEXPORTED."""
    names = getattr(module, "__all__", [name for name in vars(module) if name[0] != "_"])
    found = {name: getattr(module, name) for name in names}
    return {
        name: f
        for name, f in found.items()
        if (inspect.isfunction(f) or inspect.isclass(f))
        and (module is dwd or f.__module__ == module.__name__ or name in REEXPORTED)
    }


def callables():
    rooms = {path: public(module) for path, module in MODULES.items()}
    names = {f"{path}.{name}": f for path, found in rooms.items() for name, f in found.items()}
    return {name: f for name, f in names.items() if name not in NOT_CALLED}


# The values, as the text of a program, so that a call that fails can be pasted.

P = {
    "dense": {"bias": jnp.array([0.5, -1.5]), "kernel": jnp.array([[1.0, -2.0], [0.25, 3.0]])},
    "scale": jnp.array([1.0]),
}
BFLOAT16 = jax.tree.map(lambda p: p.astype(jnp.bfloat16), P)
NAMESPACE = {"dwd": dwd, "jax": jax, "jnp": jnp, "np": np, "optax": optax, "P": P, "BF": BFLOAT16}


class Pool(NamedTuple):
    """Values of one argument."""

    good: tuple
    either: tuple = ()
    wrong: tuple = ()


def pool(good, either="", wrong=""):
    return Pool(*(tuple(filter(None, text.split(" "))) for text in (good, either, wrong)))


def also(base, good="", either="", wrong=""):
    return Pool(*(a + b for a, b in zip(base, pool(good, either, wrong), strict=True)))


NOT_NUMBERS = pool(
    "",
    "",
    "'0.1' b'1' True False np.True_ 1j np.complex64(1) [0.1] (0.1,) {} object() jnp.ones(2) np.ones((1,1)) "
    "jnp.bool_(True) jnp.bfloat16(0.5) np.float16(0.5) jax.random.key(0) np.datetime64('2020') float jnp.ones "
    "float('nan') float('inf') -float('inf') np.nan jnp.array(np.nan) jnp.array(jnp.inf) 10**400 "
    "jax.ShapeDtypeStruct((),jnp.float32) slice(1) print",
)
NEGATIVE = pool("", "", "-0.1 -1 -1e-30 np.float32(-2) jnp.array(-0.5) np.int32(-3)")
SCALARS = pool(
    "0.1 0.01 np.float32(0.1) np.float64(0.02) jnp.float32(0.1) jnp.array(0.05)", "1 1e-20"
)
MISSING = pool("", "", "None")
NONNEGATIVE = also(
    Pool(*(a + b + c for a, b, c in zip(SCALARS, NEGATIVE, NOT_NUMBERS, strict=True))), "0 0.0"
)
POSITIVE = also(NONNEGATIVE._replace(good=SCALARS.good), wrong="0 0.0 jnp.zeros(()) None")
REQUIRED = also(NONNEGATIVE, wrong="None")
TRAINED = also(REQUIRED, wrong="1e39")  # infinite in float32
AVERAGING = also(REQUIRED, "0.9 0.5", "0.99999999999", "1 1.0 1.5 2 np.float32(1)")
COUNT = Pool(
    ("1", "2", "100", "7.0", "np.int32(5)"), ("2.5", "10**7", "1e39"), POSITIVE.wrong + ("-5",)
)
AT_LEAST_ONE = also(COUNT, wrong="0.5 np.float32(0.9)")
SCHEDULES = pool(
    "",
    "optax.constant_schedule(0.1) optax.cosine_decay_schedule(0.1,10) optax.linear_schedule(0.1,0.0,5) "
    "(lambda\tt:0.1) (lambda\tt:jnp.float32(0.1)/(1+t))",
    "(lambda\tt:-0.1) (lambda\tt:float('nan')) (lambda\tt:jnp.inf) (lambda\tt:jnp.ones(2)) (lambda:0.1) (lambda\tt:'x') "
    "(lambda\tt:None) (lambda\tt:1j) (lambda\tt:True) (lambda\tt:jnp.ones((1,))) (lambda\tt:{}) (lambda\tt:1e39)",
)
RATE = Pool(*(a + b for a, b in zip(TRAINED, SCHEDULES, strict=True)))
RATE = RATE._replace(wrong=tuple(x for x in RATE.wrong if x not in ("float", "print")))
STRENGTH = also(
    RATE,
    "optax.constant_schedule(0.1)",
    "{'dense':{'bias':0,'kernel':0.2},'scale':1}",
    "{'dense':0.1} {'dense':-0.1,'scale':0.1} {'dense':'x','scale':0.1} {'dense':None,'scale':0.1} [0.1,0.2] "
    "{'dense':float('nan'),'scale':0.1} {'dense':jnp.ones(2),'scale':0.1} {'other':0.1}",
)
STRENGTH = STRENGTH._replace(either=(*STRENGTH.either, "{'dense':0.1,'scale':0.0}"))
OPTIONAL = "None"
DTYPE = pool(
    "None jnp.float32 jnp.bfloat16 'float32' np.float32",
    "jnp.float16 jnp.float64 jnp.float8_e4m3fn",
    "jnp.int32 jnp.int8 jnp.bool_ bool 'int32' jnp.complex64 'no' 3 object() {} jnp.uint8 0.5 []",
)
COUPLING = pool(
    "dwd.PAPER dwd.CONSTANT",
    "dwd.LR dwd.CORRECTED dwd.Coupling(0.5,0.5) 'torch' 'paper' 'optax'",
    "None 'no' (0,1) 1 dwd.Coupling jnp.ones(2) True {} object()",
)
FRAMEWORK = pool(
    "dwd.PAPER dwd.LR 'paper' 'torch' 'keras' 'adamc'",
    "'optax.adamw' 'torch.optim.AdamW' 'PyTorch' dwd.Coupling(2,3)",
    "None 'no' '' 1 (0,1) [] {} b'torch' dwd.Coupling object() jnp.ones(2)",
)
RULE = pool(
    "dwd.rules.towards_zero() dwd.rules.towards_start() dwd.rules.towards_norm() dwd.rules.lp(1) dwd.rules.towards(0.5)",
    "dwd.rules.cautious(dwd.rules.towards_start()) dwd.rules.towards(P) dwd.rules.towards_norm(0.5,axis=0)",
    "None 'zero' dwd.rules.towards_zero dwd.rules.cautious 1 {} [] optax.stateless(lambda\tu,p:u) "
    "dwd.masks.everything() jnp.ones(2)",
)
MASK = pool(
    "dwd.masks.everything() None",
    "dwd.masks.matrices() dwd.masks.without('bias') dwd.masks.matching(('.*',0.5)) {'dense':True,'scale':0.5} True "
    "(lambda\tp:jax.tree.map(lambda\tx:x.ndim>1,p)) (lambda\tp:None) 1.0",
    "dwd.masks.matrices dwd.masks.everything 'all' -1.0 {'dense':True} {'dense':'x','scale':True} object() 1j "
    "{'dense':float('nan'),'scale':1} {'dense':-1,'scale':1} jnp.ones(3) float('inf') {'dense':False,'scale':False} False "
    "(lambda:True) (lambda\tp:'x') (lambda\tp:-1.0) dwd.rules.towards_zero() 1e39 dwd.PAPER [] {'dense':None,'scale':1}",
)
ROUNDING = pool(
    "None",
    "dwd.rounding.residual() dwd.rounding.stochastic_rounding(0)",
    "dwd.rounding.residual dwd.rounding.stochastic_rounding 'residual' True 1 {} dwd.rules.towards_zero() optax.identity() "
    "optax.sgd(0.1) jnp.bfloat16 [] object()",
)
INNER = pool(
    "optax.sgd(0.1) optax.adam(0.1) optax.identity() optax.lion(0.1,weight_decay=0.0) optax.chain(optax.sgd(0.1))",
    "optax.sgd(optax.linear_schedule(0.1,0.0,5)) optax.set_to_zero() dwd.sgdw(0.1,0.1)",
    "None optax.sgd 'sgd' 1 {} (optax.sgd(0.1),) object() dwd.adamw dwd.masks.everything() True",
)
RECORDED = pool(
    "dwd.sgdw(0.1,0.1) dwd.adamw(0.1,0.1) dwd.decouple(optax.sgd(0.1),0.1)",
    "optax.chain(optax.sgd(0.1),dwd.decay_weights(0.1)) dwd.sgdw(0.1,0.1,mask=dwd.masks.matrices())",
    "optax.sgd(0.1) dwd.adam(0.1,0.1) dwd.record(dwd.sgdw(0.1,0.1)) None 'x' dwd.sgdw 1",
)
PARAMS = pool(
    "P BF jax.tree.map(np.asarray,P) {'dense':P['dense'],'scale':P['scale'],'none':None} "
    "{'dense':P['dense'],'scale':P['scale'],'steps':jnp.array([1,2])}",
    "jnp.ones(3) jnp.ones((2,3)) jnp.ones(()) {} () None [jnp.ones((2,2)),jnp.ones(2)] {'w':jnp.ones((2,2),jnp.complex64)} "
    "{'w':jnp.ones((2,2),jnp.float16)} {'w':jnp.ones((2,2),jnp.float8_e4m3fn)} {'w':1.0,'b':0.5} {'w':jnp.ones((0,3))} "
    "{'w':jnp.arange(3)} {'w':jnp.array([True])} {'w':jnp.ones(2),'s':'text'} {'w':jnp.ones(2),'k':jax.random.key(0)} "
    "{'w':np.ones(3)} {'w':optax.MaskedNode(),'b':jnp.ones(2)} {'a/b':jnp.ones(2),'a':{'b':jnp.ones(2)}} "
    "{'w':[0.5,1.0]} {'w':np.float32(1)} {1:jnp.ones((2,2)),(2,'a'):jnp.ones(2)} {'w':jnp.full(2,1e38)}",
)
SHAPES = also(
    PARAMS,
    "jax.eval_shape(lambda:P)",
    wrong="",
)
NORMALIZED = {
    "batch_size": COUNT,
    "dataset_size": COUNT,
    "epochs": COUNT,
    "first_cycle_epochs": COUNT,
}
POOLS = {
    "learning_rate": RATE,
    "weight_decay": STRENGTH,
    "l2": STRENGTH,
    "peak_learning_rate": also(POSITIVE, "None", "1e-3")._replace(
        wrong=tuple(x for x in POSITIVE.wrong if x != "None")
    ),
    "coupling": COUPLING,
    "rule": RULE,
    "mask": MASK,
    "rounding": ROUNDING,
    "inner": INNER,
    "record.inner": RECORDED,
    "momentum": AVERAGING,
    "b1": AVERAGING,
    "b2": AVERAGING,
    "eps": also(TRAINED, "1e-8"),
    "eps_root": also(TRAINED, "1e-8"),
    "nesterov": pool("True False", "", "None 'no' 2 [] jnp.ones(2)"),
    "momentum_dtype": DTYPE,
    "mu_dtype": DTYPE,
    "nu_dtype": DTYPE,
    "gamma": also(POSITIVE, wrong="1e39"),
    "final_learning_rate": also(POSITIVE, wrong="1e39"),
    "normalized_weight_decay": REQUIRED,
    **NORMALIZED,
    "cycle_factor": also(AT_LEAST_ONE, "2.0 1.5 1", "1.000001 1e300"),
    "first_cycle_steps": also(AT_LEAST_ONE, "", "1e300"),
    "floor": NONNEGATIVE._replace(good=("0", "0.0", "0.001")),
    "peak": REQUIRED._replace(good=("0.1", "1", "np.float32(0.5)")),
    "steps": AT_LEAST_ONE,
    "penalty": REQUIRED,
    "p": REQUIRED,
    "s": REQUIRED,
    "lp.p": also(AT_LEAST_ONE, "1 1.5 2"),
    "from_": FRAMEWORK,
    "to": FRAMEWORK,
    "on_loss": pool("'warn' 'return'", "'raise'", "None 'no' 1 True []"),
    "every": AT_LEAST_ONE,
    "params": PARAMS,
    "describe.params": SHAPES,
    "preflight.params": SHAPES,
    "recorded.params": pool("P", "BF", "{} {'w':jnp.ones(2)} None 1 'x' jnp.ones(2)"),
    "recorded.state": pool(
        "dwd.record(dwd.sgdw(0.1,0.1)).init(P)",
        "(dwd.record(dwd.sgdw(0.1,0.1)).init(P),)",
        "None {} () dwd.sgdw(0.1,0.1).init(P) 'x' 1 dwd.record(dwd.sgdw(0.1,0.1)).init({'w':jnp.ones(2)})",
    ),
    "weights.params": pool(
        "BF", "P", "{} {'w':jnp.ones(2,jnp.bfloat16)} None 1 'x' {'dense':BF['dense']}"
    ),
    "weights.state": pool(
        "dwd.rounding.residual().init(BF)",
        "dwd.adamw(0.1,0.1,rounding=dwd.rounding.residual()).init(BF) optax.identity().init(BF) "
        "dwd.rounding.stochastic_rounding(0).init(BF)",
        "None 'x' 1 {} dwd.rounding.residual().init({'w':jnp.ones(2,jnp.bfloat16)}) dwd.rounding.residual",
    ),
    "tree": pool("P", "BF", "{'w':1} None"),
    "multipliers": pool("dwd.masks.multipliers(None,P)", "", "{'w':1.0} None 'x'"),
    "radius": also(NONNEGATIVE, "None", wrong="1e39"),
    "axis": pool("None", "0 -1 (0,) 1 (0,1)", "5 'x' 0.5 {} jnp.ones(2) (7,) True object()"),
    "target": pool(
        "0.0 1.0 np.float32(0.5) P jax.tree.map(np.asarray,P)",
        "{'dense':1.0,'scale':P['scale']} 1 np.arange(2.0)",
        "None 'x' float('nan') float('inf') {'dense':1.0} 1j {'dense':jnp.ones((3,3)),'scale':1.0} object() {} "
        "{'dense':float('nan'),'scale':1.0} jax.tree.map(lambda\tp:p*jnp.nan,P) jnp.ones((5,5)) True 1e39 jnp.array(-jnp.inf)",
    ),
    "stacked_axes": pool(
        "0 1",
        "2 1.0 np.int32(1)",
        "-1 0.5 None 'x' float('nan') True jnp.ones(2) [] 1j float('inf')",
    ),
    "*kinds": pool(
        "('bias',) ('bias','norm')",
        "('embedding',)",
        "() ('biases',) (1,) (None,) (['bias'],) ('bias','x') ({},)",
    ),
    "*rules": pool(
        "(('.*',1.0),) (('.*bias',0.0),('.*',1.0))",
        "(('nothing',1.0),('.*',1.0)) (['.*',0.5],)",
        "() ('.*',) (1,) (('(',1.0),) (('.*',-1.0),) (('.*','x'),) ((1,1.0),) (('.*',float('nan')),) (('.*',),) (('.*',1,2),) (None,) "
        "(('.*',1e39),) (('.*',None),) (('.*',jnp.ones(2)),)",
    ),
    "seed": pool(
        "0 7 np.int32(3)",
        "-1 2**31 2**40",
        "None 0.5 '0' 2**64 [] True jnp.ones(2) float('nan') 1j object()",
    ),
    "fraction": also(
        NONNEGATIVE,
        "1e-4",
        "np.array([0.1,0.2]) jnp.array([0.1]) jnp.ones(2)",
        "None np.array([0.1,-1]) 'x'",
    ),
    "size": COUNT,
    "gradient_norm": also(REQUIRED, "", "np.array([0.1,0.2]) jnp.ones(2)"),
    "theory.learning_rate": also(
        REQUIRED, "", "np.array([0.1,0.2]) jnp.ones(2)", "np.array([0.1,-1.0])"
    ),
    "from_cost_penalty.learning_rate": REQUIRED,
    "convert_weight_decay.learning_rate": POSITIVE,
    "equivalents.learning_rate": POSITIVE,
    "from_timescale.learning_rate": also(POSITIVE, "None")._replace(
        wrong=tuple(x for x in POSITIVE.wrong if x != "None")
    ),
    "from_half_life.learning_rate": also(POSITIVE, "None")._replace(
        wrong=tuple(x for x in POSITIVE.wrong if x != "None")
    ),
    "sgdwr.learning_rate": POSITIVE,
    "adamwr.learning_rate": POSITIVE,
    "scale_by_adabound.learning_rate": RATE._replace(good=SCALARS.good, wrong=(*RATE.wrong, "0")),
    "adamw_norm.fraction": POSITIVE,
    "sgdw_norm.fraction": POSITIVE,
    "lion_norm.fraction": POSITIVE,
    "convert_weight_decay.weight_decay": REQUIRED,
    "equivalents.weight_decay": REQUIRED,
    "keep_normalized.weight_decay": REQUIRED,
    "keep_timescale.weight_decay": REQUIRED,
    "equivalents.batch_size": COUNT._replace(either=(*COUNT.either, *COUNT.good, "None"), good=()),
    "equivalents.dataset_size": COUNT._replace(
        either=(*COUNT.either, *COUNT.good, "None"), good=()
    ),
    "equivalents.epochs": COUNT._replace(either=(*COUNT.either, *COUNT.good, "None"), good=()),
    "batch_ratio": POSITIVE,
    "dataset_ratio": POSITIVE,
    "epochs_ratio": POSITIVE,
    "learning_rate_ratio": POSITIVE,
    "other": MASK,
}
OPTIONAL_NONE = {"equivalents.batch_size", "equivalents.dataset_size", "equivalents.epochs", "equivalents.steps",
                 "preflight.steps", "describe.learning_rate", "preflight.learning_rate", "decouple.learning_rate",
                 "decay_weights.learning_rate"}  # fmt: skip
for _name in OPTIONAL_NONE:
    _base = POOLS.get(_name, POOLS[_name.split(".")[1]])
    _wrong = tuple(x for x in _base.wrong if x != "None")
    POOLS[_name] = _base._replace(wrong=_wrong, either=(*_base.either, "None"))


def pool_of(name, parameter):
    """The values of one argument, of this function, this module or any."""
    star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
    room, function = name.split(".")[-2:]
    keys = f"{function}.{parameter.name}", f"{room}.{parameter.name}", f"{star}{parameter.name}"
    return next((POOLS[key] for key in keys if key in POOLS), None)


@functools.cache
def parameters(name):
    found = inspect.signature(CALLABLES[name]).parameters.values()
    return [p for p in found if p.kind is not p.VAR_KEYWORD]


CALLABLES = callables()
GRADIENTS = {  # of the params p, by what becomes of them
    "good": {
        "cos": lambda p: each(lambda x: np.asarray(jnp.cos(x)).astype(x.dtype), p),
        "zero": lambda p: each(np.zeros_like, p),
        "jnp": lambda p: each(jnp.ones_like, p),
    },
    "either": {
        "none": lambda p: each(lambda x: None, p),
        "wide": lambda p: each(lambda x: np.ones(x.shape, np.float32), p),
        "narrow": lambda p: each(lambda x: jnp.ones(x.shape, jnp.bfloat16), p),
        "float16": lambda p: each(lambda x: np.ones(x.shape, np.float16), p),
        "nan": lambda p: each(lambda x: x * np.nan, p),
    },
    "wrong": {
        "int": lambda p: each(lambda x: np.ones(x.shape, np.int32), p),
        "bool": lambda p: each(lambda x: np.ones(x.shape, bool), p),
        "float0": lambda p: each(lambda x: np.zeros(x.shape, jax.dtypes.float0), p),
        "longer": lambda p: each(lambda x: np.ones((2, *x.shape), x.dtype), p),
        "scalar": lambda p: each(lambda x: np.ones((), x.dtype), p),
        "numbers": lambda p: each(lambda x: 1.0, p),
        "strings": lambda p: each(lambda x: "x", p),
        "complex": lambda p: each(lambda x: np.ones(x.shape, np.complex64), p),
        "missing": lambda p: {k: v for k, v in p.items() if k != "scale"},
        "more": lambda p: p | {"more": jnp.ones(2)},
        "other": lambda p: {"w": jnp.ones(2)},
        "array": lambda p: jnp.ones(2),
        "nothing": lambda p: None,
    },
}


def each(function, params):
    """The function of every leaf that trains, and the others as they are."""
    return jax.tree.map(lambda x: function(x) if trains(x) else x, params)


def trains(x):
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)


class Case(NamedTuple):
    """A call as text, and how its transformation lives: params, kind of gradients, compiled or not."""

    name: str
    arguments: tuple
    label: str
    params: str
    gradients: str
    life: str
    jit: bool

    @property
    def program(self):
        words = [v if k[0] == "*" else f"{k}={v}" for k, v in self.arguments]
        return f"{self.name}({', '.join(w[:1] * (w[0] == '*') + w.lstrip('*') for w in words)})".replace(
            "\t", " "
        )

    def __repr__(self):
        life = f"  # params {self.params}, gradients {self.gradients}{', jit' * self.jit}"
        return f"[{self.label}] {self.program}{life}"


def worst(labels):
    return next((x for x in ("wrong", "either") if x in labels), "good")


def spoilt_arguments():
    """Every value that is not simply good, of every argument of every function: (name, argument, label, value)."""
    return [
        (name, p.name, label, value)
        for name in sorted(CALLABLES)
        for p in parameters(name)
        for label in ("either", "wrong")
        for value in getattr(pool_of(name, p), label)
    ]


def lives():
    """(params, kind of gradients, label) of a good call's life: good ones, borderline ones, and wrong gradients."""
    usual = [("P", f"good.{key}", "good") for key in GRADIENTS["good"]]
    started = [(params, "good.cos", "good") for params in PARAMS.good]
    odd = [(params, "good.cos", "either") for params in PARAMS.either]
    given_ = [
        ("P", f"{label}.{key}", label) for label in ("either", "wrong") for key in GRADIENTS[label]
    ]
    return usual, started + odd + given_


SPOILT = spoilt_arguments()


def case_of(seed):
    """One argument, or the life, is drawn from what is not simply good; the rest of the call is good."""
    draw = random.Random(seed).choice
    usual, unusual = lives()
    what = draw(["good", "life", "argument", "argument", "argument"])
    name, victim, label, spoilt = draw(SPOILT)
    if what != "argument":
        name, victim, label = draw(sorted(CALLABLES)), None, "good"
    found = []
    for p in parameters(name):
        star = "*" if p.kind is p.VAR_POSITIONAL else ""
        if p.name == victim:
            found.append((star + p.name, star + spoilt))
        elif p.default is p.empty or draw(range(4)) == 0:
            values = pool_of(name, p)
            found.append((star + p.name, star + draw(values.good or values.either)))
            label = label if values.good else worst({label, "either"})
    life = draw(unusual if what == "life" else usual)
    return Case(name, tuple(found), label, *life, draw(range(6)) == 0)


# by a seed, as hypothesis would try what it has found again and again with small changes
CASES = st.integers(0, 2**64 - 1).map(case_of)


# The judgement.


class Fault(AssertionError):  # noqa: N818  # it is no error of the package
    """A call that is silent, or whose error is obscure; the cause groups it."""

    def __init__(self, cause, text):
        super().__init__(f"{cause}: {text}")
        self.cause = cause


def names_of(case):
    words = {p.name.removesuffix("s") for p in parameters(case.name)} | {
        "params",
        "updates",
        "gradients",
        "state",
        "step",
    }
    return words | {"rounding", "decay", "'dense", "'scale", "'w", "pattern", "multiplier"}


def judge_error(error, case):
    """Ours: TypeError, ValueError or a warning, raised by the package, with a name and a remedy."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
    where = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "outside the package"
    text = f"{case!r}\n      {type(error).__name__}: {str(error)[:200]}"
    warned = type(error) is UserWarning and "jax" not in frames[-1].filename
    if not warned and not (isinstance(error, TypeError | ValueError) and frames[-1] in ours):
        raise Fault(f"obscure: {type(error).__name__} through {where}", text) from error
    if not any(name in str(error) for name in names_of(case)):
        raise Fault(f"names nothing: {where}", text) from error
    if ";" not in str(error):
        raise Fault(f"no remedy: {where}", text) from error


def run(case):
    """Raises Fault where the call is neither right nor refused by a clear error."""
    labels = [case.label]
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error")
            values = {k: evaluated(v.lstrip("*") if k[0] == "*" else v) for k, v in case.arguments}
            result = called(case, values)
            if isinstance(result, optax.GradientTransformation):
                labels.append(case.life)
                lived = live(case, result)
            else:
                lived = None
                result = used(case, result)
    except Fault:
        raise
    except Exception as error:
        judge_error(error, case)
        if worst(labels) == "good" and not isinstance(error, UserWarning):
            raise Fault(
                f"refuses what is right: {str(error)[:60]}", f"{case!r}\n    {error}"
            ) from error
        return
    if worst(labels) == "wrong":
        blamed = [f"{k}={v}" for k, v in case.arguments if is_wrong(case, k, v)]
        blamed = blamed or [f"gradients {case.gradients}"]
        raise Fault(f"silent: {case.name} {' '.join(blamed)}".replace("\t", " "), repr(case))
    if lived is not None:
        check_life(case, values, *lived)
    else:
        check_value(case, values, result)


def is_wrong(case, key, value):
    parameter = next(p for p in parameters(case.name) if p.name == key.lstrip("*"))
    return value.lstrip("*") in [x.lstrip("*") for x in pool_of(case.name, parameter).wrong]


@functools.cache
def code(text):
    return compile(text.replace("\t", " "), "<value>", "eval")


def evaluated(text):
    return eval(code(text), NAMESPACE)


def called(case, values):
    star = [v for k, v in values.items() if k[0] == "*"]
    named = {k: v for k, v in values.items() if k[0] != "*"}
    result = CALLABLES[case.name](*(star[0] if star else ()), **named)
    if case.name.startswith("dwd.rules."):
        return dwd.decay_weights(0.1, rule=result)
    return result


def used(case, result):
    """What a user does next with the result."""
    if isinstance(result, dwd.masks.Mask):
        return dwd.masks.multipliers(result, evaluated(case.params))
    if isinstance(result, dwd.Coupling):
        return result.fraction(0.1, 0.2)(0)
    if callable(result):
        return [result(0), jax.jit(result)(jnp.int32(1)), result(jnp.int32(1000))]
    str(result)
    return result


def live(case, optimizer):
    rounded = case.name.startswith("dwd.rounding.") and case.params == "P"
    params = evaluated("BF" if rounded else case.params)
    state = optimizer.init(params)
    label, key = case.gradients.split(".")
    gradients = GRADIENTS[label][key](params)
    fits = all(
        hasattr(x, "dtype") and x.dtype != jax.dtypes.float0 and x.dtype != object
        for x in jax.tree.leaves((gradients, params))
    )
    update = jax.jit(optimizer.update) if case.jit and fits else optimizer.update
    updates, first = update(gradients, state, params)
    again, second = update(gradients, first, params)
    return params, gradients, state, updates, again, second


def signature(tree):
    return jax.tree.structure(tree), [
        (np.shape(x), getattr(x, "dtype", None)) for x in jax.tree.leaves(tree)
    ]


def finite(tree):
    leaves = [x for x in jax.tree.leaves(tree) if trains(x)]
    return all(
        bool(
            np.isfinite(
                np.asarray(x).astype(np.complex64 if jnp.iscomplexobj(x) else np.float32)
            ).all()
        )
        for x in leaves
    )


def check_life(case, values, params, gradients, state, updates, again, second):
    if signature(state) != signature(second):
        raise Fault("the state changes its structure, shapes or dtypes", repr(case))
    if jax.tree.structure(updates) != jax.tree.structure(gradients):
        raise Fault("the updates have another structure than the gradients", repr(case))
    for u, g in zip(jax.tree.leaves(updates), jax.tree.leaves(gradients), strict=True):
        own = jax.dtypes.canonicalize_dtype(g.dtype) if trains(g) else None
        if trains(g) and (
            u.shape != g.shape or u.dtype not in (own, jnp.promote_types(own, jnp.float32))
        ):
            raise Fault(f"emits {u.dtype}{u.shape} for {g.dtype}{g.shape}", repr(case))
    if finite((params, gradients)) and not finite((updates, again)):
        raise Fault(f"not finite: {case.name}", repr(case))
    expected = expected_step(case, values)
    if expected is not None:
        for u, e in zip(
            jax.tree.leaves(updates), jax.tree.leaves(expected(params, gradients)), strict=True
        ):
            if not np.allclose(np.asarray(u, np.float64), e, rtol=1e-5, atol=1e-7):
                raise Fault(f"wrong number: {case.name}", f"{case!r}\n    {u} for {e}")


def at(value, step=0):
    return float(value(step) if callable(value) else value)


def fraction(values, names=("weight_decay",)):
    """c_0 = λ·α^p·η_0^s in float64, of numbers and schedules."""
    coupling = values.get("coupling", dwd.PAPER)
    lr, alpha = values.get("learning_rate"), values.get("peak_learning_rate")
    alpha = lr if alpha is None else alpha
    alpha = 1.0 if alpha is None or callable(alpha) else float(alpha)  # a schedule alone has p = s
    eta = (
        1.0
        if lr is None or (lr is values.get("peak_learning_rate", lr) and not callable(lr))
        else at(lr) / alpha
    )
    return at(values["weight_decay"]) * alpha**coupling.p * eta**coupling.s


STEPS = {  # the optimiser's own first step, of the gradient in float64
    "dwd.sgdw": lambda v, g: -at(v["learning_rate"]) * g,
    "dwd.adamw": lambda v, g: (
        -at(v["learning_rate"]) * g / (abs(g) + float(v.get("eps", 1e-8)) + 1e-300)
    ),
    "dwd.decay_weights": lambda v, g: g,
}


def expected_step(case, values):
    """The first update of plain decay on float32 weights, or None where it is something else."""
    plain = not {
        "rule",
        "mask",
        "rounding",
        "mu_dtype",
        "nu_dtype",
        "momentum_dtype",
        "b1",
        "b2",
    } & set(values)
    same = case.params == "P" and case.gradients.startswith("good.")
    strength = values.get("weight_decay")
    if case.name not in STEPS or not plain or not same or isinstance(strength, dict):
        return None
    if not isinstance(values.get("coupling", dwd.PAPER), dwd.Coupling):
        return None
    c = fraction(values)
    step = functools.partial(STEPS[case.name], values)

    def expected(params, gradients):
        return jax.tree.map(
            lambda p, g: step(np.asarray(g, np.float64)) - c * np.asarray(p, np.float64),
            params,
            gradients,
        )

    return expected


def _p(v):
    return v.get("coupling", dwd.PAPER).p


VALUES = {  # closed forms, of the arguments
    "dwd.normalized": lambda v: (
        v["normalized_weight_decay"]
        * math.sqrt(v["batch_size"] / (v["dataset_size"] * v["epochs"]))
    ),
    "dwd.from_cost_penalty": lambda v: v["learning_rate"] * v["penalty"] / v["dataset_size"],
    "dwd.from_timescale": lambda v: 1 / v["steps"] / (v.get("learning_rate") or 1) ** _p(v),
    "dwd.from_half_life": lambda v: (
        (1 - 2 ** (-1 / v["steps"])) / (v.get("learning_rate") or 1) ** _p(v)
    ),
    "dwd.theory.timescale": lambda v: 1 / v["fraction"] if v["fraction"] else math.inf,
    "dwd.theory.rotation": lambda v: np.sqrt(
        2 * v["fraction"] * (1 - v.get("momentum", 0.9)) / (1 + v.get("momentum", 0.9))
    ),
    "dwd.theory.adamw_norm": lambda v: (
        v["learning_rate"] * np.sqrt(v["size"] / (2 * v["fraction"]))
    ),
    "dwd.Coupling": lambda v: 0.1 * 0.2 ** v["p"],
}


NUMBERS = float | int | complex | np.ndarray | np.generic | jax.Array
INFINITE = {"dwd.theory.timescale", "dwd.theory.half_life"}  # where nothing decays
TREES = {"dwd.masks.select", "dwd.rounding.weights", "dwd.recorded"}  # hand on what they were given


def check_value(case, values, result):
    numbers = [x for x in jax.tree.leaves(result) if isinstance(x, NUMBERS)]
    if case.name not in TREES:
        if any(map(np.iscomplexobj, numbers)):
            raise Fault(f"complex: {case.name}", f"{case!r}\n    {result!r}")
        if case.name not in INFINITE and not all(
            np.isfinite(np.asarray(x, float)).all() for x in numbers
        ):
            raise Fault(f"not finite: {case.name}", f"{case!r}\n    {result!r}")
    if isinstance(result, list) and any(np.shape(x) for x in result):
        raise Fault(f"a schedule of another shape: {case.name}", f"{case!r}\n    {result!r}")
    if case.name in VALUES and isinstance(values.get("coupling", dwd.PAPER), dwd.Coupling):
        wide = {
            k: np.asarray(x, np.float64) if isinstance(x, NUMBERS) else x for k, x in values.items()
        }
        expected = VALUES[case.name](wide)
        if not np.allclose(np.asarray(result, np.float64), expected, rtol=1e-5):
            raise Fault(f"wrong number: {case.name}", f"{case!r}\n    {result!r} for {expected!r}")


# The tests.


def test_every_public_name_has_its_values():
    unknown = [
        f"{name}: {p.name}"
        for name in CALLABLES
        for p in parameters(name)
        if pool_of(name, p) is None
    ]
    assert unknown == []
    assert len(CALLABLES) >= 45


def settled(examples, **options):
    checks = list(HealthCheck)
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=checks,
        **options,
    )


@settled(300, phases=[Phase.generate])
@given(CASES)
def test_every_call_is_right_or_clearly_refused(case):
    run(case)


def faults(examples):
    """Every fault among so many calls, by cause."""
    found = defaultdict(dict)

    @settled(examples, phases=[Phase.generate])
    @given(CASES)
    def collect(case):
        try:
            run(case)
        except Fault as fault:
            found[fault.cause].setdefault(case.program, str(fault))
        except Exception as error:
            found[f"the harness: {error!r}"[:200]].setdefault(case.program, repr(case))

    collect()
    return found


def main():
    parser = argparse.ArgumentParser(
        description="Draw calls of the public API and print every fault by its cause."
    )
    parser.add_argument("--examples", type=int, default=5000)
    found = faults(parser.parse_args().examples)
    for cause, rows in sorted(found.items(), key=lambda item: -len(item[1])):
        print(f"\n{len(rows)} x {cause}")
        for text in list(rows.values())[:3]:
            print("   ", text.removeprefix(f"{cause}: "))
    print(f"\n{sum(map(len, found.values()))} faults of {len(found)} causes")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
