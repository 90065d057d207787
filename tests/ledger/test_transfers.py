"""The journal is read page by page, and a page may end inside of a transaction."""

import pytest
from tests.ledger.bookings import book, buy, charge, give

from tallystick.kernel.db import Database
from tallystick.ledger.transfers import (
    BEFORE_THE_FIRST,
    Booked,
    count_transfers,
    transfers,
)


async def _pages(db: Database, size: int) -> list[Booked]:
    read: list[Booked] = []
    after = BEFORE_THE_FIRST
    async with db.read() as session:
        while page := await transfers(session, after=after, limit=size):
            assert len(page) <= size
            read += page
            after = page[-1].ledger_transaction_id, page[-1].position
        assert len(read) == await count_transfers(session)
    return read


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_pages_of_every_size_show_each_transfer_once(
    db: Database, size: int
) -> None:
    await buy(db, 5, 50)
    await give(db, 10)
    await book(db, charge(3, "a"))
    whole = await _pages(db, 100)
    assert [(one.kind, one.position, one.amount) for one in whole] == [
        ("topup", 0, 5),
        ("topup", 1, 50),
        ("grant", 0, 10),
        ("charge", 0, 3),
    ]
    assert await _pages(db, size) == whole
