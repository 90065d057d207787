"""One authorization's way, with everything that can happen to it in between."""

from dataclasses import dataclass
from typing import Any

import pytest

from tallystick.chain.fault import ErrorAnswer, Fault, FaultProxy
from tallystick.chain.faults import Answer, Forward
from tallystick.chain.local import LocalChain
from tallystick.kernel.db import query
from tallystick.payments.machine import Act, Decision
from tallystick.payments.models.topups import TopUpState
from tallystick.payments.settler import _move
from tallystick.workers.upkeep import sweep
from tallystick.x402 import reasons
from tallystick.x402.errors import PaymentRejected
from tallystick.x402.wire import Authorization
from tests.house import DOLLAR, House, Process, Wallet
from tests.strangers import (
    has_reverted,
    pool_cancellation,
    pool_transfer,
    submit,
)

S = TopUpState
ELSEWHERE = b"\x77" * 20
Claimed = tuple[tuple[Authorization, bytes], int]
"""What a wallet signed, and the top-up that it became."""


async def test_a_payment_is_claimed_signed_sent_and_credited(
    any_house: House, wallet: Wallet
) -> None:
    shop = await any_house.start()
    topup_id = await shop.claim(await wallet.authorize(any_house.pay_to))
    assert (await shop.topup(topup_id)).state == S.CLAIMED
    assert (await shop.step(topup_id)).state == S.SIGNED
    topup = await shop.settle(topup_id)
    assert topup.state == S.CREDITED
    assert await shop.credits_of(wallet) == 10 * DOLLAR
    (sent,) = await shop.sent(topup_id)
    assert topup.tx_hash == sent.tx_hash


async def test_copies_of_a_payment_are_one_top_up(house: House, wallet: Wallet) -> None:
    shop = await house.start()
    signed = await wallet.authorize(house.pay_to)
    first = await shop.claim(signed)
    assert await shop.claim(signed) == first
    await shop.settle(first)
    assert await shop.claim(signed) == first
    assert await shop.credits_of(wallet) == 10 * DOLLAR
    assert len(await shop.sent(first)) == 1


async def claim_and_drain(shop: Process, wallet: Wallet, pay_to: bytes) -> Claimed:
    """A claimed payment whose payer has spent his money elsewhere since."""
    await wallet.fund(DOLLAR)
    signed = await wallet.authorize(pay_to)
    topup_id = await shop.claim(signed)
    await wallet.send(ELSEWHERE, DOLLAR)
    return signed, topup_id


async def test_an_empty_wallet_is_refused_and_nothing_is_written(
    house: House, local: LocalChain
) -> None:
    """A signature costs nothing, so it must not fill the books either."""
    shop = await house.start()
    for _ in range(3):
        poor = Wallet(local)
        with pytest.raises(PaymentRejected) as caught:
            await shop.claim(await poor.authorize(house.pay_to))
        assert caught.value.reason == reasons.INSUFFICIENT_FUNDS
    for table in ("claim", "topup", "customer", "wallet", "ledger_account"):
        async with shop.db.read() as session:
            assert await query(session, f"SELECT 1 FROM {table}") == []


async def test_a_payer_who_is_drained_before_we_sign_is_refused(
    house: House, local: LocalChain
) -> None:
    """A08: nothing is signed for money that is gone."""
    shop = await house.start()
    _, topup_id = await claim_and_drain(shop, Wallet(local), house.pay_to)
    topup = await shop.settle(topup_id)
    assert (topup.state, topup.reason) == (S.REJECTED, reasons.INSUFFICIENT_FUNDS)
    assert await shop.sent(topup_id) == []


async def test_what_was_refused_is_credited_when_its_money_comes_all_the_same(
    house: House, local: LocalChain
) -> None:
    """Evidence wins from REJECTED."""
    shop = await house.start()
    poor = Wallet(local)
    signed, topup_id = await claim_and_drain(shop, poor, house.pay_to)
    assert (await shop.settle(topup_id)).state == S.REJECTED
    await poor.fund(DOLLAR)
    await submit(local, signed)
    await shop.observe()
    assert (await shop.topup(topup_id)).state == S.CREDITED
    assert await shop.credits_of(poor) == 10 * DOLLAR


