"""Taking a backup while the server goes on: one snapshot of every table."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import LargeBinary, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallystick.backups.archive import ArchiveWriter, Header, TableHead
from tallystick.kernel.db import Database
from tallystick.migrations import revisions
from tallystick.migrations.tables import metadata

Progress = Callable[[str, int], None]
"""Is told a table's name, and how many of its rows were done since the last time."""
_AT_ONCE = 1_000


async def take_backup(
    db: Database, path: Path, begin: Callable[[Header], None], progress: Progress
) -> Header:
    """Write every row of one moment to the file; ``begin`` is told how many there are.

    The schema must be this version's. Raises ``FileExists``.
    """
    with ArchiveWriter(path) as archive:
        async with db.snapshot() as session:
            connection = await session.connection()
            counts = {table.name: await _count(connection, table) for table in TABLES}
            header = Header(revisions()[0], db.clock.now_ms(), counts)
            archive.header(header)
            begin(header)
            for table in TABLES:
                archive.table(TableHead(table.name, _columns(table)))
                await _copy(connection, table, archive, progress)
    return header


TABLES = metadata.sorted_tables
"""Each after those that it refers to."""


async def _count(connection: AsyncConnection, table: Table) -> int:
    counted = await connection.execute(select(func.count()).select_from(table))
    return int(counted.scalar_one())


def _columns(table: Table) -> list[tuple[str, str]]:
    return [
        (column.name, "bytes" if isinstance(column.type, LargeBinary) else "plain")
        for column in table.columns
    ]


async def _copy(
    connection: AsyncConnection,
    table: Table,
    archive: ArchiveWriter,
    progress: Progress,
) -> None:
    query = select(table).order_by(*table.primary_key.columns)
    rows = await connection.stream(query.execution_options(yield_per=_AT_ONCE))
    async for some in rows.partitions():
        for row in some:
            archive.row(row)
        progress(table.name, len(some))
