"""Credits are set aside, taken or given back, once."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest
from tests.credits.calls import (
    capture,
    expire_due,
    extend,
    hold,
    is_open,
    let_lapse,
    place,
    release,
)
from tests.credits.clocks import StandingClock
from tests.ledger.bookings import ALICE, BOB, balance, book, charge, give

from tallystick.credits import holds
from tallystick.credits.errors import HoldAlreadySettled, HoldTooSmall, UnknownHold
from tallystick.credits.holds import charge_key, hold_behind
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, WriteSession, query
from tallystick.kernel.money import InvalidAmount, MicroCredits
from tallystick.ledger import chart
from tallystick.ledger.balances import net_debits
from tallystick.ledger.errors import InsufficientCredits
from tallystick.ledger.statement import statement

Settle = Callable[[Database, int], Awaitable[object]]


async def _amounts(db: Database) -> tuple[int, int, int]:
    found = await balance(db)
    return found.posted, found.held, found.available


async def _revenue(db: Database) -> int:
    async with db.read() as session:
        return -await net_debits(session, chart.feature_revenue("ai_analyst"))


async def test_a_hold_sets_credits_aside(db: Database) -> None:
    await give(db, 10)
    placed = await place(db, 4)
    assert placed is not None
    assert (placed.customer_id, placed.feature, placed.amount) == (
        ALICE,
        "ai_analyst",
        4,
    )
    assert await _amounts(db) == (10, 4, 6)


async def test_what_is_held_cannot_be_spent_elsewhere(db: Database) -> None:
    await give(db, 10)
    await hold(db, 7)
    assert await place(db, 4) is None
    with pytest.raises(InsufficientCredits):
        await book(db, charge(4, "direct"))
    await book(db, charge(3, "the rest"))
    assert await _amounts(db) == (7, 7, 0)


async def test_a_customer_without_credits_gets_no_hold(db: Database) -> None:
    assert await place(db, 1) is None
    await give(db, 10, BOB)
    assert await place(db, 1) is None


async def test_a_charge_names_the_hold_that_it_captured_and_no_other_charge_does(
    db: Database,
) -> None:
    """The charge of a feature that is called "hold" has a reference that looks alike."""
    await give(db, 10)
    hold_id = await hold(db, 4)
    await capture(db, hold_id)
    await book(db, replace(charge(1, "direct"), reference="hold:12345"))
    await book(db, charge(1, "plain"))
    async with db.read() as session:
        rows = await query(
            session,
            "SELECT reference, idempotency_key FROM ledger_transaction"
            " WHERE kind = 'charge' ORDER BY id",
        )
    behind = [hold_behind(row["reference"], row["idempotency_key"]) for row in rows]
    assert behind == [hold_id, None, None]


def test_the_key_of_a_capture_stays_what_it_was_in_the_first_version() -> None:
    """Else yesterday's charges would not name their holds any more."""
    assert charge_key(7).hex() == "3b4a4c8f160296abe5e3ab7bb6e8cee7"


async def test_a_charge_is_told_in_the_seller_s_words_or_by_the_feature(
    db: Database,
) -> None:
    await give(db, 10)
    for memo in ("", "Twelve words"):
        hold_id = await hold(db, 1)
        await db.write(partial(holds.capture, hold_id=hold_id, memo=memo))
    await capture(db, await hold(db, 1))
    async with db.read() as session:
        lines = await statement(session, ALICE, limit=3)
    assert [one.memo for one in lines] == ["ai_analyst", "Twelve words", "ai_analyst"]


async def test_a_whole_capture_charges_all(db: Database) -> None:
    await give(db, 10)
    posted = await capture(db, await hold(db, 4))
    assert not posted.replayed
    assert await _amounts(db) == (6, 0, 6)
    assert await _revenue(db) == 4


async def test_a_partial_capture_frees_the_rest(db: Database) -> None:
    await give(db, 10)
    await capture(db, await hold(db, 10), 3)
    assert await _amounts(db) == (7, 0, 7)
    assert await _revenue(db) == 3


async def test_a_release_charges_nothing(db: Database) -> None:
    await give(db, 10)
    await release(db, await hold(db, 4))
    assert await _amounts(db) == (10, 0, 10)
    assert await _revenue(db) == 0


async def test_more_than_was_held_is_never_captured(db: Database) -> None:
    await give(db, 10)
    hold_id = await hold(db, 4)
    with pytest.raises(HoldTooSmall, match=r"^0\.000005 credits exceed the 0\.000004"):
        await capture(db, hold_id, 5)
    assert await _amounts(db) == (10, 4, 6)
    await capture(db, hold_id, 4)


