"""Whatever was posted is sealed once, however late it comes and whoever seals."""

import asyncio
import itertools

import pytest
from structlog.testing import capture_logs
from tests.ledger.bookings import audit, book, charge, give, run
from tests.ledger.sealed import head_of, ids_of, sealed_ids

from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, WriteSession, open_database
from tallystick.kernel.redaction import redact
from tallystick.ledger import sealing
from tallystick.ledger.journal import post
from tallystick.ledger.links import Link
from tallystick.ledger.sealing import seal_due, seal_late, seal_left_behind

_HOUR = 3600


async def test_what_is_young_is_not_sealed_yet_and_no_finding(
    db: Database, clock: OffsetClock
) -> None:
    await give(db, 50)
    assert await seal_due(db) == 0, "its neighbours may still come"
    clock.advance(60)
    assert await seal_due(db) == 1
    assert await seal_due(db) == 0
    assert await sealed_ids(db) == [await ids_of(db)]


async def test_a_long_look_back_makes_the_first_seal_too_and_tells_the_log_its_note(
    db: Database, clock: OffsetClock
) -> None:
    """The note is what an operator compares the chain with."""
    with capture_logs() as logs:
        assert await seal_late(db) == 0
        await give(db, 50)
        clock.advance(60)
        assert await seal_late(db) == 1
    head = await head_of(db)
    assert head.number == 1
    told = [one for one in logs if one["event"] == "journal_sealed"]
    assert [one["seal_digest"] for one in told] == [head.note]
    assert redact(told) == told, "it is for people to note"


async def test_who_commits_late_is_sealed_late_and_is_no_finding(
    db: Database, clock: OffsetClock
) -> None:
    """His id is older than those of the last seal, but not too old."""
    clock.advance(-600)
    await give(db, 50)
    now = clock.offset_ms
    late = db.ids
    db.ids = type(late)(db.clock, slot=1)
    clock.advance(300)
    await give(db, 50)
    clock.advance(300)
    assert await seal_due(db) == 1
    # The same ids factory as before: it has a clock of then.
    clock.offset_ms = now + 1_000
    db.ids = late
    await book(db, charge(3, "late"))
    clock.offset_ms = now + 600_000
    assert await audit(db) == []
    assert await seal_due(db) == 0, "a short look does not see it"
    assert await seal_late(db) == 1
    first, second = await sealed_ids(db)
    assert second[0] < first[-1]
    assert sorted([*first, *second]) == await ids_of(db)
    await give(db, 50)
    clock.advance(60)
    assert await seal_due(db) == 1, "and the chain goes on"
    assert sum(map(len, await sealed_ids(db))) == 4


async def test_a_clock_that_steps_back_leaves_nothing_unsealed(
    db: Database, clock: OffsetClock
) -> None:
    """A process that starts then makes ids that are lower than the last one sealed."""
    await give(db, 50)
    clock.advance(60)
    assert await seal_due(db) == 1
    clock.advance(-48 * _HOUR)
    db.ids = type(db.ids)(db.clock, slot=2)
    await give(db, 50)
    assert await audit(db) == []
    clock.advance(60)
    assert await seal_late(db) == 1
    assert len(await sealed_ids(db)) == 2
    clock.advance(48 * _HOUR + 60)
    await give(db, 50)
    clock.advance(60)
    assert await seal_due(db) == 1
    assert sum(map(len, await sealed_ids(db))) == 3


async def start_behind(db: Database, clock: OffsetClock, seconds: int) -> None:
    """Books with a seal, and a process that starts when the clock is so far behind."""
    await give(db, 50)
    clock.advance(60)
    assert await seal_late(db) == 1
    clock.advance(-seconds)
    await db.start()


@pytest.mark.parametrize("behind", [4_200, 7_200, 30 * 24 * _HOUR])
async def test_what_was_posted_before_the_clock_was_set_right_is_sealed_once(
    db: Database, clock: OffsetClock, behind: int
) -> None:
    """Else each audit would say for ever that it was slipped in."""
    await start_behind(db, clock, behind)
    assert await seal_late(db) == 0
    await give(db, 3)
    assert await seal_left_behind(db) == 0, "for all that it knows the clock is right"
    clock.advance(behind)
    assert await seal_left_behind(db) == 1
    assert await audit(db) == []
    await give(db, 4)
    for _ in range(3):
        clock.advance(25 * _HOUR)
        await seal_late(db)
        assert await seal_left_behind(db) == 0
    assert await audit(db) == []
    assert sorted(itertools.chain(*await sealed_ids(db))) == await ids_of(db)


