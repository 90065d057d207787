"""What the chain shows of a top-up at this moment.

All of a look is asked of one node. One that lags would else say of what is final by
another that it never was, and an honest payer would be told to pay again.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from tallystick.chain.errors import BlockNotSeen, RpcErrorAnswer, TokenUnreadable
from tallystick.chain.evidence import (
    TransferLog,
    find_cancellations,
    find_settlements,
)
from tallystick.chain.permit2 import permit_used
from tallystick.chain.relay import Refusal, Simulation
from tallystick.chain.rpc import Block, Chain, Tag
from tallystick.chain.token import nonce_used
from tallystick.kernel.db import Database
from tallystick.payments.facilitated import is_over as is_over_elsewhere
from tallystick.payments.machine import Look, Rehearsal
from tallystick.payments.models.topups import Payment, TopUp, TopUpState
from tallystick.payments.permit_fate import Fate, fate_of_permit
from tallystick.payments.permits import PERMIT_REASONS, is_permit, was_redeemed
from tallystick.payments.rail import Rail
from tallystick.payments.relaying.relayer import authorization_of, relayer_for
from tallystick.payments.relaying.sending import Own, own_for, rehearse, tell_of_loss
from tallystick.x402 import reasons

_Seen = tuple[Look, TransferLog | None, Own]

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

    Raises ``RpcUnavailable``, also when no node alone could say all of it.
    """

    async def ask(node: Chain) -> _Seen:
        view = replace(rail, chain=node)
        if topup.state == TopUpState.CLAIMED:
            return await _look_before_signing(db, view, topup)
        return await _look_after_signing(db, view, topup)

    look, settled, own = await rail.chain.of_one_node(ask)
    if own.lost is not None and topup.state == TopUpState.SIGNED:
        # Not within the look: the other nodes are asked, too.
        await tell_of_loss(db, rail, own.lost)
    return look, settled


async def _look_after_signing(db: Database, view: Rail, topup: Payment) -> _Seen:
    # Finality is asked before the logs: "no event by then" must not be older.
    final, head = await _blocks(view)
    is_over = final is not None and final.timestamp_seconds >= topup.valid_before
    reach = max(final.number, head.number) if final and is_over else None
    fate = await _fate(db, view, topup, reach)
    rehearsal, reason, own = None, None, Own()
    if topup.state == TopUpState.SIGNED:
        is_ours = not isinstance(topup, TopUp) or await is_over_elsewhere(db, topup)
        if not fate.ours and is_ours:
            own = await own_for(db, view, topup)
    else:
        if not fate.ours:
            own = await own_for(db, view, topup)
        rehearsal, reason = await rehearsal_of(view, topup)
    look = _look(topup, final, head, fate, rehearsal, reason, own_is_dead=own.is_dead)
    return look, fate.ours[0] if fate.ours else None, own


async def _look_before_signing(db: Database, view: Rail, topup: Payment) -> _Seen:
    (_, head), (rehearsal, reason) = await asyncio.gather(
        _blocks(view), rehearsal_of(view, topup)
    )
    is_over = head.timestamp_seconds >= topup.valid_before
    # It may have been captured since it was rehearsed, as long as its window was open.
    if is_over and await _is_used(view, topup, head.number):
        rehearsal = Rehearsal.NONCE_USED
    fate = Fate()
    if rehearsal == Rehearsal.NONCE_USED:
        fate = await _fate(db, view, topup)
    look = _look(topup, None, head, fate, rehearsal, reason)
    return look, fate.ours[0] if fate.ours else None, Own()


async def _fate(
    db: Database, rail: Rail, topup: Payment, reach: int | None = None
) -> Fate:
    """What became of its nonce, by a node that has come as far as ``reach``.

    That is set once its window has closed for good, for then what is not seen decides.
    Raises ``BlockNotSeen``, ``RpcUnavailable``.
    """
    at_least = reach or 0
    if is_permit(topup):
        signed = authorization_of(topup)
        return await fate_of_permit(db, rail, topup, signed, at_least=at_least)
    asked = (topup.payer, topup.nonce, topup.scan_from_block)
    captures = await find_settlements(rail.chain, *asked, at_least=at_least)
    ours = tuple(one for one in captures if one.pay_to == topup.pay_to)
    if len(ours) == 1 and isinstance(topup, TopUp):
        async with db.read() as session:
            if await was_redeemed(session, topup.chain_id, ours[0]):
                return Fate(is_redeemed=True)
    if captures or not await _is_used(rail, topup, reach):
        others = tuple(one.block_number for one in captures if one not in ours)
        return Fate(ours, others)
    canceled = await find_cancellations(rail.chain, *asked, at_least=at_least)
    spent = tuple(one.block_number for one in canceled)
    return Fate(spent_at_blocks=spent, is_traceless=not spent)


async def _is_used(rail: Rail, topup: Payment, height: int | None) -> bool:
    """Whether its nonce is gone, at a height that the node must have; None is its head.

    The newest height, not the final one: few nodes keep the state of so old a block, and
    what is unused later was unused then. Raises ``BlockNotSeen``, ``RpcUnavailable``.
    """
    used = permit_used if is_permit(topup) else nonce_used
    block: int | Tag = "latest" if height is None else height
    try:
        return await used(rail.chain, topup.payer, topup.nonce, block)
    except TokenUnreadable as error:
        if height is None:
            raise
        raise BlockNotSeen(f"the node has no state of block {height}") from error


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
