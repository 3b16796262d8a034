"""What the decay does during training: a record in the optimiser's state, of what was applied."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike, DTypeLike

from decoupled_wd._base.checks import check_at_least_one, check_type
from decoupled_wd._base.leaves import is_absent, is_inexact, manual_axes, wide_dtype
from decoupled_wd._base.paths import named_leaves
from decoupled_wd._base.types import Number, PyTree, PyTreeDef
from decoupled_wd._base.updates import check_params
from decoupled_wd.diagnostics._measures import Leaf, Sums, applied, compensated, join, sums_of_each
from decoupled_wd.rounding import is_bfloat16, is_rounding_state
from decoupled_wd.transforms import Applied, DecayWeightsState, observed


class Record(NamedTuple):
    """What one step did: numbers in total, or vectors over the leaves.

    ‖·‖ is the L2 norm, θ the weights before the step.
    """

    c: jax.Array
    """The fraction c_t·m of the weights that was subtracted; in total the highest of the leaves."""
    lam: jax.Array
    """λ_t·m, likewise."""
    lr: jax.Array
    """lr_t as the decay was told it, likewise; 0 where `learning_rate` was left out."""
    weight_norm: jax.Array
    """‖θ‖."""
    update_norm: jax.Array
    """‖Δ_t‖, the optimiser's own step, without decay and before any rounding."""
    decay_norm: jax.Array
    """‖c_t·m⊙pull(θ)‖, before any rounding."""
    ratio: jax.Array
    """‖c_t·m⊙pull(θ)‖ / ‖Δ_t‖."""
    growth: jax.Array
    """⟨θ, θ' − θ⟩ / ‖θ‖², of the whole step: negative where the weights shrink."""
    angle: jax.Array
    """The angle between θ and θ', in radians; exact to about 3e-4·‖θ' − θ‖/‖θ‖ in float32."""
    log_shrinkage: jax.Array
    """Σ log|1 − c_t·m| over all steps: exp of it is left of an idle weight. In total the lowest."""
    lost: jax.Array
    """The share of the decayed weights whose decay rounding took: they landed as without it."""


class RecordState(NamedTuple):
    """The state of `record`: counts, the latest records, and the inner state.

    `shrunk` is the log-shrinkage, and `error` what its sum lost.
    """

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count, as in optax
    step: jax.Array
    shrunk: jax.Array
    error: jax.Array
    total: Record
    leaves: Record
    inner: optax.OptState


class _Rates(NamedTuple):
    """Of each leaf."""

    c: jax.Array
    lam: jax.Array
    lr: jax.Array


