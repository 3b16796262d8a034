"""Where decay meets the optimiser: ``θ' = W(θ + Δ_t − c_t · m ⊙ pull(θ))``."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from decoupled_wd._base.checks import check_type, scheduled
from decoupled_wd._base.leaves import cast_like, once_per_shape, wide_dtype, widen
from decoupled_wd._base.types import Number, PyTree, ScalarOrSchedule, WeightDecay
from decoupled_wd._base.updates import check_gradients, check_params, check_structure
from decoupled_wd._resolution import check_fit, check_weight_decay, per_leaf, resolve
from decoupled_wd._slips import warn_of_strong_decay
from decoupled_wd.coupling import PAPER, Coupling, as_coupling
from decoupled_wd.masks import MaskLike, everything, is_off, select
from decoupled_wd.rounding import check_rounding, held_weights, is_rounding_state
from decoupled_wd.rules import Rule, as_rule, towards_zero


class AddDecayedWeightsState(NamedTuple):
    """Step count."""

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count, as in optax


class Applied(NamedTuple):
    """What a `decay_weights` did, known by the count that it left.

    A rule's pull is that of its leaves.
    """

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count, as in optax
    weights: optax.Params
    updates: optax.Updates
    pull: optax.Updates
    strengths: PyTree
    fraction: jax.Array
    weight_decay: Number
    learning_rate: Number | None


_OBSERVED: ContextVar[list[Applied] | None] = ContextVar("observed", default=None)


@contextlib.contextmanager
def observed() -> Iterator[list[Applied]]:
    """Collect what every `decay_weights` does inside, in this thread alone.

    An inner block hands what it collected on to the outer one.
    """
    outer, found = _OBSERVED.get(), list[Applied]()
    # a context variable, since threads may train side by side
    token = _OBSERVED.set(found)
    try:
        yield found
    finally:
        _OBSERVED.reset(token)
        if outer is not None:
            outer.extend(found)


class DecayWeightsState(NamedTuple):
    """The state of `decay_weights`.

    ``fraction`` is what that step removed (of λ = 1 for a tree); ``current_learning_rate`` is what
    the decay was told, 0 where it was told none, and is there to be logged.
    """

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count, as in optax
    fraction: jax.Array
    current_learning_rate: jax.Array
    rule: optax.OptState


class DecoupleState(NamedTuple):
    """States of the inner optimiser, the decay and the rounding."""

    inner: optax.OptState
    decay: DecayWeightsState
    rounding: optax.OptState


def add_decayed_weights(
    weight_decay: WeightDecay, mask: MaskLike = everything()
) -> optax.GradientTransformationExtraArgs:
    """Add L2 regularisation, before the sign flip: ``u + λ_t · m ⊙ θ``.

    First in the chain it is L2 (the preconditioner sees it); between preconditioner and learning
    rate it is optax's lr-coupled decay; for the paper's decay use `decay_weights`, after both.

    Args:
      weight_decay: λ, a number, a schedule, or a tree of these as in `decay_weights`.
      mask: which parameters, how much each; see `masks`.

    Returns:
      A link that keeps the dtype of its updates, since stateful links of optax may follow.

    Raises:
      TypeError, ValueError: λ is not a finite number >= 0, the mask does not fit, or params are
        missing.

    Examples:
      >>> link = add_decayed_weights(0.1)
      >>> params = jnp.array([2.0])
      >>> updates, _ = link.update(jnp.array([1.0]), link.init(params), params)
      >>> round(float(updates[0]), 6)
      1.2

    Source: arXiv 1711.05101, Algorithms 1 and 2, line 6 (the L2 variants).
    """
    check_weight_decay("weight_decay", weight_decay)
    common, factors = per_leaf(weight_decay)

    def init(params: optax.Params) -> AddDecayedWeightsState:
        # what does not fit is told here, before anything is trained
        check_fit(mask, factors, params)
        return AddDecayedWeightsState(jnp.zeros([], jnp.int32))

    def update(
        updates: optax.Updates,
        state: AddDecayedWeightsState,
        params: PyTree = None,
        **extra: object,
    ) -> tuple[optax.Updates, AddDecayedWeightsState]:
        del extra
        check_params("decay", params)
        check_gradients("updates", updates, params)
        _, m = resolve(mask, factors, params, state.count)
        decayed = _add(updates, scheduled("weight_decay", common, state.count), m, params)
        return cast_like(decayed, updates), AddDecayedWeightsState(
            optax.safe_increment(state.count)
        )

    return optax.GradientTransformationExtraArgs(init, update)


def decay_weights(
    weight_decay: WeightDecay,
    *,
    learning_rate: ScalarOrSchedule | None = None,
    peak_learning_rate: ArrayLike | None = None,
    coupling: Coupling | str = PAPER,
    rule: Rule = towards_zero(),
    mask: MaskLike = everything(),
) -> optax.GradientTransformationExtraArgs:
    """Decay weights, decoupled, as the last link of a chain.

    ``u − c_t · m ⊙ pull(θ)`` with ``c_t = λ_t · α^p · η_t^s``

    Args:
      weight_decay: λ, a number, a schedule, or a tree of these with the structure of the params or
        a prefix of it; its unit is set by `coupling`. The number 0 leaves every update bit for
        bit as it is.
      learning_rate: what the optimiser uses, a number or a schedule. Where it is left out the decay
        is λ_t at every step, whatever schedule the optimiser follows.
      peak_learning_rate: α. Needed where the coupling's p ≠ s and the learning rate is a schedule,
        or a JAX array, as under ``optax.inject_hyperparams``; it is never guessed.
      coupling: how λ scales with the learning rate, a `Coupling` or a framework's name; `PAPER` by
        default.
      rule: towards what; see `rules`.
      mask: which parameters, how much each; see `masks`.

    Returns:
      A link that emits float32 or wider. Its state holds a count, c_t and the rule's state.

    Raises:
      TypeError, ValueError: a number is out of range, α is missing, the mask does not fit, or
        params are missing.

    Examples:
      >>> optimizer = optax.chain(optax.sgd(0.5), decay_weights(0.1))
      >>> params = jnp.array([2.0])
      >>> updates, _ = optimizer.update(jnp.array([1.0]), optimizer.init(params), params)
      >>> round(float(updates[0]), 6)
      -0.7

    Source: arXiv 1711.05101, Algorithm 1, line 9, and Algorithm 2, line 12.
    """
    rule = as_rule(rule)
    coupling = as_coupling("coupling", coupling)
    check_weight_decay("weight_decay", weight_decay)
    common, factors = per_leaf(weight_decay)
    rates = coupling.rates(common, learning_rate, peak_learning_rate)
    # a rule that lands on a norm is meant to be strong
    if not rule.holds:
        warn_of_strong_decay(weight_decay, coupling, learning_rate, peak_learning_rate)

    def init(params: optax.Params) -> DecayWeightsState:
        m, _ = resolve(mask, factors, params)
        # what the mask leaves out is hidden, so that a rule keeps no state for it
        decayed = select(params, m)
        return DecayWeightsState(
            jnp.zeros([], jnp.int32), jnp.zeros([]), jnp.zeros([]), rule.init(decayed)
        )

    def update(
        updates: optax.Updates,
        state: DecayWeightsState,
        params: PyTree = None,
        *,
        gradients: optax.Updates | None = None,
        **extra: object,
    ) -> tuple[optax.Updates, DecayWeightsState]:
        # a chain hands every link what it was called with
        del extra
        check_params("decay", params)
        check_gradients("updates", updates, params)
        # of shapes and paths alone, but for schedules and traced numbers of single leaves
        m, strengths = resolve(mask, factors, params, state.count)
        fraction, lam, told = rates(state.count)
        # a strong type, so that the state is the same whether λ is a number or a schedule
        c = jnp.asarray(fraction, state.fraction.dtype)
        # held for whoever logs it, though nothing here reads it again
        lr = jnp.asarray(0.0 if told is None else told, state.current_learning_rate.dtype)
        pull, rule_state = rule.update(
            select(updates, m),
            state.rule,
            select(params, m),
            gradients=None if gradients is None else select(gradients, m),
            fraction=select(_times(c, strengths), m),
        )
        count = optax.safe_increment(state.count)
        # only inside `record`; otherwise nothing is kept alive
        if (found := _OBSERVED.get()) is not None:
            found.append(Applied(count, params, updates, pull, strengths, c, lam, told))
        return _add(updates, -c, strengths, pull), DecayWeightsState(count, c, lr, rule_state)

    return optax.GradientTransformationExtraArgs(init, update)


def decouple(
    inner: optax.GradientTransformation,
    weight_decay: WeightDecay,
    *,
    learning_rate: ScalarOrSchedule | None = None,
    peak_learning_rate: ArrayLike | None = None,
    coupling: Coupling | str = PAPER,
    rule: Rule = towards_zero(),
    mask: MaskLike = everything(),
    rounding: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Put decoupled weight decay around any finished optimiser.

    ``Δ_t − c_t · m ⊙ pull(θ)``

    Args:
      inner: any optax optimiser, its sign flip included and its own decay off: optax's adamw, lion,
        lamb and others decay by default, so give them ``weight_decay=0.0``. One that keeps weights
        of its own takes a decay around it back: write ``schedule_free(decouple(...), ...)``,
        likewise for sam and mechanize.
      weight_decay: λ, a number, a schedule, or a tree of these with the structure of the params or
        a prefix of it; its unit is set by `coupling`. The number 0 leaves every update bit for
        bit as it is.
      learning_rate: what `inner` uses, a number or a schedule. Where it is left out the decay is
        λ_t at every step, whatever schedule `inner` follows: a schedule found in its state is
        warned about, unless the coupling is `CONSTANT`, which says the same.
      peak_learning_rate, coupling: as in `decay_weights`.
      rule: towards what; see `rules`.
      mask: which parameters, how much each; see `masks`.
      rounding: a last link that sees the sum in float32; by default the sum is rounded once, to the
        dtype of the incoming gradients.

    Returns:
      An optimiser that passes extra arguments on to `inner`.

    Raises:
      TypeError, ValueError: a number is out of range, α is missing, the mask does not fit, params
        are missing, or `inner` holds a decay of this package already.

    Examples:
      >>> optimizer = decouple(optax.lion(1e-4, weight_decay=0.0), 1e-5)
      >>> params = jnp.array([2.0])
      >>> updates, _ = optimizer.update(jnp.array([1.0]), optimizer.init(params), params)
      >>> round(float(updates[0]), 6)
      -0.00012

    Source: arXiv 1711.05101, section 2, generalised from SGD and Adam to any optimiser.
    """
    remedy = "pass a finished optimiser, as in optax.lion(1e-4, weight_decay=0.0)"
    check_type("inner", inner, optax.GradientTransformation, remedy)
    inner = optax.with_extra_args_support(inner)
    coupling = as_coupling("coupling", coupling)
    decay = decay_weights(
        weight_decay,
        learning_rate=learning_rate,
        peak_learning_rate=peak_learning_rate,
        coupling=coupling,
        rule=rule,
        mask=mask,
    )
    check_rounding(rounding)
    last = optax.identity() if rounding is None else rounding

    def init(params: optax.Params) -> DecoupleState:
        state = DecoupleState(inner.init(params), decay.init(params), last.init(params))
        _check_inner(state.inner, told=learning_rate is not None or coupling.s == 0)
        return state

    def update(
        updates: optax.Updates, state: DecoupleState, params: PyTree = None, **extra: object
    ) -> tuple[optax.Updates, DecoupleState]:
        check_params("decay", params)
        check_structure("gradients", updates, params)
        # Δ first: rules see the step that the optimiser has decided on
        step, inner_state = inner.update(updates, state.inner, params, **extra)
        # behind `residual` the decay is taken of the float32 weights, not of their
        # rounded halves
        held = held_weights(state.rounding, params)
        step, decay_state = decay.update(step, state.decay, held, gradients=updates)
        step, last_state = last.update(step, state.rounding, params)
        # a rounding link emits a float32 difference on purpose; otherwise the sum is
        # rounded once
        step = cast_like(step, updates) if rounding is None else step
        return step, DecoupleState(inner_state, decay_state, last_state)

    return optax.GradientTransformationExtraArgs(init, update)


