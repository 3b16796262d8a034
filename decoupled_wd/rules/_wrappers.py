"""Rules around another rule: where it acts, and where not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from decoupled_wd._base.leaves import once_per_shape, widen
from decoupled_wd._base.paths import path_name
from decoupled_wd._base.types import KeyPath, PyTree
from decoupled_wd.rules._rule import Rule, as_rule, with_text

__all__ = ["cautious", "touched"]


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


def touched(rule: Rule, axis: int | tuple[int, ...] = 0) -> Rule:
    """Decay by another rule, but no row whose gradient is zero.

    ``pull ⊙ [row of g ≠ 0]``

    It is meant for embeddings, of whose rows most are in no batch: with decay at every step, rare
    tokens vanish. Only the decay waits. Under plain SGD a row without a gradient then stays as it
    is, bit for bit; under a momentum or Adam it is moved by its moments still, until these have
    faded, as it is without this rule.

    Args:
      rule: any rule.
      axis: along which axes the rows are counted: 0 for a table of (tokens, features), 1 for a head
        of (features, tokens), (0, 1) for a stack of tables. A scalar is one row.

    Returns:
      A rule with the state of the inner one.

    Raises:
      TypeError, ValueError: `rule` is not a rule, or `axis` is no whole number; at init, a
        parameter has no such axis; at update, there are no gradients, as in a chain that does not
        hand them on.

    Examples:
      >>> from decoupled_wd.rules import towards_zero
      >>> rule, table = touched(towards_zero()), jnp.array([[3.0, 1.0], [2.0, 4.0]])
      >>> gradients = jnp.array([[0.0, 0.0], [0.0, 0.1]])
      >>> rule.update(gradients, rule.init(table), table, gradients=gradients)[0].tolist()
      [[0.0, 0.0], [2.0, 4.0]]

    Source: the sparse step of TensorFlow Addons' DecoupledWeightDecayExtension.
    """
    rule = as_rule(rule)
    axes = axis if isinstance(axis, tuple) else (axis,)
    whole = [isinstance(a, int | np.integer) and not isinstance(a, bool) for a in axes]
    if not axes or not all(whole):
        raise TypeError(f"axis must be a whole number or a tuple of them, got {axis!r}; pass 0")

    def init(params: optax.Params) -> optax.OptState:
        jax.tree.map_with_path(lambda path, p: _check_axes(path, p, axes), params)
        return rule.init(params)

    @once_per_shape
    def leaf(r: jax.Array, g: PyTree) -> jax.Array:
        ndim = jnp.ndim(r)
        rows = {a % ndim for a in axes} if ndim else set()
        within = tuple(a for a in range(ndim) if a not in rows)
        # a weight without a gradient is not touched
        found = False if g is None else jnp.any(jnp.asarray(g) != 0, within, keepdims=True)
        return jnp.where(found, r, 0)

    def update(
        updates: PyTree,
        state: PyTree,
        params: PyTree = None,
        *,
        gradients: PyTree = None,
        **extra: object,
    ) -> tuple[PyTree, optax.OptState]:
        if gradients is None:
            raise ValueError(
                "touched looks at the gradients; use it in decouple or an alias, or call update "
                "with gradients= as well"
            )
        pull, state = rule.update(updates, state, params, gradients=gradients, **extra)
        return jax.tree.map(leaf, pull, gradients), state

    around = with_text(Rule(init, update), f"touched({rule!r}, axis={axis!r})")
    around.holds = f"{rule.holds} in rows that have a gradient" if rule.holds else ""
    return around


def _check_axes(path: KeyPath, p: jax.Array, axes: tuple[int, ...]) -> None:
    shape = jnp.shape(p)
    if shape and not all(-len(shape) <= a < len(shape) for a in axes):
        raise ValueError(
            f"axis={axes} does not fit the parameter {path_name(path)!r} of shape {shape}; pass "
            "axes that it has, or leave it out with a mask"
        )


@once_per_shape
def _where_agreed(r: jax.Array, delta: PyTree) -> jax.Array:
    # sign(Δ), and not Δ: the product of two small numbers would underflow to a tie
    direction = 0 if delta is None else jnp.sign(widen(delta)).conj()
    return jnp.where((direction * widen(r)).real <= 0, widen(r), 0)
