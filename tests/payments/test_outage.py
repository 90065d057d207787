"""A node that fails at any question, before or after it has acted on it."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlmodel import col, select

from tallystick.chain.errors import RpcUnavailable
from tallystick.chain.fault import Fault, FaultProxy
from tallystick.chain.faults import Answer, Cut, Forward
from tallystick.kernel.errors import Unavailable
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.rail import Opening
from tests.house import DOLLAR, House, Process, Wallet


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOnce(Fault):
    """The connection breaks at one question, and the node acted on it or did not."""

    at: int
    is_after: bool
    seen: list[str] = field(default_factory=list)

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        self.seen.append(request["method"])
        if len(self.seen) != self.at:
            return await forward(request)
        if self.is_after:
            await forward(request)
        raise Cut


async def pay(shop: Process, wallet: Wallet, pay_to: bytes) -> int:
    """One payment with a client and workers that try again; the top-up's id."""
    signed = await wallet.authorize(pay_to)
    for _ in range(3):
        try:
            topup_id = await shop.claim(signed)
            break
        except Unavailable:
            async with shop.db.read() as session:
                query = select(TopUp).where(col(TopUp.nonce) == signed[0].nonce)
                assert (await session.exec(query)).all() == [], "503 means: no claim"
    for _ in range(300):
        try:
            if (await shop.step(topup_id)).state == TopUpState.CREDITED:
                break
        except Unavailable:
            continue
    await observe(shop)
    return topup_id


async def observe(shop: Process) -> None:
    try:
        await shop.observe()
    except Unavailable:
        await shop.observe()


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
async def test_no_lost_answer_loses_or_doubles_a_payment(
    house: House, wallet: Wallet, proxy: FaultProxy, *, is_after: bool
) -> None:
    """Every single question of a payment's way is cut once."""
    shop = await house.start(proxy.url)
    whole = CutOnce(at=0, is_after=is_after)
    proxy.inject("*", whole)
    topup_ids = {await pay(shop, wallet, house.pay_to)}
    questions = len(whole.seen)
    assert {"eth_call", "eth_estimateGas", "eth_sendRawTransaction", "eth_getLogs"} < {
        *whole.seen
    }
    for at in range(1, questions + 1):
        proxy.heal()
        proxy.inject("*", CutOnce(at=at, is_after=is_after))
        topup_ids.add(await pay(shop, wallet, house.pay_to))
    assert len(topup_ids) == questions + 1
    for topup_id in topup_ids:
        assert (await shop.topup(topup_id)).state == TopUpState.CREDITED
        assert len(await shop.sent(topup_id)) == 1
    assert await shop.credits_of(wallet) == 10 * DOLLAR * len(topup_ids)


async def test_the_chain_is_down_in_the_middle_and_comes_back(
    house: House, wallet: Wallet, proxy: FaultProxy
) -> None:
    shop = await house.start(proxy.url)
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    await shop.step(topup_id)
    await proxy.down()
    for _ in range(3):
        with pytest.raises(RpcUnavailable):
            await shop.step(topup_id)
        assert await shop.settle_due() >= 0, "the worker survives it"
    with pytest.raises(RpcUnavailable):
        await shop.observe()
    assert (await shop.topup(topup_id)).state == TopUpState.SIGNED
    await proxy.up()
    assert (await shop.settle(topup_id)).state == TopUpState.CREDITED


async def test_no_top_up_begins_before_the_chain_was_checked(
    house: House, wallet: Wallet
) -> None:
    """A server that was restarted during an outage has checked nothing yet."""
    shop = await house.start()
    shop.gate = replace(shop.gate, rail=replace(shop.rail, opening=Opening()))
    with pytest.raises(TopUpsUnavailable):
        await shop.claim(await wallet.authorize(house.pay_to))
