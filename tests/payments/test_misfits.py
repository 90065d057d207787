"""A nonce that moved other money than was presented: its payer redeems it, once."""

import asyncio

import pytest

from tallystick.chain.local import LocalChain
from tallystick.claims.models import ClaimState
from tallystick.payments.errors import (
    PayerNotLinked,
    PaymentUnderReview,
    UnknownTransfer,
)
from tallystick.payments.models.topups import TopUpState
from tallystick.payments.observing.confirm import confirm
from tallystick.payments.observing.redeeming import Redeemed, Redeemer, redeem
from tallystick.payments.purchase import require_paid
from tallystick.payments.review import close, look_again, under_review
from tallystick.payments.topups import prune_unsent
from tests.house import DOLLAR, RATE, House, Process, Wallet
from tests.payments.test_observer import claim_as, suspense
from tests.payments.test_witness import transactions
from tests.strangers import submit

S = TopUpState
REDEEMED = "redeemed_by_transaction"


async def finalize(shop: Process, local: LocalChain) -> None:
    await local.mine(3)
    await confirm(shop.db, shop.rail)
    await shop.observe()


async def redeem_of(shop: Process, wallet: Wallet, tx: bytes) -> Redeemed:
    return await redeem(shop.db, shop.rail, RATE, Redeemer(None, wallet.address), tx)


async def misfit(house: House, shop: Process, wallet: Wallet) -> int:
    """The top-up of a dollar, whose nonce somebody has captured for three."""
    signed = await wallet.authorize(house.pay_to, DOLLAR)
    other = await wallet.authorize(house.pay_to, 3 * DOLLAR, nonce=signed[0].nonce)
    topup_id = await shop.claim(signed)
    await submit(house.local, other)
    await shop.observe()
    return topup_id


async def test_another_amount_is_redeemed_by_its_payer_and_ends_the_top_up(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await any_house.start()
    topup_id = await misfit(any_house, shop, wallet)
    topup = await shop.settle(topup_id)
    assert topup.state == S.QUARANTINE
    with pytest.raises(PaymentUnderReview) as told:
        require_paid(topup)
    assert "transactionId" in (told.value.next_step or "")
    async with shop.db.read() as session:
        (one,) = await under_review(session)
    assert "redeem" in one.remedy
    await finalize(shop, local)
    (tx,) = await transactions(shop)
    with pytest.raises(PayerNotLinked):
        await redeem_of(shop, Wallet(local), tx)
    done = await redeem_of(shop, wallet, tx)
    assert (done.usdc, done.credits, done.replayed) == (3 * DOLLAR, 30 * DOLLAR, False)
    assert (await redeem_of(shop, wallet, tx)).replayed
    topup = await shop.settle(topup_id)
    assert (topup.state, topup.reason) == (S.CANCELED, REDEEMED)
    assert await shop.credits_of(wallet) == 30 * DOLLAR
    assert await suspense(shop) == 0


async def test_whoever_looks_while_it_is_redeemed_credits_it_once(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await any_house.start()
    topup_id = await misfit(any_house, shop, wallet)
    await finalize(shop, local)
    (tx,) = await transactions(shop)
    await asyncio.gather(
        *(redeem_of(shop, wallet, tx) for _ in range(3)),
        *(shop.step(topup_id) for _ in range(3)),
        *(shop.observe() for _ in range(2)),
    )
    await shop.until(topup_id, S.CANCELED)
    assert await shop.credits_of(wallet) == 30 * DOLLAR
    assert await suspense(shop) == 0


async def test_another_amount_than_was_waived_is_redeemed(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    """Of a waived payment there is a claim and no top-up."""
    shop = await any_house.start()
    signed = await wallet.authorize(any_house.pay_to)
    other = await wallet.authorize(any_house.pay_to, 2 * DOLLAR, nonce=signed[0].nonce)
    await claim_as(shop, signed, ClaimState.WAIVED)
    await submit(local, other)
    await shop.observe()
    await finalize(shop, local)
    (tx,) = await transactions(shop)
    assert (await redeem_of(shop, wallet, tx)).credits == 20 * DOLLAR
    await shop.observe()
    assert await shop.credits_of(wallet) == 20 * DOLLAR


async def test_what_went_to_an_earlier_address_of_ours_is_redeemed(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    """The same amount and nonce, signed for the address that was offered before."""
    before = any_house.pay_to
    await any_house.start()
    any_house.pay_to = b"\x0d" * 20
    shop = await any_house.start(relayers=())
    newer = await any_house.restart()
    signed = await wallet.authorize(any_house.pay_to)
    other = await wallet.authorize(before, nonce=signed[0].nonce)
    topup_id = await newer.claim(signed)
    await submit(local, other)
    await finalize(shop, local)
    assert (await newer.settle(topup_id)).state in (S.REJECTED, S.CANCELED)
    (tx,) = await transactions(shop)
    assert (await redeem_of(shop, wallet, tx)).credits == 10 * DOLLAR
    await shop.observe()
    assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_what_arrives_for_a_top_up_that_was_closed_is_its_payers_to_redeem(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    """An operator has closed it by mistake."""
    shop = await any_house.start()
    signed = await wallet.authorize(any_house.pay_to)
    topup_id = await shop.claim(signed)
    other = await wallet.authorize(any_house.pay_to, 3 * DOLLAR, nonce=signed[0].nonce)
    await submit(local, other)
    await shop.settle(topup_id)
    await shop.db.write(lambda session: close(session, topup_id))
    await finalize(shop, local)
    (tx,) = await transactions(shop)
    assert (await redeem_of(shop, wallet, tx)).credits == 30 * DOLLAR
    assert (await shop.topup(topup_id)).state == S.CANCELED


async def test_what_was_redeemed_stays_so_when_its_top_up_is_forgotten(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    """Then no claim is left on its nonce, and its header may come once more."""
    shop = await any_house.start()
    topup_id = await misfit(any_house, shop, wallet)
    await finalize(shop, local)
    (tx,) = await transactions(shop)
    await redeem_of(shop, wallet, tx)
    await shop.until(topup_id, S.CANCELED)
    forgotten = await shop.db.write(
        lambda session: prune_unsent(session, before_seconds=2**40)
    )
    assert forgotten == 1
    await shop.observe()
    assert await shop.topups() == []
    assert (await redeem_of(shop, wallet, tx)).replayed
    assert await shop.credits_of(wallet) == 30 * DOLLAR


async def test_a_payment_that_fits_is_not_redeemed_but_its_top_ups(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await any_house.start()
    signed = await wallet.authorize(any_house.pay_to)
    topup_id = await shop.claim(signed)
    await submit(local, signed)
    await finalize(shop, local)
    (tx,) = await transactions(shop)
    with pytest.raises(UnknownTransfer):
        await redeem_of(shop, wallet, tx)
    assert (await shop.topup(topup_id)).state == S.CREDITED


async def test_released_before_it_is_redeemed_it_comes_back(
    any_house: House, wallet: Wallet
) -> None:
    shop = await any_house.start()
    topup_id = await misfit(any_house, shop, wallet)
    assert (await shop.settle(topup_id)).state == S.QUARANTINE
    await shop.db.write(lambda session: look_again(session, topup_id))
    assert (await shop.settle(topup_id)).state == S.QUARANTINE
    assert await shop.credits_of(wallet) == 0
