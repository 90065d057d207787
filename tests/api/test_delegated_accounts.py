"""Accounts with a key and a contract's code: the contract decides (EIP-7702, A27)."""

import asyncio
import time

import httpx
import pytest
from eth_account.signers.local import LocalAccount

from tallystick.chain.abi import word
from tallystick.chain.local import ADDRESSES, LocalChain
from tallystick.chain.relay import settlement_call
from tallystick.chain.token import balance_of
from tests.api.payments import (
    ANALYST,
    ON_SQLITE,
    address_of,
    books,
    buy,
    count,
    funded,
    offer_of,
    reason_of,
    sign,
    until_written,
)
from tests.api.test_bad_input_on_chain import authorization_of
from tests.api.test_contract_wallets import MOODS, ONLY_IN_SIMULATION, SIGNATURE
from tests.delegation import NOBODY, delegate, planted
from tests.live import DOLLAR, LiveServer

pytestmark = ON_SQLITE
ACCEPTS_ALL = 0


async def hostile(chain: LocalChain, mood: int) -> LocalAccount:
    """An account of $100 that has delegated to a hostile wallet's code."""
    account = await funded(chain)
    await delegate(chain, account, await planted(chain, "HostileWallet"))
    await chain.write_storage(address_of(account), 0, word(mood))
    return account


async def left(chain: LocalChain, account: LocalAccount) -> int:
    return await balance_of(chain.chain, address_of(account))


