"""How strong the decay is: weight decays λ from quantities that mean the same in every run."""

from __future__ import annotations

import math

from jax.typing import ArrayLike

from decoupled_wd._base.checks import (
    check_at_least_one,
    check_known,
    check_nonnegative,
    check_ordered,
    check_positive,
)
from decoupled_wd._base.types import Number, Schedule
from decoupled_wd.coupling import PAPER, Coupling, as_coupling
from decoupled_wd.schedules import check_cycles, cycle


def normalized(
    normalized_weight_decay: ArrayLike, *, batch_size: float, dataset_size: float, epochs: float
) -> Number:
    """Compute the paper's normalised decay: ``λ = λ_norm · sqrt(b / (B·T))``.

    Args:
      normalized_weight_decay: λ_norm, which stays near its best value when the budget changes.
      batch_size: b, examples in a batch.
      dataset_size: B, training examples.
      epochs: T, passes over the training set in the whole run, or in the current restart cycle.

    Returns:
      λ for the `PAPER` coupling, a float.

    Raises:
      TypeError, ValueError: a number is out of range.

    Examples:
      >>> f"{normalized(0.025, batch_size=128, dataset_size=50_000, epochs=100):.2e}"
      '1.26e-04'

    Source: arXiv 1711.05101, appendix B.1.
    """
    check_nonnegative("normalized_weight_decay", normalized_weight_decay)
    check_positive("batch_size", batch_size)
    check_positive("dataset_size", dataset_size)
    check_positive("epochs", epochs)
    return normalized_weight_decay * (batch_size / (dataset_size * epochs)) ** 0.5


def normalized_per_cycle(
    normalized_weight_decay: ArrayLike,
    *,
    batch_size: float,
    dataset_size: float,
    first_cycle_epochs: float,
    cycle_factor: float = 2.0,
) -> Schedule:
    """Schedule the normalised decay for warm restarts.

    ``λ_i = λ_norm · sqrt(b / (B·T_i))``, with T_i of the current cycle

    Args:
      normalized_weight_decay: λ_norm.
      batch_size: b, examples in a batch.
      dataset_size: B, training examples.
      first_cycle_epochs: T_0, in epochs; a cycle takes T_i·B/b optimiser steps, rounded.
      cycle_factor: T_mult >= 1, by which each cycle is longer than the one before.

    Returns:
      A schedule from the step count to λ for the `PAPER` coupling, both scalars.

    Raises:
      TypeError, ValueError: a number is out of range.

    Examples:
      >>> budget = {"batch_size": 1, "dataset_size": 1, "first_cycle_epochs": 100}
      >>> weight_decay = normalized_per_cycle(0.1, **budget)
      >>> [round(float(weight_decay(step)), 5) for step in (0, 99, 100, 300)]
      [0.01, 0.01, 0.00707, 0.005]

    Source: arXiv 1711.05101, appendix B.2.
    """
    first_cycle_steps = steps_of(first_cycle_epochs, batch_size, dataset_size)
    first = normalized(
        normalized_weight_decay,
        batch_size=batch_size,
        dataset_size=dataset_size,
        epochs=first_cycle_epochs,
    )
    check_cycles(first_cycle_steps, cycle_factor)

    def schedule(step: Number) -> Number:
        index, _, _ = cycle(step, first_cycle_steps, cycle_factor)
        return first * float(cycle_factor) ** (-0.5 * index)

    return schedule


