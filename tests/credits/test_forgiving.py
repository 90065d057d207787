"""An operator writes off what a customer owes, once, and no more than he owes."""

import asyncio

import pytest
from tests.credits.test_debts import CAROL, claw_back, collect_from, owed, stands
from tests.ledger.bookings import ALICE, BOB, balance, book, buy, charge, give

from tallystick.credits.forgiving import Debt, Forgiven, OwesLess, debts, forgive
from tallystick.kernel.db import Database, query
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import InvalidAmount, MicroCredits
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.errors import IdempotencyMismatch

DAVE = 10


async def owe(db: Database, amount: int, customer_id: int = ALICE) -> None:
    """He has spent so much of a payment that vanished."""
    bought = await buy(db, 1_000_000, 100, customer_id)
    await book(db, charge(amount, f"a call of {customer_id}", customer_id))
    await claw_back(db, bought)


async def write_off(
    db: Database, amount: int | None = None, customer_id: int = ALICE
) -> int:
    done = await write_off_once(db, None, amount, customer_id)
    assert not done.replayed
    return done.amount


async def write_off_once(
    db: Database, key: bytes | None, amount: int | None, customer_id: int = ALICE
) -> Forgiven:
    part = None if amount is None else MicroCredits(amount)
    memo = "He is a friend"
    return await db.write(
        lambda session: forgive(
            session, customer_id, part, memo=memo, idempotency_key=key
        )
    )


async def test_what_is_forgiven_is_owed_no_more_and_is_an_expense(db: Database) -> None:
    await owe(db, 60)
    assert await write_off(db, 20) == 20
    assert await owed(db) == 40
    assert await write_off(db) == 40
    assert await owed(db) == 0
    assert await stands(db, chart.bad_debts()) == 60
    assert (await balance(db)).posted == 0, "he is given nothing"
    again = await give(db, 30)
    assert await collect_from(db, again) == 0, "nobody collects it from him"
    told = "SELECT reference, memo FROM ledger_transaction WHERE kind = 'write_off'"
    async with db.read() as session:
        found = await query(session, told)
    said = (f"customer:{ALICE}", "He is a friend")
    assert [tuple(one.values()) for one in found] == [said, said]


@pytest.mark.parametrize("amount", [None, 1, 61])
async def test_nobody_is_forgiven_more_than_he_owes(
    db: Database, amount: int | None
) -> None:
    await owe(db, 60, BOB)
    if amount == 61:
        await owe(db, 60)
    with pytest.raises(OwesLess) as refused:
        await write_off(db, amount)
    shown = "0.00006" if amount == 61 else "0"
    name = encode_id("cus", ALICE)
    assert refused.value.detail == f"{name} owes {shown} credits"
    assert refused.value.members == {"owed": shown}
    assert await stands(db, chart.bad_debts()) == 0
    assert await owed(db, BOB) == 60


async def test_no_amount_makes_a_debt_larger(db: Database) -> None:
    await owe(db, 60)
    for amount in (0, -1):
        with pytest.raises(InvalidAmount):
            await write_off(db, amount)
    assert await owed(db) == 60


async def test_it_is_forgiven_or_collected_and_never_both(db: Database) -> None:
    await owe(db, 60)
    again = await give(db, 60)
    outcomes = await asyncio.gather(
        *[write_off(db, 10) for _ in range(10)],
        collect_from(db, again),
        return_exceptions=True,
    )
    assert all(isinstance(one, int | OwesLess) for one in outcomes), outcomes
    collected = outcomes[-1]
    assert isinstance(collected, int)
    assert await owed(db) == 0
    assert await stands(db, chart.bad_debts()) == 60 - collected
    assert (await balance(db)).posted == 60 - collected


async def test_the_largest_debt_comes_first_and_what_is_settled_not_at_all(
    db: Database,
) -> None:
    for customer_id, amount in ((CAROL, 60), (ALICE, 1), (BOB, 60), (DAVE, 5)):
        await owe(db, amount, customer_id)
    await write_off(db, customer_id=DAVE)
    async with db.read() as session:
        assert await debts(session) == [
            Debt(BOB, MicroCredits(60)),
            Debt(CAROL, MicroCredits(60)),
            Debt(ALICE, MicroCredits(1)),
        ]


@pytest.mark.parametrize("amount", [None, 60])
async def test_one_key_forgives_once_also_what_is_all(
    db: Database, amount: int | None
) -> None:
    await owe(db, 60)
    key = digest16(b"a case")
    tries = [write_off_once(db, key, amount) for _ in range(8)]
    done = await asyncio.gather(*tries)
    assert {one.amount for one in done} == {60}
    assert sum(not one.replayed for one in done) == 1
    assert (await owed(db), await stands(db, chart.bad_debts())) == (0, 60)


async def test_a_key_that_forgave_something_else_is_refused(db: Database) -> None:
    await owe(db, 60)
    await owe(db, 60, BOB)
    key = digest16(b"a case")
    assert await write_off_once(db, key, 20) == Forgiven(
        MicroCredits(20), replayed=False
    )
    for amount, customer in ((21, ALICE), (20, BOB), (None, BOB)):
        with pytest.raises(IdempotencyMismatch):
            await write_off_once(db, key, amount, customer)
    assert (await owed(db), await owed(db, BOB)) == (40, 60)
    assert (await write_off_once(db, key, 20)).replayed
