"""Payments to other sellers: settled once, by the relayers, and never our own money."""

import asyncio
from contextlib import ExitStack
from dataclasses import replace

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from tallystick.chain.fault import DropAfter, DropBefore, FaultProxy
from tallystick.chain.relay import settlement_call
from tallystick.kernel.db import WriteSession
from tallystick.kernel.errors import Unavailable
from tallystick.migrations import downgrade
from tallystick.payments.gas.costs import settle_gas
from tallystick.payments.merchants.claims import refusal_of
from tallystick.payments.merchants.errors import PayeeNotAllowed, TooManyForMerchant
from tallystick.payments.merchants.registry import MOST_AT_ONCE, place_for
from tallystick.payments.models.merchants import SettlementState
from tallystick.payments.models.topups import RelayedTransaction
from tallystick.payments.relaying.relayer import MOST_TRANSACTIONS
from tallystick.payments.relaying.relayer import sign as sign_at
from tallystick.payments.relaying.sending import deliver
from tallystick.payments.rules.gas import GasRules
from tallystick.x402 import reasons
from tallystick.x402.errors import PaymentRejected
from tests.house import DOLLAR, House, Wallet
from tests.payments.gas.scene import hostile_wallet
from tests.payments.merchants import (
    Shop,
    address,
    gas_of,
    look,
    require_settled_once,
    require_untouched,
    sent_for_merchants,
    settle_due,
    until_known,
)
from tests.strangers import STRANGER, pool, pool_transfer, submit

S = SettlementState


async def refusal(process: object, shop: Shop, signed: object) -> str:
    with pytest.raises(PaymentRejected) as refused:
        await shop.claim(process, signed)  # type: ignore[arg-type]  # as they are made
    return refused.value.reason


async def test_copies_in_two_processes_are_one_transaction(
    any_house: House, wallet: Wallet
) -> None:
    one, two = await any_house.start(), await any_house.start()
    shop = await Shop.opened(any_house, one)
    signed = await wallet.authorize(shop.pay_to)
    begun = await asyncio.gather(
        *(shop.claim(process, signed) for process in (one, two) * 5)
    )
    (settlement_id,) = {row.id for row in begun}
    await asyncio.gather(*(settle_due(process) for process in (one, two) * 3))
    known = await until_known(two if two.rail.may_relay else one, settlement_id)
    assert known.state == S.SETTLED
    (sent,) = await sent_for_merchants(one)
    assert known.tx_hash == sent.tx_hash
    again = await shop.claim(two, signed)
    assert (again.id, again.state, again.tx_hash) == (known.id, S.SETTLED, sent.tx_hash)
    await require_settled_once(one, shop, DOLLAR)


async def test_a_process_that_was_left_alone_at_any_step_is_succeeded(
    house: House, wallet: Wallet
) -> None:
    """Stored and nothing else; signed and sent to nobody; sent and not looked at."""
    first = await house.start()
    shop = await Shop.opened(house, first)
    claimed = await shop.claim(first, await wallet.authorize(shop.pay_to))
    second = await house.restart()
    await second.keep_keys()
    (relayer,) = second.rail.relayers
    async with second.rail.sequence(relayer).lock:
        stored = await sign_at(second.db, second.rail, relayer, claimed)
    assert stored is not None
    third = await house.restart()
    await third.tend()
    fourth = await house.restart()
    assert (await until_known(fourth, claimed.id)).state == S.SETTLED
    await require_settled_once(fourth, shop, DOLLAR)


async def test_a_lost_reply_and_a_dead_node_are_found_out(
    house: House, wallet: Wallet, proxy: FaultProxy
) -> None:
    process = await house.start(proxy.url)
    shop = await Shop.opened(house, process)
    signed = await wallet.authorize(shop.pay_to)
    claimed = await shop.claim(process, signed)
    proxy.inject("eth_sendRawTransaction", DropAfter(times=1))
    with pytest.raises(Unavailable):
        await look(process, claimed.id)
    await proxy.down()
    with pytest.raises(Unavailable):
        await look(process, claimed.id)
    with pytest.raises(Unavailable):
        await shop.claim(process, await wallet.authorize(shop.pay_to))
    assert (await shop.claim(process, signed)).state == S.SIGNED
    await proxy.up()
    assert (await until_known(process, claimed.id)).state == S.SETTLED
    await require_settled_once(process, shop, DOLLAR)


async def test_what_is_cancelled_or_drained_before_is_refused_and_stored_nowhere(
    house: House, wallet: Wallet
) -> None:
    process = await house.start()
    shop = await Shop.opened(house, process)
    signed = await wallet.authorize(shop.pay_to)
    await wallet.cancel(signed[0].nonce)
    assert await refusal(process, shop, signed) == reasons.NONCE_ALREADY_USED
    poor = await Wallet(house.local).fund(DOLLAR - 1)
    signed = await poor.authorize(shop.pay_to)
    assert await refusal(process, shop, signed) == reasons.INSUFFICIENT_FUNDS
    assert await settle_due(process) == 0
    assert await shop.income() == 0


