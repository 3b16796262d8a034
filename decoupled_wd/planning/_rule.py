"""What a rule for λ consists of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from decoupled_wd.planning._run import Run

Kind = Literal["published", "fitted", "bound", "habit", "given"]
"""Where a rule comes from; only published and fitted ones are compared with each other."""


class Rule(NamedTuple):
    """A row of the table of rules.

    It needs numbers of the run, and if it refers, those of a reference too. Its limits say where
    the two leave the range in which the rule was found.
    """

    name: str
    kind: Kind
    fraction: Callable[[Run, Run], float]
    assumption: str
    source: str
    needs: tuple[str, ...] = ()
    refers: bool = True
    limits: tuple[Callable[[Run, Run], str], ...] = ()
    interval: Callable[[Run], tuple[float, float]] | None = None

    def missing(self, run: Run, reference: Run | None) -> list[str]:
        """The numbers that the rule asks for and that are not there."""
        absent = [name for name in self.needs if getattr(run, name) is None]
        if not self.refers:
            return absent
        if reference is None:
            return ["reference", *absent]
        theirs = [name for name in self.needs if getattr(reference, name) is None]
        return [*absent, *(f"{name} of the reference" for name in theirs)]

    def outside(self, run: Run, reference: Run) -> str:
        """Where the rule leaves the range in which it was found, or nothing."""
        # where nothing is carried from a reference, its range does not count
        other = reference if self.refers else run
        return "; ".join(filter(None, (limit(run, other) for limit in self.limits)))
