"""Whatever is done to sealed books, the audit names the first row that was changed."""

import re
from functools import partial

import pytest
from structlog.testing import capture_logs
from tests.ledger.bookings import audit, give
from tests.ledger.sealed import ids_of, sealed_ids
from tests.ledger.sealed_tampering import (
    CHAINED,
    CONTROLLED,
    NOTED,
    SEALED,
    TAMPERING,
    UNCHANGED,
    a_life,
    a_transaction,
    named,
    with_ids,
)
from tests.ledger.tampering import tamper, tampered

from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, ReadSession, query
from tallystick.kernel.ids import encode_id
from tallystick.ledger import sealed_audit, sealing
from tallystick.ledger.audit import audit_ledger
from tallystick.ledger.digests import PostedRows, posted_down
from tallystick.ledger.findings import Finding
from tallystick.ledger.links import Head, Link
from tallystick.ledger.sealed_audit import audit_noted
from tallystick.ledger.sealing import seal_due, seal_late


async def test_the_first_row_that_was_tampered_with_is_named(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    db = unaudited_db
    sealed = await a_life(db, clock)
    assert await audit(db) == []
    wrong = {}
    for tampering, (statements, invariant, words) in TAMPERING.items():
        forged = [with_ids(one, sealed) for one in statements]
        async with tampered(db, *forged) as session:
            found = {one.invariant: one.detail for one in await audit_ledger(session)}
        about_seals = {name: found[name] for name in CONTROLLED if name in found}
        about_seals.pop(SEALED, None)
        if about_seals != {invariant: named(words, sealed)}:
            wrong[tampering] = found
    assert wrong == {}
    assert await audit(db) == []


@pytest.mark.parametrize("at_once", [1, 1_000])
@pytest.mark.parametrize("place", [0, 2, -1])
async def test_a_transaction_that_was_slipped_in_is_named(
    unaudited_db: Database,
    clock: OffsetClock,
    monkeypatch: pytest.MonkeyPatch,
    place: int,
    at_once: int,
) -> None:
    """Between old ones, before the oldest, and right after the last but two."""
    monkeypatch.setattr(sealed_audit, "_AT_ONCE", at_once)
    db = unaudited_db
    sealed = await a_life(db, clock)
    forged = sealed.ids[place] - 1 if place >= 0 else sealed.ids[3] + 1
    await tamper(db, a_transaction(db, forged))
    found = {one.invariant: one.detail for one in await audit(db)}
    name = f"transaction {encode_id('ltx', forged)} (id {forged})"
    assert found[SEALED] == f"{name} was slipped in: no seal has it"
    assert not {CHAINED, UNCHANGED} & found.keys()
    clock.advance(60)
    await seal_late(db)
    assert found[SEALED] in [one.detail for one in await audit(db)], "and never sealed"


async def test_a_seal_that_was_made_anew_does_not_fit_the_next(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    """A forger who knows the format makes a whole seal, but must make all that follow."""
    db = unaudited_db
    sealed = await a_life(db, clock)
    call = sealed.ids[2]
    await tamper(
        db,
        f"UPDATE transfer SET amount = amount + 1 WHERE ledger_transaction_id = {call}",
    )
    await forge_seals(db, [2])
    findings = [one.detail for one in await audit(db)]
    assert "seal 3 does not continue seal 2: one of them was replaced" in findings
    assert not any("was changed after" in one for one in findings)


async def test_books_that_were_rewritten_as_a_whole_are_told_by_a_note(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    db = unaudited_db
    sealed = await a_life(db, clock)
    memo = f"UPDATE ledger_transaction SET memo = 'x' WHERE id = {sealed.ids[2]}"
    await tamper(db, memo)
    await forge_seals(db, [2, 3])
    assert await audit(db) == [], "in themselves they are right"
    async with db.read() as session:
        findings = await audit_noted(session, sealed.noted)
        assert await audit_noted(session, sealed.noted[:1]) == []
    assert [one.detail for one in findings] == [
        "seal 2 is another than the one that was noted",
        "seal 3 is another than the one that was noted",
    ]
    assert {one.invariant for one in findings} == {NOTED}


async def test_all_that_the_oldest_seals_list_is_missed(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    """Below the oldest transaction that is left there are seals yet."""
    db = unaudited_db
    sealed = await a_life(db, clock)
    first, second, _ = await sealed_ids(db)
    await tamper(
        db,
        f"DELETE FROM transfer WHERE ledger_transaction_id <= {max(second)}",
        f"DELETE FROM ledger_transaction WHERE id <= {max(second)}",
    )
    assert min(first) == sealed.ids[0]
    (removed,) = [one for one in await audit(db) if one.invariant == UNCHANGED]
    named_first = f"transaction {encode_id('ltx', min(first))} (id {min(first)})"
    assert removed.detail == f"{named_first} was removed after seal 1"


async def test_a_noted_seal_that_was_cut_off_is_missed(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    db = unaudited_db
    sealed = await a_life(db, clock)
    await tamper(
        db,
        "DELETE FROM journal_seal WHERE number = 3",
        "UPDATE installation SET seals = 2",
    )
    assert await audit(db) == []
    async with db.read() as session:
        findings = await audit_noted(session, sealed.noted)
    assert findings == [Finding(NOTED, "seal 3 is not there")]


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("sealed_at_ms = 1", {CHAINED}),
        # SQLite takes a number for bytes; then nobody knows what it had listed.
        ("transaction_ids = 5", {CHAINED, SEALED}),
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_a_changed_seal_lists_is_not_blamed_as_well(
    unaudited_db: Database, clock: OffsetClock, what: str, found: set[str]
) -> None:
    db = unaudited_db
    await a_life(db, clock)
    await tamper(db, f"UPDATE journal_seal SET {what} WHERE number = 2")
    findings = await audit(db)
    assert {one.invariant for one in findings} == found
    assert "seal 2 was changed" in [one.detail for one in findings]


async def test_a_seal_that_says_of_itself_that_it_is_right_must_have_ids(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    """Whoever forges nonsense with its right digest must not stop the audit."""
    db = unaudited_db
    await a_life(db, clock)
    async with db.read() as session:
        (row,) = await query(session, "SELECT * FROM journal_seal WHERE number = 3")
    nonsense = Link(3, row["previous"], row["sealed_at_ms"], b"seven b", row["digests"])
    await tamper(
        db,
        "UPDATE journal_seal SET"
        f" transaction_ids = {literal(db, nonsense.transaction_ids)},"
        f" digest = {literal(db, nonsense.digest())} WHERE number = 3",
    )
    found = {one.invariant: one.detail for one in await audit(db)}
    assert found[CHAINED] == "seal 3 was changed"
    assert not any("could not be checked" in one for one in found.values())


async def forge_seals(db: Database, numbers: list[int]) -> None:
    """Make these seals anew from what the tables say now."""
    seals = await sealed_ids(db)
    for number in numbers:
        ids = seals[number - 1]
        async with db.read() as session:
            posted = await posted_down(session, first=ids[0], last=ids[-1])
            end = await query(
                session,
                "SELECT number, digest FROM journal_seal WHERE number = :number",
                number=number - 1,
            )
            now = await query(
                session,
                "SELECT sealed_at_ms FROM journal_seal WHERE number = :number",
                number=number,
            )
        link = Link.after(
            Head(end[0]["number"], end[0]["digest"]),
            {one: posted[one].digest() for one in posted},
            now_ms=now[0]["sealed_at_ms"],
        )
        values = {
            "previous": link.previous,
            "digest": link.digest(),
            "digests": link.digests,
        }
        await tamper(
            db,
            *[
                f"UPDATE journal_seal SET {name} = {literal(db, value)}"
                f" WHERE number = {number}"
                for name, value in values.items()
            ],
        )


def literal(db: Database, value: bytes) -> str:
    return f"X'{value.hex()}'" if db.is_sqlite else f"'\\x{value.hex()}'::bytea"


async def test_large_books_are_walked_page_by_page(
    unaudited_db: Database, clock: OffsetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = unaudited_db
    await a_life(db, clock)
    for module, name in (
        (sealed_audit, "_AT_ONCE"),
        (sealed_audit, "_SEALS_AT_ONCE"),
        (sealing, "_AT_ONCE"),
    ):
        monkeypatch.setattr(module, name, 3)
    for _ in range(8):
        await give(db, 50)
        clock.advance(60)
        await seal_due(db)
    ids = await ids_of(db)
    assert sum(map(len, await sealed_ids(db))) == len(ids)
    in_memory = []

    async def watched(session: ReadSession, **limits: int) -> dict[int, PostedRows]:
        found = await posted_down(session, **limits)
        in_memory.append(len(found))
        return found

    monkeypatch.setattr(sealed_audit, "posted_down", watched)
    assert await audit(db) == []
    assert sum(in_memory) == len(ids)
    assert max(in_memory) == 3
    for one in (ids[-1], ids[4]):
        await tamper(db, f"UPDATE ledger_transaction SET memo = '' WHERE id = {one}")
        (finding,) = await audit(db)
        assert re.search(rf"\(id {one}\) was changed after seal \d+", finding.detail)


async def test_a_sealer_goes_no_further_when_seals_are_missing(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    """It would make the missing ones again, from whatever the tables say now."""
    db = unaudited_db
    await a_life(db, clock)
    clock.advance(60)
    await tamper(db, "DELETE FROM journal_seal WHERE number = 3")
    with capture_logs() as logs:
        assert await seal_late(db) == 0
    assert {"event": "journal_seals_missing", "made": 3, "last": 2}.items() <= logs[
        0
    ].items()
    assert len(await sealed_ids(db)) == 2


async def test_a_seal_is_not_made_in_the_place_of_one_that_was_taken_away(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    """Though a sealer had looked before that, and so does not miss it."""
    db = unaudited_db
    sealed = await a_life(db, clock)
    await tamper(db, "DELETE FROM journal_seal WHERE number = 3")
    anew = Link.after(sealed.noted[1], {sealed.ids[-1]: bytes(16)}, now_ms=1)
    with pytest.raises(RuntimeError, match=r"^the journal's seals were tampered with"):
        await db.write(partial(sealing._append, anew))
    assert len(await sealed_ids(db)) == 2
