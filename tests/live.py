"""A whole server on a real chain, for tests that go through public doors."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from eth_account import Account
from eth_account.signers.local import LocalAccount
from x402.http.clients import x402HttpxClient
from x402.http.x402_http_client import x402HTTPClient
from x402.mechanisms.evm.exact import ExactEvmScheme
from x402.mechanisms.evm.signers import EthAccountSigner

from tallystick.app import create_app
from tallystick.audit import AuditReport, audit
from tallystick.chain.local import KEYS, LocalChain
from tallystick.config import Settings
from tallystick.demo.ports import free_port
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.money import UsdcAtomic
from tallystick.payments.observer import observe
from tallystick.paywall.gate import Gate
from tallystick.wiring import rate_of
from tallystick.x402.keccak import checksum_address
from x402 import x402Client

DOLLAR = 1_000_000


@dataclass
class LiveServer:
    """A server that listens on a loopback port, in this process."""

    settings: Settings
    url: str
    app: Any
    clock: OffsetClock
    _server: uvicorn.Server
    _task: "asyncio.Task[None]"

    @property
    def gate(self) -> Gate:
        gate: Gate = self.app.state.tallystick.gate
        return gate

    @property
    def is_running(self) -> bool:
        return not self._task.done()

    async def stop(self) -> None:
        self._server.should_exit = True
        await self._task

    async def audit(self) -> AuditReport:
        """The full audit, after a look of the observer's at the chain's head."""
        gate = self.gate
        # Its own turn comes every two seconds; waiting for that adds up.
        rate = rate_of(gate.catalog)
        await observe(gate.db, gate.rail, rate, hold_seconds=gate.hold_seconds)
        return await audit(gate.db, gate.rail)


async def start_server(
    settings: Settings, app: Any = None, *, http: Any = "auto"
) -> LiveServer:
    """Serve with these settings, by an app of one's own if it is given.

    A port of 0 takes a free one. ``http`` is uvicorn's protocol.
    """
    clock = OffsetClock()
    app = app or create_app(settings, clock)
    config = uvicorn.Config(
        app, port=settings.port, log_config=None, lifespan="on", http=http
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        if task.done():
            await task
            raise AssertionError("the server did not start")
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    return LiveServer(settings, f"http://127.0.0.1:{port}", app, clock, server, task)


@dataclass
class Buyer:
    """A funded wallet, and a stock client that pays with it."""

    account: LocalAccount
    clients: list[httpx.AsyncClient] = field(default_factory=list)

    @property
    def address(self) -> bytes:
        return bytes.fromhex(self.account.address[2:])

    def client(self, server: LiveServer | str) -> x402HttpxClient:
        """An unmodified x402 client (httpx) that pays by itself."""
        url = server if isinstance(server, str) else server.url
        client = x402HttpxClient(self._payer(), base_url=url, timeout=60)
        self.clients.append(client)
        return client

    async def pay(self, headers: Mapping[str, str], url: str = "") -> dict[str, str]:
        """The headers with which a stock client would answer this 402."""
        client = x402HTTPClient(self._payer())
        paid, _ = await client.handle_402_response(dict(headers), None, url)
        return paid

    def _payer(self) -> x402Client:
        payer = x402Client()
        payer.register("eip155:*", ExactEvmScheme(EthAccountSigner(self.account)))
        return payer


@pytest.fixture
async def chain() -> AsyncIterator[LocalChain]:
    """A fresh local chain that mines every transaction at once."""
    async with LocalChain() as local:
        yield local


@pytest.fixture
async def slow_chain() -> AsyncIterator[LocalChain]:
    """A fresh local chain with a block every second."""
    async with LocalChain(block_time=1) as local:
        yield local


@pytest.fixture(name="free_port")
def a_free_port() -> int:
    return free_port()


def make_settings(database_url: str, rpc_url: str, port: int, **more: Any) -> Settings:
    values: dict[str, Any] = {
        "database_url": database_url,
        "rpc_urls": (rpc_url,),
        "pay_to": Account.create().address,
        "relayer_keys": (f"0x{KEYS[1].hex()}",),
        "secret_key": secrets.token_urlsafe(48),
        "port": port,
        "public_url": f"http://127.0.0.1:{port}",
        "poll_seconds": 0.1,
    }
    return Settings(**(values | more))


@pytest.fixture
async def server(
    database_url: str, chain: LocalChain, free_port: int
) -> AsyncIterator[LiveServer]:
    """A running server with automine; its audit must pass when the test is over."""
    live = await start_server(make_settings(database_url, chain.url, free_port))
    try:
        yield live
        report = await live.audit()
        assert report.findings == []
    finally:
        await live.stop()


@pytest.fixture
async def buyer(chain: LocalChain) -> AsyncIterator[Buyer]:
    """A wallet with $100 on the automining chain."""
    one = Buyer(Account.create())
    await chain.mint(one.address, UsdcAtomic(100 * DOLLAR))
    yield one
    for client in one.clients:
        await client.aclose()


@pytest.fixture
def usdc(chain: LocalChain) -> str:
    """The test dollar's address, checksummed."""
    return checksum_address(chain.token)


Fund = Callable[[LocalAccount, int], Any]
