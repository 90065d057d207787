"""Reading what comes after the cursor, and writing it in steps."""

from dataclasses import dataclass
from functools import partial

from tallystick.chain.errors import BlockNotSeen, RpcErrorAnswer, RpcUnavailable
from tallystick.chain.evidence import (
    TransferLog,
    transfers_from,
    transfers_in_block,
    transfers_out_of_block,
    transfers_to,
)
from tallystick.chain.rpc import Block, Chain
from tallystick.chain.together import together
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import Database, WriteSession
from tallystick.payments.models.chain import ChainCursor
from tallystick.payments.observing.dust import is_dust
from tallystick.payments.observing.following import (
    advance,
    cursor_of,
    hold_cursor,
    miss_strays,
)
from tallystick.payments.observing.matching import Rate, book
from tallystick.payments.observing.outflows import book_outflow
from tallystick.payments.rail import Rail

_SPAN_BLOCKS = 2_000
_STEP_BLOCKS = 16
"""Blocks that may still be replaced, read one by one and written together."""


async def read_on(
    db: Database,
    rail: Rail,
    rate: Rate,
    cursor: ChainCursor,
    head: Block,
    *,
    hold_seconds: int,
) -> int:
    """From the cursor to the head; how many Transfers there were.

    Raises ``Overtaken`` when another observer is ahead, ``RpcErrorAnswer`` and
    ``RpcUnavailable``; what was read until then stays read.
    """
    count = 0
    final = await rail.chain.block("finalized")
    while cursor.block_number < head.number:
        step = await _read(rail, cursor, head, final)
        if step is None:
            break  # replaced while we read: the next look goes back
        await _book(db, rail, rate, cursor, step, hold_seconds=hold_seconds)
        await db.write(
            partial(_advance, rail=rail, cursor=cursor, step=step, final=final)
        )
        reached(CrashPoint.CURSOR_MOVED)
        cursor = await cursor_of(db, rail)
        count += len(step.seen)
    return count


@dataclass(frozen=True, slots=True)
class _Step:
    """The Transfers of the next blocks, in and out.

    ``blocks`` are all of them, or the last of a range that is final.
    """

    first: int
    seen: list[TransferLog]
    left: list[TransferLog]
    blocks: list[Block]

    @property
    def is_empty(self) -> bool:
        return not self.seen and not self.left


async def _book(
    db: Database,
    rail: Rail,
    rate: Rate,
    cursor: ChainCursor,
    step: _Step,
    *,
    hold_seconds: int,
) -> None:
    """What moved; first of all, what was booked in other blocks is missing."""
    if step.is_empty:
        return
    await db.write(partial(_miss_others, rail=rail, cursor=cursor, step=step))
    for one in step.seen:
        await book(db, rail, rate, one, hold_seconds=hold_seconds, after=cursor)
    for one in step.left:
        await book_outflow(db, rail, one, after=cursor)
    reached(CrashPoint.BLOCK_BOOKED)


async def _miss_others(
    session: WriteSession, *, rail: Rail, cursor: ChainCursor, step: _Step
) -> None:
    await hold_cursor(session, rail, cursor)
    shown = (*step.seen, *step.left)
    hashes = [one.hash for one in step.blocks] + [one.block_hash for one in shown]
    await miss_strays(session, rail, step.first, step.blocks[-1].number, hashes)


async def _read(
    rail: Rail, cursor: ChainCursor, head: Block, final: Block | None
) -> _Step | None:
    """What comes after the cursor, as one node has it; None when that was replaced."""
    return await rail.chain.of_one_node(
        lambda node: _read_of(node, rail, cursor, head, final)
    )


async def _read_of(
    node: Chain, rail: Rail, cursor: ChainCursor, head: Block, final: Block | None
) -> _Step | None:
    """A range above the finalized block may silently lack what the node has not seen.

    So there each block is asked for by its hash, and must follow the one before.
    """
    first = cursor.block_number + 1
    if final is not None and first <= min(final.number, head.number):
        height = min(first + _SPAN_BLOCKS - 1, final.number, head.number)
        seen, left = await together(
            [
                transfers_to(node, rail.pay_to, first, height),
                transfers_from(node, rail.pay_to, first, height),
            ],
            2,
        )
        return _Step(first, _worth(rail, seen), left, [await read_block(node, height)])
    step = _Step(first, [], [], [])
    before = bytes(cursor.block_hash) if first > cursor.first_block else None
    for number in range(first, min(first + _STEP_BLOCKS - 1, head.number) + 1):
        try:
            follows = await _read_one(node, rail, step, number, before)
        except (RpcErrorAnswer, RpcUnavailable):
            if not step.blocks:
                raise
            break  # what was read until then stays read
        if not follows:
            break
        before = step.blocks[-1].hash
    return step if step.blocks else None


async def _read_one(
    node: Chain, rail: Rail, step: _Step, number: int, before: bytes | None
) -> bool:
    """Add a block to the step; whether it follows the one before."""
    block = await read_block(node, number)
    if before is not None and block.parent_hash != before:
        return False
    seen, left = await together(
        [
            transfers_in_block(node, block.hash, pay_to=rail.pay_to),
            transfers_out_of_block(node, block.hash, payer=rail.pay_to),
        ],
        2,
    )
    step.seen.extend(_worth(rail, seen))
    step.left.extend(left)
    step.blocks.append(block)
    return True


def _worth(rail: Rail, seen: list[TransferLog]) -> list[TransferLog]:
    return [one for one in seen if not is_dust(rail, one)]


async def read_block(chain: Chain, height: int) -> Block:
    """A block that the node has named. Raises ``BlockNotSeen``, ``RpcUnavailable``."""
    block = await chain.block(height)
    if block is None:
        raise BlockNotSeen("the node has not seen a block that it named")
    return block


async def _advance(
    session: WriteSession,
    *,
    rail: Rail,
    cursor: ChainCursor,
    step: _Step,
    final: Block | None,
) -> None:
    if step.is_empty:
        await _miss_others(session, rail=rail, cursor=cursor, step=step)
    await advance(session, rail, cursor, step.blocks, final)
