"""The study's networks, in flax nnx, each as three pure functions of its parameters."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from decoupled_wd._base.types import PyTree
from decoupled_wd.study.tasks.data import Dataset


class Model(NamedTuple):
    """Tells a sweep how to start a network, train it and judge it."""

    init: Callable[[jax.Array], Any]
    """``init(key) -> params``."""
    loss: Callable[[Any, jax.Array, jax.Array, jax.Array], jax.Array]
    """``loss(params, x, y, key) -> mean cross-entropy of a batch``, in nats.

    The key is for what is random in it.
    """
    evaluate: Callable[[Any, tuple[Any, Any], Mapping[str, tuple[Any, Any]]], dict[str, jax.Array]]
    """``evaluate(params, train, held_out) -> {"train_loss": nats, "<name>_error": percent}``.

    There is an error for each split that is held out.
    """


def from_module(
    build: Callable[[nnx.Rngs], nnx.Module],
    *,
    augment: Callable[[jax.Array, jax.Array], jax.Array] = lambda key, x: x,  # noqa: ARG005
    batch_size: int | None = None,
) -> Model:
    """Makes a `Model` of an nnx module.

    The module maps inputs ``[n, features]`` to logits ``[n, classes]``.

    Its BatchNorm must have ``momentum=0``, so that a forward pass leaves the statistics of just
    that batch: in evaluation they are those of the training set, a mean over its batches, with
    dropout and the like off.

    Args:
      build: ``build(rngs) -> module``; its draws while training come from these `rngs`.
      augment: ``augment(key, x) -> x``, of every training batch.
      batch_size: inputs at once in evaluation, to bound memory; None for statistics of the whole
        training set, and predictions 500 at a time.

    Examples:
      >>> model = from_module(lambda rngs: nnx.Linear(4, 2, rngs=rngs))
      >>> params, x, y = model.init(jax.random.key(0)), jnp.ones((8, 4)), jnp.zeros(8, int)
      >>> sorted(model.evaluate(params, (x, y), {"test": (x, y)}))
      ['test_error', 'train_loss']
    """

    def module(params: PyTree, key: jax.Array | int = 0) -> nnx.Module:
        # built anew in every trace: nothing but params is kept,
        # and the compiler drops the start that is not used
        model = build(nnx.Rngs(key))
        nnx.update(model, params)
        return model

    def loss(params: PyTree, x: jax.Array, y: jax.Array, key: jax.Array) -> jax.Array:
        module_key, data_key = jax.random.split(key)
        return _cross_entropy(module(params, module_key)(augment(data_key, x)), y)

    def statistics(params: PyTree, x: jax.Array) -> PyTree:
        def of_batch(batch: jax.Array) -> PyTree:
            model = module(params)
            # not model.eval(), under which BatchNorm takes no statistics of the batch
            model.set_attributes(deterministic=True, raise_if_not_found=False)
            model(batch)
            return nnx.state(model, nnx.BatchStat)

        size = min(batch_size or len(x), len(x))
        # a batch that is not full is left out, since in a mean it would count like a full one
        batches = x[: len(x) // size * size].reshape(-1, size, *x.shape[1:])
        return jax.tree.map(lambda leaf: leaf.mean(0), jax.lax.map(of_batch, batches))

    def predict(params: PyTree, batch_stats: PyTree, x: jax.Array) -> jax.Array:
        def of_input(one: jax.Array) -> jax.Array:
            model = module(params)
            nnx.update(model, batch_stats)
            model.eval()  # type: ignore[no-untyped-call]
            return model(one[None])[0]  # type: ignore[no-any-return]

        logits: jax.Array = jax.lax.map(of_input, x, batch_size=min(batch_size or 500, len(x)))
        return logits

    def evaluate(
        params: PyTree, train: tuple[Any, Any], held_out: Mapping[str, tuple[Any, Any]]
    ) -> dict[str, jax.Array]:
        splits = {"train": train, **held_out}
        inputs = jnp.concatenate([x for x, _ in splits.values()])  # one pass, compiled once
        logits = predict(params, statistics(params, train[0]), inputs)
        ends = itertools.accumulate(len(x) for x, _ in splits.values())
        rows = dict(zip(splits, jnp.split(logits, list(ends)[:-1]), strict=True))
        errors = {f"{name}_error": _error(rows[name], y) for name, (_, y) in held_out.items()}
        return {"train_loss": _cross_entropy(rows["train"], train[1]), **errors}

    return Model(lambda key: nnx.state(build(nnx.Rngs(key)), nnx.Param), loss, evaluate)


def _cross_entropy(logits: jax.Array, y: jax.Array) -> jax.Array:
    loss: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    return loss


def _error(logits: jax.Array, y: jax.Array) -> jax.Array:
    # argmax of NaN is class 0, which is often right: a broken network has no error
    wrong = 100 * jnp.mean(jnp.argmax(logits, axis=-1) != y)
    return jnp.where(jnp.isfinite(logits).all(), wrong, jnp.nan)


def _norm(features: int, normalize: bool, rngs: nnx.Rngs) -> nnx.BatchNorm | nnx.Sequential:
    return nnx.BatchNorm(features, momentum=0.0, rngs=rngs) if normalize else nnx.Sequential()


class MLP(nnx.Module):
    """Maps inputs to logits, by Linear, BatchNorm and ReLU layers.

    Without BatchNorm the layers have biases. The read-out is linear.
    """

    def __init__(self, widths: tuple[int, ...], normalize: bool, rngs: nnx.Rngs) -> None:
        """Takes the widths from the input to the classes."""
        linear = partial(nnx.Linear, use_bias=not normalize, rngs=rngs)
        self.hidden = nnx.List([linear(i, o) for i, o in itertools.pairwise(widths[:-1])])
        self.norms = nnx.List([_norm(width, normalize, rngs) for width in widths[1:-1]])
        self.readout = nnx.Linear(widths[-2], widths[-1], rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits ``[batch, classes]``."""
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            x = nnx.relu(norm(linear(x)))
        return self.readout(x)


