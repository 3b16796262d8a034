"""Towards what the weights decay: each rule is an optax pair that emits the pull.

``init(params) -> state`` and ``update(updates, state, params, *, gradients) -> (pull, state)``. A rule sees
the optimiser's final updates Δ and the raw gradients, may keep state, and never sees a masked-out leaf.
`decay_weights` subtracts ``c_t · m ⊙ pull``.
"""

from typing import Any, TypeAlias

import optax

Rule: TypeAlias = optax.GradientTransformationExtraArgs


def towards_zero() -> Rule:
    """Plain weight decay: ``pull(θ) = θ``.

    Returns:
      A rule without state.

    Example:
      >>> import jax.numpy as jnp
      >>> rule = towards_zero()
      >>> pull, _ = rule.update(jnp.zeros(1), rule.init(jnp.ones(1)), jnp.array([3.0]), gradients=None)
      >>> float(pull[0])
      3.0

    Source: arXiv 1711.05101, Algorithm 2, line 12.
    """

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        del updates, extra
        return params, state

    return Rule(optax.init_empty_state, update)
