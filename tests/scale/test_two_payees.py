"""Two ledgers on one chain: why each has a payee of its own."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from tallystick.chain.local import LocalChain
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.money import MicroCredits, UsdcAtomic
from tallystick.kernel.seal import Seal
from tallystick.payments.presented import check_payment
from tallystick.payments.quotes import Quote
from tallystick.x402 import reasons
from tallystick.x402.errors import PaymentRejected
from tests.house import DOLLAR, House, Wallet, payload_for, relayer

Houses = tuple[House, House]
QUOTE = Quote(
    binding="00" * 16,
    catalog_version="test",
    usdc=UsdcAtomic(DOLLAR),
    credits=MicroCredits(10 * DOLLAR),
    bonus=MicroCredits(0),
    charge=MicroCredits(0),
    purpose="credits",
    expires_at=2**40,
    pay_to="70" * 20,
)


@pytest.fixture
async def houses(
    local: LocalChain, two_urls: tuple[str, str], clock: OffsetClock
) -> AsyncIterator[Houses]:
    """Two installations with one secret, so that they believe each other's quotes."""
    head = await local.chain.block("latest")
    assert head is not None
    seal = Seal(secrets.token_bytes(32))
    first, second = (
        House(local, url, head.number + 1, clock, seal=seal) for url in two_urls
    )
    try:
        yield first, second
    finally:
        await first.stop()
        await second.stop()


async def test_a_payment_for_one_ledgers_payee_is_refused_by_the_other(
    houses: Houses, wallet: Wallet
) -> None:
    """So a claim need be unique in its own ledger only."""
    first = await houses[0].start(relayers=(relayer(1),))
    second = await houses[1].start(relayers=(relayer(2),))
    payload = await payload_for(first.rail, wallet, QUOTE, houses[0].seal)
    await check_payment(first.rail, houses[0].seal, payload, [QUOTE])
    with pytest.raises(PaymentRejected, match="pay_to in accepted"):
        await check_payment(second.rail, houses[1].seal, payload, [QUOTE])
    another = await payload_for(second.rail, wallet, QUOTE, houses[1].seal)
    signed: dict[str, Any] = {
        "authorization": payload.authorization,
        "signature": payload.signature,
    }
    with pytest.raises(PaymentRejected) as refused:
        await check_payment(
            second.rail, houses[1].seal, replace(another, **signed), [QUOTE]
        )
    assert refused.value.reason == reasons.RECIPIENT_MISMATCH
    paid = await first.claim((payload.authorization, payload.signature))
    await first.settle(paid)
    assert await second.observe() == 0
    for one in (first, second):
        assert (await one.audit()).findings == []


async def test_one_payee_for_two_ledgers_gives_credits_twice_and_no_audit_sees_it(
    houses: Houses, wallet: Wallet
) -> None:
    """Each claims for itself, and each finds the money on the chain."""
    houses[1].pay_to = houses[0].pay_to
    first = await houses[0].start(relayers=(relayer(1),))
    second = await houses[1].start(relayers=(relayer(2),))
    signed = await wallet.authorize(houses[0].pay_to)
    for one in (first, second):
        await one.settle(await one.claim(signed))
        assert await one.credits_of(wallet) == 10 * DOLLAR
    for one in (first, second):
        report = await one.audit()
        assert report.findings == []
        assert report.chain is not None
        assert report.chain.chain_usdc == DOLLAR
