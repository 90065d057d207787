"""Admissions in a crowd: each has its price set aside, and nobody's twice."""

import asyncio
from collections import Counter
from functools import partial

import pytest

from tallystick.credits import holds
from tallystick.customers.wallets import create_customer
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, query
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.errors import InsufficientCredits
from tallystick.metering.charges import Usage
from tallystick.paywall.admit import admit_alone
from tallystick.paywall.answers import RequestInProgress, idempotency_answer
from tallystick.paywall.deduct import deduct_alone
from tallystick.paywall.plain import (
    Admission,
    Admitted,
    Deducted,
    Deduction,
    Done,
    plain_writes,
)
from tests.ledger.bookings import audit, balance, book, charge, give, give_lot

_LIFETIME = 60
_DAY_MS = 24 * 3600 * 1000


class Door:
    """The door of one process, where calls are admitted and deductions made."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.writes = plain_writes(db)

    async def enter(self, one: Admission | Deduction) -> Done:
        if isinstance(one, Admission):
            alone = partial(self.db.write, partial(admit_alone, one))
            return await self.writes.do(one, alone)
        return await self.writes.do(one, partial(self.alone, one))

    async def alone(self, one: Deduction) -> Deducted:
        return await self.db.write(partial(deduct_alone, one, _LIFETIME))

    async def enter_all(
        self, *crowd: Admission | Deduction
    ) -> list[Done | BaseException]:
        """All at once, so that they are written together."""
        return await asyncio.gather(
            *[self.enter(one) for one in crowd], return_exceptions=True
        )


@pytest.fixture
def door(db: Database) -> Door:
    return Door(db)


@pytest.fixture
async def alice(db: Database) -> int:
    """Somebody who has used the feature, so that its account is open."""
    customer = await db.write(create_customer)
    await give(db, 1, customer)
    await book(db, charge(1, "the first", customer))
    return customer


def usage(customer: int, price: int = 1) -> Usage:
    return Usage(customer, "x", 1_000_000, MicroCredits(price), "v1")


def admission(
    db: Database, customer: int, key: str | None = None, *, price: int = 1
) -> Admission:
    until = db.clock.now_ms() + _DAY_MS
    kept = idempotency_answer(customer, key, "00" * 16, until) if key else None
    return Admission(usage(customer, price), kept, _LIFETIME)


async def test_holds_and_charges_that_come_together_never_overdraw(
    db: Database, door: Door, alice: int
) -> None:
    await give(db, 30, alice)
    crowd = [
        admission(db, alice) if number % 2 else Deduction(usage(alice), None)
        for number in range(64)
    ]
    outcomes = await door.enter_all(*crowd)
    kinds = Counter(type(one) for one in outcomes)
    assert kinds[Admitted] + kinds[Deducted] == 30
    assert kinds[InsufficientCredits] == 34
    funds = await balance(db, alice)
    assert (funds.available, funds.held) == (0, kinds[Admitted])
    assert await audit(db) == []


async def test_a_hold_that_was_placed_in_a_group_is_like_any_other(
    db: Database, door: Door, alice: int
) -> None:
    await give(db, 30, alice)
    (placed,) = await door.enter_all(admission(db, alice, price=7))
    alone = await db.write(partial(admit_alone, admission(db, alice, price=7)))
    assert isinstance(placed, Admitted)
    assert isinstance(alone, Admitted)
    async with db.read() as session:
        rows = await query(session, "SELECT * FROM hold ORDER BY id")
    grouped, single = [dict(row) for row in rows]
    assert grouped.pop("id") == placed.hold_id
    assert single.pop("id") == alone.hold_id
    for name in ("placed_at_ms", "expires_at_ms"):
        assert 0 <= single.pop(name) - grouped.pop(name) < 10_000
    assert grouped == single


async def test_it_is_captured_in_part_released_and_expires(
    db: Database, door: Door, alice: int, clock: OffsetClock
) -> None:
    await give(db, 30, alice)
    placed = await door.enter_all(*[admission(db, alice, price=10) for _ in range(3)])
    first, second, _ = [one.hold_id for one in placed if isinstance(one, Admitted)]
    assert (await balance(db, alice)).available == 0
    await db.write(partial(holds.capture, hold_id=first, amount=MicroCredits(4)))
    await db.write(partial(holds.release, hold_id=second))
    assert (await balance(db, alice)).available == 16
    clock.advance(_LIFETIME + 1)
    assert await db.write(holds.expire_due) == 1
    funds = await balance(db, alice)
    assert (funds.available, funds.held, funds.posted) == (26, 0, 26)
    assert await audit(db) == []


async def test_copies_of_a_running_call_are_not_admitted_again(
    db: Database, door: Door, alice: int
) -> None:
    await give(db, 30, alice)
    outcomes = await door.enter_all(*[admission(db, alice, "mine") for _ in range(16)])
    kinds = Counter(type(one) for one in outcomes)
    assert kinds == {Admitted: 1, RequestInProgress: 15}
    assert (await balance(db, alice)).held == 1


async def test_what_is_held_across_two_lots_goes_the_long_way(
    db: Database, door: Door, alice: int, clock: OffsetClock
) -> None:
    await give_lot(db, 3, alice, expires_at_ms=clock.now_ms() + 600_000)
    await give(db, 9, alice)
    outcomes = await door.enter_all(
        admission(db, alice, price=2), admission(db, alice, price=5)
    )
    assert all(isinstance(one, Admitted) for one in outcomes), outcomes
    async with db.read() as session:
        rows = await query(session, "SELECT lot_id, lots FROM hold ORDER BY amount")
    assert [row["lots"] is None for row in rows] == [True, False]
    assert await audit(db) == []


async def test_a_wallet_that_never_paid_holds_nothing(
    db: Database, door: Door, alice: int
) -> None:
    (refused,) = await door.enter_all(admission(db, alice + 1))
    assert isinstance(refused, InsufficientCredits)
