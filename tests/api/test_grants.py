"""What a customer is told of the lots that his credits consist of."""

import secrets
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
from eth_account import Account

from tallystick.credits.grants import LotTerms, grant_free
from tallystick.credits.models import GrantCategory
from tallystick.customers.wallets import ensure_customer_of_wallet
from tallystick.kernel import json
from tallystick.kernel.db import WriteSession
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.breakage import settle_due
from tests.api.callers import bearer, customer_key, issue
from tests.api.payments import address_of
from tests.live import LiveServer

CREDITS = "/api/credits"
HOUR = 3_600_000


async def read(shop: httpx.AsyncClient, path: str, key: str) -> dict[str, Any]:
    answer = await shop.get(path, headers=bearer(key))
    assert answer.status_code == 200
    document: dict[str, Any] = json.loads(answer.content)
    return document


async def trial_key(server: LiveServer, begins: int, ends: int) -> str:
    """The key of a customer who has ten trial credits for that time."""
    wallet = Account.create()

    async def work(session: WriteSession) -> None:
        owner = await ensure_customer_of_wallet(session, address_of(wallet))
        await grant_free(
            session,
            owner,
            MicroCredits(10_000_000),
            category=GrantCategory.TRIAL,
            terms=LotTerms(effective_at_ms=begins, expires_at_ms=ends),
            idempotency_key=secrets.token_bytes(16),
            reference="test",
            memo="Trial",
        )

    await server.gate.db.write(work)
    return await issue(server, wallet)


async def test_a_grant_shows_what_is_left_of_it_and_when_it_counts(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    now = shop_server.gate.db.clock.now_ms()
    key = await trial_key(shop_server, now - HOUR, now + HOUR)
    wanted = {"feature": "words"}
    paid = await shop.post("/api/credits/deduct", json=wanted, headers=bearer(key))
    assert paid.status_code == 200
    found = await read(shop, CREDITS, key)
    (grant,) = found["grants"]
    assert grant.pop("id").startswith("grt_")
    assert grant.pop("granted_at_ms") >= now
    assert grant == {
        "category": "trial",
        "amount": 10,
        "remaining": Decimal("9.75"),
        "effective_at_ms": now - HOUR,
        "expires_at_ms": now + HOUR,
    }
    assert (found["credits"], found["deferred"]) == (Decimal("9.75"), 0)


async def test_credits_that_count_later_are_not_what_he_has(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    now = shop_server.gate.db.clock.now_ms()
    key = await trial_key(shop_server, now + HOUR, now + 2 * HOUR)
    found = await read(shop, CREDITS, key)
    figures = found["credits"], found["available"], found["deferred"]
    assert figures == (0, 0, 10)
    wanted = {"feature": "words"}
    refused = await shop.post("/api/credits/deduct", json=wanted, headers=bearer(key))
    assert refused.status_code == 402


async def test_the_statement_names_what_expired(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    now = shop_server.gate.db.clock.now_ms()
    key = await trial_key(shop_server, now - HOUR, now - 1)
    await shop_server.gate.db.write(settle_due)
    page = await read(shop, "/api/credits/transactions", key)
    assert [
        (line["type"], line["description"], line["credits"], line["balance_after"])
        for line in page["transactions"]
    ] == [("expiry", "Expired credits", -10, 0), ("grant", "Trial", 10, 10)]
    found = await read(shop, CREDITS, key)
    assert (found["credits"], found["grants"][0]["remaining"]) == (0, 0)


async def test_a_past_balance_is_told(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    key = await customer_key(shop_server, Account.create(), 7)
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    found = await read(shop, f"{CREDITS}?as_of={now}", key)
    assert found["posted"] == 7
    before = await read(shop, f"{CREDITS}?as_of=2025-01-01T00:00:00Z", key)
    assert (before["posted"], before["as_of_ms"]) == (0, 1_735_689_600_000)


@pytest.mark.parametrize("as_of", ["2999-01-01T00:00:00Z", "2025-01-01T00:00:00", "x"])
async def test_a_time_that_cannot_be_told_of_is_refused(
    shop: httpx.AsyncClient, shop_server: LiveServer, as_of: str
) -> None:
    key = await customer_key(shop_server, Account.create(), 7)
    answer = await shop.get(f"{CREDITS}?as_of={as_of}", headers=bearer(key))
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_request"
