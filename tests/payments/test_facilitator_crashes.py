"""A process dies at any moment of asking a facilitator; the next one goes on."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from tallystick.chain.local import LocalChain
from tallystick.kernel.clock import SystemClock
from tallystick.payments.desk import Desk
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.relaying.relayer import settled_by_us
from tallystick.samples.facilitator import Lie, SampleFacilitator
from tallystick.x402.facilitator import FacilitatorClient
from tallystick.x402.settle_wire import SettleAnswer, SettleRequest
from tallystick.x402.wire import Version
from tests.house import DOLLAR, House, Process, Wallet
from tests.payments.facilitators import desk_at, eventually, listening, sample

S = TopUpState


@pytest.fixture
async def honest(local: LocalChain) -> AsyncIterator[SampleFacilitator]:
    async with sample(local) as one:
        yield one


async def credited(shop: Process, topup_id: int) -> TopUp:
    return await shop.until(topup_id, S.CREDITED)


async def test_a_crash_between_the_row_and_the_request(
    any_house: House, wallet: Wallet, honest: SampleFacilitator
) -> None:
    """Nothing went out, but nobody knows that: it is asked again, not refused."""
    async with listening(honest.app) as there:
        plain = desk_at(there.url)
        dying = DiesBeforeSending(
            plain.client, plain.network, plain.resource_url, patience_seconds=0.4
        )
        shop = await any_house.start(relayers=(), facilitator=dying)
        topup_id = await shop.claim(await wallet.authorize(any_house.pay_to))
        assert (await shop.step(topup_id)).state == S.SIGNED
        assert honest.asked == []
        (asked,) = await shop.asked(topup_id)
        assert asked.answered_at_ms is None
        next_one = await any_house.start(relayers=(), facilitator=desk_at(there.url))
        topup = await credited(next_one, topup_id)
        assert len(honest.asked) == 1
        assert await is_ours(next_one, topup)
        assert await next_one.credits_of(wallet) == 10 * DOLLAR


async def test_a_crash_between_the_request_and_the_answer(
    any_house: House, wallet: Wallet, honest: SampleFacilitator
) -> None:
    """It has settled, and its signers prove that we had asked for it."""
    honest.lies[wallet.address] = Lie.SETTLES_AND_HANGS
    async with listening(honest.app) as there:
        dying = desk_at(there.url)
        shop = await any_house.start(relayers=(), facilitator=dying)
        topup_id = await shop.claim(await wallet.authorize(any_house.pay_to))
        await shop.step(topup_id)
        await eventually(lambda: honest.settled)
        await dying.close()
        next_one = await any_house.start(relayers=(), facilitator=desk_at(there.url))
        topup = await credited(next_one, topup_id)
        assert len(honest.asked) == 1
        assert await is_ours(next_one, topup)
        assert await next_one.credits_of(wallet) == 10 * DOLLAR


async def test_a_crash_between_the_answer_and_its_row(
    house: House, wallet: Wallet, honest: SampleFacilitator
) -> None:
    """The chain is looked at all the same."""
    async with listening(honest.app) as there:
        dying = desk_at(there.url)
        dying.client = DiesWithTheAnswer(there.url, SystemClock())
        shop = await house.start(relayers=(), facilitator=dying)
        topup_id = await shop.claim(await wallet.authorize(house.pay_to))
        topup = await credited(shop, topup_id)
        assert await is_ours(shop, topup)
        (asked,) = await shop.asked(topup_id)
        assert asked.answered_at_ms is None


class DiesBeforeSending(Desk):
    """Of a process that is killed when the row is stored."""

    __slots__ = ()

    def begin(self, asking: Coroutine[Any, Any, None]) -> None:
        asking.close()


class DiesWithTheAnswer(FacilitatorClient):
    """Of a process that is killed when the answer has come."""

    async def settle(self, request: SettleRequest, version: Version) -> SettleAnswer:
        await super().settle(request, version)
        raise asyncio.CancelledError


async def is_ours(shop: Process, topup: TopUp) -> bool:
    async with shop.db.read() as session:
        return await settled_by_us(session, topup.id, topup.tx_hash)


async def test_a_restart_with_a_relayer_instead_settles_what_was_asked(
    house: House, wallet: Wallet, honest: SampleFacilitator
) -> None:
    """The operator has left his facilitator; the authorization is good all the same."""
    honest.lies[wallet.address] = Lie.HANGS
    async with listening(honest.app) as there:
        shop = await house.start(relayers=(), facilitator=desk_at(there.url))
        topup_id = await shop.claim(await wallet.authorize(house.pay_to))
        await shop.step(topup_id)
        await asyncio.sleep(0.1)
    plain = await house.start()
    topup = await credited(plain, topup_id)
    assert topup.tx_hash == (await plain.sent(topup_id))[0].tx_hash
    assert await plain.credits_of(wallet) == 10 * DOLLAR
