"""The study's network, in flax nnx: a small MLP with BatchNorm, as three pure functions."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx


class Model(NamedTuple):
    """What a sweep needs to know of a network: how to start it, and what it costs."""

    init: Callable[[jax.Array], Any]
    """``init(key) -> params``."""
    loss: Callable[[Any, jax.Array, jax.Array], jax.Array]
    """``loss(params, x, y) -> mean cross-entropy of a batch``, in nats."""
    error: Callable[[Any, tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]], jax.Array]
    """``error(params, train, test) -> share of wrong answers on test``, in percent."""


class MLP(nnx.Module):
    """Linear, BatchNorm and ReLU for every hidden width, then a linear read-out."""

    def __init__(self, widths: tuple[int, ...], *, rngs: nnx.Rngs) -> None:
        """Widths from the input to the classes."""
        pairs = list(itertools.pairwise(widths[:-1]))
        self.hidden = nnx.List([nnx.Linear(i, o, use_bias=False, rngs=rngs) for i, o in pairs])
        # momentum 0: a forward pass in training mode leaves the statistics of just that batch
        self.norms = nnx.List([nnx.BatchNorm(o, momentum=0.0, rngs=rngs) for _, o in pairs])
        self.readout = nnx.Linear(widths[-2], widths[-1], rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits, ``[batch, classes]``."""
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            x = nnx.relu(norm(linear(x)))
        return self.readout(x)


def mlp(features: int, classes: int, *, hidden: tuple[int, ...] = (64, 64)) -> Model:
    """The MLP ``features-64-64-classes`` with BatchNorm; every scale and bias can decay.

    Example:
      >>> model = mlp(40, 10)
      >>> params = model.init(jax.random.key(0))
      >>> float(model.loss(params, jnp.ones((8, 40)), jnp.zeros(8, jnp.int32))) > 0
      True
    """
    build = partial(MLP, (features, *hidden, classes))
    graphdef, _, rest = nnx.split(build(rngs=nnx.Rngs(0)), nnx.Param, ...)  # type: ignore[misc]

    def init(key: jax.Array) -> Any:
        return nnx.state(build(rngs=nnx.Rngs(key)), nnx.Param)

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = nnx.merge(graphdef, params, rest, copy=True)(x)
        loss: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        return loss

    def error(
        params: Any, train: tuple[jax.Array, jax.Array], test: tuple[jax.Array, jax.Array]
    ) -> jax.Array:
        model = nnx.merge(graphdef, params, rest, copy=True)
        model(train[0])  # BatchNorm's statistics are those of the whole training set
        model.eval()
        logits = model(test[0])
        wrong = 100 * jnp.mean(jnp.argmax(logits, axis=-1) != test[1])
        return jnp.where(jnp.isfinite(logits).all(), wrong, jnp.nan)

    return Model(init, loss, error)
