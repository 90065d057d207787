"""The audit of the money core sees each way in which the books can be wrong."""

import pytest
from sqlalchemy.exc import DBAPIError
from tests.credits.calls import capture, hold, release, set_limit
from tests.ledger import sealed_tampering
from tests.ledger.bookings import (
    ALICE,
    BOB,
    audit,
    book,
    buy,
    charge,
    fresh_key,
    give,
    give_lot,
    run,
)
from tests.ledger.controls import A_CHARGE, CONTROLS
from tests.ledger.tampering import tamper, tampered

from tallystick.credits import audit as credits_audit
from tallystick.credits.audit import audit_credits
from tallystick.credits.debts import claw_back
from tallystick.credits.limits import LimitTake
from tallystick.credits.models import LimitPeriod
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, query
from tallystick.kernel.failing import DatabaseLost
from tallystick.kernel.money import CREDIT, Amount
from tallystick.kernel.seal import digest16
from tallystick.ledger import audit as ledger_audit
from tallystick.ledger import chart
from tallystick.ledger.audit import audit_ledger
from tallystick.ledger.findings import run_checks
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posting, Transfer
from tallystick.ledger.sealing import seal_due
from tallystick.ledger.uniques import ONCE

CAROL = BOB + 1


async def live_a_little(db: Database) -> None:
    await give(db, 50)
    await buy(db, 1_000_000, 10_000_000)
    await give(db, 5, BOB)
    now = db.clock.now_ms()
    await give_lot(db, 9, BOB, effective_at_ms=now + 3_600_000)
    await give_lot(db, 4, BOB, effective_at_ms=now - 9, expires_at_ms=now - 1)
    wrong = await book(db, charge(3, "wrong"))
    back = Transfer(
        chart.feature_revenue("x"), chart.customer_credits(ALICE), Amount(3, CREDIT)
    )
    await book(
        db,
        Posting(
            TransactionKind.REVERSAL,
            fresh_key(),
            [back],
            "taken back",
            reverses_id=wrong.ledger_transaction_id,
        ),
    )
    await capture(db, await hold(db, 7))
    await release(db, await hold(db, 7))
    vanished = await give(db, 6, CAROL)
    await book(db, charge(2, "spent", CAROL))
    await db.write(
        lambda session: claw_back(
            session,
            vanished.ledger_transaction_id,
            idempotency_key=fresh_key(),
            reference="vanished",
            memo="",
        )
    )
    budget = await set_limit(db, 9, LimitPeriod.MONTH)
    await hold(db, 7, limits=[LimitTake(budget, 7, in_credits=True)])


def test_every_invariant_has_its_control() -> None:
    guards = "I2 the guards of the journal are in place"
    rights = "I2 nobody has the right to change what is posted"
    checked = {*ledger_audit.INVARIANTS, *credits_audit.INVARIANTS}
    assert checked == {*CONTROLS, guards, ONCE, rights, *sealed_tampering.CONTROLLED}


async def test_sound_books_have_no_findings(unaudited_db: Database) -> None:
    assert await audit(unaudited_db) == []
    await live_a_little(unaudited_db)
    assert await audit(unaudited_db) == []


@pytest.mark.parametrize("invariant", CONTROLS)
async def test_the_audit_names_what_was_tampered_with(
    unaudited_db: Database, invariant: str
) -> None:
    await live_a_little(unaudited_db)
    await tamper(unaudited_db, CONTROLS[invariant])
    findings = await audit(unaudited_db)
    assert invariant in [one.invariant for one in findings]
    assert all("first broken row: {" in one.detail for one in findings)


# What the columns hold, and for each what no writer writes there.
_PACKED = {
    ("transfer", "lots"): "[[{lot},3]]",
    ("hold", "lots"): "[[{lot},3]]",
    ("hold", "limits"): "[[{lot},3,0,true]]",
}
_NONSENSE = [
    "",
    "not JSON",
    "[[{lot},3",
    "{{}}",
    "7",
    "null",
    "[]",
    "[7]",
    '["[1,3,0,true]"]',
    "[[{lot}]]",
    "[[{lot},3,0,true,9]]",
    '[["{lot}",3,0,true]]',
    "[[{lot},3.5,0,true]]",
    "[[{lot},null,0,true]]",
    "[[{lot},true,0,true]]",
    "[[0,3,0,true]]",
    "[[{lot},3,0,true],[[]]]",
    "[[{lot},4611686018427387904,0,true]]",
    "[[{lot},9999999999999999999,0,true]]",
    "[[{lot},99999999999999999999999999,0,true]]",
]
_ONLY_OF_HOLDS = ["[[{lot},-3,0,true]]", "[[{lot},0,0,true]]"]


