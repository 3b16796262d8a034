"""What a sweep is given and what it hands on, as its signatures name it."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import numpy as np

from decoupled_wd._base.types import PyTree

Axis: TypeAlias = Sequence[float] | np.ndarray
"""The values of one hyperparameter."""


class Points(dict[str, Axis]):
    """Lists points of a search, which are trained as listed and not combined.

    Each hyperparameter has one value for every point. With ``seed`` among them each point has a
    seed of its own; without it every seed is trained at every point.

    Examples:
      >>> search = Points(learning_rate=[0.1, 0.2], weight_decay=[0.3, 0.1], seed=[0, 1])
      >>> len(search["seed"])
      2
    """


Init: TypeAlias = Callable[[jax.Array], PyTree]
"""``init(key) -> params``."""
Loss: TypeAlias = Callable[..., jax.Array]
"""``loss(params, *batch, key) -> scalar``."""
Metric: TypeAlias = Callable[[PyTree, PyTree, PyTree], PyTree]
"""``metric(params, train, test) -> scalar``, or a dict of named scalars."""
TrainOne: TypeAlias = Callable[[jax.Array, PyTree, PyTree], dict[str, jax.Array]]
"""``cell(hyperparameters and seed, starts, data) -> {metric: [evaluations]}``: one training run."""
