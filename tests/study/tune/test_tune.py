"""A search against sweeps of the same points, its budget, its choice, and what it shares."""

import itertools
import math
import time
from contextlib import nullcontext
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optuna
import pytest
import xarray as xr
from optuna.trial import TrialState

import decoupled_wd as dwd
from decoupled_wd.study import Points, sweep
from decoupled_wd.study.claims.optimizers import CONTENDERS
from decoupled_wd.study.report.best import at_an_end
from decoupled_wd.study.statistics import FRESH, Estimate
from decoupled_wd.study.tasks.task import task
from decoupled_wd.study.tune import search as search_module
from decoupled_wd.study.tune import trials as trials_module
from decoupled_wd.study.tune.finals import judged
from decoupled_wd.study.tune.modules import of_task
from decoupled_wd.study.tune.search import tune
from decoupled_wd.study.tune.slots import Slots
from decoupled_wd.study.tune.trials import Budget
from decoupled_wd.study.tune.types import Tuned

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5, 0.0], np.float32) + RNG.normal(size=64).astype(np.float32)


def adamw(learning_rate, weight_decay):
    return dwd.adamw(learning_rate, weight_decay, peak_learning_rate=learning_rate)


def loss(w, x, y, key):
    return jnp.mean((x @ w - y + 0.1 * jax.random.normal(key)) ** 2)


def errors(w, train, test):
    x, y = test
    return {
        "validation_error": jnp.mean((x[:16] @ w - y[:16]) ** 2),
        "test_error": jnp.mean((x[16:] @ w - y[16:]) ** 2),
    }


LINE = {
    "init": lambda key: jax.random.normal(key, (4,)),
    "loss": loss,
    "metric": errors,
    "train": (X[:32], Y[:32]),
    "test": (X[32:], Y[32:]),
    "epochs": 8,
    "batch_size": 8,
}
SPACE = {"learning_rate": (1e-3, 1.0), "weight_decay": (1e-5, 1e-1)}
NEAR_BOTH = ["rate", "decay"]
SMALL = {"finalists": 2, "seeds": 4, "startup": 8}


def search(make=adamw, space=SPACE, **options):
    return tune(make, space, **(LINE | SMALL | {"runs": 40} | options))


@pytest.fixture(scope="module")
def found():
    seen = []
    return search(progress=seen.append), seen


def points_of(trials):
    return Points({name: [trial.params[name] for trial in trials] for name in SPACE})


def test_every_value_of_every_trial_is_that_of_a_sweep_of_its_point(found):
    """Trials took the places of others, and went on from rung to rung."""
    trials = found[0].study.trials
    curves = sweep(adamw, points_of(trials), evaluate_every=1, seeds=1, **LINE)
    ages = [trial.last_step for trial in trials]
    assert {4, 8} == set(ages)
    for place, trial in enumerate(trials):
        expected = curves["validation_error"].isel(trial=place, seed=0).values[: ages[place]]
        told = [trial.intermediate_values[epoch] for epoch in range(1, ages[place] + 1)]
        np.testing.assert_array_equal(np.array(told, np.float32), expected)
        assert trial.user_attrs["steps"] == 4 * ages[place]
        assert trial.state == (TrialState.COMPLETE if ages[place] == 8 else TrialState.PRUNED)


def test_finalists_are_the_best_whole_runs_with_fresh_seeds(found):
    tuned = found[0]
    whole = [trial for trial in tuned.study.trials if trial.state == TrialState.COMPLETE]
    best = sorted(whole, key=lambda trial: trial.value)[:2]
    assert tuned.finalists["trial"].values.tolist() == [trial.number for trial in best]
    again = sweep(adamw, points_of(best), seeds=range(FRESH, FRESH + 4), **LINE).isel(epoch=0)
    for name in ("validation_error", "test_error"):
        np.testing.assert_array_equal(tuned.finalists[name].values, again[name].values)
    for name in SPACE:
        assert tuned.finalists[name].values.tolist() == [trial.params[name] for trial in best]
    place = int(again["validation_error"].values[:, :2].mean(axis=1).argmin())
    assert dict(tuned.best) == {name: best[place].params[name] for name in SPACE}
    assert tuned.metric == "test_error"
    assert tuned.estimate.value == pytest.approx(again["test_error"].values[place, 2:].mean())


def test_the_budget_is_spent_and_not_exceeded(found):
    tuned, seen = found
    trained = sum(trial.user_attrs["steps"] for trial in tuned.study.trials)
    whole = 8 * 4
    assert tuned.steps == trained + 2 * 4 * whole
    assert 39 * whole < tuned.steps <= 40 * whole
    assert [each.trials for each in seen] == sorted(each.trials for each in seen)
    spent = [each.spent for each in seen]
    assert spent == sorted(spent)
    assert spent[-1] == pytest.approx(tuned.steps / (40 * whole))
    assert seen[-1].best == tuned.study.best_value


