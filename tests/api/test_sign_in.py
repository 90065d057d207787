"""Spending credits by signing in: a wallet's signature on each call (sign-in-with-x)."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from x402.extensions.sign_in_with_x import (
    CreateSIWxClientExtensionOptions,
    create_siwx_client_extension,
)
from x402.http.clients import x402HttpxClient
from x402.mechanisms.evm.exact import ExactEvmScheme
from x402.mechanisms.evm.signers import EthAccountSigner

from tallystick.chain.local import LocalChain
from tests.api.callers import bearer, give
from tests.api.payments import (
    ON_SQLITE,
    books,
    count,
    decode,
    encode,
    funded,
    reason_of,
    refusal_of,
)
from tests.live import LiveServer
from x402 import x402Client

ECHO = "/features/echo?text=siwx"
HEADER = "SIGN-IN-WITH-X"


def stock_client(server: LiveServer, wallet: LocalAccount) -> x402HttpxClient:
    """An unmodified client whose owner has registered the extension."""
    payer = x402Client()
    payer.register("eip155:*", ExactEvmScheme(EthAccountSigner(wallet)))
    options = CreateSIWxClientExtensionOptions(signers=[wallet])
    payer.register_extension(create_siwx_client_extension(options))
    return x402HttpxClient(payer, base_url=server.url, timeout=60)


@pytest.fixture
async def wallet(shop_server: LiveServer) -> LocalAccount:
    """A wallet with ten credits and not a cent."""
    one: LocalAccount = Account.create()
    await give(shop_server, one, 10)
    return one


async def offer_of(shop: httpx.AsyncClient, path: str = ECHO) -> dict[str, Any]:
    answer = await shop.get(path)
    if answer.status_code == 402:
        extensions = decode(answer.headers["PAYMENT-REQUIRED"])["extensions"]
    else:
        extensions = answer.json()["extensions"]
    info: dict[str, Any] = extensions["sign-in-with-x"]["info"]
    return info


def message_of(info: dict[str, Any], address: str) -> str:
    """The text that a wallet shows (EIP-4361)."""
    return (
        f"{info['domain']} wants you to sign in with your Ethereum account:\n"
        f"{address}\n\n{info['statement']}\n\nURI: {info['uri']}\nVersion: 1\n"
        f"Chain ID: 84532\nNonce: {info['nonce']}\nIssued At: {info['issuedAt']}\n"
        f"Expiration Time: {info['expirationTime']}"
    )


def signed(wallet: LocalAccount, info: dict[str, Any], **said: Any) -> dict[str, str]:
    """The header for an offer; ``said`` is said after what was signed."""
    text = message_of(info, wallet.address)
    signature = wallet.sign_message(encode_defunct(text=text)).signature
    document = {
        **info,
        "address": wallet.address,
        "chainId": "eip155:84532",
        "type": "eip191",
        "signature": "0x" + bytes(signature).hex(),
    }
    return {HEADER: encode(document | said)}


def flipped(signature: str) -> str:
    """The same with one bit of its first byte turned."""
    return f"0x{int(signature[2:4], 16) ^ 1:02x}{signature[4:]}"


async def test_a_stock_client_that_signs_in_spends_credits_and_pays_nothing(
    shop_server: LiveServer, wallet: LocalAccount
) -> None:
    remaining = []
    async with stock_client(shop_server, wallet) as client:
        for _ in range(10):
            answer = await client.get(ECHO)
            assert answer.status_code == 200, answer.text
            remaining.append(answer.headers["credits-remaining"])
    assert remaining == [str(n) for n in range(9, -1, -1)]
    assert await count(shop_server, "claim") == 0
    assert await count(shop_server, "topup") == 0


@ON_SQLITE
async def test_a_stock_client_that_signs_in_and_is_short_goes_on_to_pay(
    shop_server: LiveServer, chain: LocalChain
) -> None:
    wallet = await funded(chain)
    async with stock_client(shop_server, wallet) as client:
        for expected in ("9", "8"):
            answer = await client.get(ECHO)
            assert answer.status_code == 200, answer.text
            assert answer.headers["credits-remaining"] == expected
    assert await count(shop_server, "topup") == 1
    assert await count(shop_server, "claim") == 1


@ON_SQLITE
async def test_a_sign_in_works_at_every_door_of_a_customer(
    shop: httpx.AsyncClient, wallet: LocalAccount
) -> None:
    doors = [
        ("GET", ECHO, None, 200),
        ("POST", "/api/credits/deduct", {"feature": "echo"}, 200),
        ("GET", "/api/credits", None, 200),
        ("GET", "/api/credits/transactions", None, 200),
        ("POST", "/api/keys", {"name": "by wallet"}, 201),
        ("GET", "/api/keys", None, 200),
    ]
    for method, path, body, expected in doors:
        header = signed(wallet, await offer_of(shop))
        answer = await shop.request(method, path, json=body, headers=header)
        assert answer.status_code == expected, answer.text
    secret = (
        await shop.post(
            "/api/keys", json={}, headers=signed(wallet, await offer_of(shop))
        )
    ).json()["secret"]
    found = (await shop.get("/api/credits", headers=bearer(secret))).json()
    assert found["credits"] == 8


@ON_SQLITE
async def test_the_offer_of_a_401_works_as_well(
    shop: httpx.AsyncClient, wallet: LocalAccount
) -> None:
    info = await offer_of(shop, "/api/credits")
    found = await shop.get("/api/credits", headers=signed(wallet, info))
    assert found.json()["credits"] == 10


async def test_a_sign_in_works_once(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount
) -> None:
    header = signed(wallet, await offer_of(shop))
    answers = await asyncio.gather(*(shop.get(ECHO, headers=header) for _ in range(20)))
    assert Counter(one.status_code for one in answers) == {200: 1, 402: 19}
    again = await shop.get("/api/credits", headers=header)
    assert refusal_of(again) == (401, "sign_in_replayed")
    assert await count(shop_server, "usage_event") == 1


@ON_SQLITE
async def test_a_used_sign_in_on_a_priced_route_is_told_how_to_pay_or_sign_anew(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount
) -> None:
    """Stock clients take a 401 for the last word; from a 402 they go on."""
    header = signed(wallet, await offer_of(shop))
    assert (await shop.get(ECHO, headers=header)).status_code == 200
    before = await books(shop_server)
    for ask in (
        shop.get(ECHO, headers=header),
        shop.post("/api/credits/deduct", json={"feature": "echo"}, headers=header),
    ):
        answer = await ask
        assert reason_of(answer) == "invalid_siwx_nonce"
        assert answer.json()["cause"] == "sign_in_replayed"
        assert "used before" in answer.json()["detail"]
        assert decode(answer.headers["PAYMENT-REQUIRED"])["accepts"]
    assert await books(shop_server) == before
    fresh = signed(wallet, await offer_of(shop))
    assert (await shop.get(ECHO, headers=fresh)).status_code == 200


@ON_SQLITE
async def test_a_sign_in_replayed_after_it_was_forgotten_is_refused(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount
) -> None:
    from tallystick.workers.upkeep import sweep

    header = signed(wallet, await offer_of(shop))
    assert (await shop.get(ECHO, headers=header)).status_code == 200
    for _ in range(20):
        shop_server.clock.advance(60)
        await sweep(shop_server.gate.db, shop_server.gate.rail)
        answer = await shop.get("/api/credits", headers=header)
        assert answer.status_code == 401
    assert await count(shop_server, "used_nonce") == 0


@ON_SQLITE
async def test_a_sign_in_that_proves_nobody_is_refused(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount
) -> None:
    """On a priced route with a new 402, since stock clients would not go on from 401."""
    thief: LocalAccount = Account.create()
    info = await offer_of(shop)
    good = decode(signed(wallet, info)[HEADER])
    later = info | {"expirationTime": info["expirationTime"].replace("20", "21", 1)}
    away = info | {"domain": "evil.example", "uri": "https://evil.example/"}
    wrong = {
        "another's signature": signed(thief, info, address=wallet.address),
        "a flipped bit": signed(wallet, info, signature=flipped(good["signature"])),
        "another nonce": signed(wallet, info | {"nonce": "f" * 64}),
        "a nonce after signing": signed(wallet, info, nonce="f" * 64),
        "a longer life": signed(wallet, later),
        "another site's sign-in": signed(wallet, away),
        "another chain": signed(wallet, info, chainId="eip155:1"),
        "another statement": signed(wallet, info | {"statement": "Give me all."}),
    }
    before = await books(shop_server)
    for name, header in wrong.items():
        answer = await shop.get(ECHO, headers=header)
        assert refusal_of(answer) == (402, "payment_rejected"), name
        assert answer.json()["reason"].startswith("invalid_siwx"), name
        assert answer.json()["cause"] == "sign_in_rejected", name
        assert decode(answer.headers["PAYMENT-REQUIRED"])["accepts"]
        answer = await shop.get("/api/credits", headers=header)
        assert refusal_of(answer) == (401, "sign_in_rejected"), name
    assert await books(shop_server) == before
    assert await count(shop_server, "used_nonce") == 0
    # None of that has used up the nonce.
    assert (await shop.get(ECHO, headers={HEADER: encode(good)})).status_code == 200


@ON_SQLITE
async def test_an_expired_sign_in_is_refused(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount
) -> None:
    header = signed(wallet, await offer_of(shop))
    shop_server.clock.advance(301)
    answer = await shop.get("/api/credits", headers=header)
    assert refusal_of(answer) == (401, "sign_in_rejected")
    assert answer.json()["reason"] == "invalid_siwx_expired"


@ON_SQLITE
async def test_a_wallet_cannot_sign_in_beside_another_wallets_payment(
    shop: httpx.AsyncClient, shop_server: LiveServer, wallet: LocalAccount
) -> None:
    from tests.api import payments

    other: LocalAccount = Account.create()
    payment = payments.sign(other, await payments.offer_of(shop, ECHO))
    header = signed(wallet, await offer_of(shop)) | payment.headers
    before = await books(shop_server)
    answer = await shop.get(ECHO, headers=header)
    assert refusal_of(answer) == (409, "payer_not_linked")
    assert await books(shop_server) == before
