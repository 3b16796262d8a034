"""One normal form of paths, whichever library made the tree."""

from typing import NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from libraries import LIBRARIES, NNX, TOKENS, Linen, Nnx

from decoupled_wd._trees import named_leaves, unbox


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
