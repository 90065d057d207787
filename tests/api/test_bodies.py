"""Bodies that can be read in two ways are refused, in words that say what is wrong."""

from typing import Any

import httpx
import pytest
from eth_account import Account

from tests.api.callers import bearer, customer_key, issue
from tests.api.payments import ON_SQLITE, books, refusal_of
from tests.live import LiveServer

pytestmark = ON_SQLITE
REFUSED = (422, "invalid_request")
DOORS = (
    "/api/catalog/quote",
    "/api/credits/add",
    "/api/credits/deduct",
    "/api/keys",
    "/api/paywall/authorize",
    "/api/paywall/complete",
    "/api/paywall/extend",
    "/features/echo",
)
OF_THE_SELLER = "/api/paywall"
DEEP = b'{"feature": %s1%s}'
AMBIGUOUS = {
    "a name twice": b'{"feature": "echo", "feature": "gift"}',
    "a name twice with other digits": b'{"text": "a", "t\\u0065xt": "b"}',
    "a name twice inside": b'{"answer": {"status": 200, "status": 500}}',
    "a name twice in a list": b'{"scopes": [{"read": 1, "read": 2}]}',
    "a name twice with the same value": b'{"pack": "pack_5", "pack": "pack_5"}',
    "33 deep": DEEP % (b"[" * 32, b"]" * 32),
    "100 deep": DEEP % (b'{"a":' * 100, b"}" * 100),
    "10 000 deep": b"[" * 10_000,
    "an unfinished 5 000 deep": b'{"a":' * 5_000,
    "not UTF-8": b'{"feature": "\xff"}',
    "UTF-16": '{"feature": "echo"}'.encode("utf-16"),
    "UTF-32": '{"feature": "echo"}'.encode("utf-32"),
    "half a character in UTF-8": b'{"feature": "\xed\xa0\x80"}',
    "a byte order mark": '\ufeff{"feature": "echo"}'.encode(),
}


@pytest.fixture
async def keys(shop_server: LiveServer) -> dict[str, str]:
    """A customer's key for customers' doors, a service key for the seller's."""
    return {
        "customer": await customer_key(shop_server, Account.create(), 10),
        "seller": await issue(shop_server, None),
    }


async def post(
    shop: httpx.AsyncClient, keys: dict[str, str], path: str, body: bytes
) -> httpx.Response:
    key = keys["seller" if path.startswith(OF_THE_SELLER) else "customer"]
    headers = bearer(key) | {"content-type": "application/json"}
    return await shop.post(path, content=body, headers=headers)


@pytest.mark.parametrize("path", DOORS)
async def test_a_body_with_two_readings_is_refused_at_every_door(
    shop: httpx.AsyncClient, shop_server: LiveServer, keys: dict[str, str], path: str
) -> None:
    before = await books(shop_server)
    for name, body in AMBIGUOUS.items():
        answer = await post(shop, keys, path, body)
        assert refusal_of(answer) == REFUSED, name
        told = answer.json()["detail"]
        assert "the body" in told, name
        if "twice" in name:
            assert "twice" in told, name
        if "deep" in name and "unfinished" not in name:
            assert "nested" in told or "no JSON" in told, name
    assert await books(shop_server) == before


async def test_the_last_of_two_prices_is_not_the_one_that_counts(
    shop: httpx.AsyncClient, keys: dict[str, str]
) -> None:
    """A gateway that reads the first, and we the last, would let a fraud through."""
    body = b'{"feature": "words", "quantity": 1000, "quantity": 1}'
    answer = await post(shop, keys, "/api/credits/deduct", body)
    assert refusal_of(answer) == REFUSED
    assert "'quantity' twice" in answer.json()["detail"]
    found = await shop.get("/api/credits", headers=bearer(keys["customer"]))
    assert found.json()["credits"] == 10


