"""Rules that are the gradient of a penalty on each weight alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from decoupled_wd._base.checks import check_at_least_one, check_positive
from decoupled_wd._base.leaves import once_per_shape, widen
from decoupled_wd._base.types import PyTree
from decoupled_wd.rules._rule import Rule, call_text, make_rule, reached

__all__ = ["huber", "lp"]


def lp(p: ArrayLike) -> Rule:
    """Decay by the penalty ``||θ||_p^p / p``, stopping at zero.

    ``pull = sign(z)·min(|z|^(p−1), |z|/c)`` with ``z = θ + Δ``

    The pull acts on the weight that the optimiser has reached, as proximal steps do. ``p = 1`` is
    the proximal step itself, the soft threshold ``θ' = sign(z)·max(|z| − c, 0)``. ``p = 2`` is
    ``θ' = (1 − c)·z``, plain decay but for the second-order term c·Δ. Every other p is the gradient
    step on the penalty, cut off at zero. A weight cut off is zero but for the rounding of θ + Δ −
    c·pull, about 1e-7 of the terms in float32.

    Args:
      p: the exponent, at least 1, below which the penalty is not convex.

    Returns:
      A rule without state.

    Raises:
      TypeError, ValueError: `p` is out of range.

    Examples:
      >>> rule, params = lp(1), jnp.array([3.0, -0.25])
      >>> state = rule.init(params)
      >>> pull, _ = rule.update(jnp.zeros(2), state, params, gradients=None, fraction=0.5)
      >>> (params - 0.5 * pull).tolist()
      [2.5, 0.0]

    Source: iterative shrinkage-thresholding, Beck & Teboulle 2009, doi 10.1137/080716542, section
      1.
    """
    check_at_least_one("p", p)

    @once_per_shape
    def leaf(theta: jax.Array, delta: PyTree, fraction: ArrayLike) -> jax.Array:
        z = reached(theta, delta)
        c, exponent = (jnp.asarray(x, z.real.dtype) for x in (fraction, p - 1))
        return _shrinkage(z, c, exponent)

    def pull(
        params: optax.Params,
        _state: PyTree,
        *,
        updates: PyTree,
        fraction: ArrayLike | None = None,
        **_: object,
    ) -> PyTree:
        if fraction is None:
            raise ValueError("lp stops at zero, so it needs fraction=; use it in decay_weights")
        return jax.tree.map(leaf, params, updates, jax.tree.broadcast(fraction, params))

    return make_rule(call_text("lp", p=p), optax.init_empty_state, pull)


def huber(delta: ArrayLike) -> Rule:
    """Decay by Huber's penalty, so that no weight is pulled by more than δ.

    ``pull(θ) = clip(θ, −δ, δ)``

    Small weights decay as ever, and large ones by the same step c·δ whatever their size. For
    complex weights it is the size that is clipped.

    Args:
      delta: δ > 0, in the unit of the weights.

    Returns:
      A rule without state.

    Raises:
      TypeError, ValueError: `delta` is out of range.

    Examples:
      >>> rule, params = huber(1.0), jnp.array([3.0, -0.5])
      >>> pull, _ = rule.update(jnp.zeros(2), rule.init(params), params, gradients=None)
      >>> pull.tolist()
      [1.0, -0.5]

    Source: decoupled Huber decay, arXiv 2511.14721.
    """
    check_positive("delta", delta, "use towards_zero() for no limit")

    @once_per_shape
    def leaf(p: jax.Array) -> jax.Array:
        wide = widen(p)
        limit = jnp.asarray(delta, wide.real.dtype)
        # exactly θ where |θ| <= δ, and no denominator of 0
        clipped: jax.Array = wide * (limit / jnp.maximum(jnp.abs(wide), limit))
        return clipped

    def pull(params: optax.Params, _state: PyTree, **_: object) -> PyTree:
        return jax.tree.map(leaf, params)

    return make_rule(call_text("huber", delta=delta), optax.init_empty_state, pull)


def _shrinkage(z: jax.Array, c: jax.Array, exponent: jax.Array) -> jax.Array:
    """Return ``sign(z)·min(|z|^e, |z|/c)`` with finite derivatives.

    They are those of the step ``z − c·pull``, also at z = 0 and c = 0.
    """
    limits = jnp.finfo(c.dtype)  # type: ignore[no-untyped-call]
    # roots of |z| are steep at 0, and `where` multiplies the derivative that it leaves out by 0: it
    # must be finite all the same
    size = jnp.where(z == 0, limits.tiny, jnp.abs(z))
    power = jnp.minimum(size**exponent, limits.max)
    sign = z / size if jnp.iscomplexobj(z) else jnp.sign(z)
    gradient = jnp.where(z == 0, z * limits.tiny ** (exponent - 1), sign * power)
    # here the step would cross zero, so it stops there
    cut = c * power >= size
    return jnp.where(cut, z / jnp.where(cut, c, 1), gradient)
