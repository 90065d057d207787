"""Whatever runs at once, nobody spends what he has not, and nothing is lost."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.credits.calls import capture, expire_due, extend, hold, place, release
from tests.ledger.bookings import (
    ALICE,
    BOB,
    balance,
    book,
    charge,
    fresh_key,
    give,
)

from tallystick.credits.errors import HoldAlreadySettled
from tallystick.credits.grants import grant_promotional
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import (
    Database,
    WriteSession,
    now_ms,
    open_database,
    query,
)
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.change import change
from tallystick.ledger.errors import InsufficientCredits
from tallystick.ledger.journal import post
from tallystick.ledger.posting import Posted


@pytest.fixture
async def ahead(db: Database, database_url: str) -> AsyncIterator[Database]:
    """Another process on the same database, whose clock is a minute ahead."""
    other = open_database(database_url, OffsetClock(60_000))
    await other.start()
    yield other
    await other.close()


class Overtaken:
    """A session whose customer is given credits before each of its statements."""

    def __init__(self, session: WriteSession, db: Database) -> None:
        self.session = session
        self.db = db

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    async def connection(self) -> AsyncConnection:
        with contextlib.suppress(TimeoutError):  # once his account is locked
            async with asyncio.timeout(0.5):
                await give(self.db, 5)
        return await self.session.connection()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_an_account_that_is_opened_meanwhile_can_be_changed(
    db: Database,
) -> None:
    async def work(session: WriteSession) -> int:
        overtaken = cast("WriteSession", Overtaken(session, db))
        return await change(
            overtaken,
            [ALICE],
            lambda page: page.accounts[ALICE].balance,
            now=now_ms(session),
            lock=True,
        )

    assert await db.write(work) == 10


async def test_parallel_places_never_exceed_the_credits(db: Database) -> None:
    await give(db, 10)
    placed = await asyncio.gather(*[place(db, 3) for _ in range(64)])
    assert sum(one is not None for one in placed) == 3
    assert (await balance(db)).held == 9


async def test_parallel_places_charges_and_captures_never_overdraw(
    db: Database,
) -> None:
    await give(db, 30)
    held = [await hold(db, 3) for _ in range(3)]
    outcomes = await asyncio.gather(
        *[place(db, 2) for _ in range(10)],
        *[book(db, charge(2, f"charge {n}")) for n in range(10)],
        *[capture(db, one, 1) for one in held],
        return_exceptions=True,
    )
    unexpected = [
        one
        for one in outcomes
        if isinstance(one, BaseException) and not isinstance(one, InsufficientCredits)
    ]
    assert unexpected == []
    found = await balance(db)
    charges = sum(isinstance(one, Posted) for one in outcomes[10:20])
    places = sum(one is not None for one in outcomes[:10])
    assert found.posted == 30 - 2 * charges - 3
    assert found.held == 2 * places
    assert found.available >= 0


async def test_parallel_captures_of_one_hold_charge_once(db: Database) -> None:
    await give(db, 10)
    hold_id = await hold(db, 4)
    outcomes = await asyncio.gather(
        *[capture(db, hold_id) for _ in range(16)],
        *[release(db, hold_id) for _ in range(16)],
        return_exceptions=True,
    )
    winners = [one for one in outcomes if not isinstance(one, HoldAlreadySettled)]
    assert len(winners) == 1
    charged = 4 if isinstance(winners[0], Posted) else 0
    assert (await balance(db)).posted == 10 - charged
    assert (await balance(db)).held == 0


async def test_a_capture_and_an_expiry_at_once_have_one_winner(
    db: Database, ahead: Database
) -> None:
    await give(db, 100)
    held = [await hold(db, 1, seconds=60) for _ in range(40)]
    captures = [capture(db, one) for one in held]
    sweeps = [expire_due(ahead, limit=3) for _ in range(20)]
    mixed = [*captures, *sweeps]
    random.Random(7).shuffle(mixed)
    outcomes = await asyncio.gather(*mixed, return_exceptions=True)
    captured = sum(isinstance(one, Posted) for one in outcomes)
    expired = sum(one for one in outcomes if isinstance(one, int))
    refused = [one for one in outcomes if isinstance(one, HoldAlreadySettled)]
    assert captured + len(refused) == 40
    assert expired == len(refused)
    assert {one.members["state"] for one in refused} <= {"expired"}
    assert (await balance(db)).posted == 100 - captured
    assert (await balance(db)).held == 0


async def test_heartbeats_and_an_expiry_at_once_agree(
    db: Database, ahead: Database
) -> None:
    await give(db, 100)
    held = [await hold(db, 1, seconds=60) for _ in range(20)]
    outcomes = await asyncio.gather(
        *[extend(db, one, 600) for one in held],
        *[expire_due(ahead, limit=2) for _ in range(10)],
        return_exceptions=True,
    )
    expired = sum(one for one in outcomes if isinstance(one, int))
    refused = [one for one in outcomes if isinstance(one, HoldAlreadySettled)]
    assert len(refused) <= expired
    assert (await balance(db)).held == 20 - expired


async def test_parallel_sweepers_close_each_hold_once(
    db: Database, clock: OffsetClock
) -> None:
    for customer_id in (ALICE, BOB):
        await give(db, 20, customer_id)
    for n in range(20):
        await hold(db, 1, (ALICE, BOB)[n % 2], seconds=5)
    clock.advance(5)
    swept = await asyncio.gather(*[expire_due(db, limit=7) for _ in range(8)])
    swept.append(await expire_due(db))
    assert sum(swept) == 20
    assert (await balance(db, ALICE)).held == (await balance(db, BOB)).held == 0


async def test_a_shortage_in_parallel_finds_the_lapsed_credits(
    db: Database, clock: OffsetClock
) -> None:
    """Nobody is told that he is short while his own lapsed hold is being closed."""
    await give(db, 64)
    await hold(db, 64, seconds=5)
    clock.advance(5)
    placed = await asyncio.gather(
        *[place(db, 1) for _ in range(64)], expire_due(db), expire_due(db)
    )
    assert None not in placed
    assert (await balance(db)).held == 64
    async with db.read() as session:
        rows = await query(session, "SELECT id FROM hold WHERE state = 'expired'")
    assert len(rows) == 1


async def _charge_when_short(db: Database, amount: int) -> Posted:
    async def nothing_lapsed(session: WriteSession) -> None:
        """There is nothing to free; but the balance is asked once more."""

    return await db.write(
        lambda session: post(session, charge(amount, "a"), when_short=nothing_lapsed)
    )


@pytest.mark.parametrize("ask", [place, _charge_when_short])
async def test_who_is_short_waits_for_what_is_being_given_just_now(
    db: Database, ask: Callable[[Database, int], Awaitable[object]]
) -> None:
    """Until its giver commits it is seen by nobody who does not ask for the lock."""
    await give(db, 1)
    given, may_commit = asyncio.Event(), asyncio.Event()

    async def slowly(session: WriteSession) -> None:
        await grant_promotional(
            session,
            ALICE,
            MicroCredits(5),
            idempotency_key=fresh_key(),
            reference="gift",
            memo="Welcome",
        )
        given.set()
        await may_commit.wait()

    giver = asyncio.create_task(db.write(slowly))
    await given.wait()
    asking = asyncio.create_task(ask(db, 4))
    await asyncio.sleep(0.3)
    may_commit.set()
    await giver
    assert await asking is not None
    assert (await balance(db)).available == 2
