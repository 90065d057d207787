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
from tallystick.ledger.links import Link
from tallystick.ledger.sealing import seal_due, seal_late

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
