"""The paper's optimisers by name: each is a composition of the pieces, and nothing else.

`sgd` and `adam` put ``l2`` into the gradient; `sgdw` and `adamw` decay beside the step; `sgdwr` and
`adamwr` add warm restarts with normalised decay. All of them step in float32 and emit the
gradients' dtype.
"""

from __future__ import annotations

from typing import TypeAlias

import optax
from jax.typing import ArrayLike, DTypeLike

from decoupled_wd._base.checks import check_positive
from decoupled_wd._base.types import ScalarOrSchedule, Schedule, WeightDecay
from decoupled_wd._resolution import check_weight_decay
from decoupled_wd._slips import warn_of_strong_l2
from decoupled_wd.coupling import PAPER, Coupling
from decoupled_wd.masks import MaskLike, everything
from decoupled_wd.preconditioners import scale_by_adam, scale_by_momentum, scale_by_rate
from decoupled_wd.rules import Rule, towards_zero
from decoupled_wd.schedules import warm_restarts
from decoupled_wd.strengths import normalized_per_cycle, steps_of
from decoupled_wd.transforms import add_decayed_weights, decouple, in_float32

Optimizer: TypeAlias = optax.GradientTransformationExtraArgs


def sgd(
    learning_rate: ScalarOrSchedule,
    l2: WeightDecay,
    *,
    momentum: ArrayLike = 0.9,
    momentum_dtype: DTypeLike | None = None,
    mask: MaskLike = everything(),
) -> Optimizer:
    """Make SGD with momentum and L2 regularisation.

    ``g ← g + λ'θ``, ``m ← β1·m + lr_t·g``, ``θ ← θ − m``

    Args:
      learning_rate: lr_t = η_t·α, a number or a schedule, inside the momentum buffer.
      l2: λ', the coefficient of ½·λ'·||θ||² in the loss: a number, a schedule, or a tree of numbers
        as in `decay_weights`.
      momentum: β1 in [0, 1).
      momentum_dtype: the dtype in which m is kept; by default that of the weights, at least
        float32.
      mask: which parameters are penalised, and how much each; see `masks`.

    Returns:
      An optimiser.

    Raises:
      TypeError, ValueError: an argument is out of range or does not fit the params.

    Warns:
      StrongDecayWarning: `l2` looks like a momentum, which optax takes second.

    Examples:
      >>> import jax.numpy as jnp
      >>> optimizer, params = sgd(0.5, 0.1), jnp.array([2.0])
      >>> updates, _ = optimizer.update(jnp.array([1.0]), optimizer.init(params), params)
      >>> round(float(updates[0]), 6)
      -0.6

    Source: arXiv 1711.05101, Algorithm 1 with the term of line 6.
    """
    # here, since the link would call it weight_decay
    check_weight_decay("l2", l2)
    warn_of_strong_l2(l2, "momentum")
    step = scale_by_momentum(momentum, learning_rate=learning_rate, momentum_dtype=momentum_dtype)
    return in_float32(optax.chain(add_decayed_weights(l2, mask), step, optax.scale(-1)))


def sgdw(
    learning_rate: ScalarOrSchedule,
    weight_decay: WeightDecay,
    *,
    momentum: ArrayLike = 0.9,
    momentum_dtype: DTypeLike | None = None,
    peak_learning_rate: ArrayLike | None = None,
    coupling: Coupling | str = PAPER,
    rule: Rule = towards_zero(),
    mask: MaskLike = everything(),
    rounding: optax.GradientTransformation | None = None,
) -> Optimizer:
    """Make SGD with momentum and decoupled decay.

    ``m ← β1·m + lr_t·g``, ``θ ← θ − m − c_t·θ``

    In optax and PyTorch the learning rate stands outside the buffer, which differs under a
    schedule. For that form write
    ``decouple(optax.sgd(lr, momentum=0.9), weight_decay, learning_rate=lr)``.

    Args:
      learning_rate: lr_t = η_t·α, a number or a schedule, inside the momentum buffer.
      weight_decay: λ, a number, a schedule, or a tree of numbers as in `decay_weights`. With the
        default coupling ``c_t = λ·η_t``: a step at the peak removes the share λ of each weight.
      momentum: β1 in [0, 1).
      momentum_dtype: the dtype in which m is kept; by default that of the weights, at least
        float32.
      peak_learning_rate, coupling, rule, mask, rounding: as in `decouple`.

    Returns:
      An optimiser.

    Raises:
      TypeError, ValueError: an argument is out of range or does not fit the params.

    Warns:
      StrongDecayWarning: a step at the peak removes 5 % or more of a weight.

    Examples:
      >>> import jax.numpy as jnp
      >>> optimizer, params = sgdw(0.5, 0.01), jnp.array([2.0])
      >>> updates, _ = optimizer.update(jnp.array([1.0]), optimizer.init(params), params)
      >>> round(float(updates[0]), 6)
      -0.52

    Source: arXiv 1711.05101, Algorithm 1 with the term of line 9.
    """
    step = scale_by_momentum(momentum, learning_rate=learning_rate, momentum_dtype=momentum_dtype)
    return decouple(
        optax.chain(step, optax.scale(-1)),
        weight_decay,
        learning_rate=learning_rate,
        peak_learning_rate=peak_learning_rate,
        coupling=coupling,
        rule=rule,
        mask=mask,
        rounding=rounding,
    )


