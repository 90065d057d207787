"""Whoever looks, credits or observes while blocks are replaced credits once or not at all."""

import asyncio
from dataclasses import replace
from functools import partial

import pytest
from sqlmodel import select

from tallystick.chain.evidence import (
    Settled,
    find_settlements,
    transfers_in_block,
)
from tallystick.chain.local import LocalChain
from tallystick.payments.errors import (
    BooksOfAnotherChain,
)
from tallystick.payments.models.chain import Presence, RecentBlock
from tallystick.payments.models.topups import TopUp
from tallystick.payments.observer import observe
from tallystick.payments.observing.confirm import confirm
from tallystick.payments.observing.following import (
    Overtaken,
    cursor_of,
    stay_on_chain,
)
from tallystick.payments.observing.matching import book
from tallystick.payments.settler import credit_topup
from tallystick.payments.topups import prune_unsent
from tests.house import DOLLAR, HOLD_SECONDS, RATE, Process, Wallet
from tests.payments.reorgs.scene import (
    S,
    owed,
    pay,
    presence,
    replace_from,
    send_again,
    spend,
)
from tests.payments.test_observer import suspense
from tests.strangers import pool_cancellation, submit

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def looked_at(shop: Process, topup_id: int) -> tuple[TopUp, Settled]:
    """The top-up and its settlement, as the settler sees them before it writes."""
    topup = await shop.topup(topup_id)
    (found,) = await find_settlements(shop.rail.chain, topup.payer, topup.nonce, 1)
    return topup, found