@pytest.mark.parametrize("amount", [0, -1])
async def test_a_capture_takes_something(db: Database, amount: int) -> None:
    await give(db, 10)
    hold_id = await hold(db, 4)
    with pytest.raises(InvalidAmount):
        await capture(db, hold_id, amount)
    assert await _amounts(db) == (10, 4, 6)
    await release(db, hold_id)


@pytest.mark.parametrize("amount", [0, -1, 1 << 62])
async def test_a_hold_holds_something(db: Database, amount: int) -> None:
    await give(db, 10)
    with pytest.raises(InvalidAmount):
        await place(db, amount)


@pytest.mark.parametrize("seconds", [0, -1])
async def test_a_hold_lives_for_a_while(db: Database, seconds: int) -> None:
    await give(db, 10)
    with pytest.raises(ValueError, match=r"^a hold must live for a while$"):
        await place(db, 1, seconds=seconds)


@pytest.mark.parametrize(
    ("first", "state"),
    [(capture, "captured"), (release, "released")],
    ids=["captured", "released"],
)
@pytest.mark.parametrize(
    "second",
    [
        capture,
        release,
        lambda db, one: capture(db, one, 1),
        lambda db, one: extend(db, one, 9),
    ],
    ids=["capture", "release", "capture a part", "extend"],
)
async def test_a_second_settlement_is_told_what_the_first_was(
    db: Database, first: Settle, state: str, second: Settle
) -> None:
    await give(db, 10)
    hold_id = await hold(db, 4)
    await first(db, hold_id)
    before = await _amounts(db)
    with pytest.raises(
        HoldAlreadySettled, match=rf"^hld_.* is {state} already"
    ) as refusal:
        await second(db, hold_id)
    assert refusal.value.members == {"state": state}
    assert refusal.value.status == 409
    assert await _amounts(db) == before


@pytest.mark.parametrize(
    "settle", [capture, release, lambda db, one: extend(db, one, 9)]
)
async def test_an_unknown_hold_is_named_so(db: Database, settle: Settle) -> None:
    with pytest.raises(UnknownHold, match="hld_"):
        await settle(db, 12345)


@pytest.mark.parametrize("swept", [True, False], ids=["swept", "not swept"])
@pytest.mark.parametrize(
    "settle",
    [
        capture,
        release,
        lambda db, one: capture(db, one, 99),
        lambda db, one: extend(db, one, 9),
    ],
    ids=["capture", "release", "capture too much", "extend"],
)
async def test_a_lapsed_hold_is_unusable_with_and_without_a_sweeper(
    db: Database, clock: OffsetClock, settle: Settle, *, swept: bool
) -> None:
    await give(db, 10)
    hold_id = await hold(db, 4, seconds=5)
    clock.advance(5)
    if swept:
        assert await expire_due(db) == 1
    with pytest.raises(HoldAlreadySettled) as refusal:
        await settle(db, hold_id)
    assert refusal.value.members == {"state": "expired"}
    assert await _revenue(db) == 0


async def test_a_hold_lapses_in_the_very_millisecond_it_says(
    standing: Database, standing_clock: StandingClock
) -> None:
    await give(standing, 10)
    used, unused = [await hold(standing, 1, seconds=5) for _ in range(2)]
    standing_clock.now += 4_999
    assert await expire_due(standing) == 0
    await capture(standing, used)
    standing_clock.now += 1
    for amount in (None, 99):
        with pytest.raises(HoldAlreadySettled):
            await capture(standing, unused, amount)
    assert await expire_due(standing) == 1


async def test_who_is_short_has_what_lapses_in_this_very_millisecond(
    standing: Database, standing_clock: StandingClock
) -> None:
    await give(standing, 10)
    await hold(standing, 10, seconds=5)
    standing_clock.now += 4_999
    assert await place(standing, 1) is None
    standing_clock.now += 1
    await hold(standing, 10)


async def test_a_hold_lives_until_its_time_is_over(
    db: Database, clock: OffsetClock
) -> None:
    await give(db, 10)
    hold_id = await hold(db, 4, seconds=500)
    clock.advance(490)
    assert await expire_due(db) == 0
    await capture(db, hold_id)


async def test_lapsed_credits_can_be_held_again_without_a_sweeper(
    db: Database, clock: OffsetClock
) -> None:
    await give(db, 10)
    for _ in range(3):
        await hold(db, 10, seconds=5)
        clock.advance(5)
    assert await place(db, 11) is None
    assert await _amounts(db) == (10, 0, 10)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_all_lapsed_holds_of_a_customer_are_freed_however_many_there_are(
    db: Database, clock: OffsetClock
) -> None:
    """More than a sweeper takes at once."""
    many = 501
    await give(db, many)

    async def place_all(session: WriteSession) -> None:
        for _ in range(many):
            await holds.place(session, ALICE, "x", MicroCredits(1), lifetime_seconds=5)

    await db.write(place_all)
    clock.advance(5)
    await hold(db, many)


