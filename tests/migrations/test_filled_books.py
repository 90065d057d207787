"""Books that were lived in keep all they say when their tables are made anew."""

import pytest
from sqlalchemy.exc import IntegrityError
from tests.ledger.bookings import book, charge, give
from tests.paywall.test_deductions import Door, wanted

from tallystick.audit import audit
from tallystick.credits.debts import claw_back, owed_by
from tallystick.customers.wallets import create_customer
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, open_database
from tallystick.ledger.balances import customer_balance
from tallystick.ledger.sealing import seal_due
from tallystick.ledger.statement import statement
from tallystick.migrations import downgrade, upgrade


async def _says(db: Database, customer: int) -> object:
    async with db.read() as session:
        lines = await statement(session, customer, limit=100)
        return lines, await customer_balance(session, customer)


@pytest.mark.parametrize("revision", ["0008", "0007"])
async def test_charges_answers_and_seals_survive_a_step_back_and_forth(
    database_url: str, revision: str
) -> None:
    clock = OffsetClock()
    db = open_database(database_url, clock=clock)
    await db.start()
    alice = await db.write(create_customer)
    poor = await db.write(create_customer)
    for amount in (5, 7):
        await give(db, amount, alice)
    await give(db, 1, poor)
    asked = [wanted(db, alice, f"k{number}") for number in range(9)]
    told = await Door(db).deduct_all(asked)
    await Door(db).deduct(wanted(db, poor))
    clock.advance(60)
    assert await seal_due(db) == 1
    before = [await _says(db, one) for one in (alice, poor)]
    await db.close()

    db = open_database(database_url, clock=clock)
    await downgrade(db, revision)
    await upgrade(db)
    await db.close()

    db = open_database(database_url, clock=clock)
    await db.start()
    try:
        assert [await _says(db, one) for one in (alice, poor)] == before
        assert (await audit(db, None)).findings == []
        again = await Door(db).deduct_all(asked)
        for first, second in zip(told, again, strict=True):
            assert not isinstance(first, BaseException)
            assert not isinstance(second, BaseException)
            assert (second.answer, second.replayed) == (first.answer, True)
        await Door(db).deduct(wanted(db, alice))
        assert await seal_due(db) == 1, "the chain begins anew"
        assert (await audit(db, None)).findings == []
    finally:
        await db.close()


async def test_no_step_back_forgets_what_somebody_owes(db: Database) -> None:
    """Nothing before 0011 could tell it, and the transfers would stand alone."""
    alice = await db.write(create_customer)
    vanished = await give(db, 6, alice)
    await book(db, charge(2, "spent", alice))
    await db.write(
        lambda session: claw_back(
            session,
            vanished.ledger_transaction_id,
            idempotency_key=bytes(16),
            reference="vanished",
            memo="",
        )
    )
    with pytest.raises(IntegrityError, match="nobody_may_owe"):
        await downgrade(db, "0010")
    async with db.read() as session:
        assert await owed_by(session, alice) == 2
