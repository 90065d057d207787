"""A request that carries a payment: waive it if credits suffice, else settle it.

    credits suffice ──▶ hold + WAIVED, one transaction; no chain is asked
    short, wallet free ──▶ a top-up in flight; its grant and our hold are one transaction
    short, wallet busy ──▶ wait: the credits that land may suffice

Whatever the payment becomes, its claim comes first. A retry under an Idempotency-Key
gets its answer before that, so its new payment is not touched.
"""

from dataclasses import dataclass, replace

from tallystick.chain.rpc import Block
from tallystick.claims.claim import claim, find_claim, take_over
from tallystick.claims.models import Claim, ClaimState
from tallystick.credits.spendable import spendable
from tallystick.customers.wallets import customer_of_wallet, ensure_customer_of_wallet
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import WriteSession
from tallystick.kernel.money import MicroCredits
from tallystick.payments.errors import PaymentInProgress, SettlementPending
from tallystick.payments.models.topups import PENDING_STATES
from tallystick.payments.permits import is_permit_used
from tallystick.payments.presented import check_payment, money_of
from tallystick.payments.purchase import (
    probe_for,
    require_network,
    require_payer,
    wait_for,
)
from tallystick.paywall.answer import Answer
from tallystick.paywall.challenges import require_identifier
from tallystick.paywall.copies import admit_copy
from tallystick.paywall.facts import Facts
from tallystick.paywall.gate import Gate
from tallystick.paywall.offered import recent_catalogs
from tallystick.paywall.offers import offers_for_call, past_quotes_for_call
from tallystick.paywall.once import answered, begin_once, key_of
from tallystick.paywall.paid_call import PaidCall, begin_waived, hold_instead
from tallystick.paywall.turns import drive
from tallystick.paywall.verdicts import Replay, Serve
from tallystick.x402 import reasons
from tallystick.x402.errors import PaymentRejected
from tallystick.x402.wire import PaymentPayload


async def admit_payment(
    gate: Gate, facts: Facts, payload: PaymentPayload
) -> Serve | Replay:
    """Serve the call once its payment is waived or settled, or replay its answer.

    Raises ``PaymentRejected`` and ``InsufficientCredits``, which become a 402, and
    what ``admit`` lists.
    """
    require_identifier(gate, payload)
    require_network(gate.rail, payload)
    money = money_of(gate.rail, payload.authorization, facts.binding)
    async with gate.db.read() as session:
        await require_payer(session, money.payer, facts.customer_id)
    # A caller who is known otherwise needs no payment to get his answer again; the
    # payment alone would not do, because it may be settled and so public.
    caller_id = facts.customer_id if facts.may_spend else None
    earlier = await _answered(gate, facts, caller_id)
    if earlier is not None:
        return earlier
    async with gate.db.read() as session:
        known = await find_claim(session, money)
    if known is not None and known.state != ClaimState.CLAIMED:
        return await admit_copy(gate, known, payload)
    return await _admit_proven(await _check(gate, facts, payload), known)


async def _answered(gate: Gate, facts: Facts, customer_id: int | None) -> Replay | None:
    """What was answered under the caller's Idempotency-Key."""
    key = key_of(gate, facts, customer_id)
    if key is None:
        return None
    async with gate.db.read() as session:
        found = await answered(session, key)
    return Replay(found) if found is not None else None


async def _check(gate: Gate, facts: Facts, payload: PaymentPayload) -> PaidCall:
    payer = payload.authorization.payer
    async with gate.db.read() as session:
        customer_id = await customer_of_wallet(session, payer)
        available = await spendable(session, customer_id or 0)
    amounts = (available, MicroCredits(0))
    offered = [one for had in amounts for one in offers_for_call(gate, facts, had).v1]
    if payload.version == 1 or not offered:
        offered += [
            one
            for catalog in await recent_catalogs(gate)
            for had in amounts
            for one in past_quotes_for_call(gate, facts, had, catalog)
        ]
    if not offered:
        raise PaymentRejected(reasons.VALUE, "no single payment can cover this call")
    presented = await check_payment(gate.rail, gate.seal, payload, offered)
    is_public = await is_permit_used(gate.rail, presented.money)
    return PaidCall(
        gate, facts, presented, payload.version, customer_id, is_public=is_public
    )