async def test_an_account_pays_by_its_key_as_long_as_its_delegate_agrees(
    http: httpx.AsyncClient, attacked: LiveServer, chain: LocalChain
) -> None:
    account = await funded(chain)
    await delegate(chain, account, await planted(chain, "SmartWallet"))
    for credits_left in ("9", "8"):
        payment = sign(account, await offer_of(http))
        answer = await http.get(ANALYST, headers=payment.headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["credits-remaining"] == credits_left
    assert await left(chain, account) == 99 * DOLLAR
    assert await count(attacked, "claim", "state = 'waived'") == 1


async def test_a_delegate_may_take_bytes_that_are_no_key_signature(
    http: httpx.AsyncClient, chain: LocalChain
) -> None:
    account = await hostile(chain, ACCEPTS_ALL)
    payment = sign(account, await offer_of(http)).signed_as(b"\x07" * 700)
    answer = await http.get(ANALYST, headers=payment.headers)
    assert answer.status_code == 200, answer.text
    assert await left(chain, account) == 99 * DOLLAR


@pytest.mark.parametrize("mood", MOODS)
async def test_what_the_key_signed_does_not_count_against_the_delegate(
    http: httpx.AsyncClient, attacked: LiveServer, chain: LocalChain, mood: str
) -> None:
    """The token asks the delegate alone, so a settlement would revert at our cost."""
    account = await hostile(chain, MOODS[mood])
    before = await books(attacked)
    for version in (1, 2):
        by_key = sign(account, await offer_of(http, version=version))
        for payment in (by_key, by_key.signed_as(b"\x01" * 80)):
            began = time.monotonic()
            answer = await http.get(ANALYST, headers=payment.headers)
            assert time.monotonic() - began < 2.5
            assert reason_of(answer) == SIGNATURE
    assert await books(attacked) == before
    assert await left(chain, account) == 100 * DOLLAR


async def test_a_delegate_that_lies_to_a_rehearsal_costs_one_revert(
    http: httpx.AsyncClient, attacked: LiveServer, chain: LocalChain
) -> None:
    account = await hostile(chain, ONLY_IN_SIMULATION)
    payment = sign(account, await offer_of(http))
    waits_not = {"Prefer": "respond-async"}
    answer = await http.get(ANALYST, headers=payment.headers | waits_not)
    assert answer.status_code == 202
    await until_written(attacked, "topup", "state = 'watch'")
    for _ in range(4):
        await chain.mine()
        await asyncio.sleep(0.1)  # in which it is looked at once more
        copy = await http.get(ANALYST, headers=payment.headers)
        assert copy.status_code in (402, 409)
    assert await count(attacked, "relayed_transaction") == 1
    assert await count(attacked, "credit_grant") == 0
    assert await left(chain, account) == 100 * DOLLAR


async def test_a_delegation_that_ends_after_the_check_pays_nothing(
    http: httpx.AsyncClient, attacked: LiveServer, chain: LocalChain
) -> None:
    """Its transaction is out by then, so it reverts: once."""
    account = await hostile(chain, ACCEPTS_ALL)
    payment = sign(account, await offer_of(http)).signed_as(b"\x01" * 80)
    await chain.set_automine(on=False)
    waits_not = {"Prefer": "respond-async"}
    answer = await http.get(ANALYST, headers=payment.headers | waits_not)
    assert answer.status_code == 202
    await until_written(attacked, "relayed_transaction")
    await chain.plant(address_of(account), b"")
    await chain.set_automine(on=True)
    await chain.mine()
    await until_written(attacked, "topup", "state = 'watch'")
    for _ in range(4):
        await chain.mine()
        await asyncio.sleep(0.1)
        copy = await http.get(ANALYST, headers=payment.headers)
        assert copy.status_code in (402, 409)
    assert await count(attacked, "relayed_transaction", "kind = 'settlement'") == 1
    assert await count(attacked, "credit_grant") == 0
    assert await left(chain, account) == 100 * DOLLAR


async def test_an_account_whose_delegation_has_ended_pays_by_its_key_again(
    http: httpx.AsyncClient, chain: LocalChain
) -> None:
    account = await hostile(chain, MOODS["refuses"])
    payment = sign(account, await offer_of(http))
    assert reason_of(await http.get(ANALYST, headers=payment.headers)) == SIGNATURE
    await delegate(chain, account, NOBODY)
    answer = await http.get(ANALYST, headers=payment.headers)
    assert answer.status_code == 200, answer.text
    assert await left(chain, account) == 99 * DOLLAR


async def test_credits_are_spent_by_the_key_whatever_the_delegate_is(
    http: httpx.AsyncClient, attacked: LiveServer, chain: LocalChain
) -> None:
    """The key can end the delegation at any time, so it proves whose credits they are."""
    account = await funded(chain)
    await buy(http, account)
    await delegate(chain, account, await planted(chain, "HostileWallet"))
    await chain.write_storage(address_of(account), 0, word(MOODS["refuses"]))
    payment = sign(account, await offer_of(http))
    answer = await http.get(ANALYST, headers=payment.headers)
    assert answer.status_code == 200, answer.text
    assert await count(attacked, "claim", "state = 'waived'") == 1
    stranger = await funded(chain)
    forged = sign(account, await offer_of(http), key=stranger)
    answer = await http.get(ANALYST, headers=forged.headers)
    assert reason_of(answer) == SIGNATURE


async def test_what_was_captured_before_the_delegation_is_credited_after_it(
    http: httpx.AsyncClient, attacked: LiveServer, chain: LocalChain
) -> None:
    """Its money has arrived, so a 402 would let its payer pay twice."""
    account = await funded(chain)
    path, body = "/api/credits/add", {"pack": "pack_5"}
    payment = sign(account, await offer_of(http, path, method="POST", json=body))
    call = settlement_call(authorization_of(payment), payment.signature)
    assert (await chain.send(ADDRESSES[5], chain.token, call)).succeeded
    await delegate(chain, account, await planted(chain, "HostileWallet"))
    await chain.write_storage(address_of(account), 0, word(MOODS["refuses"]))
    answer = await http.post(path, json=body, headers=payment.headers)
    assert answer.status_code == 200, answer.text
    assert await left(chain, account) == 95 * DOLLAR
    assert await count(attacked, "credit_grant") == 1
