"""A seal that a forger adds hides nothing of what an earlier one says."""

import pytest
from tests.alarms import FROM_THE_FIRST, found_since, next_round
from tests.ledger.bookings import audit, give
from tests.ledger.sealed import head_of
from tests.ledger.sealed_tampering import UNCHANGED, Sealed, a_life
from tests.ledger.tampering import tamper

from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database
from tallystick.ledger.audit_rounds import Checkpoint
from tallystick.ledger.digests import posted_down
from tallystick.ledger.links import Link
from tallystick.ledger.sealed_audit import audit_new_seals, audit_noted
from tallystick.ledger.sealing import seal_due, seal_late


async def add_seal(db: Database, clock: OffsetClock, one: int) -> None:
    """Of one transaction as the tables tell it now; it continues the last seal."""
    async with db.read() as session:
        posted = await posted_down(session, first=one, last=one)
    digests = {id_: rows.digest() for id_, rows in posted.items()}
    link = Link.after(await head_of(db), digests, now_ms=clock.now_ms())
    bytes_ = (link.previous, link.digest(), link.transaction_ids, link.digests)
    told = ", ".join(_literal(db, value) for value in bytes_)
    await tamper(
        db,
        "INSERT INTO journal_seal (number, first_id, last_id, sealed_at_ms, format,"
        " previous, digest, transaction_ids, digests) VALUES"
        f" ({link.number}, {one}, {one}, {link.sealed_at_ms}, {link.format}, {told})",
        f"UPDATE installation SET seals = {link.number}",
    )


def _literal(db: Database, value: bytes) -> str:
    return f"X'{value.hex()}'" if db.is_sqlite else f"'\\x{value.hex()}'::bytea"


@pytest.fixture
async def sealed(unaudited_db: Database, clock: OffsetClock) -> Sealed:
    return await a_life(unaudited_db, clock)


@pytest.mark.parametrize("place", [0, 2, 4])
async def test_a_changed_transaction_is_named_though_a_new_seal_has_it_as_it_is(
    unaudited_db: Database, clock: OffsetClock, sealed: Sealed, place: int
) -> None:
    db, one = unaudited_db, sealed.ids[place]
    noted = await head_of(db)
    since = await next_round(db, FROM_THE_FIRST, slice_=9)
    await tamper(db, f"UPDATE ledger_transaction SET memo = 'x' WHERE id = {one}")
    await add_seal(db, clock, one)
    (found,) = await audit(db)
    assert found.invariant == UNCHANGED
    assert f"(id {one}) is in seal {place // 2 + 1} and again in seal 4" in found.detail
    async with db.read() as session:
        assert await audit_noted(session, [noted]) == [], "that seal is as it was"
    await _is_told_of_what_is_new(db, since, one)

    await give(db, 5)
    clock.advance(60)
    assert await seal_due(db) == 1
    await seal_late(db)
    assert found in await audit(db), "the sealer goes on, and it stays"


async def _is_told_of_what_is_new(db: Database, since: Checkpoint, one: int) -> None:
    told = [found.detail for found in await found_since(db, since)]
    assert any(f"(id {one}) is in seal" in words for words in told), told


async def test_of_two_seals_the_first_one_counts(
    unaudited_db: Database, clock: OffsetClock, sealed: Sealed
) -> None:
    """The second may be there before the change, too."""
    db, one = unaudited_db, sealed.ids[0]
    await add_seal(db, clock, one)
    (found,) = await audit(db)
    assert "is in seal 1 and again in seal 4" in found.detail
    async with db.read() as session:
        new = await audit_new_seals(session, sealed.noted[-1], one, most=9)
    (told,) = new.findings
    assert told.detail == found.detail
