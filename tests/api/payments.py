"""Payments made by hand, so that a test may spoil any one part of them.

A ``Payment`` is signed for one entry of a 402's ``accepts``. What the payer signs can
be replaced field by field when it is made; what the header says, afterwards.
"""

import asyncio
import copy
import json
import secrets
import time
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from typing import Any, Self

import httpx
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import LocalChain
from tallystick.kernel.db import query
from tallystick.kernel.money import UsdcAtomic
from tests.live import DOLLAR, Buyer, LiveServer

ADDRESS = "0x" + "11" * 20
ANALYST = f"/features/ai_analyst?address={ADDRESS}"
"""A call that costs one credit."""
NAMES = {1: "X-PAYMENT", 2: "PAYMENT-SIGNATURE"}
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For tests in which neither concurrency nor SQL matters: they run once."""

_TRANSFER = [
    {"name": "from", "type": "address"},
    {"name": "to", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "validAfter", "type": "uint256"},
    {"name": "validBefore", "type": "uint256"},
    {"name": "nonce", "type": "bytes32"},
]


def encode(document: Any) -> str:
    """As clients write a header: base64 of JSON."""
    return b64encode(json.dumps(document).encode()).decode()


def decode(header: str) -> Any:
    return json.loads(b64decode(header))


@dataclass(frozen=True)
class Payment:
    """What a client sends, in JSON, and which version's header carries it."""

    document: dict[str, Any]
    version: int = 2

    @property
    def headers(self) -> dict[str, str]:
        return {NAMES[self.version]: encode(self.document)}

    @property
    def authorization(self) -> dict[str, str]:
        signed: dict[str, str] = self.document["payload"]["authorization"]
        return signed

    @property
    def signature(self) -> bytes:
        return bytes.fromhex(self.document["payload"]["signature"][2:])

    def saying(self, path: str, value: Any) -> Self:
        """The same header with one member replaced, such as ``payload.signature``."""
        document = copy.deepcopy(self.document)
        *parents, name = path.split(".")
        place = document
        for parent in parents:
            place = place[parent]
        place[name] = value
        return replace(self, document=document)

    def without(self, path: str) -> Self:
        document = copy.deepcopy(self.document)
        *parents, name = path.split(".")
        place = document
        for parent in parents:
            place = place[parent]
        del place[name]
        return replace(self, document=document)

    def signed_as(self, signature: bytes) -> Self:
        return self.saying("payload.signature", "0x" + signature.hex())


def sign(
    payer: LocalAccount,
    entry: dict[str, Any],
    *,
    key: LocalAccount | None = None,
    lives: int | None = None,
    primary_type: str = "TransferWithAuthorization",
    domain: dict[str, Any] | None = None,
    **fields: Any,
) -> Payment:
    """Pay the entry as a stock client does, unless told otherwise.

    ``lives`` seconds from now is validBefore; ``key`` signs in the payer's place;
    ``fields`` replace members of the authorization, ``domain`` of the EIP-712 domain.
    """
    version = 1 if "maxAmountRequired" in entry else 2
    amount = entry["maxAmountRequired" if version == 1 else "amount"]
    seconds = entry["maxTimeoutSeconds"] if lives is None else lives
    message = {
        "from": payer.address,
        "to": entry["payTo"],
        "value": int(amount),
        "validAfter": 0,
        "validBefore": int(time.time()) + seconds,
        "nonce": secrets.token_bytes(32),
    } | fields
    full_domain = {
        "name": entry["extra"]["name"],
        "version": entry["extra"]["version"],
        "chainId": 84532,
        "verifyingContract": entry["asset"],
    } | (domain or {})
    signable = encode_typed_data(full_domain, {primary_type: _TRANSFER}, message)
    signature = (key or payer).sign_message(signable).signature
    shown = {name: str(value) for name, value in message.items()}
    shown["nonce"] = "0x" + message["nonce"].hex()
    payload = {"authorization": shown, "signature": "0x" + bytes(signature).hex()}
    if version == 1:
        chosen = {"scheme": entry["scheme"], "network": entry["network"]}
        return Payment({"x402Version": 1, **chosen, "payload": payload}, 1)
    return Payment({"x402Version": 2, "accepted": entry, "payload": payload})