def test_all_batches_and_rungs_are_one_program():
    """The loss is traced as often for a long search as for a short one."""
    traced = []
    for runs in (9, 30):
        count = itertools.count()

        def counted(w, x, y, key, count=count):
            next(count)
            return loss(w, x, y, key)

        search(loss=counted, runs=runs)
        traced.append(next(count))
    assert traced[0] == traced[1] < 10


@pytest.mark.parametrize(
    ("elapsed", "rounds", "under_way", "fits"),
    [
        # 10 whole runs of 8 rounds, of which the finalists take 3
        (0, 0, 0, True),
        (0, 6 * 8, 0, True),
        (0, 6 * 8 + 1, 0, False),
        (0, 3 * 8, 3 * 8, True),
        (0, 3 * 8, 3 * 8 + 1, False),
        # 4 runs side by side take 4·8 rounds of the clock, and the finalists as long once more
        (100, 8, 0, True),
        (100, 10, 0, True),
        (112, 8, 0, False),
    ],
)
def test_a_trial_is_begun_if_it_and_the_finalists_fit(elapsed, rounds, under_way, fits):
    slots = Slots(None, None, size=2, steps=1, rounds=8, names=(), metrics=(), fingerprint="")
    budget = Budget(time.perf_counter() - elapsed, 1000, 10, judging=3)
    assert budget.affords(slots, rounds, under_way) == fits


@pytest.mark.slow
def test_a_time_is_kept():
    tuned = search(runs=math.inf, seconds=6)
    # the first trials and the finalists are trained whatever they take
    assert len(tuned.study.trials) >= 8
    assert tuned.finalists.sizes == {"trial": 2, "seed": 4}


