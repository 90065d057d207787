"""API keys: made once, shown once, never more powerful than their maker."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest
from eth_account import Account

from tallystick.identity.keys import Scope
from tests.api.callers import bearer, customer_key, issue
from tests.api.payments import ON_SQLITE, count, refusal_of
from tests.live import LiveServer

KEYS = "/api/keys"
ECHO = "/features/echo?text=keys"


@pytest.fixture
async def key(shop_server: LiveServer) -> str:
    """A key that may everything, of a customer with ten credits."""
    return await customer_key(shop_server, Account.create(), 10)


async def make(shop: httpx.AsyncClient, key: str, **wanted: Any) -> dict[str, Any]:
    answer = await shop.post(KEYS, json=wanted, headers=bearer(key))
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store, private"
    made: dict[str, Any] = answer.json()
    return made


@ON_SQLITE
async def test_a_new_key_reads_and_spends_and_its_secret_is_shown_once(
    shop: httpx.AsyncClient, key: str
) -> None:
    made = await make(shop, key, name="robot")
    assert made["secret"].startswith("tk_")
    assert made["scopes"] == ["read", "spend"]
    spent = await shop.get(ECHO, headers=bearer(made["secret"]))
    assert spent.headers["credits-remaining"] == "9"
    listed = await shop.get(KEYS, headers=bearer(key))
    names = {one["id"]: one["name"] for one in listed.json()["keys"]}
    assert names[made["id"]] == "robot"
    secret = made["secret"].split("_")[2]
    assert secret not in listed.text
    assert "secret" not in listed.text


@ON_SQLITE
async def test_a_key_cannot_make_a_key_that_may_more(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    # One that may make keys and read, and nothing else.
    maker = (await make(shop, key, scopes=["manage", "read"]))["secret"]
    before = await count(shop_server, "api_key")
    for scopes in (["spend"], ["read", "spend"], ["manage", "read", "spend"]):
        answer = await shop.post(KEYS, json={"scopes": scopes}, headers=bearer(maker))
        assert refusal_of(answer) == (422, "invalid_request")
    # Without a word about scopes it would be read and spend.
    answer = await shop.post(KEYS, json={}, headers=bearer(maker))
    assert refusal_of(answer) == (422, "invalid_request")
    assert await count(shop_server, "api_key") == before
    made = await make(shop, maker, scopes=["read"])
    assert refusal_of(await shop.get(ECHO, headers=bearer(made["secret"]))) == (
        403,
        "scope_missing",
    )


@ON_SQLITE
async def test_a_key_that_may_not_manage_makes_and_ends_none(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    spender = await make(shop, key)
    before = await count(shop_server, "api_key", "revoked_at_ms IS NULL")
    for answer in (
        await shop.post(KEYS, json={}, headers=bearer(spender["secret"])),
        await shop.delete(f"{KEYS}/{spender['id']}", headers=bearer(spender["secret"])),
    ):
        assert refusal_of(answer) == (403, "scope_missing")
        assert answer.json()["scope"] == "manage"
    assert await count(shop_server, "api_key", "revoked_at_ms IS NULL") == before


@ON_SQLITE
async def test_a_short_lived_key_makes_none_that_outlives_it(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    short = await make(
        shop, key, scopes=["read", "spend", "manage"], expires_in_seconds=60
    )
    for wanted in ({}, {"expires_in_seconds": 3600}):
        answer = await shop.post(KEYS, json=wanted, headers=bearer(short["secret"]))
        assert refusal_of(answer) == (422, "invalid_request")
    made = await make(shop, short["secret"], expires_in_seconds=30)
    shop_server.clock.advance(61)
    for one in (short, made):
        answer = await shop.get(ECHO, headers=bearer(one["secret"]))
        assert refusal_of(answer) == (401, "invalid_key")


@ON_SQLITE
async def test_nobody_sees_or_ends_another_customers_key(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    mine = await make(shop, key, name="mine")
    other = await customer_key(shop_server, Account.create(), 1)
    listed = await shop.get(KEYS, headers=bearer(other))
    assert mine["id"] not in {one["id"] for one in listed.json()["keys"]}
    answer = await shop.delete(f"{KEYS}/{mine['id']}", headers=bearer(other))
    assert refusal_of(answer) == (404, "unknown_key")
    assert (await shop.get(ECHO, headers=bearer(mine["secret"]))).status_code == 200


async def test_a_revoked_key_ends_at_once_and_for_good(
    shop: httpx.AsyncClient, key: str
) -> None:
    made = await make(shop, key)
    path = f"{KEYS}/{made['id']}"
    answers = await asyncio.gather(
        *(shop.delete(path, headers=bearer(key)) for _ in range(8))
    )
    assert Counter(one.status_code for one in answers) == {204: 1, 404: 7}
    for _ in range(2):
        answer = await shop.get(ECHO, headers=bearer(made["secret"]))
        assert refusal_of(answer) == (401, "invalid_key")
    listed = (await shop.get(KEYS, headers=bearer(key))).json()["keys"]
    [ended] = [one for one in listed if one["id"] == made["id"]]
    assert ended["revoked_at_ms"] is not None


@ON_SQLITE
async def test_a_key_may_end_itself(shop: httpx.AsyncClient, key: str) -> None:
    made = await make(shop, key, scopes=["manage"])
    answer = await shop.delete(f"{KEYS}/{made['id']}", headers=bearer(made["secret"]))
    assert answer.status_code == 204
    assert refusal_of(await shop.get(KEYS, headers=bearer(made["secret"]))) == (
        401,
        "invalid_key",
    )


async def test_a_key_that_cannot_be_is_not_made(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    before = await count(shop_server, "api_key")
    for wanted in (
        {"name": "x" * 81},
        {"name": "null\x00byte"},
        {"name": "line\nbreak"},
        {"name": 1},
        {"scopes": ["everything"]},
        {"scopes": "read"},
        {"scopes": []},
        {"expires_in_seconds": 0},
        {"expires_in_seconds": -1},
        {"expires_in_seconds": 10**12},
        {"expires_in_seconds": 1.5},
        {"expires_in_seconds": True},
        {"customer": "cus_0000000000000"},
        {"kind": "service"},
    ):
        answer = await shop.post(KEYS, json=wanted, headers=bearer(key))
        assert refusal_of(answer) == (422, "invalid_request"), wanted
    assert await count(shop_server, "api_key") == before


@ON_SQLITE
async def test_a_service_key_makes_keys_for_the_customer_it_names(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    service = bearer(await issue(shop_server, None))
    answer = await shop.post(KEYS, json={}, headers=service)
    assert refusal_of(answer) == (422, "invalid_request")
    customer = (await shop.get("/api/credits", headers=bearer(key))).json()["customer"]
    named = service | {"Tallystick-Customer": customer}
    made = await shop.post(KEYS, json={"name": "given"}, headers=named)
    assert made.status_code == 201
    assert made.json()["secret"].startswith("tk_")
    spent = await shop.get(ECHO, headers=bearer(made.json()["secret"]))
    assert spent.headers["credits-remaining"] == "9"
    reader = bearer(await issue(shop_server, None, Scope.READ))
    answer = await shop.post(
        KEYS, json={}, headers=reader | {"Tallystick-Customer": customer}
    )
    assert refusal_of(answer) == (403, "scope_missing")


async def test_keys_are_told_page_by_page_each_once(
    shop: httpx.AsyncClient, key: str
) -> None:
    made = [(await make(shop, key, name=f"key {n}"))["id"] for n in range(7)]
    for limit in (1, 3, 4, 8, 100):
        found: list[str] = []
        cursor = None
        while cursor is not None or not found:
            query = {"limit": limit} | ({"cursor": cursor} if cursor else {})
            page = (await shop.get(KEYS, params=query, headers=bearer(key))).json()
            assert 0 < len(page["keys"]) <= limit
            found += [one["id"] for one in page["keys"]]
            cursor = page["next_cursor"]
        # The oldest is the key that asks.
        assert found[:-1] == made[::-1]
        assert len(found) == 8


@ON_SQLITE
async def test_a_cursor_of_another_customers_shows_only_ones_own_keys(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    for _ in range(3):
        await make(shop, key)
    page = (await shop.get(f"{KEYS}?limit=1", headers=bearer(key))).json()
    other = await customer_key(shop_server, Account.create(), 1)
    mine = {one["id"] for one in page["keys"]}
    for cursor in (page["next_cursor"], "1", str(2**63 - 1)):
        told = await shop.get(f"{KEYS}?cursor={cursor}", headers=bearer(other))
        assert mine & {one["id"] for one in told.json()["keys"]} == set()
        assert len(told.json()["keys"]) <= 1


@ON_SQLITE
async def test_a_page_of_keys_that_cannot_be_is_refused(
    shop: httpx.AsyncClient, key: str
) -> None:
    for query in (
        "limit=0",
        "limit=101",
        "limit=x",
        "cursor=",
        "cursor=x",
        "cursor=-1",
        "cursor=%D9%A1",
        f"cursor={2**63}",
        "cursor=" + "9" * 30,
    ):
        answer = await shop.get(f"{KEYS}?{query}", headers=bearer(key))
        assert refusal_of(answer) == (422, "invalid_request"), query
