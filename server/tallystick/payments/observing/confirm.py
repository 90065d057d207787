"""Credited top-ups grow firm: their block becomes safe, then final."""

from functools import partial

from sqlalchemy import update
from sqlmodel import col, select

from tallystick.chain.rpc import Block
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import Database, WriteSession
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.payments.exposure import unexpose
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.rail import Rail

_log = get_logger(__name__)


async def confirm(db: Database, rail: Rail, *, limit: int = 200) -> int:
    """Move credited top-ups to SAFE and FINAL as far as the chain has come; how many.

    A top-up whose block is not canonical stays as it is and is reported. Raises
    ``RpcUnavailable``.
    """
    moved = 0
    safe, final = await look_at_heights(rail)
    steps = (
        (TopUpState.CREDITED, TopUpState.SAFE, safe),
        (TopUpState.SAFE, TopUpState.FINAL, final),
    )
    for before, after, upto in steps:
        if upto is not None:
            moved += await _advance(db, rail, before, after, upto, limit)
    async with db.read() as session:
        chain_id = rail.domain.chain_id
        rail.outlook.exposure_cap = await rail.caps.total(session, chain_id)
    return moved


async def look_at_heights(rail: Rail) -> tuple[Block | None, Block | None]:
    """The newest blocks that are safe and final; raises ``RpcUnavailable``."""
    final = await rail.chain.block("finalized")
    if final is not None:
        rail.outlook.final_number = final.number
    # Some nodes do not know what is safe.
    safe = await rail.chain.block("safe") or final
    # Also when it is less than before: one wrong answer must not lift the caps for good.
    rail.outlook.safe_number = -1 if safe is None else safe.number
    return safe, final


async def _advance(
    db: Database,
    rail: Rail,
    before: TopUpState,
    after: TopUpState,
    upto: Block,
    limit: int,
) -> int:
    query = (
        select(TopUp)
        .where(
            col(TopUp.chain_id) == rail.domain.chain_id,
            col(TopUp.state) == before,
            col(TopUp.block_number) <= upto.number,
        )
        .order_by(col(TopUp.block_number))
        .limit(limit)
    )
    async with db.read() as session:
        topups = (await session.exec(query)).all()
    moved = 0
    for topup in topups:
        assert topup.block_number is not None
        block = await rail.chain.block(topup.block_number)
        if block is None or block.hash != topup.block_hash:
            _log.error("credited_block_vanished", topup=encode_id("top", topup.id))
        else:
            done = await db.write(partial(_move, topup, before, after))
            rail.outlook.transitions[before, after] += done
            moved += done
    return moved


async def _move(
    topup: TopUp, before: TopUpState, after: TopUpState, session: WriteSession
) -> int:
    statement = (
        update(TopUp)
        .where(
            col(TopUp.id) == topup.id,
            col(TopUp.state) == before,
            # It may have moved to another block since.
            col(TopUp.block_hash) == topup.block_hash,
        )
        .values(state=after)
    )
    moved = (await session.exec(statement)).rowcount
    if moved and after == TopUpState.SAFE:
        await unexpose(session, topup.id)
    reached(CrashPoint.MADE_SAFE_UNCOMMITTED)
    return moved
