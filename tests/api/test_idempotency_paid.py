"""A retry that signs a new payment is still the same request: paid and charged once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import LocalChain
from tallystick.chain.token import balance_of
from tallystick.identity.keys import Scope
from tallystick.kernel.money import UsdcAtomic
from tests.api.callers import bearer, give, issue
from tests.api.payments import (
    ON_SQLITE,
    Payment,
    address_of,
    count,
    funded,
    offer_of,
    refusal_of,
    sign,
)
from tests.api.shop import CALLS, SLOW, Slowly
from tests.api.test_respond_async import settled
from tests.live import DOLLAR, LiveServer

ADD = "/api/credits/add"
DEDUCT = "/api/credits/deduct"
ONCE = {"Idempotency-Key": "one"}
MISMATCH = (422, "idempotency_mismatch")


@dataclass(frozen=True)
class Door:
    """A priced request, and what one credit more or less shows there."""

    method: str
    path: str
    body: Any = None

    async def sign(
        self, http: httpx.AsyncClient, wallet: LocalAccount, *, version: int = 2
    ) -> Payment:
        """A new payment for this request, as a stock client makes for every try."""
        entry = await offer_of(
            http, self.path, method=self.method, version=version, json=self.body
        )
        return sign(wallet, entry)

    async def ask(
        self, http: httpx.AsyncClient, **headers: str | bytes
    ) -> httpx.Response:
        return await http.request(
            self.method, self.path, json=self.body, headers=headers
        )

    async def pay(
        self,
        http: httpx.AsyncClient,
        wallet: LocalAccount,
        name: str = "one",
        *,
        version: int = 2,
    ) -> httpx.Response:
        payment = await self.sign(http, wallet, version=version)
        return await self.ask(http, **payment.headers, **{"Idempotency-Key": name})


def call(text: str) -> Door:
    return Door("GET", f"/features/echo?text={text}")


def deduction() -> Door:
    return Door("POST", DEDUCT, {"feature": "echo"})


CALLS_AND_DEDUCTIONS = pytest.mark.parametrize(
    "door", [call("paid-once"), deduction()], ids=["call", "deduct"]
)


def is_replayed(answer: httpx.Response) -> bool:
    return answer.headers.get("idempotency-replayed") == "true"


@pytest.fixture
async def wallet(chain: LocalChain) -> LocalAccount:
    return await funded(chain)


@pytest.fixture
def dollars(chain: LocalChain, wallet: LocalAccount) -> Callable[[], Awaitable[float]]:
    """How much the wallet has left on chain."""

    async def left() -> float:
        return await balance_of(chain.chain, address_of(wallet)) / DOLLAR

    return left


@CALLS_AND_DEDUCTIONS
@pytest.mark.parametrize("version", [1, 2])
async def test_a_settled_call_is_answered_again_and_the_second_payment_is_not_touched(
    shop: httpx.AsyncClient,
    shop_server: LiveServer,
    wallet: LocalAccount,
    dollars: Callable[[], Awaitable[float]],
    door: Door,
    version: int,
) -> None:
    first = await door.pay(shop, wallet, version=version)
    assert (first.status_code, is_replayed(first)) == (200, False)
    left = await dollars()
    for _ in range(3):
        again = await door.pay(shop, wallet, version=version)
        assert (again.status_code, again.content) == (200, first.content)
        assert is_replayed(again)
        for name in ("credits-charged", "credits-remaining"):
            assert again.headers[name] == first.headers[name]
    assert await dollars() == left
    assert await count(shop_server, "usage_event") == 1
    assert await count(shop_server, "topup") == 1
    assert await count(shop_server, "hold", "state = 'open'") == 0


@CALLS_AND_DEDUCTIONS
async def test_a_waived_call_is_answered_again_and_charged_once(
    shop: httpx.AsyncClient,
    shop_server: LiveServer,
    wallet: LocalAccount,
    dollars: Callable[[], Awaitable[float]],
    door: Door,
) -> None:
    await give(shop_server, wallet, 10)
    first = await door.pay(shop, wallet)
    assert first.headers["credits-remaining"] == "9"
    again = await door.pay(shop, wallet)
    assert (again.content, is_replayed(again)) == (first.content, True)
    assert again.headers["credits-remaining"] == "9"
    assert await count(shop_server, "usage_event") == 1
    assert await dollars() == 100


@ON_SQLITE
async def test_the_last_credit_buys_one_answer_however_often_it_is_fetched(
    shop: httpx.AsyncClient,
    shop_server: LiveServer,
    wallet: LocalAccount,
    dollars: Callable[[], Awaitable[float]],
) -> None:
    """Short of credits now, a retry must not be taken for a new call."""
    await give(shop_server, wallet, 1)
    door = call("last-credit")
    first = await door.pay(shop, wallet)
    assert first.headers["credits-remaining"] == "0"
    again = await door.pay(shop, wallet)
    assert (again.content, is_replayed(again)) == (first.content, True)
    assert await dollars() == 100
    assert CALLS["last-credit"] == 1


async def test_parallel_tries_with_payments_of_their_own_are_one_call(
    shop: httpx.AsyncClient,
    shop_server: LiveServer,
    wallet: LocalAccount,
    dollars: Callable[[], Awaitable[float]],
) -> None:
    door = call(f"paid-parallel{shop_server.url}")
    payments = [await door.sign(shop, wallet) for _ in range(12)]
    answers = await asyncio.gather(
        *(door.ask(shop, **payment.headers, **ONCE) for payment in payments)
    )
    served = [one for one in answers if one.status_code == 200]
    others = {refusal_of(one) for one in answers if one.status_code != 200}
    assert others <= {(409, "request_in_progress"), (202, "settlement_pending")}
    assert len({one.content for one in served}) == 1
    assert sum(not is_replayed(one) for one in served) == 1
    assert await count(shop_server, "usage_event") == 1
    assert await count(shop_server, "topup") == 1
    assert await dollars() == 99


@ON_SQLITE
@CALLS_AND_DEDUCTIONS
async def test_who_paid_once_may_ask_again_with_a_key_instead(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount, door: Door
) -> None:
    """A stock client sends every retry unpaid first."""
    first = await door.pay(shop, wallet)
    key = bearer(await issue(shop_server, wallet))
    again = await door.ask(shop, **key, **ONCE)
    assert (again.content, is_replayed(again)) == (first.content, True)
    other = await door.ask(shop, **key, **{"Idempotency-Key": "two"})
    assert not is_replayed(other)
    payment = await door.sign(shop, wallet)
    third = await door.ask(shop, **key, **payment.headers, **{"Idempotency-Key": "two"})
    assert (third.content, is_replayed(third)) == (other.content, True)
    assert await count(shop_server, "usage_event") == 2


@ON_SQLITE
@CALLS_AND_DEDUCTIONS
async def test_a_settled_payment_fetches_no_answer_by_itself(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount, door: Door
) -> None:
    """Its header can be made from the chain, so it proves nobody."""
    payment = await door.sign(shop, wallet)
    first = await door.ask(shop, **payment.headers, **ONCE)
    assert first.status_code == 200
    again = await door.ask(shop, **payment.headers, **ONCE)
    assert refusal_of(again) == (409, "payment_already_settled")
    key = bearer(await issue(shop_server, wallet))
    proven = await door.ask(shop, **payment.headers, **key, **ONCE)
    assert (proven.content, is_replayed(proven)) == (first.content, True)


@ON_SQLITE
@CALLS_AND_DEDUCTIONS
async def test_a_key_that_may_only_read_gets_no_paid_answer_by_a_made_up_payment(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount, door: Door
) -> None:
    assert (await door.pay(shop, wallet)).status_code == 200
    reader = bearer(await issue(shop_server, wallet, Scope.READ))
    unsigned = (await door.sign(shop, wallet)).signed_as(b"\x11" * 64 + b"\x1b")
    answer = await door.ask(shop, **reader, **unsigned.headers, **ONCE)
    assert refusal_of(answer) == (402, "payment_rejected")
    real = await door.sign(shop, wallet)
    answer = await door.ask(shop, **reader, **real.headers, **ONCE)
    assert is_replayed(answer), "its wallet has signed"


@ON_SQLITE
async def test_the_key_of_another_request_is_refused_before_the_payment_is_touched(
    shop: httpx.AsyncClient,
    shop_server: LiveServer,
    wallet: LocalAccount,
    dollars: Callable[[], Awaitable[float]],
) -> None:
    assert (await call("mine").pay(shop, wallet)).status_code == 200
    left, claims = await dollars(), await count(shop_server, "claim")
    pack = Door("POST", ADD, {"pack": "pack_5"})
    for door in (call("other"), deduction(), pack):
        assert refusal_of(await door.pay(shop, wallet)) == MISMATCH
    assert (await dollars(), await count(shop_server, "claim")) == (left, claims)
    with_pack = {"Idempotency-Key": "pack"}
    payment = await pack.sign(shop, wallet)
    bought = await pack.ask(shop, **payment.headers, **with_pack)
    assert bought.status_code == 200
    payment = await call("other").sign(shop, wallet)
    refused = await call("other").ask(shop, **payment.headers, **with_pack)
    assert refusal_of(refused) == MISMATCH


@ON_SQLITE
async def test_a_key_is_its_payers_own(
    shop: httpx.AsyncClient, chain: LocalChain, wallet: LocalAccount
) -> None:
    first = await call("own-payer").pay(shop, wallet)
    other = await call("own-payer").pay(shop, await funded(chain, 1))
    assert first.json()["call"] == 1
    assert (other.json()["call"], is_replayed(other)) == (2, False)


@ON_SQLITE
async def test_a_call_that_failed_may_be_tried_again_under_its_key(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount
) -> None:
    door = Door("GET", "/features/broken?how=unavailable")
    for _ in range(2):
        answer = await door.pay(shop, wallet)
        assert refusal_of(answer)[0] == 503
        assert not is_replayed(answer)
    assert await count(shop_server, "topup") == 1, "its credits paid for the retry"
    assert await count(shop_server, "usage_event") == 0


@ON_SQLITE
async def test_a_running_call_refuses_a_retry_with_another_payment(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount
) -> None:
    SLOW["paid"] = one = Slowly()
    door = Door("GET", "/features/slow?name=paid")
    first = asyncio.create_task(door.pay(shop, wallet))
    await one.begun.wait()
    retry = await door.pay(shop, wallet)
    assert refusal_of(retry) == (409, "request_in_progress")
    one.may_end.set()
    done = await first
    again = await door.pay(shop, wallet)
    assert (again.content, is_replayed(again)) == (done.content, True)
    assert await count(shop_server, "topup") == 1
    assert CALLS["paid"] == 1


@CALLS_AND_DEDUCTIONS
async def test_a_retry_waits_for_the_payment_of_the_try_before(
    shop: httpx.AsyncClient,
    shop_server: LiveServer,
    chain: LocalChain,
    wallet: LocalAccount,
    dollars: Callable[[], Awaitable[float]],
    door: Door,
) -> None:
    """Told 202, a client that signs again is still not charged for two."""
    hurried = {"Prefer": "respond-async"}
    await chain.set_automine(on=False)
    payments = [await door.sign(shop, wallet) for _ in range(3)]
    first = await door.ask(shop, **payments[0].headers, **ONCE, **hurried)
    assert refusal_of(first) == (202, "settlement_pending")
    second = await door.ask(shop, **payments[1].headers, **ONCE, **hurried)
    assert refusal_of(second) == (202, "settlement_pending")
    assert second.headers["location"] == first.headers["location"]
    waiting = asyncio.create_task(door.ask(shop, **payments[2].headers, **ONCE))
    await asyncio.sleep(0.3)
    await chain.set_automine(on=True)
    await chain.mine()
    assert (await settled(shop, first.headers["location"]))["state"] == "credited"
    answer = await waiting
    assert (answer.status_code, answer.headers["credits-remaining"]) == (200, "9")
    assert await count(shop_server, "topup") == 1
    assert await count(shop_server, "usage_event") == 1
    assert await dollars() == 99


@ON_SQLITE
async def test_a_payment_that_was_not_taken_leaves_its_key_free(
    shop: httpx.AsyncClient, chain: LocalChain
) -> None:
    poor, pack = await funded(chain, 0), Door("POST", ADD, {"pack": "pack_5"})
    bigger = Door("POST", ADD, {"amount": 6})
    for door, name in ((call("poor"), "a"), (pack, "b")):
        assert (await door.pay(shop, poor, name)).status_code == 402
    await chain.mint(address_of(poor), UsdcAtomic(8 * DOLLAR))
    for door, name in ((call("richer"), "a"), (bigger, "b")):
        answer = await door.pay(shop, poor, name)
        assert (answer.status_code, is_replayed(answer)) == (200, False)


class TestPurchases:
    """However often a purchase is tried, its key buys one pack."""

    door = Door("POST", ADD, {"pack": "pack_5"})

    async def test_another_payment_under_the_same_key_finds_the_first_topup(
        self,
        shop: httpx.AsyncClient,
        shop_server: LiveServer,
        wallet: LocalAccount,
        dollars: Callable[[], Awaitable[float]],
    ) -> None:
        first = await self.door.pay(shop, wallet)
        assert first.json()["credits"] == 50
        await call("between").pay(shop, wallet)
        again = await self.door.pay(shop, wallet)
        assert (again.status_code, again.json()) == (200, first.json())
        assert is_replayed(again)
        assert again.headers["payment-response"] == first.headers["payment-response"]
        assert await dollars() == 95
        assert await count(shop_server, "claim", "state = 'settling'") == 1

    async def test_parallel_purchases_under_one_key_are_one(
        self,
        shop: httpx.AsyncClient,
        shop_server: LiveServer,
        wallet: LocalAccount,
        dollars: Callable[[], Awaitable[float]],
    ) -> None:
        payments = [await self.door.sign(shop, wallet) for _ in range(12)]
        answers = await asyncio.gather(
            *(self.door.ask(shop, **one.headers, **ONCE) for one in payments)
        )
        assert {one.status_code for one in answers} == {200}
        assert len({one.json()["topup"]["id"] for one in answers}) == 1
        assert sum(not is_replayed(one) for one in answers) == 1
        assert await count(shop_server, "claim") == 1
        assert await dollars() == 95

    @ON_SQLITE
    async def test_a_pending_purchase_is_not_paid_for_again(
        self,
        shop: httpx.AsyncClient,
        chain: LocalChain,
        wallet: LocalAccount,
        dollars: Callable[[], Awaitable[float]],
    ) -> None:
        hurried = {"Prefer": "respond-async"}
        await chain.set_automine(on=False)
        locations = set()
        for _ in range(3):
            payment = await self.door.sign(shop, wallet)
            answer = await self.door.ask(shop, **payment.headers, **ONCE, **hurried)
            assert refusal_of(answer) == (202, "settlement_pending")
            locations.add(answer.headers["location"])
        (location,) = locations
        await chain.set_automine(on=True)
        await chain.mine()
        assert (await settled(shop, location))["credits"] == 50
        again = await self.door.pay(shop, wallet)
        assert (again.json()["credits"], is_replayed(again)) == (50, True)
        assert await dollars() == 95

    @ON_SQLITE
    async def test_another_pack_under_the_same_key_is_refused(
        self, shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount
    ) -> None:
        await self.door.pay(shop, wallet)
        other = Door("POST", ADD, {"amount": 6})
        assert refusal_of(await other.pay(shop, wallet)) == MISMATCH
        assert await count(shop_server, "claim") == 1


@ON_SQLITE
async def test_a_server_in_any_language_gets_the_same_promise(
    shop: httpx.AsyncClient,
    shop_server: LiveServer,
    wallet: LocalAccount,
    dollars: Callable[[], Awaitable[float]],
) -> None:
    service = bearer(await issue(shop_server, None))
    request = {"feature": "echo", "method": "GET", "url": "/their/page"}

    async def authorize(**headers: str) -> Any:
        answer = await shop.post(
            "/api/paywall/authorize",
            json=request | {"headers": headers},
            headers=service,
        )
        return answer.json()

    async def paid() -> Any:
        (entry, *_) = (await authorize())["body"]["accepts"]
        return await authorize(**sign(wallet, entry).headers, **ONCE)

    first = await paid()
    assert first["verdict"] == "serve"
    assert (await paid())["body"]["code"] == "request_in_progress"
    done = {"status": 200, "body_base64": "aGVsbG8="}
    completed = await shop.post(
        "/api/paywall/complete",
        json={"admission": first["admission"], "outcome": "served", "answer": done},
        headers=service,
    )
    assert completed.json()["charged"] == 1
    again = await paid()
    assert (again["status"], again["body_base64"]) == (200, "aGVsbG8=")
    assert again["headers"]["idempotency-replayed"] == "true"
    assert await dollars() > 98.5
    assert await count(shop_server, "usage_event") == 1
