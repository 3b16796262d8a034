"""What a sweep is given, checked before anything else.

An error names the argument, what was got, and the remedy.
"""

import inspect
import math
import numbers
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from decoupled_wd._base.types import PyTree
from decoupled_wd.study.grid.layout import RESERVED
from decoupled_wd.study.grid.types import Points

# a path folds the two slashes into one
URL = re.compile(r"[A-Za-z][\w+.-]+:/|[A-Za-z][\w+.-]*::")
# file systems allow 255, and a file that is being written has a longer name
NAME_BYTES = 200
TRIAL = "trial"
"""The dimension of listed points."""
SEEDS = 2**32
"""A key of JAX takes numbers of 32 bits."""


def folder(store: object) -> Path | None:
    """Returns the folder of a store, or None for none."""
    if store is None:
        return None
    if not isinstance(store, str | os.PathLike) or not isinstance(os.fspath(store), str):
        raise TypeError(f"store must be the path of a folder, got {store!r}; pass a str or a Path")
    text = os.fspath(store)
    if not text.strip() or "\0" in text:
        raise ValueError(
            f"store must be the path of a folder, got {text!r}; pass for example 'runs.zarr'"
        )
    if URL.match(text):
        raise ValueError(
            f"store must be a folder of a file system, got {text!r}: a sweep needs a lock and "
            "files that are "
            "replaced whole, which object stores lack; pass a folder and copy it when it is "
            "finished"
        )
    path = Path(store)
    if path.is_symlink() and not path.exists():
        raise ValueError(
            f"store {path} is a link to {os.readlink(path)}, which is not there; make that "
            "folder, or pass another"
        )
    return path


def functions(**given: object) -> None:
    """Refuses what is to be called and cannot be."""
    for name, function in given.items():
        if not callable(function):
            raise TypeError(f"{name} must be a function, got {function!r}; pass one")


def as_axes(
    hyperparameters: object, make_optimizer: Callable[..., object]
) -> dict[str, np.ndarray]:
    """Returns the axes, or the lists of `Points`, as arrays that JAX can hold."""
    if not isinstance(hyperparameters, Mapping):
        raise TypeError(
            f"hyperparameters must map names to lists of numbers, got {hyperparameters!r}; pass a "
            "dict"
        )
    listed = isinstance(hyperparameters, Points)
    names = [name for name in hyperparameters if not listed or name != "seed"]
    check_names(names, (TRIAL,) if listed else ())
    with_names(make_optimizer, names)
    axes = {name: _axis(name, axis) for name, axis in hyperparameters.items()}
    if listed and (not names or len({axis.size for axis in axes.values()}) != 1):
        lengths = ", ".join(f"{name} {axis.size}" for name, axis in axes.items()) or "nothing"
        raise ValueError(
            "Points must have a hyperparameter, and one value of each for every point, got "
            f"{lengths}; pass lists of one length"
        )
    return axes


def seed_numbers(seeds: object, of_points: np.ndarray | None) -> np.ndarray:
    """Returns the numbers of the seeds: those given, the first so many, or of `Points`."""
    if of_points is not None:
        if not (isinstance(seeds, int) and seeds == 1):
            raise ValueError(
                f"seeds must be left out where Points have a seed, got {seeds!r}; omit it"
            )
        if not _numbers_of_seeds(of_points):
            raise ValueError(
                f"seed of Points must hold whole numbers from 0 to {SEEDS - 1}, got "
                f"{of_points.tolist()}; number the seeds"
            )
        return of_points
    if not isinstance(seeds, Sequence | np.ndarray):
        return np.arange(_count("seeds", seeds))
    numbers = _as_array(seeds)
    if not _numbers_of_seeds(numbers) or np.unique(numbers).size != numbers.size:
        raise ValueError(
            f"seeds must be a number of seeds, or distinct whole numbers from 0 to {SEEDS - 1}, "
            f"got {seeds!r}; pass for example 5, or range(5, 10)"
        )
    return numbers


def _numbers_of_seeds(numbers: np.ndarray) -> bool:
    if not np.issubdtype(numbers.dtype, np.integer) or numbers.ndim != 1 or not numbers.size:
        return False
    return bool((numbers >= 0).all() and (numbers < SEEDS).all())


def with_names(make_optimizer: Callable[..., object], names: Iterable[str]) -> None:
    """Checks that `make_optimizer` takes every hyperparameter by its name."""
    try:
        signature = inspect.signature(make_optimizer)
    # some functions of C have none
    except (TypeError, ValueError):
        return
    try:
        signature.bind(**dict.fromkeys(names))
    except TypeError as error:
        raise TypeError(
            f"make_optimizer must take the hyperparameters {', '.join(names)} by name: {error}; "
            f"its signature is {signature}"
        ) from None


def _as_array(values: PyTree) -> np.ndarray:
    try:
        return np.asarray(values)
    # lists of different lengths
    except (TypeError, ValueError):
        return np.asarray(None)


