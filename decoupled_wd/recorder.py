"""What the decay does during training: a record in the optimiser's state, of what was applied."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._resolution import is_absent
from decoupled_wd._scalars import check_at_least_one, check_type
from decoupled_wd._trees import check_params, is_inexact, named_leaves, widen
from decoupled_wd.rounding import is_bfloat16, is_rounding_state
from decoupled_wd.transforms import DecayWeightsState


class Record(NamedTuple):
    """One step: numbers in total, or vectors over the leaves. ‖·‖ is the L2 norm, θ the weights before the step."""

    c: jax.Array
    """The fraction c_t·m of the weights that was subtracted; in total that of the leaf with the highest."""
    lam: jax.Array
    """λ_t·m, likewise."""
    lr: jax.Array
    """lr_t as the decay was told it, likewise; NaN where `learning_rate` was left out."""
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
    """Σ log|1 − c_t·m| over all steps so far: exp of it is left of an idle weight. In total the lowest."""
    lost: jax.Array
    """Of the weights with decay, the share that landed where they would have without: rounding took it."""


class RecordState(NamedTuple):
    """Step count, the step recorded, log-shrinkage and the error of its sum, the records, and the inner state."""

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count, as in optax
    step: jax.Array
    shrunk: jax.Array
    error: jax.Array
    total: Record
    leaves: Record
    inner: optax.OptState


class _Leaf(NamedTuple):
    """What a step was made of in one leaf."""

    param: Any
    emitted: Any
    weights: Any
    delta: Any
    decay: Any = 0.0
    c: Any = 0.0
    lam: Any = 0.0
    lr: Any = jnp.nan


class _Sums(NamedTuple):
    """What adds up over leaves, for s = θ' − θ and the decay d: Σθ², ΣΔ², Σd², Σθ·s, Σs², and weights counted."""

    weights: Any
    updates: Any
    decay: Any
    along: Any
    step: Any
    lost: Any
    decayed: Any


def record(
    inner: optax.GradientTransformation, *, every: Any = 1
) -> optax.GradientTransformationExtraArgs:
    """Keep in the state what `inner` does at each step: c_t, λ_t, lr_t, ‖θ‖, ‖Δ_t‖, ‖decay‖, the angle turned.

    The updates are those of `inner`, bit for bit. The state holds the latest `Record` only, so that its structure
    and size never change: a training loop logs it, and `jax.lax.scan` stacks it to a history. ``state.total`` (or
    ``optax.tree.get(state, "total")`` from anywhere above) is that of all weights together, ``state.leaves`` has
    a vector over the leaves in place of each number, and `recorded` gives it by path.

    Update and decay are measured as the optimiser made them, in float32 or wider; angle, shrinkage and share lost
    as the weights landed in their precision. Behind a rounding link they are those of the float32 weights that
    it carries.

    Args:
      inner: an optimiser with a `decay_weights` inside: an alias, `decouple`, or a chain. Wrappers that hold steps
        back take the record inside them: ``optax.MultiSteps(record(...), 4)``, likewise ``apply_if_finite``.
      every: measure at the steps 0, `every`, 2·`every`, … and hold the record in between. The log-shrinkage counts
        every step whatever `every` is.

    Returns:
      An optimiser that passes extra arguments on to `inner`.

    Raises:
      TypeError: `inner` is not an optimiser, or `every` is not a number.
      ValueError: `every` is below 1; at init, there is no `decay_weights` in `inner`; or params are missing.

    Examples:
      >>> from decoupled_wd import sgdw
      >>> optimizer, params = record(sgdw(0.5, 0.1)), jnp.array([3.0, 4.0])
      >>> updates, state = optimizer.update(jnp.array([4.0, -3.0]), optimizer.init(params), params)
      >>> [round(float(x), 4) for x in (state.total.c, state.total.decay_norm, state.total.update_norm)]
      [0.1, 0.5, 2.5]
      >>> round(float(jnp.tan(state.total.angle)), 4)  # 2.5 across, on what is left of 5
      0.5556

    Source: the quantities of Kosson et al., arXiv 2305.17212, section 3.
    """
    remedy = "pass a finished optimiser, as in dwd.adamw(1e-3, 1e-4)"
    check_type("inner", inner, optax.GradientTransformation, remedy)
    check_at_least_one("every", every)
    inner = optax.with_extra_args_support(inner)

    def init(params: optax.Params) -> RecordState:
        state = inner.init(params)
        _check_inner(state)
        leaves = [p for p in jax.tree.leaves(params) if is_inexact(p)]
        dtype = jnp.result_type(jnp.float32, *(p.real.dtype for p in leaves))

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
        updates: optax.Updates, state: RecordState, params: Any = None, **extra: Any
    ) -> tuple[optax.Updates, RecordState]:
        check_params("record", params)

        emitted, seen = inner.update(updates, state.inner, params, **extra, observe=True)
        leaves = _leaves(params, emitted, seen)
        logs = jnp.array([_log_shrinkage(leaf.c) for leaf in leaves], state.shrunk.dtype)
        shrunk, error = _compensated(state.shrunk, state.error, logs)
        latest = state.count, *_records(leaves, shrunk, _is_rounded(seen))
        kept = state.step, state.total, state.leaves
        # not lax.cond: it copies the moments, which takes as long as the measuring that it would save
        due = state.count % every == 0
        records = jax.tree.map(lambda new, old: jnp.where(due, new, old), latest, kept)
        count = optax.safe_increment(state.count)
        step, total, each = records
        return emitted, RecordState(count, step, shrunk, error, total, each, _without_applied(seen))

    return optax.GradientTransformationExtraArgs(init, update)


