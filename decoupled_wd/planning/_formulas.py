"""The fraction c that each rule removes at the peak; a letter with ₀ is the reference's."""

from __future__ import annotations

import math
from collections.abc import Callable

from decoupled_wd.coupling import LR, PAPER, convert_weight_decay
from decoupled_wd.planning._limits import ratio
from decoupled_wd.planning._run import Run
from decoupled_wd.strengths import keep_normalized, keep_timescale, normalized


def from_share(run: Run, share: float) -> float:
    """Return the c whose timescale 1/c is a share τ of the run: ``c = b/(τ·D)``."""
    return run.batch_size / (share * run.data_seen)


def share_of(run: Run) -> float:
    """Return the share of the run that the timescale is: ``τ = b/(c·D)``."""
    return run.batch_size / (run.fraction * run.data_seen)


def best_share(run: Run) -> float:
    """Return the best share by Power Lines: ``τ = 1.084·(D/N)^-0.527``."""
    share: float = 1.084 * run.data_per_parameter**-0.527
    return share


def same_normalized(run: Run, reference: Run) -> float:
    """Keep λ_norm: ``c = c₀·√(b/(B·T))``, each letter over the reference's."""
    return keep_normalized(
        reference.fraction,
        batch_ratio=ratio("batch_size", run, reference),
        dataset_ratio=ratio("dataset_size", run, reference),
        epochs_ratio=ratio("epochs", run, reference),
    )


def same_timescale(run: Run, reference: Run) -> float:
    """Keep the timescale in epochs: ``c = c₀·b/B``, each letter over the reference's."""
    return keep_timescale(
        reference.fraction,
        batch_ratio=ratio("batch_size", run, reference),
        dataset_ratio=ratio("dataset_size", run, reference),
    )


def power_lines_slope(run: Run, reference: Run) -> float:
    """Keep the slope of Power Lines: ``τ = τ₀·((D/N) / (D₀/N₀))^-0.527``."""
    # in the place of 1.084, the share of the reference, which is known to be good
    return from_share(run, share_of(reference) * best_share(run) / best_share(reference))


def nanochat(run: Run, reference: Run) -> float:
    """Compute nanochat's ``λ = λ₀·√(b/b₀)·D₀/D`` of the learning rate's unit, ``c = λ·α``."""
    # λ in the learning rate's unit, whose α is taken to be multiplied by √(b/b₀)
    batch_ratio = ratio("batch_size", run, reference)
    weight_decay = keep_timescale(
        reference.fraction / reference.learning_rate,
        batch_ratio=batch_ratio,
        dataset_ratio=ratio("data_seen", run, reference),
        learning_rate_ratio=math.sqrt(batch_ratio),
        coupling=LR,
    )
    return weight_decay * run.learning_rate


def same_fraction(_: Run, reference: Run) -> float:
    """Keep ``c = c₀``."""
    return reference.fraction


def singular_values(run: Run, reference: Run) -> float:
    """Keep the gain of matrices: ``c = c₀·(d/d₀)^-½``."""
    return reference.fraction / math.sqrt(ratio("width", run, reference))


def same_weight_decay(run: Run, reference: Run) -> float:
    """Keep λ in the learning rate's unit: ``c = c₀·α/α₀``."""
    return reference.fraction * ratio("learning_rate", run, reference)


def paper_normalized(run: Run, _: Run) -> float:
    """Take the paper's λ_norm: ``c = 0.025·√(b/(B·T))``."""
    c: float = normalized(
        0.025, batch_size=run.batch_size, dataset_size=run.dataset_size, epochs=run.epochs
    )
    return c


def times_learning_rate(weight_decay: float) -> Callable[[Run, Run], float]:
    """Make a rule of a λ that the learning rate multiplies: ``c = λ·α``."""
    return lambda run, _: convert_weight_decay(
        weight_decay, from_=LR, to=PAPER, learning_rate=run.learning_rate
    )
