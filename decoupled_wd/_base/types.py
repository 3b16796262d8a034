"""What goes in and comes out, as the signatures of the package name it."""

from collections.abc import Callable, Mapping
from dataclasses import Field
from typing import Any, ClassVar, Protocol, TypeAlias

from jax.typing import ArrayLike

PyTree: TypeAlias = Any
"""Params, gradients, states and their parts: any tree that JAX knows, down to a single leaf."""

KeyPath: TypeAlias = tuple[Any, ...]
"""The keys that lead to a leaf, as ``jax.tree_util`` gives them."""

DType: TypeAlias = Any
"""The dtype of an array, or the type of a Python number: what ``jnp.issubdtype`` takes."""

PyTreeDef: TypeAlias = Any
"""The structure of a tree, ``jax.tree_util.PyTreeDef``, whose methods carry no types."""

Number: TypeAlias = Any
"""One real number that was checked, Python's or an array's, traced or not, to calculate with.

`ArrayLike` says the same where a number is only handed on: it allows complex numbers and booleans,
so that a type checker refuses ``float(number)`` and ``number < 1``.
"""

Schedule: TypeAlias = Callable[[Any], Any]
"""A function from the step count to a number, as optax's schedules are."""

ScalarOrSchedule: TypeAlias = ArrayLike | Schedule
"""A number or a schedule."""


class Node(Protocol):
    """A dataclass that is a tree, as Equinox and flax make them."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


Nested: TypeAlias = Mapping[Any, Any] | list[Any] | tuple[Any, ...] | Node
"""A tree with at least one node: what can be told from text and numbers by its type."""

WeightDecay: TypeAlias = ScalarOrSchedule | Nested
"""λ: a number, a schedule, or a tree of these with the structure of the params or a prefix."""