def recorded(state: optax.OptState, params: optax.Params) -> dict[str, Record]:
    """The latest `Record` of each leaf, by its path.

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

    Source: as `record`.
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


def _leaves(params: optax.Params, emitted: optax.Updates, seen: optax.OptState) -> list[_Leaf]:
    """What every `decay_weights` did to each floating-point leaf, put together."""
    structure: Any = jax.tree.structure(params)
    links = [node for node in jax.tree.leaves(seen, is_leaf=_is_decay) if _is_decay(node)]
    columns = [zip(*map(structure.flatten_up_to, link.applied[:4]), strict=True) for link in links]
    rows = zip(jax.tree.leaves(params), structure.flatten_up_to(emitted), *columns, strict=True)
    return [_leaf(p, u, links, trees) for p, u, *trees in rows if is_inexact(p)]


def _leaf(p: Any, u: Any, links: list[DecayWeightsState], trees: list[Any]) -> _Leaf:
    if u is None:  # no gradient, no decay
        return _Leaf(p, jnp.zeros_like(p), widen(p), jnp.zeros_like(widen(p)))
    here = [pair for pair in zip(links, trees, strict=True) if not is_absent(pair[1][3])]
    weights, delta = here[0][1][:2] if here else (p, u)  # before any rounding, if a link saw them
    leaf = _Leaf(p, u, widen(weights), widen(delta))
    for link, (_, _, pull, m) in here:
        leaf = leaf._replace(
            decay=leaf.decay + link.fraction * m * widen(pull) if m else leaf.decay,
            c=leaf.c + link.fraction * m,
            lam=leaf.lam + link.applied.weight_decay * m,
            lr=leaf.lr if link.applied.learning_rate is None else link.applied.learning_rate,
        )
    return leaf


def _records(leaves: list[_Leaf], shrunk: jax.Array, rounded: bool) -> tuple[Record, Record]:
    """The record in total, and of each leaf."""
    rows = [[leaf.c, leaf.lam, leaf.lr, *_sums(leaf, rounded)] for leaf in leaves]
    width = 3 + len(_Sums._fields)
    table = jnp.array(rows, shrunk.dtype).reshape(len(leaves), width).T
    known = ~jnp.isnan(table[:3])
    highest = jnp.where(known.any(1), jnp.max(table[:3], 1, initial=0, where=known), jnp.nan)
    total = _record(highest, jnp.min(shrunk, initial=0), _Sums(*table[3:].sum(1)))
    return total, _record(table[:3], shrunk, _Sums(*table[3:]))


def _sums(leaf: _Leaf, rounded: bool) -> _Sums:
    p, u = leaf.param, leaf.emitted
    w, without = leaf.weights, leaf.delta
    if rounded and is_bfloat16(p):  # the link carries the float32 weight
        step = without - leaf.decay
        same = w + step == w + without
    else:
        landed = _rounded(widen(p) + _rounded(widen(u), u.dtype), p.dtype)
        same = landed == _rounded(widen(p) + _rounded(without, u.dtype), p.dtype)
        step = landed - widen(p)
    decayed = leaf.decay != 0
    pairs = [(w, w), (without, without), (leaf.decay, leaf.decay), (w, step), (step, step)]
    terms = [(jnp.conj(x) * y).real for x, y in pairs] + [same & decayed, decayed]
    return _Sums(*_totals([jnp.broadcast_to(x, p.shape).astype(step.real.dtype) for x in terms]))


def _totals(terms: list[jax.Array]) -> list[jax.Array]:
    """The sum of each term, in one pass over the weights; row by row, since float32 cannot count past 2^24."""
    if terms[0].ndim > 1:
        zeros = [jnp.zeros([], x.dtype) for x in terms]
        last = (terms[0].ndim - 1,)
        terms = jax.lax.reduce(terms, zeros, lambda x, y: [*map(jnp.add, x, y)], last)
    return [jnp.sum(x) for x in terms]


def _record(rates: jax.Array, shrunk: jax.Array, sums: _Sums) -> Record:
    """The formulas, of one leaf or of all together."""
    weights, updates, decay = map(jnp.sqrt, sums[:3])
    along = sums.along / jnp.where(weights > 0, weights, 1)
    across = jnp.sqrt(jnp.maximum(sums.step - along**2, 0))
    return Record(
        c=rates[0],
        lam=rates[1],
        lr=rates[2],
        weight_norm=weights,
        update_norm=updates,
        decay_norm=decay,
        ratio=decay / jnp.where(decay > 0, updates, 1),
        growth=along / jnp.where(weights > 0, weights, 1),
        angle=jnp.where(weights > 0, jnp.atan2(across, weights + along), 0),
        log_shrinkage=shrunk,
        lost=sums.lost / jnp.maximum(sums.decayed, 1),
    )


def _rounded(x: jax.Array, dtype: Any) -> jax.Array:
    """x as `dtype` holds it, in the dtype of x: XLA may drop a conversion there and back."""
    info = _info(dtype)
    return x if info.bits >= 32 else jax.lax.reduce_precision(x, info.nexp, info.nmant)


def _log_shrinkage(c: Any) -> jax.Array:
    """log|1 − c|, finite where c = 1 removes the whole weight."""
    left = jnp.maximum(jnp.abs(1 - c), _info(jnp.float32).tiny)
    return jnp.where(c < 0.5, jnp.log1p(-c), jnp.log(left))


def _compensated(
    total: jax.Array, error: jax.Array, term: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Kahan's sum: alone, float32 would stop counting fractions of 1e-7 of a step."""
    wanted = term - error
    new = total + wanted
    return new, (new - total) - wanted


def _info(dtype: Any) -> Any:
    return jnp.finfo(dtype)  # type: ignore[no-untyped-call]


def _is_decay(node: Any) -> bool:
    return isinstance(node, DecayWeightsState)


def _is_record(node: Any) -> bool:
    return isinstance(node, RecordState)


def _without_applied(state: optax.OptState) -> optax.OptState:
    return jax.tree.map(
        lambda n: n._replace(applied=()) if _is_decay(n) else n, state, is_leaf=_is_decay
    )


def _is_rounded(state: optax.OptState) -> bool:
    return any(map(is_rounding_state, jax.tree.leaves(state, is_leaf=is_rounding_state)))


def _check_inner(state: optax.OptState) -> None:
    parts = jax.tree.leaves(state, is_leaf=lambda n: _is_decay(n) or _is_record(n))
    if any(map(_is_record, parts)):
        raise ValueError("inner holds a record already; record once, around the whole optimiser")
    if not any(map(_is_decay, parts)):
        raise ValueError(
            "inner holds no decay_weights of this package; pass an alias, or decouple(inner, 0.0) for no decay"
        )
