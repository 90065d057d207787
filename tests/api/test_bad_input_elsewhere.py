"""One payment is for one request: route, method, query, body and what it costs (A05)."""

import asyncio
from typing import Any

import httpx
from eth_account.signers.local import LocalAccount

from tests.api.payments import (
    ADDRESS,
    ANALYST,
    ON_SQLITE,
    Payment,
    books,
    buy,
    count,
    offer_of,
    refusal_of,
    sign,
)
from tests.live import LiveServer

pytestmark = ON_SQLITE
OTHER = "0x" + "22" * 20
ELSEWHERE = (409, "payment_bound_elsewhere")
TWICE = (422, "invalid_request")
AUDIT = "/features/portfolio_audit"
DEDUCT = "/api/credits/deduct"

# Whatever may be different about another request, with the same price where possible.
REQUESTS: dict[str, dict[str, Any]] = {
    "another query": {"method": "GET", "url": f"/features/ai_analyst?address={OTHER}"},
    "another spelling of the query": {
        "method": "GET",
        "url": ANALYST.replace("address=0x", "address=%30x"),
    },
    "another method": {"method": "POST", "url": ANALYST},
    "a body": {"method": "POST", "url": ANALYST, "json": {"address": ADDRESS}},
    "another body": {
        "method": "POST",
        "url": "/features/ai_analyst",
        "json": {"address": OTHER},
    },
    "another route": {
        "method": "GET",
        "url": f"{AUDIT}?owner={ADDRESS}&tokens={ADDRESS},{OTHER}",
    },
    "a deduction": {"method": "POST", "url": DEDUCT, "json": {"feature": "ai_analyst"}},
    "a purchase": {
        "method": "POST",
        "url": "/api/credits/add",
        "json": {"amount": "1.00"},
    },
}


async def everywhere(
    http: httpx.AsyncClient, payment: Payment
) -> dict[str, tuple[int, str]]:
    found = {}
    for name, request in REQUESTS.items():
        answer = await http.request(**request, headers=payment.headers)
        found[name] = refusal_of(answer)
    return found


