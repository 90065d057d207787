"""Each way to the end, on the real chain; and what anybody may try on it."""

import asyncio

import pytest

from tallystick.chain.local import artifact
from tallystick.ledger import chart
from tallystick.payments.models.paybacks import Payback, PaybackState, PaybackWay
from tallystick.payments.models.topups import TopUp
from tallystick.payments.paybacks.errors import (
    AboveFloatCap,
    ForeignSignature,
    NoFloatKey,
    PaybackMayMove,
    PaybackNotReady,
)
from tallystick.payments.paybacks.issuing import (
    WINDOW_SECONDS,
    hand_out,
    pay_from_float_key,
    put_in_batch,
    take_signature,
)
from tallystick.payments.paybacks.naming import name_transaction
from tallystick.payments.paybacks.paying import pay_out
from tallystick.payments.paybacks.terms import safe_batch
from tallystick.payments.rail import Relayer
from tests.chain.payer import cancel_call, transfer_call
from tests.house import DOLLAR, House, Wallet
from tests.payments.paybacks.scenes import CREDIT, Shop

S = PaybackState
SPENT = 95 * DOLLAR
"""Of the wallet's hundred dollars, five have bought credits."""


async def by_browser(shop: Shop, payback: Payback) -> Payback:
    """Handed out, and signed by the seller."""
    db, rail = shop.process.db, shop.process.rail
    handed = await hand_out(db, rail, payback.id, "ann")
    return await take_signature(db, rail, handed.id, shop.signature(handed))


async def by_float(shop: Shop, payback: Payback) -> Payback:
    return await pay_from_float_key(
        shop.process.db, shop.process.rail, payback.id, "ann"
    )


async def paid_out(shop: Shop) -> None:
    """What is signed is sent, and in a block."""
    await pay_out(shop.process.db, shop.process.rail)
    await shop.local.mine()


async def batch_of(shop: Shop, *paybacks: Payback) -> list[bytes]:
    """Export them, and let the Safe's owners execute it."""
    ids = [one.id for one in paybacks]
    rail = shop.process.rail
    done = await put_in_batch(shop.process.db, rail, ids, "ann")
    return await shop.execute(safe_batch(rail.domain, rail.pay_to, done, now_ms=0))


async def test_the_float_pays_and_the_books_know_it(
    any_shop: Shop, wallet: Wallet, float_key: Relayer
) -> None:
    """The float's money had left ``pay_to`` before: it is the treasury's."""
    topup = await any_shop.bought(wallet)
    payback = await by_float(any_shop, await any_shop.propose(topup))
    assert (payback.state, payback.way) == (S.ISSUED, PaybackWay.FLOAT)
    await paid_out(any_shop)
    assert await any_shop.dollars(wallet.address) == SPENT + 5 * DOLLAR
    await any_shop.process.observe()
    assert (await any_shop.payback(payback)).state == S.ISSUED, "not final yet"
    await any_shop.finalized()
    paid = await any_shop.payback(payback)
    assert (paid.state, paid.from_address) == (S.PAID, float_key.address)
    assert await any_shop.booked(any_shop.treasury) == -5 * DOLLAR
    assert await any_shop.booked(chart.paybacks()) == 0
    await paid_out(any_shop)
    await any_shop.finalized()
    assert await any_shop.dollars(wallet.address) == SPENT + 5 * DOLLAR
    with pytest.raises(PaybackNotReady):
        await any_shop.cancel(paid)


async def test_a_signature_of_the_seller_moves_the_money_out_of_pay_to(
    any_shop: Shop, wallet: Wallet
) -> None:
    """A worker sends it; the observer books the outflow once, and the payback."""
    topup = await any_shop.bought(wallet)
    payback = await by_browser(any_shop, await any_shop.propose(topup))
    await paid_out(any_shop)
    await any_shop.finalized()
    paid = await any_shop.payback(payback)
    assert (paid.state, paid.from_address) == (S.PAID, any_shop.seller.address)
    assert await any_shop.dollars(wallet.address) == SPENT + 5 * DOLLAR
    assert await any_shop.dollars(any_shop.seller.address) == 0
    assert await any_shop.booked(any_shop.treasury) == 0, "swept out, and gone"


async def test_a_safes_batch_closes_each_payback_by_a_transfer_of_its_own(
    any_shop: Shop, wallet: Wallet
) -> None:
    """Two of them are alike, and anything else that leaves is nobody's."""
    topup = await any_shop.bought(wallet)
    await any_shop.local.send(
        any_shop.seller.address,
        any_shop.local.token,
        transfer_call(wallet.address, DOLLAR),
    )
    paybacks = [await any_shop.propose(topup, 10 * CREDIT) for _ in range(3)]
    hashes = await batch_of(any_shop, paybacks[0], paybacks[1])
    await any_shop.finalized()
    done = [await any_shop.payback(one) for one in paybacks]
    assert [one.state for one in done] == [S.PAID, S.PAID, S.APPROVED]
    assert [one.tx_hash for one in done[:2]] == hashes
    assert await any_shop.booked(any_shop.treasury) == DOLLAR


