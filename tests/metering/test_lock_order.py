"""Who charges or holds never waits in a circle with who closes lapsed holds.

PostgreSQL would notice after its ``deadlock_timeout``, a second, and break one off.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text
from tests.credits.calls import expire_due, hold, place, set_limit, used
from tests.ledger.bookings import ALICE, BOB, balance, fresh_key, give

from tallystick.credits import holds
from tallystick.credits.grants import grant_promotional
from tallystick.credits.limits import LimitTake
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, WriteSession, query
from tallystick.kernel.money import MicroCredits
from tallystick.metering.charges import Usage, charge

pytestmark = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)

_DEADLOCK_TIMEOUT_SECONDS = 1
_WAITING = """
    SELECT pid FROM pg_stat_activity
     WHERE datname = current_database() AND wait_event_type = 'Lock'
       AND query LIKE :some"""
_OTHERS = """
    SELECT pid FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()"""
_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
_BOB_S_BALANCE = f"SELECT 1 FROM account_balance WHERE customer_id = {BOB} FOR UPDATE"


@pytest.fixture
async def limits(db: Database, clock: OffsetClock) -> tuple[int, int]:
    """Uses and a budget. All of the budget, and half of what Alice has, has lapsed."""
    async with db.writer.begin() as connection:
        sql = "INSERT INTO customer (id, created_at_ms) VALUES (:id, 0)"
        await connection.execute(text(sql), [{"id": BOB}, {"id": ALICE}])
    uses, budget = await set_limit(db, 5, name="uses"), await set_limit(db, 10)
    await give(db, 1, BOB)
    await hold(db, 1, BOB, seconds=5)
    await give(db, 21)
    await _charge(db, 1)  # and the feature's account is open
    takes = [LimitTake(uses, 1), LimitTake(budget, 10, in_credits=True)]
    await hold(db, 10, seconds=5, limits=takes)
    clock.advance(5)
    return uses, budget


async def _until(db: Database, sql: str, *, found: bool = True, **values: str) -> None:
    async with asyncio.timeout(10):
        while True:
            async with db.read() as session:
                if bool(await query(session, sql, **values)) == found:
                    return
            await asyncio.sleep(0.01)


async def _until_somebody_waits(db: Database, statement: str) -> None:
    await _until(db, _WAITING, some=f"%{statement}%")


async def _deadlocks(db: Database) -> int:
    # A connection tells the server its figures at the latest when it ends.
    await db.writer.dispose()
    await db.reader.dispose()
    await _until(db, _OTHERS, found=False)
    async with db.read() as session:
        (row,) = await query(session, _DEADLOCKS)
    return int(row["deadlocks"])


@asynccontextmanager
async def _sweeper(db: Database) -> AsyncIterator[None]:
    """Who has locked the lapsed holds, and waits for Bob's balance before Alice's."""
    async with db.writer.connect() as somebody:
        await somebody.execute(text(_BOB_S_BALANCE))
        sweeping = asyncio.create_task(expire_due(db))
        await _until_somebody_waits(db, "FROM account_balance")
        yield
        await somebody.rollback()
        assert await sweeping == 2


async def _beside_a_sweeper(db: Database, doing: Awaitable[object]) -> None:
    async with _sweeper(db):
        task = asyncio.ensure_future(doing)
        await _until_somebody_waits(db, "UPDATE hold")
        began = time.monotonic()
    await task
    took = time.monotonic() - began
    assert await _deadlocks(db) == 0
    assert took < _DEADLOCK_TIMEOUT_SECONDS / 2


async def _charge(db: Database, price: int, *takes: LimitTake) -> None:
    usage = Usage(ALICE, "echo", 1_000_000, MicroCredits(price), "test", takes)
    await db.write(lambda session: charge(session, usage, idempotency_key=None))


async def _place(db: Database, amount: int, *takes: LimitTake) -> None:
    assert await place(db, amount, limits=takes) is not None


Verb = Callable[..., Awaitable[None]]
either = pytest.mark.parametrize("verb", [_charge, _place])


@either
async def test_who_reaches_a_limit_waits_in_no_circle(
    db: Database, limits: tuple[int, int], verb: Verb
) -> None:
    _, budget = limits
    await _beside_a_sweeper(db, verb(db, 6, LimitTake(budget, 6, in_credits=True)))
    assert await used(db, budget) == 6
    assert (await balance(db)).available == 14


@either
async def test_who_is_overtaken_and_then_short_waits_in_no_circle(
    db: Database, limits: tuple[int, int], verb: Verb
) -> None:
    charged, may_commit = asyncio.Event(), asyncio.Event()
    usage = Usage(ALICE, "echo", 1_000_000, MicroCredits(6), "test")

    async def charge_slowly(session: WriteSession) -> None:
        await charge(session, usage, idempotency_key=None)
        charged.set()
        await may_commit.wait()

    async def overtaken() -> None:
        first = asyncio.create_task(db.write(charge_slowly))
        await charged.wait()
        second = asyncio.ensure_future(verb(db, 6))
        await _until_somebody_waits(db, "UPDATE account_balance")
        may_commit.set()
        await asyncio.gather(first, second)

    await _beside_a_sweeper(db, overtaken())
    assert (await balance(db)).available == 8


async def test_a_free_use_that_reaches_its_second_limit_waits_in_no_circle(
    db: Database, limits: tuple[int, int]
) -> None:
    """It has locked the first, to which the sweeper gives back."""
    await _beside_a_sweeper(db, _charge(db, 0, *[LimitTake(one, 1) for one in limits]))
    assert [await used(db, one) for one in limits] == [1, 1]


@pytest.mark.usefixtures("limits")
async def test_who_is_given_too_little_for_his_call_waits_in_no_circle(
    db: Database,
) -> None:
    """As a top-up is: what it buys and the hold of its call are one transaction."""

    async def work(session: WriteSession) -> None:
        await grant_promotional(
            session,
            ALICE,
            MicroCredits(2),
            idempotency_key=fresh_key(),
            reference="gift",
            memo="Welcome",
        )
        assert await holds.place(
            session, ALICE, "echo", MicroCredits(15), lifetime_seconds=60
        )

    await _beside_a_sweeper(db, db.write(work))
    assert (await balance(db)).available == 7
