"""The state of an optimiser here from that of one of optax, in the middle of a run.

A state is a tree of links: named tuples, each with the moments and counts of one transformation.
Links whose fields have the same names keep the same things, whoever made them. So a link is moved
by these names, and of several the first comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import GetAttrKey

from decoupled_wd._base.checks import check_type
from decoupled_wd._base.leaves import dtype_name, is_absent, is_inexact, wide_dtype, widen
from decoupled_wd._base.paths import path_name, structure_error
from decoupled_wd._base.types import KeyPath, PyTree, PyTreeDef
from decoupled_wd._base.updates import check_params
from decoupled_wd.diagnostics.record import Record, RecordState
from decoupled_wd.preconditioners import ScaleByMomentumState
from decoupled_wd.rounding import is_rounding_state
from decoupled_wd.transforms import DecayWeightsState


def adopt(
    optimizer: optax.GradientTransformation,
    params: optax.Params,
    state: optax.OptState,
    *,
    count: int | jax.Array | None = None,
) -> optax.OptState:
    """Make the state of `optimizer` from that of another, as trained so far.

    So decay is switched on in the middle of a run. Moments are kept bit for bit, on the devices
    where they are. The decay and the schedules go on at the step at which the state is. What optax
    has nothing of starts as in ``optimizer.init(params)``: `rules.towards_start` from these
    weights, a rounding, a `record`.

    optax's momentum has the learning rate behind the buffer, and that of `sgd` and `sgdw` inside:
    there it becomes ``m = lr_t · trace``, with lr_t of the next step, which is the same to
    rounding. ``decouple(optax.sgd(lr, momentum=0.9), …)`` keeps it bit for bit.

    Args:
      optimizer: an alias of this package, `decouple` around optax's optimiser, or a chain.
      params: the weights that the state is for.
      state: of optax's optimiser, of any that `decouple` may stand around, or of this package. A
        checkpoint is restored into the structure that the optimiser's own `init` gives.
      count: the steps taken; by default what the state counts, and needed where it counts none, as
        that of ``optax.sgd(lr, momentum=0.9)``.

    Returns:
      A state with the structure, shapes and dtypes of ``optimizer.init(params)``.

    Raises:
      TypeError: `optimizer` is none, `count` is no whole number, or a moment has bits that the
        optimiser does not keep.
      ValueError: a moment is missing, is of other params, or has no place in `optimizer`; the
        counts of the state differ, or there is none.

    Examples:
      >>> from decoupled_wd import adamw
      >>> adam, params = optax.adam(0.1), jnp.array([2.0])
      >>> updates, state = adam.update(jnp.array([1.0]), adam.init(params), params)
      >>> params = optax.apply_updates(params, updates)
      >>> adopted = adopt(adamw(0.1, 0.01), params, state)
      >>> int(adopted.decay.count), round(float(adopted.inner[0].mu[0]), 4)
      (1, 0.1)
    """
    remedy = "pass a finished optimiser, as in dwd.adamw(1e-3, 1e-4)"
    check_type("optimizer", optimizer, optax.GradientTransformation, remedy)
    check_params("adopt", params)
    weights = _structure(params)
    given: list[_Link] = []

    def listed(link: _Link) -> dict[str, PyTree]:
        given.append(link)
        return {}

    _map_links(listed, state, weights)
    step = _step(given, count)
    # counts are made anew, and so are hyperparameters, which the optimiser has of its own
    left = [link for link in given if link.names - {"count"}]
    traces: list[PyTree] = []

    def take(names: frozenset[str]) -> _Link | None:
        found = next((link for link in left if link.names == names), None)
        if found is not None:
            left.remove(found)
        return found

    def moved(link: _Link) -> dict[str, PyTree]:
        found = take(link.names)
        trace = take(_TRACE) if found is None and _is_buffer(link.node) else None
        if _is_buffer(link.node):
            traces.append(trace and _fitted(trace, "trace", link.fields["momentum"]))
        if found is not None:
            return {name: _fitted(found, name, like) for name, like in link.fields.items()}
        if trace is None and not _starts_anew(link):
            raise _missing(link, given)
        # a copy, since each link needs a buffer of its own, to be donated
        return {"count": jnp.array(step)} if "count" in link.fields else {}

    adopted = _map_links(moved, optimizer.init(params), weights)
    for link in left:
        if "hyperparams" not in link.fields:
            raise _unplaced(link)
    if all(trace is None for trace in traces):
        return adopted
    return _with_traces(optimizer, params, adopted, traces)


_TRACE = frozenset({"trace"})


class _Link(NamedTuple):
    """A named tuple of a state, and what it keeps beside the states inside it."""

    path: KeyPath
    node: PyTree
    fields: dict[str, PyTree]

    @property
    def names(self) -> frozenset[str]:
        """Of its fields, and of the hyperparameters that it holds."""
        return frozenset((*self.fields, *self.fields.get("hyperparams", ())))

    def at(self, name: str) -> str:
        """Say where a field is."""
        return path_name((*self.path, *((GetAttrKey(name),) if name else ())))


def _map_links(
    function: Callable[[_Link], dict[str, PyTree]],
    node: PyTree,
    weights: PyTreeDef,
    path: KeyPath = (),
) -> PyTree:
    """Replace fields of every link by what the function gives.

    What lies outside of any, as in a state that is a dict, is a link with one field without a name.
    """
    if _is_moment(node, weights):
        return function(_Link(path, node, {"": node})).get("", node)
    if not _is_state(node, weights):
        level: PyTreeDef
        children, level = jax.tree.flatten_with_path(node, is_leaf=lambda below: below is not node)
        return level.unflatten(
            [_map_links(function, below, weights, (*path, *key)) for key, below in children]
        )
    fields: dict[str, PyTree] = node._asdict()
    # a rule's state goes with its decay
    whole = isinstance(node, DecayWeightsState)
    inside = {n: v for n, v in fields.items() if not whole and _holds_state(v, weights)}
    own = {name: value for name, value in fields.items() if name not in inside}
    changed = {
        name: _map_links(function, value, weights, (*path, GetAttrKey(name)))
        for name, value in inside.items()
    }
    return node._replace(**changed, **(function(_Link(path, node, own)) if own else {}))


def _structure(tree: PyTree) -> PyTreeDef:
    return jax.tree.structure(tree, is_leaf=is_absent)


def _is_moment(node: PyTree, weights: PyTreeDef) -> bool:
    whole = isinstance(node, Record) or jax.tree_util.all_leaves([node])
    return whole or bool(_structure(node) == weights)


def _is_state(node: PyTree, weights: PyTreeDef) -> bool:
    """Tell a link from other trees; params may be named tuples too."""
    return hasattr(node, "_asdict") and not is_absent(node) and not _is_moment(node, weights)


def _holds_state(node: PyTree, weights: PyTreeDef) -> bool:
    def stops(below: PyTree) -> bool:
        return _is_moment(below, weights) or _is_state(below, weights)

    return any(_is_state(below, weights) for below in jax.tree.leaves(node, is_leaf=stops))


def _starts_anew(link: _Link) -> bool:
    """Tell whether a link holds nothing that was trained."""
    kinds = DecayWeightsState | RecordState | optax.InjectStatefulHyperparamsState
    return link.names == {"count"} or isinstance(link.node, kinds) or is_rounding_state(link.node)


def _step(links: Sequence[_Link], count: int | jax.Array | None) -> jax.Array:
    """Return the steps taken, which all links must have counted alike."""
    if count is not None:
        return _whole(count)
    counts = {link.at("count"): link.fields["count"] for link in links if "count" in link.fields}
    if not counts:
        raise ValueError("state counts no steps; pass count=, the number of steps taken")
    known = {at: int(n) for at, n in counts.items() if not isinstance(n, jax.core.Tracer)}
    if len({*known.values()}) > 1:
        raise ValueError(
            f"state counts different numbers of steps, {known}; pass count=, the step at which "
            "the decay and the schedules go on"
        )
    return jnp.asarray(next(iter(counts.values())), jnp.int32)


def _whole(count: int | jax.Array) -> jax.Array:
    """Check the number of steps taken."""
    kind = jnp.result_type(count) if isinstance(count, int | np.generic | jax.Array) else None
    if kind is None or not jnp.issubdtype(kind, jnp.integer) or jnp.shape(count) != ():
        raise TypeError(f"count must be a whole number, got {count!r}; pass the steps taken")
    largest = np.iinfo(np.int32).max
    if not isinstance(count, jax.core.Tracer) and not 0 <= int(count) <= largest:
        raise ValueError(f"count must be in 0…{largest}, got {count}; pass the steps taken")
    return jnp.asarray(count, jnp.int32)


_SAME = "pass the params that the state is for, and the state of the same optimiser"


def _fitted(link: _Link, name: str, like: PyTree) -> PyTree:
    """Return a field of the state, if it has the structure, shapes and bits of `like`."""
    value, at = link.fields[name], link.at(name)
    if not jax.tree.leaves(value) and jax.tree.leaves(like) and name == "rule":
        # a rule that holds something, where none did
        return like
    if _structure(value) != _structure(like):
        error = structure_error(f"state at {at!r}", value, like, prefix=False)
        raise ValueError(f"{error}; {_SAME}")
    level: PyTreeDef
    rows, level = jax.tree.flatten_with_path(like, is_leaf=is_absent)
    leaves = jax.tree.leaves(value, is_leaf=is_absent)
    return level.unflatten(
        [
            _leaf("/".join(filter(None, (at, path_name(path)))), leaf, wanted)
            for (path, wanted), leaf in zip(rows, leaves, strict=True)
        ]
    )


def _leaf(at: str, leaf: PyTree, like: PyTree) -> PyTree:
    if is_absent(leaf) or is_absent(like):
        # optax keeps zeros for integers, which do not train
        if is_absent(like) and not is_inexact(leaf):
            return like
        has, wants = ("nothing", "a moment") if is_absent(leaf) else ("a moment", "none")
        raise ValueError(f"state has {has} at {at!r}, where the optimiser has {wants}; {_SAME}")
    if jnp.shape(leaf) != jnp.shape(like):
        raise ValueError(
            f"state at {at!r} has shape {jnp.shape(leaf)}, and these params need "
            f"{jnp.shape(like)}; {_SAME}"
        )
    leaf = jnp.asarray(leaf)
    # bfloat16 moments become float32 without loss, and not the other way round
    if leaf.dtype != like.dtype and not np.can_cast(leaf.dtype, like.dtype):
        raise TypeError(
            f"state at {at!r} is {dtype_name(leaf)}, and the optimiser keeps {dtype_name(like)}, "
            "which would lose bits; give the optimiser that storage dtype, as in "
            f"mu_dtype=jnp.{dtype_name(leaf)}"
        )
    return leaf.astype(like.dtype)


def _missing(link: _Link, given: Sequence[_Link]) -> ValueError:
    has = {each.at(""): sorted(filter(None, each.fields)) for each in given}
    return ValueError(
        f"state has no {sorted(link.fields)} for {link.at('')!r} of the optimiser; it has {has}; "
        "put dwd.decouple around the optimiser that the state is of, and restore a checkpoint "
        "into the structure that its init gives"
    )


def _unplaced(link: _Link) -> ValueError:
    return ValueError(
        f"state has {sorted(link.fields)} at {link.at('')!r}, for which the optimiser has no "
        "place; put dwd.decouple, or the wrapper that made it, around the same optimiser"
    )


def _with_traces(
    optimizer: optax.GradientTransformation,
    params: optax.Params,
    state: optax.OptState,
    traces: Sequence[PyTree],
) -> optax.OptState:
    """Fill the momentum buffers for which there are traces: ``m = lr_t · trace``.

    lr_t is what an empty buffer makes of a gradient of 2^-20, divided by it, which is exact. So
    small a gradient is not clipped, and weights of zero add no L2 to it.
    """
    gradients, zeros = (
        jax.tree.map(lambda p, x=x: jnp.full_like(p, x) if is_inexact(p) else p, params)
        for x in (_SMALL, 0.0)
    )
    empty = jax.tree.map(_empty, state, is_leaf=_is_buffer)
    _, after = optimizer.update(gradients, empty, zeros)
    waiting = iter(traces)

    def filled(buffer: PyTree, probed: PyTree) -> PyTree:
        trace = next(waiting) if _is_buffer(buffer) else None
        if trace is None:
            return buffer
        rates = jax.tree.map(lambda m: m / _SMALL, probed.momentum)
        _check_one_rate(rates)
        momentum = jax.tree.map(
            lambda rate, old, m: (rate * widen(old)).astype(m.dtype), rates, trace, buffer.momentum
        )
        return buffer._replace(momentum=momentum)

    return jax.tree.map(filled, state, after, is_leaf=_is_buffer)


_SMALL = 2.0**-20


def _is_buffer(node: PyTree) -> bool:
    return isinstance(node, ScaleByMomentumState)


def _empty(node: PyTree) -> PyTree:
    if not _is_buffer(node):
        return node
    # wide, so that a narrow buffer does not round the learning rate
    zeros = jax.tree.map(lambda m: jnp.zeros_like(m, wide_dtype(m)), node.momentum)
    return node._replace(momentum=zeros)


def _check_one_rate(rates: PyTree) -> None:
    leaves = [leaf.real for leaf in jax.tree.leaves(rates)]
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return
    low, high = min(float(x.min()) for x in leaves), max(float(x.max()) for x in leaves)
    if not 0 < low == high:
        raise ValueError(
            f"state has a trace, which becomes momentum times the learning rate of the next step, "
            f"and that is found to be {low} to {high}; it must be one number above 0: put "
            "dwd.decouple around optax.sgd instead, which keeps the trace"
        )
