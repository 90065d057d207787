"""Connections as the books need them, on SQLite and on PostgreSQL."""

import sqlite3
from collections.abc import Callable
from typing import Any

import asyncpg
from sqlalchemy import URL, ExceptionContext, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tallystick.kernel.failing import READ_ONLY
from tallystick.kernel.one_trip import connect

# An exception's text would otherwise show signatures and key hashes.
_HIDE: dict[str, Any] = {"hide_parameters": True}
_POSTGRESQL = {
    "lock_timeout": "2000",
    "statement_timeout": "30000",
    # A process that hangs must not keep its locks.
    "idle_in_transaction_session_timeout": "30000",
    # An acknowledged commit survives a crash of the server, whatever its default is.
    "synchronous_commit": "on",
    "jit": "off",
}
# After an INSERT that met a UNIQUE row, the next statement must see that row; under
# the stricter levels it would not.
_WRITES = {"default_transaction_isolation": "read committed"}
_READS = {
    "default_transaction_isolation": "repeatable read",
    "default_transaction_read_only": "on",
}
_PRAGMAS = ("busy_timeout = 2000", "foreign_keys = ON")
_TO_READ = ("query_only = ON",)
_TO_WRITE = (
    "journal_mode = WAL",
    # NORMAL lost acknowledged commits in 41 of 200 simulated power cuts.
    "synchronous = FULL",
    # Pages that are written again and again go to the file once in 32 MB of journal.
    "wal_autocheckpoint = 8000",
    "cache_size = -16000",
)
_OF_THE_ENGINE = {"prepared_statement_cache_size", "prepared_statement_name_func"}
# A group is one statement over few rows, found by their keys. Who waits long for a row
# keeps his whole group waiting.
_IN_GROUPS = {
    "lock_timeout": "250",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}


def postgresql_engine(url: str, *, writes: bool) -> AsyncEngine:
    """A pool of connections; those that do not write cannot."""
    settings = _POSTGRESQL | (_WRITES if writes else _READS)
    arguments = {"server_settings": settings}
    engine = create_async_engine(
        url, pool_pre_ping=True, connect_args=arguments, **_HIDE
    )
    if writes:
        event.listen(engine.sync_engine, "handle_error", _leave_if_read_only)
    return engine


def _leave_if_read_only(context: ExceptionContext) -> None:
    """A connection stays as the server was when it was made."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True


def sqlite_engine(url: str, *, writes: bool) -> AsyncEngine:
    """One connection that begins IMMEDIATE, or four that cannot write."""
    opener = _opener(make_url(url), writes=writes)
    engine = create_async_engine(
        url,
        async_creator=lambda: connect(opener),
        pool_size=1 if writes else 4,
        max_overflow=0,
        pool_timeout=30,
        **_HIDE,
    )

    @event.listens_for(engine.sync_engine, "begin")
    def _on_begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def sqlite_lane(url: URL) -> Callable[[], sqlite3.Connection]:
    """Opens a connection that writes as the engine's does."""
    return _opener(url, writes=True)


def _opener(url: URL, *, writes: bool) -> Callable[[], sqlite3.Connection]:
    def open_() -> sqlite3.Connection:
        assert url.database is not None
        # The driver must not open transactions of its own; BEGIN is sent above.
        connection = sqlite3.connect(url.database, isolation_level=None)
        for one in _PRAGMAS + (_TO_WRITE if writes else _TO_READ):
            connection.execute(f"PRAGMA {one}")
        return connection

    return open_


def postgresql_lane(engine: AsyncEngine) -> Callable[[], Any]:
    """Opens a connection that writes as the engine's do, but waits for no row."""
    _, arguments = engine.dialect.create_connect_args(engine.url)
    own = {one: arguments[one] for one in arguments if one not in _OF_THE_ENGINE}
    settings = _POSTGRESQL | _WRITES | _IN_GROUPS

    async def connect() -> Any:
        return await asyncpg.connect(**own, server_settings=settings)

    return connect
