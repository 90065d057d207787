"""A connection of its own for what is written in groups, without a layer between.

The engines serve everything else. A lane spends its time on the database and not on the
way there: one statement on PostgreSQL, one visit to the writing thread on SQLite.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import asyncpg

from tallystick.kernel.errors import Unavailable
from tallystick.kernel.failing import READ_ONLY, OutcomeUnknown, meaning
from tallystick.kernel.log import get_logger
from tallystick.kernel.stoppable import ended

T = TypeVar("T")

# The connection or the server failed, perhaps after the commit.
_UNKNOWN_OUTCOME = ("08", "57", "58", "F0", "XX")
_BROKEN = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # Between a server's last word and the end of its line.
    asyncpg.InternalClientError,
)
_STATEMENT_SECONDS = 30
_PLAN_SECONDS = 10
_CLOSE_SECONDS = 2
_log = get_logger(__name__)


class GroupRefused(Exception):
    """Nothing was written, and each of the group may try alone.

    Somebody was in the way, there is no connection, or the database does not take one
    of them.
    """


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
        """What ``work`` gives, once it is committed.

        Raises ``GroupRefused`` when ``work`` failed, nobody else let it begin or there
        is no room, and ``OutcomeUnknown`` when the commit failed in another way.
        """
        loop = asyncio.get_running_loop()
        async with self._turn:
            writing = loop.run_in_executor(self._thread, self._write, work)
            try:
                return await asyncio.shield(writing)
            except asyncio.CancelledError:
                # The thread goes on, and nobody else may have the turn before its end.
                await ended(writing)
                raise

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._opened()
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
        except Exception as error:
            raise _refused(error) from error
        else:
            _commit(connection)
            return result
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = self._open()
            except sqlite3.Error as error:
                raise _refused(error) from error
        return self._connection

    async def close(self) -> None:
        """Wait for the thread's end."""
        if self._connection is not None:
            await asyncio.wrap_future(self._thread.submit(self._connection.close))
        self._thread.shutdown(wait=False)


def _commit(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        meant = meaning(error, commit=True) or OutcomeUnknown()
        raise (_refused(error) if isinstance(meant, Unavailable) else meant) from error


def _refused(error: Exception) -> GroupRefused:
    _log.info("group_refused", cause=type(error).__name__)
    return GroupRefused()


class PostgresqlLane:
    """Sends one prepared statement at a time, each a transaction of its own.

    A plan is kept for ``plan_seconds``: one that was made while a table was empty reads
    all of it once it is full.
    """

    def __init__(
        self, connect: Callable[[], Any], *, plan_seconds: float = _PLAN_SECONDS
    ) -> None:
        self._connect = connect
        self._plan_seconds = plan_seconds
        self._connection: Any = None
        self._prepared: dict[str, Any] = {}
        self._prepared_at = 0.0
        self._turn = asyncio.Lock()

    async def fetch(self, sql: str, values: Sequence[object]) -> list[Any]:
        """The rows of a statement that is committed.

        Raises ``GroupRefused``, and ``OutcomeUnknown`` when the connection breaks or
        no answer comes.
        """
        async with self._turn:
            statement = await self._prepare(sql)
            try:
                found = await statement.fetch(*values, timeout=_STATEMENT_SECONDS)
            except _BROKEN as error:
                if not _listens_on(error):
                    self._drop()
                if _is_known(error):
                    raise _refused(error) from error
                raise OutcomeUnknown from error
        return list(found)

    async def _prepare(self, sql: str) -> Any:
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection, self._prepared = await self._connect(), {}
            if time.monotonic() - self._prepared_at >= self._plan_seconds:
                self._prepared, self._prepared_at = {}, time.monotonic()
            if sql not in self._prepared:
                self._prepared[sql] = await self._connection.prepare(sql)
        except _BROKEN as error:
            if not _listens_on(error):
                self._drop()
            raise _refused(error) from error
        return self._prepared[sql]

    def _drop(self) -> None:
        """Whatever state the connection is in, the next group gets another."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        """End the connection, if there was one; a dead line holds up nobody."""
        if self._connection is not None:
            with suppress(OSError):
                await self._connection.close(timeout=_CLOSE_SECONDS)


def _is_known(error: Exception) -> bool:
    """Whether the server said that it did nothing."""
    state = getattr(error, "sqlstate", None)
    return state is not None and not state.startswith(_UNKNOWN_OUTCOME)


def _listens_on(error: Exception) -> bool:
    """Whether the next group may be sent to it."""
    return _is_known(error) and getattr(error, "sqlstate", None) != READ_ONLY
