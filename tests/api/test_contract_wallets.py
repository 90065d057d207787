"""Wallets that are contracts: they say themselves what they signed (EIP-1271, A27)."""

import asyncio
import time
from collections.abc import Callable

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tallystick.chain.abi import word
from tallystick.chain.fault import FaultProxy
from tallystick.chain.local import LocalChain, artifact
from tallystick.chain.token import balance_of
from tests.api.callers import give
from tests.api.payments import (
    ANALYST,
    ON_SQLITE,
    Payment,
    address_of,
    books,
    count,
    fund,
    offer_of,
    reason_of,
    refusal_of,
    sign,
    until_written,
)
from tests.api.test_bad_input_signatures import compact, high_s
from tests.live import DOLLAR, LiveServer, make_settings, start_server

pytestmark = ON_SQLITE
SIGNATURE = "invalid_exact_evm_payload_signature"
MOODS = {
    "refuses": 1,
    "reverts": 2,
    "burns all gas": 3,
    "answers a megabyte": 4,
    "answers too little": 5,
}
ONLY_IN_SIMULATION = 6
FORMS: dict[str, Callable[[bytes], bytes]] = {
    # A Safe marks by them what its owner signed as a message.
    "v of 31": lambda signature: signature[:64] + b"\x1f",
    "v of 32": lambda signature: signature[:64] + b"\x20",
    "v of 0 or 1": lambda signature: signature[:64] + bytes((signature[64] - 27,)),
    "upper half of s": high_s,
    "compact": compact,
    "all zeros": lambda signature: bytes(len(signature)),
    "empty": lambda _: b"",
    "2,000 bytes": lambda signature: signature + bytes(1935),
}


async def plant(chain: LocalChain, name: str, first_word: bytes | int) -> LocalAccount:
    """A contract at an address whose own key plays no part, with $100."""
    wallet: LocalAccount = Account.create()
    address = address_of(wallet)
    await chain.plant(address, artifact(name))
    await chain.write_storage(address, 0, word(first_word))
    await fund(chain, wallet)
    return wallet


async def test_a_contract_wallet_pays_and_spends_its_credits(
    http: httpx.AsyncClient, attacked: LiveServer, chain: LocalChain
) -> None:
    owner: LocalAccount = Account.create()
    wallet = await plant(chain, "SmartWallet", address_of(owner))
    left = []
    for _ in range(3):
        payment = sign(wallet, await offer_of(http), key=owner)
        answer = await http.get(ANALYST, headers=payment.headers)
        assert answer.status_code == 200, answer.text
        left.append(answer.headers["credits-remaining"])
    assert left == ["9", "8", "7"]
    assert await balance_of(chain.chain, address_of(wallet)) == 99 * DOLLAR
    assert await count(attacked, "claim", "state = 'waived'") == 2
    before = await books(attacked)
    stranger: LocalAccount = Account.create()
    forged = sign(wallet, await offer_of(http), key=stranger)
    answer = await http.get(ANALYST, headers=forged.headers)
    assert reason_of(answer) == SIGNATURE
    assert await books(attacked) == before


@pytest.mark.parametrize("form", FORMS)
async def test_a_wallet_is_asked_about_a_signature_that_no_key_could_have_made(
    http: httpx.AsyncClient, attacked: LiveServer, chain: LocalChain, form: str
) -> None:
    """Those of 65 bytes go to the token as v, r, s, all others as bytes."""
    takes_all = await plant(chain, "HostileWallet", 0)
    refuses = await plant(chain, "HostileWallet", MOODS["refuses"])
    keyed: LocalAccount = Account.create()
    await fund(chain, keyed)
    for wallet, expected in ((takes_all, 200), (refuses, 402), (keyed, 402)):
        payment = sign(wallet, await offer_of(http))
        formed = payment.signed_as(FORMS[form](payment.signature))
        answer = await http.get(ANALYST, headers=formed.headers)
        assert answer.status_code == expected, answer.text
        if expected == 402:
            assert reason_of(answer) == SIGNATURE
    assert await balance_of(chain.chain, address_of(takes_all)) == 99 * DOLLAR
    assert await count(attacked, "claim") == 1


