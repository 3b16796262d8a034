"""A run, by the numbers that the rules for λ ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from decoupled_wd._base.checks import (
    LAST_STEP,
    check_known,
    check_nonnegative,
    check_positive,
    scheduled,
)
from decoupled_wd._base.types import Number, ScalarOrSchedule, Schedule
from decoupled_wd.coupling import PAPER, Coupling, as_coupling, convert_weight_decay

SHAPES: Mapping[str, Callable[[Number], Number]] = MappingProxyType(
    {
        # half of 1 + cos πx, as a square that float32 does not round to 0 near the end
        "cosine": lambda x: jnp.sin(jnp.pi / 2 * (1 - x)) ** 2,
        "linear": lambda x: 1 - x,
    }
)
"""Schedules by name: η over the share of the run that is done."""

_REQUIRED = ("learning_rate", "batch_size", "dataset_size", "epochs")
_CHECKS = {
    **dict.fromkeys((*_REQUIRED, "parameters", "width", "depth"), check_positive),
    "weight_decay": check_nonnegative,
}
# steps of a schedule that are looked at
_LOOKS = 65


@dataclass(frozen=True)
class Run:
    """What one knows of a training run before it starts.

    It takes ``dataset_size·epochs / batch_size`` steps.

    Args:
      learning_rate: α, its peak, of the matrices: with muP that after the factor for the width.
      batch_size: b, what a step sees, in training points or in tokens.
      dataset_size: what an epoch sees, in the same unit.
      epochs: T, passes over that.
      weight_decay: λ in the unit of `coupling`, where it is known.
      parameters: N, the weights of the model.
      width, depth: d and L, of its hidden layers.
      coupling: the unit of λ, a `Coupling` or a framework's name, as in `decouple`.
      schedule: "cosine" or "linear" down to 0, a function from the step to the learning rate, as
        optax's are, whose peak is `learning_rate`, or None where it is constant.

    Raises:
      TypeError, ValueError: a number is out of range, a name is unknown, or the run has less than
        one step.

    Examples:
      >>> Run(6e-4, batch_size=524_288, dataset_size=1e10, parameters=124e6).steps
      19073
    """

    learning_rate: float
    batch_size: float
    dataset_size: float
    epochs: float = 1
    weight_decay: float | None = None
    parameters: float | None = None
    width: float | None = None
    depth: float | None = None
    coupling: Coupling | str = PAPER
    schedule: Schedule | str | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that describe no run, and keep them as Python's."""
        as_coupling("coupling", self.coupling)
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if value is not None or name in _REQUIRED:
                check(name, value)
                check_known(name, value, "pass a Python float")
                object.__setattr__(self, name, float(value))
        steps = self.data_seen / self.batch_size
        if not 1 <= steps <= LAST_STEP:
            raise ValueError(
                f"batch_size={self.batch_size:g} makes {steps:g} steps of dataset_size="
                f"{self.dataset_size:g} and epochs={self.epochs:g}, and must make 1 to 2^31; pass "
                "both sizes in one unit, points or tokens"
            )
        self._check_schedule()

    @property
    def data_seen(self) -> float:
        """Points or tokens seen in the whole run, repetitions among them."""
        return self.dataset_size * self.epochs

    @property
    def steps(self) -> int:
        """Optimiser steps of the run, a whole number."""
        return round(self.data_seen / self.batch_size)

    @property
    def data_per_parameter(self) -> float:
        """Points or tokens seen for each parameter, ``D/N``."""
        return self.data_seen / self._told("parameters")

    @property
    def fraction(self) -> float:
        """What a step at the peak removes, ``c = λ·α^p``."""
        return convert_weight_decay(
            self._told("weight_decay"),
            from_=self.coupling,
            to=PAPER,
            learning_rate=self.learning_rate,
        )

    def in_unit(self, fraction: float) -> float:
        """Return the λ in the run's unit that removes a fraction at the peak: ``c / α^p``."""
        return convert_weight_decay(
            fraction, from_=PAPER, to=self.coupling, learning_rate=self.learning_rate
        )

    @property
    def rate(self) -> ScalarOrSchedule:
        """The schedule's multiplier η_t, whose peak is 1, or 1 where it is constant."""
        if self.schedule is None:
            return 1.0
        if callable(self.schedule):
            schedule, peak = self.schedule, self.learning_rate
            return lambda step: schedule(step) / peak
        shape, steps = SHAPES[self.schedule], self.steps
        return lambda step: shape(step / steps)

    def _told(self, name: str) -> float:
        value: float | None = getattr(self, name)
        if value is None:
            raise ValueError(f"{name} of the run is not known; pass {name}=")
        return value

    def _check_schedule(self) -> None:
        if self.schedule is None or (isinstance(self.schedule, str) and self.schedule in SHAPES):
            return
        if not callable(self.schedule):
            raise ValueError(
                f"schedule must be one of {[*SHAPES]}, or a function from the step to the learning "
                f"rate, got {self.schedule!r}; leave it out for a constant learning rate"
            )
        steps = np.linspace(0, self.steps - 1, _LOOKS, dtype=np.int32)
        highest = max(float(scheduled("schedule", self.schedule, step)) for step in steps)
        try:
            # all steps are followed at once
            jax.eval_shape(self.schedule, np.int32(0))
        except TypeError as error:
            raise TypeError(
                f"schedule must take a traced step, as optax's do, and raised "
                f"{type(error).__name__}; use jnp.where in place of if, and jax.numpy in place of "
                "math and NumPy"
            ) from error
        # a short warm-up may reach its peak between two of these steps, and not far from both
        if not 0.5 < highest / self.learning_rate < 1 + 1e-5:
            raise ValueError(
                f"schedule rises to {highest:g}, and learning_rate={self.learning_rate:g} must be "
                "its peak; pass that, and a schedule of learning rates for this many steps"
            )
