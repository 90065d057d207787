"""Payments that a seller's own server relays are bound, settled and answered as at ours."""

import asyncio
import base64
import hashlib
import json
from typing import Any

import httpx
import pytest

from tests.api.sellers import Seller
from tests.live import Buyer


async def test_a_wallet_pays_at_the_sellers_own_server(
    everywhere: Seller, buyer: Buyer
) -> None:
    """Settled first, waived then; a copy gets the kept answer, and nobody pays twice."""
    ask = {"feature": "ai_analyst", "url": "/r"}
    unpaid = await everywhere.authorize(**ask)
    paid = await buyer.pay(unpaid["headers"])
    verdict = await everywhere.authorize(**ask, headers=paid)
    assert verdict["verdict"] == "serve", verdict
    done = {"admission": verdict["admission"], "outcome": "served"}
    told = (await everywhere.ask("complete", **done)).json()
    assert (told["charged"], told["remaining"]) == (1, 9)
    receipt = _decoded(told["headers"]["PAYMENT-RESPONSE"])
    assert receipt["success"] is True
    assert receipt["transaction"].startswith("0x")
    settled = await everywhere.authorize(**ask, headers=paid)
    assert (settled["status"], settled["body"]["code"]) == (
        409,
        "payment_already_settled",
    )

    paid = await buyer.pay((await everywhere.authorize(**ask))["headers"])
    verdict = await everywhere.authorize(**ask, headers=paid)
    answer = {
        "status": 201,
        "headers": {"Content-Type": "text/plain", "Set-Cookie": ["a=1", "b=2"]},
        "body_base64": base64.b64encode(b"\x00\xff").decode(),
    }
    done = {"admission": verdict["admission"], "outcome": "served", "answer": answer}
    told = (await everywhere.ask("complete", **done)).json()
    receipt = _decoded(told["headers"]["PAYMENT-RESPONSE"])
    assert (receipt["transaction"], receipt["amount"]) == ("", "0")
    copy = await everywhere.authorize(**ask, headers=paid)
    assert (copy["verdict"], copy["status"]) == ("answer", 201)
    assert base64.b64decode(copy["body_base64"]) == b"\x00\xff"
    assert copy["headers"]["set-cookie"] == ["a=1", "b=2"]
    assert copy["headers"]["idempotency-replayed"] == "true"
    for name, value in told["headers"].items():
        assert copy["headers"][name.lower()] == value
    report = await everywhere.live.audit()
    assert report.chain is not None
    assert report.chain.chain_usdc == 1_000_000


def _decoded(header: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(base64.b64decode(header))
    return document


@pytest.mark.parametrize("first", ["ours", "theirs"])
async def test_both_doors_bind_a_payment_to_the_same_request(
    everywhere: Seller, buyer: Buyer, usdc: str, first: str
) -> None:
    """A payment asked for at one door is good at the other, for this request only."""
    path = f"/features/ai_analyst?address=0x%3{usdc[2]}{usdc[3:]}"
    ask = {"feature": "ai_analyst", "url": everywhere.live.url + path}
    async with httpx.AsyncClient(base_url=everywhere.live.url, timeout=60) as client:
        if first == "ours":
            paid = await buyer.pay((await client.get(path)).headers)
            verdict = await everywhere.authorize(**ask, headers=paid)
            assert verdict["verdict"] == "serve", verdict
            done = {"admission": verdict["admission"], "outcome": "failed"}
            await everywhere.ask("complete", **done)
        else:
            paid = await buyer.pay((await everywhere.authorize(**ask))["headers"])
            answer = await client.get(path, headers=paid)
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "other",
    [
        {"method": "PUT"},
        {"url": "/text?a=2"},
        {"url": "/texts?a=1"},
        {"url": "/%74ext?a=1"},
        {"body_sha256": hashlib.sha256(b"other").hexdigest()},
        {"quantity": 3},
        {"feature": "report", "quantity": None},
    ],
)
async def test_a_payment_is_good_for_one_request_only(
    seller: Seller, buyer: Buyer, other: dict[str, Any]
) -> None:
    """The last two have the same bytes and buy something else with them."""
    ask: dict[str, Any] = {
        "feature": "page",
        "quantity": 2,
        "method": "POST",
        "url": "/text?a=1",
        "body_sha256": hashlib.sha256(b"text").hexdigest(),
    }
    paid = await buyer.pay((await seller.authorize(**ask))["headers"])
    refused = await seller.authorize(**(ask | other), headers=paid)
    assert (refused["status"], refused["body"]["code"]) == (
        409,
        "payment_bound_elsewhere",
    )
    del ask["body_sha256"]
    ask["body_base64"] = base64.b64encode(b"text").decode()
    verdict = await seller.authorize(**ask, headers=paid)
    assert verdict["verdict"] == "serve", verdict
    done = {"admission": verdict["admission"], "outcome": "failed"}
    assert (await seller.ask("complete", **done)).json()["remaining"] == 10


async def test_a_settlement_under_way_is_relayed_with_a_whole_address(
    seller: Seller, buyer: Buyer
) -> None:
    paid = await buyer.pay((await seller.authorize())["headers"])
    paid["Prefer"] = "respond-async"
    verdict = await seller.authorize(headers=paid)
    assert (verdict["status"], verdict["body"]["code"]) == (202, "settlement_pending")
    place = verdict["headers"]["location"]
    assert place.startswith(f"{seller.live.url}/api/credits/topups/top_")
    assert verdict["body"]["location"] == place
    for _ in range(100):
        state = (await seller.http.get(place)).json()["state"]
        if state == "credited":
            break
        await asyncio.sleep(0.05)
    assert state == "credited"


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 405), ("head", 405), ("OPTIONS", 204)]
)
@pytest.mark.parametrize("feature", ["report", "words", "sample"])
async def test_no_paid_work_answers_a_question_about_a_route(
    seller: Seller, method: str, status: int, feature: str
) -> None:
    """Nothing is priced for them, so a handler that ran would give its work away."""
    for headers in ({}, seller.as_customer):
        verdict = await seller.authorize(feature, method=method, headers=headers)
        assert verdict == {
            "verdict": "answer",
            "status": status,
            "headers": {
                "allow": "GET, OPTIONS, POST",
                "cache-control": "no-store, private",
                "vary": "*",
            },
            "body_base64": "",
        }
    assert await seller.credits() == (10, 0)
