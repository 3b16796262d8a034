"""What will decay, and how fast: one row for every leaf, before anything is trained."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from decoupled_wd import masks
from decoupled_wd._base.checks import check_nonnegative, scheduled
from decoupled_wd._base.leaves import is_absent, is_inexact, kind_of
from decoupled_wd._base.paths import broadcast_leaves
from decoupled_wd._base.types import Number, PyTree, ScalarOrSchedule, WeightDecay
from decoupled_wd._resolution import is_scheduled, is_shared
from decoupled_wd.coupling import PAPER, Coupling, as_coupling
from decoupled_wd.diagnostics._tables import Cells, Table, as_number, columns
from decoupled_wd.rules import Rule, as_rule, towards_zero
from decoupled_wd.theory import half_life


class PlannedLeaf(NamedTuple):
    """What is planned for one leaf: the fraction c, and why.

    The fraction is that of a step at the peak.

    `trained` is False for what no optimiser trains, such as None or an integer. `doubt` says why
    the leaf may have been meant to be left out, where a mask that goes by names did not find what
    it leaves out. `held` says what a rule does with a fraction of 1, where that is not to remove
    the weight.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    parameters: int
    multiplier: float
    fraction: float
    half_life: float
    rule: str
    trained: bool = True
    doubt: str = ""
    held: str = ""


@dataclass(frozen=True, repr=False)
class Description(Table[PlannedLeaf]):
    """What `describe` returns; it prints as a table.

    What is not trained is counted in one line below.
    """

    notes: tuple[str, ...] = ()

    header = columns(PlannedLeaf._fields[:-3])

    @property
    def total(self) -> int:
        """How many parameters there are."""
        return sum(row.parameters for row in self.rows)

    @property
    def decayed(self) -> int:
        """How many of them decay."""
        return sum(row.parameters for row in self.rows if row.fraction)

    def _lines(self) -> list[Cells]:
        return [self._cells(row) for row in self.rows if row.trained]

    def _cells(self, row: PlannedLeaf) -> Cells:
        flag = " =" if row.held else " !" if row.fraction >= 1 else ""
        doubt = " ?" if row.doubt else ""
        numbers = (
            f"{row.parameters:,}",
            as_number(row.multiplier),
            as_number(row.fraction) + flag,
            as_number(row.half_life),
        )
        return (row.path, str(row.shape), row.dtype, *numbers, row.rule + doubt)

    def _remarks(self) -> list[str]:
        trained = [row for row in self.rows if row.trained]
        leaves = sum(row.fraction > 0 for row in trained)
        totals = (
            f"{self.decayed:,} of {self.total:,} parameters decay, "
            f"in {leaves} of {len(trained)} leaves"
        )
        warning = (
            "! fraction >= 1: one step removes the whole weight or overshoots zero; "
            "lower weight_decay"
        )
        overshot = [warning] if any(row.fraction >= 1 and not row.held for row in trained) else []
        holds = dict.fromkeys(row.held for row in trained if row.held)
        held = [f"= fraction 1: {words}, to which every step returns it" for words in holds]
        doubts = dict.fromkeys(row.doubt for row in trained if row.doubt)
        doubtful = [f"? {doubt}: perhaps these are; see masks.matching" for doubt in doubts]
        return [totals, *self._untrained(), *overshot, *held, *doubtful, *self.notes]

    def _untrained(self) -> list[str]:
        kinds = Counter(row.rule.partition(":")[0] for row in self.rows if not row.trained)
        words = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
        return [f"not trained, and not shown: {words}"] if kinds else []