def adam(
    learning_rate: ScalarOrSchedule,
    l2: WeightDecay,
    *,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    mu_dtype: DTypeLike | None = None,
    nu_dtype: DTypeLike | None = None,
    mask: MaskLike = everything(),
) -> Optimizer:
    """Make Adam with L2 regularisation.

    ``g ← g + λ'θ``, then ``θ ← θ − lr_t·m̂/(√v̂ + ε)``

    optax's `eps_root` and `nesterov` are left out. To have them write
    ``optax.chain(add_decayed_weights(l2), optax.adam(learning_rate, nesterov=True))``.

    Args:
      learning_rate: lr_t = η_t·α, a number or a schedule.
      l2: λ', the coefficient of ½·λ'·||θ||² in the loss: a number, a schedule, or a tree of numbers
        as in `decay_weights`.
      b1: β1 in [0, 1), of the first moment m.
      b2: β2 in [0, 1), of the second moment v.
      eps: ε >= 0, outside the root and after the bias correction.
      mu_dtype: the dtype in which m is kept; by default that of the weights, at least float32.
      nu_dtype: the dtype in which v is kept; by default the same.
      mask: which parameters are penalised, and how much each; see `masks`.

    Returns:
      An optimiser.

    Raises:
      TypeError, ValueError: an argument is out of range or does not fit the params.

    Warns:
      StrongDecayWarning: `l2` looks like β1, which optax takes second.

    Examples:
      >>> import jax.numpy as jnp
      >>> optimizer, params = adam(0.5, 0.1), jnp.array([2.0])
      >>> updates, _ = optimizer.update(jnp.array([1.0]), optimizer.init(params), params)
      >>> round(float(updates[0]), 4)
      -0.5

    Source: arXiv 1711.05101, Algorithm 2 with the term of line 6.
    """
    check_weight_decay("l2", l2)
    warn_of_strong_l2(l2, "b1")
    step = scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
    return in_float32(
        optax.chain(add_decayed_weights(l2, mask), step, scale_by_rate(learning_rate))
    )


def adamw(
    learning_rate: ScalarOrSchedule,
    weight_decay: WeightDecay,
    *,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    mu_dtype: DTypeLike | None = None,
    nu_dtype: DTypeLike | None = None,
    peak_learning_rate: ArrayLike | None = None,
    coupling: Coupling | str = PAPER,
    rule: Rule = towards_zero(),
    mask: MaskLike = everything(),
    rounding: optax.GradientTransformation | None = None,
) -> Optimizer:
    """Make Adam with decoupled decay.

    ``θ ← θ − lr_t·m̂/(√v̂ + ε) − c_t·θ``

    With ``coupling=LR`` it is ``optax.adamw(learning_rate, weight_decay=weight_decay)``. optax's
    `eps_root` and `nesterov` are left out. To have them write ``decouple(optax.adam(lr,
    nesterov=True), weight_decay, learning_rate=lr)``.

    Args:
      learning_rate: lr_t = η_t·α, a number or a schedule.
      weight_decay: λ, a number, a schedule, or a tree of numbers as in `decay_weights`. With the
        default coupling ``c_t = λ·η_t``: a step at the peak removes the share λ of each weight.
      b1: β1 in [0, 1), of the first moment m.
      b2: β2 in [0, 1), of the second moment v.
      eps: ε >= 0, outside the root and after the bias correction.
      mu_dtype: the dtype in which m is kept; by default that of the weights, at least float32.
      nu_dtype: the dtype in which v is kept; by default the same.
      peak_learning_rate: α. Needed where the coupling's p ≠ s and `learning_rate` is a schedule.
      coupling: the unit of λ, a `Coupling` or a framework's name such as "torch".
      rule: what the weights decay towards; see `rules`.
      mask: which parameters decay, and how much each; see `masks`.
      rounding: how bfloat16 weights are written; see `rounding`.

    Returns:
      An optimiser.

    Raises:
      TypeError, ValueError: an argument is out of range or does not fit the params.

    Warns:
      StrongDecayWarning: a step at the peak removes 5 % or more of a weight.

    Examples:
      >>> import jax.numpy as jnp
      >>> optimizer, params = adamw(0.5, 0.01), jnp.array([2.0])
      >>> updates, _ = optimizer.update(jnp.array([1.0]), optimizer.init(params), params)
      >>> round(float(updates[0]), 4)
      -0.52

    Source: arXiv 1711.05101, Algorithm 2 with the term of line 12.
    """
    # the decay stands outside of this chain: neither moments nor learning rate touch it
    step = scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
    return decouple(
        optax.chain(step, scale_by_rate(learning_rate)),
        weight_decay,
        learning_rate=learning_rate,
        peak_learning_rate=peak_learning_rate,
        coupling=coupling,
        rule=rule,
        mask=mask,
        rounding=rounding,
    )


