# %% [markdown]
# # A small character transformer
#
# A decoder-only transformer in Flax nnx learns a licence text (or any text file given). Matrices decay, embeddings
# a tenth as much, norms and biases not at all; λ comes from a timescale: weights forget over a third of the run.

# %%
import sys
from importlib.metadata import files
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import decoupled_wd as dwd

STEPS, BATCH, LENGTH, WIDTH, PEAK = 300, 16, 32, 32, 1e-2


def text():
    """The file of the command line, or the licence that every installation carries."""
    named = [Path(word) for word in sys.argv[1:] if Path(word).is_file()]
    licences = [f for f in files("optax") or [] if "LICENSE" in f.name]
    return (named[0] if named else Path(licences[0].locate())).read_text()


letters, tokens = np.unique(list(text()), return_inverse=True)
print(f"{len(tokens)} characters, {len(letters)} different ones")


# %%
class Block(nnx.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, rngs: nnx.Rngs):
        self.norm1, self.norm2 = (nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(2))
        self.attention = nnx.MultiHeadAttention(4, WIDTH, decode=False, rngs=rngs)
        self.up, self.down = (
            nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs),
            nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs),
        )

    def __call__(self, x):
        x = x + self.attention(self.norm1(x), mask=nnx.make_causal_mask(x[..., 0]))
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class Transformer(nnx.Module):
    """Next-character logits."""

    def __init__(self, rngs: nnx.Rngs):
        self.embed = nnx.Embed(len(letters), WIDTH, rngs=rngs)
        self.position = nnx.Embed(LENGTH, WIDTH, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(2)])
        self.norm, self.head = (
            nnx.LayerNorm(WIDTH, rngs=rngs),
            nnx.Linear(WIDTH, len(letters), rngs=rngs),
        )

    def __call__(self, tokens):
        x = self.embed(tokens) + self.position(jnp.arange(tokens.shape[-1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


# %%
model = Transformer(nnx.Rngs(0))
weight_decay = dwd.from_timescale(steps=STEPS // 3)
mask = dwd.masks.matching(
    (r".*norm\d?/.*|.*/bias", 0.0), (r"(embed|position)/.*", 0.1), (r".*", 1.0)
)
print(dwd.describe(nnx.state(model, nnx.Param), weight_decay, mask=mask))
schedule = optax.warmup_cosine_decay_schedule(0.0, PEAK, STEPS // 10, STEPS)
transformation = dwd.adamw(schedule, weight_decay, peak_learning_rate=PEAK, b2=0.99, mask=mask)
optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)


@nnx.jit
def train_step(model, optimizer, batch):
    def loss(model):
        logits = model(batch[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:]).mean()

    value, gradients = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradients)
    return value


# %%
rng = np.random.default_rng(0)
for step in range(1, STEPS + 1):
    starts = rng.integers(len(tokens) - LENGTH - 1, size=BATCH)
    batch = np.stack([tokens[start : start + LENGTH + 1] for start in starts])
    value = train_step(model, optimizer, batch)
    if step % 50 == 0:
        print(f"step {step}: {float(value) / np.log(2):.2f} bits a character")