def mlp(
    features: int, classes: int, *, hidden: tuple[int, ...] = (64, 64), normalize: bool = True
) -> Model:
    """Makes the MLP ``features-64-64-classes``, with BatchNorm or without.

    Every scale and bias can decay.

    Examples:
      >>> model = mlp(40, 10)
      >>> params = model.init(jax.random.key(0))
      >>> float(model.loss(params, jnp.ones((8, 40)), jnp.zeros(8, int), jax.random.key(1))) > 0
      True
    """
    return from_module(partial(MLP, (features, *hidden, classes), normalize))


def convolve_patches(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **_: object,
) -> jax.Array:
    """Computes a convolution as one matrix product.

    Every patch of `inputs` is multiplied by the kernel, both flattened.

    For ``nnx.Conv(conv_general_dilated=...)``, channels last, neither groups nor dilation. Under
    ``vmap`` over kernels it is a batched matrix product, where XLA's own grouped convolution is 6
    to 18 times slower on a CPU.
    """
    spatial, window = inputs.shape[1:-1], kernel.shape[:-2]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(spatial, window, strides, padding)
    padded = jnp.pad(inputs, [(0, 0), *padding, (0, 0)])
    ends = [n - w + 1 for n, w in zip(padded.shape[1:-1], window, strict=True)]

    def shifted(offset: tuple[int, ...]) -> jax.Array:
        moves = zip(offset, ends, strides, strict=True)
        return padded[:, *(slice(start, start + end, stride) for start, end, stride in moves)]

    patches = jnp.concatenate([shifted(at) for at in itertools.product(*map(range, window))], -1)
    return patches @ kernel.reshape(-1, kernel.shape[-1])


class ResidualBlock(nnx.Module):
    """Adds a pre-activation residual to a shortcut.

    It computes ``s(x) + conv(relu(norm(conv(relu(norm(x))))))``; s is a 1×1 convolution.
    """

    def __init__(
        self, ins: int, outs: int, stride: int, dimensions: int, normalize: bool, rngs: nnx.Rngs
    ) -> None:
        """Takes channels in and out, for signals (1) or images (2)."""
        conv = partial(_conv, dimensions=dimensions, normalize=normalize, rngs=rngs)
        self.norms = nnx.List([_norm(width, normalize, rngs) for width in (ins, outs)])
        self.convs = nnx.List([conv(ins, outs, 3, stride), conv(outs, outs, 3, 1)])
        self.shortcut = conv(ins, outs, 1, stride)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps inputs whose channels are last."""
        active = nnx.relu(self.norms[0](x))
        residual = self.convs[1](nnx.relu(self.norms[1](self.convs[0](active))))
        return self.shortcut(active) + residual


def _conv(
    ins: int, outs: int, width: int, stride: int, dimensions: int, normalize: bool, rngs: nnx.Rngs
) -> nnx.Conv:
    return nnx.Conv(
        ins,
        outs,
        (width,) * dimensions,
        strides=stride,
        use_bias=not normalize,
        conv_general_dilated=convolve_patches,
        rngs=rngs,
    )


class ResNet(nnx.Module):
    """Maps flat signals or images to logits, by a small ResNet.

    It is a strided convolution, residual blocks that halve the length, their mean, and a read-out.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        channels: tuple[int, ...],
        normalize: bool,
        rngs: nnx.Rngs,
    ) -> None:
        """Takes the shape of one input, channels last, and channel counts.

        Those are the channels after the stem and after each block.
        """
        self.shape, dimensions = shape, len(shape) - 1
        self.stem = _conv(shape[-1], channels[0], 3, 2, dimensions, normalize, rngs)
        pairs = itertools.pairwise(channels)
        self.blocks = nnx.List(
            [ResidualBlock(i, o, 2, dimensions, normalize, rngs) for i, o in pairs]
        )
        self.norm = _norm(channels[-1], normalize, rngs)
        self.readout = nnx.Linear(channels[-1], classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits ``[batch, classes]`` of flat inputs."""
        x = self.stem(x.reshape(-1, *self.shape))
        for block in self.blocks:
            x = block(x)
        active = nnx.relu(self.norm(x))
        return self.readout(active.reshape(len(x), -1, x.shape[-1]).mean(1))


def resnet(
    shape: tuple[int, ...],
    classes: int,
    *,
    channels: tuple[int, ...] = (16, 16, 32),
    normalize: bool = True,
) -> Model:
    """Makes a small ResNet for signals or images that arrive flat.

    Their shape is ``(length, channels)`` or ``(height, width, channels)``.

    Examples:
      >>> model = resnet((40, 1), 10)
      >>> params = model.init(jax.random.key(0))
      >>> sum(leaf.size for leaf in jax.tree.leaves(params))
      7514

    Source: He et al., arXiv 1603.05027 (pre-activation), at the scale of the study.
    """
    return from_module(partial(ResNet, shape, classes, channels, normalize))


NETWORKS: Mapping[str, Callable[[Dataset], Model]] = {
    "mlp": lambda data: mlp(math.prod(data.shape), data.num_classes),
    "mlp without BatchNorm": lambda data: mlp(
        math.prod(data.shape), data.num_classes, normalize=False
    ),
    "resnet": lambda data: resnet(data.shape, data.num_classes),
}
