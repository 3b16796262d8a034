"""Whether the decay will be there at all: a check of precision, before anything is trained.

Rounded to nearest, a weight that a step changes by less than half the distance to its neighbour
does not change, however many steps follow. So a dtype of relative spacing eps has a threshold: at
``c <= eps/4`` no weight decays, and from ``c = eps/2`` on every weight does.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from decoupled_wd._base.checks import check_at_least_one
from decoupled_wd._base.leaves import float_info, is_absent, widen
from decoupled_wd._base.paths import named_leaves
from decoupled_wd._base.types import Number, PyTree, ScalarOrSchedule, WeightDecay
from decoupled_wd._resolution import is_scheduled
from decoupled_wd.coupling import PAPER, Coupling, as_coupling
from decoupled_wd.diagnostics._tables import Cells, Table, as_number, columns
from decoupled_wd.diagnostics.describe import PlannedLeaf, describe, plans
from decoupled_wd.masks import MaskLike, everything, matches
from decoupled_wd.rounding import check_rounding, rounded_leaves

OnLoss = Literal["raise", "warn", "return"]
# significand bits up to which all significands are tried, rather than a formula used
_SHORT = 16


class CheckedLeaf(NamedTuple):
    """What becomes of one leaf in its precision.

    The fraction is what a step removes, the threshold the largest that removes nothing.
    """

    path: str
    dtype: str
    fraction: float
    last_fraction: float | None
    threshold: float
    moved: float
    verdict: str
    remedy: str


@dataclass(frozen=True, repr=False)
class Preflight(Table[CheckedLeaf]):
    """What `preflight` returns; it prints as a table."""

    header = columns(CheckedLeaf._fields)

    @property
    def losses(self) -> tuple[CheckedLeaf, ...]:
        """The rows in which decay is lost, wholly or partly."""
        return tuple(row for row in self.rows if row.verdict.endswith("lost"))

    def _cells(self, row: CheckedLeaf) -> Cells:
        return [as_number(x) if isinstance(x, float) else "–" if x is None else x for x in row]

    def _remarks(self) -> list[str]:
        decayed = sum(row.verdict != "not decayed" for row in self.rows)
        lost = f"in {len(self.losses)} of {decayed} decayed leaves"
        return [f"decay is lost, wholly or partly, {lost}"]


def preflight(
    params: optax.Params,
    weight_decay: WeightDecay,
    *,
    steps: int | None = None,
    learning_rate: ScalarOrSchedule | None = None,
    peak_learning_rate: ArrayLike | None = None,
    coupling: Coupling | str = PAPER,
    mask: MaskLike = everything(),
    rounding: optax.GradientTransformation | None = None,
    on_loss: OnLoss = "warn",
) -> Preflight:
    """Check which weights a decay step moves in their precision.

    A weight p moves where ``nearest(p − c·p) ≠ p``, with ``c = λ·α^p·m``.

    In a real step the optimiser's own update is added before the rounding. Where that is large it
    carries the decay along by chance; where it is small, late in a run, what this check calls lost
    is lost.

    Args:
      params: a tree of arrays, whose finite weights other than 0 are counted one by one; or of
        ``jax.ShapeDtypeStruct``, for which, as for an array without such a weight, all significands
        count alike.
      weight_decay: λ, a number, a schedule, of which the value at step 0 counts, or a tree of
        these.
      steps: how many steps training takes; with it, rows hold the fraction of the last step of a
        schedule too, which is judged where that of step 0 is 0.
      learning_rate, peak_learning_rate, coupling, mask: as in `describe`.
      rounding: the link in use, also for some weights alone, as in ``optax.masked``: behind one of
        `rounding` a bfloat16 weight decays as a float32 weight does, behind `residual(bits=8)` and
        `stochastic_rounding` on average.
      on_loss: what to do if decay is lost anywhere: "raise", "warn", or only "return" the rows.

    Returns:
      A `Preflight` with ``rows``, one for each leaf, and its ``losses``. A row's threshold is eps/4
      of the dtype that carries the weight: at and below it nothing moves. Its verdict is "kept" if
      every weight moves, "partly lost", "lost", or "not decayed".

    Raises:
      ValueError: decay is lost and `on_loss` is "raise".
      TypeError, ValueError: an argument is out of range, α is missing, or a tree does not fit the
        params.

    Examples:
      >>> params = {"head": jnp.ones((3, 4)), "body": jnp.ones((3, 4), jnp.bfloat16)}
      >>> for row in preflight(params, 1e-4, on_loss="return").rows:
      ...     print(row.path, row.threshold == jnp.finfo(row.dtype).eps / 4, row.moved, row.verdict)
      body True 0.0 lost
      head True 1.0 kept
      >>> from decoupled_wd.rounding import residual
      >>> report = preflight(params, 1e-4, rounding=residual(), on_loss="raise")
      >>> [row.verdict for row in report.rows]
      ['kept', 'kept']

    Source: round-to-nearest, IEEE 754-2019, section 4.3.1; its effect, Zamirai et al., arXiv
      2010.06192, section 3.
    """
    _check_options(steps, rounding, on_loss)
    options: dict[str, Number] = {
        "learning_rate": learning_rate,
        "peak_learning_rate": peak_learning_rate,
    }
    with jax.ensure_compile_time_eval():  # inside jit too the schedules and dtypes are known
        rows_now = describe(params, weight_decay, coupling=coupling, mask=mask, **options).rows
        ends: list[float | None] = [None] * len(rows_now)
        found = matches(mask, params)
        moving = [learning_rate, *(match.multiplier for *_, match in found)]
        if steps is not None and (is_scheduled(weight_decay) or any(map(callable, moving))):
            last = plans(params, weight_decay, found, 1.0, step=steps - 1)
            pair = as_coupling("coupling", coupling)
            unit = float(pair.fraction(1.0, **options)(steps - 1))
            ends = [unit * row.fraction for row in last]
        leaves = [leaf for _, leaf in named_leaves(params, is_leaf=is_absent)]
        none = [False] * len(leaves)
        rounded = none if rounding is None else rounded_leaves(rounding, params)
        each = zip(rows_now, leaves, ends, rounded, strict=True)
        rows = tuple(_checked(*row) for row in each)
    return _reported(Preflight(rows), on_loss)


def _checked(plan: PlannedLeaf, leaf: PyTree, end: float | None, rounded: bool) -> CheckedLeaf:
    path, dtype, c = plan.path, plan.dtype, plan.fraction
    # of a strength that rises from 0 the last is judged
    judged = c or end or 0.0
    if judged == 0:
        return CheckedLeaf(path, dtype, c, end, 0.0, 0.0, "not decayed", "")
    # with a link the bfloat16 weight is the upper half of a float32 one
    carrier = "float32" if rounded else dtype
    moved = share_moved(leaf, judged, carrier)
    verdict = "kept" if moved == 1 else "partly lost" if moved else "lost"
    threshold = float(float_info(carrier).eps) / 4
    return CheckedLeaf(path, dtype, c, end, threshold, moved, verdict, remedy_of(carrier, verdict))


def share_moved(leaf: PyTree, c: float, dtype: str) -> float:
    """Return the share of the weights that move, or of the significands.

    The weights are those that can decay at all, if their values are known.
    """
    if not isinstance(leaf, jax.ShapeDtypeStruct | jax.core.Tracer):
        p = jnp.asarray(leaf, dtype)
        decays = jnp.isfinite(p) & (p != 0)
        count = jnp.sum(decays)
        if count:
            return int(jnp.sum(decays & _moves(p, c))) / int(count)
    return share_of_significands(c, dtype)


def _moves(p: jax.Array, c: float) -> jax.Array:
    """Tell whether each weight moves, written as training writes it.

    The update is rounded, and then the sum.
    """
    # optax casts the update to the dtype of the weight before it is added
    update = (-c * widen(p)).astype(p.dtype)
    moved: jax.Array = optax.apply_updates(p, update) != p
    return moved


def share_of_significands(c: float, dtype: str) -> float:
    """Return the share of the significands s in [1, 2) that a step moves.

    It is a formula where there are too many to try.
    """
    info = float_info(dtype)
    if info.nmant <= _SHORT:
        # all numbers between two powers of 2: other binades round alike
        s = 1 + jnp.arange(2**info.nmant) * float(info.eps)
        return float(jnp.mean(_moves(s.astype(info.dtype), c)))
    return share_rounded(c, float(info.eps))


def share_rounded(c: float, eps: float) -> float:
    """Return the share of the significands s in [1, 2) with ``c·s > eps/2``."""
    return min(max(2 - eps / (2 * c), 0.0), 1.0)


def remedy_of(dtype: str, verdict: str) -> str:
    """Say how weights of this dtype keep their decay, or nothing where they do."""
    if verdict == "kept":
        return ""
    link = "rounding=dwd.rounding.residual() or stochastic_rounding(seed)"
    wider = {"float32": "float64 weights", "complex64": "complex128 weights"}
    narrow = {"bfloat16": f"{link}, or float32 weights"}
    return (narrow | wider).get(dtype, f"bfloat16 weights with {link}, or float32 weights")


def _reported(report: Preflight, on_loss: OnLoss) -> Preflight:
    if report.losses and on_loss == "raise":
        raise ValueError(str(report))
    if report.losses and on_loss == "warn":
        warnings.warn(str(report), stacklevel=3)
    return report


def _check_options(steps: int | None, rounding: object, on_loss: str) -> None:
    if steps is not None:
        check_at_least_one("steps", steps)
    check_rounding(rounding)
    if on_loss not in get_args(OnLoss):
        raise ValueError(
            f"on_loss must be one of {get_args(OnLoss)}, got {on_loss!r}; pass one of them"
        )
