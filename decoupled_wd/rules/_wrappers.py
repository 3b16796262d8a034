"""Rules around another rule: where it acts, and where not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._base.leaves import once_per_shape, widen
from decoupled_wd._base.types import PyTree
from decoupled_wd.rules._rule import Rule, as_rule, with_text

__all__ = ["cautious"]


def cautious(rule: Rule) -> Rule:
    """Decay by another rule, where the step already goes that way.

    ``pull ⊙ [Δ·pull <= 0]``

    Δ is added and the pull subtracted, so they agree where their signs differ. Ties decay, and so
    does a weight without a gradient, for which Δ = 0. For complex weights the product is
    ``Re(conj(Δ)·pull)``.

    Args:
      rule: any rule.

    Returns:
      A rule with the state of the inner one.

    Raises:
      TypeError: `rule` is not a rule.

    Examples:
      >>> from decoupled_wd.rules import towards_zero
      >>> rule, params = cautious(towards_zero()), jnp.array([3.0, 3.0])
      >>> pull, _ = rule.update(jnp.array([-1.0, 1.0]), rule.init(params), params, gradients=None)
      >>> pull.tolist()
      [3.0, 0.0]

    Source: cautious weight decay, arXiv 2510.12402, in optax's sign.
    """
    rule = as_rule(rule)

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, **extra: object
    ) -> tuple[PyTree, optax.OptState]:
        pull, state = rule.update(updates, state, params, **extra)
        return jax.tree.map(_where_agreed, pull, updates), state

    return with_text(Rule(rule.init, update), f"cautious({rule!r})")


@once_per_shape
def _where_agreed(r: jax.Array, delta: PyTree) -> jax.Array:
    # sign(Δ), and not Δ: the product of two small numbers would underflow to a tie
    direction = 0 if delta is None else jnp.sign(widen(delta)).conj()
    return jnp.where((direction * widen(r)).real <= 0, widen(r), 0)
