"""Whether the chain is the one that the books were made on.

Another chain has the same chain id when a local chain was restarted, or when a URL
leads to somebody's fork. Books and chain then differ in everything, and whatever else
is compared misleads. So the books keep an anchor: the newest block that was final when
we read it. No reorganisation replaces it, so another block in its place is another
chain's.
"""

from sqlalchemy import ColumnElement, or_, update
from sqlmodel import col, select

from tallystick.chain.rpc import Block
from tallystick.kernel.db import Database, ReadSession, WriteSession
from tallystick.payments.errors import BooksOfAnotherChain
from tallystick.payments.models.chain import ChainCursor
from tallystick.payments.rail import Rail


async def check_chain(db: Database, rail: Rail) -> None:
    """Raise ``BooksOfAnotherChain`` when the anchor is not on this chain.

    Nothing happens while the books are not open, or have seen no final block yet.
    Raises ``RpcUnavailable``.
    """
    async with db.read() as session:
        cursor = await find_cursor(session, rail)
    if cursor is not None:
        await require_anchor(rail, cursor)


async def require_anchor(rail: Rail, cursor: ChainCursor) -> None:
    """As ``check_chain``, for a cursor that was read already."""
    if cursor.anchor_number is None or cursor.anchor_hash is None:
        return
    found = await rail.chain.block(cursor.anchor_number)
    end = None
    if found is None:
        # Some nodes keep no old blocks; only an end below the anchor says something.
        head = await rail.chain.block("latest")
        if head is not None and head.number < cursor.anchor_number:
            end = head.number
        is_ours = end is None
    else:
        is_ours = found.hash == bytes(cursor.anchor_hash)
    rail.outlook.is_another_chain = not is_ours
    if not is_ours:
        raise BooksOfAnotherChain(cursor.anchor_number, end)


async def find_cursor(session: ReadSession, rail: Rail) -> ChainCursor | None:
    """How far the Transfers to ``pay_to`` have been read; None before the first boot."""
    query = select(ChainCursor).where(*books_of(rail))
    return (await session.exec(query)).one_or_none()


def books_of(rail: Rail) -> tuple[ColumnElement[bool], ...]:
    """The one row of the rail's books."""
    return (
        col(ChainCursor.chain_id) == rail.domain.chain_id,
        col(ChainCursor.token) == rail.domain.contract,
        col(ChainCursor.pay_to) == rail.pay_to,
    )


async def drop_anchor(session: WriteSession, rail: Rail, final: Block) -> None:
    """Remember a final block, unless a newer one is known."""
    number = col(ChainCursor.anchor_number)
    await session.exec(
        update(ChainCursor)
        .where(*books_of(rail), or_(number.is_(None), number < final.number))
        .values(anchor_number=final.number, anchor_hash=final.hash)
    )
