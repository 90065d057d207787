"""``crash``: kill -9 at random moments under load, hundreds of times.

Customers deduct credits with an Idempotency-Key for each deduction and try again until
they are answered. Each time enough of them were answered, and some are waiting, the
server is killed, and on PostgreSQL now and then the database as well. Nothing that was
acknowledged may be gone, and nothing may have happened twice.
"""

import asyncio
import json
import random
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from tests.ledger.tampering import tamper
from tests.postgres import PostgresServer
from tests.processes import ServerProcess
from tests.test_cli import settings_for

from soak import places
from soak.acknowledgements import Acknowledgements
from soak.plan import Plan
from tallystick.chain.local import LocalChain
from tallystick.credits.grants import grant_promotional
from tallystick.customers.wallets import create_customer
from tallystick.identity.keys import Scope, issue_key
from tallystick.identity.models import KeyKind
from tallystick.kernel.db import WriteSession, open_database
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import parse_credits
from tallystick.kernel.seal import Seal
from tallystick.migrations import upgrade

_CUSTOMERS = 20
_WORKERS = 32
_CREDITS = 1_000_000
_ENOUGH_ANSWERS = 20
_DEDUCTION = {"feature": "ai_analyst"}


@dataclass
class Load:
    """The customers, and what they are waiting for."""

    keys: dict[str, str]
    url: str
    notes: Acknowledgements
    chance: random.Random
    answers: int = 0
    waiting: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, answers: int) -> None:
        """Until so many were answered, and somebody waits for another answer."""
        while self.answers < answers or not self.waiting:
            self.changed.clear()
            await self.changed.wait()

    async def work(self) -> None:
        """One worker: a deduction after the other, each until it is answered."""
        async with httpx.AsyncClient(base_url=self.url, timeout=20) as http:
            while not self.is_over.is_set():
                await self._deduct(http, self.chance.choice(list(self.keys)))

    async def _deduct(self, http: httpx.AsyncClient, customer: str) -> None:
        name = secrets.token_hex(16)
        self.notes.note(asked=name, customer=customer)
        headers = {
            "Authorization": f"Bearer {self.keys[customer]}",
            "Idempotency-Key": name,
        }
        self.waiting += 1
        self.changed.set()
        try:
            answer = await self._until_answered(http, headers)
        finally:
            self.waiting -= 1
        self.notes.note(told=name, charge=answer["charge"], deducted=answer["deducted"])
        self.answers += 1
        self.changed.set()

    async def _until_answered(
        self, http: httpx.AsyncClient, headers: dict[str, str]
    ) -> Any:
        while True:
            try:
                answer = await http.post(
                    "/api/credits/deduct", json=_DEDUCTION, headers=headers
                )
            except httpx.TransportError:
                await asyncio.sleep(0.02)
                continue
            if answer.status_code == 200:
                return answer.json()
            # A database that is down or starting; nobody was charged for it.
            assert answer.status_code in {409, 500, 503}, answer.text
            await asyncio.sleep(0.02)


def run(plan: Plan) -> dict[str, Any]:
    """The verdict of the judge, with how often the server was killed."""
    return asyncio.run(_run(plan))


async def _run(plan: Plan) -> dict[str, Any]:
    with places.folder() as folder, _database(plan, folder) as (url, postgres):
        notes = folder / "acknowledgements.jsonl"
        async with LocalChain() as chain:
            settings = settings_for(chain, folder, DATABASE_URL=url)
            kills = await _campaign(plan, folder, settings, notes, postgres)
        if plan.sabotage:
            await _spoil(url)
        verdict = await _judge(notes, url)
    return {
        "ok": not verdict.pop("failed"),
        "seed": plan.seed,
        "kills": kills,
        **verdict,
    }


