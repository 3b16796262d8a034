"""How decay is coupled to the learning rate: ``c_t = λ_t · α^p · η_t^s``.

``c_t`` is the fraction of the weight removed in step t, ``λ_t`` the weight decay, ``α`` the peak learning
rate and ``η_t = lr_t / α`` the schedule's multiplier, whose peak is 1. Every framework in use has one of
four pairs ``(p, s)``, so a weight decay λ moves from one to another by ``λ · α^(p_from − p_to)``.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from decoupled_wd._scalars import (
    check_nonnegative,
    check_positive,
    check_scalar_or_schedule,
    value_at,
)

Number = Any  # a float, or a traced or concrete scalar array
Schedule = Callable[[Any], Number]


@dataclass(frozen=True)
class Coupling:
    """The exponents of ``c_t = λ_t · α^p · η_t^s``.

    Args:
      p: exponent of the peak learning rate α.
      s: exponent of the schedule multiplier η_t = lr_t / α.

    Raises:
      TypeError, ValueError: an exponent is not a finite number >= 0.

    Examples:
      >>> Coupling(p=1, s=2) == CORRECTED
      True

    Source: Loshchilov & Hutter 2019 (arXiv 1711.05101), Algorithms 1 and 2 have (0, 1).
    """

    p: float
    s: float

    def __post_init__(self) -> None:
        """Meet a wrong exponent at the door."""
        check_nonnegative("p", self.p, "0 leaves the learning rate out")
        check_nonnegative("s", self.s, "0 leaves the schedule out")

    def fraction(
        self,
        weight_decay: Number | Schedule,
        learning_rate: Number | Schedule | None = None,
        peak_learning_rate: Number | None = None,
    ) -> Schedule:
        """The schedule of ``c_t = λ_t · α^p · η_t^s``, from the step count to the fraction removed.

        Args:
          weight_decay: λ, a number or a schedule.
          learning_rate: a number (then η_t = 1), a schedule, or None where it plays no part.
          peak_learning_rate: α. Needed with a schedule where p ≠ s; it is never guessed.

        Raises:
          TypeError, ValueError: a value is not a finite number >= 0, or α is needed and missing.

        Examples:
          >>> LR.fraction(0.5, learning_rate=0.25)(0)
          0.125
        """
        self._check(weight_decay, learning_rate, peak_learning_rate)
        alpha: Any = peak_learning_rate
        if (
            alpha is None
        ):  # with a schedule p = s here: α^p·(lr_t/α)^s is lr_t^s, and 1 stands in for α
            alpha = learning_rate if _is_number(learning_rate) else 1.0
        fixed = learning_rate is None or learning_rate is alpha

        def fraction(count: Any) -> Number:
            eta = 1.0 if fixed else value_at(learning_rate, count) / alpha
            return value_at(weight_decay, count) * alpha**self.p * eta**self.s

        return fraction

    def _check(self, weight_decay: Any, learning_rate: Any, peak_learning_rate: Any) -> None:
        check_scalar_or_schedule("weight_decay", weight_decay)
        if learning_rate is not None:
            check_scalar_or_schedule("learning_rate", learning_rate)
        if peak_learning_rate is not None:
            remedy = "pass the highest learning rate of the schedule"
            check_positive("peak_learning_rate", peak_learning_rate, remedy)
        elif learning_rate is None and self.p != 0:
            raise ValueError(f"{self} multiplies by the learning rate; pass learning_rate=")
        elif callable(learning_rate) and self.p != self.s:
            raise ValueError(
                f"learning_rate is a schedule, and {self} needs its peak to tell α from η_t; "
                "pass peak_learning_rate=, the highest value that the schedule takes"
            )


def _is_number(learning_rate: Any) -> bool:
    return learning_rate is not None and not callable(learning_rate)


PAPER = Coupling(p=0, s=1)
"""``c_t = λ·η_t``: the paper's, free of the learning rate's size but following its schedule."""
LR = Coupling(p=1, s=1)
"""``c_t = λ·lr_t``: optax, PyTorch, Keras."""
CONSTANT = Coupling(p=0, s=0)
"""``c_t = λ``: free of the learning rate and of its schedule."""
CORRECTED = Coupling(p=1, s=2)
"""``c_t = λ·lr_t²/α``: AdamC (arXiv 2506.02285), for normalised layers only."""

FRAMEWORKS: Mapping[str, Coupling] = MappingProxyType(
    {
        "paper": PAPER,
        "big_vision": PAPER,
        "axlearn": PAPER,
        "composer": PAPER,
        "optimi": PAPER,
        "optax": LR,
        "torch": LR,
        "keras": LR,
        "timm": LR,
        "fastai": LR,
        "optax.adafactor": CONSTANT,
        "pytorch_optimizer.fixed_decay": CONSTANT,
        "tensorflow_addons": CONSTANT,
        "adamc": CORRECTED,
    }
)
"""The coupling of each framework's decoupled weight decay."""


def convert_weight_decay(
    weight_decay: float, *, from_: Coupling | str, to: Coupling | str, learning_rate: float
) -> float:
    """The same decay in another framework's unit: ``λ · α^(p_from − p_to)``.

    Exact at the peak learning rate, and at every step where both couplings have the same s.

    Args:
      weight_decay: λ as `from_` writes it.
      from_: a `Coupling`, or a key of `FRAMEWORKS`.
      to: a `Coupling`, or a key of `FRAMEWORKS`.
      learning_rate: α, the peak learning rate of the run.

    Raises:
      TypeError, ValueError: a number is not finite and in range, or a framework is unknown.

    Examples:
      >>> convert_weight_decay(0.1, from_="fastai", to="paper", learning_rate=3e-3)
      0.00030000000000000003

    Source: the one law of this module, applied on both sides.
    """
    check_nonnegative("weight_decay", weight_decay)
    check_positive("learning_rate", learning_rate, "pass the peak learning rate of the run")
    p = _coupling("from_", from_).p - _coupling("to", to).p
    converted: float = weight_decay * learning_rate**p
    return converted


def _coupling(name: str, framework: Coupling | str) -> Coupling:
    if isinstance(framework, Coupling):
        return framework
    if framework in FRAMEWORKS:
        return FRAMEWORKS[framework]
    nearest = difflib.get_close_matches(str(framework).lower(), FRAMEWORKS, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise ValueError(
        f"{name}={framework!r} is not a known framework; {hint}pass a Coupling or one of {sorted(FRAMEWORKS)}"
    )
