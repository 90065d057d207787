"""Signing settlements with gapless nonces.

The nonce is taken, the transaction signed and its bytes stored in one commit; only
then are they sent (``sending``).
"""

import asyncio
from functools import partial

from sqlalchemy import ColumnElement, func, insert, or_, update
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from tallystick.chain.relay import (
    SignedTransaction,
    estimate_gas,
    fees,
    settlement_call,
    sign_transaction,
)
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import (
    Database,
    ReadSession,
    WriteSession,
    insert_once,
    now_ms,
)
from tallystick.payments.models import (
    RelayedTransaction,
    RelayerRow,
    TopUp,
    TopUpState,
)
from tallystick.payments.rail import Rail, Relayer
from tallystick.x402.wire import Authorization

MOST_TRANSACTIONS = 3
"""What we sign for one authorization: a payer could let it revert again and again."""


async def register_relayers(db: Database, rail: Rail) -> None:
    """Know each key's next nonce: ours, or the chain's if that is ahead.

    Run at boot, and when a nonce turns out to be used by somebody else: a restored
    database lags behind what was signed after its backup. Raises ``RpcUnavailable``.
    """
    for relayer in rail.relayers:
        on_chain = await rail.chain.nonce(relayer.address, "pending")
        await db.write(partial(_seat, rail, relayer, on_chain))


async def _seat(
    rail: Rail, relayer: Relayer, on_chain: int, session: WriteSession
) -> None:
    row: dict[str, object] = {
        "address": relayer.address,
        "chain_id": rail.domain.chain_id,
        "next_nonce": on_chain,
    }
    await insert_once(session, RelayerRow, row)
    await session.exec(
        update(RelayerRow)
        .where(*_row_of(rail, relayer), col(RelayerRow.next_nonce) < on_chain)
        .values(next_nonce=on_chain)
    )


def _row_of(rail: Rail, relayer: Relayer) -> tuple[ColumnElement[bool], ...]:
    return (
        col(RelayerRow.address) == relayer.address,
        col(RelayerRow.chain_id) == rail.domain.chain_id,
    )


def authorization_of(topup: TopUp) -> Authorization:
    """What the payer signed."""
    return Authorization(
        topup.payer,
        topup.pay_to,
        topup.value,
        topup.valid_after,
        topup.valid_before,
        topup.nonce,
    )


def relayer_for(rail: Rail, topup: TopUp) -> Relayer | None:
    """A key to settle this top-up with; None when none has gas money."""
    able = rail.solvent_relayers
    # The nonce is random, so the keys share the work evenly.
    return able[int.from_bytes(topup.nonce[-4:], "big") % len(able)] if able else None


async def sign(db: Database, rail: Rail, relayer: Relayer, topup: TopUp) -> bool:
    """Sign the settlement and store it; whether this call did.

    Not when another worker has decided meanwhile, when the wallet has another
    settlement in flight, or after ``MOST_TRANSACTIONS``. Raises
    ``RpcUnavailable``, ``RpcErrorAnswer`` or ``GasAboveCap``; then nothing was signed
    and no nonce is used up. What gas may cost in relation to the value will be bounded
    here too, once there is a price for it.
    """
    assert topup.signature is not None
    signed_terms = authorization_of(topup)
    gas, price = await asyncio.gather(
        estimate_gas(rail.chain, signed_terms, topup.signature, relayer.address),
        fees(rail.chain),
    )
    call = settlement_call(signed_terms, topup.signature)

    async def store(session: WriteSession) -> bool:
        if not await _mark_signed(session, topup):
            return False
        nonce = await _take_nonce(session, rail, relayer)
        signed = sign_transaction(
            rail.chain, relayer.key, nonce, call, gas=gas, fees=price
        )
        await _store(session, rail, relayer, topup.id, nonce, signed)
        reached(CrashPoint.SIGNED_UNCOMMITTED)
        return True

    return await db.write(store)


async def _mark_signed(session: WriteSession, topup: TopUp) -> bool:
    other = aliased(TopUp)
    lane_is_taken = (
        select(other.id)
        .where(
            col(other.chain_id) == topup.chain_id,
            col(other.payer) == topup.payer,
            col(other.id) != topup.id,
            col(other.in_flight),
        )
        .exists()
    )
    signed_before = (
        select(func.count())
        .where(col(RelayedTransaction.topup_id) == topup.id)
        .scalar_subquery()
    )
    statement = (
        update(TopUp)
        .where(
            col(TopUp.id) == topup.id,
            col(TopUp.state).in_((TopUpState.CLAIMED, TopUpState.WATCH)),
            or_(col(TopUp.in_flight), ~lane_is_taken),
            signed_before < MOST_TRANSACTIONS,
        )
        .values(state=TopUpState.SIGNED, reason=None, in_flight=True)
    )
    return (await session.exec(statement)).rowcount == 1


async def _take_nonce(session: WriteSession, rail: Rail, relayer: Relayer) -> int:
    statement = (
        update(RelayerRow)
        .where(*_row_of(rail, relayer))
        .values(next_nonce=RelayerRow.next_nonce + 1)
        .returning(col(RelayerRow.next_nonce))
    )
    taken: int = (await session.exec(statement)).scalar_one()
    return taken - 1


async def _store(
    session: WriteSession,
    rail: Rail,
    relayer: Relayer,
    topup_id: int,
    nonce: int,
    signed: SignedTransaction,
) -> None:
    now = now_ms(session)
    await session.exec(
        insert(RelayedTransaction).values(
            tx_hash=signed.hash,
            topup_id=topup_id,
            chain_id=rail.domain.chain_id,
            relayer=relayer.address,
            evm_nonce=nonce,
            attempt=1,
            raw=signed.raw,
            signed_at_ms=now,
            sent_at_ms=now,
        )
    )


async def settled_by_us(
    session: ReadSession | WriteSession, topup_id: int, tx_hash: bytes | None
) -> bool:
    """Whether a transaction of ours moved its money, and not somebody else's.

    An authorization that somebody else submitted was public before it came to us, so
    whoever presents it may not be its payer: it buys credits and no answer.
    """
    query = select(RelayedTransaction.tx_hash).where(
        col(RelayedTransaction.topup_id) == topup_id,
        col(RelayedTransaction.tx_hash) == tx_hash,
    )
    return (await session.exec(query)).one_or_none() is not None
