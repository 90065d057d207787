"""Every Transfer to ``pay_to`` gets into the books, whoever sent it and why.

A Transfer of an authorization that was presented to us credits its payer; any other
money waits in suspense until somebody proves that it is his, or until its block is
final if it was an authorization's.
"""

from functools import partial

from tallystick.kernel.db import Database
from tallystick.payments.observing.backlog import read_backlog
from tallystick.payments.observing.following import (
    Overtaken,
    cursor_of,
    miss_replaced,
    stay_on_chain,
)
from tallystick.payments.observing.matching import Rate, match_suspense
from tallystick.payments.observing.outflows import take_back_outflows
from tallystick.payments.observing.payees import rails_of
from tallystick.payments.observing.reading import read_block, read_on
from tallystick.payments.observing.reversing import take_back_missing
from tallystick.payments.observing.same_chain import require_anchor
from tallystick.payments.observing.unclaimed import credit_final_unclaimed
from tallystick.payments.paybacks.closing import close_by_float_key, close_by_outflows
from tallystick.payments.rail import Rail

_TRIES = 20


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
            count += await read_on(
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


async def observed_seconds(db: Database, rail: Rail) -> int:
    """The time of the last block that was read; later ones may still bring evidence.

    Of every address, also those before. Raises ``RpcUnavailable`` or
    ``TopUpsUnavailable``.
    """
    cursors = [await cursor_of(db, one) for one in await rails_of(db, rail)]
    height = min(one.block_number for one in cursors)
    return (await read_block(rail.chain, max(height, 0))).timestamp_seconds
