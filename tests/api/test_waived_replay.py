"""A waived payment identifies one call: shown again it gets that call's answer."""

import asyncio

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tests.api.callers import give
from tests.api.payments import (
    ON_SQLITE,
    Payment,
    count,
    decode,
    offer_of,
    reason_of,
    refusal_of,
    sign,
)
from tests.api.shop import CALLS, SLOW, Slowly
from tests.api.test_handlers import lapse
from tests.live import LiveServer

pytestmark = ON_SQLITE
BEFORE = "invalid_exact_evm_payload_authorization_valid_before"
SIGNATURE = "invalid_exact_evm_payload_signature"
DEDUCT = "/api/credits/deduct"


@pytest.fixture
async def wallet(shop_server: LiveServer) -> LocalAccount:
    """A wallet with a hundred credits and not a cent."""
    one: LocalAccount = Account.create()
    await give(shop_server, one, 100)
    return one


def is_replayed(answer: httpx.Response) -> bool:
    return answer.headers.get("idempotency-replayed") == "true"


@pytest.mark.parametrize("version", [1, 2])
async def test_the_same_header_on_the_same_call_gets_the_same_answer(
    shop: httpx.AsyncClient,
    shop_server: LiveServer,
    wallet: LocalAccount,
    version: int,
) -> None:
    path = f"/features/echo?text=waived{version}"
    payment = sign(wallet, await offer_of(shop, path, version=version))
    first = await shop.get(path, headers=payment.headers)
    name = "PAYMENT-RESPONSE" if version == 2 else "X-PAYMENT-RESPONSE"
    receipt = decode(first.headers[name])
    assert receipt["success"] is True
    assert (receipt["transaction"], receipt["amount"]) == ("", "0")
    assert receipt["extra"] == {"credits": {"charged": "1", "remaining": "99"}}
    for _ in range(3):
        again = await shop.get(path, headers=payment.headers)
        assert (again.status_code, again.content) == (200, first.content)
        assert is_replayed(again)
        assert again.headers["cache-control"] == "no-store, private"
    assert CALLS[f"waived{version}"] == 1
    assert await count(shop_server, "usage_event") == 1
    assert await count(shop_server, "topup") == 0


async def test_after_its_window_the_header_is_worth_nothing(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount
) -> None:
    path = "/features/echo?text=window"
    payment = sign(wallet, await offer_of(shop, path))
    first = await shop.get(path, headers=payment.headers)
    shop_server.clock.advance(85)
    assert (await shop.get(path, headers=payment.headers)).content == first.content
    shop_server.clock.advance(6)
    for _ in range(2):
        answer = await shop.get(path, headers=payment.headers)
        assert reason_of(answer) == BEFORE
        shop_server.clock.advance(2 * 24 * 3600)
    assert CALLS["window"] == 1


async def test_another_signature_does_not_get_the_stored_answer(
    shop: httpx.AsyncClient, wallet: LocalAccount
) -> None:
    """The nonce is no secret; what makes the header the payer's is the signature."""
    path = "/features/echo?text=stolen"
    payment = sign(wallet, await offer_of(shop, path))
    assert (await shop.get(path, headers=payment.headers)).status_code == 200
    thief: LocalAccount = Account.create()
    entry = payment.document["accepted"]
    for forged in (
        payment.signed_as(b"\x01" * 64 + b"\x1b"),
        payment.signed_as(sign(thief, entry).signature),
        payment.signed_as(b""),
    ):
        answer = await shop.get(path, headers=forged.headers)
        assert reason_of(answer) == SIGNATURE
        assert "stolen" not in answer.json()["detail"]


