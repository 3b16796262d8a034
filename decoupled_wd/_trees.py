"""What is done to every leaf: widening, skipping what is not trainable, naming it by its path."""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import DictKey, FlattenedIndexKey, keystr

from decoupled_wd._types import DType, KeyPath, PyTree, PyTreeDef

Result = TypeVar("Result")


def is_none(leaf: PyTree) -> bool:
    """Marks None as a leaf, so that absent gradients keep their place in a map over trees."""
    return leaf is None


def is_absent(node: PyTree) -> bool:
    """Whether nothing is there to train: None, or what ``optax.masked`` and ``optax.partition`` hide."""
    return node is None or isinstance(node, optax.MaskedNode)


def dtype_of(leaf: PyTree) -> DType:
    """The dtype of an array, and the type of anything else: `jnp.issubdtype` takes both."""
    return getattr(leaf, "dtype", type(leaf))


def is_inexact(leaf: PyTree) -> bool:
    """Whether a leaf can be optimised: real or complex floating point, and not None, integer or key."""
    return leaf is not None and jnp.issubdtype(dtype_of(leaf), jnp.inexact)


def wide_dtype(leaf: PyTree) -> jnp.dtype:
    """The dtype in which arithmetic on a leaf is done: its own, but at least float32."""
    dtype = dtype_of(leaf)
    # float8 has no path of promotion
    narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize < 4
    wide = jnp.dtype(jnp.float32) if narrow else jnp.promote_types(dtype, jnp.float32)
    return jax.dtypes.canonicalize_dtype(wide)


def widen(leaf: PyTree) -> PyTree:
    """The leaf in float32 or wider; what is not floating point stays as it is."""
    return _as_array(leaf).astype(wide_dtype(leaf)) if is_inexact(leaf) else leaf


def cast_like(tree: optax.Updates, like: optax.Updates) -> optax.Updates:
    """Each floating-point leaf of `tree` in the dtype of its twin in `like`."""

    def leaf(new: PyTree, old: PyTree) -> PyTree:
        return (
            new.astype(jax.dtypes.canonicalize_dtype(_as_array(old).dtype))
            if is_inexact(old)
            else new
        )

    return jax.tree.map(leaf, tree, like)


@jax.custom_jvp
def root(x: jax.Array) -> jax.Array:
    """√x, whose derivative at 0 is taken as 0: what is divided or scaled by it has a finite one there."""
    return jnp.sqrt(x)


@root.defjvp
def _root_tangent(primals: tuple[Any], tangents: tuple[Any]) -> tuple[jax.Array, jax.Array]:
    y, safe = root(primals[0]), jnp.where(primals[0] > 0, primals[0], 1)
    return y, jnp.where(primals[0] > 0, tangents[0] / (2 * root(safe)), 0)


def _as_array(leaf: PyTree) -> PyTree:
    """A Python number, which optax takes as a weight, as an array; what is one stays as it is."""
    return leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)


def check_gradients(what: str, updates: PyTree, like: PyTree) -> None:
    """Each update fits its twin in `like`, the weights or their moments; None stands for an absent one.

    Only structures, shapes and dtypes are compared, and paths are named only where one does not fit.

    Raises:
      TypeError: an update is integer or boolean for a floating-point weight, or complex for a real one.
      ValueError: the trees differ in structure, or an update in shape.
    """
    leaves, twins = check_structure(what, updates, like)
    if not all(map(_fits, leaves, twins)):
        paths = [path for path, _ in jax.tree.leaves_with_path(updates, is_leaf=is_none)]
        rows = zip(paths, leaves, twins, strict=True)
        path, u, twin = next(row for row in rows if not _fits(*row[1:]))
        if not (_is_float0(u) or jax.tree_util.all_leaves([twin])):
            raise _other_structure(what, updates, like)
        raise _misfit(f"{what} at {path_name(path)!r}", u, twin)


_NUMBERS = int | float | complex


def check_structure(what: str, updates: PyTree, like: PyTree) -> tuple[list[PyTree], list[PyTree]]:
    """The leaves of `updates`, None among them, and their twins; ValueError where the trees differ."""
    treedef: PyTreeDef
    leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
    strange = [u for u in leaves if not (hasattr(u, "dtype") or isinstance(u, _NUMBERS | None))]
    if strange:
        raise TypeError(f"{what} must hold arrays, got {strange[0]!r}; pass None in its place")
    try:
        return leaves, treedef.flatten_up_to(like)
    except ValueError:
        raise _other_structure(what, updates, like) from None


def _fits(u: PyTree, twin: PyTree) -> bool:
    if u is None:
        return is_absent(twin) or jax.tree_util.all_leaves([twin])
    if is_absent(twin):
        return not _is_float0(u)
    dtype = dtype_of(twin)
    if dtype is type(twin) and not isinstance(twin, int | float | complex):
        return False
    return _kind_fits(dtype_of(u), dtype) and jnp.shape(u) == jnp.shape(twin)


def _is_float0(u: PyTree) -> bool:
    """Whether an update is what ``jax.grad`` gives for an integer, which no optimiser of optax takes."""
    return bool(dtype_of(u) == jax.dtypes.float0)


