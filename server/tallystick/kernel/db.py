"""Short transactions on SQLite or PostgreSQL.

Two kinds of functions use this, told apart by their first parameter: one that takes a
``session`` works inside somebody's transaction and never commits; one that takes the
``db`` runs short transactions and never holds one across the network
(docs/decisions/0003).

Work is passed in as a function, because a context manager cannot run its body again.
It must therefore keep its results local until it returns.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NewType, NoReturn, TypeVar, cast

from sqlalchemy import RowMapping, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.kernel.clock import Clock, SharedClock, SteadyClock, SystemClock
from tallystick.kernel.engines import (
    postgresql_engine,
    postgresql_lane,
    sqlite_engine,
    sqlite_lane,
)
from tallystick.kernel.failing import (
    DatabaseBusy,
    DatabaseFull,
    DatabaseLost,
    DatabaseReadOnly,
    told_apart,
)
from tallystick.kernel.ids import IdFactory
from tallystick.kernel.lane import PostgresqlLane, SqliteLane
from tallystick.kernel.one_trip import OneTripConnection
from tallystick.kernel.stoppable import Stoppable

ReadSession = NewType("ReadSession", AsyncSession)
WriteSession = NewType("WriteSession", AsyncSession)
T = TypeVar("T")
Work = Callable[[WriteSession], Awaitable[T]]

_TRIES = 6
_TURN_SECONDS = 30
_CONFLICTS = {
    "40001",  # serialization failure
    "40P01",  # deadlock
    "55P03",  # lock not available
}
_NO_CONNECTION = {
    "53300",  # too many connections
    "57P03",  # cannot connect now: starting up or shutting down
}
_MUST_ROLL_BACK = "must_roll_back"
_STAY = "UPDATE installation SET boots = boots RETURNING boots"
_SERVERS_MS = """
    SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now_ms"""
_TAKE_SLOT = "UPDATE installation SET boots = boots + 1 RETURNING boots"


class WriteFirst(Exception):
    """Ends a transaction: ``work`` is to be written by itself, then it begins anew."""

    def __init__(self, work: Work[object]) -> None:
        super().__init__()
        self.work = work


class Database:
    """One writer and one reader engine over the same database.

    On SQLite the writer is a single connection that begins IMMEDIATE, so that a
    transaction never has to upgrade its lock half-way, and the reader cannot write.
    """

    def __init__(
        self, writer: AsyncEngine, reader: AsyncEngine, clock: Clock | None = None
    ) -> None:
        self.writer = writer
        self.reader = reader
        # What the server's clock is compared with. SQLite's is the machine's, always.
        is_own = clock is not None or self.is_sqlite
        self._machine: Clock = SystemClock() if is_own else SteadyClock()
        self.clock = SharedClock(clock or self._machine)
        self.ids = IdFactory(self.clock, slot=0)
        self._turn = asyncio.Lock()
        self._took_no_writes = False
        self.lane: SqliteLane | PostgresqlLane = (
            SqliteLane(sqlite_lane(writer.url), self._turn)
            if self.is_sqlite
            else PostgresqlLane(postgresql_lane(writer))
        )

    @property
    def is_sqlite(self) -> bool:
        return self.writer.dialect.name == "sqlite"

    async def start(self) -> None:
        """Take this process's id slot and the server's time; needs the newest schema."""
        await self.measure_clock()
        (row,) = await self.write(lambda session: query(session, _TAKE_SLOT))
        self.ids = IdFactory(self.clock, slot=int(row["boots"]))

    async def measure_clock(self) -> None:
        """Correct ``clock`` to PostgreSQL's; SQLite's is the machine's own.

        Clocks drift, so a long-lived process does this again from time to time.
        """
        if self.is_sqlite:
            return
        machine = self._machine
        async with self.read() as session:
            await query(session, "SELECT 1")
            before = machine.now_ms()
            (row,) = await query(session, _SERVERS_MS)
            self.clock.correct(
                before_ms=before,
                shared_ms=int(row["now_ms"]),
                after_ms=machine.now_ms(),
            )

    async def check(self) -> None:
        """Raise what keeps everybody from spending: no answer, no room, no writes.

        Room is looked for where there was none the last time, and so are writes.
        """
        async with self.read() as session:
            await query(session, "SELECT boots FROM installation")
        if self._took_no_writes:
            await self.write(lambda session: query(session, _STAY))

    async def close(self) -> None:
        await self.lane.close()
        await self.writer.dispose()
        await self.reader.dispose()

    async def write(self, work: Work[T]) -> T:
        """Run ``work`` in one transaction and commit; its whole effect or none.

        ``work`` may run several times: when the database asks for it, and when the work
        wants something else written first (``write_first``). Whoever cancels waits until
        it is committed or rolled back; on SQLite work that has begun goes on. Raises
        ``DatabaseBusy`` when it never got a turn, ``DatabaseLost`` when the database
        went away each time, ``DatabaseReadOnly`` when it took no writes each time,
        ``DatabaseFull``, and ``OutcomeUnknown`` when it went away during the commit:
        send the same idempotency key again to learn it.
        """
        for attempt in range(1, _TRIES + 1):
            try:
                return await self._write_once(work)
            except WriteFirst as wanted:
                await self.write(wanted.work)
            except (DatabaseLost, DatabaseReadOnly):
                # Another connection may lead to another server, which is the primary.
                if attempt == _TRIES:
                    raise
                await _a_while(attempt)
            except DBAPIError as error:
                if not is_conflict(error):
                    raise
                if attempt == _TRIES:
                    raise DatabaseBusy("the database is busy") from error
                await _a_while(attempt)
        raise DatabaseBusy("something else had to be written first, again and again")

    @asynccontextmanager
    async def _its_turn(self) -> AsyncIterator[None]:
        """On SQLite one writes at a time, whether by the engine or by the lane."""
        if not self.is_sqlite:
            yield
            return
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            raise DatabaseBusy("the database is busy") from None
        try:
            yield
        finally:
            self._turn.release()

    async def _write_once(self, work: Work[T]) -> T:
        # A statement that is broken off costs its connection. PostgreSQL rolls back
        # then; on SQLite the thread behind it keeps the lock.
        stoppable = Stoppable(work, breaks=not self.is_sqlite)
        async with self._its_turn():
            return await stoppable.within(self._transaction(stoppable))

    async def _transaction(self, work: Work[T]) -> T:
        try:
            with told_apart() as commit:
                async with self._session(self.writer) as session, session.begin():
                    await _connect(session)
                    result = await work(WriteSession(session))
                    if _MUST_ROLL_BACK in session.info:
                        raise RuntimeError(session.info[_MUST_ROLL_BACK])
                    commit.has_begun = True
        except (DatabaseFull, DatabaseReadOnly):
            self._took_no_writes = True
            raise
        self._took_no_writes = False
        return result

    @asynccontextmanager
    async def read(self) -> AsyncIterator[ReadSession]:
        """A session on one consistent snapshot that cannot write.

        Raises ``DatabaseBusy`` when there is no connection to be had or the database
        needs what is read for itself, ``DatabaseLost`` when the connection breaks.
        """
        try:
            with told_apart():
                async with self._session(self.reader) as session, session.begin():
                    await _connect(session)
                    yield ReadSession(session)
        except DBAPIError as error:
            # On a standby what it must do itself comes before what somebody reads.
            if not is_conflict(error):
                raise
            raise DatabaseBusy("the database had to end what was read") from error

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[ReadSession]:
        """As ``read``, for reading so much that it takes minutes.

        PostgreSQL keeps what others delete until it ends, so no request does this. Who
        is cancelled does not wait for the statement that is under way.
        """
        async with self.read() as session:
            connection = await session.connection()
            if not self.is_sqlite:
                for limit in ("statement", "idle_in_transaction_session"):
                    await connection.execute(text(f"SET LOCAL {limit}_timeout = 0"))
                yield session
                return
            raw = await connection.get_raw_connection()
            driver = cast(OneTripConnection, raw.driver_connection)
            driver.breaks_off = True
            try:
                yield session
            finally:
                driver.breaks_off = False

    def _session(self, engine: AsyncEngine) -> AsyncSession:
        info = {"clock": self.clock, "ids": self.ids}
        return AsyncSession(engine, expire_on_commit=False, info=info)


def now_ms(session: ReadSession | WriteSession) -> int:
    """The current time in milliseconds, by the clock of the session's database."""
    clock: Clock = session.info["clock"]
    return clock.now_ms()


