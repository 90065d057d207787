"""A server in any language asks whether to serve, and tells how it went."""

import asyncio
import base64
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from tallystick.credits.models import Hold
from tallystick.kernel.ids import encode_id
from tests.api.sellers import Seller


@pytest.mark.parametrize("verb", ["authorize", "complete", "extend"])
async def test_only_a_service_key_may_ask(seller: Seller, verb: str) -> None:
    path = f"/api/paywall/{verb}"
    async with httpx.AsyncClient(base_url=seller.live.url) as anybody:
        none = await anybody.post(path, json={})
        customer = await anybody.post(path, json={}, headers=seller.as_customer)
        wrong = {"Authorization": "Bearer sk_0000000000000_aa_bbbbbbbb"}
        unknown = await anybody.post(path, json={}, headers=wrong)
    assert (none.status_code, none.json()["code"]) == (401, "service_key_required")
    assert (customer.status_code, customer.json()["code"]) == (403, "sellers_only")
    assert (unknown.status_code, unknown.json()["code"]) == (401, "invalid_key")


async def test_an_anonymous_request_gets_a_402_to_relay(seller: Seller) -> None:
    verdict = await seller.authorize()
    assert (verdict["verdict"], verdict["status"]) == ("answer", 402)
    body, headers = verdict["body"], verdict["headers"]
    assert body["code"] == "payment_required"
    assert body["topup_url"] == f"{seller.live.url}/api/credits/add"
    assert body["accepts"][0]["resource"] == "https://seller.example/reports/7"
    assert base64.b64decode(verdict["body_base64"]).startswith(b'{"x402Version":1')
    assert headers["content-type"] == "application/problem+json"
    assert headers["cache-control"] == "no-store, private"
    offer = base64.b64decode(headers["payment-required"])
    # A stock client that is offered a sign-in for our origin would break off there.
    assert b"sign-in-with-x" not in offer


@pytest.mark.parametrize("url", ["/x#y", "/a:b?c#d", "https://shop.test/x?a=1#y"])
async def test_a_target_with_a_fragment_is_refused(seller: Seller, url: str) -> None:
    """What follows it would not be bound to the payment."""
    request = {"feature": "report", "method": "GET", "url": url}
    answer = await seller.ask("authorize", **request)
    assert answer.status_code == 422
    assert answer.json()["detail"] == "url has a fragment"


async def test_a_path_that_begins_with_two_slashes_names_no_host(
    seller: Seller,
) -> None:
    verdict = await seller.authorize(url="//evil.test/x?a=1")
    terms = json.loads(base64.b64decode(verdict["headers"]["payment-required"]))
    assert terms["resource"]["url"] == f"{seller.live.url}//evil.test/x"


@pytest.mark.parametrize("url", ["/reports/7", "{ours}/reports/7"])
async def test_a_sign_in_is_offered_at_our_own_origin(seller: Seller, url: str) -> None:
    url = url.format(ours=seller.live.url)
    verdict = await seller.authorize(url=url)
    assert b"sign-in-with-x" in base64.b64decode(verdict["headers"]["payment-required"])


async def test_what_is_served_is_charged_once_however_often_it_is_told(
    seller: Seller,
) -> None:
    verdict = await seller.admitted("page", quantity=4)
    assert verdict["price"] == 2
    assert verdict["customer"] == encode_id("cus", seller.customer_id)
    assert verdict["hold"].startswith("hld_")
    assert await seller.credits() == (10, 2)
    done = {"admission": verdict["admission"], "outcome": "served"}
    first = await seller.ask("complete", **done)
    assert first.json() == {
        "headers": {
            "Credits-Charged": "2",
            "Credits-Remaining": "8",
            "Cache-Control": "no-store, private",
            "Vary": "*",
        },
        "charged": 2,
        "remaining": 8,
    }
    await seller.ask(
        "complete",
        **(done | {"admission": (await seller.admitted())["admission"]}),
    )
    again = await asyncio.gather(*[seller.ask("complete", **done) for _ in range(5)])
    assert [one.json() for one in again] == [first.json()] * 5
    assert await seller.credits() == (7, 0)
    for other in ({"amount": 1}, {"outcome": "failed"}):
        refused = await seller.ask("complete", **(done | other))
        assert refused.status_code == 409
        assert refused.json()["code"] == "hold_already_settled"
        assert refused.json()["state"] == "captured"
    assert await seller.credits() == (7, 0)


async def test_ten_servers_that_complete_at_once_charge_once(
    everywhere: Seller,
) -> None:
    verdict = await everywhere.admitted("ai_analyst")
    done = {"admission": verdict["admission"], "outcome": "served"}
    answers = await asyncio.gather(
        *[everywhere.ask("complete", **done) for _ in range(10)]
    )
    assert {one.status_code for one in answers} == {200}
    assert {one.text for one in answers} == {answers[0].text}
    assert await everywhere.credits() == (9, 0)


