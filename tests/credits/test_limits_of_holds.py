"""A hold takes of its limits, and what the call does not use goes back to them."""

import asyncio

import pytest
from tests.credits.calls import (
    capture,
    expire_due,
    extend,
    hold,
    limits_of,
    place,
    release,
    set_limit,
    used,
)
from tests.credits.clocks import StandingClock
from tests.ledger.bookings import ALICE, BOB, balance, give

from tallystick.credits.errors import HoldAlreadySettled, HoldTooSmall, LimitReached
from tallystick.credits.limits import LimitTake
from tallystick.credits.models import LimitPeriod
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, query
from tallystick.ledger.posting import Posted


async def _three(db: Database) -> tuple[int, int, int]:
    """A budget of credits, a number of uses and a quota."""
    return (
        await set_limit(db, 100),
        await set_limit(db, 3, name="uses"),
        await set_limit(db, 1_000, name="quota"),
    )


def _takes(limits: tuple[int, int, int], price: int) -> list[LimitTake]:
    budget, uses, quota = limits
    return [
        LimitTake(quota, 250),
        LimitTake(uses, 1),
        LimitTake(budget, price, in_credits=True),
    ]


async def _used(db: Database) -> list[int]:
    return [one.used for one in await limits_of(db)]


async def test_a_captured_hold_has_used_its_limits(db: Database) -> None:
    await give(db, 100)
    limits = await _three(db)
    hold_id = await hold(db, 40, limits=_takes(limits, 40))
    assert await _used(db) == [40, 1, 250]
    await capture(db, hold_id)
    assert await _used(db) == [40, 1, 250]


async def test_what_a_capture_leaves_of_the_credits_goes_back(db: Database) -> None:
    await give(db, 100)
    limits = await _three(db)
    hold_id = await hold(db, 40, limits=_takes(limits, 40))
    await capture(db, hold_id, 15)
    assert await _used(db) == [15, 1, 250], "a use stays used"


async def test_never_more_goes_back_than_was_taken(db: Database) -> None:
    """A budget that bears only a part of the price."""
    await give(db, 100)
    budget = await set_limit(db, 100)
    await hold(db, 1, limits=[LimitTake(budget, 9, in_credits=True)])
    some = await hold(db, 40, limits=[LimitTake(budget, 5, in_credits=True)])
    await capture(db, some, 10)
    assert await used(db, budget) == 9


async def test_a_released_hold_gives_everything_back_once(db: Database) -> None:
    await give(db, 100)
    limits = await _three(db)
    kept = await hold(db, 20, limits=_takes(limits, 20))
    hold_id = await hold(db, 40, limits=_takes(limits, 40))
    await release(db, hold_id)
    assert await _used(db) == [20, 1, 250]
    with pytest.raises(HoldAlreadySettled):
        await release(db, hold_id)
    with pytest.raises(HoldAlreadySettled):
        await capture(db, hold_id)
    assert await _used(db) == [20, 1, 250]
    await capture(db, kept)


async def test_expired_holds_give_everything_back(
    db: Database, clock: OffsetClock
) -> None:
    await give(db, 100)
    await give(db, 100, BOB)
    limits = await _three(db)
    for customer_id in (ALICE, BOB):
        await hold(db, 20, customer_id, seconds=5, limits=_takes(limits, 20))
    living = await hold(db, 30, seconds=5, limits=_takes(limits, 30))
    await extend(db, living, 600)
    clock.advance(5)
    assert await expire_due(db) == 2
    assert await _used(db) == [30, 1, 250]


async def test_a_refused_capture_changes_no_limit(db: Database) -> None:
    await give(db, 100)
    limits = await _three(db)
    hold_id = await hold(db, 40, limits=_takes(limits, 40))
    with pytest.raises(HoldTooSmall):
        await capture(db, hold_id, 41)
    assert await _used(db) == [40, 1, 250]
    await release(db, hold_id)


