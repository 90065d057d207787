"""kill -9 at random moments, and two processes at once: real servers, real clients."""

import asyncio
import json
import random
import secrets
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from sqlmodel import col, select

from tallystick.chain.evidence import find_settlements, transfers_to
from tallystick.chain.local import ADDRESSES, KEYS, LocalChain
from tallystick.demo.ports import free_port
from tallystick.kernel.db import Database, open_database
from tallystick.payments.models.topups import PAID_STATES, RelayedTransaction, TopUp
from tests.api.payments import (
    ANALYST,
    DOLLAR,
    Payment,
    address_of,
    decode,
    funded,
    sign,
)
from tests.postgres import PostgresServer
from tests.processes import ServerProcess, run, serving

ADD = ("POST", "/api/credits/add", {"amount": 1})
RELAYER = 7
UNKNOWN = {202, 409, 503}
"""Answers after which a payer asks again, with the same header."""


def settings_for(database_url: str, chain: LocalChain) -> dict[str, str]:
    port = free_port()
    return {
        "DATABASE_URL": database_url,
        "RPC_URLS": chain.url,
        "PAY_TO": Account.create().address,
        "RELAYER_KEYS": f"0x{KEYS[RELAYER].hex()}",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "PORT": str(port),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "POLL_SECONDS": "0.25",
    }


@dataclass
class Client:
    """A payer who never signs twice for one thing, however often he must ask."""

    wallet: LocalAccount
    urls: Sequence[str]
    paid: list[tuple[Payment, str]] = field(default_factory=list)

    async def ask(
        self, http: httpx.AsyncClient, url: str, payment: Payment | None
    ) -> Any:
        """The server's answer, as soon as there is one."""
        method, path, body = ADD
        headers = payment.headers if payment else {}
        while True:
            try:
                return await http.request(
                    method, url + path, json=body, headers=headers
                )
            except httpx.TransportError:
                await asyncio.sleep(0.05)

    async def prepare(self, http: httpx.AsyncClient) -> Payment:
        """A dollar, signed for what the first server offers, once it does."""
        while (offer := await self.ask(http, self.urls[0], None)).status_code == 503:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.1)
        accepts = decode(offer.headers["PAYMENT-REQUIRED"])["accepts"]
        return sign(self.wallet, accepts[0])

    async def buy(self, http: httpx.AsyncClient) -> None:
        """Pay one dollar to all servers at once, and ask until the outcome is known."""
        payment = await self.prepare(http)
        presented = [self.present(http, url, payment) for url in self.urls]
        (topup,) = set(await asyncio.gather(*presented))
        self.paid.append((payment, topup))

    async def present(self, http: httpx.AsyncClient, url: str, payment: Payment) -> str:
        """The top-up that the payment became."""
        while True:
            answer = await self.ask(http, url, payment)
            if answer.status_code == 200:
                topup: str = answer.json()["topup"]["id"]
                return topup
            assert answer.status_code in UNKNOWN, answer.text
            await asyncio.sleep(0.1)

    async def buy_until(self, http: httpx.AsyncClient, end: asyncio.Event) -> None:
        while not end.is_set():
            await self.buy(http)


async def call_until(url: str, wallet: LocalAccount, end: asyncio.Event) -> None:
    """Somebody who pays for calls meanwhile, and takes a lost answer for lost."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        while not end.is_set():
            try:
                offer = await http.get(ANALYST)
                accepts = decode(offer.headers["PAYMENT-REQUIRED"])["accepts"]
                payment = sign(wallet, accepts[0])
                answer = await http.get(ANALYST, headers=payment.headers)
                assert answer.status_code in UNKNOWN | {200}, answer.text
            except httpx.TransportError:
                await asyncio.sleep(0.05)


async def read_books(
    db: Database,
) -> tuple[Sequence[TopUp], Sequence[RelayedTransaction]]:
    async with db.read() as session:
        topups = (await session.exec(select(TopUp))).all()
        order = col(RelayedTransaction.evm_nonce)
        sent = (await session.exec(select(RelayedTransaction).order_by(order))).all()
    return topups, sent


async def require_paid_once(
    chain: LocalChain, db: Database, clients: Sequence[Client], pay_to: bytes
) -> None:
    """The chain's own account against the books: one Transfer, one top-up, each."""
    topups, _ = await read_books(db)
    by_nonce = {topup.nonce: topup for topup in topups}
    for client in clients:
        for payment, _ in client.paid:
            nonce = bytes.fromhex(payment.authorization["nonce"][2:])
            payer = address_of(client.wallet)
            (settled,) = await find_settlements(chain.chain, payer, nonce, 0)
            topup = by_nonce[nonce]
            assert topup.state in PAID_STATES
            assert (topup.tx_hash, topup.value) == (settled.tx_hash, settled.amount)
            assert topup.credits == 10 * DOLLAR
    head = await chain.chain.block("latest")
    assert head is not None
    seen = await transfers_to(chain.chain, pay_to, 0, head.number)
    paid = [topup for topup in topups if topup.state in PAID_STATES]
    assert len(seen) == len(paid), "every Transfer is one paid top-up"


async def require_sound(folder: Path, settings: dict[str, str]) -> None:
    """``tallystick audit`` finds nothing, once the observer has seen everything."""
    audit = await run("audit", "--json", cwd=folder, **settings)
    assert audit.code == 0, audit.said
    document = json.loads(audit.out)
    assert document["findings"] == []
    assert document["ledger_usdc"] == document["chain_usdc"]


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(timeout=40, limits=limits) as client:
        yield client


