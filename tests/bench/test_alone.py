"""What charges are compared with writes what a charge writes, and no less."""

import asyncio
from pathlib import Path

import pytest
from bench.books import Books
from bench.load import made_books, opened_books
from bench.population import Population

from bench import alone_postgres, alone_sqlite, bare_postgres
from tallystick.audit import audit
from tallystick.kernel.clock import SystemClock
from tallystick.kernel.db import query
from tests.postgres import PostgresServer

_WRITTEN = ("ledger_transaction", "transfer", "usage_event", "stored_answer")


@pytest.fixture
def population() -> Population:
    return Population(9, 18, SystemClock().now_ms())


async def _newest(books: Books, table: str) -> tuple[int, dict[str, object]]:
    """How many rows, and the newest but for what is another one each time."""
    async with books.db.read() as session:
        (count,) = await query(session, f"SELECT COUNT(*) AS rows FROM {table}")
        order = "owner" if table == "stored_answer" else "1"
        newest = f"SELECT * FROM {table} ORDER BY {order} DESC LIMIT 1"
        (row,) = await query(session, newest)
    own = ("id", "_ms", "key", "owner", "after", "version")
    said = {name: one for name, one in row.items() if not name.endswith(own)}
    return count["rows"], said


async def _judge(books: Books) -> None:
    """The books are sound, and what was written is what a charge of ours writes."""
    assert (await audit(books.db, None)).findings == []
    before = {table: await _newest(books, table) for table in _WRITTEN}
    assert before["stored_answer"][0] == before["usage_event"][0] > 0
    await books.charging()(0)
    for table, (rows, newest) in before.items():
        assert await _newest(books, table) == (rows + 1, newest)
    assert (await audit(books.db, None)).findings == []


async def test_on_sqlite_the_baseline_makes_whole_charges(
    tmp_path: Path, population: Population
) -> None:
    path = tmp_path / "alone.sqlite3"
    url = f"sqlite+aiosqlite:///{path}"
    async with made_books(url, population):
        pass
    rate = await asyncio.to_thread(
        alone_sqlite.charges_per_second, path, population.customer_ids, seconds=0.1
    )
    assert rate > 0
    async with opened_books(url, population) as books:
        await _judge(books)


async def test_on_postgresql_the_baseline_makes_whole_charges(
    tmp_path: Path, population: Population, postgres: PostgresServer
) -> None:
    name = await postgres.create_database()
    url = postgres.url(name)
    try:
        async with made_books(url, population):
            pass
        for run in range(2):
            path = tmp_path / f"{run}.sql"
            now_ms = SystemClock().now_ms()
            path.write_text(alone_postgres.script(population, now_ms, run))
            rate = await asyncio.to_thread(
                bare_postgres.pgbench, postgres, name, path, 1
            )
            assert rate > 0
        async with opened_books(url, population) as books:
            await _judge(books)
    finally:
        await postgres.drop_database(name)
