"""One normal form of paths, whichever library made the tree."""

import re
from typing import NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from libraries import LIBRARIES, NNX, TOKENS, Linen, Nnx

from decoupled_wd._base.paths import broadcast_leaves, named_leaves, structure_error, unbox
from decoupled_wd._base.updates import check_gradients


def paths(tree, **options):
    return [path for path, _ in named_leaves(tree, **options)]


@pytest.mark.parametrize("library", LIBRARIES)
def test_paths_are_what_the_library_documents(library):
    params, kinds = LIBRARIES[library]()
    assert sorted(paths(params)) == sorted(kinds)
    shapes = jax.eval_shape(lambda: params)
    assert paths(shapes) == paths(params)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for _, leaf in named_leaves(shapes))


@pytest.mark.parametrize("library", LIBRARIES)
def test_leaves_keep_the_order_of_jax(library):
    params, _ = LIBRARIES[library]()
    assert all(
        ours is theirs
        for (_, ours), theirs in zip(named_leaves(params), jax.tree.leaves(params), strict=True)
    )


def test_nnx_optimizer_shows_the_same_paths_at_init_and_at_update():
    seen = []

    def init(params):
        seen.append(paths(params))
        return optax.EmptyState()

    def update(updates, state, params=None):
        seen.extend([paths(params), paths(updates)])
        return updates, state

    model = Nnx(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.GradientTransformation(init, update), wrt=nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param)))
    assert seen == [sorted(NNX)] * 3


def test_an_nnx_module_and_its_state_have_the_same_paths():
    model = Nnx(nnx.Rngs(0))
    assert paths(model) == paths(nnx.state(model))
    assert set(NNX) < set(paths(model))
    assert "norms/1/mean" in paths(model)


def test_a_linen_box_is_not_part_of_the_path():
    init = nn.with_partitioning(nn.initializers.ones, (None, "model"))
    logical = nn.with_logical_partitioning(nn.initializers.ones, (None, "model"))
    for kernel_init in (init, logical):
        dense = nn.Dense(3, kernel_init=kernel_init)
        params = dense.init(jax.random.key(0), jnp.ones((1, 2)))["params"]
        assert paths(params) == ["bias", "kernel"]


def test_contents_of_a_box_may_be_a_tree():
    assert paths({"layer": nnx.Param({"a": jnp.ones(2), "b": jnp.ones(1)})}) == [
        "layer/a",
        "layer/b",
    ]
    assert paths(nnx.Param(jnp.ones(2))) == [""]


class QueryKeyValue(NamedTuple):
    query: object
    key: object
    value: object


class Attention(eqx.Module):
    query: jax.Array
    value: jax.Array


def test_a_field_called_value_is_not_a_box():
    one = jnp.ones(2)
    tree = {"attention": QueryKeyValue(one, one, one)}
    assert paths(tree) == ["attention/query", "attention/key", "attention/value"]
    assert paths({"attention": Attention(one, one)}) == ["attention/query", "attention/value"]
    assert paths({"value": one}) == ["value"]
    attention = nn.MultiHeadDotProductAttention(num_heads=2)
    params = attention.init(jax.random.key(0), jnp.ones((1, 2, 4)))["params"]
    assert {"value/kernel", "value/bias"} < set(paths(params))


def test_absent_leaves_are_named_on_request():
    tree = {"a": None, "b": optax.MaskedNode(), "c": nnx.Param(None), "d": [jnp.ones(1)]}
    assert paths(tree) == ["d/0"]
    absent = named_leaves(tree, is_leaf=lambda n: n is None or isinstance(n, optax.MaskedNode))
    assert [path for path, _ in absent] == ["a", "b", "c", "d/0"]


def test_unboxing_leaves_a_tree_without_boxes_as_it_is():
    variables = Linen().init(jax.random.key(0), TOKENS)
    assert jax.tree.structure(unbox(variables)) == jax.tree.structure(variables)
    tree = {"a": None, "b": (jnp.ones(1), [2, "text"])}
    assert unbox(tree) == tree


