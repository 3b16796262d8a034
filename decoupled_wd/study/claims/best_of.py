"""What a search of some trials ends with, from all the trials there are."""

from functools import partial
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd.study.statistics import Estimate, over_seeds


class Trials(NamedTuple):
    """Holds errors of independent searches, ``[searches, trials]``, NaN where a run diverged."""

    validation: NDArray[np.float64]
    test: NDArray[np.float64]


def by_search(found: xr.Dataset) -> Trials:
    """Returns the errors of trials that have a seed each, the number of their search."""
    searches = np.unique(found["seed"]).size
    # the trials of a search stand together
    order = np.argsort(found["seed"].values, kind="stable")
    return Trials(
        *(
            found[name].values.astype(float)[order].reshape(searches, -1)
            for name in ("validation_error", "test_error")
        )
    )


def best_of(validation: NDArray[np.float64], test: NDArray[np.float64], trials: int) -> float:
    """Expects the test error of the best of so many trials, in percent.

    Chosen is by validation error, and the mean is over every way to draw `trials` of the n runs: of
    the r-th best, from 0, a share of ``C(n − 1 − r, trials − 1) / C(n, trials)`` is the best. Runs
    with equal validation errors share theirs. Of n runs that is far less noisy than the mean over
    ``n / trials`` searches, and no more biased.

    Args:
      validation: ``[n]``, NaN where a run diverged; draws in which all did are left out.
      test: ``[n]``.
      trials: at most n.

    Examples:
      >>> validation, test = np.array([3.0, 1.0, 2.0]), np.array([30.0, 10.0, 20.0])
      >>> round(best_of(validation, test, 2), 3)  # the best of 2 is the best of 3 in 2 cases of 3
      13.333

    Source: Tang et al., arXiv 2004.13705, the unbiased form of Dodge et al., 1909.03004.
    """
    n = validation.size
    worst = np.arange(1, n)
    # shares from the best to the worst run, each from the one before
    left = np.cumprod(np.r_[1.0, np.maximum(n - trials - worst + 1, 0) / (n - worst)])
    shares = trials / n * left
    # NaN is what sorts last, and each of them is a value of its own
    values, place = np.unique(validation, return_inverse=True)
    equal = np.bincount(place, test) / np.bincount(place)
    ranked = np.sort(place)
    known = np.isfinite(values[ranked])
    return float(np.average(equal[ranked][known], weights=shares[known])) if known.any() else np.nan


def of_searches(tried: Trials, drawn: NDArray[np.intp]) -> float:
    """Expects what a search of as many trials as each has ends with, from all of those drawn."""
    validation, test = (each[drawn].ravel() for each in tried)
    return best_of(validation, test, tried.test.shape[1])


def expected(tried: Trials, level: float) -> Estimate:
    """Estimates what a search of as many trials as each of these ends with, in percent."""
    return over_seeds(partial(of_searches, tried), len(tried.test), level=level)


def gain(worse: Trials, better: Trials, level: float) -> Estimate:
    """Estimates by how many points less the second ends with, searches compared in pairs."""
    return over_seeds(
        lambda drawn: of_searches(worse, drawn) - of_searches(better, drawn),
        len(worse.test),
        level=level,
    )
