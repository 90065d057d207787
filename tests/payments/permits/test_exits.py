"""A permit in quarantine comes to an end once its payer has redeemed what it moved."""

import pytest
from sqlalchemy import update
from sqlmodel import col

from tallystick.chain.local import LocalChain
from tallystick.kernel.db import WriteSession
from tallystick.payments.errors import PaymentEnded
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.observing.redeeming import Redeemer, redeem
from tallystick.payments.purchase import require_paid
from tallystick.payments.review import look_again
from tests.house import DOLLAR, RATE, House, Process
from tests.payments.test_observer import suspense
from tests.permits import (
    PermitWallet,
    by_proxy,
    submit_permit,
    submit_together,
)

S = TopUpState
REDEEMED = "redeemed_by_transaction"


async def make_safe(shop: Process, local: LocalChain) -> None:
    await local.mine(3)
    await shop.observe()
    shop.rail.outlook.safe_number = 2**31


async def redeem_of(shop: Process, payer: PermitWallet, tx_hash: bytes) -> int:
    who = Redeemer(None, payer.address)
    return (await redeem(shop.db, shop.rail, RATE, who, tx_hash)).credits


async def test_a_redeemed_roundabout_permit_in_quarantine_is_released_to_its_end(
    any_shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    """As versions before have left it: its release brought it back each time."""
    signed = await payer.permit(any_shop.rail.pay_to)
    topup_id = await any_shop.claim(signed)
    tx_hash = await submit_together(local, by_proxy(signed))
    await make_safe(any_shop, local)
    await redeem_of(any_shop, payer, tx_hash)

    async def as_before(session: WriteSession) -> None:
        values = {"state": S.QUARANTINE, "reason": "unclear_evidence"}
        mine = col(TopUp.id) == topup_id
        await session.exec(update(TopUp).where(mine).values(**values, in_flight=False))

    await any_shop.db.write(as_before)
    queued = await any_shop.claim(await payer.permit(any_shop.rail.pay_to))
    await any_shop.db.write(lambda session: look_again(session, topup_id))
    topup = await any_shop.settle(topup_id)
    assert (topup.state, topup.reason) == (S.CANCELED, REDEEMED)
    with pytest.raises(PaymentEnded, match="redeemed by its transaction"):
        require_paid(topup)
    assert (await any_shop.settle(queued)).state == S.CREDITED
    assert await any_shop.credits_of(payer) == 20 * DOLLAR


async def test_two_permits_that_nobody_can_tell_apart_end_when_both_are_redeemed(
    any_shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    """Without an operator: their payer proves his wallet, and it is all his."""
    both = [await payer.permit(any_shop.rail.pay_to) for _ in range(2)]
    topups = [await any_shop.claim(signed) for signed in both]
    tx_hash = await submit_together(local, *(by_proxy(signed) for signed in both))
    await make_safe(any_shop, local)
    for topup_id in topups:
        await any_shop.until(topup_id, S.QUARANTINE)
    assert await redeem_of(any_shop, payer, tx_hash) == 20 * DOLLAR
    for topup_id in topups:
        topup = await any_shop.settle(topup_id)
        assert (topup.state, topup.reason) == (S.CANCELED, REDEEMED)
    assert await any_shop.credits_of(payer) == 20 * DOLLAR
    assert await suspense(any_shop) == 0


async def test_a_permit_whose_nonce_moved_another_amount_ends_when_that_is_redeemed(
    any_shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    signed = await payer.permit(any_shop.rail.pay_to)
    nonce = int.from_bytes(signed[0].nonce, "big")
    other = await payer.permit(any_shop.rail.pay_to, 3 * DOLLAR, nonce=nonce)
    topup_id = await any_shop.claim(signed)
    tx_hash = await submit_permit(local, other)
    await make_safe(any_shop, local)
    topup = await any_shop.settle(topup_id)
    assert (topup.state, topup.reason) == (S.QUARANTINE, "unclear_evidence")
    assert await redeem_of(any_shop, payer, tx_hash) == 30 * DOLLAR
    topup = await any_shop.settle(topup_id)
    assert (topup.state, topup.reason) == (S.CANCELED, REDEEMED)
    assert await any_shop.credits_of(payer) == 30 * DOLLAR


async def test_what_is_left_and_may_be_its_own_keeps_it_in_quarantine(
    house: House, shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    """One of two transactions is redeemed; the other may be the permit's."""
    ours = await payer.permit(shop.rail.pay_to)
    pair = [await payer.permit(shop.rail.pay_to) for _ in range(2)]
    topup_id = await shop.claim(ours)
    first = await submit_together(local, by_proxy(ours), by_proxy(pair[0]))
    await submit_together(local, by_proxy(pair[1]))
    await make_safe(shop, local)
    await shop.until(topup_id, S.QUARANTINE)
    await redeem_of(shop, payer, first)
    topup = await shop.settle(topup_id)
    assert (topup.state, topup.reason) == (S.QUARANTINE, "unclear_evidence")
    assert await shop.credits_of(payer) == 20 * DOLLAR
    assert house.is_sound
