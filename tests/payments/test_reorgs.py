"""A chain that replaces its blocks takes no cent from the books, and adds none."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import pytest
from sqlmodel import col, select

from tallystick.chain.evidence import (
    Settled,
    find_settlements,
    transfers_in_block,
)
from tallystick.chain.local import LocalChain
from tallystick.chain.logs import receipt
from tallystick.chain.relay import broadcast, fees, sign_transaction
from tallystick.credits import holds
from tallystick.credits.debts import collect_due, owed_by
from tallystick.customers.wallets import customer_of_wallet
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import WriteSession
from tallystick.kernel.money import MicroCredits
from tallystick.metering.charges import Usage, charge
from tallystick.payments.chain_models import ChainTransfer, Presence, RecentBlock
from tallystick.payments.confirm import confirm
from tallystick.payments.crediting import place_of, put_in_suspense
from tallystick.payments.errors import (
    BooksOfAnotherChain,
    TransferNotSafe,
    UnknownTransfer,
)
from tallystick.payments.following import (
    Overtaken,
    cursor_of,
    stay_on_chain,
)
from tallystick.payments.matching import book
from tallystick.payments.models import TopUp, TopUpState
from tallystick.payments.observer import observe
from tallystick.payments.redeeming import Redeemer, redeem
from tallystick.payments.settler import credit_topup
from tallystick.payments.topups import prune_unsent
from tests.chain.payer import transfer_call
from tests.house import DOLLAR, HOLD_SECONDS, RATE, House, Process, Wallet
from tests.payments.test_observer import suspense
from tests.strangers import pool_cancellation, submit

S = TopUpState
DEPTHS = pytest.mark.parametrize(
    ("database_url", "depth"),
    [*(("sqlite", depth) for depth in (1, 2, 3, 5, 8, 16)), ("postgres", 2)],
    indirect=["database_url"],
)
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
async def chain() -> AsyncIterator[LocalChain]:
    """Blocks are final when they are 64 behind the head."""
    async with LocalChain(slots_in_an_epoch=32) as local:
        await local.mine(70)
        yield local


@pytest.fixture
async def payer(chain: LocalChain) -> Wallet:
    return await Wallet(chain).fund()


@pytest.fixture
async def shop(
    chain: LocalChain, database_url: str, clock: OffsetClock
) -> AsyncIterator[Process]:
    """A server whose books are right when the test is over."""
    house = House(chain, database_url, 1, clock)
    process = await house.start()
    yield process
    assert (await process.audit()).findings == []
    await house.stop()


async def pay(shop: Process, payer: Wallet) -> TopUp:
    """A dollar for ten credits."""
    signed = await payer.authorize(shop.rail.pay_to)
    topup = await shop.settle(await shop.claim(signed))
    assert topup.state == S.CREDITED
    await shop.observe()
    return topup


async def replace_from(shop: Process, chain: LocalChain, block: int | None) -> None:
    """Every block from this one on is another by now, and holds nothing."""
    assert block is not None
    await chain.reorg(block)


async def spend(shop: Process, payer: Wallet, amount: int) -> None:
    async with shop.db.read() as session:
        customer_id = await customer_of_wallet(session, payer.address)
    assert customer_id is not None
    usage = Usage(customer_id, "echo", 1_000_000, MicroCredits(amount), "v1")
    await shop.db.write(lambda session: charge(session, usage, idempotency_key=None))


async def owed(shop: Process, payer: Wallet) -> int:
    async with shop.db.read() as session:
        customer_id = await customer_of_wallet(session, payer.address)
        return await owed_by(session, customer_id or 0)


async def presence(shop: Process) -> list[str]:
    query = select(ChainTransfer.presence).order_by(col(ChainTransfer.id))
    async with shop.db.read() as session:
        return list((await session.exec(query)).all())


async def looked_at(shop: Process, topup_id: int) -> tuple[TopUp, Settled]:
    """The top-up and its settlement, as the settler sees them before it writes."""
    topup = await shop.topup(topup_id)
    (found,) = await find_settlements(shop.rail.chain, topup.payer, topup.nonce, 1)
    return topup, found


async def send_again(shop: Process, chain: LocalChain, topup: TopUp) -> None:
    (sent,) = await shop.sent(topup.id)
    await broadcast(chain.chain, sent.raw)
    await chain.mine()


@DEPTHS
async def test_a_payment_that_a_reorganisation_drops_is_taken_back_and_paid_again(
    shop: Process, chain: LocalChain, payer: Wallet, depth: int
) -> None:
    before = await pay(shop, payer)
    await chain.mine(depth - 1)
    await shop.observe()
    await replace_from(shop, chain, before.block_number)
    await shop.observe()
    await shop.observe()
    taken = await shop.topup(before.id)
    assert (taken.state, taken.generation, taken.tx_hash) == (S.REVERSED, 2, None)
    assert await shop.credits_of(payer) == 0
    assert await presence(shop) == [Presence.GONE]
    assert (await shop.audit()).findings == []

    assert (await shop.step(before.id)).state == S.WATCH
    again = await shop.until(before.id, S.CREDITED)
    assert again.generation == 2
    assert len(await shop.sent(before.id)) == 1, "the same bytes, sent once more"
    assert await shop.credits_of(payer) == 10 * DOLLAR
    await shop.observe()
    assert sorted(await presence(shop)) == [Presence.BOOKED, Presence.GONE]


@DEPTHS
async def test_a_payment_that_moves_to_another_block_only_moves(
    shop: Process, chain: LocalChain, payer: Wallet, depth: int
) -> None:
    before = await pay(shop, payer)
    await payer.send(shop.rail.pay_to, 3 * DOLLAR)
    await chain.mine(depth)
    await shop.observe()
    await replace_from(shop, chain, before.block_number)
    await send_again(shop, chain, before)
    await shop.observe()
    (moved,) = await find_settlements(chain.chain, before.payer, before.nonce, 1)
    after = await shop.topup(before.id)
    assert (after.state, after.generation) == (S.CREDITED, 1)
    assert (after.block_hash, after.tx_hash) == (moved.block_hash, before.tx_hash)
    assert await shop.credits_of(payer) == 10 * DOLLAR
    assert await suspense(shop) == 0, "the plain Transfer is gone with its block"


async def test_a_plain_transfer_that_moves_and_then_goes_is_taken_back(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    """Its booking is found by its row, whichever block it was in at the time."""
    await chain.give_gas(payer.address)
    call = transfer_call(shop.rail.pay_to, 2 * DOLLAR)
    price = await fees(chain.chain)
    sent = sign_transaction(chain.chain, payer.key, 0, call, gas=100_000, fees=price)
    before = await shop.rail.head()
    for _ in range(2):
        await broadcast(chain.chain, sent.raw)
        await chain.mine(2)
        await shop.observe()
        assert await suspense(shop) == 2 * DOLLAR
        await replace_from(shop, chain, before.number + 1)
    await shop.observe()
    assert await suspense(shop) == 0
    assert await presence(shop) == [Presence.GONE]


async def test_what_was_spent_of_it_is_owed_and_collected_when_it_arrives_after_all(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    before = await pay(shop, payer)
    await spend(shop, payer, 4 * DOLLAR)
    await replace_from(shop, chain, before.block_number)
    await shop.observe()
    assert await shop.credits_of(payer) == 0
    assert await owed(shop, payer) == 4 * DOLLAR
    assert (await shop.audit()).findings == []
    await shop.until(before.id, S.CREDITED)
    assert await shop.credits_of(payer) == 6 * DOLLAR
    assert await owed(shop, payer) == 0


async def test_what_he_buys_meanwhile_is_his(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    before = await pay(shop, payer)
    await spend(shop, payer, 4 * DOLLAR)
    await replace_from(shop, chain, before.block_number)
    await shop.observe()
    signed = await payer.authorize(shop.rail.pay_to)
    await submit(chain, signed)
    assert (await shop.settle(await shop.claim(signed))).state == S.CREDITED
    await shop.db.write(collect_due)
    assert await shop.credits_of(payer) == 10 * DOLLAR
    assert await owed(shop, payer) == 4 * DOLLAR


async def test_held_credits_that_come_back_go_towards_the_debt(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    before = await pay(shop, payer)

    async def hold(session: WriteSession) -> int:
        placed = await holds.place(
            session,
            before.customer_id,
            "echo",
            MicroCredits(3 * DOLLAR),
            lifetime_seconds=60,
        )
        assert placed is not None
        return placed.id

    hold_id = await shop.db.write(hold)
    await replace_from(shop, chain, before.block_number)
    await shop.observe()
    assert await owed(shop, payer) == 3 * DOLLAR
    assert await shop.credits_of(payer) == 0
    await shop.db.write(lambda session: holds.release(session, hold_id))
    assert await shop.db.write(collect_due) == 3 * DOLLAR
    assert await shop.db.write(collect_due) == 0
    assert (await owed(shop, payer), await shop.credits_of(payer)) == (0, 0)


async def test_suspended_money_that_vanishes_is_suspended_no_more(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    await payer.send(shop.rail.pay_to, 3 * DOLLAR)
    head = await shop.rail.head()
    await shop.observe()
    assert await suspense(shop) == 3 * DOLLAR
    await replace_from(shop, chain, head.number)
    await shop.observe()
    assert await suspense(shop) == 0


async def test_a_block_that_comes_back_is_booked_again(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    """The chain left it for another branch, and then that branch for this one."""
    await payer.send(shop.rail.pay_to, 3 * DOLLAR)
    head = await shop.rail.head()
    (seen,) = await transfers_in_block(chain.chain, head.hash, pay_to=shop.rail.pay_to)
    await shop.observe()
    await replace_from(shop, chain, head.number)
    await shop.observe()
    place = place_of(shop.rail)
    for is_booked in (True, False):
        done = await shop.db.write(
            lambda session: put_in_suspense(session, place, seen)
        )
        assert done == is_booked
    assert await suspense(shop) == 3 * DOLLAR
    assert await presence(shop) == [Presence.BOOKED]
    # That was a simulation: this chain does not have it, so it is taken back again.
    await chain.reorg(head.number)
    await shop.observe()
    assert await suspense(shop) == 0


async def test_money_that_was_suspended_and_credited_is_taken_back_from_both(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    signed = await payer.authorize(shop.rail.pay_to)
    await submit(chain, signed)
    head = await shop.rail.head()
    await shop.observe()
    assert await suspense(shop) == DOLLAR
    topup_id = await shop.claim(signed)
    await shop.settle(topup_id)
    assert await shop.credits_of(payer) == 10 * DOLLAR
    await replace_from(shop, chain, head.number)
    await shop.observe()
    assert (await suspense(shop), await shop.credits_of(payer)) == (0, 0)
    assert (await shop.until(topup_id, S.CREDITED)).generation == 2, "we settle it"
    assert await shop.credits_of(payer) == 10 * DOLLAR


async def test_what_was_redeemed_of_it_is_taken_back_and_redeemed_again(
    shop: Process, chain: LocalChain, payer: Wallet
) -> None:
    """Its block was safe: then it is rare, and not less true."""
    await chain.give_gas(payer.address)
    call = transfer_call(shop.rail.pay_to, 3 * DOLLAR)
    price = await fees(chain.chain)
    sent = sign_transaction(chain.chain, payer.key, 0, call, gas=100_000, fees=price)
    who = Redeemer(None, stranger=payer.address)

    async def arrive() -> int:
        await broadcast(chain.chain, sent.raw)
        await chain.mine()
        await shop.observe()
        mined = await receipt(chain.chain, sent.hash)
        assert mined is not None
        return mined.block_number

    number = await arrive()
    with pytest.raises(TransferNotSafe):
        await redeem(shop.db, shop.rail, RATE, who, sent.hash)
    shop.rail.outlook.safe_number = number + 10
    await redeem(shop.db, shop.rail, RATE, who, sent.hash)
    assert await shop.credits_of(payer) == 30 * DOLLAR
    await spend(shop, payer, DOLLAR)
    await replace_from(shop, chain, number)
    with pytest.raises(TransferNotSafe):  # the observer has not noticed it yet
        await redeem(shop.db, shop.rail, RATE, who, sent.hash)
    await shop.observe()
    assert (await owed(shop, payer), await shop.credits_of(payer)) == (DOLLAR, 0)
    assert await suspense(shop) == 0
    with pytest.raises(UnknownTransfer):
        await redeem(shop.db, shop.rail, RATE, who, sent.hash)
    await arrive()
    done = await redeem(shop.db, shop.rail, RATE, who, sent.hash)
    assert not done.replayed
    assert (await owed(shop, payer), await shop.credits_of(payer)) == (0, 29 * DOLLAR)


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
