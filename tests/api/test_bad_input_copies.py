"""One payment many times at once, and many payments of one wallet (A01, A02)."""

import asyncio
from collections import Counter
from typing import Any

import httpx
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import LocalChain
from tallystick.chain.token import balance_of
from tests.api.payments import (
    ANALYST,
    ON_SQLITE,
    Payment,
    address_of,
    buy,
    count,
    decode,
    funded,
    offer_of,
    refusal_of,
    sign,
)
from tests.live import DOLLAR, LiveServer

ADD = "/api/credits/add"
COPIES = 50


async def at_once(
    http: httpx.AsyncClient, method: str, path: str, payment: Payment, **request: Any
) -> list[httpx.Response]:
    """The answers to fifty copies of one request."""
    headers = payment.headers | request.pop("headers", {})
    return await asyncio.gather(
        *(http.request(method, path, headers=headers, **request) for _ in range(COPIES))
    )


async def test_fifty_copies_of_a_purchase_are_one_purchase_and_fifty_answers(
    slow_http: httpx.AsyncClient, slow_server: LiveServer, slow_chain: LocalChain
) -> None:
    wallet, body = await funded(slow_chain, 100), {"pack": "pack_5"}
    payment = sign(wallet, await offer_of(slow_http, ADD, method="POST", json=body))
    answers = await at_once(slow_http, "POST", ADD, payment, json=body)
    assert Counter(one.status_code for one in answers) == {200: COPIES}
    first = answers[0].json()
    assert (first["added"], first["credits"]) == (50, 50)
    assert all(one.json() == first for one in answers)
    receipts = {one.headers["PAYMENT-RESPONSE"] for one in answers}
    assert [decode(one)["success"] for one in receipts] == [True]
    assert await count(slow_server, "relayed_transaction") == 1
    assert await count(slow_server, "credit_grant") == 1
    paid = await balance_of(slow_chain.chain, address_of(wallet))
    assert paid == 95 * DOLLAR
    later = await slow_http.post(ADD, headers=payment.headers, json=body)
    assert later.status_code == 200
    assert later.headers["idempotency-replayed"] == "true"
    assert later.json()["topup"]["id"] == first["topup"]["id"]


async def test_fifty_copies_of_a_paid_call_run_it_once(
    slow_http: httpx.AsyncClient, slow_server: LiveServer, slow_chain: LocalChain
) -> None:
    wallet = await funded(slow_chain, 100)
    payment = sign(wallet, await offer_of(slow_http))
    answers = await at_once(slow_http, "GET", ANALYST, payment)
    assert Counter(one.status_code for one in answers) == {200: 1, 409: COPIES - 1}
    for one in answers:
        if one.status_code == 409:
            assert refusal_of(one)[1] in (
                "payment_in_progress",
                "payment_already_settled",
            )
    assert await count(slow_server, "relayed_transaction") == 1
    assert await count(slow_server, "usage_event") == 1
    assert await balance_of(slow_chain.chain, address_of(wallet)) == 99 * DOLLAR


async def test_fifty_copies_of_a_waived_call_run_it_once_and_answer_alike(
    slow_http: httpx.AsyncClient, slow_server: LiveServer, slow_chain: LocalChain
) -> None:
    wallet = await funded(slow_chain, 100)
    await buy(slow_http, wallet)
    payment = sign(wallet, await offer_of(slow_http))
    answers = await at_once(slow_http, "GET", ANALYST, payment)
    served = [one for one in answers if one.status_code == 200]
    assert len({one.content for one in served}) == 1
    # One that came between the check and the claim is told to ask again.
    others = {refusal_of(one) for one in answers if one.status_code != 200}
    assert others <= {(409, "payment_in_progress")}
    assert await count(slow_server, "usage_event") == 1
    assert await count(slow_server, "claim", "state = 'waived'") == 1
    again = await slow_http.get(ANALYST, headers=payment.headers)
    assert again.content == served[0].content
    assert await balance_of(slow_chain.chain, address_of(wallet)) == 95 * DOLLAR


async def test_fifty_copies_that_do_not_wait_are_one_topup(
    slow_http: httpx.AsyncClient, slow_server: LiveServer, slow_chain: LocalChain
) -> None:
    """Nobody waits for the decision, so the next copy finds nobody at work."""
    wallet = await funded(slow_chain, 100)
    payment = sign(wallet, await offer_of(slow_http))
    answers = await at_once(
        slow_http, "GET", ANALYST, payment, headers={"Prefer": "respond-async"}
    )
    found = Counter(one.status_code for one in answers)
    assert set(found) <= {202, 409}
    assert found[202] >= 1
    ids = {one.json()["topup"] for one in answers if one.status_code == 202}
    assert len(ids) == 1
    for _ in range(100):
        state = (await slow_http.get(f"/api/credits/topups/{min(ids)}")).json()
        if state["state"] not in ("claimed", "signed", "watch"):
            break
        await asyncio.sleep(0.1)
    assert state["state"] in ("credited", "safe", "final")
    assert await count(slow_server, "relayed_transaction") == 1
    assert await count(slow_server, "usage_event") == 0


async def test_fifty_calls_of_an_empty_wallet_make_five_settlements(
    slow_http: httpx.AsyncClient, slow_server: LiveServer, slow_chain: LocalChain
) -> None:
    """A dollar buys ten calls, so forty-five of fifty payments are waived."""
    wallet = await funded(slow_chain, 100)
    paths = [f"/features/ai_analyst?address=0x{n:040x}" for n in range(COPIES)]
    payments = [sign(wallet, await offer_of(slow_http, path)) for path in paths]
    answers = await asyncio.gather(
        *(
            slow_http.get(path, headers=payment.headers)
            for path, payment in zip(paths, payments, strict=True)
        )
    )
    assert Counter(one.status_code for one in answers) == {200: COPIES}
    assert [int(one.json()["address"], 16) for one in answers] == list(range(COPIES))
    receipts = [decode(one.headers["PAYMENT-RESPONSE"]) for one in answers]
    assert all(one["success"] for one in receipts)
    transactions = Counter(one["transaction"] for one in receipts)
    assert transactions.pop("") == 45
    assert list(transactions.values()) == [1] * 5
    assert Counter(one["amount"] for one in receipts) == {"0": 45, "1000000": 5}
    assert await count(slow_server, "claim", "state = 'waived'") == 45
    assert await count(slow_server, "relayed_transaction") == 5
    assert await balance_of(slow_chain.chain, address_of(wallet)) == 95 * DOLLAR
    assert await count(slow_server, "usage_event") == COPIES


@ON_SQLITE
async def test_a_hundred_replays_of_a_purchase_are_one_purchase(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    """A01, one after the other, over a day."""
    body = {"pack": "pack_5"}
    payment = sign(wallet, await offer_of(http, ADD, method="POST", json=body))
    ids = set()
    for number in range(100):
        answer = await http.post(ADD, headers=payment.headers, json=body)
        assert answer.status_code == 200
        ids.add(answer.json()["topup"]["id"])
        attacked.clock.advance(864 if number else 0)
    assert len(ids) == 1
    assert await count(attacked, "credit_grant") == 1
    assert await count(attacked, "relayed_transaction") == 1
