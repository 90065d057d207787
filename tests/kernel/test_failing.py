"""A database that goes away or has no room: nobody is told more than is known."""

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tallystick.kernel.db import Database, WriteSession, query
from tallystick.kernel.failing import (
    DatabaseBusy,
    DatabaseFull,
    DatabaseLost,
    OutcomeUnknown,
    meaning,
)
from tallystick.kernel.lane import GroupRefused, SqliteLane

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
_COUNT = "UPDATE installation SET boots = boots + 1 RETURNING boots"
_DIE = "SELECT pg_terminate_backend(pg_backend_pid())"


async def boots(db: Database) -> int:
    async with db.read() as session:
        (row,) = await query(session, "SELECT boots FROM installation")
    return int(row["boots"])


async def fill(db: Database) -> None:
    """No page more for whoever writes."""
    async with db.writer.connect() as connection:
        await connection.exec_driver_sql("PRAGMA max_page_count = 1")


async def make_room(db: Database) -> None:
    async with db.writer.connect() as connection:
        await connection.exec_driver_sql("PRAGMA max_page_count = 1000000")


async def write_much(session: WriteSession) -> None:
    await query(session, _COUNT)
    connection = await session.connection()
    await connection.execute(text("CREATE TABLE IF NOT EXISTS much (bytes BLOB)"))
    await connection.execute(text("INSERT INTO much VALUES (zeroblob(100000))"))


@ON_SQLITE
async def test_a_full_disk_is_told_and_leaves_nothing(unaudited_db: Database) -> None:
    db, before = unaudited_db, await boots(unaudited_db)
    await fill(db)
    with pytest.raises(DatabaseFull):
        await db.write(write_much)
    assert await boots(db) == before
    await make_room(db)
    await db.write(write_much)
    assert await boots(db) == before + 1


@ON_SQLITE
async def test_a_group_for_which_there_is_no_room_goes_alone(
    unaudited_db: Database,
) -> None:
    """So each is told by himself, and nothing of the group was written."""
    lane, before = unaudited_db.lane, await boots(unaudited_db)
    assert isinstance(lane, SqliteLane)

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 1")
        connection.execute(_COUNT)
        connection.execute("CREATE TABLE much AS SELECT zeroblob(100000)")

    with pytest.raises(GroupRefused):
        await lane.write(work)
    assert await boots(unaudited_db) == before


@contextmanager
def _failing_disk(db: Database) -> Iterator[None]:
    """The journal of commits may not grow any more."""
    journal = Path(f"{db.writer.url.database}-wal")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@ON_SQLITE
async def test_a_disk_that_fails_during_the_commit_leaves_the_outcome_open(
    unaudited_db: Database,
) -> None:
    db = unaudited_db
    await db.write(write_much)
    with _failing_disk(db), pytest.raises(OutcomeUnknown):
        await db.write(write_much)
    await db.write(write_much)


@ON_SQLITE
async def test_a_disk_that_fails_during_a_groups_commit_leaves_its_outcome_open(
    unaudited_db: Database,
) -> None:
    lane = unaudited_db.lane
    assert isinstance(lane, SqliteLane)
    await unaudited_db.write(write_much)

    def work(connection: sqlite3.Connection) -> int:
        return connection.execute("INSERT INTO much VALUES (zeroblob(100000))").rowcount

    with _failing_disk(unaudited_db), pytest.raises(OutcomeUnknown):
        await lane.write(work)
    assert await lane.write(work) == 1


async def test_a_wrong_statement_is_no_failure_of_the_database(
    unaudited_db: Database,
) -> None:
    with pytest.raises(DBAPIError):
        await unaudited_db.write(lambda session: query(session, "SELECT nonsense"))


@ON_POSTGRESQL
async def test_a_lost_connection_before_the_commit_is_tried_again(
    unaudited_db: Database,
) -> None:
    db, before, tries = unaudited_db, await boots(unaudited_db), 0

    async def work(session: WriteSession) -> None:
        nonlocal tries
        tries += 1
        await query(session, _COUNT)
        if tries == 1:
            await query(session, _DIE)

    await db.write(work)
    assert (tries, await boots(db)) == (2, before + 1)


@ON_POSTGRESQL
async def test_a_database_that_is_lost_each_time_is_told(
    unaudited_db: Database,
) -> None:
    with pytest.raises(DatabaseLost):
        await unaudited_db.write(lambda session: query(session, _DIE))
    with pytest.raises(DatabaseLost):
        async with unaudited_db.read() as session:
            await query(session, _DIE)


@ON_POSTGRESQL
async def test_a_connection_that_is_lost_during_the_commit_leaves_the_outcome_open(
    unaudited_db: Database,
) -> None:
    """What is deferred to the commit here ends the connection."""
    db, before = unaudited_db, await boots(unaudited_db)
    await _raising(db, "PERFORM pg_terminate_backend(pg_backend_pid());", "deferred")
    tries = 0

    async def work(session: WriteSession) -> None:
        nonlocal tries
        tries += 1
        await query(session, _COUNT)

    with pytest.raises(OutcomeUnknown):
        await db.write(work)
    assert (tries, await boots(db)) == (1, before), "nobody tries again by himself"


@ON_POSTGRESQL
@pytest.mark.parametrize("when", ["at once", "deferred"])
async def test_the_check_fails_until_there_is_room(
    unaudited_db: Database, when: str
) -> None:
    db, before = unaudited_db, await boots(unaudited_db)
    await _raising(db, "RAISE EXCEPTION USING ERRCODE = '53100';", when)
    await db.check()
    with pytest.raises(DatabaseFull):
        await db.write(lambda session: query(session, _COUNT))
    with pytest.raises(DatabaseFull):
        await db.check()
    async with db.writer.begin() as connection:
        await connection.execute(text("DROP TRIGGER fails ON installation"))
    await db.check()
    assert await boots(db) == before


async def _raising(db: Database, what: str, when: str) -> None:
    """From now on whoever changes the installation's row meets this."""
    function = "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS"
    deferred = "CONSTRAINT TRIGGER fails AFTER UPDATE ON installation DEFERRABLE"
    trigger = {
        "at once": "TRIGGER fails AFTER UPDATE ON installation",
        "deferred": f"{deferred} INITIALLY DEFERRED",
    }[when]
    async with db.writer.begin() as connection:
        body = f"{function} $$ BEGIN {what} RETURN NULL; END $$"
        await connection.exec_driver_sql(body)
        await connection.exec_driver_sql(
            f"CREATE {trigger} FOR EACH ROW EXECUTE FUNCTION fails()"
        )


@ON_POSTGRESQL
async def test_a_statement_that_takes_too_long_says_busy(
    unaudited_db: Database,
) -> None:
    async def slow(session: WriteSession) -> None:
        await query(session, "SELECT set_config('statement_timeout', '20', true)")
        await query(session, "SELECT pg_sleep(5)")

    with pytest.raises(DatabaseBusy):
        await unaudited_db.write(slow)


def test_an_error_without_a_code_means_nothing_special() -> None:
    for error in (None, ValueError("x"), sqlite3.ProgrammingError("closed")):
        assert meaning(error, commit=True) is None
