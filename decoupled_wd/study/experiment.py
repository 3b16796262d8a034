"""One claim on one data set and network, as profiles list them."""

from dataclasses import dataclass
from pathlib import Path

from decoupled_wd import PAPER
from decoupled_wd.study.claims.choice import Choice
from decoupled_wd.study.claims.exchange import Exchange
from decoupled_wd.study.claims.generalization import Generalization
from decoupled_wd.study.claims.interaction import Interaction
from decoupled_wd.study.claims.verdicts import Design


@dataclass(frozen=True)
class Experiment:
    """Describes one claim on one data set and network."""

    claim: str
    """Its number in the study, a key of `CLAIMS`."""
    dataset: str | Path
    """A name, or a file that `task.task` loads."""
    network: str
    design: Design
    """How it is measured, with its sizes as fields."""
    seconds: float
    """How long its first look took on two x86-64 cores."""
    again: float = 1.0
    """What as many seeds take again, relative to that: less where a pilot comes first."""

    @property
    def shares(self) -> str:
        """Names what it trains for others on its task, too: they are looked at together."""
        match self.design:
            # claims (ii) and (iii), and both designs of (viii)
            case Interaction(pairs=pairs, couplings=couplings, schedules=schedules) if (
                "Adam",
                "AdamW",
            ) in pairs and PAPER in couplings:
                return f"ridges of Adam and AdamW, {schedules}"
            case Generalization(schedules=schedules):
                return f"ridges of Adam and AdamW, {schedules}"
            case Exchange() | Choice(families=("momentum",) | ("Adam",)):
                return "searches of momentum and Adam"
        return ""
