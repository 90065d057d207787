"""A charge at once takes what the customer has, lapsed holds included."""

import asyncio

import pytest
from tests.credits.calls import expire_due, extend, hold, let_lapse
from tests.ledger.bookings import ALICE, BOB, balance, give

from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, open_database, query
from tallystick.kernel.money import MicroCredits
from tallystick.kernel.seal import digest16
from tallystick.ledger.errors import InsufficientCredits
from tallystick.metering.charges import Charge, Usage, charge


@pytest.fixture(autouse=True)
async def customers(db: Database) -> None:
    """Whose usage is recorded must exist."""
    async with db.writer.begin() as connection:
        for one in (ALICE, BOB):
            sql = f"INSERT INTO customer (id, created_at_ms) VALUES ({one}, 0)"
            await connection.exec_driver_sql(sql)


async def deduct(
    db: Database, amount: int, customer_id: int = ALICE, *, key: bytes | None = None
) -> Charge:
    usage = Usage(customer_id, "ai_analyst", 1_000_000, MicroCredits(amount), "test")
    return await db.write(lambda session: charge(session, usage, idempotency_key=key))


async def states(db: Database) -> list[str]:
    async with db.read() as session:
        rows = await query(session, "SELECT state FROM hold ORDER BY id")
    return [row["state"] for row in rows]


async def test_a_lapsed_hold_makes_nobody_short_without_a_sweeper(
    db: Database, clock: OffsetClock
) -> None:
    await give(db, 10)
    await hold(db, 6, seconds=5)
    await hold(db, 3, seconds=5)
    clock.advance(5)
    key = digest16(b"one call")
    made = await deduct(db, 10, key=key)
    assert (made.deducted, made.balance_after, made.replayed) == (10, 0, False)
    assert await states(db) == ["expired", "expired"]
    again = await deduct(db, 10, key=key)
    assert (again.id, again.balance_after, again.replayed) == (made.id, 0, True)
    assert (await balance(db)).held == 0


async def test_a_lapsed_hold_that_is_in_nobodys_way_is_left_to_the_sweeper(
    db: Database, clock: OffsetClock
) -> None:
    await give(db, 10)
    await hold(db, 4, seconds=5)
    clock.advance(5)
    await deduct(db, 6)
    assert await states(db) == ["open"]
    assert await expire_due(db) == 1


async def test_what_a_living_hold_sets_aside_is_not_charged(
    db: Database, clock: OffsetClock
) -> None:
    await give(db, 10)
    await hold(db, 4, seconds=5)
    kept = await hold(db, 4, seconds=5)
    await extend(db, kept, 500)
    clock.advance(5)
    with pytest.raises(InsufficientCredits):
        await deduct(db, 7)
    assert await states(db) == ["expired", "open"], "refused or not, it is over"
    assert (await balance(db)).posted == 10
    await deduct(db, 6)
    assert (await balance(db)).available == 0


async def test_a_charge_frees_only_its_own_customers_holds(
    db: Database, clock: OffsetClock
) -> None:
    await let_lapse(db, clock, 10, BOB, ALICE)
    await deduct(db, 10, ALICE)
    assert (await balance(db, BOB)).held == 10
    await expire_due(db)


async def test_parallel_charges_share_what_a_lapsed_hold_gives_back(
    database_url: str, db: Database, clock: OffsetClock
) -> None:
    """Several processes and a sweeper at once: no unit is lost and none taken twice."""
    await give(db, 32)
    for _ in range(4):
        await hold(db, 8, seconds=5)
    clock.advance(5)
    other = open_database(database_url, clock)
    await other.start()
    try:
        outcomes = await asyncio.gather(
            *[deduct(one, 1) for _ in range(20) for one in (db, other)],
            expire_due(db),
            return_exceptions=True,
        )
    finally:
        await other.close()
    charged = [one for one in outcomes if isinstance(one, Charge)]
    short = [one for one in outcomes if isinstance(one, InsufficientCredits)]
    assert (len(charged), len(short)) == (32, 8)
    assert (await balance(db)).posted == 0