def record(
    inner: optax.GradientTransformation, *, every: ArrayLike = 1
) -> optax.GradientTransformationExtraArgs:
    """Keep in the state what `inner` does at each step.

    That is c_t, λ_t, lr_t, ‖θ‖, ‖Δ_t‖, ‖decay‖, the angle turned, and what rounding took.

    The updates are those of `inner`, bit for bit. The state holds the latest `Record` only, so that
    its structure and size never change: a training loop logs it, and `jax.lax.scan` stacks it to a
    history. ``state.total`` (or ``optax.tree.get(state, "total")`` from anywhere above) is that of
    all weights together, ``state.leaves`` has a vector over the leaves in place of each number, and
    `recorded` gives it by path.

    Update and decay are measured as the optimiser made them, in float32 or wider; angle, shrinkage
    and share lost as the weights landed in their precision. Behind a rounding link they are those
    of the float32 weights that it carries: one for some bfloat16 weights counts for all of them,
    and `preflight` tells the others.

    A derivative through training is that of `inner` alone: the record is a constant to it, and
    costs nothing.

    Args:
      inner: an optimiser with a `decay_weights` inside: an alias, `decouple`, or a chain. Wrappers
        that hold steps back take the record inside them: ``optax.MultiSteps(record(...), 4)``,
        likewise ``apply_if_finite``.
      every: measure at the steps 0, `every`, 2·`every`, … and hold the record in between, which
        then costs next to nothing. The log-shrinkage counts every step whatever `every` is. Inside
        ``jit`` a measured step computes `inner` twice, once for the record.

    Returns:
      An optimiser that passes extra arguments on to `inner`.

    Raises:
      TypeError: `inner` is not an optimiser, or `every` is not a number.
      ValueError: `every` is below 1 or no whole number; at init, there is no `decay_weights` in
        `inner`; at update, params are missing, or one is inside ``jit``, ``cond`` or ``vmap`` of
        `inner`, where no record reaches.

    Examples:
      >>> from decoupled_wd import sgdw
      >>> optimizer, params = record(sgdw(0.5, 0.1)), jnp.array([3.0, 4.0])
      >>> updates, state = optimizer.update(jnp.array([4.0, -3.0]), optimizer.init(params), params)
      >>> total = state.total
      >>> [round(float(x), 4) for x in (total.c, total.decay_norm, total.update_norm)]
      [0.1, 0.5, 2.5]
      >>> round(float(jnp.tan(state.total.angle)), 4)  # 2.5 across, on what is left of 5
      0.5556

    Source: the quantities of Kosson et al., arXiv 2305.17212, section 3.
    """
    remedy = "pass a finished optimiser, as in dwd.adamw(1e-3, 1e-4)"
    check_type("inner", inner, optax.GradientTransformation, remedy)
    _check_every(every)
    inner = optax.with_extra_args_support(inner)

    def init(params: optax.Params) -> RecordState:
        state = inner.init(params)
        _check_decays(state)
        leaves = [p for p in jax.tree.leaves(params) if is_inexact(p)]
        # one dtype for all, the widest that any leaf is computed in
        dtype = jnp.result_type(jnp.float32, *(wide_dtype(p.real) for p in leaves))

        def zeros(*shape: int) -> Record:
            return Record(*(jnp.zeros(shape, dtype) for _ in Record._fields))

        return RecordState(
            count=jnp.zeros([], jnp.int32),
            step=jnp.zeros([], jnp.int32),
            shrunk=jnp.zeros(len(leaves), dtype),
            error=jnp.zeros(len(leaves), dtype),
            total=zeros(),
            leaves=zeros(len(leaves)),
            inner=state,
        )

    def update(
        updates: optax.Updates, state: RecordState, params: PyTree = None, **extra: object
    ) -> tuple[optax.Updates, RecordState]:
        check_params("record", params)

        # the steps 0, every, 2·every, …, in a form that no compiler decides beforehand, even for 1
        due = (state.count == 0) | (state.count - state.step >= every)
        # what a step without a measurement hands on; it is not looked at
        idle = jnp.zeros((len(state.shrunk), len(Sums._fields)), state.shrunk.dtype)
        table = None
        if isinstance(due, jax.core.Tracer):
            # a derivative must not pass through the second run of `inner`
            given = jax.lax.stop_gradient((updates, state.inner, params))

            def again() -> tuple[Number, jax.Array]:
                # the step itself would have to write what it gave this branch to memory, due or not
                *_, links, leaves = _observe(inner, *given, extra)
                return True, _made_varying(measured(links, leaves).astype(idle.dtype), given)

            first, table = jax.lax.cond(due, again, lambda: (True, _made_varying(idle, given)))
            # the step that counts starts when the measured one has read its inputs
            updates = _after(first, updates)
        emitted, after, links, leaves = _observe(inner, updates, state.inner, params, extra)
        if table is None:
            table = measured(links, leaves).astype(idle.dtype) if due else idle
        rates = rates_of(leaves, links, idle.dtype)
        # counted at every step, measured or not: it costs a few numbers
        shrunk, error = compensated(state.shrunk, state.error, _log_shrinkage(rates.c))
        held = state.step, state.total, state.leaves
        step, total, each = _records(due, state.count, rates, shrunk, table, held)
        count = optax.safe_increment(state.count)
        return emitted, RecordState(count, step, shrunk, error, total, each, after)

    return optax.GradientTransformationExtraArgs(init, update)


