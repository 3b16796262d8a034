"""What the optimiser does with the gradient: the paper's momentum and Adam, and AdaBound.

All arithmetic is in float32 or wider whatever the parameters' dtype, and so are the moments unless
their storage dtype is chosen. In bfloat16 they are rounded by chance: to nearest, a change below
half the distance to a neighbour is lost, however often it comes. The update leaves these links in
float32 or wider too: round it once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from decoupled_wd._base.checks import (
    check_averaging_rate,
    check_nonnegative,
    check_positive,
    check_scalar_or_schedule,
    scheduled,
)
from decoupled_wd._base.leaves import (
    map_leaves,
    once_per_numbers,
    once_per_shape,
    root,
    widen,
)
from decoupled_wd._base.types import Number, PyTree, ScalarOrSchedule
from decoupled_wd._base.updates import check_gradients
from decoupled_wd._storage import check_storage_dtype, stored, to_be_stored, zeros
from decoupled_wd.coupling import follow

LeafStep: TypeAlias = Callable[..., tuple[jax.Array, ...]]


class ScaleByMomentumState(NamedTuple):
    """Step count and momentum m."""

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count, as in optax
    momentum: optax.Updates


class ScaleByAdamState(NamedTuple):
    """Step count t, first moment m and second moment v."""

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count, as in optax
    mu: optax.Updates
    nu: optax.Updates


def scale_by_momentum(
    momentum: ArrayLike = 0.9,
    *,
    learning_rate: ScalarOrSchedule = 1.0,
    momentum_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Emit momentum m with the learning rate inside its buffer.

    ``m ← β1·m + η_t·α·g``

    That is Algorithm 1, to be followed by ``optax.scale(-1)``. With the learning rate left at 1 and
    ``optax.scale_by_learning_rate(lr)`` behind, the learning rate stands outside the buffer, as in
    the authors' released code, optax and PyTorch: the same steps while it is constant, others when
    it moves.

    Args:
      momentum: β1 in [0, 1).
      learning_rate: η_t·α, a number or a schedule.
      momentum_dtype: storage dtype of m for real parameters; by default theirs, at least float32.
        In bfloat16 it is rounded by chance.

    Returns:
      A link whose state holds a count and one m per weight.

    Raises:
      TypeError, ValueError: a number is out of range, a storage dtype is not a real floating-point
        one of at least 16 bits, or, in `update`, a gradient has not the structure, shape or kind of
        its weight.

    Examples:
      >>> link = scale_by_momentum(0.5, learning_rate=0.1)
      >>> state = link.init(jnp.zeros(1))
      >>> m, state = link.update(jnp.ones(1), state)
      >>> m, state = link.update(jnp.ones(1), state)
      >>> round(float(m[0]), 6)
      0.15

    Source: arXiv 1711.05101, Algorithm 1, line 8.
    """
    check_averaging_rate("momentum", momentum)
    check_scalar_or_schedule("learning_rate", learning_rate)
    check_storage_dtype("momentum_dtype", momentum_dtype)

    momentum_step = _momentum_step(momentum)

    def init(params: optax.Params) -> ScaleByMomentumState:
        return ScaleByMomentumState(jnp.zeros([], jnp.int32), zeros(params, momentum_dtype))

    def update(
        updates: optax.Updates, state: ScaleByMomentumState, params: PyTree = None, **extra: object
    ) -> tuple[optax.Updates, ScaleByMomentumState]:
        del params, extra
        check_gradients("gradients", updates, state.momentum)
        lr = scheduled("learning_rate", learning_rate, state.count)
        t = optax.safe_increment(state.count)
        updates, m = map_leaves(lambda g, m: momentum_step(g, m, lr), updates, state.momentum)
        return updates, ScaleByMomentumState(t, *stored((m,), (state.momentum,), t))

    return optax.GradientTransformationExtraArgs(init, update)


