"""The runs of a search and the run that they are for, as the plan of λ knows them."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax

from decoupled_wd import PAPER, Run
from decoupled_wd._base.types import PyTree

TARGET: Mapping[str, str] = {
    "dataset_size": "tokens",
    "batch_size": "batch",
    "epochs": "epochs",
    "parameters": "parameters",
    "learning_rate": "learning_rate",
}
"""What may be said of the run that a search is for, and its name on the command line."""


def run_of(settings: Mapping[str, Any], learning_rate: float) -> Run:
    """Returns a run of the search with this learning rate.

    Args:
      settings: the arguments of `tune`, and perhaps ``coupling``, the unit of λ.
      learning_rate: α, the peak.
    """
    return Run(
        learning_rate,
        batch_size=settings["batch_size"],
        dataset_size=len(jax.tree.leaves(settings["train"])[0]),
        epochs=settings["epochs"],
        parameters=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes_of(settings))),
        coupling=settings.get("coupling", PAPER),
    )


def target_of(run: Run, told: Mapping[str, float]) -> Run | None:
    """Returns the run that a search is for, or None where nothing is told of it.

    What is not told is that of the runs of the search; but other data are seen once.

    Examples:
      >>> small = Run(1e-2, batch_size=32, dataset_size=1e4, epochs=5, parameters=1e5)
      >>> large = target_of(small, {"dataset_size": 1e9, "batch_size": 512})
      >>> large.epochs, large.parameters
      (1.0, 100000.0)
    """
    once: dict[str, Any] = {"epochs": 1} if "dataset_size" in told else {}
    return replace(run, **{**once, **told}) if told else None


def shapes_of(settings: Mapping[str, Any]) -> PyTree:
    """Returns the shapes of the weights that are trained."""
    return jax.eval_shape(settings["init"], jax.random.key(0))
