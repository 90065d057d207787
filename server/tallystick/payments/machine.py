"""What to do with a top-up, given what the chain shows: pure, so that it can be proven.

A timeout never changes a state; only evidence does. There is no edge from SIGNED to
REJECTED: once our signature may be out, only the chain says what became of it.
"""

from dataclasses import dataclass
from enum import StrEnum

from tallystick.chain.witness import Testimony
from tallystick.payments.models.topups import PAID_STATES, PENDING_STATES, TopUpState
from tallystick.x402 import reasons

EDGES: dict[TopUpState, frozenset[TopUpState]] = {
    TopUpState.CLAIMED: frozenset(
        {
            TopUpState.SIGNED,
            TopUpState.WATCH,
            TopUpState.REJECTED,
            TopUpState.EXPIRED,
            TopUpState.CREDITED,
            TopUpState.QUARANTINE,
        }
    ),
    TopUpState.SIGNED: frozenset(
        {
            TopUpState.WATCH,
            TopUpState.EXPIRED,
            TopUpState.CANCELED,
            TopUpState.CREDITED,
            TopUpState.QUARANTINE,
        }
    ),
    TopUpState.WATCH: frozenset(
        {
            TopUpState.SIGNED,
            TopUpState.EXPIRED,
            TopUpState.CANCELED,
            TopUpState.CREDITED,
            TopUpState.QUARANTINE,
        }
    ),
    # Evidence wins from every uncredited state.
    # When its Transfer is there and the caps let it wait, it is refused no more.
    TopUpState.REJECTED: frozenset(
        {TopUpState.CREDITED, TopUpState.WATCH, TopUpState.QUARANTINE}
    ),
    TopUpState.EXPIRED: frozenset(
        {TopUpState.CREDITED, TopUpState.WATCH, TopUpState.QUARANTINE}
    ),
    TopUpState.CANCELED: frozenset({TopUpState.QUARANTINE}),
    TopUpState.CREDITED: frozenset(
        {TopUpState.SAFE, TopUpState.REVERSED, TopUpState.QUARANTINE}
    ),
    # Its transaction may turn up in another block, which is not safe yet.
    TopUpState.SAFE: frozenset(
        {
            TopUpState.FINAL,
            TopUpState.CREDITED,
            TopUpState.REVERSED,
            TopUpState.QUARANTINE,
        }
    ),
    # No reorganisation reverses it; a log that a node had told otherwise does.
    TopUpState.FINAL: frozenset({TopUpState.REVERSED, TopUpState.QUARANTINE}),
    TopUpState.REVERSED: frozenset({TopUpState.WATCH, TopUpState.QUARANTINE}),
    # By an operator: to be looked at again, or to be over. And to be looked at again when
    # its payer has redeemed what arrived. Nobody credits by hand.
    TopUpState.QUARANTINE: frozenset({TopUpState.WATCH, TopUpState.CANCELED}),
}
CREDITABLE = tuple(
    one for one in EDGES if TopUpState.CREDITED in EDGES[one] and one not in PAID_STATES
)
"""From these a Transfer brings credits; a paid one only moves with its Transfer."""


WAITS_FOR_WITNESS = "waits_for_a_witness"
"""Why a top-up is not credited whose Transfer is there: nobody else has seen it yet."""
CONTRADICTED = "witness_contradicts"
"""Why a top-up is in quarantine: two providers show different chains."""


UNCLEAR = "unclear_evidence"
"""Why a top-up is in quarantine: money that may be its own may be another's."""
HIDDEN = "hidden_evidence"
"""Why a top-up is in quarantine: a node keeps back the log of what may have paid us."""
ELSEWHERE = "booked_elsewhere"
"""Why a top-up is in quarantine: its Transfer is booked as somebody else's."""
CONTRADICTORY = "contradictory_evidence"
"""Why a top-up is in quarantine: its nonce moved another amount, or moved it twice."""
REDEEMED = "redeemed_by_transaction"
"""Why a top-up is canceled, or looked at: what its nonce moved is its payer's already."""
CLOSED = "closed_by_operator"
"""Why a top-up is canceled that was in quarantine: an operator has said so."""
LOOKED_AT_AGAIN = "looked_at_again"
"""Why a top-up is watched that was in quarantine: an operator has said so."""


