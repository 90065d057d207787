"""Giving the credits of a payback back, once nothing can move its money any more."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, update
from sqlmodel import col

from tallystick.chain.evidence import find_cancellations
from tallystick.chain.token import nonce_used
from tallystick.kernel.db import Database, WriteSession, now_ms
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.operators.acts import Signed, note_act, operator_named, reason_told
from tallystick.payments.models.paybacks import Payback, PaybackState, PaybackWay
from tallystick.payments.paybacks.booking import book_cancelled
from tallystick.payments.paybacks.closing import may_have_paid
from tallystick.payments.paybacks.errors import (
    PaybackMayMove,
    PaybackNotReady,
    window_open,
)
from tallystick.payments.paybacks.origins import counter_of
from tallystick.payments.paybacks.reading import read_payback
from tallystick.payments.paybacks.terms import authorization_of
from tallystick.payments.rail import Rail

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Cancelling:
    """Who cancels what, and why. ``batch_is_void`` is his word for a Safe's batch."""

    payback_id: int
    operator: str
    reason: str
    batch_is_void: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "operator", operator_named(self.operator))
        object.__setattr__(self, "reason", reason_told(self.reason))


async def cancel(db: Database, rail: Rail, wanted: Cancelling) -> Payback:
    """Return the credits to the lot that they came from.

    What was issued to be signed must have lapsed, unused, by a final block, or have been
    withdrawn on the chain. Raises ``UnknownPayback``, ``PaybackNotReady``,
    ``PaybackMayMove`` or ``RpcUnavailable``; then nothing has changed.
    """
    async with db.read() as session:
        seen = await read_payback(session, wanted.payback_id)
    if _may_be_signed(seen):
        await _require_dead(rail, seen, wanted)

    named = encode_id("pbk", seen.id)

    async def work(session: WriteSession) -> Payback:
        statement = (
            update(Payback)
            .where(*_as_seen(seen))
            .values(
                state=PaybackState.CANCELLED,
                cancelled_by=wanted.operator,
                cancel_reason=wanted.reason,
                changed_at_ms=now_ms(session),
            )
            .execution_options(synchronize_session=False)
        )
        if (await session.exec(statement)).rowcount != 1:
            now = await read_payback(session, wanted.payback_id)
            raise PaybackNotReady(now.id, now.state)
        if seen.way == PaybackWay.SAFE and await may_have_paid(session, seen):
            raise PaybackMayMove(
                "a transfer like that of its batch was seen",
                "Nothing is to be done: it is closed once its block is final.",
            )
        await _uncount(session, seen)
        await book_cancelled(session, seen)
        signed = Signed(wanted.operator, wanted.reason)
        await note_act(session, signed, "cancel_payback", named)
        return await read_payback(session, wanted.payback_id)

    cancelled = await db.write(work)
    _log.info("payback_cancelled", payback=named, operator=wanted.operator)
    return cancelled


def _may_be_signed(seen: Payback) -> bool:
    if seen.state != PaybackState.ISSUED:
        return False
    # The float's key signs in the write that stores what it signed.
    return seen.way != PaybackWay.FLOAT or seen.signature is not None


def _as_seen(seen: Payback) -> tuple[ColumnElement[bool], ...]:
    """It is still what was judged: nothing more was issued or signed meanwhile."""
    cancellable = (
        PaybackState.PROPOSED,
        PaybackState.APPROVED,
        PaybackState.ISSUED,
    )
    return (
        col(Payback.id) == seen.id,
        col(Payback.state) == seen.state,
        col(Payback.state).in_(cancellable),
        col(Payback.way).is_not_distinct_from(seen.way),
        col(Payback.valid_before).is_not_distinct_from(seen.valid_before),
        col(Payback.signature).is_(None)
        if seen.signature is None
        else col(Payback.signature).is_not(None),
    )


async def _require_dead(rail: Rail, seen: Payback, wanted: Cancelling) -> None:
    if seen.way == PaybackWay.SAFE:
        if not wanted.batch_is_void:
            raise PaybackMayMove(
                "its batch was handed out, and may be executed at any time",
                "Reject the batch in the Safe, then cancel with --batch-is-void.",
            )
        return
    terms = authorization_of(seen)
    final = await rail.chain.block("finalized")
    height = -1 if final is None else final.number
    if final is None or not await nonce_used(
        rail.chain, terms.payer, terms.nonce, final.number
    ):
        if final is None or final.timestamp_seconds < terms.valid_before:
            raise window_open(terms.valid_before)
        return
    first = max((seen.issued_block or 0) - rail.lookback_blocks, 0)
    found = await find_cancellations(rail.chain, terms.payer, terms.nonce, first)
    if not any(one.block_number <= height for one in found):
        raise PaybackMayMove(
            "its authorization was used",
            "Nothing is to be done: it is closed once its Transfer is found.",
        )


async def _uncount(session: WriteSession, seen: Payback) -> None:
    counter, is_its_own = counter_of(seen)
    counted = (
        update(counter)
        .where(is_its_own, col(counter.usdc) >= seen.usdc)
        .values(usdc=counter.usdc - seen.usdc)
        .execution_options(synchronize_session=False)
    )
    done = await session.exec(counted)
    assert done.rowcount == 1, "a payback is counted until it is cancelled"
