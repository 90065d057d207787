"""Named moments at which a test lets the process die.

Money is safe at every one of them, and only a process that really dies between two
steps shows that. The variable names one; nothing but a test sets it, and a server on a
real network does not start with it (``boot``). After FoundationDB's BUGGIFY: points
that stand in the code itself, instead of a copy of it with other steps.
"""

import os
import signal
import sys
from enum import StrEnum

VARIABLE = "TALLYSTICK_CRASH_AT"


class CrashPoint(StrEnum):
    """Where a process may die. ``…_UNCOMMITTED`` is within the transaction."""

    CLAIM_UNCOMMITTED = "claim_uncommitted"
    """The payment is claimed; nobody else can see that yet."""
    CLAIMED = "claimed"
    """A purchase has its claim and its top-up; no worker was told."""
    CALL_CLAIMED = "call_claimed"
    """A call has its claim; whether it is settled or waived is undecided."""
    CALL_DECIDED = "call_decided"
    """A call's payment is settled or waived."""
    REHEARSED = "rehearsed"
    """The simulation said yes."""
    SIGNED_UNCOMMITTED = "signed_uncommitted"
    """A nonce is taken and the transaction signed; neither is durable."""
    SIGNED = "signed"
    """The signed bytes are durable and were sent to nobody."""
    SENT = "sent"
    """A node has the bytes."""
    CREDIT_UNCOMMITTED = "credit_uncommitted"
    """It is mined, and the credits are granted in the transaction."""
    CREDITED = "credited"
    """The credits are durable; nobody was told."""
    OUTCOME_KNOWN = "outcome_known"
    """The request knows its outcome and has not answered."""
    MOVE_UNCOMMITTED = "move_uncommitted"
    """A top-up changes its state without any money."""
    SUSPENDED_UNCOMMITTED = "suspended_uncommitted"
    """Money of nobody is booked in the transaction."""
    BLOCK_BOOKED = "block_booked"
    """Every Transfer of a block is booked; the observer's cursor is before it."""
    CURSOR_MOVED = "cursor_moved"
    """The cursor is behind the block."""
    CURSOR_TAKEN_BACK = "cursor_taken_back"
    """Blocks were replaced; what they had shown is missing, and not taken back yet."""
    REVERSAL_UNCOMMITTED = "reversal_uncommitted"
    """What vanished is taken back in the transaction."""
    REVERSED = "reversed"
    """It is taken back; it is not watched for yet."""
    MADE_SAFE_UNCOMMITTED = "made_safe_uncommitted"
    """A top-up's block is safe or final, and it counts as exposed no more."""
    REDEMPTION_UNCOMMITTED = "redemption_uncommitted"
    """A plain transfer is credited in the transaction."""
    REDEEMED = "redeemed"
    """A plain transfer is credited; its sender was not told."""
    MERCHANT_CLAIMED = "merchant_claimed"
    """A settlement for another seller is stored; no worker was told."""
    MERCHANT_REHEARSED = "merchant_rehearsed"
    """Its simulation said yes."""
    MERCHANT_MOVE_UNCOMMITTED = "merchant_move_uncommitted"
    """It changes its state, perhaps to settled."""
    PAYBACK_SIGNED_UNCOMMITTED = "payback_signed_uncommitted"
    """The float's key has signed a payback; nobody else can see that yet."""
    PAYBACK_SIGNED = "payback_signed"
    """Its signature is durable and was sent to nobody."""
    PAYBACK_SENT = "payback_sent"
    """A node has what moves its money."""
    PAYBACK_CLOSED_UNCOMMITTED = "payback_closed_uncommitted"
    """Its Transfer is final, and it is booked out in the transaction."""


def reached(point: CrashPoint) -> None:
    """Die here, as by ``kill -9``, if this is the point that a test named."""
    if os.environ.get(VARIABLE) == point:
        # Whoever looks at the dead must be able to tell it from any other end.
        sys.stderr.write(f"crash point {point}\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
