"""What a Transfer has brought, taken back by compensation in somebody's transaction."""

from enum import StrEnum

from sqlalchemy import update
from sqlmodel import col, select

from tallystick.credits.debts import claw_back
from tallystick.kernel.db import WriteSession
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.kernel.seal import digest16
from tallystick.ledger.models import LedgerTransaction
from tallystick.ledger.references import reference_to
from tallystick.payments.exposure import unexpose
from tallystick.payments.models.chain import ChainTransfer, Presence
from tallystick.payments.models.topups import PAID_STATES, TopUp, TopUpState
from tallystick.payments.observing.keys import (
    first_suspense_key,
    grant_keys,
    redemption_key,
    suspense_key,
)
from tallystick.payments.topups import read_topup

_log = get_logger(__name__)


class Cause(StrEnum):
    """Why something is taken back, as a top-up's reason tells it."""

    REPLACED = "block_replaced"
    RETOLD = "told_otherwise"

    @property
    def memo(self) -> str:
        """For whoever reads the ledger."""
        return _MEMOS[self]


_MEMOS = {
    Cause.REPLACED: "Its block was replaced, and the payment is not in the new one",
    Cause.RETOLD: "A node had told its log otherwise than it is",
}


async def take_back(
    session: WriteSession, row: ChainTransfer, was: Presence, cause: Cause
) -> bool:
    """The ledger has it no more; whether this call took it back.

    Not when it is no more as it was read: in the presence ``was``, in its block.
    """
    statement = (
        update(ChainTransfer)
        .where(
            col(ChainTransfer.id) == row.id,
            col(ChainTransfer.presence) == was,
            col(ChainTransfer.block_hash) == row.block_hash,
        )
        .values(presence=Presence.GONE)
        # As it is now: it may have been credited since it was listed.
        .returning(col(ChainTransfer.topup_id), col(ChainTransfer.generation))
        .execution_options(synchronize_session=False)
    )
    gone = (await session.exec(statement)).one_or_none()
    if gone is None:
        return False
    topup_id, generation = gone
    if topup_id is not None:
        await _reverse(session, topup_id, cause)
    redeemed = redemption_key(row.id, generation)
    await undo(session, redeemed, reference_to("redemption", row.id), cause)
    reference = f"transfer:0x{row.tx_hash.hex()}:{row.log_index}"
    for key in (
        suspense_key(row.id, generation),
        first_suspense_key(row.block_hash, row.log_index, generation),
    ):
        await undo(session, key, reference, cause)
    return True


async def _reverse(session: WriteSession, topup_id: int, cause: Cause) -> None:
    topup = await read_topup(session, topup_id)
    was = topup.state
    statement = (
        update(TopUp)
        .where(col(TopUp.id) == topup_id, col(TopUp.state).in_(PAID_STATES))
        .values(
            state=TopUpState.REVERSED,
            reason=cause,
            generation=topup.generation + 1,
            tx_hash=None,
            block_number=None,
            block_hash=None,
            log_index=None,
            balance_after=None,
        )
        # The row that was read says which generation is taken back.
        .execution_options(synchronize_session=False)
    )
    done = await session.exec(statement)
    assert done.rowcount == 1, "a Transfer belongs to a paid top-up"
    await unexpose(session, topup_id)
    for key in grant_keys(topup):
        await undo(session, key, reference_to("topup", topup_id), cause)
    _log.error("topup_reversed", topup=encode_id("top", topup_id), was=was)


async def undo(
    session: WriteSession, key: bytes, reference: str, cause: Cause = Cause.REPLACED
) -> None:
    """Take back the transaction that was booked under the key, if there is one."""
    booked = col(LedgerTransaction.idempotency_key) == key
    found = (
        await session.exec(select(LedgerTransaction.id).where(booked))
    ).one_or_none()
    if found is not None:
        await claw_back(
            session,
            found,
            idempotency_key=digest16(b"replaced", found.to_bytes(8, "big")),
            reference=reference,
            memo=cause.memo,
        )
