"""How decay is coupled to the learning rate: ``c_t = λ_t · α^p · η_t^s``.

``c_t`` is the fraction of the weight removed in step t, ``λ_t`` the weight decay, ``α`` the peak
learning rate and ``η_t = lr_t / α`` the schedule's multiplier, whose peak is 1. Every way to couple
them is one pair ``(p, s)``, so a λ moves from one to another by ``λ · α^(p_from − p_to)``. A
framework may offer several, each by a name of its own.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import jax
from jax.typing import ArrayLike

from decoupled_wd._base.checks import (
    check_nonnegative,
    check_positive,
    check_scalar_or_schedule,
    scheduled,
)
from decoupled_wd._base.types import Number, ScalarOrSchedule, Schedule


class Rates(NamedTuple):
    """One step's fraction c_t, λ_t, and lr_t, None where it was not told."""

    fraction: Number
    weight_decay: Number
    learning_rate: Number | None


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
        """Refuse exponents that are not finite numbers >= 0."""
        check_nonnegative("p", self.p, "0 leaves the learning rate out")
        check_nonnegative("s", self.s, "0 leaves the schedule out")

    @property
    def formula(self) -> str:
        """Write c_t in symbols, with ``lr = α·η`` where both occur.

        Examples:
          >>> CORRECTED.formula, Coupling(2, 2).formula
          ('λ·lr·η', 'λ·lr^2')
        """
        # α^n·η^n is lr^n; what is left over stands apart
        shared = min(self.p, self.s)
        powers = {"lr": shared, "α": self.p - shared, "η": self.s - shared}
        factors = [x if n == 1 else f"{x}^{n:g}" for x, n in powers.items() if n]
        return "·".join(["λ", *factors])

    def fraction(
        self,
        weight_decay: ScalarOrSchedule,
        learning_rate: ScalarOrSchedule | None = None,
        peak_learning_rate: ArrayLike | None = None,
    ) -> Schedule:
        """Make the schedule of the fraction removed, ``c_t = λ_t · α^p · η_t^s``.

        A learning rate that is a JAX array, traced or not, may be that of one step, as in
        ``optax.inject_hyperparams``, which turns a schedule into an array for every step. So it
        stands for the peak as little as a schedule does. Where it is the same at every step, write
        ``peak_learning_rate=learning_rate``.

        Args:
          weight_decay: λ, a number or a schedule.
          learning_rate: a Python or NumPy number (then η_t = 1), a schedule, a JAX array, or None
            where it plays no part.
          peak_learning_rate: α. Needed with a schedule or a JAX array where p ≠ s; it is never
            guessed.

        Raises:
          TypeError, ValueError: a value is not a finite number >= 0, α is needed and missing, or
            the learning rate is above its peak.

        Examples:
          >>> LR.fraction(0.5, learning_rate=0.25)(0)
          0.125
        """
        rates = self.rates(weight_decay, learning_rate, peak_learning_rate)
        return lambda count: rates(count).fraction

    def rates(
        self,
        weight_decay: ScalarOrSchedule,
        learning_rate: ScalarOrSchedule | None = None,
        peak_learning_rate: ArrayLike | None = None,
    ) -> Callable[[Number], Rates]:
        """Make the schedule of c_t with its λ_t and lr_t, as in `fraction`."""
        self.check(weight_decay, learning_rate, peak_learning_rate)
        alpha: Number = peak_learning_rate
        if alpha is None:
            # with a schedule p = s here: α^p·(lr_t/α)^s is lr_t^s, and 1 stands in for α
            alpha = 1.0 if learning_rate is None or callable(learning_rate) else learning_rate
        # η_t = 1 throughout, so that no division by α enters the program
        fixed = learning_rate is None or learning_rate is alpha

        def at(count: Number) -> Rates:
            lam = scheduled("weight_decay", weight_decay, count)
            lr = scheduled("learning_rate", learning_rate, count)
            if fixed:
                return Rates(lam * alpha**self.p, lam, lr)
            # a peak that is too low would make η_t > 1 and decay too much in silence
            if peak_learning_rate is not None:
                _check_below_peak(lr, alpha)
            return Rates(lam * alpha**self.p * (lr / alpha) ** self.s, lam, lr)

        return at

    def check(
        self,
        weight_decay: ScalarOrSchedule,
        learning_rate: ScalarOrSchedule | None,
        peak_learning_rate: ArrayLike | None,
    ) -> None:
        """Raise what `fraction` raises, before anything is trained."""
        check_scalar_or_schedule("weight_decay", weight_decay)
        if learning_rate is not None:
            start = check_scalar_or_schedule("learning_rate", learning_rate)
        if peak_learning_rate is not None:
            remedy = "pass the highest learning rate of the schedule"
            check_positive("peak_learning_rate", peak_learning_rate, remedy)
            if learning_rate is not None:
                _check_below_peak(start, peak_learning_rate)
        elif learning_rate is None and self.p != 0:
            raise ValueError(f"{self} multiplies by the learning rate; pass learning_rate=")
        elif callable(learning_rate) and self.p != self.s:
            raise ValueError(
                f"learning_rate is a schedule, and {self} needs its peak to tell α from η_t; "
                "pass peak_learning_rate=, the highest value that the schedule takes"
            )
        elif isinstance(learning_rate, jax.Array) and self.p != self.s:
            raise ValueError(
                "learning_rate is a JAX array, which may be that of one step only, as inside "
                f"optax.inject_hyperparams, and {self} needs its peak to tell α from η_t; pass "
                "peak_learning_rate=, the highest value that it takes: where it is the same at "
                "every step, peak_learning_rate=learning_rate"
            )


