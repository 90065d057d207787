"""A customer's statement as a file, oldest line first."""

from collections.abc import AsyncIterator

from tallystick.exports.files import Export, Page, Period, Row
from tallystick.kernel.clock import rfc3339
from tallystick.kernel.db import Database
from tallystick.ledger.statement import (
    StatementLine,
    Written,
    line_document,
    lines_between,
    written,
)

AT_ONCE = 500
"""Lines that are read in one short transaction."""
_COLUMNS = (
    "id",
    "type",
    "description",
    "credits",
    "balance_after",
    "posted_at",
    "posted_at_ms",
)


async def export_statement(db: Database, customer_id: int, period: Period) -> Export:
    """The lines that are booked by now; what is booked while it is written is not in.

    No transaction is held between two pages, so a slow reader keeps nobody waiting.
    """
    async with db.read() as session:
        found = await written(session, customer_id)
    so_far = found or Written(0, 0)
    return Export(_COLUMNS, so_far.version, _pages(db, so_far, period))


async def _pages(db: Database, so_far: Written, period: Period) -> AsyncIterator[Page]:
    for first in range(1, so_far.version + 1, AT_ONCE):
        last = min(first + AT_ONCE - 1, so_far.version)
        async with db.read() as session:
            lines = await lines_between(session, so_far.account_id, first, last)
        # Versions are in order; times are not where a clock stepped back.
        rows = [_row(one) for one in lines if period.has(one.posted_at_ms)]
        yield Page(rows, last - first + 1)


def _row(one: StatementLine) -> Row:
    return {**line_document(one), "posted_at": rfc3339(one.posted_at_ms)}
