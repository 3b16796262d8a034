"""Hyperparameters, numbers or schedules, checked at the door.

Each message names the argument, what was got, and the remedy.
A traced number (inside ``jit`` or ``vmap``) has no value yet: only its shape and dtype are checked.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def _value(name: str, number: Any) -> float | None:
    """The value of a real scalar, or None where it is traced; TypeError if it is anything else."""
    if isinstance(number, (bool, str)) or not jnp.isscalar(number):
        remedy = "a schedule has no place here" if callable(number) else "pass a float"
        kind = type(number).__name__
        raise TypeError(f"{name} must be a real number, got {number!r} ({kind}); {remedy}")
    dtype = jnp.result_type(number)
    if not jnp.issubdtype(dtype, jnp.integer) and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"{name} must be a real number, got {number!r} of dtype {dtype}; pass a float"
        )
    if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4:
        raise TypeError(
            f"{name} arrived as {dtype}, which cannot hold a hyperparameter (0.999 becomes 1.0 in bfloat16); "
            "pass a Python float, or hyperparam_dtype=jnp.float32 to optax.inject_hyperparams"
        )
    return None if isinstance(number, jax.core.Tracer) else float(number)


def _require(
    name: str, number: Any, holds: Callable[[float], bool], range_: str, remedy: str
) -> None:
    value = _value(name, number)
    if value is not None and not (math.isfinite(value) and holds(value)):
        raise ValueError(f"{name} must be {range_}, got {value}; {remedy}")


def check_nonnegative(name: str, number: Any, remedy: str = "use 0 for none") -> None:
    """0 <= number < ∞."""
    _require(name, number, lambda value: value >= 0, "finite and >= 0", remedy)


def check_positive(name: str, number: Any, remedy: str = "pass a number above 0") -> None:
    """0 < number < ∞."""
    _require(name, number, lambda value: value > 0, "finite and > 0", remedy)


def check_at_least_one(name: str, number: Any) -> None:
    """1 <= number < ∞."""
    _require(name, number, lambda value: value >= 1, "finite and >= 1", "pass 1 or more")


def check_ordered(name: str, low: Any, high_name: str, high: Any) -> None:
    """Low <= high, where both are known."""
    least, most = _value(name, low), _value(high_name, high)
    if least is not None and most is not None and least > most:
        raise ValueError(f"{name} must be at most {high_name}, got {least} > {most}; lower it")


def check_averaging_rate(name: str, number: Any) -> None:
    """0 <= number < 1, as for β1, β2 and momentum, also in the precision that they are computed in."""
    precision = jnp.result_type(float)
    _require(
        name,
        number,
        lambda value: value >= 0 and precision.type(value) < 1,
        "in [0, 1)",
        f"0.9 is usual for momentum, 0.999 for β2; it is rounded to {precision}",
    )


def check_type(name: str, value: Any, kind: Any, remedy: str) -> None:
    """TypeError unless the value is of its kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {value!r}; {remedy}")


def check_known(
    name: str,
    number: Any,
    remedy: str = "name it in static_args of optax.inject_hyperparams",
) -> None:
    """Not traced: what decides the shape of a program cannot be its input."""
    if isinstance(number, jax.core.Tracer):
        raise TypeError(f"{name} is traced, and must be known before compilation; {remedy}")


def check_scalar_or_schedule(name: str, value: Any) -> None:
    """A schedule passes as it is: its values exist only during training."""
    if not callable(value):
        check_nonnegative(name, value)


def value_at(value: Any, count: Any) -> Any:
    """The value of a number or a schedule at the step `count`."""
    return value(count) if callable(value) else value
