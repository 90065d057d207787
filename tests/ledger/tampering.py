"""Writing past every guard, as somebody with the database's password could."""

import sqlite3
from pathlib import Path

from sqlalchemy import text

from tallystick.kernel.db import Database


async def tamper(db: Database, *statements: str) -> None:
    """Run the statements with triggers, foreign keys and CHECKs out of the way."""
    if db.is_sqlite:
        path = db.writer.url.database
        assert path is not None
        _tamper_sqlite(Path(path), statements)
        return
    async with db.writer.begin() as connection:
        await connection.execute(text("SET LOCAL session_replication_role = replica"))
        for table in ("account_balance", "transfer", "lot", "reversed"):
            for name in await _checks(connection, table):
                drop = f'ALTER TABLE {table} DROP CONSTRAINT "{name}"'
                await connection.execute(text(drop))
        for one in statements:
            await connection.execute(text(one))


async def _checks(connection: object, table: str) -> list[str]:
    found = await connection.execute(  # type: ignore[attr-defined]
        text(
            "SELECT conname FROM pg_constraint"
            f" WHERE contype = 'c' AND conrelid = '{table}'::regclass"
        )
    )
    return [row[0] for row in found]


def _tamper_sqlite(path: Path, statements: tuple[str, ...]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    triggers = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
    ).fetchall()
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA ignore_check_constraints = ON")
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    for one in statements:
        connection.execute(one)
    for _, sql in triggers:
        connection.execute(sql)
    connection.close()
