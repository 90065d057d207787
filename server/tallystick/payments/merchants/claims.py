"""Settlements that other sellers ask for: stored once, whoever asks, and waited for."""

import asyncio
from functools import partial

from sqlalchemy import update
from sqlmodel import col, select

from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import (
    Database,
    ReadSession,
    WriteSession,
    insert_once,
    new_id,
    now_ms,
)
from tallystick.payments.merchants.checks import check_asked, require_payee
from tallystick.payments.merchants.errors import SettlementsUnavailable
from tallystick.payments.merchants.registry import ProvenMerchant
from tallystick.payments.models.merchants import (
    PENDING_SETTLEMENTS,
    MerchantSettlement,
    SettlementState,
)
from tallystick.payments.models.topups import RelayedTransaction
from tallystick.payments.presented import require_signer
from tallystick.payments.rail import Rail
from tallystick.x402 import reasons
from tallystick.x402.errors import PaymentRejected
from tallystick.x402.settle_asked import Asked

_TERMS = ("pay_to", "value", "valid_after", "valid_before")


async def claim_settlement(
    db: Database, rail: Rail, merchant: ProvenMerchant, asked: Asked
) -> MerchantSettlement:
    """The one settlement of this authorization, begun now or found as it stands.

    One that was refused while nothing was signed is tried anew. Raises what
    ``check_asked`` does.
    """
    require_payee(rail, merchant, asked)
    found = await _find(db, rail, asked)
    if found is None or found.state == SettlementState.REJECTED:
        draft = await check_asked(db, rail, merchant, asked)
        await db.write(partial(_store, draft))
        reached(CrashPoint.MERCHANT_CLAIMED)
        rail.work.notify()
        found = await _find(db, rail, asked)
        assert found is not None, "it was stored, by us or by a copy"
    await _require_same(rail, found, asked)
    return found


async def _find(db: Database, rail: Rail, asked: Asked) -> MerchantSettlement | None:
    signed = asked.payload.authorization
    query = select(MerchantSettlement).where(
        col(MerchantSettlement.chain_id) == rail.domain.chain_id,
        col(MerchantSettlement.token) == rail.domain.contract,
        col(MerchantSettlement.payer) == signed.payer,
        col(MerchantSettlement.nonce) == signed.nonce,
    )
    async with db.read() as session:
        return (await session.exec(query)).one_or_none()


async def _store(draft: MerchantSettlement, session: WriteSession) -> None:
    """Store it, or let the one that was refused begin anew; a copy changes nothing."""
    now = now_ms(session)
    row = draft.model_dump() | {
        "id": new_id(session),
        "created_at_ms": now,
        "next_look_at_ms": now,
    }
    if await insert_once(session, MerchantSettlement, row):
        return
    again = (
        *_TERMS,
        "merchant_id",
        "signature",
        "state",
        "reason",
        "scan_from_block",
        "next_look_at_ms",
    )
    # Of what was refused nothing was signed, so another window may take its place.
    await session.exec(
        update(MerchantSettlement)
        .where(
            col(MerchantSettlement.chain_id) == draft.chain_id,
            col(MerchantSettlement.token) == draft.token,
            col(MerchantSettlement.payer) == draft.payer,
            col(MerchantSettlement.nonce) == draft.nonce,
            col(MerchantSettlement.state) == SettlementState.REJECTED,
        )
        .values({name: row[name] for name in again})
    )


async def _require_same(rail: Rail, found: MerchantSettlement, asked: Asked) -> None:
    """Raise ``PaymentRejected`` unless it is this authorization, signed by its payer."""
    signed = asked.payload.authorization
    if any(getattr(found, name) != getattr(signed, name) for name in _TERMS):
        raise PaymentRejected(
            reasons.INVALID_PAYLOAD, "the nonce is that of another authorization"
        )
    if asked.payload.signature != found.signature:
        await require_signer(rail, asked.payload)


async def wait_for_settlement(
    db: Database, rail: Rail, settlement_id: int, wait_ms: int
) -> MerchantSettlement:
    """The settlement once its outcome is known, or as it is when the time is over."""
    now = asyncio.get_running_loop().time
    deadline = now() + wait_ms / 1000
    while True:
        change = rail.changes.upcoming(settlement_id)
        async with db.read() as session:
            one = await read_settlement(session, settlement_id)
        left = deadline - now()
        if one.state not in PENDING_SETTLEMENTS or left <= 0:
            return one
        await change.within(min(left, rail.poll_seconds))


async def read_settlement(
    session: ReadSession | WriteSession, settlement_id: int
) -> MerchantSettlement:
    """The row; raises ``SettlementsUnavailable`` for one that was forgotten just now."""
    query = select(MerchantSettlement).where(
        col(MerchantSettlement.id) == settlement_id
    )
    found = (await session.exec(query)).one_or_none()
    if found is None:
        raise SettlementsUnavailable("it is over for so long that it was forgotten")
    return found


async def newest_hash(db: Database, settlement_id: int) -> bytes | None:
    """The transaction that was signed for it last."""
    query = (
        select(RelayedTransaction.tx_hash)
        .where(col(RelayedTransaction.merchant_settlement_id) == settlement_id)
        .order_by(col(RelayedTransaction.signed_at_ms).desc())
        .order_by(col(RelayedTransaction.attempt).desc())
        .limit(1)
    )
    async with db.read() as session:
        return (await session.exec(query)).one_or_none()


def refusal_of(one: MerchantSettlement) -> PaymentRejected:
    """Why it has brought no money and brings none any more."""
    if one.state == SettlementState.QUARANTINE:
        return PaymentRejected(
            reasons.UNEXPECTED_SETTLE_ERROR, "what the chain shows contradicts itself"
        )
    known = reasons.SPECIFICATION | {reasons.NONCE_ALREADY_USED}
    is_known = one.reason is not None and one.reason in known
    why = f": {one.reason}" if one.reason else ""
    return PaymentRejected(
        one.reason if is_known and one.reason else reasons.INVALID_TRANSACTION_STATE,
        f"the payment was not settled, it is {one.state}{why}",
    )
