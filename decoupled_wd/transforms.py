"""Where decay meets the optimiser: ``θ' = W(θ + Δ_t − c_t · m ⊙ pull(θ))``."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._scalars import check_scalar_or_schedule, value_at
from decoupled_wd._trees import cast_like, wide_dtype, widen
from decoupled_wd.coupling import PAPER, Coupling
from decoupled_wd.masks import MaskLike, everything, multipliers, select
from decoupled_wd.rules import Rule, towards_zero


class AddDecayedWeightsState(NamedTuple):
    """Step count."""

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count, as in optax


class DecayWeightsState(NamedTuple):
    """Step count, the fraction c_t that the last step removed, and the rule's state."""

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count, as in optax
    fraction: jax.Array
    rule: optax.OptState


class DecoupleState(NamedTuple):
    """States of the inner optimiser, the decay and the rounding."""

    inner: optax.OptState
    decay: DecayWeightsState
    rounding: optax.OptState


def add_decayed_weights(
    weight_decay: optax.ScalarOrSchedule, mask: MaskLike = everything()
) -> optax.GradientTransformationExtraArgs:
    """L2 regularisation as a link in optax's place, before the sign flip: ``u + λ_t · m ⊙ θ``.

    First in the chain it is L2 (the preconditioner sees it); between preconditioner and learning rate it is
    optax's lr-coupled decay; for the paper's decay use `decay_weights`, after both.

    Args:
      weight_decay: λ, a number or a schedule.
      mask: which parameters, how much each; see `masks`.

    Returns:
      A link that keeps the dtype of its updates, since stateful links of optax may follow.

    Raises:
      TypeError, ValueError: λ is not a finite number >= 0, the mask does not fit, or params are missing.

    Example:
      >>> link = add_decayed_weights(0.1)
      >>> params = jnp.array([2.0])
      >>> updates, _ = link.update(jnp.array([1.0]), link.init(params), params)
      >>> round(float(updates[0]), 6)
      1.2

    Source: arXiv 1711.05101, Algorithms 1 and 2, line 6 (the L2 variants).
    """
    check_scalar_or_schedule("weight_decay", weight_decay)

    def init(params: optax.Params) -> AddDecayedWeightsState:
        multipliers(mask, params)  # a mask that does not fit is refused here, before training
        return AddDecayedWeightsState(jnp.zeros([], jnp.int32))

    def update(
        updates: optax.Updates, state: AddDecayedWeightsState, params: Any = None, **extra: Any
    ) -> tuple[optax.Updates, AddDecayedWeightsState]:
        del extra
        _check_params(params)
        strength = value_at(weight_decay, state.count)
        decayed = _add(updates, strength, multipliers(mask, params), params)
        return cast_like(decayed, updates), AddDecayedWeightsState(
            optax.safe_increment(state.count)
        )

    return optax.GradientTransformationExtraArgs(init, update)


def decay_weights(
    weight_decay: optax.ScalarOrSchedule,
    *,
    learning_rate: optax.ScalarOrSchedule | None = None,
    peak_learning_rate: Any = None,
    coupling: Coupling = PAPER,
    rule: Rule = towards_zero(),
    mask: MaskLike = everything(),
) -> optax.GradientTransformationExtraArgs:
    """Decoupled decay as the last link of a chain: ``u − c_t · m ⊙ pull(θ)``, ``c_t = λ_t · α^p · η_t^s``.

    Args:
      weight_decay: λ, a number or a schedule; its unit is set by `coupling`.
      learning_rate: what the optimiser uses, a number or a schedule; None where nothing is scheduled.
      peak_learning_rate: α. Needed with a schedule where the coupling's p ≠ s; it is never guessed.
      coupling: how λ scales with the learning rate; `PAPER` by default.
      rule: towards what; see `rules`.
      mask: which parameters, how much each; see `masks`.

    Returns:
      A link that emits float32 or wider. Its state holds a count, c_t and the rule's state.

    Raises:
      TypeError, ValueError: a number is out of range, α is missing, the mask does not fit, or params are missing.

    Example:
      >>> optimizer = optax.chain(optax.sgd(0.5), decay_weights(0.1))
      >>> params = jnp.array([2.0])
      >>> updates, _ = optimizer.update(jnp.array([1.0]), optimizer.init(params), params)
      >>> round(float(updates[0]), 6)
      -0.7

    Source: arXiv 1711.05101, Algorithm 1, line 9, and Algorithm 2, line 12.
    """
    fraction = coupling.fraction(weight_decay, learning_rate, peak_learning_rate)

    def init(params: optax.Params) -> DecayWeightsState:
        decayed = select(params, multipliers(mask, params))
        return DecayWeightsState(jnp.zeros([], jnp.int32), jnp.zeros([]), rule.init(decayed))

    def update(
        updates: optax.Updates,
        state: DecayWeightsState,
        params: Any = None,
        *,
        gradients: optax.Updates | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, DecayWeightsState]:
        del extra
        _check_params(params)
        m = multipliers(mask, params)
        seen = None if gradients is None else select(gradients, m)
        pull, rule_state = rule.update(
            select(updates, m), state.rule, select(params, m), gradients=seen
        )
        c = jnp.asarray(fraction(state.count), state.fraction.dtype)
        count = optax.safe_increment(state.count)
        return _add(updates, -c, m, pull), DecayWeightsState(count, c, rule_state)

    return optax.GradientTransformationExtraArgs(init, update)


