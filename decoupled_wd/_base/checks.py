"""Hyperparameters, numbers or schedules, checked at the door.

Each message names the argument, what was got, and the remedy.
A traced number (inside ``jit`` or ``vmap``) has no value yet: only its shape and dtype are checked.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from decoupled_wd._base.types import Number

_NUMBERS = (int, float, complex, np.generic, np.ndarray, jax.Array)

LAST_STEP = np.iinfo(np.int32).max
"""The last step that can be counted: optax counts in int32."""


def _value(name: str, number: Number) -> float | None:
    """Return the value of a real scalar, or None where it is traced.

    Anything else is a TypeError.
    """
    # True is an int to Python, and no strength
    scalar = (
        isinstance(number, _NUMBERS) and not isinstance(number, bool) and np.shape(number) == ()
    )
    if not scalar:
        remedy = "a schedule has no place here" if callable(number) else "pass a float"
        kind = type(number).__name__
        raise TypeError(f"{name} must be a real number, got {number!r} ({kind}); {remedy}")
    # float(1j) would be a TypeError without a name
    dtype = getattr(number, "dtype", np.dtype(complex if isinstance(number, complex) else float))
    if not jnp.issubdtype(dtype, jnp.integer) and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"{name} must be a real number, got {number!r} of dtype {dtype}; pass a float"
        )
    if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4:
        raise TypeError(
            f"{name} arrived as {dtype}, which cannot hold a hyperparameter (0.999 becomes 1.0 in "
            "bfloat16); pass a Python float, or hyperparam_dtype=jnp.float32 to "
            "optax.inject_hyperparams"
        )
    # its shape and dtype are known and were checked; its value is not
    if isinstance(number, jax.core.Tracer):
        return None
    try:
        return float(number)
    except OverflowError:
        # an int may be larger than any float
        return math.inf


def _require(
    name: str, number: object, holds: Callable[[float], bool], range_: str, remedy: str
) -> None:
    value = _value(name, number)
    if value is None:
        return
    if not (math.isfinite(value) and holds(value)):
        raise ValueError(f"{name} must be {range_}, got {value}; {remedy}")
    # 1e300 is finite in Python, and infinite in the float32 of a step
    if abs(value) > _largest():
        raise ValueError(
            f"{name} overflows: {value} is infinite in {jnp.result_type(float)}, in which steps "
            "are computed; pass a smaller number, or set jax_enable_x64 and train in float64"
        )


def _largest() -> float:
    """The largest number of the dtype in which steps are computed."""
    return float(jnp.finfo(jnp.result_type(float)).max)  # type: ignore[no-untyped-call]


def check_nonnegative(name: str, number: object, remedy: str = "use 0 for none") -> None:
    """Check ``0 <= number < ∞``."""
    _require(name, number, lambda value: value >= 0, "finite and >= 0", remedy)


def check_positive(name: str, number: object, remedy: str = "pass a number above 0") -> None:
    """Check ``0 < number < ∞``."""
    _require(name, number, lambda value: value > 0, "finite and > 0", remedy)


def check_finite(name: str, number: object) -> None:
    """Check ``−∞ < number < ∞``."""
    _require(name, number, lambda _: True, "finite", "pass a float")


def check_at_least_one(name: str, number: object) -> None:
    """Check ``1 <= number < ∞``."""
    _require(name, number, lambda value: value >= 1, "finite and >= 1", "pass 1 or more")


def check_ordered(name: str, low: Number, high_name: str, high: Number) -> None:
    """Check ``low <= high``, where both are known."""
    least, most = _value(name, low), _value(high_name, high)
    if least is not None and most is not None and least > most:
        raise ValueError(f"{name} must be at most {high_name}, got {least} > {most}; lower it")


def check_averaging_rate(name: str, number: object) -> None:
    """Check ``0 <= number < 1``, as β1, β2 and momentum need.

    It must hold in the precision that they are computed in too.
    """
    precision = jnp.result_type(float)
    _require(
        name,
        number,
        lambda value: value >= 0 and precision.type(value) < 1,
        "in [0, 1)",
        f"0.9 is usual for momentum, 0.999 for β2; it is rounded to {precision}",
    )


def check_type(name: str, value: object, kind: type, remedy: str) -> None:
    """Check that the value is of its kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {value!r}; {remedy}")


def check_known(
    name: str,
    number: object,
    remedy: str = "name it in static_args of optax.inject_hyperparams",
) -> None:
    """Check that a number is not traced, where it decides a program's shape."""
    if isinstance(number, jax.core.Tracer):
        raise TypeError(f"{name} is traced, and must be known before compilation; {remedy}")


def check_scalar_or_schedule(name: str, value: object) -> Number:
    """Check ``0 <= number < ∞`` and return it; of a schedule, that at step 0.

    Its other values exist only in training.
    """
    if callable(value):
        return scheduled(name, value, jnp.zeros([], jnp.int32))
    check_nonnegative(name, value)
    return value


def scheduled(name: str, value: object, count: Number) -> Number:
    """Return the value of a number or a schedule at the step `count`.

    It must be one real number, and >= 0 where it is known.
    """
    if not callable(value):
        return value
    try:
        number = value(count)
    # whatever a user's function raises is told with the name of its argument
    except Exception as error:
        raise TypeError(
            f"{name} is callable, so it was called with the step count {count} as a schedule, and "
            f"raised {type(error).__name__}: {error}; pass a number, or a function from the step "
            "to a number"
        ) from error
    dtype = jnp.result_type(number) if isinstance(number, _NUMBERS) else None
    real = dtype is not None and any(jnp.issubdtype(dtype, k) for k in (jnp.floating, jnp.integer))
    if not real or jnp.shape(number) != ():
        raise TypeError(
            f"{name} is a schedule that must return one real number, got {number!r}; "
            "pass a function from the step count to a number"
        )
    if not isinstance(number, jax.core.Tracer) and not 0 <= float(number) <= _largest():
        at = f" at step {int(count)}" if not isinstance(count, jax.core.Tracer) else ""
        raise ValueError(
            f"{name} must be finite and >= 0, and the schedule returned {float(number)}{at}; "
            "correct the schedule"
        )
    return number