@pytest.mark.parametrize(
    ("amount", "charged"), [(2, 2), ("0.000001", "0.000001"), (1.5, "1.5"), (0, 0)]
)
async def test_less_than_what_is_held_may_be_charged(
    seller: Seller, amount: Any, charged: Any
) -> None:
    verdict = await seller.admitted("page", quantity=4)
    done = {"admission": verdict["admission"], "outcome": "served", "amount": amount}
    for _ in range(2):
        answer = await seller.ask("complete", **done)
        assert answer.json()["headers"]["Credits-Charged"] == str(charged)
    assert await seller.credits() == (10 - Decimal(charged), 0)


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        (2.000001, "hold_too_small"),
        (-1, "invalid_request"),
        ("1e-7", "invalid_amount"),
        ("x", "invalid_request"),
    ],
)
async def test_no_other_amount_is_taken(seller: Seller, amount: Any, code: str) -> None:
    verdict = await seller.admitted("page", quantity=4)
    done = {"admission": verdict["admission"], "outcome": "served", "amount": amount}
    refused = await seller.ask("complete", **done)
    assert refused.json()["code"] == code
    assert await seller.credits() == (10, 2)


async def test_what_failed_costs_nothing_however_often_it_is_told(
    seller: Seller,
) -> None:
    verdict = await seller.admitted()
    done = {"admission": verdict["admission"], "outcome": "failed"}
    for _ in range(2):
        answer = await seller.ask("complete", **done)
        assert (answer.json()["charged"], answer.json()["remaining"]) == (0, 10)
    late = await seller.ask("complete", **(done | {"outcome": "served"}))
    assert (late.status_code, late.json()["code"]) == (409, "hold_already_settled")
    assert late.json()["state"] == "released"
    assert await seller.credits() == (10, 0)


@pytest.mark.parametrize(
    ("status", "charged"),
    [(200, 1), (302, 1), (399, 1), (400, 0), (404, 0), (500, 0), (599, 0)],
)
async def test_an_answer_costs_what_the_same_status_costs_in_an_app_of_ours(
    seller: Seller, status: int, charged: int
) -> None:
    """``paid`` charges below 400 (tests/embed); a relayed failure is as free."""
    verdict = await seller.admitted()
    answer = {"status": status, "body_base64": base64.b64encode(b"x").decode()}
    done = {"admission": verdict["admission"], "outcome": "served", "answer": answer}
    for _ in range(2):
        told = await seller.ask("complete", **done)
        assert told.json()["headers"]["Credits-Charged"] == str(charged)
    assert await seller.credits() == (10 - charged, 0)


async def test_a_relayed_failure_is_charged_if_the_seller_names_its_price(
    seller: Seller,
) -> None:
    verdict = await seller.admitted("page", quantity=4)
    done = {
        "admission": verdict["admission"],
        "outcome": "served",
        "amount": "0.5",
        "answer": {"status": 404},
    }
    assert (await seller.ask("complete", **done)).json()["charged"] == 0.5
    assert await seller.credits() == (9.5, 0)


async def test_a_failure_told_after_the_charge_takes_nothing_back(
    seller: Seller,
) -> None:
    verdict = await seller.admitted()
    done = {"admission": verdict["admission"], "outcome": "served"}
    assert (await seller.ask("complete", **done)).json()["charged"] == 1
    late = await seller.ask("complete", **done, answer={"status": 500})
    assert (late.status_code, late.json()["code"]) == (409, "hold_already_settled")
    assert await seller.credits() == (9, 0)


async def test_an_admission_that_lapsed_cannot_be_charged(seller: Seller) -> None:
    verdict = await seller.admitted()
    statement = update(Hold).values(expires_at_ms=1)
    await seller.live.gate.db.write(lambda session: session.exec(statement))
    done = {"admission": verdict["admission"], "outcome": "served"}
    for verb in ("complete", "extend"):
        body = done if verb == "complete" else {"admission": verdict["admission"]}
        late = await seller.ask(verb, **body)
        assert (late.status_code, late.json()["code"]) == (409, "hold_already_settled")
        assert late.json()["state"] == "expired"
        assert "expired already" in late.json()["detail"]
    failed = await seller.ask("complete", **(done | {"outcome": "failed"}))
    assert failed.json()["charged"] == 0


async def test_slow_work_extends_its_hold(seller: Seller) -> None:
    running = seller.live.app.state.tallystick
    running.gate = replace(running.gate, hold_seconds=2)
    verdict = await seller.admitted()
    assert verdict["expires_in_seconds"] == 2
    for _ in range(3):
        await asyncio.sleep(1)
        longer = await seller.ask("extend", admission=verdict["admission"])
        assert longer.json() == {"expires_in_seconds": 2}
    done = {"admission": verdict["admission"], "outcome": "served"}
    assert (await seller.ask("complete", **done)).json()["charged"] == 1
