"""A search in numbers, as its page shows them."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import optuna
import xarray as xr
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from decoupled_wd.study.response import MOST, Valley, some, valley_line, where_lowest
from decoupled_wd.study.statistics import Estimate, mean
from decoupled_wd.study.tune.storages import quiet
from decoupled_wd.study.tune.trials import STEPS
from decoupled_wd.study.tune.types import Tuned

RATE, DECAY = "learning_rate", "weight_decay"
WHOLE = 4
"""Trials that came to their end, from which it is told what matters."""
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class Search(NamedTuple):
    """Holds what a search tried, and what it found there."""

    trials: xr.Dataset
    """As `figures.landscape` has them."""
    space: dict[str, FloatDistribution | IntDistribution]
    metric: str
    higher: bool
    """Whether more of the metric is better."""

    @property
    def log(self) -> tuple[str, ...]:
        """Names the hyperparameters that are searched in logarithms."""
        return tuple(name for name, each in self.space.items() if each.log)

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns places ``[n, hyperparameters]`` and values ``[n]``, the lower the better.

        Places are in logarithms where they are searched in logarithms. A trial that was stopped
        early has the third quartile of the others: its own value is that of a shorter run, and it
        was stopped since it was none of the best.
        """
        trials = self.trials
        places = [self.scaled(name, trials[name].values.astype(float)) for name in self.space]
        values = trials["value"].values * (-1.0 if self.higher else 1.0)
        known = values[np.isfinite(values)]
        usual = np.quantile(known, 0.75) if known.size else np.nan
        return np.stack(places, axis=1), np.where(trials["stopped"].values, usual, values)

    def scaled(self, name: str, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns values of a hyperparameter as the search spreads them."""
        return np.log(value) if self.space[name].log else value


class Range(NamedTuple):
    """Holds the range in which a hyperparameter is best, and whether it ends with the space."""

    low: float
    high: float
    from_edge: bool
    to_edge: bool


def search_of(tuned: Tuned) -> Search:
    """Reads the trials of a study: whole ones, and those that were stopped.

    Trials that somebody still trains, or that died with who trained them, are left out.

    Raises:
        ValueError: no trial came to its end, or a hyperparameter is no number.
    """
    ended = tuned.study.get_trials(deepcopy=False, states=_ENDED)
    if not any(each.state is TrialState.COMPLETE for each in ended):
        raise ValueError("tuned has no trial that came to its end; there is nothing to show")
    names = list(tuned.best)
    # trials that diverged are pruned too, but were not stopped for being bad
    stopped = [each.state is TrialState.PRUNED and not _diverged(each) for each in ended]
    whole = [each.value if each.state is TrialState.COMPLETE else math.nan for each in ended]
    columns = {
        "value": np.array(whole, float),
        "stopped": np.array(stopped, bool),
        "steps": np.array([each.user_attrs.get(STEPS, 0) for each in ended], int),
    }
    places = {name: ("trial", [float(each.params[name]) for each in ended]) for name in names}
    trials = xr.Dataset(
        {name: ("trial", column) for name, column in columns.items()},
        {**places, "trial": [each.number for each in ended]},
    )
    space = {name: _numeric(name, ended[0].distributions[name]) for name in names}
    # what it was chosen by, where Optuna was told
    metric = (tuned.study.metric_names or [tuned.metric])[0]
    higher = tuned.study.direction is optuna.study.StudyDirection.MAXIMIZE
    return Search(trials, space, metric, higher)


def ranges_of(search: Search, best: Mapping[str, float]) -> dict[str, Range]:
    """Finds between which values each hyperparameter is best.

    What was chosen is within: seeds that the surface does not know of found it good.
    """
    places, values = search.points()
    ends = np.array([(each.low, each.high) for each in search.space.values()], float).T
    ends = np.stack([search.scaled(name, ends[:, i]) for i, name in enumerate(search.space)], 1)
    found = {}
    # an interval that comes so near to the end of the space might go on beyond it
    room = 0.02 * np.ptp(ends, axis=0)
    lowest = where_lowest(places, values, *ends).T
    for i, (name, (low, high)) in enumerate(zip(search.space, lowest, strict=True)):
        edges = bool(low - ends[0, i] < room[i]), bool(ends[1, i] - high < room[i])
        low, high = np.exp([low, high]) if search.space[name].log else (low, high)
        found[name] = Range(min(float(low), best[name]), max(float(high), best[name]), *edges)
    return found


def ridge_of(search: Search) -> Valley | None:
    """Finds the best log λ of each log α, in a search over these two alone.

    Trials that were stopped early take no part: where they were stopped, they would bend the ridge.

    Returns None where the search is over others too or not in logarithms, or where the trials show
    no ridge.
    """
    if {*search.log} != {RATE, DECAY} or len(search.space) != 2:
        return None
    places, values = search.points()
    whole = ~search.trials["stopped"].values
    rate, decay = (places[whole, list(search.space).index(name)] for name in (RATE, DECAY))
    return valley_line(rate, decay, values[whole])


def importances_of(tuned: Tuned) -> dict[str, float] | None:
    """Returns the share of each hyperparameter in how the metric varies, the largest first.

    Returns None where too few trials differ, or where there is one hyperparameter alone. Of very
    many trials it looks at `some`.

    Source: fANOVA, Hutter et al. 2014, as Optuna computes it.
    """
    whole = tuned.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len(whole) < WHOLE or len(tuned.best) < 2 or np.ptp([t.value for t in whole]) == 0:
        return None
    study = tuned.study
    if len(whole) > MOST:
        with quiet():
            study = optuna.create_study(direction=study.direction)
        study.add_trials([whole[place] for place in some(len(whole))])
    return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))


def finals_of(tuned: Tuned) -> list[tuple[dict[str, float], Estimate, bool]]:
    """Returns the finalists, each with its mean over all fresh seeds, and which was chosen."""
    runs = tuned.finalists[tuned.metric].transpose("trial", "seed").values
    found = []
    for trial in range(len(runs)):
        at = {name: float(tuned.finalists[name].values[trial]) for name in tuned.best}
        found.append((at, mean(runs[trial]), at == dict(tuned.best)))
    return found


def _numeric(name: str, found: BaseDistribution) -> FloatDistribution | IntDistribution:
    if not isinstance(found, FloatDistribution | IntDistribution):
        raise ValueError(f"tuned searches {name!r} over {found}; the report shows numbers alone")
    return found


def _diverged(trial: FrozenTrial) -> bool:
    """Tells by its last report whether a pruned trial diverged."""
    reports = trial.intermediate_values
    return bool(reports) and not math.isfinite(reports[max(reports)])
