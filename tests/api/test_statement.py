"""The statement: every change of a customer's credits, with the balance after it."""

from decimal import Decimal
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import LocalChain
from tallystick.kernel import json
from tests.api.callers import bearer, customer_key, issue
from tests.api.payments import ON_SQLITE, buy, funded
from tests.live import LiveServer

LINES = "/api/credits/transactions"
DEDUCT = "/api/credits/deduct"


async def pages(
    shop: httpx.AsyncClient, key: str, limit: int
) -> list[list[dict[str, Any]]]:
    found, cursor = [], None
    while True:
        query = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        answer = await shop.get(LINES, params=query, headers=bearer(key))
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store, private"
        page = json.loads(answer.content)
        found.append(page["transactions"])
        cursor = page["next_cursor"]
        if cursor is None:
            return found


@pytest.fixture
async def key(shop: httpx.AsyncClient, shop_server: LiveServer) -> str:
    """The key of a customer with 100 credits and 23 charges of a quarter each."""
    made = await customer_key(shop_server, Account.create(), 100)
    for _ in range(23):
        wanted = {"feature": "words"}
        answer = await shop.post(DEDUCT, json=wanted, headers=bearer(made))
        assert answer.status_code == 200
    return made


async def test_pages_of_any_size_show_every_line_once(
    shop: httpx.AsyncClient, key: str
) -> None:
    for limit in (1, 5, 12, 23, 24, 25, 200):
        found = await pages(shop, key, limit)
        assert all(len(page) == limit for page in found[:-1])
        assert 0 < len(found[-1]) <= limit
        lines = [line for page in found for line in page]
        assert len(lines) == len({line["id"] for line in lines}) == 24
        _require_balances(lines)


def _require_balances(lines: list[dict[str, Any]]) -> None:
    """A hundred credits, then a quarter less with each line; the newest is first."""
    balances = [Decimal(line["balance_after"]) for line in lines]
    assert balances == [100 - Decimal("0.25") * n for n in range(23, -1, -1)]
    for line, older in zip(lines, [*balances[1:], Decimal(0)], strict=True):
        assert line["credits"] == line["balance_after"] - older


@ON_SQLITE
async def test_a_page_stays_where_it_was_while_lines_are_added(
    shop: httpx.AsyncClient, key: str
) -> None:
    first = await shop.get(LINES, params={"limit": 10}, headers=bearer(key))
    cursor = first.json()["next_cursor"]
    for _ in range(3):
        await shop.post(DEDUCT, json={"feature": "words"}, headers=bearer(key))
    rest = await shop.get(
        LINES, params={"limit": 100, "cursor": cursor}, headers=bearer(key)
    )
    seen = [line["id"] for one in (first, rest) for line in one.json()["transactions"]]
    assert len(seen) == len(set(seen)) == 24


@ON_SQLITE
async def test_a_statement_tells_what_was_bought_and_used(
    shop: httpx.AsyncClient, shop_server: LiveServer, chain: LocalChain
) -> None:
    wallet = await funded(chain)
    await buy(shop, wallet)
    key = await issue(shop_server, wallet)
    await shop.get("/features/words?words=a,b,c", headers=bearer(key))
    [[used, bought]] = await pages(shop, key, 50)
    assert (used["type"], used["credits"]) == ("charge", Decimal("-0.75"))
    assert (used["description"], used["balance_after"]) == ("3 words", Decimal("49.25"))
    assert (bought["type"], bought["credits"]) == ("topup", 50)
    assert bought["description"] == "Top-up of $5.00"
    assert used["posted_at_ms"] >= bought["posted_at_ms"]


@ON_SQLITE
async def test_nobody_sees_another_customers_lines(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    other = await customer_key(shop_server, Account.create(), 7)
    [[line]] = await pages(shop, other, 50)
    assert line["balance_after"] == 7
    for cursor in ("1", "24", "999999999999999999"):
        page = await shop.get(LINES, params={"cursor": cursor}, headers=bearer(other))
        assert len(page.json()["transactions"]) <= 1


@ON_SQLITE
async def test_a_customer_without_credits_has_an_empty_statement(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    from tallystick.customers.wallets import ensure_customer_of_wallet
    from tests.api.payments import address_of

    wallet: LocalAccount = Account.create()
    await shop_server.gate.db.write(
        lambda session: ensure_customer_of_wallet(session, address_of(wallet))
    )
    key = await issue(shop_server, wallet)
    answer = await shop.get(LINES, headers=bearer(key))
    assert answer.json() == {"transactions": [], "next_cursor": None}
    found = (await shop.get("/api/credits", headers=bearer(key))).json()
    assert (found["credits"], found["available"], found["grants"]) == (0, 0, [])
    assert found["low_balance"] is True


@ON_SQLITE
async def test_a_balance_is_low_below_what_the_catalog_says(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    """The shop's ``low_balance`` is 2.5 credits, and a word costs a quarter."""
    key = await customer_key(shop_server, Account.create(), 3)
    for quantity, is_low in ((1, False), (1, False), (1, True)):
        wanted = {"feature": "words", "quantity": quantity}
        await shop.post(DEDUCT, json=wanted, headers=bearer(key))
        found = (await shop.get("/api/credits", headers=bearer(key))).json()
        assert found["low_balance"] is is_low, found["credits"]
