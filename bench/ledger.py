"""``ledger``: charges a second with everything that a charge writes (P1, P2, P3)."""

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tests.postgres import PostgresServer

from bench import bare_postgres, bare_sqlite
from bench.callers import calls_per_second
from bench.figures import Figure
from bench.plan import Plan
from tallystick.credits.grants import grant_promotional
from tallystick.customers.wallets import create_customer
from tallystick.kernel.db import Database, WriteSession, open_database
from tallystick.kernel.money import MicroCredits
from tallystick.metering.charges import Usage
from tallystick.migrations import upgrade
from tallystick.paywall.answers import idempotency_answer
from tallystick.paywall.deduct import deduct_alone
from tallystick.paywall.plain import Deduction, plain_writes

_CALLERS = 64
_HOT, _MANY = 1, 10_000
_DAY_MS = 24 * 3600 * 1000
_LEASE_SECONDS = 60
_ASKED = "00" * 16


async def run(plan: Plan) -> list[Figure]:
    """One figure for each database and each spread of the load."""
    with _folder() as folder:
        return [await _sqlite(plan, folder), *await _postgres(plan, folder)]


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tallystick-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True, slots=True)
class _Books:
    """Books in which every customer can pay for as long as anybody measures."""

    db: Database
    customers: list[int]


@asynccontextmanager
async def _books(url: str, customers: int) -> AsyncIterator[_Books]:
    db = open_database(url)
    try:
        await upgrade(db)
        await db.start()
        made: list[int] = []
        while len(made) < customers:
            some = min(200, customers - len(made))
            made += await db.write(partial(_fund, some))
        yield _Books(db, made)
    finally:
        await db.close()


async def _fund(customers: int, session: WriteSession) -> list[int]:
    made = [await create_customer(session) for _ in range(customers)]
    for customer in made:
        await grant_promotional(
            session,
            customer,
            MicroCredits(1 << 50),
            idempotency_key=secrets.token_bytes(16),
            reference="bench",
            memo="bench",
        )
    return made


async def _charges(books: _Books, plan: Plan) -> float:
    """As they come through the door, each with an Idempotency-Key and the answer that it keeps."""
    db, customers = books.db, books.customers
    group = plain_writes(db)
    until_ms = db.clock.now_ms() + _DAY_MS

    async def one(_number: int) -> None:
        customer = secrets.choice(customers)
        usage = Usage(customer, "bench", 1_000_000, MicroCredits(1), "bench")
        key = idempotency_answer(customer, secrets.token_hex(16), _ASKED, until_ms)
        wanted = Deduction(usage, key)
        alone = partial(deduct_alone, wanted, _LEASE_SECONDS)
        await group.do(wanted, lambda: db.write(alone))

    return await calls_per_second(one, callers=_CALLERS, seconds=plan.seconds)


async def _sqlite(plan: Plan, folder: Path) -> Figure:
    customers = min(_MANY, plan.customers)
    values, baselines = [], []
    async with _books(
        f"sqlite+aiosqlite:///{folder}/books.sqlite3", customers
    ) as books:
        for number in range(plan.rounds):
            plan.tell(f"ledger on SQLite, round {number + 1}")
            values.append(await _charges(books, plan))
            baselines.append(
                await asyncio.to_thread(
                    bare_sqlite.charges_per_second,
                    folder / f"bare-{number}.sqlite3",
                    customers=customers,
                    seconds=plan.seconds,
                )
            )
    words = "charges/s on SQLite, 64 callers ÷ one bare commit for each charge"
    return Figure("P3", words, "charges/s", values, baselines, 4)


async def _postgres(plan: Plan, folder: Path) -> list[Figure]:
    server = PostgresServer(Path(tempfile.mkdtemp(dir=folder)), durable=True)
    await asyncio.to_thread(server.start)
    try:
        await server.make_template(upgrade)
        many = min(_MANY, plan.customers)
        words = "charges/s on PostgreSQL, 64 callers, {} ÷ pgbench at 32 clients"
        return [
            await _on(
                server, plan, folder, many, "P1", words.format("many customers"), 2.5
            ),
            await _on(
                server, plan, folder, _HOT, "P2", words.format("one customer"), 20
            ),
        ]
    finally:
        await asyncio.to_thread(server.stop)


async def _on(
    server: PostgresServer,
    plan: Plan,
    folder: Path,
    customers: int,
    name: str,
    words: str,
    target: float,
) -> Figure:
    values, baselines = [], []
    bare = await server.create_database(template="template0")
    bare_url = urlsplit(server.url(bare))._replace(scheme="postgresql").geturl()
    await bare_postgres.make_tables(bare_url, customers)
    async with _books(server.url(await server.create_database()), customers) as books:
        for number in range(plan.rounds):
            plan.tell(
                f"ledger on PostgreSQL, {customers} customers, round {number + 1}"
            )
            values.append(await _charges(books, plan))
            baselines.append(
                await asyncio.to_thread(
                    bare_postgres.charges_per_second,
                    server,
                    bare,
                    folder,
                    customers=customers,
                    seconds=plan.seconds,
                )
            )
    return Figure(name, words, "charges/s", values, baselines, target)
