"""Every Transfer to ``pay_to`` gets into the books, whoever sent it and why.

A Transfer of an authorization that was presented to us credits its payer; any other
money waits in suspense until somebody proves that it is his.
"""

from functools import partial

from sqlalchemy import update
from sqlmodel import col

from tallystick.chain.evidence import TransferLog, transfers_in_block, transfers_to
from tallystick.chain.rpc import Block
from tallystick.chain.token import balance_of
from tallystick.kernel.db import Database, WriteSession, insert_once
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.matching import Rate, book, match_suspense
from tallystick.payments.models import ChainCursor
from tallystick.payments.rail import Rail
from tallystick.payments.same_chain import (
    books_of,
    drop_anchor,
    find_cursor,
    require_anchor,
)

_SPAN_BLOCKS = 2_000


async def open_books(db: Database, rail: Rail) -> None:
    """Remember where our books begin, and what ``pay_to`` held by then.

    Run at boot. Raises ``RpcUnavailable``.
    """
    if await are_open(db, rail):
        return
    final = await rail.chain.block("finalized")
    before = await _block_before(rail, final)
    opening = 0
    if before is not None:
        opening = await balance_of(rail.chain, rail.pay_to, block=before.number)
    genesis = await _block(rail, 0) if before is None else before
    last_number = -1 if before is None else before.number
    row: dict[str, object] = {
        "chain_id": rail.domain.chain_id,
        "token": rail.domain.contract,
        "pay_to": rail.pay_to,
        "first_block": last_number + 1,
        "block_number": last_number,
        "block_hash": genesis.hash,
        "opening_balance": opening,
        "anchor_number": None if final is None else final.number,
        "anchor_hash": None if final is None else final.hash,
    }
    await db.write(lambda session: insert_once(session, ChainCursor, row))


async def _block_before(rail: Rail, final: Block | None) -> Block | None:
    """The last block that is none of our books' business; None if all of them are.

    Unless told otherwise, new books begin after the block that is final by now: nobody
    can have paid into them before, and reading a chain from its beginning takes days.
    """
    if rail.start_block is None:
        return final
    if rail.start_block == 0:
        return None
    before = await rail.chain.block(rail.start_block - 1)
    if before is None:
        raise TopUpsUnavailable("the node does not know START_BLOCK")
    return before


async def are_open(db: Database, rail: Rail) -> bool:
    """Whether the books of this rail were opened before."""
    async with db.read() as session:
        return await find_cursor(session, rail) is not None


async def observe(db: Database, rail: Rail, rate: Rate, *, hold_seconds: int) -> int:
    """Read the blocks since the last look; how many Transfers they held.

    Raises ``RpcUnavailable``; what was read until then stays read. Raises
    ``BooksOfAnotherChain`` before anything of another chain is read.
    """
    async with db.read() as session:
        cursor = await find_cursor(session, rail)
    if cursor is None:
        raise TopUpsUnavailable("the books are not open yet")
    head = await rail.head()
    if head.number != cursor.block_number or rail.outlook.is_another_chain:
        await require_anchor(rail, cursor)
    final = await rail.chain.block("finalized")
    count, next_block = 0, cursor.block_number + 1
    while next_block <= head.number:
        seen, last = await _read(rail, next_block, head, final)
        for one in seen:
            await book(db, rail, rate, one, hold_seconds=hold_seconds)
        await db.write(partial(_advance, rail, last, final))
        count, next_block = count + len(seen), last.number + 1
    await match_suspense(db, rail, rate, hold_seconds=hold_seconds)
    return count


async def _read(
    rail: Rail, first: int, head: Block, final: Block | None
) -> tuple[list[TransferLog], Block]:
    """The Transfers of the next blocks, and the last of these blocks.

    A range above the finalized block may silently lack what the node has not seen, so
    there each block is asked for by its hash.
    """
    if final is not None and first <= min(final.number, head.number):
        height = min(first + _SPAN_BLOCKS - 1, final.number, head.number)
        seen = await transfers_to(rail.chain, rail.pay_to, first, height)
        return seen, await _block(rail, height)
    block = await _block(rail, first)
    seen = await transfers_in_block(rail.chain, block.hash, pay_to=rail.pay_to)
    return seen, block


async def _block(rail: Rail, height: int) -> Block:
    block = await rail.chain.block(height)
    if block is None:
        raise TopUpsUnavailable("the node has not seen a block that it named")
    return block


async def observed_seconds(db: Database, rail: Rail) -> int:
    """The time of the last block that was read; later ones may still bring evidence.

    Raises ``RpcUnavailable`` or ``TopUpsUnavailable``.
    """
    async with db.read() as session:
        cursor = await find_cursor(session, rail)
    if cursor is None:
        raise TopUpsUnavailable("the books are not open yet")
    return (await _block(rail, max(cursor.block_number, 0))).timestamp_seconds


async def _advance(
    rail: Rail, block: Block, final: Block | None, session: WriteSession
) -> None:
    if final is not None:
        await drop_anchor(session, rail, final)
    await session.exec(
        update(ChainCursor)
        .where(*books_of(rail), col(ChainCursor.block_number) < block.number)
        .values(block_number=block.number, block_hash=block.hash)
    )
