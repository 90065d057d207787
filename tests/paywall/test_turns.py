"""Calls that wait for their wallet's turn, and what may overtake them."""

import asyncio
from dataclasses import replace

import pytest

from tallystick.chain.evidence import Settled, find_settlements
from tallystick.chain.fault import ErrorAnswer, FaultProxy
from tallystick.chain.local import LocalChain
from tallystick.claims.models import ClaimState
from tallystick.credits.errors import HoldAlreadySettled
from tallystick.customers.wallets import customer_of_wallet
from tallystick.kernel.db import WriteSession
from tallystick.payments.errors import PaymentAlreadySettled, PaymentInProgress
from tallystick.payments.models.topups import TopUpState
from tallystick.payments.observing.crediting import credit, place_of
from tallystick.payments.witness import Heard
from tallystick.paywall.admit import admit
from tallystick.paywall.answer import Answer
from tallystick.paywall.answers import RequestInProgress
from tallystick.paywall.finish import finish_failed, finish_served, heartbeat
from tallystick.paywall.verdicts import Replay, Serve, Verdict
from tallystick.workers.upkeep import sweep
from tests.chain.payer import mined
from tests.house import DOLLAR, HOLD_SECONDS, House, Process, Wallet
from tests.paywall.calls import (
    call_of,
    die_in_line,
    die_while_waiting,
    paid_call,
    payment_of,
    settle_first,
    until_claimed,
)
from tests.strangers import submit

S = TopUpState


async def test_a_call_is_waived_when_the_credits_land_while_it_opens_its_own(
    any_house: House, wallet: Wallet
) -> None:
    """Fifty calls of an empty wallet make five settlements, and never a sixth."""
    shop = await any_house.start()
    first = await settle_first(shop, wallet)
    (sent,) = await shop.sent(first)
    await mined(shop.rail.chain, sent.tx_hash)
    facts = await paid_call(shop, wallet, wait_ms=0)
    granted, may_commit = asyncio.Event(), asyncio.Event()
    topup = await shop.topup(first)
    (settled,) = await find_settled(shop, topup.payer, topup.nonce)

    async def grant_slowly(session: WriteSession) -> None:
        place = place_of(shop.rail)
        heard = Heard(settled)
        await credit(session, place, topup, heard, hold_seconds=HOLD_SECONDS)
        granted.set()
        await may_commit.wait()

    granting = asyncio.create_task(shop.db.write(grant_slowly))
    await granted.wait()
    admitting = asyncio.create_task(admit(shop.gate, facts))
    await asyncio.sleep(0.3)
    may_commit.set()
    await granting
    verdict = await admitting
    assert isinstance(verdict, Serve)
    assert verdict.paid_by is not None
    assert verdict.paid_by.tx_hash is None, "it took credits, and no second settlement"
    await finish_served(shop.gate, verdict, None)


async def find_settled(shop: Process, payer: bytes, nonce: bytes) -> list[Settled]:
    return await find_settlements(shop.rail.chain, payer, nonce, 0)


async def test_a_waiting_call_whose_payment_another_submits_gets_credits_and_no_answer(
    house: House, wallet: Wallet, local: LocalChain, proxy: FaultProxy
) -> None:
    """Decision 8; its claim is decided by the observer, not by the request."""
    shop = await house.start(proxy.url)
    proxy.inject("eth_sendRawTransaction", ErrorAnswer(message="pool is full"))
    first = await settle_first(shop, wallet)
    facts = await paid_call(shop, wallet)
    admitting = asyncio.create_task(admit(shop.gate, facts))
    await until_claimed(shop, facts)
    payment = payment_of(facts)
    await submit(local, (payment.authorization, payment.signature))
    await shop.observe()
    with pytest.raises(PaymentAlreadySettled):
        await admitting
    assert await shop.credits_of(wallet) == 10 * DOLLAR
    proxy.heal()
    assert (await shop.settle(first)).state == S.CREDITED


