"""Blocks with permits in them are replaced: no cent is lost, and none is booked twice."""

from collections.abc import AsyncIterator

import pytest

from tallystick.chain.local import LocalChain
from tallystick.chain.permit2 import PERMIT2
from tallystick.kernel.clock import OffsetClock
from tallystick.payments.models.chain import Presence
from tallystick.payments.models.topups import TopUp
from tests.house import DOLLAR, House, Process
from tests.payments.reorgs.scene import S, presence, replace_from, send_again
from tests.payments.test_observer import suspense
from tests.permits import (
    PermitWallet,
    Signed,
    by_proxy,
    submit_permit,
    submit_together,
)


@pytest.fixture
async def chain() -> AsyncIterator[LocalChain]:
    """Blocks are final when they are 64 behind the head."""
    async with LocalChain(slots_in_an_epoch=32) as local:
        await local.mine(70)
        yield local


@pytest.fixture
async def payer(chain: LocalChain) -> PermitWallet:
    wallet = PermitWallet(chain)
    await wallet.fund()
    await wallet.approve()
    return wallet


@pytest.fixture
async def shop(
    chain: LocalChain, database_url: str, clock: OffsetClock
) -> AsyncIterator[Process]:
    """A server whose books are right when the test is over."""
    house = House(chain, database_url, 1, clock)
    process = await house.start(takes_permit2=True)
    yield process
    assert (await process.audit()).findings == []
    await house.stop()


async def pay(shop: Process, payer: PermitWallet) -> TopUp:
    topup = await shop.settle(await shop.claim(await payer.permit(shop.rail.pay_to)))
    assert topup.state == S.CREDITED
    await shop.observe()
    return topup


async def test_our_settlement_is_dropped_and_sent_again(
    shop: Process, chain: LocalChain, payer: PermitWallet
) -> None:
    before = await pay(shop, payer)
    await chain.mine()
    await shop.observe()
    await replace_from(shop, chain, before.block_number)
    await shop.observe()
    await shop.observe()
    taken = await shop.topup(before.id)
    assert (taken.state, taken.generation) == (S.REVERSED, 2)
    assert await shop.credits_of(payer) == 0
    assert (await shop.audit()).findings == []
    topup = await shop.settle(before.id)
    assert (topup.state, topup.tx_hash) == (S.CREDITED, before.tx_hash)
    await shop.observe()
    assert await shop.credits_of(payer) == 10 * DOLLAR
    assert await presence(shop) == [Presence.GONE, Presence.BOOKED]


async def test_our_settlement_moves_to_another_block(
    shop: Process, chain: LocalChain, payer: PermitWallet
) -> None:
    """The ledger has nothing to say: only the anchor is another."""
    before = await pay(shop, payer)
    await replace_from(shop, chain, before.block_number)
    await send_again(shop, chain, before)
    await shop.observe()
    after = await shop.topup(before.id)
    assert (after.state, after.generation) == (S.CREDITED, 1)
    assert after.block_hash != before.block_hash
    assert await presence(shop) == [Presence.BOOKED]
    assert await shop.credits_of(payer) == 10 * DOLLAR


async def test_ours_is_dropped_and_somebody_else_submits_the_same_permit(
    shop: Process, chain: LocalChain, payer: PermitWallet
) -> None:
    """By its nonce it is the same payment, in whatever transaction."""
    signed = await payer.permit(shop.rail.pay_to)
    before = await shop.settle(await shop.claim(signed))
    await shop.observe()
    await replace_from(shop, chain, before.block_number)
    await submit_permit(chain, signed)
    await shop.observe()
    after = await shop.topup(before.id)
    assert (after.state, after.generation) == (S.CREDITED, 1)
    assert after.tx_hash != before.tx_hash
    assert await shop.credits_of(payer) == 10 * DOLLAR


async def _roundabout(
    shop: Process, chain: LocalChain, signed: Signed
) -> tuple[TopUp, int]:
    topup_id = await shop.claim(signed)
    await submit_together(chain, by_proxy(signed))
    await shop.observe()
    topup = await shop.settle(topup_id)
    assert topup.state == S.CREDITED
    assert topup.block_number is not None
    return topup, topup.block_number


async def test_a_roundabout_settlement_is_dropped_and_ours_takes_its_place(
    shop: Process, chain: LocalChain, payer: PermitWallet
) -> None:
    signed = await payer.permit(shop.rail.pay_to)
    before, block = await _roundabout(shop, chain, signed)
    await chain.mine()
    await shop.observe()
    await replace_from(shop, chain, block)
    await shop.observe()
    await shop.observe()
    assert (await shop.topup(before.id)).state == S.REVERSED
    assert await shop.credits_of(payer) == 0
    after = await shop.settle(before.id)
    assert after.state == S.CREDITED
    (sent,) = await shop.sent(before.id)
    assert after.tx_hash == sent.tx_hash
    await shop.observe()
    assert await shop.credits_of(payer) == 10 * DOLLAR
    assert await suspense(shop) == 0


async def test_a_roundabout_settlement_comes_again_in_another_transaction(
    shop: Process, chain: LocalChain, payer: PermitWallet
) -> None:
    """It is a new Transfer until the settler has read what it holds; credited once."""
    signed = await payer.permit(shop.rail.pay_to)
    before, block = await _roundabout(shop, chain, signed)
    await replace_from(shop, chain, block)
    await submit_together(chain, by_proxy(signed), tail=b"again")
    for _ in range(3):
        await shop.observe()
    after = await shop.settle(before.id)
    assert (after.state, after.authority) == (S.CREDITED, PERMIT2)
    await shop.observe()
    assert await shop.credits_of(payer) == 10 * DOLLAR
    assert await suspense(shop) == 0


async def test_a_withdrawal_is_dropped_and_the_permit_is_settled_after_all(
    shop: Process, chain: LocalChain, payer: PermitWallet
) -> None:
    """Evidence wins from REJECTED."""
    signed = await payer.permit(shop.rail.pay_to)
    topup_id = await shop.claim(signed)
    await payer.invalidate(signed[0].nonce)
    head = await chain.chain.block("latest")
    assert head is not None
    assert (await shop.settle(topup_id)).state == S.REJECTED
    await replace_from(shop, chain, head.number)
    await submit_permit(chain, signed)
    await shop.observe()
    assert (await shop.topup(topup_id)).state == S.CREDITED
    assert await shop.credits_of(payer) == 10 * DOLLAR
