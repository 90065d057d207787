"""What a charge leaves on the disk: itself, its key, its use, its lot and its line (P13)."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial

import asyncpg

from bench.books import Books
from bench.figures import Figure
from bench.plan import POSTGRES, SQLITE, Plan
from tallystick.kernel.db import Database

_CALLERS = 64
_CHARGES_PER_CUSTOMER = 5
_TARGETS = {POSTGRES: 600, SQLITE: 250}
_WRITTEN = (
    "account_balance",
    "ledger_transaction",
    "lot",
    "stored_answer",
    "transfer",
    "usage_event",
)


async def bytes_per_charge(database: str, books: Books, plan: Plan) -> Figure:
    """After a vacuum before and a vacuum behind, without the write-ahead log."""
    size: Callable[[], Awaitable[int]] = partial(_on_postgresql, books.db)
    if database == SQLITE:
        size = partial(asyncio.to_thread, _on_sqlite, books.db)
    before, charges = await size(), 0
    while charges < _CHARGES_PER_CUSTOMER * len(books.customers):
        made = await books.charges(callers=_CALLERS, seconds=plan.seconds)
        charges += len(made.took_ms)
    each = (await size() - before) / charges
    return Figure(
        f"P13-{database}",
        "bytes on disk for a charge with key, lots, usage and history",
        "bytes",
        [each],
        [1],
        _TARGETS[database],
        at_most=True,
        more={"charges": charges},
    )


def _on_sqlite(db: Database) -> int:
    with closing(sqlite3.connect(db.writer.url.database or "")) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((pages,),) = connection.execute("PRAGMA page_count")
        ((bytes_,),) = connection.execute("PRAGMA page_size")
        return int(pages * bytes_)


async def _on_postgresql(db: Database) -> int:
    """Of the tables that a charge writes, with their indexes."""
    url = db.writer.url.set(drivername="postgresql")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        for table in _WRITTEN:
            await connection.execute(f"VACUUM FULL {table}")
        sizes = [
            await connection.fetchval(f"SELECT pg_total_relation_size('{table}')")
            for table in _WRITTEN
        ]
        return sum(sizes)
    finally:
        await connection.close()
