"""Money that the chain showed and then had no more: the ledger takes it back.

A Transfer whose block was replaced is missing first. Nearly always its transaction is
in a block of the new branch, and only the anchor moves. Once the new branch has come to
that height without it, it is gone: reverse by compensation, and watch for it again.
"""

from functools import partial

from sqlalchemy import ColumnElement, update
from sqlmodel import col, select

from tallystick.chain.evidence import TransferLog
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import Database, WriteSession
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.payments.models.chain import (
    IS_MISSING,
    ChainCursor,
    ChainTransfer,
    Presence,
)
from tallystick.payments.models.topups import PAID_STATES, TopUp, TopUpState
from tallystick.payments.observing.following import (
    Overtaken,
    hold_cursor,
    read_missing,
    transfers_of,
)
from tallystick.payments.observing.taking_back import Cause, take_back
from tallystick.payments.rail import Rail

_log = get_logger(__name__)


async def find_again(session: WriteSession, rail: Rail, seen: TransferLog) -> bool:
    """Whether this is a Transfer that is booked already, in a block that was replaced.

    Then its row says where it is now, and the ledger has nothing to say.
    """
    row = await _stale(session, rail, seen)
    if row is None:
        return False
    place = {
        "block_number": seen.block_number,
        "block_hash": seen.block_hash,
        "log_index": seen.log_index,
        "tx_hash": seen.tx_hash,
    }
    mine = col(ChainTransfer.id) == row.id
    values = place | {"presence": Presence.BOOKED}
    await session.exec(update(ChainTransfer).where(mine).values(**values))
    if row.topup_id is not None:
        # The new block is not safe yet.
        anchored = place | {"state": TopUpState.CREDITED}
        paid = col(TopUp.state).in_(PAID_STATES)
        await session.exec(
            update(TopUp).where(col(TopUp.id) == row.topup_id, paid).values(**anchored)
        )
        topup = encode_id("top", row.topup_id)
        _log.warning("topup_moved_to_another_block", topup=topup)
    return True


async def _stale(
    session: WriteSession, rail: Rail, seen: TransferLog
) -> ChainTransfer | None:
    own = select(ChainTransfer).where(*transfers_of(rail))
    here = (
        col(ChainTransfer.block_hash) == seen.block_hash,
        col(ChainTransfer.log_index) == seen.log_index,
    )
    exact = (await session.exec(own.where(*here))).one_or_none()
    if exact is not None:
        return exact if exact.presence == Presence.MISSING else None
    same = (
        col(ChainTransfer.sender) == seen.payer,
        col(ChainTransfer.value) == seen.amount,
    )
    found = (
        own.where(*same, *_of_it(seen)).order_by(col(ChainTransfer.log_index)).limit(1)
    )
    return (await session.exec(found)).one_or_none()


def _of_it(seen: TransferLog) -> tuple[ColumnElement[bool], ...]:
    if seen.nonce is None:
        return (
            col(ChainTransfer.nonce).is_(None),
            col(ChainTransfer.tx_hash) == seen.tx_hash,
            IS_MISSING,
        )
    # An authorization is used once on a chain, and this is the chain.
    return (
        col(ChainTransfer.nonce) == seen.nonce,
        col(ChainTransfer.authority).is_not_distinct_from(seen.authority),
        col(ChainTransfer.presence) != Presence.GONE,
    )


async def take_back_missing(db: Database, rail: Rail) -> int:
    """Reverse what the blocks read by now should have and have not; how much.

    Each in a transaction of its own, as long as nobody goes back in between.
    """
    cursor, missing = await read_missing(db, rail, ChainTransfer, IS_MISSING)
    count = 0
    for row in missing:
        taken = await db.write(partial(_take_back, rail, cursor, row))
        count += taken
        reached(CrashPoint.REVERSED)
        if taken and row.topup_id is not None:
            rail.outlook.transitions["paid", TopUpState.REVERSED] += 1
    return count


async def _take_back(
    rail: Rail, cursor: ChainCursor, row: ChainTransfer, session: WriteSession
) -> bool:
    try:
        await hold_cursor(session, rail, cursor)
    except Overtaken:
        return False
    if not await take_back(session, row, Presence.MISSING, Cause.REPLACED):
        return False
    reached(CrashPoint.REVERSAL_UNCOMMITTED)
    return True
