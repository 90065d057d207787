"""A server in any language asks whether to serve, and tells how it went."""

import asyncio
import base64
import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from sqlalchemy import update

from tallystick.chain.local import LocalChain
from tallystick.credits.grants import grant_promotional
from tallystick.credits.models import Hold
from tallystick.customers.wallets import create_customer
from tallystick.identity.keys import Scope, issue_key
from tallystick.identity.models import KeyKind
from tallystick.kernel.db import WriteSession
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import MicroCredits, to_decimal
from tallystick.kernel.seal import digest16
from tallystick.ledger.balances import customer_balance
from tests.live import Buyer, LiveServer, make_settings, start_server

SHOP = Path(__file__).parents[1] / "embed" / "shop.toml"
URL = "https://seller.example/reports/7?kind=long"


@dataclass
class Seller:
    """A server of the seller's, with its service key, and a customer's key."""

    live: LiveServer
    http: httpx.AsyncClient
    customer_key: str
    customer_id: int

    async def ask(self, verb: str, **body: Any) -> httpx.Response:
        return await self.http.post(f"/api/paywall/{verb}", json=body)

    async def authorize(self, feature: str = "report", **more: Any) -> dict[str, Any]:
        request = {"feature": feature, "method": "GET", "url": URL} | more
        answer = await self.ask("authorize", **request)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store, private"
        verdict: dict[str, Any] = answer.json()
        return verdict

    async def admitted(self, feature: str = "report", **more: Any) -> dict[str, Any]:
        """An admission for the customer with ten credits."""
        verdict = await self.authorize(feature, headers=self.as_customer, **more)
        assert verdict["verdict"] == "serve", verdict
        return verdict

    @property
    def as_customer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.customer_key}"}

    async def credits(self) -> tuple[Decimal, Decimal]:
        async with self.live.gate.db.read() as session:
            funds = await customer_balance(session, self.customer_id)
        return to_decimal(funds.posted), to_decimal(funds.held)


async def _keys(live: LiveServer) -> tuple[str, str, int]:
    async def work(session: WriteSession) -> tuple[str, str, int]:
        customer_id = await create_customer(session)
        await grant_promotional(
            session,
            customer_id,
            MicroCredits(10_000_000),
            idempotency_key=digest16(b"first credits"),
            reference="test",
            memo="Welcome",
        )
        seal, scopes = live.gate.seal, frozenset(Scope)
        service = await issue_key(
            session, seal, KeyKind.SERVICE, name="node", scopes=scopes
        )
        customer = await issue_key(
            session,
            seal,
            KeyKind.CUSTOMER,
            name="agent",
            scopes=scopes,
            customer_id=customer_id,
        )
        return service.secret, customer.secret, customer_id

    return await live.gate.db.write(work)


async def _open(live: LiveServer) -> Seller:
    service, customer, customer_id = await _keys(live)
    headers = {"Authorization": f"Bearer {service}"}
    http = httpx.AsyncClient(base_url=live.url, headers=headers, timeout=60)
    return Seller(live, http, customer, customer_id)


@pytest.fixture
async def seller(
    sqlite_template: Path, tmp_path: Path, chain: LocalChain, free_port: int
) -> AsyncIterator[Seller]:
    path = tmp_path / "tallystick.sqlite3"
    shutil.copy(sqlite_template, path)
    url = f"sqlite+aiosqlite:///{path}"
    live = await start_server(
        make_settings(url, chain.url, free_port, catalog=str(SHOP))
    )
    one = await _open(live)
    yield one
    await one.http.aclose()
    assert (await live.audit()).findings == []
    await live.stop()


@pytest.fixture
async def everywhere(
    database_url: str, chain: LocalChain, free_port: int
) -> AsyncIterator[Seller]:
    """The same on each kind of database, with features that we run ourselves."""
    live = await start_server(make_settings(database_url, chain.url, free_port))
    one = await _open(live)
    yield one
    await one.http.aclose()
    assert (await live.audit()).findings == []
    await live.stop()


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
        assert refused.status_code in {409, 422}
        assert refused.json()["code"] in {
            "idempotency_mismatch",
            "hold_already_settled",
        }
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