async def test_what_is_drained_in_between_is_refused_and_may_be_asked_again(
    house: House, wallet: Wallet
) -> None:
    process = await house.start()
    shop = await Shop.opened(house, process)
    signed = await wallet.authorize(shop.pay_to, 60 * DOLLAR)
    claimed = await shop.claim(process, signed)
    await wallet.send(address(), 50 * DOLLAR)
    known = await until_known(process, claimed.id)
    assert (known.state, known.reason) == (S.REJECTED, reasons.INSUFFICIENT_FUNDS)
    assert refusal_of(known).reason == reasons.INSUFFICIENT_FUNDS
    assert await sent_for_merchants(process) == []
    assert await refusal(process, shop, signed) == reasons.INSUFFICIENT_FUNDS
    await wallet.fund()
    assert (await shop.claim(process, signed)).id == claimed.id
    assert (await until_known(process, claimed.id)).state == S.SETTLED
    await require_settled_once(process, shop, 60 * DOLLAR)


async def test_a_payer_who_drains_his_wallet_behind_our_signature_is_no_success(
    house: House, wallet: Wallet
) -> None:
    """It reverts at our cost, which counts for the merchant and for the payer."""
    process = await house.start()
    shop = await Shop.opened(house, process)
    claimed = await shop.claim(process, await wallet.authorize(shop.pay_to))
    await house.local.set_automine(on=False)
    assert (await look(process, claimed.id)).state == S.SIGNED
    await pool_transfer(house.local, wallet, 100 * DOLLAR)
    await house.local.set_automine(on=True)
    await house.local.mine()
    one = await look(process, claimed.id)
    assert one.state in {S.SIGNED, S.WATCH}
    await settle_gas(process.db, process.rail)
    gas = await gas_of(process, shop)
    assert gas.reserved == 0
    assert gas.spent > 0
    # Nobody can settle it any more once its window is closed and that is final.
    await house.local.advance(120)
    house.clock.advance(120)
    await house.local.mine(70)
    known = await until_known(process, claimed.id)
    assert (known.state, known.reason) == (S.EXPIRED, reasons.VALID_BEFORE)
    assert await shop.income() == 0


async def test_who_submits_it_first_settles_it_and_an_old_one_is_no_payment(
    house: House, wallet: Wallet
) -> None:
    process = await house.start()
    shop = await Shop.opened(house, process)
    signed = await wallet.authorize(shop.pay_to)
    claimed = await shop.claim(process, signed)
    tx_hash = await pool(house.local, STRANGER, settlement_call(*signed))
    known = await until_known(process, claimed.id)
    assert (known.state, known.tx_hash) == (S.SETTLED, tx_hash)
    assert await sent_for_merchants(process) == []
    used = await wallet.authorize(shop.pay_to)
    await submit(house.local, used)
    assert await refusal(process, shop, used) == reasons.NONCE_ALREADY_USED
    await require_untouched(process)


async def test_a_block_that_is_replaced_costs_nobody_the_payment(
    house: House, wallet: Wallet
) -> None:
    process = await house.start()
    shop = await Shop.opened(house, process)
    claimed = await shop.claim(process, await wallet.authorize(shop.pay_to))
    known = await until_known(process, claimed.id)
    assert known.block_number is not None
    await house.local.reorg(known.block_number)
    assert await shop.income() == 0
    await process.tend()
    await house.local.mine(70)
    final = await look(process, claimed.id)
    assert (final.state, final.tx_hash) == (S.FINAL, known.tx_hash)
    assert final.block_hash != known.block_hash
    assert await shop.income() == DOLLAR


async def test_the_gas_of_one_merchant_is_not_anothers(
    any_house: House, wallet: Wallet
) -> None:
    rules = GasRules(per_merchant=0)
    process = await any_house.start(gas=rules)
    thrifty = await Shop.opened(any_house, process)
    signed = await wallet.authorize(thrifty.pay_to)
    # Before a price is known the write that would reserve the gas refuses.
    process.rail.outlook.price = None
    claimed = await thrifty.claim(process, signed)
    known = await until_known(process, claimed.id)
    assert (known.state, known.reason) == (S.REJECTED, "gas_budget_of_merchant")
    await process.tend()
    assert await refusal(process, thrifty, signed) == reasons.UNEXPECTED_SETTLE_ERROR
    assert await sent_for_merchants(process) == []
    generous = await any_house.restart()
    other = await Shop.opened(any_house, generous)
    claimed = await other.claim(generous, await wallet.authorize(other.pay_to))
    assert (await until_known(generous, claimed.id)).state == S.SETTLED
    await settle_gas(generous.db, generous.rail)
    gas = await gas_of(generous, other)
    assert gas.reserved == 0
    assert 0 < gas.spent <= GasRules().per_merchant


async def test_our_own_address_and_a_strangers_are_refused(
    house: House, wallet: Wallet
) -> None:
    process = await house.start()
    shop = await Shop.opened(house, process)
    for pay_to in (house.pay_to, address()):
        signed = await wallet.authorize(pay_to)
        to_him = replace(shop, pay_to=pay_to)
        with pytest.raises(PayeeNotAllowed):
            await to_him.claim(process, signed)
    # Not even if somebody had put our address on the list.
    listed = replace(
        shop,
        pay_to=house.pay_to,
        merchant=replace(shop.merchant, payees=frozenset({house.pay_to})),
    )
    with pytest.raises(PayeeNotAllowed):
        await listed.claim(process, await wallet.authorize(house.pay_to))