async def test_who_commits_after_the_clock_was_set_right_is_sealed_too(
    db: Database, clock: OffsetClock
) -> None:
    await start_behind(db, clock, 7_200)
    await give(db, 3)
    began = clock.offset_ms

    async def slow(session: WriteSession) -> None:
        await post(session, charge(3, "slow"))
        clock.offset_ms = began + 7_200_000
        db.ids.left_behind()

    await db.write(slow)
    await give(db, 4)
    assert await seal_left_behind(db) == 1
    clock.advance(60)
    await seal_due(db)
    clock.advance(25 * _HOUR)
    await seal_late(db)
    assert await audit(db) == []


async def test_what_others_slip_into_the_past_is_sealed_by_nobody(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    """Neither after a start, nor where the clock was set right, but not by so much."""
    db = unaudited_db
    await start_behind(db, clock, 7_200)
    await give(db, 3)
    clock.advance(7_200)
    await seal_left_behind(db)
    await give(db, 4)
    clock.advance(60)
    assert await seal_due(db) == 1
    right, forger = db.ids, type(db.ids)(db.clock, slot=9)
    clock.advance(-9_000)
    db.ids = forger
    await give(db, 5)
    clock.advance(9_000)
    db.ids = right
    assert await seal_left_behind(db) == 0
    await db.start()
    sealed = [await one(db) for one in (seal_left_behind, seal_due, seal_late)]
    assert sealed == [0, 0, 0]
    ((found,),) = [await audit(db)]
    assert "was slipped in" in str(found)


async def test_all_that_know_where_they_posted_seal_it_once(
    db: Database, database_url: str, clock: OffsetClock
) -> None:
    await start_behind(db, clock, 7_200)
    several = [db] if db.is_sqlite else [db, open_database(database_url, clock)]
    for one in several:
        await one.start()
        await give(one, 3)
    clock.advance(7_200)
    for _ in range(3):
        rounds = (seal_left_behind, seal_due, seal_late)
        await asyncio.gather(*[seal(one) for one in several for seal in rounds])
    if not db.is_sqlite:
        await several[1].close()
    assert sorted(itertools.chain(*await sealed_ids(db))) == await ids_of(db)
    assert await audit(db) == []


async def test_sealers_at_once_seal_each_transaction_once(
    db: Database, database_url: str, clock: OffsetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "_AT_ONCE", 3)
    for _ in range(20):
        await give(db, 50)
    clock.advance(60)
    several = (
        [db] if db.is_sqlite else [open_database(database_url, clock) for _ in "ab"]
    )
    try:
        for _ in range(9):
            await asyncio.gather(*[seal_due(one) for one in [db, *several]])
    finally:
        for one in several:
            if one is not db:
                await one.close()
    sealed = await sealed_ids(db)
    assert len(sealed) == 7
    assert sorted(itertools.chain(*sealed)) == await ids_of(db)


async def test_books_of_before_are_sealed_in_batches_also_after_a_crash(
    db: Database, clock: OffsetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "_AT_ONCE", 4)
    for _ in range(5):
        clock.advance(_HOUR)
        await give(db, 50)
        await book(db, charge(1, f"{clock.offset_ms}"))
    clock.advance(60)
    append, batches = sealing._append, itertools.count()

    async def die_in_the_second(link: Link, session: WriteSession) -> bool:
        if next(batches) == 1:
            raise ConnectionResetError
        return await append(link, session)

    monkeypatch.setattr(sealing, "_append", die_in_the_second)
    with pytest.raises(ConnectionResetError):
        await seal_due(db)
    assert [len(one) for one in await sealed_ids(db)] == [4]
    assert await audit(db) == [], "what is still to be sealed is no finding"
    assert await seal_due(db) == 2
    assert sorted(itertools.chain(*await sealed_ids(db))) == await ids_of(db)


@pytest.mark.parametrize(
    "verb", ["UPDATE journal_seal SET number = 9", "DELETE FROM journal_seal"]
)
async def test_a_seal_cannot_be_changed(
    db: Database, clock: OffsetClock, verb: str
) -> None:
    await give(db, 50)
    clock.advance(60)
    await seal_due(db)
    with pytest.raises(Exception, match="append-only"):
        await run(db, verb)