@pytest.mark.parametrize("packed", _PACKED, ids=".".join)
async def test_no_nonsense_in_a_packed_column_stops_the_audit(
    unaudited_db: Database, clock: OffsetClock, packed: tuple[str, str]
) -> None:
    """It names the row, makes every other check, and still walks along the seals."""
    db = unaudited_db
    await live_a_little(db)
    clock.advance(60)
    assert await seal_due(db) == 1
    table, column = packed
    (charged,) = await _ids(db, f"SELECT {A_CHARGE} AS id")
    (held,) = await _ids(db, "SELECT id FROM hold WHERE state = 'open'")
    (lot,) = await _ids(db, "SELECT id FROM lot WHERE bought")
    row = {"transfer": f"ledger_transaction_id = {charged}", "hold": f"id = {held}"}
    named = {"transfer": charged, "hold": held}[table]
    nonsense = [*_NONSENSE, *(_ONLY_OF_HOLDS if table == "hold" else [])]
    if column == "lots":
        nonsense = [one.replace(",0,true", "") for one in nonsense]
    unrelated = "UPDATE reversed SET amount = amount + 1"
    memo = f"UPDATE ledger_transaction SET memo = 'x' WHERE id = {charged}"
    for one in nonsense:
        value = one.format(lot=lot)
        change = f"UPDATE {table} SET lot_id = NULL, {column} = '{value}'"
        if column == "limits":
            change = f"UPDATE {table} SET {column} = '{value}'"
        forged = [f"{change} WHERE {row[table]}", unrelated, memo]
        async with tampered(db, *forged) as session:
            findings = await audit_ledger(session) + await audit_credits(session)
        found = {one.invariant: one.detail for one in findings}
        readable = [name for name in found if name.endswith("can be read")]
        assert len(readable) == 1, (value, found)
        assert str(named) in found[readable[0]]
        assert "I12 what may be reversed is what was moved" in found
        assert f"(id {charged}) was changed after seal 1" in str(found)
    well = _PACKED[packed].format(lot=lot)
    change = f"UPDATE {table} SET {column} = '{well}' WHERE {row[table]}"
    if column == "lots":
        change = change.replace("SET", "SET lot_id = NULL,")
    async with tampered(db, change) as session:
        findings = await audit_ledger(session) + await audit_credits(session)
    assert not [one for one in findings if one.invariant.endswith("can be read")]


async def _ids(db: Database, sql: str) -> list[int]:
    async with db.read() as session:
        return [row["id"] for row in await query(session, sql)]


