"""One claim on one data set and network, as profiles list them."""

from dataclasses import dataclass
from pathlib import Path

from decoupled_wd.study.claims.verdicts import Design

RIDGES = "ridges of Adam and AdamW"
"""What claims (ii) and (iii) both train, and (viii) for both of its designs."""


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
    shares: str = ""
    """Names what it trains, if others on its task train it, too: they are looked at together."""