@pytest.mark.parametrize("mood", MOODS)
async def test_a_hostile_wallet_that_does_not_say_yes_pays_nothing_and_delays_nobody(
    http: httpx.AsyncClient, attacked: LiveServer, chain: LocalChain, mood: str
) -> None:
    wallet = await plant(chain, "HostileWallet", MOODS[mood])
    await give(attacked, wallet, 5)
    before = await books(attacked)
    for version in (1, 2):
        payment = sign(wallet, await offer_of(http, version=version))
        by_contract = payment.signed_as(b"\x01" * 80)
        began = time.monotonic()
        answer = await http.get(ANALYST, headers=by_contract.headers)
        assert time.monotonic() - began < 3
        assert reason_of(answer) == SIGNATURE
    assert await books(attacked) == before


async def test_endless_signatures_of_one_authorization_are_one_payment(
    http: httpx.AsyncClient, attacked: LiveServer, chain: LocalChain
) -> None:
    """A wallet that accepts everything gives one nonce endless encodings."""
    wallet = await plant(chain, "HostileWallet", 0)
    payment = sign(wallet, await offer_of(http))
    statuses = []
    for number in range(5):
        one = payment.signed_as(bytes([number]) * (70 + number))
        answer = await http.get(ANALYST, headers=one.headers)
        statuses.append(answer.status_code)
    assert statuses == [200, 409, 409, 409, 409]
    assert await count(attacked, "claim") == 1
    assert await balance_of(chain.chain, address_of(wallet)) == 99 * DOLLAR


async def test_a_wallet_that_says_yes_only_while_nobody_pays_gas_drains_no_gas(
    http: httpx.AsyncClient, attacked: LiveServer, chain: LocalChain
) -> None:
    """What it let revert once is not sent again and again."""
    wallet = await plant(chain, "HostileWallet", ONLY_IN_SIMULATION)
    payment = sign(wallet, await offer_of(http)).signed_as(b"\x01" * 80)
    answer = await http.get(
        ANALYST, headers=payment.headers | {"Prefer": "respond-async"}
    )
    assert answer.status_code == 202
    await until_written(attacked, "topup", "state = 'watch'")
    for _ in range(4):
        await chain.mine()
        await asyncio.sleep(0.1)  # in which it is looked at once more
        copy = await http.get(ANALYST, headers=payment.headers)
        assert copy.status_code in (402, 409)
        refusal_of(copy)
    assert await count(attacked, "relayed_transaction") == 1
    assert await count(attacked, "credit_grant") == 0
    assert await balance_of(chain.chain, address_of(wallet)) == 100 * DOLLAR


async def test_a_contract_wallet_waits_for_the_node_and_a_key_does_not(
    database_url: str, chain: LocalChain, free_port: int
) -> None:
    """Who is asked by a call cannot be proven during an outage."""
    owner: LocalAccount = Account.create()
    contract = await plant(chain, "SmartWallet", address_of(owner))
    key: LocalAccount = Account.create()
    async with FaultProxy(chain.url) as node:
        settings = make_settings(database_url, node.url, free_port)
        server = await start_server(settings)
        try:
            for wallet in (contract, key):
                await give(server, wallet, 5)
            async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
                await _during_an_outage(http, server, node, contract, owner, key)
            assert (await server.audit()).findings == []
        finally:
            await server.stop()


async def _during_an_outage(
    http: httpx.AsyncClient,
    server: LiveServer,
    node: FaultProxy,
    contract: LocalAccount,
    owner: LocalAccount,
    key: LocalAccount,
) -> None:
    body = {"feature": "ai_analyst"}
    wanted = {"path": "/api/credits/deduct", "method": "POST", "json": body}
    by_contract: Payment = sign(contract, await offer_of(http, **wanted), key=owner)
    by_key = sign(key, await offer_of(http, **wanted))
    await node.down()
    answer = await http.post(wanted["path"], json=body, headers=by_contract.headers)
    assert refusal_of(answer) == (503, "rpc_unavailable")
    assert await count(server, "claim") == 0
    answer = await http.post(wanted["path"], json=body, headers=by_key.headers)
    assert answer.status_code == 200
    await node.up()
    answer = await http.post(wanted["path"], json=body, headers=by_contract.headers)
    assert answer.status_code == 200, answer.text
