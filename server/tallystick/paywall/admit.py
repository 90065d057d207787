"""Admit a request for a feature: serve it, replay its answer, or challenge it.

Refusals that are no 402 are raised (see the errors of the rooms below). Nothing is
charged here: credits are held, and ``finish`` captures or releases them.
"""

from functools import partial

from tallystick.credits.holds import place
from tallystick.credits.spendable import spendable
from tallystick.kernel.db import WriteSession
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.errors import InsufficientCredits
from tallystick.metering.charges import Usage, shortage
from tallystick.paywall.answer import Answer
from tallystick.paywall.answers import AnswerKey
from tallystick.paywall.challenges import (
    Challenge,
    PaymentRequired,
    challenge,
    figures,
)
from tallystick.paywall.discovery import discovery
from tallystick.paywall.facts import Facts
from tallystick.paywall.gate import Gate
from tallystick.paywall.offers import offers_for_call
from tallystick.paywall.once import begin_once, key_of
from tallystick.paywall.pay_by_header import admit_payment
from tallystick.paywall.plain import Admission, Admitted, Done
from tallystick.paywall.verdicts import Replay, Serve, Verdict
from tallystick.x402.errors import PaymentRejected


async def admit(gate: Gate, facts: Facts) -> Verdict:
    """What becomes of the request.

    Raises ``PaymentBoundElsewhere``, ``PayerNotLinked``, ``PaymentAlreadySettled``,
    ``PaymentIdentifierMissing``, ``PaymentIdentifierReused``,
    ``PaymentInProgress``, ``SettlementPending`` (202), ``RequestInProgress``,
    ``IdempotencyMismatch``, and ``RpcUnavailable`` or ``TopUpsUnavailable`` (503).
    """
    if facts.price == 0:
        return Serve(usage=None, hold_id=None)
    try:
        if facts.payment is not None:
            return await admit_payment(gate, facts, facts.payment)
        if facts.customer_id is not None:
            return await _admit_customer(gate, facts, facts.customer_id)
    except (PaymentRejected, InsufficientCredits) as refusal:
        return await challenge_for(gate, facts, refusal)
    anonymous = PaymentRequired(f"{facts.feature.name} is priced")
    return await challenge_for(gate, facts, anonymous)


async def challenge_for(
    gate: Gate,
    facts: Facts,
    refusal: PaymentRequired | PaymentRejected | InsufficientCredits,
) -> Challenge:
    """The 402 with offers that cover what this caller lacks."""
    available = MicroCredits(0)
    if facts.customer_id is not None:
        async with gate.db.read() as session:
            available = await spendable(session, facts.customer_id)
    if not isinstance(refusal, InsufficientCredits):
        refusal.members.update(figures(facts.price, available))
    return challenge(
        gate,
        offers_for_call(gate, facts, available),
        refusal,
        url=facts.url,
        description=facts.feature.description or facts.feature.name,
        sign_in_path=facts.sign_in_path if facts.customer_id is None else None,
        extensions=discovery(facts) if gate.is_discoverable else {},
        # Who is known lacks credits, and any wallet of his with them.
        may_waive=facts.customer_id is None,
    )


async def _admit_customer(gate: Gate, facts: Facts, customer_id: int) -> Verdict:
    usage = Usage(
        customer_id,
        facts.feature.slug,
        facts.quantity,
        facts.price,
        gate.catalog().version,
    )
    wanted = Admission(usage, key_of(gate, facts, customer_id), gate.hold_seconds)
    alone = partial(admit_alone, wanted)
    if usage.limits:
        done: Done = await gate.db.write(alone)
    else:
        done = await gate.writes.do(wanted, lambda: gate.db.write(alone))
    if isinstance(done, Answer):
        return Replay(done)
    assert isinstance(done, Admitted), "an admission is no deduction"
    return Serve(usage, done.hold_id, answer_keys=(done.key,) if done.key else ())


async def admit_alone(wanted: Admission, session: WriteSession) -> Admitted | Answer:
    """The long way, which knows every case; raises as ``admit`` does."""
    usage, seconds = wanted.usage, wanted.lifetime_seconds
    own: AnswerKey | Answer | None = None
    if wanted.key is not None:
        own = await begin_once(session, wanted.key, lease_seconds=seconds)
    if isinstance(own, Answer):
        return own
    hold = await place(
        session,
        usage.customer_id,
        usage.feature,
        usage.price,
        lifetime_seconds=seconds,
        limits=usage.limits,
    )
    if hold is None:
        # Rolls back the key as well: a 402 is never stored.
        raise await shortage(session, usage.customer_id, usage.price)
    return Admitted(hold.id, own)
