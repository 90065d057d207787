"""A seller's own server, which asks at the doors for other languages."""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from tallystick.credits.grants import grant_promotional
from tallystick.customers.wallets import create_customer
from tallystick.identity.keys import Scope, issue_key
from tallystick.identity.models import KeyKind
from tallystick.kernel.db import WriteSession
from tallystick.kernel.money import MicroCredits, to_decimal
from tallystick.kernel.seal import digest16
from tallystick.ledger.balances import customer_balance
from tests.live import LiveServer

SHOP = Path(__file__).parents[1] / "embed" / "shop.toml"


URL = "https://seller.example/reports/7?kind=long"


@dataclass
class Seller:
    """A server of the seller's, with its service key, and a customer's key."""

    live: LiveServer
    http: httpx.AsyncClient
    customer_key: str
    customer_id: int

    async def ask(self, verb: str, **body: Any) -> httpx.Response:
        return await self.http.post(f"/api/paywall/{verb}", json=body)

    async def authorize(self, feature: str = "report", **more: Any) -> dict[str, Any]:
        request = {"feature": feature, "method": "GET", "url": URL} | more
        answer = await self.ask("authorize", **request)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store, private"
        verdict: dict[str, Any] = answer.json()
        return verdict

    async def admitted(self, feature: str = "report", **more: Any) -> dict[str, Any]:
        """An admission for the customer with ten credits."""
        verdict = await self.authorize(feature, headers=self.as_customer, **more)
        assert verdict["verdict"] == "serve", verdict
        return verdict

    @property
    def as_customer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.customer_key}"}

    async def credits(self) -> tuple[Decimal, Decimal]:
        async with self.live.gate.db.read() as session:
            funds = await customer_balance(session, self.customer_id)
        return to_decimal(funds.posted), to_decimal(funds.held)


async def _keys(live: LiveServer) -> tuple[str, str, int]:
    async def work(session: WriteSession) -> tuple[str, str, int]:
        customer_id = await create_customer(session)
        await grant_promotional(
            session,
            customer_id,
            MicroCredits(10_000_000),
            idempotency_key=digest16(b"first credits"),
            reference="test",
            memo="Welcome",
        )
        seal, scopes = live.gate.seal, frozenset(Scope)
        service = await issue_key(
            session, seal, KeyKind.SERVICE, name="node", scopes=scopes
        )
        customer = await issue_key(
            session,
            seal,
            KeyKind.CUSTOMER,
            name="agent",
            scopes=scopes,
            customer_id=customer_id,
        )
        return service.secret, customer.secret, customer_id

    return await live.gate.db.write(work)


async def seller_at(live: LiveServer) -> Seller:
    service, customer, customer_id = await _keys(live)
    headers = {"Authorization": f"Bearer {service}"}
    http = httpx.AsyncClient(base_url=live.url, headers=headers, timeout=60)
    return Seller(live, http, customer, customer_id)