Words = tuple[str, dict[str, Any], str, str, str]
AUTHORIZE = {"feature": "echo", "method": "GET", "url": "/x"}
WORDS: tuple[Words, ...] = (
    ("/api/credits/deduct", {}, "feature", "is missing", "a value"),
    ("/api/credits/deduct", {"feature": 1}, "feature", "is no text", "text"),
    (
        "/api/credits/deduct",
        {"feature": "echo", "quantity": True},
        "quantity",
        "is no number",
        "a number, or its digits as text",
    ),
    (
        "/api/credits/add",
        {"pack": "pack_5", "more": 1},
        "more",
        "is not known here",
        "no such member",
    ),
    ("/api/keys", {"name": "x" * 81}, "name", "is too long", "at most 80 characters"),
    (
        "/api/keys",
        {"name": "a\nb"},
        "name",
        "is not printable",
        "letters, digits and signs",
    ),
    ("/api/keys", {"scopes": "read"}, "scopes", "is no list", "a list"),
    ("/api/keys", {"scopes": []}, "scopes", "has too few items", "at least 1"),
    (
        "/api/keys",
        {"scopes": ["read", "all"]},
        "scopes.1",
        "is not one of the values taken",
        "'read', 'spend' or 'manage'",
    ),
    (
        "/api/keys",
        {"expires_in_seconds": 1.5},
        "expires_in_seconds",
        "is no whole number",
        "a whole number",
    ),
    (
        "/api/keys",
        {"expires_in_seconds": 0},
        "expires_in_seconds",
        "is too small",
        "at least 1",
    ),
    (
        "/api/paywall/authorize",
        AUTHORIZE | {"method": "G T"},
        "method",
        "has not the right form",
        "what /openapi.json says",
    ),
    (
        "/api/paywall/authorize",
        AUTHORIZE | {"quantity": "many"},
        "quantity",
        "is no number",
        "a number",
    ),
    (
        "/api/paywall/authorize",
        AUTHORIZE | {"headers": {"a": 1}},
        "headers.a",
        "is no text",
        "text or a list",
    ),
    (
        "/api/paywall/authorize",
        AUTHORIZE | {"headers": {"a": ["x", 1]}},
        "headers.a.1",
        "is no text",
        "text",
    ),
    (
        "/api/paywall/authorize",
        AUTHORIZE | {"headers": []},
        "headers",
        "is no object",
        "an object",
    ),
    (
        "/api/paywall/complete",
        {"admission": "x", "outcome": "served", "answer": {}},
        "answer.status",
        "is missing",
        "a value",
    ),
    (
        "/api/paywall/complete",
        {"admission": "x", "outcome": "eaten"},
        "outcome",
        "is not one of the values taken",
        "'served' or 'failed'",
    ),
)


@pytest.mark.parametrize(("path", "body", "field", "problem", "expected"), WORDS)
async def test_a_refusal_says_which_member_what_is_wrong_and_what_is_expected(
    shop: httpx.AsyncClient,
    keys: dict[str, str],
    path: str,
    body: dict[str, Any],
    field: str,
    problem: str,
    expected: str,
) -> None:
    key = keys["seller" if path.startswith(OF_THE_SELLER) else "customer"]
    answer = await shop.post(path, json=body, headers=bearer(key))
    assert refusal_of(answer) == REFUSED
    told = answer.json()
    assert told["errors"] == [
        {"field": field, "problem": problem, "expected": expected}
    ]
    assert told["detail"] == f"{field} {problem}; expected: {expected}"


async def test_a_body_of_the_wrong_kind_is_told_without_our_classes(
    shop: httpx.AsyncClient, keys: dict[str, str]
) -> None:
    for body in (b"[]", b"null", b"1", b'"text"'):
        answer = await post(shop, keys, "/api/credits/add", body)
        assert refusal_of(answer) == REFUSED
        assert answer.json()["detail"] == "the body is no object; expected: an object"


async def test_a_parameter_of_the_query_is_told_in_the_same_words(
    shop: httpx.AsyncClient, keys: dict[str, str]
) -> None:
    for query, expected in (
        ("limit=x", "limit is no whole number; expected: a whole number"),
        ("limit=0", "limit is too small; expected: at least 1"),
        ("limit=201", "limit is too large; expected: at most 200"),
    ):
        path = f"/api/credits/transactions?{query}"
        answer = await shop.get(path, headers=bearer(keys["customer"]))
        assert answer.json()["detail"] == expected


async def test_a_thousand_unknown_members_are_not_told_one_by_one(
    shop: httpx.AsyncClient, keys: dict[str, str]
) -> None:
    body = {f"{'x' * 40}{n}": n for n in range(1000)}
    answer = await shop.post("/api/keys", json=body, headers=bearer(keys["customer"]))
    assert refusal_of(answer) == REFUSED
    assert len(answer.json()["errors"]) == 20
    assert len(answer.content) < 5_000
