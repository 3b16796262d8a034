"""The paper's claims as experiments. So far its main one: learning rate and weight decay decouple."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import optax
import xarray as xr

from decoupled_wd import adam, adamw, sgd, sgdw
from decoupled_wd.study.data import Dataset
from decoupled_wd.study.models import mlp
from decoupled_wd.study.statistics import summarize
from decoupled_wd.study.sweep import sweep


class Contender(NamedTuple):
    """``make(schedule, weight_decay, peak)``, and the highest learning rate and weight decay of its grid."""

    make: Callable[[optax.Schedule, Any, Any], optax.GradientTransformation]
    learning_rate: float
    weight_decay: float


class Recipe(NamedTuple):
    """How long a data set is trained on, and how near its best error a row of the ridge must come."""

    epochs: int
    batch_size: int
    within: float


CONTENDERS: Mapping[str, Contender] = MappingProxyType(
    {
        "SGD": Contender(lambda lr, l2, _: sgd(lr, l2), 1.0, 1.0),
        "SGDW": Contender(lambda lr, wd, peak: sgdw(lr, wd, peak_learning_rate=peak), 1.0, 0.25),
        "Adam": Contender(lambda lr, l2, _: adam(lr, l2), 0.1, 0.5),
        "AdamW": Contender(lambda lr, wd, peak: adamw(lr, wd, peak_learning_rate=peak), 0.1, 0.25),
    }
)
"""SGD and Adam with L2 in the gradient, SGDW and AdamW with the paper's decoupled decay."""

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {"mnist1d": Recipe(epochs=40, batch_size=125, within=2.5), "digits": Recipe(100, 50, 1.0)}
)


def decoupling(
    dataset: Dataset,
    *,
    grid: int,
    epochs: int,
    seeds: int,
    progress: Callable[[str, int], None] = lambda optimizer, cells: None,  # noqa: ARG005
) -> xr.DataTree:
    """Test error over a ``grid × grid`` of α and λ, cosine annealed, for the four contenders.

    Rows are powers of two below the contender's highest learning rate. The first column is λ = 0, the
    others powers of two up to its highest weight decay. Smaller grids span the same ranges.

    Args:
      dataset: what the small MLP with BatchNorm is trained on; its name picks the batch size.
      grid: learning rates, and weight decays, at least 2.
      epochs: passes over the training set in each run.
      seeds: runs for each cell.
      progress: called with the contender's name and a number of runs as they finish.

    Returns:
      A tree with a data set for each contender: ``test_error`` in percent, NaN where a run diverged,
      over learning_rate, weight_decay and seed.

    Raises:
      ValueError: `grid`, `epochs` or `seeds` is out of range.

    Source: arXiv 1711.05101, Figure 2.
    """
    if grid < 2:
        raise ValueError(f"grid must be at least 2, for λ = 0 and one λ above it, got {grid}")
    model = mlp(dataset.x_train.shape[1], dataset.num_classes)
    recipe = RECIPES[dataset.name]
    steps = epochs * (len(dataset.y_train) // recipe.batch_size)
    results = {}
    for name, contender in CONTENDERS.items():
        error = sweep(
            _annealed(contender, steps),
            _axes(contender, grid),
            init=model.init,
            loss=model.loss,
            metric=model.error,
            train=(dataset.x_train, dataset.y_train),
            test=(dataset.x_test, dataset.y_test),
            epochs=epochs,
            batch_size=recipe.batch_size,
            seeds=seeds,
            progress=partial(progress, name),
        )
        error.attrs = {"units": "percent", "long_name": "top-1 test error"}
        results[name] = error.to_dataset(name="test_error")
    return xr.DataTree.from_dict(results)


def table(results: xr.DataTree, *, within: float) -> list[dict[str, Any]]:
    """One record of statistics for each contender; see `statistics.summarize`."""
    records = []
    for name, child in results.children.items():
        error = child.dataset["test_error"]
        axes = (error[axis].values for axis in ("learning_rate", "weight_decay"))
        records.append(summarize(name, error.values, *axes, within=within))
    return records


def _annealed(contender: Contender, steps: int) -> Callable[..., optax.GradientTransformation]:
    """The contender under cosine annealing to zero, as in the paper."""

    def make(learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
        schedule = optax.cosine_decay_schedule(learning_rate, steps)
        return contender.make(schedule, weight_decay, learning_rate)

    return make


def _axes(contender: Contender, grid: int) -> dict[str, np.ndarray]:
    """Ten octaves of α, and λ = 0 with nine octaves above it."""
    octaves = -np.linspace(0, 10, grid)
    decays = contender.weight_decay * 2.0 ** -np.linspace(9, 0, grid - 1)
    return {
        "learning_rate": contender.learning_rate * 2.0**octaves,
        "weight_decay": np.concatenate([[0.0], decays]),
    }
