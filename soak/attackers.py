"""Those in ``payments`` who want credits or answers without paying for them.

Some only do what a payer may do and what hurts: pay by themselves, cancel, or empty the
wallet in between. Notes of them, beside those of ``payers``:

    {"attack": "copies", "count": 19, "accepted": 0}
    {"raced": "cancelled", "nonce": "0x…", "status": 200}
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount
from tests.api.payments import Payment, address_of, decode, sign
from tests.chain.payer import cancel_call, transfer_call
from tests.strangers import STRANGER, pool
from tests.x402.test_reencoding import (
    BASE64_SPELLINGS,
    FIELDS,
    JSON_SPELLINGS,
    _respelled,
)

from soak.payers import ADD, EIP3009, PURCHASE, Town, Way, nonce_of
from tallystick.chain import abi
from tallystick.chain.errors import RpcErrorAnswer, RpcUnavailable
from tallystick.chain.local import OWNER
from tallystick.chain.settlement import settlement_call
from tallystick.chain.token import balance_of
from tallystick.x402.wire import Authorization

COPIES, SPELLINGS = 20, 25
_DOLLARS = 100 * 10**6
_RACE_SECONDS = 8
_MANY_COPIES, _MANY_SPELLINGS = 1_001, 500
_NOT_POOLED = (RpcErrorAnswer, RpcUnavailable)
"""A stranger whose transaction was not taken has simply done nothing."""


async def purchase_of(town: Town, wallet: LocalAccount) -> Payment:
    """A payment for ten credits that nobody has seen."""
    offer = await town.offer(**PURCHASE)
    return sign(wallet, decode(offer.headers["PAYMENT-REQUIRED"])["accepts"][0])


def authorization_of(payment: Payment) -> Authorization:
    """What the payer signed."""
    signed = payment.authorization
    payer, pay_to, nonce = (
        bytes.fromhex(signed[name][2:]) for name in ("from", "to", "nonce")
    )
    value, after, before = (
        int(signed[name]) for name in ("value", "validAfter", "validBefore")
    )
    return Authorization(payer, pay_to, value, after, before, nonce)


async def copies(
    town: Town, wallet: LocalAccount, way: Way = EIP3009, *, count: int = COPIES
) -> None:
    """One payment, many times at once: all are told of the same top-up."""
    name = town.mean("copies", wallet, way.by)
    payment = await way.sign(wallet, await town.offer(**PURCHASE))
    town.notes.note(signed=name, nonce=nonce_of(payment))
    shown = [town.insist(name, payment.headers, **PURCHASE) for _ in range(count)]
    await _told_alike(town, name, payment, await asyncio.gather(*shown), "copies")


async def spellings(
    town: Town, wallet: LocalAccount, *, count: int = SPELLINGS
) -> None:
    """One payment in many encodings: the same top-up, or a 400."""
    name = town.mean("spellings", wallet)
    payment = await purchase_of(town, wallet)
    town.notes.note(signed=name, nonce=nonce_of(payment))
    headers = [spelled(town, payment) for _ in range(count)]
    shown = [town.insist(name, one, **PURCHASE) for one in [payment.headers, *headers]]
    answers = await asyncio.gather(*shown)
    taken = [one for one in answers if one.status_code != 400]
    await _told_alike(town, name, payment, taken, "spellings", count=count)


async def crowds(town: Town, wallet: LocalAccount) -> None:
    """Once: a thousand copies of one payment, and another one in 500 encodings."""
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(timeout=40, limits=limits) as http:
        apart = replace(town, http=http)
        await copies(apart, wallet, count=_MANY_COPIES)
        await spellings(apart, wallet, count=_MANY_SPELLINGS)


def spelled(town: Town, payment: Payment) -> Any:
    """Its header as nobody would write it, though some read it."""
    choose, document = town.chance.choice, payment.document
    paths = town.chance.sample(sorted(FIELDS), town.chance.randint(0, 3))
    for path in paths:
        document = _respelled(document, path, choose(FIELDS[path])[1])
    text = choose(JSON_SPELLINGS)[1](document).encode()
    text += b" " * ((2 - len(text)) % 3)
    value = choose(BASE64_SPELLINGS)[1](base64.b64encode(text).decode())
    octets = value.encode() if isinstance(value, str) else value
    # No client can send the others in a header's value.
    octets = bytes(one for one in octets if one >= 0x20 and one != 0x7F).strip()
    return {b"PAYMENT-SIGNATURE": octets}


async def _told_alike(
    town: Town,
    name: str,
    payment: Payment,
    answers: list[httpx.Response],
    kind: str,
    *,
    count: int | None = None,
) -> None:
    topups = {
        one.json()["topup"]["id"] if one.status_code == 200 else one.status_code
        for one in answers
    }
    paid = [one for one in answers if one.status_code == 200]
    town.notes.note(
        attack=kind,
        count=count or len(answers) - 1,
        # More than one answer for one payment.
        accepted=max(0, len(topups) - 1),
        told=sorted(map(str, topups)),
    )
    if paid:
        town.credited(name, payment, paid[0])
    else:
        town.refused(name, answers[0])


async def front_run(town: Town, wallet: LocalAccount) -> None:
    """Somebody else submits the payment: before it is shown, or while it settles."""
    payment = await purchase_of(town, wallet)
    call = settlement_call(authorization_of(payment), payment.signature)
    await front_run_by(town, wallet, payment, call)


async def front_run_by(
    town: Town,
    wallet: LocalAccount,
    payment: Payment,
    call: bytes,
    *,
    to: bytes | None = None,
) -> None:
    """The same by any call that settles the payment; of the token unless told."""
    by = "eip3009" if to is None else "permit2"
    name = town.mean("front run", wallet, by)
    town.notes.note(signed=name, nonce=nonce_of(payment))
    is_before = town.chance.random() < 0.5
    if is_before:
        await strike(town, STRANGER, call, to=to)
        await town.nap(town.chance.uniform(0, 3))
    showing = asyncio.create_task(town.insist(name, payment.headers, **PURCHASE))
    if not is_before:
        await asyncio.sleep(town.chance.uniform(0, 1))
        await strike(town, STRANGER, call, to=to)
    answer = await showing
    if answer.status_code == 200:
        town.credited(name, payment, answer)
    else:
        town.refused(name, answer)


async def cancel(town: Town, wallet: LocalAccount) -> None:
    """The payer cancels what he has shown."""
    payment = await purchase_of(town, wallet)
    nonce = authorization_of(payment).nonce
    call = cancel_call(town.chain, bytes(wallet.key), nonce)
    await race(town, "cancelled", payment, lambda: strike(town, STRANGER, call))


async def drain(town: Town, wallet: LocalAccount) -> None:
    """The payer's wallet is emptied once he has shown his payment, and filled again."""
    payment = await purchase_of(town, wallet)
    payer = address_of(wallet)
    held = await balance_of(town.chain.chain, payer)
    emptied = transfer_call(address_of(Account.create()), held)
    await race(town, "drained", payment, lambda: strike(town, payer, emptied))
    mint = abi.selector("mint(address,uint256)") + abi.word(payer)
    await strike(town, OWNER, mint + abi.word(_DOLLARS))
    await town.nap(2)


