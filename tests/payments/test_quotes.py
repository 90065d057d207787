"""What a challenge promised comes back sealed, and only ours is honoured."""

import base64
import json
import secrets
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.claims.errors import PaymentBoundElsewhere
from tallystick.kernel.money import MicroCredits, UsdcAtomic
from tallystick.kernel.seal import Seal
from tallystick.payments.presented import check_payment
from tallystick.payments.quotes import Quote, open_quote, seal_quote
from tallystick.x402.errors import PaymentRejected
from tests.house import DOLLAR, House, Wallet, payload_for

SEAL = Seal(b"k" * 32)
QUOTE = Quote(
    binding="ab" * 16,
    catalog_version="2026-11",
    usdc=UsdcAtomic(DOLLAR),
    credits=MicroCredits(10 * DOLLAR),
    bonus=MicroCredits(0),
    charge=MicroCredits(DOLLAR),
    purpose="call of ai_analyst",
    expires_at=1_000,
    pay_to="70" * 20,
)
amounts = st.integers(0, 2**62)
quotes = st.builds(
    Quote,
    binding=st.binary(min_size=16, max_size=16).map(bytes.hex),
    catalog_version=st.text(max_size=20),
    usdc=amounts,
    credits=amounts,
    bonus=amounts,
    charge=amounts,
    purpose=st.text(max_size=40),
    expires_at=st.integers(1, 2**40),
    pay_to=st.binary(min_size=20, max_size=20).map(bytes.hex),
)


@given(quotes)
def test_a_quote_comes_back_as_it_was_made(quote: Quote) -> None:
    token = seal_quote(SEAL, quote)
    assert token.isascii()
    assert open_quote(SEAL, token, now_seconds=0) == quote


def test_a_quote_with_any_character_changed_is_refused() -> None:
    token = seal_quote(SEAL, QUOTE)
    for position, found in enumerate(token[:-1]):
        other = "A" if found != "A" else "B"
        forged = token[:position] + other + token[position + 1 :]
        with pytest.raises(PaymentRejected, match="not ours"):
            open_quote(SEAL, forged, now_seconds=0)


@given(st.text(max_size=60) | st.binary(max_size=60).map(base64.b64encode).map(str))
def test_whatever_else_comes_is_refused(text: str) -> None:
    with pytest.raises(PaymentRejected, match="not ours"):
        open_quote(SEAL, text, now_seconds=0)


def test_another_servers_quote_is_refused() -> None:
    token = seal_quote(Seal(secrets.token_bytes(32)), QUOTE)
    with pytest.raises(PaymentRejected, match="not ours"):
        open_quote(SEAL, token, now_seconds=0)


def test_a_seal_made_for_something_else_is_no_quote() -> None:
    fields = json.dumps(list(vars_of(QUOTE))).encode()
    token = base64.urlsafe_b64encode(SEAL.mac("sign-in nonce", fields)[:16] + fields)
    with pytest.raises(PaymentRejected, match="not ours"):
        open_quote(SEAL, token.decode(), now_seconds=0)


def test_a_quote_of_another_version_of_us_is_refused_and_no_fault() -> None:
    """An update while clients hold quotes: they are asked to take a new one."""
    for fields in (list(vars_of(QUOTE))[:-1], [*vars_of(QUOTE), "more"]):
        body = json.dumps(fields).encode()
        sealed = SEAL.mac("quote", body)[:16] + body
        token = base64.urlsafe_b64encode(sealed).decode().rstrip("=")
        with pytest.raises(PaymentRejected, match="not ours"):
            open_quote(SEAL, token, now_seconds=0)


def test_a_quote_is_honoured_until_it_expires() -> None:
    token = seal_quote(SEAL, QUOTE)
    assert open_quote(SEAL, token, now_seconds=999) == QUOTE
    with pytest.raises(PaymentRejected, match="expired"):
        open_quote(SEAL, token, now_seconds=1_000)


def vars_of(quote: Quote) -> list[Any]:
    return [getattr(quote, name) for name in Quote.__slots__]


@pytest.fixture
def lasting() -> Quote:
    return replace(QUOTE, expires_at=2**40)


async def test_a_price_change_does_not_break_a_payment_in_flight(
    house: House, wallet: Wallet, lasting: Quote
) -> None:
    shop = await house.start()
    lasting = replace(lasting, pay_to=shop.rail.pay_to.hex())
    payload = await payload_for(shop.rail, wallet, lasting, house.seal)
    dearer = replace(lasting, usdc=UsdcAtomic(2 * DOLLAR), charge=MicroCredits(7))
    presented = await check_payment(shop.rail, house.seal, payload, [dearer])
    assert presented.quote == lasting, "the quoted price, and not today's"


async def test_a_quote_for_another_route_is_refused(
    house: House, wallet: Wallet, lasting: Quote
) -> None:
    """A05: the same price, another resource."""
    shop = await house.start()
    payload = await payload_for(shop.rail, wallet, lasting, house.seal)
    here = replace(lasting, binding="cd" * 16)
    with pytest.raises(PaymentBoundElsewhere):
        await check_payment(shop.rail, house.seal, payload, [here])


async def test_windows_are_judged_by_the_later_of_both_clocks(
    house: House, wallet: Wallet, lasting: Quote
) -> None:
    """A14: the chain is ahead of a machine whose clock is slow."""
    shop = await house.start()
    payload = await payload_for(shop.rail, wallet, lasting, house.seal)
    house.clock.advance(-600)
    await check_payment(shop.rail, house.seal, payload, [lasting])
    await wallet.local.advance(75)
    await check_payment(shop.rail, house.seal, payload, [lasting])
    await shop.observe()
    with pytest.raises(PaymentRejected, match="validBefore"):
        await check_payment(shop.rail, house.seal, payload, [lasting])


async def test_a_machine_that_is_ahead_takes_nothing_that_it_holds_for_over(
    house: House, wallet: Wallet, lasting: Quote
) -> None:
    shop = await house.start()
    payload = await payload_for(shop.rail, wallet, lasting, house.seal)
    head = await shop.rail.head()
    behind = head.timestamp_seconds - house.clock.now_ms() // 1000
    house.clock.advance(behind + 75)
    with pytest.raises(PaymentRejected, match="validBefore"):
        await check_payment(shop.rail, house.seal, payload, [lasting])