def sgdwr(
    learning_rate: ArrayLike,
    normalized_weight_decay: ArrayLike,
    *,
    batch_size: float,
    dataset_size: float,
    first_cycle_epochs: float,
    cycle_factor: float = 2.0,
    momentum: ArrayLike = 0.9,
    momentum_dtype: DTypeLike | None = None,
    rule: Rule = towards_zero(),
    mask: MaskLike = everything(),
    rounding: optax.GradientTransformation | None = None,
) -> Optimizer:
    """Make `sgdw` with warm restarts and normalised decay.

    ``η_t = 0.5 + 0.5·cos(π·T_cur/T_i)``, ``λ_i = λ_norm·sqrt(b/(B·T_i))``

    Neither the momentum nor the step count is reset at a restart.

    Args:
      learning_rate: α, a number: the peak that every restart returns to. Moved from outside, as
        by ``optax.inject_hyperparams``, it scales the steps and not the decay.
      normalized_weight_decay: λ_norm, a number.
      batch_size, dataset_size, first_cycle_epochs, cycle_factor: as in `normalized_per_cycle`.
      momentum, momentum_dtype: as in `scale_by_momentum`.
      rule, mask, rounding: as in `decouple`.

    Returns:
      An optimiser.

    Raises:
      TypeError, ValueError: an argument is out of range or does not fit the params.

    Examples:
      >>> optimizer = sgdwr(
      ...     0.05, 0.025, batch_size=128, dataset_size=50_000, first_cycle_epochs=100
      ... )

    Source: arXiv 1711.05101, Algorithm 1 with appendices B.1 and B.2.
    """
    schedule, weight_decay = _restarts(
        learning_rate,
        normalized_weight_decay,
        batch_size,
        dataset_size,
        first_cycle_epochs,
        cycle_factor,
    )
    return sgdw(
        schedule,
        weight_decay,
        momentum=momentum,
        momentum_dtype=momentum_dtype,
        peak_learning_rate=learning_rate,
        rule=rule,
        mask=mask,
        rounding=rounding,
    )


def adamwr(
    learning_rate: ArrayLike,
    normalized_weight_decay: ArrayLike,
    *,
    batch_size: float,
    dataset_size: float,
    first_cycle_epochs: float,
    cycle_factor: float = 2.0,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    mu_dtype: DTypeLike | None = None,
    nu_dtype: DTypeLike | None = None,
    rule: Rule = towards_zero(),
    mask: MaskLike = everything(),
    rounding: optax.GradientTransformation | None = None,
) -> Optimizer:
    """Make `adamw` with warm restarts and normalised decay.

    ``η_t = 0.5 + 0.5·cos(π·T_cur/T_i)``, ``λ_i = λ_norm·sqrt(b/(B·T_i))``

    Neither the moments nor the step count of their bias correction is reset at a restart.

    Args:
      learning_rate: α, a number: the peak that every restart returns to. Moved from outside, as
        by ``optax.inject_hyperparams``, it scales the steps and not the decay.
      normalized_weight_decay: λ_norm, a number.
      batch_size, dataset_size, first_cycle_epochs, cycle_factor: as in `normalized_per_cycle`.
      b1, b2, eps, mu_dtype, nu_dtype: as in `scale_by_adam`.
      rule, mask, rounding: as in `decouple`.

    Returns:
      An optimiser.

    Raises:
      TypeError, ValueError: an argument is out of range or does not fit the params.

    Examples:
      >>> optimizer = adamwr(
      ...     1e-3, 0.025, batch_size=128, dataset_size=50_000, first_cycle_epochs=100
      ... )

    Source: arXiv 1711.05101, Algorithm 2 with appendices B.1 and B.2.
    """
    schedule, weight_decay = _restarts(
        learning_rate,
        normalized_weight_decay,
        batch_size,
        dataset_size,
        first_cycle_epochs,
        cycle_factor,
    )
    return adamw(
        schedule,
        weight_decay,
        b1=b1,
        b2=b2,
        eps=eps,
        mu_dtype=mu_dtype,
        nu_dtype=nu_dtype,
        peak_learning_rate=learning_rate,
        rule=rule,
        mask=mask,
        rounding=rounding,
    )


def _restarts(
    learning_rate: ArrayLike,
    normalized_weight_decay: ArrayLike,
    batch_size: float,
    dataset_size: float,
    first_cycle_epochs: float,
    cycle_factor: float,
) -> tuple[Schedule, Schedule]:
    """Return the schedules of lr_t and λ_t, with the same restarts."""
    weight_decay = normalized_per_cycle(
        normalized_weight_decay,
        batch_size=batch_size,
        dataset_size=dataset_size,
        first_cycle_epochs=first_cycle_epochs,
        cycle_factor=cycle_factor,
    )
    steps = steps_of(first_cycle_epochs, batch_size, dataset_size)
    check_positive("learning_rate", learning_rate, "pass the peak that every restart returns to")
    return warm_restarts(
        learning_rate, first_cycle_steps=steps, cycle_factor=cycle_factor
    ), weight_decay
