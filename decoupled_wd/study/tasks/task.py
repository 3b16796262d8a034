"""What is learned, with which network and for how long; and the sweep over it that claims share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import optax
import xarray as xr

from decoupled_wd.study.grid.store import digest
from decoupled_wd.study.grid.sweep import Axis, sweep
from decoupled_wd.study.tasks.data import Dataset, load
from decoupled_wd.study.tasks.models import NETWORKS, Model


class Recipe(NamedTuple):
    """How long a network is trained, and how near its best error a row of the ridge must come."""

    epochs: int
    batch_size: int
    within: float


class Task(NamedTuple):
    """A data set, a network and a recipe."""

    name: str
    dataset: Dataset
    model: Model
    epochs: int
    batch_size: int
    within: float

    @property
    def steps(self) -> int:
        """Optimiser steps of a whole run."""
        return self.epochs * (len(self.dataset.y_train) // self.batch_size)


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {"mnist1d": Recipe(epochs=40, batch_size=125, within=2.5), "digits": Recipe(100, 50, 1.0)}
)


def task(dataset: str, network: str) -> Task:
    """The task by the names of its data set and its network.

    Raises:
      ValueError: an unknown name, or a data set without a recipe.

    Examples:
      >>> task("digits", "mlp").steps
      600
    """
    if network not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}; got {network!r}")
    data = load(dataset)
    if dataset not in RECIPES:
        raise ValueError(
            f"dataset must have a recipe, which are there for {', '.join(RECIPES)}; got {dataset!r}; "
            f"make a Task with its own epochs and batch size"
        )
    return Task(f"{dataset}, {network}", data, NETWORKS[network](data), *RECIPES[dataset])


class Key(NamedTuple):
    """Everything that defines a run: what is equal in all of it is trained once.

    Optimisers are equal if they are the same function, or say so themselves as `contenders.Maker` does.
    """

    make_optimizer: Callable[..., optax.GradientTransformation]
    space: tuple[tuple[str, tuple[float, ...]], ...]
    model: Model
    data: str
    """The digest of the data set's arrays."""
    epochs: int
    batch_size: int
    seeds: int
    evaluate_every: int | None


class Run(Protocol):
    """`sweep` over a task: the same run again is not trained again, whatever its name."""

    def __call__(
        self,
        name: str,
        task: Task,
        make_optimizer: Callable[..., optax.GradientTransformation],
        hyperparameters: Mapping[str, Axis],
        *,
        seeds: int,
        evaluate_every: int | None = None,
    ) -> xr.Dataset:
        """train_loss, validation_error and test_error over the hyperparameters, seed and epoch."""
        ...


def runner(
    store: Path | None = None, progress: Callable[[str, int, int], None] = lambda *_: None
) -> Run:
    """A `Run` that keeps what it measures in memory and, if given, in groups of one Zarr store.

    A name is where a run lies in the store and what `progress` shows. Of two runs under one name the store
    refuses the second.

    `progress` is called with the name, the number of finished cells and of all cells.
    """
    kept: dict[Key, xr.Dataset] = {}

    def run(
        name: str,
        task: Task,
        make_optimizer: Callable[..., optax.GradientTransformation],
        hyperparameters: Mapping[str, Axis],
        *,
        seeds: int,
        evaluate_every: int | None = None,
    ) -> xr.Dataset:
        data, group = task.dataset, f"{task.name}, {name}"
        key = Key(
            make_optimizer,
            tuple((axis, tuple(values)) for axis, values in hyperparameters.items()),
            task.model,
            digest(data.x_train, data.y_train, _held_out(data)),
            task.epochs,
            task.batch_size,
            seeds,
            evaluate_every,
        )
        if key not in kept:
            kept[key] = sweep(
                make_optimizer,
                hyperparameters,
                init=task.model.init,
                loss=task.model.loss,
                metric=task.model.evaluate,
                train=(data.x_train, data.y_train),
                test=_held_out(data),
                epochs=task.epochs,
                batch_size=task.batch_size,
                seeds=seeds,
                evaluate_every=evaluate_every,
                store=None if store is None else store.joinpath(*group.split(", ")),
                progress=lambda finished, cells: progress(group, finished, cells),
            )
        return kept[key]

    return run


def _held_out(data: Dataset) -> dict[str, Any]:
    return {
        "validation": (data.x_validation, data.y_validation),
        "test": (data.x_test, data.y_test),
    }
