"""Where a leaf is: its path in one form for every library, and where two trees differ."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence

import jax
import optax
from jax.tree_util import DictKey, FlattenedIndexKey, keystr

from decoupled_wd._base.leaves import is_absent
from decoupled_wd._base.types import KeyPath, PyTree, PyTreeDef


def path_name(path: KeyPath) -> str:
    """Write a leaf's path in one form: words with slashes between them.

    ``("dense", "kernel")``, the one key ``"dense.kernel"`` and the one key ``("dense", "kernel")``
    are all ``dense/kernel``.
    """
    return "/".join(map(_word, path))


def _word(key: object) -> str:
    if isinstance(key, DictKey):
        name = key.key
        # flax's flatten_dict makes tuples of keys
        if isinstance(name, tuple):
            return "/".join(map(str, name))
        return name.replace(".", "/") if isinstance(name, str) else str(name)
    return keystr((key,), simple=True)


def named_leaves(
    tree: PyTree, is_leaf: Callable[[PyTree], bool] | None = None
) -> list[tuple[str, PyTree]]:
    """List each leaf with its path, whichever library made the tree."""
    rows = _unboxed_rows(tree, lambda node: is_leaf is not None and is_leaf(node))
    # a wrapper without names of its own, around one leaf, adds no level
    siblings = Counter(path[:-1] for path, _ in rows)
    return [(path_name(_without_wrapper(path, siblings)), leaf) for path, leaf in rows]


def _unboxed_rows(tree: PyTree, is_leaf: Callable[[PyTree], bool]) -> list[tuple[KeyPath, PyTree]]:
    """List leaves with their keys; boxes do not count as a level.

    What is in a box has the box's keys, or the label that the box carries.
    """
    rows: list[tuple[KeyPath, PyTree]] = []
    # stop at boxes, whose metadata would be a level of the path
    nodes = jax.tree.leaves_with_path(tree, is_leaf=lambda node: _is_box(node) or is_leaf(node))
    for path, node in nodes:
        if _is_box(node):
            label = _label(node)
            root = (DictKey(label),) if label else path
            rows.extend(
                (root + below, leaf) for below, leaf in _unboxed_rows(_contents(node), is_leaf)
            )
        else:
            rows.append((path, node))
    return rows


def _without_wrapper(path: KeyPath, siblings: Counter[KeyPath]) -> KeyPath:
    """Drop the number of a node's only child, which has no name."""
    alone = path and isinstance(path[-1], FlattenedIndexKey) and siblings[path[:-1]] == 1
    return path[:-1] if alone else path


def unbox(tree: PyTree) -> PyTree:
    """Put the contents of boxes in their place in the tree.

    So ``a/kernel/value`` becomes ``a/kernel``.
    """
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
    # the type alone does not tell: a variable may be a leaf of its own, or hold nothing
    children = jax.tree.leaves(node, is_leaf=lambda child: child is not node)
    return bool(children) and children[0] is not node


@functools.lru_cache(maxsize=1024)
def _may_box(kind: type) -> bool:
    return not _BOXES.isdisjoint(origin.__module__ for origin in kind.__mro__)


def _contents(box: PyTree) -> PyTree:
    return jax.tree.leaves(box, is_leaf=lambda child: child is not box)[0]


def _label(box: PyTree) -> str | None:
    """Return the name that penzai gives a parameter.

    In a tuple of parameters it is the only one.
    """
    return box.label if type(box).__module__ == "penzai.core.variables" else None


def broadcast_leaves(name: str, prefix: PyTree, params: optax.Params) -> list[PyTree]:
    """Repeat each leaf of `prefix` for all that `params` has there."""
    prefix, params = unbox(prefix), unbox(params)
    try:
        tree = jax.tree.broadcast(prefix, params, is_leaf=is_absent)
    except ValueError as error:
        raise structure_error(name, prefix, params) from error
    return jax.tree.leaves(tree, is_leaf=is_absent)


def structure_error(name: str, got: PyTree, wanted: PyTree, *, prefix: bool = True) -> ValueError:
    """Say that a tree does not fit the params, and at which key.

    Args:
      name: the argument that holds the tree.
      got: the tree.
      wanted: the params, or another tree with the structure that is wanted.
      prefix: whether one value may stand for a whole branch of `wanted`.
    """
    difference = _first_difference(unbox(got), unbox(wanted), prefix, ()) or "its nodes differ"
    allowed = ", or a prefix of it" if prefix else ""
    return ValueError(f"{name} must have the structure of the params{allowed}; {difference}")


def _first_difference(got: PyTree, wanted: PyTree, prefix: bool, path: KeyPath) -> str | None:
    """Say what is wrong at the first place where `got` does not fit."""
    if _is_leaf(got) and (prefix or _is_leaf(wanted)):
        return None
    # keys first, since a missing key is what users can act on
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
    # the same keys in another type, as a tuple for a list, differ too
    if _level(got) != _level(wanted):
        place = f"at {path_name(path)!r}" if path else "at the top"
        return f"{place} it has {_article(got)}, where the params have {_article(wanted)}"
    below = (_first_difference(ours[key], theirs[key], prefix, (*path, *key)) for key in theirs)
    return next((found for found in below if found), None)


def _article(node: PyTree) -> str:
    number = (
        "a number" if isinstance(node, int | float) else f"a node of type {type(node).__name__}"
    )
    return "an array" if hasattr(node, "shape") else number


def some(names: Sequence[str], limit: int = 10) -> str:
    """List the first names, and say how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{list(names[:limit])}{more}"


def _children(node: PyTree) -> dict[KeyPath, PyTree]:
    """Return the nodes one level below, by their keys."""
    return dict(jax.tree.leaves_with_path(node, is_leaf=lambda child: child is not node))


def _level(node: PyTree) -> PyTreeDef:
    """Return the structure of one level: the node's type and keys."""
    return jax.tree.structure(node, is_leaf=lambda child: child is not node)


def _is_leaf(node: PyTree) -> bool:
    return is_absent(node) or jax.tree_util.all_leaves([node])