async def test_what_is_free_is_served_to_anybody(seller: Seller) -> None:
    verdict = await seller.authorize("sample")
    assert (verdict["verdict"], verdict["hold"], verdict["price"]) == ("serve", None, 0)
    assert (await seller.ask("extend", admission=verdict["admission"])).is_success


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"headers": {"Authorization": "Bearer tk_0_a_b"}}, 401, "invalid_key"),
        ({"headers": {"X-API-Key": ["tk_0_a_b", "tk_1_a_b"]}}, 400, "two_identities"),
        ({"headers": {"payment-signature": "!"}}, 400, "malformed_payment"),
        (
            {"headers": {"PAYMENT-SIGNATURE": ["e30=", "e30="]}},
            400,
            "malformed_payment",
        ),
        ({"feature": "page", "quantity": 0}, 422, "invalid_quantity"),
        ({"feature": "page", "quantity": 101}, 422, "invalid_quantity"),
        ({"feature": "words"}, 422, "invalid_quantity"),
    ],
)
async def test_what_is_wrong_with_the_clients_request_is_relayed(
    seller: Seller, more: dict[str, Any], status: int, code: str
) -> None:
    verdict = await seller.authorize(**more)
    assert (verdict["verdict"], verdict["status"]) == ("answer", status)
    assert verdict["body"]["code"] == code


async def test_the_parameters_may_tell_the_quantity(seller: Seller) -> None:
    by_query = await seller.admitted("words", url="/w?words=a,b,c")
    body = base64.b64encode(b'{"words": ["a", "b"]}').decode()
    headers = seller.as_customer | {"Content-Type": "application/json"}
    by_body = await seller.authorize(
        "words", method="POST", url="/w", body_base64=body, headers=headers
    )
    assert (by_query["price"], by_body["price"]) == (0.75, 0.5)
    for verdict in (by_query, by_body):
        done = {"admission": verdict["admission"], "outcome": "failed"}
        await seller.ask("complete", **done)


def _as_json(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("feature", "url", "body"),
    [
        ("copies", "/c?count=20&count=1", None),
        ("copies", "/c?count=1&count=1", None),
        ("copies", "/c?count=20&%63ount=1", None),
        ("copies", "/c?count=20", '{"count": 1}'),
        ("copies", "/c?count=20", '{"count": null}'),
        ("copies", "/c?count=1&kind=a&kind=b", None),
        ("words", "/c?words=a,b,c", '{"words": ["a"]}'),
    ],
)
async def test_a_parameter_that_two_readers_may_read_in_two_ways_is_refused(
    seller: Seller, feature: str, url: str, body: str | None
) -> None:
    """Priced by the last, served by the first: 20 were delivered and 1 was paid."""
    more: dict[str, Any] = {"url": url, "headers": seller.as_customer}
    if body is not None:
        more["headers"] |= {"Content-Type": "Application/JSON"}
        more |= {"method": "POST", "body_base64": _as_json(body)}
    for quantity in ({}, {"quantity": 1}):
        verdict = await seller.authorize(feature, **more, **quantity)
        assert (verdict["verdict"], verdict["status"]) == ("answer", 422)
        assert verdict["body"]["code"] == "invalid_request"
        assert verdict["body"]["field"] in {"count", "kind", "words"}
    assert await seller.credits() == (10, 0)


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("/c?count=x", "count"),
        ("/c?count=1e0", "count"),
        ("/c?count=1&kind=ABC", "kind"),
        ("/c?count=31", "count"),
    ],
)
async def test_arguments_that_no_call_may_have_are_refused_before_their_price(
    seller: Seller, url: str, field: str
) -> None:
    verdict = await seller.authorize("copies", url=url)
    assert (verdict["verdict"], verdict["status"]) == ("answer", 422)
    assert verdict["body"]["code"] == "invalid_request"
    assert verdict["body"]["field"] == field


