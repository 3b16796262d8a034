"""optax's momentum in the paper's buffer, which holds the learning rate: ``m = lr_t · trace``."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._base.leaves import is_inexact, wide_dtype, widen
from decoupled_wd._base.types import PyTree
from decoupled_wd.preconditioners import ScaleByMomentumState


def with_traces(
    optimizer: optax.GradientTransformation,
    params: optax.Params,
    state: optax.OptState,
    traces: Sequence[PyTree],
) -> optax.OptState:
    """Fill the momentum buffers for which there are traces: ``m = lr_t · trace``.

    lr_t is what an empty buffer makes of a small gradient, divided by it. Both are powers of two,
    so that nothing is rounded, too small to be clipped; two of them tell a gradient that is scaled
    to a norm or a sign. Weights of zero add no L2.
    """
    empty = jax.tree.map(_empty, state, is_leaf=is_buffer)

    def probed(small: float) -> list[PyTree]:
        gradients, zeros = (
            jax.tree.map(lambda p, x=x: jnp.full_like(p, x) if is_inexact(p) else p, params)
            for x in (small, 0.0)
        )
        _, after = optimizer.update(gradients, empty, zeros)
        nodes = jax.tree.leaves(after, is_leaf=is_buffer)
        return [jax.tree.map(lambda m: m / small, n.momentum) for n in nodes if is_buffer(n)]

    rates, again = probed(2.0**-20), probed(2.0**-24)
    rows = iter(zip(traces, rates, again, strict=True))

    def filled(node: PyTree) -> PyTree:
        if not is_buffer(node):
            return node
        trace, *both = next(rows)
        if trace is None:
            return node
        _check_one_rate(both)
        momentum = jax.tree.map(
            lambda rate, t, m: (rate * widen(t)).astype(m.dtype), both[0], trace, node.momentum
        )
        return node._replace(momentum=momentum)

    return jax.tree.map(filled, state, is_leaf=is_buffer)


def is_buffer(node: PyTree) -> bool:
    """Tell whether a part of a state is a momentum buffer of this package."""
    return isinstance(node, ScaleByMomentumState)


def _empty(node: PyTree) -> PyTree:
    if not is_buffer(node):
        return node
    # wide, so that a narrow buffer does not round the learning rate
    zeros = jax.tree.map(lambda m: jnp.zeros_like(m, wide_dtype(m)), node.momentum)
    return node._replace(momentum=zeros)


def _check_one_rate(rates: PyTree) -> None:
    leaves = [leaf.real for leaf in jax.tree.leaves(rates)]
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return
    low, high = min(float(x.min()) for x in leaves), max(float(x.max()) for x in leaves)
    if not 0 < low == high:
        raise ValueError(
            "state has a trace, which becomes momentum times the learning rate of the next step: "
            f"that must be one number above 0, and is found to be {low:g} to {high:g}; put "
            "dwd.decouple around optax.sgd instead, which keeps the trace"
        )
