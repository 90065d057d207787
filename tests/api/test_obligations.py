"""The operator sees paybacks and other sellers' settlements that do not come to an end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from eth_account import Account
from sqlmodel import select

from tallystick.chain.local import LocalChain
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import MicroCredits, UsdcAtomic
from tallystick.payments.gas.costs import settle_gas
from tallystick.payments.models.paybacks import Payback
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.observing.confirm import confirm
from tallystick.payments.paybacks.funds import check_funds
from tallystick.payments.paybacks.issuing import hand_out, pay_from_float_key
from tallystick.payments.paybacks.paying import pay_out
from tallystick.payments.paybacks.proposing import Proposal, approve, propose
from tests.api.payments import ON_SQLITE, funded, sign
from tests.api.test_as_facilitator import body, joined
from tests.api.test_watching import CALL, change, figures
from tests.live import DOLLAR, Buyer, LiveServer, make_settings, start_server

HOUR_MS = 3_600_000


@dataclass
class Shop:
    """A server that pays back and settles for others, with what it has sold."""

    live: LiveServer
    chain: LocalChain
    float_address: bytes
    http: httpx.AsyncClient

    async def sold(self, buyer: Buyer) -> TopUp:
        """One dollar for credits, in a block that is final."""
        assert (await buyer.client(self.live).get(CALL)).status_code == 200
        await self.chain.mine(4)
        gate = self.live.gate
        await self.live.audit()
        await confirm(gate.db, gate.rail)
        async with gate.db.read() as session:
            topup = (await session.exec(select(TopUp))).one()
        assert topup.state == TopUpState.FINAL
        return topup

    async def propose(self, topup: TopUp, part: int) -> Payback:
        gate = self.live.gate
        wanted = Proposal(topup.id, "ann", "asked for", MicroCredits(part))
        return await propose(gate.db, gate.rail, wanted)

    async def told(self) -> dict[str, Any]:
        answer = await self.http.get("/readyz")
        assert answer.status_code == 200
        found: dict[str, Any] = answer.json()
        return found

    async def waiting(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.told())["paybacks"]["waiting"]
        return found


@pytest.fixture
async def shop(
    database_url: str, chain: LocalChain, free_port: int
) -> AsyncIterator[Shop]:
    """Its float has neither dollars nor ether; its books are right in the end."""
    key = Account.create()
    settings = make_settings(
        database_url,
        chain.url,
        free_port,
        payback_key=key.key.to_0x_hex(),
        payback_approval_above=0,
        act_as_facilitator=True,
        settle_wait=6,
    )
    live = await start_server(settings)
    async with httpx.AsyncClient(base_url=live.url, timeout=60) as http:
        yield Shop(live, chain, bytes.fromhex(key.address[2:]), http)
        assert (await live.audit()).findings == []
    await live.stop()


def rounded(found: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """Without ages."""
    return {name: (one["count"], one["atomic_usdc"]) for name, one in found.items()}


async def eventually(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Workers take their time; ask until it is so."""
    for _ in range(100):
        if await is_so():
            return
        await asyncio.sleep(0.2)
    raise AssertionError("it never came")


async def test_a_payback_is_seen_from_its_proposal_to_its_end(
    shop: Shop, buyer: Buyer
) -> None:
    topup = await shop.sold(buyer)
    gate = shop.live.gate
    assert await shop.waiting() == {}
    one, two = await shop.propose(topup, 2 * DOLLAR), await shop.propose(topup, DOLLAR)
    assert rounded(await shop.waiting()) == {"proposed": (2, "300000")}
    await approve(gate.db, one.id, "bob")
    shop.live.clock.advance(300)
    assert rounded(await shop.waiting()) == {
        "proposed": (1, "100000"),
        "approved": (1, "200000"),
    }
    assert (await shop.waiting())["proposed"]["oldest_seconds"] >= 300
    metrics = await figures(shop.http)
    assert metrics["tallystick_paybacks_waiting proposed"] == 1
    assert metrics["tallystick_paybacks_waiting_atomic_usdc approved"] == 200_000
    assert metrics["tallystick_paybacks_waiting_oldest_seconds proposed"] >= 300
    assert metrics["tallystick_paybacks_waiting lapsed"] == 0
    await pay_from_float_key(gate.db, gate.rail, one.id, "ann")
    await approve(gate.db, two.id, "bob")
    await hand_out(gate.db, gate.rail, two.id, "ann")
    await pay_out(gate.db, gate.rail)
    assert rounded(await shop.waiting()) == {
        "signed": (1, "200000"),
        "unsigned": (1, "100000"),
    }
    shop.live.clock.advance(30 * 3600)
    assert rounded(await shop.waiting()) == {"lapsed": (2, "300000")}
    shop.live.clock.offset_ms = 0


