"""Nobody's Transfer is credited twice, or to the wrong payment, whoever submits (A30)."""

import asyncio

import pytest
from sqlmodel import col, select

from tallystick.chain.local import LocalChain
from tallystick.chain.permit2 import PERMIT2
from tallystick.kernel.db import WriteSession, query
from tallystick.payments.errors import TransferNotSafe, UnknownTransfer
from tallystick.payments.models.chain import ChainTransfer
from tallystick.payments.models.topups import TopUpState
from tallystick.payments.observing.matching import seen_on_chain
from tallystick.payments.observing.redeeming import Redeemed, Redeemer, redeem
from tallystick.payments.observing.redeeming import _redeem as _redeem_one
from tallystick.payments.observing.unclaimed import Finder, as_seen, block_of
from tallystick.payments.review import look_again, under_review
from tallystick.payments.topups import read_topup
from tallystick.payments.witness import Heard
from tests.house import DOLLAR, RATE, House, Process
from tests.payments.test_observer import suspense
from tests.permits import (
    PermitWallet,
    by_proxy,
    submit_permit,
    submit_together,
)
from tests.strangers import STRANGER

S = TopUpState


async def test_a_roundabout_settlement_is_credited_once(
    any_shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    """By way of another contract: its calldata holds all that was signed."""
    topup_id, tx_hash = await _roundabout(any_shop, payer, local)
    assert (await any_shop.topup(topup_id)).state == S.CLAIMED
    assert await suspense(any_shop) == DOLLAR
    topup = await any_shop.settle(topup_id)
    assert (topup.state, topup.tx_hash) == (S.CREDITED, tx_hash)
    assert await suspense(any_shop) == 0
    await any_shop.observe()
    assert await any_shop.credits_of(payer) == 10 * DOLLAR


async def test_a_roundabout_settlement_that_the_settler_sees_first(
    shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    signed = await payer.permit(shop.rail.pay_to)
    topup_id = await shop.claim(signed)
    await submit_together(local, by_proxy(signed))
    assert (await shop.settle(topup_id)).state == S.CREDITED
    await shop.observe()
    assert await suspense(shop) == 0
    assert await shop.credits_of(payer) == 10 * DOLLAR


async def test_what_was_credited_in_a_roundabout_way_is_not_redeemed_as_well(
    any_shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    topup_id, tx_hash = await _roundabout(any_shop, payer, local)
    await any_shop.settle(topup_id)
    await _make_safe(any_shop, local)
    with pytest.raises(UnknownTransfer):
        await _redeem(any_shop, payer, tx_hash)
    assert await any_shop.credits_of(payer) == 10 * DOLLAR


async def test_what_was_redeemed_is_not_credited_as_well(
    any_shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    topup_id, tx_hash = await _roundabout(any_shop, payer, local)
    await _make_safe(any_shop, local)
    assert (await _redeem(any_shop, payer, tx_hash)).credits == 10 * DOLLAR
    topup = await any_shop.settle(topup_id)
    assert (topup.state, topup.reason) == (S.CANCELED, "redeemed_by_transaction")
    assert await any_shop.credits_of(payer) == 10 * DOLLAR


async def test_a_redemption_and_the_settler_at_once_credit_once(
    any_shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    topup_id, tx_hash = await _roundabout(any_shop, payer, local)
    await _make_safe(any_shop, local)
    redeeming = (_redeem(any_shop, payer, tx_hash) for _ in range(3))
    looking = (any_shop.step(topup_id) for _ in range(3))
    done = await asyncio.gather(*redeeming, *looking, return_exceptions=True)
    unexpected = [
        one
        for one in done
        if isinstance(one, BaseException) and not isinstance(one, UnknownTransfer)
    ]
    assert unexpected == []
    assert await any_shop.credits_of(payer) == 10 * DOLLAR
    assert await suspense(any_shop) == 0


async def test_a_redemption_that_is_being_written_keeps_the_settler_out(
    any_house: House, any_shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    """Each asks for the other once the row is its own, whatever it saw before."""
    signed = await payer.permit(any_shop.rail.pay_to)
    topup_id = await any_shop.claim(signed)
    await submit_together(local, by_proxy(signed))
    await any_shop.observe()
    await _make_safe(any_shop, local)
    settler = await any_house.start(relayers=())
    is_written, may_commit = asyncio.Event(), asyncio.Event()

    async def redeem_slowly(session: WriteSession) -> None:
        (row,) = (await session.exec(select(ChainTransfer))).all()
        block = await block_of(any_shop.rail, row)
        assert block is not None
        topup = await read_topup(session, topup_id)
        finder = Finder(topup.customer_id, RATE)
        heard = Heard(as_seen(row, block))
        await _redeem_one(session, any_shop.rail, finder, row, heard)
        is_written.set()
        await may_commit.wait()

    redeeming = asyncio.create_task(any_shop.db.write(redeem_slowly))
    await is_written.wait()
    looking = asyncio.create_task(settler.step(topup_id))
    await asyncio.sleep(0.5)
    may_commit.set()
    await asyncio.gather(redeeming, looking)
    assert (await any_shop.topup(topup_id)).state != S.CREDITED
    assert await any_shop.credits_of(payer) == 10 * DOLLAR


async def _roundabout(
    shop: Process, payer: PermitWallet, local: LocalChain
) -> tuple[int, bytes]:
    """The top-up of a permit that another contract has the proxy settle; its hash."""
    signed = await payer.permit(shop.rail.pay_to)
    topup_id = await shop.claim(signed)
    tx_hash = await submit_together(local, by_proxy(signed))
    await shop.observe()
    return topup_id, tx_hash


async def _make_safe(shop: Process, local: LocalChain) -> None:
    await local.mine(3)
    await shop.observe()
    shop.rail.outlook.safe_number = 2**31


async def _redeem(shop: Process, payer: PermitWallet, tx_hash: bytes) -> Redeemed:
    who = Redeemer(None, payer.address)
    return await redeem(shop.db, shop.rail, RATE, who, tx_hash)


async def test_two_equal_permits_in_one_block_are_credited_each_to_its_own(
    any_shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    first, second = [await payer.permit(any_shop.rail.pay_to) for _ in range(2)]
    one, other = [await any_shop.claim(signed) for signed in (first, second)]
    await local.set_automine(on=False)
    by_second = await local.submit(STRANGER, *by_proxy(second))
    by_first = await local.submit(STRANGER, *by_proxy(first))
    await local.mine()
    await local.set_automine(on=True)
    await any_shop.observe()
    assert (await any_shop.settle(one)).tx_hash == by_first
    assert (await any_shop.settle(other)).tx_hash == by_second
    assert await any_shop.credits_of(payer) == 20 * DOLLAR


async def test_two_equal_permits_in_one_roundabout_transaction_are_for_a_person(
    any_shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    """Which is which nobody can tell, so their money stays where it is seen."""
    both = [await payer.permit(any_shop.rail.pay_to) for _ in range(2)]
    topups = [await any_shop.claim(signed) for signed in both]
    await submit_together(local, *(by_proxy(signed) for signed in both))
    await any_shop.observe()
    for topup_id in topups:
        topup = await any_shop.until(topup_id, S.QUARANTINE)
        assert topup.reason == "unclear_evidence"
    assert await any_shop.credits_of(payer) == 0
    assert await suspense(any_shop) == 2 * DOLLAR
    async with any_shop.db.read() as session:
        reviewed = await under_review(session)
    assert ["redeem" in one.remedy for one in reviewed] == [True, True]


async def test_calldata_alone_credits_nothing(
    shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    """Another permit's settlement names ours in its calldata; ours is withdrawn."""
    ours, another = [await payer.permit(shop.rail.pay_to) for _ in range(2)]
    topup_id = await shop.claim(ours)
    # What follows the call is read by nobody on the chain.
    tail = by_proxy(ours)[1]
    await submit_together(local, by_proxy(another), tail=tail)
    assert (await shop.step(topup_id)).state == S.SIGNED
    topup = await shop.settle(topup_id)
    assert topup.state == S.CREDITED
    (sent,) = await shop.sent(topup_id)
    assert topup.tx_hash == sent.tx_hash
    await shop.observe()
    assert await shop.credits_of(payer) == 10 * DOLLAR
    assert await suspense(shop) == DOLLAR


async def test_a_plain_transfer_of_the_same_amount_is_no_evidence(
    shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    signed = await payer.permit(shop.rail.pay_to)
    topup_id = await shop.claim(signed)
    await payer.send(shop.rail.pay_to, DOLLAR)
    await payer.invalidate(signed[0].nonce)
    topup = await shop.settle(topup_id)
    assert topup.state == S.REJECTED
    await shop.observe()
    assert await suspense(shop) == DOLLAR
    assert await shop.credits_of(payer) == 0


async def test_a_permit_that_was_settled_before_it_is_presented_is_credited(
    any_shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    """Its header comes after its Transfer: nobody pays twice."""
    signed = await payer.permit(any_shop.rail.pay_to)
    await submit_permit(local, signed)
    await any_shop.observe()
    assert await suspense(any_shop) == DOLLAR
    async with any_shop.db.read() as session:
        assert await seen_on_chain(session, PERMIT2, payer.address, signed[0].nonce)
        usdc = any_shop.rail.domain.contract
        assert not await seen_on_chain(session, usdc, payer.address, signed[0].nonce)
    topup_id = await any_shop.claim(signed)
    assert (await any_shop.settle(topup_id)).state == S.CREDITED
    assert await any_shop.credits_of(payer) == 10 * DOLLAR
    assert await suspense(any_shop) == 0


async def test_a_permit_that_nobody_presents_is_redeemed_by_its_payer(
    any_shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    """As after a restore from an older backup."""
    signed = await payer.permit(any_shop.rail.pay_to)
    tx_hash = await submit_permit(local, signed)
    await any_shop.observe()
    await _make_safe(any_shop, local)
    assert (await _redeem(any_shop, payer, tx_hash)).credits == 10 * DOLLAR
    assert (await _redeem(any_shop, payer, tx_hash)).replayed
    topup_id = await any_shop.claim(signed)
    assert (await any_shop.topup(topup_id)).authority == PERMIT2
    assert await any_shop.credits_of(payer) == 10 * DOLLAR


async def test_a_customers_permit_that_nobody_presents_is_credited_when_it_is_final(
    shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    await shop.settle(await shop.claim(await payer.permit(shop.rail.pay_to)))
    await submit_permit(local, await payer.permit(shop.rail.pay_to))
    await shop.observe()
    assert await shop.credits_of(payer) == 10 * DOLLAR
    await local.mine(4)
    await shop.observe()
    await shop.observe()
    assert await shop.credits_of(payer) == 20 * DOLLAR


async def test_a_payment_goes_on_when_permits_are_not_offered_any_more(
    house: House, shop: Process, payer: PermitWallet
) -> None:
    topup_id = await shop.claim(await payer.permit(house.pay_to))
    later = await house.restart()
    assert not later.rail.takes_permit2
    assert (await later.settle(topup_id)).state == S.CREDITED
    assert await later.credits_of(payer) == 10 * DOLLAR


async def test_an_operator_can_have_a_quarantined_permit_looked_at_again(
    shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    both = [await payer.permit(shop.rail.pay_to) for _ in range(2)]
    topup_id = await shop.claim(both[0])
    tx_hash = await submit_together(local, *(by_proxy(signed) for signed in both))
    await shop.observe()
    await shop.until(topup_id, S.QUARANTINE)
    await shop.db.write(lambda session: look_again(session, topup_id))
    await shop.until(topup_id, S.QUARANTINE)
    with pytest.raises(TransferNotSafe):
        await _redeem(shop, payer, tx_hash)
    await _make_safe(shop, local)
    assert (await _redeem(shop, payer, tx_hash)).credits == 20 * DOLLAR


async def test_the_books_say_whose_nonce_it_was(
    any_shop: Process, payer: PermitWallet
) -> None:
    signed = await payer.permit(any_shop.rail.pay_to)
    await any_shop.settle(await any_shop.claim(signed))
    own = await payer.authorize(any_shop.rail.pay_to)
    await any_shop.settle(await any_shop.claim(own))
    rows = select(ChainTransfer).order_by(col(ChainTransfer.id))
    async with any_shop.db.read() as session:
        found = (await session.exec(rows)).all()
        assert await query(session, "SELECT 1 FROM topup") != []
    assert [one.authority for one in found] == [PERMIT2, None]
    assert [one.nonce for one in found] == [signed[0].nonce, own[0].nonce]
