"""Where our books of an address begin, and what it held by then."""

from tallystick.chain.rpc import Block
from tallystick.chain.token import balance_of
from tallystick.kernel.db import Database, insert_once
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.models.chain import ChainCursor
from tallystick.payments.observing.payees import become_payee
from tallystick.payments.observing.reading import read_block
from tallystick.payments.observing.same_chain import find_cursor
from tallystick.payments.rail import Rail


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
    genesis = await read_block(rail.chain, 0) if before is None else before
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
