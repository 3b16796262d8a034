"""Right on average: each weight is rounded up or down by chance."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._base.bits import is_bfloat16, round_with, straight_through
from decoupled_wd._base.leaves import map_leaves, numbered, once_per_shape
from decoupled_wd._base.types import PyTree
from decoupled_wd._base.updates import check_gradients
from decoupled_wd.rounding._checks import check_dtypes, check_seed
from decoupled_wd.rounding._halves import difference


class StochasticRoundingState(NamedTuple):
    """The key of the next step."""

    key: jax.Array


def stochastic_rounding(seed: int) -> optax.GradientTransformationExtraArgs:
    """Round each weight up or down by chance, without bias.

    Its expectation is the float32 weight.

    ``p' = floor16(bits(p + u) + dither)``, the dither uniform over 0 … 2^16 − 1: up with the
    probability of the low 16 bits. Without bias, at the price of noise of one unit in the last
    place each step. Derivatives pass straight through: p' has that of p + u, in bfloat16 as p has.

    Args:
      seed: a whole number below 2^32, which makes the run reproducible; each leaf and each step has
        its own dither, whatever the sharding.

    Returns:
      A last link for bfloat16 parameters. Its state is one key.

    Raises:
      TypeError: the seed is not a whole number, or a parameter is of another type narrower than
        float32.
      ValueError: the seed is negative or above 2^32 − 1, or params are missing in `update`.

    Examples:
      >>> link, p = stochastic_rounding(0), jnp.ones(1000, jnp.bfloat16)
      >>> updates, _ = link.update(jnp.full(1000, -0.001), link.init(p), p)
      >>> p = optax.apply_updates(p, updates)
      >>> [float(v) for v in jnp.unique(p)], bool(abs(p.astype(float).mean() - 0.999) < 2e-4)
      ([0.99609375, 1.0], True)

    Source: Zamirai et al., Revisiting BFloat16 Training, arXiv 2010.06192.
    """
    check_seed(seed)

    def init(params: optax.Params) -> StochasticRoundingState:
        check_dtypes(params)
        # made here, since the state needs a buffer of its own, to be donated
        return StochasticRoundingState(jax.random.key_data(jax.random.key(seed)))

    def update(
        updates: PyTree, state: StochasticRoundingState, params: PyTree = None, **extra: object
    ) -> tuple[PyTree, StochasticRoundingState]:
        del extra
        check_dtypes(params)
        check_gradients("updates", updates, params)
        # each step has a key of its own, and so a dither of its own
        step, following = jax.random.split(jax.random.wrap_key_data(state.key))
        names = numbered(updates)

        def leaf(u: jax.Array, p: jax.Array, number: int) -> tuple[PyTree, PyTree, PyTree]:
            return (_dithered(u, p, step, number) if is_bfloat16(p) else u), p, number

        updates, _, _ = map_leaves(leaf, updates, params, names)
        return updates, StochasticRoundingState(jax.random.key_data(following))

    return optax.GradientTransformationExtraArgs(init, update)


@once_per_shape
@straight_through
def _dithered(u: jax.Array, p: jax.Array, key: jax.Array, number: int) -> jax.Array:
    """Return what to add to p to land on the dithered bfloat16."""
    w = p.astype(jnp.float32) + u.astype(jnp.float32)
    # 16 random bits, added below the bfloat16: their carry rounds up
    dither = jax.random.bits(jax.random.fold_in(key, number), p.shape, jnp.uint16)
    return difference(p, round_with(w, dither))
