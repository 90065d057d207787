"""One node has seen a payment become final, another has yet to see it at all.

Neither lies. Whoever put their answers together would tell an honest payer to sign anew
what he has paid.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from tallystick.chain.fault import ANY, DropBefore, Fault, FaultProxy, Stale
from tallystick.chain.faults import Answer, Forward
from tallystick.chain.local import LocalChain
from tallystick.kernel.errors import Unavailable
from tallystick.payments.merchants.claims import read_settlement
from tallystick.payments.models.merchants import PENDING_SETTLEMENTS, SettlementState
from tallystick.payments.models.topups import PENDING_STATES, TopUpState
from tests.house import DOLLAR, House, Process, Wallet
from tests.payments import merchants
from tests.payments.test_outage import CutOnce
from tests.permits import PermitWallet, submit_permit
from tests.strangers import submit

S = TopUpState
UNTIL_FINAL = 80
MOST = 40
Look = Callable[[], Awaitable[str]]


@dataclass
class Nodes:
    """Two nodes of a house's chain, and a payment's way to a final block."""

    house: House
    first: FaultProxy
    second: FaultProxy
    behind: int = UNTIL_FINAL + 5

    async def start(self, **values: object) -> Process:
        return await self.house.start(self.first.url, self.second.url, **values)

    async def back_to_first(self, process: Process) -> None:
        """The second fails, so that the first is asked again; then it lags."""
        self.first.heal()
        self.second.heal()
        self.second.inject(ANY, DropBefore())
        await process.rail.chain.chain_id()
        self.second.heal()
        self.second.inject(ANY, Stale(blocks=self.behind))

    async def close_window(self) -> None:
        """It is over, and that is final."""
        await self.house.local.mine(2)
        await self.house.local.advance(120)
        self.house.clock.advance(120)
        await self.house.local.mine(UNTIL_FINAL)

    async def lose_every_answer(self, process: Process, look: Look) -> None:
        """Once, one after the other, until a look of the first is whole."""
        for at in range(1, MOST):
            await self.back_to_first(process)
            self.first.inject(ANY, CutOnce(at=at, is_after=False))
            if not await is_pending(look):
                break
        assert at > 4, "it was asked of final blocks, of logs and of what these say"


async def is_pending(look: Look) -> bool:
    """Whether it is still open, by a look that may not be possible; never a refusal."""
    try:
        state = await look()
    except Unavailable:
        return True
    assert state in {*PENDING_STATES, S.CREDITED, SettlementState.SETTLED}
    return state in PENDING_STATES


@pytest.fixture
async def nodes(house: House, local: LocalChain) -> AsyncIterator[Nodes]:
    async with FaultProxy(local.url) as first, FaultProxy(local.url) as second:
        yield Nodes(house, first, second)


@pytest.fixture
async def permits(local: LocalChain) -> PermitWallet:
    payer = PermitWallet(local)
    await payer.fund()
    await payer.approve()
    return payer


def of(process: Process, topup_id: int) -> Look:
    async def look() -> str:
        return (await process.step(topup_id)).state

    return look


async def test_a_paid_top_up_is_not_expired_by_two_nodes_together(
    nodes: Nodes, wallet: Wallet
) -> None:
    shop = await nodes.start()
    topup_id = await shop.claim(await wallet.authorize(nodes.house.pay_to))
    await shop.step(topup_id)
    await nodes.close_window()
    await nodes.lose_every_answer(shop, of(shop, topup_id))
    assert (await shop.topup(topup_id)).state == S.CREDITED
    assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_a_paid_permit_is_not_expired_by_two_nodes_together(
    nodes: Nodes, permits: PermitWallet
) -> None:
    shop = await nodes.start(takes_permit2=True)
    topup_id = await shop.claim(await permits.permit(nodes.house.pay_to))
    await shop.step(topup_id)
    await nodes.close_window()
    await nodes.lose_every_answer(shop, of(shop, topup_id))
    assert (await shop.topup(topup_id)).state == S.CREDITED
    assert await shop.credits_of(permits) == 10 * DOLLAR


async def test_a_merchants_paid_settlement_is_not_expired_by_two_nodes_together(
    nodes: Nodes, wallet: Wallet
) -> None:
    """Nobody observes what came to merchants, so it would be expired for ever."""
    process = await nodes.start()
    shop = await merchants.Shop.opened(nodes.house, process)
    signed = await wallet.authorize(shop.pay_to)
    settlement_id = (await shop.claim(process, signed)).id

    async def look() -> str:
        return (await merchants.look(process, settlement_id)).state

    assert await look() in PENDING_SETTLEMENTS
    await nodes.close_window()
    await nodes.lose_every_answer(process, look)
    again = await shop.claim(process, signed)
    assert again.state == SettlementState.SETTLED
    assert await shop.income() == DOLLAR


async def test_a_merchants_settled_payment_is_not_replaced_by_a_node_that_lags(
    nodes: Nodes, wallet: Wallet
) -> None:
    process = await nodes.start()
    shop = await merchants.Shop.opened(nodes.house, process)
    claimed = await shop.claim(process, await wallet.authorize(shop.pay_to))
    await merchants.until_known(process, claimed.id)
    await nodes.close_window()
    for at in range(1, MOST):
        await nodes.back_to_first(process)
        nodes.first.inject(ANY, CutOnce(at=at, is_after=False))
        # While the second one lags a look may not be possible.
        with suppress(Unavailable):
            await merchants.look(process, claimed.id)
        async with process.db.read() as session:
            state = (await read_settlement(session, claimed.id)).state
        assert state in {SettlementState.SETTLED, SettlementState.FINAL}
        if state == SettlementState.FINAL:
            break
    assert at > 3


@pytest.mark.parametrize("at", range(1, 8))
@pytest.mark.parametrize("way", ["authorization", "permit"])
async def test_what_a_stranger_settled_in_time_is_refused_by_no_lost_answer(
    nodes: Nodes, permits: PermitWallet, way: str, at: int
) -> None:
    """We have signed nothing, so the newest block alone would end it."""
    shop = await nodes.start(takes_permit2=True)
    local, pay_to = nodes.house.local, nodes.house.pay_to
    if way == "permit":
        permit = await permits.permit(pay_to)
        topup_id = await shop.claim(permit)
        await submit_permit(local, permit)
    else:
        signed = await permits.authorize(pay_to)
        topup_id = await shop.claim(signed)
        await submit(local, signed)
    await local.advance(120)
    nodes.house.clock.advance(120)
    await local.mine(2)
    nodes.behind = 4
    await shop.keep_keys()
    await nodes.back_to_first(shop)
    nodes.first.inject(ANY, CutOnce(at=at, is_after=False))
    await is_pending(of(shop, topup_id))
    nodes.first.heal()
    nodes.second.heal()
    assert (await shop.settle(topup_id)).state == S.CREDITED


@dataclass(frozen=True, slots=True, kw_only=True)
class LagsAfter(Fault):
    """Several nodes behind one address: after some questions one that lags answers."""

    questions: int
    behind: Stale
    seen: list[str] = field(default_factory=list)

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        self.seen.append(request["method"])
        if len(self.seen) <= self.questions:
            return await forward(request)
        return await self.behind.apply(request, forward)


async def test_nothing_expires_by_nodes_that_answer_at_one_address_by_turns(
    nodes: Nodes, wallet: Wallet
) -> None:
    shop = await nodes.house.start(nodes.first.url)
    topup_id = await shop.claim(await wallet.authorize(nodes.house.pay_to))
    await shop.step(topup_id)
    await nodes.close_window()
    behind = Stale(blocks=nodes.behind)
    for questions in range(MOST):
        nodes.first.heal()
        nodes.first.inject(ANY, LagsAfter(questions=questions, behind=behind))
        if not await is_pending(of(shop, topup_id)):
            break
    assert questions > 4
    assert (await shop.topup(topup_id)).state == S.CREDITED


@pytest.mark.parametrize("at", range(1, 8))
async def test_who_has_paid_is_not_told_that_the_money_is_missing(
    nodes: Nodes, wallet: Wallet, at: int
) -> None:
    """A stranger settled it before it was presented, with all that its payer had."""
    shop = await nodes.start()
    await shop.keep_keys()
    await nodes.house.local.mine(5)
    signed = await wallet.authorize(nodes.house.pay_to, 100 * DOLLAR)
    await submit(nodes.house.local, signed)
    await nodes.house.local.mine(2)
    nodes.behind = 4
    await nodes.back_to_first(shop)
    nodes.first.inject(ANY, CutOnce(at=at, is_after=False))
    topup_id = await shop.claim(signed)
    nodes.first.heal()
    nodes.second.heal()
    assert (await shop.settle(topup_id)).state == S.CREDITED
