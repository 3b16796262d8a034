"""The optimisers of the study, in one registry: their steps, their decay, and where both are tuned.

A family is an optimiser without decay. `Decayed` gives it one, with L2 in the gradient or
decoupled; so SGD with momentum becomes the paper's SGD or SGDW, and Adam becomes Adam or AdamW.
`CONTENDERS` are those four, with the grids of the paper's figures; claim (vi) searches all
families.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
import optax

import decoupled_wd as dwd
from decoupled_wd import LR, PAPER, Coupling

L2, DECOUPLED = "with L2", "decoupled"
Scalar: TypeAlias = jax.Array | float
"""A hyperparameter: in a sweep it is traced."""


class Family(NamedTuple):
    """Describes an optimiser without decay, and the top of its search.

    They are such that the best of the study's small networks lie inside the search, not on its
    edge.
    """

    step: Callable[[optax.Schedule, Scalar], optax.GradientTransformation]
    """``step(schedule, peak)``."""
    learning_rate: float
    l2: float
    adaptive: bool


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "SGD": Family(lambda lr, _: optax.sgd(lr), 8.0, 0.125, False),
        # the learning rate is inside the buffer, as in the paper's Algorithm 1
        "momentum": Family(
            lambda lr, _: optax.chain(
                dwd.scale_by_momentum(0.9, learning_rate=lr), optax.scale(-1)
            ),
            1.0,
            0.125,
            False,
        ),
        "Adam": Family(
            lambda lr, _: optax.chain(dwd.scale_by_adam(), optax.scale_by_learning_rate(lr)),
            0.1,
            0.5,
            True,
        ),
        "AdaGrad": Family(lambda lr, _: optax.adagrad(lr), 4.0, 0.5, True),
        "RMSProp": Family(lambda lr, _: optax.rmsprop(lr), 0.1, 0.5, True),
        "AdaBound": Family(
            lambda lr, peak: optax.chain(
                dwd.scale_by_adabound(learning_rate=lr, peak_learning_rate=peak), optax.scale(-1)
            ),
            0.1,
            0.5,
            True,
        ),
        "RAdam": Family(lambda lr, _: optax.radam(lr), 0.4, 0.5, True),
    }
)
"""The constants that are not given are each optimiser's defaults."""

SCHEDULES: Mapping[str, Callable[[Scalar, int], optax.Schedule]] = MappingProxyType(
    {
        "fixed": lambda peak, steps: optax.constant_schedule(peak),  # noqa: ARG005
        "step drop": lambda peak, steps: optax.piecewise_constant_schedule(
            peak, {round(share * steps): 0.1 for share in (0.3, 0.6, 0.8)}
        ),
        "cosine": optax.cosine_decay_schedule,
    }
)
"""``schedule(peak, steps)``: those of Figure 1 of arXiv 1711.05101."""


@dataclass(frozen=True)
class Decayed:
    """Makes a family's optimiser with decay, under one learning rate schedule.

    Examples:
      >>> adamw = Decayed("Adam", DECOUPLED, "cosine", steps=100)
      >>> adamw.label
      ('cosine', 'Adam', 'decoupled')
      >>> isinstance(adamw(learning_rate=0.1, weight_decay=0.01), optax.GradientTransformation)
      True
    """

    family: str
    decay: str
    schedule: str
    steps: int
    coupling: Coupling = PAPER

    @property
    def label(self) -> tuple[str, ...]:
        """Names the schedule, the family and its decay.

        The units of λ are named where they are not the paper's.
        """
        units = () if self.coupling == PAPER else ("lr-coupled",)
        return (self.schedule, *units, self.family, self.decay)

    def __call__(self, learning_rate: Scalar, weight_decay: Scalar) -> optax.GradientTransformation:
        """Returns the optimiser of one cell.

        L2 comes before the step, and decoupled decay stands beside it.
        """
        rates = SCHEDULES[self.schedule](learning_rate, self.steps)
        step = FAMILIES[self.family].step(rates, learning_rate)
        if self.decay == L2:
            return optax.chain(dwd.add_decayed_weights(weight_decay), step)
        return dwd.decouple(
            step,
            weight_decay,
            learning_rate=rates,
            peak_learning_rate=learning_rate,
            coupling=self.coupling,
        )


class Contender(NamedTuple):
    """Names one of the paper's four optimisers, with its grid's middle."""

    family: str
    decay: str
    learning_rate: float
    weight_decay: float


CONTENDERS: Mapping[str, Contender] = MappingProxyType(
    {
        "SGD": Contender("momentum", L2, 2.0**-4, 2.0**-5),
        "SGDW": Contender("momentum", DECOUPLED, 2.0**-4, 2.0**-6),
        "Adam": Contender("Adam", L2, 0.1 * 2.0**-4, 2.0**-5),
        "AdamW": Contender("Adam", DECOUPLED, 0.1 * 2.0**-4, 2.0**-6),
    }
)

PAIRS = (("SGD", "SGDW"), ("Adam", "AdamW"))
"""Each optimiser with L2, and its decoupled form."""


def contender(name: str, schedule: str, steps: int, coupling: Coupling = PAPER) -> Decayed:
    """Returns what makes one of the paper's four optimisers.

    Examples:
      >>> contender("AdamW", "cosine", 100) == Decayed("Adam", DECOUPLED, "cosine", 100)
      True
    """
    found = CONTENDERS[name]
    return Decayed(found.family, found.decay, schedule, steps, coupling)


def octaves(
    name: str, grid: int, coupling: Coupling = PAPER, scale: float = 1.0
) -> dict[str, np.ndarray]:
    """Returns a contender's grid: octaves of α and λ, and λ = 0.

    Both axes have `grid` values. In lr-coupled units the decays at the middle α are the same. The
    `scale` is that of the task's λ.

    Examples:
      >>> octaves("AdamW", 4)["weight_decay"].tolist()
      [0.0, 0.0078125, 0.015625, 0.03125]
    """
    middle = CONTENDERS[name]
    decay = scale * middle.weight_decay / (middle.learning_rate if coupling == LR else 1.0)
    powers = np.arange(grid) - grid // 2
    return {
        "learning_rate": middle.learning_rate * 2.0**-powers,
        # λ = 0 stands in the place of the lowest octave, so that both axes are as long
        "weight_decay": np.concatenate([[0.0], decay * 2.0 ** powers[1:]]),
    }
