"""One decay in everybody's units.

They are the λ of each framework, the timescale, the half-life and the normalised λ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from decoupled_wd._base.checks import check_at_least_one
from decoupled_wd.coupling import FRAMEWORKS, PAPER, Coupling, convert_weight_decay
from decoupled_wd.diagnostics._tables import Cells, Table, as_number
from decoupled_wd.strengths import normalized
from decoupled_wd.theory import half_life, timescale


class Equivalent(NamedTuple):
    """A unit, the value in it, and what it says.

    Of a λ that is the fraction c_t that a step removes.
    """

    unit: str
    value: float
    meaning: str


@dataclass(frozen=True, repr=False)
class Equivalents(Table[Equivalent]):
    """What `equivalents` returns; it prints as a table."""

    learning_rate: float

    header = ("unit", "value", "meaning (of a λ: the fraction c_t)")

    def __getitem__(self, unit: str) -> float:
        """The value in a unit, as its row names it."""
        values = {row.unit: row.value for row in self.rows}
        if unit not in values:
            raise KeyError(f"{unit!r} is not a row of this table; it has {sorted(values)}")
        return values[unit]

    def _cells(self, row: Equivalent) -> Cells:
        return (row.unit, as_number(row.value), row.meaning)

    def _remarks(self) -> list[str]:
        peak = as_number(self.learning_rate)
        return [
            f"all at the peak learning rate α = {peak}; away from it lr = η·α, and c_t follows "
            "its formula"
        ]


def equivalents(
    weight_decay: float,
    *,
    from_: Coupling | str,
    learning_rate: float,
    steps: float | None = None,
    batch_size: float | None = None,
    dataset_size: float | None = None,
    epochs: float | None = None,
) -> Equivalents:
    """Show one decay in the unit of every framework and author.

    At the peak it removes ``c = λ·α^p``, which is solved for each λ.

    Args:
      weight_decay: λ as `from_` writes it.
      from_: a `Coupling`, or a key of `FRAMEWORKS`.
      learning_rate: α, the peak learning rate of the run.
      steps: how long the run is, for what it leaves of an idle weight at constant c.
      batch_size, dataset_size: b and B, for the timescale in epochs.
      epochs: T, for the paper's normalised λ; with b and B it gives `steps` too.

    Returns:
      An `Equivalents` with ``rows``, which prints as a table; ``equivalents(...)["torch"]`` is one
      of its values.

    Raises:
      TypeError, ValueError: a number is out of range, a framework is unknown, or of b, B and T one
        is missing.

    Examples:
      >>> table = equivalents(0.1, from_="fastai", learning_rate=3e-3)
      >>> f"{table['paper']:.4g} {table['torch']:.4g} {table['timescale']:.4g}"
      '0.0003 0.1 3333'

    Source: arXiv 1711.05101, appendix B.1; timescales from arXiv 2405.13698.
    """

    def in_unit(to: Coupling | str) -> float:
        return convert_weight_decay(weight_decay, from_=from_, to=to, learning_rate=learning_rate)

    # the hub: every other unit is computed from the fraction
    c = in_unit(PAPER)
    lambdas = [Equivalent(name, in_unit(name), p_s.formula) for name, p_s in FRAMEWORKS.items()]
    scales = [
        Equivalent("fraction", c, "removed by a step"),
        Equivalent("timescale", timescale(c), "steps, 1/c"),
        Equivalent("half-life", half_life(c), "steps, ln 2/−ln(1 − c)"),
    ]
    rows = [*lambdas, *scales, *_budget(c, steps, batch_size, dataset_size, epochs)]
    return Equivalents(tuple(rows), learning_rate)


def _budget(
    c: float,
    steps: float | None,
    batch_size: float | None,
    dataset_size: float | None,
    epochs: float | None,
) -> list[Equivalent]:
    """Make the rows that need the size of the run."""
    if batch_size is None or dataset_size is None:
        _check_absent(batch_size=batch_size, dataset_size=dataset_size, epochs=epochs)
        return _left(c, steps)
    run = {"batch_size": batch_size, "dataset_size": dataset_size}
    in_epochs = timescale(c) * normalized(1.0, **run, epochs=1) ** 2
    rows = [Equivalent("timescale in epochs", in_epochs, "b/(c·B)")]
    if epochs is not None:
        unit = normalized(1.0, **run, epochs=epochs)
        rows.append(Equivalent("normalised λ", c / unit, "λ = λ_norm·√(b/(B·T))"))
        # unit is √(b/(B·T)), and a run has B·T/b steps
        steps = unit**-2 if steps is None else steps
    return rows + _left(c, steps)


def _left(c: float, steps: float | None) -> list[Equivalent]:
    if steps is None:
        return []
    check_at_least_one("steps", steps)
    try:
        left = abs(1 - c) ** steps
    except OverflowError:
        # c > 2 makes weights grow
        left = math.inf
    return [Equivalent("left", left, f"of an idle weight after {steps:.0f} steps")]


def _check_absent(**run: float | None) -> None:
    if any(number is not None for number in run.values()):
        got = ", ".join(f"{name}={number}" for name, number in run.items())
        raise ValueError(
            f"{got}: pass batch_size and dataset_size together, and epochs beside them"
        )
