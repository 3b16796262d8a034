"""The same small model in every library: embedding, normalisation, a hidden layer, a head without bias."""

from typing import NamedTuple

import equinox as eqx
import flax.core
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
from flax import nnx

TOKENS = jnp.zeros((2, 5), int)


class Linen(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.LayerNorm()(nn.Embed(7, 4)(tokens))
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(6)(x))
        return nn.Dense(3, use_bias=False)(x)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(7, 4, rngs=rngs)
        self.hidden = nnx.List([nnx.Linear(4, 6, rngs=rngs)])
        self.norms = nnx.List([nnx.LayerNorm(4, rngs=rngs), nnx.BatchNorm(6, rngs=rngs)])
        self.head = nnx.Linear(6, 3, use_bias=False, rngs=rngs)


class Equinox(eqx.Module):
    embed: eqx.nn.Embedding
    norm1: eqx.nn.LayerNorm
    layers: list
    ln_f: eqx.nn.RMSNorm

    def __init__(self, key):
        self.embed = eqx.nn.Embedding(7, 4, key=key)
        self.norm1 = eqx.nn.LayerNorm(4)
        self.ln_f = eqx.nn.RMSNorm(6)
        layer, head = eqx.nn.Linear(4, 6, key=key), eqx.nn.Linear(6, 3, use_bias=False, key=key)
        self.layers = [layer, jax.nn.relu, head]


def haiku_model(tokens):
    x = hk.LayerNorm(-1, create_scale=True, create_offset=True)(hk.Embed(7, 4)(tokens))
    x = hk.RMSNorm(-1)(hk.nets.MLP([6])(x))
    return hk.Linear(3, with_bias=False)(x)


class Library(NamedTuple):
    """A model's parameters, and what each of them is, written by hand."""

    params: object
    kinds: dict


def linen():
    return Linen().init(jax.random.key(0), TOKENS)["params"]


def nnx_state():
    return nnx.state(Nnx(nnx.Rngs(0)), nnx.Param)


def equinox():
    return eqx.filter(Equinox(jax.random.key(0)), eqx.is_inexact_array)


def haiku():
    return hk.transform(haiku_model).init(jax.random.PRNGKey(0), TOKENS)


LINEN = {
    "BatchNorm_0/bias": "bias of a norm",
    "BatchNorm_0/scale": "norm",
    "Dense_0/bias": "bias",
    "Dense_0/kernel": "weight",
    "Dense_1/kernel": "weight",
    "Embed_0/embedding": "embedding",
    "LayerNorm_0/bias": "bias of a norm",
    "LayerNorm_0/scale": "norm",
}
NNX = {
    "embed/embedding": "embedding",
    "head/kernel": "weight",
    "hidden/0/bias": "bias",
    "hidden/0/kernel": "weight",
    "norms/0/bias": "bias of a norm",
    "norms/0/scale": "norm",
    "norms/1/bias": "bias of a norm",
    "norms/1/scale": "norm",
}
EQUINOX = {
    "embed/weight": "embedding",
    "norm1/weight": "norm",
    "norm1/bias": "bias of a norm",
    "layers/0/weight": "weight",
    "layers/0/bias": "bias",
    "layers/2/weight": "weight",
    "ln_f/weight": "norm",
    "ln_f/bias": "bias of a norm",
}
HAIKU = {
    "embed/embeddings": "embedding",
    "layer_norm/offset": "bias of a norm",
    "layer_norm/scale": "norm",
    "linear/w": "weight",
    "mlp/~/linear_0/b": "bias",
    "mlp/~/linear_0/w": "weight",
    "rms_norm/scale": "norm",
}
LIBRARIES = {
    "linen": lambda: Library(linen(), LINEN),
    "frozen_dict": lambda: Library(flax.core.freeze(linen()), LINEN),
    "nnx_state": lambda: Library(nnx_state(), NNX),
    "nnx_pure": lambda: Library(nnx.as_pure(nnx_state()), NNX),
    "nnx_dict": lambda: Library(nnx.to_pure_dict(nnx_state()), NNX),
    "equinox": lambda: Library(equinox(), EQUINOX),
    "haiku": lambda: Library(haiku(), HAIKU),
}
