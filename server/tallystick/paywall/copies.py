"""A payment that was presented before: its answer again, or what became of it."""

import asyncio

from tallystick.claims.models import Claim
from tallystick.credits.holds import is_open
from tallystick.kernel.db import ReadSession
from tallystick.kernel.ids import encode_id
from tallystick.payments.errors import (
    PaymentAlreadySettled,
    PaymentInProgress,
    PaymentSpent,
)
from tallystick.payments.models.topups import PAID_STATES, PENDING_STATES, TopUp
from tallystick.payments.permits import is_permit_used
from tallystick.payments.presented import require_signer
from tallystick.payments.purchase import unpaid
from tallystick.payments.topups import public_facts, topup_of_claim
from tallystick.paywall import answers
from tallystick.paywall.answer import Answer
from tallystick.paywall.answers import AnswerKey
from tallystick.paywall.gate import Gate
from tallystick.paywall.paid_call import waived_key
from tallystick.paywall.verdicts import Replay
from tallystick.x402 import reasons
from tallystick.x402.errors import PaymentRejected
from tallystick.x402.wire import PaymentPayload

_WAIT_SECONDS = 5
_LOOK_SECONDS = 0.25


async def admit_copy(gate: Gate, known: Claim, payload: PaymentPayload) -> Replay:
    """The answer that a waived payment's call got.

    Raises what became of any other payment; see ``admit``.
    """
    async with gate.db.read() as session:
        topup = await topup_of_claim(session, known.id)
    if topup is not None:
        raise _refuse_copy(topup)
    # Waived, so never on chain: the signature is a secret of the payer's, and whoever
    # shows it again within its window gets the same answer.
    if known.valid_before <= gate.rail.now_seconds():
        raise PaymentRejected(reasons.VALID_BEFORE, "the payment's window has closed")
    await require_signer(gate.rail, payload)
    if await is_permit_used(gate.rail, known):
        raise PaymentAlreadySettled(
            "this permit is on the chain, so anybody can show it"
        )
    return Replay(await _wait_for_answer(gate, known))


def _refuse_copy(topup: TopUp) -> Exception:
    if topup.state in PENDING_STATES:
        return PaymentInProgress(
            "this payment is being settled", topup=encode_id("top", topup.id)
        )
    if topup.state in PAID_STATES:
        return already_settled(topup)
    return unpaid(topup)


def already_settled(topup: TopUp) -> PaymentAlreadySettled:
    """What a settled payment's header gets, whoever shows it: public facts."""
    return PaymentAlreadySettled(
        "this payment bought credits; it does not authorize a call",
        topup=public_facts(topup),
    )


async def _wait_for_answer(gate: Gate, known: Claim) -> Answer:
    key = waived_key(known)
    now = asyncio.get_running_loop().time
    deadline = now() + _WAIT_SECONDS
    while True:
        change = gate.rail.changes.upcoming(known.customer_id)
        async with gate.db.read() as session:
            try:
                found = await answers.given(session, key)
            except answers.RequestInProgress:
                if await _is_over(session, known, key):
                    raise PaymentSpent from None
                if now() >= deadline:
                    raise
            else:
                if found is None:
                    raise PaymentSpent
                return found
        await change.within(_LOOK_SECONDS)


async def _is_over(session: ReadSession, known: Claim, key: AnswerKey) -> bool:
    """Whether its call can be answered no more, because its hold has lapsed.

    Whoever answered it may be dead or only slow, and the hold alone says which: a seller's
    own server may hold the admission, so that not even a restart of ours ends it sooner.
    """
    if known.hold_id is None or await is_open(session, known.hold_id):
        return False
    try:
        # Charging and keeping the answer are one write: what was charged has it by now.
        return await answers.given(session, key) is None
    except answers.RequestInProgress:
        return True
