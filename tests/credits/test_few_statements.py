"""A charge is a handful of statements; a promise, so that nobody adds one unseen."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event
from tests.credits.calls import capture, hold, place, release, set_limit, take
from tests.ledger.bookings import balance, book, charge, give

from tallystick.credits.limits import LimitTake
from tallystick.kernel.db import Database


@contextmanager
def _counted(db: Database) -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_c: object, _u: object, statement: str, *_rest: object) -> None:
        if not statement.startswith("BEGIN"):
            statements.append(statement)

    engine = db.writer.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine, "before_cursor_execute", note)


async def _warm(db: Database) -> None:
    await give(db, 100)
    await book(db, charge(1, "opens the accounts"))
    await capture(db, await hold(db, 1))


async def test_a_charge_takes_five_statements(db: Database) -> None:
    """Its key, its accounts, their lots; the balance, the transfer."""
    await _warm(db)
    with _counted(db) as statements:
        await book(db, charge(1, "a"))
    assert len(statements) <= 5, statements


async def test_a_replayed_charge_takes_two_statements(db: Database) -> None:
    await _warm(db)
    await book(db, charge(1, "a"))
    with _counted(db) as statements:
        await book(db, charge(1, "a"))
    assert len(statements) <= 2, statements


async def test_a_hold_takes_three_statements(db: Database) -> None:
    """The lots, the balance, the hold."""
    await _warm(db)
    with _counted(db) as statements:
        await hold(db, 1)
    assert len(statements) <= 3, statements


async def test_a_capture_takes_six_statements(db: Database) -> None:
    """The hold, and a charge's without the lot: it was drawn with the hold."""
    await _warm(db)
    hold_id = await hold(db, 1)
    with _counted(db) as statements:
        await capture(db, hold_id)
    assert len(statements) <= 6, statements


async def test_a_release_takes_three_statements(db: Database) -> None:
    """The hold, the lots, the balance."""
    await _warm(db)
    hold_id = await hold(db, 1)
    with _counted(db) as statements:
        await release(db, hold_id)
    assert len(statements) <= 3, statements


async def test_a_shortage_takes_four_statements(db: Database) -> None:
    """The attempt, the lapsed holds, the second attempt under a lock."""
    await _warm(db)
    with _counted(db) as statements:
        assert await place(db, 1_000) is None
    assert len(statements) <= 4, statements
    assert (await balance(db)).held == 0


async def test_each_limit_takes_one_statement(db: Database) -> None:
    """To take from it; all that goes back goes in one together."""
    several = [await set_limit(db, 100, name=f"limit {n}") for n in range(3)]
    with _counted(db) as statements:
        await take(db, *[(one, 1) for one in several])
    assert len(statements) == 3, statements
    await _warm(db)
    hold_id = await hold(db, 1, limits=[LimitTake(one, 1) for one in several])
    with _counted(db) as statements:
        await release(db, hold_id)
    assert len(statements) <= 5, statements
