"""What a rule is: an optax pair that emits the pull, and whose text is its call."""

from __future__ import annotations

from collections.abc import Callable

import jax
import optax

from decoupled_wd._base.leaves import widen
from decoupled_wd._base.types import PyTree

__all__ = ["Rule"]


class Rule(optax.GradientTransformationExtraArgs):  # type: ignore[misc]  # optax carries no types
    """What the weights decay towards.

    It is an optax pair whose updates are the pull, and whose text is its call.

    Examples:
      >>> from decoupled_wd.rules import cautious, towards_norm
      >>> cautious(towards_norm(0.5))
      cautious(towards_norm(radius=0.5))
    """

    text = "Rule(...)"
    holds = ""
    """What a fraction of 1 does with a weight, where that is not to remove it."""

    def __repr__(self) -> str:
        """Write the call that makes it."""
        return self.text


def as_rule(rule: object) -> Rule:
    """Return the rule itself, or a plain optax pair as one.

    Such a pair need not take ``gradients=`` and ``fraction=``.

    Raises:
      TypeError: `rule` is no optax pair; the usual slip is a rule that was not called.
    """
    if isinstance(rule, Rule):
        return rule
    if not isinstance(rule, optax.GradientTransformation):
        name = getattr(rule, "__name__", None)
        remedy = f"call it, as in {name}()" if name else "pass one of rules, as in towards_zero()"
        raise TypeError(f"rule must be a rule, got {rule!r}; {remedy}")
    return Rule(*optax.with_extra_args_support(rule))


def reached(theta: jax.Array, delta: PyTree) -> jax.Array:
    """Return ``z = θ + Δ``, at which the optimiser has arrived."""
    # a weight without a gradient has no step
    z: jax.Array = widen(theta) if delta is None else widen(theta) + widen(delta)
    return z


def make_rule(text: str, init: Callable[[PyTree], PyTree], pull: Callable[..., PyTree]) -> Rule:
    """Make a rule from ``pull(params, state, *, updates, ...)``.

    It leaves its state as it is.
    """

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, **extra: object
    ) -> tuple[PyTree, PyTree]:
        return pull(params, state, updates=updates, **extra), state

    return with_text(Rule(init, update), text)


def with_text(rule: Rule, text: str) -> Rule:
    rule.text = text
    return rule


def call_text(name: str, **arguments: object) -> str:
    """Write the call that makes a rule.

    What is not a number is cut short, since a target may be a whole model.
    """
    shown = {key: x for key, x in arguments.items() if x is not None}
    texts = [
        f"{key}={x!r}" if isinstance(x, int | float | tuple | slice) else f"{key}=..."
        for key, x in shown.items()
    ]
    return f"{name}({', '.join(texts)})"
