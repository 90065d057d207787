"""An answer that is told from the books is told to nobody but whose charge it is."""

import pytest

from tallystick.audit import audit
from tallystick.customers.wallets import create_customer
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, query
from tallystick.paywall.answers import MisplacedAnswer
from tallystick.paywall.audit import INVARIANTS, audit_answers
from tallystick.paywall.forgetting import Rounds
from tests.ledger.bookings import give
from tests.ledger.tampering import tamper, tampered
from tests.paywall.test_deductions import Door, wanted

_NAMES_ONE, _NO_TWO = INVARIANTS
_FIRST = "(SELECT MIN(owner) FROM stored_answer)"
_LAST = "(SELECT MAX(owner) FROM stored_answer WHERE state = 'charged')"
_A_GRANT = "(SELECT MIN(id) FROM ledger_transaction)"
_TAMPERING = {
    "of no transaction": (
        f"UPDATE stored_answer SET owner = 5 WHERE owner = {_LAST}",
        _NAMES_ONE,
    ),
    "of a grant": (
        f"UPDATE stored_answer SET owner = {_A_GRANT} WHERE owner = {_LAST}",
        _NAMES_ONE,
    ),
    "two of one": (
        f"UPDATE stored_answer SET owner = {_FIRST} WHERE owner = {_LAST}",
        _NO_TWO,
    ),
}


async def deduct_some(db: Database) -> list[int]:
    """Two customers with a charge and its answer each, and a free use's beside."""
    customers = [await db.write(create_customer) for _ in range(2)]
    for one in customers:
        await give(db, 5, one)
        await Door(db).deduct(wanted(db, one, "k"))
    await Door(db).deduct(wanted(db, customers[0], "free", price=0))
    return customers


async def test_answers_that_were_given_and_forgotten_are_no_finding(
    db: Database, clock: OffsetClock
) -> None:
    await deduct_some(db)
    assert (await audit(db, None)).findings == []
    clock.advance(25 * 3600)
    assert await Rounds(db).go_on() == 2
    assert (await audit(db, None)).findings == []


@pytest.mark.parametrize("tampering", _TAMPERING)
async def test_an_answer_that_was_tampered_with_is_named(
    db: Database, tampering: str
) -> None:
    await deduct_some(db)
    statement, invariant = _TAMPERING[tampering]
    async with tampered(db, statement) as session:
        findings = await audit_answers(session)
    assert [one.invariant for one in findings] == [invariant]
    assert "first broken row: {'owner': " in findings[0].detail


async def test_an_answer_that_was_turned_to_another_customers_charge_is_not_told(
    db: Database,
) -> None:
    """The rows cannot show it, for a key does not tell whose it is; the door does."""
    alice, bob = await deduct_some(db)
    async with db.read() as session:
        rows = await query(
            session,
            "SELECT owner FROM stored_answer WHERE state = 'charged' ORDER BY owner",
        )
    first, second = (row["owner"] for row in rows)
    await tamper(
        db,
        f"UPDATE stored_answer SET owner = 1 WHERE owner = {first}",
        f"UPDATE stored_answer SET owner = {first} WHERE owner = {second}",
        f"UPDATE stored_answer SET owner = {second} WHERE owner = 1",
    )
    for customer in (alice, bob):
        with pytest.raises(MisplacedAnswer):
            await Door(db).deduct(wanted(db, customer, "k"))
