"""Every Transfer to ``pay_to`` gets into the books, whoever sent it and why.

A Transfer of an authorization that was presented to us credits its payer; any other
money waits in suspense until somebody proves that it is his, or until its block is
final if it was an authorization's.
"""

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
from tallystick.chain.token import balance_of
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import Database, WriteSession, insert_once
from tallystick.payments.backlog import read_backlog
from tallystick.payments.chain_models import ChainCursor
from tallystick.payments.dust import is_dust
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.following import (
    Overtaken,
    advance,
    cursor_of,
    hold_cursor,
    miss_replaced,
    miss_strays,
    stay_on_chain,
)
from tallystick.payments.matching import Rate, book, match_suspense
from tallystick.payments.outflows import book_outflow, take_back_outflows
from tallystick.payments.paybacks.closing import close_by_float_key, close_by_outflows
from tallystick.payments.payees import become_payee, rails_of
from tallystick.payments.rail import Rail
from tallystick.payments.reversing import take_back_missing
from tallystick.payments.same_chain import find_cursor, require_anchor
from tallystick.payments.unclaimed import credit_final_unclaimed

_SPAN_BLOCKS = 2_000
_STEP_BLOCKS = 16
"""Blocks that may still be replaced, read one by one and written together."""
_TRIES = 20


async def open_books(db: Database, rail: Rail) -> None:
    """Remember where our books begin, and what ``pay_to`` held by then.

    Run at boot. Raises ``RpcUnavailable``.
    """
    await become_payee(db, rail)
    if await are_open(db, rail):
        return
    final = await rail.chain.block("finalized")
    before = await _block_before(rail, final)
    opening = 0
    if before is not None:
        opening = await balance_of(rail.chain, rail.pay_to, block=before.number)
    genesis = await _block(rail.chain, 0) if before is None else before
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
    """Read the blocks since the last look; how many Transfers to us they held.

    Those to earlier addresses as well. Raises ``RpcUnavailable``; what was read until
    then stays read. Raises ``BooksOfAnotherChain`` before anything of another chain is
    read.
    """
    count = 0
    for one in await rails_of(db, rail):
        count += await _observe(db, one, rate, hold_seconds=hold_seconds)
        await read_backlog(db, one)
        await close_by_outflows(db, one)
    await close_by_float_key(db, rail)
    return count


async def _observe(db: Database, rail: Rail, rate: Rate, *, hold_seconds: int) -> int:
    """Read what came to one address.

    Blocks that were replaced since are read anew first, and what is in none of the new
    ones is taken back.
    """
    cursor = await cursor_of(db, rail)
    head = await rail.head()
    if head.hash != bytes(cursor.block_hash) or rail.outlook.is_another_chain:
        await require_anchor(rail, cursor)
    count = 0
    for _ in range(_TRIES):
        try:
            cursor = await stay_on_chain(db, rail, cursor, head)
            count += await _read_on(
                db, rail, rate, cursor, head, hold_seconds=hold_seconds
            )
            break
        except Overtaken:  # by another observer: go on from where it has come
            cursor = await cursor_of(db, rail)
    await take_back_missing(db, rail)
    await take_back_outflows(db, rail)
    # Taken back by the next look, if that does not find it again.
    await db.write(partial(miss_replaced, rail))
    await match_suspense(db, rail, rate, hold_seconds=hold_seconds)
    await credit_final_unclaimed(db, rail, rate)
    return count


async def _read_on(
    db: Database,
    rail: Rail,
    rate: Rate,
    cursor: ChainCursor,
    head: Block,
    *,
    hold_seconds: int,
) -> int:
    """From the cursor to the head; how many Transfers there were."""
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
        return _Step(first, _worth(rail, seen), left, [await _block(node, height)])
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
    block = await _block(node, number)
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


async def _block(chain: Chain, height: int) -> Block:
    block = await chain.block(height)
    if block is None:
        raise BlockNotSeen("the node has not seen a block that it named")
    return block


async def observed_seconds(db: Database, rail: Rail) -> int:
    """The time of the last block that was read; later ones may still bring evidence.

    Of every address, also those before. Raises ``RpcUnavailable`` or
    ``TopUpsUnavailable``.
    """
    cursors = [await cursor_of(db, one) for one in await rails_of(db, rail)]
    height = min(one.block_number for one in cursors)
    return (await _block(rail.chain, max(height, 0))).timestamp_seconds


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
