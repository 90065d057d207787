"""What is in quarantine goes on when an operator says so, and by evidence only."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlmodel import col, select

from tallystick.chain.fault import Rewrite
from tallystick.chain.local import LocalChain
from tallystick.kernel.clock import OffsetClock
from tallystick.payments.errors import PaymentEnded
from tallystick.payments.models.chain import ChainTransfer
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.observing.redeeming import Redeemer, redeem
from tallystick.payments.review import NotUnderReview, close, look_again, under_review
from tallystick.workers.upkeep import sweep
from tallystick.x402.wire import Authorization
from tests.house import DOLLAR, RATE, House, Process, Wallet
from tests.payments.test_witness import (
    LARGE,
    Scene,
    scene_on,
    without_logs,
)
from tests.strangers import submit

S = TopUpState


@pytest.fixture
async def scene(database_url: str, clock: OffsetClock) -> AsyncIterator[Scene]:
    async with LocalChain() as chain:
        await chain.mine(8)
        async with scene_on(chain, database_url, clock) as made:
            yield made


async def release(shop: Process, topup_id: int) -> None:
    await shop.db.write(lambda session: look_again(session, topup_id))


async def test_a_payment_is_credited_once_its_witness_is_mended(scene: Scene) -> None:
    scene.witness.inject("eth_chainId", Rewrite(change=lambda _: "0x1"))
    payer = await scene.payer()
    topup = await scene.pay(payer)
    assert topup.state == S.QUARANTINE
    await release(scene.shop, topup.id)
    await scene.shop.until(topup.id, S.QUARANTINE)
    assert await scene.shop.credits_of(payer) == 0, "it still contradicts"

    scene.witness.heal()
    copies = [release(scene.shop, topup.id) for _ in range(5)]
    outcomes = await asyncio.gather(*copies, return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, NotUnderReview)]
    assert len(refused) == 4
    await scene.shop.until(topup.id, S.CREDITED)
    assert await scene.shop.credits_of(payer) == LARGE * 10 * DOLLAR


async def another_amount(
    shop: Process, wallet: Wallet, local: LocalChain
) -> tuple[tuple[Authorization, bytes], int]:
    """A payment of one dollar whose nonce has moved three; its top-up, in quarantine."""
    pay_to = shop.rail.pay_to
    signed = await wallet.authorize(pay_to, DOLLAR)
    other = await wallet.authorize(pay_to, 3 * DOLLAR, nonce=signed[0].nonce)
    topup_id = await shop.claim(signed)
    await submit(local, other)
    await shop.observe()
    assert (await shop.settle(topup_id)).state == S.QUARANTINE
    return signed, topup_id


async def test_another_amount_than_was_signed_is_never_credited_by_hand(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await any_house.start()
    _, topup_id = await another_amount(shop, wallet, local)
    async with shop.db.read() as session:
        (one,) = await under_review(session)
    assert (one.topup.id, [seen.value for seen in one.arrived]) == (
        topup_id,
        [3 * DOLLAR],
    )
    assert "suspense" in one.remedy

    await release(shop, topup_id)
    assert (await shop.settle(topup_id)).state == S.QUARANTINE
    assert await shop.credits_of(wallet) == 0


async def test_nobody_is_asked_to_pay_again_for_what_was_closed(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    """A stock client signs a second payment for each 402, and the first money is here."""
    shop = await any_house.start()
    signed, topup_id = await another_amount(shop, wallet, local)
    await shop.db.write(lambda session: close(session, topup_id))
    with pytest.raises(PaymentEnded, match="closed by the operator") as ended:
        await shop.claim(signed)
    assert (ended.value.status, "transactionId" in ended.value.next_step) == (409, True)


async def test_what_nobody_presented_and_was_closed_is_its_payers_to_redeem_once(
    scene: Scene,
) -> None:
    """Neither the next look nor the next sweep undoes what the operator did."""
    payer = await scene.payer()
    assert (await scene.pay(payer, 1)).state == S.CREDITED
    scene.witness.inject("eth_getTransactionReceipt", Rewrite(change=without_logs))
    signed = await payer.authorize(scene.house.pay_to, LARGE * DOLLAR)
    await submit(scene.chain, signed)
    await scene.finalize()
    await scene.shop.observe()
    (found,) = await _never_presented(scene.shop)
    assert found.state == S.QUARANTINE
    await scene.shop.db.write(lambda session: close(session, found.id))
    scene.witness.heal()
    for _ in range(2):
        await sweep(scene.shop.db, scene.shop.rail)
        await scene.shop.observe()
        await scene.finalize()
    assert [one.id for one in await _never_presented(scene.shop)] == [found.id]

    who = Redeemer(found.customer_id)
    db, rail = scene.shop.db, scene.shop.rail
    async with db.read() as session:
        waiting = select(ChainTransfer.tx_hash).where(
            col(ChainTransfer.topup_id).is_(None)
        )
        tx_hash = bytes((await session.exec(waiting)).one())
    once = await redeem(db, rail, RATE, who, tx_hash)
    assert (once.usdc, once.replayed) == (LARGE * DOLLAR, False)
    assert (await redeem(db, rail, RATE, who, tx_hash)).replayed
    with pytest.raises(PaymentEnded):
        await scene.shop.claim(signed)
    assert await scene.shop.credits_of(payer) == (LARGE + 1) * 10 * DOLLAR


async def _never_presented(shop: Process) -> list[TopUp]:
    return [one for one in await shop.topups() if not one.valid_before]


async def test_what_is_not_in_quarantine_cannot_be_released(
    house: House, wallet: Wallet
) -> None:
    shop = await house.start()
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    with pytest.raises(NotUnderReview):
        await release(shop, topup_id)
    assert (await shop.settle(topup_id)).state == S.CREDITED
    with pytest.raises(NotUnderReview):
        await release(shop, topup_id)
    assert (await shop.topup(topup_id)).state == S.CREDITED
