"""Writing past every guard, as somebody with the database's password could."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.kernel.db import Database, WriteSession


async def tamper(db: Database, *statements: str) -> None:
    """Run the statements with triggers, foreign keys and CHECKs out of the way."""
    if db.is_sqlite:
        path = db.writer.url.database
        assert path is not None
        _tamper_sqlite(Path(path), statements)
        return
    async with db.writer.begin() as connection:
        await _unguard_postgres(connection)
        for one in statements:
            await connection.execute(text(one))


@asynccontextmanager
async def tampered(db: Database, *statements: str) -> AsyncIterator[WriteSession]:
    """A session in which the statements were run; nothing of it stays."""
    async with db.writer.connect() as connection:
        if db.is_sqlite:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            await driver.execute("PRAGMA foreign_keys = OFF")
            await driver.execute("PRAGMA ignore_check_constraints = ON")
        async with connection.begin() as transaction:
            unguard = _unguard_sqlite if db.is_sqlite else _unguard_postgres
            await unguard(connection)
            for one in statements:
                await connection.execute(text(one))
            info = {"clock": db.clock, "ids": db.ids}
            async with AsyncSession(connection, info=info) as session:
                yield WriteSession(session)
            await transaction.rollback()


async def _unguard_sqlite(connection: AsyncConnection) -> None:
    found = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    for name in (await connection.execute(text(found))).scalars().all():
        await connection.execute(text(f"DROP TRIGGER {name}"))


async def _unguard_postgres(connection: AsyncConnection) -> None:
    await connection.execute(text("SET LOCAL session_replication_role = replica"))
    for table in ("account_balance", "transfer", "lot", "reversed", "spend_limit"):
        for name in await _checks(connection, table):
            drop = f'ALTER TABLE {table} DROP CONSTRAINT "{name}"'
            await connection.execute(text(drop))


async def _checks(connection: AsyncConnection, table: str) -> list[str]:
    found = await connection.execute(
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
