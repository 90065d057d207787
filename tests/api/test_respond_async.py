"""A caller who does not wait gets a 202 and finds his credits later."""

import asyncio
from typing import Any

import httpx
import pytest
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import LocalChain
from tests.api.callers import bearer, issue
from tests.api.payments import (
    ON_SQLITE,
    buy,
    count,
    funded,
    offer_of,
    refusal_of,
    sign,
)
from tests.api.shop import CATALOG
from tests.live import LiveServer, make_settings, start_server

pytestmark = ON_SQLITE
ADD = "/api/credits/add"
ECHO = "/features/echo?text=async"
ASYNC = {"Prefer": "respond-async"}
WANTED: dict[str, tuple[str, str, Any, int]] = {
    "a call": ("GET", ECHO, None, 10),
    "a deduction": ("POST", "/api/credits/deduct", {"feature": "echo"}, 10),
    "a purchase": ("POST", ADD, {"pack": "pack_5"}, 50),
}


async def settled(shop: httpx.AsyncClient, location: str) -> dict[str, Any]:
    """The top-up once its outcome is known."""
    for _ in range(100):
        topup: dict[str, Any] = (await shop.get(location)).json()
        if topup["state"] not in ("claimed", "signed", "watch"):
            return topup
        await asyncio.sleep(0.1)
    raise AssertionError(f"it stays {topup['state']}")


@pytest.mark.parametrize("what", WANTED)
async def test_who_does_not_wait_is_told_where_to_look(
    shop: httpx.AsyncClient, shop_server: LiveServer, chain: LocalChain, what: str
) -> None:
    method, path, body, bought = WANTED[what]
    wallet = await funded(chain)
    await chain.set_automine(on=False)
    payment = sign(wallet, await offer_of(shop, path, method=method, json=body))
    answer = await shop.request(
        method, path, json=body, headers=payment.headers | ASYNC
    )
    assert refusal_of(answer) == (202, "settlement_pending")
    assert int(answer.headers["retry-after"]) > 0
    location = answer.headers["location"]
    assert location == f"/api/credits/topups/{answer.json()['topup']}"
    pending = (await shop.get(location)).json()
    assert pending["state"] in ("claimed", "signed")
    assert pending["payer"] == wallet.address
    assert "transaction" not in pending
    assert await count(shop_server, "credit_grant") == 0
    await asyncio.sleep(0.3)
    await chain.set_automine(on=True)
    await chain.mine()
    topup = await settled(shop, location)
    assert topup["state"] == "credited"
    assert topup["credits"] == bought
    key = await issue(shop_server, wallet)
    found = (await shop.get("/api/credits", headers=bearer(key))).json()
    assert (found["credits"], found["held"]) == (bought, 0)
    assert await count(shop_server, "usage_event") == 0


async def test_the_same_header_finds_the_same_topup(
    shop: httpx.AsyncClient, shop_server: LiveServer, chain: LocalChain
) -> None:
    wallet, body = await funded(chain), {"pack": "pack_5"}
    await chain.set_automine(on=False)
    payment = sign(wallet, await offer_of(shop, ADD, method="POST", json=body))
    ids = set()
    for _ in range(3):
        answer = await shop.post(ADD, json=body, headers=payment.headers | ASYNC)
        assert refusal_of(answer) == (202, "settlement_pending")
        ids.add(answer.json()["topup"])
    assert len(ids) == 1
    await chain.set_automine(on=True)
    waited = await shop.post(ADD, json=body, headers=payment.headers)
    assert waited.status_code == 200
    assert {waited.json()["topup"]["id"]} == ids
    assert await count(shop_server, "relayed_transaction") == 1


async def test_a_wallet_with_credits_is_answered_at_once_all_the_same(
    shop: httpx.AsyncClient, chain: LocalChain
) -> None:
    wallet = await funded(chain)
    await buy(shop, wallet)
    payment = sign(wallet, await offer_of(shop, ECHO))
    answer = await shop.get(ECHO, headers=payment.headers | ASYNC)
    assert answer.status_code == 200
    assert answer.headers["credits-remaining"] == "49"


async def test_a_settlement_that_takes_too_long_is_a_202_and_never_a_402(
    database_url: str, chain: LocalChain, free_port: int, wallet: LocalAccount
) -> None:
    """A13: whoever is told to pay again while the first payment is out pays twice."""
    settings = make_settings(
        database_url, chain.url, free_port, catalog=CATALOG, settle_wait=1
    )
    server = await start_server(settings)
    try:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
            await chain.set_automine(on=False)
            payment = sign(wallet, await offer_of(http, ECHO))
            answer = await http.get(ECHO, headers=payment.headers)
            assert refusal_of(answer) == (202, "settlement_pending")
            copy = await http.get(ECHO, headers=payment.headers)
            assert refusal_of(copy) == (409, "payment_in_progress")
            await chain.set_automine(on=True)
            await chain.mine()
            topup = await settled(http, answer.headers["location"])
            assert topup["state"] == "credited"
            late = await http.get(ECHO, headers=payment.headers)
            assert refusal_of(late) == (409, "payment_already_settled")
            fresh = sign(wallet, await offer_of(http, ECHO))
            served = await http.get(ECHO, headers=fresh.headers)
            assert served.headers["credits-remaining"] == "9"
        assert (await server.audit()).findings == []
    finally:
        await server.stop()