def recorded(state: optax.OptState, params: optax.Params) -> dict[str, Record]:
    """Return the latest `Record` of each leaf, by its path.

    Args:
      state: an optimiser's state with a `record` in it.
      params: the parameters, or their shapes; only for the paths.

    Returns:
      Path to `Record`, for the leaves that are floating point.

    Raises:
      ValueError: there is no record in the state, or that of other params.

    Examples:
      >>> from decoupled_wd import masks, sgdw
      >>> optimizer = record(sgdw(0.5, 0.1, mask=masks.matrices()))
      >>> params = {"bias": jnp.ones(2), "kernel": jnp.ones((2, 2))}
      >>> _, state = optimizer.update(params, optimizer.init(params), params)
      >>> {path: round(float(row.decay_norm), 4) for path, row in recorded(state, params).items()}
      {'bias': 0.0, 'kernel': 0.2}
    """
    found = [n for n in jax.tree.leaves(state, is_leaf=_is_record) if _is_record(n)]
    paths = [path for path, leaf in named_leaves(params) if is_inexact(leaf)]
    if len(found) != 1 or found[0].shrunk.shape[-1:] != (len(paths),):
        shapes = [n.shrunk.shape for n in found]
        raise ValueError(
            f"state must hold one record of {len(paths)} leaves, got records of shapes {shapes}; "
            "pass the state of record(optimizer) and the params that it was made for"
        )
    return {path: Record(*(x[..., i] for x in found[0].leaves)) for i, path in enumerate(paths)}


def _after(first: jax.Array, updates: optax.Updates) -> optax.Updates:
    """Make the updates wait for `first`, which is always true.

    What follows may then write over what it read.

    Without this order XLA copies weights and moments at every step.
    """
    return jax.tree.map(
        lambda u: jnp.where(first, u, jnp.zeros_like(u)) if is_inexact(u) else u, updates
    )


def _made_varying(x: jax.Array, like: PyTree) -> jax.Array:
    """Mark x as different between devices if anything in `like` is.

    In ``shard_map`` the branches must agree.
    """
    axes = frozenset().union(*map(manual_axes, jax.tree.leaves(like))) - manual_axes(x)
    if not axes:
        return x
    lax: Any = jax.lax
    # pvary is its name in older versions of jax
    cast = (
        lax.pcast(x, tuple(axes), to="varying")
        if hasattr(lax, "pcast")
        else lax.pvary(x, tuple(axes))
    )
    return jnp.asarray(cast)


def _observe(
    inner: optax.GradientTransformationExtraArgs,
    updates: optax.Updates,
    state: optax.OptState,
    params: optax.Params,
    extra: dict[str, PyTree],
) -> tuple[optax.Updates, optax.OptState, list[Applied], list[Leaf]]:
    """Make a step of `inner`, and collect what its decays did."""
    with observed() as found:
        emitted, after = inner.update(updates, state, params, **extra)
    links = []
    for node in filter(_is_decay, jax.tree.leaves(after, is_leaf=_is_decay)):
        # by identity: what passed through another program comes out as another array
        same = [applied for applied in found if applied.count is node.count]
        if not same:
            raise ValueError(
                "record saw nothing of a decay_weights in inner, which ran it inside jit, cond, "
                "scan or vmap, or not at all; put the record inside that wrapper, as in "
                "optax.MultiSteps(record(...), 4)"
            )
        links.append(same[-1])
    return emitted, after, links, leaves_of(params, emitted, links, is_rounded(after))


def leaves_of(
    params: optax.Params, emitted: optax.Updates, links: list[Applied], rounded: bool
) -> list[Leaf]:
    """Put together what every `decay_weights` did to each floating-point leaf."""
    structure: PyTreeDef = jax.tree.structure(params)
    trees = [(link.weights, link.updates, link.pull, link.strengths) for link in links]
    try:
        columns = [zip(*map(structure.flatten_up_to, each), strict=True) for each in trees]
    except ValueError as error:
        raise ValueError(
            "record needs a decay_weights that sees the params in their own structure; put the "
            "record inside what changes it, as in optax.flatten(record(...))"
        ) from error
    rows = zip(jax.tree.leaves(params), structure.flatten_up_to(emitted), *columns, strict=True)
    return [_leaf(p, u, each, rounded) for p, u, *each in rows if is_inexact(p)]


def measured(links: list[Applied], leaves: list[Leaf]) -> jax.Array:
    """Measure a row of `Sums` for each leaf."""
    return sums_of_each(leaves, [link.fraction for link in links])


