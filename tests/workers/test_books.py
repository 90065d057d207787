"""A round costs what is new: no statement of it reads a table from end to end."""

from bench.load import made_books
from bench.population import Population

from tallystick.kernel.clock import SystemClock
from tallystick.kernel.db import Database, ReadSession, open_database
from tallystick.ledger.audit_rounds import Checkpoint
from tallystick.ledger.links import BEFORE_THE_FIRST
from tallystick.ledger.sealing import seal_late
from tallystick.workers.books import audit_books, audit_recent
from tests.alarms import found_since
from tests.ledger.bookings import run
from tests.ledger.test_audit import live_a_little
from tests.scale_plans import read_as_a_whole

_WALLETS = {
    True: "INSERT INTO wallet SELECT CAST(id AS BLOB), id, 1 FROM customer",
    False: "INSERT INTO wallet SELECT int8send(id) || int8send(id), id, 1 FROM customer",
}
# One row each, and the database's own books.
_SMALL = {"installation", "sqlite_master", "sqlite_schema"}


async def test_no_statement_of_a_round_reads_a_table_from_end_to_end(
    database_url: str,
) -> None:
    population = Population(1_000, 20_000, SystemClock().now_ms())
    async with made_books(database_url, population):
        pass
    db = open_database(database_url)
    await db.start()
    try:
        await run(db, _WALLETS[db.is_sqlite])
        await seal_late(db)
        since = await _end_of(db)
        assert since.head != BEFORE_THE_FIRST
        await live_a_little(db)
        assert await found_since(db, since) == []

        async def read(session: ReadSession) -> None:
            await audit_recent(session, since, slice_=100)

        async def read_all(session: ReadSession) -> None:
            await audit_books(session)

        whole = set().union(*(await read_as_a_whole(db, read_all)).values())
        assert any("transfer" in one for one in whole), "the plans are read rightly"
        await _let_them_look_large(db)
        scanned = await read_as_a_whole(db, read)
        large = {
            sql: tables
            for sql, some in scanned.items()
            if (tables := {one for one in some if not _is_small(one)})
        }
        assert large == {}, next(iter(large.items()))
    finally:
        await db.close()


async def _let_them_look_large(db: Database) -> None:
    """PostgreSQL reads what has some thousand rows as a whole, and is right to."""
    if not db.is_sqlite:
        larger = "UPDATE pg_class SET reltuples = 100000 * greatest(reltuples, 10),"
        larger += " relpages = greatest(relpages, 1)"
        larger += (
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')"
        )
        await run(db, "ANALYZE", larger)


def _is_small(table: str) -> bool:
    return table in _SMALL or table.startswith(("pg_", "sqlite_"))


async def _end_of(db: Database) -> Checkpoint:
    """Where the first round of a server begins."""
    async with db.snapshot() as session:
        return (await audit_recent(session, Checkpoint())).checkpoint
