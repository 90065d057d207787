"""Final blocks read once more: what a node kept back the first time is booked now.

By the routine that booked everything else, and as often: once for each log. What the
books have and the chain does not show is left as it is, because a node that keeps logs
back would have it taken from its owner (docs/decisions/0034).
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement
from sqlmodel import col, select

from tallystick.chain.evidence import TransferLog, transfers_from, transfers_to
from tallystick.chain.rpc import Chain
from tallystick.chain.together import together
from tallystick.kernel.db import Database, ReadSession
from tallystick.kernel.log import get_logger
from tallystick.payments.models.chain import ChainOutflow, ChainTransfer, Presence
from tallystick.payments.observing.dust import dust_upto, is_dust
from tallystick.payments.observing.dust_rows import LARGEST_DUST
from tallystick.payments.observing.following import (
    Movements,
    Overtaken,
    cursor_of,
    movements_of,
)
from tallystick.payments.observing.matching import Rate, book
from tallystick.payments.observing.outflows import book_outflow
from tallystick.payments.observing.retelling import booked_instead
from tallystick.payments.rail import Rail

_log = get_logger(__name__)
SPAN_BLOCKS = 2_000
_TRIES = 20
_Place = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class Missed:
    """What the chain shows in some blocks of one address, and the books have not.

    ``net`` is by how much it makes the books richer, in atomic USDC: some of it they may
    have at another place, or told otherwise.
    """

    came_in: tuple[TransferLog, ...] = ()
    went_out: tuple[TransferLog, ...] = ()
    net: int = 0

    def __add__(self, other: "Missed") -> "Missed":
        return Missed(
            self.came_in + other.came_in,
            self.went_out + other.went_out,
            self.net + other.net,
        )

    @property
    def count(self) -> int:
        """How many Transfers there are."""
        return len(self.came_in) + len(self.went_out)


@dataclass(frozen=True, slots=True)
class Reread:
    """What was booked of some blocks of one address: Transfers, and atomic USDC.

    ``credited`` are those in that are their payers' credits by now; the others wait in
    suspense.
    """

    came_in: int = 0
    credited: int = 0
    went_out: int = 0
    usdc_in: int = 0
    usdc_out: int = 0

    def __add__(self, other: "Reread") -> "Reread":
        return Reread(
            self.came_in + other.came_in,
            self.credited + other.credited,
            self.went_out + other.went_out,
            self.usdc_in + other.usdc_in,
            self.usdc_out + other.usdc_out,
        )


async def missed_between(
    db: Database, rail: Rail, first: int, last: int, *, node: Chain | None = None
) -> Missed:
    """What the books have not of these blocks, which must be final.

    By one ``node``, or by whichever answers. Raises ``RpcUnavailable``.
    """
    chain = rail.chain if node is None else node
    seen, left = await together(
        [
            transfers_to(chain, rail.pay_to, first, last),
            transfers_from(chain, rail.pay_to, first, last),
        ],
        2,
    )
    cursor = await cursor_of(db, rail)
    async with db.read() as session:
        gathered = await dust_upto(session, rail, cursor.first_block)
        came_in = await _came_in(session, rail, first, last)
        went_out = await _went_out(session, rail, first, last)
        new_in = tuple(
            one
            for one in seen
            if _told(one) not in came_in and not _is_small(rail, one, gathered)
        )
        new_out = tuple(one for one in left if _place(one) not in went_out)
        net = sum(one.amount for one in new_in) - sum(one.amount for one in new_out)
        for one in new_in:
            net -= await booked_instead(session, rail.domain.chain_id, one)
    return Missed(new_in, new_out, net)


def _is_small(rail: Rail, seen: TransferLog, gathered: int) -> bool:
    """Whether it is dust, which is told apart by no row."""
    if seen.block_number > gathered:
        return is_dust(rail, seen)
    return seen.nonce is None and seen.amount < LARGEST_DUST


def _place(seen: TransferLog) -> _Place:
    return seen.tx_hash, seen.log_index


def _told(seen: TransferLog) -> tuple[object, ...]:
    """All that a row says: a log may have been told otherwise."""
    return (*_place(seen), seen.payer, seen.amount, seen.nonce)


async def _came_in(
    session: ReadSession, rail: Rail, first: int, last: int
) -> set[tuple[object, ...]]:
    query = select(ChainTransfer).where(*_between(ChainTransfer, rail, first, last))
    return {
        (row.tx_hash, row.log_index, row.sender, row.value, row.nonce)
        for row in await session.exec(query)
    }


async def _went_out(
    session: ReadSession, rail: Rail, first: int, last: int
) -> set[_Place]:
    rows = select(ChainOutflow.tx_hash, ChainOutflow.log_index).where(
        *_between(ChainOutflow, rail, first, last)
    )
    return {(bytes(tx_hash), at) for tx_hash, at in await session.exec(rows)}


def _between(
    table: Movements, rail: Rail, first: int, last: int
) -> tuple[ColumnElement[bool], ...]:
    return (
        *movements_of(table, rail),
        col(table.block_number) >= first,
        col(table.block_number) <= last,
        col(table.presence) != Presence.GONE,
    )


async def book_missed(
    db: Database, rail: Rail, rate: Rate, missed: Missed, *, hold_seconds: int
) -> Reread:
    """Book them as the observer would have; what of it is booked now.

    Raises ``RpcUnavailable``.
    """
    if not missed.count:
        return Reread()
    for one in missed.came_in:
        await _again(db, rail, rate, one, hold_seconds=hold_seconds)
    for one in missed.went_out:
        await _again(db, rail, None, one, hold_seconds=hold_seconds)
    done = await _outcome(db, rail, missed)
    _log.warning(
        "missed_transfers_booked",
        came_in=done.came_in,
        credited=done.credited,
        went_out=done.went_out,
        usdc_atomic=missed.net,
    )
    return done


async def _again(
    db: Database, rail: Rail, rate: Rate | None, seen: TransferLog, *, hold_seconds: int
) -> None:
    for _ in range(_TRIES):
        cursor = await cursor_of(db, rail)
        try:
            if rate is None:
                await book_outflow(db, rail, seen, after=cursor)
            else:
                await book(
                    db, rail, rate, seen, hold_seconds=hold_seconds, after=cursor
                )
        except Overtaken:  # the observer reads on meanwhile
            continue
        return


async def _outcome(db: Database, rail: Rail, missed: Missed) -> Reread:
    heights = [one.block_number for one in (*missed.came_in, *missed.went_out)]
    first, last = min(heights), max(heights)
    paid = select(ChainTransfer.tx_hash, ChainTransfer.log_index).where(
        *_between(ChainTransfer, rail, first, last),
        col(ChainTransfer.topup_id).is_not(None),
    )
    async with db.read() as session:
        came_in = await _came_in(session, rail, first, last)
        went_out = await _went_out(session, rail, first, last)
        credited = {(bytes(tx), at) for tx, at in await session.exec(paid)}
    in_now = [one for one in missed.came_in if _told(one) in came_in]
    out_now = [one for one in missed.went_out if _place(one) in went_out]
    return Reread(
        len(in_now),
        sum(_place(one) in credited for one in in_now),
        len(out_now),
        sum(one.amount for one in in_now),
        sum(one.amount for one in out_now),
    )


async def reread(
    db: Database,
    rail: Rail,
    rate: Rate,
    first: int,
    last: int,
    *,
    hold_seconds: int,
    read_upto: Callable[[int], None] = lambda _: None,
) -> Reread:
    """Read final blocks again and book what is missing; what was booked.

    A stretch at a time; ``read_upto`` is told where each ends. Raises
    ``RpcUnavailable``; what was booked by then stays.
    """
    done = Reread()
    while first <= last:
        height = min(first + SPAN_BLOCKS - 1, last)
        missed = await missed_between(db, rail, first, height)
        done += await book_missed(db, rail, rate, missed, hold_seconds=hold_seconds)
        read_upto(height)
        first = height + 1
    return done
