"""SQLite through one trip a statement: what SQLAlchemy may expect of a driver."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from tallystick.kernel.engines import sqlite_engine
from tallystick.kernel.one_trip import OneTripConnection, connect

MANY = 2_500
"""More rows than come with an answer."""


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[AsyncConnection]:
    engine = sqlite_engine(f"sqlite+aiosqlite:///{tmp_path}/a.sqlite3", writes=True)
    async with engine.begin() as opened:
        await opened.execute(text("CREATE TABLE t (n INTEGER PRIMARY KEY)"))
        rows = [{"n": number} for number in range(MANY)]
        await opened.execute(text("INSERT INTO t VALUES (:n)"), rows)
        yield opened
    await engine.dispose()


async def driver(connection: AsyncConnection) -> OneTripConnection:
    made = (await connection.get_raw_connection()).driver_connection
    assert isinstance(made, OneTripConnection)
    return made


async def test_more_rows_than_come_along_are_fetched_whole(
    connection: AsyncConnection,
) -> None:
    found = (await connection.execute(text("SELECT n FROM t ORDER BY n"))).scalars()
    assert found.all() == list(range(MANY))


async def test_a_stream_brings_every_row_once_and_may_be_left_early(
    connection: AsyncConnection,
) -> None:
    query = text("SELECT n FROM t ORDER BY n").execution_options(yield_per=700)
    rows = await connection.stream(query)
    assert [row.n async for row in rows] == list(range(MANY))
    async with connection.stream(query) as left:
        assert await left.fetchone() == (0,)
    await connection.execute(text("DELETE FROM t"))


async def test_how_many_rows_a_statement_changed_is_known(
    connection: AsyncConnection,
) -> None:
    changed = await connection.execute(text("DELETE FROM t WHERE n < 30"))
    assert changed.rowcount == 30
    query = text("DELETE FROM t WHERE n < 50 RETURNING n")
    returned = await connection.execute(query)
    assert (returned.rowcount, len(returned.all())) == (20, 20)


async def test_a_statement_that_fails_leaves_the_connection_to_the_next(
    connection: AsyncConnection,
) -> None:
    insert, twice = text("INSERT INTO t VALUES (:n)"), [{"n": MANY}, {"n": MANY}]
    with pytest.raises(IntegrityError):
        await connection.execute(insert, {"n": 1})
    with pytest.raises(IntegrityError):
        await connection.execute(insert, twice)
    count = await connection.execute(text("SELECT COUNT(*) FROM t"))
    assert count.scalar_one() == MANY + 1


async def test_a_statement_is_one_trip_to_the_connections_thread(
    connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await driver(connection)
    trips = []
    call = made.call

    async def counted(*arguments: object) -> None:
        trips.append(threading.current_thread())
        await call(*arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(made, "call", counted)
    for sql in ("SELECT n FROM t LIMIT 5", "UPDATE t SET n = n", "SELECT 1"):
        await connection.execute(text(sql))
    assert len(trips) == 3


async def test_rows_come_one_by_one_in_parts_or_all(
    connection: AsyncConnection,
) -> None:
    cursor = (await driver(connection)).cursor()
    async with cursor:
        await cursor.execute("SELECT n FROM t ORDER BY n")
        assert await cursor.fetchone() == (0,)
        assert await cursor.fetchmany() == [(1,)]
        assert [row[0] for row in await cursor.fetchmany(1_500)][-1] == 1_501
        assert [row[0] for row in await cursor.fetchall()][-1] == MANY - 1
        assert await cursor.fetchone() is None
        await cursor.execute("SELECT n FROM t WHERE n < ? ORDER BY n", (3,))
        assert [row[0] async for row in cursor] == [0, 1, 2]
    with pytest.raises(sqlite3.OperationalError):
        await cursor.execute("SELECT nothing FROM nowhere")


def test_a_connection_that_cannot_be_opened_leaves_no_thread_behind() -> None:
    """Its last word would come to a closed loop, and a traceback to the operator."""

    def opener() -> sqlite3.Connection:
        raise sqlite3.DatabaseError("file is not a database")

    for _ in range(100):
        before = set(threading.enumerate())
        with pytest.raises(sqlite3.DatabaseError):
            asyncio.run(connect(opener))
        # Threads of earlier tests may end meanwhile.
        assert set(threading.enumerate()) <= before