async def test_a_payment_that_came_to_nothing_is_forgotten_a_week_after_its_window(
    any_house: House, local: LocalChain
) -> None:
    """Nobody can submit it any more, and every block that could hold it is read."""
    shop = await any_house.start()
    _, refused = await claim_and_drain(shop, Wallet(local), any_house.pay_to)
    assert (await shop.settle(refused)).state == S.REJECTED
    rich = await Wallet(local).fund()
    late = await shop.claim(await rich.authorize(shop.rail.pay_to, seconds=25))
    await local.advance(26)
    any_house.clock.advance(26)
    await local.mine(2)
    assert (await shop.settle(late)).state == S.EXPIRED
    paid = await shop.claim(await rich.authorize(shop.rail.pay_to))
    assert (await shop.settle(paid)).state == S.CREDITED
    everything = {paid, refused, late}
    for days, left in ((6, everything), (2, {paid})):
        await local.advance(days * 24 * 3600)
        any_house.clock.advance(days * 24 * 3600)
        await sweep(shop.db, shop.rail)
        await local.mine()
        seen = {one.id for one in await shop.topups()}
        assert seen == everything, "not yet read"
        await shop.observe()
        await sweep(shop.db, shop.rail)
        assert {one.id for one in await shop.topups()} == left
    async with shop.db.read() as session:
        assert len(await query(session, "SELECT 1 FROM claim")) == 1


