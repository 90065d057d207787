"""A log that was told otherwise before: put right by compensation, or for a person.

A block's hash stands for all that the block holds, so of two tellings of one log one is
a lie, and its Transfer may lie in suspense by it, or be another's credits. What moves
within the account of one customer follows the newest telling. From another customer
nothing is taken on the word of one provider: the witness must agree, or an operator who
has compared both (docs/decisions/0033).
"""

from sqlalchemy import ColumnElement, or_
from sqlmodel import col, select

from tallystick.chain.evidence import TransferLog
from tallystick.chain.witness import Testimony
from tallystick.kernel.db import Database, ReadSession, WriteSession
from tallystick.kernel.log import get_logger
from tallystick.payments.machine import ELSEWHERE, LOOKED_AT_AGAIN, Act, Decision, heed
from tallystick.payments.models.chain import ChainTransfer, Presence, Redemption
from tallystick.payments.models.paybacks import Payback
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.observing.taking_back import Cause, take_back
from tallystick.payments.permits import is_redeemed
from tallystick.payments.rail import Rail
from tallystick.payments.witness import Heard

_log = get_logger(__name__)


class Contested(Exception):
    """Somebody else has been credited with what the log is now told to be."""


async def told_otherwise(
    session: ReadSession | WriteSession, chain_id: int, seen: TransferLog
) -> ChainTransfer | None:
    """The row of this very log, if it is in the ledger and says something else."""
    query = select(ChainTransfer).where(
        col(ChainTransfer.chain_id) == chain_id,
        col(ChainTransfer.block_hash) == seen.block_hash,
        col(ChainTransfer.log_index) == seen.log_index,
        col(ChainTransfer.presence) == Presence.BOOKED,
    )
    row = (await session.exec(query)).one_or_none()
    return None if row is None or _agrees(row, seen) else row


async def needs_witness(
    db: Database, rail: Rail, topup: TopUp, seen: TransferLog
) -> bool:
    """Whether only a second voice can give the top-up its Transfer."""
    if rail.witness is None:
        return False
    async with db.read() as session:
        row = await told_otherwise(session, rail.domain.chain_id, seen)
        return row is not None and not await _is_same_customers(session, row, topup)


async def put_right(
    session: WriteSession, chain_id: int, topup: TopUp, heard: Heard
) -> bool:
    """Take back what the log was told to be before; whether there was anything.

    Then the row is gone, and may be booked anew as it is told now. Raises ``Contested``
    when it has to stay: the caller's transaction must then not go on.
    """
    row = await told_otherwise(session, chain_id, heard.seen)
    if row is None:
        return False
    is_vouched = heard.testimony == Testimony.AGREES or topup.reason == LOOKED_AT_AGAIN
    if not is_vouched and not await _is_same_customers(session, row, topup):
        raise Contested
    was = f"0x{row.tx_hash.hex()}:{row.log_index}"
    if not await take_back(session, row, Presence.BOOKED, Cause.RETOLD):
        raise Contested
    # Asked once the row is ours: who pays back takes it, or its top-up, first, too.
    if await _goes_back(session, row):
        raise Contested
    _log.error("transfer_told_otherwise", transfer=was)
    return True


async def correct_unowned(
    session: WriteSession, chain_id: int, seen: TransferLog
) -> None:
    """Take what the log was told to be before out of suspense, if it is nobody's yet."""
    row = await told_otherwise(session, chain_id, seen)
    if row is None or row.topup_id is not None:
        return
    if not await is_redeemed(session, row.id, row.generation):
        await take_back(session, row, Presence.BOOKED, Cause.RETOLD)


async def booked_instead(session: ReadSession, chain_id: int, seen: TransferLog) -> int:
    """What the books have in its stead, in atomic USDC, and give up when it is booked.

    The same log as it was told before, or the same authorization at another place.
    """
    row = await told_otherwise(session, chain_id, seen)
    if row is not None:
        return row.value
    if seen.nonce is None:
        return 0
    query = select(ChainTransfer.value).where(
        col(ChainTransfer.sender) == seen.payer,
        col(ChainTransfer.nonce) == seen.nonce,
        col(ChainTransfer.authority).is_not_distinct_from(seen.authority),
        col(ChainTransfer.value) == seen.amount,
        col(ChainTransfer.presence) != Presence.GONE,
    )
    return (await session.exec(query.limit(1))).one_or_none() or 0


def second_voice(heard: Heard, *, has_witness: bool) -> Decision:
    """What becomes of a top-up whose Transfer is contested."""
    if has_witness and heard.testimony != Testimony.AGREES:
        return heed(heard.testimony)
    return Decision(Act.MOVE, TopUpState.QUARANTINE, ELSEWHERE)


def _agrees(row: ChainTransfer, seen: TransferLog) -> bool:
    told = (row.tx_hash, row.sender, row.pay_to, row.value, row.nonce, row.authority)
    return told == (
        seen.tx_hash,
        seen.payer,
        seen.pay_to,
        seen.amount,
        seen.nonce,
        seen.authority,
    )


async def _is_same_customers(
    session: ReadSession | WriteSession, row: ChainTransfer, topup: TopUp
) -> bool:
    """Whether nobody but the top-up's customer has got anything for it."""
    credited = select(TopUp.customer_id).where(col(TopUp.id) == row.topup_id)
    redeemed = select(Redemption.customer_id).where(
        col(Redemption.chain_transfer_id) == row.id,
        col(Redemption.generation) == row.generation,
    )
    owners = [
        *(await session.exec(credited)).all(),
        *(await session.exec(redeemed)).all(),
    ]
    return all(one == topup.customer_id for one in owners)


async def _goes_back(session: WriteSession, row: ChainTransfer) -> bool:
    """Whether its money is, or was to be, paid back: that cannot be undone here."""
    its: list[ColumnElement[bool]] = [col(Payback.chain_transfer_id) == row.id]
    if row.topup_id is not None:
        its.append(col(Payback.topup_id) == row.topup_id)
    query = select(Payback.id).where(or_(*its)).limit(1)
    return (await session.exec(query)).one_or_none() is not None
