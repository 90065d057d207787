"""Money that the chain showed and then had no more: the ledger takes it back.

A Transfer whose block was replaced is missing first. Nearly always its transaction is
in a block of the new branch, and only the anchor moves. Once the new branch has come to
that height without it, it is gone: reverse by compensation, and watch for it again.
"""

from functools import partial

from sqlalchemy import ColumnElement, update
from sqlmodel import col, select

from tallystick.chain.evidence import TransferLog
from tallystick.credits.debts import claw_back
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import Database, WriteSession
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.kernel.seal import digest16
from tallystick.ledger.models import LedgerTransaction
from tallystick.ledger.references import reference_to
from tallystick.payments.exposure import unexpose
from tallystick.payments.models.chain import (
    IS_MISSING,
    ChainCursor,
    ChainTransfer,
    Presence,
)
from tallystick.payments.models.topups import PAID_STATES, TopUp, TopUpState
from tallystick.payments.observing.crediting import (
    first_suspense_key,
    grant_keys,
    redemption_key,
    suspense_key,
)
from tallystick.payments.observing.following import (
    Overtaken,
    hold_cursor,
    read_missing,
    transfers_of,
)
from tallystick.payments.rail import Rail
from tallystick.payments.topups import read_topup

_log = get_logger(__name__)
_TAKEN_BACK = "Its block was replaced, and the payment is not in the new one"


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
    statement = (
        update(ChainTransfer)
        .where(
            col(ChainTransfer.id) == row.id,
            col(ChainTransfer.presence) == Presence.MISSING,
            col(ChainTransfer.block_hash) == row.block_hash,
        )
        .values(presence=Presence.GONE)
        # As it is now: it may have been credited since it was listed.
        .returning(col(ChainTransfer.topup_id), col(ChainTransfer.generation))
        .execution_options(synchronize_session=False)
    )
    gone = (await session.exec(statement)).one_or_none()
    if gone is None:
        return False
    topup_id, generation = gone
    if topup_id is not None:
        await _reverse(session, topup_id)
    redeemed = redemption_key(row.id, generation)
    await undo(session, redeemed, reference_to("redemption", row.id))
    reference = f"transfer:0x{row.tx_hash.hex()}:{row.log_index}"
    for key in (
        suspense_key(row.id, generation),
        first_suspense_key(row.block_hash, row.log_index, generation),
    ):
        await undo(session, key, reference)
    reached(CrashPoint.REVERSAL_UNCOMMITTED)
    return True


async def _reverse(session: WriteSession, topup_id: int) -> None:
    topup = await read_topup(session, topup_id)
    statement = (
        update(TopUp)
        .where(col(TopUp.id) == topup_id, col(TopUp.state).in_(PAID_STATES))
        .values(
            state=TopUpState.REVERSED,
            reason="block_replaced",
            generation=topup.generation + 1,
            tx_hash=None,
            block_number=None,
            block_hash=None,
            log_index=None,
            balance_after=None,
        )
        # The row that was read says which generation is taken back.
        .execution_options(synchronize_session=False)
    )
    done = await session.exec(statement)
    assert done.rowcount == 1, "a Transfer belongs to a paid top-up"
    await unexpose(session, topup_id)
    for key in grant_keys(topup):
        await undo(session, key, reference_to("topup", topup_id))
    _log.error("topup_reversed", topup=encode_id("top", topup_id), was=topup.state)


async def undo(session: WriteSession, key: bytes, reference: str) -> None:
    """Take back the transaction that was booked under the key, if there is one."""
    booked = col(LedgerTransaction.idempotency_key) == key
    found = (
        await session.exec(select(LedgerTransaction.id).where(booked))
    ).one_or_none()
    if found is not None:
        await claw_back(
            session,
            found,
            idempotency_key=digest16(b"replaced", found.to_bytes(8, "big")),
            reference=reference,
            memo=_TAKEN_BACK,
        )
