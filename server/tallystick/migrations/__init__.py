"""The schema and how a database gets to it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from tallystick.kernel.db import Database, is_conflict
from tallystick.kernel.failing import DatabaseBusy
from tallystick.migrations.tables import metadata

_PATIENCE_SECONDS = 60
_ADVISORY_KEY = 0x7A11_5717  # any number that nothing else in the database locks


class NotOurDatabase(Exception):
    """The database belongs to another program or to a newer version of this one."""


def _config(connection: Connection) -> Config:
    config = Config()
    # A percent sign in a folder's name would be taken for a placeholder.
    folder = str(Path(__file__).parent).replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.attributes["connection"] = connection
    config.attributes["metadata"] = metadata
    return config


@cache
def _script() -> ScriptDirectory:
    """Every step, read once: each is a module of its own."""
    return ScriptDirectory(str(Path(__file__).parent))


def revisions() -> list[str]:
    """Every revision of the schema that this version knows, the newest first."""
    return [one.revision for one in _script().walk_revisions()]


async def upgrade(
    db: Database,
    revision: str = "head",
    *,
    accept_broken_seals: bool = False,
    before: Callable[[AsyncConnection], Awaitable[None]] | None = None,
) -> None:
    """Bring the database to the newest schema; nothing happens when it is there.

    All steps are one transaction, and what ``before`` does belongs to it. Processes that
    start together do it one by one. Raises ``DatabaseBusy`` when others kept a table for
    a minute, ``NotOurDatabase`` before anything is written, and ``BrokenSeals`` where new
    seals would hide that the books are not as they were sealed.
    """

    def step(connection: Connection) -> None:
        if revision == "head" and _heads(connection) == set(_script().get_heads()):
            return
        config = _config(connection)
        config.attributes["accept_broken_seals"] = accept_broken_seals
        command.upgrade(config, revision)

    await _migrate(db, step, before)


async def downgrade(db: Database, revision: str = "base") -> None:
    """Take steps back, to an empty database unless a revision is named."""
    await _migrate(
        db, lambda connection: command.downgrade(_config(connection), revision)
    )


def remake(connection: Connection, revision: str) -> None:
    """Drop every table and make those of the revision, in the caller's transaction.

    So nobody else can write to them before it commits. For ``before`` of ``upgrade``.
    """
    config = _config(connection)
    command.downgrade(config, "base")
    command.upgrade(config, revision)


async def _migrate(
    db: Database,
    step: Callable[[Connection], None],
    before: Callable[[AsyncConnection], Awaitable[None]] | None = None,
) -> None:
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            async with _turn(db) as connection:
                await connection.run_sync(_require_ours)
                if before is not None:
                    await before(connection)
                return await connection.run_sync(step)
        except DBAPIError as error:
            if not is_conflict(error):
                raise
            if time.monotonic() > give_up_at:
                raise DatabaseBusy("the schema is in use") from error
        await asyncio.sleep(0.1)


@asynccontextmanager
async def _turn(db: Database) -> AsyncIterator[AsyncConnection]:
    if not db.is_sqlite:
        async with db.writer.begin() as connection:
            await _wait_for_turn(connection)
            yield connection
        return
    # BEGIN IMMEDIATE is the turn. SQLite changes a constraint by making the table anew,
    # which it allows only while nobody follows references; so they are checked at the
    # end instead (https://www.sqlite.org/lang_altertable.html#otheralter).
    async with db.writer.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.execute("PRAGMA foreign_keys = OFF")
        try:
            async with connection.begin():
                yield connection
                broken = await connection.execute(text("PRAGMA foreign_key_check"))
                if broken.first() is not None:
                    raise RuntimeError("a migration broke a reference between tables")
        finally:
            await driver.execute("PRAGMA foreign_keys = ON")


async def _wait_for_turn(connection: AsyncConnection) -> None:
    await connection.execute(text("SET LOCAL statement_timeout = 0"))
    await connection.execute(text(f"SET LOCAL lock_timeout = '{_PATIENCE_SECONDS}s'"))
    await connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_KEY})"))
    # A step that waited long for a table would make every request behind it wait too.
    await connection.execute(text("SET LOCAL lock_timeout = '2s'"))


def _heads(connection: Connection) -> set[str]:
    return set(MigrationContext.configure(connection).get_current_heads())


def _require_ours(connection: Connection) -> None:
    heads = _heads(connection)
    if heads - set(revisions()):
        raise NotOurDatabase(
            "the database was made by a newer version of Tallystick or by another"
            " program: update Tallystick, or name another database in DATABASE_URL."
        )
    # Of ours, only the table of revisions outlives a downgrade to nothing.
    if not heads and set(inspect(connection).get_table_names()) - {"alembic_version"}:
        raise NotOurDatabase(
            "the database has tables of another program: name an empty one, or one of"
            " Tallystick's, in DATABASE_URL."
        )


async def is_current(db: Database) -> bool:
    """Whether the database has the schema that this version needs.

    Raises ``NotOurDatabase``.
    """

    def check(connection: Connection) -> bool:
        _require_ours(connection)
        return _heads(connection) == set(_script().get_heads())

    async with db.reader.connect() as connection:
        return await connection.run_sync(check)


async def differences(db: Database) -> list[object]:
    """What the migrated database lacks or has over the models; empty when equal."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415  # tests only

    def compare(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection)
        return list(compare_metadata(context, metadata))

    async with db.reader.connect() as connection:
        return await connection.run_sync(compare)
