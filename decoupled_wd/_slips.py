"""Strengths that are legal and most likely a slip, told once for each place that calls."""

import os
import sys
import warnings

import jax
import numpy as np
from jax.typing import ArrayLike

from decoupled_wd._base.paths import path_name
from decoupled_wd._base.types import ScalarOrSchedule, WeightDecay
from decoupled_wd.coupling import Coupling
from decoupled_wd.theory import half_life

STRONG = 0.05
STRONG_L2 = 0.5

_PACKAGE = os.path.dirname(__file__) + os.sep
_IF_MEANT = "if it is meant, filter dwd.StrongDecayWarning"


class StrongDecayWarning(UserWarning):
    """A weight decay is so strong that it is most likely a slip.

    It is another number, such as β1, or one in another unit.

    It is given for Python and NumPy numbers and for trees of numbers, once for each place that
    calls. ``warnings.filterwarnings("ignore", category=dwd.StrongDecayWarning)`` silences it.
    """


def warn_of_strong_decay(
    weight_decay: WeightDecay,
    coupling: Coupling,
    learning_rate: ScalarOrSchedule | None,
    peak_learning_rate: ArrayLike | None,
) -> None:
    """Warn where a step at the peak removes `STRONG` of a weight or more."""
    alpha = learning_rate if peak_learning_rate is None else peak_learning_rate
    # couplings with p = 0 do not look at the learning rate
    unit = _known(alpha) if coupling.p else 1.0
    if unit is None or callable(weight_decay) or isinstance(weight_decay, jax.Array):
        return
    # of a tree the strongest, since one warning is enough
    leaves = jax.tree.leaves_with_path(weight_decay)
    rows = [row for row in leaves if not callable(row[1]) and not _is_traced(row[1])]
    path, strength = max(rows, key=lambda row: float(row[1]), default=((), 0.0))
    c = float(strength) * unit**coupling.p
    if c < STRONG:
        return
    at = f" at {path_name(path)!r}" if path else ""
    other_unit = "" if coupling.p else "if λ is optax's or PyTorch's, pass coupling=dwd.LR; "
    _warn(
        f"weight_decay={float(strength):g}{at} removes {100 * c:.3g} % of each weight in a step at "
        f"the peak learning rate, a half-life of {half_life(c):.3g} steps; {other_unit}if it is "
        f"optax's second argument, as in adamw(1e-3, 0.9), write b1= or momentum=; {_IF_MEANT}"
    )


def warn_of_strong_l2(l2: WeightDecay, second: str) -> None:
    """Warn of a number that is most likely optax's second argument."""
    number = _known(l2)
    if number is not None and number >= STRONG_L2:
        _warn(
            f"l2={number:g} pulls as hard as most gradients; if it is optax's second argument, "
            f"write {second}={number:g} by name and the penalty second; {_IF_MEANT}"
        )


def _is_traced(number: object) -> bool:
    return isinstance(number, jax.core.Tracer)


def _known(number: object) -> float | None:
    """Return the value of a Python or NumPy number.

    A JAX array may be that of one step.
    """
    return float(number) if isinstance(number, int | float | np.number) else None


def _warn(message: str) -> None:
    warnings.warn(message, StrongDecayWarning, stacklevel=_callers_depth())


def _callers_depth() -> int:
    """Count the frames up to the caller outside this package.

    Python shows a warning once for each place.
    """
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, depth = frame.f_back, depth + 1
    return depth
