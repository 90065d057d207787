"""Credits count from their first moment to their last, with and without a sweeper."""

import asyncio

import pytest
from tests.credits.calls import capture, expire_due, hold, place, release, settle_due
from tests.credits.clocks import StandingClock
from tests.ledger.bookings import (
    ALICE,
    BOB,
    balance,
    book,
    buy,
    charge,
    give,
    give_lot,
    refund,
    remainders,
)

from tallystick.credits.errors import HoldAlreadySettled
from tallystick.credits.grants import GrantView, grants_of
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, query
from tallystick.ledger import chart
from tallystick.ledger.balances import Balance, net_debits
from tallystick.ledger.errors import InsufficientCredits
from tallystick.ledger.plain import PlainCharge, write_plain
from tallystick.ledger.posting import Posted
from tallystick.ledger.statement import statement

HOUR = 3_600_000


def soon(db: Database, milliseconds: int = HOUR) -> int:
    return db.clock.now_ms() + milliseconds


async def breakage(db: Database) -> int:
    async with db.read() as session:
        return -await net_debits(session, chart.breakage())


async def lines(db: Database, customer_id: int = ALICE) -> list[tuple[str, str, int]]:
    async with db.read() as session:
        found = await statement(session, customer_id, limit=50)
    return [(one.kind, one.memo, one.amount) for one in found]


async def grants(db: Database) -> list[GrantView]:
    async with db.read() as session:
        return await grants_of(session, ALICE, limit=50)


async def test_an_expired_lot_is_spent_by_nobody_and_becomes_breakage(
    db: Database, clock: OffsetClock
) -> None:
    lot_id = await give_lot(db, 10, expires_at_ms=soon(db))
    await give(db, 2)
    clock.advance(3_600)
    assert await place(db, 3) is None
    with pytest.raises(InsufficientCredits, match=r"^0\.000003 credits are needed$"):
        await book(db, charge(3, "too much"))
    await book(db, charge(2, "what is left"))
    assert await balance(db) == Balance(0, 0)
    assert await breakage(db) == 10
    assert await lines(db) == [
        ("charge", "A call", -2),
        ("expiry", "Expired credits", -10),
        ("grant", "Welcome", 2),
        ("grant", "Welcome", 10),
    ]
    async with db.read() as session:
        (booked,) = await query(session, _EXPIRIES)
    now = db.clock.now_ms()
    assert now - 60_000 < booked["posted_at_ms"] == booked["occurred_at_ms"] <= now
    assert (booked["reference"], booked["position"], booked["amount"]) == (
        f"lot:{lot_id}",
        0,
        10,
    )


_EXPIRIES = """
    SELECT reference, occurred_at_ms, posted_at_ms, position, amount
      FROM ledger_transaction JOIN transfer
        ON ledger_transaction_id = ledger_transaction.id
     WHERE kind = 'expiry'"""


