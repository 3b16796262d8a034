"""One look at a running job: what decays, how fast each weight turns, and what is off."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import GetAttrKey

from decoupled_wd._base.checks import check_type
from decoupled_wd._base.leaves import is_inexact
from decoupled_wd._base.paths import named_leaves, unbox
from decoupled_wd._base.types import PyTree, PyTreeDef
from decoupled_wd._base.updates import check_gradients, check_params, check_structure
from decoupled_wd.diagnostics._findings import ExaminedLeaf, rows_of
from decoupled_wd.diagnostics._looks import Look, look
from decoupled_wd.diagnostics._moments import standing_gradients
from decoupled_wd.diagnostics._tables import Cells, Table, as_number, columns


@dataclass(frozen=True, repr=False)
class Examination(Table[ExaminedLeaf]):
    """What `examine` returns; it prints as a table, with ``!`` before each alarm."""

    notes: tuple[str, ...] = ()

    header = columns(ExaminedLeaf._fields[:-1])

    @property
    def alarms(self) -> dict[str, tuple[str, ...]]:
        """What is wrong, by the path of the leaf."""
        return {row.path: row.alarms for row in self.rows if row.alarms}

    def _cells(self, row: ExaminedLeaf) -> Cells:
        numbers = ["–" if math.isnan(x) else as_number(x) for x in row[1:9]]
        words = [f"! {text}" if text in row.alarms else text for text in row.findings]
        return [row.path, *numbers, "; ".join(words)]

    def _remarks(self) -> list[str]:
        decayed = sum(row.fraction > 0 for row in self.rows)
        first = f"{decayed} of {len(self.rows)} leaves decay, {len(self.alarms)} with an alarm"
        return [first, *self.notes]


def examine(
    optimizer: optax.GradientTransformation,
    params: optax.Params,
    state: optax.OptState,
    gradients: optax.Updates | None = None,
    **extra: PyTree,
) -> Examination:
    """Look at a running job, from a checkpoint or between two steps, and apply nothing.

    Of each leaf it makes the next step Δ, measures it, and compares it with the equilibrium of
    `theory`: ``angle = rotation(c, β1)`` and ``‖θ‖ = ‖Δ‖/angle``, for SGD ``√(‖Δ‖·‖θ‖/angle)``.

    The optimiser may be any of optax, also one without a decay of this package. c is read from its
    `decay_weights`, and elsewhere from the difference between steps from weights of 1 and of 0; the
    β's from what moments forget in a step. Where it runs a `decay_weights` inside ``jit`` or
    ``cond``, as ``optax.apply_if_finite`` does, the rule is taken as `rules.towards_zero`.

    An equilibrium is that of weights before a normalisation, with noisy gradients; others need not
    be near it, and only what no healthy run does is an alarm:

    - a matrix grows by more in a step than the decay of the others takes, and has none, or turns
      more than 5 times slower than the median matrix, each relative to its prediction, after
      ``1/c`` steps or more;
    - more than half of the decay is lost to rounding, as `preflight` counts it;
    - a decayed leaf gets no step, or loses all of itself in one; weights or step are not finite.

    Args:
      optimizer: that of the run.
      params: the weights now.
      state: that of ``optimizer``, before the next step. For that of another optimiser first call
        `adopt`; of ``flax.nnx`` pass ``nnx.as_pure(optimizer.opt_state)``.
      gradients: those of the next step. Left out, they are the ones that leave the first moments as
        they are, so the step is the mean of the latest: Adam's ``m̂/(√v̂ + ε)`` to ``1/(2t)``
        after t steps, and to ``(1 − β2)/2`` later.
      extra: what ``update`` of the optimiser takes beside these, as
        ``optax.contrib.reduce_on_plateau`` takes ``value``.

    Returns:
      An `Examination` with ``rows``, one for each floating-point leaf, and its ``alarms``.

    Raises:
      TypeError: `optimizer` is none, or it is called inside ``jit``.
      ValueError: the state is not that of the optimiser and the params, gradients do not fit or
        hold NaN, or they are left out and the state holds no moment to take them from.

    Examples:
      >>> params = {"kernel": jnp.ones((8, 8)), "bias": jnp.zeros(8)}
      >>> optimizer = optax.adamw(1e-3, weight_decay=0.1, mask={"kernel": True, "bias": False})
      >>> gradients = jax.tree.map(jnp.ones_like, params)
      >>> report = examine(optimizer, params, optimizer.init(params), gradients)
      >>> {row.path: round(row.fraction, 6) for row in report.rows}
      {'bias': 0.0, 'kernel': 0.0001}
      >>> report.rows[0].findings, report.alarms
      (('not decayed',), {})

    Source: Kosson et al., arXiv 2305.17212, section 3 and table 1.
    """
    remedy = "pass the finished optimiser of the run, as in optax.adamw(1e-3)"
    check_type("optimizer", optimizer, optax.GradientTransformation, remedy)
    check_params("examine", params)
    update = functools.partial(optax.with_extra_args_support(optimizer).update, **extra)
    optimizer = optax.GradientTransformationExtraArgs(optimizer.init, update)
    params, state, gradients = _fitting(optimizer, params, state, gradients)
    taken = gradients is None
    if taken:
        gradients, known = standing_gradients(optimizer, state, params)
        if not any(known):
            raise ValueError(
                "gradients are left out, and state holds no moment to take them from, or only "
                "zeros, or holds them back as optax.MultiSteps does; pass those of the next step"
            )
    else:
        structure: PyTreeDef = jax.tree.structure(params)
        known = [is_inexact(g) for g in structure.flatten_up_to(gradients)]
    seen = look(optimizer, params, state, gradients)
    return Examination(rows_of(params, seen, known, _steps(state)), tuple(_notes(seen, taken)))


def _fitting(
    optimizer: optax.GradientTransformation,
    params: optax.Params,
    state: optax.OptState,
    gradients: optax.Updates | None,
) -> tuple[PyTree, PyTree, PyTree]:
    """Check that all three fit each other, without the boxes of flax if need be."""
    check_structure("params", params, params)
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((params, state, gradients))):
        raise TypeError("params are traced, and examine looks at numbers; call it outside of jit")
    given = params, state, gradients
    fits = [_same(jax.eval_shape(optimizer.init, p), s) for p, s, _ in (given, unbox(given))]
    if not any(fits):
        raise ValueError(
            "state must be that of this optimizer for these params, and differs from what "
            "optimizer.init(params) gives in structure or shapes; for the state of another "
            "optimiser call dwd.adopt first"
        )
    params, state, gradients = given if fits[0] else unbox(given)
    if gradients is not None:
        check_gradients("gradients", gradients, params)
        for path, g in named_leaves(gradients):
            if is_inexact(g) and not bool(jnp.all(jnp.isfinite(g))):
                raise ValueError(
                    f"gradients at {path!r} hold NaN or infinity; pass those of a finite step"
                )
    return params, state, gradients


def _same(wanted: PyTree, got: PyTree) -> bool:
    structure: PyTreeDef = jax.tree.structure(wanted)
    shapes = ([*map(jnp.shape, jax.tree.leaves(tree))] for tree in (wanted, got))
    return bool(structure == jax.tree.structure(got)) and next(shapes) == next(shapes)


def _steps(state: optax.OptState) -> int:
    """Return the most steps that any link counts."""
    rows = jax.tree.leaves_with_path(state)
    counts = [leaf for path, leaf in rows if path and path[-1] == GetAttrKey("count")]
    return max((int(jnp.max(jnp.asarray(n))) for n in counts), default=0)


def _notes(seen: Look, taken: bool) -> list[str]:
    # before the first step of MultiSteps and with a learning rate of 0
    still = not bool(jnp.any(seen.record.update_norm != 0))
    words = {
        "gradients are left out: the steps are those of the moments": taken,
        "this step moves nothing, so nothing is said of steps: its learning rate is 0, or it is "
        "one that optax.MultiSteps holds back, whose inner optimiser and state may be examined": (
            still
        ),
        "no leaf decays": not bool(jnp.any(seen.record.c > 0)) and not any(seen.untold),
    }
    return [text for text, holds in words.items() if holds]
