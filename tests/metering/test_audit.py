"""The audit of what was used sees each way in which it can disagree with a charge."""

import pytest
from tests.ledger.bookings import give, give_lot
from tests.ledger.tampering import tampered

from tallystick.credits import holds
from tallystick.kernel.db import Database, WriteSession
from tallystick.kernel.money import MicroCredits
from tallystick.metering.audit import INVARIANTS, audit_metering
from tallystick.metering.charges import Usage, capture, charge

ALICE, BOB = 7, 8
_USED, _CHARGED = INVARIANTS
_CHEAP = "WHERE credits = 3"
_A_GRANT = "(SELECT MIN(id) FROM ledger_transaction)"
_REST = "customer_id, feature, quantity, credits, catalog_version, occurred_at_ms"
_TAMPERING = {
    "a use taken from another customer": (
        f"UPDATE usage_event SET customer_id = {BOB} {_CHEAP}",
        {_USED},
    ),
    "a dearer use": (f"UPDATE usage_event SET credits = 4 {_CHEAP}", {_USED}),
    "another feature": (f"UPDATE usage_event SET feature = 'free' {_CHEAP}", {_USED}),
    "a use that was not charged": (
        f"INSERT INTO usage_event SELECT id + 1, {_REST} FROM usage_event {_CHEAP}",
        {_USED},
    ),
    "a use of a grant": (
        f"UPDATE usage_event SET id = {_A_GRANT} {_CHEAP}",
        {_USED, _CHARGED},
    ),
    "a use that is gone": (f"DELETE FROM usage_event {_CHEAP}", {_CHARGED}),
}


async def live_a_little(db: Database) -> None:
    """A charge at once, one of several lots, a captured hold and a free use."""

    async def work(session: WriteSession) -> None:
        def usage(price: int) -> Usage:
            return Usage(ALICE, "echo", 2_000_000, MicroCredits(price), "v1")

        for price in (3, 60, 0):
            await charge(session, usage(price), idempotency_key=None)
        placed = await holds.place(
            session, ALICE, "echo", MicroCredits(9), lifetime_seconds=60
        )
        assert placed is not None
        await capture(session, placed.id, usage(9), MicroCredits(5))

    await give(db, 50, BOB)
    await give(db, 50)
    await give_lot(db, 40)
    await db.write(work)


async def test_every_charge_has_its_use(db: Database) -> None:
    await live_a_little(db)
    async with db.read() as session:
        assert await audit_metering(session) == []


@pytest.mark.parametrize("tampering", _TAMPERING)
async def test_a_use_that_was_tampered_with_is_named(
    db: Database, tampering: str
) -> None:
    await live_a_little(db)
    statement, broken = _TAMPERING[tampering]
    async with tampered(db, statement) as session:
        findings = await audit_metering(session)
    assert {one.invariant for one in findings} == broken
    assert all("first broken row: {'id': " in one.detail for one in findings)