async def test_a_balance_is_right_though_nobody_has_booked_the_breakage(
    db: Database, clock: OffsetClock
) -> None:
    await give_lot(db, 10, expires_at_ms=soon(db))
    await give_lot(db, 5, effective_at_ms=soon(db, HOUR // 2))
    assert await balance(db) == Balance(15, 0, deferred=5)
    clock.advance(1_800)
    assert await balance(db) == Balance(15, 0)
    clock.advance(1_800)
    found = await balance(db)
    assert found == Balance(15, 0, expired=10)
    assert found.available == 5


@pytest.mark.parametrize("early", [1, 0])
async def test_the_very_millisecond_decides(
    standing: Database, standing_clock: StandingClock, early: int
) -> None:
    await give_lot(standing, 1, expires_at_ms=standing_clock.now + 100)
    await give_lot(standing, 1, BOB, effective_at_ms=standing_clock.now + 100)
    standing_clock.now += 100 - early
    assert (await balance(standing)).available == early
    assert (await balance(standing, BOB)).available == 1 - early
    assert (await place(standing, 1) is not None) == (early == 1)
    assert (await place(standing, 1, BOB) is not None) == (early == 0)


@pytest.mark.parametrize(
    ("step", "served"), [(-1, False), (0, True), (99, True), (100, False)]
)
async def test_the_very_millisecond_decides_of_what_is_plain(
    standing: Database, standing_clock: StandingClock, step: int, *, served: bool
) -> None:
    """From the first in which its lot counts to the last before it expires."""
    await give(standing, 1, BOB)
    await book(standing, charge(1, "opens the feature's account", BOB))
    await give_lot(standing, 5, expires_at_ms=standing_clock.now + 100)
    standing_clock.now += step
    item = PlainCharge(standing.ids.new(), ALICE, 1, "x", "x")
    assert await write_plain(standing, [item], []) == [4 if served else None]


async def test_credits_count_from_their_time_on_without_a_sweeper(
    db: Database, clock: OffsetClock
) -> None:
    await give_lot(db, 10, effective_at_ms=soon(db))
    assert await place(db, 1) is None
    clock.advance(3_600)
    await book(db, charge(10, "all"))


async def test_lots_burn_by_priority_expiry_origin_and_age(db: Database) -> None:
    await buy(db, 1, 10)
    later = await give_lot(db, 10, expires_at_ms=soon(db, 2 * HOUR))
    sooner = await give_lot(db, 10, expires_at_ms=soon(db))
    gift = await give_lot(db, 10)
    first = await give_lot(db, 10, priority=-1)
    last = await give_lot(db, 10, priority=1, expires_at_ms=soon(db))
    bought = (await grants(db))[-1].id
    emptied = []
    for n in range(6):
        before = await remainders(db)
        await book(db, charge(10, f"charge {n}"))
        emptied += [one for one in before if one not in await remainders(db)]
    assert emptied == [first, sooner, later, gift, bought, last]


async def test_a_hold_keeps_its_credits_though_their_lot_expires(
    db: Database, clock: OffsetClock
) -> None:
    await give_lot(db, 10, expires_at_ms=soon(db))
    whole, part, none = [await hold(db, 3, seconds=7_200) for _ in range(3)]
    clock.advance(3_600)
    await capture(db, whole)
    await capture(db, part, 1)
    await release(db, none)
    assert await balance(db) == Balance(0, 0)
    assert await breakage(db) == 1 + 2 + 3
    assert await place(db, 1) is None


async def test_a_lapsed_hold_over_an_expired_lot_gives_nothing_to_spend(
    db: Database, clock: OffsetClock
) -> None:
    await give_lot(db, 10, expires_at_ms=soon(db))
    hold_id = await hold(db, 10, seconds=5)
    clock.advance(3_600)
    assert await place(db, 1) is None
    with pytest.raises(HoldAlreadySettled):
        await capture(db, hold_id)
    await expire_due(db)
    assert await breakage(db) == 10


async def test_a_hold_over_several_lots_returns_to_each(db: Database) -> None:
    ids = [await give_lot(db, 10) for _ in range(3)]
    await capture(db, await hold(db, 25), 12)
    assert await remainders(db) == {ids[1]: 8, ids[2]: 10}
    await release(db, await hold(db, 18))
    assert await remainders(db) == {ids[1]: 8, ids[2]: 10}


@pytest.mark.parametrize("first", ["forward", "back"])
async def test_a_clock_that_jumps_makes_nothing_spendable_twice(
    db: Database, clock: OffsetClock, first: str
) -> None:
    await give_lot(db, 10, expires_at_ms=soon(db))
    await give_lot(db, 10, effective_at_ms=soon(db))
    if first == "back":
        clock.advance(-600)
    for jump in (3_600, -3_600, 3_600, -7_200, 10_800):
        await place(db, 1, seconds=1)
        clock.advance(jump)
        await expire_due(db)
        await settle_due(db)
    spent = 0
    for n in range(30):
        outcome = await asyncio.gather(
            book(db, charge(1, f"jump {n}")), return_exceptions=True
        )
        spent += isinstance(outcome[0], Posted)
    assert spent + await breakage(db) == 20
    assert spent == 10


async def test_the_sweeper_books_breakage_batch_by_batch(
    db: Database, clock: OffsetClock
) -> None:
    for customer in range(1, 8):
        await give_lot(db, customer, customer, expires_at_ms=soon(db, HOUR + customer))
        await give(db, 1, customer)
    await give_lot(db, 1, 99, expires_at_ms=soon(db, 10 * HOUR))
    clock.advance(3_601)
    assert [await settle_due(db, limit=3) for _ in range(4)] == [3, 3, 1, 0]
    assert await breakage(db) == 28
    assert (await balance(db, 7)).posted == 1


async def test_the_sweeper_begins_with_whoever_is_due_longest(
    standing: Database, standing_clock: StandingClock
) -> None:
    due = standing_clock.now + 100
    # Bob's account is the older one, and must not come first for that.
    await give_lot(standing, 1, BOB, expires_at_ms=due)
    await give_lot(standing, 1, ALICE, expires_at_ms=due + 1)
    standing_clock.now = due - 1
    assert await settle_due(standing) == 0
    standing_clock.now = due
    assert await settle_due(standing) == 1, "in the very millisecond"
    assert (await balance(standing, BOB)).posted == 0
    await give_lot(standing, 1, BOB, expires_at_ms=due + 2)
    standing_clock.now = due + 2
    assert await settle_due(standing, limit=1) == 1
    assert (await balance(standing, ALICE)).posted == 0
    assert (await balance(standing, BOB)).posted == 1


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_sweepers_leave_aside_whom_somebody_else_is_changing(
    db: Database, clock: OffsetClock
) -> None:
    """To wait for one customer would keep all the others waiting, too."""
    for customer in (ALICE, BOB):
        await give_lot(db, 10, customer, expires_at_ms=soon(db))
        await hold(db, 3, customer, seconds=5)
    clock.advance(3_600)
    async with db.writer.connect() as connection, connection.begin():
        await connection.exec_driver_sql(
            f"SELECT 1 FROM hold WHERE customer_id = {ALICE} FOR UPDATE"
        )
        await connection.exec_driver_sql(
            f"SELECT 1 FROM account_balance WHERE customer_id = {ALICE} FOR UPDATE"
        )
        assert await settle_due(db) == 1
        assert await expire_due(db) == 1
    assert (await balance(db, BOB)).posted == 0
    assert await expire_due(db) == 1
    assert (await balance(db, ALICE)).posted == 0


async def test_many_at_once_book_breakage_once_and_overdraw_nothing(
    db: Database, clock: OffsetClock
) -> None:
    await give_lot(db, 50, expires_at_ms=soon(db))
    await give(db, 20)
    clock.advance(3_600)
    outcomes = await asyncio.gather(
        *[book(db, charge(1, f"charge {n}")) for n in range(30)],
        *[place(db, 1) for _ in range(10)],
        *[settle_due(db) for _ in range(5)],
        return_exceptions=True,
    )
    spent = sum(isinstance(one, Posted) for one in outcomes)
    held = (await balance(db)).held
    assert spent + held == 20
    assert await breakage(db) == 50


async def test_a_grant_shows_what_is_left_of_it(
    db: Database, clock: OffsetClock
) -> None:
    ends = soon(db)
    await give_lot(db, 10, expires_at_ms=ends)
    await book(db, charge(3, "a"))
    await hold(db, 2)
    (one,) = await grants(db)
    assert (one.amount, one.remaining, one.expires_at_ms) == (10, 5, ends)
    clock.advance(3_600)
    assert (await grants(db))[0].remaining == 0


async def test_a_refund_to_an_expired_lot_is_breakage_at_once(
    db: Database, clock: OffsetClock
) -> None:
    await give_lot(db, 10, expires_at_ms=soon(db))
    charged = await book(db, charge(4, "a"))
    clock.advance(3_600)
    await refund(db, charged.ledger_transaction_id)
    assert await balance(db) == Balance(0, 0)
    assert (await lines(db))[:2] == [
        ("expiry", "Expired credits", -4),
        ("reversal", "Refund", 4),
    ]
