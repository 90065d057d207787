"""Without the index that keeps something there once, the audit says so."""

import pytest
from sqlalchemy import text
from tests.ledger.bookings import audit

from tallystick.kernel.db import Database
from tallystick.ledger.uniques import ONCE, UNIQUE, uniques_of

_KEYS = "ledger_transaction (idempotency_key)"


async def test_the_audit_expects_what_the_migrations_made(
    unaudited_db: Database,
) -> None:
    """All of it: where PostgreSQL has an index for an id, SQLite has the table itself."""
    async with unaudited_db.read() as session:
        found = await uniques_of(session)
    expected = {*UNIQUE.items()}
    assert expected <= found
    rest = {once for once, _ in found - expected}
    numbers = {"id", "number", "ledger_account_id", "topup_id", "chain_transfer_id"}
    others = {(table, one) for table, one in rest if one not in numbers}
    assert others == {("alembic_version", "version_num")}


async def _name_of_the_index(db: Database) -> str:
    indexes = {
        True: "SELECT name FROM sqlite_master WHERE type = 'index'"
        " AND sql LIKE 'CREATE UNIQUE%(idempotency_key)%'",
        False: "SELECT indexname FROM pg_indexes WHERE tablename = 'ledger_transaction'"
        " AND indexdef LIKE '%UNIQUE%(idempotency_key)%'",
    }
    async with db.writer.connect() as connection:
        found = await connection.execute(text(indexes[db.is_sqlite]))
        return str(found.scalar_one())


@pytest.mark.parametrize(
    "instead",
    [
        None,
        "CREATE INDEX {} ON ledger_transaction (idempotency_key)",
        "CREATE UNIQUE INDEX {} ON ledger_transaction (idempotency_key, id)",
        "CREATE UNIQUE INDEX {} ON ledger_transaction (idempotency_key) WHERE id < 0",
    ],
)
async def test_an_index_that_does_not_keep_a_key_there_once_is_named(
    unaudited_db: Database, instead: str | None
) -> None:
    db = unaudited_db
    assert await audit(db) == []
    name = await _name_of_the_index(db)
    async with db.writer.begin() as connection:
        await connection.execute(text(f"DROP INDEX {name}"))
        if instead:
            await connection.execute(text(instead.format(name)))
    (found,) = await audit(db)
    assert found.invariant == ONCE
    assert found.detail == f"no UNIQUE index any more on {_KEYS}"
