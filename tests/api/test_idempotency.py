"""The same Idempotency-Key is the same request: done once, answered alike."""

import asyncio
from collections import Counter

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tests.api.callers import bearer, customer_key, give, issue
from tests.api.payments import ON_SQLITE, count, refusal_of
from tests.api.shop import CALLS, SLOW, Slowly
from tests.live import LiveServer

DEDUCT = "/api/credits/deduct"
MISMATCH = (422, "idempotency_mismatch")


@pytest.fixture
def wallet() -> LocalAccount:
    return Account.create()


@pytest.fixture
async def key(shop_server: LiveServer, wallet: LocalAccount) -> str:
    """The key of a customer with a hundred credits."""
    return await customer_key(shop_server, wallet, 100)


def once(key: str, name: str) -> dict[str, str]:
    return bearer(key) | {"Idempotency-Key": name}


def is_replayed(answer: httpx.Response) -> bool:
    return answer.headers.get("idempotency-replayed") == "true"


@ON_SQLITE
async def test_a_repeated_call_gets_the_stored_answer_and_is_charged_once(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    path = "/features/echo?text=stored"
    first = await shop.get(path, headers=once(key, "one"))
    assert first.status_code == 200
    assert not is_replayed(first)
    for _ in range(3):
        again = await shop.get(path, headers=once(key, "one"))
        assert (again.status_code, again.content) == (200, first.content)
        assert is_replayed(again)
        assert again.headers["content-type"] == first.headers["content-type"]
    assert CALLS["stored"] == 1
    assert await count(shop_server, "usage_event") == 1
    other = await shop.get(path, headers=once(key, "two"))
    assert other.json()["call"] == 2


@ON_SQLITE
async def test_a_stored_answer_is_kept_for_a_day(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    path = "/features/echo?text=day"
    await shop.get(path, headers=once(key, "one"))
    shop_server.clock.advance(23 * 3600)
    assert is_replayed(await shop.get(path, headers=once(key, "one")))


@ON_SQLITE
async def test_a_stored_answer_is_for_no_cache_either(
    shop: httpx.AsyncClient, key: str
) -> None:
    path = "/features/echo?text=cache"
    first = await shop.get(path, headers=once(key, "one"))
    again = await shop.get(path, headers=once(key, "one"))
    assert is_replayed(again)
    for name in ("cache-control", "vary"):
        assert again.headers[name] == first.headers[name]


@ON_SQLITE
async def test_a_stored_answer_tells_what_was_charged(
    shop: httpx.AsyncClient, key: str
) -> None:
    path = "/features/echo?text=receipt"
    first = await shop.get(path, headers=once(key, "one"))
    again = await shop.get(path, headers=once(key, "one"))
    assert is_replayed(again)
    for name in ("credits-charged", "credits-remaining"):
        assert again.headers[name] == first.headers[name]


@ON_SQLITE
async def test_the_same_key_for_another_request_is_refused(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    path = "/features/echo"
    await shop.post(path, json={"text": "mine"}, headers=once(key, "one"))
    for answer in (
        await shop.post(path, json={"text": "other"}, headers=once(key, "one")),
        await shop.post(path + "?a=1", json={"text": "mine"}, headers=once(key, "one")),
        await shop.get(path + "?text=mine", headers=once(key, "one")),
        await shop.get("/features/words?words=a", headers=once(key, "one")),
    ):
        assert refusal_of(answer)[0] == 422
    assert (
        refusal_of(await shop.get(path + "?text=mine", headers=once(key, "one")))
        == MISMATCH
    )
    assert await count(shop_server, "usage_event") == 1


@ON_SQLITE
async def test_a_running_call_refuses_its_copies(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    SLOW["running"] = one = Slowly()
    path = "/features/slow?name=running"
    first = asyncio.create_task(shop.get(path, headers=once(key, "one")))
    await one.begun.wait()
    copy = await shop.get(path, headers=once(key, "one"))
    assert refusal_of(copy) == (409, "request_in_progress")
    assert int(copy.headers["retry-after"]) > 0
    one.may_end.set()
    done = await first
    assert done.status_code == 200
    again = await shop.get(path, headers=once(key, "one"))
    assert (again.content, is_replayed(again)) == (done.content, True)
    assert CALLS["running"] == 1
    assert await count(shop_server, "usage_event") == 1


async def test_parallel_copies_of_a_call_are_charged_once(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    path = f"/features/echo?text=parallel{shop_server.url}"
    answers = await asyncio.gather(
        *(shop.get(path, headers=once(key, "one")) for _ in range(40))
    )
    served = [one for one in answers if one.status_code == 200]
    others = {refusal_of(one) for one in answers if one.status_code != 200}
    assert others <= {(409, "request_in_progress")}
    assert len({one.content for one in served}) == 1
    assert sum(not is_replayed(one) for one in served) == 1
    assert await count(shop_server, "usage_event") == 1
    assert await count(shop_server, "hold", "state = 'open'") == 0


@ON_SQLITE
async def test_a_402_is_never_stored(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount
) -> None:
    key = await customer_key(shop_server, wallet, 1)
    path = "/features/slow?name=broke"
    for _ in range(2):
        answer = await shop.get(path, headers=once(key, "one"))
        assert refusal_of(answer) == (402, "insufficient_credits")
        assert not is_replayed(answer)
    answer = await shop.post(DEDUCT, json={"feature": "slow"}, headers=once(key, "two"))
    assert refusal_of(answer) == (402, "insufficient_credits")
    await give(shop_server, wallet, 10)
    SLOW["broke"] = one = Slowly()
    one.may_end.set()
    assert (await shop.get(path, headers=once(key, "one"))).status_code == 200
    paid = await shop.post(DEDUCT, json={"feature": "slow"}, headers=once(key, "two"))
    assert paid.json()["credits"] == 7


@ON_SQLITE
async def test_a_failed_call_is_not_stored_and_may_be_asked_again(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    for how, status in (("taken", 409), ("unavailable", 503)):
        for _ in range(2):
            answer = await shop.get(
                f"/features/broken?how={how}", headers=once(key, how)
            )
            assert refusal_of(answer)[0] == status
            assert not is_replayed(answer)
    assert await count(shop_server, "stored_answer") == 0
    assert await count(shop_server, "usage_event") == 0


async def test_a_repeated_deduction_is_charged_once_and_answered_alike(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    wanted = {"feature": "words", "quantity": 10}
    answers = await asyncio.gather(
        *(shop.post(DEDUCT, json=wanted, headers=once(key, "one")) for _ in range(20))
    )
    assert Counter(one.status_code for one in answers) == {200: 20}
    assert len({one.content for one in answers}) == 1
    assert answers[0].json()["credits"] == 97.5
    assert sum(not is_replayed(one) for one in answers) == 1
    assert await count(shop_server, "usage_event") == 1
    for other in ({"feature": "words", "quantity": 11}, {"feature": "echo"}):
        answer = await shop.post(DEDUCT, json=other, headers=once(key, "one"))
        assert refusal_of(answer) == MISMATCH


@ON_SQLITE
async def test_a_key_is_one_customers_own(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str, wallet: LocalAccount
) -> None:
    other = await customer_key(shop_server, Account.create(), 10)
    second = await issue(shop_server, wallet)
    path = "/features/echo?text=own"
    first = await shop.get(path, headers=once(key, "one"))
    foreign = await shop.get(path, headers=once(other, "one"))
    assert not is_replayed(foreign)
    assert foreign.headers["credits-remaining"] == "9"
    same = await shop.get(path, headers=once(second, "one"))
    assert (is_replayed(same), same.content) == (True, first.content)
    wanted = {"feature": "echo"}
    for one, left in ((key, 98), (other, 8)):
        answer = await shop.post(DEDUCT, json=wanted, headers=once(one, "two"))
        assert (answer.json()["credits"], is_replayed(answer)) == (left, False)


@ON_SQLITE
async def test_a_key_that_is_none_is_refused(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    for name in ("", "x" * 256):
        for method, path, body in (
            ("GET", "/features/echo?text=none", None),
            ("POST", DEDUCT, {"feature": "echo"}),
        ):
            answer = await shop.request(
                method, path, json=body, headers=once(key, name)
            )
            assert refusal_of(answer) == (422, "invalid_request")
    twice = [*bearer(key).items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    answer = await shop.get("/features/echo?text=none", headers=twice)
    assert refusal_of(answer) == (422, "invalid_request")
    assert CALLS["none"] == 0
    assert await count(shop_server, "usage_event") == 0
