"""``payments``: real servers take real payments while everything goes wrong.

A chain with a block every second, behind a node that fails in every way; payers, honest
and not, who pay all the time; kills, outages, reorganisations. In the end faults stop,
blocks become final, and a program of its own compares what was told with the chain and
the books.
"""

import asyncio
import json
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount
from tests.api.payments import address_of
from tests.api.shop import CATALOG
from tests.ledger.tampering import tamper
from tests.processes import ServerProcess

from soak import attackers, payers, permits, places
from soak.acknowledgements import Acknowledgements
from soak.chaos import Chaos
from soak.load import make_customers
from soak.node_faults import Menu
from soak.payers import Town, keep
from soak.payments_judge import House, rail_of
from soak.plan import Plan
from tallystick.chain import abi
from tallystick.chain.fault import FaultProxy
from tallystick.chain.local import KEYS, OWNER, LocalChain
from tallystick.chain.rpc import Chain
from tallystick.demo.ports import free_port
from tallystick.kernel.db import open_database, query

_RELAYER = 7
_SLOTS = 12  # final is 24 blocks behind, so no reorganisation goes below
_BUYERS, _CALLERS, _PERMIT_BUYERS = 5, 2, 2
_PERMIT2 = payers.Way("permit2", permits.stock_permit)
_DOLLARS = 10_000
_EACH, _FLOOR, _PERCENT = 25, 150, 20
_WINDOW_SECONDS = 120
_PATIENCE_SECONDS = 60
_LONG_SECONDS = 60
_SABOTAGE = (
    # One Transfer that was credited leaves the books.
    """DELETE FROM chain_transfer WHERE id = (
        SELECT MIN(id) FROM chain_transfer
         WHERE topup_id IS NOT NULL AND presence = 'booked')""",
    # One credit is more than what was paid for it.
    """UPDATE credit_grant SET amount = amount + 1 WHERE id = (
        SELECT MAX(id) FROM credit_grant WHERE cost_asset IS NOT NULL)""",
)
_STATES = """
    SELECT state, COUNT(*) AS found FROM topup
     WHERE state IN ('claimed', 'signed', 'watch', 'reversed', 'quarantine')
     GROUP BY state
"""
_CURSOR = "SELECT MAX(block_number) AS at FROM chain_cursor"


class _PatientChain(LocalChain):
    """A busy machine is no fault of the node's; only the server must not wait."""

    def open_chain(self, *rpc_urls: str, timeout_seconds: float = 60) -> Chain:
        return super().open_chain(*rpc_urls, timeout_seconds=timeout_seconds)


def run(plan: Plan) -> dict[str, Any]:
    """The verdict of the judge, with what was done to the server."""
    return asyncio.run(_run(plan))


async def _run(plan: Plan) -> dict[str, Any]:
    with places.folder() as folder, _database(plan, folder) as url:
        notes = folder / "notes.jsonl"
        async with _PatientChain(block_time=1, slots_in_an_epoch=_SLOTS) as chain:
            with Acknowledgements(notes) as told:
                stage = await _set(plan, chain, folder, url, told)
                done = await _play(stage)
            if plan.sabotage:
                await _spoil(url)
            verdict = await _judge(notes, url, chain.url)
        ok = not verdict.pop("failed")
        if not ok and not plan.sabotage:
            plan.tell(f"kept: {_keep(folder)}")
    return {"ok": ok, "seed": plan.seed, **verdict, **done}


@contextmanager
def _database(plan: Plan, folder: Path) -> Iterator[str]:
    if plan.database == "sqlite":
        yield f"sqlite+aiosqlite:///{folder}/books.sqlite3"
        return
    with places.postgres(folder, durable=False) as server:
        yield server.url("postgres")


@dataclass
class _Stage:
    """All that takes part."""

    plan: Plan
    chain: LocalChain
    folder: Path
    settings: dict[str, str]
    house: House
    notes: Acknowledgements
    wallets: Iterator[LocalAccount]
    key: str

    @property
    def servers(self) -> int:
        return 2 if self.plan.database == "postgres" else 1


async def _set(
    plan: Plan, chain: LocalChain, folder: Path, url: str, notes: Acknowledgements
) -> _Stage:
    """Money for everybody, empty books, and what the judge must know of them."""
    settings = {
        "DATABASE_URL": url,
        "PAY_TO": Account.create().address,
        "RELAYER_KEYS": f"0x{KEYS[_RELAYER].hex()}",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "CATALOG": CATALOG,
        "SETTLE_WAIT": "8",
        "PERMIT2": "true",
        # What a dead process had begun is forgotten so soon.
        "HOLD_SECONDS": "5",
        "OFFER_SECONDS": str(_WINDOW_SECONDS),
        "EXPOSURE_PER_CUSTOMER": str(_EACH),
        "EXPOSURE_FLOOR": str(_FLOOR),
        "EXPOSURE_PERCENT": str(_PERCENT),
    }
    wallets = await _rich(chain)
    head = await chain.chain.block("latest")
    assert head is not None
    settings["START_BLOCK"] = str(head.number)
    keys = await make_customers(settings, notes)
    house = House(settings["PAY_TO"], head.number)
    notes.note(house=vars(house))
    return _Stage(
        plan,
        chain,
        folder,
        settings,
        house,
        notes,
        iter(wallets),
        next(iter(keys.values())),
    )


