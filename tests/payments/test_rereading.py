"""What a node kept back is booked once it is shown, by itself or by a command."""

import asyncio
from typing import Any

import pytest

from tallystick.chain import abi
from tallystick.chain.fault import FaultProxy, Rewrite
from tallystick.chain.hexadecimal import to_hex
from tallystick.chain.local import LocalChain
from tallystick.payments.models.topups import TopUpState
from tallystick.payments.observing.confirm import confirm
from tallystick.payments.observing.rereading import reread
from tallystick.payments.rail import Compared
from tallystick.workers.reconciling import compare, compare_and_mend
from tests.chain.payer import transfer_call
from tests.house import DOLLAR, HOLD_SECONDS, RATE, House, Process, Wallet
from tests.payments.test_observer import suspense
from tests.payments.test_retold import lie, telling
from tests.strangers import submit

S = TopUpState
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def keep_back(proxy: FaultProxy) -> None:
    proxy.inject("eth_getLogs", telling(lambda _: None))


async def look(shop: Process) -> Compared:
    """What the worker does each minute."""
    return await compare_and_mend(shop.db, shop.rail, RATE, hold_seconds=HOLD_SECONDS)


async def finalize(shop: Process, local: LocalChain) -> None:
    await local.mine(3)
    await shop.observe()
    await confirm(shop.db, shop.rail)


async def test_a_transfer_that_was_kept_back_is_booked_once_it_is_shown(
    any_house: House, wallet: Wallet, proxy: FaultProxy, local: LocalChain
) -> None:
    """Several processes compare at the same minute."""
    shop = await any_house.start(proxy.url)
    keep_back(proxy)
    await wallet.send(any_house.pay_to, 3 * DOLLAR)
    await finalize(shop, local)
    assert (await look(shop)).findings != ()
    assert await suspense(shop) == 0
    proxy.heal()
    other = await any_house.start(proxy.url, relayers=())
    done = await asyncio.gather(*(look(one) for one in (shop, other) for _ in range(2)))
    assert [one.findings for one in done] == [()] * 4
    assert await suspense(shop) == 3 * DOLLAR
    await look(shop)
    assert await suspense(shop) == 3 * DOLLAR


async def test_a_payment_that_was_kept_back_is_credited_although_it_had_expired(
    any_house: House, wallet: Wallet, proxy: FaultProxy, local: LocalChain
) -> None:
    """Its node had also denied that its nonce is used, so its payer was refused."""
    shop = await any_house.start(proxy.url)
    signed = await wallet.authorize(any_house.pay_to)
    topup_id = await shop.claim(signed)
    keep_back(proxy)
    proxy.inject("eth_call", Rewrite(change=lambda _: "0x" + "00" * 32))
    await submit(local, signed)
    await local.advance(120)
    any_house.clock.advance(120)
    await local.mine(80)
    assert (await shop.settle(topup_id)).state in (S.EXPIRED, S.REJECTED)
    await shop.observe()
    proxy.heal()
    await confirm(shop.db, shop.rail)
    assert (await look(shop)).findings == ()
    assert (await shop.topup(topup_id)).state == S.CREDITED
    assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_another_node_shows_what_the_first_keeps_back_for_good(
    any_house: House, wallet: Wallet, proxy: FaultProxy, local: LocalChain
) -> None:
    shop = await any_house.start(proxy.url, local.url)
    keep_back(proxy)
    await wallet.send(any_house.pay_to, 2 * DOLLAR)
    await finalize(shop, local)
    assert await suspense(shop) == 0
    await look(shop)
    assert await suspense(shop) == 2 * DOLLAR


