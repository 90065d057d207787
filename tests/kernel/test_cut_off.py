"""A connection to PostgreSQL that is reset, as by a crash: the same as any loss."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import make_url, text
from tests.cable import Cable, cable_to

from tallystick.kernel.db import Database, WriteSession, open_database, query
from tallystick.kernel.failing import DatabaseLost, OutcomeUnknown
from tallystick.kernel.lane import PostgresqlLane

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
_COUNT = "UPDATE installation SET boots = boots + 1 RETURNING boots"
_EVERYBODY_ELSE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE pid <> pg_backend_pid() AND datname = current_database()"""
_ASLEEP = """
    SELECT count(*) AS n FROM pg_stat_activity
     WHERE datname = current_database() AND wait_event = 'PgSleep'"""
_SLEEPS = """
    CREATE FUNCTION sleeps() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$"""
_AT_COMMIT = """
    CREATE CONSTRAINT TRIGGER sleeps AFTER UPDATE ON installation
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sleeps()"""


@pytest.fixture
async def cable(unaudited_db: Database) -> AsyncIterator[Cable]:
    port = unaudited_db.writer.url.port
    assert port is not None
    async with cable_to(port) as cable:
        yield cable


@pytest.fixture
async def far_db(unaudited_db: Database, cable: Cable) -> AsyncIterator[Database]:
    """The same database at the other end of the cable."""
    url = make_url(unaudited_db.writer.url).set(port=cable.port)
    db = open_database(url.render_as_string(hide_password=False))
    yield db
    cable.cut()
    await db.close()


async def cut_when_asleep(near: Database, cable: Cable) -> None:
    while True:
        async with near.read() as session:
            if (await query(session, _ASLEEP))[0]["n"]:
                break
        await asyncio.sleep(0.01)
    assert cable.cut() > 0


async def sleep_at_commit(near: Database) -> None:
    async with near.writer.begin() as connection:
        for one in (_SLEEPS, _AT_COMMIT):
            await connection.execute(text(one))


async def end_all_others(near: Database) -> None:
    """PostgreSQL says its last word to everybody else on this database."""
    await near.write(lambda session: query(session, _EVERYBODY_ELSE))
    await asyncio.sleep(0.1)


async def boots(db: Database) -> int:
    async with db.read() as session:
        (row,) = await query(session, "SELECT boots FROM installation")
    return int(row["boots"])


async def test_a_read_that_is_cut_off_is_told_as_lost(
    unaudited_db: Database, far_db: Database, cable: Cable
) -> None:
    cutting = asyncio.create_task(cut_when_asleep(unaudited_db, cable))
    with pytest.raises(DatabaseLost):
        async with far_db.read() as session:
            await query(session, "SELECT pg_sleep(60)")
    await cutting
    assert await boots(far_db) == await boots(unaudited_db)


async def test_a_write_that_is_cut_off_is_done_again(
    unaudited_db: Database, far_db: Database, cable: Cable
) -> None:
    before, tries = await boots(unaudited_db), 0

    async def work(session: WriteSession) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await query(session, "SELECT pg_sleep(60)")
        await query(session, _COUNT)

    cutting = asyncio.create_task(cut_when_asleep(unaudited_db, cable))
    await far_db.write(work)
    await cutting
    assert (tries, await boots(unaudited_db)) == (2, before + 1)


async def test_a_commit_that_is_cut_off_leaves_the_outcome_open(
    unaudited_db: Database, far_db: Database, cable: Cable
) -> None:
    await sleep_at_commit(unaudited_db)
    cutting = asyncio.create_task(cut_when_asleep(unaudited_db, cable))
    with pytest.raises(OutcomeUnknown):
        await far_db.write(lambda session: query(session, _COUNT))
    await cutting


async def test_a_group_that_is_cut_off_at_its_commit_leaves_the_outcome_open(
    unaudited_db: Database, far_db: Database, cable: Cable
) -> None:
    lane = far_db.lane
    assert isinstance(lane, PostgresqlLane)
    await sleep_at_commit(unaudited_db)
    cutting = asyncio.create_task(cut_when_asleep(unaudited_db, cable))
    with pytest.raises(OutcomeUnknown):
        await lane.fetch(_COUNT, [])
    await cutting


async def test_a_line_that_stays_open_after_the_last_word_is_not_used_again(
    unaudited_db: Database, far_db: Database, cable: Cable
) -> None:
    """The driver neither is connected nor says that it is not, for a moment."""
    before = await boots(far_db)
    await far_db.write(lambda session: query(session, _COUNT))
    cable.tells_end = False
    await end_all_others(unaudited_db)
    await far_db.write(lambda session: query(session, _COUNT))
    assert await boots(far_db) == before + 2


async def test_a_group_on_such_a_line_is_told_and_the_next_one_is_written(
    unaudited_db: Database, far_db: Database, cable: Cable
) -> None:
    lane, before = far_db.lane, await boots(unaudited_db)
    assert isinstance(lane, PostgresqlLane)
    await lane.fetch(_COUNT, [])
    cable.tells_end = False
    await end_all_others(unaudited_db)
    with pytest.raises(OutcomeUnknown):
        await lane.fetch(_COUNT, [])
    await lane.fetch(_COUNT, [])
    assert await boots(unaudited_db) == before + 2


async def test_a_lost_line_is_noticed_before_a_group_is_sent(
    unaudited_db: Database, far_db: Database, cable: Cable
) -> None:
    lane, before = far_db.lane, await boots(unaudited_db)
    assert isinstance(lane, PostgresqlLane)
    await lane.fetch(_COUNT, [])
    assert cable.cut() > 0
    await asyncio.sleep(0.1)
    await lane.fetch(_COUNT, [])
    assert await boots(unaudited_db) == before + 2


async def test_a_line_on_which_nobody_answers_holds_up_no_shutdown(
    unaudited_db: Database, far_db: Database, cable: Cable
) -> None:
    lane = far_db.lane
    assert isinstance(lane, PostgresqlLane)
    await lane.fetch(_COUNT, [])
    cable.tells_end = False
    async with asyncio.timeout(10):
        await lane.close()


async def test_work_that_gets_the_last_word_half_way_is_done_again(
    unaudited_db: Database, far_db: Database, cable: Cable
) -> None:
    before, tries = await boots(unaudited_db), 0
    cable.tells_end = False

    async def work(session: WriteSession) -> None:
        nonlocal tries
        tries += 1
        await query(session, "SELECT 1")
        if tries == 1:
            await end_all_others(unaudited_db)
        await query(session, _COUNT)

    await far_db.write(work)
    assert (tries, await boots(unaudited_db)) == (2, before + 1)
