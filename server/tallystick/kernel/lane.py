"""A connection of its own for what is written in groups, without a layer between.

The engines serve everything else. A lane spends its time on the database and not on the
way there: one statement on PostgreSQL, one visit to the writing thread on SQLite.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import asyncpg

T = TypeVar("T")

_CONFLICTS = (
    asyncpg.UniqueViolationError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.TooManyConnectionsError,
    asyncpg.CannotConnectNowError,
)
_STATEMENT_SECONDS = 30


class GroupRefused(Exception):
    """Nothing was written: somebody was in the way, or there is no connection."""


class SqliteLane:
    """Writes in a thread of its own, each time in one transaction.

    ``turn`` is held while it writes: SQLite has one writer, and who waits inside
    SQLite waits in steps of milliseconds.
    """

    def __init__(
        self, open_: Callable[[], sqlite3.Connection], turn: asyncio.Lock
    ) -> None:
        self._open = open_
        self._turn = turn
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tallystick-lane")
        self._connection: sqlite3.Connection | None = None

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work`` gives, once it is committed; raises ``GroupRefused``."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            writing = loop.run_in_executor(self._thread, self._write, work)
            try:
                return await asyncio.shield(writing)
            except asyncio.CancelledError:
                # The thread goes on, and nobody else may have the turn before its end.
                await asyncio.wait([writing])
                raise

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            self._connection = self._open()
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.IntegrityError) or _is_locked(error):
                raise GroupRefused from error
            raise
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        return result

    async def close(self) -> None:
        """Wait for the thread's end."""
        if self._connection is not None:
            await asyncio.wrap_future(self._thread.submit(self._connection.close))
        self._thread.shutdown(wait=False)


def _is_locked(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class PostgresqlLane:
    """Sends one prepared statement at a time, each a transaction of its own."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._connection: Any = None
        self._prepared: dict[str, Any] = {}
        self._turn = asyncio.Lock()

    async def fetch(self, sql: str, values: Sequence[object]) -> list[Any]:
        """The rows of a statement that is committed.

        Raises ``GroupRefused``. A connection that breaks leaves the outcome unknown
        and raises the driver's error.
        """
        async with self._turn:
            statement = await self._prepare(sql)
            try:
                found = await statement.fetch(*values, timeout=_STATEMENT_SECONDS)
            except _CONFLICTS as error:
                raise GroupRefused from error
        return list(found)

    async def _prepare(self, sql: str) -> Any:
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection, self._prepared = await self._connect(), {}
            if sql not in self._prepared:
                self._prepared[sql] = await self._connection.prepare(sql)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise GroupRefused from error
        return self._prepared[sql]

    async def close(self) -> None:
        """End the connection, if there was one."""
        if self._connection is not None:
            await self._connection.close()