async def test_somebody_else_may_submit_what_was_signed_first(
    shop: Shop, topup: TopUp, wallet: Wallet
) -> None:
    payback = await by_browser(shop, await shop.propose(topup))
    assert payback.signature is not None
    await shop.submit(payback, payback.signature)
    await paid_out(shop)
    await shop.finalized()
    assert (await shop.payback(payback)).state == S.PAID
    assert await shop.dollars(wallet.address) == SPENT + 5 * DOLLAR


async def test_a_signature_that_was_never_handed_to_us_closes_it_too(
    shop: Shop, topup: TopUp
) -> None:
    db, rail = shop.process.db, shop.process.rail
    payback = await hand_out(db, rail, (await shop.propose(topup)).id, "ann")
    await shop.submit(payback, shop.signature(payback))
    await shop.finalized()
    assert (await shop.payback(payback)).state == S.PAID


async def test_signed_twice_with_two_windows_it_moves_once(
    shop: Shop, topup: TopUp, wallet: Wallet
) -> None:
    db, rail = shop.process.db, shop.process.rail
    first = await hand_out(db, rail, (await shop.propose(topup)).id, "ann")
    same = await hand_out(db, rail, first.id, "bob")
    assert same.valid_before == first.valid_before, "the same page again"
    before = shop.signature(first)
    await shop.local.advance(WINDOW_SECONDS[PaybackWay.BROWSER])
    second = await hand_out(db, rail, first.id, "ann")
    assert second.valid_before > first.valid_before
    assert second.nonce == first.nonce
    with pytest.raises(ForeignSignature):
        await take_signature(db, rail, first.id, before)
    signed = await take_signature(db, rail, first.id, shop.signature(second))
    assert signed.signature is not None
    await asyncio.gather(*(shop.submit(signed, signed.signature) for _ in range(2)))
    await paid_out(shop)
    await shop.finalized()
    assert await shop.dollars(wallet.address) == SPENT + 5 * DOLLAR


async def test_only_pay_to_signs_and_only_for_just_this(
    shop: Shop, topup: TopUp, wallet: Wallet
) -> None:
    db, rail = shop.process.db, shop.process.rail
    payback = await shop.propose(topup, 10 * CREDIT)
    with pytest.raises(PaybackNotReady):
        await take_signature(db, rail, payback.id, bytes(65))
    handed = await hand_out(db, rail, payback.id, "ann")
    another = await hand_out(db, rail, (await shop.propose(topup)).id, "ann")
    good = shop.signature(handed)
    for bad in (
        shop.signature(handed, wallet),
        shop.signature(another),
        good[:64],
        bytes(65),
        b"",
    ):
        with pytest.raises(ForeignSignature):
            await take_signature(db, rail, handed.id, bad)
    as_some_wallets_write_it = good[:64] + bytes((good[64] - 27,))
    kept = await take_signature(db, rail, handed.id, as_some_wallets_write_it)
    assert kept.signature == good


async def test_a_contract_at_pay_to_says_itself_what_it_signed(
    shop: Shop, topup: TopUp, wallet: Wallet
) -> None:
    """EIP-1271; its owner's key signs, and the token asks the contract as well."""
    db, rail, owner = shop.process.db, shop.process.rail, Wallet(shop.local)
    await shop.local.plant(rail.pay_to, artifact("SmartWallet"))
    word = owner.address.rjust(32, b"\0")
    await shop.local.write_storage(rail.pay_to, 0, word)
    handed = await hand_out(db, rail, (await shop.propose(topup)).id, "ann")
    with pytest.raises(ForeignSignature):
        await take_signature(db, rail, handed.id, shop.signature(handed))
    signature = shop.signature(handed, owner)
    await take_signature(db, rail, handed.id, signature)
    await paid_out(shop)
    await shop.finalized()
    assert (await shop.payback(handed)).state == S.PAID
    assert await shop.dollars(wallet.address) == SPENT + 5 * DOLLAR


async def test_the_float_pays_no_more_than_its_caps(shop: Shop, wallet: Wallet) -> None:
    topup = await shop.bought(wallet, 40 * DOLLAR)
    too_large = await shop.propose(topup, 110 * CREDIT)
    with pytest.raises(AboveFloatCap, match="one payback"):
        await by_float(shop, too_large)
    assert (await shop.payback(too_large)).state == S.APPROVED
    first = await shop.propose(topup, 100 * CREDIT)
    await by_float(shop, first)
    await by_float(shop, first)  # counted once
    with pytest.raises(AboveFloatCap, match="a day"):
        await by_float(shop, await shop.propose(topup, 51 * CREDIT))
    await by_float(shop, await shop.propose(topup, 50 * CREDIT))