@contextmanager
def _database(plan: Plan, folder: Path) -> Iterator[tuple[str, PostgresServer | None]]:
    if plan.database == "sqlite":
        yield f"sqlite+aiosqlite:///{folder}/books.sqlite3", None
        return
    with places.postgres(folder, durable=True) as server:
        yield server.url("postgres"), server


async def _campaign(
    plan: Plan,
    folder: Path,
    settings: dict[str, str],
    notes: Path,
    postgres: PostgresServer | None,
) -> int:
    chance = random.Random(plan.seed)
    with Acknowledgements(notes) as acknowledged:
        keys = await _customers(settings, acknowledged)
        server = ServerProcess(settings, folder)
        load = Load(keys, server.url, acknowledged, chance)
        async with _working(load):
            kills = await _kill_and_restart(plan, chance, server, load, postgres)
        await server.end(signal.SIGKILL)
    return kills


@asynccontextmanager
async def _working(load: Load) -> AsyncIterator[None]:
    workers = [asyncio.create_task(load.work()) for _ in range(_WORKERS)]
    try:
        yield
        load.is_over.set()
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()


async def _kill_and_restart(
    plan: Plan,
    chance: random.Random,
    server: ServerProcess,
    load: Load,
    postgres: PostgresServer | None,
) -> int:
    """Ends with the server running, so that every key gets its answer."""
    await server.start()
    kills, end = 0, time.monotonic() + plan.seconds
    while time.monotonic() < end:
        await load.until(load.answers + _ENOUGH_ANSWERS)
        await asyncio.sleep(chance.uniform(0, 0.2))
        await load.until(load.answers)
        await _kill(chance, server, postgres)
        kills += 1
        plan.tell(f"{kills} kills, {load.answers} answers")
        await server.start()
    return kills


async def _kill(
    chance: random.Random, server: ServerProcess, postgres: PostgresServer | None
) -> None:
    if postgres is not None and chance.random() < 0.3:
        await asyncio.to_thread(postgres.kill)
        await server.end(signal.SIGKILL)
        await asyncio.to_thread(postgres.restart)
        return
    await server.end(signal.SIGKILL)


async def _customers(
    settings: dict[str, str], notes: Acknowledgements
) -> dict[str, str]:
    """Customers with credits and a key each."""
    db = open_database(settings["DATABASE_URL"])
    seal = Seal(settings["SECRET_KEY"].encode())
    try:
        await upgrade(db)
        await db.start()
        made = [await db.write(partial(_customer, seal)) for _ in range(_CUSTOMERS)]
    finally:
        await db.close()
    for customer, _ in made:
        notes.note(customer=customer, credits=_CREDITS)
    return dict(made)


async def _customer(seal: Seal, session: WriteSession) -> tuple[str, str]:
    customer_id = await create_customer(session)
    await grant_promotional(
        session,
        customer_id,
        parse_credits(_CREDITS),
        idempotency_key=secrets.token_bytes(16),
        reference="soak",
        memo="soak",
    )
    key = await issue_key(
        session,
        seal,
        KeyKind.CUSTOMER,
        name="soak",
        scopes=frozenset(Scope),
        customer_id=customer_id,
    )
    return encode_id("cus", customer_id), key.secret


async def _judge(notes: Path, url: str) -> dict[str, Any]:
    """In a process of its own, which knows the file and the books alone."""
    judge = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "soak.judge", str(notes), url),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await judge.communicate()
    verdict: dict[str, Any] = json.loads(out)
    return verdict | {"failed": bool(judge.returncode)}


async def _spoil(url: str) -> None:
    """Take one acknowledged charge out of the books, past their guards."""
    db = open_database(url)
    try:
        await tamper(db, _REMOVE_A_CHARGE)
    finally:
        await db.close()


_REMOVE_A_CHARGE = """
    DELETE FROM transfer WHERE id = (
        SELECT MIN(transfer.id) FROM transfer
          JOIN ledger_transaction ON ledger_transaction.id = ledger_transaction_id
         WHERE kind = 'charge')
"""