def describe(
    params: optax.Params,
    weight_decay: WeightDecay,
    *,
    learning_rate: ScalarOrSchedule | None = None,
    peak_learning_rate: ArrayLike | None = None,
    coupling: Coupling | str = PAPER,
    rule: Rule = towards_zero(),
    mask: masks.MaskLike = masks.everything(),
) -> Description:
    """Show what `decay_weights` will do with these arguments.

    Of each leaf a step at the peak removes ``c = λ·α^p·m``.

    Args:
      params: a tree of arrays, or of ``jax.ShapeDtypeStruct`` as ``jax.eval_shape`` makes it.
      weight_decay: λ, a number, a schedule, or a tree of these. Of a schedule, here or in the mask,
        the value at step 0 is taken, and a note says so: its highest is not known. For another step
        give the number.
      learning_rate: a number or a schedule. Left out, the decay is the same at every step, and a
        note says so.
      peak_learning_rate: α. Needed with a schedule, unless the coupling is free of it; it is never
        guessed.
      coupling: how λ scales with the learning rate, a `Coupling` or a framework's name.
      rule: towards what; see `rules`. One that holds a norm marks a fraction of 1 with ``=``.
      mask: which parameters, how much each; see `masks`.

    Returns:
      A `Description` with ``rows``, one for each leaf, and the numbers of parameters ``decayed``
      and ``total``. The table shows the leaves that are trained, and counts the others below; it
      marks with ``?`` what a mask that goes by names may have missed. A row's half-life is
      ``ln 2 / −ln(1 − c)`` steps, ∞ where c = 0, and 0 where c >= 1.

    Raises:
      TypeError, ValueError: a number is out of range, α is missing, or a tree does not fit the
        params.

    Examples:
      >>> params = {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}
      >>> describe(params, 1e-3, mask=masks.matrices())
      path    shape   dtype    parameters  multiplier  fraction  half-life  rule
      bias    (4,)    float32  4           0           0         ∞          not a matrix
      kernel  (3, 4)  float32  12          1           0.001     692.8      matrix
      12 of 16 parameters decay, in 1 of 2 leaves
      learning_rate is not given: the fractions stay the same, whatever the schedule

    Source: arXiv 1711.05101, Algorithms 1 and 2: an idle weight is ``(1 − c)^t`` of itself after t
      steps.
    """
    coupling, holds = as_coupling("coupling", coupling), as_rule(rule).holds
    unit = _fraction_of_one(coupling, learning_rate, peak_learning_rate)
    found = masks.matches(mask, params)
    # the highest value of a schedule is not known
    rows = plans(params, weight_decay, found, unit, step=0, holds=holds)
    notes = {
        "weight_decay is a schedule: the fractions are those of its value at step 0": is_scheduled(
            weight_decay
        ),
        "the mask holds a schedule: the multipliers are those at step 0": any(
            callable(match.multiplier) for *_, match in found
        ),
        "learning_rate is not given: the fractions stay the same, whatever the schedule": (
            learning_rate is None and coupling.s != 0
        ),
    }
    return Description(rows, tuple(note for note, holds in notes.items() if holds))


def plans(
    params: optax.Params,
    weight_decay: WeightDecay,
    found: list[tuple[str, PyTree, masks.Match]],
    unit: float,
    step: int,
    holds: str = "",
) -> tuple[PlannedLeaf, ...]:
    """Returns a row for each leaf, with the strengths of one step.

    `holds` says what the rule does to a leaf whose fraction is 1.
    """
    shared = is_shared(weight_decay)
    # a module may be called as a schedule, and is no leaf
    tree = scheduled("weight_decay", weight_decay, step) if shared else weight_decay
    strengths = broadcast_leaves("weight_decay", tree, params)
    return tuple(
        _planned(path, leaf, match, lam, unit, step, holds)
        for (path, leaf, match), lam in zip(found, strengths, strict=True)
    )


def _fraction_of_one(
    coupling: Coupling,
    learning_rate: ScalarOrSchedule | None,
    peak_learning_rate: ArrayLike | None,
) -> float:
    """Return ``α^p``, the fraction of λ = 1 at the peak.

    The checks are those that training makes too.
    """
    coupling.check(1.0, learning_rate, peak_learning_rate)
    alpha: Number = learning_rate if peak_learning_rate is None else peak_learning_rate
    if callable(alpha) and coupling.p != 0:
        raise ValueError(
            f"learning_rate is a schedule, and {coupling} multiplies by its peak; pass "
            "peak_learning_rate="
        )
    return float(alpha**coupling.p) if coupling.p else 1.0


def _planned(
    path: str,
    leaf: PyTree,
    match: masks.Match,
    weight_decay: Number,
    unit: float,
    step: int,
    holds: str,
) -> PlannedLeaf:
    shape = tuple(getattr(leaf, "shape", ()))
    if not is_inexact(leaf):
        dtype = "" if is_absent(leaf) else str(getattr(leaf, "dtype", kind_of(leaf)))
        return PlannedLeaf(path, shape, dtype, 0, 0.0, 0.0, math.inf, match.rule, trained=False)
    strength = scheduled(f"weight_decay at {path!r}", weight_decay, step)
    check_nonnegative(f"weight_decay at {path!r}", strength)
    multiplier = float(scheduled(f"mask at {path!r}", match.multiplier, step))
    c = float(strength) * unit * multiplier
    dtype, doubt = str(jnp.result_type(leaf)), match.doubt if c else ""
    numbers = (math.prod(shape), multiplier, c, half_life(c))
    held = holds if c == 1 else ""
    return PlannedLeaf(path, shape, dtype, *numbers, match.rule, doubt=doubt, held=held)
