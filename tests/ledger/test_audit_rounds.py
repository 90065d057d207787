"""Of several processes one audits, and what it found and how far is noted for all."""

import asyncio
from functools import partial

import pytest
from tests.ledger.bookings import run

from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, open_database
from tallystick.ledger.audit_rounds import (
    Audited,
    AuditKind,
    Checkpoint,
    Claim,
    audits,
    claim_audit,
    finish_audit,
    give_back,
    keep_claim,
    start_of,
)
from tallystick.ledger.digests import LOWEST
from tallystick.ledger.findings import Finding
from tallystick.ledger.links import BEFORE_THE_FIRST, Head

ONE, OTHER = bytes(15) + b"1", bytes(15) + b"2"
WRONG = Finding("I1 what is so", "is otherwise: {'id': 7}")
THERE = Checkpoint(Head(3, bytes(31) + b"3"), 33, 5)


async def claim(
    db: Database,
    by: bytes = ONE,
    kind: AuditKind = AuditKind.RECENT,
    *,
    at_once: bool = False,
) -> Claim | None:
    return await db.write(
        lambda session: claim_audit(
            session, kind, by, lease_ms=10_000, pause_ms=5_000, at_once=at_once
        )
    )


async def claimed(db: Database, by: bytes = ONE) -> Claim:
    found = await claim(db, by)
    assert found is not None
    return found


async def finish(
    db: Database,
    of: Claim,
    *findings: Finding,
    checkpoint: Checkpoint = THERE,
    pause_ms: int = 0,
) -> bool:
    due_ms = db.clock.now_ms() + pause_ms
    return await db.write(
        lambda session: finish_audit(session, of, findings, checkpoint, due_ms=due_ms)
    )


async def told(db: Database) -> tuple[Audited, ...]:
    async with db.read() as session:
        return await audits(session)


async def test_of_many_processes_at_once_one_audits(db: Database) -> None:
    others = [open_database(str(db.writer.url), db.clock) for _ in range(3)]
    if not db.is_sqlite:
        others = [
            open_database(db.writer.url.render_as_string(hide_password=False), db.clock)
            for _ in range(3)
        ]
    try:
        tries = [claim(one, bytes([n]) * 16) for n, one in enumerate([db, *others])]
        found = [one for one in await asyncio.gather(*tries) if one is not None]
        assert len(found) == 1
        assert await claim(db, OTHER, at_once=True) is None, "not even at the start"
        assert await claim(db, OTHER, AuditKind.WHOLE), "the other kind is its own"
    finally:
        for one in others:
            await one.close()


async def test_nobody_has_audited_at_first(db: Database) -> None:
    assert await told(db) == ()
    first = await claimed(db)
    assert first == Claim(AuditKind.RECENT, ONE, Checkpoint(None, LOWEST, LOWEST), ())
    assert start_of(first.checkpoint) == BEFORE_THE_FIRST
    assert start_of(THERE) == THERE.head


async def test_what_was_found_and_how_far_is_noted(
    db: Database, clock: OffsetClock
) -> None:
    assert await finish(db, await claimed(db), WRONG)
    clock.advance(7)
    assert await told(db) == (Audited("recent", 7, (WRONG,)),)
    again = await claimed(db, OTHER)
    assert (again.checkpoint, again.before) == (THERE, (WRONG,))
    assert await finish(db, again, checkpoint=Checkpoint())
    assert await told(db) == (Audited("recent", 0, ()),)
    assert (await claimed(db)).checkpoint == Checkpoint()


async def test_an_audit_is_made_when_it_is_due_or_at_once(
    db: Database, clock: OffsetClock
) -> None:
    assert await finish(db, await claimed(db), pause_ms=5_000)
    clock.advance(4)
    assert await claim(db) is None
    hurried = await claim(db, at_once=True)
    assert hurried is not None
    assert await finish(db, hurried, pause_ms=5_000)
    clock.advance(5)
    assert await claim(db)


async def test_a_claim_lapses_unless_it_is_kept(
    db: Database, clock: OffsetClock
) -> None:
    mine = await claimed(db)
    clock.advance(9)
    assert await db.write(partial(keep_claim, claim=mine, lease_ms=10_000))
    clock.advance(9)
    assert await claim(db, OTHER) is None
    clock.advance(1)
    others = await claimed(db, OTHER)
    assert not await db.write(partial(keep_claim, claim=mine, lease_ms=10_000))
    assert not await finish(db, mine, WRONG), "it is not ours any more"
    await db.write(partial(give_back, claim=mine))
    assert await claim(db, at_once=True) is None
    await db.write(partial(give_back, claim=others))
    assert await claim(db)


