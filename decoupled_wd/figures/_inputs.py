"""What every figure asks of its input: a mapping from labels, and numbers behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from decoupled_wd._base.checks import check_type
from decoupled_wd._ridges import require


def check_labels(name: str, given: object, what: str) -> None:
    """Check that something stands behind at least one label."""
    check_type(name, given, Mapping, f"pass a dict from a label to {what}")
    require(bool(given), f"{name} is empty: it needs a label with {what}")


def numbers(name: str, values: ArrayLike | Any) -> NDArray[np.float64]:
    """Return numbers, or those of a labelled array, in float64."""
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be numbers, got {type(values).__name__}: {error}; pass an array"
        ) from error
