"""The paper's own network, Shake-Shake 26.

In every block two residual branches are mixed, at random for each image.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from decoupled_wd.study.tasks.models import Model, from_module

SHAPE = (32, 32, 3)
PADDING = 4
EVALUATION_BATCH = 250


def shake(a: jax.Array, b: jax.Array, forward: jax.Array, backward: jax.Array) -> jax.Array:
    """Mixes by α, and lets the gradient mix by β.

    The value is ``α·a + (1−α)·b`` and the gradient that of ``β·a + (1−β)·b``; α is `forward`, β is
    `backward`.

    Examples:
      >>> a, b = jnp.array(2.0), jnp.array(4.0)
      >>> value, gradient = jax.value_and_grad(shake)(a, b, 0.75, 0.1)
      >>> float(value), round(float(gradient), 6)
      (2.5, 0.1)

    Source: Gastaldi, arXiv 1705.07485, section 1.
    """
    # the stopped part has the value that is missing, and no gradient
    return backward * a + (1 - backward) * b + jax.lax.stop_gradient((forward - backward) * (a - b))


def _conv(ins: int, outs: int, width: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    start = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
    return nnx.Conv(
        ins,
        outs,
        (width, width),
        strides=stride,
        padding=width // 2,
        use_bias=False,
        kernel_init=start,
        rngs=rngs,
    )


def _norm(features: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(features, momentum=0.0, rngs=rngs)


class Branch(nnx.Module):
    """Applies ReLU, convolution and BatchNorm twice.

    The first convolution has the stride.
    """

    def __init__(self, ins: int, outs: int, stride: int, rngs: nnx.Rngs) -> None:
        """Takes channels in and out."""
        self.convs = nnx.List([_conv(ins, outs, 3, stride, rngs), _conv(outs, outs, 3, 1, rngs)])
        self.norms = nnx.List([_norm(outs, rngs), _norm(outs, rngs)])

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``[batch, height, width, channels]``."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(nnx.relu(x)))
        return x


class Shortcut(nnx.Module):
    """Changes the width by two 1×1 convolutions side by side.

    They see different pixels.
    """

    def __init__(self, ins: int, outs: int, stride: int, rngs: nnx.Rngs) -> None:
        """Takes channels in and out, half of them from each path."""
        self.stride = stride
        self.convs = nnx.List([_conv(ins, outs // 2, 1, 1, rngs) for _ in range(2)])
        self.norm = _norm(outs, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Joins two paths that see different pixels.

        The second is shifted by one pixel right and down, before every `stride`-th pixel is taken.
        """
        active = nnx.relu(x)
        shifted = jnp.pad(active, ((0, 0), (1, 0), (1, 0), (0, 0)))[:, :-1, :-1]
        paths = [path[:, :: self.stride, :: self.stride] for path in (active, shifted)]
        halves = [conv(path) for conv, path in zip(self.convs, paths, strict=True)]
        joined: jax.Array = self.norm(jnp.concatenate(halves, -1))
        return joined


class ShakeBlock(nnx.Module):
    """Computes ``shortcut(x) + α·f(x) + (1−α)·g(x)``.

    α and the gradient's β are drawn for every image, and are 1/2 in evaluation.
    """

    def __init__(self, ins: int, outs: int, stride: int, rngs: nnx.Rngs) -> None:
        """Takes channels in and out."""
        self.branches = nnx.List([Branch(ins, outs, stride, rngs) for _ in range(2)])
        self.shortcut = nnx.Sequential() if ins == outs else Shortcut(ins, outs, stride, rngs)
        self.rngs, self.deterministic = rngs, False

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``[batch, height, width, channels]``."""
        a, b = (branch(x) for branch in self.branches)
        shape = (2, len(x), 1, 1, 1)
        # in evaluation each branch counts as much as it does on average
        halves = jnp.full(shape, 0.5, x.dtype)
        draws = halves if self.deterministic else jax.random.uniform(self.rngs(), shape, x.dtype)
        residual: jax.Array = self.shortcut(x) + shake(a, b, *draws)
        return residual


class ShakeShake(nnx.Module):
    """Maps flat images to logits, by three stages of blocks.

    A convolution to 16 channels comes before them; their mean over positions and a read-out come
    after.
    """

    def __init__(self, width: int, classes: int, blocks: int, rngs: nnx.Rngs) -> None:
        """Takes the width of the first stage.

        It doubles in the second and in the third.
        """
        self.stem, self.norm = _conv(3, 16, 3, 1, rngs), _norm(16, rngs)
        widths = [16, *[width] * blocks, *[2 * width] * blocks, *[4 * width] * blocks]
        strides = [1] * blocks + ([2] + [1] * (blocks - 1)) * 2
        pairs = zip(itertools.pairwise(widths), strides, strict=True)
        self.blocks = nnx.List([ShakeBlock(i, o, stride, rngs) for (i, o), stride in pairs])
        start = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        self.readout = nnx.Linear(4 * width, classes, kernel_init=start, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits ``[batch, classes]`` of flat images."""
        x = self.norm(self.stem(x.reshape(-1, *SHAPE)))
        for block in self.blocks:
            x = block(x)
        return self.readout(nnx.relu(x).mean((1, 2)))


def augment(key: jax.Array, x: jax.Array) -> jax.Array:
    """Crops each flat image at random, and flips half of them.

    A crop is 32×32 of the image padded with 4 zeros on every side.
    """
    crop_key, flip_key = jax.random.split(key)
    corners = jax.random.randint(crop_key, (len(x), 2), 0, 2 * PADDING + 1)
    margins = ((PADDING, PADDING), (PADDING, PADDING), (0, 0))

    def crop(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(jnp.pad(image, margins), (*corner, 0), SHAPE)

    crops = jax.vmap(crop)(x.reshape(-1, *SHAPE), corners)
    flip = jax.random.bernoulli(flip_key, shape=(len(x), 1, 1, 1))
    return jnp.where(flip, crops[:, :, ::-1], crops).reshape(x.shape)


def shake_shake(width: int = 64, classes: int = 10, *, blocks: int = 4) -> Model:
    """Makes Shake-Shake-Image for flat 32×32 colour images.

    It has ``2 + 6·blocks`` layers, and is 26 2x64d as it stands.

    Its loss crops and flips the batch at random; evaluation takes 250 images at a time, and
    BatchNorm's statistics are the mean over such batches of training images.

    Examples:
      >>> model = shake_shake(64)
      >>> shapes = jax.eval_shape(model.init, jax.random.key(0))
      >>> sum(leaf.size for leaf in jax.tree.leaves(shapes))
      11653978

    Source: Gastaldi, arXiv 1705.07485, and the author's code; used in arXiv 1711.05101, section 4.
    """
    return from_module(
        partial(ShakeShake, width, classes, blocks), augment=augment, batch_size=EVALUATION_BATCH
    )