async def test_who_begins_and_never_ends_is_seen_by_the_age(
    db: Database, clock: OffsetClock
) -> None:
    await claimed(db)
    clock.advance(700)
    await claimed(db)
    assert await told(db) == (Audited("recent", 700, ()),)


HOUR = 3600


@pytest.mark.parametrize("ahead", [60, HOUR, 30 * 24 * HOUR])
async def test_a_due_time_of_a_clock_that_was_ahead_is_not_waited_for(
    db: Database, clock: OffsetClock, ahead: int
) -> None:
    clock.advance(ahead)
    assert await finish(db, await claimed(db), pause_ms=5_000)
    clock.advance(-ahead)
    found = await claimed(db, OTHER)
    assert found.checkpoint == THERE
    assert await finish(db, found, pause_ms=5_000)
    assert await claim(db) is None, "now it waits as ever"


async def test_no_audit_waits_longer_than_its_pause(
    db: Database, clock: OffsetClock
) -> None:
    """Also where the audit itself was noted at the right time."""
    assert await finish(db, await claimed(db), pause_ms=5_000 + HOUR * 1000)
    clock.advance(1)
    assert await claim(db)


@pytest.mark.parametrize("ahead", [60, HOUR, 30 * 24 * HOUR])
@pytest.mark.parametrize("at_once", [False, True])
async def test_a_claim_of_a_clock_that_was_ahead_is_nobodys(
    db: Database, clock: OffsetClock, *, ahead: int, at_once: bool
) -> None:
    """Who claimed it was killed, so nobody gives it back."""
    clock.advance(ahead)
    gone = await claimed(db)
    clock.advance(-ahead)
    mine = await claim(db, OTHER, at_once=at_once)
    assert mine is not None
    assert await claim(db, at_once=True) is None, "and now it is somebody's"
    assert not await finish(db, gone, WRONG)
    assert await finish(db, mine)


async def test_of_many_that_find_a_claim_far_ahead_one_audits(
    db: Database, database_url: str, clock: OffsetClock
) -> None:
    clock.advance(HOUR)
    await claimed(db)
    clock.advance(-HOUR)
    others = [open_database(database_url, clock) for _ in range(3)]
    try:
        tries = [claim(one, bytes([n]) * 16) for n, one in enumerate([db, *others])]
        found = [one for one in await asyncio.gather(*tries) if one is not None]
        assert len(found) == 1
    finally:
        for one in others:
            await one.close()


async def test_clocks_that_differ_by_little_take_nothing_from_each_other(
    db: Database, clock: OffsetClock
) -> None:
    clock.advance(3)
    mine = await claimed(db)
    clock.advance(-3)
    assert await claim(db, OTHER, at_once=True) is None
    clock.advance(3)
    assert await finish(db, mine, pause_ms=5_000)
    clock.advance(-3)
    assert await claim(db, OTHER) is None
    assert await told(db) == (Audited("recent", 0, ()),), "and no age is negative"


async def test_an_audit_that_lies_ahead_is_none(
    db: Database, clock: OffsetClock
) -> None:
    """Its age is that of the first claim, as if no audit had ended."""
    await finish(db, await claimed(db))
    clock.advance(2 * HOUR)
    await finish(db, await claimed(db))
    clock.advance(-HOUR)
    assert await told(db) == (Audited("recent", HOUR, ()),)
    await finish(db, await claimed(db))
    assert await told(db) == (Audited("recent", 0, ()),)


async def test_if_all_that_is_noted_lies_ahead_the_age_is_an_alarm(
    db: Database, clock: OffsetClock
) -> None:
    await finish(db, await claimed(db), WRONG)
    clock.advance(-60)
    ((age, findings),) = [(one.age_seconds, one.findings) for one in await told(db)]
    assert age == clock.now_ms() // 1000
    assert findings == (WRONG,), "what was found stands all the same"


@pytest.mark.parametrize("nonsense", ["", "7", "[7]", '[["one"]]', "null"])
async def test_nonsense_in_the_row_is_told_and_stops_nobody(
    db: Database, nonsense: str
) -> None:
    await finish(db, await claimed(db))
    await run(db, f"UPDATE books_audit SET findings = '{nonsense}'")
    ((found,),) = [one.findings for one in await told(db)]
    assert found == Finding("what an audit found", "its row was changed")
    assert (await claimed(db)).before == (found,)
