"""What the database alone says of the money at each address that is or was ``pay_to``.

The rows of what came in and went out are kept for each address; the ledger has one
account for the token. So an address has its figures from the rows, and the ledger is
compared with all of them together (docs/decisions/0022).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func
from sqlmodel import col, select

from tallystick.kernel.db import ReadSession, query
from tallystick.ledger import chart
from tallystick.payments.models.chain import (
    ChainCursor,
    ChainOutflow,
    ChainTransfer,
    Presence,
)
from tallystick.payments.observing.backlog import unread_blocks
from tallystick.payments.observing.dust import dust_sum
from tallystick.payments.observing.following import Movements, movements_of
from tallystick.payments.observing.same_chain import find_cursor
from tallystick.payments.rail import Rail

Log = tuple[bytes, int]
"""A Transfer's place: the hash of its transaction, the index of its log."""

_NET = """
    SELECT COALESCE(SUM(CASE WHEN debit_account_id = ledger_account.id
                             THEN amount ELSE -amount END), 0) AS net
      FROM transfer
      JOIN ledger_account ON code = :code
       AND (debit_account_id = ledger_account.id
            OR credit_account_id = ledger_account.id)
     WHERE ledger_transaction_id > :after AND ledger_transaction_id <= :through"""
_ALL = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Sums:
    """Atomic USDC that came in and went out."""

    came_in: int
    went_out: int

    @property
    def net(self) -> int:
        return self.came_in - self.went_out


async def readable_upto(session: ReadSession, rail: Rail) -> ChainCursor | None:
    """The cursor, with the last block of which the books know both directions."""
    cursor = await find_cursor(session, rail)
    unread = await unread_blocks(session, rail)
    if cursor is not None and unread is not None:
        session.expunge(cursor)
        cursor.block_number = min(cursor.block_number, unread[0] - 1)
    return cursor


async def sums(session: ReadSession, rail: Rail, *, upto: int | None = None) -> Sums:
    """What moved up to a height, or at all; what is missing is still in the ledger."""
    found = []
    for table in (ChainTransfer, ChainOutflow):
        where = [
            *movements_of(table, rail),
            col(table.presence) != Presence.GONE,
            *([] if upto is None else [col(table.block_number) <= upto]),
        ]
        found.append(await _sum(session, table, *where))
    return Sums(found[0] + await dust_sum(session, rail, upto=upto), found[1])


async def newer_than(session: ReadSession, rail: Rail, height: int) -> Sums:
    """What the ledger has that the chain had not shown by this height.

    The settler credits a block before the observer's cursor has come to it, and what
    is missing from new blocks is taken back once all of them are read.
    """
    found = []
    for table in (ChainTransfer, ChainOutflow):
        later = col(table.block_number) > height
        missing = col(table.presence) == Presence.MISSING
        gone = col(table.presence) == Presence.GONE
        where = (*movements_of(table, rail), ~gone, later | missing)
        found.append(await _sum(session, table, *where))
    return Sums(found[0] + await dust_sum(session, rail, after=height), found[1])


async def booked(
    session: ReadSession, table: Movements, rail: Rail, first: int, last: int
) -> Mapping[Log, int]:
    """What is booked of these blocks, each Transfer with its atomic USDC."""
    rows = select(table.tx_hash, table.log_index, table.value).where(
        *movements_of(table, rail),
        col(table.block_number) >= first,
        col(table.block_number) <= last,
        col(table.presence) == Presence.BOOKED,
    )
    return {(bytes(tx), at): value for tx, at, value in await session.exec(rows)}


async def ledger_usdc(
    session: ReadSession, rail: Rail, *, after: int = 0, through: int = _ALL
) -> int:
    """What the ledger booked on the token, by transactions of a stretch of ids."""
    code = chart.chain_assets(rail.network, rail.domain.contract).code
    (row,) = await query(session, _NET, code=code, after=after, through=through)
    return int(row["net"])


async def _sum(
    session: ReadSession, table: Movements, *where: ColumnElement[bool]
) -> int:
    total = select(func.coalesce(func.sum(col(table.value)), 0)).where(*where)
    return int((await session.exec(total)).one())
