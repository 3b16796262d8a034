"""What a search is given, and what it hands on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import optuna
import xarray as xr

from decoupled_wd.study.statistics import Estimate


@dataclass(frozen=True)
class Tuned:
    """Holds what a search found, and what its choice is worth."""

    study: optuna.Study
    """Every trial; its user attribute ``steps`` counts the training steps that it took."""
    metric: str
    """The name of what `estimate` estimates, such as ``test_error``."""
    best: Mapping[str, float]
    """The value of each hyperparameter that the search chose."""
    estimate: Estimate
    """The metric at `best`, on seeds that took no part in the choice, with its interval."""
    finalists: xr.Dataset
    """Every metric over ``trial`` and ``seed``, with the hyperparameters as coordinates."""
    seconds: float
    """How long this call took, compiling included."""
    steps: int
    """Training steps of this call, its trials' and its finalists'."""


class Progress(NamedTuple):
    """Tells how far a search is."""

    trials: int
    """Trials that have ended, those of earlier calls included."""
    best: float
    """The lowest value of a whole run; NaN before there is one."""
    spent: float
    """The share of the budget that is spent, from 0 to 1."""
