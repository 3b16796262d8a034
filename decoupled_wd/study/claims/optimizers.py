"""The four optimisers of the paper's figures, its three learning rate schedules, and the grid over α and λ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import optax

from decoupled_wd import LR, PAPER, Coupling, adam, adamw, sgd, sgdw


class Contender(NamedTuple):
    """``make(schedule, weight_decay, peak, coupling)``, and the α and λ in the middle of its grid."""

    make: Callable[[optax.Schedule, Any, Any, Coupling], optax.GradientTransformation]
    learning_rate: float
    weight_decay: float
    decoupled: bool


CONTENDERS: Mapping[str, Contender] = MappingProxyType(
    {
        "SGD": Contender(lambda lr, l2, *_: sgd(lr, l2), 2.0**-4, 2.0**-5, False),
        "SGDW": Contender(
            lambda lr, wd, peak, c: sgdw(lr, wd, peak_learning_rate=peak, coupling=c),
            2.0**-4,
            2.0**-6,
            True,
        ),
        "Adam": Contender(lambda lr, l2, *_: adam(lr, l2), 0.1 * 2.0**-4, 2.0**-5, False),
        "AdamW": Contender(
            lambda lr, wd, peak, c: adamw(lr, wd, peak_learning_rate=peak, coupling=c),
            0.1 * 2.0**-4,
            2.0**-6,
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


@dataclass(frozen=True)
class Maker:
    """``make(learning_rate, weight_decay)`` for a sweep: a contender under one schedule; equal if all of it is."""

    contender: str
    schedule: str
    steps: int
    coupling: Coupling

    def __call__(self, learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
        """The optimiser of one cell."""
        rates = SCHEDULES[self.schedule](learning_rate, self.steps)
        return CONTENDERS[self.contender].make(rates, weight_decay, learning_rate, self.coupling)


def maker(contender: str, schedule: str, steps: int, coupling: Coupling = PAPER) -> Maker:
    """What makes the contender's optimiser, for every cell of a sweep."""
    return Maker(contender, schedule, steps, coupling)


def axes(contender: str, grid: int, coupling: Coupling = PAPER) -> dict[str, np.ndarray]:
    """Octaves of α around the middle, and λ = 0 with octaves around the middle: `grid` values each.

    In lr-coupled units the decays at the middle α are the same.

    Examples:
      >>> axes("AdamW", 4)["weight_decay"].tolist()
      [0.0, 0.0078125, 0.015625, 0.03125]
    """
    middle = CONTENDERS[contender]
    decay = middle.weight_decay / (middle.learning_rate if coupling == LR else 1.0)
    octaves = np.arange(grid) - grid // 2
    return {
        "learning_rate": middle.learning_rate * 2.0**-octaves,
        "weight_decay": np.concatenate([[0.0], decay * 2.0 ** octaves[1:]]),
    }
