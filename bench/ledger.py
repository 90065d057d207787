"""``ledger``: charges a second with everything that a charge writes (P1, P2, P3, P13)."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from tests.postgres import PostgresServer

from bench import bare_postgres, bare_sqlite
from bench.books import Books, funded_books, temporary_folder
from bench.callers import Calls
from bench.clusters import postgresql, sqlite_url
from bench.disk import bytes_per_charge
from bench.figures import Figure
from bench.fsync import fsync_ms
from bench.plan import POSTGRES, SQLITE, Plan

_CALLERS = (1, 32, 64, 256)
_ONE, _MANY = "one", "many"
_CUSTOMERS = 10_000
_TARGETS = {
    (POSTGRES, _MANY, 64): ("P1", 2.5),
    (POSTGRES, _ONE, 64): ("P2", 20),
    (SQLITE, _MANY, 64): ("P3", 4),
}
_BARE = {
    POSTGRES: f"pgbench at {bare_postgres.CLIENTS} clients",
    SQLITE: "one bare commit for each charge",
}

Bare = Callable[[], Awaitable[float]]
"""Charges a second of a database with nothing around it."""
Place = Callable[[int], AbstractAsyncContextManager[tuple[Books, Bare]]]
"""Makes books with so many customers, and what they are compared with."""


async def run(plan: Plan) -> list[Figure]:
    """One customer and many, by few callers and by many; then latency and bytes."""
    figures = []
    for database in plan.databases:
        with temporary_folder() as folder:
            async with _places(database, folder, plan) as place:
                figures += await _figures(database, plan, folder, place)
    return figures


async def _figures(
    database: str, plan: Plan, folder: Path, place: Place
) -> list[Figure]:
    on, many = plan.name(database), plan.customers or _CUSTOMERS
    plan.tell(f"ledger on {on}, one customer")
    async with place(1) as (books, bare):
        of_one = await _measure(plan, books, bare, folder)
    plan.tell(f"ledger on {on}, {many:,} customers")
    async with place(many) as (books, bare):
        of_many = await _measure(plan, books, bare, folder)
        plan.tell(f"ledger on {on}, bytes on disk")
        on_disk = await bytes_per_charge(database, books, plan)
    return [
        *_charges(database, on, _ONE, of_one),
        *_charges(database, on, _MANY, of_many),
        _latency(database, on, of_many),
        on_disk,
    ]


@dataclass(slots=True)
class _Found:
    """What was measured with one number of customers, round by round."""

    calls: dict[int, list[Calls]] = field(
        default_factory=lambda: {callers: [] for callers in _CALLERS}
    )
    bare: list[float] = field(default_factory=list)
    fsync_ms: list[float] = field(default_factory=list)


async def _measure(plan: Plan, books: Books, bare: Bare, folder: Path) -> _Found:
    found = _Found()
    for number in range(plan.rounds):
        plan.tell(f"round {number + 1}")
        seconds = min(1.0, plan.seconds)
        found.fsync_ms.append(
            await asyncio.to_thread(fsync_ms, folder, seconds=seconds)
        )
        found.bare.append(await bare())
        for callers, made in found.calls.items():
            made.append(await books.charges(callers=callers, seconds=plan.seconds))
    return found


def _charges(database: str, on: str, spread: str, found: _Found) -> list[Figure]:
    figures = []
    for callers, made in found.calls.items():
        name = f"ledger-{database}-{spread}-{callers}"
        name, target = _TARGETS.get((database, spread, callers), (name, None))
        customers = "one customer" if spread == _ONE else "many customers"
        figures.append(
            Figure(
                name,
                f"charges/s on {on}, {customers}, callers: {callers}"
                f" ÷ {_BARE[database]}",
                "charges/s",
                [one.per_second for one in made],
                found.bare,
                target,
                more={
                    "p50_ms": median(one.p50_ms for one in made),
                    "p99_ms": median(one.p99_ms for one in made),
                },
            )
        )
    return figures


def _latency(database: str, on: str, found: _Found) -> Figure:
    return Figure(
        f"ledger-{database}-latency",
        f"p50 of a charge on {on}, many customers, one caller ÷ fsync p50",
        "ms",
        [one.p50_ms for one in found.calls[1]],
        found.fsync_ms,
        at_most=True,
    )


@asynccontextmanager
async def _places(database: str, folder: Path, plan: Plan) -> AsyncIterator[Place]:
    if database == SQLITE:
        yield partial(_on_sqlite, folder, plan.seconds)
        return
    async with postgresql(folder, plan.settings) as server:
        yield partial(_on_postgresql, server, folder, plan.seconds)


@asynccontextmanager
async def _on_sqlite(
    folder: Path, seconds: float, customers: int
) -> AsyncIterator[tuple[Books, Bare]]:
    async def bare() -> float:
        return await asyncio.to_thread(
            bare_sqlite.charges_per_second,
            folder / f"bare-{uuid.uuid4().hex}.sqlite3",
            customers=customers,
            seconds=seconds,
        )

    async with funded_books(sqlite_url(folder, uuid.uuid4().hex), customers) as books:
        yield books, bare


@asynccontextmanager
async def _on_postgresql(
    server: PostgresServer, folder: Path, seconds: float, customers: int
) -> AsyncIterator[tuple[Books, Bare]]:
    name = await server.create_database(template="template0")
    url = urlsplit(server.url(name))._replace(scheme="postgresql").geturl()
    await bare_postgres.make_tables(url, customers)

    async def bare() -> float:
        return await asyncio.to_thread(
            bare_postgres.charges_per_second,
            server,
            name,
            folder,
            customers=customers,
            seconds=seconds,
        )

    async with funded_books(
        server.url(await server.create_database()), customers
    ) as books:
        yield books, bare