@functools.cache
def _kind_fits(dtype: DType, like: DType) -> bool:
    """Whether a weight takes an update of this dtype; one that does not train takes any."""
    kind = jnp.floating if jnp.issubdtype(like, jnp.floating) else jnp.inexact
    return jnp.issubdtype(dtype, kind) or not jnp.issubdtype(like, jnp.inexact)


def _misfit(name: str, u: PyTree, twin: PyTree) -> Exception:
    if _is_float0(u):
        remedy = "pass zeros of its parameter's dtype, or hide both with optax.masked"
        return TypeError(f"{name} is float0, the derivative of an integer; {remedy}")
    if not _kind_fits(dtype_of(u), dtype_of(twin)):
        imaginary = jnp.issubdtype(dtype_of(u), jnp.complexfloating)
        kind = "real" if imaginary else "floating-point"
        remedy = "pass its real part" if imaginary else "cast it, or pass None where there is none"
        return TypeError(f"{name} is {dtype_name(u)} for a {kind} parameter; {remedy}")
    return ValueError(
        f"{name} has shape {jnp.shape(u)} for a parameter of shape {jnp.shape(twin)}; "
        "pass one of that shape, summed or averaged over any batch"
    )


def dtype_name(leaf: PyTree) -> str:
    """The dtype of an array or the type of anything else, in a word."""
    dtype = dtype_of(leaf)
    return str(getattr(dtype, "name", None) or dtype.__name__)


def _other_structure(what: str, updates: PyTree, like: PyTree) -> ValueError:
    error = structure_error(what, updates, like, prefix=False)
    remedy = "pass what jax.grad gives for these params, with None where a gradient is absent"
    return ValueError(f"{error}; {remedy}")


def map_leaves(
    function: Callable[..., tuple[PyTree, ...]], updates: PyTree, *states: PyTree
) -> tuple[PyTree, ...]:
    """Map ``(u, *s) -> (u', *s')`` over the floating-point leaves; the others keep update and state."""
    treedef: PyTreeDef
    leaves, treedef = jax.tree.flatten(updates, is_leaf=is_none)
    rows = zip(leaves, *map(treedef.flatten_up_to, states), strict=True)
    results = [function(*row) if is_inexact(row[0]) else row for row in rows]
    columns = zip(*results, strict=True) if results else [()] * (1 + len(states))
    return tuple(treedef.unflatten(column) for column in columns)


def once_per_shape(function: Callable[..., Result]) -> Callable[..., Result]:
    """The function of one leaf, which a program of many leaves holds once for each of their shapes.

    The compiled program is the same, as compilers inline it. Define it where it lives as long as the optimiser:
    what was traced is found again by its identity.
    """
    shared = jax.jit(function)

    @functools.wraps(function)
    def call(*arguments: PyTree) -> Result:
        traced = any(isinstance(argument, jax.core.Tracer) for argument in arguments)
        return shared(*arguments) if traced else function(*arguments)  # eager steps compile nothing

    return call


def check_params(what: str, params: PyTree) -> None:
    """ValueError where `update` was called without the weights."""
    if params is None:
        raise ValueError(
            f"{what} needs the weights; call update(gradients, state, params), with params"
        )


def kind_of(leaf: PyTree) -> str:
    """What a leaf is that does not train, in a word."""
    kinds = {jnp.integer: "integer", jnp.bool_: "boolean", jax.dtypes.prng_key: "key"}
    found = [word for kind, word in kinds.items() if jnp.issubdtype(dtype_of(leaf), kind)]
    named = {type(None): "None", optax.MaskedNode: "masked out"}
    return found[0] if found else named.get(type(leaf), type(leaf).__name__)


def path_name(path: KeyPath) -> str:
    """A leaf's path in its normal form: words with a slash between them, whatever the keys are.

    ``("dense", "kernel")``, the one key ``"dense.kernel"`` and the one key ``("dense", "kernel")`` are all
    ``dense/kernel``.
    """
    return "/".join(map(_word, path))


def _word(key: object) -> str:
    if isinstance(key, DictKey):
        name = key.key
        if isinstance(name, tuple):
            return "/".join(map(str, name))
        return name.replace(".", "/") if isinstance(name, str) else str(name)
    return keystr((key,), simple=True)


def named_leaves(
    tree: PyTree, is_leaf: Callable[[PyTree], bool] | None = None
) -> list[tuple[str, PyTree]]:
    """Each leaf with its path in one normal form, whichever library made the tree, boxed or not."""
    rows = _rows(tree, lambda node: is_leaf is not None and is_leaf(node))
    siblings = Counter(path[:-1] for path, _ in rows)
    return [(path_name(_without_wrapper(path, siblings)), leaf) for path, leaf in rows]