async def test_without_a_key_nothing_is_paid_by_the_server(
    shop: Shop, topup: TopUp, house: House
) -> None:
    keyless = await house.start()
    payback = await shop.propose(topup)
    with pytest.raises(NoFloatKey):
        await pay_from_float_key(keyless.db, keyless.rail, payback.id, "ann")
    await pay_out(keyless.db, keyless.rail)


async def test_an_operator_names_the_transaction_of_a_batch(
    shop: Shop, topup: TopUp
) -> None:
    """Of two that are alike the second was executed first."""
    db, rail = shop.process.db, shop.process.rail
    alike = [await shop.propose(topup, 10 * CREDIT) for _ in range(2)]
    await put_in_batch(db, rail, [one.id for one in alike], "ann")
    call = transfer_call(bytes(topup.payer), DOLLAR)
    done = await shop.local.send(shop.seller.address, shop.local.token, call)
    await name_transaction(db, alike[1].id, done.tx_hash)
    await shop.finalized()
    states = [(await shop.payback(one)).state for one in alike]
    assert states == [S.ISSUED, S.PAID]


async def test_a_way_stays_the_way(shop: Shop, topup: TopUp) -> None:
    """Of two keys each has nonces of its own, so both would pay."""
    db, rail = shop.process.db, shop.process.rail
    payback = await by_float(shop, await shop.propose(topup))
    with pytest.raises(PaybackNotReady):
        await hand_out(db, rail, payback.id, "ann")
    with pytest.raises(PaybackNotReady):
        await put_in_batch(db, rail, [payback.id], "ann")


async def test_what_was_handed_out_is_cancelled_only_when_it_is_void(
    shop: Shop, topup: TopUp
) -> None:
    payback = await by_browser(shop, await shop.propose(topup))
    with pytest.raises(PaybackMayMove, match="valid until"):
        await shop.cancel(payback)
    assert payback.valid_before is not None
    await shop.local.advance(WINDOW_SECONDS[PaybackWay.BROWSER])
    with pytest.raises(PaybackMayMove):
        await shop.cancel(payback)  # over, and not by a final block
    await shop.local.mine(3)
    await paid_out(shop)
    assert (await shop.cancel(payback)).state == S.CANCELLED


async def test_what_the_seller_withdrew_on_the_chain_is_cancelled_at_once(
    shop: Shop, topup: TopUp
) -> None:
    payback = await by_browser(shop, await shop.propose(topup))
    call = cancel_call(shop.local, shop.seller.key, bytes(payback.nonce))
    await shop.local.send(b"\x5a" * 20, shop.local.token, call)
    with pytest.raises(PaybackMayMove):
        await shop.cancel(payback)
    await shop.local.mine(3)
    assert (await shop.cancel(payback)).state == S.CANCELLED


async def test_what_is_paid_and_not_closed_yet_cannot_be_cancelled(
    shop: Shop, topup: TopUp
) -> None:
    payback = await by_float(shop, await shop.propose(topup))
    await paid_out(shop)
    signed = await shop.payback(payback)
    await shop.local.advance(WINDOW_SECONDS[PaybackWay.FLOAT])
    await shop.local.mine(3)
    with pytest.raises(PaybackMayMove, match="was used"):
        await shop.cancel(signed)
    await shop.process.observe()
    assert (await shop.payback(payback)).state == S.PAID


async def test_a_batch_is_cancelled_on_the_operators_word_alone(
    shop: Shop, topup: TopUp
) -> None:
    rail = shop.process.rail
    payback = await shop.propose(topup)
    (issued,) = await put_in_batch(shop.process.db, rail, [payback.id], "ann")
    with pytest.raises(PaybackMayMove, match="handed out"):
        await shop.cancel(issued)
    done = await shop.cancel(issued, batch_is_void=True)
    assert done.state == S.CANCELLED


async def test_a_batch_that_was_executed_is_not_void_whatever_an_operator_says(
    shop: Shop, topup: TopUp
) -> None:
    payback = await shop.propose(topup)
    await batch_of(shop, payback)
    await shop.process.observe()
    with pytest.raises(PaybackMayMove, match="was seen"):
        await shop.cancel(payback, batch_is_void=True)
    await shop.finalized()
    assert (await shop.payback(payback)).state == S.PAID


async def test_an_authorization_of_the_seller_is_never_taken_for_a_batch(
    shop: Shop, topup: TopUp
) -> None:
    """Same payer, same amount: each way has its own kind of Transfer."""
    db, rail = shop.process.db, shop.process.rail
    batched = await shop.propose(topup, 10 * CREDIT)
    await put_in_batch(db, rail, [batched.id], "ann")
    signed = await by_browser(shop, await shop.propose(topup, 10 * CREDIT))
    await paid_out(shop)
    await shop.finalized()
    assert (await shop.payback(batched)).state == S.ISSUED
    assert (await shop.payback(signed)).state == S.PAID