def _check_below_peak(learning_rate: Number, peak: Number) -> None:
    """Check that ``η_t <= 1``, as far as both are known.

    Half a unit in float32's sixth digit is rounding.
    """
    if any(isinstance(x, jax.core.Tracer) for x in (learning_rate, peak)):
        return
    if float(learning_rate) > float(peak) * (1 + 1e-5):
        raise ValueError(
            f"peak_learning_rate={float(peak):g} is below the learning rate "
            f"{float(learning_rate):g}, whose highest value it must be; pass that"
        )


PAPER = Coupling(p=0, s=1)
"""``c_t = λ·η_t``: the paper's, free of the learning rate's size but following its schedule."""
LR = Coupling(p=1, s=1)
"""``c_t = λ·lr_t``: optax, PyTorch, Keras."""
CONSTANT = Coupling(p=0, s=0)
"""``c_t = λ``: free of the learning rate and of its schedule."""
CORRECTED = Coupling(p=1, s=2)
"""``c_t = λ·lr_t²/α``: AdamC (arXiv 2506.02285), for normalised layers only."""
SQUARED = Coupling(p=2, s=2)
"""``c_t = λ·lr_t²``: modded-nanogpt; arXiv 2512.08217 argues for it, whatever the optimiser."""

FRAMEWORKS: Mapping[str, Coupling] = MappingProxyType(
    {
        "paper": PAPER,
        "big_vision": PAPER,
        "axlearn": PAPER,
        "composer": PAPER,
        # named after an option that is off by default; without it the unit is that of LR
        "optimi.decouple_lr": PAPER,
        "flashoptim.decouple_lr": PAPER,
        "pytorch_optimizer.decouple_lr": PAPER,
        "optax": LR,
        "torch": LR,
        "keras": LR,
        "timm": LR,
        "fastai": LR,
        "maxtext": LR,
        "levanter": LR,
        "apex": LR,
        "heavyball": LR,
        "optimi": LR,
        "flashoptim": LR,
        "emerging_optimizers": LR,
        "optax.adafactor": CONSTANT,
        "pytorch_optimizer.fixed_decay": CONSTANT,
        "emerging_optimizers.independent": CONSTANT,
        "tensorflow_addons": CONSTANT,
        "adamc": CORRECTED,
        "emerging_optimizers.palm": SQUARED,
        "modded_nanogpt": SQUARED,
    }
)
"""The coupling of each framework's decoupled weight decay, by its name or that of an option."""


def follow(
    peak: ArrayLike,
    learning_rate: ScalarOrSchedule,
    peak_learning_rate: ArrayLike | None,
) -> Schedule:
    """Make a schedule that moves as the learning rate does: ``peak · η_t``."""
    return PAPER.fraction(peak, learning_rate, peak_learning_rate)


def convert_weight_decay(
    weight_decay: float, *, from_: Coupling | str, to: Coupling | str, learning_rate: float
) -> float:
    """Convert a decay to another framework's unit: ``λ · α^(p_from − p_to)``.

    Exact at the peak learning rate, and at every step where both couplings have the same s.

    Args:
      weight_decay: λ as `from_` writes it.
      from_: a `Coupling`, a key of `FRAMEWORKS`, or an optimiser as in ``"torch.optim.AdamW"``.
      to: the same.
      learning_rate: α, the peak learning rate of the run.

    Raises:
      TypeError, ValueError: a number is not finite and in range, or a framework is unknown.

    Examples:
      >>> convert_weight_decay(0.1, from_="fastai", to="paper", learning_rate=3e-3)
      0.00030000000000000003
    """
    check_nonnegative("weight_decay", weight_decay)
    check_positive("learning_rate", learning_rate, "pass the peak learning rate of the run")
    p = as_coupling("from_", from_).p - as_coupling("to", to).p
    try:
        converted: float = weight_decay * learning_rate**p
    except OverflowError:
        converted = math.inf
    if not math.isfinite(converted):
        raise ValueError(
            f"learning_rate={learning_rate} is too small: the converted decay is infinite; pass "
            "the peak learning rate of the run"
        )
    return converted


def as_coupling(name: str, coupling: Coupling | str) -> Coupling:
    """Return the coupling itself, or that of a framework.

    Optimisers' names such as ``torch.optim.AdamW`` are understood.

    Raises:
      TypeError: it is neither a `Coupling` nor text.
      ValueError: the framework is unknown, or the optimiser is not one of decoupled decay.
    """
    if isinstance(coupling, Coupling):
        return coupling
    known = f"pass a Coupling or one of {sorted(FRAMEWORKS)}"
    if not isinstance(coupling, str):
        raise TypeError(
            f"{name} must be a Coupling or a framework's name, got {coupling!r}; {known}"
        )
    # "torch.optim.AdamW" is torch's, and "optax.adafactor" is an entry of its own
    framework, _, optimizer = coupling.lower().partition(".")
    if coupling.lower() in FRAMEWORKS:
        return FRAMEWORKS[coupling.lower()]
    if optimizer and framework in FRAMEWORKS:
        if _DECOUPLED.search(optimizer):
            return FRAMEWORKS[framework]
        raise ValueError(
            f"{name}={coupling!r} is not known as an optimiser of decoupled decay, so its λ may "
            f"be another; if it decays as {framework}'s AdamW does, pass {framework!r}"
        )
    nearest = difflib.get_close_matches(framework, FRAMEWORKS, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest and not optimizer else ""
    raise ValueError(f"{name}={coupling!r} is not a known framework; {hint}{known}")


# AdamW, NAdamW, SGDW and their like: Adam and SGD alone have L2
_DECOUPLED = re.compile(r"(adam\w*w|sgdw|lion|muon|adan)$")