async def test_a_sweep_that_was_kept_back_is_booked(
    any_house: House, wallet: Wallet, proxy: FaultProxy, local: LocalChain
) -> None:
    seller = await Wallet(local).fund(0)
    any_house.pay_to = seller.address
    shop = await any_house.start(proxy.url)
    await wallet.send(seller.address, 5 * DOLLAR)
    await finalize(shop, local)
    keep_back(proxy)
    call = transfer_call(b"\x0e" * 20, 4 * DOLLAR)
    await local.send(seller.address, local.token, call)
    await finalize(shop, local)
    proxy.heal()
    assert (await look(shop)).findings == ()
    assert (await look(shop)).ledger_usdc == DOLLAR


@SQLITE
async def test_what_the_balance_does_not_bear_out_is_not_booked(
    any_house: House, wallet: Wallet, proxy: FaultProxy, local: LocalChain
) -> None:
    """A node makes a Transfer of two dollars up, in a block that is read already."""
    shop = await any_house.start(proxy.url)
    await wallet.send(any_house.pay_to, DOLLAR)
    await wallet.send(any_house.pay_to, DOLLAR)
    await finalize(shop, local)

    def doubled(result: Any) -> Any:
        logs = result["logs"] if isinstance(result, dict) and "logs" in result else None
        if logs:
            more = [
                {**one, "logIndex": hex(int(one["logIndex"], 16) + 7)} for one in logs
            ]
            return {**result, "logs": [*logs, *more]}
        if isinstance(result, list):
            more = [
                {**one, "logIndex": hex(int(one["logIndex"], 16) + 7)} for one in result
            ]
            return [*result, *more]
        return result

    for method in ("eth_getLogs", "eth_getTransactionReceipt"):
        proxy.inject(method, Rewrite(change=doubled))
    assert (await look(shop)).findings != ()
    assert await suspense(shop) == 2 * DOLLAR
    proxy.heal()
    assert (await look(shop)).findings == ()


async def test_what_was_booked_with_another_amount_is_put_right(
    any_house: House, wallet: Wallet, proxy: FaultProxy, local: LocalChain
) -> None:
    """Nobody has redeemed it yet, so nobody loses it."""
    shop = await any_house.start(proxy.url)
    await wallet.send(any_house.pay_to, 3 * DOLLAR)
    lie(proxy, lambda log: {**log, "data": to_hex(abi.word(9 * DOLLAR))})
    await finalize(shop, local)
    assert await suspense(shop) == 9 * DOLLAR
    proxy.heal()
    assert (await look(shop)).findings == ()
    assert await suspense(shop) == 3 * DOLLAR


async def test_a_payment_that_was_told_at_another_place_is_moved_there(
    any_house: House, wallet: Wallet, proxy: FaultProxy, local: LocalChain
) -> None:
    """The pair is right, and stands elsewhere in its block; its credits stay."""
    shop = await any_house.start(proxy.url)
    signed = await wallet.authorize(any_house.pay_to)
    topup_id = await shop.claim(signed)
    lie(proxy, lambda log: {**log, "logIndex": hex(int(log["logIndex"], 16) + 5)})
    told = await shop.settle(topup_id)
    assert told.state == S.CREDITED
    await finalize(shop, local)
    proxy.heal()
    assert (await look(shop)).findings == ()
    moved = await shop.topup(topup_id)
    assert told.log_index is not None
    assert moved.log_index == told.log_index - 5
    assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_reading_everything_again_books_nothing_twice(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await any_house.start()
    await shop.settle(await shop.claim(await wallet.authorize(any_house.pay_to)))
    await wallet.send(any_house.pay_to, DOLLAR)
    await wallet.send(any_house.pay_to, 1)  # dust
    await finalize(shop, local)
    await compare(shop.db, shop.rail)
    final = await local.chain.block("finalized")
    assert final is not None
    assert any_house.start_block is not None
    done = await reread(
        shop.db,
        shop.rail,
        RATE,
        any_house.start_block,
        final.number,
        hold_seconds=HOLD_SECONDS,
    )
    assert (done.came_in, done.went_out) == (0, 0)
    assert await shop.credits_of(wallet) == 10 * DOLLAR
    assert await suspense(shop) == DOLLAR + 1