async def test_a_payment_is_taken_only_for_the_request_that_it_was_offered_for(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    payment = sign(wallet, await offer_of(http))
    before = await books(attacked)
    assert await everywhere(http, payment) == dict.fromkeys(REQUESTS, ELSEWHERE)
    assert await books(attacked) == before
    # Nothing of that has used it up.
    assert (await http.get(ANALYST, headers=payment.headers)).status_code == 200


async def test_a_settled_payment_is_refused_for_every_other_request(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    payment = sign(wallet, await offer_of(http))
    assert (await http.get(ANALYST, headers=payment.headers)).status_code == 200
    before = await books(attacked)
    assert await everywhere(http, payment) == dict.fromkeys(REQUESTS, ELSEWHERE)
    assert await books(attacked) == before


async def test_a_waived_payment_is_refused_for_every_other_request(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    await buy(http, wallet)
    payment = sign(wallet, await offer_of(http))
    assert (await http.get(ANALYST, headers=payment.headers)).status_code == 200
    assert await count(attacked, "claim", "state = 'waived'") == 1
    before = await books(attacked)
    assert await everywhere(http, payment) == dict.fromkeys(REQUESTS, ELSEWHERE)
    assert await books(attacked) == before
    assert await count(attacked, "relayed_transaction") == 1


async def test_a_payment_of_version_1_that_was_claimed_is_refused_elsewhere(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    """Its client echoes no quote, so only the claim ties it to its request."""
    payment = sign(wallet, await offer_of(http, version=1))
    assert (await http.get(ANALYST, headers=payment.headers)).status_code == 200
    before = await books(attacked)
    assert await everywhere(http, payment) == dict.fromkeys(REQUESTS, ELSEWHERE)
    assert await books(attacked) == before


async def test_a_purchases_payment_buys_no_call_and_no_other_pack(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    body = {"amount": 1}
    entry = await offer_of(http, "/api/credits/add", method="POST", json=body)
    payment = sign(wallet, entry)
    others = {
        name: one for name, one in REQUESTS.items() if name != "another spelling"
    } | {
        "another amount": {
            "method": "POST",
            "url": "/api/credits/add",
            "json": {"amount": 2},
        },
        "a pack": {
            "method": "POST",
            "url": "/api/credits/add",
            "json": {"pack": "pack_5"},
        },
    }
    for _ in range(2):
        for name, one in others.items():
            answer = await http.request(**one, headers=payment.headers)
            assert refusal_of(answer) == ELSEWHERE, name
        paid = await http.post("/api/credits/add", json=body, headers=payment.headers)
        assert paid.status_code == 200
        assert paid.json()["added"] == 10
    assert await count(attacked, "topup") == 1


async def test_two_requests_with_one_payment_at_once_are_served_once(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    """Version 1: nothing but the claim decides between them."""
    entry = await offer_of(http, version=1)
    payment = sign(wallet, entry)
    paths = [f"/features/ai_analyst?address=0x{n:040x}" for n in range(10)]
    answers = await asyncio.gather(
        *(http.get(path, headers=payment.headers) for path in paths)
    )
    statuses = sorted(one.status_code for one in answers)
    assert statuses == [200] + [409] * 9
    assert await count(attacked, "claim") == 1
    assert await count(attacked, "relayed_transaction") == 1
    assert await count(attacked, "usage_event") == 1


async def test_what_a_call_costs_cannot_change_after_it_was_offered(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    """The type of a body decides how many tokens are asked about; the bytes do not."""
    tokens = [f"0x{n:040x}" for n in range(1, 31)]
    request: dict[str, Any] = {
        "path": f"{AUDIT}?owner={ADDRESS}&tokens={ADDRESS}",
        "method": "POST",
        "content": f'{{"tokens": {tokens}}}'.replace("'", '"'),
    }
    as_text, as_json = (
        {"content-type": one} for one in ("text/plain", "application/json")
    )
    cheap = await offer_of(http, **request, headers=as_text)
    for _ in range(2):
        payment, before = sign(wallet, cheap), await books(attacked)
        answer = await http.post(
            request["path"],
            content=request["content"],
            headers=as_json | payment.headers,
        )
        assert refusal_of(answer) == TWICE
        assert await books(attacked) == before
        # The second time there are credits, so it would be waived.
        await buy(http, wallet)
    assert await count(attacked, "usage_event") == 0


async def test_a_waived_answer_is_not_given_to_a_dearer_copy(
    http: httpx.AsyncClient, wallet: LocalAccount
) -> None:
    await buy(http, wallet)
    path = f"{AUDIT}?owner={ADDRESS}&tokens={ADDRESS}"
    content = f'{{"tokens": ["{ADDRESS}", "{OTHER}"]}}'
    as_text, as_json = (
        {"content-type": one} for one in ("text/plain", "application/json")
    )
    payment = sign(
        wallet,
        await offer_of(http, path, method="POST", content=content, headers=as_text),
    )
    first = await http.post(path, content=content, headers=as_text | payment.headers)
    assert first.headers["credits-charged"] == "0.5"
    other = await http.post(path, content=content, headers=as_json | payment.headers)
    assert refusal_of(other) == TWICE


async def test_a_parameter_that_is_told_twice_is_refused_before_the_payment_is_touched(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    """Who prices the one and serves the other gives the difference away."""
    payment, before = sign(wallet, await offer_of(http)), await books(attacked)
    for value in (ADDRESS, OTHER):
        twice = await http.get(f"{ANALYST}&address={value}", headers=payment.headers)
        assert refusal_of(twice) == TWICE
    assert await books(attacked) == before
    assert (await http.get(ANALYST, headers=payment.headers)).status_code == 200
