"""What a seller's server tells of a request is read in one way, or refused."""

import base64
import hashlib
from typing import Any

import pytest
from eth_account import Account

from tests.api.sellers import URL, Seller
from tests.live import Buyer


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
