"""What is asked of the numbers of a formula: a number, or an array of them, traced or not."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from decoupled_wd._base.types import Number


def check_all(check: Callable[[str, Number], None], **arguments: Number) -> None:
    """Check every entry of an array; of a traced one, nothing."""
    for name, value in arguments.items():
        if isinstance(value, jax.core.Tracer):
            continue
        if np.size(value) == 0 or isinstance(value, list | tuple):
            raise TypeError(
                f"{name} must be a number or an array of them, got {value!r}; pass an array"
            )
        # NaN is both the least and the greatest of its array
        extremes = (np.min(value), np.max(value)) if np.ndim(value) else (value,)
        for number in extremes:
            check(name, number)
