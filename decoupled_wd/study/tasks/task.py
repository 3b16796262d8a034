"""What is learned, with which network and for how long; and the trainings that claims share."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import optax
import xarray as xr

from decoupled_wd.study.grid.store import digest
from decoupled_wd.study.grid.sweep import sweep
from decoupled_wd.study.grid.types import Axis, Points
from decoupled_wd.study.tasks.data import Dataset, load, validated
from decoupled_wd.study.tasks.language import from_text
from decoupled_wd.study.tasks.models import Model
from decoupled_wd.study.tasks.networks import OF_WIDTH, TRANSFORMER
from decoupled_wd.study.tasks.networks import network as network_of

Space: TypeAlias = Mapping[str, Axis]
"""The values of each hyperparameter; a sweep trains every combination of them."""


class Metric(NamedTuple):
    """Names what a task is judged by: a sweep's `validation_error` and `test_error`."""

    name: str = "test error"
    unit: str = "%"
    differences: str = "points"
    """The unit of differences."""
    digits: int = 1
    """Digits after the point that are worth showing."""

    @property
    def label(self) -> str:
        """Returns what stands beside an axis."""
        return f"{self.name} ({self.unit})"

    @property
    def gain(self) -> str:
        """Returns what a difference is, with its unit."""
        return f"gain in {self.name}, {self.differences}"

    def write(self, value: float) -> str:
        """Writes a value with its unit.

        Examples:
          >>> ERROR.write(38.46), LOSS.write(2.0237)
          ('38.5 %', '2.024 nats')
        """
        return f"{value:.{self.digits}f} {self.unit}"


ERROR, LOSS = Metric(), Metric("test loss", "nats", "nats", 3)


class Recipe(NamedTuple):
    """Says how long to train, and what counts as near the best.

    `tolerance` is in the unit of `metric`: settings that are at most so much worse than the best
    are near. `matters` is the smallest difference for which one would change an optimiser.
    """

    epochs: int
    batch_size: int
    tolerance: float
    matters: float = 0.5
    metric: Metric = ERROR
    decay: float = 1.0
    """The middle of λ in grids and searches, relative to that on images."""


class Task(NamedTuple):
    """Holds a data set, a network and a recipe."""

    name: str
    dataset: Dataset
    model: Model
    epochs: int
    batch_size: int
    tolerance: float
    matters: float = 0.5
    metric: Metric = ERROR
    decay: float = 1.0
    of_width: Callable[[int], Model] | None = None
    """``of_width(width) -> model``, the same network with another width, if it can have one."""

    @property
    def steps(self) -> int:
        """Counts the optimiser steps of a whole run."""
        return self.epochs * (len(self.dataset.y_train) // self.batch_size)


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "mnist1d": Recipe(epochs=40, batch_size=125, tolerance=2.5, matters=1.0),
        "digits": Recipe(epochs=100, batch_size=50, tolerance=1.0),
        "fashion-mnist": Recipe(epochs=20, batch_size=100, tolerance=1.0),
        "topics": Recipe(
            epochs=1, batch_size=16, tolerance=0.05, matters=0.02, metric=LOSS, decay=2.0**-3
        ),
    }
)


def task(dataset: str | Path, network: str) -> Task:
    """Returns the task with this data set and this network.

    Args:
      dataset: one of `data.DATASETS`; or a file that `data.from_file` loads, which is learned with
        the recipe of Fashion-MNIST, or with the network ``transformer`` a text that
        `language.from_text` loads, which is learned with that of the topics.
      network: one of `models.NETWORKS`, or ``MODULE:FUNCTION`` as `networks.network` takes it.

    Raises:
      ValueError: an unknown name, a data set without a recipe or with fewer examples than a batch,
        or what `from_file` and `network` refuse.
      OSError: the file is not there, or not to be read.

    Examples:
      >>> task("digits", "mlp").steps
      600
    """
    data = _loaded(dataset, network)
    own = "topics" if network == TRANSFORMER else "fashion-mnist"
    known = own if isinstance(dataset, Path) else dataset
    if known not in RECIPES:
        raise ValueError(
            f"dataset must have a recipe, which are there for {', '.join(RECIPES)}; "
            f"got {dataset!r}; make a Task with its own epochs and batch size"
        )
    recipe, examples = RECIPES[known], len(data.y_train)
    if examples < recipe.batch_size:
        raise ValueError(
            f"{dataset}: a batch has {recipe.batch_size} examples, and of x_train {examples} are "
            "left to train on, as a quarter is for validation; add examples"
        )
    # it names folders, and not every file system takes a colon
    name = f"{data.name}, {network.replace(':', '.')}"
    # a width asked for again is the same network
    of_width = cache(partial(OF_WIDTH[network], data)) if network in OF_WIDTH else None
    return Task(name, data, network_of(network, data), *recipe, of_width)