def _axis(name: str, values: PyTree) -> np.ndarray:
    axis = _as_array(values)
    real = np.issubdtype(axis.dtype, np.integer) or np.issubdtype(axis.dtype, np.floating)
    if axis.ndim != 1 or not axis.size or not real or not np.isfinite(axis).all():
        raise ValueError(f"{name} must be a non-empty list of finite numbers, got {values!r}")
    with np.errstate(over="ignore", under="ignore"):
        # as a cell is given it
        seen = axis.astype(jnp.zeros(()).dtype)
    # what overflows, or falls below the normal numbers, would be another hyperparameter
    lost = ~np.isfinite(seen) | ((np.abs(seen) < np.finfo(seen.dtype).tiny) & (axis != 0))
    if np.issubdtype(axis.dtype, np.integer):
        # as Python's numbers: NumPy would turn both into floats, and compare what is left
        lost |= seen.astype(object) != axis.astype(object)
    if lost.any():
        raise ValueError(
            f"{name} holds {axis[lost][0]}, which {seen.dtype} cannot hold; change its unit, or "
            "use jax.enable_x64"
        )
    return axis


def check_names(names: Iterable[object], taken: Iterable[str]) -> None:
    """Refuses names that cannot name a folder of the store, or are taken."""
    for name in names:
        if not _plain(name) or name in {*taken, *RESERVED}:
            raise ValueError(
                f"{name!r} cannot name a hyperparameter or metric: it is taken, or no plain text; "
                "rename it"
            )


def _plain(name: object) -> bool:
    if not isinstance(name, str) or not name.strip() or name.startswith("."):
        return False
    if not name.isprintable() or set(name) & set("/\\"):
        return False
    return len(name.encode(errors="replace")) <= NAME_BYTES


def counts(**given: object) -> dict[str, int]:
    """Returns whole numbers >= 1 as int.

    Evaluations must end with the last epoch.
    """
    whole = {name: _count(name, count) for name, count in given.items()}
    epochs, every = whole["epochs"], whole["evaluate_every"]
    if epochs % every:
        raise ValueError(f"evaluate_every={every} does not divide epochs={epochs}; pass a divisor")
    return whole


def _count(name: str, count: object) -> int:
    # bool is a subclass of int
    if not isinstance(count, numbers.Integral) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{name} must be a whole number >= 1, got {count!r}; pass an int")
    return int(count)


def check_memory(memory: object) -> None:
    """Refuses what is no positive number of bytes, nor None."""
    if memory is None:
        return
    real = isinstance(memory, numbers.Real) and not isinstance(memory, bool)
    if not real or not 0 < float(memory) < math.inf:  # type: ignore[arg-type]
        raise ValueError(
            f"memory must be a number of bytes > 0, got {memory!r}; pass None for the default"
        )


def arrays(train: PyTree, test: PyTree, batch_size: int) -> tuple[tuple[jax.Array, ...], PyTree]:
    """Returns ``(train, test)`` as arrays, if they can be trained on.

    They are finite, JAX's dtypes leave them unchanged, and the training ones have one length.
    """
    if not isinstance(train, tuple | list):
        raise ValueError(f"train must be a tuple of arrays, got {type(train).__name__}")
    learned = tuple(_array(f"train/{index}", array) for index, array in enumerate(train))
    rows = [array.shape[:1] for array in learned]
    if len({*rows}) != 1 or () in rows:
        raise ValueError(f"train must hold arrays of one length, got {[a.shape for a in learned]}")
    if batch_size > rows[0][0]:
        raise ValueError(
            f"batch_size={batch_size} is larger than the {rows[0][0]} training examples; lower it"
        )
    return learned, jax.tree.map_with_path(_named, {"test": test})["test"]


def _named(path: tuple[object, ...], leaf: PyTree) -> jax.Array:
    return _array(jax.tree_util.keystr(path, simple=True, separator="/"), leaf)


def _array(name: str, leaf: PyTree) -> jax.Array:
    try:
        given = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        with np.errstate(over="ignore"):
            array = jnp.asarray(given)
        if not (jnp.issubdtype(array.dtype, jnp.number) or jnp.issubdtype(array.dtype, jnp.bool_)):
            raise TypeError(array.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name} must be an array of numbers, got {leaf!r}") from error
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        if array.dtype != given.dtype:
            _check_same(name, np.asarray(given), np.asarray(array))
        return array
    # NumPy has nothing to compile
    if not np.isfinite(np.asarray(array)).all():
        # finite as it was given: the dtype of JAX's array is too narrow
        if np.isfinite(given).all():
            raise ValueError(
                f"{name} holds {np.max(np.abs(given)):g}, which {array.dtype} cannot hold; scale "
                "it down"
            )
        raise ValueError(f"{name} holds NaN or infinity; remove or fill it before training")
    return array


def _check_same(name: str, given: np.ndarray, array: np.ndarray) -> None:
    """Refuses whole numbers that JAX would cut to 32 bits."""
    wrapped = given != array.astype(given.dtype)
    if wrapped.any():
        raise ValueError(
            f"{name} holds {given[wrapped][0]}, which {array.dtype} cannot hold; number its "
            f"values anew, or use jax.enable_x64"
        )
