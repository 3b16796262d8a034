"""The verdicts as the terminal shows them."""

import itertools

import rich.box
import rich.console
import rich.table
from rich.text import Text

from decoupled_wd.study.claims.verdicts import (
    FAILS,
    HOLDS,
    MISSING,
    SAME,
    UNDECIDED,
    Finding,
    Verdict,
)
from decoupled_wd.study.experiment import Experiment
from decoupled_wd.study.report.pieces import with_ends

STYLES = {HOLDS: "green", FAILS: "red", SAME: "blue", UNDECIDED: "yellow", MISSING: "dim"}


def verdicts_table(
    findings: list[tuple[Experiment, Finding]], width: int
) -> rich.console.RenderableType:
    """Makes a table, or a list where the width is too small."""
    lines = [
        [_cells(experiment.claim, line) for line in finding.verdicts]
        for experiment, finding in findings
    ]
    caption = "intervals over seeds: over all looks together 95 % of them hold the truth"
    # the other columns take 70: in what is left a statement would be a column of single words
    if width < 100:
        rows = [
            Text("\n").join([what, Text(f"  {measured}, expected {expected}: ").append(verdict)])
            for what, measured, expected, verdict in itertools.chain(*lines)
        ]
        return rich.console.Group(*rows, Text(caption, "dim"))
    shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, caption=caption)
    shown.add_column("claim")
    for heading in ("measured", "expected"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("verdict", no_wrap=True)
    for section in lines:
        for cells in section:
            shown.add_row(*cells)
        shown.add_section()
    return shown


def _cells(claim: str, line: Verdict) -> tuple[Text, Text, Text, Text]:
    return (
        Text(f"({claim}) {line.statement} ").append(f"({line.where})", "dim"),
        Text(with_ends(line.estimate)),
        Text(line.expected),
        Text(line.verdict, STYLES[line.verdict]),
    )
