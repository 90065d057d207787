"""A request that carries a payment: waive it if credits suffice, else settle it.

    credits suffice ──▶ hold + WAIVED, one transaction; no chain is asked
    short, wallet free ──▶ a top-up in flight; its grant and our hold are one transaction
    short, wallet busy ──▶ wait: the credits that land may suffice

Whatever the payment becomes, its claim comes first.
"""

import asyncio
from dataclasses import dataclass

from tallystick.chain.rpc import Block
from tallystick.claims.claim import Use, claim, decide, find_claim, take_over
from tallystick.claims.models import Claim, ClaimState
from tallystick.credits.holds import place
from tallystick.customers.wallets import customer_of_wallet, ensure_customer_of_wallet
from tallystick.kernel.db import WriteSession
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.balances import customer_balance
from tallystick.ledger.errors import InsufficientCredits
from tallystick.metering.charges import Usage
from tallystick.payments.errors import (
    PaymentAlreadySettled,
    PaymentInProgress,
    PaymentSpent,
)
from tallystick.payments.lanes import has_lane
from tallystick.payments.matching import seen_on_chain
from tallystick.payments.models import OPEN_STATES, PAID_STATES, TopUp
from tallystick.payments.presented import (
    Presented,
    check_payment,
    money_of,
    require_signer,
)
from tallystick.payments.purchase import (
    not_taken,
    probe,
    require_network,
    require_paid,
    require_payer,
    scan_from,
    wait_for,
)
from tallystick.payments.relayer import settled_by_us
from tallystick.payments.topups import open_topup, public_facts, topup_of_claim
from tallystick.paywall import answers
from tallystick.paywall.facts import Facts
from tallystick.paywall.gate import Gate
from tallystick.paywall.offers import offers_for_call
from tallystick.paywall.verdicts import PaidBy, Replay, Serve
from tallystick.x402 import reasons
from tallystick.x402.errors import PaymentRejected
from tallystick.x402.wire import PaymentPayload

_COPY_WAIT_SECONDS = 5
_TURN_SECONDS = 0.5
"""How often a call looks for its turn by itself; another process may have passed it."""
_COPY_LOOK_SECONDS = 0.25
_LATE_MS = 1_000
"""A grant may come in the last moment of the waiting; its hold must not be missed."""
_WAIVABLE_SECONDS = 120
"""A payment that proves its wallet for longer is no proof for one call."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A payment, proven, with the request that it came with."""

    gate: Gate
    facts: Facts
    presented: Presented
    version: int

    @property
    def may_waive(self) -> bool:
        """Whether credits may pay instead: the payer signed for at least as much."""
        quote = self.presented.quote
        left = self.presented.money.valid_before - self.gate.rail.now_seconds()
        return quote.charge <= quote.credits and left <= _WAIVABLE_SECONDS

    @property
    def claim_ms(self) -> int:
        """How long the claim's charge is kept for this request."""
        return self.facts.wait_ms + _LATE_MS if self.facts.wait_ms else 0

    def use(self, customer_id: int) -> Use:
        return Use(
            customer_id,
            self.facts.feature.slug,
            self.presented.quote.charge,
            self.claim_ms,
        )

    def serve(self, made: Claim, hold_id: int, topup: TopUp | None) -> Serve:
        usage = Usage(
            made.customer_id,
            self.facts.feature.slug,
            self.facts.quantity,
            self.presented.quote.charge,
            self.presented.quote.catalog_version,
        )
        network = self.gate.rail.network
        if topup is not None:
            paid_by = PaidBy(
                made.payer, network, self.version, topup.tx_hash, topup.value
            )
            return Serve(usage, hold_id, paid_by)
        paid_by = PaidBy(made.payer, network, self.version)
        key = _answer_key(made)
        return Serve(usage, hold_id, paid_by, key)


async def admit_payment(
    gate: Gate, facts: Facts, payload: PaymentPayload
) -> Serve | Replay:
    """Serve the call once its payment is waived or settled, or replay its answer.

    Raises ``PaymentRejected`` and ``InsufficientCredits``, which become a 402, and
    what ``admit`` lists.
    """
    require_network(gate.rail, payload)
    money = money_of(gate.rail, payload.authorization, facts.binding)
    async with gate.db.read() as session:
        await require_payer(session, money.payer, facts.customer_id)
        known = await find_claim(session, money)
    if known is not None and known.state != ClaimState.CLAIMED:
        return await _admit_copy(gate, known, payload)
    call = await _check(gate, facts, payload)
    if known is not None:
        return await _resume(call, known)
    return await _waive_at_once(call) or await _claim_and_settle(call)