def decouple(
    inner: optax.GradientTransformation,
    weight_decay: optax.ScalarOrSchedule,
    *,
    learning_rate: optax.ScalarOrSchedule | None = None,
    peak_learning_rate: Any = None,
    coupling: Coupling = PAPER,
    rule: Rule = towards_zero(),
    mask: MaskLike = everything(),
    rounding: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Decoupled weight decay around any finished optimiser: ``Δ_t − c_t · m ⊙ pull(θ)``.

    Args:
      inner: any optax optimiser, its sign flip included.
      weight_decay: λ, a number or a schedule; its unit is set by `coupling`.
      learning_rate: what `inner` uses, a number or a schedule; None where nothing is scheduled.
      peak_learning_rate: α. Needed with a schedule where the coupling's p ≠ s; it is never guessed.
      coupling: how λ scales with the learning rate; `PAPER` by default.
      rule: towards what; see `rules`.
      mask: which parameters, how much each; see `masks`.
      rounding: a last link that sees the sum in float32; by default the sum is rounded once, to the
        dtype of the incoming gradients.

    Returns:
      An optimiser that passes extra arguments on to `inner`.

    Raises:
      TypeError, ValueError: a number is out of range, α is missing, the mask does not fit, or params are missing.

    Example:
      >>> optimizer = decouple(optax.lion(1e-4), 1e-5)
      >>> params = jnp.array([2.0])
      >>> updates, _ = optimizer.update(jnp.array([1.0]), optimizer.init(params), params)
      >>> round(float(updates[0]), 6)
      -0.00012

    Source: arXiv 1711.05101, section 2, generalised from SGD and Adam to any optimiser.
    """
    inner = optax.with_extra_args_support(inner)
    decay = decay_weights(
        weight_decay,
        learning_rate=learning_rate,
        peak_learning_rate=peak_learning_rate,
        coupling=coupling,
        rule=rule,
        mask=mask,
    )
    last = optax.identity() if rounding is None else rounding

    def init(params: optax.Params) -> DecoupleState:
        return DecoupleState(inner.init(params), decay.init(params), last.init(params))

    def update(
        gradients: optax.Updates, state: DecoupleState, params: Any = None, **extra: Any
    ) -> tuple[optax.Updates, DecoupleState]:
        _check_params(params)
        updates, inner_state = inner.update(gradients, state.inner, params, **extra)
        updates, decay_state = decay.update(updates, state.decay, params, gradients=gradients)
        updates, last_state = last.update(updates, state.rounding, params)
        updates = cast_like(updates, gradients) if rounding is None else updates
        return updates, DecoupleState(inner_state, decay_state, last_state)

    return optax.GradientTransformationExtraArgs(init, update)


def in_float32(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Run `inner` in float32 or wider and round its updates once, to the dtype of the incoming gradients."""
    inner = optax.with_extra_args_support(inner)

    def update(gradients: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        wide = jax.tree.map(widen, gradients)
        updates, state = inner.update(wide, state, params, **extra)
        return cast_like(updates, gradients), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _add(updates: optax.Updates, factor: Any, multipliers: Any, pull: Any) -> optax.Updates:
    """``u + factor · m ⊙ pull`` in float32 or wider; absent updates and masked-out leaves stay as they are."""

    def leaf(m: float, u: Any, r: Any) -> Any:
        if not m or u is None:
            return u
        return (widen(u) + factor * m * widen(r)).astype(wide_dtype(u))

    return jax.tree.map(leaf, multipliers, updates, pull)


def _check_params(params: Any) -> None:
    if params is None:
        raise ValueError(
            "decay needs the weights; call update(gradients, state, params), with params"
        )