async def test_other_terms_for_the_nonce_do_not_get_the_stored_answer(
    shop: httpx.AsyncClient, wallet: LocalAccount
) -> None:
    path = "/features/echo?text=terms"
    entry = await offer_of(shop, path)
    nonce = b"\x07" * 32
    payment = sign(wallet, entry, nonce=nonce)
    assert (await shop.get(path, headers=payment.headers)).status_code == 200
    cheaper = await offer_of(shop, path, version=1)
    for other in (
        sign(wallet, entry, nonce=nonce, lives=100),
        sign(wallet, entry, nonce=nonce, validAfter=1),
        sign(wallet, cheaper, nonce=nonce),
    ):
        answer = await shop.get(path, headers=other.headers)
        assert refusal_of(answer) == (409, "payment_bound_elsewhere")
    assert CALLS["terms"] == 1


async def test_a_copy_of_a_running_call_waits_for_its_answer(
    shop: httpx.AsyncClient, wallet: LocalAccount
) -> None:
    SLOW["waits"] = one = Slowly()
    path = "/features/slow?name=waits"
    payment = sign(wallet, await offer_of(shop, path))
    first = asyncio.create_task(shop.get(path, headers=payment.headers))
    await one.begun.wait()
    copies = [
        asyncio.create_task(shop.get(path, headers=payment.headers)) for _ in range(5)
    ]
    await asyncio.sleep(0.5)
    assert not any(copy.done() for copy in copies)
    one.may_end.set()
    answers = [await task for task in (first, *copies)]
    assert {one.status_code for one in answers} == {200}
    assert len({one.content for one in answers}) == 1
    assert CALLS["waits"] == 1


async def test_a_payment_whose_call_failed_may_not_be_used_again(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount
) -> None:
    """One nonce is one call; a failed one charged nothing, and the next needs a new."""
    path = "/features/broken?how=taken"
    payment = sign(wallet, await offer_of(shop, path))
    answer = await shop.get(path, headers=payment.headers)
    assert refusal_of(answer) == (409, "echo_taken")
    again = await shop.get(path, headers=payment.headers)
    assert refusal_of(again) == (409, "payment_spent")
    assert await count(shop_server, "usage_event") == 0


async def test_a_call_whose_hold_has_lapsed_is_over_for_its_copies_at_once(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount
) -> None:
    """Its process may have been killed: nobody can charge it any more, so none waits."""
    path = "/features/slow?name=over"
    SLOW["over"] = one = Slowly()
    payment = sign(wallet, await offer_of(shop, path))
    call = asyncio.create_task(shop.get(path, headers=payment.headers))
    await one.begun.wait()
    try:
        await shop_server.gate.db.write(lapse)
        async with asyncio.timeout(4):
            copy = await shop.get(path, headers=payment.headers)
        assert refusal_of(copy) == (409, "payment_spent")
    finally:
        one.may_end.set()
    assert refusal_of(await call) == (503, "capture_failed")
    assert await count(shop_server, "usage_event") == 0


async def test_a_deduction_with_the_same_header_is_charged_once_and_answered_alike(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount
) -> None:
    body = {"feature": "words", "quantity": 8}
    entry = await offer_of(shop, DEDUCT, method="POST", json=body)
    payment = sign(wallet, entry)
    first = await shop.post(DEDUCT, json=body, headers=payment.headers)
    assert (first.status_code, first.json()["credits"]) == (200, 98)
    again = await shop.post(DEDUCT, json=body, headers=payment.headers)
    assert (again.status_code, again.content) == (200, first.content)
    assert is_replayed(again)
    assert await count(shop_server, "usage_event") == 1


async def test_a_pruned_claim_opens_no_door(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount
) -> None:
    """A waived claim is forgotten once its window is long over."""
    from tallystick.workers.upkeep import sweep

    path = "/features/echo?text=pruned"
    payment: Payment = sign(wallet, await offer_of(shop, path))
    assert (await shop.get(path, headers=payment.headers)).status_code == 200
    shop_server.clock.advance(2 * 3600)
    await sweep(shop_server.gate.db, shop_server.gate.rail)
    answer = await shop.get(path, headers=payment.headers)
    assert answer.status_code == 402
    refusal_of(answer)
    assert CALLS["pruned"] == 1
