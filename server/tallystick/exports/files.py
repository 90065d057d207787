"""Rows as CSV or JSON Lines, page by page, so that no file is ever held in memory."""

import csv
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from tallystick.exports.errors import InvalidPeriod
from tallystick.kernel import json
from tallystick.kernel.clock import ms_of

Cell = str | int | Decimal | None
Row = Mapping[str, Cell]
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001  # the wide ones begin a formula, too


class Format(StrEnum):
    """How rows are written."""

    CSV = "csv"
    """RFC 4180, with a header; text that would be a formula is told as text."""
    JSONL = "jsonl"
    """One JSON object a line; amounts are exact numbers."""

    @property
    def media_type(self) -> str:
        if self is Format.CSV:
            return "text/csv; charset=utf-8; header=present"
        return "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Period:
    """What was booked from ``from_ms`` on and before ``to_ms``; None has no bound.

    So the months of a year share no line and miss none. Raises ``InvalidPeriod``.
    """

    from_ms: int | None = None
    to_ms: int | None = None

    def __post_init__(self) -> None:
        if self.from_ms is None or self.to_ms is None:
            return
        if self.from_ms >= self.to_ms:
            raise InvalidPeriod

    def has(self, at_ms: int) -> bool:
        is_begun = self.from_ms is None or at_ms >= self.from_ms
        return is_begun and (self.to_ms is None or at_ms < self.to_ms)


def period(begin: datetime | None, end: datetime | None) -> Period:
    """The period between two times that know their zones."""
    return Period(*(None if at is None else ms_of(at) for at in (begin, end)))


@dataclass(frozen=True, slots=True)
class Page:
    """The rows that are exported, of so many that were looked at."""

    rows: Sequence[Row]
    looked_at: int


@dataclass(frozen=True, slots=True)
class Export:
    """Pages of rows that share their columns; ``total`` is how many to look at."""

    columns: Sequence[str]
    total: int
    pages: AsyncIterator[Page]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the file, with what it stands for."""

    text: bytes
    rows: int
    looked_at: int


async def written_as(file_format: Format, export: Export) -> AsyncIterator[Part]:
    """The file, piece by piece; all of them together are the whole."""
    if file_format is Format.CSV:
        yield Part(_csv([export.columns]), 0, 0)
    async for page in export.pages:
        if file_format is Format.CSV:
            cells = [[_cell(row[name]) for name in export.columns] for row in page.rows]
            text = _csv(cells)
        else:
            text = b"".join(json.dumps(dict(row)) + b"\n" for row in page.rows)
        yield Part(text, len(page.rows), page.looked_at)


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue().encode()


def _cell(value: Cell) -> str:
    """As text; whoever writes a memo must not write what a spreadsheet executes.

    An apostrophe in front makes it text there (OWASP, CSV injection). Numbers are our
    own, so a negative amount stays one.
    """
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return str(value)
