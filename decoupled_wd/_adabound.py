"""AdaBound: Adam whose step per weight is kept between bounds that close on a learning rate for SGD."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from decoupled_wd._scalars import check_positive, check_scalar_or_schedule, scheduled
from decoupled_wd._trees import map_leaves, root, widen
from decoupled_wd.coupling import PAPER
from decoupled_wd.preconditioners import ScaleByAdamState, scale_by_adam


def scale_by_adabound(
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    *,
    learning_rate: optax.ScalarOrSchedule,
    peak_learning_rate: Any = None,
    final_learning_rate: Any = 0.1,
    gamma: Any = 1e-3,
    mu_dtype: DTypeLike | None = None,
    nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """AdaBound's step ``clip(lr_t·√(1−β2^t)/(1−β1^t)/(√v + ε), lo, hi) · m``, before the sign flip.

    To be followed by ``optax.scale(-1)``: the learning rate is inside, since the bounds are on the product.
    ``lo = f·(1 − 1/(γt + 1))`` and ``hi = f·(1 + 1/(γt))`` close on ``f = η_t·final_learning_rate``, the
    learning rate of SGD with the momentum m.

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

    Source: Luo et al., arXiv 1902.09843, Algorithm 2, with the bounds and bias correction of the authors' code.
    """
    check_scalar_or_schedule("learning_rate", learning_rate)
    if not callable(learning_rate):
        check_positive(
            "learning_rate", learning_rate, "the lower bound moves the weights even at 0"
        )
    check_positive("final_learning_rate", final_learning_rate)
    check_positive("gamma", gamma, "use scale_by_adam for Adam without bounds")
    final = PAPER.fraction(final_learning_rate, learning_rate, peak_learning_rate)  # final · η_t
    adam = scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype)

    def update(
        updates: optax.Updates, state: ScaleByAdamState, params: Any = None, **extra: Any
    ) -> tuple[optax.Updates, ScaleByAdamState]:
        del params, extra
        f, lr = final(state.count), scheduled("learning_rate", learning_rate, state.count)
        directions, state = adam.update(updates, state)
        t = state.count
        rate = lr * jnp.sqrt(1 - b2**t) / (1 - b1**t)
        lo, hi = f * (gamma * t / (gamma * t + 1)), f * (1 + 1 / (gamma * t))

        def leaf(_: Any, m: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            m_wide, v_wide = widen(m), widen(v)
            a, low, high = (jnp.asarray(x, v_wide.dtype) for x in (rate, lo, hi))
            return jnp.clip(a / (root(v_wide) + eps), low, high) * m_wide, m, v

        return map_leaves(leaf, directions, state.mu, state.nu)[0], state

    return optax.GradientTransformationExtraArgs(adam.init, update)
