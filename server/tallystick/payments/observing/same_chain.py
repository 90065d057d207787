"""Whether the chain is the one that the books were made on.

Another chain has the same chain id when a local chain was restarted, or when a URL
leads to somebody's fork. Books and chain then differ in everything, and whatever else
is compared misleads. So the books keep an anchor: the newest block that was final when
we read it. No reorganisation replaces it, so another block in its place is another
chain's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, or_, update
from sqlmodel import col, select

from tallystick.chain.errors import BlockNotSeen, RpcUnavailable
from tallystick.chain.rpc import Block, Chain
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
    """As ``check_chain``, for a cursor that was read already.

    A node that has another block there, or ends before it, is left for the next one.
    """
    if cursor.anchor_number is None or cursor.anchor_hash is None:
        return
    number, anchor_hash = cursor.anchor_number, bytes(cursor.anchor_hash)
    asked: list[_Answer] = []

    async def ask(node: Chain) -> None:
        asked.append(_Answer())
        asked[-1] = await _look(node, number, anchor_hash)
        node.distrust(shows_another_chain=asked[-1].has_other)
        if asked[-1].has_other:
            raise RpcUnavailable("the node has another block where one was final")
        if asked[-1].end is not None:
            raise BlockNotSeen("the node has not come as far as the books")

    try:
        await rail.chain.of_one_node(ask)
    except RpcUnavailable:
        _judge(rail, number, asked)
        raise
    rail.outlook.is_another_chain = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """What speaks against a node's chain: another block, or an ``end`` too early.

    Neither, if it says nothing.
    """

    has_other: bool = False
    end: int | None = None


async def _look(node: Chain, number: int, block_hash: bytes) -> _Answer:
    found = await node.block(number)
    if found is not None:
        return _Answer(has_other=found.hash != block_hash)
    # Some nodes keep no old blocks; only an end below the anchor says something.
    head = await node.block("latest")
    if head is None or head.number >= number:
        return _Answer()
    return _Answer(end=head.number)


def _judge(rail: Rail, number: int, asked: Sequence[_Answer]) -> None:
    """Raise ``BooksOfAnotherChain`` when no node can still be in the right.

    One that only ends too early may lag, as long as another says nothing.
    """
    has_other = any(one.has_other for one in asked)
    ends = [one.end for one in asked if one.end is not None]
    if has_other or len(ends) == len(asked):
        rail.outlook.is_another_chain = True
        raise BooksOfAnotherChain(number, None if has_other else max(ends))


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
