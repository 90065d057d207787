"""Blocks up to which books and chain were compared: written once, each seals the last.

What was compared log by log need not be read from the chain again. A checkpoint says
what had come in and gone out by its block, and what the ledger had booked by then; the
rows are held against it ever after. Its digest hangs on the one before, so one that was
changed, or taken out, shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sqlalchemy import ColumnElement
from sqlmodel import col, select

from tallystick.chain.rpc import Block
from tallystick.kernel.db import ReadSession, WriteSession, insert_once, now_ms
from tallystick.kernel.seal import digest16
from tallystick.ledger.findings import Finding
from tallystick.payments.models.chain import ChainCheckpoint
from tallystick.payments.rail import Rail
from tallystick.payments.reconciling.books import Sums, sums

I15 = "I15 a checkpoint of the chain books is as it was made"
_NOTHING = bytes(16)
"""What the first one follows."""
I16 = "I16 the Transfers add up to what the checkpoint says"


@dataclass(frozen=True, slots=True)
class LedgerUpTo:
    """What the ledger had booked on the token, by all transactions up to an id."""

    through_id: int = 0
    usdc: int = 0


async def newest(
    session: ReadSession | WriteSession, rail: Rail
) -> ChainCheckpoint | None:
    """The rail's last checkpoint, if there is one."""
    query = select(ChainCheckpoint).where(*_of(rail))
    last = query.order_by(col(ChainCheckpoint.block_number).desc()).limit(1)
    return (await session.exec(last)).one_or_none()


async def checkpoints_of(
    session: ReadSession, rail: Rail, *, most: int | None = None
) -> Sequence[ChainCheckpoint]:
    """The newest, or all of them; the oldest of these first."""
    query = select(ChainCheckpoint).where(*_of(rail))
    down = query.order_by(col(ChainCheckpoint.block_number).desc()).limit(most)
    return (await session.exec(down)).all()[::-1]


async def seal_checkpoint(
    session: WriteSession,
    rail: Rail,
    before: ChainCheckpoint | None,
    block: Block,
    moved: Sums,
    ledger: LedgerUpTo,
) -> bool:
    """Write down that all agreed up to the block; whether this call did.

    ``before`` is the checkpoint from which was read on: of two who read on from it, one
    is too late.
    """
    made = ChainCheckpoint(
        chain_id=rail.domain.chain_id,
        token=rail.domain.contract,
        pay_to=rail.pay_to,
        block_number=block.number,
        block_hash=block.hash,
        came_in=moved.came_in,
        went_out=moved.went_out,
        ledger_through_id=ledger.through_id,
        ledger_usdc=ledger.usdc,
        made_at_ms=now_ms(session),
        before=_NOTHING if before is None else bytes(before.digest),
        digest=b"",
    )
    row = made.model_dump() | {"digest": _digest(made)}
    return await insert_once(session, ChainCheckpoint, row)


def check_links(found: Sequence[ChainCheckpoint], *, are_all: bool) -> list[Finding]:
    """Each of these that is not as it was made, or follows one that is gone.

    Of the newest ones the first only lends its digest; of all it hangs on nothing.
    """
    pairs = [*([(None, found[0])] if are_all and found else []), *pairwise(found)]
    return [
        Finding(
            I15,
            f"the checkpoint of block {one.block_number} was changed, or the one before"
            " it was taken out",
        )
        for before, one in pairs
        if bytes(one.before) != (_NOTHING if before is None else bytes(before.digest))
        or bytes(one.digest) != _digest(one)
    ]


async def audit_checkpoints(session: ReadSession | WriteSession) -> list[Finding]:
    """Every checkpoint of every address that is not as it was made."""
    query = select(ChainCheckpoint).order_by(
        col(ChainCheckpoint.chain_id),
        col(ChainCheckpoint.token),
        col(ChainCheckpoint.pay_to),
        col(ChainCheckpoint.block_number),
    )
    made: dict[tuple[int, bytes, bytes], list[ChainCheckpoint]] = {}
    for one in await session.exec(query):
        of_address = (one.chain_id, bytes(one.token), bytes(one.pay_to))
        made.setdefault(of_address, []).append(one)
    return [
        finding for some in made.values() for finding in check_links(some, are_all=True)
    ]


async def first_off(
    session: ReadSession, rail: Rail, found: Sequence[ChainCheckpoint]
) -> tuple[int, Sums] | None:
    """The first checkpoint to which the Transfers do not add up, and what they do.

    An error stays in all later sums, so it is found by halving.
    """
    booked: dict[int, Sums] = {}

    async def is_off(at: int) -> bool:
        booked[at] = await sums(session, rail, upto=found[at].block_number)
        return booked[at] != Sums(found[at].came_in, found[at].went_out)

    if not found or not await is_off(len(found) - 1):
        return None
    low, high = 0, len(found) - 1
    while low < high:
        middle = (low + high) // 2
        if await is_off(middle):
            high = middle
        else:
            low = middle + 1
    return high, booked[high]


def _digest(one: ChainCheckpoint) -> bytes:
    numbers = (
        one.chain_id,
        one.block_number,
        one.came_in,
        one.went_out,
        one.ledger_through_id,
        one.ledger_usdc,
        one.made_at_ms,
    )
    return digest16(
        b"checkpoint",
        bytes(one.before),
        bytes(one.token),
        bytes(one.pay_to),
        bytes(one.block_hash),
        *(b"%d" % number for number in numbers),
    )


def _of(rail: Rail) -> tuple[ColumnElement[bool], ...]:
    return (
        col(ChainCheckpoint.chain_id) == rail.domain.chain_id,
        col(ChainCheckpoint.token) == rail.domain.contract,
        col(ChainCheckpoint.pay_to) == rail.pay_to,
    )
