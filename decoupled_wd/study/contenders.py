"""The four optimisers of the paper's figures, its three learning rate schedules, and the grid over α and λ."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import optax

from decoupled_wd import LR, PAPER, Coupling, adam, adamw, sgd, sgdw


class Contender(NamedTuple):
    """``make(schedule, weight_decay, peak, coupling)``, and the highest α and λ of its grid."""

    make: Callable[[optax.Schedule, Any, Any, Coupling], optax.GradientTransformation]
    learning_rate: float
    weight_decay: float
    decoupled: bool


CONTENDERS: Mapping[str, Contender] = MappingProxyType(
    {
        "SGD": Contender(lambda lr, l2, *_: sgd(lr, l2), 1.0, 1.0, False),
        "SGDW": Contender(
            lambda lr, wd, peak, c: sgdw(lr, wd, peak_learning_rate=peak, coupling=c),
            1.0,
            0.25,
            True,
        ),
        "Adam": Contender(lambda lr, l2, *_: adam(lr, l2), 0.1, 0.5, False),
        "AdamW": Contender(
            lambda lr, wd, peak, c: adamw(lr, wd, peak_learning_rate=peak, coupling=c),
            0.1,
            0.25,
            True,
        ),
    }
)
"""SGD and Adam with L2 in the gradient, SGDW and AdamW with decoupled decay."""

PAIRS = (("SGD", "SGDW"), ("Adam", "AdamW"))
"""Each optimiser with L2 and its decoupled form."""

SCHEDULES: Mapping[str, Callable[[Any, int], optax.Schedule]] = MappingProxyType(
    {
        "fixed": lambda peak, steps: optax.constant_schedule(peak),  # noqa: ARG005
        "step drop": lambda peak, steps: optax.piecewise_constant_schedule(
            peak, {round(share * steps): 0.1 for share in (0.3, 0.6, 0.8)}
        ),
        "cosine": optax.cosine_decay_schedule,
    }
)
"""``schedule(peak, steps)``; source: arXiv 1711.05101, Figure 1."""


def maker(
    contender: str, schedule: str, steps: int, coupling: Coupling = PAPER
) -> Callable[..., optax.GradientTransformation]:
    """``make(learning_rate, weight_decay)`` for a sweep: the contender under one schedule."""

    def make(learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
        rates = SCHEDULES[schedule](learning_rate, steps)
        return CONTENDERS[contender].make(rates, weight_decay, learning_rate, coupling)

    return make


def axes(contender: str, grid: int, coupling: Coupling = PAPER) -> dict[str, np.ndarray]:
    """Ten octaves of α below the highest, and λ = 0 with nine octaves above it, in `grid` values each.

    In lr-coupled units the same decays at the middle α are the same numbers over that α.

    Example:
      >>> axes("AdamW", 3)["weight_decay"].round(5).tolist()
      [0.0, 0.00049, 0.25]
    """
    best = CONTENDERS[contender]
    rates = best.learning_rate * 2.0 ** -np.linspace(0, 10, grid)
    highest = best.weight_decay / (best.learning_rate * 2.0**-4 if coupling == LR else 1.0)
    decays = highest * 2.0 ** -np.linspace(9, 0, grid - 1)
    return {"learning_rate": rates, "weight_decay": np.concatenate([[0.0], decays])}
