"""What a call costs when its handler fails, is slow, or cannot be charged for."""

import asyncio

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from sqlalchemy import text

from tallystick.chain.local import LocalChain
from tallystick.kernel.db import WriteSession
from tests.api.callers import bearer, customer_key, give
from tests.api.payments import ON_SQLITE, count, funded, offer_of, refusal_of, sign
from tests.api.shop import CALLS, SLOW, Slowly
from tests.live import LiveServer

HOWS = {"taken": 409, "unavailable": 503, "rock": 500, "no JSON": 500}


@pytest.fixture
async def key(shop_server: LiveServer) -> str:
    """The key of a customer with ten credits."""
    return await customer_key(shop_server, Account.create(), 10)


async def credits_of(shop: httpx.AsyncClient, key: str) -> tuple[int, int]:
    found = (await shop.get("/api/credits", headers=bearer(key))).json()
    return found["credits"], found["held"]


@ON_SQLITE
@pytest.mark.parametrize("how", HOWS)
async def test_a_call_that_fails_costs_nothing(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str, how: str
) -> None:
    answer = await shop.get(f"/features/broken?how={how}", headers=bearer(key))
    assert refusal_of(answer)[0] == HOWS[how]
    assert answer.headers.get("credits-charged", "0") == "0"
    assert await credits_of(shop, key) == (10, 0)
    assert await count(shop_server, "usage_event") == 0
    assert await count(shop_server, "hold", "state = 'released'") == 1


@ON_SQLITE
@pytest.mark.parametrize("how", HOWS)
async def test_a_payer_whose_call_fails_keeps_the_credits_he_bought(
    shop: httpx.AsyncClient, shop_server: LiveServer, chain: LocalChain, how: str
) -> None:
    """The payment settled; the next call is waived and served."""
    wallet = await funded(chain)
    path = f"/features/broken?how={how}"
    payment = sign(wallet, await offer_of(shop, path))
    answer = await shop.get(path, headers=payment.headers)
    assert refusal_of(answer)[0] == HOWS[how]
    assert await count(shop_server, "topup", "state = 'credited'") == 1
    path = f"/features/echo?text=kept{how}"
    again = sign(wallet, await offer_of(shop, path))
    served = await shop.get(path, headers=again.headers)
    assert served.headers["credits-remaining"] == "9"
    assert await count(shop_server, "relayed_transaction") == 1


@ON_SQLITE
async def test_a_slow_handler_keeps_its_credits_held(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    """Holds live five seconds here; without a heartbeat this one would be gone."""
    SLOW["heart"] = one = Slowly()
    call = asyncio.create_task(
        shop.get("/features/slow?name=heart", headers=bearer(key))
    )
    await one.begun.wait()
    for _ in range(7):
        await asyncio.sleep(1)
        assert await credits_of(shop, key) == (10, 2)
    one.may_end.set()
    answer = await call
    assert answer.headers["credits-charged"] == "2"
    assert await credits_of(shop, key) == (8, 0)


@ON_SQLITE
async def test_credits_that_are_held_cannot_be_spent_meanwhile(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    key = await customer_key(shop_server, Account.create(), 2)
    SLOW["held"] = one = Slowly()
    call = asyncio.create_task(
        shop.get("/features/slow?name=held", headers=bearer(key))
    )
    await one.begun.wait()
    for method, path, body in (
        ("GET", "/features/echo?text=held", None),
        ("POST", "/api/credits/deduct", {"feature": "echo"}),
    ):
        answer = await shop.request(method, path, json=body, headers=bearer(key))
        assert refusal_of(answer) == (402, "insufficient_credits")
        assert answer.json()["credits"] == 0
    one.may_end.set()
    assert (await call).status_code == 200
    assert CALLS["held"] == 1


async def lapse(session: WriteSession) -> None:
    connection = await session.connection()
    await connection.execute(
        text("UPDATE hold SET expires_at_ms = 1 WHERE state = 'open'")
    )


@ON_SQLITE
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "one"}])
async def test_an_answer_that_cannot_be_charged_never_leaves(
    shop: httpx.AsyncClient,
    shop_server: LiveServer,
    key: str,
    headers: dict[str, str],
) -> None:
    name = f"lapsed{len(headers)}"
    SLOW[name] = one = Slowly()
    path = f"/features/slow?name={name}"
    call = asyncio.create_task(shop.get(path, headers=bearer(key) | headers))
    await one.begun.wait()
    await shop_server.gate.db.write(lapse)
    one.may_end.set()
    answer = await call
    assert refusal_of(answer) == (503, "capture_failed")
    assert int(answer.headers["retry-after"]) > 0
    assert name not in answer.text
    assert "credits-charged" not in answer.headers
    assert await count(shop_server, "usage_event") == 0
    # What it says is true: the same request may be sent again.
    again = await shop.get(path, headers=bearer(key) | headers)
    assert again.status_code == 200, again.text
    assert again.headers["credits-remaining"] == "8"


@ON_SQLITE
async def test_a_client_that_goes_away_leaves_no_credits_held(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    SLOW["gone"] = one = Slowly()
    with pytest.raises(httpx.ReadTimeout):
        await shop.get("/features/slow?name=gone", headers=bearer(key), timeout=0.5)
    assert one.begun.is_set()
    one.may_end.set()
    for _ in range(50):
        spent, held = await credits_of(shop, key)
        if held == 0:
            break
        await asyncio.sleep(0.1)
    # The handler ended and was charged, or it was cancelled; nothing in between.
    assert (spent, held) in ((8, 0), (10, 0))


@ON_SQLITE
async def test_a_free_feature_needs_nobody_and_charges_nobody(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    path = "/features/gift?text=gift"
    wallet: LocalAccount = Account.create()
    await give(shop_server, wallet, 5)
    payment = sign(wallet, await offer_of(shop, "/features/echo?text=x"))
    for headers in ({}, bearer(key), payment.headers):
        answer = await shop.get(path, headers=headers)
        assert answer.status_code == 200
        assert answer.json()["echo"] == "gift"
        assert answer.headers["credits-charged"] == "0"
    assert await count(shop_server, "usage_event") == 0
    assert await count(shop_server, "hold") == 0
    assert await count(shop_server, "claim") == 0


@ON_SQLITE
async def test_a_question_about_a_feature_is_not_a_call(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    path = "/features/echo?text=question"
    preflight = await shop.options(
        path,
        headers=bearer(key)
        | {"Origin": "https://x.example", "Access-Control-Request-Method": "GET"},
    )
    assert preflight.status_code == 200
    for method in ("OPTIONS", "HEAD", "PUT", "DELETE", "TRACE"):
        refused = await shop.request(method, path, headers=bearer(key))
        assert refused.status_code == 405, method
        assert refused.headers["allow"] == "GET, POST", method
    refused = await shop.put("/api/keys", headers=bearer(key))
    assert refused.headers["allow"] == "GET, POST", "of two routes"
    assert await credits_of(shop, key) == (10, 0)
    assert await count(shop_server, "usage_event") == 0
