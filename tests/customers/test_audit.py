"""The audit of the customers misses who was taken away."""

from tests.ledger.bookings import give
from tests.ledger.tampering import tampered

from tallystick.customers.audit import INVARIANTS, audit_customers
from tallystick.customers.wallets import ensure_customer_of_wallet
from tallystick.kernel.db import Database, WriteSession


async def test_a_customer_who_was_deleted_is_missed(db: Database) -> None:
    async def work(session: WriteSession) -> int:
        return await ensure_customer_of_wallet(session, b"\2" * 20)

    alice = await db.write(work)
    await give(db, 5, alice)
    async with db.read() as session:
        assert await audit_customers(session) == []
    gone = f"DELETE FROM customer WHERE id = {alice}"
    async with tampered(db, gone) as session:
        findings = await audit_customers(session)
    assert tuple(one.invariant for one in findings) == INVARIANTS
    assert all(str(alice) in one.detail for one in findings)
