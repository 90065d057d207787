"""A15: whatever a facilitator says, credits are what the chain shows to be paid."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tallystick.chain.local import LocalChain
from tallystick.chain.token import balance_of
from tallystick.kernel.db import query
from tallystick.payments.models.topups import PENDING_STATES, TopUp, TopUpState
from tallystick.payments.relaying.relayer import settled_by_us
from tallystick.samples.facilitator import SETTLING, Lie, SampleFacilitator
from tests.house import DOLLAR, House, Process, Wallet
from tests.payments.facilitators import desk_at, listening, sample

S = TopUpState


@pytest.fixture
async def liar(local: LocalChain) -> AsyncIterator[SampleFacilitator]:
    async with sample(local) as one:
        yield one


async def settle_all(shop: Process, *topup_ids: int) -> list[TopUp]:
    """What the workers do until everything is known."""
    for _ in range(400):
        await shop.settle_due()
        await shop.observe()
        topups = [await shop.topup(one) for one in topup_ids]
        if not any(one.state in PENDING_STATES for one in topups):
            return topups
        await asyncio.sleep(0.02)
    raise AssertionError("it never ends")


async def paid_and_credited(shop: Process) -> tuple[int, int]:
    """USDC at ``pay_to``, and the credits granted for it in USDC."""
    on_chain = await balance_of(shop.rail.chain, shop.rail.pay_to)
    async with shop.db.read() as session:
        rows = await query(session, "SELECT SUM(amount) AS total FROM credit_grant")
    return on_chain, int(rows[0]["total"]) // 10


@pytest.mark.parametrize("lie", Lie, ids=lambda one: one.name.lower())
async def test_credits_are_what_was_paid(
    house: House, local: LocalChain, liar: SampleFacilitator, lie: Lie
) -> None:
    """An honest payer is served in the same run, before the lie and after it."""
    async with listening(liar.app) as there:
        liar.redirect_to = f"{there.url}/settle"
        shop = await house.start(relayers=(), facilitator=desk_at(there.url))
        good, bad, later = [await Wallet(local).fund() for _ in range(3)]
        first = await shop.claim(await good.authorize(house.pay_to))
        (topup,) = await settle_all(shop, first)
        assert topup.state == S.CREDITED
        liar.lies[bad.address] = lie
        victim = await shop.claim(await bad.authorize(house.pay_to, 3 * DOLLAR))
        await shop.settle_due()
        honest = await shop.claim(await later.authorize(house.pay_to))
        (topup,) = await settle_all(shop, honest)
        assert topup.state == S.CREDITED
        if lie in SETTLING:
            (topup,) = await settle_all(shop, victim)
            assert topup.state == S.CREDITED
            async with shop.db.read() as session:
                assert await settled_by_us(session, victim, topup.tx_hash)
        else:
            await end_of_its_window(house, local)
            (topup,) = await settle_all(shop, victim)
            assert topup.state == S.EXPIRED
        expected = (5 if lie in SETTLING else 2) * DOLLAR
        assert await paid_and_credited(shop) == (expected, expected)
        assert len({str(one) for one in liar.asked}) == 3, "the same each time"


async def end_of_its_window(house: House, local: LocalChain) -> None:
    await local.advance(120)
    house.clock.advance(120)
    await local.mine(3)


@pytest.mark.parametrize(
    "lie", sorted(set(Lie) - SETTLING), ids=lambda one: one.name.lower()
)
async def test_what_it_does_not_settle_is_settled_by_the_relayer(
    house: House, local: LocalChain, liar: SampleFacilitator, lie: Lie
) -> None:
    async with listening(liar.app) as there:
        liar.redirect_to = f"{there.url}/settle"
        shop = await house.start(facilitator=desk_at(there.url, falls_back=True))
        wallet = await Wallet(local).fund()
        liar.lies[wallet.address] = lie
        topup_id = await shop.claim(await wallet.authorize(house.pay_to))
        (topup,) = await settle_all(shop, topup_id)
        assert topup.state == S.CREDITED
        (sent,) = await shop.sent(topup_id)
        assert sent.tx_hash == topup.tx_hash
        assert len(await shop.asked(topup_id)) == 1
        assert await paid_and_credited(shop) == (DOLLAR, DOLLAR)


@pytest.mark.parametrize(
    "lie", [Lie.GARBAGE, Lie.VALID_THEN_FAILS, Lie.PENDING_FOR_EVER, Lie.NO_TRANSACTION]
)
async def test_when_it_behaves_again_the_same_payment_is_settled(
    house: House, local: LocalChain, liar: SampleFacilitator, lie: Lie
) -> None:
    async with listening(liar.app) as there:
        shop = await house.start(relayers=(), facilitator=desk_at(there.url))
        wallet = await Wallet(local).fund()
        liar.lies[wallet.address] = lie
        topup_id = await shop.claim(await wallet.authorize(house.pay_to))
        while not liar.asked:
            await shop.settle_due()
            await asyncio.sleep(0.02)
        liar.lies.clear()
        (topup,) = await settle_all(shop, topup_id)
        assert topup.state == S.CREDITED
        assert len(liar.asked) == len(await shop.asked(topup_id)) == 2
        assert liar.asked[0] == liar.asked[1]
        assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_a_redirect_is_not_followed(
    house: House, local: LocalChain, liar: SampleFacilitator
) -> None:
    """The payload would be handed to whoever is named, and be settled by him."""
    async with sample(local) as other, listening(other.app) as elsewhere:
        liar.redirect_to = f"{elsewhere.url}/settle"
        async with listening(liar.app) as there:
            desk = desk_at(there.url, patience_seconds=0.1)
            shop = await house.start(relayers=(), facilitator=desk)
            wallet = await Wallet(local).fund()
            liar.lies[wallet.address] = Lie.REDIRECT
            topup_id = await shop.claim(await wallet.authorize(house.pay_to))
            while len(liar.asked) < 2:
                await shop.settle_due()
                await asyncio.sleep(0.02)
        assert other.asked == []
        (asked, *_) = await shop.asked(topup_id)
        assert (asked.answer, asked.status) == ("unclear", 307)


async def test_a_huge_answer_is_not_read_to_its_end(
    house: House, local: LocalChain, liar: SampleFacilitator
) -> None:
    async with listening(liar.app) as there:
        shop = await house.start(relayers=(), facilitator=desk_at(there.url))
        wallet = await Wallet(local).fund()
        liar.lies[wallet.address] = Lie.HUGE
        topup_id = await shop.claim(await wallet.authorize(house.pay_to))
        await shop.step(topup_id)
        for _ in range(300):
            (asked,) = await shop.asked(topup_id)
            if asked.answer:
                break
            await asyncio.sleep(0.01)
        assert (asked.answer, asked.reason) == ("unclear", "AnswerTooLarge")
