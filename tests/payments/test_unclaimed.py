"""What was paid and never presented to these books is its payer's, once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from tallystick.chain.local import LocalChain
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.errors import Conflict, NotFound
from tallystick.payments.errors import (
    PayerNotLinked,
    TransferNotSafe,
    UnknownTransfer,
)
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.observing.confirm import confirm
from tallystick.payments.observing.redeeming import Redeemed, Redeemer, redeem
from tallystick.payments.relaying.leases import release_leases
from tallystick.payments.relaying.nonces import register_relayers
from tallystick.x402.wire import Authorization
from tests.house import DOLLAR, PAID, RATE, House, Process, Wallet
from tests.payments.test_observer import suspense
from tests.payments.test_witness import transactions
from tests.strangers import submit

S = TopUpState
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
Signed = tuple[Authorization, bytes]


async def known(shop: Process, wallet: Wallet) -> None:
    """Make its customer: with a dollar for ten credits."""
    topup_id = await shop.claim(await wallet.authorize(shop.rail.pay_to))
    assert (await shop.settle(topup_id)).state == S.CREDITED
    await shop.observe()


async def forgotten(shop: Process, wallet: Wallet, dollars: int = 2) -> Signed:
    """A payment on the chain of which the books know no claim."""
    signed = await wallet.authorize(shop.rail.pay_to, dollars * DOLLAR)
    await submit(wallet.local, signed)
    return signed


async def finalize(shop: Process, local: LocalChain, blocks: int = 3) -> None:
    await local.mine(blocks)
    await confirm(shop.db, shop.rail)
    await shop.observe()


async def redeem_of(shop: Process, wallet: Wallet, tx: bytes) -> Redeemed:
    who = Redeemer(None, wallet.address)
    return await redeem(shop.db, shop.rail, RATE, who, tx)


async def never_presented(shop: Process) -> TopUp:
    (found,) = [one for one in await shop.topups() if not one.valid_before]
    return found


async def test_once_it_is_final_it_is_credited_to_its_payers_customer(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await any_house.start()
    await known(shop, wallet)
    await forgotten(shop, wallet)
    await shop.observe()
    assert await shop.credits_of(wallet) == 10 * DOLLAR, "not before it is final"
    assert await suspense(shop) == 2 * DOLLAR
    await finalize(shop, local)
    topup = await never_presented(shop)
    assert (topup.state, topup.credits, topup.bonus) == (S.CREDITED, 20 * DOLLAR, 0)
    assert await shop.credits_of(wallet) == 30 * DOLLAR
    assert await suspense(shop) == 0
    await finalize(shop, local)
    assert await shop.credits_of(wallet) == 30 * DOLLAR
    await confirm(shop.db, shop.rail)
    assert (await shop.topup(topup.id)).state == S.FINAL
    assert (await shop.audit()).findings == []


async def test_a_wallet_without_a_customer_redeems_it(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await any_house.start()
    await forgotten(shop, wallet)
    await shop.observe()
    (tx,) = await transactions(shop)
    shop.rail.outlook.safe_number = -1
    with pytest.raises(TransferNotSafe):
        await redeem_of(shop, wallet, tx)
    await finalize(shop, local)
    assert await suspense(shop) == 2 * DOLLAR, "no customer is made without a proof"
    with pytest.raises(PayerNotLinked):
        await redeem_of(shop, Wallet(local), tx)
    done = await redeem_of(shop, wallet, tx)
    assert (done.usdc, done.credits, done.replayed) == (2 * DOLLAR, 20 * DOLLAR, False)
    who = Redeemer(done.customer_id)
    again = await redeem(shop.db, shop.rail, RATE, who, tx)
    assert (again.credits, again.replayed) == (20 * DOLLAR, True)
    await finalize(shop, local)
    assert await shop.credits_of(wallet) == 20 * DOLLAR
    assert await suspense(shop) == 0
    assert (await shop.audit()).findings == []


async def test_its_header_brings_what_was_quoted_and_afterwards_nothing_more(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await any_house.start()
    await known(shop, wallet)
    signed = await forgotten(shop, wallet)
    await shop.observe()
    topup = await shop.settle(await shop.claim(signed))
    assert topup.state == S.CREDITED
    (_, tx) = await transactions(shop)
    await finalize(shop, local)
    with pytest.raises(UnknownTransfer):
        await redeem(shop.db, shop.rail, RATE, Redeemer(topup.customer_id), bytes(tx))
    assert await shop.claim(signed) == topup.id
    assert await shop.credits_of(wallet) == 30 * DOLLAR


async def test_a_header_that_comes_after_the_credit_names_its_top_up(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await any_house.start()
    await known(shop, wallet)
    signed = await forgotten(shop, wallet)
    await finalize(shop, local)
    topup = await never_presented(shop)
    assert await shop.claim(signed) == topup.id
    assert await shop.credits_of(wallet) == 30 * DOLLAR


@ON_SQLITE
async def test_a_header_of_another_value_is_not_this_payment(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await any_house.start()
    await known(shop, wallet)
    signed = await forgotten(shop, wallet)
    await finalize(shop, local)
    other = await wallet.authorize(any_house.pay_to, DOLLAR, nonce=signed[0].nonce)
    with pytest.raises(Conflict):
        await shop.claim(other)


@pytest.mark.parametrize("round_", range(3))
async def test_it_is_one_credit_whoever_is_first(
    any_house: House, wallet: Wallet, local: LocalChain, round_: int
) -> None:
    """Two processes observe, the header comes twice and is redeemed twice, all at once."""
    shops = [await any_house.start() for _ in range(2)]
    shop = shops[round_ % 2]
    for one in shops:
        await release_leases(one.db, one.rail)
    await register_relayers(shop.db, shop.rail)
    await known(shop, wallet)
    signed = await forgotten(shop, wallet)
    await shop.observe()
    await local.mine(3)
    for one in shops:
        await confirm(one.db, one.rail)
    tx = (await transactions(shop))[-1]
    customer = (await shop.topups())[0].customer_id

    async def ask(work: Awaitable[Any]) -> object:
        try:
            return await work
        except (Conflict, NotFound) as error:
            return error.code

    work = [
        *(one.observe() for one in shops for _ in range(2)),
        *(one.claim(signed) for one in shops),
        *(redeem(one.db, one.rail, RATE, Redeemer(customer), tx) for one in shops),
    ]
    await asyncio.gather(*(ask(one) for one in work))
    for one in shops:
        for topup in await one.topups():
            await one.step(topup.id)
        await one.observe()
    assert await shop.credits_of(wallet) == 30 * DOLLAR
    assert await suspense(shop) == 0
    assert len(await shop.topups()) == 2
    assert {one.state for one in await shop.topups()} <= set(PAID)
    assert (await shop.audit()).findings == []


@pytest.fixture
async def deep() -> AsyncIterator[LocalChain]:
    """Blocks are safe when they are 4 behind the head, and final when they are 8."""
    async with LocalChain(slots_in_an_epoch=4) as local:
        await local.mine(20)
        yield local


async def test_what_was_redeemed_and_replaced_is_taken_back_and_credited_again(
    deep: LocalChain, database_url: str, clock: OffsetClock
) -> None:
    house = House(deep, database_url, 1, clock)
    shop = await house.start()
    wallet = await Wallet(deep).fund()
    signed = await forgotten(shop, wallet)
    await finalize(shop, deep, 5)
    (tx,) = await transactions(shop)
    await redeem_of(shop, wallet, tx)
    topup = await never_presented(shop)
    assert topup.block_number is not None
    await deep.reorg(topup.block_number)
    await shop.observe()
    taken = await shop.topup(topup.id)
    assert (taken.state, taken.generation) == (S.REVERSED, 2)
    assert await shop.credits_of(wallet) == 0
    await submit(deep, signed)
    await shop.observe()
    assert (await shop.until(topup.id, S.CREDITED)).generation == 2
    assert await shop.credits_of(wallet) == 20 * DOLLAR
    await finalize(shop, deep, 9)
    assert await shop.credits_of(wallet) == 20 * DOLLAR
    assert await suspense(shop) == 0
    assert (await shop.audit()).findings == []
    await house.stop()