async def test_a_customer_s_shortage_expires_only_his_own_holds(
    db: Database, clock: OffsetClock
) -> None:
    await let_lapse(db, clock, 10, BOB, ALICE)
    await hold(db, 10, ALICE)
    assert await place(db, 1, ALICE) is None
    assert (await balance(db, BOB)).held == 10
    assert await expire_due(db) == 1


async def test_a_shortage_writes_nothing_and_the_transaction_goes_on(
    db: Database,
) -> None:
    async def work(session: WriteSession) -> bool:
        short = await holds.place(
            session, ALICE, "x", MicroCredits(99), lifetime_seconds=5
        )
        await holds.place(session, ALICE, "x", MicroCredits(3), lifetime_seconds=5)
        return short is None

    await give(db, 10)
    assert await db.write(work)
    assert await _amounts(db) == (10, 3, 7)


async def test_the_sweeper_closes_what_is_due_batch_by_batch(
    db: Database, clock: OffsetClock
) -> None:
    for customer_id in (BOB, ALICE):
        await give(db, 10, customer_id)
        for _ in range(3):
            await hold(db, 2, customer_id, seconds=5)
    await hold(db, 1, ALICE, seconds=600)
    clock.advance(5)
    assert [await expire_due(db, limit=4) for _ in range(3)] == [4, 2, 0]
    assert await _amounts(db) == (10, 1, 9)
    assert (await balance(db, BOB)).held == 0
    async with db.read() as session:
        rows = await query(session, "SELECT state, COUNT(*) AS n FROM hold GROUP BY 1")
    assert {row["state"]: row["n"] for row in rows} == {"expired": 6, "open": 1}


async def test_the_sweeper_can_be_sent_to_one_customer(
    db: Database, clock: OffsetClock
) -> None:
    for customer_id in (ALICE, BOB):
        await give(db, 10, customer_id)
        await hold(db, 2, customer_id, seconds=5)
    clock.advance(5)
    assert await expire_due(db, BOB) == 1
    assert (await balance(db, ALICE)).held == 2


async def test_a_heartbeat_keeps_a_hold_alive(db: Database, clock: OffsetClock) -> None:
    await give(db, 10)
    hold_id = await hold(db, 4, seconds=10)
    for _ in range(3):
        clock.advance(8)
        await extend(db, hold_id, 10)
    assert await expire_due(db) == 0
    await capture(db, hold_id)


async def test_a_heartbeat_counts_from_now_and_to_the_millisecond(
    standing: Database, standing_clock: StandingClock
) -> None:
    await give(standing, 10)
    hold_id = await hold(standing, 4, seconds=10)
    standing_clock.now += 9_000
    await extend(standing, hold_id, 10)
    standing_clock.now += 9_999
    assert await is_open(standing, hold_id)
    standing_clock.now += 1
    assert not await is_open(standing, hold_id)


async def test_only_what_can_still_be_captured_is_open(
    db: Database, clock: OffsetClock
) -> None:
    """Else a call whose hold is gone would be served."""
    await give(db, 10)
    lapsed, captured, other = [await hold(db, 2, seconds=5) for _ in range(3)]
    await capture(db, captured)
    open_ones = [await is_open(db, one) for one in (lapsed, captured, other, 12345)]
    assert open_ones == [True, False, True, False]
    clock.advance(5)
    assert not await is_open(db, lapsed), "though no sweeper came"


async def test_a_late_heartbeat_never_shortens_a_hold(
    db: Database, clock: OffsetClock
) -> None:
    await give(db, 10)
    hold_id = await hold(db, 4, seconds=600)
    await extend(db, hold_id, 1)
    clock.advance(500)
    await capture(db, hold_id)


async def test_a_clock_that_steps_back_settles_no_hold_twice(
    db: Database, clock: OffsetClock
) -> None:
    await give(db, 10)
    hold_id = await hold(db, 4, seconds=5)
    clock.advance(600)
    assert await expire_due(db) == 1
    clock.advance(-600)
    with pytest.raises(HoldAlreadySettled):
        await capture(db, hold_id)
    assert await _amounts(db) == (10, 0, 10)


async def test_a_refused_capture_leaves_the_transaction_usable(db: Database) -> None:
    async def work(session: WriteSession) -> None:
        with pytest.raises(HoldTooSmall):
            await holds.capture(session, hold_id, MicroCredits(99))
        await holds.release(session, hold_id)

    await give(db, 10)
    hold_id = await hold(db, 4)
    await db.write(work)
    assert await _amounts(db) == (10, 0, 10)
