"""The worker that signs for the float, and sends what is signed.

Which bytes reach the chain first does not matter, nor how often: the authorization has
one nonce, and moves its money once. So two workers may do this at once, and one that
dies between two lines is succeeded by whoever looks next. The float's own key pays the
gas, one payback after the other.
"""

import asyncio

from eth_account import Account
from sqlmodel import col, or_, select

from tallystick.chain.errors import GasAboveCap, RpcErrorAnswer
from tallystick.chain.relay import (
    Fees,
    Outcome,
    broadcast,
    estimate_gas,
    fees,
    gas_cap,
    settlement_call,
    sign_transaction,
    simulate,
)
from tallystick.chain.token import nonce_used
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import Database, WriteSession
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.payments.gas.budget import Bound, data_fee
from tallystick.payments.models.paybacks import Payback, PaybackWay
from tallystick.payments.paybacks.errors import PaybackNotReady
from tallystick.payments.paybacks.issuing import keep_signature
from tallystick.payments.paybacks.reading import issued_on
from tallystick.payments.paybacks.terms import authorization_of
from tallystick.payments.rail import FloatSent, Rail, Relayer
from tallystick.payments.relaying.efforts import MOST_TIMES
from tallystick.x402.eip712 import authorization_digest
from tallystick.x402.wire import Authorization

_log = get_logger(__name__)
_BATCH = 20
NO_GAS = "without_gas"
"""Why a payback waits: its key cannot pay for the transaction."""


async def pay_out(db: Database, rail: Rail) -> None:
    """Sign and send what is issued, the oldest first; one look at the chain.

    Raises ``RpcUnavailable``. Nothing without a float's key.
    """
    key = rail.float_key
    if key is None:
        return
    by_float = col(Payback.way) == PaybackWay.FLOAT
    signed = col(Payback.signature).is_not(None)
    query = select(Payback).where(*issued_on(rail), or_(by_float, signed))
    async with db.read() as session:
        rows = (await session.exec(query.order_by(col(Payback.id)).limit(_BATCH))).all()
    for one in rows:
        payback = await _signed(db, rail, key, one)
        # Its key has one open nonce at a time.
        if payback is not None and await _send(db, rail, key, payback):
            return


async def _signed(
    db: Database, rail: Rail, key: Relayer, payback: Payback
) -> Payback | None:
    """The payback with its signature, stored; None if it may not be signed."""
    if payback.signature is not None:
        return payback
    is_small = payback.usdc <= rail.paybacks.most
    if not is_small or payback.from_address != key.address:
        _tell(rail, payback, "above_cap" if not is_small else "of_another_key")
        return None
    digest = authorization_digest(rail.domain, authorization_of(payback))
    made = await asyncio.to_thread(Account.unsafe_sign_hash, digest, key.key)

    async def store(session: WriteSession) -> Payback:
        kept = await keep_signature(payback, bytes(made.signature), session)
        reached(CrashPoint.PAYBACK_SIGNED_UNCOMMITTED)
        return kept

    try:
        stored = await db.write(store)
    except PaybackNotReady:
        return None  # cancelled, or issued anew
    reached(CrashPoint.PAYBACK_SIGNED)
    return stored


async def _send(db: Database, rail: Rail, key: Relayer, payback: Payback) -> bool:
    """Send it if that is of use; whether the next must wait for it."""
    terms, signature = authorization_of(payback), payback.signature
    assert signature is not None, "it is signed"
    if await nonce_used(rail.chain, terms.payer, terms.nonce):
        return False
    seen = await simulate(rail.chain, terms, signature, key.address)
    if seen.refusal is not None:
        _tell(rail, payback, seen.refusal)
        return False
    try:
        gas = await _gas(rail, terms, signature, key)
    except GasAboveCap as error:
        _tell(rail, payback, error.code)
        return False
    evm_nonce = await rail.chain.nonce(key.address, "latest")
    price = await _price(db, rail, payback, evm_nonce)
    if price is None:
        return True  # it was sent a moment ago
    call = settlement_call(terms, signature)
    bound = Bound(gas, price, await data_fee(rail, len(call)))
    if bound.wei > rail.gas.most_wei(payback.usdc):
        _tell(rail, payback, "gas_too_dear")
        return False
    made = await asyncio.to_thread(
        sign_transaction, rail.chain, key.key, evm_nonce, call, gas=gas, fees=price
    )
    answer = await broadcast(rail.chain, made.raw)
    reached(CrashPoint.PAYBACK_SENT)
    sent_at_ms = 0 if answer.outcome == Outcome.UNDERPRICED else db.clock.now_ms()
    rail.outlook.float_sent = FloatSent(payback.id, evm_nonce, price, sent_at_ms)
    if answer.outcome == Outcome.INSUFFICIENT_FUNDS:
        _tell(rail, payback, NO_GAS)
    else:
        _untell(rail, payback)
    _log.info(
        "payback_sent",
        payback=encode_id("pbk", payback.id),
        tx=f"0x{made.hash.hex()}",
        outcome=answer.outcome,
    )
    return answer.outcome != Outcome.INSUFFICIENT_FUNDS


async def _gas(rail: Rail, terms: Authorization, signature: bytes, key: Relayer) -> int:
    """The gas limit. Raises ``GasAboveCap``."""
    try:
        return await estimate_gas(rail.chain, terms, signature, key.address)
    except RpcErrorAnswer:
        # The rehearsal on the newest block went well, so some node estimates on top of
        # what we have in its pool.
        return gas_cap(await rail.chain.code_at(terms.payer))


def _tell(rail: Rail, payback: Payback, reason: str) -> None:
    """Why it waits; once."""
    told = (payback.id, reason)
    if told not in rail.outlook.told_of_paybacks:
        rail.outlook.told_of_paybacks.add(told)
        named = encode_id("pbk", payback.id)
        _log.warning("payback_waits", payback=named, reason=reason)


def _untell(rail: Rail, payback: Payback) -> None:
    """It waits no more, and if it does again that is news."""
    told = rail.outlook.told_of_paybacks
    told -= {one for one in told if one[0] == payback.id}


async def _price(
    db: Database, rail: Rail, payback: Payback, evm_nonce: int
) -> Fees | None:
    """What to pay for gas; more if the chain is silent; None while there is hope."""
    today = await fees(rail.chain)
    last = rail.outlook.float_sent
    if last is None or (last.payback_id, last.evm_nonce) != (payback.id, evm_nonce):
        return today
    if db.clock.now_ms() - last.at_ms < rail.stuck_seconds * 1000:
        return None
    bumped = last.price.bumped()
    if bumped.max_fee_per_gas > MOST_TIMES * today.max_fee_per_gas:
        return last.price
    return Fees(
        max(bumped.max_fee_per_gas, today.max_fee_per_gas),
        max(bumped.max_priority_fee_per_gas, today.max_priority_fee_per_gas),
    )