def log_time(omega: ArrayLike, *, start: ArrayLike) -> Schedule:
    """Schedule a decay that falls as time goes on.

    ``λ_t = ω / (T_0 + t)``, where the first step is t = 1

    Weights remember a fixed share of the run so far: after t steps an idle weight is left with
    about ``(T_0 / (T_0 + t))^ω`` of itself, a power of t where a fixed λ leaves an exponential.

    Args:
      omega: ω, at most T_0 + 1, so that no step removes more than the weight; its authors take 4,
        for models of every size.
      start: T_0, the steps of the start-up, in which λ stays near ω/T_0; the authors' code takes
        a tenth of the run's steps. With 0 it is ω/t from the first step on.

    Returns:
      A schedule from the step count to λ for the `PAPER` coupling, both scalars.

    Raises:
      TypeError, ValueError: a number is out of range, or ω above T_0 + 1.

    Examples:
      >>> weight_decay = log_time(4.0, start=99)
      >>> [round(float(weight_decay(step)), 5) for step in (0, 100, 300)]
      [0.04, 0.02, 0.01]

    Source: Ferbach et al., arXiv 2602.05298 (ADANA): λ(t) = ω/t; the start-up
      ``λ_0/(1 + t/T_0)`` with ``λ_0 = ω/T_0`` is that of their code, mlexpos/adana.
    """
    check_positive("omega", omega)
    check_nonnegative("start", start, "use 0 for no start-up")
    check_ordered("omega", omega, "start + 1", start + 1)
    return lambda count: omega / (start + (count + 1.0))


def steps_of(epochs: float, batch_size: float, dataset_size: float) -> int:
    """Count the optimiser steps in `epochs`: ``T·B/b``, rounded, at least 1."""
    counts = {"batch_size": batch_size, "dataset_size": dataset_size, "first_cycle_epochs": epochs}
    for name, number in counts.items():
        check_positive(name, number)
        check_known(name, number)
    # a cycle shorter than a step would restart within it
    return max(1, round(epochs * dataset_size / batch_size))


def from_cost_penalty(penalty: float, *, dataset_size: float, learning_rate: float) -> float:
    """Turn an L2 penalty into SGD's λ: ``λ = α·penalty / n``.

    The cost is ``C = C_0 + penalty/(2n) · Σ w²``, whose gradient step multiplies w by
    ``1 − α·penalty/n``.

    Args:
      penalty: the coefficient of the penalty, as textbooks write it.
      dataset_size: n, the training examples over which C_0 is averaged.
      learning_rate: α of plain SGD; for Adam no such λ exists (Proposition 2).

    Returns:
      λ for the `PAPER` coupling, a float.

    Raises:
      TypeError, ValueError: a number is out of range.

    Examples:
      >>> from_cost_penalty(5.0, dataset_size=50_000, learning_rate=0.5)
      5e-05

    Source: Nielsen, Neural Networks and Deep Learning, ch. 3, eqs. (87) and (92); arXiv 1711.05101,
      Proposition 1.
    """
    check_nonnegative("penalty", penalty)
    check_positive("dataset_size", dataset_size)
    check_nonnegative("learning_rate", learning_rate)
    return learning_rate * penalty / dataset_size


def from_timescale(
    *, steps: float, learning_rate: float | None = None, coupling: Coupling | str = PAPER
) -> float:
    """Return the λ that forgets in `steps`: ``λ = 1 / (steps · α^p)``.

    At the peak ``c · steps = 1``.

    AdamW averages its past updates with this timescale: after `steps` an update is worth 1/e.

    Args:
      steps: the timescale in optimiser steps, at least 1.
      learning_rate: α, needed where the coupling's p is not 0.
      coupling: the unit of the result.

    Returns:
      λ, a float.

    Raises:
      TypeError, ValueError: a number is out of range, or `learning_rate` is missing.

    Examples:
      >>> from_timescale(steps=1000)
      0.001

    Source: Wang & Aitchison, arXiv 2405.13698.
    """
    check_at_least_one("steps", steps)
    return _in_unit(1 / steps, learning_rate, coupling)


def from_half_life(
    *, steps: float, learning_rate: float | None = None, coupling: Coupling | str = PAPER
) -> float:
    """Return the λ that halves an idle weight in `steps`.

    At the peak ``(1 − c)^steps = 1/2``.

    Args:
      steps: the half-life in optimiser steps, at least 1.
      learning_rate: α, needed where the coupling's p is not 0.
      coupling: the unit of the result.

    Returns:
      ``λ = (1 − 2^(−1/steps)) / α^p``, a float.

    Raises:
      TypeError, ValueError: a number is out of range, or `learning_rate` is missing.

    Examples:
      >>> from_half_life(steps=1)
      0.5
    """
    check_at_least_one("steps", steps)
    return _in_unit(-math.expm1(-math.log(2) / steps), learning_rate, coupling)


