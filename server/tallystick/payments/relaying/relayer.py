"""Signing settlements with gapless nonces.

Whoever owns the key (``leases``) reads its next nonce, signs, and then takes the nonce
and stores the signed bytes in one write that asks for the lease; only then are they sent
(``sending``). Signing itself goes on in a thread: it takes long enough to be felt.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, insert, or_, update
from sqlmodel import col, select

from tallystick.chain.permit_settlement import estimate_permit_gas, permit_capture
from tallystick.chain.relay import (
    Capture,
    SignedTransaction,
    capture,
    estimate_gas,
    fees,
    sign_transaction,
)
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import Database, ReadSession, WriteSession, now_ms
from tallystick.payments.gas.budget import (
    Bound,
    GasTooDear,
    NoBudget,
    Signed,
    data_fee,
    reserve_first,
)
from tallystick.payments.lanes import lane_is_free
from tallystick.payments.models.merchants import MerchantSettlement, SettlementState
from tallystick.payments.models.topups import (
    Payment,
    RelayedTransaction,
    RelayerRow,
    SentKind,
    SettleAttempt,
    TopUp,
    TopUpState,
)
from tallystick.payments.permits import is_permit
from tallystick.payments.rail import Rail, Relayer
from tallystick.payments.relaying.leases import under_lease
from tallystick.x402.erc6492 import Wrapped, unwrap
from tallystick.x402.wire import Authorization

MOST_TRANSACTIONS = 3
"""Nonces that we spend on one authorization: a payer could let it revert for ever."""


class NothingStored(Exception):
    """The write found that it may not be; all of it is rolled back."""


def authorization_of(topup: Payment) -> Authorization:
    """What the payer signed."""
    return Authorization(
        topup.payer,
        topup.pay_to,
        topup.value,
        topup.valid_after,
        topup.valid_before,
        topup.nonce,
    )


def deployment_of(topup: Payment) -> Wrapped | None:
    """What deploys its payer's wallet, if the wallet was not there when it signed."""
    return unwrap(topup.signature) if topup.signature is not None else None


def signed_by(topup: Payment) -> bytes:
    """What its payer, once deployed, takes for his signature."""
    assert topup.signature is not None
    deployment = deployment_of(topup)
    return topup.signature if deployment is None else deployment.inner


def _capture_of(rail: Rail, topup: Payment) -> Capture:
    signed, deployment = signed_by(topup), deployment_of(topup)
    if is_permit(topup):
        return permit_capture(rail.chain, authorization_of(topup), signed)
    return capture(rail.chain, authorization_of(topup), signed, deployment)


def _keys_for(rail: Rail, topup: Payment) -> tuple[Relayer, ...]:
    """A foreign call is no business of a key that does anything else (A29)."""
    deployment = deployment_of(topup)
    if deployment is None:
        return rail.solvent_relayers
    is_known = (deployment.factory, deployment.selector) in rail.factories
    return rail.solvent_deployers if is_known else ()