@ON_SQLITE
async def test_what_the_settler_saw_before_and_credits_after_is_taken_back(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    """No look meets that block again, so each look compares what was booked."""
    await shop.observe()
    signed = await payer.authorize(shop.rail.pay_to)
    topup_id = await shop.claim(signed)
    await submit(chain, signed)
    topup, settled = await looked_at(shop, topup_id)
    await replace_from(shop, chain, settled.block_number)
    await shop.observe()
    await credit_topup(shop.db, shop.rail, topup, settled, hold_seconds=HOLD_SECONDS)
    assert await shop.credits_of(payer) == 10 * DOLLAR
    for _ in range(2):
        await shop.observe()
    assert (await shop.topup(topup_id)).state == S.REVERSED
    assert await shop.credits_of(payer) == 0


@ON_SQLITE
async def test_who_looked_before_it_was_taken_back_credits_nothing_after(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    """Its first grant's key is used up: the credits would be gone for good."""
    signed = await payer.authorize(shop.rail.pay_to)
    topup_id = await shop.claim(signed)
    await submit(chain, signed)
    stale, settled = await looked_at(shop, topup_id)
    await shop.settle(topup_id)
    await shop.observe()
    await replace_from(shop, chain, settled.block_number)
    await shop.observe()
    assert (await shop.step(topup_id)).state == S.WATCH
    await submit(chain, signed)
    _, again = await looked_at(shop, topup_id)
    await credit_topup(shop.db, shop.rail, stale, again, hold_seconds=HOLD_SECONDS)
    assert (await shop.topup(topup_id)).state == S.WATCH
    assert (await shop.settle(topup_id)).generation == 2
    assert await shop.credits_of(payer) == 10 * DOLLAR


@ON_SQLITE
async def test_nothing_is_credited_whose_block_is_being_replaced(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    signed = await payer.authorize(shop.rail.pay_to)
    await submit(chain, signed)
    await shop.observe()
    topup_id = await shop.claim(signed)
    topup, settled = await looked_at(shop, topup_id)
    await replace_from(shop, chain, settled.block_number)
    cursor = await cursor_of(shop.db, shop.rail)
    await stay_on_chain(shop.db, shop.rail, cursor, await shop.rail.head())
    assert await presence(shop) == [Presence.MISSING]
    await credit_topup(shop.db, shop.rail, topup, settled, hold_seconds=HOLD_SECONDS)
    assert (await shop.topup(topup_id)).state == S.CLAIMED
    await shop.observe()
    assert (await suspense(shop), await shop.credits_of(payer)) == (0, 0)


@ON_SQLITE
async def test_another_chain_of_the_same_height_takes_nothing_back(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    """A node behind our URL is another one now: it is no reorganisation."""
    before = await pay(shop, payer)
    await chain.mine(200)
    await shop.observe()
    for _ in range(2):
        await confirm(shop.db, shop.rail)
    cursor = await cursor_of(shop.db, shop.rail)
    async with LocalChain(slots_in_an_epoch=32) as other:
        head = await other.chain.block("latest")
        assert head is not None
        await other.mine(cursor.block_number - head.number)
        moved = replace(shop.rail, chain=other.open_chain())
        with pytest.raises(BooksOfAnotherChain):
            await observe(shop.db, moved, RATE, hold_seconds=HOLD_SECONDS)
        with pytest.raises(BooksOfAnotherChain):  # should another node answer just then
            await stay_on_chain(shop.db, moved, cursor, await moved.head())
        await moved.chain.close()
    shop.rail.outlook.is_another_chain = False
    assert (await shop.topup(before.id)).state == S.FINAL
    assert await presence(shop) == [Presence.BOOKED]


@ON_SQLITE
async def test_what_was_credited_once_is_not_forgotten_as_what_came_to_nothing(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    """Its Transfer names it, though that is gone."""
    signed = await payer.authorize(shop.rail.pay_to)
    topup_id = await shop.claim(signed)
    await submit(chain, signed)
    before = await shop.settle(topup_id)
    await shop.observe()
    await replace_from(shop, chain, before.block_number)
    await shop.observe()
    await payer.send(b"\x0e" * 20, 99 * DOLLAR + 1)  # so that nobody can settle it
    await shop.step(topup_id)
    await chain.advance(200)
    await chain.mine(70)
    assert (await shop.settle(topup_id)).state == S.EXPIRED
    forget = partial(prune_unsent, before_seconds=2**40)
    assert await shop.db.write(forget) == 0


@ON_SQLITE
async def test_what_the_settler_credits_in_a_block_that_nobody_reads_any_more(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    """The observer had not come so far when the block was replaced."""
    await shop.observe()
    signed = await payer.authorize(shop.rail.pay_to)
    topup = await shop.settle(await shop.claim(signed))
    await replace_from(shop, chain, topup.block_number)
    await shop.observe()
    assert (await shop.topup(topup.id)).state == S.REVERSED
    assert await shop.credits_of(payer) == 0


@ON_SQLITE
async def test_it_may_be_in_an_earlier_block_of_the_new_branch(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    await shop.observe()
    await chain.mine(3)
    signed = await payer.authorize(shop.rail.pay_to)
    topup = await shop.settle(await shop.claim(signed))
    assert topup.block_number is not None
    await chain.reorg(topup.block_number - 2)
    head = await chain.chain.block("latest")
    assert head is not None
    await send_again(shop, chain, topup)
    await shop.observe()
    after = await shop.topup(topup.id)
    assert (after.state, after.generation) == (S.CREDITED, 1)
    assert after.block_hash != topup.block_hash
    assert await suspense(shop) == 0


@ON_SQLITE
async def test_a_strangers_transaction_in_the_new_branch_moves_the_same_money(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    signed = await payer.authorize(shop.rail.pay_to)
    before = await shop.settle(await shop.claim(signed))
    await shop.observe()
    await replace_from(shop, chain, before.block_number)
    await submit(chain, signed)
    await shop.observe()
    after = await shop.topup(before.id)
    assert (after.state, after.generation) == (S.CREDITED, 1)
    assert after.tx_hash != before.tx_hash
    assert await shop.credits_of(payer) == 10 * DOLLAR


@ON_SQLITE
async def test_a_payment_that_its_payer_cancels_in_the_new_branch_stays_owed(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    before = await pay(shop, payer)
    await spend(shop, payer, DOLLAR)
    await replace_from(shop, chain, before.block_number)
    await pool_cancellation(chain, payer, before.nonce)
    await chain.mine()
    await shop.observe()
    assert (await shop.step(before.id)).state == S.WATCH
    await chain.mine(70)
    assert (await shop.settle(before.id)).state == S.CANCELED
    assert (await owed(shop, payer), await shop.credits_of(payer)) == (DOLLAR, 0)


@ON_SQLITE
async def test_a_node_that_lags_behind_takes_nothing_back(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    before = await pay(shop, payer)
    await chain.mine(5)
    await shop.observe()
    assert before.block_number is not None
    late = await chain.chain.block(before.block_number - 3)
    assert late is not None
    cursor = await cursor_of(shop.db, shop.rail)
    assert await stay_on_chain(shop.db, shop.rail, cursor, late) == cursor
    assert await presence(shop) == [Presence.BOOKED]


@ON_SQLITE
async def test_an_observer_that_read_a_branch_which_was_left_books_nothing_of_it(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    await shop.observe()
    stale = await cursor_of(shop.db, shop.rail)
    await payer.send(shop.rail.pay_to, 3 * DOLLAR)
    head = await shop.rail.head()
    (seen,) = await transfers_in_block(chain.chain, head.hash, pay_to=shop.rail.pay_to)
    await replace_from(shop, chain, head.number)
    await shop.observe()
    with pytest.raises(Overtaken):
        await book(
            shop.db, shop.rail, RATE, seen, hold_seconds=HOLD_SECONDS, after=stale
        )
    assert await suspense(shop) == 0


async def test_two_observers_take_back_once(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    before = await pay(shop, payer)
    await spend(shop, payer, 4 * DOLLAR)
    for _ in range(3):
        await payer.send(shop.rail.pay_to, DOLLAR)
    await shop.observe()
    await replace_from(shop, chain, before.block_number)
    await asyncio.gather(*(shop.observe() for _ in range(4)))
    assert await owed(shop, payer) == 4 * DOLLAR
    assert await suspense(shop) == 0
    assert (await shop.audit()).findings == []


@ON_SQLITE
async def test_only_blocks_that_may_be_replaced_are_remembered(
    shop: Process, chain: LocalChain
) -> None:
    await shop.observe()
    await chain.mine(80)
    await shop.observe()
    await chain.mine()
    await shop.observe()
    async with shop.db.read() as session:
        kept = (await session.exec(select(RecentBlock.number))).all()
    head = await shop.rail.head()
    assert max(kept) == head.number
    assert min(kept) >= head.number - 65
