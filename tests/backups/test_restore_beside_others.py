"""Whoever writes to a database while it is restored loses nothing and adds nothing."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from tallystick.backups.archive import Header
from tallystick.backups.errors import DatabaseNotEmpty
from tallystick.backups.restore import restore_backup
from tallystick.kernel.db import Database, is_conflict, open_database, query
from tallystick.migrations import upgrade
from tests.backups.test_backups import contents, restore, take
from tests.ledger.bookings import give

STRANGER = "INSERT INTO customer (id, created_at_ms) VALUES (8, 1)"


@pytest.fixture
async def backup(db: Database, tmp_path: Path) -> Path:
    await give(db, 5)
    await take(db, tmp_path / "books.backup")
    return tmp_path / "books.backup"


@pytest.fixture
async def empty(db: Database, empty_url: str) -> Database:
    """Of the same kind, as a server's first start leaves it."""
    opened = open_database(empty_url, db.clock)
    await upgrade(opened)
    return opened


async def _write_impatiently(url: str) -> None:
    patience = (
        "PRAGMA busy_timeout = 100"
        if url.startswith("sqlite")
        else "SET lock_timeout = '100ms'"
    )
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(patience))
            await connection.execute(text(STRANGER))
    finally:
        await engine.dispose()


async def test_nobody_writes_between_the_look_and_the_last_row(
    db: Database, empty: Database, empty_url: str, backup: Path
) -> None:
    refused: list[bool] = []

    def meanwhile(_: Header) -> None:
        with ThreadPoolExecutor(1) as pool, pytest.raises(DBAPIError) as refusal:
            pool.submit(asyncio.run, _write_impatiently(empty_url)).result()
        refused.append(is_conflict(refusal.value))

    await restore_backup(empty, backup, meanwhile, lambda *_: None)
    assert refused == [True]
    assert await contents(empty) == await contents(db)
    await empty.close()


async def test_what_was_being_written_when_a_restore_began_is_not_lost(
    empty: Database, empty_url: str, backup: Path
) -> None:
    other = open_database(empty_url)
    async with other.writer.begin() as connection:
        await connection.execute(text(STRANGER))
        restoring = asyncio.create_task(restore(empty, backup))
        await asyncio.wait([restoring], timeout=0.5)
    with pytest.raises(DatabaseNotEmpty, match="customer"):
        await restoring
    async with other.read() as session:
        assert len(await query(session, "SELECT id FROM customer")) == 1
    await other.close()
    await empty.close()
