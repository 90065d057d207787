"""Whoever takes at once, from whichever process: exactly what there is, and no more."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession
from tests.credits.calls import give_back, hold, place, release, set_limit, take, used
from tests.ledger.bookings import ALICE, BOB, balance, give

from tallystick.credits import limits
from tallystick.credits.errors import LimitReached
from tallystick.credits.holds import PlacedHold
from tallystick.credits.limits import LimitTake, Taken
from tallystick.credits.models import LimitPeriod
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, WriteSession, open_database


@pytest.fixture
async def other(
    db: Database, database_url: str, clock: OffsetClock
) -> AsyncIterator[Database]:
    """Another process on the same database."""
    opened = open_database(database_url, clock)
    await opened.start()
    yield opened
    await opened.close()


def _split(outcomes: list[object]) -> tuple[int, int]:
    refused = sum(isinstance(one, LimitReached) for one in outcomes)
    broken = [
        one
        for one in outcomes
        if isinstance(one, BaseException) and not isinstance(one, LimitReached)
    ]
    assert broken == []
    return len(outcomes) - refused, refused


@pytest.mark.parametrize("period", [LimitPeriod.TOTAL, LimitPeriod.MONTH])
async def test_of_many_at_the_last_units_exactly_those_get_through(
    db: Database, other: Database, period: LimitPeriod
) -> None:
    one = await set_limit(db, 10, period)
    await take(db, (one, 3))
    outcomes = await asyncio.gather(
        *[take(some, (one, 1)) for _ in range(20) for some in (db, other)],
        return_exceptions=True,
    )
    assert _split(list(outcomes)) == (7, 33)
    assert await used(db, one) == 10


async def test_a_window_that_ends_for_many_at_once_rolls_over_once(
    db: Database, other: Database, clock: OffsetClock
) -> None:
    one = await set_limit(db, 5, LimitPeriod.DAY)
    await take(db, (one, 5))
    clock.advance(24 * 3600)
    outcomes = await asyncio.gather(
        *[take(some, (one, 1)) for _ in range(8) for some in (db, other)],
        return_exceptions=True,
    )
    assert _split(list(outcomes)) == (5, 11)


async def test_what_is_given_back_meanwhile_is_neither_lost_nor_doubled(
    db: Database, other: Database
) -> None:
    one = await set_limit(db, 8)
    taken = [await take(db, (one, 1)) for _ in range(8)]
    outcomes = await asyncio.gather(
        *[give_back(db, some) for some in taken],
        *[take(other, (one, 1)) for _ in range(16)],
        return_exceptions=True,
    )
    got = sum(isinstance(some, tuple) for some in outcomes)
    assert await used(db, one) == got
    assert got <= 8
    _split(list(outcomes))


async def test_parallel_holds_stay_within_a_limit_that_customers_share(
    db: Database, other: Database
) -> None:
    for customer_id in (ALICE, BOB):
        await give(db, 100, customer_id)
    shared = await set_limit(db, 9)
    takes = [LimitTake(shared, 2, in_credits=True)]
    outcomes = await asyncio.gather(
        *[
            place(some, 2, customer_id, limits=takes)
            for some in (db, other)
            for customer_id in (ALICE, BOB)
            for _ in range(6)
        ],
        return_exceptions=True,
    )
    assert _split(list(outcomes)) == (4, 20)
    assert await used(db, shared) == 8
    placed = [one for one in outcomes if isinstance(one, PlacedHold)]
    await asyncio.gather(*[release(db, one.id) for one in placed])
    assert await used(db, shared) == 0
    assert (await balance(db)).held == (await balance(db, BOB)).held == 0


async def test_takers_who_name_limits_in_opposite_orders_never_deadlock(
    db: Database, other: Database
) -> None:
    """Without ``Database.write``, which would run a deadlock's victim again."""
    several = [await set_limit(db, 1_000, name=f"limit {n}") for n in range(4)]

    async def once(some: Database, order: list[int]) -> None:
        async with _one_try(some) as session:
            await limits.take(session, [LimitTake(one, 1) for one in order])

    orders = _orders(several)
    await asyncio.gather(*[once((db, other)[n % 2], o) for n, o in enumerate(orders)])
    assert [await used(db, one) for one in several] == [40] * 4


async def test_who_gives_back_in_opposite_orders_never_deadlocks_either(
    db: Database, other: Database
) -> None:
    several = [await set_limit(db, 1_000, name=f"limit {n}") for n in range(4)]
    await take(db, *[(one, 40) for one in several])

    async def once(some: Database, order: list[int]) -> None:
        async with _one_try(some) as session:
            taken = [Taken(one, 1, 0, in_credits=False) for one in order]
            await limits.give_back(session, taken)

    orders = _orders(several)
    await asyncio.gather(*[once((db, other)[n % 2], o) for n, o in enumerate(orders)])
    assert [await used(db, one) for one in several] == [0] * 4


def _orders(several: list[int]) -> list[list[int]]:
    dice = random.Random(11)
    return [dice.sample(several, len(several)) for _ in range(40)]


@asynccontextmanager
async def _one_try(db: Database) -> AsyncIterator[WriteSession]:
    info = {"clock": db.clock, "ids": db.ids}
    async with AsyncSession(db.writer, info=info) as session, session.begin():
        yield WriteSession(session)


async def test_a_shortage_in_parallel_finds_what_lapsed_holds_took(
    db: Database, other: Database, clock: OffsetClock
) -> None:
    await give(db, 100)
    uses = await set_limit(db, 6)
    for _ in range(6):
        await hold(db, 1, seconds=5, limits=[LimitTake(uses, 1)])
    clock.advance(5)
    outcomes = await asyncio.gather(
        *[
            place(some, 1, limits=[LimitTake(uses, 1)])
            for some in (db, other)
            for _ in range(2)
        ],
        return_exceptions=True,
    )
    assert _split(list(outcomes)) == (4, 0)
    assert (await used(db, uses), (await balance(db)).held) == (4, 4)
