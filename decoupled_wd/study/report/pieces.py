"""What every page is made of: its template, how it writes numbers, and its files on disk."""

import errno
import json
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from decoupled_wd.study.statistics import Estimate


def replace_whole(out: Path, files: Mapping[str, bytes]) -> None:
    """Writes all files, then puts them in the places of the old ones.

    A full disk therefore spoils none of the old ones.
    """
    file = out
    try:
        out.mkdir(parents=True, exist_ok=True)
        # in the same folder, since a file is not renamed across file systems
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


def interval(estimate: Estimate) -> list[str]:
    """Writes value and ends, with two digits after the point.

    Where all of them are small, two significant digits are written instead.

    Examples:
        >>> interval(Estimate(-0.692, -0.85, float("nan")))
        ['−0.69', '−0.85', '–']
        >>> interval(Estimate(0.0123, 0.0119, math.inf))
        ['0.012', '0.012', '∞']
    """
    shown = estimate[:3]
    largest = max((abs(number) for number in shown if math.isfinite(number)), default=0.0)
    spec = ".2f" if largest >= 0.1 else ".2g"
    return [number(value, spec) for value in shown]


def with_ends(estimate: Estimate) -> str:
    """Writes value and ends in one piece.

    Examples:
        >>> with_ends(Estimate(-0.692, -0.85, math.inf))
        '−0.69 [−0.85, ∞]'
    """
    value, low, high = interval(estimate)
    return f"{value} [{low}, {high}]"


def duration(seconds: float) -> str:
    """Writes minutes and seconds.

    Examples:
        >>> duration(171.4), duration(9)
        ('2 min 51 s', '9 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def number(value: float, spec: str = ".3g") -> str:
    """Writes a number with a minus sign, thousands apart, and NaN as a dash.

    Examples:
        >>> number(-0.0123), number(14321.0), number(math.nan), number(-math.inf)
        ('−0.0123', '14,300', '–', '−∞')
    """
    if math.isnan(value):
        return "–"
    written = f"{value:{spec}}".replace("inf", "∞")
    # g writes four digits as 1.43e+04
    if "e+" in written and abs(value) < 1e7:
        written = f"{float(written):,.0f}"
    return written.replace("-", "−")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Writes a table in Markdown.

    Examples:
        >>> print(markdown_table(["of", "size"], [["a slope", "|a|"]]), end="")
        | of | size |
        | --- | --- |
        | a slope | \|a\| |
    """
    lines = [head, ["---"] * len(head), *rows]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def strict_json(value: object) -> bytes:
    """Writes values as strict JSON, with null for NaN and for infinity."""
    text = json.dumps(_strict(value), indent=2, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()


def _strict(value: object) -> object:
    # JSON has neither NaN nor infinity
    if isinstance(value, dict):
        return {name: _strict(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def environment() -> Environment:
    """Makes the environment of the templates, which escapes whatever it writes."""
    made = Environment(
        loader=PackageLoader("decoupled_wd.study.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": number, "interval": interval, "duration": duration}
    return made
