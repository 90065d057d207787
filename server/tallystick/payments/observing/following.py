"""Where the observer stands on the chain, and going back when its blocks are replaced.

The cursor is the last block that was read. Whoever books what a block shows, or moves
the cursor, names the block that he read before it: of several observers, and of one
that read a branch which the chain has left since, only one goes on.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from sqlalchemy import ColumnElement, delete, func, update
from sqlmodel import col, select

from tallystick.chain.rpc import Block
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import Database, ReadSession, WriteSession, insert_once
from tallystick.kernel.log import get_logger
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.models.chain import (
    ChainCursor,
    ChainOutflow,
    ChainTransfer,
    Presence,
    RecentBlock,
)
from tallystick.payments.observing.same_chain import (
    books_of,
    drop_anchor,
    find_cursor,
    require_anchor,
)
from tallystick.payments.rail import Rail

_log = get_logger(__name__)
Movements = type[ChainTransfer] | type[ChainOutflow]
"""What came to ``pay_to``, or what left it."""
Row = TypeVar("Row", ChainTransfer, ChainOutflow)
_BATCH = 100
_Which = Callable[[Movements], tuple[ColumnElement[bool], ...]]


class Overtaken(Exception):
    """Another observer has moved the cursor; nothing was written."""


async def cursor_of(db: Database, rail: Rail) -> ChainCursor:
    """Raises ``TopUpsUnavailable`` before the first boot."""
    async with db.read() as session:
        return await read_cursor(session, rail)


async def read_cursor(session: ReadSession, rail: Rail) -> ChainCursor:
    """As ``cursor_of``, in a snapshot with what else is read."""
    cursor = await find_cursor(session, rail)
    if cursor is None:
        raise TopUpsUnavailable("the books are not open yet")
    return cursor


async def stay_on_chain(
    db: Database, rail: Rail, cursor: ChainCursor, head: Block
) -> ChainCursor:
    """The cursor, taken back to the last block that the chain still has.

    What later blocks had shown is missing from then on, until it is read again. A node
    that merely lags behind takes nothing back. Raises ``RpcUnavailable``, and
    ``BooksOfAnotherChain`` when even a final block is another.
    """
    height = min(head.number, cursor.block_number)
    async with db.read() as session:
        known = await _known(session, rail, cursor, height)
    for number in sorted(known, reverse=True):
        found = head if number == head.number else await rail.chain.block(number)
        if found is None:  # another node answers, which has not come so far
            raise TopUpsUnavailable("the node has not seen a block that it named")
        if found.hash == known[number]:
            return await _return_to(db, rail, cursor, found, at_most=height)
        if number == cursor.anchor_number:
            await require_anchor(rail, cursor)
            raise TopUpsUnavailable("one of the nodes has another final block")
    if not known:
        return cursor
    # Nothing that was read is left, and there was no final block yet.
    first = await rail.chain.block(max(cursor.first_block - 1, 0))
    if first is None:
        raise TopUpsUnavailable("the node has not seen a block that it named")
    await db.write(
        lambda session: _go_back(
            session, rail, cursor, cursor.first_block - 1, first.hash
        )
    )
    return await cursor_of(db, rail)


async def _known(
    session: ReadSession, rail: Rail, cursor: ChainCursor, height: int
) -> dict[int, bytes]:
    """The hashes that were read, of heights up to this one."""
    query = select(RecentBlock.number, RecentBlock.hash).where(*_recent(rail))
    known = {number: bytes(one) for number, one in await session.exec(query)}
    known[cursor.block_number] = bytes(cursor.block_hash)
    if cursor.anchor_number is not None and cursor.anchor_hash is not None:
        known[cursor.anchor_number] = bytes(cursor.anchor_hash)
    return {at: one for at, one in known.items() if cursor.first_block <= at <= height}


async def _return_to(
    db: Database, rail: Rail, cursor: ChainCursor, last: Block, *, at_most: int
) -> ChainCursor:
    if last.number == at_most:
        return cursor
    await db.write(
        lambda session: _go_back(session, rail, cursor, last.number, last.hash)
    )
    reached(CrashPoint.CURSOR_TAKEN_BACK)
    return await cursor_of(db, rail)


async def _go_back(
    session: WriteSession,
    rail: Rail,
    cursor: ChainCursor,
    number: int,
    block_hash: bytes,
) -> None:
    await hold_cursor(session, rail, cursor, number=number, block_hash=block_hash)
    await _miss(session, rail, lambda table: (col(table.block_number) > number,))
    await session.exec(
        delete(RecentBlock).where(*_recent(rail), col(RecentBlock.number) > number)
    )
    depth = cursor.block_number - number
    _log.warning("chain_reorganised", block=number, depth=depth)


async def hold_cursor(
    session: WriteSession,
    rail: Rail,
    cursor: ChainCursor,
    *,
    number: int | None = None,
    block_hash: bytes | None = None,
) -> None:
    """Keep the cursor where it was read, or move it from there, in this transaction.

    Raises ``Overtaken`` when it is elsewhere by now.
    """
    statement = (
        update(ChainCursor)
        .where(
            *books_of(rail),
            col(ChainCursor.block_number) == cursor.block_number,
            col(ChainCursor.block_hash) == cursor.block_hash,
        )
        .values(
            block_number=cursor.block_number if number is None else number,
            block_hash=block_hash or cursor.block_hash,
        )
        .execution_options(synchronize_session=False)
    )
    if (await session.exec(statement)).rowcount != 1:
        raise Overtaken


async def advance(
    session: WriteSession,
    rail: Rail,
    cursor: ChainCursor,
    blocks: Sequence[Block],
    final: Block | None,
) -> None:
    """Move the cursor from where it was read over the blocks. Raises ``Overtaken``."""
    last = blocks[-1]
    await hold_cursor(session, rail, cursor, number=last.number, block_hash=last.hash)
    for block in blocks:
        row: dict[str, object] = {
            "chain_id": rail.domain.chain_id,
            "token": rail.domain.contract,
            "pay_to": rail.pay_to,
            "number": block.number,
            "hash": block.hash,
        }
        await insert_once(session, RecentBlock, row)
    if final is not None:
        await drop_anchor(session, rail, final)
        old = col(RecentBlock.number) < min(final.number, last.number)
        await session.exec(delete(RecentBlock).where(*_recent(rail), old))


async def miss_strays(
    session: WriteSession,
    rail: Rail,
    first: int,
    last: int,
    seen_in: Iterable[bytes],
) -> None:
    """What was booked in blocks of these heights that are not the ones we read now.

    The settler credits what a node shows it before the observer has come so far.
    """
    known = sorted(set(seen_in))

    def strays(table: Movements) -> tuple[ColumnElement[bool], ...]:
        height = col(table.block_number)
        return height >= first, height <= last, col(table.block_hash).not_in(known)

    await _miss(session, rail, strays)


async def miss_replaced(rail: Rail, session: WriteSession) -> None:
    """What was booked in a block of which another was read at its height.

    Whoever looked before a block was replaced, and wrote after the observer had read the
    new one, booked what no look will meet again.
    """
    oldest = select(func.min(RecentBlock.number)).where(*_recent(rail))

    def replaced(table: Movements) -> tuple[ColumnElement[bool], ...]:
        height = col(table.block_number)
        other = (
            select(RecentBlock.number)
            .where(
                *_recent(rail),
                col(RecentBlock.number) == height,
                col(RecentBlock.hash) != col(table.block_hash),
            )
            .exists()
        )
        return height >= oldest.scalar_subquery(), other

    await _miss(session, rail, replaced)


async def _miss(session: WriteSession, rail: Rail, which: _Which) -> None:
    for table in (ChainTransfer, ChainOutflow):
        booked = col(table.presence) == Presence.BOOKED
        await session.exec(
            update(table)
            .where(*movements_of(table, rail), booked, *which(table))
            .values(presence=Presence.MISSING)
            .execution_options(synchronize_session=False)
        )


async def read_missing(
    db: Database, rail: Rail, table: type[Row], is_missing: ColumnElement[bool]
) -> tuple[ChainCursor, Sequence[Row]]:
    """What the blocks up to the cursor should show and do not, the first hundred.

    ``is_missing`` is the condition of the table's own index. Raises
    ``TopUpsUnavailable`` before the first boot.
    """
    async with db.read() as session:
        cursor = await read_cursor(session, rail)
        query = (
            select(table)
            .where(
                *movements_of(table, rail),
                is_missing,
                col(table.block_number) <= cursor.block_number,
            )
            .order_by(col(table.id))
            .limit(_BATCH)
        )
        return cursor, (await session.exec(query)).all()


def transfers_of(rail: Rail) -> tuple[ColumnElement[bool], ...]:
    """Every Transfer in the rail's books."""
    return movements_of(ChainTransfer, rail)


def movements_of(table: Movements, rail: Rail) -> tuple[ColumnElement[bool], ...]:
    """Every Transfer to the rail's ``pay_to``, or out of it."""
    return (
        col(table.chain_id) == rail.domain.chain_id,
        col(table.token) == rail.domain.contract,
        col(table.pay_to) == rail.pay_to,
    )


def _recent(rail: Rail) -> tuple[ColumnElement[bool], ...]:
    return (
        col(RecentBlock.chain_id) == rail.domain.chain_id,
        col(RecentBlock.token) == rail.domain.contract,
        col(RecentBlock.pay_to) == rail.pay_to,
    )
