"""Decoupled weight decay for JAX, as pure optax transformations.

``θ' = W(θ + Δ_t − c_t · m ⊙ pull(θ))``

The paper: Loshchilov & Hutter, *Decoupled Weight Decay Regularization*, arXiv 1711.05101.
"""

import importlib
from typing import TYPE_CHECKING

from decoupled_wd import masks, rounding, rules, theory
from decoupled_wd._slips import StrongDecayWarning
from decoupled_wd.aliases import adam, adamw, adamwr, sgd, sgdw, sgdwr
from decoupled_wd.coupling import (
    CONSTANT,
    CORRECTED,
    FRAMEWORKS,
    LR,
    PAPER,
    SQUARED,
    Coupling,
    convert_weight_decay,
)
from decoupled_wd.preconditioners import scale_by_adabound, scale_by_adam, scale_by_momentum
from decoupled_wd.schedules import warm_restarts
from decoupled_wd.sphere import hyperball
from decoupled_wd.strengths import (
    from_cost_penalty,
    from_half_life,
    from_timescale,
    keep_normalized,
    keep_timescale,
    log_time,
    normalized,
    normalized_per_cycle,
)
from decoupled_wd.transforms import add_decayed_weights, decay_weights, decouple

__version__ = "0.1.0"

if TYPE_CHECKING:
    from decoupled_wd import figures as figures
    from decoupled_wd import study as study
    from decoupled_wd.adoption import adopt
    from decoupled_wd.diagnostics.describe import describe
    from decoupled_wd.diagnostics.equivalents import equivalents
    from decoupled_wd.diagnostics.examine import examine
    from decoupled_wd.diagnostics.preflight import preflight
    from decoupled_wd.diagnostics.record import record, recorded
    from decoupled_wd.planning import Run, fit_timescale, plan

# a training script needs few of these; the last two need an extra, and take seconds
_ON_FIRST_USE = {
    "adopt": "adoption",
    "describe": "diagnostics.describe",
    "equivalents": "diagnostics.equivalents",
    "examine": "diagnostics.examine",
    "preflight": "diagnostics.preflight",
    "record": "diagnostics.record",
    "recorded": "diagnostics.record",
    "Run": "planning",
    "fit_timescale": "planning",
    "plan": "planning",
    "figures": "figures",
    "study": "study",
}

__all__ = [
    "CONSTANT",
    "CORRECTED",
    "FRAMEWORKS",
    "LR",
    "PAPER",
    "SQUARED",
    "Coupling",
    "Run",
    "StrongDecayWarning",
    "adam",
    "adamw",
    "adamwr",
    "add_decayed_weights",
    "adopt",
    "convert_weight_decay",
    "decay_weights",
    "decouple",
    "describe",
    "equivalents",
    "examine",
    "fit_timescale",
    "from_cost_penalty",
    "from_half_life",
    "from_timescale",
    "hyperball",
    "keep_normalized",
    "keep_timescale",
    "log_time",
    "masks",
    "normalized",
    "normalized_per_cycle",
    "plan",
    "preflight",
    "record",
    "recorded",
    "rounding",
    "rules",
    "scale_by_adabound",
    "scale_by_adam",
    "scale_by_momentum",
    "sgd",
    "sgdw",
    "sgdwr",
    "theory",
    "warm_restarts",
]


def __getattr__(name: str) -> object:
    """Import what most training scripts do without, on first use."""
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    path = _ON_FIRST_USE[name]
    try:
        module = importlib.import_module(f"{__name__}.{path}")
    except ModuleNotFoundError as error:
        # a module of our own that is missing is a defect, and no extra installs it
        if error.name and error.name.startswith(__name__):
            raise
        # what asks a module for its attributes, as help() does, expects this of one that is absent
        raise AttributeError(str(error), name=name, obj=__name__) from error
    found: object = module if name == path else getattr(module, name)
    # the next look finds it without coming here
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the names for users, with those that are not imported yet."""
    return sorted({*__all__, "__version__", *_ON_FIRST_USE})
