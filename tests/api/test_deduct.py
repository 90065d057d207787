"""``POST /api/credits/deduct``: a charge for what another server has done."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import LocalChain
from tests.api.callers import bearer, customer_key, give, issue
from tests.api.payments import (
    ON_SQLITE,
    books,
    count,
    decode,
    funded,
    offer_of,
    refusal_of,
    sign,
)
from tests.live import LiveServer

DEDUCT = "/api/credits/deduct"
ECHO = {"feature": "echo"}


async def deducted(
    shop: httpx.AsyncClient, headers: dict[str, str], **wanted: Any
) -> httpx.Response:
    return await shop.post(DEDUCT, json=wanted, headers=headers)


@pytest.fixture
async def key(shop_server: LiveServer) -> str:
    """The key of a customer with ten credits."""
    return await customer_key(shop_server, Account.create(), 10)


@ON_SQLITE
async def test_a_deduction_takes_the_catalogs_price_and_tells_what_is_left(
    shop: httpx.AsyncClient, key: str
) -> None:
    one = await deducted(shop, bearer(key), **ECHO)
    assert one.status_code == 200
    assert one.json() == {
        "success": True,
        "credits": 9,
        "deducted": 1,
        "charge": one.json()["charge"],
    }
    assert one.json()["charge"].startswith("chg_")
    assert one.headers["credits-charged"] == "1"
    assert one.headers["credits-remaining"] == "9"
    assert one.headers["cache-control"] == "no-store, private"
    several = await deducted(shop, bearer(key), feature="words", quantity=7)
    assert (several.json()["deducted"], several.json()["credits"]) == (1.75, 7.25)
    part = await deducted(shop, bearer(key), feature="words", quantity="1.000001")
    assert part.json()["deducted"] == 0.250001
    free = await deducted(shop, bearer(key), feature="gift")
    assert (free.json()["deducted"], free.json()["charge"]) == (0, None)


@ON_SQLITE
async def test_a_customer_may_confirm_the_price_and_not_change_it(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    confirmed = await deducted(shop, bearer(key), **ECHO, amount=1)
    assert confirmed.json()["credits"] == 9
    before = await books(shop_server)
    for feature, amount in (("echo", "0.5"), ("echo", 2), ("tailor", 3)):
        answer = await deducted(shop, bearer(key), feature=feature, amount=amount)
        assert refusal_of(answer) == (409, "price_changed")
        assert answer.json()["credits"] == 1
    assert await books(shop_server) == before


@ON_SQLITE
async def test_a_payer_may_not_change_the_price_either(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    wallet: LocalAccount = Account.create()
    await give(shop_server, wallet, 5)
    body = {"feature": "tailor"}
    payment = sign(wallet, await offer_of(shop, DEDUCT, method="POST", json=body))
    for amount in ("0.5", 3):
        answer = await deducted(shop, payment.headers, **body, amount=amount)
        assert refusal_of(answer) == (409, "price_changed")
    served = await deducted(shop, payment.headers, **body)
    assert served.json()["credits"] == 4
    assert await count(shop_server, "usage_event") == 1


@ON_SQLITE
async def test_the_seller_sets_his_own_price_where_the_catalog_allows_it(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    found = await shop.get("/api/credits", headers=bearer(key))
    service = bearer(await issue(shop_server, None)) | {
        "Tallystick-Customer": found.json()["customer"]
    }
    for amount, left in (("2.5", 7.5), ("0.000001", 7.499999)):
        answer = await deducted(shop, service, feature="tailor", amount=amount)
        assert answer.json()["credits"] == left
    plain = await deducted(shop, service, feature="tailor")
    assert plain.json()["credits"] == 6.499999
    assert refusal_of(await deducted(shop, service, **ECHO, amount=2)) == (
        409,
        "price_changed",
    )
    for amount in (0, -1, "-0.5"):
        answer = await deducted(shop, service, feature="tailor", amount=amount)
        assert refusal_of(answer) == (422, "invalid_amount")
    dear = await deducted(shop, service, feature="tailor", amount=50)
    assert refusal_of(dear) == (402, "insufficient_credits")
    assert dear.json()["shortfall"] == 43.500001


async def test_parallel_deductions_never_take_more_than_there_is(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    answers = await asyncio.gather(
        *(deducted(shop, bearer(key), **ECHO) for _ in range(40))
    )
    assert Counter(one.status_code for one in answers) == {200: 10, 402: 30}
    left = sorted(one.json()["credits"] for one in answers if one.status_code == 200)
    assert left == list(range(10))
    assert await count(shop_server, "usage_event") == 10


@ON_SQLITE
async def test_a_short_caller_is_offered_what_he_lacks(
    shop: httpx.AsyncClient, key: str
) -> None:
    answer = await deducted(shop, bearer(key), feature="words", quantity=100)
    assert refusal_of(answer) == (402, "insufficient_credits")
    document = answer.json()
    assert (document["required"], document["credits"]) == (25, 10)
    assert document["shortfall"] == 15
    assert document["accepts"][0]["maxAmountRequired"] == "1500000"
    offered = decode(answer.headers["PAYMENT-REQUIRED"])
    assert [one["amount"] for one in offered["accepts"]] == ["1500000"]
    # Somebody is known already, so he need not sign in.
    assert "sign-in-with-x" not in offered["extensions"]


@ON_SQLITE
async def test_nobody_is_offered_a_payment_and_a_sign_in(
    shop: httpx.AsyncClient,
) -> None:
    answer = await deducted(shop, {}, **ECHO)
    assert refusal_of(answer) == (402, "payment_required")
    offered = decode(answer.headers["PAYMENT-REQUIRED"])
    assert [one["amount"] for one in offered["accepts"]] == ["1000000", "100000"]
    assert "sign-in-with-x" in offered["extensions"]


@ON_SQLITE
@pytest.mark.parametrize("version", [1, 2])
async def test_a_deduction_is_paid_by_a_payment(
    shop: httpx.AsyncClient, shop_server: LiveServer, chain: LocalChain, version: int
) -> None:
    wallet = await funded(chain)
    name = "PAYMENT-RESPONSE" if version == 2 else "X-PAYMENT-RESPONSE"
    left = []
    for _ in range(3):
        entry = await offer_of(shop, DEDUCT, method="POST", version=version, json=ECHO)
        answer = await deducted(shop, sign(wallet, entry).headers, **ECHO)
        assert answer.status_code == 200, answer.text
        receipt = decode(answer.headers[name])
        assert receipt["success"] is True
        left.append(
            (answer.json()["credits"], receipt["amount"], receipt["transaction"] != "")
        )
    if version == 2:
        paid_once = [(9, "1000000", True), (8, "0", False), (7, "0", False)]
        assert left == paid_once
    else:
        assert left == [(0, "100000", True)] * 3
    assert await count(shop_server, "usage_event") == 3


@ON_SQLITE
async def test_a_settled_payment_deducts_once(
    shop: httpx.AsyncClient, shop_server: LiveServer, chain: LocalChain
) -> None:
    wallet = await funded(chain)
    payment = sign(wallet, await offer_of(shop, DEDUCT, method="POST", json=ECHO))
    assert (await deducted(shop, payment.headers, **ECHO)).status_code == 200
    again = await deducted(shop, payment.headers, **ECHO)
    assert refusal_of(again) == (409, "payment_already_settled")
    assert await count(shop_server, "usage_event") == 1
