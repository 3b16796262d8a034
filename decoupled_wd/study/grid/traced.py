"""What a user's functions give a sweep, checked while it is traced.

An error names the function and what it gave.
"""

import numbers
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from decoupled_wd._base.types import PyTree
from decoupled_wd.study.grid.checks import check_names
from decoupled_wd.study.grid.types import Loss


def check_optimizer(optimizer: object) -> None:
    """Refuses what `make_optimizer` gives if it is no optimiser."""
    if not (callable(getattr(optimizer, "init", None)) and hasattr(optimizer, "update")):
        raise TypeError(
            f"make_optimizer must give an optax optimiser, got {optimizer!r}; return a "
            "GradientTransformation"
        )


def check_params(params: PyTree) -> None:
    """Refuses what `init` gives if it is no tree of floats."""
    if not jax.tree.leaves(params):
        raise ValueError("init must give parameters, got a tree without arrays; return some")
    for path, leaf in jax.tree.leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise TypeError(
                f"init must give floats, got {leaf.dtype} at {name!r}; keep what is not trained "
                "out of the params"
            )


def scalar(loss: Loss) -> Loss:
    """Returns the loss, checked to give one float."""

    def checked(*arguments: PyTree) -> jax.Array:
        value = loss(*arguments)
        one = _is_number(value) and jnp.shape(value) == ()
        if not (one and jnp.issubdtype(jnp.result_type(value), jnp.floating)):
            raise ValueError(
                f"loss must give one float, got {value!r}; reduce it, with jnp.mean for example"
            )
        return value

    return checked


def named(metrics: PyTree, hyperparameters: Iterable[str]) -> dict[str, jax.Array]:
    """Returns scalars by name; floats are at least float32.

    Every reader of the store knows those.
    """
    given = dict(metrics) if isinstance(metrics, Mapping) else {"metric": metrics}
    if not given:
        raise ValueError("metric must give at least one number, got an empty dict; return one")
    check_names(given, hyperparameters)
    for name, value in given.items():
        if not _is_number(value):
            raise ValueError(
                f"metric must give numbers, got {name} {value!r}; return an array or a dict of them"
            )
        if jnp.shape(value) != ():
            raise ValueError(f"metric must give scalars, got {name} {jnp.shape(value)}; reduce it")
    return {name: _wide(jnp.asarray(value)) for name, value in given.items()}


def _is_number(value: object) -> bool:
    if not isinstance(value, jax.Array | np.ndarray | np.generic | numbers.Number):
        return False
    dtype = jnp.result_type(value)
    return bool(jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_))


def _wide(array: jax.Array) -> jax.Array:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return array
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))
