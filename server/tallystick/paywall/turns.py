"""Waiting for the wallet's turn: one settlement at a time, then credits may do."""

import asyncio

from tallystick.chain.rpc import Block
from tallystick.claims.claim import decide, find_claim
from tallystick.claims.models import Claim, ClaimState
from tallystick.credits.spendable import spendable
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import WriteSession
from tallystick.ledger.balances import customer_balance
from tallystick.ledger.errors import InsufficientCredits
from tallystick.payments.errors import PaymentInProgress
from tallystick.payments.lanes import has_lane
from tallystick.payments.purchase import require_paid, scan_from, wait_for
from tallystick.payments.relaying.relayer import settled_by_us
from tallystick.payments.topups import open_topup, topup_of_claim
from tallystick.paywall.copies import already_settled
from tallystick.paywall.paid_call import PaidCall, begin_waived, hold_instead
from tallystick.paywall.verdicts import Serve

_TURN_SECONDS = 0.5
"""How often a call looks for its turn by itself; another process may have passed it."""


async def drive(call: PaidCall, made: Claim, head: Block) -> Serve:
    """Waive the claim or settle it, whichever becomes possible first."""
    rail = call.gate.rail
    now = asyncio.get_running_loop().time
    deadline = now() + call.facts.wait_ms / 1000
    while True:
        change = rail.changes.upcoming(made.customer_id)
        left = deadline - now()
        outcome = await _advance(call, made, head, may_queue=left <= 0)
        if outcome is not None:
            reached(CrashPoint.CALL_DECIDED)
        if isinstance(outcome, Serve):
            return outcome
        if outcome is not None:
            rail.work.notify()
            return await _await_topup(call, made, outcome, max(int(left * 1000), 0))
        await change.within(min(left, _TURN_SECONDS))


class _NotYet(Exception):
    """Another settlement is in flight, or has just landed: the claim stays undecided."""


class _DecidedElsewhere(Exception):
    """The claim was decided without us; nothing of our transaction may stay."""


async def _advance(
    call: PaidCall, made: Claim, head: Block, *, may_queue: bool
) -> Serve | int | None:
    """Serve on a waiver, the id of a top-up that was opened, or None to wait."""
    if not may_queue and not await _may_advance(call, made):
        return None

    async def work(session: WriteSession) -> Serve | int | None:
        hold_id = await hold_instead(session, call, made.customer_id)
        if hold_id is not None:
            if not await decide(session, made.id, ClaimState.WAIVED, hold_id=hold_id):
                raise _DecidedElsewhere
            return call.waived(made, hold_id, await begin_waived(session, call, made))
        if not await decide(session, made.id, ClaimState.SETTLING):
            raise _DecidedElsewhere
        return await _open(session, call, made, head, may_queue=may_queue)

    try:
        return await call.gate.db.write(work)
    except _NotYet:
        return None
    except _DecidedElsewhere:
        return await _decided(call, made)


async def _may_advance(call: PaidCall, made: Claim) -> bool:
    """Whether it is worth a write: many calls of one wallet wait for its turn."""
    async with call.gate.db.read() as session:
        known = await find_claim(session, call.presented.money)
        if known is None or known.state != ClaimState.CLAIMED:
            return True
        available = await spendable(session, made.customer_id)
        if call.may_waive and available >= call.presented.quote.charge:
            return True
        return not await has_lane(session, made.chain_id, made.payer)


async def _open(
    session: WriteSession, call: PaidCall, made: Claim, head: Block, *, may_queue: bool
) -> int:
    opening = await open_topup(
        session,
        made,
        call.presented,
        pay_to=call.presented.authorization.pay_to,
        scan_from_block=scan_from(call.gate.rail, head),
        may_queue=may_queue,
    )
    # The lane may have become free while we waited for it, by a settlement whose
    # credits were not to be seen before.
    if opening is None or (
        opening.in_flight and await hold_instead(session, call, made.customer_id)
    ):
        raise _NotYet
    return opening.topup_id


async def _decided(call: PaidCall, made: Claim) -> int:
    """The top-up of a claim that somebody else decided.

    The observer did, because its money has arrived already; or a copy of this request,
    which took over because we were too slow.
    """
    async with call.gate.db.read() as session:
        topup = await topup_of_claim(session, made.id)
    if topup is None:
        raise PaymentInProgress("a copy of this payment is being handled")
    return topup.id


async def _await_topup(
    call: PaidCall, made: Claim, topup_id: int, wait_ms: int
) -> Serve:
    gate = call.gate
    topup = require_paid(await wait_for(gate.db, gate.rail, topup_id, wait_ms))
    async with gate.db.read() as session:
        fresh = await find_claim(session, call.presented.money)
        funds = await customer_balance(session, made.customer_id)
        is_ours = await settled_by_us(session, topup.id, topup.tx_hash)
    assert fresh is not None
    if fresh.hold_id is not None:
        return call.settled(fresh, fresh.hold_id, topup)
    if not is_ours or funds.available >= call.presented.quote.charge:
        # Somebody else submitted it, so it may be public: credits, but no answer, and
        # no word about what the payer has.
        raise already_settled(topup)
    raise InsufficientCredits(call.presented.quote.charge, funds.available)
