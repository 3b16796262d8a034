"""What a search ends with: against every subset in turn, order statistics, and the mean over searches."""

import itertools

import numpy as np
import pytest
import xarray as xr
from scipy.stats import ttest_1samp

from decoupled_wd.study.claims.best_of import Trials, best_of, by_search, expected, gain
from decoupled_wd.study.statistics import over_seeds

NAN = np.nan


def in_turn(validation, test, trials):
    """The mean over all subsets, of those that are best the mean, subsets that diverged left out."""
    ends = []
    for drawn in map(list, itertools.combinations(range(len(validation)), trials)):
        of = validation[drawn]
        if np.isfinite(of).any():
            ends.append(test[drawn][of == np.nanmin(of)])
    return np.mean([end.mean() for end in ends]) if ends else NAN


@pytest.mark.parametrize("trials", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("diverged", [0, 3, 7])
def test_it_is_the_mean_over_all_subsets(trials, diverged):
    chance = np.random.default_rng(trials)
    validation, test = chance.permutation(8).astype(float), chance.normal(40, 3, 8)
    lost = chance.permutation(8)[:diverged]
    validation[lost] = test[lost] = NAN
    assert best_of(validation, test, trials) == pytest.approx(in_turn(validation, test, trials))


def test_equal_validation_errors_share_their_test_errors():
    validation, test = np.array([2.0, 1.0, 1.0, 3.0]), np.array([9.0, 10.0, 30.0, 7.0])
    # of six pairs five have one of the two
    assert best_of(validation, test, 2) == pytest.approx((5 * 20 + 9) / 6)


def test_one_trial_is_the_mean_and_all_are_the_best():
    chance = np.random.default_rng(0)
    validation, test = chance.normal(size=(2, 50))
    assert best_of(validation, test, 1) == pytest.approx(test.mean())
    assert best_of(validation, test, 50) == test[validation.argmin()]


def test_where_all_diverged_nothing_is_known():
    assert np.isnan(best_of(np.full(4, NAN), np.full(4, NAN), 2))
    # a run that broke on the test set alone is not passed over
    assert np.isnan(best_of(np.arange(4.0), np.full(4, NAN), 2))


def test_the_least_of_uniform_numbers():
    """Of n it is 1 / (n + 1) on average."""
    draws = np.random.default_rng(0).uniform(size=(400, 96))
    found = np.mean([best_of(each, each, 16) for each in draws])
    assert found == pytest.approx(1 / 17, abs=4 * 1 / 17 / np.sqrt(400 * 6 * 2))


def made(searches, size=16, at=0.0, seed=0):
    chance = np.random.default_rng(seed)
    validation = 40 + at + 8 * chance.uniform(size=(searches, size)) ** 2
    return Trials(validation, validation + chance.normal(0, 0.5, validation.shape))


def test_it_is_as_right_as_the_mean_over_searches_and_far_less_noisy():
    """As its source says: no bias, and for uniform numbers half of the variance."""
    pooled, apart = [], []
    for seed in range(400):
        each = made(12, seed=seed)
        pooled.append(expected(each, 0.95).value)
        apart.append(each.test[np.arange(12), each.validation.argmin(1)].mean())
    error = np.hypot(np.std(pooled), np.std(apart)) / np.sqrt(400)
    assert abs(np.mean(pooled) - np.mean(apart)) < 3 * error
    assert np.var(pooled) < 0.7 * np.var(apart)


def test_of_searches_of_one_trial_it_is_students():
    ours, theirs = made(9, size=1), made(9, size=1, at=1.0, seed=1)
    found = gain(theirs, ours, 0.95)
    students = ttest_1samp((theirs.test - ours.test).ravel(), 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((students.low, students.high))
    assert expected(ours, 0.95).value == pytest.approx(ours.test.mean())


def test_the_interval_leaves_out_a_search_at_a_time():
    ours, theirs = made(5), made(5, at=1.0, seed=1)

    def by_hand(drawn):
        return best_of(theirs.validation[drawn].ravel(), theirs.test[drawn].ravel(), 16) - best_of(
            ours.validation[drawn].ravel(), ours.test[drawn].ravel(), 16
        )

    assert gain(theirs, ours, 0.9) == over_seeds(by_hand, 5, level=0.9)


def test_trials_belong_to_their_search_in_whichever_order_they_stand():
    seeds = np.array([2, 1, 2, 1])
    found = xr.Dataset(
        {
            "validation_error": ("trial", np.float32([1, 2, 3, NAN])),
            "test_error": ("trial", np.float32([5, 6, 7, NAN])),
        },
        {"seed": ("trial", seeds)},
    )
    tried = by_search(found)
    np.testing.assert_equal(tried.validation, [[2, NAN], [1, 3]])
    np.testing.assert_equal(tried.test, [[6, NAN], [5, 7]])