def in_float32(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Run `inner` in float32 or wider and round its updates once.

    They leave in the dtype of the incoming gradients.
    """
    inner = optax.with_extra_args_support(inner)

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, **extra: object
    ) -> tuple[PyTree, PyTree]:
        step, state = inner.update(jax.tree.map(widen, updates), state, params, **extra)
        return cast_like(step, updates), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _check_inner(state: optax.OptState, told: bool) -> None:
    """Refuse what would decay twice, or be rounded too early.

    Warn of a schedule that the decay was not told of.
    """
    if _holds(is_rounding_state, state):
        raise ValueError(
            "rounding must be the last link; pass it as rounding= instead of inside inner"
        )
    if _holds(lambda node: isinstance(node, DecayWeightsState), state):
        raise ValueError(
            "inner decays already, so that weights would decay twice; give all of the decay to "
            "one of the two, or chain two decay_weights links behind the optimiser, each with "
            "its mask"
        )
    if _holds(_is_scheduled, state) and not told:
        warnings.warn(
            "inner follows a schedule, and decouple was not told of it: the decay will be the "
            "same at every step; pass learning_rate= with the schedule, or coupling=CONSTANT if "
            "that is meant",
            stacklevel=3,
        )


def _holds(kind: Callable[[PyTree], bool], state: optax.OptState) -> bool:
    return any(map(kind, jax.tree.leaves(state, is_leaf=kind)))


def _is_scheduled(node: PyTree) -> bool:
    # inject_hyperparams holds a state for each hyperparameter that it was given as a schedule
    injected = isinstance(node, optax.InjectStatefulHyperparamsState)
    return isinstance(node, optax.ScaleByScheduleState) or bool(
        injected and node.hyperparams_states
    )


def _add(
    updates: optax.Updates, factor: Number, multipliers: PyTree, pull: PyTree
) -> optax.Updates:
    """Return ``u + factor · m ⊙ pull`` in float32 or wider.

    Where m is 0 or u is absent, no value changes.
    """

    def leaf(m: Number, rate: Number, u: PyTree, r: PyTree) -> PyTree:
        # 0·θ would be NaN for an infinite weight, so no decay is no arithmetic
        return widen(u) if is_off(m) or u is None else _step(u, rate, r)

    return jax.tree.map(leaf, multipliers, _times(factor, multipliers), updates, pull)


# a program of a thousand leaves of twelve shapes traces twelve of these
@once_per_shape
def _step(u: jax.Array, rate: Number, r: jax.Array) -> PyTree:
    return (widen(u) + rate * widen(r)).astype(wide_dtype(u))


def _times(factor: Number, multipliers: PyTree) -> PyTree:
    """Return ``factor · m``, computed once for each distinct m.

    There are few of these, and as many m as leaves.
    """
    known = functools.cache(lambda m: factor * m)
    return jax.tree.map(lambda m: factor * m if isinstance(m, jax.Array) else known(m), multipliers)