async def _check(gate: Gate, facts: Facts, payload: PaymentPayload) -> _Call:
    payer = payload.authorization.payer
    async with gate.db.read() as session:
        customer_id = await customer_of_wallet(session, payer)
        funds = await customer_balance(session, customer_id or 0)
    current = offers_for_call(gate, facts, funds.available).v1
    full = offers_for_call(gate, facts, MicroCredits(0)).v1
    if not current or not full:
        raise PaymentRejected(reasons.VALUE, "no single payment can cover this call")
    presented = await check_payment(gate.rail, gate.seal, payload, current + full)
    return _Call(gate, facts, presented, payload.version)


async def _waive_at_once(call: _Call) -> Serve | None:
    if not call.may_waive:
        return None  # without a look at the database

    async def work(session: WriteSession) -> Serve | None:
        customer_id = await customer_of_wallet(session, call.presented.money.payer)
        if customer_id is None:
            return None
        hold_id = await _hold_instead(session, call, customer_id)
        if hold_id is None:
            return None
        made = await claim(
            session,
            call.presented.money,
            call.use(customer_id),
            state=ClaimState.WAIVED,
            hold_id=hold_id,
        )
        if made is None:
            raise PaymentInProgress("a copy of this payment came first")
        await _begin_answer(session, call, made)
        return call.serve(made, hold_id, None)

    return await call.gate.db.write(work)


async def _claim_and_settle(call: _Call) -> Serve:
    head = await probe(call.gate.rail)

    async def work(session: WriteSession) -> Claim:
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
        return made

    return await _drive(call, await call.gate.db.write(work), head)


async def _resume(call: _Call, known: Claim) -> Serve:
    """Go on with a claim whose own request died before anything was decided."""
    head = await probe(call.gate.rail)
    wait_ms = call.claim_ms
    db = call.gate.db
    if not await db.write(
        lambda session: take_over(session, known.id, wait_ms=wait_ms)
    ):
        raise PaymentInProgress("a copy of this payment is waiting for its turn")
    return await _drive(call, known, head)


async def _drive(call: _Call, made: Claim, head: Block) -> Serve:
    """Waive the claim or settle it, whichever becomes possible first."""
    rail = call.gate.rail
    now = asyncio.get_running_loop().time
    deadline = now() + call.facts.wait_ms / 1000
    while True:
        change = rail.changes.upcoming()
        left = deadline - now()
        outcome = await _advance(call, made, head, may_queue=left <= 0)
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
    call: _Call, made: Claim, head: Block, *, may_queue: bool
) -> Serve | int | None:
    """Serve on a waiver, the id of a top-up that was opened, or None to wait."""
    if not may_queue and not await _may_advance(call, made):
        return None

    async def work(session: WriteSession) -> Serve | int | None:
        hold_id = await _hold_instead(session, call, made.customer_id)
        if hold_id is not None:
            if not await decide(session, made.id, ClaimState.WAIVED, hold_id=hold_id):
                raise _DecidedElsewhere
            await _begin_answer(session, call, made)
            return call.serve(made, hold_id, None)
        if not await decide(session, made.id, ClaimState.SETTLING):
            raise _DecidedElsewhere
        return await _open(session, call, made, head, may_queue=may_queue)

    try:
        return await call.gate.db.write(work)
    except _NotYet:
        return None
    except _DecidedElsewhere:
        return await _decided(call, made)


async def _may_advance(call: _Call, made: Claim) -> bool:
    """Whether it is worth a write: many calls of one wallet wait for its turn."""
    async with call.gate.db.read() as session:
        known = await find_claim(session, call.presented.money)
        if known is None or known.state != ClaimState.CLAIMED:
            return True
        funds = await customer_balance(session, made.customer_id)
        if call.may_waive and funds.available >= call.presented.quote.charge:
            return True
        return not await has_lane(session, made.chain_id, made.payer)