@dataclass(frozen=True, slots=True)
class _Undecided:
    """A claim that this request waits for, and the block it was made after."""

    call: PaidCall
    made: Claim
    head: Block


async def _admit_proven(call: PaidCall, known: Claim | None) -> Serve | Replay:
    try:
        begun = await _begin(call, known)
    except SettlementPending as first:
        # An earlier try under the same key: its credits may pay for this one.
        gate, wait_ms = call.gate, call.facts.wait_ms
        topup = await wait_for(gate.db, gate.rail, first.topup_id, wait_ms)
        if topup.state in PENDING_STATES:
            raise
        begun = await _begin(call, known)
    if isinstance(begun, _Undecided):
        reached(CrashPoint.CALL_CLAIMED)
        return await drive(begun.call, begun.made, begun.head)
    return begun


async def _begin(call: PaidCall, known: Claim | None) -> Serve | Replay | _Undecided:
    if known is not None:
        return await _resume(call, known)
    earlier = await _answered(call.gate, call.facts, call.customer_id)
    return earlier or await _waive_at_once(call) or await _claim(call)


class _Short(Exception):
    """Credits do not pay for the call; nothing of the transaction may stay."""


async def _waive_at_once(call: PaidCall) -> Serve | Replay | None:
    customer_id = call.customer_id
    if not call.may_waive or customer_id is None:
        return None  # without a look at the database

    async def work(session: WriteSession) -> Serve | Replay:
        own = await _own(session, call, customer_id, None)
        if isinstance(own, Replay):
            return own
        hold_id = await hold_instead(session, own, customer_id)
        if hold_id is None:
            raise _Short
        made = await claim(
            session,
            own.presented.money,
            own.use(customer_id),
            state=ClaimState.WAIVED,
            hold_id=hold_id,
        )
        if made is None:
            raise PaymentInProgress("a copy of this payment came first")
        return own.waived(made, hold_id, await begin_waived(session, own, made))

    try:
        return await call.gate.db.write(work)
    except _Short:
        return None


async def _claim(call: PaidCall) -> Replay | _Undecided:
    head = await probe_for(call.gate.db, call.gate.rail, call.presented)

    async def work(session: WriteSession) -> Replay | _Undecided:
        payer = call.presented.money.payer
        customer_id = await ensure_customer_of_wallet(session, payer)
        made = await claim(
            session,
            call.presented.money,
            call.use(customer_id),
            state=ClaimState.CLAIMED,
        )
        if made is None:
            raise PaymentInProgress("a copy of this payment came first")
        own = await _own(session, call, customer_id, made.id)
        if isinstance(own, Replay):
            raise _Answered(own)
        return _Undecided(own, made, head)

    try:
        return await call.gate.db.write(work)
    except _Answered as earlier:
        return earlier.replay


class _Answered(Exception):
    """The key has its answer, so the claim must not stay."""

    def __init__(self, replay: Replay) -> None:
        super().__init__()
        self.replay = replay


async def _resume(call: PaidCall, known: Claim) -> Replay | _Undecided:
    """Go on with a claim whose own request died before anything was decided."""
    head = await probe_for(call.gate.db, call.gate.rail, call.presented)

    async def work(session: WriteSession) -> Replay | _Undecided:
        if not await take_over(session, known.id, wait_ms=call.claim_ms):
            raise PaymentInProgress("a copy of this payment is waiting for its turn")
        own = await _own(session, call, known.customer_id, known.id)
        return own if isinstance(own, Replay) else _Undecided(own, known, head)

    return await call.gate.db.write(work)


async def _own(
    session: WriteSession, call: PaidCall, customer_id: int, claim_id: int | None
) -> PaidCall | Replay:
    """The call with its Idempotency-Key begun, or the answer that was given."""
    key = key_of(call.gate, call.facts, customer_id)
    if key is None:
        return call
    begun = await begin_once(
        session, key, lease_seconds=call.gate.hold_seconds, claim_id=claim_id
    )
    return Replay(begun) if isinstance(begun, Answer) else replace(call, own=begun)