def new_id(session: WriteSession) -> int:
    """A fresh id for a row."""
    ids: IdFactory = session.info["ids"]
    return ids.new()


def forbid_commit(session: WriteSession, reason: str) -> None:
    """Make ``Database.write`` refuse to commit, should somebody swallow the error."""
    session.info[_MUST_ROLL_BACK] = reason


def write_first(session: WriteSession, work: Work[object]) -> NoReturn:
    """Roll back and write ``work`` by itself; then what was under way runs again.

    For work whose locks come before those that this transaction may have by now. It
    stays written whatever becomes of the rest.
    """
    forbid_commit(session, "something else must be written first")
    raise WriteFirst(work)


async def query(
    session: ReadSession | WriteSession, sql: str, **values: object
) -> Sequence[RowMapping]:
    """The rows of a query written in SQL that both databases understand."""
    connection = await session.connection()
    return (await connection.execute(text(sql), values)).mappings().all()


async def insert_once(
    session: WriteSession, table: type[SQLModel], values: dict[str, object]
) -> bool:
    """Insert a row unless a UNIQUE index has it; whether this call inserted it."""
    dialect = session.get_bind().dialect.name
    dialect_insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = dialect_insert(table).values(**values).on_conflict_do_nothing()
    return (await session.exec(statement)).rowcount == 1


def open_database(url: str, clock: Clock | None = None) -> Database:
    """Engines for a ``sqlite+aiosqlite://`` or ``postgresql+asyncpg://`` URL."""
    engine = sqlite_engine if url.startswith("sqlite") else postgresql_engine
    return Database(engine(url, writes=True), engine(url, writes=False), clock)


async def _a_while(attempt: int) -> None:
    await asyncio.sleep(random.uniform(0, 0.005 * 2**attempt))


async def _connect(session: AsyncSession) -> None:
    try:
        await session.connection()
    except (PoolTimeout, OSError, DBAPIError) as error:
        if isinstance(error, DBAPIError) and _sqlstate(error) not in _NO_CONNECTION:
            raise
        raise DatabaseBusy("the database cannot be reached") from error


def is_conflict(error: DBAPIError) -> bool:
    """Whether another transaction was in the way, so that a later try may succeed."""
    return _sqlstate(error) in _CONFLICTS or "database is locked" in str(error.orig)


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)