async def test_a_float_that_cannot_pay_wakes_somebody_until_it_can(
    shop: Shop, buyer: Buyer
) -> None:
    topup = await shop.sold(buyer)
    gate = shop.live.gate
    payback = await shop.propose(topup, 2 * DOLLAR)
    await approve(gate.db, payback.id, "bob")
    await check_funds(gate.rail)
    assert (await shop.http.get("/healthz/chain")).json()["reasons"] == []
    await pay_from_float_key(gate.db, gate.rail, payback.id, "ann")
    await pay_out(gate.db, gate.rail)
    answer = await shop.http.get("/healthz/chain")
    assert (answer.status_code, answer.json()["reasons"]) == (
        503,
        [
            "the float has too little USDC for what it was told to pay back",
            "the float has no money for gas",
        ],
    )
    told = (await shop.told())["paybacks"]
    assert told["refused"] == {"insufficient_funds": 1}
    assert told["float"] == {"atomic_usdc": "0", "wei": "0", "has_gas": False}
    metrics = await figures(shop.http)
    assert metrics["tallystick_paybacks_refused insufficient_funds"] == 1
    assert metrics["tallystick_float_has_gas"] == 0

    await shop.chain.mint(shop.float_address, UsdcAtomic(DOLLAR))
    await shop.chain.give_gas(shop.float_address)
    await check_funds(gate.rail)
    await pay_out(gate.db, gate.rail)
    answer = await shop.http.get("/healthz/chain")
    assert (answer.status_code, answer.json()["reasons"]) == (200, [])
    await shop.chain.mine(4)
    metrics = await figures(shop.http)
    assert metrics["tallystick_float_balance_atomic_usdc"] >= 800_000
    assert metrics["tallystick_float_has_gas"] == 1

    async def is_paid() -> bool:
        return not await shop.waiting()

    await eventually(is_paid)


async def test_settlements_for_others_are_seen_with_what_they_cost(shop: Shop) -> None:
    chain, gate = shop.chain, shop.live.gate
    merchant = await joined(shop.live, chain)
    wallet, entry = await funded(chain, 1), merchant.entry()
    asked = body(sign(wallet, entry), entry)
    nothing = (await shop.told())["merchants"]
    assert (nothing["merchants"], nothing["open"], nothing["gas_today"]) == (1, {}, {})
    await chain.set_automine(on=False)

    async def settle() -> bool:
        answer = await shop.http.post(
            "/x402/settle", json=asked, headers=merchant.headers()
        )
        return bool(answer.json()["success"])

    assert not await settle()
    found = (await shop.told())["merchants"]
    named = encode_id("mer", merchant.id)
    assert rounded(found["open"]) == {"signed": (1, "10000")}
    assert found["open"]["signed"]["stuck"] == 0
    assert int(found["gas_today"][named]["reserved_wei"]) > 0
    shop.live.clock.advance(HOUR_MS // 1000)
    metrics = await figures(shop.http)
    assert metrics["tallystick_merchant_settlements_open signed"] == 1
    assert metrics["tallystick_merchant_settlements_stuck signed"] == 1
    assert metrics["tallystick_merchant_settlements_open_oldest_seconds signed"] >= 3600
    shop.live.clock.offset_ms = 0

    await chain.set_automine(on=True)
    await chain.mine()
    await eventually(settle)
    await settle_gas(gate.db, gate.rail)
    metrics = await figures(shop.http)
    spent = metrics[f"tallystick_merchant_gas_spent_today_wei {named}"]
    assert 0 < spent < metrics["tallystick_merchant_gas_budget_wei"]
    assert metrics[f"tallystick_merchant_gas_reserved_today_wei {named}"] == 0
    assert metrics["tallystick_merchant_settlements_stuck settled"] == 0


@ON_SQLITE
async def test_a_merchants_settlement_in_quarantine_is_told(
    shop: Shop, database_url: str
) -> None:
    merchant = await joined(shop.live, shop.chain)
    wallet, entry = await funded(shop.chain, 1), merchant.entry()
    asked = body(sign(wallet, entry), entry)
    await shop.http.post("/x402/settle", json=asked, headers=merchant.headers())
    change(database_url, "UPDATE merchant_settlement SET state = 'quarantine'")
    assert (await shop.told())["merchants"]["quarantined"] == 1
    metrics = await figures(shop.http)
    assert metrics["tallystick_merchant_settlements_quarantined"] == 1


@ON_SQLITE
async def test_a_stranger_learns_nothing_of_them(
    database_url: str, chain: LocalChain, free_port: int
) -> None:
    settings = make_settings(
        database_url, chain.url, free_port, metrics_token="watch-over-the-money"
    )
    live = await start_server(settings)
    try:
        async with httpx.AsyncClient(base_url=live.url) as http:
            told = (await http.get("/readyz")).json()
            assert set(told) == {"ready", "database", "takes_payments"}
            mine = {"Authorization": "Bearer watch-over-the-money"}
            told = (await http.get("/readyz", headers=mine)).json()
            assert {"paybacks", "merchants"} < set(told)
    finally:
        await live.stop()
