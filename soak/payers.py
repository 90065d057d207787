"""Honest people in ``payments``: they buy, call and spend, whatever happens.

What each meant, signed and was told goes to the notes, one JSON line each:

    {"meant": "<id>", "kind": "purchase", "payer": "0x…", "by": "eip3009"}
    {"signed": "<id>", "nonce": "0x…"}
    {"pending": "<id>", "status": 202, "code": "settlement_pending"}
    {"refused": "<id>", "code": "payment_rejected", "reason": "…"}
    {"credited": "<id>", "nonce": "0x…", "topup": "top_…", "added": 10}
    {"served": "<id>", "payer": "0x…"}
"""

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from eth_account.signers.local import LocalAccount
from tests.api.payments import Payment, decode
from tests.live import Buyer

from soak.acknowledgements import Acknowledgements
from tallystick.chain.local import LocalChain

ADD = "/api/credits/add"
PURCHASE: dict[str, Any] = {"method": "POST", "path": ADD, "json": {"amount": 1}}
_AGAIN = {"payment_in_progress", "request_in_progress", "settlement_pending"}
_PAUSE_SECONDS = 0.3


def is_open(answer: httpx.Response) -> bool:
    """Whether the payer is told to ask again, with the same header."""
    if answer.status_code in {202, 429, 503}:
        return True
    return answer.status_code == 409 and answer.json()["code"] in _AGAIN


@dataclass
class Town:
    """What everybody knows; ``headers`` are those of purchases that are settled."""

    chain: LocalChain
    urls: list[str]
    http: httpx.AsyncClient
    notes: Acknowledgements
    chance: random.Random
    settled: list[Payment] = field(default_factory=list)
    transactions: list[str] = field(default_factory=list)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    # Held by whoever puts something into the node's pool, past the proxy.
    pool: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        """The answer of any of the servers, as soon as there is one."""
        while True:
            url = self.chance.choice(self.urls)
            try:
                return await self.http.request(
                    method, url + path, headers=headers, **more
                )
            except httpx.TransportError:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def offer(self, **request: Any) -> httpx.Response:
        """A 402, as soon as payments are taken."""
        while (answer := await self.ask(**request)).status_code != 402:
            assert answer.status_code == 503, answer.text
            await asyncio.sleep(_PAUSE_SECONDS)
        return answer

    async def insist(
        self, name: str, headers: dict[str, str], **request: Any
    ) -> httpx.Response:
        """Show one payment until there is an answer that stays."""
        while is_open(answer := await self.ask(headers=headers, **request)):
            code = answer.json().get("code")
            self.notes.note(pending=name, status=answer.status_code, code=code)
            # As he is told; a thousand at once would keep the machine from settling.
            told = float(answer.headers.get("Retry-After", _PAUSE_SECONDS))
            await asyncio.sleep(min(told, 2) * self.chance.uniform(0.5, 1.5))
        return answer

    async def nap(self, seconds: float) -> None:
        """Sleep, or less if it is over."""
        try:
            async with asyncio.timeout(seconds):
                await self.is_over.wait()
        except TimeoutError:
            return

    def mean(self, kind: str, wallet: LocalAccount, by: str = "eip3009") -> str:
        """Begin something that an honest payer wants; its name."""
        name = secrets.token_hex(8)
        self.notes.note(meant=name, kind=kind, payer=wallet.address, by=by)
        return name

    def credited(self, name: str, payment: Payment, answer: httpx.Response) -> None:
        """Somebody was told that his payment brought credits."""
        document = answer.json()
        self.notes.note(
            credited=name,
            nonce=nonce_of(payment),
            topup=document["topup"]["id"],
            added=document["added"],
        )
        self.settled.append(payment)
        self.transactions.append(document["topup"]["transaction"])

    def refused(self, name: str, answer: httpx.Response) -> None:
        document = answer.json()
        self.notes.note(
            refused=name,
            status=answer.status_code,
            code=document["code"],
            reason=document.get("reason"),
        )


def nonce_of(payment: Payment) -> str:
    """Of an authorization or of a permit, 32 bytes in hex."""
    permit = payment.document["payload"].get("permit2Authorization")
    if permit is None:
        return payment.authorization["nonce"]
    return f"0x{int(permit['nonce']):064x}"


@dataclass(frozen=True)
class Way:
    """How somebody pays: what he signs for a 402."""

    by: str
    sign: Callable[[LocalAccount, httpx.Response], Awaitable[Payment]]


async def stock(wallet: LocalAccount, offer: httpx.Response) -> Payment:
    """What a stock client answers to this 402."""
    headers = await Buyer(wallet).pay(offer.headers)
    return Payment(decode(headers["PAYMENT-SIGNATURE"]))


EIP3009 = Way("eip3009", stock)


async def buy(town: Town, wallet: LocalAccount, way: Way = EIP3009) -> None:
    """One purchase; a 402 is the only reason to sign once more."""
    name = town.mean("purchase", wallet, way.by)
    answer = await town.offer(**PURCHASE)
    while answer.status_code == 402:
        payment = await way.sign(wallet, answer)
        town.notes.note(signed=name, nonce=nonce_of(payment))
        answer = await town.insist(name, payment.headers, **PURCHASE)
        if answer.status_code != 200:
            town.refused(name, answer)
    if answer.status_code == 200:
        town.credited(name, payment, answer)


async def call(town: Town, wallet: LocalAccount, way: Way = EIP3009) -> None:
    """One call of a credit, paid as the server asks it."""
    name = town.mean("call", wallet, way.by)
    request = {"method": "GET", "path": f"/features/echo?text={name}"}
    answer = await town.offer(**request)
    while answer.status_code != 200:
        if answer.status_code != 402:
            # What it paid for is credited; a new signature is waived for the call.
            answer = await town.offer(**request)
        payment = await way.sign(wallet, answer)
        town.notes.note(attempted=name, nonce=nonce_of(payment))
        answer = await town.insist(name, payment.headers, **request)
        if answer.status_code != 200:
            town.refused(name, answer)
    assert answer.json()["echo"] == name, "somebody else's answer"
    town.notes.note(served=name, payer=wallet.address)


async def keep(
    town: Town, wallet: LocalAccount, work: Callable[[Town, LocalAccount], Any]
) -> None:
    """One thing after the other until it is over."""
    while not town.is_over.is_set():
        await work(town, wallet)
        await town.nap(town.chance.uniform(0.2, 2))


async def spend(town: Town, key: str) -> None:
    """Deduct credits that are there already: the chain has no part in that.

    Told is only what went wrong, and in the end how many went well, and the slowest.
    """
    done, slowest = 0, 0.0
    while not town.is_over.is_set():
        name = secrets.token_hex(8)
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": name}
        url, began = town.chance.choice(town.urls), time.monotonic()
        try:
            answer = await town.http.post(
                f"{url}/api/credits/deduct", json={"feature": "echo"}, headers=headers
            )
        except httpx.TransportError:  # it is being started again
            await asyncio.sleep(_PAUSE_SECONDS)
            continue
        slowest = max(slowest, time.monotonic() - began)
        done += 1
        if answer.status_code != 200:
            town.notes.note(unspent=answer.status_code, text=answer.text[:200])
        await town.nap(0.2)
    town.notes.note(spent=done, slowest=round(slowest, 3))
