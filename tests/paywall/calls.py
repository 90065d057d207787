"""Calls that are paid with a payment of their own, and processes that die over them."""

import asyncio
from dataclasses import replace

import pytest

from tallystick.catalog.pricing import price
from tallystick.claims.claim import find_claim
from tallystick.claims.models import ClaimState
from tallystick.kernel.money import MicroCredits
from tallystick.payments.models.topups import TopUpState
from tallystick.payments.presented import money_of
from tallystick.paywall.admit import admit
from tallystick.paywall.facts import Facts
from tallystick.paywall.offers import offers_for_call
from tallystick.x402.wire import PaymentPayload
from tests.house import DOLLAR, House, Process, Wallet, payload_for


def call_of(shop: Process, number: int = 0, *, wait_ms: int = 5_000) -> Facts:
    """A call that costs one credit; the number makes it another one."""
    feature = shop.gate.catalog().feature("ai_analyst")
    return Facts(
        feature=feature,
        quantity=1_000_000,
        price=price(feature),
        url="http://shop.test/features/ai_analyst",
        binding=f"{number:032x}",
        wait_ms=wait_ms,
    )


async def paid_call(
    shop: Process, wallet: Wallet, number: int = 0, *, wait_ms: int = 5_000
) -> Facts:
    """The call with a payment of one dollar for it."""
    facts = call_of(shop, number, wait_ms=wait_ms)
    (quote, *_) = offers_for_call(shop.gate, facts, MicroCredits(0)).v2
    assert quote.usdc == DOLLAR
    payload = await payload_for(shop.rail, wallet, quote, shop.gate.seal)
    return replace(facts, payment=payload)


def payment_of(facts: Facts) -> PaymentPayload:
    assert facts.payment is not None
    return facts.payment


async def settle_first(shop: Process, wallet: Wallet) -> int:
    """A purchase of the wallet that is signed, and so has the lane."""
    topup_id = await shop.claim(await wallet.authorize(shop.rail.pay_to))
    assert (await shop.step(topup_id)).state == TopUpState.SIGNED
    return topup_id


async def until_claimed(
    shop: Process, facts: Facts, state: ClaimState = ClaimState.CLAIMED
) -> None:
    """Until the request's claim stands; when it is undecided, it waits for its turn."""
    payment = payment_of(facts)
    money = money_of(shop.rail, payment.authorization, facts.binding)
    while True:
        async with shop.db.read() as session:
            known = await find_claim(session, money)
        if known is not None and known.state == state:
            return
        await asyncio.sleep(0.01)


async def die_while_waiting(
    dying: Process, facts: Facts, state: ClaimState = ClaimState.CLAIMED
) -> None:
    """The process makes the call, and dies when its claim is in that state."""
    call = asyncio.create_task(admit(dying.gate, facts))
    await until_claimed(dying, facts, state)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def die_in_line(
    house: House, wallet: Wallet, *, key: str | None = None
) -> tuple[int, Facts]:
    """A process dies with a call that waits behind a purchase: the two of them."""
    dying = await house.start()
    first = await settle_first(dying, wallet)
    facts = replace(await paid_call(dying, wallet), idempotency_key=key)
    await die_while_waiting(dying, facts)
    return first, facts
