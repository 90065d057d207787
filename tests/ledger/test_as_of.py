"""A customer's balance can be told for any time that has passed."""

import itertools

import pytest
from sqlalchemy import event
from tests.credits.clocks import StandingClock
from tests.ledger.bookings import ALICE, BOB, balance, book, charge, give

from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, open_database
from tallystick.ledger.balances import balance_at


async def _at(db: Database, at_ms: int, customer_id: int = ALICE) -> int:
    async with db.read() as session:
        return await balance_at(session, customer_id, at_ms)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9])
async def test_each_time_has_the_balance_of_the_line_before_it(
    db: Database, clock: OffsetClock, count: int
) -> None:
    start = db.clock.now_ms()
    await give(db, 100, BOB)
    marks = []
    for n in range(count):
        clock.advance(10)
        await (book(db, charge(n, f"charge {n}")) if n % 3 else give(db, 10))
        marks.append((db.clock.now_ms(), (await balance(db)).posted))
    assert await _at(db, start) == 0
    for at_ms, expected in marks:
        assert await _at(db, at_ms) == expected
        assert await _at(db, at_ms + 5_000) == expected
    for (_, before), (at_ms, _) in itertools.pairwise(marks):
        assert await _at(db, at_ms - 5_000) == before


async def test_a_line_counts_from_the_very_millisecond_in_which_it_was_booked(
    db: Database, database_url: str
) -> None:
    clock = StandingClock()
    standing = open_database(database_url, clock)
    await give(standing, 10)
    await standing.close()
    assert await _at(db, clock.now - 1) == 0
    assert await _at(db, clock.now) == 10


async def test_nobody_s_balance_is_nothing_at_any_time(db: Database) -> None:
    assert await _at(db, 1 << 62) == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_long_history_is_not_read_through(db: Database) -> None:
    for _ in range(100):
        await give(db, 1)
    statements: list[str] = []

    def note(_c: object, _u: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    event.listen(db.reader.sync_engine, "before_cursor_execute", note)
    assert await _at(db, 1 << 62) == 100
    event.remove(db.reader.sync_engine, "before_cursor_execute", note)
    assert len(statements) <= 2 + 7
