"""The trials of a search: asked of Optuna, trained side by side, told back."""

import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from decoupled_wd.study.tune.slots import LANES, Job, Metrics, Slots, run_jobs
from decoupled_wd.study.tune.storages import WORKER, worker
from decoupled_wd.study.tune.types import Progress

STEPS = "steps"
"""The attribute of a trial that counts its training steps."""
HOPELESS = 8
"""Fewer trials that diverged end no search, however few quasi-random ones it begins with."""


class Budget(NamedTuple):
    """Holds what a search may take, the finalists included."""

    started: float
    """As `time.perf_counter` tells it."""
    seconds: float
    runs: float
    judging: int
    """Whole runs that the finalists take."""

    def affords(self, slots: Slots, rounds: int, under_way: int) -> bool:
        """Says whether one more trial fits, even if none is given up.

        Args:
          slots: tells how many rounds a run has, and how many are trained side by side.
          rounds: of single runs that are behind the search.
          under_way: rounds that the trials under way may still take.
        """
        whole = slots.rounds
        if rounds + under_way + (1 + self.judging) * whole > self.runs * whole:
            return False
        # before the first round nobody knows how long one takes
        if not rounds:
            return True
        elapsed = time.perf_counter() - self.started
        # a run takes as long as all beside it together, and the finalists come in waves
        beside = LANES * slots.size
        waves = 1 + math.ceil(self.judging / beside)
        return elapsed + elapsed / rounds * waves * beside * whole <= self.seconds

    def spent(self, slots: Slots, rounds: int) -> float:
        """Returns the share of the budget that is spent, from 0 to 1."""
        time_share = (time.perf_counter() - self.started) / self.seconds
        return min(1.0, max(time_share, rounds / (self.runs * slots.rounds)))


class Samplers(NamedTuple):
    """Chooses what is tried: first by `start`, for so many trials, then by `then`."""

    start: optuna.samplers.BaseSampler
    then: optuna.samplers.BaseSampler
    startup: int


def searched(
    study: optuna.Study,
    slots: Slots,
    ranges: Mapping[str, optuna.distributions.BaseDistribution],
    samplers: Samplers,
    budget: Budget,
    choose_by: str,
    progress: Callable[[Progress], None],
) -> int:
    """Trains trials until the budget is spent, and returns how many rounds they took.

    A trial whose value is not finite is pruned, so that samplers know where not to look.

    Raises:
      ValueError: the first trials diverged, and no process has one that did not.
    """
    known = len(study.get_trials(deepcopy=False))
    before, best = len(ended_in(study)), lowest(study)
    under_way: dict[int, tuple[optuna.Trial, int]] = {}
    ended = finite = rounds = 0

    def ask() -> Job | None:
        nonlocal known
        left = sum(slots.rounds - age for _, age in under_way.values())
        if not budget.affords(slots, rounds, left):
            return None
        study.sampler = samplers.start if known < samplers.startup else samplers.then
        known += 1
        trial = study.ask(dict(ranges))
        trial.set_user_attr(WORKER, worker())
        under_way[trial.number] = trial, 0
        # the first seed is that of the search
        return Job(trial.number, (*(float(trial.params[name]) for name in slots.names), 0.0))

    def hear(job: Job, metrics: Metrics) -> bool:
        nonlocal rounds, ended, finite, best
        rounds += 1
        trial, _ = under_way[job.label]
        under_way[job.label] = trial, job.rounds
        value = metrics[choose_by] if math.isfinite(metrics[choose_by]) else math.nan
        whole = job.rounds == slots.rounds
        trial.report(value, job.rounds)
        if not (whole or math.isnan(value) or trial.should_prune()):
            return True
        trial.set_user_attr(STEPS, job.rounds * slots.steps)
        if whole and not math.isnan(value):
            study.tell(trial, value)
            best = lowest(study)
        else:
            study.tell(trial, state=TrialState.PRUNED)
        del under_way[job.label]
        ended, finite = ended + 1, finite + (not math.isnan(value))
        if not finite and ended >= max(samplers.startup, HOPELESS) and not _ranked(study):
            raise _diverged(ended)
        progress(Progress(before + ended, best, budget.spent(slots, rounds)))
        return False

    try:
        run_jobs(slots, ask, hear)
    finally:
        # a trial that nobody trains any more must not look as if somebody did
        for trial, _ in under_way.values():
            study.tell(trial, state=TrialState.FAIL)
    return rounds


def best_trials(study: optuna.Study, count: int) -> list[FrozenTrial]:
    """Returns the best trials: whole runs by their value, then those that came furthest.

    Raises:
      ValueError: all of them diverged.
    """
    ranked = _ranked(study)
    if not ranked:
        raise _diverged(len(ended_in(study)))
    return ranked[:count]


def ended_in(study: optuna.Study) -> list[FrozenTrial]:
    """Returns the trials that came to an end, also those of earlier calls and other processes.

    Those that somebody still trains, or that died with who trained them, are none.
    """
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    return study.get_trials(deepcopy=False, states=states)


def _ranked(study: optuna.Study) -> list[FrozenTrial]:
    """Returns the trials that did not diverge, those that came furthest first, then the lowest."""
    finite = [trial for trial in ended_in(study) if math.isfinite(_last(trial))]
    return sorted(finite, key=lambda trial: (-(trial.last_step or 0), _last(trial), trial.number))


def _last(trial: FrozenTrial) -> float:
    value = trial.intermediate_values.get(trial.last_step or 0, math.inf)
    return math.inf if math.isnan(value) else value


def lowest(study: optuna.Study) -> float:
    """Returns the lowest value of a whole run, or NaN before there is one."""
    whole = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return min((trial.value for trial in whole if trial.value is not None), default=math.nan)


def _diverged(trials: int) -> ValueError:
    return ValueError(
        f"all {trials} trials diverged: their metric or parameters became NaN or infinite; see "
        "that the loss of one batch is finite, then lower the upper end of the ranges"
    )
