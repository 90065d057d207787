"""``crash``: kill -9 at random moments under load, hundreds of times.

Customers deduct credits with an Idempotency-Key for each deduction and try again until
they are answered. Each time enough of them were answered, and some are waiting, the
server is killed, and on PostgreSQL now and then the database as well, or the database
alone. Nothing that was acknowledged may be gone, nothing may have happened twice, and
nobody is told of a fault of ours.
"""

import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ledger.tampering import tamper
from tests.postgres import PostgresServer
from tests.processes import ServerProcess
from tests.test_cli import settings_for

from soak import places
from soak.acknowledgements import Acknowledgements
from soak.load import Load, make_customers, working
from soak.plan import Plan
from tallystick.chain.local import LocalChain
from tallystick.kernel.db import open_database

_WORKERS = 32
_ENOUGH_ANSWERS = 20


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
        keys = await make_customers(settings, acknowledged)
        server = ServerProcess(settings, folder)
        load = Load(keys, server.url, acknowledged, chance)
        async with working(load, _WORKERS):
            kills = await _kill_and_restart(plan, chance, server, load, postgres)
        await server.end(signal.SIGKILL)
    return kills


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
    return kills


async def _kill(
    chance: random.Random, server: ServerProcess, postgres: PostgresServer | None
) -> None:
    """The server, the database under it, or both; what was killed starts again."""
    dies = chance.random()
    if postgres is not None and dies < 0.4:
        await asyncio.to_thread(postgres.kill)
        if dies < 0.2:
            await asyncio.to_thread(postgres.restart)
            return
        await server.end(signal.SIGKILL)
        await asyncio.to_thread(postgres.restart)
    else:
        await server.end(signal.SIGKILL)
    await server.start()


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
    DELETE FROM transfer WHERE ledger_transaction_id = (
        SELECT MIN(id) FROM ledger_transaction WHERE kind = 'charge')
"""