def _rows(tree: PyTree, is_leaf: Callable[[PyTree], bool]) -> list[tuple[KeyPath, PyTree]]:
    """Leaves with their keys; what is in a box has the box's keys, or the label that the box carries."""
    rows: list[tuple[KeyPath, PyTree]] = []
    nodes = jax.tree.leaves_with_path(tree, is_leaf=lambda node: _is_box(node) or is_leaf(node))
    for path, node in nodes:
        if _is_box(node):
            label = _label(node)
            root = (DictKey(label),) if label else path
            rows.extend((root + below, leaf) for below, leaf in _rows(_contents(node), is_leaf))
        else:
            rows.append((path, node))
    return rows


def _without_wrapper(path: KeyPath, siblings: Counter[KeyPath]) -> KeyPath:
    """The path without the number of a node's only child, where the node gives it no name."""
    alone = path and isinstance(path[-1], FlattenedIndexKey) and siblings[path[:-1]] == 1
    return path[:-1] if alone else path


def unbox(tree: PyTree) -> PyTree:
    """The tree with the contents of boxes in their place: ``a/kernel/value`` becomes ``a/kernel``."""
    return jax.tree.map(lambda n: unbox(_contents(n)) if _is_box(n) else n, tree, is_leaf=_is_box)


# Told by where a type comes from, as others too have a field `value`.
_BOXES = {
    "flax.core.meta",
    "flax.nnx.variablelib",
    "penzai.core.named_axes",
    "penzai.core.variables",
}


def _is_box(node: PyTree) -> bool:
    """Whether flax or penzai wraps one value with metadata."""
    kind: type = type(node)
    if not _may_box(kind):
        return False
    children = jax.tree.leaves(node, is_leaf=lambda child: child is not node)
    return bool(children) and children[0] is not node


@functools.lru_cache(maxsize=1024)
def _may_box(kind: type) -> bool:
    return not _BOXES.isdisjoint(origin.__module__ for origin in kind.__mro__)


def _contents(box: PyTree) -> PyTree:
    return jax.tree.leaves(box, is_leaf=lambda child: child is not box)[0]


def _label(box: PyTree) -> str | None:
    """The name that penzai gives a parameter; in a tuple of parameters it is the only one."""
    return box.label if type(box).__module__ == "penzai.core.variables" else None


def broadcast_leaves(name: str, prefix: PyTree, params: optax.Params) -> list[PyTree]:
    """The leaves of `prefix`, each as often as `params` has leaves in its place."""
    prefix, params = unbox(prefix), unbox(params)
    try:
        tree = jax.tree.broadcast(prefix, params, is_leaf=is_absent)
    except ValueError as error:
        raise structure_error(name, prefix, params) from error
    return jax.tree.leaves(tree, is_leaf=is_absent)


def structure_error(name: str, got: PyTree, wanted: PyTree, *, prefix: bool = True) -> ValueError:
    """The error that a tree does not fit the params, with the first key at which it differs from them.

    Args:
      name: the argument that holds the tree.
      got: the tree.
      wanted: the params, or another tree with the structure that is wanted.
      prefix: whether one value may stand for a whole branch of `wanted`.
    """
    difference = _difference(unbox(got), unbox(wanted), prefix, ()) or "its nodes differ"
    allowed = ", or a prefix of it" if prefix else ""
    return ValueError(f"{name} must have the structure of the params{allowed}; {difference}")


def _difference(got: PyTree, wanted: PyTree, prefix: bool, path: KeyPath) -> str | None:
    """What is wrong at the first place, in the order of the leaves, where `got` does not fit."""
    if _is_leaf(got) and (prefix or _is_leaf(wanted)):
        return None
    ours, theirs = _children(got), _children(wanted)
    alike = type(got) is type(wanted) or ours.keys() & theirs.keys()
    if ours.keys() != theirs.keys() and alike:
        missing, unknown = (
            some([path_name((*path, *key)) for key in one if key not in other], 5)
            for one, other in ((theirs, ours), (ours, theirs))
        )
        lacks = [f"it lacks {missing}"] if missing != "[]" else []
        has = [f"the params have no {unknown}"] if unknown != "[]" else []
        return ", and ".join(lacks + has)
    if _level(got) != _level(wanted):
        place = f"at {path_name(path)!r}" if path else "at the top"
        return f"{place} it has {_article(got)}, where the params have {_article(wanted)}"
    below = (_difference(ours[key], theirs[key], prefix, (*path, *key)) for key in theirs)
    return next((found for found in below if found), None)


def _article(node: PyTree) -> str:
    number = (
        "a number" if isinstance(node, int | float) else f"a node of type {type(node).__name__}"
    )
    return "an array" if hasattr(node, "shape") else number


def some(names: Sequence[str], limit: int = 10) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{list(names[:limit])}{more}"


def _children(node: PyTree) -> dict[KeyPath, PyTree]:
    """The nodes one level below, by their keys."""
    return dict(jax.tree.leaves_with_path(node, is_leaf=lambda child: child is not node))


def _level(node: PyTree) -> PyTreeDef:
    """The structure of one level: the node's type and keys."""
    return jax.tree.structure(node, is_leaf=lambda child: child is not node)


def _is_leaf(node: PyTree) -> bool:
    return is_absent(node) or jax.tree_util.all_leaves([node])
