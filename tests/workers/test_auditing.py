"""A server audits its own books by itself, and says what it finds until it is mended."""

import asyncio
from functools import partial

import pytest
from structlog.testing import capture_logs

from tallystick.credits.grants import grant_promotional
from tallystick.customers.wallets import create_customer
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, WriteSession, query
from tallystick.kernel.money import MicroCredits
from tallystick.kernel.seal import digest16
from tallystick.ledger.audit_rounds import Audited, AuditKind, audits, claim_audit
from tallystick.ledger.sealing import seal_due
from tallystick.workers import auditing
from tallystick.workers.auditing import Auditor
from tests.credits.calls import hold, release
from tests.ledger.tampering import tamper

HOUR = 3600
_RAISED = "UPDATE account_balance SET balance = balance + 1"
_LOWERED = "UPDATE account_balance SET balance = balance - 1"
_OLD_MEMO = "UPDATE ledger_transaction SET memo = '{}'"


async def a_customer(db: Database) -> None:
    """With credits, one call and one that is running."""

    async def give(session: WriteSession) -> int:
        customer = await create_customer(session)
        key = digest16(customer.to_bytes(8, "big"))
        await grant_promotional(
            session,
            customer,
            MicroCredits(50),
            idempotency_key=key,
            reference="gift",
            memo="Welcome",
        )
        return customer

    customer = await db.write(give)
    await hold(db, 3, customer)


async def told(db: Database) -> dict[str, Audited]:
    async with db.read() as session:
        return {one.kind: one for one in await audits(session)}


def of_books(logs: list[dict[str, object]]) -> list[object]:
    return [one["event"] for one in logs if str(one["event"]).startswith("books_")]