def _leaf(p: PyTree, u: PyTree, links: list[PyTree], rounded: bool) -> Leaf:
    # no gradient, no decay
    here = [None if u is None or is_absent(m) else m for *_, m in links]
    # before any rounding, if a link saw them
    seen = [(w, delta) for (w, delta, *_), m in zip(links, here, strict=True) if m is not None]
    # a leaf with m = 0 has no decay, and no pull to measure
    pulls = [applied(pull, m) for (_, _, pull, _), m in zip(links, here, strict=True)]
    carried = () if rounded and is_bfloat16(p) else None
    return Leaf(p, u, *(seen[0] if seen else (p, u)), pulls, here, carried)


def rates_of(leaves: list[Leaf], links: list[Applied], dtype: DTypeLike) -> _Rates:
    """Return c, λ and lr of each leaf, as vectors."""
    c = lam = lr = jnp.zeros(len(leaves), dtype)
    for i, link in enumerate(links):
        here = [leaf.multipliers[i] for leaf in leaves]
        m = join([0.0 if x is None else x for x in here], dtype)
        c = c + m * jax.lax.stop_gradient(link.fraction)
        lam = lam + m * jax.lax.stop_gradient(link.weight_decay)
        if link.learning_rate is not None:
            told = np.array([x is not None for x in here], bool)
            lr = jnp.where(told, jax.lax.stop_gradient(link.learning_rate), lr)
    return _Rates(*(x.astype(dtype) for x in (c, lam, lr)))


@jax.jit
def _records(
    due: Number, count: jax.Array, rates: _Rates, shrunk: jax.Array, table: jax.Array, held: PyTree
) -> PyTree:
    """Return the records of this step if it is due, else those held."""
    # of all leaves the strongest decay, since a mean would hide it
    highest = _Rates(*(jnp.max(x, initial=0) for x in rates))
    total = record_of(highest, jnp.min(shrunk, initial=0), Sums(*table.sum(0)))
    latest = count, total, record_of(rates, shrunk, Sums(*table.T))
    return jax.tree.map(lambda new, old: jnp.where(due, new, old), latest, held)


def record_of(rates: _Rates, shrunk: jax.Array, sums: Sums) -> Record:
    """Apply the formulas to the sums of one leaf, or of all."""
    weights, updates, decay = map(jnp.sqrt, sums[:3])
    along = sums.along / jnp.where(weights > 0, weights, 1)
    # Pythagoras; rounding may make the difference slightly negative
    across = jnp.sqrt(jnp.maximum(sums.step - along**2, 0))
    return Record(
        **rates._asdict(),
        weight_norm=weights,
        update_norm=updates,
        decay_norm=decay,
        ratio=decay / jnp.where(decay > 0, updates, 1),
        growth=along / jnp.where(weights > 0, weights, 1),
        # atan2 is exact for small angles, where arccos of a cosine is not
        angle=jnp.where(weights > 0, jnp.atan2(across, weights + along), 0),
        log_shrinkage=shrunk,
        lost=sums.lost / jnp.maximum(sums.decayed, 1),
    )


def _log_shrinkage(c: Number) -> jax.Array:
    """Return log|1 − c|, finite where c = 1 removes the whole weight."""
    # log(0) would stay −∞ for all later steps
    left = jnp.maximum(jnp.abs(1 - c), np.finfo(np.float32).tiny)
    return jnp.where(c < 0.5, jnp.log1p(-jnp.minimum(c, 0.5)), jnp.log(left))


def _is_decay(node: PyTree) -> bool:
    return isinstance(node, DecayWeightsState)


def _is_record(node: PyTree) -> bool:
    return isinstance(node, RecordState)


def is_rounded(state: optax.OptState) -> bool:
    """Tell whether a rounding link carries the weights."""
    return any(map(is_rounding_state, jax.tree.leaves(state, is_leaf=is_rounding_state)))


def _check_every(every: Number) -> None:
    check_at_least_one("every", every)
    if not isinstance(every, jax.core.Tracer) and every != int(every):
        raise ValueError(f"every must be a whole number of steps, got {every}; pass {int(every)}")


def _check_decays(state: optax.OptState) -> None:
    parts = jax.tree.leaves(state, is_leaf=lambda n: _is_decay(n) or _is_record(n))
    if any(map(_is_record, parts)):
        raise ValueError("inner holds a record already; record once, around the whole optimiser")
    if not any(map(_is_decay, parts)):
        raise ValueError(
            "inner holds no decay_weights of this package; pass an alias, or decouple(inner, "
            "0.0) for no decay"
        )