async def test_who_cannot_sign_learns_nothing_and_a_nonce_is_one_payment(
    house: House, wallet: Wallet
) -> None:
    process = await house.start()
    shop = await Shop.opened(house, process)
    signed = await wallet.authorize(shop.pay_to)
    claimed = await shop.claim(process, signed)
    await until_known(process, claimed.id)
    forged = (signed[0], (await Wallet(house.local).authorize(shop.pay_to))[1])
    assert await refusal(process, shop, forged) == reasons.SIGNATURE
    other = await wallet.authorize(shop.pay_to, 2 * DOLLAR, nonce=signed[0].nonce)
    assert await refusal(process, shop, other) == reasons.INVALID_PAYLOAD


async def test_the_database_keeps_merchants_and_top_ups_apart(
    any_house: House, wallet: Wallet
) -> None:
    process = await any_house.start()
    shop = await Shop.opened(any_house, process)
    topup_id = await process.claim(await wallet.authorize(any_house.pay_to))
    claimed = await shop.claim(process, await wallet.authorize(shop.pay_to))
    await process.settle(topup_id)
    await until_known(process, claimed.id)
    (sent,) = await process.sent(topup_id)

    async def mix(session: WriteSession) -> None:
        both = update(RelayedTransaction).where(
            col(RelayedTransaction.tx_hash) == sent.tx_hash
        )
        await session.exec(both.values(merchant_settlement_id=claimed.id))

    with pytest.raises(IntegrityError):
        await process.db.write(mix)
    assert await process.credits_of(wallet) == 10 * DOLLAR


async def test_settlements_of_both_kinds_share_a_key_without_a_gap(
    house: House, wallet: Wallet, proxy: FaultProxy
) -> None:
    """One that no node has taken is sent before the next is signed, whoever it is for."""
    process = await house.start(proxy.url)
    shop = await Shop.opened(house, process)
    claimed = await shop.claim(process, await wallet.authorize(shop.pay_to))
    proxy.inject("eth_sendRawTransaction", DropBefore(times=1))
    with pytest.raises(Unavailable):
        await look(process, claimed.id)
    topup_id = await process.claim(await wallet.authorize(house.pay_to))
    await process.settle(topup_id)
    assert (await until_known(process, claimed.id)).state == S.SETTLED
    (for_us,) = await process.sent(topup_id)
    (for_him,) = await sent_for_merchants(process)
    assert for_us.evm_nonce == for_him.evm_nonce + 1
    await deliver(process.rail, for_him)
    assert await shop.income() == DOLLAR


async def test_a_hostile_wallet_wastes_no_more_than_its_payers_budget(
    house: House,
) -> None:
    """It has signed everything, as long as nobody pays for the gas."""
    process = await house.start()
    shop = await Shop.opened(house, process)
    hostile = await hostile_wallet(house.local)
    claimed = await shop.claim(process, await hostile.authorize(shop.pay_to))
    await look(process, claimed.id)
    for _ in range(5):
        await look(process, claimed.id)
        await settle_gas(process.db, process.rail)
    wasted = (await gas_of(process, shop)).spent
    assert 0 < len(await sent_for_merchants(process)) <= MOST_TRANSACTIONS
    assert wasted > 0
    thrifty = await house.restart(gas=GasRules(per_payer=wasted))
    await thrifty.tend()
    signed = await hostile.authorize(shop.pay_to)
    assert await refusal(thrifty, shop, signed) == reasons.INVALID_TRANSACTION_STATE
    assert await shop.income() == 0


async def test_no_merchant_takes_all_places(house: House, wallet: Wallet) -> None:
    process = await house.start()
    shop = await Shop.opened(house, process)
    other = await Shop.opened(house, process)
    with ExitStack() as taken:
        for _ in range(MOST_AT_ONCE):
            taken.enter_context(place_for(process.rail, shop.merchant))
        with (
            pytest.raises(TooManyForMerchant),
            place_for(process.rail, shop.merchant),
        ):
            pass
        with place_for(process.rail, other.merchant):
            pass
    with place_for(process.rail, shop.merchant):
        pass


async def test_no_step_back_forgets_what_was_signed_for_a_merchant(
    any_house: House, wallet: Wallet
) -> None:
    """And what is kept stays what it was when the tables are made anew."""
    process = await any_house.start()
    shop = await Shop.opened(any_house, process)
    claimed = await shop.claim(process, await wallet.authorize(shop.pay_to))
    topup_id = await process.claim(await wallet.authorize(any_house.pay_to))
    await process.settle(topup_id)
    before = [one.model_dump() for one in await process.sent(topup_id)]
    await until_known(process, claimed.id)
    with pytest.raises(IntegrityError):
        await downgrade(process.db, "0019")
    assert (await process.audit()).findings == []
    assert [one.model_dump() for one in await process.sent(topup_id)] == before
