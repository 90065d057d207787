"""A transaction happens wholly or not at all, and says so when it cannot."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from tallystick.kernel.db import (
    Database,
    ReadSession,
    WriteFirst,
    WriteSession,
    new_id,
    now_ms,
    open_database,
    query,
    write_first,
)
from tallystick.kernel.failing import DatabaseBusy, DatabaseReadOnly
from tallystick.kernel.ids import SLOTS

_INSERT = "INSERT INTO customer (id, created_at_ms) VALUES (:id, :at)"
Work = Callable[[WriteSession], Awaitable[None]]


async def _insert(session: WriteSession) -> None:
    connection = await session.connection()
    values = {"id": new_id(session), "at": now_ms(session)}
    await connection.execute(text(_INSERT), values)


async def _count(db: Database) -> int:
    async with db.read() as session:
        return await _counted(session)


async def _counted(session: ReadSession | WriteSession) -> int:
    return int((await query(session, "SELECT COUNT(*) AS n FROM customer"))[0]["n"])


@asynccontextmanager
async def _blocked(db: Database) -> AsyncIterator[None]:
    """Somebody else holds what every write of these tests needs."""
    if db.is_sqlite:
        async with db.writer.connect() as connection:
            await connection.exec_driver_sql("PRAGMA busy_timeout = 5")
        with closing(sqlite3.connect(str(db.writer.url.database))) as other:
            other.isolation_level = None
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")
    else:
        other_engine = create_async_engine(db.writer.url)
        async with other_engine.begin() as blocker:
            await blocker.execute(text("LOCK TABLE customer"))
            yield
        await other_engine.dispose()


def _impatient(db: Database) -> Database:
    """The same database, where a lock is waited for only briefly."""
    if db.is_sqlite:
        return db
    settings = {"server_settings": {"lock_timeout": "20"}}
    writer = create_async_engine(db.writer.url, connect_args=settings)
    return Database(writer, db.reader, db.clock)


async def test_a_write_is_seen_by_the_next_reader(unaudited_db: Database) -> None:
    await unaudited_db.write(_insert)
    assert await _count(unaudited_db) == 1


async def test_a_failed_write_leaves_nothing(unaudited_db: Database) -> None:
    async def fail(session: WriteSession) -> None:
        await _insert(session)
        raise LookupError("after the insert")

    with pytest.raises(LookupError):
        await unaudited_db.write(fail)
    assert await _count(unaudited_db) == 0


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_a_write_that_is_cancelled_leaves_nothing_and_blocks_nobody(
    unaudited_db: Database,
) -> None:
    inserted = asyncio.Event()

    async def hang(session: WriteSession) -> None:
        await _insert(session)
        inserted.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(unaudited_db.write(hang))
    await inserted.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await unaudited_db.write(_insert)
    assert await _count(unaudited_db) == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_on_sqlite_a_write_that_has_begun_goes_on_when_it_is_cancelled(
    unaudited_db: Database,
) -> None:
    inserted, may_go_on = asyncio.Event(), asyncio.Event()

    async def wait(session: WriteSession) -> None:
        await _insert(session)
        inserted.set()
        await may_go_on.wait()
        await _insert(session)

    task = asyncio.create_task(unaudited_db.write(wait))
    await inserted.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done(), "nobody else may have the turn yet"
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await unaudited_db.write(_insert)
    assert await _count(unaudited_db) == 3


async def test_a_write_that_is_cancelled_before_its_turn_does_nothing(
    unaudited_db: Database,
) -> None:
    async with _blocked(unaudited_db):
        task = asyncio.create_task(unaudited_db.write(_insert))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, DatabaseBusy)):
            await task
    await unaudited_db.write(_insert)
    assert await _count(unaudited_db) == 1


async def test_a_write_that_is_cancelled_inside_a_statement_blocks_nobody(
    unaudited_db: Database,
) -> None:
    slow = {
        True: "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
        " LIMIT 3000000) SELECT MAX(i) FROM n",
        False: "SELECT pg_sleep(60)",
    }

    async def hang(session: WriteSession) -> None:
        await _insert(session)
        await query(session, slow[unaudited_db.is_sqlite])

    task = asyncio.create_task(unaudited_db.write(hang))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await unaudited_db.write(_insert)
    assert await _count(unaudited_db) == 1 + unaudited_db.is_sqlite


async def test_long_reading_that_is_cancelled_ends_at_once(
    unaudited_db: Database,
) -> None:
    slow = {
        True: "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
        " LIMIT 900000000) SELECT MAX(i) FROM n",
        False: "SELECT pg_sleep(600)",
    }

    async def read() -> None:
        async with unaudited_db.snapshot() as session:
            await query(session, slow[unaudited_db.is_sqlite])

    task = asyncio.create_task(read())
    await asyncio.sleep(0.2)
    task.cancel()
    ended, _ = await asyncio.wait([task], timeout=10)
    assert ended, "it reads on"
    assert task.cancelled()
    assert await _count(unaudited_db) == 0


async def test_the_reader_cannot_write(unaudited_db: Database) -> None:
    with pytest.raises((DBAPIError, DatabaseReadOnly)):
        async with unaudited_db.read() as session:
            await query(session, "DELETE FROM installation")


async def test_a_reader_stays_on_one_snapshot(unaudited_db: Database) -> None:
    async with unaudited_db.read() as session:
        before = await query(session, "SELECT COUNT(*) AS n FROM customer")
        await unaudited_db.write(_insert)
        after = await query(session, "SELECT COUNT(*) AS n FROM customer")
    assert before == after
    assert await _count(unaudited_db) == 1


async def test_a_write_that_never_gets_a_turn_says_busy(unaudited_db: Database) -> None:
    impatient = _impatient(unaudited_db)
    async with _blocked(unaudited_db):
        with pytest.raises(DatabaseBusy) as refusal:
            await impatient.write(_insert)
    assert refusal.value.status == 503
    assert refusal.value.retry_after_seconds == 1
    await impatient.write(_insert)
    assert await _count(unaudited_db) == 1
    await impatient.close()


async def test_a_write_waits_for_its_turn(unaudited_db: Database) -> None:
    impatient = _impatient(unaudited_db)
    async with _blocked(unaudited_db):
        waiting = asyncio.create_task(impatient.write(_insert))
        await asyncio.sleep(0.02)
        assert not waiting.done()
    await waiting
    assert await _count(unaudited_db) == 1
    await impatient.close()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_a_deadlock_runs_the_work_of_one_side_again(
    unaudited_db: Database,
) -> None:
    for number in (1, 2):
        async with unaudited_db.writer.begin() as connection:
            await connection.execute(text(_INSERT), {"id": number, "at": 0})
    both_hold_one = asyncio.Barrier(2)
    runs: list[int] = []

    def lock(first: int, second: int) -> Work:
        async def work(session: WriteSession) -> None:
            runs.append(first)
            again = runs.count(first) > 1
            add = "UPDATE customer SET created_at_ms = created_at_ms + 1 WHERE id ="
            connection = await session.connection()
            await connection.execute(text(f"{add} {first}"))
            if not again:
                await both_hold_one.wait()
            await connection.execute(text(f"{add} {second}"))

        return work

    await asyncio.gather(unaudited_db.write(lock(1, 2)), unaudited_db.write(lock(2, 1)))
    assert len(runs) >= 3
    async with unaudited_db.read() as session:
        rows = await query(session, "SELECT created_at_ms AS n FROM customer")
    assert [row["n"] for row in rows] == [2, 2]


async def test_what_must_be_written_first_is_written_by_itself(
    unaudited_db: Database,
) -> None:
    """Nothing of the work is there meanwhile, and then it runs from its beginning."""
    seen: list[int] = []

    async def first(session: WriteSession) -> None:
        seen.append(await _counted(session))
        await _insert(session)

    async def work(session: WriteSession) -> int:
        before = await _counted(session)
        await _insert(session)
        if not before:
            write_first(session, first)
        return before

    assert await unaudited_db.write(work) == 1
    assert seen == [0]
    assert await _count(unaudited_db) == 2


async def test_what_was_written_first_stays_though_the_work_is_refused(
    unaudited_db: Database,
) -> None:
    async def work(session: WriteSession) -> None:
        if not await _counted(session):
            write_first(session, _insert)
        await _insert(session)
        raise LookupError("all the same")

    with pytest.raises(LookupError):
        await unaudited_db.write(work)
    assert await _count(unaudited_db) == 1


async def test_who_swallows_that_something_must_be_written_first_commits_nothing(
    unaudited_db: Database,
) -> None:
    async def careless(session: WriteSession) -> None:
        await _insert(session)
        with suppress(WriteFirst):
            write_first(session, _insert)

    with pytest.raises(RuntimeError, match="written first"):
        await unaudited_db.write(careless)
    assert await _count(unaudited_db) == 0


async def test_work_that_always_wants_something_written_first_says_busy(
    unaudited_db: Database,
) -> None:
    async def work(session: WriteSession) -> None:
        write_first(session, _insert)

    with pytest.raises(DatabaseBusy, match="again and again"):
        await unaudited_db.write(work)
    assert await _count(unaudited_db) == 6


async def test_a_mistake_in_the_sql_is_not_tried_again(unaudited_db: Database) -> None:
    runs: list[int] = []

    async def work(session: WriteSession) -> None:
        runs.append(1)
        await query(session, "SELECT * FROM no_such_table")

    with pytest.raises(DBAPIError):
        await unaudited_db.write(work)
    assert len(runs) == 1


async def test_a_pool_without_a_free_connection_says_busy(
    unaudited_db: Database,
) -> None:
    pool = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.05}
    engine = create_async_engine(unaudited_db.writer.url, **pool)
    narrow = Database(engine, engine)
    async with narrow.read():
        with pytest.raises(DatabaseBusy):
            await narrow.write(_insert)
        with pytest.raises(DatabaseBusy):
            async with narrow.read():
                raise AssertionError("there is no second connection")
    await narrow.close()


async def test_a_server_that_is_down_says_busy() -> None:
    db = open_database("postgresql+asyncpg://nobody@127.0.0.1:1/nothing")
    with pytest.raises(DatabaseBusy):
        await db.write(_insert)
    with pytest.raises(DatabaseBusy):
        async with db.read():
            raise AssertionError("there is no server")
    await db.close()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_a_server_that_takes_no_more_connections_says_busy(
    unaudited_db: Database,
) -> None:
    async with unaudited_db.writer.begin() as connection:
        await connection.execute(text("DROP ROLE IF EXISTS crowded"))
        await connection.execute(text("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0"))
    url = unaudited_db.writer.url.set(username="crowded")
    db = open_database(url.render_as_string())
    with pytest.raises(DatabaseBusy):
        await db.write(_insert)
    await db.close()


async def test_an_error_s_text_shows_no_values(unaudited_db: Database) -> None:
    async def work(session: WriteSession) -> None:
        connection = await session.connection()
        for _ in range(2):
            await connection.execute(text(_INSERT), {"id": 1, "at": 271_828_182})

    with pytest.raises(DBAPIError) as error:
        await unaudited_db.write(work)
    assert "271828182" not in str(error.value)


async def test_each_start_takes_another_slot(
    unaudited_db: Database, database_url: str
) -> None:
    other = open_database(database_url, unaudited_db.clock)
    await other.start()
    slots = {(one.ids.new() >> 12) % SLOTS for one in (unaudited_db, other)}
    assert len(slots) == 2
    await other.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_sqlite_is_set_up_to_lose_nothing(unaudited_db: Database) -> None:
    async with unaudited_db.writer.connect() as connection:
        found = [
            (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["wal", 2, 1]


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_postgresql_is_set_up_as_the_code_expects(
    unaudited_db: Database,
) -> None:
    async with unaudited_db.writer.connect() as connection:
        found = [
            (await connection.exec_driver_sql(f"SHOW {name}")).scalar_one()
            for name in ("transaction_isolation", "synchronous_commit", "lock_timeout")
        ]
    assert found == ["read committed", "on", "2s"]
