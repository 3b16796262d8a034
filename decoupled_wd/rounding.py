"""In what precision the weights are written.

Two last links make bfloat16 weights keep what a step adds.

Rounded to nearest, a bfloat16 weight ignores every change below 2^-9 of itself, and a decay of 1e-4
a step is such a change. Both links take the exact float32 update, decay included, and emit the
float32 difference ``p' − p`` with which ``optax.apply_updates`` (it adds in float32, then casts)
lands on the bfloat16 weight p' that they chose. Only a last link may do so: whatever follows would
change the landing. Leaves that are not bfloat16 pass bit for bit and hold no state. Halves of
weights are handled as integers, since XLA may drop a conversion from float32 to bfloat16 and back.

Derivatives pass straight through, as if nothing were rounded: that of p' is that of p + u.

Why not Kahan summation: its compensation costs the same 2 bytes, but as a bfloat16 number stops
growing too, below c ≈ 2^-18. The low half of the float32 weight loses nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from decoupled_wd._base.leaves import (
    dtype_name,
    dtype_of,
    is_absent,
    is_none,
    map_leaves,
    once_per_shape,
)
from decoupled_wd._base.paths import path_name, structure_error, unbox
from decoupled_wd._base.types import Number, PyTree, PyTreeDef
from decoupled_wd._base.updates import check_gradients, check_params
from decoupled_wd.rules import Rule

__all__ = ["residual", "stochastic_rounding", "weights"]

# of NumPy, since making one in JAX is an error under jax_debug_nans
_NAN = np.array(np.nan, jnp.bfloat16)


class ResidualState(NamedTuple):
    """The low 16 bits of each float32 weight, as int16."""

    residual: optax.Updates


class StochasticRoundingState(NamedTuple):
    """The key of the next step."""

    key: jax.Array


def residual() -> optax.GradientTransformationExtraArgs:
    """Keep the float32 weight in two halves, parameter and state.

    Training then follows float32 bit for bit.

    ``w ← (p, r)``, ``w' = w + u``, ``p' = nearest bfloat16 of w'``, ``r' = low 16 bits of w'``

    So it is under the same gradients. As ``rounding=`` of `decouple` or an alias the decay is taken
    of w; as a bare last link of a chain, the links before it see p, which is within 2^-9 of w. A
    parameter changed from outside keeps its new value, to within half a unit in its last place. A
    weight that shrinks more than 2^16-fold in one step lands within 2^-25 of its old size instead.
    Derivatives pass straight through: p' has that of p + u, in bfloat16 as p has.

    Returns:
      A last link for bfloat16 parameters. Its state is 2 bytes a weight, and is part of the
      weights: losing it is losing data.

    Raises:
      TypeError: a parameter is of another type narrower than float32, or of another than at init.
      ValueError: params are missing in `update`, or do not fit the state or the updates.

    Examples:
      >>> link, p = residual(), jnp.ones(1, jnp.bfloat16)
      >>> state = link.init(p)
      >>> for _ in range(10):
      ...     updates, state = link.update(jnp.full(1, -0.001), state, p)
      ...     p = optax.apply_updates(p, updates)
      >>> float(p[0])  # without the link: 1.0
      0.98828125

    Source: the split of a float32 into bfloat16 and 16 more bits, as in Zamirai et al., arXiv
      2010.06192.
    """

    def init(params: optax.Params) -> ResidualState:
        def leaf(p: PyTree) -> PyTree:
            return jnp.zeros_like(p, dtype=jnp.int16) if is_bfloat16(p) else optax.MaskedNode()

        _check_dtypes(params)
        return ResidualState(jax.tree.map(leaf, params))

    def update(
        updates: PyTree, state: ResidualState, params: PyTree = None, **extra: object
    ) -> tuple[PyTree, ResidualState]:
        del extra
        _check_dtypes(params)
        check_gradients("updates", updates, params)
        _check_residuals(state.residual, params)

        def leaf(u: jax.Array, r: PyTree, p: jax.Array) -> tuple[PyTree, PyTree, PyTree]:
            return (*_written(u, r, p), p) if is_bfloat16(p) else (u, r, p)

        updates, r, _ = map_leaves(leaf, updates, state.residual, params)
        return updates, ResidualState(r)

    return optax.GradientTransformationExtraArgs(init, update)


def stochastic_rounding(seed: int) -> optax.GradientTransformationExtraArgs:
    """Round each weight up or down by chance, without bias.

    Its expectation is the float32 weight.

    ``p' = floor16(bits(p + u) + dither)``, the dither uniform over 0 … 2^16 − 1: up with the
    probability of the low 16 bits. Without bias, at the price of noise of one unit in the last
    place each step. Derivatives pass straight through: p' has that of p + u, in bfloat16 as p has.

    Args:
      seed: a whole number below 2^32, which makes the run reproducible; each leaf and each step has
        its own dither, whatever the sharding.

    Returns:
      A last link for bfloat16 parameters. Its state is one key.

    Raises:
      TypeError: the seed is not a whole number, or a parameter is of another type narrower than
        float32.
      ValueError: the seed is negative or above 2^32 − 1, or params are missing in `update`.

    Examples:
      >>> link, p = stochastic_rounding(0), jnp.ones(1000, jnp.bfloat16)
      >>> updates, _ = link.update(jnp.full(1000, -0.001), link.init(p), p)
      >>> p = optax.apply_updates(p, updates)
      >>> [float(v) for v in jnp.unique(p)], bool(abs(p.astype(float).mean() - 0.999) < 2e-4)
      ([0.99609375, 1.0], True)

    Source: Zamirai et al., Revisiting BFloat16 Training, arXiv 2010.06192.
    """
    _check_seed(seed)

    def init(params: optax.Params) -> StochasticRoundingState:
        _check_dtypes(params)
        # made here, since the state needs a buffer of its own, to be donated
        return StochasticRoundingState(jax.random.key_data(jax.random.key(seed)))

    def update(
        updates: PyTree, state: StochasticRoundingState, params: PyTree = None, **extra: object
    ) -> tuple[PyTree, StochasticRoundingState]:
        del extra
        _check_dtypes(params)
        check_gradients("updates", updates, params)
        # each step has a key of its own, and so a dither of its own
        step, following = jax.random.split(jax.random.wrap_key_data(state.key))
        names = _numbered(updates)

        def leaf(u: jax.Array, p: jax.Array, number: int) -> tuple[PyTree, PyTree, PyTree]:
            return (_dithered(u, p, step, number) if is_bfloat16(p) else u), p, number

        updates, _, _ = map_leaves(leaf, updates, params, names)
        return updates, StochasticRoundingState(jax.random.key_data(following))

    return optax.GradientTransformationExtraArgs(init, update)


def weights(state: optax.OptState, params: optax.Params) -> optax.Params:
    """Return the weights that a state and the params hold together.

    Behind `residual` they are in float32.

    Decay is taken of these, not of the rounded params, so that it too is the float32 one.

    Args:
      state: of a link, or of any optimiser around it, whose residuals are found in it.
      params: the parameters that the state is for.

    Returns:
      A tree like the params, in float32 where a residual is held.

    Raises:
      TypeError: `state` is no optimiser's state, as when both are swapped; or a residual is not
        that of a bfloat16 parameter.
      ValueError: a residual has another structure or shape than the params.

    Examples:
      >>> link, p = residual(), jnp.ones(1, jnp.bfloat16)
      >>> updates, state = link.update(jnp.full(1, -0.001), link.init(p), p)
      >>> [float(w[0]) for w in (optax.apply_updates(p, updates), weights(state, p))]
      [1.0, 0.9990000128746033]
    """
    check_params("rounding.weights", params)
    order = "call weights(state, params) with the optimiser's whole state"
    # the usual slip is to swap the two
    if _rounding_states(params):
        raise TypeError(f"params must be the parameters, got an optimiser's state; {order}")
    if not _is_state(state):
        raise TypeError(f"state must be an optimiser's, got {type(state).__name__}; {order}")
    held = held_weights(unbox(state), unbox(params))
    # boxes back in their place, as the params had them
    structure: PyTreeDef = jax.tree.structure(params)
    return structure.unflatten(jax.tree.leaves(held))


def held_weights(state: optax.OptState, params: optax.Params) -> optax.Params:
    """Do as `weights`, for the state of any link, without boxes."""
    # there may be several under optax.partition, each with leaves of its own
    for link in _rounding_states(state):
        params = _joined_tree(link.residual, params) if isinstance(link, ResidualState) else params
    return params


def round_with(w: jax.Array, dither: jax.Array) -> jax.Array:
    """Round each float32 up or down by a dither in 0 … 2^16 − 1.

    Infinities and NaN stay.
    """
    bits = jax.lax.bitcast_convert_type(w, jnp.uint32)
    up = ((bits + dither.astype(jnp.uint32)) >> 16).astype(jnp.uint16)
    return jnp.where(jnp.isfinite(w), _from_bits(up), w.astype(jnp.bfloat16))


def is_rounding_state(node: PyTree) -> bool:
    """Tell whether a part of a state belongs to these links."""
    return isinstance(node, ResidualState | StochasticRoundingState)


def is_rounding_link(link: optax.GradientTransformation) -> bool:
    """Tell whether one of these links is in it, bare or chained.

    The state of no weights at all tells.
    """
    return bool(_rounding_states(link.init({})))


def check_rounding(rounding: object) -> None:
    """Check that `rounding` is None or a link.

    The usual slip is a link that was not called.
    """
    if isinstance(rounding, Rule):
        raise TypeError(f"rounding must be a link, got the rule {rounding!r}; pass it as rule=")
    if rounding is not None and not isinstance(rounding, optax.GradientTransformation):
        name = getattr(rounding, "__name__", None)
        remedy = f"call it, as in {name}(...)" if name else "pass rounding=dwd.rounding.residual()"
        raise TypeError(f"rounding must be a link, got {rounding!r}; {remedy}")


def is_bfloat16(leaf: PyTree) -> bool:
    """Tell whether a leaf is one that these links round."""
    return bool(getattr(leaf, "dtype", None) == jnp.bfloat16)


def _straight_through(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a rounding the derivative of its first argument."""
    rounded = jax.custom_jvp(function)

    @rounded.defjvp
    def tangents(
        primals: tuple[PyTree, ...], tangents: tuple[PyTree, ...]
    ) -> tuple[PyTree, PyTree]:
        results = rounded(*primals)
        first, *integers = results if isinstance(results, tuple) else (results,)
        # integers have no derivative, which JAX writes as float0
        zeros = [np.zeros(x.shape, jax.dtypes.float0) for x in integers]
        straight = tangents[0].astype(first.dtype)
        return results, (straight, *zeros) if zeros else straight

    return rounded