def keep_normalized(
    weight_decay: float,
    *,
    batch_ratio: float = 1.0,
    dataset_ratio: float = 1.0,
    epochs_ratio: float = 1.0,
    learning_rate_ratio: float = 1.0,
    coupling: Coupling | str = PAPER,
) -> float:
    """Return λ for another budget, by the paper's rule.

    It is ``λ·sqrt(b/(B·T)) / α^p``, each letter a ratio of new over old.

    It assumes that the best *normalised* λ is the same for every budget, so a run of four times the
    steps wants half the decay a step. `keep_timescale` assumes otherwise; where they differ, try
    both.

    Args:
      weight_decay: λ of the old run, in the unit of `coupling`.
      batch_ratio: b, the batch size.
      dataset_ratio: B, the training examples.
      epochs_ratio: T, the passes over them.
      learning_rate_ratio: α, the peak learning rate; it counts where the coupling's p is not 0.
      coupling: the unit of both λ.

    Returns:
      λ of the new run, a float.

    Raises:
      TypeError, ValueError: a number is out of range.

    Examples:
      >>> keep_normalized(0.02, epochs_ratio=4)
      0.01

    Source: arXiv 1711.05101, appendix B.1, found for AdamW with cosine annealing on CIFAR-10 and
      ImageNet32x32.
    """
    ratios = {
        "batch_ratio": batch_ratio,
        "dataset_ratio": dataset_ratio,
        "epochs_ratio": epochs_ratio,
    }
    for name, ratio in ratios.items():
        check_positive(name, ratio)
    # λ_norm is the same in both runs, so it cancels
    change = (batch_ratio / (dataset_ratio * epochs_ratio)) ** 0.5
    return _transferred(weight_decay, change, learning_rate_ratio, coupling)


def keep_timescale(
    weight_decay: float,
    *,
    batch_ratio: float = 1.0,
    dataset_ratio: float = 1.0,
    learning_rate_ratio: float = 1.0,
    coupling: Coupling | str = PAPER,
) -> float:
    """Return λ for another run that forgets over as many epochs.

    It is ``λ·b/B / α^p``, each letter a ratio of new over old.

    It assumes that the best timescale ``b/(c·B)``, in *epochs*, is the same for every data set and
    batch size, so the number of epochs has no place in it. `keep_normalized` assumes otherwise.

    Args:
      weight_decay, batch_ratio, dataset_ratio, learning_rate_ratio, coupling: as in
        `keep_normalized`.

    Returns:
      λ of the new run, a float.

    Raises:
      TypeError, ValueError: a number is out of range.

    Examples:
      >>> keep_timescale(0.02, dataset_ratio=4)
      0.005

    Source: Wang & Aitchison, arXiv 2405.13698, found for AdamW on ResNets, ViTs and language
      models.
    """
    check_positive("batch_ratio", batch_ratio)
    check_positive("dataset_ratio", dataset_ratio)
    return _transferred(weight_decay, batch_ratio / dataset_ratio, learning_rate_ratio, coupling)


def _transferred(
    weight_decay: float, change: float, learning_rate_ratio: float, coupling: Coupling | str
) -> float:
    check_nonnegative("weight_decay", weight_decay)
    check_positive("learning_rate_ratio", learning_rate_ratio)
    return weight_decay * _in_unit(change, learning_rate_ratio, coupling)


def _in_unit(amount: float, learning_rate: float | None, coupling: Coupling | str) -> float:
    """Turn an amount of c, or a ratio, into λ: ``amount / α^p``."""
    coupling = as_coupling("coupling", coupling)
    if learning_rate is not None:
        check_positive("learning_rate", learning_rate, "pass the peak learning rate of the run")
    # the learning rate plays no part, and need not be told
    if coupling.p == 0:
        return amount
    if learning_rate is None:
        raise ValueError(
            f"{coupling} multiplies the decay by the learning rate; pass learning_rate="
        )
    weight_decay: float = amount / learning_rate**coupling.p
    check_nonnegative(
        f"the weight decay for learning_rate={learning_rate}",
        weight_decay,
        "raise the learning rate",
    )
    return weight_decay
