"""Reports as tables: aligned text, and HTML for notebooks."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

Cells = Sequence[str]
Line = TypeVar("Line")


@dataclass(frozen=True, repr=False)
class Table(Generic[Line]):
    """Rows that print as a table, and show as one in notebooks.

    A report names its columns in ``header``, and says how a row is written and what stands below.
    """

    rows: tuple[Line, ...]

    header: ClassVar[Cells]

    def __repr__(self) -> str:
        """Aligned columns, complete however many rows, with remarks below."""
        table = [self.header, *self._lines()]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in table]
        return "\n".join([*lines, *self._remarks()])

    def _repr_html_(self) -> str:
        head, body = _html_rows([self.header], "th"), _html_rows(self._lines(), "td")
        below = "".join(f"<p>{html.escape(remark)}</p>" for remark in self._remarks())
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>{below}"

    def _lines(self) -> list[Cells]:
        """The rows that are shown, as text."""
        return [self._cells(row) for row in self.rows]

    def _cells(self, row: Line) -> Cells:
        raise NotImplementedError

    def _remarks(self) -> Sequence[str]:
        raise NotImplementedError


def columns(fields: Iterable[str]) -> tuple[str, ...]:
    """The fields of a row as the names of columns."""
    return tuple(field.replace("_", "-") for field in fields)


def as_number(value: float) -> str:
    """Four digits, and a sign for infinity."""
    return f"{value:.4g}".replace("inf", "∞")


def _html_rows(rows: Iterable[Cells], tag: str) -> str:
    # the text is escaped, as paths and patterns may hold any character
    lines = ("".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) for row in rows)
    return "".join(f"<tr>{line}</tr>" for line in lines)