def _loaded(dataset: str | Path, network: str) -> Dataset:
    """Loads text for the transformer, and inputs with labels for any other network."""
    if network != TRANSFORMER:
        return load(dataset)
    if dataset != "topics" and not isinstance(dataset, Path):
        raise ValueError(
            f"network {TRANSFORMER} learns text, got dataset {dataset!r}; pass 'topics' or the "
            "path of a text"
        )
    return validated(from_text(None if dataset == "topics" else dataset))


class MakeOptimizer(Protocol):
    """Makes the optimiser of one cell from its named hyperparameters.

    Two of them are the same optimiser if they are equal: frozen dataclasses are, if all their
    fields are.
    """

    @property
    def label(self) -> tuple[str, ...]:
        """Tells this optimiser from others, by names of folders."""
        ...

    def __call__(self, *args: Any, **hyperparameters: Any) -> optax.GradientTransformation:
        """Returns the optimiser; a sweep passes traced scalars."""
        ...


class Key(NamedTuple):
    """Holds everything that decides the outcome of a training.

    What is equal in all of it is trained once.
    """

    make_optimizer: MakeOptimizer
    space: tuple[tuple[str, tuple[float, ...]], ...]
    listed: bool
    """Whether the space is a list of points, and no grid."""
    model: Model
    data: str
    """The digest of the data set's arrays."""
    epochs: int
    batch_size: int
    seeds: range
    evaluate_every: int | None


@dataclass(frozen=True)
class Training:
    """Describes one sweep that a claim asks for.

    It is a task, and an optimiser over a space of hyperparameters.
    """

    task: Task
    make_optimizer: MakeOptimizer
    space: Space
    _: KW_ONLY
    seeds: range = range(1)
    """The numbers of the seeds, unless the points of the space have seeds of their own."""
    experiment: tuple[str, ...] = ()
    """Why it is trained, where task and optimiser do not say so; empty for a plain grid."""
    evaluate_every: int | None = None

    @property
    def place(self) -> tuple[str, ...]:
        """Returns the folders of the store in which its results lie."""
        first, last = self.seeds[0], self.seeds[-1]
        # the first seed alone needs no folder of its own
        seeds = (f"seeds {first} to {last}",) if last else ()
        return (*self.task.name.split(", "), *self.experiment, *self.make_optimizer.label, *seeds)

    @property
    def key(self) -> Key:
        """Returns what decides the outcome of this training."""
        task, data = self.task, self.task.dataset
        return Key(
            self.make_optimizer,
            tuple(
                (axis, tuple(np.asarray(values).tolist())) for axis, values in self.space.items()
            ),
            isinstance(self.space, Points),
            task.model,
            # a key is looked up in a dict, and arrays cannot be hashed
            digest(data.x_train, data.y_train, held_out(data)),
            task.epochs,
            task.batch_size,
            self.seeds,
            self.evaluate_every,
        )


Run: TypeAlias = Callable[[Training], xr.Dataset]
"""Trains; returns train_loss, validation_error and test_error over space, seed and epoch."""


def runner(
    store: Path | None = None, progress: Callable[[str, int, int], None] = lambda *_: None
) -> Run:
    """Returns a `Run` that trains what has one key only once.

    Results are kept in memory and, if a store is given, in groups of one Zarr store, at the
    `place` of their training. Of two trainings with one place and different keys, the store
    refuses the second.

    Args:
      store: the folder of the Zarr store.
      progress: called with the place, the number of finished cells and the number of all cells.
    """
    # a training is looked up by what decides its outcome: another claim may ask for the same one
    kept: dict[Key, xr.Dataset] = {}

    def run(training: Training) -> xr.Dataset:
        task, data, key = training.task, training.task.dataset, training.key
        if key not in kept:
            kept[key] = sweep(
                training.make_optimizer,
                training.space,
                init=task.model.init,
                loss=task.model.loss,
                metric=task.model.evaluate,
                train=(data.x_train, data.y_train),
                test=held_out(data),
                epochs=task.epochs,
                batch_size=task.batch_size,
                # a sweep takes no seeds beside points that have their own
                seeds=1 if "seed" in training.space else training.seeds,
                evaluate_every=training.evaluate_every,
                store=None if store is None else store.joinpath(*training.place),
                progress=lambda finished, cells: progress(
                    ", ".join(training.place), finished, cells
                ),
            )
        return kept[key]

    return run


def held_out(data: Dataset) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns the splits that do not train, as `Model.evaluate` takes them."""
    return {
        "validation": (data.x_validation, data.y_validation),
        "test": (data.x_test, data.y_test),
    }
