"""Requests that ask for what there is not, or for impossible amounts (A33, A50)."""

from typing import Any

import httpx
import pytest
from eth_account.signers.local import LocalAccount

from tests.api.callers import bearer, issue
from tests.api.payments import (
    ADDRESS,
    ANALYST,
    ON_SQLITE,
    books,
    buy,
    offer_of,
    refusal_of,
    sign,
)
from tests.live import LiveServer

pytestmark = ON_SQLITE
DEDUCT = "/api/credits/deduct"
ADD = "/api/credits/add"
AUDIT = "/features/portfolio_audit"
Sent = dict[str, tuple[Any, tuple[int, str]]]


@pytest.fixture
async def key(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> str:
    """The key of a customer with fifty credits."""
    await buy(http, wallet)
    return await issue(attacked, wallet)


async def posted(
    http: httpx.AsyncClient, path: str, sent: Sent, **headers: str
) -> dict[str, tuple[int, str]]:
    """What each body gets; bytes go as they are."""
    found = {}
    for name, (body, _) in sent.items():
        as_json = {"content-type": "application/json"} | headers
        if isinstance(body, bytes):
            answer = await http.post(path, content=body, headers=as_json)
        else:
            answer = await http.post(path, json=body, headers=headers)
        found[name] = refusal_of(answer)
    return found


def expected(sent: Sent) -> dict[str, tuple[int, str]]:
    return {name: outcome for name, (_, outcome) in sent.items()}


async def test_what_there_is_not_cannot_be_bought(
    http: httpx.AsyncClient, attacked: LiveServer, key: str, wallet: LocalAccount
) -> None:
    before = await books(attacked)
    payment = sign(wallet, await offer_of(http))
    for headers in ({}, bearer(key), payment.headers):
        unknown = (404, "unknown_feature")
        for slug in (
            "nothing",
            "AI_ANALYST",
            "ai_analyst%00",
            "é",
            "x" * 5000,
            "%F0%9F",
        ):
            answer = await http.get(f"/features/{slug}", headers=headers)
            assert refusal_of(answer) == unknown
            answer = await http.post(DEDUCT, json={"feature": slug}, headers=headers)
            assert refusal_of(answer) == unknown
        answer = await http.post(ADD, json={"pack": "pack_6"}, headers=headers)
        assert refusal_of(answer) == (404, "unknown_pack")
        for path in (
            "/features",
            "/features/",
            "/api/nothing",
            "/admin",
            "/features/a/b",
        ):
            assert refusal_of(await http.get(path, headers=headers)) == (
                404,
                "unknown_route",
            )
    assert await books(attacked) == before


QUANTITIES = {
    "negative": -1,
    "a little negative": "-0.000001",
    "zero": 0,
    "minus zero": b'{"feature": "ai_analyst", "quantity": -0.0}',
    "seven decimals": b'{"feature": "ai_analyst", "quantity": 1.0000001}',
    "absurd": 10**9,
    "more than 64 bits": 10**30,
    "a number of 10 000 digits": b'{"feature":"ai_analyst","quantity":%s}'
    % (b"9" * 9999),
    "with an exponent": b'{"feature": "ai_analyst", "quantity": 1e300}',
    "with an absurd exponent": b'{"feature": "ai_analyst", "quantity": 1e999999999}',
    "with a tiny exponent": b'{"feature": "ai_analyst", "quantity": 1e-999999999}',
    "not a number": "NaN",
    "infinite": "Infinity",
    "a word": "many",
    "with underscores": "1_0",
    "in Arabic digits": "\u0661",
    "with a space": " 1",
}


async def test_an_impossible_quantity_is_refused(
    http: httpx.AsyncClient, attacked: LiveServer, key: str
) -> None:
    before = await books(attacked)
    for path in (DEDUCT, "/api/catalog/quote"):
        for name, quantity in QUANTITIES.items():
            body = quantity
            if not isinstance(quantity, bytes):
                body = {"feature": "ai_analyst", "quantity": quantity}
            sent: Sent = {name: (body, (422, ""))}
            found = await posted(http, path, sent, **bearer(key))
            assert found[name][0] == 422, (path, name)
            assert found[name][1] in ("invalid_quantity", "invalid_request")
    assert await books(attacked) == before


async def test_an_impossible_list_is_refused_before_anything_is_paid(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount, key: str
) -> None:
    sent: dict[str, dict[str, Any]] = {
        "no tokens": {"owner": ADDRESS, "tokens": []},
        "101 tokens": {"owner": ADDRESS, "tokens": [ADDRESS] * 101},
        "tokens as text": {"owner": ADDRESS, "tokens": ADDRESS},
        "tokens as numbers": {"owner": ADDRESS, "tokens": [1, 2]},
        "tokens as lists": {"owner": ADDRESS, "tokens": [[ADDRESS]]},
        "tokens as object": {"owner": ADDRESS, "tokens": {"0": ADDRESS}},
        "tokens null": {"owner": ADDRESS, "tokens": None},
        "owner as number": {"owner": 1, "tokens": [ADDRESS]},
        "owner missing": {"tokens": [ADDRESS]},
        "one parameter too many": {"owner": ADDRESS, "tokens": [ADDRESS], "more": 1},
    }
    before = await books(attacked)
    for name, body in sent.items():
        for headers in ({}, bearer(key)):
            answer = await http.post(AUDIT, json=body, headers=headers)
            assert refusal_of(answer)[0] == 422, name
    for query in ("", "?owner=1", f"?owner={ADDRESS}&tokens=", "?tokens=,,,&owner=x"):
        assert refusal_of(await http.get(AUDIT + query))[0] == 422
    assert await books(attacked) == before


BODIES: Sent = {
    "no JSON": (b"{", (422, "invalid_request")),
    "a list": (b"[]", (422, "invalid_request")),
    "null": (b"null", (422, "invalid_request")),
    "a number": (b"1", (422, "invalid_request")),
    "NaN": (b'{"amount": NaN}', (422, "invalid_request")),
    "nested 10 000 deep": (b"[" * 10_000, (422, "invalid_request")),
    "not UTF-8": (b'{"pack": "\xff"}', (422, "invalid_request")),
    "half a character": (b'{"pack": "\\ud800"}', (422, "invalid_request")),
    "the other half": (b'{"pack": "\\uDFFF"}', (422, "invalid_request")),
    "half a character as a name": (b'{"\\ud800": 1}', (422, "invalid_request")),
    "an unknown field": ({"pack": "pack_5", "more": 1}, (422, "invalid_request")),
    "65 KiB": (b'{"pack": "%s"}' % (b"x" * 66_000), (413, "body_too_large")),
}
PURCHASES: Sent = {
    "nothing": ({}, (422, "invalid_request")),
    "both": ({"pack": "pack_5", "amount": 5}, (422, "invalid_request")),
    "a pack by number": ({"pack": 5}, (422, "invalid_request")),
    "zero": ({"amount": 0}, (422, "top_up_out_of_bounds")),
    "negative": ({"amount": -5}, (422, "top_up_out_of_bounds")),
    "less than the least": ({"amount": "0.049999"}, (422, "top_up_out_of_bounds")),
    "more than the most": ({"amount": "1000.000001"}, (422, "top_up_out_of_bounds")),
    "seven decimals": ({"amount": "1.0000001"}, (422, "invalid_amount")),
    "absurd": ({"amount": 10**40}, (422, "invalid_amount")),
    "infinite": ({"amount": "Infinity"}, (422, "invalid_request")),
    "a transaction's hash": (
        {"transactionId": "0x" + "ab" * 32},
        (401, "identity_required"),
    ),
}
DEDUCTIONS: Sent = {
    "nothing": ({}, (422, "invalid_request")),
    "a feature by number": ({"feature": 1}, (422, "invalid_request")),
    "a lower price": (
        {"feature": "ai_analyst", "amount": "0.5"},
        (409, "price_changed"),
    ),
    "a higher price": ({"feature": "ai_analyst", "amount": 2}, (409, "price_changed")),
    "no price": ({"feature": "ai_analyst", "amount": 0}, (422, "invalid_amount")),
    "money back": ({"feature": "ai_analyst", "amount": -1}, (422, "invalid_amount")),
    "a little money back": (
        {"feature": "ai_analyst", "amount": "-0.000001"},
        (422, "invalid_amount"),
    ),
    "seven decimals": (
        {"feature": "ai_analyst", "amount": "1.0000001"},
        (422, "invalid_amount"),
    ),
}


@pytest.mark.parametrize("path", [ADD, DEDUCT, "/api/keys"])
async def test_a_body_that_is_none_is_refused(
    http: httpx.AsyncClient, attacked: LiveServer, key: str, path: str
) -> None:
    before = await books(attacked)
    assert await posted(http, path, BODIES, **bearer(key)) == expected(BODIES)
    assert await books(attacked) == before


async def test_an_impossible_purchase_is_refused(
    http: httpx.AsyncClient, attacked: LiveServer
) -> None:
    before = await books(attacked)
    assert await posted(http, ADD, PURCHASES) == expected(PURCHASES)
    assert await books(attacked) == before


async def test_an_impossible_deduction_is_refused(
    http: httpx.AsyncClient, attacked: LiveServer, key: str
) -> None:
    before = await books(attacked)
    found = await posted(http, DEDUCT, DEDUCTIONS, **bearer(key))
    assert found == expected(DEDUCTIONS)
    assert await books(attacked) == before


async def test_a_feature_takes_no_body_that_is_none(
    http: httpx.AsyncClient, attacked: LiveServer, key: str
) -> None:
    before = await books(attacked)
    as_json = bearer(key) | {"content-type": "application/json"}
    for body in (
        b"{",
        b"[" * 10_000,
        b'{"address": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"address": "\xff"}',
        b'{"address": NaN}',
    ):
        answer = await http.post("/features/ai_analyst", content=body, headers=as_json)
        assert refusal_of(answer)[0] == 422, body[:40]
    large = b'{"address": "%s"}' % (b"x" * 1_100_000)
    answer = await http.post("/features/ai_analyst", content=large, headers=as_json)
    assert refusal_of(answer) == (413, "body_too_large")
    assert await books(attacked) == before


async def test_a_method_that_a_route_does_not_take_is_told_those_it_takes(
    http: httpx.AsyncClient, attacked: LiveServer, key: str
) -> None:
    before = await books(attacked)
    for method, path, allowed in (
        ("DELETE", ANALYST, "GET, POST"),
        ("PUT", ANALYST, "GET, POST"),
        ("GET", ADD, "POST"),
        ("PUT", DEDUCT, "POST"),
        ("POST", "/api/credits", "GET"),
    ):
        answer = await http.request(method, path, headers=bearer(key))
        assert refusal_of(answer) == (405, "method_not_allowed")
        assert answer.headers["allow"] == allowed
    assert await books(attacked) == before


async def test_questions_that_pages_cannot_answer_are_refused(
    http: httpx.AsyncClient, key: str
) -> None:
    lines = "/api/credits/transactions"
    for query in (
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=many",
        "limit=1e2",
        "cursor=x",
        "cursor=-1",
        "cursor=1.5",
        "cursor=%D9%A1",
        "cursor=" + "9" * 30,
        "cursor=",
    ):
        answer = await http.get(f"{lines}?{query}", headers=bearer(key))
        assert refusal_of(answer) == (422, "invalid_request"), query


async def test_an_id_that_names_nothing_is_not_found(
    http: httpx.AsyncClient, key: str
) -> None:
    for text in ("1", "top_", "top_1", "top_" + "z" * 13, "cus_" + "0" * 13, "%00"):
        answer = await http.get(f"/api/credits/topups/{text}")
        assert refusal_of(answer) == (404, "unknown_id")
        answer = await http.delete(f"/api/keys/{text}", headers=bearer(key))
        assert refusal_of(answer) == (404, "unknown_id")
    answer = await http.get("/api/credits/topups/top_" + "0" * 13)
    assert refusal_of(answer) == (404, "unknown_top_up")
    answer = await http.delete("/api/keys/key_" + "0" * 13, headers=bearer(key))
    assert refusal_of(answer) == (404, "unknown_key")
