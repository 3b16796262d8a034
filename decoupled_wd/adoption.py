"""The state of an optimiser here from that of one of optax, in the middle of a run.

A state is a tree of links: named tuples, each with the moments and counts of one transformation.
Links with one name and the same names of fields keep the same things, whoever made them. So a link
is moved by its names, and of several the first comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import GetAttrKey

from decoupled_wd._base.checks import check_type
from decoupled_wd._base.leaves import dtype_name, is_absent, is_inexact
from decoupled_wd._base.paths import path_name, structure_error
from decoupled_wd._base.types import KeyPath, PyTree, PyTreeDef
from decoupled_wd._base.updates import as_transformation, check_params
from decoupled_wd._traces import is_buffer, with_traces
from decoupled_wd.diagnostics.record import Record, RecordState
from decoupled_wd.rounding import is_rounding_state
from decoupled_wd.rules import NormState
from decoupled_wd.transforms import DecayWeightsState, DecoupleState


def adopt(
    optimizer: optax.GradientTransformation | optax.MultiSteps,
    params: optax.Params,
    state: optax.OptState,
    *,
    count: int | jax.Array | None = None,
) -> optax.OptState:
    """Make the state of `optimizer` from that of another, as trained so far.

    So decay is switched on in the middle of a run. Moments are kept bit for bit, on the devices
    where they are. The decay and the schedules go on at the step at which the state is. What optax
    has nothing of starts as in ``optimizer.init(params)``: `rules.towards_start` from these
    weights, the norms of a `hyperball`, a rounding, a `record`.

    optax's momentum has the learning rate behind the buffer, and that of `sgd` and `sgdw` inside:
    there it becomes ``m = lr_t · trace``, with lr_t of the next step, which is the same to
    rounding; what stands in front of it may clip gradients, and not scale them.
    ``decouple(optax.sgd(lr, momentum=0.9), …)`` keeps the trace bit for bit.

    Hyperparameters are those of `optimizer`. States of optax that go by the name of Adam's without
    being one, those of adamax, radam and yogi, belong into `decouple` around these.

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
    optimizer = as_transformation(optimizer)
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
    left = [link for link in given if link.fields.keys() != {"count"}]
    traces: list[PyTree] = []

    def take(key: _Key) -> _Link | None:
        index = next((i for i, link in enumerate(left) if link.key == key), None)
        return None if index is None else left.pop(index)

    def moved(link: _Link) -> dict[str, PyTree]:
        found, trace = take(link.key), None
        if is_buffer(link.node):
            trace = take(_TRACE) if found is None else None
            like = link.fields["momentum"]
            traces.append(None if trace is None else _fitted(trace, "trace", like))
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
    return with_traces(optimizer, params, adopted, traces)


_Key: TypeAlias = tuple[str, frozenset[str]]
"""The name of a link, and those of its fields and of the hyperparameters that it holds."""

_TRACE: _Key = (optax.TraceState.__name__, frozenset(optax.TraceState._fields))


class _Link(NamedTuple):
    """A named tuple of a state, and what it keeps beside the states inside it."""

    path: KeyPath
    node: PyTree
    fields: dict[str, PyTree]

    @property
    def key(self) -> _Key:
        """By which the same link of another optimiser is found."""
        names = frozenset((*self.fields, *self.fields.get("hyperparams", ())))
        return type(self.node).__name__ if "" not in names else "", names

    @property
    def words(self) -> str:
        """Name it and its fields."""
        kind, names = self.key
        return f"{kind}({', '.join(sorted(names))})" if kind else "arrays"

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
    inside = {name: value for name, value in fields.items() if _holds_state(value, weights)}
    # a rule's state goes with its decay, and an inner state of any kind is one
    inside = {} if isinstance(node, DecayWeightsState) else inside
    inside = fields if isinstance(node, DecoupleState) else inside
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
    kinds = DecayWeightsState | NormState | RecordState | optax.InjectStatefulHyperparamsState
    counts = link.fields.keys() == {"count"}
    return counts or isinstance(link.node, kinds) or is_rounding_state(link.node)


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
    has = {each.at(""): each.words for each in given}
    return ValueError(
        f"state has no {link.words} for {link.at('')!r} of the optimiser; it has {has}; "
        "put dwd.decouple around the optimiser that the state is of, and restore a checkpoint "
        "into the structure that its init gives"
    )


def _unplaced(link: _Link) -> ValueError:
    return ValueError(
        f"state has {link.words} at {link.at('')!r}, for which the optimiser has no "
        "place; put dwd.decouple, or the wrapper that made it, around the same optimiser"
    )
