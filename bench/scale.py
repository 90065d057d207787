"""``scale``: a million customers and ten million entries beside nearly empty books (P12)."""

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

from bench.books import Books, empty_books, temporary_folder
from bench.callers import calls
from bench.clusters import two_urls
from bench.figures import Figure
from bench.load import load
from bench.plan import POSTGRES, SQLITE, Plan
from bench.plans import require_index
from bench.population import Population
from tallystick.kernel.clock import SystemClock
from tallystick.kernel.db import ReadSession, open_database
from tallystick.ledger.balances import customer_balance
from tallystick.ledger.statement import statement

_CUSTOMERS, _ENTRIES = 1_000_000, 10_000_000
_FEW_CUSTOMERS, _FEW_ENTRIES = 1_000, 10_000
_CALLERS = 64
_PAGE = 50
_TARGETS = {POSTGRES: 0.75, SQLITE: 0.50}

Read = Callable[[ReadSession, int], Awaitable[object]]


async def _statement_page(session: ReadSession, customer_id: int) -> object:
    return await statement(session, customer_id, limit=_PAGE)


_READS: dict[str, Read] = {"balance": customer_balance, "statement": _statement_page}


async def run(plan: Plan) -> list[Figure]:
    """Charges, balances, statements and opening, for each database."""
    figures = []
    for database in plan.databases:
        with temporary_folder() as folder:
            async with two_urls(database, folder, plan.settings) as urls:
                figures += await _figures(database, plan, urls)
    return figures


@dataclass(slots=True)
class _Found:
    """What was measured on one set of books, round by round."""

    charges: list[float] = field(default_factory=list)
    opening_ms: list[float] = field(default_factory=list)
    reads_ms: dict[str, list[float]] = field(
        default_factory=lambda: {name: [] for name in _READS}
    )


async def _figures(database: str, plan: Plan, urls: Sequence[str]) -> list[Figure]:
    large = plan.customers or _CUSTOMERS, plan.entries or _ENTRIES
    # Nearly empty, but not so few customers that several callers are the same one.
    small = min(large[0], _FEW_CUSTOMERS), min(large[1], _FEW_ENTRIES)
    populations = [Population(*one, SystemClock().now_ms()) for one in (large, small)]
    load_seconds = [
        await _load(one, url, plan, database)
        for one, url in zip(populations, urls, strict=True)
    ]
    of_large, of_small = await _measure(populations, urls, plan, database)
    more = {
        "customers": large[0],
        "entries": large[1],
        "load_seconds": load_seconds[0],
    }
    on = f"on {plan.name(database)}, large books ÷ nearly empty ones"
    return _told(database, on, of_large, of_small, more)


async def _load(population: Population, url: str, plan: Plan, database: str) -> float:
    began = time.perf_counter()

    def tell(words: str) -> None:
        seconds = time.perf_counter() - began
        plan.tell(f"scale on {plan.name(database)}: {words} after {seconds:.0f} s")

    async with empty_books(url) as db:
        await load(db, population, tell)
    tell("loaded")
    return time.perf_counter() - began


async def _measure(
    populations: Sequence[Population], urls: Sequence[str], plan: Plan, database: str
) -> list[_Found]:
    found = [_Found() for _ in urls]
    async with AsyncExitStack() as stack:
        books = []
        for population, url in zip(populations, urls, strict=True):
            db = open_database(url)
            stack.push_async_callback(db.close)
            await db.start()
            books.append(Books(db, population.customer_ids))
        for number in range(plan.rounds):
            plan.tell(f"scale on {plan.name(database)}, round {number + 1}")
            for one, url, into in zip(books, urls, found, strict=True):
                into.opening_ms.append(await _open(url, one))
                await _read(one, plan, into)
            for one, into in zip(books, found, strict=True):
                made = await one.charges(callers=_CALLERS, seconds=plan.seconds)
                into.charges.append(made.per_second)
            rates = " and ".join(f"{one.charges[-1]:,.0f}" for one in found)
            plan.tell(f"{rates} charges/s")
    return found


async def _open(url: str, books: Books) -> float:
    """How long until the first balance is told, in milliseconds."""
    began = time.perf_counter()
    db = open_database(url)
    try:
        await db.start()
        async with db.read() as session:
            await customer_balance(session, secrets.choice(books.customers))
        return 1000 * (time.perf_counter() - began)
    finally:
        await db.close()


async def _read(books: Books, plan: Plan, into: _Found) -> None:
    """One caller after the other, of any customer; an index must answer."""
    for name, read in _READS.items():
        customer = secrets.choice(books.customers)
        await require_index(books.db, partial(_of, read, customer))

        async def one(_number: int, read: Read = read) -> None:
            async with books.db.read() as session:
                await read(session, secrets.choice(books.customers))

        made = await calls(one, callers=1, seconds=plan.seconds / 3)
        into.reads_ms[name].append(made.p50_ms)


async def _of(read: Read, customer: int, session: ReadSession) -> object:
    return await read(session, customer)


def _told(
    database: str, on: str, large: _Found, small: _Found, more: dict[str, float]
) -> list[Figure]:
    return [
        Figure(
            f"P12-{database}",
            f"charges/s {on}, {_CALLERS} callers",
            "charges/s",
            large.charges,
            small.charges,
            _TARGETS[database],
            more=more,
        ),
        *(
            Figure(
                f"scale-{database}-{name}",
                f"{name} p50 {on}, by an index",
                "ms",
                large.reads_ms[name],
                small.reads_ms[name],
            )
            for name in _READS
        ),
        Figure(
            f"scale-{database}-open",
            f"opening and first balance {on}",
            "ms",
            large.opening_ms,
            small.opening_ms,
        ),
    ]
