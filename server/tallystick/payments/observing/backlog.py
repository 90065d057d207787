"""Outflows of the time before the books knew of any: read once, a stretch at a time.

Only final blocks are read, so no reorganisation meets them, and where the reading has
come stands in the database: a server that is stopped goes on from there.
"""

from sqlalchemy import ColumnElement, update
from sqlmodel import col, select

from tallystick.chain.evidence import transfers_from
from tallystick.kernel.db import Database, ReadSession, WriteSession
from tallystick.kernel.log import get_logger
from tallystick.payments.models.chain import Payee
from tallystick.payments.observing.outflows import record_outflow
from tallystick.payments.rail import Rail

_log = get_logger(__name__)
_SPAN_BLOCKS = 2_000
_SPANS = 20
"""In one round, so that what is new does not wait for what is old."""


async def read_backlog(db: Database, rail: Rail) -> bool:
    """Read some more; whether anything is left. Raises ``RpcUnavailable``."""
    for _ in range(_SPANS):
        async with db.read() as session:
            unread = await unread_blocks(session, rail)
        if unread is None:
            return False
        final = await rail.chain.block("finalized")
        first, last = unread
        height = min(
            first + _SPAN_BLOCKS - 1, last, -1 if final is None else final.number
        )
        if height < first:
            return True
        await _read(db, rail, first, height, last)
    return True


async def unread_blocks(session: ReadSession, rail: Rail) -> tuple[int, int] | None:
    """The first and the last block whose outflows are still to be read."""
    query = select(Payee.unread_from, Payee.unread_to).where(*_mine(rail))
    found = (await session.exec(query)).one_or_none()
    if found is None or found[0] is None or found[1] is None:
        return None
    return found[0], found[1]


async def _read(db: Database, rail: Rail, first: int, height: int, last: int) -> None:
    seen = await transfers_from(rail.chain, rail.pay_to, first, height)
    is_done = height == last

    async def work(session: WriteSession) -> bool:
        statement = (
            update(Payee)
            .where(*_mine(rail), col(Payee.unread_from) == first)
            .values(
                unread_from=None if is_done else height + 1,
                unread_to=None if is_done else last,
            )
        )
        if (await session.exec(statement)).rowcount != 1:
            return False  # another process has read them
        for one in seen:
            await record_outflow(session, rail, one)
        return True

    if await db.write(work):
        _log.info(
            "old_outflows_read", first=first, last=height, found=len(seen), done=is_done
        )


def _mine(rail: Rail) -> tuple[ColumnElement[bool], ...]:
    return (
        col(Payee.chain_id) == rail.domain.chain_id,
        col(Payee.token) == rail.domain.contract,
        col(Payee.pay_to) == rail.pay_to,
    )
