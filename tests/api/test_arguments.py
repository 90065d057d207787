"""A call with arguments that it cannot take is refused before anything is paid."""

from typing import Any

import httpx
import pytest
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import LocalChain
from tests.api.callers import bearer, customer_key
from tests.api.payments import (
    ADDRESS,
    ANALYST,
    ON_SQLITE,
    books,
    funded,
    offer_of,
    refusal_of,
    sign,
)
from tests.live import LiveServer
from tests.samples.addresses import ADDRESSES, MIXED, NO_ADDRESSES

pytestmark = ON_SQLITE
REFUSED = (422, "invalid_request")
STRICT = "/features/strict"


@pytest.fixture
async def key(shop_server: LiveServer, chain: LocalChain) -> str:
    return await customer_key(shop_server, await funded(chain), 10)


@pytest.mark.parametrize("text", NO_ADDRESSES)
async def test_a_payment_for_a_call_about_no_address_is_neither_claimed_nor_settled(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount, text: str
) -> None:
    payment = sign(wallet, await offer_of(http, ANALYST))
    before = await books(attacked)
    for ask in (
        http.get("/features/ai_analyst", params={"address": text}),
        http.get(
            "/features/ai_analyst", params={"address": text}, headers=payment.headers
        ),
        http.post(
            "/features/ai_analyst", json={"address": text}, headers=payment.headers
        ),
        http.post(
            "/features/portfolio_audit",
            json={"owner": ADDRESS, "tokens": [MIXED, text]},
            headers=payment.headers,
        ),
    ):
        answer = await ask
        assert refusal_of(answer) == REFUSED
        assert answer.json()["field"] in {"address", "tokens[1]"}
    assert await books(attacked) == before


async def test_a_token_that_is_named_twice_costs_nothing(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    path = "/features/portfolio_audit"
    body = {"owner": ADDRESS, "tokens": [MIXED, ADDRESS]}
    payment = sign(wallet, await offer_of(http, path, method="POST", json=body))
    before = await books(attacked)
    body = {"owner": ADDRESS, "tokens": [MIXED, ADDRESS, MIXED.lower()]}
    answer = await http.post(path, json=body, headers=payment.headers)
    assert refusal_of(answer) == REFUSED
    assert answer.json()["field"] == "tokens[2]"
    assert await books(attacked) == before


@pytest.mark.parametrize("text", ADDRESSES)
async def test_every_way_of_writing_an_address_is_taken(
    shop: httpx.AsyncClient, key: str, text: str
) -> None:
    answer = await shop.get(STRICT, params={"wallet": text}, headers=bearer(key))
    assert answer.json() == {"wallet": text}


FITTING: tuple[dict[str, Any], ...] = (
    {"code": "AB1"},
    {"code": "XY" + "9" * 1022},
    {"year": 2020},
    {"year": "2030"},
    {"count": -(10**18) + 1},
    {"count": 10**18 - 1},
    {"wallets": []},
    {"wallets": [ADDRESS, MIXED]},
    {"codes": ["AB", "CD", "AB"]},
)
UNFITTING: tuple[dict[str, Any], ...] = (
    {"code": "ab1"},
    {"code": "AB1\n"},
    {"code": "AB1 or 1"},
    {"code": "XY" + "9" * 1023},
    {"code": 1},
    {"code": None},
    {"year": 2019},
    {"year": 2031},
    {"year": "2031"},
    {"year": 2020.5},
    {"year": True},
    {"count": 10**18},
    {"count": -(10**18)},
    {"count": "1e3"},
    {"wallets": ADDRESS},
    {"wallets": [ADDRESS, ADDRESS]},
    {"wallets": [MIXED, MIXED.lower()]},
    {"wallets": [None]},
    {"codes": ["AB", "ABC"]},
    {"codes": [["AB"]]},
    {"colour": "red"},
)


async def test_arguments_within_their_bounds_are_served(
    shop: httpx.AsyncClient, key: str
) -> None:
    for given in FITTING:
        body = {"wallet": ADDRESS} | given
        answer = await shop.post(STRICT, json=body, headers=bearer(key))
        assert answer.status_code == 200, (given, answer.text)


async def test_arguments_beyond_their_bounds_cost_nothing_and_are_told(
    shop: httpx.AsyncClient, shop_server: LiveServer, chain: LocalChain, key: str
) -> None:
    payer = await funded(chain)
    path = f"{STRICT}?wallet={ADDRESS}"
    paid = sign(payer, await offer_of(shop, path)).headers
    before = await books(shop_server)
    for given in UNFITTING:
        body = {"wallet": ADDRESS} | given
        for headers in ({}, bearer(key), paid):
            answer = await shop.post(STRICT, json=body, headers=headers)
            assert refusal_of(answer) == REFUSED, given
            assert answer.json()["field"].startswith(next(iter(given))), given
    assert await books(shop_server) == before


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("text=a&text=b", None),
        ("text=a&text=a", None),
        ("text=a&te%78t=b", None),
        ("text=a", {"text": "b"}),
        ("text=a", {"text": None}),
    ],
)
async def test_an_argument_that_is_told_twice_costs_nothing(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str, query: str, body: Any
) -> None:
    before = await books(shop_server)
    for headers in ({}, bearer(key)):
        path = f"/features/echo?{query}"
        answer = await shop.request(
            "POST" if body else "GET", path, json=body, headers=headers
        )
        assert refusal_of(answer) == REFUSED
        assert answer.json()["field"] == "text"
    assert await books(shop_server) == before
    agreed = await shop.post(
        "/features/echo?text=agreed", json={"text": "agreed"}, headers=bearer(key)
    )
    assert agreed.status_code == 200


async def test_the_openapi_document_tells_what_an_argument_may_be(
    shop: httpx.AsyncClient,
) -> None:
    paths = (await shop.get("/openapi.json")).json()["paths"]
    told = {one["name"]: one["schema"] for one in paths[STRICT]["get"]["parameters"]}
    assert told["wallet"] == {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"}
    assert told["code"]["pattern"] == "^(?:[A-Z]{2}[0-9]+)$"
    assert (told["year"]["minimum"], told["year"]["maximum"]) == (2020, 2030)
    assert told["wallets"]["items"] == told["wallet"]
    assert told["wallets"]["uniqueItems"] is True
    body = paths[STRICT]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["properties"]["code"]["pattern"] == told["code"]["pattern"]
    listed = (await shop.get("/api/catalog")).json()["features"]
    strict = next(one for one in listed if one["slug"] == "strict")["parameters"]
    assert {one["name"]: one.get("pattern") for one in strict}["code"] == (
        "[A-Z]{2}[0-9]+"
    )
