"""The study's report: a page that opens from disk, its figures as PNG, its numbers as JSON."""

import base64
import functools
import itertools
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Template
from matplotlib.figure import Figure

from decoupled_wd.study.claims.drawings import Drawing, joined
from decoupled_wd.study.claims.verdicts import (
    FAILS,
    HOLDS,
    MISSING,
    SAME,
    UNDECIDED,
    Finding,
    Verdict,
    expected_wrong,
)
from decoupled_wd.study.experiment import Experiment
from decoupled_wd.study.figures.draw import draw
from decoupled_wd.study.profiles import CLAIMS
from decoupled_wd.study.report.intervals import REACH, bar
from decoupled_wd.study.report.machine import machine
from decoupled_wd.study.report.pictures import Picture, picture
from decoupled_wd.study.report.pieces import (
    duration,
    environment,
    markdown_table,
    replace_whole,
    strict_json,
    with_ends,
)

PACKAGES = ("decoupled-wd", "jax", "jaxlib", "optax", "flax", "numpy", "scipy", "xarray")
PAGES = ("claims.json", "claims.md", "table.json", "report.html")
SIGNS = {HOLDS: "✓", FAILS: "✗", SAME: "=", UNDECIDED: "?", MISSING: "–"}
"""Each verdict is told by its words, its sign and its colour."""


def write(
    out: Path,
    *,
    findings: Sequence[tuple[Experiment, Finding]],
    table: Sequence[Mapping[str, Any]],
    configuration: Mapping[str, object],
    command: str,
    seconds: float,
) -> None:
    """Writes the report into a folder: page, tables and figures.

    The files are ``report.html``, ``claims.json`` and ``.md``, ``table.json``, and a PNG of every
    figure.

    The page is whole in itself: it loads nothing and needs no script. The JSON is strict, null for
    NaN.

    Args:
        out: the folder; made if it is not there.
        findings: what each experiment found; the page shows them claim by claim.
        table: records of the grids, all with the same keys.
        configuration: the profile and the options by name.
        command: what the user typed.
        seconds: how long all of it took.

    Raises:
        ValueError: an experiment's claim is not in `profiles.CLAIMS`, or there is no verdict.
        OSError: the folder cannot be written; what stood in it is kept.
    """
    # refused before anything is written, since what stands there is kept
    if unknown := {experiment.claim for experiment, _ in findings} - set(CLAIMS):
        raise ValueError(f"findings has the claims {sorted(unknown)}; known are {list(CLAIMS)}")
    verdicts = [(each.claim, verdict) for each, found in findings for verdict in found.verdicts]
    if not verdicts:
        raise ValueError("findings has no verdict; what an empty report would replace is kept")
    pictures = _pictures(findings)
    page = _template().render(
        summary=summary(verdict for _, verdict in verdicts),
        wrong=expected_wrong([verdict for _, verdict in verdicts]),
        claims=list(_claims(findings, pictures)),
        table=table,
        configuration=configuration,
        experiments=[(each, _sizes(each), found.seconds) for each, found in findings],
        versions={name: version(name) for name in PACKAGES} | {"Python": platform.python_version()},
        machine=machine(),
        command=command,
        duration=duration(seconds),
    )
    pages = (
        strict_json([{"claim": claim} | v.record() for claim, v in verdicts]),
        markdown(verdicts).encode(),
        strict_json(table),
        page.encode(),
    )
    images = {each.file: base64.b64decode(each.data) for each in itertools.chain(*pictures)}
    replace_whole(out, images | dict(zip(PAGES, pages, strict=True)))


def summary(verdicts: Iterable[Verdict]) -> str:
    """Tells how many statements hold, do not hold, or are open.

    Examples:
        >>> from decoupled_wd.study.statistics import Estimate
        >>> slope = Verdict("λ* falls", "mnist1d", "slope", Estimate(-0.7, -0.9, -0.5), "<", 0.0)
        >>> summary([slope, slope])
        '2 statements: 2 hold'
    """
    counted = counts(verdicts)
    total = sum(count for _, count, _ in counted)
    parts = (f"{count} {words}" for _, count, words in counted if count)
    return f"{total} statement{'s' * (total != 1)}: {', '.join(parts)}"


