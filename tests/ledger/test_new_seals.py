"""A round compares the journal with the seals since its checkpoint, and only with those."""

import pytest
from tests.alarms import FROM_THE_FIRST, found_since, next_round
from tests.ledger.bookings import audit, book, charge, give, run
from tests.ledger.sealed import head_of, ids_of
from tests.ledger.sealed_tampering import (
    CHAINED,
    NOTED,
    TAMPERING,
    UNCHANGED,
    a_life,
    named,
    with_ids,
)
from tests.ledger.tampering import tamper, tampered

from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database
from tallystick.kernel.ids import first_id_at
from tallystick.ledger.audit_rounds import Checkpoint
from tallystick.ledger.links import BEFORE_THE_FIRST, Head
from tallystick.ledger.sealed_audit import audit_new_seals
from tallystick.ledger.sealing import seal_due
from tallystick.workers.books import Round, audit_books, audit_recent


async def test_new_seals_are_audited_as_all_are(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    sealed = await a_life(unaudited_db, clock)
    assert await found_since(unaudited_db) == []
    wrong = {}
    for tampering, (statements, invariant, words) in TAMPERING.items():
        forged = [with_ids(one, sealed) for one in statements]
        async with tampered(unaudited_db, *forged) as session:
            found = (await audit_recent(session, FROM_THE_FIRST)).findings
        told = [one.detail for one in found if one.invariant == invariant]
        if named(words, sealed) not in told:
            wrong[tampering] = found
    assert wrong == {}


async def test_what_was_sealed_long_ago_is_left_to_the_audit_of_everything(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    db = unaudited_db
    sealed = await a_life(db, clock)
    since = await next_round(db, FROM_THE_FIRST, slice_=9)
    memo = "UPDATE ledger_transaction SET memo = 'Another' WHERE id = {call}"
    await tamper(db, with_ids(memo, sealed))
    assert await found_since(db, since) == []
    async with db.snapshot() as session:
        whole = await audit_books(session)
    assert UNCHANGED in [one.invariant for one in whole]


async def test_the_checkpoints_own_seal_must_be_what_was_noted(
    db: Database, clock: OffsetClock
) -> None:
    await a_life(db, clock)
    since = await next_round(db, FROM_THE_FIRST)
    assert since.head == await head_of(db)
    other = Checkpoint(Head(3, bytes(32)), since.through_id, since.slice_after)
    gone = Checkpoint(Head(9, bytes(32)), since.through_id, since.slice_after)
    assert [one.invariant for one in await found_since(db, other)] == [NOTED]
    found = {one.invariant: one.detail for one in await found_since(db, gone)}
    assert found[NOTED] == "seal 9 is not there"


async def test_the_last_seals_are_not_taken_away_unseen(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    sealed = await a_life(unaudited_db, clock)
    since = Checkpoint(sealed.noted[1], sealed.ids[3])
    await tamper(unaudited_db, "DELETE FROM journal_seal WHERE number = 3")
    found = await found_since(unaudited_db, since)
    assert [(one.invariant, one.detail) for one in found] == [
        (CHAINED, "seal 3 was removed: 3 were made")
    ]


async def test_a_round_takes_a_part_of_the_seals_and_says_so(
    db: Database, clock: OffsetClock
) -> None:
    sealed = await a_life(db, clock)
    ids = await ids_of(db)
    async with db.snapshot() as session:
        first = await audit_new_seals(session, BEFORE_THE_FIRST, -7, most=2)
        rest = await audit_new_seals(session, first.head, first.last_id, most=2)
        none = await audit_new_seals(session, rest.head, rest.last_id, most=2)
    assert first.findings == rest.findings == none.findings == []
    assert (first.head, first.end) == (sealed.noted[1], sealed.noted[2])
    assert (rest.head, none.head, none.end) == (*sealed.noted[2:] * 3,)
    assert first.transactions + rest.transactions == tuple(ids[:-1])
    assert none.transactions == ()
    assert first.last_id == first.transactions[-1]
    assert rest.last_id == none.last_id == ids[-2]


async def _round(db: Database, since: Checkpoint, slice_: int = 1) -> Round:
    async with db.snapshot() as session:
        return await audit_recent(session, since, slice_=slice_)


async def test_rounds_go_on_from_the_end_of_the_seals(
    db: Database, clock: OffsetClock
) -> None:
    await a_life(db, clock)
    begun = (await _round(db, Checkpoint())).checkpoint
    assert begun.head == await head_of(db)
    assert begun.through_id == (await ids_of(db))[-2]
    clock.advance(3600)
    assert await seal_due(db) == 1
    await book(db, charge(1, "a later call"))
    later = await _round(db, begun)
    assert later.is_end
    assert later.checkpoint.head == await head_of(db)
    assert later.checkpoint.through_id == (await ids_of(db))[-2]


async def test_slices_come_by_every_account_and_begin_anew(db: Database) -> None:
    for customer in (7, 8, 9):
        await give(db, 5, customer)
    since, seen = Checkpoint(), []
    for _ in range(4):
        since = (await _round(db, since, slice_=2)).checkpoint
        seen.append(since.slice_after)
    assert seen[0] > seen[1] < seen[2] == seen[0]
    assert seen[1] == seen[3]


async def test_an_account_that_nobody_touched_is_looked_at_in_its_turn(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    db = unaudited_db
    clock.advance(-9000)
    for customer in (7, 8):
        await give(db, 5, customer)
    clock.advance(9000)
    assert await seal_due(db) == 1
    since = Checkpoint(await head_of(db), first_id_at(db.clock.now_ms()))
    await tamper(
        db, "UPDATE account_balance SET balance = balance + 1 WHERE customer_id = 8"
    )
    await run(db, "INSERT INTO customer VALUES (7, 1), (8, 1)")
    first = await _round(db, since)
    assert first.findings == []
    found = (await _round(db, first.checkpoint)).findings
    named = [[one.invariant for one in some] for some in (found, await audit(db))]
    assert named[0] == named[1] != []


@pytest.mark.parametrize("at_once", [1, 2, 1_000])
async def test_it_does_not_matter_how_what_is_new_is_divided(
    db: Database, clock: OffsetClock, at_once: int
) -> None:
    await a_life(db, clock)
    assert await found_since(db, at_once=at_once) == []
