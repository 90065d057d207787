"""The databases that a benchmark makes for itself; both commit durably."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.postgres import PostgresServer

from bench.plan import SQLITE
from tallystick.migrations import upgrade


@asynccontextmanager
async def postgresql(
    folder: Path, settings: Sequence[str]
) -> AsyncIterator[PostgresServer]:
    """A server with a template of the newest schema; ``settings`` as ``name=value``."""
    where = Path(tempfile.mkdtemp(dir=folder))
    server = PostgresServer(where, durable=True, settings=settings)
    await asyncio.to_thread(server.start)
    try:
        await server.make_template(upgrade)
        yield server
    finally:
        await asyncio.to_thread(server.stop)


def sqlite_url(folder: Path, name: str) -> str:
    """Of a file in the folder."""
    return f"sqlite+aiosqlite:///{folder}/{name}.sqlite3"


@asynccontextmanager
async def two_urls(
    database: str, folder: Path, settings: Sequence[str]
) -> AsyncIterator[tuple[str, str]]:
    """Two sets of books on the same server, or files on the same disk."""
    if database == SQLITE:
        yield sqlite_url(folder, "large"), sqlite_url(folder, "small")
        return
    async with postgresql(folder, settings) as server:
        yield (
            server.url(await server.create_database()),
            server.url(await server.create_database()),
        )
