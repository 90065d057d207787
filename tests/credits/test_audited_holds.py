"""What the audit says of holds that were changed or taken away behind its back."""

from typing import Any

import pytest
from sqlalchemy import event
from tests.credits.calls import capture, expire_due, hold, release
from tests.ledger.bookings import ALICE, audit, book, give, run
from tests.ledger.tampering import tampered

from tallystick.credits.audit import audit_credits
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database
from tallystick.kernel.money import CREDIT, Amount
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posting, Transfer

_GONE = "I9 a charge that captured a hold has it"
_TIMES = "I9 a hold was settled before its deadline, and expired from then on"


async def _found(db: Database, *forged: str) -> dict[str, str]:
    async with tampered(db, *forged) as session:
        return {one.invariant: one.detail for one in await audit_credits(session)}


async def test_a_captured_hold_is_not_deleted_unseen(unaudited_db: Database) -> None:
    await give(unaudited_db, 50)
    held = [await hold(unaudited_db, 7) for _ in range(3)]
    for one in held:
        await capture(unaudited_db, one, 5)
    found = await _found(unaudited_db, f"DELETE FROM hold WHERE id = {held[1]}")
    assert list(found) == [_GONE]
    assert f"'reference': 'hold:{held[1]}'" in found[_GONE]


async def test_a_charge_whose_reference_looks_like_a_hold_needs_none(
    db: Database,
) -> None:
    await give(db, 50)
    spent = Transfer(
        chart.customer_credits(ALICE), chart.feature_revenue("hold"), Amount(3, CREDIT)
    )
    key = digest16(b"something else")
    await book(db, Posting(TransactionKind.CHARGE, key, [spent], "hold:7", "a call"))
    assert await audit(db) == []


@pytest.mark.parametrize(
    ("state", "settled"),
    [("captured", "expires_at_ms"), ("released", "expires_at_ms + 1")],
)
async def test_nobody_settles_a_hold_after_its_deadline_unseen(
    unaudited_db: Database, state: str, settled: str
) -> None:
    await give(unaudited_db, 50)
    await capture(unaudited_db, await hold(unaudited_db, 7))
    await release(unaudited_db, await hold(unaudited_db, 7))
    late = f"UPDATE hold SET settled_at_ms = {settled} WHERE state = '{state}'"
    assert list(await _found(unaudited_db, late)) == [_TIMES]


async def test_nobody_calls_a_hold_expired_before_its_deadline_unseen(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    await give(unaudited_db, 50)
    await hold(unaudited_db, 7, seconds=1)
    clock.advance(1)
    assert await expire_due(unaudited_db) == 1
    assert await audit(unaudited_db) == []
    early = "UPDATE hold SET settled_at_ms = expires_at_ms - 1"
    assert list(await _found(unaudited_db, early)) == [_TIMES]


async def test_an_open_hold_past_its_deadline_is_no_finding(
    db: Database, clock: OffsetClock
) -> None:
    """A server that was off sweeps it later."""
    await give(db, 50)
    await hold(db, 7, seconds=1)
    clock.advance(60)
    assert await audit(db) == []


async def test_charges_are_not_looked_up_hold_by_hold(unaudited_db: Database) -> None:
    """However many there are, each table is read a fixed number of times."""
    db = unaudited_db
    many = "WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many"
    many += " WHERE n < 3000)"
    holds = (
        "INSERT INTO hold (id, customer_id, feature, amount, captured, state,"
        f" placed_at_ms, expires_at_ms, settled_at_ms) {many}"
        " SELECT n, 1, 'x', 1, 1, 'captured', 1, 3, 2 FROM many"
    )
    charges = (
        "INSERT INTO ledger_transaction (id, kind, reference, memo, occurred_at_ms,"
        f" posted_at_ms) {many} SELECT n, 'charge', 'hold:' || n, '', 1, 1 FROM many"
    )
    await run(db, holds, charges)
    (sql,) = [one for one in await _asked(db) if "EXCEPT" in one]
    explain = "EXPLAIN QUERY PLAN" if db.is_sqlite else "EXPLAIN"
    async with db.reader.connect() as connection:
        rows = (await connection.exec_driver_sql(f"{explain} {sql}")).all()
    plan = "\n".join(str(row[-1]) for row in rows)
    assert "CORRELATED" not in plan, plan
    assert "Nested Loop" not in plan, plan
    assert plan.count("SCAN hold" if db.is_sqlite else "Scan on hold") == 1, plan


async def _asked(db: Database) -> list[str]:
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        asked.append(sql)

    event.listen(db.reader.sync_engine, "before_cursor_execute", note)
    async with db.read() as session:
        await audit_credits(session)
    event.remove(db.reader.sync_engine, "before_cursor_execute", note)
    return asked
