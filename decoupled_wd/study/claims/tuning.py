"""What claims share of tuning: grids, searches, and a second look at the best."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import qmc  # type: ignore[import-untyped]

from decoupled_wd import PAPER, Coupling
from decoupled_wd.study.claims.optimizers import contender, octaves
from decoupled_wd.study.statistics import Estimate, over_seeds
from decoupled_wd.study.tasks.task import MakeOptimizer, Run, Task, Training

FINALISTS = 3
NOT_TUNED = ("seed", "epoch", "trial")


def grid_of(
    task: Task, name: str, schedule: str, *, grid: int, seeds: int, coupling: Coupling = PAPER
) -> Training:
    """Returns the training of a contender over its grid.

    Whoever asks for the same one gets the same results: claims (ii) and (iii) share their grids
    this way.
    """
    make_optimizer = contender(name, schedule, task.steps, coupling)
    return Training(task, make_optimizer, octaves(name, grid, coupling), seeds=seeds)


def errors(runs: xr.Dataset) -> NDArray[np.float64]:
    """Returns validation and test error without labels.

    Their shape is ``[2, cells, seeds]``, with epochs last if there are any.

    A bootstrap looks a thousand times, and labelled arrays are slow to look into.
    """
    cells = runs.stack(cell=[dim for dim in runs.dims if dim not in ("seed", "epoch")])
    both = cells[["validation_error", "test_error"]].to_dataarray()
    return both.transpose("variable", "cell", "seed", ...).values.astype(float)


def tuned_error(errors: NDArray[np.float64], drawn: NDArray[np.intp]) -> float:
    """Returns the test error where the validation error is lowest.

    Diverged cells take no part.

    Examples:
      >>> validation, test = [[4.0], [3.0], [np.nan]], [[2.0], [7.0], [0.0]]
      >>> tuned_error(np.array([validation, test]), np.array([0]))
      7.0
    """
    validation, test = errors[:, :, drawn].mean(axis=2)
    return np.nan if np.isnan(validation).all() else float(test[np.nanargmin(validation)])


def error(runs: xr.Dataset) -> Estimate:
    """Estimates the tuned test error, in percent."""
    measured = errors(runs)
    return over_seeds(lambda drawn: tuned_error(measured, drawn), runs.sizes["seed"])


def difference(worse: xr.Dataset, better: xr.Dataset) -> Estimate:
    """Estimates by how many points the tuned test errors differ.

    A seed is the same start in both, so both are resampled together.
    """
    ours, theirs = errors(better), errors(worse)
    return over_seeds(
        lambda drawn: tuned_error(theirs, drawn) - tuned_error(ours, drawn), better.sizes["seed"]
    )


def halton(trials: int, **ranges: tuple[float, float]) -> dict[str, NDArray[np.float64]]:
    """Spreads points evenly over a box, in the logarithms of its axes.

    They are Halton's sequence without its first point, a corner of the box.

    Examples:
      >>> box = {"learning_rate": (1.0, 16.0), "weight_decay": (1.0, 27.0)}
      >>> halton(3, **box)["weight_decay"].round(6).tolist()
      [3.0, 9.0, 1.44225]

    Source: Halton 1960; for the tuning of optimisers Choi et al., arXiv 1910.05446, section 4.
    """
    low, high = np.log(list(ranges.values())).T
    points = qmc.Halton(len(ranges), scramble=False).random(trials + 1)[1:]
    return dict(zip(ranges, np.exp(low + points * (high - low)).T, strict=True))


@dataclass(frozen=True)
class Trials:
    """Makes the optimiser of a numbered point of a search.

    So a sweep trains these points alone, and not every combination.
    """

    make_optimizer: MakeOptimizer
    points: tuple[tuple[str, tuple[float, ...]], ...]
    """Each hyperparameter with its value in every trial."""

    @property
    def label(self) -> tuple[str, ...]:
        """The label of the optimiser."""
        return self.make_optimizer.label

    def __call__(self, trial: jax.Array) -> optax.GradientTransformation:
        """Returns the optimiser of this trial; a sweep passes floats."""
        index = trial.astype(int)
        return self.make_optimizer(**{name: jnp.asarray(at)[index] for name, at in self.points})


def search_of(
    task: Task,
    make_optimizer: MakeOptimizer,
    points: Mapping[str, NDArray[np.float64]],
    *,
    seeds: int,
    experiment: tuple[str, ...],
) -> Training:
    """Returns the training of an optimiser at the points of a search.

    All arrays of points have one length.
    """
    fixed = tuple((name, tuple(at.tolist())) for name, at in points.items())
    numbers = {"trial": np.arange(len(fixed[0][1]))}
    trials = Trials(make_optimizer, fixed)
    return Training(task, trials, numbers, seeds=seeds, experiment=experiment)


def at_the_end(run: Run, training: Training) -> xr.Dataset:
    """Trains, and returns what was measured last.

    The points of a search are coordinates of it.
    """
    found = run(training).isel(epoch=-1)
    if isinstance(training.make_optimizer, Trials):
        points = training.make_optimizer.points
        found = found.assign_coords({name: ("trial", list(at)) for name, at in points})
    return found


def finalists(run: Run, training: Training, found: xr.Dataset, *, fresh_seeds: int) -> xr.Dataset:
    """Trains the three best points again, with other seeds.

    The best of many points by a few seeds is in part the luckiest. Which of the three is taken,
    and what it is worth, is told by seeds that had no part in the first choice.

    Args:
      run: trains and keeps.
      training: the grid or search that was trained before.
      found: what it measured at the end.
      fresh_seeds: how many other seeds decide.
    """
    searched = found.sizes["seed"]
    mean = found["validation_error"].mean("seed", skipna=False)
    cells = mean.stack(cell=mean.dims)
    # a stable order, so that equal errors choose the same cells on every machine
    best = cells[np.argsort(cells.values, kind="stable")[:FINALISTS]]
    points = {str(axis): best[axis].values for axis in found.coords if axis not in NOT_TUNED}
    make_optimizer = training.make_optimizer
    if isinstance(make_optimizer, Trials):
        make_optimizer = make_optimizer.make_optimizer
    # the first seeds are those that chose: they are trained along, and left out
    again = search_of(
        training.task,
        make_optimizer,
        points,
        seeds=searched + fresh_seeds,
        experiment=("finalists", *training.experiment),
    )
    return at_the_end(run, again).isel(seed=slice(searched, None))