def scale_by_adam(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    *,
    mu_dtype: DTypeLike | None = None,
    nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Emit Adam's direction ``m̂ / (√v̂ + ε)``.

    The moments are corrected for their start: ``m̂ = m/(1−β1^t)`` and ``v̂ = v/(1−β2^t)``.

    ``m ← β1·m + (1−β1)·g``, ``v ← β2·v + (1−β2)·g²`` (|g|² for complex g). On float32 it is
    ``optax.scale_by_adam`` bit for bit; on narrower dtypes it computes in float32 where optax does
    not.

    Args:
      b1: β1 in [0, 1).
      b2: β2 in [0, 1).
      eps: ε >= 0, outside the root and after the bias correction.
      mu_dtype: storage dtype of m for real parameters; by default theirs, at least float32.
      nu_dtype: storage dtype of v, not float16; by default the same. In bfloat16 both are rounded
        by chance, so that v follows a falling gradient on average; of a weight it is off by some
        10 %.

    Returns:
      A link whose state holds a count and m and v per weight.

    Raises:
      TypeError, ValueError: a number is out of range, a storage dtype is not a real floating-point
        one of at least 16 bits, or, in `update`, a gradient has not the structure, shape or kind of
        its weight.

    Examples:
      >>> link = scale_by_adam()
      >>> direction, state = link.update(jnp.array([4.0]), link.init(jnp.zeros(1)))
      >>> round(float(direction[0]), 4)
      1.0

    Source: arXiv 1711.05101, Algorithm 2, lines 7 to 10; Kingma & Ba, arXiv 1412.6980, Algorithm 1.
    """
    check_averaging_rate("b1", b1)
    check_averaging_rate("b2", b2)
    check_nonnegative("eps", eps)
    check_storage_dtype("mu_dtype", mu_dtype)
    check_storage_dtype("nu_dtype", nu_dtype)
    if nu_dtype is not None and jnp.dtype(nu_dtype) == jnp.float16:
        raise TypeError(
            "nu_dtype must not be float16, in which v, a mean of squares, is 0 for gradients below "
            "about 5e-3, so that their steps are many times too large; pass jnp.bfloat16"
        )

    adam_step = _adam_step(b1, b2, eps)

    def init(params: optax.Params) -> ScaleByAdamState:
        # |g|² is real
        nu = jax.tree.map(jnp.real, zeros(params, nu_dtype))
        return ScaleByAdamState(jnp.zeros([], jnp.int32), zeros(params, mu_dtype), nu)

    def update(
        updates: optax.Updates, state: ScaleByAdamState, params: PyTree = None, **extra: object
    ) -> tuple[optax.Updates, ScaleByAdamState]:
        del params, extra
        check_gradients("gradients", updates, state.mu)
        # the first step has t = 1: with t = 0 the corrections would divide by 0
        t = optax.safe_increment(state.count)
        corrections = 1 - b1**t, 1 - b2**t
        updates, mu, nu = map_leaves(
            lambda g, m, v: adam_step(g, m, v, *corrections), updates, state.mu, state.nu
        )
        return updates, ScaleByAdamState(t, *stored((mu, nu), (state.mu, state.nu), t))

    return optax.GradientTransformationExtraArgs(init, update)


@once_per_numbers
def _momentum_step(momentum: ArrayLike) -> LeafStep:
    @once_per_shape
    def step(g: jax.Array, m: jax.Array, lr: Number) -> tuple[jax.Array, jax.Array]:
        m_next = momentum * widen(m) + lr * widen(g)
        return m_next, to_be_stored(m_next, m)

    return step


@once_per_numbers
def _adam_step(b1: ArrayLike, b2: ArrayLike, eps: ArrayLike) -> LeafStep:
    @once_per_shape
    def step(
        g: jax.Array, m: jax.Array, v: jax.Array, correction1: jax.Array, correction2: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        g = widen(g)
        # in optax's order of operations: on float32 the bits are the same
        m_next = (1 - b1) * g + b1 * widen(m)
        # |g|² is real also for complex g, and so is v
        v_next = (1 - b2) * (g * g.conj()).real + b2 * widen(v)
        # the corrections are float32; a float64 moment keeps its precision
        m_hat = m_next / correction1.astype(m_next.dtype)
        v_hat = v_next / correction2.astype(v_next.dtype)
        return m_hat / (root(v_hat) + eps), to_be_stored(m_next, m), to_be_stored(v_next, v)

    return step


def scale_by_adabound(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    *,
    learning_rate: ScalarOrSchedule,
    peak_learning_rate: ArrayLike | None = None,
    final_learning_rate: ArrayLike = 0.1,
    gamma: ArrayLike = 1e-3,
    mu_dtype: DTypeLike | None = None,
    nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Emit AdaBound's step, before the sign flip.

    ``clip(lr_t·√(1−β2^t)/(1−β1^t)/(√v + ε), lo, hi) · m``

    To be followed by ``optax.scale(-1)``: the learning rate is inside, since the bounds are on the
    product. ``lo = f·(1 − 1/(γt + 1))`` and ``hi = f·(1 + 1/(γt))`` close on
    ``f = η_t·final_learning_rate``, the learning rate of SGD with the momentum m.

    Args:
      b1, b2, eps: as in `scale_by_adam`, but ε is added to √v before the bias correction.
      learning_rate: lr_t = η_t·α > 0, a number or a schedule.
      peak_learning_rate: α. Needed with a schedule, by which f moves too; it is never guessed.
      final_learning_rate: f at the peak.
      gamma: γ > 0, how fast the bounds close: after 1/γ steps lo = f/2 and hi = 2·f.
      mu_dtype, nu_dtype: as in `scale_by_adam`; the step uses m and v as they are stored.

    Returns:
      A link with the state of `scale_by_adam`.

    Raises:
      TypeError, ValueError: a number is out of range, or α is missing.

    Examples:
      >>> link = scale_by_adabound(learning_rate=1e-3, final_learning_rate=0.1, gamma=1e-3)
      >>> step, _ = link.update(jnp.array([4.0]), link.init(jnp.zeros(1)))
      >>> round(float(step[0]), 6)
      0.001

    Source: Luo et al., arXiv 1902.09843, Algorithm 2, with the bounds and bias correction of the
      authors' code.
    """
    check_scalar_or_schedule("learning_rate", learning_rate)
    if not callable(learning_rate):
        check_positive(
            "learning_rate", learning_rate, "the lower bound moves the weights even at 0"
        )
    check_positive("final_learning_rate", final_learning_rate)
    check_positive("gamma", gamma, "use scale_by_adam for Adam without bounds")
    final = follow(final_learning_rate, learning_rate, peak_learning_rate)
    adam = scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype)

    def update(
        updates: optax.Updates, state: ScaleByAdamState, params: PyTree = None, **extra: object
    ) -> tuple[optax.Updates, ScaleByAdamState]:
        del params, extra
        f, lr = final(state.count), scheduled("learning_rate", learning_rate, state.count)
        # of the directions only the places of absent leaves are used
        directions, state = adam.update(updates, state)
        t = state.count
        # both bias corrections at once, as in the authors' code
        rate = lr * jnp.sqrt(1 - b2**t) / (1 - b1**t)
        lo, hi = f * (gamma * t / (gamma * t + 1)), f * (1 + 1 / (gamma * t))

        def leaf(_: object, m: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            m_wide, v_wide = widen(m), widen(v)
            a, low, high = (jnp.asarray(x, v_wide.dtype) for x in (rate, lo, hi))
            return jnp.clip(a / (root(v_wide) + eps), low, high) * m_wide, m, v

        return map_leaves(leaf, directions, state.mu, state.nu)[0], state

    return optax.GradientTransformationExtraArgs(adam.init, update)


def scale_by_rate(learning_rate: ScalarOrSchedule) -> optax.GradientTransformation:
    """Scale by the learning rate and flip the sign, with a count even for a number.

    So a checkpoint survives a change to a schedule.
    """
    check_scalar_or_schedule("learning_rate", learning_rate)
    constant = not callable(learning_rate)
    # a schedule even for a constant: the state then has the same structure
    return optax.scale_by_learning_rate(
        optax.constant_schedule(learning_rate) if constant else learning_rate
    )
