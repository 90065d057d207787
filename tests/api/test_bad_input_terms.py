"""Well-formed payments that are not for what was offered, or not in time (A14, A19-25)."""

import time

import httpx
import pytest
from eth_account.signers.local import LocalAccount

from tests.api.payments import (
    ADDRESS,
    ANALYST,
    ON_SQLITE,
    books,
    buy,
    count,
    offer_of,
    reason_of,
    sign,
)
from tests.live import LiveServer

pytestmark = ON_SQLITE
REQUIREMENTS = "invalid_payment_requirements"
VALUE = "invalid_exact_evm_payload_authorization_value"
AFTER = "invalid_exact_evm_payload_authorization_valid_after"
BEFORE = "invalid_exact_evm_payload_authorization_valid_before"
RECIPIENT = "invalid_exact_evm_payload_recipient_mismatch"


async def test_another_scheme_or_network_is_refused_in_the_protocols_words(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    v2 = sign(wallet, await offer_of(http))
    v1 = sign(wallet, await offer_of(http, version=1))
    sent = {
        "upto": v2.saying("accepted.scheme", "upto"),
        "upto of version 1": v1.saying("scheme", "upto"),
        "Base": v2.saying("accepted.network", "eip155:8453"),
        "Base of version 1": v1.saying("network", "base"),
        "Ethereum": v2.saying("accepted.network", "eip155:1"),
        "Solana": v2.saying("accepted.network", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZ"),
        "unheard of": v1.saying("network", "avalanche"),
    }
    before = await books(attacked)
    found = {
        name: reason_of(await http.get(ANALYST, headers=one.headers))
        for name, one in sent.items()
    }
    assert found == {
        "upto": "unsupported_scheme",
        "upto of version 1": "unsupported_scheme",
        "Base": "invalid_network",
        "Base of version 1": "invalid_network",
        "Ethereum": "invalid_network",
        "Solana": "invalid_network",
        "unheard of": "invalid_network",
    }
    assert await books(attacked) == before


async def test_what_was_not_offered_is_refused(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    entry = await offer_of(http)
    good, quote = sign(wallet, entry), entry["extra"]["quote"]
    other = await offer_of(http, f"/features/ai_analyst?address={'0x' + '22' * 20}")
    sent = {
        "another asset": sign(wallet, entry | {"asset": ADDRESS}),
        "another asset in words only": good.saying("accepted.asset", ADDRESS),
        "one unit under": sign(wallet, entry | {"amount": "999999"}),
        "one unit over": sign(wallet, entry | {"amount": "1000001"}),
        "another payee": sign(wallet, entry | {"payTo": wallet.address}),
        "another payee in words only": good.saying("accepted.payTo", wallet.address),
        "a longer time": sign(wallet, entry | {"maxTimeoutSeconds": 600}, lives=90),
        "another domain in words": good.saying("accepted.extra.name", "USD Coin"),
        "more than was offered": good.saying("accepted.extra.more", "1"),
        "a quote of nobody": good.saying("accepted.extra.quote", "made up"),
        "a quote cut short": good.saying("accepted.extra.quote", quote[:-4]),
        "a quote with a flipped bit": good.saying(
            "accepted.extra.quote", ("B" if quote[0] == "A" else "A") + quote[1:]
        ),
        "the quote of another call's price": good.saying(
            "accepted.extra.quote", other["extra"]["quote"]
        ).saying("accepted.amount", "100000"),
    }
    before = await books(attacked)
    found = {
        name: reason_of(await http.get(ANALYST, headers=one.headers))
        for name, one in sent.items()
    }
    assert found == dict.fromkeys(sent, REQUIREMENTS)
    assert await books(attacked) == before


async def test_signed_words_must_be_the_words_of_the_offer(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    entry = await offer_of(http)
    v1 = await offer_of(http, version=1)
    cheapest = int(v1["maxAmountRequired"])
    sent = {
        "one unit under": (sign(wallet, entry, value=999_999), VALUE),
        "one unit over": (sign(wallet, entry, value=1_000_001), VALUE),
        "nothing": (sign(wallet, entry, value=0), VALUE),
        "all the money in the world": (sign(wallet, entry, value=2**256 - 1), VALUE),
        "another payee": (sign(wallet, entry, to=wallet.address), RECIPIENT),
        "one unit under, version 1": (sign(wallet, v1, value=cheapest - 1), VALUE),
        "one unit over, version 1": (sign(wallet, v1, value=cheapest + 1), VALUE),
        "another payee, version 1": (sign(wallet, v1, to=wallet.address), RECIPIENT),
    }
    before = await books(attacked)
    found = {
        name: reason_of(await http.get(ANALYST, headers=one.headers))
        for name, (one, _) in sent.items()
    }
    assert found == {name: reason for name, (_, reason) in sent.items()}
    assert await books(attacked) == before


async def test_an_expired_quote_is_refused(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    entry = await offer_of(http)
    payment = sign(wallet, entry, lives=3000)
    attacked.clock.advance(301)
    answer = await http.get(ANALYST, headers=payment.headers)
    assert reason_of(answer) == REQUIREMENTS
    assert await count(attacked, "claim") == 0


WINDOWS = {
    "expired an hour ago": (-3600, 0, BEFORE),
    "expired just now": (-1, 0, BEFORE),
    "ends now": (0, 0, BEFORE),
    "ends in 6 seconds": (6, 0, BEFORE),
    "ends in 18 seconds": (18, 0, BEFORE),
    "ends in an hour and 3 seconds": (3603, 0, BEFORE),
    "ends in a year": (365 * 86400, 0, BEFORE),
    "begins in 3 seconds": (60, 3, AFTER),
    "begins in an hour": (60, 3600, AFTER),
}


@pytest.mark.parametrize("version", [1, 2])
async def test_an_authorization_out_of_its_time_is_refused(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount, version: int
) -> None:
    entry = await offer_of(http, version=version)
    before = await books(attacked)
    found = {}
    for name, (ends, begins, _) in WINDOWS.items():
        start = int(time.time()) + begins if begins else 0
        one = sign(wallet, entry, lives=ends, validAfter=start)
        found[name] = reason_of(await http.get(ANALYST, headers=one.headers))
    forever = sign(wallet, entry, validBefore=2**256 - 1)
    found["never ends"] = reason_of(await http.get(ANALYST, headers=forever.headers))
    expected = {name: reason for name, (_, _, reason) in WINDOWS.items()}
    assert found == expected | {"never ends": BEFORE}
    assert await books(attacked) == before


@pytest.mark.parametrize("lives", [22, 120, 3598])
async def test_an_authorization_in_time_is_taken(
    http: httpx.AsyncClient, wallet: LocalAccount, lives: int
) -> None:
    begun = int(time.time()) - 600
    payment = sign(wallet, await offer_of(http), lives=lives, validAfter=begun)
    answer = await http.get(ANALYST, headers=payment.headers)
    assert answer.status_code == 200, answer.text


async def test_an_authorization_for_longer_than_two_minutes_is_never_waived(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    await buy(http, wallet)
    for lives in (600, 110):
        payment = sign(wallet, await offer_of(http), lives=lives)
        answer = await http.get(ANALYST, headers=payment.headers)
        assert answer.status_code == 200, answer.text
    assert await count(attacked, "claim", "state = 'settling'") == 2
    assert await count(attacked, "claim", "state = 'waived'") == 1
