"""What a sweep is given, met at the door: an error names the argument, what was got, and the remedy."""

import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from decoupled_wd.study.description import CHECKSUM


def axes(hyperparameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The axes of the grid as arrays."""
    check_names(hyperparameters, ())
    arrays = {name: np.asarray(axis) for name, axis in hyperparameters.items()}
    for name, axis in arrays.items():
        numeric = axis.ndim == 1 and axis.size and np.issubdtype(axis.dtype, np.number)
        if not numeric or not np.isfinite(axis).all():
            raise ValueError(f"{name} must be a non-empty list of finite numbers, got {axis}")
    return arrays


def check_names(names: Iterable[Any], taken: Iterable[str]) -> None:
    """Names of hyperparameters or metrics that are text, and not taken."""
    for name in names:
        if not isinstance(name, str) or "/" in name or name in {*taken, "seed", "epoch", CHECKSUM}:
            raise ValueError(
                f"{name!r} cannot name a hyperparameter or metric: it is taken, or no plain text; rename it"
            )


def check_counts(**counts: Any) -> None:
    """Whole numbers >= 1, and evaluations that end with the last epoch."""
    for name, count in counts.items():
        if not isinstance(count, numbers.Integral) or count < 1:
            raise ValueError(f"{name} must be a whole number >= 1, got {count}")
    epochs, every = counts["epochs"], counts["evaluate_every"]
    if epochs % every:
        raise ValueError(f"evaluate_every={every} does not divide epochs={epochs}; pass a divisor")


def arrays(train: Any, test: Any, batch_size: int) -> tuple[tuple[jax.Array, ...], Any]:
    """``(train, test)`` as arrays: finite, and the training ones of one length."""
    if not isinstance(train, tuple | list):
        raise ValueError(f"train must be a tuple of arrays, got {type(train).__name__}")
    data = jax.tree.map_with_path(_array, {"train": tuple(train), "test": test})
    rows = [array.shape[:1] for array in data["train"]]
    if len({*rows}) != 1 or () in rows:
        raise ValueError(
            f"train must hold arrays of one length, got {[a.shape for a in data['train']]}"
        )
    if batch_size > rows[0][0]:
        raise ValueError(
            f"batch_size={batch_size} is larger than the {rows[0][0]} training examples; lower it"
        )
    return data["train"], data["test"]


def _array(path: Any, leaf: Any) -> jax.Array:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    try:
        array = jnp.asarray(leaf)
    except TypeError as error:
        raise TypeError(f"{name} must be an array of numbers, got {leaf!r}") from error
    if jnp.issubdtype(array.dtype, jnp.inexact) and not jnp.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; remove or fill it before training")
    return array
