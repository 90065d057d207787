"""Dust: plain Transfers of next to nothing, one line in the books for many of them.

Who poisons addresses sends thousands, each worth less than its row. They are passed
over while their blocks may still be replaced, and gathered once those are final: one
row and one booking for a stretch of blocks, with how many there were and what they
brought. Nothing final is ever replaced, so nothing of it is taken back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import ColumnElement, func, update
from sqlmodel import col, select

from tallystick.chain.evidence import TransferLog, transfers_to
from tallystick.kernel.db import (
    Database,
    ReadSession,
    WriteSession,
    insert_once,
    now_ms,
)
from tallystick.kernel.money import USDC, Amount
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.findings import Finding
from tallystick.ledger.journal import post
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posting, Transfer
from tallystick.payments.models.chain import ChainDust, ChainTransfer, Payee, Presence
from tallystick.payments.observing.backlog import unread_blocks
from tallystick.payments.observing.dust_rows import (
    LARGEST_DUST,
    dust_reference,
    of_payee,
)
from tallystick.payments.observing.same_chain import find_cursor
from tallystick.payments.rail import Rail

I16 = "I16 the dust of a stretch of blocks is in the ledger"
_SPAN_BLOCKS = 2_000
_SPANS = 20


def is_dust(rail: Rail, seen: TransferLog) -> bool:
    """Whether it gets no row of its own; what an authorization moved always does."""
    return seen.nonce is None and seen.amount < rail.dust_below


async def gather_dust(db: Database, rail: Rail) -> None:
    """Book the dust of blocks that are final by now. Raises ``RpcUnavailable``."""
    final = await rail.chain.block("finalized")
    for _ in range(_SPANS):
        async with db.read() as session:
            cursor = await find_cursor(session, rail)
            if cursor is None or await unread_blocks(session, rail) is not None:
                return
            upto = await dust_upto(session, rail, cursor.first_block)
        newest = -1 if final is None else min(final.number, cursor.block_number)
        height = min(upto + _SPAN_BLOCKS, newest)
        if height <= upto:
            return
        seen = await transfers_to(rail.chain, rail.pay_to, upto + 1, height)
        small = [one for one in seen if _may_be_dust(one)]
        await db.write(
            partial(_book, rail=rail, first=upto + 1, height=height, small=small)
        )


def _may_be_dust(seen: TransferLog) -> bool:
    return seen.nonce is None and seen.amount < LARGEST_DUST


async def dust_upto(session: ReadSession, rail: Rail, first_block: int) -> int:
    """The last block of which the dust is gathered."""
    query = select(Payee.dust_upto).where(*_of(Payee, rail))
    found = (await session.exec(query)).one_or_none()
    return first_block - 1 if found is None else found


async def _book(
    session: WriteSession,
    rail: Rail,
    first: int,
    height: int,
    small: Sequence[TransferLog],
) -> None:
    if not await _go_on(session, rail, first, height):
        return  # another process has gathered it
    known = await _with_rows(session, rail, first, height)
    dust = [one for one in small if (one.tx_hash, one.log_index) not in known]
    value = sum(one.amount for one in dust)
    if not value:
        return
    row: dict[str, object] = {
        "chain_id": rail.domain.chain_id,
        "token": rail.domain.contract,
        "pay_to": rail.pay_to,
        "first_block": first,
        "last_block": height,
        "transfers": len(dust),
        "value": value,
        "gathered_at_ms": now_ms(session),
    }
    assert await insert_once(session, ChainDust, row), "each block is gathered once"
    await post(session, _posting(rail, first, height, dust, value))


async def _go_on(session: WriteSession, rail: Rail, first: int, height: int) -> bool:
    """Whether nobody else has gathered these blocks; from now on nobody will."""
    before = col(Payee.dust_upto)
    done = await session.exec(
        update(Payee)
        .where(*_of(Payee, rail), before.is_(None) | (before == first - 1))
        .values(dust_upto=height)
        .execution_options(synchronize_session=False)
    )
    return done.rowcount == 1


def _posting(
    rail: Rail, first: int, height: int, dust: Sequence[TransferLog], value: int
) -> Posting:
    network, token = rail.network, rail.domain.contract
    into = Transfer(
        chart.chain_assets(network, token),
        chart.suspense(network, token),
        Amount(value, USDC),
    )
    return Posting(
        TransactionKind.SUSPENSE,
        digest16(b"dust", network.encode(), token, rail.pay_to, b"%d" % first),
        [into],
        dust_reference(first, height),
        memo=f"{len(dust)} transfers of dust",
        occurred_at_ms=dust[-1].timestamp_seconds * 1000,
    )


async def _with_rows(
    session: WriteSession, rail: Rail, first: int, height: int
) -> set[tuple[bytes, int]]:
    query = select(ChainTransfer.tx_hash, ChainTransfer.log_index).where(
        *_of(ChainTransfer, rail),
        col(ChainTransfer.block_number) >= first,
        col(ChainTransfer.block_number) <= height,
        col(ChainTransfer.presence) == Presence.BOOKED,
    )
    return {(bytes(tx_hash), at) for tx_hash, at in await session.exec(query)}


@dataclass(slots=True)
class Dust:
    """The dust of some blocks by the books, held against what the chain shows."""

    upto: int
    rows: Sequence[ChainDust]
    found: dict[int, tuple[int, int]] = field(default_factory=dict)
    pending: int = 0

    @property
    def value(self) -> int:
        """What is booked, in atomic USDC."""
        return sum(one.value for one in self.rows)

    def takes(self, seen: TransferLog) -> bool:
        """Whether a Transfer without a row is dust, which is counted then."""
        if not _may_be_dust(seen):
            return False
        if seen.block_number > self.upto:
            self.pending += seen.amount
            return True
        for one in self.rows:
            if one.first_block <= seen.block_number <= one.last_block:
                count, value = self.found.get(one.first_block, (0, 0))
                self.found[one.first_block] = (count + 1, value + seen.amount)
                return True
        return False

    def findings(self) -> list[Finding]:
        """Each stretch of which chain and books tell otherwise."""
        return [
            Finding(
                I16,
                f"blocks {one.first_block} to {one.last_block}: chain"
                f" {shown[1]} by {shown[0]} Transfers, ledger {one.value} by"
                f" {one.transfers}",
            )
            for one in self.rows
            if (shown := self.found.get(one.first_block, (0, 0)))
            != (one.transfers, one.value)
        ]


async def dust_between(
    session: ReadSession, rail: Rail, first: int, last: int, *, upto: int
) -> Dust:
    """The dust whose stretches lie between two blocks; gathered up to ``upto``."""
    query = select(ChainDust).where(
        *_of(ChainDust, rail),
        col(ChainDust.first_block) >= first,
        col(ChainDust.last_block) <= last,
    )
    rows = (await session.exec(query.order_by(col(ChainDust.first_block)))).all()
    return Dust(upto, rows)


async def past_dust(session: ReadSession, rail: Rail, height: int) -> int:
    """The height, or the end of the stretch in whose middle it is."""
    query = select(func.max(ChainDust.last_block)).where(
        *_of(ChainDust, rail), col(ChainDust.first_block) <= height
    )
    return max(height, (await session.exec(query)).one() or height)


async def dust_sum(
    session: ReadSession, rail: Rail, *, after: int = -1, upto: int | None = None
) -> int:
    """What is booked of stretches that end after one block, up to another."""
    end = col(ChainDust.last_block)
    where = [
        *_of(ChainDust, rail),
        end > after,
        *([] if upto is None else [end <= upto]),
    ]
    query = select(func.coalesce(func.sum(ChainDust.value), 0)).where(*where)
    return int((await session.exec(query)).one())


async def all_dust(session: ReadSession, rail: Rail) -> Sequence[ChainDust]:
    """Of every address."""
    query = select(ChainDust).where(
        col(ChainDust.chain_id) == rail.domain.chain_id,
        col(ChainDust.token) == rail.domain.contract,
    )
    return (await session.exec(query)).all()


def _of(
    table: type[ChainDust] | type[Payee] | type[ChainTransfer], rail: Rail
) -> tuple[ColumnElement[bool], ...]:
    return of_payee(table, rail.domain.chain_id, rail.domain.contract, rail.pay_to)
