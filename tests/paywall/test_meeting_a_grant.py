"""A group that waits while somebody gives its customer credits that burn first."""

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any

import pytest

from tallystick.credits.grants import grant_free
from tallystick.credits.models import GrantCategory
from tallystick.customers.wallets import create_customer
from tallystick.kernel.db import Database, WriteSession
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.change import change
from tallystick.ledger.lotted import LotTerms
from tallystick.paywall.plain import Admitted, Deducted, Deduction
from tests.ledger.bookings import (
    audit,
    balance,
    book,
    charge,
    fresh_key,
    give,
    give_lot,
)
from tests.paywall.test_admissions import Door, admission, usage

_WAIT = 0.08


async def customer_with(db: Database, amount: int) -> int:
    """Somebody who has used the feature, so that its account is open."""
    customer = await db.write(create_customer)
    await give(db, amount + 1, customer)
    await book(db, charge(1, f"the first of {customer}", customer))
    return customer


async def meet_a_grant(
    db: Database, customer: int, entering: Awaitable[Sequence[Any]], *, early: bool
) -> Sequence[Any]:
    """Give while the group waits for who gives, and has taken its time (``early``)."""
    locked = asyncio.Event()

    async def gift(session: WriteSession) -> None:
        now = db.clock.now_ms()
        await change(session, [customer], lambda _: None, now=now, lock=True)
        locked.set()
        if early:
            await asyncio.sleep(_WAIT)
        await grant_free(
            session,
            customer,
            MicroCredits(5_000),
            category=GrantCategory.PROMOTIONAL,
            terms=LotTerms(priority=-1),
            idempotency_key=fresh_key(),
            reference="gift",
            memo="A gift",
        )
        if not early:
            await asyncio.sleep(_WAIT)

    giving = asyncio.create_task(db.write(gift))
    await locked.wait()
    told = await entering
    await giving
    return told


@pytest.mark.parametrize("early", [True, False])
async def test_nothing_is_drawn_from_a_lot_before_it_counts(
    db: Database, *, early: bool
) -> None:
    """Its line would say that it was booked before, for ever (I5)."""
    alice = await customer_with(db, 1_000)
    crowd = [Deduction(usage(alice), None), admission(db, alice)]
    told = await meet_a_grant(db, alice, Door(db).enter_all(*crowd), early=early)
    assert [type(one) for one in told] == [Deducted, Admitted]
    assert await audit(db) == []


async def test_neighbours_are_served_while_a_spent_lot_is_followed_by_another(
    db: Database,
) -> None:
    alice, bob = await customer_with(db, 3), await customer_with(db, 10)
    door = Door(db)
    assert isinstance(await door.enter(Deduction(usage(alice, 3), None)), Deducted)
    crowd = [Deduction(usage(one), None) for one in (alice, bob, alice, bob)]
    told = await meet_a_grant(db, alice, door.enter_all(*crowd), early=False)
    assert [type(one) for one in told] == [Deducted] * 4
    assert (await balance(db, alice)).available == 4_998


async def test_a_crowd_is_back_in_groups_once_one_has_opened_the_next_lot(
    db: Database,
) -> None:
    alice = await customer_with(db, 3)
    await give_lot(db, 500, alice)
    door = Door(db)
    ways = []

    async def enter(one: Deduction) -> object:
        alone = partial(door.alone, one)

        async def noted() -> Deducted:
            ways.append(one)
            return await alone()

        return await door.writes.do(one, noted)

    told = await asyncio.gather(
        *[enter(Deduction(usage(alice), None)) for _ in range(200)]
    )
    assert all(isinstance(one, Deducted) for one in told)
    assert len(ways) < 10
    assert (await balance(db, alice)).available == 303