async def test_an_admission_tells_the_quantity_that_was_priced(seller: Seller) -> None:
    """A server that serves as many serves what was paid, however it reads the call."""
    found = [
        await seller.admitted("copies", url="/c?count=%33&kind=ab&mine=1&mine=2"),
        await seller.admitted("words", url="/w?words=a,b&words=c"),
        await seller.admitted("page", quantity="2.5"),
        await seller.admitted("report"),
    ]
    assert [one["quantity"] for one in found] == [3, 3, 2.5, 1]
    same = await seller.admitted(
        "copies",
        method="POST",
        url="/c?count=3",
        body_sha256=hashlib.sha256(b"elsewhere").hexdigest(),
    )
    for verdict in (*found, same):
        done = {"admission": verdict["admission"], "outcome": "failed"}
        await seller.ask("complete", **done)


async def test_a_sellers_own_tokens_are_left_alone(seller: Seller) -> None:
    theirs = {"Authorization": "Bearer eyJhbGciOi.their.own"}
    assert (await seller.authorize(headers=theirs))["status"] == 402


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"feature": "reprot"}, 404, "unknown_feature"),
        ({"feature": None}, 422, "invalid_request"),
        ({"url": "reports"}, 422, "invalid_request"),
        ({"url": "ftp://seller.example/x"}, 422, "invalid_request"),
        ({"url": "http://[x/"}, 422, "invalid_request"),
        ({"url": "/räder"}, 422, "invalid_request"),
        ({"url": "/a b"}, 422, "invalid_request"),
        ({"url": "/" + "a" * 8192}, 422, "invalid_request"),
        ({"method": "GET\r\n"}, 422, "invalid_request"),
        ({"method": "POST"}, 422, "invalid_request"),
        ({"body_sha256": "00"}, 422, "invalid_request"),
        ({"body_base64": "***"}, 422, "invalid_request"),
        ({"body_base64": "", "body_sha256": "0" * 64}, 422, "invalid_request"),
        ({"headers": {"a b": "c"}}, 422, "invalid_request"),
        ({"headers": {"a": "b\r\nc: d"}}, 422, "invalid_request"),
        ({"headers": {"a": "\u20ac"}}, 422, "invalid_request"),
        ({"headers": [["a", "b"]]}, 422, "invalid_request"),
        ({"price": 0}, 422, "invalid_request"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(
    seller: Seller, more: dict[str, Any], status: int, code: str
) -> None:
    request = {"feature": "report", "method": "GET", "url": URL} | more
    answer = await seller.ask("authorize", **request)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_only_an_admission_of_ours_is_taken(seller: Seller) -> None:
    token = (await seller.admitted())["admission"]
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    cheaper = base64.urlsafe_b64encode(raw.replace(b"1000000", b"0000001")).decode()
    for forged in ("", "x", token[:-4], cheaper.rstrip("="), token * 50, "é" * 40):
        done = {"admission": forged, "outcome": "served"}
        refused = await seller.ask("complete", **done)
        assert (refused.status_code, refused.json()["code"]) == (
            422,
            "invalid_admission",
        )
    done = {"admission": token, "outcome": "failed"}
    assert (await seller.ask("complete", **done)).is_success


async def test_a_payment_without_money_is_told_and_nothing_is_served(
    seller: Seller,
) -> None:
    poor = Buyer(Account.create())
    paid = await poor.pay((await seller.authorize())["headers"])
    verdict = await seller.authorize(headers=paid)
    assert (verdict["verdict"], verdict["status"]) == ("answer", 402)
    assert verdict["body"]["code"] == "payment_rejected"
    assert "payment-required" in verdict["headers"]
