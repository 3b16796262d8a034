"""What is said of each leaf: its numbers beside those at equilibrium, and in words what is off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import jax
import numpy as np
import optax

from decoupled_wd._base.leaves import dtype_name, is_inexact
from decoupled_wd._base.paths import named_leaves
from decoupled_wd._base.types import PyTree
from decoupled_wd.diagnostics._looks import Look
from decoupled_wd.diagnostics._moments import Average
from decoupled_wd.diagnostics._tables import as_number
from decoupled_wd.diagnostics.preflight import remedy_of, share_moved
from decoupled_wd.diagnostics.record import Record
from decoupled_wd.rounding import is_bfloat16
from decoupled_wd.theory import hyperball_rotation

# more of the decay is lost than left
LOST = 0.5
# c of a schedule's end: none that matters within ten million steps, in any precision
FAINT = 1e-7
# farther than one step's noise, and than what weights off equilibrium without harm are
UNSETTLED = 1.5
# how near a norm must come to its equilibrium to be there
SETTLED = 1.1
# a last layer, which no normalisation follows, turns a third as fast in a healthy run
SLOW = 5.0
# growth of a tenth of what the decay of the others takes, and three times that of a random step
GROWING, NOISE = 0.1, 3.0


class ExaminedLeaf(NamedTuple):
    """What the next step does to one leaf, and what is expected of it.

    Angles are in radians. NaN stands where nothing is known: no equilibrium without decay, no step
    without a gradient. `findings` are words, and `alarms` those of them that tell of a fault.
    """

    path: str
    fraction: float
    norm: float
    equilibrium_norm: float
    relative_step: float
    rotation: float
    predicted_rotation: float
    growth: float
    lost: float
    findings: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()


class _Leaf(NamedTuple):
    """A row, and what else its words depend on."""

    row: ExaminedLeaf
    weight: PyTree
    carrier: str
    average: Average
    held: bool
    step: float
    known: bool

    @property
    def moves(self) -> bool | None:
        """Whether the step does anything, None where it is not known."""
        return self.step != 0 if self.known else None

    @property
    def is_matrix(self) -> bool:
        """Whether it is one: vectors scale and shift, and no equilibrium is expected of them."""
        return bool(np.sum(np.array(np.shape(self.weight)) > 1) >= 2)

    @property
    def pace(self) -> float:
        """The rotation over the predicted."""
        return self.row.rotation / (self.row.predicted_rotation or math.nan)


class _Others(NamedTuple):
    """What a leaf is compared with: the medians of the decayed matrices."""

    fraction: float
    pace: float
    steps: int


def rows_of(
    params: optax.Params, seen: Look, known: Sequence[bool], steps: int
) -> tuple[ExaminedLeaf, ...]:
    """Return a row for each floating-point leaf."""
    # where nothing moves at all, nothing is said of steps
    moves = bool(seen.record.update_norm.any())
    trained = [(i, path, p) for i, (path, p) in enumerate(named_leaves(params)) if is_inexact(p)]
    leaves = [
        _leaf(path, p, _entry(seen.record, number), seen, i, known[i] and moves)
        for number, (i, path, p) in enumerate(trained)
    ]
    decayed = [x for x in leaves if x.row.fraction > 0 and x.is_matrix and not x.held]
    paces = [x.pace for x in decayed if not math.isnan(x.pace)]
    fraction = median([x.row.fraction for x in decayed] or [math.nan])
    others = _Others(fraction, median(paces or [math.nan]), steps)
    return tuple(_with_words(leaf, others) for leaf in leaves)


def _entry(record: Record, number: int) -> PyTree:
    return jax.tree.map(lambda x: float(x[number]), record)


def _leaf(path: str, p: PyTree, r: PyTree, seen: Look, i: int, known: bool) -> _Leaf:
    c = math.nan if seen.untold[i] else float(r.c)
    norm, step, average = r.weight_norm, r.update_norm, seen.averages[i]
    # c = 1 removes all of a weight, unless a rule brings it back to its norm
    held = c >= 1 and bool(r.growth > -0.5)
    equilibrium, predicted = math.nan, math.nan
    if held:
        equilibrium, predicted = norm, float(hyperball_rotation(r.lr)) if r.lr else math.nan
    # a rule that pulls elsewhere than to zero has another equilibrium
    elif 0 < c < 1 and abs(r.decay_norm - c * norm) <= 0.01 * c * norm:
        predicted = average.rotation(c, np.shape(p))
        equilibrium = _equilibrium(norm, step, predicted, average) if known else math.nan
    carrier = "float32" if seen.rounded and is_bfloat16(p) else dtype_name(p)
    lost = 1 - share_moved(p, c, carrier) if c > 0 and not held else math.nan if c != 0 else 0.0
    relative = step / norm if norm else math.nan
    relative, angle, growth = (x if known else math.nan for x in (relative, r.angle, r.growth))
    row = ExaminedLeaf(path, c, norm, equilibrium, relative, angle, predicted, growth, lost)
    return _Leaf(row, p, carrier, average, held, step, known)


def _equilibrium(norm: float, step: float, angle: float, average: Average) -> float:
    """Return the norm of which the step is the predicted angle."""
    if not angle > 0:
        return math.nan
    # steps that fall as 1/‖θ‖ are ‖Δ‖·‖θ‖/x at another norm x
    return math.sqrt(step * norm / angle) if average.power == 4 else step / angle


def _with_words(leaf: _Leaf, others: _Others) -> ExaminedLeaf:
    alarms = tuple(_alarms(leaf, others))
    return leaf.row._replace(findings=(*alarms, *_notes(leaf)), alarms=alarms)


def _alarms(leaf: _Leaf, others: _Others) -> list[str]:
    row, c = leaf.row, leaf.row.fraction
    if not math.isfinite(row.norm):
        return ["not finite"]
    if not math.isfinite(leaf.step):
        return ["its step is not finite, by its state: go back to an earlier checkpoint"]
    # until then neither norm nor rotation need be near their equilibrium
    had_time = others.steps * others.fraction >= 1
    slower = others.pace / leaf.pace if leaf.pace > 0 else math.inf if leaf.pace == 0 else math.nan
    by_chance = row.relative_step / math.sqrt(max(np.size(leaf.weight), 1))
    words = {
        "grows: no decay reaches it": (
            c == 0
            and leaf.is_matrix
            and had_time
            and row.growth > max(GROWING * others.fraction, NOISE * by_chance)
        ),
        "one step removes all of it: lower weight_decay": c >= 1 and not leaf.held,
        "decays, and no step reaches it": c > 0 and leaf.moves is False,
        f"decay lost in {leaf.carrier}: {remedy_of(leaf.carrier, 'lost')}": (
            c > FAINT and row.lost > LOST
        ),
        f"turns {as_number(float(f'{slower:.2g}'))} × slower than the median leaf": (
            leaf.is_matrix and bool(leaf.moves) and not leaf.held and had_time and slower >= SLOW
        ),
    }
    return [text for text, holds in words.items() if holds]


def _notes(leaf: _Leaf) -> list[str]:
    row, c = leaf.row, leaf.row.fraction
    ratio = row.norm / row.equilibrium_norm if row.equilibrium_norm else math.nan
    off = max(ratio, 1 / ratio) if ratio else math.nan
    words = {
        "frozen": c == 0 and leaf.moves is False,
        "not decayed": c == 0 and leaf.moves is not False,
        # of a step that is NaN nothing is told
        "L2 or a trust ratio: no fraction": math.isnan(c) and math.isfinite(leaf.step),
        "held at its norm": leaf.held,
        "its step is not known": leaf.moves is None,
    }
    # what rounding keeps where it is never settles
    if leaf.is_matrix and not leaf.held and off > UNSETTLED and row.lost <= LOST:
        steps = _steps_to_settle(ratio, c, leaf.average.power)
        words[f"settles in {_rounded(steps)} steps, from {ratio:.2g} × that at equilibrium"] = True
    return [text for text, holds in words.items() if holds]


def _steps_to_settle(ratio: float, fraction: float, power: int) -> float:
    """Return t where ``|ratio^n − 1|·exp(−n·c·t)`` has come down to that of `SETTLED`."""
    near = SETTLED if ratio > 1 else 1 / SETTLED
    return math.log((ratio**power - 1) / (near**power - 1)) / (power * fraction)


def _rounded(steps: float) -> str:
    """Two digits, and thousands apart."""
    return f"{float(f'{steps:.2g}'):,.0f}"
