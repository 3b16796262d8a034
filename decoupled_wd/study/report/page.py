"""The study's report: a page that opens from disk, its figures as PNG, its numbers as JSON."""

import base64
import errno
import functools
import io
import itertools
import json
import math
import platform
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
from decoupled_wd.study.figures.draw import draw
from decoupled_wd.study.profiles import CLAIMS, Experiment
from decoupled_wd.study.report.intervals import REACH, bar
from decoupled_wd.study.report.machine import machine
from decoupled_wd.study.statistics import Estimate

PACKAGES = ("decoupled-wd", "jax", "jaxlib", "optax", "flax", "numpy", "scipy", "xarray")
PAGES = ("claims.json", "claims.md", "table.json", "report.html")
SIGNS = {HOLDS: "✓", FAILS: "✗", SAME: "=", UNDECIDED: "?", MISSING: "–"}
"""Each verdict is told by its words, its sign and its colour."""


class Tile(NamedTuple):
    """Holds a cell of a heat map: its rectangle, and what it says.

    The rectangle is in pixels from the upper left.
    """

    x: float
    y: float
    width: float
    height: float
    text: str


class Map(NamedTuple):
    """Holds a heat map's title and its cells, highest row first."""

    title: str
    rows: list[list[Tile]]


class Picture(NamedTuple):
    """Holds a figure as the page shows it."""

    name: str
    file: str
    data: str
    """The PNG in base 64."""
    width: float
    height: float
    alt: str
    maps: list[Map]


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
        _json([{"claim": claim} | v.record() for claim, v in verdicts]),
        markdown(verdicts).encode(),
        _json(table),
        page.encode(),
    )
    images = {each.file: base64.b64decode(each.data) for each in itertools.chain(*pictures)}
    _replace_whole(out, images | dict(zip(PAGES, pages, strict=True)))


def _replace_whole(out: Path, files: Mapping[str, bytes]) -> None:
    """Writes all files, then puts them in the places of the old ones.

    So a full disk spoils none.
    """
    file = out
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".report-", dir=out) as folder:
            for name, content in files.items():
                file = out / name
                Path(folder, name).write_bytes(content)
            for name in files:
                file = out / name
                Path(folder, name).replace(file)
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = (
            "finished runs are kept: make room or choose a writable folder and run the same again"
        )
        raise OSError(error.errno or errno.EIO, f"{reason}; {remedy}", str(file)) from error


def summary(verdicts: Iterable[Verdict]) -> str:
    """Tells how many statements hold, do not hold, or are open.

    Examples:
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


def interval(estimate: Estimate) -> list[str]:
    """Writes value and ends, with two digits after the point.

    If all are small, there are two digits that count.

    Examples:
        >>> interval(Estimate(-0.692, -0.85, float("nan")))
        ['−0.69', '−0.85', '–']
        >>> interval(Estimate(0.0123, 0.0119, 0.02))
        ['0.012', '0.012', '0.02']
    """
    shown = estimate[:3]
    largest = max((abs(number) for number in shown if not math.isnan(number)), default=0.0)
    spec = ".2f" if largest >= 0.1 else ".2g"
    return [_number(value, spec) for value in shown]


def duration(seconds: float) -> str:
    """Writes minutes and seconds.

    Examples:
        >>> duration(171.4), duration(9)
        ('2 min 51 s', '9 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def markdown(verdicts: Iterable[tuple[str, Verdict]]) -> str:
    """Writes the table of verdicts for pages in Markdown.

    Examples:
        >>> slope = Verdict("λ* falls", "mnist1d", "slope", Estimate(-0.7, -0.9, -0.5), "<", 0.0)
        >>> print(markdown([("ii", slope)]).splitlines()[-1])
        | ii | λ* falls | mnist1d | slope | −0.70 [−0.90, −0.50] | 1 | < 0 | ✓ holds |
    """
    head = ("claim", "statement", "where", "statistic", "measured", "seeds", "expected", "verdict")
    rows = [head, ("---",) * len(head)]
    for claim, line in verdicts:
        value, low, high = interval(line.estimate)
        found = (
            f"{value} [{low}, {high}]",
            str(line.estimate.seeds),
            line.expected,
            f"{SIGNS[line.verdict]} {line.verdict}",
        )
        words = (word.replace("|", "\\|") for word in line[:3])
        rows.append((claim, *words, *found))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _number(value: float, spec: str = ".3g") -> str:
    return "–" if math.isnan(value) else f"{value:{spec}}".replace("-", "−")


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

    def picture(name: str, figure: Figure) -> Picture:
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        # two figures may differ in signs alone, which no file name keeps
        taken[slug] += 1
        file = f"{slug}.png" if taken[slug] == 1 else f"{slug}-{taken[slug]}.png"
        return _picture(name, figure, file)

    return [
        [picture(name, draw(drawing)) for name, drawing in found.drawings.items()]
        for _, found in findings
    ]


def _picture(name: str, figure: Figure, file: str) -> Picture:
    drawn = io.BytesIO()
    # twice the resolution is sharp on dense screens and on paper
    figure.savefig(drawn, format="png", dpi=2 * figure.dpi)
    data = base64.b64encode(drawn.getvalue()).decode()
    # only heat maps have cells that can be pointed at
    maps = [_map(axis) for axis in figure.axes if axis.images and "format_coord" in vars(axis)]
    return Picture(name, file, data, *figure.bbox.size, _alt(name, figure), maps)


def _map(axis: Axes) -> Map:
    rows, columns = axis.images[0].get_size()
    cells = [[_cell(axis, row, column) for column in range(columns)] for row in range(rows)]
    return Map(axis.get_title().replace("\n", ": "), cells[::-1])


def _cell(axis: Axes, row: int, column: int) -> Tile:
    corners = [(column - 0.5, row - 0.5), (column + 0.5, row + 0.5)]
    (left, bottom), (right, top) = axis.transData.transform(corners)
    # matplotlib measures from the lower left, SVG from the upper left
    upper = axis.get_figure(root=True).bbox.height - top  # type: ignore[union-attr]
    return Tile(left, upper, right - left, top - bottom, axis.format_coord(column, row))


def _alt(name: str, figure: Figure) -> str:
    """Says what is drawn, for those who cannot see it."""
    panels = [
        " ".join(filter(None, [axis.get_title(), f"{axis.get_ylabel()} over {axis.get_xlabel()}"]))
        for axis in figure.axes
        if axis.get_xlabel()
    ]
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return " ".join(f"{name}. {'; '.join(panels)}. Legend: {', '.join(labels)}.".split())


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


def _json(records: Iterable[Mapping[str, Any]]) -> bytes:
    # JSON has neither NaN nor infinity
    strict = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        for record in records
    ]
    text = json.dumps(strict, indent=2, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("decoupled_wd.study.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "interval": interval, "counts": counts, "bar": bar}
    environment.filters |= {"duration": duration}
    environment.globals["REACH"] = REACH
    environment.globals["SIGNS"] = SIGNS
    return environment.get_template("page.html.jinja")
