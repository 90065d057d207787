"""What leaves ``pay_to``: the seller's own sweeps, booked to the treasury.

Nobody but the seller has the key of ``pay_to``, so nothing is asked of a Transfer out of
it: the books only must know. What it moves into them, and out again when its block is
replaced, happens in the transaction that changes its row (docs/decisions/0022).
"""

from functools import partial

from sqlalchemy import ColumnElement, update
from sqlmodel import col, select

from tallystick.chain.evidence import TransferLog
from tallystick.kernel.db import Database, WriteSession, insert_once, new_id, now_ms
from tallystick.kernel.log import get_logger
from tallystick.kernel.money import USDC, Amount
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.journal import post
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posting, Transfer
from tallystick.payments.models.chain import (
    IS_MISSING_OUTFLOW,
    ChainCursor,
    ChainOutflow,
    Presence,
)
from tallystick.payments.observing.following import (
    Overtaken,
    hold_cursor,
    movements_of,
    read_missing,
)
from tallystick.payments.observing.taking_back import undo
from tallystick.payments.rail import Rail

_log = get_logger(__name__)


async def book_outflow(
    db: Database, rail: Rail, seen: TransferLog, *, after: ChainCursor
) -> None:
    """Book what a block shows, once. Raises ``Overtaken``, as ``matching.book`` does."""

    async def work(session: WriteSession) -> bool:
        await hold_cursor(session, rail, after)
        return await record_outflow(session, rail, seen)

    if await db.write(work):
        _log.info("swept_out", block=seen.block_number, usdc_atomic=seen.amount)


async def record_outflow(session: WriteSession, rail: Rail, seen: TransferLog) -> bool:
    """Row and booking in somebody's transaction; whether this call booked it."""
    if await _find_again(session, rail, seen):
        return False
    booked = await _record(session, rail, seen)
    if booked is None:
        return False
    row_id, generation = booked
    place = (rail.network, rail.domain.contract)
    money = Amount(seen.amount, USDC)
    await post(
        session,
        Posting(
            TransactionKind.SWEEP,
            outflow_key(row_id, generation),
            [Transfer(chart.treasury(*place), chart.chain_assets(*place), money)],
            _reference(seen.tx_hash, seen.log_index),
            occurred_at_ms=seen.timestamp_seconds * 1000,
        ),
    )
    return True


def outflow_key(outflow_id: int, generation: int) -> bytes:
    """Of the transaction that booked it in this generation."""
    return digest16(
        b"outflow", outflow_id.to_bytes(8, "big"), generation.to_bytes(4, "big")
    )


def _reference(tx_hash: bytes, log_index: int) -> str:
    return f"outflow:0x{tx_hash.hex()}:{log_index}"


async def _find_again(session: WriteSession, rail: Rail, seen: TransferLog) -> bool:
    """Whether it is booked already, in a block that was replaced: then it has moved."""
    here = (
        col(ChainOutflow.block_hash) == seen.block_hash,
        col(ChainOutflow.log_index) == seen.log_index,
    )
    elsewhere = (
        col(ChainOutflow.tx_hash) == seen.tx_hash,
        col(ChainOutflow.recipient) == seen.pay_to,
        col(ChainOutflow.value) == seen.amount,
    )
    own = select(ChainOutflow).where(*movements_of(ChainOutflow, rail))
    found = (await session.exec(own.where(*here))).one_or_none()
    if found is None:
        missing = own.where(*elsewhere, IS_MISSING_OUTFLOW)
        first = missing.order_by(col(ChainOutflow.log_index)).limit(1)
        found = (await session.exec(first)).one_or_none()
    if found is None or found.presence != Presence.MISSING:
        return False
    await session.exec(
        update(ChainOutflow)
        .where(col(ChainOutflow.id) == found.id)
        .values(
            block_number=seen.block_number,
            block_hash=seen.block_hash,
            tx_hash=seen.tx_hash,
            log_index=seen.log_index,
            presence=Presence.BOOKED,
        )
    )
    return True


async def _record(
    session: WriteSession, rail: Rail, seen: TransferLog
) -> tuple[int, int] | None:
    """Its id, and how often it is booked with this time; None when it is already."""
    row: dict[str, object] = {
        "id": (row_id := new_id(session)),
        "chain_id": rail.domain.chain_id,
        "token": rail.domain.contract,
        "block_number": seen.block_number,
        "block_hash": seen.block_hash,
        "tx_hash": seen.tx_hash,
        "log_index": seen.log_index,
        "pay_to": rail.pay_to,
        "recipient": seen.pay_to,
        "value": seen.amount,
        "nonce": seen.nonce,
        "seen_at_ms": now_ms(session),
        "presence": Presence.BOOKED,
        "generation": 1,
    }
    if await insert_once(session, ChainOutflow, row):
        return row_id, 1
    # The chain went back to a block that it had left.
    again = (
        update(ChainOutflow)
        .where(
            col(ChainOutflow.chain_id) == rail.domain.chain_id,
            col(ChainOutflow.block_hash) == seen.block_hash,
            col(ChainOutflow.log_index) == seen.log_index,
            col(ChainOutflow.presence) == Presence.GONE,
        )
        .values(presence=Presence.BOOKED, generation=ChainOutflow.generation + 1)
        .returning(col(ChainOutflow.id), col(ChainOutflow.generation))
        .execution_options(synchronize_session=False)
    )
    found = (await session.exec(again)).one_or_none()
    return (found[0], found[1]) if found else None


async def take_back_outflows(db: Database, rail: Rail) -> int:
    """Reverse what the blocks read by now should have and have not; how much."""
    cursor, missing = await read_missing(db, rail, ChainOutflow, IS_MISSING_OUTFLOW)
    count = 0
    for row in missing:
        count += await db.write(partial(_take_back, rail, cursor, row))
    return count


async def _take_back(
    rail: Rail, cursor: ChainCursor, row: ChainOutflow, session: WriteSession
) -> bool:
    try:
        await hold_cursor(session, rail, cursor)
    except Overtaken:
        return False
    mine: tuple[ColumnElement[bool], ...] = (
        col(ChainOutflow.id) == row.id,
        col(ChainOutflow.presence) == Presence.MISSING,
        col(ChainOutflow.block_hash) == row.block_hash,
    )
    statement = update(ChainOutflow).where(*mine).values(presence=Presence.GONE)
    if (await session.exec(statement)).rowcount != 1:
        return False
    key = outflow_key(row.id, row.generation)
    await undo(session, key, _reference(row.tx_hash, row.log_index))
    _log.warning("sweep_taken_back", block=row.block_number, usdc_atomic=row.value)
    return True