def test_the_luck_of_a_choice_is_not_in_its_estimate():
    """Of finalists that are all worth 0 the chosen one is worth 0 on average."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(2000):
        noise = xr.Dataset({"error": (("trial", "seed"), rng.normal(size=(4, 8)))})
        place, estimate = judged(noise, "error", "error")
        values.append((estimate.value, float(noise["error"][place].mean())))
    held, all_seeds = np.mean(values, axis=0)
    # a mean of 4 of variance 1, and 2000 of them: a standard error of 0.011
    assert abs(held) < 0.045
    assert all_seeds < -0.15


def test_trials_that_diverge_are_pruned_and_the_others_found():
    tuned = search(lambda rate: optax.sgd(rate), {"rate": (1e-3, 1e3)}, runs=30)
    states = {trial.state for trial in tuned.study.trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    diverged = [t for t in tuned.study.trials if math.isnan(t.intermediate_values[t.last_step])]
    assert diverged
    assert min(trial.params["rate"] for trial in diverged) > tuned.best["rate"]
    assert all(trial.state == TrialState.PRUNED for trial in diverged)


def test_parameters_that_diverge_count_whatever_the_metric_makes_of_them():
    with pytest.raises(ValueError, match="all 8 trials diverged"):
        search(loss=lambda w, x, y, key: jnp.nan * w.sum(), metric=lambda *_: jnp.float32(1))


@pytest.mark.parametrize("known", [[], [2.0]])
@pytest.mark.parametrize("diverged", [1, 8])
def test_a_search_is_given_up_where_nothing_else_was_found(monkeypatch, known, diverged):
    """Neither by one trial, without quasi-random ones, nor where others have found something."""
    study = optuna.create_study()
    for value in known:
        study.add_trial(optuna.create_trial(value=value, intermediate_values={1: value}))

    def run_jobs(slots, ask, hear):
        jobs = [replace(ask(), rounds=1) for _ in range(diverged + 1)]
        assert not any(hear(job, {"error": math.nan}) for job in jobs[:-1])
        hear(jobs[-1], {"error": 3.0})

    monkeypatch.setattr(trials_module, "run_jobs", run_jobs)
    with nullcontext() if known or diverged < 8 else pytest.raises(ValueError, match="all 8 tr"):
        trials_module.searched(
            study,
            Slots(None, None, 2, 1, 1, ("rate",), ("error",), ""),
            {"rate": optuna.distributions.FloatDistribution(0, 1)},
            trials_module.Samplers(study.sampler, study.sampler, 0),
            Budget(0.0, math.inf, 100, 0),
            "error",
            lambda _: None,
        )


@pytest.mark.parametrize(
    "sampler",
    [optuna.samplers.CmaEsSampler(seed=0), optuna.samplers.RandomSampler(seed=0)],
    ids=lambda sampler: type(sampler).__name__,
)
def test_any_sampler_and_pruner_of_optuna_will_do(sampler):
    pruner = optuna.pruners.NopPruner()
    tuned = search(sampler=sampler, pruner=pruner, runs=24, startup=2)
    assert {trial.state for trial in tuned.study.trials} == {TrialState.COMPLETE}
    assert len(tuned.study.trials) == 24 - 2 * 4
    assert tuned.study.sampler is sampler


def test_a_seed_gives_the_same_search():
    first, again, other = (search(seed=seed, runs=20) for seed in (0, 0, 1))
    points = [[trial.params for trial in tuned.study.trials] for tuned in (first, again, other)]
    assert points[0] == points[1] != points[2]


@pytest.mark.parametrize("version", ["installed", "4"])
def test_the_first_points_are_quasi_random_before_any_trial_has_ended(monkeypatch, version):
    """Also in two processes, which share one sequence."""
    if version == "4":
        method = "infer_relative_search_space"
        monkeypatch.setattr(optuna.samplers.QMCSampler, method, lambda *_: {})
    ranges = {name: optuna.distributions.FloatDistribution(0, 1) for name in "ab"}
    study = optuna.create_study()
    study.ask(ranges)
    points = []
    for _ in range(2):
        study.sampler = search_module._samplers(ranges, 0, True, 16, None).start
        points += [study.ask(ranges).params for _ in range(8)]
    for name in ranges:
        # one in each sixteenth
        assert sorted(int(16 * point[name]) for point in points) == [*range(16)]


def test_whole_numbers_are_searched_as_such():
    space = {"power": optuna.distributions.IntDistribution(0, 3)}
    tuned = search(lambda power: optax.sgd(0.1**power), space, runs=20)
    assert {trial.params["power"] for trial in tuned.study.trials} <= {0, 1, 2, 3}
    assert tuned.best["power"] in (1, 2)


def test_one_metric_without_a_name_is_chosen_and_judged_by():
    tuned = search(metric=lambda w, train, test: errors(w, train, test)["test_error"], runs=12)
    assert tuned.metric == "metric"
    assert list(tuned.finalists) == ["metric"]


@pytest.mark.parametrize(
    ("rate", "decay", "named"),
    [(1e-2, 0.05, []), (0.95, 0.05, ["rate"]), (1e-2, 0.099, ["decay"]), (1.1e-3, 0, NEAR_BOTH)],
)
def test_a_choice_at_the_end_of_its_range_is_named(rate, decay, named):
    ranges = {
        "rate": optuna.distributions.FloatDistribution(1e-3, 1, log=True),
        "decay": optuna.distributions.FloatDistribution(0, 0.1),
    }
    study, best = optuna.create_study(), {"rate": rate, "decay": decay}
    study.add_trial(optuna.create_trial(params=best, distributions=ranges, value=1.0))
    estimate, finalists = Estimate(1.0, 0.5, 1.5), xr.Dataset(coords={"trial": [0]})
    assert at_an_end(Tuned(study, "error", best, estimate, finalists, 1.0, 1)) == named


def test_finalists_are_those_that_came_furthest_where_whole_runs_are_few():
    study = optuna.create_study()
    pruned, whole = TrialState.PRUNED, TrialState.COMPLETE
    for state, values in (
        (pruned, [1.0]),
        (pruned, [5.0, 4.0]),
        (whole, [9.0, 8.0, 7.0]),
        (pruned, [3.0, math.nan]),
        (pruned, [5.0, 3.0]),
    ):
        curve = dict(enumerate(values, 1))
        value = values[-1] if state == whole else None
        study.add_trial(optuna.create_trial(state=state, value=value, intermediate_values=curve))
    numbers = [trial.number for trial in trials_module.best_trials(study, 9)]
    assert numbers == [2, 4, 1, 0]


def test_ctrl_c_leaves_no_trial_that_looks_as_if_it_were_trained(monkeypatch):
    study = optuna.create_study()
    monkeypatch.setattr(trials_module, "run_jobs", stopped)
    with pytest.raises(KeyboardInterrupt):
        trials_module.searched(
            study,
            Slots(None, None, 2, 1, 8, ("rate",), ("error",), ""),
            {"rate": optuna.distributions.FloatDistribution(0, 1)},
            trials_module.Samplers(study.sampler, study.sampler, 4),
            Budget(0.0, math.inf, math.inf, 0),
            "error",
            lambda _: None,
        )
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]


def stopped(slots, ask, hear):
    ask()
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", CONTENDERS)
def test_the_ranges_for_data_lie_around_the_middle_of_the_grids(name):
    space = of_task(task("mnist1d", "mlp"), name)["space"]
    low, high = space["learning_rate"]
    assert np.sqrt(low * high) == pytest.approx(CONTENDERS[name].learning_rate)
    # a step cannot take more than the weight
    assert space["weight_decay"] == (CONTENDERS[name].weight_decay / 32, 0.5)
