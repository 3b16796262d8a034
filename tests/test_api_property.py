"""Any call of the public API ends in a right result, or in an error of ours that names an argument and a remedy.

Calls are drawn from every public name of the core, and values from api_values.py. A value is *good* (the call
must succeed), *wrong* (it must be refused, or warned of), or *either* (refused, or right). A transformation also
starts, and takes two steps on a small tree. A new name is drawn by itself if its arguments are known there, and
fails a test if not.

300 calls run here; 5 000 with ``python tests/test_api_property.py --examples 5000``, which prints every fault
by its cause.
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
from api_values import GRADIENTS, NAMESPACE, PARAMS, POOLS, trains
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
    "dwd.masks.Mask": "made by the functions of masks",
    "dwd.rules.Rule": "the type of a rule",
    "dwd.StrongDecayWarning": "raised by the package",
}


def public(module):
    """The functions and classes that a module shows its users."""
    found = {name: getattr(module, name) for name in module.__all__}
    return {name: f for name, f in found.items() if inspect.isfunction(f) or inspect.isclass(f)}


def callables():
    rooms = {path: public(module) for path, module in MODULES.items()}
    names = {f"{path}.{name}": f for path, found in rooms.items() for name, f in found.items()}
    return {name: f for name, f in names.items() if name not in NOT_CALLED}


CALLABLES = callables()


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
        return f"{self.name}({', '.join(words)})".replace("\t", " ")

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
        if pool_of(name, p) is not None
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
        name, victim, label = draw(sorted(CALLABLES) + 6 * sorted(STEPS)), None, "good"
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
    # a table has a column for it
    if not any(mark in str(error) for mark in ("; ", ": pass ", " remedy")):
        raise Fault(f"no remedy: {where}", text) from error


def run(case):
    """Raises Fault where the call is neither right nor refused by a clear error."""
    labels = [case.label]
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error")
            # numbers that are easy to check are strong decays
            warnings.simplefilter("ignore", dwd.StrongDecayWarning)
            values = {k: evaluated(v.lstrip("*") if k[0] == "*" else v) for k, v in case.arguments}
            result = called(case, values)
            if isinstance(result, optax.GradientTransformation):
                labels.append(case.life)
                lived = live(case, result)
            else:
                lived = None
                of_params = isinstance(result, dwd.masks.Mask) and "good." in case.gradients
                labels += [case.life] if of_params else []
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
        return dwd.decouple(optax.identity(), 0.1, rule=result)
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


def own_part(state):
    """A state without that of an inner optimiser, which is optax's to keep."""
    return state._replace(inner=None) if hasattr(state, "inner") else state


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
    if signature(own_part(state)) != signature(own_part(second)):
        raise Fault("the state changes its structure, shapes or dtypes", repr(case))
    if jax.tree.structure(updates) != jax.tree.structure(gradients):
        raise Fault("the updates have another structure than the gradients", repr(case))
    for u, g in zip(jax.tree.leaves(updates), jax.tree.leaves(gradients), strict=True):
        own = jax.dtypes.canonicalize_dtype(g.dtype) if trains(g) else None
        if trains(g) and (u.shape != g.shape or u.dtype not in (g.dtype, own, wide(own))):
            raise Fault(f"emits {u.dtype}{u.shape} for {g.dtype}{g.shape}", repr(case))
    if finite((params, gradients)) and not finite((updates, again)):
        raise Fault(f"not finite: {case.name}", repr(case))
    expected = expected_step(case, values)
    if expected is not None:
        for u, e in zip(
            jax.tree.leaves(updates), jax.tree.leaves(expected(params, gradients)), strict=True
        ):
            if not np.allclose(np.asarray(u, np.float64), e, rtol=3e-5, atol=1e-6):
                raise Fault(f"wrong number: {case.name}", f"{case!r}\n    {u} for {e}")


def wide(dtype):
    """At least float32; of float8 there is no promotion."""
    return jnp.float32 if dtype.itemsize < 2 else jnp.promote_types(dtype, jnp.float32)


def at(value, step=0):
    return float(value(step) if callable(value) else value)


def fraction(values):
    """c_0 = λ·α^p·η_0^s in float64, of numbers and schedules."""
    coupling = values.get("coupling", dwd.PAPER)
    lr, alpha = values.get("learning_rate"), values.get("peak_learning_rate")
    alone = alpha is None  # then a schedule has p = s, and a number is its own peak
    alpha = float(alpha) if not alone else 1.0 if lr is None or callable(lr) else float(lr)
    eta = 1.0 if lr is None or (alone and not callable(lr)) else at(lr) / alpha
    return at(values["weight_decay"]) * alpha**coupling.p * eta**coupling.s


def adam_step(v, g):
    return -at(v["learning_rate"]) * g / (abs(g) + float(v.get("eps", 1e-8)))


STEPS = {  # the optimiser's own first step, of the gradient in float64
    "dwd.sgd": lambda v, g: -at(v["learning_rate"]) * g,
    "dwd.sgdw": lambda v, g: -at(v["learning_rate"]) * g,
    "dwd.adam": adam_step,
    "dwd.adamw": adam_step,
    "dwd.decay_weights": lambda v, g: g,
    "dwd.add_decayed_weights": lambda v, g: g,
}
PLAIN = {  # the texts with which an argument changes nothing in the first step of plain decay
    "rule": {"dwd.rules.towards_zero()"},
    "mask": {"None", "dwd.masks.everything()"},
    "rounding": {"None"},
    "mu_dtype": {"None", "jnp.float32", "'float32'", "np.float32"},
}
PLAIN |= dict.fromkeys(("nu_dtype", "momentum_dtype"), PLAIN["mu_dtype"])


def expected_step(case, values):
    """The first update of plain decay on float32 weights in float64, or None where it is something else."""
    plain = all(text in PLAIN.get(name, {text}) for name, text in case.arguments)
    usual = case.params == "P" and case.gradients.startswith("good.") and case.name in STEPS
    strength, coupling = (
        values.get("weight_decay", values.get("l2")),
        values.get("coupling", dwd.PAPER),
    )
    steady = (
        values.get("b1", 0.9) < 0.99 and values.get("b2", 0.9) < 0.9999
    )  # 1 − β1 is exact enough
    if not (plain and usual and steady) or isinstance(strength, dict) or isinstance(coupling, str):
        return None
    step = functools.partial(STEPS[case.name], values)

    def expected(params, gradients):
        return jax.tree.map(
            lambda p, g: leaf(*(np.asarray(x, np.float64) for x in (p, g))), params, gradients
        )

    def leaf(p, g):
        if case.name in ("dwd.sgd", "dwd.adam"):
            return step(g + at(strength) * p)
        if case.name == "dwd.add_decayed_weights":
            return g + at(strength) * p
        return step(g) - fraction(values) * p

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
TREES = {
    "dwd.masks.select",
    "dwd.rounding.weights",
    "dwd.rounding.from_float32",
    "dwd.recorded",
}  # hand on what they were given


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