@jax.tree_util.register_pytree_node_class
class Unnamed:
    """A node that names none of its children."""

    def __init__(self, *children):
        self.children = children

    def tree_flatten(self):
        return self.children, None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def test_keys_of_any_kind_have_one_form():
    one = jnp.ones(2)
    for tree in (
        {"dense": {"kernel": one}},
        {"dense.kernel": one},
        {"dense/kernel": one},
        {("dense", "kernel"): one},
        {"dense": {"kernel": Unnamed(one)}},
        {"dense": {"kernel": nnx.Param(one)}},
    ):
        assert paths(tree) == ["dense/kernel"]
    assert paths({("h", 0): {"ln.w": one}, ("h", 1): one}) == ["h/0/ln/w", "h/1"]
    assert paths({"a": Unnamed(one, one)}) == ["a/0", "a/1"]
    assert paths([(one,), {0.5: one}]) == ["0/0", "1/0.5"]
    assert paths({"mlp/~/linear_0": {"w": one}}) == ["mlp/~/linear_0/w"]


def test_a_flat_nnx_state_has_the_same_paths():
    state = nnx.state(Nnx(nnx.Rngs(0)), nnx.Param)
    flat = dict(nnx.to_flat_state(state))
    assert sorted(paths({tuple(map(str, key)): leaf for key, leaf in flat.items()})) == sorted(NNX)


def test_boxes_with_sharding_metadata():
    one = jnp.ones((2, 2))
    spec = {"out_sharding": (None, "model")}
    for box in (
        nn.Partitioned(one, names=(None, "model")),
        nn.LogicallyPartitioned(one, names=("embed", "mlp")),
        nn.LogicallyPartitioned(nn.Partitioned(one, names=(None, None)), names=("a", "b")),
        nnx.Param(one, **spec, eager_sharding=False),
        nnx.Param(one, label="not a name"),
    ):
        tree = {"dense": {"kernel": box, "bias": jnp.ones(2)}}
        assert paths(tree) == ["dense/bias", "dense/kernel"]
        assert paths(jax.eval_shape(lambda tree=tree: tree)) == ["dense/bias", "dense/kernel"]
        assert unbox(tree)["dense"]["kernel"] is one
        taken = broadcast_leaves("mask", {"dense": {"kernel": True, "bias": False}}, tree)
        assert taken == [False, True]


def test_a_structure_error_names_the_key_and_fits_on_a_screen():
    wanted = {f"layer_{i}": {"kernel": jnp.ones(2), "bias": jnp.ones(2)} for i in range(200)}
    got = {name: dict(node) for name, node in wanted.items()}
    del got["layer_77"]["bias"]
    error = str(structure_error("updates", got, wanted, prefix=False))
    assert error == "updates must have the structure of the params; it lacks ['layer_77/bias']"
    for other in ({}, [1] * 999, {"x" * 5: 1}, dict.fromkeys(list(wanted)[:5], 1.0)):
        assert len(str(structure_error("mask", other, wanted))) < 400
    one = str(structure_error("updates", wanted | {"layer_3": 1.0}, wanted, prefix=False))
    assert one.endswith("at 'layer_3' it has a number, where the params have a node of type dict")
    array = str(structure_error("updates", wanted | {"layer_3": got}, wanted, prefix=False))
    assert "it lacks ['layer_3/bias', 'layer_3/kernel'], and the params have no" in array
    boxed = {"a": nnx.Param(jnp.ones(1)), "b": [1]}
    assert "at 'b'" in str(structure_error("mask", boxed, {"a": 1, "b": (1,)}))


@pytest.mark.parametrize(
    ("update", "error", "words"),
    [
        (np.ones(3), ValueError, "shape (3,) for a parameter of shape (2,)"),
        (np.ones((2, 1)), ValueError, "shape (2, 1) for a parameter of shape (2,)"),
        (np.ones(2, complex), TypeError, "complex128 for a real parameter"),
        (np.ones(2, int), TypeError, "for a floating-point parameter"),
        (np.zeros(2, jax.dtypes.float0), TypeError, "float0, the derivative of an integer"),
    ],
)
def test_an_update_has_the_shape_and_kind_of_its_weight(update, error, words):
    with pytest.raises(error, match=re.escape(words)) as caught:
        check_gradients("gradients", {"w": update}, {"w": jnp.ones(2)})
    assert "'w'" in str(caught.value)
    check_gradients("gradients", {"w": np.ones(2)}, {"w": jnp.ones(2)})
    check_gradients("gradients", {"w": np.ones(2)}, {"w": jnp.ones(2, complex)})
