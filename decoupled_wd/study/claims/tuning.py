"""What claims share of tuning: grids, searches, what their choices are worth, and looks."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import qmc  # type: ignore[import-untyped]

from decoupled_wd import PAPER, Coupling
from decoupled_wd.study.claims.optimizers import contender, octaves
from decoupled_wd.study.grid.types import Points
from decoupled_wd.study.statistics import FRESH, Estimate, mean
from decoupled_wd.study.tasks.task import MakeOptimizer, Run, Task, Training

Box: TypeAlias = Mapping[str, tuple[float, float]]
"""The range of each hyperparameter of a search."""
PILOTS = 2
"""Seeds of a pilot over a whole grid, which shows where its ridge is."""


def grid_of(
    task: Task, name: str, schedule: str, *, grid: int, coupling: Coupling = PAPER
) -> Training:
    """Returns the training of a contender over its grid, with the seeds of a pilot.

    Whoever asks for the same one gets the same results: claims (ii) and (iii) share their grids
    this way.
    """
    make_optimizer = contender(name, schedule, task.steps, coupling)
    space = octaves(name, grid, coupling, task.decay)
    return Training(task, make_optimizer, space, seeds=range(PILOTS))


def halton(trials: int, seed: int, box: Box) -> dict[str, NDArray[np.float64]]:
    """Spreads points evenly over a box, in the logarithms of its axes.

    They are Halton's sequence, scrambled by the seed.

    Examples:
      >>> points = halton(4, 0, {"learning_rate": (1.0, 16.0)})["learning_rate"]
      >>> np.histogram(points, [1, 4, 16])[0].tolist()  # as many in both halves
      [2, 2]

    Source: Halton 1960; for the tuning of optimisers Choi et al., arXiv 1910.05446, section 4.
    """
    low, high = np.log(list(box.values())).T
    points = qmc.Halton(len(box), seed=seed).random(trials)
    return dict(zip(box, np.exp(low + points * (high - low)).T, strict=True))


def tuned(
    run: Run,
    training: Training,
    found: xr.Dataset,
    looks: Sequence[int],
    look: int,
    *,
    seeds_each: int = 1,
    fresh_seeds: int = 2,
) -> NDArray[np.float64]:
    """Returns what each search ends with: the test error of its choice, in percent.

    A search is all trials with one seed, or with some, and its choice the trial of the lowest mean
    validation error.

    What the choice is worth is told by `fresh_seeds` runs with seeds of its own. So the searches
    are independent of each other, and an interval over them has the luck of the search in it.

    Args:
      run: trains and keeps.
      training: one of those that trained the searches.
      found: what they measured at the end, over trial and seed or over trials that have a seed.
      looks: how many seeds there are at each look, for all searches together.
      look: the number of this look, from 0.
      seeds_each: how many seeds each search has.
      fresh_seeds: how many judge each choice.

    Returns:
      ``[searches]``, with NaN for a search in which every trial diverged.
    """
    choices = chosen(found, seeds_each)
    names = [name for name in training.space if name != "seed"]

    def worth(choices: xr.Dataset) -> NDArray[np.float64]:
        numbers = choices["seed"].values
        # the fresh seeds of a search follow from its own, and no other search has them
        seeds = FRESH + numbers[:, None] * fresh_seeds + np.arange(fresh_seeds)
        points = {name: np.repeat(choices[name].values, fresh_seeds) for name in names}
        again = replace(
            training,
            space=Points({**points, "seed": seeds.ravel()}),
            # the points have their seeds; these name the part in the store
            seeds=range(numbers[0], numbers[-1] + seeds_each),
            experiment=("chosen", *training.experiment),
        )
        errors = at_the_end(run, again)["test_error"].values.astype(float)
        return np.asarray(errors.reshape(-1, fresh_seeds).mean(axis=1))

    # those that a look adds are a training of their own
    ends = [0, *(seeds // seeds_each for seeds in looks[: look + 1])]
    parts = [
        worth(choices.isel(seed=slice(first, last))) for first, last in itertools.pairwise(ends)
    ]
    # where every trial diverged, some trial was chosen all the same
    diverged = np.isnan(choices["validation_error"].values)
    return np.where(diverged, np.nan, np.concatenate(parts))


def chosen(found: xr.Dataset, seeds_each: int = 1) -> xr.Dataset:
    """Returns the best trial of each search, over ``seed``, with its hyperparameters.

    Of a search with several seeds the first is its number; trials with a seed each are one search
    a seed.
    """
    if "seed" not in found.dims:
        numbers = np.unique(found["seed"])
        # by their labels trials of two searches are not alike, and by their places they are
        listed = found.drop_vars(["seed", "trial"])
        searches = [listed.isel(trial=found["seed"].values == n) for n in numbers]
        mean = xr.concat(searches, xr.DataArray(numbers, dims="seed", name="seed"))
    else:
        numbers = found["seed"].values[::seeds_each]
        apart = found.drop_vars("seed").coarsen(seed=seeds_each).construct(seed=("seed", "each"))
        # a trial that diverges with one of its seeds is no good choice
        mean = apart.mean("each", skipna=False).assign_coords(seed=numbers)
    # NumPy's argmin takes NaN for the lowest
    cost = mean["validation_error"].transpose("trial", "seed").fillna(np.inf)
    return mean.isel(trial=xr.DataArray(cost.values.argmin(axis=0), dims="seed"))


def difference(worse: NDArray[np.float64], better: NDArray[np.float64], level: float) -> Estimate:
    """Estimates by how many points the tuned test errors differ, both ``[searches]``.

    A search with the same number has the same start in both, so both are compared in pairs.
    """
    return mean(worse - better, level)


def at_the_end(run: Run, training: Training) -> xr.Dataset:
    """Trains, and returns what was measured last."""
    return run(training).isel(epoch=-1, drop=True)


def grown(
    run: Run,
    training_of: Callable[[range], Training],
    looks: Sequence[int],
    look: int,
    *,
    first: int = 1,
) -> xr.Dataset:
    """Trains all seeds up to a look, and returns what was measured.

    The seeds that a look adds are a training of their own: nothing is trained twice.

    Args:
      run: trains and keeps.
      training_of: ``training_of(seeds) -> training`` with these seeds.
      looks: how many seeds there are at each look.
      look: the number of this look, from 0.
      first: the first seed; those before it are of pilots, which take no part.
    """
    ends = [first, *(first + seeds for seeds in looks[: look + 1])]
    parts = [run(training_of(range(low, high))) for low, high in itertools.pairwise(ends)]
    # points that have seeds of their own are one after the other, and others have a seed each
    dim = "seed" if "seed" in parts[0].dims else "trial"
    return parts[0] if len(parts) == 1 else xr.concat(parts, dim, data_vars="minimal")


def searched(
    run: Run, training_of: Callable[[range], Training], looks: Sequence[int], look: int
) -> tuple[xr.Dataset, NDArray[np.float64]]:
    """Trains all searches up to a look, and returns what they found and are worth.

    The arguments are those of `grown`, for searches as `search_of` returns them.
    """
    found = grown(run, training_of, looks, look).isel(epoch=-1, drop=True)
    # the first search stands for any: its points and seeds are replaced
    return found, tuned(run, training_of(range(1, 2)), found, looks, look)


def search_of(
    task: Task,
    make_optimizer: MakeOptimizer,
    box: Box,
    *,
    trials: int,
    searches: range,
    experiment: tuple[str, ...],
) -> Training:
    """Returns the training of independent random searches of an optimiser.

    Each search has `trials` points of its own in the box, spread evenly by a scrambled Halton
    sequence, and a seed of its own: its number.
    """
    drawn = [halton(trials, search, box) for search in searches]
    points = {name: np.concatenate([each[name] for each in drawn]) for name in box}
    listed = Points({**points, "seed": np.repeat(searches, trials)})
    return Training(task, make_optimizer, listed, seeds=searches, experiment=experiment)