async def race(
    town: Town, kind: str, payment: Payment, act: Callable[[], Awaitable[None]]
) -> None:
    """Show the payment and do something about it while it settles."""
    name = nonce_of(payment)
    town.notes.note(racing=kind, nonce=name)
    showing = asyncio.create_task(town.insist(name, payment.headers, **PURCHASE))
    await asyncio.sleep(town.chance.uniform(0, 1.2))
    await act()
    # What reverted stays open until its window is closed for good: nobody waits for it.
    await asyncio.wait([showing], timeout=_RACE_SECONDS)
    status = showing.result().status_code if showing.done() else None
    showing.cancel()
    town.notes.note(raced=kind, nonce=name, status=status)
    town.notes.note(attack=kind, count=1, accepted=0)


async def forge(town: Town, wallet: LocalAccount) -> None:
    """Payments that are none: nobody may take one of them."""
    entry = decode((await town.offer(**PURCHASE)).headers["PAYMENT-REQUIRED"])
    offer = entry["accepts"][0]
    good = sign(wallet, offer)
    forged = [
        sign(wallet, offer, value=1),
        sign(wallet, offer, value=int(offer["amount"]) - 1),
        sign(wallet, offer, to=wallet.address),
        sign(wallet, offer, key=Account.create()),
        sign(wallet, offer, lives=-5),
        sign(wallet, offer, domain={"chainId": 8453}),
        sign(wallet, offer, domain={"verifyingContract": wallet.address}),
        good.saying("payload.authorization.value", "2000000"),
        good.saying("payload.authorization.to", wallet.address),
        good.signed_as(bytes(65)),
        good.signed_as(good.signature[:64] + b"\x1d"),
    ]
    if town.settled:
        stolen = town.chance.choice(town.settled)
        forged.append(good.signed_as(stolen.signature))
    accepted = 0
    for one in forged:
        answer = await town.ask(headers=one.headers, **PURCHASE)
        accepted += answer.status_code in {200, 202}
    town.notes.note(attack="forged", count=len(forged), accepted=accepted)


async def steal(town: Town, wallet: LocalAccount) -> None:
    """What others have paid with is public: it buys no call and no second credits."""
    if not town.settled:
        return
    stolen = town.chance.choice(town.settled)
    name = nonce_of(stolen)[2:18]
    answers = [
        await town.ask("GET", f"/features/echo?text={name}", stolen.headers),
        await town.ask("POST", ADD, stolen.headers, json={"pack": "pack_5"}),
    ]
    tx = town.chance.choice(town.transactions)
    answers.append(await town.ask("POST", ADD, json={"transactionId": tx}))
    accepted = sum(one.status_code in {200, 202} for one in answers)
    town.notes.note(attack="stolen", count=len(answers), accepted=accepted)


async def strike(
    town: Town, sender: bytes, call: bytes, *, to: bytes | None = None
) -> None:
    """Put a call, of the token unless told, before all others into the pool."""
    try:
        async with town.pool:
            await pool(town.chain, sender, call, tip=50, to=to)
    except _NOT_POOLED:
        return
