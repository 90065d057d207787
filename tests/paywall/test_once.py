"""A key's first try that died, and the later one that takes over from it."""

import asyncio
from dataclasses import replace

import pytest

from tallystick.chain.fault import ErrorAnswer, FaultProxy
from tallystick.claims.models import ClaimState
from tallystick.credits.errors import HoldAlreadySettled
from tallystick.payments.errors import PaymentInProgress, SettlementPending
from tallystick.payments.models.topups import TopUpState
from tallystick.paywall.admit import admit
from tallystick.paywall.answer import Answer
from tallystick.paywall.answers import RequestInProgress
from tallystick.paywall.facts import Facts
from tallystick.paywall.finish import finish_failed, finish_served
from tallystick.paywall.verdicts import Replay, Serve
from tallystick.workers.upkeep import sweep
from tests.house import DOLLAR, HOLD_SECONDS, House, Process, Wallet
from tests.paywall.calls import (
    die_in_line,
    die_while_waiting,
    paid_call,
    settle_first,
    until_claimed,
)

S = TopUpState
KEY = "k1"
ANSWER = Answer(200, [], b"served")


async def keyed_call(shop: Process, wallet: Wallet, *, wait_ms: int = 5_000) -> Facts:
    """One request under one key, with a payment that was signed just now."""
    facts = await paid_call(shop, wallet, wait_ms=wait_ms)
    return replace(facts, idempotency_key=KEY)


async def serve(shop: Process, facts: Facts) -> None:
    verdict = await admit(shop.gate, facts)
    assert isinstance(verdict, Serve)
    await finish_served(shop.gate, verdict, ANSWER)


async def test_a_try_that_died_while_settling_is_taken_over_on_its_credits(
    any_house: House, wallet: Wallet
) -> None:
    dead = await any_house.start()
    facts = await keyed_call(dead, wallet)
    await die_while_waiting(dead, facts, ClaimState.SETTLING)
    await dead.let_go()
    shop = await any_house.start()
    with pytest.raises(SettlementPending):
        await admit(shop.gate, await keyed_call(shop, wallet, wait_ms=0))
    (topup,) = await shop.topups()
    assert (await shop.settle(topup.id)).state == S.CREDITED
    with pytest.raises(RequestInProgress):
        await admit(shop.gate, await keyed_call(shop, wallet))
    any_house.clock.advance(HOLD_SECONDS + 1)
    await serve(shop, await keyed_call(shop, wallet))
    await sweep(shop.db, shop.rail)
    assert await shop.credits_of(wallet) == 9 * DOLLAR
    again = await admit(shop.gate, await keyed_call(shop, wallet))
    assert isinstance(again, Replay)
    assert again.answer.body == ANSWER.body
    assert len(await shop.topups()) == 1


async def test_a_try_that_died_undecided_is_never_settled_once_another_took_over(
    any_house: House, wallet: Wallet
) -> None:
    first, facts = await die_in_line(any_house, wallet, key=KEY)
    shop = await any_house.start()
    with pytest.raises(RequestInProgress):
        await admit(shop.gate, await keyed_call(shop, wallet))
    any_house.clock.advance(7)
    await shop.settle(first)
    await serve(shop, await keyed_call(shop, wallet))
    assert await shop.credits_of(wallet) == 9 * DOLLAR
    await until_claimed(shop, facts, ClaimState.WAIVED)
    assert len(await shop.topups()) == 1


async def test_a_slow_try_finds_that_another_took_its_key(
    house: House, wallet: Wallet, proxy: FaultProxy
) -> None:
    """Both run; only one of them gets to serve."""
    shop = await house.start(proxy.url)
    proxy.inject("eth_sendRawTransaction", ErrorAnswer(message="pool is full"))
    first = await settle_first(shop, wallet)
    facts = await keyed_call(shop, wallet)
    slow = asyncio.create_task(admit(shop.gate, facts))
    await until_claimed(shop, facts)
    house.clock.advance(7)
    retry = asyncio.create_task(admit(shop.gate, await keyed_call(shop, wallet)))
    await asyncio.sleep(0.1)
    proxy.heal()
    await shop.settle(first)
    outcomes = await asyncio.gather(slow, retry, return_exceptions=True)
    assert isinstance(outcomes[0], PaymentInProgress)
    assert isinstance(outcomes[1], Serve)
    await finish_served(shop.gate, outcomes[1], ANSWER)
    assert await shop.credits_of(wallet) == 9 * DOLLAR


async def test_a_dead_try_is_resumed_with_its_own_payment(
    any_house: House, wallet: Wallet
) -> None:
    first, facts = await die_in_line(any_house, wallet, key=KEY)
    shop = await any_house.start()
    any_house.clock.advance(7)
    await shop.settle(first)
    await serve(shop, facts)
    assert isinstance(await admit(shop.gate, await keyed_call(shop, wallet)), Replay)
    assert await shop.credits_of(wallet) == 9 * DOLLAR


async def test_who_comes_too_late_does_not_touch_the_key_of_the_other(
    house: House, wallet: Wallet
) -> None:
    """Its hold lapsed and another try took over; then its handler fails after all."""
    shop = await house.start()
    await shop.settle(await settle_first(shop, wallet))
    late = await admit(shop.gate, await keyed_call(shop, wallet))
    assert isinstance(late, Serve)
    house.clock.advance(HOLD_SECONDS + 6)
    await sweep(shop.db, shop.rail)
    second = await admit(shop.gate, await keyed_call(shop, wallet))
    assert isinstance(second, Serve)
    await finish_failed(shop.gate, late)
    with pytest.raises(RequestInProgress):
        await admit(shop.gate, await keyed_call(shop, wallet))
    with pytest.raises(HoldAlreadySettled):
        await finish_served(shop.gate, late, Answer(200, [], b"late"))
    await finish_served(shop.gate, second, ANSWER)
    again = await admit(shop.gate, await keyed_call(shop, wallet))
    assert isinstance(again, Replay)
    assert again.answer.body == ANSWER.body
    assert await shop.credits_of(wallet) == 9 * DOLLAR