async def _open(
    session: WriteSession, call: _Call, made: Claim, head: Block, *, may_queue: bool
) -> int:
    opening = await open_topup(
        session,
        made,
        call.presented,
        pay_to=call.gate.rail.pay_to,
        scan_from_block=scan_from(call.gate.rail, head),
        may_queue=may_queue,
    )
    # The lane may have become free while we waited for it, by a settlement whose
    # credits were not to be seen before.
    if opening is None or (
        opening.in_flight and await _hold_instead(session, call, made.customer_id)
    ):
        raise _NotYet
    return opening.topup_id


async def _decided(call: _Call, made: Claim) -> int:
    """The top-up of a claim that somebody else decided.

    The observer did, because its money has arrived already; or a copy of this request,
    which took over because we were too slow.
    """
    async with call.gate.db.read() as session:
        topup = await topup_of_claim(session, made.id)
    if topup is None:
        raise PaymentInProgress("a copy of this payment is being handled")
    return topup.id


async def _await_topup(call: _Call, made: Claim, topup_id: int, wait_ms: int) -> Serve:
    gate = call.gate
    topup = require_paid(await wait_for(gate.db, gate.rail, topup_id, wait_ms))
    async with gate.db.read() as session:
        fresh = await find_claim(session, call.presented.money)
        funds = await customer_balance(session, made.customer_id)
        is_ours = await settled_by_us(session, topup.id, topup.tx_hash)
    assert fresh is not None
    if fresh.hold_id is not None:
        return call.serve(fresh, fresh.hold_id, topup)
    if not is_ours or funds.available >= call.presented.quote.charge:
        # Somebody else submitted it, so it may be public: credits, but no answer, and
        # no word about what the payer has.
        raise _already_settled(topup)
    raise InsufficientCredits(call.presented.quote.charge, funds.available)


async def _admit_copy(gate: Gate, known: Claim, payload: PaymentPayload) -> Replay:
    async with gate.db.read() as session:
        topup = await topup_of_claim(session, known.id)
    if topup is not None:
        raise _refuse_copy(topup)
    # Waived, so never on chain: the signature is a secret of the payer's, and whoever
    # shows it again within its window gets the same answer.
    if known.valid_before <= gate.rail.now_seconds():
        raise PaymentRejected(reasons.VALID_BEFORE, "the payment's window has closed")
    await require_signer(gate.rail, payload)
    return Replay(await _wait_for_answer(gate, known))


def _refuse_copy(topup: TopUp) -> Exception:
    if topup.state in OPEN_STATES:
        return PaymentInProgress(
            "this payment is being settled", topup=encode_id("top", topup.id)
        )
    if topup.state in PAID_STATES:
        return _already_settled(topup)
    return not_taken(topup)


def _already_settled(topup: TopUp) -> PaymentAlreadySettled:
    return PaymentAlreadySettled(
        "this payment bought credits; it does not authorize a call",
        topup=public_facts(topup),
    )


async def _wait_for_answer(gate: Gate, known: Claim) -> answers.Answer:
    key = _answer_key(known)
    now = asyncio.get_running_loop().time
    deadline = now() + _COPY_WAIT_SECONDS
    while True:
        change = gate.rail.changes.upcoming()
        async with gate.db.read() as session:
            try:
                found = await answers.given(session, key)
            except answers.RequestInProgress:
                if now() >= deadline:
                    raise
            else:
                if found is None:
                    raise PaymentSpent
                return found
        await change.within(_COPY_LOOK_SECONDS)


async def _hold_instead(
    session: WriteSession, call: _Call, customer_id: int
) -> int | None:
    """Hold the charge if credits may pay for the call instead of the payment."""
    money = call.presented.money
    if not call.may_waive or await seen_on_chain(
        session, money.token, money.payer, money.nonce
    ):
        return None
    hold = await place(
        session,
        customer_id,
        call.facts.feature.slug,
        call.presented.quote.charge,
        lifetime_seconds=call.gate.hold_seconds,
    )
    return hold.id if hold is not None else None


async def _begin_answer(session: WriteSession, call: _Call, made: Claim) -> None:
    # The claim is UNIQUE, so its answer cannot have begun before.
    await answers.begin(
        session, _answer_key(made), lease_seconds=call.gate.hold_seconds
    )


def _answer_key(made: Claim) -> answers.AnswerKey:
    return answers.waived_answer(made.id, made.binding, made.valid_before)
