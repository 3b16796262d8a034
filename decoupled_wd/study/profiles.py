"""Which experiments a study consists of, in small and in full."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import starmap
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from decoupled_wd import LR, PAPER
from decoupled_wd.study.claims import (
    budget,
    choice,
    equivalence,
    generalization,
    inclusion,
    interaction,
    restarts,
    superconvergence,
)
from decoupled_wd.study.claims.verdicts import Finding
from decoupled_wd.study.tasks.data import Dataset, mnist1d
from decoupled_wd.study.tasks.task import Run, Task


class Experiment(NamedTuple):
    """One claim on one data set and network."""

    claim: str
    """Number in the study, ``i`` to ``vii``."""
    dataset: str
    network: str
    measure: Callable[[Run, Task], Finding]
    """``measure(run, task)``."""
    seconds: float
    """How long it took on two x86-64 cores."""


CLAIMS: Mapping[str, str] = MappingProxyType(
    {
        "i": "L2 and weight decay are the same for SGD and not for Adam",
        "ii": "Decoupled, learning rate and weight decay can be tuned apart",
        "iii": "Tuned AdamW generalises better than tuned Adam + L2",
        "iv": "The best λ falls with the number of steps, the normalised λ does not",
        "v": "Warm restarts are good at any time",
        "vi": "Which optimiser to choose, at equal tuning budgets",
        "vii": "Super-convergence with AdamW and one cycle",
    }
)


def _more_points() -> Dataset:
    return mnist1d(train_size=4000)


_GRID = partial(interaction.measure, grid=9, seeds=5)
_GAIN = partial(generalization.measure, grid=9, seeds=5, fresh_seeds=20)
_BUDGET = partial(budget.measure, learning_rates={"AdamW": (0.025,)}, seeds=10)
_RESTARTS = partial(restarts.measure, normalized_decays=(0.1, 0.2, 0.4, 0.8), seeds=10)
_RESTARTS_OF_BOTH = partial(
    _RESTARTS, learning_rates={"AdamW": (0.05, 0.025), "SGDW": (0.25, 0.125)}
)
_OPTIMIZERS = partial(choice.measure, trials=48, seeds=5, fresh_seeds=20)
_INCLUSION = partial(inclusion.measure, trials=48, seeds=5, fresh_seeds=20)
_CYCLE = partial(superconvergence.measure, grid=8, seeds=5)
_EVERY = {"schedules": ("cosine", "step drop", "fixed")}
_BOTH_UNITS = {"couplings": (PAPER, LR)}
_STEPS = {
    "epochs": (8, 32, 128),
    "training points": (250, 1000, 4000),
    "batch size": (512, 128, 32),
}
_TWO_OF_BOTH = {"AdamW": (0.0125, 0.025), "SGDW": (0.05, 0.2)}
_DECAYS = tuple(2.0 ** np.arange(-13, -2))
_STRONG_DECAYS = tuple(2.0 ** np.arange(-10, -1))  # few digits want much

_DEFAULT = (
    ("i", "mnist1d", "mlp", equivalence.measure, 5),
    ("ii", "mnist1d", "mlp", partial(_GRID, grid=8), 56),
    ("iii", "mnist1d", "mlp", partial(_GAIN, grid=8), 11),
    (
        "iv",
        "mnist1d",
        "mlp",
        partial(_BUDGET, budgets={"epochs": (8, 32, 128)}, dataset=_more_points, seeds=8),
        30,
    ),
    (
        "v",
        "mnist1d",
        "mlp",
        partial(_RESTARTS, learning_rates={"AdamW": (0.05, 0.025)}, seeds=8),
        23,
    ),
)

_FULL = (
    ("i", "mnist1d", "mlp", equivalence.measure, 5),
    ("i", "digits", "resnet", equivalence.measure, 11),
    ("ii", "mnist1d", "mlp", partial(_GRID, **_EVERY, **_BOTH_UNITS), 320),
    ("ii", "mnist1d", "mlp without BatchNorm", partial(_GRID, **_BOTH_UNITS), 86),
    ("ii", "digits", "mlp", partial(_GRID, **_BOTH_UNITS), 58),
    ("ii", "digits", "resnet", partial(_GRID, schedules=("cosine", "fixed")), 470),
    ("iii", "mnist1d", "mlp", partial(_GAIN, **_EVERY), 36),
    ("iii", "mnist1d", "mlp without BatchNorm", _GAIN, 11),
    ("iii", "digits", "mlp", _GAIN, 9),
    ("iii", "digits", "resnet", partial(_GAIN, schedules=("cosine", "fixed")), 78),
    (
        "iv",
        "mnist1d",
        "mlp",
        partial(
            _BUDGET,
            budgets=_STEPS,
            learning_rates=_TWO_OF_BOTH,
            decays=_DECAYS,
            dataset=_more_points,
        ),
        354,
    ),
    (
        "iv",
        "digits",
        "resnet",
        partial(
            _BUDGET,
            budgets={"epochs": (25, 100, 400)},
            learning_rates=_TWO_OF_BOTH,
            decays=_STRONG_DECAYS,
        ),
        260,
    ),
    ("v", "mnist1d", "mlp", _RESTARTS_OF_BOTH, 74),
    ("v", "digits", "resnet", _RESTARTS_OF_BOTH, 120),
    ("vi", "mnist1d", "mlp", _OPTIMIZERS, 264),
    ("vi", "digits", "resnet", partial(_OPTIMIZERS, trials=32), 644),
    ("vi", "mnist1d", "mlp", _INCLUSION, 55),
    ("vi", "digits", "resnet", _INCLUSION, 165),
    ("vii", "mnist1d", "mlp", _CYCLE, 107),
    ("vii", "digits", "resnet", partial(_CYCLE, grid=6), 202),
)

PROFILES: Mapping[str, tuple[Experiment, ...]] = MappingProxyType(
    {"default": tuple(starmap(Experiment, _DEFAULT)), "full": tuple(starmap(Experiment, _FULL))}
)
"""Seconds are of two x86-64 cores."""
