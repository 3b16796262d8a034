"""The plan of a run: what every rule says of its λ, side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from decoupled_wd.coupling import as_coupling
from decoupled_wd.diagnostics._tables import Cells, Table, as_number
from decoupled_wd.planning._run import Run


class PlannedRule(NamedTuple):
    """What a rule says of a run, and what would come of it.

    The fraction c, at the peak, is the paper's λ. What is lost is the share of the weights of a
    precision that a step leaves as they are.
    """

    rule: str
    kind: str
    weight_decay: float
    weight_decay_low: float | None
    weight_decay_high: float | None
    fraction: float
    timescale_steps: float
    timescale_epochs: float
    timescale_tokens: float
    half_life_steps: float
    last_tenth: float
    lost_bf16: float
    lost_bf16_at_end: float
    lost_24_bits: float
    lost_24_bits_at_end: float
    outside: str
    assumption: str
    source: str


class Missing(NamedTuple):
    """A rule that does not apply, and the numbers that it needs."""

    rule: str
    needs: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class Plan(Table[PlannedRule]):
    """What `plan` returns; it prints as a table."""

    run: Run
    reference: Run | None
    missing: tuple[Missing, ...]

    header = (
        "rule",
        "λ",
        "c",
        "steps",
        "epochs",
        "tokens",
        "half-life",
        "last tenth",
        "lost in bf16",
        "in 24 bits",
    )

    @property
    def compared(self) -> tuple[PlannedRule, ...]:
        """The published and fitted rules, from the smallest λ to the largest."""
        rows = (row for row in self.rows if row.kind in ("published", "fitted"))
        return tuple(sorted(rows, key=lambda row: row.fraction))

    @property
    def disagreement(self) -> float:
        """The largest λ of a published or fitted rule over the smallest; 1 where none differ."""
        return _factor(self.compared)

    def to_json(self) -> str:
        """Write the rows as a list of objects; what is infinite is null."""
        rows = [
            {name: _finite(value) for name, value in row._asdict().items()} for row in self.rows
        ]
        return json.dumps(rows, indent=2, ensure_ascii=False)

    def _cells(self, row: PlannedRule) -> Cells:
        times = (row.timescale_steps, row.timescale_epochs, row.timescale_tokens)
        return [
            f"{row.rule} *" if row.outside else row.rule,
            as_number(row.weight_decay),
            *map(as_number, (row.fraction, *times, row.half_life_steps)),
            f"{row.last_tenth:.1%}",
            f"{row.lost_bf16:.0%} … {row.lost_bf16_at_end:.0%}",
            f"{row.lost_24_bits:.0%} … {row.lost_24_bits_at_end:.0%}",
        ]

    def _remarks(self) -> list[str]:
        return [*self._legend(), *self._comparison(), *self._ranges(), *self._assumptions()]

    def _legend(self) -> Iterator[str]:
        unit = as_coupling("coupling", self.run.coupling).formula
        yield (
            f"λ: the weight decay of c_t = {unit}; c: what a step at the peak removes, the paper's "
            "λ; steps, epochs, tokens: the timescale 1/c, tokens being the unit of batch_size"
        )
        yield (
            "last tenth: the share of the run's last tenth in the final weights; lost: weights "
            "that a step at the peak … the last step leaves as they are, rounded to nearest; "
            "behind a link of dwd.rounding none is"
        )
        if self.reference is not None:
            known = {name: value for name, value in vars(self.reference).items() if value}
            numbers = (
                f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in known.items()
            )
            yield f"the reference: {', '.join(numbers)}"

    def _comparison(self) -> Iterator[str]:
        rows = self.compared
        if len(rows) < 2:
            return
        first, last = rows[0], rows[-1]
        yield (
            f"the rules disagree by a factor of {self.disagreement:.3g}, from λ = "
            f"{as_number(first.weight_decay)} ({first.rule}) to {as_number(last.weight_decay)} "
            f"({last.rule})"
        )
        if self.disagreement > 1:
            yield f"what decides is whether {first.assumption}, or {last.assumption}"
        inside = [row for row in rows if not row.outside]
        if inside:
            names = ", ".join(row.rule for row in inside)
            factor = f", by a factor of {_factor(inside):.3g}" if len(inside) > 1 else ""
            yield f"within the range of what they were found on{factor}: {names}"

    def _ranges(self) -> Iterator[str]:
        for row in self.rows:
            if row.outside:
                yield f"* {row.rule}: {row.outside}"
        by_need: dict[tuple[str, ...], list[str]] = {}
        for missing in self.missing:
            by_need.setdefault(missing.needs, []).append(missing.rule)
        for needs, rules in by_need.items():
            yield f"left out without {', '.join(needs)}: {'; '.join(rules)}"

    def _assumptions(self) -> Iterator[str]:
        for row in self.rows:
            yield f"{row.rule}: {row.assumption} ({row.source})"


def _factor(rows: Sequence[PlannedRule]) -> float:
    fractions = [row.fraction for row in rows]
    return max(fractions) / min(fractions) if fractions else 1.0


def _finite(value: object) -> object:
    # JSON has no infinity
    return None if isinstance(value, float) and not math.isfinite(value) else value
