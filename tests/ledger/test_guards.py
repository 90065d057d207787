"""A guard counts for what it does: one of the right name that guards nothing is found."""

from collections.abc import Sequence

import pytest
from sqlalchemy import RowMapping
from tests.ledger.bookings import audit, run

from tallystick.kernel.db import Database, query
from tallystick.ledger.guards import (
    GUARDED,
    audit_guards,
    expected_guards,
    guards_of,
)


async def test_the_guards_that_are_expected_are_those_that_the_migrations_make(
    unaudited_db: Database,
) -> None:
    """Whoever changes a guard, or adds one, tells the audit of it."""
    async with unaudited_db.read() as session:
        found = await guards_of(session)
    assert found == expected_guards(unaudited_db.writer.dialect.name)


_REFUSES = "BEGIN SELECT RAISE(ABORT, 'transfer is append-only'); END"
_ON_SQLITE = {
    "is gone": "",
    "does nothing": "BEFORE UPDATE ON transfer BEGIN SELECT 1; END",
    "comes too late": f"AFTER UPDATE ON transfer {_REFUSES}",
    "guards another table": f"BEFORE UPDATE ON reversed {_REFUSES}",
    "guards another verb": f"BEFORE INSERT ON transfer {_REFUSES}",
    "guards one column": f"BEFORE UPDATE OF position ON transfer {_REFUSES}",
    "has a condition": f"BEFORE UPDATE ON transfer WHEN 0 {_REFUSES}",
    "stops a row and not its statement": (
        "BEFORE UPDATE ON transfer BEGIN SELECT RAISE(IGNORE); END"
    ),
    # The space is one that SQLite takes for a letter.
    "guards a table of almost the same name": (
        f'BEFORE UPDATE ON "transfer\u00a0" {_REFUSES}'
    ),
}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("forged", _ON_SQLITE.values(), ids=_ON_SQLITE)
async def test_the_audit_sees_what_a_guard_is_on_sqlite(
    unaudited_db: Database, forged: str
) -> None:
    assert await audit(unaudited_db) == []
    await run(unaudited_db, 'CREATE TABLE "transfer\u00a0" (id INTEGER)')
    await run(unaudited_db, "DROP TRIGGER transfer_refuses_update")
    if forged:
        await run(unaudited_db, f"CREATE TRIGGER transfer_refuses_update {forged}")
    (finding,) = await audit(unaudited_db)
    assert finding.invariant == GUARDED
    assert finding.detail.startswith("transfer_refuses_update on transfer is ")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_terms_of_lots_are_guarded_each_of_them(
    unaudited_db: Database,
) -> None:
    async with unaudited_db.read() as session:
        guard = (await guards_of(session))["lot", "lot_refuses_update"]["text"]
    await run(unaudited_db, "DROP TRIGGER lot_refuses_update")
    await run(unaudited_db, str(guard).replace("priority, ", ""))
    (finding,) = await audit(unaudited_db)
    assert "lot_refuses_update on lot is another: {'text': \"CREATE" in finding.detail


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_guard_that_is_only_laid_out_otherwise_is_the_same(
    unaudited_db: Database,
) -> None:
    async with unaudited_db.read() as session:
        guard = (await guards_of(session))["lot", "lot_refuses_update"]["text"]
    await run(unaudited_db, "DROP TRIGGER lot_refuses_update")
    await run(unaudited_db, str(guard).replace("BEGIN ", "\n\tBEGIN\r\n  "))
    assert await audit(unaudited_db) == []


_NOTHING = "LANGUAGE plpgsql AS $$ BEGIN RETURN NEW;END $$"
_ALL = "BEFORE UPDATE OR DELETE OR TRUNCATE"


def _anew(
    when: str = _ALL,
    table: str = "transfer",
    each: str = "STATEMENT",
    function: str = "refuse_change",
    name: str = "transfer_append_only",
) -> str:
    return (
        f"CREATE OR REPLACE TRIGGER {name} {when} ON {table}"
        f" FOR EACH {each} EXECUTE FUNCTION {function}()"
    )


