"""Networks by name: those of the study, and functions of the user's, checked before training."""

import importlib
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from decoupled_wd._base.types import PyTree
from decoupled_wd.study.tasks.data import Dataset
from decoupled_wd.study.tasks.language import transformer
from decoupled_wd.study.tasks.models import NETWORKS, Model, mlp

TRANSFORMER = "transformer"
"""The network that learns text, and nothing else."""
OF_WIDTH: Mapping[str, Callable[[Dataset, int], Model]] = MappingProxyType(
    {
        "mlp": lambda data, width: mlp(
            math.prod(data.shape), data.num_classes, hidden=(width, width)
        ),
        TRANSFORMER: lambda data, width: transformer(data.num_classes, data.shape[0], width=width),
    }
)
"""Networks that have a width."""
KNOWN: Mapping[str, Callable[[Dataset], Model]] = MappingProxyType(
    {
        **NETWORKS,
        TRANSFORMER: lambda data: transformer(data.num_classes, data.shape[0]),
    }
)


def network(name: str, data: Dataset) -> Model:
    """Returns the network of this name, for this data set.

    Args:
      name: one of `KNOWN`, or ``MODULE:FUNCTION``. The function is called with the `Dataset`,
        whose `shape` and `num_classes` say what the network is for, and returns a `Model`, which
        `from_module` makes of an nnx module.
      data: what the network will learn.

    Raises:
      ValueError: the name is unknown, the module or the function is not there, the function fails,
        or what it returns is no `Model` that fits the data.

    Examples:
      >>> from decoupled_wd.study.tasks.data import digits
      >>> model = network("decoupled_wd.study.tasks.models:small", digits())
      Traceback (most recent call last):
      ValueError: network decoupled_wd.study.tasks.models:small: the module has no function small
    """
    if name in KNOWN:
        return KNOWN[name](data)
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ValueError(
            f"network must be one of {', '.join(KNOWN)}, or MODULE:FUNCTION; got {name!r}"
        )
    make = _found(f"network {name}", module, function)
    model = _called(f"network {name}: {function}(dataset)", make, data)
    if not isinstance(model, Model):
        raise ValueError(
            f"network {name} must return a decoupled_wd.study.tasks.models.Model, got {model!r}; "
            "make one of an nnx module with from_module"
        )
    _check(f"network {name}", model, data)
    return model


def _found(where: str, module: str, function: str) -> Callable[..., Any]:
    try:
        found = importlib.import_module(module)
    # whatever a user's module raises is told with its name
    except Exception as error:
        raise ValueError(
            f"{where}: the module {module} cannot be imported ({type(error).__name__}: {error}); "
            "write its name as in import, and start in its folder or install it"
        ) from error
    make: Callable[..., Any] | None = getattr(found, function, None)
    if not callable(make):
        raise ValueError(f"{where}: the module has no function {function}")
    return make


def _called(where: str, function: Callable[..., Any], *arguments: object) -> Any:
    try:
        return function(*arguments)
    except Exception as error:
        raise ValueError(f"{where} raises {type(error).__name__}: {error}; correct it") from error


def _check(where: str, model: Model, data: Dataset) -> None:
    """Checks shapes and types alone: nothing is computed."""
    batch = jnp.asarray(data.x_train[:2]), jnp.asarray(data.y_train[:2])
    held_out = dict.fromkeys(("validation", "test"), batch)

    def shapes(name: str, *arguments: PyTree) -> PyTree:
        field = getattr(model, name)
        return _called(f"{where}: {name}", lambda: jax.eval_shape(field, *arguments))

    key = jax.random.key(0)
    params = shapes("init", key)
    loss = shapes("loss", params, *batch, key)
    if not _is_number(loss):
        raise ValueError(f"{where}: loss must give one float, got {loss}; average it")
    found = shapes("evaluate", params, batch, held_out)
    wanted = {"train_loss", "validation_error", "test_error"}
    if (
        not isinstance(found, dict)
        or {*found} != wanted
        or not all(map(_is_number, found.values()))
    ):
        raise ValueError(
            f"{where}: evaluate must give one float for each of {sorted(wanted)}, got {found}"
        )


def _is_number(leaf: PyTree) -> bool:
    return getattr(leaf, "shape", None) == () and jnp.issubdtype(leaf.dtype, jnp.floating)
