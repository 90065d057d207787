"""A lane writes all or nothing, and says when it was nothing."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from tallystick.kernel.db import Database, WriteSession, open_database, query
from tallystick.kernel.engines import postgresql_lane as postgresql_opener
from tallystick.kernel.failing import OutcomeUnknown
from tallystick.kernel.lane import GroupRefused, PostgresqlLane, SqliteLane

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
_COUNT = "UPDATE installation SET boots = boots + 1"


async def boots(db: Database) -> int:
    async with db.read() as session:
        (row,) = await query(session, "SELECT boots FROM installation")
    return int(row["boots"])


def sqlite_lane(db: Database) -> SqliteLane:
    assert isinstance(db.lane, SqliteLane)
    return db.lane


def postgresql_lane(db: Database) -> PostgresqlLane:
    assert isinstance(db.lane, PostgresqlLane)
    return db.lane


def count(connection: sqlite3.Connection) -> int:
    return connection.execute(_COUNT).rowcount


async def test_what_is_told_is_committed(db: Database) -> None:
    before = await boots(db)
    if isinstance(db.lane, SqliteLane):
        assert await db.lane.write(count) == 1
    else:
        assert len(await db.lane.fetch(f"{_COUNT} RETURNING boots", ())) == 1
    assert await boots(db) == before + 1


@ON_SQLITE
async def test_work_that_fails_half_way_leaves_nothing(db: Database) -> None:
    lane, before = sqlite_lane(db), await boots(db)

    def half(connection: sqlite3.Connection) -> None:
        count(connection)
        raise ValueError("half way")

    def wrong(connection: sqlite3.Connection) -> None:
        count(connection)
        connection.execute("SELECT nonsense")

    for one in (half, wrong):
        with pytest.raises(GroupRefused):
            await lane.write(one)
    assert await boots(db) == before
    assert await lane.write(count) == 1, "and the next may write"


@ON_SQLITE
async def test_a_row_that_is_there_already_refuses_the_group(db: Database) -> None:
    lane, before = sqlite_lane(db), await boots(db)

    def again(connection: sqlite3.Connection) -> None:
        count(connection)
        connection.execute("INSERT INTO installation SELECT * FROM installation")

    with pytest.raises(GroupRefused):
        await lane.write(again)
    assert await boots(db) == before


@ON_SQLITE
async def test_another_process_that_writes_long_refuses_the_group(
    db: Database,
) -> None:
    lane = sqlite_lane(db)
    path = db.writer.url.database
    assert path is not None
    other = sqlite3.connect(Path(path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(GroupRefused):
            await lane.write(count)
    finally:
        other.close()
    assert await lane.write(count) == 1


@ON_SQLITE
async def test_the_engine_and_the_lane_take_turns(db: Database) -> None:
    lane, before = sqlite_lane(db), await boots(db)
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(session: WriteSession) -> None:
        entered.set()
        await go_on.wait()
        await query(session, f"{_COUNT} RETURNING boots")

    first = asyncio.create_task(db.write(slow))
    await entered.wait()
    second = asyncio.create_task(lane.write(count))
    await asyncio.sleep(0.05)
    assert not second.done(), "it waits outside of SQLite"
    go_on.set()
    await first
    assert await asyncio.wait_for(second, 5) == 1
    assert await boots(db) == before + 2


@ON_SQLITE
async def test_who_leaves_keeps_the_turn_until_his_thread_has_ended(
    db: Database,
) -> None:
    lane, before = sqlite_lane(db), await boots(db)
    entered, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        count(connection)
        entered.set()
        go_on.wait(10)

    first = asyncio.create_task(lane.write(slow))
    await asyncio.to_thread(entered.wait, 10)
    first.cancel()
    second = asyncio.create_task(
        db.write(lambda session: query(session, f"{_COUNT} RETURNING boots"))
    )
    await asyncio.sleep(0.05)
    assert [first.done(), second.done()] == [False, False]
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert await boots(db) == before + 2, "what he had begun was done all the same"


@ON_POSTGRESQL
async def test_a_row_that_somebody_locks_refuses_the_group_soon(db: Database) -> None:
    """Everybody else in the group would wait for it."""
    lane = postgresql_lane(db)

    async def hold_it(session: WriteSession) -> None:
        await query(session, f"{_COUNT} RETURNING boots")
        with pytest.raises(GroupRefused):
            await asyncio.wait_for(lane.fetch(_COUNT, ()), 1)

    await db.write(hold_it)
    await lane.fetch(_COUNT, ())


@ON_POSTGRESQL
async def test_a_key_that_is_there_already_refuses_the_group(db: Database) -> None:
    lane, before = postgresql_lane(db), await boots(db)
    again = "INSERT INTO installation SELECT * FROM installation"
    with pytest.raises(GroupRefused):
        await lane.fetch(f"WITH counted AS ({_COUNT}) {again}", ())
    assert await boots(db) == before


@ON_POSTGRESQL
async def test_a_connection_that_was_ended_is_opened_again(db: Database) -> None:
    lane, before = postgresql_lane(db), await boots(db)
    ((own,),) = await lane.fetch("SELECT pg_backend_pid()", ())
    await db.write(
        lambda session: query(session, "SELECT pg_terminate_backend(:pid)", pid=own)
    )
    await asyncio.sleep(0.2)
    await lane.fetch(_COUNT, ())
    assert await boots(db) == before + 1


@ON_POSTGRESQL
async def test_statements_of_one_lane_wait_for_each_other(db: Database) -> None:
    lane, before = postgresql_lane(db), await boots(db)
    await asyncio.gather(*[lane.fetch(_COUNT, ()) for _ in range(8)])
    assert await boots(db) == before + 8


@ON_POSTGRESQL
async def test_what_the_database_does_not_take_refuses_the_group(
    db: Database,
) -> None:
    """Each of it goes alone then, and only the one that is wrong is told so."""
    lane, before = postgresql_lane(db), await boots(db)
    wrong = [("SELECT nonsense", ()), (f"{_COUNT} RETURNING 1 / $1::int", (0,))]
    wrong += [("SELECT $1::bigint", (1 << 70,)), ("SELECT $1::text", ("\x00",))]
    for sql, values in wrong:
        with pytest.raises(GroupRefused):
            await lane.fetch(sql, values)
    assert await boots(db) == before


@ON_POSTGRESQL
async def test_a_connection_that_ends_meanwhile_leaves_the_outcome_open(
    db: Database,
) -> None:
    """Nobody may try again without a key that tells whether it was done."""
    lane = postgresql_lane(db)
    with pytest.raises(OutcomeUnknown):
        await lane.fetch("SELECT pg_terminate_backend(pg_backend_pid())", ())
    await lane.fetch(_COUNT, ())


async def test_without_a_server_nothing_was_written() -> None:
    nowhere = open_database("postgresql+asyncpg://nobody@127.0.0.1:1/nothing")
    try:
        with pytest.raises(GroupRefused):
            await postgresql_lane(nowhere).fetch(_COUNT, ())
    finally:
        await nowhere.close()


@ON_POSTGRESQL
@pytest.mark.parametrize(("seconds", "plans"), [(0.0, 3), (60.0, 1)])
async def test_a_plan_is_made_anew_now_and_then(
    db: Database, seconds: float, plans: int
) -> None:
    """The first one may have been made for an empty table."""
    lane = PostgresqlLane(postgresql_opener(db.writer), plan_seconds=seconds)
    own = "SELECT MAX(name) FROM pg_prepared_statements WHERE statement LIKE '%MAX(n%'"
    try:
        names = [row[0] for _ in range(3) for row in await lane.fetch(own, ())]
    finally:
        await lane.close()
    assert len(set(names)) == plans
