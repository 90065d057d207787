"""What is told to be spendable is what a charge gets, before and after any sweep."""

import pytest
from tests.credits.calls import hold, place, release
from tests.credits.clocks import StandingClock
from tests.ledger.bookings import ALICE, BOB, give, give_lot

from tallystick.credits.spendable import spendable
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database


async def told(db: Database, customer_id: int = ALICE) -> int:
    async with db.read() as session:
        return await spendable(session, customer_id)


async def test_a_lapsed_hold_counts_as_free_and_an_open_one_does_not(
    db: Database, clock: OffsetClock
) -> None:
    await give(db, 10)
    await hold(db, 4, seconds=10)
    kept = await hold(db, 3, seconds=600)
    assert await told(db) == 3
    clock.advance(11)
    assert await told(db) == 7
    assert await place(db, 8) is None
    assert await told(db) == 7, "the same once it is closed"
    assert await place(db, 7) is not None
    assert await told(db) == 0
    await release(db, kept)
    assert await told(db) == 3
    assert await told(db, BOB) == 0


async def test_only_what_the_customer_himself_has_held_returns_to_him(
    db: Database, clock: OffsetClock
) -> None:
    await give(db, 10)
    await give(db, 10, BOB)
    await hold(db, 4, seconds=600)
    await hold(db, 5, BOB, seconds=10)
    clock.advance(11)
    assert await told(db) == 6
    assert await told(db, BOB) == 10


@pytest.mark.parametrize(("early_ms", "left"), [(1, 3), (0, 5)])
async def test_a_hold_lapses_and_a_lot_expires_in_the_very_millisecond(
    standing: Database, standing_clock: StandingClock, early_ms: int, left: int
) -> None:
    end = standing.clock.now_ms() + 10_000
    await give_lot(standing, 4, expires_at_ms=end)
    await give(standing, 5)
    await hold(standing, 6, seconds=10)
    standing_clock.now = end - early_ms
    assert await told(standing) == left


@pytest.mark.parametrize("lot_lives_seconds", [5, 10_000])
async def test_what_returns_to_an_expired_lot_is_nobodys(
    db: Database, clock: OffsetClock, lot_lives_seconds: int
) -> None:
    """The hold has drawn from two lots, of which one may have expired meanwhile."""
    now = db.clock.now_ms()
    await give_lot(db, 4, expires_at_ms=now + lot_lives_seconds * 1000)
    await give(db, 5)
    await hold(db, 6, seconds=10)
    clock.advance(11)
    left = 5 if lot_lives_seconds == 5 else 9
    assert await told(db) == left
    assert await place(db, left + 1) is None
    assert await told(db) == left
    assert await place(db, left) is not None