async def offer_of(
    http: httpx.AsyncClient,
    path: str = ANALYST,
    *,
    method: str = "GET",
    version: int = 2,
    **request: Any,
) -> dict[str, Any]:
    """The first entry that the 402 for this request offers to a version."""
    answer = await http.request(method, path, **request)
    assert answer.status_code == 402, answer.text
    entries = answer.json()["accepts"]
    if version == 2:
        entries = decode(answer.headers["PAYMENT-REQUIRED"])["accepts"]
    first: dict[str, Any] = entries[0]
    return first


async def fund(chain: LocalChain, wallet: LocalAccount, dollars: int = 100) -> None:
    await chain.mint(address_of(wallet), UsdcAtomic(dollars * DOLLAR))


async def funded(chain: LocalChain, dollars: int = 100) -> LocalAccount:
    """A new wallet that has so many dollars."""
    wallet: LocalAccount = Account.create()
    await fund(chain, wallet, dollars)
    return wallet


def address_of(wallet: LocalAccount) -> bytes:
    return bytes.fromhex(wallet.address[2:])


async def serve_honest_payer(server: LiveServer, chain: LocalChain) -> None:
    """Whatever is going on, somebody who pays is served, once, and told the truth."""
    buyer = Buyer(await funded(chain, 1))
    async with buyer.client(server) as client:
        answer = await client.get(ANALYST)
    assert answer.status_code == 200, answer.text
    assert answer.json()["kind"] == "wallet"
    assert answer.headers["credits-charged"] == "1"
    assert answer.headers["credits-remaining"] == "9"


async def count(server: LiveServer, table: str, where: str = "1 = 1") -> int:
    """How many rows a table has."""
    async with server.gate.db.read() as session:
        sql = f"SELECT COUNT(*) AS found FROM {table} WHERE {where}"
        return int((await query(session, sql))[0]["found"])


async def until_written(server: LiveServer, table: str, where: str = "1 = 1") -> None:
    """Wait for a row, which a worker of the server writes."""
    async with asyncio.timeout(20):
        while await count(server, table, where) == 0:  # noqa: ASYNC110  # a database's row
            await asyncio.sleep(0.02)


BOOKS = ("claim", "topup", "hold", "ledger_transaction", "relayed_transaction")


async def books(server: LiveServer) -> dict[str, int]:
    """How much is written; an attack that has no effect leaves it as it was."""
    return {table: await count(server, table) for table in BOOKS}


def refusal_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code, after looking whether the answer is what every refusal is."""
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.headers["cache-control"] == "no-store, private"
    document = answer.json()
    assert document["status"] == answer.status_code
    for member in ("title", "detail", "next_step", "type"):
        assert document[member], f"{document['code']} has no {member}"
    return answer.status_code, document["code"]


def reason_of(answer: httpx.Response) -> str:
    """Why a payment was refused, as both versions of the protocol are told."""
    assert refusal_of(answer) == (402, "payment_rejected")
    reason: str = answer.json()["reason"]
    assert decode(answer.headers["PAYMENT-REQUIRED"])["error"] == reason
    assert answer.json()["error"] == reason
    return reason


async def buy(
    http: httpx.AsyncClient, wallet: LocalAccount, pack: str = "pack_5"
) -> httpx.Response:
    """Buy a pack by hand."""
    path, body = "/api/credits/add", {"pack": pack}
    payment = sign(wallet, await offer_of(http, path, method="POST", json=body))
    answer = await http.post(path, json=body, headers=payment.headers)
    assert answer.status_code == 200, answer.text
    return answer
