"""The best hyperparameters within a budget: Optuna chooses, and one compiled program trains."""

import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import optax
import optuna
from optuna.distributions import BaseDistribution

from decoupled_wd._base.types import PyTree
from decoupled_wd.study.grid import checks as grid_checks
from decoupled_wd.study.grid.interrupts import deferred
from decoupled_wd.study.grid.store import digest
from decoupled_wd.study.grid.types import Init, Loss, Metric
from decoupled_wd.study.statistics import FRESH
from decoupled_wd.study.tune import checks
from decoupled_wd.study.tune.finals import finals, judged
from decoupled_wd.study.tune.slots import slots_of
from decoupled_wd.study.tune.storages import quiet, storage_of, study_of
from decoupled_wd.study.tune.trials import (
    Budget,
    Samplers,
    best_trials,
    ended_in,
    lowest,
    searched,
)
from decoupled_wd.study.tune.types import Progress, Tuned

RUNG, KEPT = 0.4, 4
"""After this share of a run, one in so many trials goes on.

A tenth into a cosine the best settings are not ahead: searches that compare there end at worse ones
(``tests/benchmarks/tune.py rungs``).
"""


def tune(
    make_optimizer: Callable[..., optax.GradientTransformation],
    space: Mapping[str, checks.Range],
    *,
    init: Init,
    loss: Loss,
    metric: Metric,
    train: tuple[PyTree, ...],
    test: PyTree = (),
    epochs: int,
    batch_size: int,
    seconds: float = math.inf,
    runs: float = math.inf,
    choose_by: str | None = None,
    judge_by: str | None = None,
    finalists: int = 4,
    seeds: int = 8,
    seed: int = 0,
    evaluate_every: int | None = None,
    sampler: optuna.samplers.BaseSampler | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
    startup: int = 16,
    memory: int | None = None,
    storage: str | Path | optuna.storages.BaseStorage | None = None,
    study_name: str = "tune",
    progress: Callable[[Progress], None] = lambda _: None,
) -> Tuned:
    """Searches for the hyperparameters of the lowest metric within a budget.

    Which are tried, and which are given up, is Optuna's: by default quasi-random points first, then
    its TPE, with asynchronous successive halving. A batch of trials is one compiled program over
    all devices.

    A trial is evaluated every `evaluate_every` epochs, and its pruner is asked. If it is given up,
    the next trial takes its place beside those that go on. The schedule of the optimiser is that of
    the whole run, so what is compared early is a part of what will be run.

    The best whole runs are finalists: each is trained again with `seeds` fresh seeds. By the first
    half of them one is chosen, and by the others the choice is judged, so that the luck of the
    seeds by which it was chosen is in neither the estimate nor its interval. The luck of the
    examples is, unless `judge_by` is measured on others than `choose_by`.

    Args:
      make_optimizer: called with one traced scalar per hyperparameter, by name; returns an
        optimiser.
      space: the lowest and the highest value of each hyperparameter, searched in logarithms where
        both are above 0; or a FloatDistribution or IntDistribution of Optuna.
      init: ``init(key) -> params``, as `sweep` takes it; so are all others up to `batch_size`.
      loss: ``loss(params, *batch, key) -> scalar``.
      metric: ``metric(params, train, test) -> scalar``, or a dict of named scalars; low is good.
      train: arrays with the same first axis.
      test: any tree of arrays, for `metric` alone.
      epochs: passes over the training data in a whole run.
      batch_size: examples in a batch.
      seconds: how long this call may take, compiling included. The first trials and the finalists
        are trained whatever they take.
      runs: how many whole runs this call may train, in training steps, the finalists included.
      choose_by: the metric to minimise; by default ``validation_error``, or the only one.
      judge_by: the metric to report of the choice; by default ``test_error``, or `choose_by`.
      finalists: how many whole runs are trained again.
      seeds: how many fresh seeds each finalist is trained with, at least 4.
      seed: of all trials before the finalists, and of the samplers.
      evaluate_every: epochs between two evaluations, a divisor of `epochs`; by default about a
        tenth of them.
      sampler: chooses what is tried after the quasi-random points.
      pruner: says which trials are given up.
      startup: how many quasi-random points come first.
      memory: bytes that the runs on one device may take together, as in `sweep`.
      storage: where the trials are kept: in memory by default, in a journal file, or in the
        database of a URL. The same call goes on with the trials that are there, and several
        processes and hosts may work on one study. What a killed one loses is its runs under way.
      study_name: of this search in the storage.
      progress: called after each trial.

    Returns:
      What was found, and what it is worth.

    Raises:
      ValueError: a range is empty or inverted; a budget of nothing, or less than the finalists
        take; a storage that cannot be reached or holds another search; every trial diverged; what
        `sweep` refuses.
      TypeError: what `sweep` refuses.

    Examples:
      >>> import jax
      >>> found = tune(
      ...     lambda rate: optax.sgd(rate), {"rate": (1e-3, 1.0)},
      ...     init=lambda key: jax.random.normal(key), loss=lambda w, x, key: w**2 / 2,
      ...     metric=lambda w, *_: w**2,
      ...     train=(np.zeros((4, 1)),), epochs=2, batch_size=2, runs=60,
      ... )  # fmt: skip
      >>> found.best["rate"] > 0.5
      True

    Source: Optuna, arXiv 1907.10902; asynchronous successive halving, arXiv 1810.05934.
    """
    started = time.perf_counter()
    every = epochs if evaluate_every is None else evaluate_every
    counts = grid_checks.counts(epochs=epochs, batch_size=batch_size, evaluate_every=every)
    if evaluate_every is None:
        counts["evaluate_every"] = checks.evaluate_every(counts["epochs"])
    grid_checks.functions(
        make_optimizer=make_optimizer, init=init, loss=loss, metric=metric, progress=progress
    )
    grid_checks.check_memory(memory)
    ranges = checks.distributions(space, make_optimizer)
    checks.check_judging(finalists=finalists, seeds=seeds, seed=seed, startup=startup)
    judging = finalists * seeds
    limits = checks.budget(seconds=seconds, runs=runs, judging=judging)
    data = grid_checks.arrays(train, test, counts["batch_size"])
    with quiet():
        opened = storage_of(storage)
    with deferred():
        slots = slots_of(
            make_optimizer,
            tuple(ranges),
            init=init,
            loss=loss,
            metric=metric,
            data=data,
            counts=counts,
            # at first that of all trials, then those of the finalists
            seeds=np.array([seed, *range(FRESH, FRESH + seeds)]),
            memory=memory,
        )
    choose = checks.metric_name("choose_by", choose_by, ["validation_error"], slots.metrics)
    judge = checks.metric_name("judge_by", judge_by, ["test_error", choose], slots.metrics)
    with quiet():
        study = study_of(opened, study_name, digest(slots.fingerprint, str(ranges)), choose)
        rung = math.ceil(RUNG * slots.rounds)
        # a second rung would be at four times the steps, behind the end: one comparison is all
        study.pruner = pruner or optuna.pruners.SuccessiveHalvingPruner(rung, KEPT)
        samplers = _samplers(ranges, seed, storage is not None, startup, sampler)
        budget = Budget(started, *limits, judging)
        rounds = searched(study, slots, ranges, samplers, budget, choose, progress)
        trials = best_trials(study, finalists)
        ended, best = len(ended_in(study)), lowest(study)

        def tick(judged: int) -> None:
            progress(Progress(ended, best, budget.spent(slots, rounds + judged)))

        found = finals(slots, trials, seeds, tick)
    place, estimate = judged(found, choose, judge)
    choice = {name: float(found[name][place]) for name in ranges}
    steps = (rounds + found[judge].size * slots.rounds) * slots.steps
    return Tuned(study, judge, choice, estimate, found, time.perf_counter() - started, steps)


class _Sequence(optuna.samplers.QMCSampler):
    """Quasi-random points, whether or not a trial has ended.

    Before version 5 Optuna draws at random until one has, and here many are asked before.
    """

    ranges: Mapping[str, BaseDistribution] = MappingProxyType({})

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        found = super().infer_relative_search_space(study, trial)
        # the very first is drawn at random in every version
        return dict(self.ranges) if trial.number and not found else found


def _samplers(
    ranges: Mapping[str, BaseDistribution],
    seed: int,
    shared: bool,
    startup: int,
    then: optuna.samplers.BaseSampler | None,
) -> Samplers:
    with warnings.catch_warnings():
        # Optuna calls several of these arguments experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # all processes of a study share one sequence
        start = _Sequence(scramble=True, seed=seed, warn_independent_sampling=False)
        start.ranges = ranges
        # while trials are under way, others keep away from them
        usual = optuna.samplers.TPESampler(
            n_startup_trials=startup,
            multivariate=True,
            constant_liar=True,
            # processes that share a study draw different trials
            seed=seed + os.getpid() if shared else seed,
        )
    return Samplers(start, then or usual, startup)