def relayer_for(rail: Rail, topup: Payment) -> Relayer | None:
    """The key of ours with the fewest in flight; None when none may sign now."""
    able = [one for one in _keys_for(rail, topup) if rail.sequence(one).has_room]
    if not able:
        return None
    fewest = min(rail.sequence(one).in_flight for one in able)
    equal = [one for one in able if rail.sequence(one).in_flight == fewest]
    # The authorization's nonce is random, so equal keys share the work evenly.
    return equal[int.from_bytes(topup.nonce[-4:], "big") % len(equal)]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a transaction goes: a key under our lease, its nonce, which attempt."""

    relayer: Relayer
    fence: int
    nonce: int
    attempt: int = 1


async def sign(
    db: Database, rail: Rail, relayer: Relayer, topup: Payment
) -> RelayedTransaction | None:
    """Sign the settlement at the key's next nonce and store it; None if it may not be.

    Not without the key's lease, when another worker has decided meanwhile, when the
    wallet has another settlement in flight, or after ``MOST_TRANSACTIONS``. Needs the
    sequence's lock. Raises ``RpcUnavailable``, ``RpcErrorAnswer`` (it would revert by
    now), ``GasAboveCap`` or ``NoBudget``; then nothing was stored and no nonce is used
    up.
    """
    sequence = rail.sequence(relayer)
    if sequence.fence is None or not sequence.is_known:
        return None
    bound = await _bound(rail, relayer, topup)
    if bound.wei > rail.gas.most_wei(topup.value):
        raise GasTooDear(bound.wei)
    place = Place(relayer, sequence.fence, sequence.next_nonce)
    signed = await sign_settlement(rail, place, topup, bound)
    row = row_for(rail, place, signed, topup, bound)

    async def store(session: WriteSession) -> RelayedTransaction:
        await _take_nonce(session, rail, place)
        if not await _mark_signed(session, topup):
            raise NothingStored
        stored = await store_row(session, row)
        what = signed_for(signed, place, topup)
        await reserve_first(session, rail, what, bound)
        reached(CrashPoint.SIGNED_UNCOMMITTED)
        return stored

    try:
        stored = await db.write(store)
    except NothingStored:
        return None
    except NoBudget:
        raise
    except Exception:
        # It may be stored all the same.
        sequence.is_known = False
        raise
    sequence.next_nonce = place.nonce + 1
    return stored


async def _bound(rail: Rail, relayer: Relayer, topup: Payment) -> Bound:
    """What it may cost at today's fees; the estimate is also the last rehearsal."""
    calldata = _capture_of(rail, topup).calldata
    estimate = _estimate(rail, relayer, topup)
    return Bound(
        *await asyncio.gather(estimate, fees(rail.chain), data_fee(rail, len(calldata)))
    )


async def _estimate(rail: Rail, relayer: Relayer, topup: Payment) -> int:
    terms, signature = authorization_of(topup), signed_by(topup)
    if is_permit(topup):
        return await estimate_permit_gas(rail.chain, terms, signature, relayer.address)
    deployment = deployment_of(topup)
    return await estimate_gas(
        rail.chain, terms, signature, relayer.address, deployment=deployment
    )


async def sign_settlement(
    rail: Rail, place: Place, topup: Payment, bound: Bound
) -> SignedTransaction:
    """Sign in a thread: the loop goes on."""
    call = _capture_of(rail, topup)
    return await asyncio.to_thread(
        sign_transaction,
        rail.chain,
        place.relayer.key,
        place.nonce,
        call.calldata,
        gas=bound.gas,
        fees=bound.price,
        to=call.to,
    )


def signed_for(
    signed: SignedTransaction, place: Place, payment: Payment | None
) -> Signed:
    """Whose gas it is."""
    payer = payment.payer if payment else None
    merchant_id = None
    if isinstance(payment, MerchantSettlement):
        merchant_id = payment.merchant_id
    address = place.relayer.address
    return Signed(signed.hash, address, place.nonce, payer, merchant_id)


def is_sent_for(payment: Payment) -> ColumnElement[bool]:
    """Of transactions: that it was signed for this payment."""
    if isinstance(payment, MerchantSettlement):
        return col(RelayedTransaction.merchant_settlement_id) == payment.id
    return col(RelayedTransaction.topup_id) == payment.id


async def _mark_signed(session: WriteSession, payment: Payment) -> bool:
    # Every nonce has one first attempt.
    nonces_before = (
        select(func.count())
        .where(is_sent_for(payment), col(RelayedTransaction.attempt) == 1)
        .scalar_subquery()
    )
    may_sign = nonces_before < MOST_TRANSACTIONS
    if isinstance(payment, MerchantSettlement):
        return await _mark_merchants(session, payment, may_sign)
    return await _mark_topup(session, payment, may_sign)


async def _mark_merchants(
    session: WriteSession, one: MerchantSettlement, may_sign: ColumnElement[bool]
) -> bool:
    signable = (SettlementState.CLAIMED, SettlementState.WATCH)
    statement = (
        update(MerchantSettlement)
        .where(
            col(MerchantSettlement.id) == one.id,
            # As it was looked at: a rehearsal before a revert says nothing after it.
            col(MerchantSettlement.state) == one.state,
            col(MerchantSettlement.state).in_(signable),
            may_sign,
        )
        .values(state=SettlementState.SIGNED, reason=None)
    )
    return (await session.exec(statement)).rowcount == 1


