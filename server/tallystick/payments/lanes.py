"""One settlement of a wallet at a time: ``in_flight`` is its lane.

A top-up that finds the lane taken is queued; whoever gives the lane up hands it to the
oldest that waits.
"""

from functools import partial

from sqlalchemy import ColumnElement, update
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from tallystick.kernel.db import Database, ReadSession, WriteSession, now_ms
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.rail import Rail

_BATCH = 64
# Made once: a new alias derives each of its columns anew.
_OTHER, _QUEUED = aliased(TopUp), aliased(TopUp)


async def promote_queued(session: WriteSession, chain_id: int, payer: bytes) -> bool:
    """Let the wallet's oldest queued top-up settle; whether one could begin."""
    wallet = (col(TopUp.chain_id) == chain_id, col(TopUp.payer) == payer)
    busy = select(TopUp.id).where(*wallet, col(TopUp.in_flight))
    if (await session.exec(busy.limit(1))).one_or_none() is not None:
        return False
    queued = select(TopUp.id).where(*wallet, col(TopUp.state) == TopUpState.CLAIMED)
    oldest = (await session.exec(queued.order_by(col(TopUp.id)).limit(1))).one_or_none()
    if oldest is None:
        return False
    statement = (
        update(TopUp)
        # It may have been credited since, by a process that saw its money arrive.
        .where(col(TopUp.id) == oldest, col(TopUp.state) == TopUpState.CLAIMED)
        .values(in_flight=True, next_look_at_ms=now_ms(session))
    )
    return (await session.exec(statement)).rowcount == 1


async def has_lane(session: ReadSession, chain_id: int, payer: bytes) -> bool:
    """Whether a settlement of the wallet is in flight."""
    query = select(TopUp.id).where(
        col(TopUp.chain_id) == chain_id, col(TopUp.payer) == payer, col(TopUp.in_flight)
    )
    return (await session.exec(query.limit(1))).one_or_none() is not None


def lane_is_free(topup: TopUp) -> ColumnElement[bool]:
    """That no other settlement of its wallet is in flight."""
    taken = select(_OTHER.id).where(
        col(_OTHER.chain_id) == topup.chain_id,
        col(_OTHER.payer) == topup.payer,
        col(_OTHER.id) != topup.id,
        col(_OTHER.in_flight),
    )
    return ~taken.exists()


async def leave_lane(session: WriteSession, topup: TopUp) -> None:
    """Give up the wallet's lane: this one may be watched yet, and settled no more."""
    await session.exec(
        update(TopUp)
        .where(col(TopUp.id) == topup.id, col(TopUp.state) == topup.state)
        .values(in_flight=False)
    )
    await promote_queued(session, topup.chain_id, topup.payer)


async def promote_forgotten(db: Database, rail: Rail) -> int:
    """Promote what queued in the very moment in which the lane was given up; how many.

    Of two transactions at once neither sees the other: one finds the lane taken and
    queues, the other finds nobody to hand it to.
    """
    lane_is_taken = (
        select(_OTHER.id)
        .where(
            col(_OTHER.chain_id) == col(_QUEUED.chain_id),
            col(_OTHER.payer) == col(_QUEUED.payer),
            col(_OTHER.in_flight),
        )
        .exists()
    )
    query = (
        select(_QUEUED.payer)
        .where(
            col(_QUEUED.chain_id) == rail.domain.chain_id,
            col(_QUEUED.state) == TopUpState.CLAIMED,
            ~col(_QUEUED.in_flight),
            ~lane_is_taken,
        )
        .distinct()
        .limit(_BATCH)
    )
    async with db.read() as session:
        payers = (await session.exec(query)).all()
    promoted = 0
    for payer in payers:
        promoted += await db.write(partial(_promote, rail.domain.chain_id, payer))
    return promoted


async def _promote(chain_id: int, payer: bytes, session: WriteSession) -> bool:
    return await promote_queued(session, chain_id, payer)
