"""Masks on the parameters of other projects, by the paths and shapes that are written down in data/clients.txt."""

import re
from pathlib import Path

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import decoupled_wd as dwd
from decoupled_wd import masks
from decoupled_wd._base.paths import named_leaves

KINDS = ("bias", "norm", "embedding", "token", "ssm")


def read():
    """For each client, how it nests its keys, and its rows: path, shape, kinds, whether it is a matrix."""
    clients = {}
    for line in (Path(__file__).parent / "data" / "clients.txt").read_text().splitlines():
        if line.startswith("# ") and " | " in line:
            name, style = line[2:].split(" | ")
            clients[name] = (style, rows := [])
        elif line and not line.startswith("#"):
            path, shape, kinds, matrix = line.split()
            sizes = () if shape == "-" else tuple(map(int, shape.split(",")))
            rows.append((path, sizes, set(kinds.split(",")) - {"-"}, matrix == "1"))
    return clients


CLIENTS = read()


@jax.tree_util.register_pytree_node_class
class NamedArray:
    """A node that gives its only child no name, as haliax's arrays do."""

    def __init__(self, array):
        self.array = array

    def tree_flatten(self):
        return (self.array,), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


@jax.tree_util.register_pytree_with_keys_class
class ParameterValue(NamedArray):
    """A node with a label beside its value, in a tuple without names, as penzai trains them."""

    def __init__(self, array, label):
        super().__init__(array)
        self.label = label

    def tree_flatten_with_keys(self):
        return ((jax.tree_util.GetAttrKey("value"), self.array),), self.label

    def tree_flatten(self):
        return (self.array,), self.label

    @classmethod
    def tree_unflatten(cls, label, children):
        return cls(*children, label)


ParameterValue.__module__ = "penzai.core.variables"


def nest(rows, wrap=lambda leaf: leaf):
    tree = {}
    for path, leaf in rows:
        *above, last = path.split("/")
        node = tree
        for word in above:
            node = node.setdefault(word, {})
        node[last] = wrap(leaf)
    return tree


def by_module(rows):
    tree = {}
    for path, leaf in rows:
        module, _, name = path.rpartition("/")
        tree.setdefault(module, {})[name] = leaf
    return tree


STYLES = {
    "nested": nest,
    "haiku": by_module,
    "flat": dict,
    "dotted": lambda rows: {path.replace("/", "."): leaf for path, leaf in rows},
    "tuples": lambda rows: {tuple(path.split("/")): leaf for path, leaf in rows},
    "haliax": lambda rows: nest(rows, NamedArray),
    "penzai": lambda rows: tuple(ParameterValue(leaf, label) for label, leaf in rows),
}


def tree_of(client):
    style, rows = CLIENTS[client]
    return STYLES[style](
        [(path, jax.ShapeDtypeStruct(shape, jnp.float32)) for path, shape, *_ in rows]
    )


def taken(mask, params):
    """Multipliers by path; the parameters alone would be no test of their own, so a matrix stands beside them."""
    rows = masks.matches(mask, {"params": params, "beside": {"kernel": jnp.ones((2, 2))}})
    return {path.removeprefix("params/"): m.multiplier for path, _, m in rows}


@pytest.mark.parametrize("client", CLIENTS)
def test_without_leaves_out_its_kind_and_nothing_else(client):
    params, rows = tree_of(client), CLIENTS[client][1]
    for kind in KINDS:
        found = taken(masks.without(kind), params)
        for path, _, kinds, _ in rows:
            assert found[path.replace(".", "/")] == float(kind not in kinds), (path, kind)


@pytest.mark.parametrize("client", CLIENTS)
def test_matrices_are_matrices(client):
    found = taken(masks.matrices(), tree_of(client))
    for path, _, _, matrix in CLIENTS[client][1]:
        assert found[path.replace(".", "/")] == float(matrix), path


@pytest.mark.parametrize("client", [c for c in CLIENTS if "without names" not in c])
def test_the_usual_mask_warns_of_nothing_in_a_model_with_both_kinds(client):
    present = set().union(*(kinds for _, _, kinds, _ in CLIENTS[client][1]))
    usual = [kind for kind in ("bias", "norm") if kind in present]
    if usual:
        masks.multipliers(masks.without(*usual), tree_of(client))


