"""Puts a population into books that have the newest schema and nothing in it.

All indexes, checks and triggers are on, as they are when charges come one by one: an
index that was built afterwards would be smaller than one that grew.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from bench.books import FEATURE, Books, empty_books
from bench.population import FILLED, House, Population
from tallystick.kernel.db import Database, open_database
from tallystick.ledger import chart
from tallystick.ledger.accounts import ensure_accounts

_CUSTOMERS_AT_ONCE = 20_000
_CHARGES_AT_ONCE = 500_000
Tell = Callable[[str], None]


class _Loader(Protocol):
    async def copy(self, table: str, rows: list[dict[str, Any]]) -> None: ...
    async def charge(self, insertion: str, first: int, last: int) -> None: ...


async def load(db: Database, population: Population, tell: Tell) -> None:
    """Insert every row, and leave the database as it is after some quiet minutes."""
    house = await _house(db)
    loading = _sqlite if db.is_sqlite else _postgresql
    async with loading(db) as loader:
        for numbers in _pieces(population.customers, _CUSTOMERS_AT_ONCE):
            for table, rows in population.customer_rows(house, numbers):
                await loader.copy(table, rows)
            tell(f"{numbers.stop:,} of {population.customers:,} customers")
        for numbers in _pieces(population.charges, _CHARGES_AT_ONCE):
            for insertion in population.charges_sql(house):
                await loader.charge(insertion, numbers.start, numbers.stop - 1)
            tell(f"{numbers.stop:,} of {population.charges:,} charges")


@asynccontextmanager
async def made_books(
    url: str, population: Population, tell: Tell = lambda _words: None
) -> AsyncIterator[Books]:
    """Empty books with the newest schema, and then with the population in them."""
    async with empty_books(url) as db:
        await load(db, population, tell)
    async with opened_books(url, population) as books:
        yield books


@asynccontextmanager
async def opened_books(url: str, population: Population) -> AsyncIterator[Books]:
    """Books that have the population in them."""
    db = open_database(url)
    try:
        await db.start()
        yield Books(db, population.customer_ids)
    finally:
        await db.close()


async def _house(db: Database) -> House:
    promotions, revenue = chart.promotions(), chart.feature_revenue(FEATURE)
    ids = await db.write(
        lambda session: ensure_accounts(session, [promotions, revenue])
    )
    return House(ids[promotions.code], ids[revenue.code])


def _pieces(count: int, most: int) -> list[range]:
    return [range(at, min(at + most, count)) for at in range(0, count, most)]


class _SqliteLoader:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def copy(self, table: str, rows: list[dict[str, Any]]) -> None:
        names = list(rows[0])
        values = ", ".join(f":{one}" for one in names)
        sql = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values})"
        with self._connection:
            self._connection.executemany(sql, rows)

    async def charge(self, insertion: str, first: int, last: int) -> None:
        numbers = f"SELECT {first} UNION ALL SELECT n + 1 FROM charge WHERE n < {last}"
        with self._connection:
            self._connection.execute(
                f"WITH RECURSIVE charge (n) AS ({numbers}) {insertion}"
            )


@asynccontextmanager
async def _sqlite(db: Database) -> AsyncIterator[_Loader]:
    path = Path(db.writer.url.database or "")
    # Nobody else has the file open: what is lost with the power is measured again.
    await db.close()
    connection = sqlite3.connect(path)
    try:
        for one in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -1000000"):
            connection.execute(f"PRAGMA {one}")
        yield _SqliteLoader(connection)
    finally:
        connection.close()
    await asyncio.to_thread(_sync, path)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file)


class _PostgresqlLoader:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def copy(self, table: str, rows: list[dict[str, Any]]) -> None:
        await self._connection.copy_records_to_table(
            table, columns=list(rows[0]), records=[tuple(one.values()) for one in rows]
        )

    async def charge(self, insertion: str, first: int, last: int) -> None:
        numbers = f"SELECT generate_series(CAST({first} AS BIGINT), {last})"
        await self._connection.execute(f"WITH charge (n) AS ({numbers}) {insertion}")


@asynccontextmanager
async def _postgresql(db: Database) -> AsyncIterator[_Loader]:
    url = db.writer.url.set(drivername="postgresql")
    connection = await asyncpg.connect(
        url.render_as_string(hide_password=False),
        server_settings={"synchronous_commit": "off"},
    )
    try:
        yield _PostgresqlLoader(connection)
        # As autovacuum does, which leaves tables alone that nobody has written to. On
        # SQLite nobody gathers statistics.
        tables = ", ".join(FILLED)
        await connection.execute(f"VACUUM (ANALYZE) {tables}", timeout=3600)
        await connection.execute("CHECKPOINT", timeout=3600)
    finally:
        await connection.close()