def counts(verdicts: Iterable[Verdict]) -> list[tuple[str, int, str]]:
    """Counts each kind of verdict, with its words for that many."""
    count = Counter(verdict.verdict for verdict in verdicts)
    plural = {HOLDS: "hold", FAILS: "do not hold", SAME: f"make {SAME}"}
    single = {SAME: f"makes {SAME}"}
    words = {v: (single if count[v] == 1 else plural).get(v, v) for v in SIGNS}
    return [(v, count[v], words[v]) for v in SIGNS]


def markdown(verdicts: Iterable[tuple[str, Verdict]]) -> str:
    """Writes the table of verdicts for pages in Markdown.

    Examples:
        >>> from decoupled_wd.study.statistics import Estimate
        >>> slope = Verdict("λ* falls", "mnist1d", "slope", Estimate(-0.7, -0.9, -0.5), "<", 0.0)
        >>> print(markdown([("ii", slope)]).splitlines()[-1])
        | ii | λ* falls | mnist1d | slope | −0.70 [−0.90, −0.50] | 1 | < 0 | ✓ holds |
    """
    head = ("claim", "statement", "where", "statistic", "measured", "seeds", "expected", "verdict")
    rows = (
        (
            claim,
            *line[:3],
            with_ends(line.estimate),
            str(line.estimate.seeds),
            line.expected,
            f"{SIGNS[line.verdict]} {line.verdict}",
        )
        for claim, line in verdicts
    )
    return markdown_table(head, rows)


def _claims(
    findings: Sequence[tuple[Experiment, Finding]], pictures: list[list[Picture]]
) -> Iterable[tuple[str, str, list[Verdict], list[Picture]]]:
    for claim, title in CLAIMS.items():
        mine = [i for i, (each, _) in enumerate(findings) if each.claim == claim]
        if mine:
            verdicts = itertools.chain(*(findings[i][1].verdicts for i in mine))
            yield claim, title, list(verdicts), list(itertools.chain(*(pictures[i] for i in mine)))


def _pictures(findings: Sequence[tuple[Experiment, Finding]]) -> list[list[Picture]]:
    taken = Counter[str]()

    def named(name: str, figure: Figure) -> Picture:
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        # two figures may differ in signs alone, which no file name keeps
        taken[slug] += 1
        file = f"{slug}.png" if taken[slug] == 1 else f"{slug}-{taken[slug]}.png"
        return picture(name, figure, file)

    return [
        [named(name, draw(drawing)) for name, drawing in mine.items()]
        for mine in _joined([found.drawings for _, found in findings])
    ]


def _joined(drawings: Sequence[Mapping[str, Drawing]]) -> list[dict[str, Drawing]]:
    """Puts what several experiments drew under one name into the drawing of the first."""
    kept, first = [dict(mine) for mine in drawings], dict[str, int]()
    for number, mine in enumerate(kept):
        for name, drawing in list(mine.items()):
            place = first.setdefault(name, number)
            if place != number and (both := joined(kept[place][name], drawing)):
                kept[place][name] = both
                del mine[name]
    return kept


def _sizes(experiment: Experiment) -> str:
    """Lists the sizes of an experiment: the fields of its design."""
    sizes = vars(experiment.design)
    return ", ".join(
        f"{name.replace('_', ' ')} {_plain(value)}"
        for name, value in sizes.items()
        if value is not None
    )


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return " and ".join(f"{name}: {_plain(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return " + ".join(map(_plain, value))
    return str(getattr(value, "__name__", value)).strip("_").replace("_", " ")


@functools.cache
def _template() -> Template:
    made = environment()
    made.filters |= {"counts": counts, "bar": bar}
    made.globals |= {"REACH": REACH, "SIGNS": SIGNS}
    return made.get_template("page.html.jinja")