async def test_a_check_that_cannot_be_made_is_a_finding(
    unaudited_db: Database,
) -> None:
    """Amounts whose sum no integer holds break a check, and no other."""
    async with unaudited_db.read() as session:
        found = await run_checks(
            session,
            {
                "first": "SELECT 1 AS one WHERE 1 = 2",
                "broken": "SELECT no_such_thing FROM transfer",
                "last": "SELECT 7 AS seven",
            },
        )
    assert [one.invariant for one in found] == ["broken", "last"]
    assert found[0].detail.startswith("could not be checked: ")
    assert "no_such_thing" in found[0].detail
    assert found[1].detail == "first broken row: {'seven': 7}"


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_books_that_cannot_be_asked_are_not_called_broken(
    unaudited_db: Database,
) -> None:
    gone = {"gone": "SELECT pg_terminate_backend(pg_backend_pid())"}
    with pytest.raises(DatabaseLost):
        async with unaudited_db.read() as session:
            await run_checks(session, gone)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_text_that_is_no_text_neither_stops_the_audit_nor_hides(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    """SQLite keeps any bytes as text, and its driver then refuses to read them."""
    db = unaudited_db
    await live_a_little(db)
    clock.advance(60)
    assert await seal_due(db) == 1
    first, *_, last = await _ids(db, "SELECT id FROM ledger_transaction ORDER BY id")
    await tamper(
        db,
        f"UPDATE ledger_transaction SET memo = CAST(x'ff' AS TEXT) WHERE id = {last}",
    )
    (finding,) = await audit(db)
    assert finding.invariant == "I15 what was sealed is there and unchanged"
    assert f"(id {last}) cannot be read" in finding.detail
    await tamper(db, f"UPDATE ledger_transaction SET memo = '' WHERE id = {first}")
    (finding,) = await audit(db)
    assert f"(id {first}) was changed after seal 1" in finding.detail


async def test_what_captured_holds_took_of_a_limit_is_not_lowered_unseen(
    unaudited_db: Database,
) -> None:
    db = unaudited_db
    await give(db, 50)
    in_credits = await set_limit(db, 30, LimitPeriod.MONTH, name="credits")
    in_uses = await set_limit(db, 30, LimitPeriod.TOTAL, name="uses")
    takes = [LimitTake(in_credits, 7, in_credits=True), LimitTake(in_uses, 6)]
    for amount in (7, 5):
        await capture(db, await hold(db, 7, limits=takes), amount)
    await release(db, await hold(db, 7, limits=takes))
    assert await audit(db) == []
    # Of uses 12 are used, and as much as 2 may have come back: who looks cannot know.
    for limit, lowest in ((in_credits, 12), (in_uses, 10)):
        for used, is_found in ((lowest, False), (lowest - 1, True)):
            lower = f"UPDATE spend_limit SET used = {used} WHERE id = {limit}"
            async with tampered(db, lower) as session:
                found = [one.invariant for one in await audit_credits(session)]
            name = "I14 what holds took is counted in their limits"
            assert found == ([name] if is_found else [])


_GUARDED = {
    "transfer": "UPDATE transfer SET amount = amount",
    "credit_grant": "UPDATE credit_grant SET category = 'trial'",
    "usage_event": "DELETE FROM usage_event",
    "lot": "UPDATE lot SET priority = 1",
}


@pytest.mark.parametrize("table", _GUARDED)
async def test_the_audit_misses_a_guard_that_was_dropped(
    unaudited_db: Database, table: str
) -> None:
    await live_a_little(unaudited_db)
    await _use(unaudited_db)
    with pytest.raises(DBAPIError, match=r"is append-only|terms of a lot are fixed"):
        await run(unaudited_db, _GUARDED[table])
    drop = {
        True: f"DROP TRIGGER {table}_refuses_update",
        False: f"ALTER TABLE {table} DISABLE TRIGGER USER",
    }
    await run(unaudited_db, drop[unaudited_db.is_sqlite])
    (finding,) = await audit(unaudited_db)
    assert finding.invariant == "I2 the guards of the journal are in place"
    assert table in finding.detail


async def _use(db: Database) -> None:
    await run(
        db,
        "INSERT INTO usage_event (id, customer_id, feature, quantity, credits,"
        " catalog_version, occurred_at_ms) VALUES (1, 1, 'x', 1, 1, '1', 1)",
    )


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE lot SET amount = amount",
        "UPDATE lot SET bought = NOT bought",
        "UPDATE lot SET effective_at_ms = 1",
        "UPDATE lot SET expires_at_ms = 1 << 60, remaining = remaining",
        "UPDATE lot SET ledger_account_id = ledger_account_id",
        "UPDATE lot SET id = id",
        "DELETE FROM lot",
        "DELETE FROM credit_grant",
    ],
)
async def test_what_never_changes_cannot_be_changed(db: Database, change: str) -> None:
    await give(db, 50)
    with pytest.raises(DBAPIError, match=r"is append-only|terms of a lot are fixed"):
        await run(db, change)
    await run(db, "UPDATE lot SET remaining = remaining, is_open = is_open")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_audit_sees_a_fraction_that_sqlite_let_in(
    unaudited_db: Database,
) -> None:
    await live_a_little(unaudited_db)
    await tamper(unaudited_db, "UPDATE transfer SET amount = 1.5 WHERE position = 0")
    names = [one.invariant for one in await audit(unaudited_db)]
    assert "I13 amounts are whole numbers below the limit" in names


async def test_the_audit_sees_a_line_that_was_slipped_in(
    unaudited_db: Database,
) -> None:
    """A forger who also adjusts the balance still breaks numbering and lots."""
    await live_a_little(unaudited_db)
    alice = f"(SELECT id FROM ledger_account WHERE customer_id = {ALICE})"
    house = "(SELECT id FROM ledger_account WHERE code = 'expense:promotions')"
    key = digest16(b"forged").hex()
    blob = f"X'{key}'" if unaudited_db.is_sqlite else f"'\\x{key}'::bytea"
    await tamper(
        unaudited_db,
        "INSERT INTO ledger_transaction (id, kind, idempotency_key, input_hash,"
        " reference, memo, occurred_at_ms, posted_at_ms)"
        f" VALUES (1, 'charge', {blob}, {blob}, 'forged', '', 1, 1)",
        "INSERT INTO transfer (ledger_transaction_id, position, debit_account_id,"
        f" credit_account_id, amount) VALUES (1, 0, {house}, {alice}, 1000)",
        "UPDATE account_balance SET balance = balance + 1000"
        f" WHERE ledger_account_id = {alice}",
    )
    names = [one.invariant for one in await audit(unaudited_db)]
    assert names == [
        "I3 a customer's lines are numbered, the house's are not",
        "I3 balance equals what remains in the lots plus what is held",
    ]