async def test_what_is_found_is_told_until_it_is_mended(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    db, auditor = unaudited_db, Auditor(unaudited_db)
    await a_customer(db)
    with capture_logs() as logs:
        assert await auditor.recent()
        assert of_books(logs) == []
        await tamper(db, _RAISED)
        for _ in range(2):
            clock.advance(60)
            logs.clear()
            assert await auditor.recent()
            assert set(of_books(logs)) == {"books_unsound"}
        alarm = logs[0]
        assert (alarm["log_level"], alarm["audit"]) == ("error", "recent")
        assert str(alarm["invariant"]).startswith("I3 balance")
        assert "first broken row" in str(alarm["detail"])
        assert "tallystick audit" in str(alarm["next_step"])
        found = (await told(db))["recent"].findings
        assert [one.invariant for one in found] == [one["invariant"] for one in logs]
        await tamper(db, _LOWERED)
        for expected in (["books_sound_again"], []):
            clock.advance(60)
            logs.clear()
            assert await auditor.recent()
            assert of_books(logs) == expected
    assert (await told(db))["recent"].findings == ()


async def test_the_checkpoint_stays_where_something_is_wrong(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    """Else a server that is started again, or the next round, would know nothing of it."""
    db = unaudited_db
    clock.advance(-HOUR)
    assert await Auditor(db).recent()
    await a_customer(db)
    clock.advance(HOUR)
    assert await seal_due(db) == 1
    await tamper(db, _OLD_MEMO.format("Another"))
    for _ in range(2):
        assert await Auditor(db).recent(), "each process audits when it starts"
        assert (await told(db))["recent"].findings
    ((kept,),) = [[row["seal_number"] for row in await _rows(db)]]
    assert kept == 0
    await tamper(db, _OLD_MEMO.format("Welcome"))
    assert await Auditor(db).recent()
    assert (await told(db))["recent"].findings == ()
    ((kept,),) = [[row["seal_number"] for row in await _rows(db)]]
    assert kept == 1


async def _rows(db: Database) -> list[dict[str, object]]:
    async with db.read() as session:
        rows = await query(
            session, "SELECT seal_number FROM books_audit WHERE kind = 'recent'"
        )
    return [dict(row) for row in rows]


async def test_one_process_audits_in_a_minute(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    one, other = Auditor(unaudited_db), Auditor(unaudited_db)
    assert await one.recent()
    assert await other.recent(), "at its start"
    for first, second in ((one, other), (other, one)):
        clock.advance(60)
        assert [await first.recent(), await second.recent()] == [True, False]


async def test_the_whole_is_audited_once_a_night(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    db, auditor = unaudited_db, Auditor(unaudited_db)
    clock.advance(_to_hour(clock, 2))
    assert await auditor.whole(), "nobody has ever"
    assert not await Auditor(db).whole()
    clock.advance(2 * HOUR)
    done = [await Auditor(db).whole(), await auditor.whole()]
    assert done == [True, False]
    clock.advance(23 * HOUR - 60)
    assert not await auditor.whole()
    clock.advance(HOUR)
    assert await auditor.whole()


@pytest.mark.parametrize("ahead", [HOUR, 30 * 24 * HOUR])
async def test_a_clock_that_was_ahead_silences_no_audit(
    unaudited_db: Database, clock: OffsetClock, ahead: int
) -> None:
    """What is done to the books in the meantime would be found when it is that time."""
    db, auditor = unaudited_db, Auditor(unaudited_db)
    await a_customer(db)
    clock.advance(ahead)
    assert [await auditor.recent(), await auditor.whole()] == [True, True]
    clock.advance(-ahead)
    await tamper(db, _RAISED)
    clock.advance(60)
    assert [await auditor.recent(), await auditor.whole()] == [True, True]
    found = await told(db)
    for kind in ("recent", "whole"):
        assert found[kind].findings
        assert found[kind].age_seconds < 60
    assert not await auditor.whole(), "once"


async def test_who_was_killed_while_the_clock_was_ahead_is_no_obstacle_at_the_start(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    db = unaudited_db
    clock.advance(30 * 24 * HOUR)
    for kind in AuditKind:
        taken = partial(
            claim_audit,
            kind=kind,
            claimant=bytes(16),
            lease_ms=300_000,
            pause_ms=50_000,
        )
        assert await db.write(taken)
    clock.advance(-30 * 24 * HOUR)
    auditor = Auditor(db)
    assert [await auditor.recent(), await auditor.whole()] == [True, True]


def _to_hour(clock: OffsetClock, hour: int) -> float:
    return (hour * HOUR - clock.now_ms() / 1000) % (24 * HOUR)


async def test_what_was_sealed_long_ago_is_found_at_night(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    db, auditor = unaudited_db, Auditor(unaudited_db)
    clock.advance(-HOUR)
    await a_customer(db)
    clock.advance(HOUR)
    assert await seal_due(db) == 1
    assert await auditor.recent()
    await tamper(db, _OLD_MEMO.format("Another"))
    with capture_logs() as logs:
        clock.advance(60)
        assert await auditor.recent()
        assert of_books(logs) == []
        assert await auditor.whole()
        assert of_books(logs) == ["books_unsound"]
        assert logs[0]["audit"] == "whole"
        clock.advance(HOUR - 1)
        assert not await auditor.whole()
        await tamper(db, _OLD_MEMO.format("Welcome"))
        clock.advance(1)
        assert await auditor.whole(), "sooner than tomorrow, to say that it is sound"
    assert of_books(logs) == ["books_unsound", "books_sound_again"]
    assert (await told(db))["whole"].findings == ()


@pytest.mark.parametrize("kind", ["recent", "whole"])
async def test_an_audit_that_failed_is_made_again_soon(
    unaudited_db: Database,
    clock: OffsetClock,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    auditor = Auditor(unaudited_db)
    audit = getattr(auditor, kind)
    with monkeypatch.context() as broken:
        broken.setattr(unaudited_db, "snapshot", _gone)
        with pytest.raises(ConnectionError):
            await audit()
    assert (await told(unaudited_db))[kind].findings == ()
    clock.advance(60)
    assert await audit()


def _gone() -> object:
    raise ConnectionError("the database is gone")


async def test_an_audit_that_is_broken_off_is_made_by_another(
    unaudited_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def endless(_session: object) -> list[object]:
        begun.set()
        await asyncio.Event().wait()
        return []

    with monkeypatch.context() as slow:
        slow.setattr(auditing, "audit_books", endless)
        task = asyncio.create_task(Auditor(unaudited_db).whole())
        await begun.wait()
        assert not await Auditor(unaudited_db).whole(), "somebody is at it"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await Auditor(unaudited_db).whole()


async def test_a_long_audit_keeps_its_claim(
    unaudited_db: Database, clock: OffsetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def long(_session: object) -> list[object]:
        begun.set()
        await go_on.wait()
        return []

    monkeypatch.setattr(auditing, "audit_books", long)
    monkeypatch.setattr(auditing, "_KEPT_SECONDS", 0.01)
    task = asyncio.create_task(Auditor(unaudited_db).whole())
    await begun.wait()
    for _ in range(3):
        clock.advance(240)
        await asyncio.sleep(0.3)
        assert not await Auditor(unaudited_db).whole()
    go_on.set()
    assert await task


async def test_running_holds_and_calls_are_no_finding(
    db: Database, clock: OffsetClock
) -> None:
    auditor = Auditor(db)
    for _ in range(3):
        await a_customer(db)
        async with db.read() as session:
            rows = await query(session, "SELECT id FROM hold WHERE state = 'open'")
        with capture_logs() as logs:
            assert await auditor.recent()
        assert of_books(logs) == []
        await release(db, rows[0]["id"])
        clock.advance(60)
