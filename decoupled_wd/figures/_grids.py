"""Grids of errors over learning rate α and weight decay λ: how they are given, and their axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from decoupled_wd._ridges import checked, require
from decoupled_wd.figures._inputs import check_labels, numbers

Array = NDArray[np.float64]
_DIMS = ("learning_rate", "weight_decay")


class Labelled(Protocol):
    """An array with named dimensions, such as `xarray.DataArray`, which is not imported here."""

    @property
    def dims(self) -> tuple[Any, ...]:
        """The names of the dimensions."""

    @property
    def coords(self) -> Mapping[Any, Any]:
        """The values along dimensions, by name."""

    def transpose(self, *dims: str) -> Labelled:
        """The same array, its dimensions in this order."""

    def __array__(self) -> NDArray[Any]: ...


Grid = Labelled | tuple[ArrayLike, ArrayLike, ArrayLike]


class Cells(NamedTuple):
    """The errors of all seeds, [A, L, S], over rising α and rising λ."""

    error: Array
    learning_rate: Array
    weight_decay: Array

    @property
    def mean(self) -> Array:
        """[A, L], NaN where a seed diverged."""
        mean: Array = self.error.mean(axis=2)
        return mean


def read(results: Mapping[str, Grid]) -> dict[str, Cells]:
    """Return every grid as arrays, checked."""
    check_labels("results", results, "a grid: (error, learning_rate, weight_decay)")
    return {name: _sorted(*_arrays(name, grid)) for name, grid in results.items()}


def _arrays(name: str, grid: Grid) -> tuple[Array, Array, Array]:
    if isinstance(grid, tuple):
        require(
            len(grid) == 3,
            f"results[{name!r}] must be (error, learning_rate, weight_decay), got a tuple of "
            f"{len(grid)}",
        )
        error, rates, decays = (numbers(f"results[{name!r}]", each) for each in grid)
        return error, rates, decays
    if not hasattr(grid, "dims"):
        raise TypeError(
            f"results[{name!r}] must be (error, learning_rate, weight_decay) or an array with "
            f"those dimensions, such as xarray's, got {type(grid).__name__}"
        )
    dims, seeds = set(grid.dims), tuple(set(grid.dims) - set(_DIMS))
    require(
        set(_DIMS) <= dims and set(_DIMS) <= set(grid.coords) and seeds in ((), ("seed",)),
        f"results[{name!r}] must have the dimensions {_DIMS}, with coordinates, and at most 'seed' "
        f"beside them; got {tuple(grid.dims)} with coordinates for {tuple(grid.coords)}",
    )
    rates, decays = (numbers(f"{dim} of results[{name!r}]", grid.coords[dim]) for dim in _DIMS)
    return numbers(f"results[{name!r}]", grid.transpose(*_DIMS, *seeds)), rates, decays


def _sorted(error: Array, learning_rate: Array, weight_decay: Array) -> Cells:
    runs, rates, decays = checked(error, learning_rate, weight_decay)
    rows, columns = np.argsort(rates), np.argsort(decays)
    return Cells(runs[rows][:, columns], rates[rows], decays[columns])


def labels(values: Array) -> tuple[list[str], str]:
    """Write the values as powers of two, if they are.

    They may be powers of two of a power of ten, which the axis then names.
    """
    positive = values[values > 0]
    zero = ["0"] * (values.size - positive.size)
    for unit in (1.0, 0.1, 10.0, 0.01, 0.001, 0.0001, 0.00001):
        exponents = np.log2(positive / unit)
        if np.allclose(exponents, exponents.round(), atol=1e-4):
            powers = [f"$2^{{{round(exponent)}}}$" for exponent in exponents]
            return zero + powers, f" (× {unit:g})" * (unit != 1)
    return zero + [_short(value) for value in positive], ""


def _short(value: float) -> str:
    scientific = np.format_float_scientific(value, 1, trim="-", exp_digits=1)
    return min(scientific, f"{value:.2g}", key=len)


def ticks(values: Array) -> list[int]:
    """Choose about six places to label, from the last one down.

    λ = 0 is always among them, and the place beside it never.
    """
    step = -(-values.size // 6)
    if values[0] == 0:
        return [0, *range(values.size - 1, 1, -step)]
    return list(range(values.size - 1, -1, -step))