_ON_POSTGRESQL = {
    "is gone": "DROP TRIGGER transfer_append_only ON transfer",
    "is off": "ALTER TABLE transfer DISABLE TRIGGER transfer_append_only",
    "is on in copies only": (
        "ALTER TABLE transfer ENABLE REPLICA TRIGGER transfer_append_only"
    ),
    "has a function that does nothing": (
        f"CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger {_NOTHING}"
    ),
    "has a function of another language": (
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger"
        " LANGUAGE internal AS 'suppress_redundant_updates_trigger'"
    ),
    "calls another function": _anew(function="refuse_other_terms"),
    "guards another verb": _anew("BEFORE DELETE OR TRUNCATE"),
    "comes too late": _anew("AFTER UPDATE OR DELETE OR TRUNCATE"),
    "guards rows": _anew("BEFORE UPDATE OR DELETE", each="ROW"),
    "guards one column": _anew("BEFORE UPDATE OF position OR DELETE OR TRUNCATE"),
    "has a condition": _anew(each="STATEMENT WHEN (false)"),
    "guards another table": (
        f"DROP TRIGGER transfer_append_only ON transfer; {_anew(table='reversed')}"
    ),
}


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
@pytest.mark.parametrize("forged", _ON_POSTGRESQL.values(), ids=_ON_POSTGRESQL)
async def test_the_audit_sees_what_a_guard_is_on_postgresql(
    unaudited_db: Database, forged: str
) -> None:
    assert await audit(unaudited_db) == []
    await run(unaudited_db, *forged.split("; "))
    (finding,) = await audit(unaudited_db)
    assert finding.invariant == GUARDED
    assert finding.detail.startswith("transfer_append_only on transfer is ")


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_the_audit_sees_what_the_guard_of_lots_is_on_postgresql(
    unaudited_db: Database,
) -> None:
    fewer = _anew(
        "BEFORE UPDATE OF amount, bought OR DELETE OR TRUNCATE",
        "lot",
        function="refuse_other_terms",
        name="lot_terms_fixed",
    )
    function = "CREATE OR REPLACE FUNCTION refuse_other_terms() RETURNS trigger"
    for forged in (fewer, f"{function} {_NOTHING}"):
        await run(unaudited_db, forged)
        (finding,) = await audit(unaudited_db)
        assert finding.detail.startswith("lot_terms_fixed on lot is another: ")


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_a_guard_that_is_always_on_is_no_finding(unaudited_db: Database) -> None:
    always = "ALTER TABLE transfer ENABLE ALWAYS TRIGGER transfer_append_only"
    await run(unaudited_db, always)
    assert await audit(unaudited_db) == []


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_the_audit_sees_who_writes_past_the_guards(
    unaudited_db: Database,
) -> None:
    db = unaudited_db
    (own,) = await _rows(db, "SELECT current_database() AS name")
    for whose in ("ROLE passer IN DATABASE {}", "DATABASE {}"):
        await run(db, "DROP ROLE IF EXISTS passer", "CREATE ROLE passer")
        setting = f"ALTER {whose.format(own['name'])} {{}} session_replication_role"
        await run(db, f"{setting.format('SET')} = replica")
        (finding,) = await audit(db)
        assert finding.invariant == GUARDED
        named = "role passer" if "ROLE" in whose else f"database {own['name']}"
        assert f"{named} writes past them" in finding.detail
        await run(db, f"{setting.format('SET')} = origin")
        assert await audit(db) == []
        await run(db, setting.format("RESET"), "DROP ROLE passer")


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_the_audit_sees_that_its_own_session_passes_the_guards(
    unaudited_db: Database,
) -> None:
    async with unaudited_db.read() as session:
        await query(
            session, "SELECT set_config('session_replication_role', 'replica', true)"
        )
        (finding,) = await audit_guards(session)
    assert finding.detail == (
        "this session writes past them (session_replication_role)"
    )


async def _rows(db: Database, sql: str) -> Sequence[RowMapping]:
    async with db.read() as session:
        return await query(session, sql)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_of_a_guard_that_is_another_only_the_difference_is_told(
    unaudited_db: Database,
) -> None:
    await run(unaudited_db, _ON_POSTGRESQL["is off"])
    (finding,) = await audit(unaudited_db)
    assert finding.detail == (
        "transfer_append_only on transfer is another: {'enabled': False}"
    )