async def test_a_payment_that_the_chain_has_seen_is_never_waived(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    """It is public, so whoever shows it may not be its payer."""
    shop = await any_house.start()
    await shop.settle(await settle_first(shop, wallet))
    facts = await paid_call(shop, wallet)
    payment = payment_of(facts)
    await submit(local, (payment.authorization, payment.signature))
    await shop.observe()
    admitting = asyncio.create_task(admit(shop.gate, facts))
    while not admitting.done():
        await shop.settle_due()
        await asyncio.sleep(0.02)
    with pytest.raises(PaymentAlreadySettled):
        await admitting
    assert await shop.credits_of(wallet) == 20 * DOLLAR, "and nothing was held"


async def test_a_running_call_gets_no_answer_once_its_payment_is_seen_on_chain(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    """Decision 12: it is public by then, so whoever called may not be its payer."""
    shop = await any_house.start()
    await shop.settle(await settle_first(shop, wallet))
    facts = await paid_call(shop, wallet)
    verdict = await admit(shop.gate, facts)
    assert isinstance(verdict, Serve)
    payment = payment_of(facts)
    await submit(local, (payment.authorization, payment.signature))
    await shop.observe()
    with pytest.raises(HoldAlreadySettled):
        await finish_served(shop.gate, verdict, None)
    assert await shop.credits_of(wallet) == 20 * DOLLAR
    with pytest.raises(PaymentAlreadySettled):
        await admit(shop.gate, facts)


async def test_a_call_that_was_answered_stays_charged_when_its_payment_is_seen(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await house.start()
    await shop.settle(await settle_first(shop, wallet))
    facts = await paid_call(shop, wallet)
    verdict = await admit(shop.gate, facts)
    assert isinstance(verdict, Serve)
    await finish_served(shop.gate, verdict, None)
    payment = payment_of(facts)
    await submit(local, (payment.authorization, payment.signature))
    await shop.observe()
    assert await shop.credits_of(wallet) == 19 * DOLLAR


async def test_a_copy_takes_over_when_the_first_request_is_too_slow(
    house: House, wallet: Wallet, proxy: FaultProxy
) -> None:
    """Both go on in the end; one of them has the claim, and none breaks."""
    shop = await house.start(proxy.url)
    proxy.inject("eth_sendRawTransaction", ErrorAnswer(message="pool is full"))
    first = await settle_first(shop, wallet)
    facts = await paid_call(shop, wallet)
    slow = asyncio.create_task(admit(shop.gate, facts))
    await until_claimed(shop, facts)
    with pytest.raises(PaymentInProgress):
        await admit(shop.gate, facts)
    house.clock.advance(7)
    taking_over = asyncio.create_task(admit(shop.gate, facts))
    await asyncio.sleep(0.1)
    proxy.heal()
    await shop.settle(first)
    outcomes = await asyncio.gather(slow, taking_over, return_exceptions=True)
    served = [one for one in outcomes if isinstance(one, Serve)]
    assert len(served) == 1
    (other,) = [one for one in outcomes if one not in served]
    assert isinstance(other, PaymentInProgress)
    await finish_served(shop.gate, served[0], None)
    assert await shop.credits_of(wallet) == 9 * DOLLAR


async def test_a_call_that_died_undecided_is_taken_up_by_another_process(
    any_house: House, wallet: Wallet
) -> None:
    first, facts = await die_in_line(any_house, wallet)
    shop = await any_house.start()
    any_house.clock.advance(7)
    await shop.settle(first)
    verdict = await admit(shop.gate, facts)
    assert isinstance(verdict, Serve)
    await finish_failed(shop.gate, verdict)
    assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_a_call_that_died_while_settling_leaves_its_credits_to_the_payer(
    house: House, wallet: Wallet
) -> None:
    """Its charge is kept for it as long as somebody may wait, and then free."""
    shop = await house.start()
    facts = await paid_call(shop, wallet)
    await die_while_waiting(shop, facts, ClaimState.SETTLING)
    (topup,) = await shop.topups()
    assert (await shop.settle(topup.id)).state == S.CREDITED
    assert await shop.credits_of(wallet) == 9 * DOLLAR, "one is held"
    with pytest.raises(PaymentAlreadySettled):
        await admit(shop.gate, facts)
    house.clock.advance(HOLD_SECONDS + 1)
    await sweep(shop.db, shop.rail)
    assert await shop.credits_of(wallet) == 10 * DOLLAR


class TestIdempotencyKeys:
    """A key belongs to a request as long as that is alive."""

    @pytest.fixture
    async def shop(self, house: House, wallet: Wallet) -> Process:
        process = await house.start()
        await process.settle(await settle_first(process, wallet))
        return process

    async def call(self, shop: Process, wallet: Wallet) -> Verdict:
        async with shop.db.read() as session:
            customer_id = await customer_of_wallet(session, wallet.address)
        facts = replace(call_of(shop), customer_id=customer_id, idempotency_key="k1")
        return await admit(shop.gate, facts)

    async def test_a_key_whose_process_died_may_be_used_again(
        self, house: House, shop: Process, wallet: Wallet
    ) -> None:
        assert isinstance(await self.call(shop, wallet), Serve)
        restarted = await house.start()
        with pytest.raises(RequestInProgress):
            await self.call(restarted, wallet)
        house.clock.advance(HOLD_SECONDS + 6)
        await sweep(restarted.db, restarted.rail)
        verdict = await self.call(restarted, wallet)
        assert isinstance(verdict, Serve)
        await finish_served(restarted.gate, verdict, None)
        assert await restarted.credits_of(wallet) == 9 * DOLLAR

    async def test_a_slow_handler_keeps_its_key(
        self, house: House, shop: Process, wallet: Wallet
    ) -> None:
        verdict = await self.call(shop, wallet)
        assert isinstance(verdict, Serve)
        for _ in range(3):
            house.clock.advance(HOLD_SECONDS - 10)
            await heartbeat(shop.gate, verdict)
            await sweep(shop.db, shop.rail)
        with pytest.raises(RequestInProgress):
            await self.call(shop, wallet)
        await finish_failed(shop.gate, verdict)

    async def test_an_answer_is_kept_for_a_day(
        self, house: House, shop: Process, wallet: Wallet
    ) -> None:
        verdict = await self.call(shop, wallet)
        assert isinstance(verdict, Serve)
        answer = Answer(200, [("x-made", "once")], b"{}")
        await finish_served(shop.gate, verdict, answer)
        house.clock.advance(23 * 3600)
        await sweep(shop.db, shop.rail)
        again = await self.call(shop, wallet)
        assert isinstance(again, Replay)
        assert again.answer.body == b"{}"
        house.clock.advance(2 * 3600)
        await sweep(shop.db, shop.rail)
        later = await self.call(shop, wallet)
        assert isinstance(later, Serve), "the key is free again"
        await finish_failed(shop.gate, later)