class LinenLayers(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.GroupNorm(2)(nn.MultiHeadDotProductAttention(2)(x, x))
        x = nn.InstanceNorm()(nn.WeightNorm(nn.Dense(8))(x))
        x = nn.DenseGeneral((2, 4))(nn.PReLU()(x))
        return nn.RNN(nn.GRUCell(4))(nn.RNN(nn.OptimizedLSTMCell(4))(x[..., 0]))


class NnxLayers(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs, normalize_qk=True)
        self.c = nnx.Conv(1, 1, (1, 1), rngs=rngs)
        self.g = nnx.GroupNorm(4, num_groups=2, rngs=rngs)
        self.l = nnx.LoRA(4, 2, 3, rngs=rngs)
        self.p = nnx.PReLU()


def haiku_nets(x):
    return hk.nets.ResNet50(10)(x, True), hk.nets.MobileNetV1()(x, True)


def equinox_layers(key):
    return {
        "conv": eqx.nn.Conv2d(3, 4, 3, key=key),
        "ct": eqx.nn.ConvTranspose1d(3, 4, 3, key=key),
        "gru": eqx.nn.GRUCell(3, 4, key=key),
        "gn": eqx.nn.GroupNorm(2, 4),
        "ln2": eqx.nn.LayerNorm((4, 5)),
        "prelu": eqx.nn.PReLU(),
        "seq": eqx.nn.Sequential([eqx.nn.Conv1d(3, 4, 3, key=key), eqx.nn.LayerNorm((4,))]),
        "wn": eqx.nn.WeightNorm(eqx.nn.Linear(3, 4, key=key)),
    }


LIBRARIES = {
    "linen layers": lambda: LinenLayers().init(jax.random.key(0), jnp.ones((1, 4, 8)))["params"],
    "nnx layers": lambda: nnx.state(NnxLayers(nnx.Rngs(0)), nnx.Param),
    "haiku nets and layers": lambda: hk.transform_with_state(haiku_nets).init(
        jax.random.PRNGKey(0), jnp.ones((1, 64, 64, 3))
    )[0],
    "equinox layers": lambda: eqx.filter(equinox_layers(jax.random.key(0)), eqx.is_inexact_array),
}


NORM = re.compile(r"(.*/)?(\w*norm\w*|gn|ln2|\w+_ln)/[^/]+", re.IGNORECASE)


def kinds_by_hand(path):
    """What the layers above document, told without a table: their biases, and what belongs to their norms."""
    last = path.rpartition("/")[2]
    bias = last in ("b", "bias", "bias_n", "offset")
    scale = last in ("scale", "g") or path == "seq/layers/1/weight"
    of_a_norm = bool(NORM.fullmatch(path)) and (bias or last == "weight")
    return {kind for kind, holds in (("bias", bias), ("norm", scale or of_a_norm)) if holds}


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_libraries_own_models(library):
    params = jax.eval_shape(LIBRARIES[library])
    leaves = named_leaves(params)
    matrices = taken(masks.matrices(), params)
    without = {kind: taken(masks.without(kind), params) for kind in KINDS}
    assert len(leaves) > 10
    for path, leaf in leaves:
        kinds = kinds_by_hand(path)
        assert {kind for kind in KINDS if not without[kind][path]} == kinds, path
        assert matrices[path] == float(not kinds and leaf.ndim > 1), path


def test_penzai_itself():
    pz = pytest.importorskip("penzai.pz")
    model = pytest.importorskip("penzai.models.simple_mlp").MLP.from_config(
        name="mlp", init_base_rng=jax.random.key(0), feature_sizes=[8, 32, 8]
    )
    params = pz.freeze_params(pz.unbind_params(model)[1])
    assert taken(masks.without("bias"), params) == {
        "mlp/Affine_0/AddBias/bias": 0.0,
        "mlp/Affine_0/Linear/weights": 1.0,
        "mlp/Affine_1/AddBias/bias": 0.0,
        "mlp/Affine_1/Linear/weights": 1.0,
        "beside/kernel": 1.0,
    }


class Callable(eqx.Module):
    """A model with functions among its leaves, whose trees of multipliers can be called as it can."""

    layers: list
    mlp: eqx.nn.MLP

    def __init__(self, key):
        self.layers = [eqx.nn.Linear(3, 4, key=key), jax.nn.relu, eqx.nn.LayerNorm(4)]
        self.mlp = eqx.nn.MLP(4, 2, 5, 1, key=key)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.mlp(x)


def decays(x):
    return eqx.is_inexact_array(x) and x.ndim > 1


@pytest.mark.parametrize(
    "mask",
    {
        "of the filtered model": lambda model: jax.tree.map(
            decays, eqx.filter(model, eqx.is_inexact_array)
        ),
        "of the whole model": lambda model: jax.tree.map(decays, model),
        "a function": lambda model: lambda params: jax.tree.map(decays, params),
        "a policy": lambda model: masks.matrices(),
        "combined": lambda model: jax.tree.map(decays, model) & masks.everything(),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_tree_of_an_equinox_model_is_a_mask_though_it_can_be_called(mask):
    model = Callable(jax.random.key(0))
    params = eqx.filter(model, eqx.is_inexact_array)
    optimizer = dwd.sgdw(0.1, 0.1, mask=mask[1](model))
    still = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(still, optimizer.init(params), params)
    moved = jax.tree.map(lambda u: bool(jnp.any(u != 0)), updates)
    assert jax.tree.leaves(moved) == [decays(x) for x in jax.tree.leaves(params)]
    assert model(jnp.ones(3)).shape == (2,)


class Normalised(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(3, 4, rngs=rngs)
        self.activation = jax.nn.relu
        self.norm = nnx.BatchNorm(4, rngs=rngs)


@pytest.mark.parametrize(
    "mask",
    [
        lambda model: jax.tree.map(lambda p: p.ndim > 1, nnx.split(model, nnx.Param, ...)[1]),
        lambda model: jax.tree.map(lambda p: p.ndim > 1, nnx.state(model, nnx.Param)),
        lambda model: lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
        lambda model: masks.matrices(),
    ],
    ids=["of split", "of state", "a function", "a policy"],
)
def test_a_tree_of_an_nnx_model_is_a_mask_for_its_optimizer(mask):
    model = Normalised(nnx.Rngs(0))
    # a bias of zeros would not show that it decays
    model.hidden.bias[...] = jnp.ones(4)
    before = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    optimizer = nnx.Optimizer(model, dwd.sgdw(0.1, 0.1, mask=mask(model)), wrt=nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param)))
    after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    moved = jax.tree.map(lambda x, y: bool((x != y).any()), before, after)
    assert moved == {
        "hidden": {"kernel": True, "bias": False},
        "norm": {"scale": False, "bias": False},
    }