class Rehearsal(StrEnum):
    """What simulating the settlement showed."""

    OK = "ok"
    NONCE_USED = "nonce_used"
    REFUSED = "refused"
    """It cannot succeed as things are."""
    UNCLEAR = "unclear"
    """It failed for a reason that may pass, or for one that we do not know."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a top-up at one moment; times in seconds.

    ``finalized_at`` is the time of the finalized block, ``head_at`` of the newest.
    ``captures`` counts how often a canonical block shows the nonce captured for us,
    and ``is_exact`` tells whether the one capture moved the value. ``is_spent`` means
    that the nonce is gone without a cent for us: cancelled, or captured for another;
    ``is_spent_at_finalized``, that this can change no more. ``own_is_dead`` means that
    no transaction of ours can still be mined for it, ``is_unclear`` that a permit's
    nonce is used and nobody can tell whether a Transfer is its own, ``is_hidden`` that
    an authorization is used and over, and no log tells by what. ``is_redeemed`` means
    that its payer has redeemed what the nonce moved, as a plain transfer.
    """

    head_at: int
    finalized_at: int | None
    captures: int = 0
    is_exact: bool = False
    is_spent: bool = False
    is_spent_at_finalized: bool = False
    rehearsal: Rehearsal | None = None
    reason: str | None = None
    own_is_dead: bool = False
    is_unclear: bool = False
    is_hidden: bool = False
    is_redeemed: bool = False


class Act(StrEnum):
    """What to do next."""

    WAIT = "wait"
    SIGN = "sign"
    RESEND = "resend"
    CREDIT = "credit"
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class Decision:
    """An act; ``state`` and ``reason`` belong to MOVE.

    ``keeps_lane`` says whether further settlements of the wallet wait for this one: as
    long as we may still settle it, and no longer.
    """

    act: Act
    state: TopUpState | None = None
    reason: str | None = None
    keeps_lane: bool = False


def heed(testimony: Testimony) -> Decision:
    """The act for a Transfer that would be credited, given what the witness says.

    Only what contradicts for good is for a person; everything else may pass.
    """
    if testimony == Testimony.AGREES:
        return Decision(Act.CREDIT)
    if testimony == Testimony.CONTRADICTS:
        return Decision(Act.MOVE, TopUpState.QUARANTINE, CONTRADICTED)
    return Decision(Act.WAIT, reason=WAITS_FOR_WITNESS)


def decide(state: TopUpState, valid_before: int, look: Look) -> Decision:
    """The next act for a top-up whose outcome is not known."""
    assert state in PENDING_STATES, f"{state} needs no decision"
    if state == TopUpState.REVERSED:
        return Decision(Act.MOVE, TopUpState.WATCH, look.reason)
    if look.captures == 1 and look.is_exact:
        return Decision(Act.CREDIT)
    if look.captures:
        return Decision(Act.MOVE, TopUpState.QUARANTINE, CONTRADICTORY)
    if look.is_redeemed:
        is_claimed = state == TopUpState.CLAIMED
        after = TopUpState.WATCH if is_claimed else TopUpState.CANCELED
        return Decision(Act.MOVE, after, REDEEMED)
    if look.is_unclear:
        return Decision(Act.MOVE, TopUpState.QUARANTINE, UNCLEAR)
    if look.is_hidden:
        return Decision(Act.MOVE, TopUpState.QUARANTINE, HIDDEN)
    if state == TopUpState.CLAIMED:
        return _decide_claimed(valid_before, look)
    return _decide_watched(state, valid_before, look)


def _decide_claimed(valid_before: int, look: Look) -> Decision:
    if look.is_spent:
        # Nothing is signed, so nothing can go wrong with a refusal at once; should the
        # block that shows it vanish, the evidence still wins.
        return Decision(Act.MOVE, TopUpState.REJECTED, reasons.NONCE_ALREADY_USED)
    if look.rehearsal == Rehearsal.NONCE_USED:
        return Decision(Act.MOVE, TopUpState.WATCH, "nonce_used")
    if look.head_at >= valid_before:
        # Nothing of ours is out, so the window alone ends it.
        return Decision(Act.MOVE, TopUpState.EXPIRED, reasons.VALID_BEFORE)
    if look.rehearsal == Rehearsal.REFUSED:
        return Decision(Act.MOVE, TopUpState.REJECTED, look.reason)
    act = Act.SIGN if look.rehearsal == Rehearsal.OK else Act.WAIT
    return Decision(act, keeps_lane=True)


def _decide_watched(state: TopUpState, valid_before: int, look: Look) -> Decision:
    if look.is_spent_at_finalized:
        return Decision(Act.MOVE, TopUpState.CANCELED, reasons.NONCE_ALREADY_USED)
    if look.finalized_at is not None and look.finalized_at >= valid_before:
        return Decision(Act.MOVE, TopUpState.EXPIRED, reasons.VALID_BEFORE)
    is_open = look.head_at < valid_before and not look.is_spent
    if state == TopUpState.SIGNED:
        if look.own_is_dead:
            reason = "own_transaction_is_dead"
            return Decision(Act.MOVE, TopUpState.WATCH, reason, keeps_lane=is_open)
        return Decision(Act.RESEND, keeps_lane=is_open)
    if not look.own_is_dead:
        # What we signed before may be mined after all: its block had been replaced.
        return Decision(Act.RESEND, keeps_lane=is_open)
    if look.rehearsal == Rehearsal.NONCE_USED:
        is_open = False
    may_sign = is_open and look.rehearsal == Rehearsal.OK
    return Decision(Act.SIGN if may_sign else Act.WAIT, keeps_lane=is_open)
