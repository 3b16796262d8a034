"""Made-up landscapes of error over α and λ, whose truth is known, with the noise of the study's runs.

They are measured as sweeps are, so that the study's own claims train on them. The shapes are those of MNIST-1D:
below the ridge the error rises gently to the level of no decay, above it steeply. Runs there scatter by 0.75
points, validation and test error of one run correlate by 0.7, and a start shifts all runs that have it by 0.35.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from decoupled_wd.study.claims.optimizers import CONTENDERS
from decoupled_wd.study.tasks.data import Dataset
from decoupled_wd.study.tasks.task import Task

RUN, PART, START = 0.6, 0.4, 0.35
"""Standard deviations, in points: of a run, of its validation or its test error, and of a start."""

ROUND = np.linspace(-0.5, 0.5, 9)
"""Octaves over which the bottom of a valley is rounded."""


@dataclass(frozen=True)
class Landscape:
    """Error in percent, least along ``log2 λ = level + slope·log2 α`` from the middle of a contender's grid."""

    slope: float
    least: float = 39.0
    gain: float = 3.0
    """How much the best λ gains over none."""
    steep: float = 8.0
    level: float = 0.0
    center: float = 0.0
    """The best α."""

    def error(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The error without noise, over octaves of α and λ."""
        # rounded at the bottom, as a mean over networks is
        u = (y - self.level - self.slope * x)[..., None] + ROUND
        below, above = np.minimum(u, 0), np.maximum(u, 0)
        valley = self.gain * (1 - np.exp(below / 1.5)) + self.steep * above**2 / (above + 0.5)
        valley = valley.mean(axis=-1)
        return np.minimum(self.least + 0.35 * (x - self.center) ** 2 + valley, 90.0)


class Runs:
    """A `Run` of the study on landscapes, one for each contender; another `repeat` is another luck."""

    def __init__(self, landscapes: dict[str, Landscape], repeat: int) -> None:
        self.landscapes, self.repeat = landscapes, repeat

    def __call__(self, training: Any) -> xr.Dataset:
        """Errors of every run of a training, with labels as a sweep gives them."""
        family, decay = training.make_optimizer.label[-2:]
        (name,) = (n for n, c in CONTENDERS.items() if (c.family, c.decay) == (family, decay))
        middle, space = CONTENDERS[name], dict(training.space)
        own = space.pop("seed", None)
        if training.key.listed:
            points = {n: ("trial", np.asarray(v, float)) for n, v in space.items()}
            frame = xr.Dataset(
                coords={**points, "trial": np.arange(len(points["learning_rate"][1]))}
            )
        else:
            frame = xr.Dataset(coords={n: np.asarray(v, float) for n, v in space.items()})
        if own is not None:
            frame = frame.assign_coords(seed=("trial", np.asarray(own)))
            frame = frame.assign_coords(
                learning_rate=frame["learning_rate"], weight_decay=frame["weight_decay"]
            )
        else:
            frame = frame.assign_coords(seed=list(training.seeds))
        x = np.log2(frame["learning_rate"] / middle.learning_rate)
        y = np.log2(np.maximum(frame["weight_decay"], 1e-9) / middle.weight_decay)
        clean, seed = xr.broadcast(
            xr.apply_ufunc(self.landscapes[name].error, *xr.broadcast(x, y)), frame["seed"]
        )
        # far from the best runs scatter more
        scatter = 1 + np.maximum(clean.values - 42, 0) / 10
        chance = np.random.default_rng([self.repeat, zlib.crc32(repr(training.place).encode())])
        run = clean.values + scatter * chance.normal(0, RUN, clean.shape) + self._start(seed.values)
        errors = {
            f"{part}_error": (
                clean.dims,
                np.clip(run + scatter * chance.normal(0, PART, clean.shape), 0, 90.2),
            )
            for part in ("validation", "test")
        }
        loss = (clean.dims, np.exp((run - 40) / 10))
        found = frame.assign({**errors, "train_loss": loss})
        return found.expand_dims(epoch=[training.task.epochs])

    def _start(self, seeds: np.ndarray) -> np.ndarray:
        """The shift of each start, the same for all contenders."""
        numbers, place = np.unique(seeds, return_inverse=True)
        shifts = [np.random.default_rng([self.repeat, 7, int(n)]).normal(0, START) for n in numbers]
        return np.asarray(shifts)[place].reshape(seeds.shape)


def task() -> Task:
    """A task without anything to learn."""
    nothing = np.zeros((2000, 1), np.float32), np.zeros(2000, np.int32)
    data = Dataset("landscape", *nothing, *nothing, *nothing, 2, (1,))
    return Task("landscape", data, None, epochs=40, batch_size=125, tolerance=2.5, matters=1.0)
