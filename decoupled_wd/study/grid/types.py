"""What a sweep is given and what it hands on, as its signatures name it."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import numpy as np

from decoupled_wd._base.types import PyTree

Axis: TypeAlias = Sequence[float] | np.ndarray
"""The values of one hyperparameter."""
Init: TypeAlias = Callable[[jax.Array], PyTree]
"""``init(key) -> params``."""
Loss: TypeAlias = Callable[..., jax.Array]
"""``loss(params, *batch, key) -> scalar``."""
Metric: TypeAlias = Callable[[PyTree, PyTree, PyTree], PyTree]
"""``metric(params, train, test) -> scalar``, or a dict of named scalars."""
TrainOne: TypeAlias = Callable[[jax.Array, PyTree, PyTree], dict[str, jax.Array]]
"""``cell(hyperparameters and seed, starts, data) -> {metric: [evaluations]}``: one training run."""