async def _mark_topup(
    session: WriteSession, topup: TopUp, may_sign: ColumnElement[bool]
) -> bool:
    statement = (
        update(TopUp)
        .where(
            col(TopUp.id) == topup.id,
            # As it was looked at: a rehearsal before a revert says nothing after it.
            col(TopUp.state) == topup.state,
            col(TopUp.state).in_((TopUpState.CLAIMED, TopUpState.WATCH)),
            or_(col(TopUp.in_flight), lane_is_free(topup)),
            may_sign,
        )
        .values(state=TopUpState.SIGNED, reason=None, in_flight=True)
    )
    return (await session.exec(statement)).rowcount == 1


async def _take_nonce(session: WriteSession, rail: Rail, place: Place) -> None:
    """Move on to the next nonce, if this one is still the next and the key still ours.

    Raises ``NothingStored``.
    """
    lease = under_lease(session, rail, place.relayer, place.fence)
    is_next = col(RelayerRow.next_nonce) == place.nonce
    # Something may stand there that was signed too far ahead.
    is_free = ~(
        select(RelayedTransaction.tx_hash)
        .where(
            col(RelayedTransaction.chain_id) == rail.domain.chain_id,
            col(RelayedTransaction.relayer) == place.relayer.address,
            col(RelayedTransaction.evm_nonce) == place.nonce,
        )
        .exists()
    )
    found = (*lease, is_next, is_free)
    await _require(session, rail, place, *found, next_nonce=place.nonce + 1)


async def require_lease(session: WriteSession, rail: Rail, place: Place) -> None:
    """Lock the key's row under our lease; raises ``NothingStored`` without it."""
    lease = under_lease(session, rail, place.relayer, place.fence)
    await _require(session, rail, place, *lease, fence=place.fence)


async def _require(
    session: WriteSession,
    rail: Rail,
    place: Place,
    *conditions: ColumnElement[bool],
    **values: int,
) -> None:
    statement = update(RelayerRow).where(*conditions).values(**values)
    if (await session.exec(statement)).rowcount != 1:
        rail.sequence(place.relayer).is_known = False
        raise NothingStored


def row_for(
    rail: Rail,
    place: Place,
    signed: SignedTransaction,
    payment: Payment | None,
    bound: Bound,
    *,
    kind: SentKind = SentKind.SETTLEMENT,
) -> dict[str, Any]:
    """What is stored of a signed transaction, but for the time."""
    is_merchants = isinstance(payment, MerchantSettlement)
    payment_id = payment.id if payment else None
    return {
        "tx_hash": signed.hash,
        "topup_id": None if is_merchants else payment_id,
        "merchant_settlement_id": payment_id if is_merchants else None,
        "chain_id": rail.domain.chain_id,
        "relayer": place.relayer.address,
        "evm_nonce": place.nonce,
        "attempt": place.attempt,
        "raw": signed.raw,
        "kind": kind,
        "gas_limit": bound.gas,
        "max_fee_per_gas": bound.price.max_fee_per_gas,
        "max_priority_fee_per_gas": bound.price.max_priority_fee_per_gas,
    }


async def store_row(session: WriteSession, row: dict[str, Any]) -> RelayedTransaction:
    """Store what was signed, before it is sent."""
    now = now_ms(session)
    whole = row | {"signed_at_ms": now, "sent_at_ms": now}
    await session.exec(insert(RelayedTransaction).values(**whole))
    return RelayedTransaction(**whole)


async def settled_by_us(
    session: ReadSession | WriteSession, topup_id: int, tx_hash: bytes | None
) -> bool:
    """Whether a transaction of ours moved its money, and not somebody else's.

    Also one that a facilitator sent because we asked it (decision 23).

    An authorization that somebody else submitted was public before it came to us, so
    whoever presents it may not be its payer: it buys credits and no answer.
    """
    query = select(RelayedTransaction.tx_hash).where(
        col(RelayedTransaction.topup_id) == topup_id,
        col(RelayedTransaction.tx_hash) == tx_hash,
    )
    if (await session.exec(query)).one_or_none() is not None:
        return True
    asked = select(SettleAttempt.attempt).where(
        col(SettleAttempt.topup_id) == topup_id,
        col(SettleAttempt.proven_hash) == tx_hash,
    )
    return (await session.exec(asked.limit(1))).one_or_none() is not None
