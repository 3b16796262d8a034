"""Language: any text as a data set, and a small transformer that learns its next characters.

A row of the data is a piece of the text, and its label the character that follows it. So every
character of the text stands in one row and is predicted once.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from decoupled_wd._base.types import PyTree
from decoupled_wd.study.tasks import files
from decoupled_wd.study.tasks.data import Dataset, from_splits
from decoupled_wd.study.tasks.models import Model

LENGTH, BATCH = 32, 16
"""Characters in a row, and rows in a batch."""


def from_text(
    path: str | Path | None = None,
    *,
    train_size: int = 364 * BATCH,
    validation_size: int = 1000,
    test_size: int = 1000,
) -> Dataset:
    """Loads a text as rows of `LENGTH` characters, each with the character that follows.

    Characters are numbered in the order of Unicode. Rows are drawn at random, the same ones every
    time: at most an eighth of them for validation, as many for the test, and then for training.

    Args:
      path: a file of UTF-8; by default the topics of Python's help, some 465 000 characters, which
        differ between versions of Python.
      train_size: number of training rows, if there are as many; 186 000 characters.
      validation_size: number of validation rows.
      test_size: number of test rows.

    Raises:
      ValueError: names the file, which is no UTF-8, has one character only, or has fewer rows left
        to train on than a batch.
      OSError: the file is not there, or not to be read.

    Examples:
      >>> data = from_text()
      >>> data.name, data.x_train.shape, data.x_test.shape
      ('topics', (5824, 32), (1000, 32))
    """
    text, where = _read(path)
    # four bytes a character, so that NumPy counts characters and not bytes
    letters, tokens = np.unique(np.frombuffer(text.encode("utf-32-le"), "<u4"), return_inverse=True)
    if len(letters) < 2:
        raise ValueError(
            f"{where}: a text must have two different characters or more, got {len(letters)}; "
            "pass another"
        )
    # the last row has a character behind it too
    rows = (len(tokens) - 1) // LENGTH
    held_out = min(validation_size, rows // 8), min(test_size, rows // 8)
    if rows - sum(held_out) < BATCH:
        raise ValueError(
            f"{where}: a batch has {BATCH} rows of {LENGTH} characters, and of its {len(tokens)} "
            f"characters {max(rows - sum(held_out), 0)} rows are left to train on; pass a text of "
            f"{_least()} characters or more"
        )
    x, y = (
        tokens[: rows * LENGTH].reshape(rows, LENGTH),
        # what follows a row is the first of the next one
        tokens[LENGTH : rows * LENGTH + 1 : LENGTH],
    )
    order = np.random.default_rng(0).permutation(rows)
    ends = np.cumsum([*held_out, train_size])
    validation, test, train = np.split(order, ends)[:3]
    # it becomes the name of a folder
    name = files.name_of(Path(path)) if path else "topics"
    return from_splits(
        name,
        (LENGTH, 1),
        num_classes=len(letters),
        train=(x[train], y[train]),
        validation=(x[validation], y[validation]),
        test=(x[test], y[test]),
    )


def _least() -> int:
    """Counts the characters of the shortest text that leaves a batch to train on."""
    rows = next(n for n in range(BATCH, 2 * BATCH) if n - 2 * (n // 8) >= BATCH)
    return rows * LENGTH + 1


def _read(path: str | Path | None) -> tuple[str, str]:
    """Returns a text, and what it is called in errors."""
    if path is None:
        return "\n".join(topics[name] for name in sorted(topics)), "topics"
    try:
        return Path(path).read_bytes().decode(), str(path)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no text in UTF-8: byte {error.start} is "
            f"{error.object[error.start]:#04x}; write it anew in UTF-8"
        ) from error


class Block(nnx.Module):
    """Adds causal attention, then an MLP, each of a normalised input.

    Queries and keys are normalised too, so that their matrices have no scale.
    """

    def __init__(self, width: int, heads: int, rngs: nnx.Rngs) -> None:
        """Takes the width of the stream and the number of heads."""
        linear = partial(nnx.Linear, use_bias=False, rngs=rngs)
        self.heads = heads
        self.norms = nnx.List([nnx.RMSNorm(width, rngs=rngs) for _ in range(2)])
        self.query, self.key, self.value, self.out = (linear(width, width) for _ in range(4))
        self.up, self.down = linear(width, 4 * width), linear(4 * width, width)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``[batch, length, width]``."""
        y = self.norms[0](x)
        by_head = (*y.shape[:-1], self.heads, -1)
        q, k, v = (f(y).reshape(by_head) for f in (self.query, self.key, self.value))
        attended = jax.nn.dot_product_attention(_unit(q), _unit(k), v, is_causal=True)
        x = x + self.out(attended.reshape(x.shape))
        return x + self.down(nnx.relu(self.up(self.norms[1](x))))


def _unit(x: jax.Array) -> jax.Array:
    """Scales vectors to a mean square of 1."""
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)


class Transformer(nnx.Module):
    """Maps characters ``[batch, length]`` to logits of what follows each of them."""

    def __init__(
        self, letters: int, length: int, width: int, heads: int, blocks: int, rngs: nnx.Rngs
    ) -> None:
        """Takes the number of different characters, and sizes."""
        self.embed = nnx.Embed(letters, width, rngs=rngs)
        self.position = nnx.Embed(length, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, heads, rngs) for _ in range(blocks)])
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, letters, use_bias=False, rngs=rngs)

    def __call__(self, characters: jax.Array) -> jax.Array:
        """Returns logits."""
        x = self.embed(characters) + self.position.embedding[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def transformer(
    letters: int, length: int, *, width: int = 32, heads: int = 4, blocks: int = 2
) -> Model:
    """Makes a pre-norm transformer without biases, for rows as `from_text` makes them.

    Its `loss`, ``train_loss`` and errors are cross-entropies in nats a character; ``train_loss`` is
    of as many training rows as the largest held-out split has.

    Args:
      letters: number of different characters.
      length: characters in a row.
      width: of the residual stream, a multiple of `heads`; the MLPs are four times as wide.
      heads: of the attention.
      blocks: attentions, each with its MLP.

    Examples:
      >>> model = transformer(5, 8, width=16)
      >>> params, rows = model.init(jax.random.key(0)), jnp.ones((2, 8))
      >>> float(model.loss(params, rows, jnp.ones(2, int), jax.random.key(1))) > 0
      True

    Source: Xiong et al., arXiv 2002.04745 (pre-norm); Henry et al., arXiv 2010.04245 (normalised
      queries and keys), at the scale of the study.
    """
    build = partial(Transformer, letters, length, width, heads, blocks)

    def loss(params: PyTree, x: jax.Array, y: jax.Array, key: jax.Array | None = None) -> jax.Array:
        # nothing in it is random
        del key
        model = build(nnx.Rngs(0))
        nnx.update(model, params)
        characters = jnp.concatenate([x.astype(int), y[:, None]], axis=1)
        logits = model(characters[:, :-1])
        each: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, characters[:, 1:])
        return each.mean()

    def evaluate(
        params: PyTree, train: tuple[Any, Any], held_out: Mapping[str, tuple[Any, Any]]
    ) -> dict[str, jax.Array]:
        rows = max(len(y) for _, y in held_out.values())
        some = tuple(part[:rows] for part in train)
        errors = {f"{name}_error": loss(params, *split) for name, split in held_out.items()}
        return {"train_loss": loss(params, *some), **errors}

    return Model(lambda key: nnx.state(build(nnx.Rngs(key)), nnx.Param), loss, evaluate)
