"""What claims share of tuning: trials off a grid, the choice on validation data, a second look at the best."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd.study.statistics import Estimate, over_seeds
from decoupled_wd.study.tasks.task import Run, Task

FINALISTS = 3
NO_AXES = ("seed", "epoch", "trial")
Make = Callable[..., optax.GradientTransformation]


def errors(runs: xr.Dataset) -> NDArray[np.float64]:
    """Validation and test error, ``[2, cells, seeds]`` and epochs if it has them: a bootstrap needs no labels."""
    cells = runs.stack(cell=[dim for dim in runs.dims if dim not in ("seed", "epoch")])
    both = cells[["validation_error", "test_error"]].to_dataarray()
    return both.transpose("variable", "cell", "seed", ...).values.astype(float)


def tuned(errors: NDArray[np.float64], drawn: NDArray[np.intp]) -> float:
    """Mean test error in the cell whose mean validation error is lowest; diverged cells take no part.

    Examples:
      >>> validation, test = [[4.0], [3.0], [np.nan]], [[2.0], [7.0], [0.0]]
      >>> tuned(np.array([validation, test]), np.array([0]))
      7.0
    """
    validation, test = errors[:, :, drawn].mean(axis=2)
    return np.nan if np.isnan(validation).all() else float(test[np.nanargmin(validation)])


def error(runs: xr.Dataset) -> Estimate:
    """Tuned test error, in percent."""
    measured = errors(runs)
    return over_seeds(lambda drawn: tuned(measured, drawn), runs.sizes["seed"])


def difference(worse: xr.Dataset, better: xr.Dataset) -> Estimate:
    """Tuned test error of the one less that of the other, in points; a seed is the same start in both."""
    ours, theirs = errors(better), errors(worse)
    return over_seeds(lambda drawn: tuned(theirs, drawn) - tuned(ours, drawn), better.sizes["seed"])


def over_trials(
    run: Run,
    name: str,
    task: Task,
    make: Make,
    space: Mapping[str, NDArray[np.float64]],
    *,
    seeds: int,
) -> xr.Dataset:
    """What `run` measures at the end, over the points of a space in place of a grid: ``make(**point)``."""

    def make_trial(trial: Any) -> optax.GradientTransformation:
        return make(
            **{axis: jnp.asarray(points)[trial.astype(int)] for axis, points in space.items()}
        )

    trials = {"trial": np.arange(len(next(iter(space.values()))))}
    found = run(name, task, make_trial, trials, seeds=seeds).isel(epoch=-1)
    return found.assign_coords({axis: ("trial", points) for axis, points in space.items()})


def finalists(
    run: Run, name: str, task: Task, make: Make, found: xr.Dataset, *, seeds: int
) -> xr.Dataset:
    """The three points of lowest validation error in `found`, trained again with `seeds` other seeds.

    The best of many points by a few seeds is in part the luckiest: which of the three is taken, and what it
    is worth, is told by seeds that had no part in the first choice.
    """
    searched = found.sizes["seed"]
    mean = found["validation_error"].mean("seed", skipna=False)
    cells = mean.stack(cell=mean.dims)
    best = cells[np.argsort(cells.values, kind="stable")[:FINALISTS]]
    space = {str(axis): best[axis].values for axis in found.coords if axis not in NO_AXES}
    again = over_trials(run, f"finalists, {name}", task, make, space, seeds=searched + seeds)
    return again.isel(seed=slice(searched, None))
