"""Everything that arrives is in the books: credited to its payer, or in suspense."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from sqlmodel import col, select

from tallystick.chain.errors import RpcUnavailable
from tallystick.chain.evidence import find_settlements
from tallystick.chain.fault import Fault, FaultProxy
from tallystick.chain.faults import Answer, Forward
from tallystick.chain.local import LocalChain
from tallystick.chain.relay import broadcast
from tallystick.claims.claim import Use, claim
from tallystick.claims.models import Claim, ClaimState
from tallystick.customers.wallets import ensure_customer_of_wallet
from tallystick.kernel.db import WriteSession
from tallystick.kernel.money import MicroCredits
from tallystick.ledger import chart
from tallystick.ledger.balances import net_debits
from tallystick.payments.models.chain import ChainTransfer
from tallystick.payments.models.topups import TopUpState
from tallystick.payments.observing.same_chain import find_cursor
from tallystick.workers.upkeep import sweep
from tallystick.x402.wire import Authorization
from tests.house import DOLLAR, House, Process, Wallet
from tests.strangers import submit

S = TopUpState
Signed = tuple[Authorization, bytes]


async def claim_as(shop: Process, signed: Signed, state: ClaimState) -> int:
    """A feature call's claim on the payment, in a state; its id."""
    money = shop.present(signed).money

    async def work(session: WriteSession) -> int:
        customer_id = await ensure_customer_of_wallet(session, money.payer)
        use = Use(customer_id, "ai_analyst", MicroCredits(DOLLAR), wait_ms=0)
        made = await claim(session, money, use, state=state)
        assert made is not None
        return made.id

    return await shop.db.write(work)


async def suspense(shop: Process) -> int:
    async with shop.db.read() as session:
        account = chart.suspense(shop.rail.network, shop.rail.domain.contract)
        return -await net_debits(session, account)


async def test_a_plain_transfer_waits_in_suspense(
    any_house: House, wallet: Wallet
) -> None:
    shop = await any_house.start()
    await wallet.send(any_house.pay_to, 3 * DOLLAR)
    assert await shop.observe() == 1
    assert await suspense(shop) == 3 * DOLLAR
    assert await shop.credits_of(wallet) == 0
    report = await shop.audit()
    assert report.chain is not None
    assert report.chain.ledger_usdc == report.chain.chain_usdc == 3 * DOLLAR


async def test_transfers_of_nothing_are_not_booked(
    house: House, wallet: Wallet
) -> None:
    """Address poisoning."""
    shop = await house.start()
    await wallet.send(house.pay_to, 0)
    assert await shop.observe() == 0


