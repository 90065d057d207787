"""Another view in the place of one of ours hides nothing from an audit."""

import re
from collections.abc import Mapping

import pytest
from sqlalchemy import text
from tests.ledger.bookings import book, charge, give
from tests.ledger.tampering import tamper

from tallystick.credits.audit import audit_credits
from tallystick.kernel.db import Database, query
from tallystick.ledger.audit import audit_ledger
from tallystick.ledger.views import views

_OURS = {
    "sqlite": "SELECT name, sql AS told FROM sqlite_master WHERE type = 'view'",
    "postgresql": """
        SELECT viewname AS name, definition AS told FROM pg_views
         WHERE schemaname = 'public'""",
}


def plainly(sql: str) -> str:
    """Without what the same query may be written with in another way."""
    words = re.sub(r"^CREATE VIEW \w+ AS", "", re.sub(r"\s+", " ", sql).strip())
    # The migrations have two names for a member of a packed column.
    return re.sub(r"\b(draw|one)\b", "member", words).strip()


async def told(db: Database) -> Mapping[str, str]:
    async with db.read() as session:
        rows = await query(session, _OURS["sqlite" if db.is_sqlite else "postgresql"])
    return {row["name"]: plainly(row["told"]) for row in rows}


async def test_an_audits_views_are_those_of_the_migrations(
    unaudited_db: Database,
) -> None:
    db = unaudited_db
    made, own = await told(db), views(db.writer.dialect.name)
    async with db.writer.begin() as connection:
        for name, sql in own.items():
            await connection.execute(text(f"DROP VIEW {name}"))
            await connection.execute(text(f"CREATE VIEW {name} AS {sql}"))
    assert await told(db) == made


@pytest.mark.parametrize("name", sorted(views("sqlite")))
async def test_a_view_that_shows_nothing_hides_nothing(
    unaudited_db: Database, name: str
) -> None:
    """Of books in which each view has something to show."""
    db = unaudited_db
    await give(db, 100)
    await book(db, charge(30, "one"))
    columns = ", ".join(await _columns(db, name))
    async with db.writer.begin() as connection:
        await connection.execute(text(f"DROP VIEW {name}"))
        hidden = f"SELECT {columns} FROM {name}_before WHERE 1 = 0"
        source = views(db.writer.dialect.name)[name]
        await connection.execute(
            text(f"CREATE VIEW {name} AS WITH {name}_before AS ({source}) {hidden}")
        )
    assert await _findings(db) == []
    await tamper(
        db,
        "UPDATE account_balance SET balance = balance + 1 WHERE burning_lot_id > 0",
        "UPDATE lot SET remaining = remaining + 1",
    )
    assert await _findings(db) != []


async def _columns(db: Database, name: str) -> list[str]:
    async with db.read() as session:
        connection = await session.connection()
        found = await connection.execute(text(f"SELECT * FROM {name}"))
        return list(found.keys())


async def _findings(db: Database) -> list[object]:
    async with db.read() as session:
        return [*await audit_ledger(session), *await audit_credits(session)]
