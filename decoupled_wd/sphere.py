"""Training on a sphere: the norm of each matrix is held, and only its direction is learned."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from decoupled_wd._base.checks import check_known, check_type
from decoupled_wd._base.leaves import widen
from decoupled_wd._base.types import PyTree, ScalarOrSchedule
from decoupled_wd._base.updates import check_params
from decoupled_wd._resolution import resolve
from decoupled_wd.coupling import CONSTANT
from decoupled_wd.masks import MaskLike, is_known, matches, matrices, select, shown
from decoupled_wd.preconditioners import scale_by_rate
from decoupled_wd.rules import onto_norm, scale_to_norm
from decoupled_wd.transforms import decouple


def hyperball(
    direction: optax.GradientTransformation,
    learning_rate: ScalarOrSchedule,
    *,
    mask: MaskLike = None,
    stacked_axes: int = 0,
    rounding: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Turn matrices on the sphere of their norm at init, along any direction.

    ``θ ← R·N(θ − lr_t·R·N(u))`` with ``N(x) = x/||x||``; other weights ``θ ← θ − lr_t·u``.

    A step turns a matrix by about lr_t radians, whatever the scale of u: the learning rate is what
    ``sqrt(2·lr·λ)`` is to `adamw` at its equilibrium, and there is no decay to choose. It is
    `decouple` with ``rules.onto_norm()``, λ = 1 and the coupling `CONSTANT`, so a `record` has c =
    1, and its log-shrinkage says nothing.

    Args:
      direction: u, a link that emits the direction *before* the learning rate and its sign, such as
        ``optax.scale_by_adam()`` or ``optax.contrib.scale_by_muon()``. On bfloat16 weights
        `scale_by_adam` of this package keeps its moments in float32.
      learning_rate: lr_t, a number or a schedule, in radians where a norm is held; weights that are
        not held take it as it is.
      mask: which weights are held, with multipliers of 0 and 1; by default those of
        ``masks.matrices(stacked_axes=stacked_axes)``.
      stacked_axes: leading axes that only stack layers: every layer is held at its own norm.
      rounding: how bfloat16 weights are written; see `rounding`.

    Returns:
      An optimiser. It holds R twice, one number for each matrix.

    Raises:
      TypeError, ValueError: an argument is out of range; or, at init, the mask does not fit, has
        another multiplier, or holds a matrix whose norm is 0, as in `rules.onto_norm`; or the
        direction is that of a finished optimiser, as far as a step of a small matrix shows.

    Examples:
      >>> import jax.numpy as jnp
      >>> optimizer = hyperball(optax.identity(), 0.75)
      >>> params, gradients = jnp.array([[4.0, 0.0]]), jnp.array([[0.0, -9.0]])
      >>> updates, _ = optimizer.update(gradients, optimizer.init(params), params)
      >>> [round(float(p), 5) for p in (params + updates)[0]]
      [3.2, 2.4]

    Source: hyperball, arXiv 2606.16899: R·N(θ − η·R·N(u)).
    """
    remedy = "pass a direction without its learning rate, as in optax.scale_by_adam()"
    check_type("direction", direction, optax.GradientTransformation, remedy)
    check_known("stacked_axes", stacked_axes)
    held = matrices(stacked_axes=stacked_axes) if mask is None else mask
    axis = slice(int(stacked_axes), None)
    optimizer = decouple(
        optax.chain(direction, _at_length(held, axis), scale_by_rate(learning_rate)),
        1.0,
        learning_rate=learning_rate,
        coupling=CONSTANT,
        rule=onto_norm(axis=axis),
        mask=held,
        rounding=rounding,
    )

    def init(params: optax.Params) -> optax.OptState:
        state = optimizer.init(params)
        # inside jit nothing has a value, and it would be traced for nothing
        if not any(isinstance(p, jax.core.Tracer) for p in jax.tree.leaves(params)):
            _check_sign(direction)
        return state

    return optax.GradientTransformationExtraArgs(init, optimizer.update)


def _check_sign(direction: optax.GradientTransformation) -> None:
    """Refuse a finished optimiser, whose sign is flipped: flipped again, it climbs."""
    # large beside any noise
    g = {"kernel": 1e3 * jnp.array([[3.0, 1.0], [1.0, 2.0]])}
    try:
        link = optax.with_extra_args_support(direction)
        u, _ = link.update(g, link.init(g), g)
        along = float(jnp.vdot(g["kernel"], u["kernel"]))
    # what takes its own params alone, or more arguments, is not asked
    except Exception:
        return
    if along < 0:
        raise ValueError(
            "direction goes against the gradient, as a finished optimiser does, and would climb "
            "here; pass it before its learning rate, as in optax.scale_by_adam() for optax.adam(lr)"
        )


def _at_length(mask: MaskLike, axis: slice) -> optax.GradientTransformationExtraArgs:
    """Give the directions of the held weights the length R, and widen the others."""
    link = scale_to_norm(axis)

    def init(params: optax.Params) -> optax.OptState:
        m, _ = resolve(mask, 1.0, params)
        _check_multipliers(mask, params)
        return link.init(select(params, m))

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, **extra: object
    ) -> tuple[PyTree, PyTree]:
        del extra
        check_params("hyperball", params)
        m, _ = resolve(mask, 1.0, params)
        scaled, state = link.update(select(updates, m), state, select(params, m))
        return jax.tree.map(lambda held, u, v: v if held else widen(u), m, updates, scaled), state

    return optax.GradientTransformationExtraArgs(init, update)


def _check_multipliers(mask: MaskLike, params: optax.Params) -> None:
    # optax.tree.map_params calls init with an empty stand-in
    for path, _, match in matches(mask, params) if jax.tree.leaves(params) else []:
        if not is_known(match.multiplier) or match.multiplier not in (0, 1):
            raise ValueError(
                f"mask is {shown(match.multiplier)} at {path!r}, and hyperball holds a weight or "
                "does not; use 0 or 1"
            )
