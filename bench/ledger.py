"""``ledger``: charges a second with everything that a charge writes (P1, P2, P3, P13)."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from tests.postgres import PostgresServer

from bench import alone_postgres, alone_sqlite, bare_postgres, bare_sqlite
from bench.books import Books, temporary_folder
from bench.callers import Calls
from bench.clusters import postgresql, sqlite_url
from bench.disk import bytes_per_charge
from bench.figures import Figure
from bench.fsync import fsync_ms
from bench.load import made_books
from bench.plan import POSTGRES, SQLITE, Plan
from bench.population import Population
from tallystick.kernel.clock import SystemClock

_CALLERS = (1, 32, 64, 256)
_JUDGED = 64
_ONE, _MANY = "one", "many"
_CUSTOMERS = 10_000
_TARGETS = {
    (POSTGRES, _MANY, _JUDGED): ("P1", 2.5),
    (POSTGRES, _ONE, _JUDGED): ("P2", 20),
    (SQLITE, _MANY, _JUDGED): ("P3", 4),
}
_ALONE = {
    POSTGRES: f"pgbench with the same statement, {bare_postgres.CLIENTS} clients",
    SQLITE: "the same rows by sqlite3, a commit for each charge",
}
_BARE = {
    POSTGRES: f"pgbench with the least, {bare_postgres.CLIENTS} clients",
    SQLITE: "the least by sqlite3, a commit for each charge",
}

Rate = Callable[[], Awaitable[float]]
"""Measures charges a second."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What the books are compared with.

    ``alone`` writes one by one what our charges write. ``bare`` is the least that a
    charge could be: a key, a balance, a line.
    """

    alone: Rate
    bare: Rate


Place = Callable[[int], AbstractAsyncContextManager[tuple[Books, Beside]]]
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
    async with place(1) as (books, beside):
        of_one = await _measure(plan, books, beside, folder)
    plan.tell(f"ledger on {on}, {many:,} customers")
    async with place(many) as (books, beside):
        of_many = await _measure(plan, books, beside, folder)
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
    alone: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    fsync_ms: list[float] = field(default_factory=list)


async def _measure(plan: Plan, books: Books, beside: Beside, folder: Path) -> _Found:
    found = _Found()
    for number in range(plan.rounds):
        plan.tell(f"round {number + 1}")
        seconds = min(1.0, plan.seconds)
        found.fsync_ms.append(
            await asyncio.to_thread(fsync_ms, folder, seconds=seconds)
        )
        found.alone.append(await beside.alone())
        found.bare.append(await beside.bare())
        for callers, made in found.calls.items():
            made.append(await books.charges(callers=callers, seconds=plan.seconds))
    return found


def _charges(database: str, on: str, spread: str, found: _Found) -> list[Figure]:
    figures = []
    for callers, made in found.calls.items():
        name = f"ledger-{database}-{spread}-{callers}"
        judged, target = _TARGETS.get((database, spread, callers), (name, None))
        customers = "one customer" if spread == _ONE else "many customers"
        words = f"charges/s on {on}, {customers}, callers: {callers} ÷ "
        rates = [one.per_second for one in made]
        took = {
            "p50_ms": median(one.p50_ms for one in made),
            "p99_ms": median(one.p99_ms for one in made),
        }
        unit, alone, bare = (
            "charges/s",
            words + _ALONE[database],
            words + _BARE[database],
        )
        figures.append(
            Figure(judged, alone, unit, rates, found.alone, target, more=took)
        )
        if callers == _JUDGED:
            figures.append(Figure(f"{name}-bare", bare, unit, rates, found.bare))
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


def _population(customers: int) -> Population:
    """Each with a grant, and no charge yet."""
    return Population(customers, 2 * customers, SystemClock().now_ms())


@asynccontextmanager
async def _on_sqlite(
    folder: Path, seconds: float, customers: int
) -> AsyncIterator[tuple[Books, Beside]]:
    population = _population(customers)
    alone, bare = (folder / f"{uuid.uuid4().hex}.sqlite3" for _ in range(2))
    async with made_books(sqlite_url(folder, alone.stem), population):
        pass

    def by_hand() -> float:
        ids = population.customer_ids
        return alone_sqlite.charges_per_second(alone, ids, seconds=seconds)

    def least() -> float:
        bare.unlink(missing_ok=True)
        return bare_sqlite.charges_per_second(
            bare, customers=customers, seconds=seconds
        )

    async with made_books(sqlite_url(folder, uuid.uuid4().hex), population) as books:
        yield (
            books,
            Beside(
                partial(asyncio.to_thread, by_hand), partial(asyncio.to_thread, least)
            ),
        )


@asynccontextmanager
async def _on_postgresql(
    server: PostgresServer, folder: Path, seconds: float, customers: int
) -> AsyncIterator[tuple[Books, Beside]]:
    population, now_ms = _population(customers), SystemClock().now_ms()
    bare = await server.create_database(template="template0")
    url = urlsplit(server.url(bare))._replace(scheme="postgresql").geturl()
    await bare_postgres.make_tables(url, customers)
    alone = await server.create_database()
    async with made_books(server.url(alone), population):
        pass

    runs = count()

    def same() -> float:
        path = folder / f"same-{customers}.sql"
        path.write_text(alone_postgres.script(population, now_ms, next(runs)))
        return bare_postgres.pgbench(server, alone, path, seconds)

    def least() -> float:
        path = folder / f"least-{customers}.sql"
        path.write_text(bare_postgres.script(customers))
        return bare_postgres.pgbench(server, bare, path, seconds)

    async with made_books(
        server.url(await server.create_database()), population
    ) as books:
        yield (
            books,
            Beside(partial(asyncio.to_thread, same), partial(asyncio.to_thread, least)),
        )
