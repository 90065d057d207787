"""Sending what was signed, as often as it takes, and knowing when it is of no use.

The same bytes are the same transaction, so sending them again is always safe. A node's
answer changes no state.
"""

from enum import StrEnum

from sqlalchemy import update
from sqlmodel import col, select

from tallystick.chain.logs import receipt
from tallystick.chain.relay import Outcome, broadcast
from tallystick.kernel.db import Database, ReadSession, WriteSession, now_ms
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.payments.gas import pause
from tallystick.payments.models import RelayedTransaction, TopUp, TopUpState
from tallystick.payments.rail import Rail, Relayer
from tallystick.payments.relayer import register_relayers

_log = get_logger(__name__)
_WINDOW = 16
_STUCK_MS = 60_000
# Too low: it was mined a moment ago, or its nonce is lost; ``is_dead`` will tell.
_EXPECTED = (Outcome.ACCEPTED, Outcome.ALREADY_KNOWN, Outcome.NONCE_TOO_LOW)


class _Prospect(StrEnum):
    ALIVE = "alive"
    REVERTED = "reverted"
    LOST = "lost"
    """Somebody else has used its nonce."""


async def sent_for(
    session: ReadSession | WriteSession, topup_id: int
) -> RelayedTransaction | None:
    """The newest transaction that was signed for the top-up."""
    query = (
        select(RelayedTransaction)
        .where(col(RelayedTransaction.topup_id) == topup_id)
        # Nonces of two keys cannot be compared, so time comes first.
        .order_by(
            col(RelayedTransaction.signed_at_ms).desc(),
            col(RelayedTransaction.evm_nonce).desc(),
        )
    )
    return (await session.exec(query.limit(1))).one_or_none()


async def send_first(db: Database, rail: Rail, topup: TopUp) -> None:
    """Hand what was just signed to a node. Raises ``RpcUnavailable``: it may be out."""
    async with db.read() as session:
        stored = await sent_for(session, topup.id)
    if stored is not None:
        await _broadcast(rail, stored)


async def send_again(db: Database, rail: Rail, topup: TopUp) -> None:
    """Hand the stored bytes to a node once more if the chain has long been silent.

    Whatever it answers changes no state; a lost answer raises ``RpcUnavailable``.
    """
    async with db.read() as session:
        stored = await sent_for(session, topup.id)
    if stored is not None and await _take_turn(db, rail, stored):
        await _broadcast(rail, stored)


async def send_stranded(db: Database, rail: Rail) -> int:
    """Send what nobody waits for any more, because its nonce is still open; how many.

    A payment that expired, or that somebody else submitted, leaves a transaction which
    may never have reached a node. Unless it is mined, and be it to revert, every later
    one of the same key waits behind its nonce. Raises ``RpcUnavailable``.
    """
    sent = 0
    for relayer in rail.relayers:
        for stored in await _stranded(db, rail, relayer):
            if await _take_turn(db, rail, stored):
                await _broadcast(rail, stored)
                sent += 1
    return sent


async def may_be_mined(db: Database, rail: Rail, topup: TopUp) -> bool:
    """Whether something that we signed for the top-up is in a block, or may get there.

    Raises ``RpcUnavailable``.
    """
    async with db.read() as session:
        stored = await sent_for(session, topup.id)
    return stored is not None and await _prospect(rail, stored) == _Prospect.ALIVE


async def is_dead(db: Database, rail: Rail, topup: TopUp) -> bool:
    """Whether what we signed for the top-up can never be mined any more.

    It was mined and reverted, or its nonce was used by a transaction that is none of
    ours (a restored database, a key used elsewhere). Raises ``RpcUnavailable``.
    """
    async with db.read() as session:
        stored = await sent_for(session, topup.id)
    if stored is None:
        return True
    prospect = await _prospect(rail, stored)
    if prospect != _Prospect.LOST:
        return prospect == _Prospect.REVERTED
    _log.error(
        "relayer_nonce_used_elsewhere",
        relayer=f"0x{stored.relayer.hex()}",
        evm_nonce=stored.evm_nonce,
    )
    await register_relayers(db, rail)
    return True


async def _prospect(rail: Rail, stored: RelayedTransaction) -> _Prospect:
    mined = await receipt(rail.chain, stored.tx_hash)
    if mined is not None:
        return _Prospect.ALIVE if mined.succeeded else _Prospect.REVERTED
    if await rail.chain.nonce(stored.relayer, "latest") <= stored.evm_nonce:
        return _Prospect.ALIVE
    # The node may have mined it between the two questions.
    is_mined = await receipt(rail.chain, stored.tx_hash) is not None
    return _Prospect.ALIVE if is_mined else _Prospect.LOST


async def _stranded(
    db: Database, rail: Rail, relayer: Relayer
) -> list[RelayedTransaction]:
    next_mined = await rail.chain.nonce(relayer.address, "latest")
    query = (
        select(RelayedTransaction, TopUp.state)
        .join(TopUp, col(TopUp.id) == col(RelayedTransaction.topup_id))
        .where(
            col(RelayedTransaction.chain_id) == rail.domain.chain_id,
            col(RelayedTransaction.relayer) == relayer.address,
            col(RelayedTransaction.evm_nonce) >= next_mined,
        )
        .order_by(col(RelayedTransaction.evm_nonce))
        .limit(_WINDOW)
    )
    async with db.read() as session:
        open_nonces = (await session.exec(query)).all()
        now = now_ms(session)
    for stored, _ in open_nonces[:1]:
        if now - stored.signed_at_ms > _STUCK_MS:
            _log.error(
                "relayer_nonce_stuck",
                relayer=f"0x{relayer.address.hex()}",
                evm_nonce=stored.evm_nonce,
            )
    # Those that are waited for are sent by who waits.
    return [stored for stored, state in open_nonces if state != TopUpState.SIGNED]


async def _take_turn(db: Database, rail: Rail, stored: RelayedTransaction) -> bool:
    async def work(session: WriteSession) -> bool:
        now = now_ms(session)
        statement = (
            update(RelayedTransaction)
            .where(
                col(RelayedTransaction.tx_hash) == stored.tx_hash,
                col(RelayedTransaction.sent_at_ms) <= now - rail.resend_seconds * 1000,
            )
            .values(sent_at_ms=now)
        )
        return (await session.exec(statement)).rowcount == 1

    return await db.write(work)


async def _broadcast(rail: Rail, stored: RelayedTransaction) -> None:
    answer = await broadcast(rail.chain, stored.raw)
    if answer.outcome in _EXPECTED:
        return
    if answer.outcome == Outcome.INSUFFICIENT_FUNDS:
        pause(rail, stored.relayer)
    _log.warning(
        "settlement_not_taken",
        topup=encode_id("top", stored.topup_id),
        outcome=answer.outcome,
        relayer=f"0x{stored.relayer.hex()}",
    )
