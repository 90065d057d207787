"""A chain that replaces its blocks takes no cent from the books, and adds none."""

import pytest

from tallystick.chain.evidence import (
    find_settlements,
    transfers_in_block,
)
from tallystick.chain.local import LocalChain
from tallystick.chain.logs import receipt
from tallystick.chain.relay import broadcast, fees, sign_transaction
from tallystick.credits import holds
from tallystick.credits.debts import collect_due
from tallystick.kernel.db import WriteSession
from tallystick.kernel.money import MicroCredits
from tallystick.payments.errors import (
    TransferNotSafe,
    UnknownTransfer,
)
from tallystick.payments.models.chain import Presence
from tallystick.payments.observing.crediting import place_of, put_in_suspense
from tallystick.payments.observing.redeeming import Redeemer, redeem
from tests.chain.payer import transfer_call
from tests.house import DOLLAR, RATE, Process, Wallet
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
from tests.strangers import submit

DEPTHS = pytest.mark.parametrize(
    ("database_url", "depth"),
    [*(("sqlite", depth) for depth in (1, 2, 3, 5, 8, 16)), ("postgres", 2)],
    indirect=["database_url"],
)


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
