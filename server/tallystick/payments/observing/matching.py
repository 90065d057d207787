"""Whose money a Transfer is: the payer's whose authorization moved it, or nobody's yet.

Everything about one Transfer happens in one transaction, so it is either credited or
in suspense, whatever breaks in between.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement
from sqlmodel import col, select

from tallystick.chain.evidence import TransferLog, transfers_to
from tallystick.claims.models import Claim
from tallystick.credits import holds
from tallystick.credits.errors import HoldAlreadySettled, UnknownHold
from tallystick.kernel.db import Database, ReadSession, WriteSession
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.kernel.money import MicroCredits, UsdcAtomic
from tallystick.payments.facilitated import is_left_to_settler
from tallystick.payments.lanes import promote_queued
from tallystick.payments.machine import CREDITABLE, WAITS_FOR_WITNESS
from tallystick.payments.models.chain import (
    ChainCursor,
    ChainTransfer,
    Presence,
    nonce_keeper,
)
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.observing.crediting import (
    WAITS,
    credit,
    place_of,
    put_in_suspense,
)
from tallystick.payments.observing.following import (
    Overtaken,
    hold_cursor,
    read_cursor,
    transfers_of,
)
from tallystick.payments.observing.reversing import find_again
from tallystick.payments.rail import Rail
from tallystick.payments.topups import adopt_claim, topup_of_claim
from tallystick.payments.witness import Heard, hear, is_large

_log = get_logger(__name__)
_BATCH = 50


@dataclass(frozen=True, slots=True)
class Rate:
    """What USDC buys by the running catalog, for money that came without a quote."""

    catalog_version: str
    credits_for: Callable[[UsdcAtomic], MicroCredits]


async def book(
    db: Database,
    rail: Rail,
    rate: Rate,
    seen: TransferLog,
    *,
    hold_seconds: int,
    after: ChainCursor,
) -> None:
    """Credit the Transfer's payer if he presented the authorization, else suspend it.

    Money that does not fit what was signed stays in suspense for a person to judge.
    ``after`` is the cursor with which the Transfer's block was read. Raises
    ``Overtaken`` when it is elsewhere by now.
    """
    heard = await _hear(db, rail, seen)

    async def work(session: WriteSession) -> TopUp | None:
        await hold_cursor(session, rail, after)
        if await find_again(session, rail, seen):
            return None
        place = place_of(rail)
        topup = await _topup_of(session, rail, rate, seen)
        if (
            topup is not None
            and _fits(topup, seen)
            and not await is_left_to_settler(session, topup, seen)
            and await credit(session, place, topup, heard, hold_seconds=hold_seconds)
        ):
            await promote_queued(session, topup.chain_id, topup.payer)
            return topup
        await put_in_suspense(session, place, seen)
        return None

    topup = await db.write(work)
    if topup is not None:
        # Whatever it was: evidence credits from every state that is not paid.
        rail.outlook.transitions["seen on chain", TopUpState.CREDITED] += 1
        _log.info("topup_credited", topup=encode_id("top", topup.id))
        rail.changes.notify(topup.id, topup.customer_id)
        rail.work.notify()


async def _hear(db: Database, rail: Rail, seen: TransferLog) -> Heard:
    """What the witness says, if it matters: nobody is credited for most Transfers.

    Should somebody present the authorization meanwhile, he waits for the next look.
    """
    if seen.nonce is None or not is_large(rail, seen):
        return Heard(seen)
    query = (
        select(Claim.id)
        .outerjoin(TopUp, col(TopUp.claim_id) == col(Claim.id))
        .where(
            *_claims_of(rail, seen),
            col(TopUp.id).is_(None) | col(TopUp.state).in_(CREDITABLE),
        )
    )
    async with db.read() as session:
        is_awaited = (await session.exec(query)).one_or_none() is not None
    return await hear(rail, seen) if is_awaited else Heard(seen)


async def match_suspense(
    db: Database, rail: Rail, rate: Rate, *, hold_seconds: int
) -> int:
    """Credit suspended money whose authorization has been presented since; how much.

    A header may come after its Transfer, or in the very moment in which that is put in
    suspense, and be waived although it is spent: the evidence wins all the same.
    Raises ``RpcUnavailable``.
    """
    async with db.read() as session:
        cursor = await read_cursor(session, rail)
        presented = await _presented(session, rail, is_witnessed=True)
        presented += await _presented(session, rail, is_witnessed=False)
    for row in presented:
        height = row.block_number
        for seen in await transfers_to(rail.chain, rail.pay_to, height, height):
            if (seen.block_hash, seen.log_index) == (row.block_hash, row.log_index):
                with contextlib.suppress(Overtaken):
                    await book(
                        db, rail, rate, seen, hold_seconds=hold_seconds, after=cursor
                    )
    return len(presented)


async def seen_on_chain(
    session: ReadSession | WriteSession, keeper: bytes, payer: bytes, nonce: bytes
) -> bool:
    """Whether the observer has seen this authorization captured.

    ``keeper`` is the contract whose nonce it is, the token or Permit2. Then it is
    public, and whoever shows it may not be its payer.
    """
    query = select(ChainTransfer.id).where(
        nonce_keeper() == keeper,
        col(ChainTransfer.sender) == payer,
        col(ChainTransfer.nonce) == nonce,
    )
    return (await session.exec(query.limit(1))).one_or_none() is not None


async def _topup_of(
    session: WriteSession, rail: Rail, rate: Rate, seen: TransferLog
) -> TopUp | None:
    if seen.nonce is None:
        return None
    query = select(Claim).where(*_claims_of(rail, seen))
    found = (await session.exec(query)).one_or_none()
    if found is None:
        return None
    topup = await topup_of_claim(session, found.id)
    if topup is not None or found.value != seen.amount:
        return topup
    adopted = await adopt_claim(
        session,
        found,
        token=rail.domain.contract,
        pay_to=rail.pay_to,
        credits_bought=rate.credits_for(seen.amount),
        catalog_version=rate.catalog_version,
        scan_from_block=max(seen.block_number - rail.lookback_blocks, 0),
    )
    if adopted is not None and found.hold_id is not None:
        await _stop_call(session, found.hold_id)
    # Whoever decided the claim meanwhile has made its top-up in the same transaction.
    return adopted or await topup_of_claim(session, found.id)


def _claims_of(rail: Rail, seen: TransferLog) -> tuple[ColumnElement[bool], ...]:
    return (
        col(Claim.chain_id) == rail.domain.chain_id,
        col(Claim.token) == (seen.authority or rail.domain.contract),
        col(Claim.payer) == seen.payer,
        col(Claim.nonce) == seen.nonce,
    )


async def _stop_call(session: WriteSession, hold_id: int) -> None:
    """Let a call that a waived payment proved end without an answer.

    The payment is public now, so whoever made the call may not be its payer. A call
    that was answered already stays charged.
    """
    with contextlib.suppress(HoldAlreadySettled, UnknownHold):
        await holds.release(session, hold_id)


def _fits(topup: TopUp, seen: TransferLog) -> bool:
    return topup.value == seen.amount and topup.pay_to == seen.pay_to


async def _presented(
    session: ReadSession, rail: Rail, *, is_witnessed: bool
) -> list[ChainTransfer]:
    waits = col(TopUp.reason).is_not_distinct_from(WAITS_FOR_WITNESS)
    query = (
        select(ChainTransfer)
        .join(
            Claim,
            (col(Claim.payer) == col(ChainTransfer.sender))
            & (col(Claim.nonce) == col(ChainTransfer.nonce))
            & (col(Claim.token) == nonce_keeper())
            & (col(Claim.chain_id) == col(ChainTransfer.chain_id))
            & (col(Claim.value) == col(ChainTransfer.value)),
        )
        .outerjoin(TopUp, col(TopUp.claim_id) == col(Claim.id))
        .where(
            *transfers_of(rail),
            col(ChainTransfer.presence) == Presence.BOOKED,
            col(ChainTransfer.topup_id).is_(None),
            col(ChainTransfer.nonce).is_not(None),
            col(TopUp.id).is_(None) | col(TopUp.state).in_(CREDITABLE),
            # Those that wait must not fill the batch until they may go on.
            col(TopUp.reason).is_distinct_from(WAITS)
            | (col(ChainTransfer.block_number) <= rail.outlook.safe_number),
            ~waits if is_witnessed else waits,
        )
        .order_by(col(ChainTransfer.block_number))
        .limit(_BATCH)
    )
    return list((await session.exec(query)).all())
