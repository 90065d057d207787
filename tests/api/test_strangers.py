"""Wallets that sign in and never pay: they cost nothing, so they must leave nothing."""

import asyncio
from collections import Counter
from typing import Any

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import LocalChain
from tallystick.identity.keys import MOST_KEYS
from tests.api import payments
from tests.api.callers import bearer, customer_key, give
from tests.api.payments import ON_SQLITE, books, count, funded, refusal_of
from tests.api.test_sign_in import ECHO, offer_of, signed
from tests.live import LiveServer

READ = {
    "/api/credits": {
        "customer": None,
        "credits": 0,
        "held": 0,
        "available": 0,
        "deferred": 0,
        "provisional": 0,
        "low_balance": True,
        "grants": [],
    },
    "/api/credits/transactions": {"transactions": [], "next_cursor": None},
    "/api/keys": {"keys": [], "next_cursor": None},
}


async def sign_in(shop: httpx.AsyncClient, wallet: LocalAccount) -> dict[str, str]:
    return signed(wallet, await offer_of(shop))


async def people(server: LiveServer) -> tuple[int, int]:
    return await count(server, "customer"), await count(server, "wallet")


@ON_SQLITE
async def test_a_wallet_that_never_paid_reads_that_it_has_nothing_and_leaves_no_row(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    before = await people(shop_server)
    for path, expected in READ.items():
        header = await sign_in(shop, Account.create())
        answer = await shop.get(path, headers=header)
        assert (answer.status_code, answer.json()) == (200, expected)
    assert await people(shop_server) == before


@ON_SQLITE
async def test_a_wallet_that_never_paid_makes_and_ends_no_key(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    before = await people(shop_server)
    wallet: LocalAccount = Account.create()
    for method, path in (("POST", "/api/keys"), ("DELETE", "/api/keys/key_1")):
        header = await sign_in(shop, wallet)
        body: Any = {} if method == "POST" else None
        answer = await shop.request(method, path, json=body, headers=header)
        assert refusal_of(answer) == (404, "unknown_customer")
        assert wallet.address in answer.json()["detail"]
        assert "with its first payment" in answer.json()["next_step"]
    assert await people(shop_server) == before
    assert await count(shop_server, "api_key") == 0


@ON_SQLITE
async def test_a_wallet_that_never_paid_is_offered_a_payment_and_leaves_no_row(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    before = await people(shop_server), await books(shop_server)
    deduct, add = "/api/credits/deduct", "/api/credits/add"
    calls: tuple[tuple[str, str, Any], ...] = (
        ("GET", ECHO, None),
        ("POST", deduct, {"feature": "echo"}),
        ("POST", add, {"amount": 1}),
    )
    for method, path, body in calls:
        header = await sign_in(shop, Account.create()) | {"Idempotency-Key": "x"}
        answer = await shop.request(method, path, json=body, headers=header)
        assert answer.status_code == 402, answer.text
        assert payments.decode(answer.headers["PAYMENT-REQUIRED"])["accepts"]
    assert (await people(shop_server), await books(shop_server)) == before
    assert await count(shop_server, "stored_answer") == 0


@ON_SQLITE
async def test_a_wallet_that_never_paid_cannot_sign_in_beside_another_wallets_payment(
    shop: httpx.AsyncClient, shop_server: LiveServer, chain: LocalChain
) -> None:
    payer = await funded(chain)
    before = await books(shop_server)
    for version in (1, 2):
        offer = await payments.offer_of(shop, ECHO, version=version)
        payment = payments.sign(payer, offer)
        header = await sign_in(shop, Account.create()) | payment.headers
        answer = await shop.get(ECHO, headers=header)
        assert refusal_of(answer) == (409, "payer_not_linked")
    assert await books(shop_server) == before


@ON_SQLITE
async def test_a_stranger_that_pays_beside_its_sign_in_becomes_a_customer(
    shop: httpx.AsyncClient, shop_server: LiveServer, chain: LocalChain
) -> None:
    wallet = await funded(chain)
    payment = payments.sign(wallet, await payments.offer_of(shop, ECHO))
    header = await sign_in(shop, wallet) | payment.headers
    assert (await shop.get(ECHO, headers=header)).status_code == 200
    found = await shop.get("/api/credits", headers=await sign_in(shop, wallet))
    assert found.json()["credits"] == 9
    assert found.json()["customer"].startswith("cus_")


async def test_one_offer_to_sign_in_serves_one_wallet_and_is_forgotten_in_time(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    from tallystick.workers.upkeep import sweep

    info = await offer_of(shop)
    headers = [signed(Account.create(), info) for _ in range(20)]
    answers = await asyncio.gather(
        *(shop.get("/api/credits", headers=header) for header in headers)
    )
    assert Counter(one.status_code for one in answers) == {200: 1, 401: 19}
    assert await count(shop_server, "used_nonce") == 1
    shop_server.clock.advance(901)
    await sweep(shop_server.gate.db, shop_server.gate.rail)
    assert await count(shop_server, "used_nonce") == 0


async def test_a_customer_has_at_most_a_hundred_active_keys(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    key = bearer(await customer_key(shop_server, Account.create(), 1))
    other = bearer(await customer_key(shop_server, Account.create(), 1))

    async def make(**wanted: Any) -> httpx.Response:
        return await shop.post("/api/keys", json=wanted, headers=key)

    # All but five, one of which is the key that makes them.
    for _ in range(MOST_KEYS - 6):
        assert (await make()).status_code == 201
    answers = await asyncio.gather(*(make(expires_in_seconds=60) for _ in range(20)))
    assert Counter(one.status_code for one in answers) == {201: 5, 409: 15}
    refused = [one for one in answers if one.status_code == 409]
    assert {refusal_of(one) for one in refused} == {(409, "too_many_keys")}
    assert await count(shop_server, "api_key") == MOST_KEYS + 1
    # Another customer's keys do not count, and those that ended do not either.
    assert (await shop.post("/api/keys", json={}, headers=other)).status_code == 201
    made = next(one for one in answers if one.status_code == 201).json()["id"]
    await shop.delete(f"/api/keys/{made}", headers=key)
    assert [(await make()).status_code for _ in range(2)] == [201, 409]
    shop_server.clock.advance(61)
    assert [(await make()).status_code for _ in range(5)] == [201] * 4 + [409]


@ON_SQLITE
async def test_what_costs_nothing_leaves_no_stored_answer(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    wallet: LocalAccount = Account.create()
    await give(shop_server, wallet, 1)
    key = bearer(await customer_key(shop_server, wallet, 1))
    for n in range(3):
        answer = await shop.post(
            "/api/credits/deduct",
            json={"feature": "gift"},
            headers=key | {"Idempotency-Key": f"free {n}"},
        )
        assert (answer.status_code, answer.json()["deducted"]) == (200, 0)
    assert await count(shop_server, "stored_answer") == 0
