"""What the chain shows of a top-up at this moment."""

import asyncio
from collections.abc import Mapping

from tallystick.chain.errors import RpcErrorAnswer
from tallystick.chain.evidence import (
    TransferLog,
    find_cancellations,
    find_settlements,
)
from tallystick.chain.relay import Refusal, Simulation
from tallystick.chain.rpc import Block
from tallystick.chain.token import nonce_used
from tallystick.kernel.db import Database
from tallystick.payments.facilitated import is_over
from tallystick.payments.machine import Look, Rehearsal
from tallystick.payments.models.topups import Payment, TopUp, TopUpState
from tallystick.payments.permit_fate import Fate, fate_of_permit
from tallystick.payments.permits import PERMIT_REASONS, is_permit, was_redeemed
from tallystick.payments.rail import Rail
from tallystick.payments.relaying.relayer import authorization_of, relayer_for
from tallystick.payments.relaying.sending import is_dead, may_be_mined, rehearse
from tallystick.x402 import reasons

_REASONS = {
    Refusal.INSUFFICIENT_FUNDS: reasons.INSUFFICIENT_FUNDS,
    Refusal.EXPIRED: reasons.VALID_BEFORE,
    Refusal.NOT_YET_VALID: reasons.VALID_AFTER,
    Refusal.INVALID_SIGNATURE: reasons.SIGNATURE,
    Refusal.BLACKLISTED: reasons.INVALID_TRANSACTION_STATE,
}
"""Refusals that end a top-up of which nothing is signed. Others may pass."""


async def look_at(
    db: Database, rail: Rail, topup: Payment
) -> tuple[Look, TransferLog | None]:
    """What is known of an open top-up, with the capture that paid us if there is one.

    Raises ``RpcUnavailable``.
    """
    if topup.state == TopUpState.CLAIMED:
        return await _look_before_signing(db, rail, topup)
    # Finality is asked before the logs: "no event by then" must not be older.
    final, head = await _blocks(rail)
    fate = await _fate(db, rail, topup)
    rehearsal, reason, dead = None, None, False
    if topup.state == TopUpState.SIGNED:
        dead = (
            not fate.ours
            and (not isinstance(topup, TopUp) or await is_over(db, topup))
            and await is_dead(db, rail, topup)
        )
    else:
        dead = not fate.ours and not await may_be_mined(db, rail, topup)
        rehearsal, reason = await rehearsal_of(rail, topup)
    look = _look(topup, final, head, fate, rehearsal, reason, own_is_dead=dead)
    return look, fate.ours[0] if fate.ours else None


async def _look_before_signing(
    db: Database, rail: Rail, topup: Payment
) -> tuple[Look, TransferLog | None]:
    (_, head), (rehearsal, reason) = await asyncio.gather(
        _blocks(rail), rehearsal_of(rail, topup)
    )
    fate = Fate()
    if rehearsal == Rehearsal.NONCE_USED:
        fate = await _fate(db, rail, topup)
    look = _look(topup, None, head, fate, rehearsal, reason)
    return look, fate.ours[0] if fate.ours else None


async def _fate(db: Database, rail: Rail, topup: Payment) -> Fate:
    if is_permit(topup):
        return await fate_of_permit(db, rail, topup, authorization_of(topup))
    captures = await find_settlements(
        rail.chain, topup.payer, topup.nonce, topup.scan_from_block
    )
    ours = tuple(one for one in captures if one.pay_to == topup.pay_to)
    if len(ours) == 1 and isinstance(topup, TopUp):
        async with db.read() as session:
            if await was_redeemed(session, topup.chain_id, ours[0]):
                return Fate(is_redeemed=True)
    if captures or not await nonce_used(rail.chain, topup.payer, topup.nonce):
        others = tuple(one.block_number for one in captures if one not in ours)
        return Fate(ours, others)
    canceled = await find_cancellations(
        rail.chain, topup.payer, topup.nonce, topup.scan_from_block
    )
    spent = tuple(one.block_number for one in canceled)
    return Fate(spent_at_blocks=spent, is_traceless=not spent)


def _look(
    topup: Payment,
    final: Block | None,
    head: Block,
    fate: Fate,
    rehearsal: Rehearsal | None,
    reason: str | None,
    *,
    own_is_dead: bool = False,
) -> Look:
    spent = fate.spent_at_blocks
    # Until its window is over it may have been captured between two questions. After
    # that the logs are whole, unless the node keeps some back: it may have paid us.
    is_over = final is not None and final.timestamp_seconds >= topup.valid_before
    return Look(
        head.timestamp_seconds,
        final.timestamp_seconds if final else None,
        captures=len(fate.ours),
        is_exact=any(one.amount == topup.value for one in fate.ours),
        is_spent=bool(spent),
        is_spent_at_finalized=bool(final and spent and min(spent) <= final.number),
        rehearsal=rehearsal,
        reason=reason,
        own_is_dead=own_is_dead,
        is_unclear=fate.is_unclear,
        is_hidden=is_over and fate.is_traceless,
        is_redeemed=fate.is_redeemed,
    )


async def _blocks(rail: Rail) -> tuple[Block | None, Block]:
    return await asyncio.gather(rail.chain.block("finalized"), rail.head())


async def rehearsal_of(
    rail: Rail, topup: Payment
) -> tuple[Rehearsal | None, str | None]:
    """Whether it would succeed now, and why not; None for what is not ours to send.

    Raises ``RpcUnavailable``.
    """
    if topup.signature is None:
        return None, None  # it came by way of the chain, so it is not ours to send
    relayer = relayer_for(rail, topup)
    if relayer is None and rail.relayers:
        relayer = rail.relayers[0]
    sender = relayer.address if relayer else rail.pay_to
    try:
        verdict = await rehearse(rail, topup, sender)
    except RpcErrorAnswer:
        return Rehearsal.UNCLEAR, None
    told = PERMIT_REASONS if is_permit(topup) else _REASONS
    return _read_verdict(verdict, told)


def _read_verdict(
    verdict: Simulation, told: Mapping[Refusal, str]
) -> tuple[Rehearsal, str | None]:
    if verdict.refusal is None:
        return Rehearsal.OK, None
    if verdict.refusal == Refusal.NONCE_USED:
        return Rehearsal.NONCE_USED, None
    if verdict.refusal in told:
        return Rehearsal.REFUSED, told[verdict.refusal]
    return Rehearsal.UNCLEAR, verdict.refusal
