"""Putting a backup into an empty database, which may be of the other kind."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, MetaData, Table, func, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from tallystick import migrations
from tallystick.backups.archive import (
    Header,
    TableHead,
    read_archive,
    verified,
)
from tallystick.backups.errors import (
    DatabaseNotEmpty,
    NewerBackup,
    UnreadableBackup,
)
from tallystick.backups.take import Progress
from tallystick.kernel.db import Database

_AT_ONCE = 500
_OWN = "installation"
"""Has a row from the first moment; that of the backup takes its place."""
# Nobody has such a right on the journal, nor its owner, so it cannot be locked. Who
# writes to it needs the accounts, and those are.
_LOCKABLE = text("SELECT has_table_privilege(:name, 'UPDATE, DELETE, TRUNCATE')")


async def restore_backup(
    db: Database,
    path: Path,
    begin: Callable[[Header], None],
    progress: Progress,
    *,
    accept_broken_seals: bool = False,
) -> Header:
    """Fill the empty database with the backup's rows, and bring it up to date.

    All of them or none, in one transaction: nobody writes to it between the look whether
    it is empty and the last row. Raises ``UnreadableBackup``, ``NewerBackup``,
    ``DatabaseNotEmpty``, or ``BrokenSeals`` for books of an older schema that are not as
    they were sealed.
    """
    header = verified(path)
    if header.revision not in migrations.revisions():
        raise NewerBackup(f"its schema {header.revision} is unknown here")

    async def fill(connection: AsyncConnection) -> None:
        await connection.run_sync(_require_empty)
        await connection.run_sync(migrations.remake, header.revision)
        begin(header)
        await _fill(connection, path, header, progress)

    await migrations.upgrade(db, accept_broken_seals=accept_broken_seals, before=fill)
    return header


def _require_empty(connection: Connection) -> None:
    """Raises ``DatabaseNotEmpty``; if not, it stays empty until the caller commits."""
    tables = _tables(connection)
    _lock(connection, tables)
    for table in tables.values():
        if table.name == _OWN:
            continue
        if connection.execute(select(func.count()).select_from(table)).scalar_one():
            raise DatabaseNotEmpty(f"the table {table.name} has rows")


def _lock(connection: Connection, tables: dict[str, Table]) -> None:
    if connection.dialect.name == "sqlite":
        return  # BEGIN IMMEDIATE is the lock
    for name in map(connection.dialect.identifier_preparer.quote, sorted(tables)):
        if connection.execute(_LOCKABLE, {"name": name}).scalar_one():
            connection.execute(text(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"))


def _tables(connection: Connection) -> dict[str, Table]:
    """As they are in the database: its schema may be older than the models."""
    metadata = MetaData()
    names = set(inspect(connection).get_table_names()) - {"alembic_version"}
    metadata.reflect(connection, only=sorted(names))
    return dict(metadata.tables)


async def _fill(
    connection: AsyncConnection, path: Path, header: Header, progress: Progress
) -> None:
    tables = await connection.run_sync(_tables)
    await connection.execute(tables[_OWN].delete())
    found: dict[str, int] = {}
    for head, rows in _batches(path):
        table = tables.get(head.table)
        if table is None:
            raise UnreadableBackup(f"it has a table {head.table}, the schema has not")
        if rows:
            await connection.execute(table.insert(), rows)
        found[head.table] = found.get(head.table, 0) + len(rows)
        progress(head.table, len(rows))
    if found != dict(header.rows):
        raise UnreadableBackup("it has other rows than its first line tells")


def _batches(path: Path) -> Iterator[tuple[TableHead, list[dict[str, Any]]]]:
    """Some rows of one table at a time; a table without rows comes once."""
    head: TableHead | None = None
    rows: list[dict[str, Any]] = []
    for item in read_archive(path):
        if isinstance(item, Header):
            continue
        if isinstance(item, TableHead) or len(rows) == _AT_ONCE:
            if head is not None:
                yield head, rows
            rows = []
        if isinstance(item, TableHead):
            head = item
        elif head is not None:
            names = [name for name, _ in head.columns]
            rows.append(dict(zip(names, item, strict=True)))
    if head is not None:
        yield head, rows
