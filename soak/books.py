"""Empty books of the newest schema, as often as a campaign wants some."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.postgres import PostgresServer

from soak import places
from soak.plan import Plan
from tallystick.kernel.db import open_database
from tallystick.migrations import upgrade

Make = Callable[[Path], Awaitable[str]]


@contextmanager
def fresh_books(plan: Plan, folder: Path) -> Iterator[Make]:
    """A function that makes empty books."""
    if plan.database == "sqlite":
        yield _copied(asyncio.run(_template(folder / "template.sqlite3")))
        return
    with places.postgres(folder, durable=False) as server:
        asyncio.run(server.make_template(upgrade))
        yield _created(server)


async def _template(path: Path) -> Path:
    db = open_database(f"sqlite+aiosqlite:///{path}")
    await upgrade(db)
    await db.close()
    return path


def _copied(template: Path) -> Make:
    async def make(folder: Path) -> str:
        path = folder / "books.sqlite3"
        shutil.copy(template, path)
        return f"sqlite+aiosqlite:///{path}"

    return make


def _created(server: PostgresServer) -> Make:
    last: list[str] = []

    async def make(_folder: Path) -> str:
        # The program before this one is over, and thousands would fill the disk.
        while last:
            await server.drop_database(last.pop())
        last.append(await server.create_database())
        return server.url(last[0])

    return make
