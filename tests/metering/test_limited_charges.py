"""A charge takes of its limits in its own transaction: both happen or neither."""

import asyncio

import pytest
from tests.credits.calls import hold, limits_of, set_limit, used
from tests.ledger.bookings import ALICE, balance, fresh_key, give

from tallystick.credits.errors import LimitReached, UnknownLimit
from tallystick.credits.limits import LimitTake
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, WriteSession, open_database, query
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.errors import IdempotencyMismatch, InsufficientCredits
from tallystick.metering.charges import Charge, Usage, charge


@pytest.fixture(autouse=True)
async def customer(db: Database) -> None:
    """Who has enough for what his limits refuse."""
    async with db.writer.begin() as connection:
        sql = f"INSERT INTO customer (id, created_at_ms) VALUES ({ALICE}, 0)"
        await connection.exec_driver_sql(sql)
    await give(db, 100)


async def deduct(
    db: Database, price: int, *takes: LimitTake, key: bytes | None = None
) -> Charge:
    cost = MicroCredits(price)
    usage = Usage(ALICE, "ai_analyst", 1_000_000, cost, "test", limits=takes)
    return await db.write(lambda session: charge(session, usage, idempotency_key=key))


async def events(db: Database) -> int:
    async with db.read() as session:
        return len(await query(session, "SELECT id FROM usage_event"))


async def test_a_charge_takes_of_all_its_limits(db: Database) -> None:
    budget, uses = await set_limit(db, 50), await set_limit(db, 3, name="uses")
    await deduct(db, 20, LimitTake(uses, 1), LimitTake(budget, 20, in_credits=True))
    assert [one.used for one in await limits_of(db)] == [20, 1]
    assert (await balance(db)).posted == 80


async def test_a_reached_limit_charges_nothing(db: Database) -> None:
    budget, uses = await set_limit(db, 50), await set_limit(db, 3, name="uses")
    with pytest.raises(LimitReached):
        await deduct(db, 60, LimitTake(budget, 60), LimitTake(uses, 1))
    assert [one.used for one in await limits_of(db)] == [0, 0]
    assert (await balance(db)).posted == 100
    assert await events(db) == 0


async def test_a_swallowed_refusal_leaves_no_charge_behind(db: Database) -> None:
    budget = await set_limit(db, 5)
    cost = MicroCredits(9)
    takes = (LimitTake(budget, 9),)
    usage = Usage(ALICE, "ai_analyst", 1_000_000, cost, "test", takes)

    async def careless(session: WriteSession) -> None:
        with pytest.raises(LimitReached):
            await charge(session, usage, idempotency_key=None)

    with pytest.raises(RuntimeError, match="roll back"):
        await db.write(careless)
    assert (await balance(db)).posted == 100


async def test_a_removed_limit_charges_nothing(db: Database) -> None:
    with pytest.raises(UnknownLimit):
        await deduct(db, 9, LimitTake(12345, 9))
    assert (await balance(db)).posted == 100


async def test_who_is_short_takes_nothing_of_his_limits(db: Database) -> None:
    budget = await set_limit(db, 500)
    with pytest.raises(InsufficientCredits):
        await deduct(db, 101, LimitTake(budget, 101))
    assert await used(db, budget) == 0


async def test_a_replay_takes_nothing_again(db: Database) -> None:
    uses, key = await set_limit(db, 1), fresh_key()
    made = await deduct(db, 9, LimitTake(uses, 1), key=key)
    again = await deduct(db, 9, LimitTake(uses, 1), key=key)
    assert (again.id, again.replayed) == (made.id, True), "though it is reached"
    with pytest.raises(IdempotencyMismatch):
        await deduct(db, 8, LimitTake(uses, 1), key=key)
    assert await used(db, uses) == 1


async def test_parallel_replays_take_once(database_url: str, db: Database) -> None:
    uses, key = await set_limit(db, 10), fresh_key()
    other = open_database(database_url, db.clock)
    await other.start()
    try:
        made = await asyncio.gather(
            *[
                deduct(some, 9, LimitTake(uses, 1), key=key)
                for some in (db, other)
                for _ in range(8)
            ]
        )
    finally:
        await other.close()
    assert len({one.id for one in made}) == 1
    assert await used(db, uses) == 1
    assert (await balance(db)).posted == 91


async def test_free_uses_end(db: Database) -> None:
    uses = await set_limit(db, 3, name="free uses")
    for _ in range(3):
        assert (await deduct(db, 0, LimitTake(uses, 1))).deducted == 0
    with pytest.raises(LimitReached):
        await deduct(db, 0, LimitTake(uses, 1))
    assert (await balance(db)).posted == 100


async def test_a_free_use_under_a_key_that_nobody_keeps_is_refused(
    db: Database,
) -> None:
    """Its replay would be taken for another use."""
    uses = await set_limit(db, 3)
    with pytest.raises(ValueError, match="costs nothing"):
        await deduct(db, 0, LimitTake(uses, 1), key=fresh_key())
    assert await used(db, uses) == 0


async def test_what_a_lapsed_hold_took_pays_for_a_charge(
    db: Database, clock: OffsetClock
) -> None:
    budget = await set_limit(db, 50)
    take = LimitTake(budget, 40, in_credits=True)
    await hold(db, 40, seconds=5, limits=[take])
    with pytest.raises(LimitReached):
        await deduct(db, 40, take)
    clock.advance(5)
    made = await deduct(db, 40, take)
    assert made.balance_after == 60
    assert await used(db, budget) == 40
    assert (await balance(db)).held == 0


async def test_what_a_lapsed_hold_took_is_free_for_a_use_that_costs_nothing(
    db: Database, clock: OffsetClock
) -> None:
    uses = await set_limit(db, 2)
    await hold(db, 10, seconds=5, limits=[LimitTake(uses, 2)])
    clock.advance(5)
    await deduct(db, 0, LimitTake(uses, 2))
    assert await used(db, uses) == 2
    assert (await balance(db)).held == 0


async def test_parallel_charges_stay_within_a_limit(
    database_url: str, db: Database
) -> None:
    budget = await set_limit(db, 30)
    other = open_database(database_url, db.clock)
    await other.start()
    try:
        outcomes = await asyncio.gather(
            *[
                deduct(some, 4, LimitTake(budget, 4, in_credits=True))
                for some in (db, other)
                for _ in range(10)
            ],
            return_exceptions=True,
        )
    finally:
        await other.close()
    charged = [one for one in outcomes if isinstance(one, Charge)]
    refused = [one for one in outcomes if isinstance(one, LimitReached)]
    assert (len(charged), len(refused)) == (7, 13)
    assert await used(db, budget) == 28
    assert (await balance(db)).posted == 72
