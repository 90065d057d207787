"""SQLite's statements, each in one trip to the thread of its connection.

aiosqlite makes four for a statement: open a cursor, execute, fetch, close. Each wakes
the thread and then the event loop, which costs more than most statements do.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Self, cast

import aiosqlite

_AT_ONCE = 1_000
"""Rows that come with the answer; who streams more asks for the rest."""
_LAST_WORD_SECONDS = 1.0
_CHUNK = 64


class OneTripCursor:
    """What a SQLAlchemy adapter asks of a cursor; rows come along with ``execute``."""

    def __init__(self, connection: "OneTripConnection") -> None:
        self._connection = connection
        self._cursor: sqlite3.Cursor | None = None
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> Self:
        """Raises the driver's errors."""
        await self._connection.call(self._execute, sql, parameters)
        return self

    async def executemany(self, sql: str, parameters: Iterable[Sequence[Any]]) -> Self:
        """Raises the driver's errors."""
        await self._connection.call(self._execute_many, sql, parameters)
        return self

    async def fetchone(self) -> Any:
        rows = await self.fetchmany(1)
        return rows[0] if rows else None

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        wanted = size or self.arraysize
        if len(self._rows) < wanted and self._cursor is not None:
            await self._connection.call(self._fetch, wanted - len(self._rows))
        taken, self._rows = self._rows[:wanted], self._rows[wanted:]
        return taken

    async def fetchall(self) -> list[Any]:
        if self._cursor is not None:
            await self._connection.call(self._fetch, None)
        taken, self._rows = self._rows, []
        return taken

    async def __aiter__(self) -> AsyncIterator[Any]:
        while rows := await self.fetchmany(_CHUNK):
            for row in rows:
                yield row

    async def close(self) -> None:
        self._rows = []
        if self._cursor is not None:
            await self._connection.call(self._close)

    # What follows runs in the connection's thread.

    def _execute(self, sql: str, parameters: Iterable[Any]) -> None:
        self._begin(lambda cursor: cursor.execute(sql, tuple(parameters)))
        if self.description is None:
            self._close()
        else:
            self._fetch(_AT_ONCE)

    def _execute_many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        self._begin(lambda cursor: cursor.executemany(sql, parameters))
        self._close()

    def _begin(self, work: Callable[[sqlite3.Cursor], object]) -> None:
        self._close()
        self._cursor, self._rows = self._connection.open_cursor(), []
        try:
            work(self._cursor)
        except BaseException:
            self._close()
            raise
        self.description = self._cursor.description

    def _fetch(self, size: int | None) -> None:
        assert self._cursor is not None
        if size is None:
            self._rows += self._cursor.fetchall()
            self._close()
            return
        found = self._cursor.fetchmany(size)
        self._rows += found
        if len(found) < size:
            self._close()

    def _close(self) -> None:
        if self._cursor is not None:
            # With RETURNING it counts rows as they are fetched.
            self.rowcount = self._cursor.rowcount
            self.lastrowid = self._cursor.lastrowid
            self._cursor.close()
            self._cursor = None


class OneTripConnection(aiosqlite.Connection):
    """aiosqlite's connection and thread, with cursors of our own."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, _CHUNK)
        # As SQLAlchemy does for connections that it opens: a connection that nobody
        # has closed must not keep the process from ending.
        self._thread.daemon = True
        self.breaks_off = False
        """Whether a statement ends when nobody waits for it any more."""

    def cursor(self) -> OneTripCursor:  # type: ignore[override]  # by design
        return OneTripCursor(self)

    def open_cursor(self) -> sqlite3.Cursor:
        """The driver's own, to be used in the connection's thread."""
        return self._conn.cursor()

    def join(self) -> None:
        """Wait for the end of a thread that was told to end.

        aiosqlite does not when a connection could not be opened, and the thread's last
        word must not come to a loop that is closed by then.
        """
        self._thread.join(_LAST_WORD_SECONDS)

    async def call(self, work: Callable[..., None], *arguments: Any) -> None:
        """Run in the connection's thread."""
        try:
            await self._execute(work, *arguments)  # type: ignore[no-untyped-call]  # aiosqlite has no types here
        except asyncio.CancelledError:
            # Here and not by who waits: before he hears of it, the layers between wait
            # for their turn in the thread, to close the cursor.
            if self.breaks_off:
                self._conn.interrupt()
            raise


async def connect(connector: Callable[[], sqlite3.Connection]) -> OneTripConnection:
    """Open a connection in a thread of its own. Raises ``sqlite3.Error``."""
    connection = OneTripConnection(connector)
    try:
        return cast(OneTripConnection, await connection)
    except sqlite3.Error:
        connection.join()
        raise