async def test_kills_at_random_moments_lose_and_double_no_payment(
    slow_chain: LocalChain, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """R01, a short run: whoever has signed is credited, exactly once."""
    seed = secrets.randbelow(10**6)
    chance = random.Random(seed)
    url = f"sqlite+aiosqlite:///{tmp_path}/tallystick.sqlite3"
    settings = settings_for(url, slow_chain)
    async with serving(tmp_path, **settings) as server:
        clients = [Client(await funded(slow_chain), [server.url]) for _ in range(3)]
        end = asyncio.Event()
        busy = [asyncio.create_task(one.buy_until(http, end)) for one in clients]
        caller = await funded(slow_chain)
        busy.append(asyncio.create_task(call_until(server.url, caller, end)))
        for _ in range(6):
            await asyncio.sleep(chance.uniform(0.2, 2.0))
            killed = await server.end(signal.SIGKILL)
            assert killed.code == -signal.SIGKILL
            await server.start()
        end.set()
        await asyncio.gather(*busy)
        for client in clients:
            assert len(client.paid) >= 2, f"seed {seed}: the clients were served"
            for payment, topup in client.paid:
                again = await client.present(http, server.url, payment)
                assert again == topup, f"seed {seed}: the same header, the same top-up"
        await settled(server)
    db = open_database(url)
    try:
        await require_paid_once(
            slow_chain, db, clients, bytes.fromhex(settings["PAY_TO"][2:])
        )
    finally:
        await db.close()
    await require_sound(tmp_path, settings)


async def settled(server: ServerProcess) -> None:
    """Until nothing is open any more, and the observer has come to the head."""
    db = open_database(server.settings["DATABASE_URL"])
    try:
        for _ in range(300):
            topups, _ = await read_books(db)
            if not [one for one in topups if one.state in {"claimed", "signed"}]:
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(3)
    finally:
        await db.close()


async def test_two_processes_settle_twenty_payments_once_each(
    slow_chain: LocalChain,
    postgres: PostgresServer,
    tmp_path: Path,
    http: httpx.AsyncClient,
) -> None:
    """Both get every payment, and share one relayer key and one database."""
    name = await postgres.create_database()
    settings = settings_for(postgres.url(name), slow_chain)
    other = settings | {"PORT": str(free_port())}
    first_nonce = await slow_chain.chain.nonce(ADDRESSES[RELAYER], "latest")
    async with serving(tmp_path, **settings) as one, serving(tmp_path, **other) as two:
        # Many wallets with few payments each: a wallet settles one at a time, and the
        # windows of those that wait behind it must not close on a slow machine.
        clients = [
            Client(await funded(slow_chain), [one.url, two.url]) for _ in range(5)
        ]
        purchases = [client.buy(http) for client in clients for _ in range(4)]
        await asyncio.gather(*purchases)
        ids = [topup for client in clients for _, topup in client.paid]
        assert len(set(ids)) == 20
        await settled(one)
    db = open_database(settings["DATABASE_URL"])
    try:
        pay_to = bytes.fromhex(settings["PAY_TO"][2:])
        await require_paid_once(slow_chain, db, clients, pay_to)
        topups, sent = await read_books(db)
    finally:
        await db.close()
    assert len(topups) == 20
    nonces = [row.evm_nonce for row in sent]
    assert nonces == list(range(first_nonce, first_nonce + 20)), "gapless, none twice"
    assert await slow_chain.chain.nonce(ADDRESSES[RELAYER], "latest") == nonces[-1] + 1
    await require_sound(tmp_path, settings)
    await postgres.drop_database(name)


async def test_whoever_is_killed_is_succeeded_and_no_nonce_is_lost(
    slow_chain: LocalChain,
    postgres: PostgresServer,
    tmp_path: Path,
    http: httpx.AsyncClient,
) -> None:
    """The first process has the key, the second takes it when the lease is over."""
    name = await postgres.create_database()
    settings = settings_for(postgres.url(name), slow_chain)
    other = settings | {"PORT": str(free_port())}
    first_nonce = await slow_chain.chain.nonce(ADDRESSES[RELAYER], "latest")
    async with serving(tmp_path, **settings) as one, serving(tmp_path, **other) as two:
        clients = [Client(await funded(slow_chain), [two.url]) for _ in range(3)]
        await asyncio.gather(*[client.buy(http) for client in clients])
        await one.end(signal.SIGKILL)
        begun = asyncio.get_running_loop().time()
        await asyncio.gather(*[client.buy(http) for client in clients])
        # A lease, one renewal and one payment; the machine may be slow.
        assert asyncio.get_running_loop().time() - begun < 40
        await settled(two)
    db = open_database(settings["DATABASE_URL"])
    try:
        pay_to = bytes.fromhex(settings["PAY_TO"][2:])
        await require_paid_once(slow_chain, db, clients, pay_to)
        _, sent = await read_books(db)
    finally:
        await db.close()
    nonces = sorted({row.evm_nonce for row in sent})
    assert nonces == list(range(first_nonce, first_nonce + len(nonces)))
    assert await slow_chain.chain.nonce(ADDRESSES[RELAYER], "latest") == nonces[-1] + 1
    await require_sound(tmp_path, settings)
    await postgres.drop_database(name)