async def _rich(chain: LocalChain) -> list[LocalAccount]:
    """Wallets with dollars, and with Permit2's leave to move them, for good."""
    wallets = [Account.create() for _ in range(30)]
    for one in wallets:
        call = abi.selector("mint(address,uint256)") + abi.word(address_of(one))
        await chain.submit(OWNER, chain.token, call + abi.word(_DOLLARS * 10**6))
        await permits.approve(chain, one)
    await chain.mine(4 * _SLOTS)
    return wallets


async def _play(stage: _Stage) -> dict[str, int]:
    plan, chance = stage.plan, random.Random(stage.plan.seed)
    struck: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        proxy = await enter(FaultProxy(stage.chain.url, seed=plan.seed))
        servers = await enter(_serving(stage, proxy))
        limits = httpx.Limits(max_connections=200)
        http = await enter(httpx.AsyncClient(timeout=40, limits=limits))
        db = open_database(stage.settings["DATABASE_URL"])
        stack.push_async_callback(db.close)
        rail = rail_of(stage.house, stage.chain.url)
        stack.push_async_callback(rail.chain.close)
        urls = [one.url for one in servers]
        town = Town(stage.chain, urls, http, stage.notes, chance)
        menu = Menu(proxy, chance, struck)
        chaos = Chaos(
            plan,
            town,
            menu,
            servers,
            db,
            rail,
            KEYS[_RELAYER],
            random.Random(plan.seed),
        )
        caps = (_EACH * 10**6, _FLOOR * 10**6, _PERCENT)
        watching = asyncio.create_task(chaos.watch_exposure(*caps))
        try:
            if plan.seconds >= _LONG_SECONDS:
                await attackers.crowds(town, next(stage.wallets))
                plan.tell("a thousand copies are one payment")
            async with _busy(stage, town):
                await chaos.rage(plan.seconds)
                proxy.heal()
                plan.tell("the faults stop")
            await _settle(stage, db)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
    faults = sum(struck.values())
    return {"reorgs": chaos.reorgs, "restarts": chaos.restarts, "faults": faults}


@asynccontextmanager
async def _serving(
    stage: _Stage, proxy: FaultProxy
) -> AsyncIterator[list[ServerProcess]]:
    servers = []
    for _ in range(stage.servers):
        port = str(free_port())
        own = {"PORT": port, "RPC_URLS": proxy.url}
        servers.append(ServerProcess(stage.settings | own, stage.folder))
    try:
        for one in servers:
            await one.start()
        yield servers
    finally:
        for one in servers:
            await one.end(signal.SIGTERM)


@asynccontextmanager
async def _busy(stage: _Stage, town: Town) -> AsyncIterator[None]:
    """Everybody at work; at the end each finishes what he has begun."""
    own = stage.wallets
    works: list[Callable[..., Any]] = [
        *(payers.buy for _ in range(_BUYERS)),
        *(payers.call for _ in range(_CALLERS)),
        *(partial(payers.buy, way=_PERMIT2) for _ in range(_PERMIT_BUYERS)),
        *(partial(one, way=_PERMIT2) for one in (payers.call, attackers.copies)),
        *(permits.front_run, permits.withdraw),
        *(attackers.copies, attackers.spellings, attackers.front_run),
        *(attackers.cancel, attackers.drain, attackers.forge, attackers.steal),
    ]
    tasks = [asyncio.create_task(keep(town, next(own), work)) for work in works]
    tasks.append(asyncio.create_task(payers.spend(town, stage.key)))
    try:
        yield
        town.is_over.set()
        _, late = await asyncio.wait(tasks, timeout=_PATIENCE_SECONDS)
        stage.plan.tell(f"{len(late)} payers were not answered")
        for one in late:
            stage.notes.note(unfinished=repr(one.get_coro())[:200])
    finally:
        for one in tasks:
            one.cancel()
        broken = await asyncio.gather(*tasks, return_exceptions=True)
    for error in broken:
        if isinstance(error, Exception):
            raise error


async def _settle(stage: _Stage, db: Any) -> None:
    """All windows close, all blocks become final, and the observer reads them."""
    await stage.chain.advance(_WINDOW_SECONDS + 10)
    await stage.chain.mine(3 * _SLOTS)
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        async with db.read() as session:
            left = {row["state"]: row["found"] for row in await query(session, _STATES)}
        if not left:
            break
        stage.plan.tell(f"not resolved yet: {left}")
        await asyncio.sleep(1)
    await stage.chain.rpc("evm_setIntervalMining", 0)
    head = await stage.chain.chain.block("latest")
    assert head is not None
    while time.monotonic() < end + _PATIENCE_SECONDS:
        async with db.read() as session:
            (row,) = await query(session, _CURSOR)
        if row["at"] == head.number:
            return
        await asyncio.sleep(0.2)


async def _judge(notes: Path, url: str, node: str) -> dict[str, Any]:
    """In a process of its own, which knows the notes, the books and the chain alone."""
    judge = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "soak.payments_judge", str(notes), url, node),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await judge.communicate()
    verdict: dict[str, Any] = json.loads(out)
    return verdict | {"failed": bool(judge.returncode)}


async def _spoil(url: str) -> None:
    """Past the guards of the books."""
    db = open_database(url)
    try:
        await tamper(db, *_SABOTAGE)
    finally:
        await db.close()


def _keep(folder: Path) -> str:
    """Where the notes, the servers' logs and SQLite's books are, to look into them."""
    kept = Path(tempfile.mkdtemp(prefix="tallystick-payments-"))
    for one in folder.iterdir():
        if one.is_file():
            shutil.copy(one, kept)
    return str(kept)
