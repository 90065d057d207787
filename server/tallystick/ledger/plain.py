"""Charges and holds of the plain kind, many at once or one alone, in one write.

Plain is what almost every one is: nobody has asked the same before, and the lot that
burns just now covers it. Then one row of the customer's changes, guarded in the same
statement, and whether it did is the verdict. What is not plain is left alone, wholly:
``journal.post`` books it, or says why not, and ``credits.holds`` places it.

On PostgreSQL a group is one statement (``plain_postgresql``), on SQLite one visit to
the writing thread (``plain_sqlite``). Other rooms let rows of their own be written
``Beside`` each, so that one commit is all there is.
"""

from collections.abc import Sequence

from tallystick.kernel.db import Database
from tallystick.kernel.lane import SqliteLane
from tallystick.ledger.plain_postgresql import write_on_postgresql
from tallystick.ledger.plain_rows import (
    Beside,
    Plain,
    PlainCharge,
    PlainHold,
    Table,
)
from tallystick.ledger.plain_sqlite import write_on_sqlite

__all__ = ["Beside", "Plain", "PlainCharge", "PlainHold", "Table", "write_plain"]


async def write_plain(
    db: Database, items: Sequence[Plain], beside: Sequence[Beside]
) -> list[int | None]:
    """The balance after each in micro-credits; ``None`` for what is not plain.

    Of that nothing is written. One customer is served in the order of the items.
    Raises ``kernel.lane.GroupRefused`` when nothing at all was written, because another
    process was in the way, and the driver's error when nobody knows.
    """
    # A lot that was given while the group waited counts later than this: not plain.
    now = db.clock.now_ms()
    first = _first_of_each(items, beside)
    if len(first) < len(items):
        some = [Beside(one.table, [one.rows[at] for at in first]) for one in beside]
        found = await write_plain(db, [items[at] for at in first], some)
        booked = dict(zip(first, found, strict=True))
        return [booked.get(at) for at in range(len(items))]
    if isinstance(db.lane, SqliteLane):
        return await write_on_sqlite(db.lane, items, beside, now)
    return await write_on_postgresql(db.lane, items, beside, now)


def _first_of_each(items: Sequence[Plain], beside: Sequence[Beside]) -> list[int]:
    """All but those beside which the same would stand as beside an earlier one."""
    seen: set[object] = set()
    again: set[int] = set()
    for one in beside:
        for at, value in one.once_values().items():
            if value in seen:
                again.add(at)
            seen.add(value)
    return [at for at in range(len(items)) if at not in again]