async def test_what_expired_is_credited_when_its_money_had_come_all_the_same(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    """Evidence wins from EXPIRED; here the node had hidden it."""
    shop = await house.start()
    signed = await wallet.authorize(house.pay_to)
    topup_id = await shop.claim(signed)
    await submit(local, signed)
    misled = Decision(Act.MOVE, S.EXPIRED, reasons.VALID_BEFORE)
    await _move(shop.db, shop.rail, await shop.topup(topup_id), misled)
    await shop.observe()
    assert (await shop.topup(topup_id)).state == S.CREDITED


async def test_a_front_run_before_the_claim_is_credited_and_never_signed(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    """Whoever shows it then need not be its payer."""
    shop = await any_house.start()
    signed = await wallet.authorize(any_house.pay_to)
    await submit(local, signed)
    topup_id = await shop.claim(signed)
    assert (await shop.step(topup_id)).state == S.CREDITED
    assert await shop.sent(topup_id) == []
    assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_a_front_run_after_we_signed_is_credited_once(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await house.start()
    signed = await wallet.authorize(house.pay_to)
    topup_id = await shop.claim(signed)
    await local.set_automine(on=False)
    assert (await shop.step(topup_id)).state == S.SIGNED
    await submit(local, signed, tip=50, mine=False)
    await local.mine()
    (sent,) = await shop.sent(topup_id)
    assert await has_reverted(local, sent.tx_hash), "the other one came first"
    assert (await shop.step(topup_id)).state == S.CREDITED
    await shop.observe()
    assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_a_cancelled_nonce_is_refused_before_anything_is_signed(
    house: House, wallet: Wallet
) -> None:
    shop = await house.start()
    signed = await wallet.authorize(house.pay_to)
    await wallet.cancel(signed[0].nonce)
    topup = await shop.settle(await shop.claim(signed))
    assert (topup.state, topup.reason) == (S.REJECTED, reasons.NONCE_ALREADY_USED)
    assert await shop.sent(topup.id) == []


async def test_a_cancellation_after_we_signed_counts_when_it_is_final(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    """A09: nothing is granted, and the state waits for proof."""
    shop = await house.start()
    signed = await wallet.authorize(house.pay_to)
    topup_id = await shop.claim(signed)
    await local.set_automine(on=False)
    assert (await shop.step(topup_id)).state == S.SIGNED
    await pool_cancellation(local, wallet, signed[0].nonce)
    await local.mine()
    await shop.until(topup_id, S.WATCH)
    assert not (await shop.step(topup_id)).in_flight, "it keeps nobody waiting"
    await local.mine(3)
    assert (await shop.settle(topup_id)).state == S.CANCELED
    assert await shop.credits_of(wallet) == 0
    assert len(await shop.sent(topup_id)) == 1


async def test_a_nonce_that_paid_somebody_else_is_refused_and_no_contradiction(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await house.start()
    signed = await wallet.authorize(house.pay_to)
    elsewhere = await wallet.authorize(b"\x0e" * 20, nonce=signed[0].nonce)
    await submit(local, elsewhere)
    topup = await shop.settle(await shop.claim(signed))
    assert (topup.state, topup.reason) == (S.REJECTED, reasons.NONCE_ALREADY_USED)


async def test_a_nonce_that_paid_us_another_amount_waits_for_a_person(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await house.start()
    signed = await wallet.authorize(house.pay_to, DOLLAR)
    other = await wallet.authorize(house.pay_to, 3 * DOLLAR, nonce=signed[0].nonce)
    topup_id = await shop.claim(signed)
    await submit(local, other)
    assert (await shop.settle(topup_id)).state == S.QUARANTINE
    report = await shop.audit()
    assert report.findings == [], "the money is in the books, in suspense"
    assert report.chain is not None
    assert report.chain.ledger_usdc == 3 * DOLLAR
    assert await shop.credits_of(wallet) == 0


async def test_a_payer_drained_between_rehearsal_and_block_costs_one_reverted_transaction(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    """A08: no credit, and no second try while there is no money."""
    shop = await house.start()
    signed = await wallet.authorize(house.pay_to, 100 * DOLLAR, seconds=60)
    topup_id = await shop.claim(signed)
    await local.set_automine(on=False)
    assert (await shop.step(topup_id)).state == S.SIGNED
    await pool_transfer(local, wallet, 100 * DOLLAR)
    await local.mine()
    await shop.until(topup_id, S.WATCH)
    await shop.step(topup_id, times=5)
    assert len(await shop.sent(topup_id)) == 1
    await local.advance(61)
    await local.mine(3)
    topup = await shop.settle(topup_id)
    assert (topup.state, topup.reason) == (S.EXPIRED, reasons.VALID_BEFORE)
    assert await shop.credits_of(wallet) == 0


async def test_a_payment_that_reverts_again_and_again_is_given_up(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    """A payer who drains and refills his wallet must not burn our gas without end."""
    shop = await house.start()
    signed = await wallet.authorize(house.pay_to, 100 * DOLLAR, seconds=3000)
    topup_id = await shop.claim(signed)
    for _ in range(5):
        await local.set_automine(on=False)
        await shop.step(topup_id)
        await pool_transfer(local, wallet, 100 * DOLLAR)
        await local.mine()
        await shop.until(topup_id, S.WATCH)
        await local.set_automine(on=True)
        await wallet.fund(100 * DOLLAR)
    assert len(await shop.sent(topup_id)) == 3


async def test_a_window_that_closes_before_we_sign_ends_the_top_up(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await house.start()
    topup_id = await shop.claim(await wallet.authorize(house.pay_to, seconds=25))
    await local.advance(26)
    topup = await shop.settle(topup_id)
    assert (topup.state, topup.reason) == (S.EXPIRED, reasons.VALID_BEFORE)
    assert await shop.sent(topup_id) == []


async def test_a_window_that_closes_after_we_signed_ends_it_only_at_finalized(
    house: House, wallet: Wallet, local: LocalChain, proxy: FaultProxy
) -> None:
    """Nothing we sent ever arrived; the head alone does not prove it."""
    shop = await house.start(proxy.url)
    topup_id = await shop.claim(await wallet.authorize(house.pay_to, seconds=25))
    proxy.inject("eth_sendRawTransaction", ErrorAnswer(message="pool is full"))
    assert (await shop.step(topup_id)).state == S.SIGNED
    await local.advance(26)
    topup = await shop.step(topup_id)
    assert topup.state == S.SIGNED, "time alone ends nothing"
    assert not topup.in_flight, "but the wallet's next payment may go on"
    await local.mine(2)
    topup = await shop.step(topup_id)
    assert (topup.state, topup.reason) == (S.EXPIRED, reasons.VALID_BEFORE)
    assert await shop.credits_of(wallet) == 0
    await local.advance(30 * 24 * 3600)
    house.clock.advance(30 * 24 * 3600)
    await local.mine()
    await shop.observe()
    await sweep(shop.db, shop.rail)
    assert await shop.topups(), "what we have signed is never forgotten"


async def test_a_node_without_finality_ends_nothing(
    house: House, wallet: Wallet, local: LocalChain, proxy: FaultProxy
) -> None:
    """ "Not known here" is not "never": the payment stays open."""
    shop = await house.start(proxy.url)
    topup_id = await shop.claim(await wallet.authorize(house.pay_to, seconds=25))
    proxy.inject("eth_sendRawTransaction", ErrorAnswer(message="pool is full"))
    await shop.step(topup_id)
    await local.advance(26)
    await local.mine(5)
    proxy.inject("eth_getBlockByNumber", NoFinality())
    assert (await shop.step(topup_id, times=3)).state == S.SIGNED


@dataclass(frozen=True, slots=True, kw_only=True)
class NoFinality(Fault):
    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        if request["params"][0] in {"safe", "finalized"}:
            return {"result": None}
        return await forward(request)
