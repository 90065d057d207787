"""A seller's own app, installed and served, and a customer who has credits."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Protocol

import httpx
import pytest
from fastapi import FastAPI

from tallystick.app import install
from tallystick.chain.local import LocalChain
from tallystick.config import Settings
from tallystick.credits.grants import grant_promotional
from tallystick.customers.wallets import create_customer
from tallystick.identity.keys import Scope, issue_key
from tallystick.identity.models import KeyKind
from tallystick.kernel.db import WriteSession
from tallystick.kernel.money import MicroCredits, to_decimal
from tallystick.kernel.seal import digest16
from tallystick.ledger.balances import customer_balance
from tallystick.paywall.gate import Gate
from tests.live import LiveServer, make_settings, start_server

CATALOG = Path(__file__).with_name("shop.toml")
FIRST_CREDITS = 10


@dataclass
class Shop:
    """A running app. ``http`` is a customer with ten credits, ``anybody`` has none."""

    server: LiveServer
    customer_id: int
    http: httpx.AsyncClient
    anybody: httpx.AsyncClient

    @property
    def gate(self) -> Gate:
        return self.server.gate

    async def credits(self) -> tuple[Decimal, Decimal]:
        """What the customer has, and how much of it is held."""
        async with self.gate.db.read() as session:
            funds = await customer_balance(session, self.customer_id)
        return to_decimal(funds.posted), to_decimal(funds.held)


class OpenShop(Protocol):
    """Install, do what comes after that, and serve."""

    def __call__(
        self,
        app: FastAPI,
        *,
        prefix: str = "",
        then: Callable[[], object] = lambda: None,
    ) -> Awaitable[Shop]: ...


@pytest.fixture
def settings(
    sqlite_template: Path, tmp_path: Path, chain: LocalChain, free_port: int
) -> Settings:
    path = tmp_path / "tallystick.sqlite3"
    shutil.copy(sqlite_template, path)
    url = f"sqlite+aiosqlite:///{path}"
    return make_settings(url, chain.url, free_port, catalog=str(CATALOG))


@pytest.fixture
async def open_shop(settings: Settings) -> AsyncIterator[OpenShop]:
    """Install into the app and serve it; nothing may be held when the test is over."""
    opened: list[Shop] = []

    async def open_one(
        app: FastAPI,
        *,
        prefix: str = "",
        then: Callable[[], object] = lambda: None,
    ) -> Shop:
        install(app, settings, prefix=prefix)
        then()
        server = await start_server(settings, app)
        shop = await _with_customer(server)
        opened.append(shop)
        return shop

    yield open_one
    for shop in opened:
        await shop.http.aclose()
        await shop.anybody.aclose()
        if shop.server.is_running:
            report = await shop.server.audit()
            assert report.findings == []
            await shop.server.stop()


async def _with_customer(server: LiveServer) -> Shop:
    async def work(session: WriteSession) -> tuple[int, str]:
        customer_id = await create_customer(session)
        await grant_promotional(
            session,
            customer_id,
            MicroCredits(FIRST_CREDITS * 1_000_000),
            idempotency_key=digest16(b"first credits"),
            reference="test",
            memo="Welcome",
        )
        made = await issue_key(
            session,
            server.gate.seal,
            KeyKind.CUSTOMER,
            name="test",
            scopes=frozenset(Scope),
            customer_id=customer_id,
        )
        return customer_id, made.secret

    customer_id, secret = await server.gate.db.write(work)
    headers = {"Authorization": f"Bearer {secret}"}
    http = httpx.AsyncClient(base_url=server.url, headers=headers, timeout=20)
    return Shop(
        server, customer_id, http, httpx.AsyncClient(base_url=server.url, timeout=20)
    )
