"""Runs where they matter: a pilot over the whole grid, then seeds along its ridge."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from decoupled_wd import PAPER, Coupling
from decoupled_wd.study.claims.tuning import PILOTS, at_the_end, grid_of, grown
from decoupled_wd.study.grid.types import Points
from decoupled_wd.study.statistics import (
    Ridge,
    leeway,
    line_slope,
    propagated,
    slope_weights,
    valleys,
)
from decoupled_wd.study.tasks.task import Run, Task, Training

ROWS = 5
"""Learning rates along the ridge, of those in the grid."""
# from −1½ to ½: L2 is expected at −1, and decoupled decay at 0
SLOPES = np.arange(-6, 3) / 4
"""Slopes of the lines that may be a pilot's ridge, in octaves of λ an octave of α."""
SHARP = 16.0
"""A line counts e times less with each so manieth of the tolerance that its error is higher."""
DIVERGED = 1e9
"""What a pilot's run that diverged costs: more than any error, and finite."""
# valleys are gentle below and steep above; away from the middle an octave is fine enough
OFFSETS = np.array([-4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0])
"""Octaves of λ around the ridge that a pilot shows."""


class Valley(NamedTuple):
    """Holds what was trained of one contender."""

    pilot: xr.Dataset
    """The whole grid, with the few seeds of a pilot."""
    training: Training
    """How the points along the ridge are trained, whatever the seeds."""
    along: xr.Dataset
    """Those points, ``ROWS × len(OFFSETS)`` trials, with many seeds."""

    def ridge(self, drawn: NDArray[np.intp]) -> Ridge:
        """Returns the middle of each row's valley, of the mean over these seeds."""
        rates, decays, runs = self._rows()
        # of the mean error, not the mean of middles: a jackknife wants a function of means
        mean = runs[..., drawn].mean(axis=2)
        middles = valleys(mean, decays, tolerance=self.training.task.tolerance)
        return Ridge(np.exp(rates), np.exp(middles), line_slope(rates, middles))

    def slope(self, drawn: NDArray[np.intp]) -> float:
        """Returns d log λ* / d log α of the mean over these seeds."""
        return self.ridge(drawn).slope

    def leeway(self, level: float) -> NDArray[np.float64]:
        """Returns how far below and above its value the slope may lie, ``[2]``.

        Where the pilot was unlucky, the points miss a part of a valley.
        """
        return self._leeways(level)[1]

    def known(self, level: float) -> Ridge:
        """Returns the ridge of all seeds, without what may be anywhere: open rows, or its slope."""
        found = self.ridge(np.arange(self.along.sizes["seed"]))
        rows, whole = self._leeways(level)
        closed = np.isfinite(rows).all(axis=1)
        slope = found.slope if np.isfinite(whole).all() else np.nan
        return Ridge(found.learning_rate[closed], found.weight_decay[closed], slope)

    def _leeways(self, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the leeway of each row, ``[ROWS, 2]``, and what it makes of the slope's."""
        rates, decays, runs = self._rows()
        rows = leeway(runs, decays, tolerance=self.training.task.tolerance, level=level)
        return rows, propagated(slope_weights(rates), rows)

    def _rows(self) -> tuple[NDArray[np.float64], ...]:
        """Returns log α, ``[ROWS]``, log λ, ``[ROWS, OFFSETS]``, and errors, with seeds last."""
        shape = ROWS, len(OFFSETS)
        error = self.along["test_error"].transpose("trial", "seed").values
        rates, decays = (
            np.log(self.along[name].values.reshape(shape))
            for name in ("learning_rate", "weight_decay")
        )
        return rates[:, 0], decays, error.reshape(*shape, -1).astype(float)


def valley(
    run: Run,
    task: Task,
    name: str,
    schedule: str,
    *,
    grid: int,
    looks: tuple[int, ...],
    look: int,
    coupling: Coupling = PAPER,
) -> Valley:
    """Trains a contender's pilot, then all seeds up to a look along the ridge that it shows."""
    first = grid_of(task, name, schedule, grid=grid, coupling=coupling)
    pilot = at_the_end(run, first)
    points = along_the_ridge(pilot, task.tolerance)

    def training(seeds: range) -> Training:
        return replace(first, space=points, seeds=seeds, experiment=("ridge",))

    # seeds of the pilot take no part: the points lie where they were lucky
    along = grown(run, training, looks, look, first=PILOTS).isel(epoch=-1, drop=True)
    return Valley(pilot, training(range(1)), along)


def along_the_ridge(pilot: xr.Dataset, tolerance: float) -> Points:
    """Places points around the ridge of a pilot, finer than its grid.

    The ridge is a straight line, in log λ over log α, along which the error is low on average over
    `ROWS` neighbouring α. All rows decide together, since few seeds are noisy; they do so on
    validation data. Where many lines are about as good, it lies in their middle, so that not luck
    places it.
    """
    error = pilot["validation_error"].mean("seed", skipna=False)
    error = error.sortby(["learning_rate", "weight_decay"])
    # λ = 0 has no place in logarithms
    error = error.sel(weight_decay=error["weight_decay"] > 0)
    error = error.transpose("learning_rate", "weight_decay")
    rates, decays = (np.log2(error[name].values) for name in ("learning_rate", "weight_decay"))
    if len(rates) < ROWS:
        raise ValueError(f"grid must be at least {ROWS}, the α of a ridge, got {len(rates)}")
    # beyond the ridge the error soars or the run diverges: how far says nothing of where it is
    cost = np.nan_to_num(error.values, nan=DIVERGED, posinf=DIVERGED)
    near = np.fmin(cost, cost.min(axis=1, keepdims=True) + tolerance)
    slopes, middles = np.meshgrid(SLOPES, np.arange(decays[0], decays[-1], 0.25))
    found = []
    for first in range(len(rates) - ROWS + 1):
        x, rows = rates[first : first + ROWS], near[first : first + ROWS]
        lines = middles.ravel() + slopes.ravel() * (x - x.mean())[:, None]
        # where a line leaves the grid, np.interp repeats the value at the edge
        along = np.mean(
            [np.interp(line, decays, row) for line, row in zip(lines, rows, strict=True)], axis=0
        )
        weight = np.exp(-SHARP * (along - along.min()) / tolerance)
        middle = np.average(lines, axis=1, weights=weight)
        # the line that is nearest to the middle of all: what differs by rounding places alike
        nearest = int(((lines - middle[:, None]) ** 2).sum(axis=0).argmin())
        found.append((float(along.min()), x, lines[:, nearest]))
    _, x, line = min(found, key=lambda each: each[0])
    return around(2.0**x, 2.0**line)


def around(learning_rate: ArrayLike, weight_decay: ArrayLike) -> Points:
    """Places `OFFSETS` around each pair of an α and its best λ.

    Examples:
      >>> points = around([0.1, 0.2], [0.5, 0.25])
      >>> len(points["learning_rate"]), float(points["weight_decay"][6])
      (22, 0.5)
    """
    decays = np.asarray(weight_decay)[:, None] * 2.0**OFFSETS
    return Points(learning_rate=np.repeat(learning_rate, len(OFFSETS)), weight_decay=decays.ravel())
