"""Which parameters decay, and how much each.

A mask gives every leaf a multiplier m >= 0, resolved from the params.

A mask is a small frozen value, not a bare callable, so that ``optax.inject_hyperparams`` cannot
mistake it for a schedule. optax's own habits work too: a callable, called on the *params*, or a
tree of booleans or numbers with the structure of the params or a prefix of it. Paths are
``dense/kernel`` in every library.

Masks combine, leaf by leaf: ``a & b`` is the smaller multiplier and ``a | b`` the larger (with
multipliers of 0 and 1: where both, where either), ``~a`` is 1 − m, ``0.1 * a`` is 0.1·m, and
``a * b`` the product. A multiplier may be traced, or a schedule.

Examples:
  >>> import jax.numpy as jnp
  >>> head = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
  >>> params = {"embed": {"embedding": jnp.ones((9, 2))}, "head": head}
  >>> multipliers(matrices() & without("embedding"), params)
  {'embed': {'embedding': 0.0}, 'head': {'bias': 0.0, 'kernel': 1.0}}
  >>> multipliers(without("bias", "embedding") | 0.1 * matrices(), params)
  {'embed': {'embedding': 0.1}, 'head': {'bias': 0.0, 'kernel': 1.0}}
"""

from decoupled_wd.masks._mask import Mask
from decoupled_wd.masks._mask import MaskLike as MaskLike
from decoupled_wd.masks._mask import Match as Match
from decoupled_wd.masks._multipliers import matches as matches
from decoupled_wd.masks._multipliers import multipliers
from decoupled_wd.masks._multipliers import select as select
from decoupled_wd.masks._numbers import is_known as is_known
from decoupled_wd.masks._numbers import is_off as is_off
from decoupled_wd.masks._numbers import shown as shown
from decoupled_wd.masks._policies import everything, matching, matrices, without
from decoupled_wd.masks._widths import relative_to

__all__ = ["Mask", "everything", "matching", "matrices", "multipliers", "relative_to", "without"]


def __dir__() -> list[str]:
    """List the names for users, for tab completion."""
    return __all__