async def test_a_reached_limit_sets_no_credits_aside(db: Database) -> None:
    await give(db, 100)
    limits = await _three(db)
    for _ in range(3):
        await hold(db, 10, limits=_takes(limits, 10))
    with pytest.raises(LimitReached) as refused:
        await place(db, 10, limits=_takes(limits, 10))
    assert refused.value.members["limit"] == "uses"
    assert await _used(db) == [30, 3, 750]
    assert (await balance(db)).held == 30
    async with db.read() as session:
        assert len(await query(session, "SELECT id FROM hold")) == 3


async def test_who_is_short_takes_nothing_of_his_limits(db: Database) -> None:
    await give(db, 9)
    limits = await _three(db)
    assert await place(db, 10, limits=_takes(limits, 10)) is None
    assert await _used(db) == [0, 0, 0]


async def test_a_hold_of_no_limit_remembers_none(db: Database) -> None:
    await give(db, 9)
    free = LimitTake(await set_limit(db, 0), 0)
    hold_id = await hold(db, 4, limits=[free])
    async with db.read() as session:
        (row,) = await query(session, "SELECT limits FROM hold")
    assert row["limits"] is None
    await capture(db, hold_id, 1)


async def test_what_a_lapsed_hold_took_stops_nobody_without_a_sweeper(
    db: Database, clock: OffsetClock
) -> None:
    await give(db, 100)
    limits = await _three(db)
    for _ in range(3):
        await hold(db, 10, seconds=5, limits=_takes(limits, 10))
    clock.advance(5)
    await hold(db, 10, limits=_takes(limits, 10))
    assert await _used(db) == [10, 1, 250]
    assert (await balance(db)).held == 10


async def test_who_reaches_a_limit_closes_his_own_lapsed_holds_and_nobody_elses(
    db: Database, clock: OffsetClock
) -> None:
    await give(db, 100)
    await give(db, 100, BOB)
    uses = [LimitTake(await set_limit(db, 1), 1)]
    await hold(db, 10, seconds=5, limits=uses)
    await hold(db, 10, BOB, seconds=5)
    clock.advance(5)
    await hold(db, 10, limits=uses)
    async with db.read() as session:
        found = await query(session, "SELECT state FROM hold ORDER BY id")
    assert [row["state"] for row in found] == ["expired", "open", "open"]
    assert (await balance(db, BOB)).held == 10


async def test_a_hold_that_outlives_its_window_gives_nothing_to_the_next(
    standing: Database, standing_clock: StandingClock
) -> None:
    await give(standing, 100)
    budget = await set_limit(standing, 50, LimitPeriod.HOUR)
    take = LimitTake(budget, 30, in_credits=True)
    released = await hold(standing, 30, seconds=9_000, limits=[take])
    standing_clock.now += 3_600_000
    part = await hold(standing, 30, seconds=9_000, limits=[take])
    await release(standing, released)
    assert await used(standing, budget) == 30
    await capture(standing, part, 10)
    assert await used(standing, budget) == 10


async def test_a_hold_whose_limit_was_removed_is_settled_as_any(db: Database) -> None:
    await give(db, 100)
    limits = await _three(db)
    held = [await hold(db, 10, limits=_takes(limits, 10)) for _ in range(2)]
    async with db.writer.begin() as connection:
        await connection.exec_driver_sql("DELETE FROM spend_limit")
    await capture(db, held[0], 4)
    await release(db, held[1])
    assert (await balance(db)).posted == 96


async def test_a_hold_that_is_settled_in_parallel_gives_back_once(db: Database) -> None:
    await give(db, 100)
    limits = await _three(db)
    kept = await hold(db, 20, limits=_takes(limits, 20))
    hold_id = await hold(db, 40, limits=_takes(limits, 40))
    outcomes = await asyncio.gather(
        *[capture(db, hold_id, 15) for _ in range(8)],
        *[release(db, hold_id) for _ in range(8)],
        return_exceptions=True,
    )
    captured = any(isinstance(one, Posted) for one in outcomes)
    assert await _used(db) == ([35, 2, 500] if captured else [20, 1, 250])
    await release(db, kept)