@once_per_shape
@_straight_through
def _written(u: jax.Array, r: jax.Array, p: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return what to add to p, and the new low half.

    The half is 0 where ``optax.apply_updates`` would miss the nearest bfloat16.
    """
    # the float32 weight exists only here, between two writes
    w = _joined(p, r) + u.astype(jnp.float32)
    nearest, low = _split(w)
    # p' − p is exact in float32 unless p is far larger than p'
    kept = _bits(_landed(p, nearest)) == _bits(nearest)
    # chosen as float32: XLA writes a choice among integers apart from moments in bfloat16
    low = jnp.where(kept, low.astype(jnp.float32), 0).astype(jnp.int16)
    return _difference(p, nearest), low


@once_per_shape
@_straight_through
def _dithered(u: jax.Array, p: jax.Array, key: jax.Array, number: int) -> jax.Array:
    """Return what to add to p to land on the dithered bfloat16."""
    w = p.astype(jnp.float32) + u.astype(jnp.float32)
    # 16 random bits, added below the bfloat16: their carry rounds up
    dither = jax.random.bits(jax.random.fold_in(key, number), p.shape, jnp.uint16)
    return _difference(p, round_with(w, dither))


def _split(w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Split a float32 into the nearest bfloat16 and its distance in bits.

    Ties go away from zero; the distance is the low half, as a signed number.
    """
    bits = jax.lax.bitcast_convert_type(w, jnp.uint32)
    # half a unit in the last place is added, and the low half cut off
    nearest = _from_bits(((bits + 0x8000) >> 16).astype(jnp.uint16))
    low = jax.lax.bitcast_convert_type(bits.astype(jnp.uint16), jnp.int16)
    # adding to the bits of a NaN could make it a number
    nan = jnp.isnan(w)
    return jnp.where(nan, _NAN, nearest), jnp.where(nan, jnp.int16(0), low)


@once_per_shape
@_straight_through
def _joined(p: jax.Array, low: jax.Array) -> jax.Array:
    """Join the two halves of a float32 weight.

    A half that no weight has was left by a change from outside.
    """
    # without the sign
    size = _bits(p) & 0x7FFF
    stale = ((size == 0) & (low < 0)) | ((size >= 0x7F80) & (low > 0))
    low = jnp.where(stale, 0, low.astype(jnp.int32))
    high = _bits(p).astype(jnp.uint32) << 16
    return jax.lax.bitcast_convert_type(high + low.astype(jnp.uint32), jnp.float32)


def _difference(p: jax.Array, chosen: jax.Array) -> jax.Array:
    """Return what ``optax.apply_updates`` must add to p to land on `chosen`.

    −0 keeps zeros and infinities too.
    """
    difference = chosen.astype(jnp.float32) - p.astype(jnp.float32)
    # x + (−0) is x, for 0 and −0 alike; ∞ − ∞ would be NaN
    return jnp.where(_bits(chosen) == _bits(p), -0.0, difference)


def _landed(p: jax.Array, chosen: jax.Array) -> jax.Array:
    """Return where ``optax.apply_updates`` lands.

    That is on `chosen`, unless p is more than 2^16 times as large.
    """
    return (p.astype(jnp.float32) + _difference(p, chosen)).astype(jnp.bfloat16)


def _bits(x: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(x, jnp.uint16)


def _from_bits(bits: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(bits, jnp.bfloat16)


def _numbered(tree: PyTree) -> PyTree:
    """Number the leaves, in the order of the tree."""
    numbers = itertools.count()
    return jax.tree.map(lambda _: next(numbers), tree, is_leaf=is_none)


def _rounding_states(tree: PyTree) -> list[PyTree]:
    leaves = jax.tree.leaves(tree, is_leaf=is_rounding_state)
    return [node for node in leaves if is_rounding_state(node)]


def _is_state(node: PyTree) -> bool:
    """Tell whether a node can be an optimiser's state.

    A bare array is none, nor is a container of arrays, as params are.
    """
    if isinstance(node, Mapping):
        return all(map(_is_state, node.values()))
    if isinstance(node, list) or (isinstance(node, tuple) and not hasattr(node, "_fields")):
        return all(map(_is_state, node))
    return node is not None and not jax.tree_util.all_leaves([node])


def _joined_tree(residuals: PyTree, params: optax.Params) -> optax.Params:
    """Return the float32 weights where there is a residual.

    ``optax.partition`` hides those of other optimisers.
    """
    rows, structure = _pairs(residuals, params)
    return structure.unflatten(p if is_absent(r) else _joined(p, r) for r, p in rows)


def _check_residuals(residuals: PyTree, params: optax.Params) -> None:
    """Check that every bfloat16 parameter has its residual, and no other."""
    rows, _ = _pairs(residuals, params)
    lacking = [number for number, (r, p) in enumerate(rows) if is_absent(r) and is_bfloat16(p)]
    if lacking:
        raise TypeError(
            f"{_path_of(residuals, lacking[0])!r} is bfloat16 and was of another dtype at init, so "
            "that no residual is held; init the optimiser with the bfloat16 params"
        )


def _pairs(
    residuals: PyTree, params: optax.Params
) -> tuple[list[tuple[PyTree, PyTree]], PyTreeDef]:
    """Pair each residual with what the params have in its place."""
    treedef: PyTreeDef
    leaves, treedef = jax.tree.flatten(residuals, is_leaf=is_absent)
    try:
        rows = list(zip(leaves, treedef.flatten_up_to(params), strict=True))
    except ValueError:
        raise structure_error("the residual in state", residuals, params, prefix=False) from None
    for number, (r, p) in enumerate(rows):
        if not is_absent(r) and not (
            is_bfloat16(p) and r.dtype == jnp.int16 and r.shape == p.shape
        ):
            raise _no_pair(_path_of(residuals, number), r, p)
    return rows, treedef


def _no_pair(path: str, r: PyTree, p: PyTree) -> Exception:
    if r.dtype != jnp.int16:
        return TypeError(
            f"residual of {path!r} is {r.dtype}, and must be int16: bits of a weight; restore it "
            "as it was saved"
        )
    if not is_bfloat16(p):
        return TypeError(
            f"{path!r} is {dtype_name(p)} and was bfloat16 when its residual was made; pass the "
            "params of this state, or init the optimiser anew"
        )
    return ValueError(
        f"residual of {path!r} has shape {r.shape} for a parameter of shape {p.shape}; "
        "pass the params of this state"
    )


def _path_of(tree: PyTree, number: int) -> str:
    return path_name(jax.tree.leaves_with_path(tree, is_leaf=is_absent)[number][0])


def _check_seed(seed: Number) -> None:
    """Check that a seed is a whole number below 2^32.

    Of a traced one only shape and dtype are checked.
    """
    remedy = "pass a Python int, such as 0"
    whole = jnp.issubdtype(dtype_of(seed), jnp.integer) and jnp.shape(seed) == ()
    if not whole or isinstance(seed, bool):
        raise TypeError(f"seed must be a whole number, got {seed!r}; {remedy}")
    if not isinstance(seed, jax.core.Tracer) and not 0 <= int(seed) < 2**32:
        raise ValueError(f"seed must be at least 0 and below 2^32, got {seed}; {remedy}")


def _check_dtypes(params: PyTree) -> None:
    check_params("rounding", params)
    for path, leaf in jax.tree.leaves_with_path(params):
        dtype = getattr(leaf, "dtype", None)
        narrow = dtype is not None and jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
        if narrow and dtype != jnp.bfloat16:
            raise TypeError(
                f"rounding writes bfloat16, the high half of a float32; {path_name(path)!r} is "
                f"{dtype}. Keep it in bfloat16 or float32, or leave rounding out"
            )


def __dir__() -> list[str]:
    """List the names for users, for tab completion."""
    return __all__
