"""A 402 names what a charge would find: what lapsed holds have is the customer's."""

import asyncio
from typing import Any

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import LocalChain
from tests.api.callers import bearer, customer_key
from tests.api.payments import funded, offer_of, refusal_of, sign
from tests.api.shop import SLOW, Slowly
from tests.api.test_handlers import lapse
from tests.live import LiveServer

WORDS = "/features/words?words=" + ",".join(map(str, range(48)))
"""Twelve credits, where there are ten."""


async def test_a_402_counts_what_a_lapsed_hold_has_and_takes_what_it_asks_for(
    shop: httpx.AsyncClient, shop_server: LiveServer, chain: LocalChain
) -> None:
    wallet = await funded(chain)
    key = await customer_key(shop_server, wallet, 10)
    SLOW["kept"] = one = Slowly()
    call = asyncio.create_task(
        shop.get("/features/slow?name=kept", headers=bearer(key))
    )
    await one.begun.wait()
    try:
        await _tell_and_pay(shop, shop_server, wallet, key)
    finally:
        one.may_end.set()
    assert refusal_of(await call) == (503, "capture_failed")


async def _tell_and_pay(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount, key: str
) -> None:
    entry = await offer_of(shop, WORDS, version=1)
    forged = sign(wallet, entry, key=Account.create())

    async def refused() -> dict[str, Any]:
        answer = await shop.get(WORDS, headers=forged.headers | bearer(key))
        assert refusal_of(answer) == (402, "payment_rejected")
        told: dict[str, Any] = answer.json()
        return told

    held = await refused()
    assert (held["credits"], held["required"], held["shortfall"]) == (8, 12, 4)
    await shop_server.gate.db.write(lapse)
    free = await refused()
    assert (free["credits"], free["required"], free["shortfall"]) == (10, 12, 2)
    exact = free["accepts"][0]
    assert exact["maxAmountRequired"] == "200000"
    paid = await shop.get(WORDS, headers=sign(wallet, exact).headers)
    assert paid.status_code == 200, paid.text
    assert paid.headers["credits-remaining"] == "0"
