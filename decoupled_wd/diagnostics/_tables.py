"""Reports as tables: aligned text, and HTML for notebooks."""

import html
from collections.abc import Iterable, Sequence

Cells = Sequence[str]


def as_text(header: Cells, rows: Iterable[Cells], remarks: Iterable[str]) -> str:
    """Aligned columns, complete however many rows, and the remarks below."""
    table = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in table]
    return "\n".join([*lines, *remarks])


def as_html(header: Cells, rows: Iterable[Cells], remarks: Iterable[str]) -> str:
    """The same as a table; the text is escaped, as paths and patterns may hold any character."""
    head, body = _html_rows([header], "th"), _html_rows(rows, "td")
    below = "".join(f"<p>{html.escape(remark)}</p>" for remark in remarks)
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>{below}"


def as_number(value: float) -> str:
    """Four digits, and a sign for infinity."""
    return f"{value:.4g}".replace("inf", "∞")


def _html_rows(rows: Iterable[Cells], tag: str) -> str:
    lines = ("".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) for row in rows)
    return "".join(f"<tr>{line}</tr>" for line in lines)
