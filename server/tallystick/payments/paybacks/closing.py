"""A payback is paid when a final block shows its Transfer, and then it is booked out.

Not before: what is final no reorganisation takes away, so nothing that was closed must
ever be opened again. Until then its row stays issued, and if its block is replaced the
same bytes are sent again. Money out of ``pay_to`` is looked for among the outflows that
the observer has booked, money of the float on the chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import ColumnElement, and_, or_, update
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from tallystick.chain.evidence import find_settlements
from tallystick.chain.rpc import Block
from tallystick.chain.token import nonce_used
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import Database, ReadSession, WriteSession, now_ms
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.payments.models.chain import ChainCursor, ChainOutflow, Presence
from tallystick.payments.models.paybacks import Payback, PaybackState, PaybackWay
from tallystick.payments.observing.following import (
    Overtaken,
    cursor_of,
    hold_cursor,
    movements_of,
)
from tallystick.payments.paybacks.booking import book_paid
from tallystick.payments.paybacks.reading import issued_on, read_payback
from tallystick.payments.paybacks.terms import authorization_of
from tallystick.payments.rail import Rail

_log = get_logger(__name__)
_BATCH = 50


@dataclass(frozen=True, slots=True)
class _Moved:
    """The Transfer that paid it; ``outflow_id`` of one out of ``pay_to``.

    ``cursor`` is where the observer was when that was looked at.
    """

    tx_hash: bytes
    log_index: int
    block_number: int
    at_seconds: int
    outflow_id: int | None = None
    cursor: ChainCursor | None = None


async def close_by_outflows(db: Database, rail: Rail) -> int:
    """Close what this address of ours has paid; how many. Raises ``RpcUnavailable``."""
    async with db.read() as session:
        if not await _any_issued(
            session, rail, col(Payback.from_address) == rail.pay_to
        ):
            return 0
    final = await rail.chain.block("finalized")
    if final is None:
        return 0
    cursor = await cursor_of(db, rail)
    count = 0
    taken: set[int] = set()
    for payback, outflow in await _pairs(db, rail, final):
        # Two alike have as many Transfers: the oldest gets the first.
        if payback.id in taken or outflow.id in taken:
            continue
        block = await rail.chain.block(outflow.block_number)
        if block is None or block.hash != bytes(outflow.block_hash):
            continue  # replaced, and the observer has yet to see it
        taken |= {payback.id, outflow.id}
        moved = _Moved(
            bytes(outflow.tx_hash),
            outflow.log_index,
            outflow.block_number,
            block.timestamp_seconds,
            outflow.id,
            cursor,
        )
        count += await db.write(partial(_close, rail, payback.id, moved))
    return count


async def close_by_float_key(db: Database, rail: Rail) -> int:
    """Close what the float has paid; how many. Raises ``RpcUnavailable``."""
    by_float = col(Payback.way) == PaybackWay.FLOAT
    signed = col(Payback.signature).is_not(None)
    query = select(Payback).where(*issued_on(rail), by_float, signed)
    async with db.read() as session:
        rows = (await session.exec(query.order_by(col(Payback.id)).limit(_BATCH))).all()
    final = await rail.chain.block("finalized") if rows else None
    if final is None:
        return 0
    count = 0
    for payback in rows:
        moved = await _of_float_key(rail, payback, final)
        if moved is not None:
            count += await db.write(partial(_close, rail, payback.id, moved))
    return count


async def _of_float_key(rail: Rail, payback: Payback, final: Block) -> _Moved | None:
    terms = authorization_of(payback)
    if not await nonce_used(rail.chain, terms.payer, terms.nonce, final.number):
        return None
    # A chain that replaced its last blocks may have mined it lower than it was issued.
    first = max((payback.issued_block or 0) - rail.lookback_blocks, 0)
    found = await find_settlements(rail.chain, terms.payer, terms.nonce, first)
    for one in found:
        is_ours = (one.pay_to, one.amount) == (terms.pay_to, terms.value)
        if is_ours and one.block_number <= final.number:
            return _Moved(
                one.tx_hash, one.log_index, one.block_number, one.timestamp_seconds
            )
    return None


async def _any_issued(
    session: ReadSession, rail: Rail, which: ColumnElement[bool]
) -> bool:
    query = select(Payback.id).where(*issued_on(rail), which).limit(1)
    return (await session.exec(query)).one_or_none() is not None


async def _pairs(
    db: Database, rail: Rail, final: Block
) -> Sequence[tuple[Payback, ChainOutflow]]:
    """Each issued payback with every Transfer that may be its own, the oldest first."""
    by_signature = and_(
        col(Payback.way) == PaybackWay.BROWSER,
        col(ChainOutflow.nonce) == col(Payback.nonce),
    )
    height, issued = col(ChainOutflow.block_number), col(Payback.issued_block)
    by_batch = and_(
        col(Payback.way) == PaybackWay.SAFE,
        col(ChainOutflow.nonce).is_(None),
        or_(
            and_(col(Payback.named_tx).is_(None), height > issued),
            and_(
                col(Payback.named_tx) == col(ChainOutflow.tx_hash),
                height > issued - rail.lookback_blocks,
            ),
        ),
    )
    query = (
        select(Payback, ChainOutflow)
        .join(
            ChainOutflow,
            and_(
                *movements_of(ChainOutflow, rail),
                col(ChainOutflow.recipient) == col(Payback.to_address),
                col(ChainOutflow.value) == col(Payback.usdc),
                col(ChainOutflow.presence) == Presence.BOOKED,
                col(ChainOutflow.block_number) <= final.number,
                or_(by_signature, by_batch),
            ),
        )
        .where(
            *issued_on(rail),
            col(Payback.from_address) == rail.pay_to,
            ~_taken_by_another(),
        )
        .order_by(
            # Who was told his transaction goes before who takes any.
            col(Payback.named_tx).is_(None),
            col(Payback.id),
            col(ChainOutflow.block_number),
            col(ChainOutflow.log_index),
        )
        .limit(_BATCH)
    )
    async with db.read() as session:
        return [(one, outflow) for one, outflow in await session.exec(query)]


async def may_have_paid(session: WriteSession, payback: Payback) -> bool:
    """Whether a Transfer like that of its batch was seen, which closes no other."""
    query = (
        select(ChainOutflow.id)
        .where(
            col(ChainOutflow.chain_id) == payback.chain_id,
            col(ChainOutflow.token) == payback.token,
            col(ChainOutflow.pay_to) == payback.from_address,
            col(ChainOutflow.recipient) == payback.to_address,
            col(ChainOutflow.value) == payback.usdc,
            col(ChainOutflow.nonce).is_(None),
            col(ChainOutflow.presence) != Presence.GONE,
            col(ChainOutflow.block_number) > payback.issued_block,
            ~_taken_by_another(),
        )
        .limit(1)
    )
    return (await session.exec(query)).one_or_none() is not None


def _taken_by_another() -> ColumnElement[bool]:
    other = aliased(Payback)
    return (
        select(other.id)
        .where(
            col(other.chain_id) == col(ChainOutflow.chain_id),
            col(other.tx_hash) == col(ChainOutflow.tx_hash),
            col(other.log_index) == col(ChainOutflow.log_index),
        )
        .exists()
    )


async def _close(
    rail: Rail, payback_id: int, moved: _Moved, session: WriteSession
) -> bool:
    if moved.outflow_id is not None and not await _is_free(session, rail, moved):
        return False
    statement = (
        update(Payback)
        .where(
            col(Payback.id) == payback_id,
            col(Payback.state) == PaybackState.ISSUED,
        )
        .values(
            state=PaybackState.PAID,
            tx_hash=moved.tx_hash,
            log_index=moved.log_index,
            block_number=moved.block_number,
            changed_at_ms=now_ms(session),
        )
        .execution_options(synchronize_session=False)
    )
    if (await session.exec(statement)).rowcount != 1:
        return False
    payback = await read_payback(session, payback_id)
    await book_paid(session, rail, payback, at_seconds=moved.at_seconds)
    reached(CrashPoint.PAYBACK_CLOSED_UNCOMMITTED)
    named = encode_id("pbk", payback_id)
    _log.info("payback_paid", payback=named, tx=f"0x{moved.tx_hash.hex()}")
    return True


async def _is_free(session: WriteSession, rail: Rail, moved: _Moved) -> bool:
    """The outflow is where it was seen, stays so, and no other payback has it."""
    assert moved.cursor is not None, "an outflow is read by an observer"
    try:
        # One after the other: what the one before took is seen.
        await hold_cursor(session, rail, moved.cursor)
    except Overtaken:
        return False
    kept = (
        update(ChainOutflow)
        .where(
            col(ChainOutflow.id) == moved.outflow_id,
            col(ChainOutflow.presence) == Presence.BOOKED,
            col(ChainOutflow.tx_hash) == moved.tx_hash,
            col(ChainOutflow.log_index) == moved.log_index,
            ~_taken_by_another(),
        )
        .values(presence=Presence.BOOKED)
        .execution_options(synchronize_session=False)
    )
    return (await session.exec(kept)).rowcount == 1