async def test_what_was_there_before_the_books_is_the_opening_balance(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    await wallet.send(house.pay_to, 5 * DOLLAR)
    head = await local.chain.block("latest")
    assert head is not None
    house.start_block = head.number + 1
    shop = await house.start()
    await wallet.send(house.pay_to, DOLLAR)
    assert await shop.observe() == 1
    report = await shop.audit()
    assert report.findings == []
    assert report.chain is not None
    assert report.chain.chain_usdc == 6 * DOLLAR


async def test_new_books_begin_after_the_final_block_unless_told_otherwise(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    """Nobody could have paid into them before; and a chain is long."""
    await wallet.send(house.pay_to, 5 * DOLLAR)
    await local.mine(10)
    final = await local.chain.block("finalized")
    assert final is not None
    house.start_block = None
    shop = await house.start()
    async with shop.db.read() as session:
        cursor = await find_cursor(session, shop.rail)
    assert cursor is not None
    assert (cursor.first_block, cursor.block_number) == (final.number + 1, final.number)
    assert cursor.opening_balance == 5 * DOLLAR
    await wallet.send(house.pay_to, DOLLAR)
    assert await shop.observe() == 1
    assert (await shop.audit()).findings == []


async def test_the_books_begin_where_they_began_whatever_the_settings_say(
    house: House, wallet: Wallet
) -> None:
    shop = await house.start()
    await wallet.send(house.pay_to, DOLLAR)
    await shop.observe()
    house.start_block = (house.start_block or 0) + 1_000
    later = await house.start()
    assert (await later.audit()).findings == []


async def test_the_header_may_come_after_its_transfer_was_suspended(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await any_house.start()
    signed = await wallet.authorize(any_house.pay_to)
    await submit(local, signed)
    await shop.observe()
    assert await suspense(shop) == DOLLAR
    topup_id = await shop.claim(signed)
    assert (await shop.settle(topup_id)).state == S.CREDITED
    assert await suspense(shop) == 0
    assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_the_header_may_come_long_after_its_transfer(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    """Farther back than the settler searches, but the books have it."""
    shop = await any_house.start(lookback_blocks=2)
    signed = await wallet.authorize(any_house.pay_to, seconds=3_000)
    await submit(local, signed)
    await local.mine(20)
    await shop.observe()
    topup_id = await shop.claim(signed)
    assert (await shop.step(topup_id)).state == S.CREDITED
    assert await shop.credits_of(wallet) == 10 * DOLLAR
    assert await shop.sent(topup_id) == []


async def test_a_transfer_of_another_amount_than_was_signed_credits_nobody(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    """Its payer signed twice with one nonce; a person judges the money in suspense."""
    shop = await house.start()
    signed = await wallet.authorize(house.pay_to, DOLLAR)
    other = await wallet.authorize(house.pay_to, 3 * DOLLAR, nonce=signed[0].nonce)
    waived = await wallet.authorize(house.pay_to, DOLLAR)
    dearer = await wallet.authorize(house.pay_to, 5 * DOLLAR, nonce=waived[0].nonce)
    topup_id = await shop.claim(signed)
    await claim_as(shop, waived, ClaimState.WAIVED)
    await submit(local, other)
    await submit(local, dearer)
    assert await shop.observe() == 2
    assert await suspense(shop) == 8 * DOLLAR
    assert await shop.credits_of(wallet) == 0
    assert (await shop.settle(topup_id)).state == S.QUARANTINE
    assert len(await shop.topups()) == 1


async def test_a_waived_payment_that_another_submits_credits_its_payer(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    """We never sign it, and its money is the payer's all the same."""
    shop = await any_house.start()
    signed = await wallet.authorize(any_house.pay_to)
    claim_id = await claim_as(shop, signed, ClaimState.WAIVED)
    await submit(local, signed)
    await shop.observe()
    (topup,) = await shop.topups()
    assert (topup.claim_id, topup.state) == (claim_id, S.CREDITED)
    assert topup.signature is None
    assert await shop.credits_of(wallet) == 10 * DOLLAR
    assert await shop.sent(topup.id) == []


async def test_an_undecided_payment_that_another_submits_credits_its_payer(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    """Evidence wins from CLAIMED: its request died, and nobody presents it again."""
    shop = await house.start()
    signed = await wallet.authorize(house.pay_to)
    await claim_as(shop, signed, ClaimState.CLAIMED)
    await submit(local, signed)
    await shop.observe()
    (topup,) = await shop.topups()
    assert topup.state == S.CREDITED
    assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_a_payment_waived_in_the_moment_of_its_transfer_credits_its_payer(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    """The Transfer is suspended while the claim is not yet to be seen."""
    shop = await house.start()
    signed = await wallet.authorize(house.pay_to)
    await submit(local, signed)
    await shop.observe()
    await claim_as(shop, signed, ClaimState.WAIVED)
    assert await suspense(shop) == DOLLAR
    await shop.observe()
    assert await suspense(shop) == 0
    assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_a_captured_claim_is_kept_and_does_not_stop_the_sweeper(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    """Only claims that stayed waived are forgotten, and not before their time."""
    shop = await any_house.start()
    captured = await wallet.authorize(any_house.pay_to)
    waived = await wallet.authorize(any_house.pay_to)
    kept = await claim_as(shop, captured, ClaimState.WAIVED)
    forgotten = await claim_as(shop, waived, ClaimState.WAIVED)
    await submit(local, captured)
    await shop.observe()
    await local.advance(2 * 3600)
    await shop.observe()
    await sweep(shop.db, shop.rail)
    async with shop.db.read() as session:
        left = (await session.exec(select(Claim.id))).all()
    assert list(left) == [kept]
    assert forgotten not in left


async def test_no_waived_claim_is_forgotten_before_its_blocks_were_read(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    """The observer was down for hours: the evidence is still to come."""
    shop = await house.start()
    signed = await wallet.authorize(house.pay_to)
    await claim_as(shop, signed, ClaimState.WAIVED)
    await submit(local, signed)
    await local.advance(2 * 3600)
    await shop.rail.head()
    await sweep(shop.db, shop.rail)
    await shop.observe()
    assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_settler_and_observers_credit_one_transfer_once(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    """A07: everybody sees it at once, in two processes."""
    one, two = await any_house.start(), await any_house.start()
    ids = []
    for _ in range(4):
        payer = await Wallet(local).fund()
        signed = await payer.authorize(any_house.pay_to)
        ids.append(await one.claim(signed))
        await submit(local, signed)
    rounds = [shop.observe() for shop in (one, two)]
    looks = [shop.step(topup_id) for topup_id in ids for shop in (one, two)]
    await asyncio.gather(*rounds, *looks)
    for topup_id in ids:
        assert (await one.topup(topup_id)).state == S.CREDITED


async def test_a_range_above_finality_is_read_block_by_block_and_by_hash(
    house: House, wallet: Wallet, proxy: FaultProxy
) -> None:
    """A node that lags answers a range with silence, and a hash with no."""
    shop = await house.start(proxy.url)
    await wallet.send(house.pay_to, DOLLAR)
    proxy.inject("eth_getLogs", Lagging())
    with pytest.raises(RpcUnavailable):
        await shop.observe()
    proxy.heal()
    assert await shop.observe() == 1, "it was not passed over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lagging(Fault):
    """Knows nothing of the newest blocks, as nodes behind a balancer do."""

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        if "blockHash" in request["params"][0]:
            return {"error": {"code": -32000, "message": "unknown block"}}
        return {"result": []}


async def test_a_payment_that_moves_to_another_block_is_booked_once(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    """The ledger has nothing to say about it; only the anchor moves."""
    shop = await house.start()
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    before = await shop.settle(topup_id)
    (sent,) = await shop.sent(topup_id)
    assert before.block_number is not None
    await local.reorg(before.block_number)
    await broadcast(local.chain, sent.raw)
    await local.mine()
    (moved,) = await find_settlements(
        local.chain, before.payer, before.nonce, before.block_number
    )
    await shop.observe()
    after = await shop.topup(topup_id)
    assert (after.block_hash, after.tx_hash) == (moved.block_hash, before.tx_hash)
    assert await suspense(shop) == 0
    async with shop.db.read() as session:
        query = select(ChainTransfer.block_hash).where(
            col(ChainTransfer.topup_id) == topup_id
        )
        assert (await session.exec(query)).one() == moved.block_hash
    assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_several_payments_in_one_block_are_credited_each_to_its_payer(
    house: House, local: LocalChain
) -> None:
    shop = await house.start()
    payers = [await Wallet(local).fund() for _ in range(3)]
    signed = [
        await payer.authorize(house.pay_to, (number + 1) * DOLLAR)
        for number, payer in enumerate(payers)
    ]
    for one in signed:
        await shop.claim(one)
    await local.set_automine(on=False)
    for one in signed:
        await submit(local, one, mine=False)
    await local.mine()
    assert await shop.observe() == 3
    credited = [await shop.credits_of(payer) for payer in payers]
    assert credited == [10 * DOLLAR, 20 * DOLLAR, 30 * DOLLAR]
